// The fibers behind the threads of a block, on Boost.Context, known to the sanitizers.
#pragma once

#include <cstddef>

#include <boost/context/detail/fcontext.hpp>

// BERT_SIMT_ASAN or BERT_SIMT_TSAN: kernels are compiled for that sanitizer. The harness itself is
// never compiled for ThreadSanitizer.

namespace bert::simt::harness {

class Fiber {
 public:
  // Begins entry(argument) anew, on a stack; it runs at the first resume(). `entry` never returns:
  // it ends in finish(). ThreadSanitizer takes it for another thread than the one it was at the
  // last start, so that a block's threads are not those of the block before.
  void start(std::byte* stack, std::size_t bytes, void (*entry)(void*), void* argument);
  void resume();                    // called outside: runs the fiber until it suspends or finishes
  void suspend();                   // called inside: back to where resume() was called
  void finish();                    // called inside, at the end: as suspend(), for ever
  void set_name(const char* name);  // in ThreadSanitizer's reports

  // For ThreadSanitizer: what this fiber did happens before what comes after an acquire of `sync`.
  void release(void* sync);
  void acquire(void* sync);
  // After it was abandoned in the middle: its next starts begin with fresh threads.
  void forget_threads();

 private:
  static void trampoline(boost::context::detail::transfer_t from);
  void enter(boost::context::detail::transfer_t from);

  boost::context::detail::fcontext_t inside_ = nullptr, outside_ = nullptr;
  void (*entry_)(void*) = nullptr;
  void* argument_ = nullptr;
  std::byte* stack_ = nullptr;
  std::size_t stack_bytes_ = 0;
  bool finished_ = true;
  [[maybe_unused]] void* fake_stack_inside_ = nullptr;
  [[maybe_unused]] void* fake_stack_outside_ = nullptr;
  [[maybe_unused]] const void* outside_stack_ = nullptr;
  [[maybe_unused]] std::size_t outside_stack_bytes_ = 0;
  // ThreadSanitizer's threads, which are used in turn since each costs a millisecond.
  [[maybe_unused]] void* threads_[2] = {};
  [[maybe_unused]] void* thread_ = nullptr;
  [[maybe_unused]] void* outside_thread_ = nullptr;
};

// The same outside of fibers.
void release_outside(void* sync);
void acquire_outside(void* sync);

// While it lives, ThreadSanitizer disregards what the running fiber, or the code outside, reads and
// writes: that the uninstrumented harness calls memset and memcpy, which it always sees.
class IgnoreAccesses {
 public:
  IgnoreAccesses();
  ~IgnoreAccesses();
  IgnoreAccesses(const IgnoreAccesses&) = delete;
  IgnoreAccesses& operator=(const IgnoreAccesses&) = delete;
};

// Memory of its own pages. Not more than that, so that ThreadSanitizer can be made to forget it.
class PageMemory {
 public:
  static constexpr std::size_t kPage = 4096;
  explicit PageMemory(std::size_t bytes);
  ~PageMemory();
  PageMemory(const PageMemory&) = delete;
  PageMemory& operator=(const PageMemory&) = delete;

  std::byte* data() const { return data_; }
  // Before another block uses the first `bytes`, a multiple of kPage: ThreadSanitizer forgets who
  // used them, and the contents are lost; without it, nothing happens.
  void forget(std::size_t bytes);

 private:
  std::byte* data_;
  std::size_t bytes_;
};

// Stacks of equal size, one after another, each with an inaccessible page below it (not under
// ThreadSanitizer).
class FiberStacks {
 public:
  static constexpr std::size_t kBytes = std::size_t{256} << 10;  // of one
  FiberStacks();

  std::byte* stack(int index) const { return memory_.data() + offset(index) + PageMemory::kPage; }
  void forget(int count) { memory_.forget(offset(count)); }

 private:
  static constexpr std::size_t offset(int index) {
    return (PageMemory::kPage + kBytes) * static_cast<std::size_t>(index);
  }
  PageMemory memory_;
};

}  // namespace bert::simt::harness
