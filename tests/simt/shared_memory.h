// The shared memory of the block that runs.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/simt/fiber.h"

namespace bert::simt::harness {

// Arrays are poisoned when a block first asks for them: 0xFF bytes, NaN as f32, bf16 and f64, -1 as
// an integer. Between them lie guard bands, which AddressSanitizer watches where it is there.
class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  // Forgets the arrays of the last block; `dynamic_bytes` of dynamic shared memory.
  void begin_block(std::size_t dynamic_bytes);
  void* dynamic_array() const { return dynamic_; }
  // The static array of the declaration `key`; null when there is not enough shared memory for it.
  void* static_array(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
  std::size_t static_bytes() const { return static_bytes_; }
  // The name of an array beside which something was written; empty when all is well.
  std::string overrun() const;

 private:
  struct Array {
    const void* key;
    const char* name;
    std::size_t offset, bytes;
  };
  static constexpr std::size_t kCapacity = std::size_t{1} << 20;  // guards of many arrays included

  void* place(const void* key, const char* name, std::size_t bytes, std::size_t alignment);

  PageMemory memory_;
  std::byte* base_;
  std::size_t used_ = kCapacity, dynamic_bytes_ = 0, static_bytes_ = 0;
  void* dynamic_ = nullptr;
  std::vector<Array> arrays_;
};

}  // namespace bert::simt::harness
