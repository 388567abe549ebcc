// Arena: one allocation for everything that lives as long as a plan. A plan is a function that
// takes tensors from the arena; it runs twice, first counting bytes, then handing out addresses, so
// sizes and layout cannot drift apart. The same memory can then be handed out again by a plan that
// takes less.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

#include "runtime/device.h"
#include "runtime/tensor.h"

namespace bert {

class Arena {
 public:
  static constexpr std::size_t kAlignment = 256;  // bytes; what cuBLASLt likes best

  // Uninitialised memory for a tensor. While counting, the tensor has a shape but no memory.
  Tensor take(DType dtype, std::initializer_list<std::int64_t> shape) {
    Tensor sized(nullptr, dtype, shape);
    const std::size_t offset = used_;
    used_ += (sized.bytes() + kAlignment - 1) / kAlignment * kAlignment;
    if (base_ == nullptr) return sized;
    BERT_CHECK(used_ <= buffer_.bytes() - kAlignment, "the plan takes more than was counted");
    return Tensor(base_ + offset, dtype, shape);
  }

  // Runs plan(*this) twice around the one allocation.
  template <typename Plan>
  void build(Device& device, Plan&& plan) {
    used_ = 0;
    base_ = nullptr;
    plan(*this);
    buffer_ = DeviceBuffer(device, used_ + kAlignment);
    const auto address = reinterpret_cast<std::uintptr_t>(buffer_.data());
    base_ = static_cast<char*>(buffer_.data()) + (kAlignment - address % kAlignment) % kAlignment;
    rebuild(plan);
  }
  // Runs plan(*this) once more, on the same memory: what was handed out before is no longer valid.
  template <typename Plan>
  void rebuild(Plan&& plan) {
    used_ = 0;
    plan(*this);
  }

  std::size_t bytes() const { return used_; }  // of the last plan
  void* data() const { return base_; }

 private:
  DeviceBuffer buffer_;
  char* base_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace bert
