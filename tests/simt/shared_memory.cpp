#include "tests/simt/shared_memory.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/launch.cuh"
#include "tests/simt/fiber.h"

#ifdef BERT_SIMT_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace bert::simt::harness {
namespace {

constexpr std::size_t kGuard = 256;  // between arrays
constexpr int kPoison = 0xFF;
[[maybe_unused]] constexpr int kGuardByte = 0xA5;

}  // namespace

SharedMemory::SharedMemory() : memory_(kCapacity), base_(memory_.data()) {}

SharedMemory::~SharedMemory() {
#ifdef BERT_SIMT_ASAN
  __asan_unpoison_memory_region(base_, kCapacity);
#endif
}

void SharedMemory::begin_block(std::size_t dynamic_bytes) {
  // What the last block used, whole pages; the first block finds all of it without guards.
  const std::size_t page = PageMemory::kPage;
  const std::size_t used = (used_ + page - 1) / page * page;
  memory_.forget(used);
#ifdef BERT_SIMT_ASAN
  __asan_poison_memory_region(base_, used);
#else
  std::memset(base_, kGuardByte, used);
#endif
  used_ = kGuard;
  static_bytes_ = 0;
  arrays_.clear();
  dynamic_bytes_ = dynamic_bytes;
  dynamic_ = place(nullptr, "dynamic shared memory", dynamic_bytes, 128);
}

void* SharedMemory::static_array(const void* key, const char* name, std::size_t bytes,
                                 std::size_t alignment) {
  for (const Array& array : arrays_) {
    if (array.key == key) return base_ + array.offset;
  }
  if (static_bytes_ + bytes > kStaticSharedLimit ||
      static_bytes_ + bytes + dynamic_bytes_ > kSharedLimit) {
    return nullptr;
  }
  static_bytes_ += bytes;
  return place(key, name, bytes, alignment);
}

void* SharedMemory::place(const void* key, const char* name, std::size_t bytes,
                          std::size_t alignment) {
  const IgnoreAccesses by_the_thread_that_came_first;
  const std::size_t offset = (used_ + alignment - 1) / alignment * alignment;
  if (offset + bytes + kGuard > kCapacity) return nullptr;
  used_ = offset + bytes + kGuard;
  arrays_.push_back({key, name, offset, bytes});
#ifdef BERT_SIMT_ASAN
  __asan_unpoison_memory_region(base_ + offset, bytes);
#endif
  std::memset(base_ + offset, kPoison, bytes);
  return base_ + offset;
}

std::string SharedMemory::overrun() const {
#ifndef BERT_SIMT_ASAN
  const auto intact = [](std::byte value) { return value == std::byte{kGuardByte}; };
  for (const Array& array : arrays_) {
    const std::byte* begin = base_ + array.offset;
    const std::byte* end = begin + array.bytes;
    if (!std::all_of(begin - kGuard, begin, intact)) return "before " + std::string(array.name);
    if (!std::all_of(end, end + kGuard, intact)) return "behind " + std::string(array.name);
  }
#endif
  return "";
}

}  // namespace bert::simt::harness
