#include "kernels/cpu/scratch.h"

#include "runtime/error.h"
#include "runtime/host_memory.h"

namespace bert::cpu {

void* Scratch::reserve(std::size_t bytes) {
  if (bytes > bytes_) {
    data_.reset();
    bytes_ = 0;
    data_.reset(allocate_host_memory(bytes));
    if (data_ == nullptr) {
      throw_runtime_error("out of memory: {} bytes asked for as scratch", bytes);
    }
    bytes_ = bytes;
  }
  return data_.get();
}

}  // namespace bert::cpu
