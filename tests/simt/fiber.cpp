#include "tests/simt/fiber.h"

#include <new>
#include <utility>

#include <sys/mman.h>

#ifdef BERT_SIMT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef BERT_SIMT_TSAN
#include <sanitizer/tsan_interface.h>
extern "C" {  // exported by ThreadSanitizer, in none of its headers
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
void AnnotateIgnoreWritesBegin(const char* file, int line);
void AnnotateIgnoreWritesEnd(const char* file, int line);
}
#endif

namespace bert::simt::harness {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

void Fiber::start(std::byte* stack, std::size_t bytes, void (*entry)(void*), void* argument) {
#ifdef BERT_SIMT_ASAN
  // A fiber that was abandoned in the middle left its frames marked.
  if (!finished_) __asan_unpoison_memory_region(stack_, stack_bytes_);
  fake_stack_inside_ = nullptr;
#endif
#ifdef BERT_SIMT_TSAN
  std::swap(threads_[0], threads_[1]);
  if (threads_[0] == nullptr) threads_[0] = __tsan_create_fiber(0);
  thread_ = threads_[0];
#endif
  stack_ = stack;
  stack_bytes_ = bytes;
  entry_ = entry;
  argument_ = argument;
  finished_ = false;
  inside_ = make_fcontext(stack + bytes, bytes, &Fiber::trampoline);
}

void Fiber::trampoline(transfer_t from) {
  Fiber& fiber = *static_cast<Fiber*>(from.data);
  fiber.enter(from);
  fiber.entry_(fiber.argument_);
}

// What both ways into the fiber have in common.
void Fiber::enter(transfer_t from) {
  outside_ = from.fctx;
#ifdef BERT_SIMT_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_inside_, &outside_stack_, &outside_stack_bytes_);
#endif
}

void Fiber::resume() {
#ifdef BERT_SIMT_ASAN
  __sanitizer_start_switch_fiber(&fake_stack_outside_, stack_, stack_bytes_);
#endif
#ifdef BERT_SIMT_TSAN
  outside_thread_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
#endif
  inside_ = jump_fcontext(inside_, this).fctx;
#ifdef BERT_SIMT_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_outside_, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
#ifdef BERT_SIMT_ASAN
  __sanitizer_start_switch_fiber(finished_ ? nullptr : &fake_stack_inside_, outside_stack_,
                                 outside_stack_bytes_);
#endif
#ifdef BERT_SIMT_TSAN
  __tsan_switch_to_fiber(outside_thread_, __tsan_switch_to_fiber_no_sync);
#endif
  enter(jump_fcontext(outside_, nullptr));
}

void Fiber::finish() {
  finished_ = true;
  suspend();
}

#ifdef BERT_SIMT_TSAN

void Fiber::set_name(const char* name) { __tsan_set_fiber_name(thread_, name); }

void Fiber::release(void* sync) {
  void* const here = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
  __tsan_release(sync);
  __tsan_switch_to_fiber(here, __tsan_switch_to_fiber_no_sync);
}

void Fiber::acquire(void* sync) {
  void* const here = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(thread_, __tsan_switch_to_fiber_no_sync);
  __tsan_acquire(sync);
  __tsan_switch_to_fiber(here, __tsan_switch_to_fiber_no_sync);
}

void Fiber::forget_threads() {
  for (void*& thread : threads_) {
    if (thread != nullptr) __tsan_destroy_fiber(std::exchange(thread, nullptr));
  }
}

void release_outside(void* sync) { __tsan_release(sync); }
void acquire_outside(void* sync) { __tsan_acquire(sync); }

IgnoreAccesses::IgnoreAccesses() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
IgnoreAccesses::~IgnoreAccesses() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}

#else

void Fiber::set_name(const char*) {}
void Fiber::release(void*) {}
void Fiber::acquire(void*) {}
void Fiber::forget_threads() {}
void release_outside(void*) {}
void acquire_outside(void*) {}
IgnoreAccesses::IgnoreAccesses() = default;
IgnoreAccesses::~IgnoreAccesses() = default;

#endif

namespace {
constexpr int kMostThreads = 1024;

std::byte* map_pages(void* where, std::size_t bytes, int flags) {
  void* const pages = ::mmap(where, bytes, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);
  if (pages == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(pages);
}
}  // namespace

PageMemory::PageMemory(std::size_t bytes) : data_(map_pages(nullptr, bytes, 0)), bytes_(bytes) {}
PageMemory::~PageMemory() { ::munmap(data_, bytes_); }

void PageMemory::forget([[maybe_unused]] std::size_t bytes) {
#ifdef BERT_SIMT_TSAN
  map_pages(data_, bytes, MAP_FIXED);  // the one way that it offers
#endif
}

FiberStacks::FiberStacks() : memory_(offset(kMostThreads)) {
#ifndef BERT_SIMT_TSAN
  for (int i = 0; i < kMostThreads; ++i) {
    ::mprotect(memory_.data() + offset(i), PageMemory::kPage, PROT_NONE);
  }
#endif
}

}  // namespace bert::simt::harness
