// Scratch: 64-byte aligned memory that grows and is kept: what it held is lost when it grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace bert::cpu {

class Scratch {
 public:
  // RuntimeError when there is no such memory.
  void* reserve(std::size_t bytes);
  template <typename T>
  T* reserve_as(std::int64_t count) {
    return static_cast<T*>(reserve(static_cast<std::size_t>(count) * sizeof(T)));
  }

 private:
  struct Free {
    void operator()(void* p) const { std::free(p); }
  };
  std::unique_ptr<void, Free> data_;
  std::size_t bytes_ = 0;
};

}  // namespace bert::cpu
