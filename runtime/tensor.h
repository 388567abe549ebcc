// Tensor: a non-owning view of contiguous, row-major memory on some device.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "runtime/dtype.h"
#include "runtime/error.h"

namespace bert {

class Tensor {
 public:
  static constexpr int kMaxRank = 4;

  Tensor() = default;  // the absent tensor: `if (tensor)` is false
  Tensor(void* data, DType dtype, std::initializer_list<std::int64_t> shape)
      : data_(data), dtype_(dtype), rank_(static_cast<int>(shape.size())) {
    BERT_CHECK(shape.size() <= kMaxRank);
    int i = 0;
    for (std::int64_t extent : shape) shape_[i++] = extent;
  }

  explicit operator bool() const { return data_ != nullptr; }
  DType dtype() const { return dtype_; }
  int rank() const { return rank_; }
  std::int64_t dim(int i) const { return shape_[i < 0 ? rank_ + i : i]; }
  std::int64_t rows() const { return shape_[0]; }
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= shape_[i];
    return n;
  }
  std::size_t bytes() const { return static_cast<std::size_t>(numel()) * dtype_size(dtype_); }

  void* raw() const { return data_; }
  // Typed pointer; a dtype that differs is a bug in the caller.
  template <typename T>
  T* data() const {
    BERT_CHECK(data_ == nullptr || dtype_ == dtype_of<T>, "tensor holds {}, {} was asked for",
               dtype_name(dtype_), dtype_name(dtype_of<T>));
    return static_cast<T*>(data_);
  }

  // The elements [first, first + count) along dimension 0.
  Tensor slice(std::int64_t first, std::int64_t count) const {
    BERT_CHECK(rank_ >= 1 && first >= 0 && first + count <= shape_[0], "slice [{}, {}) of {}",
               first, first + count, shape_string());
    Tensor out = *this;
    const std::int64_t stride = shape_[0] == 0 ? 0 : numel() / shape_[0];
    out.data_ =
        static_cast<char*>(data_) + first * stride * static_cast<std::int64_t>(dtype_size(dtype_));
    out.shape_[0] = count;
    return out;
  }
  // The same memory under another shape with as many elements.
  Tensor view(std::initializer_list<std::int64_t> shape) const {
    Tensor out(data_, dtype_, shape);
    BERT_CHECK(out.numel() == numel(), "view of {} as {}", shape_string(), out.shape_string());
    return out;
  }

  // "f32[128, 768]"
  std::string shape_string() const {
    std::string text(dtype_name(dtype_));
    text += '[';
    for (int i = 0; i < rank_; ++i) text += (i ? ", " : "") + std::to_string(shape_[i]);
    return text + ']';
  }

 private:
  void* data_ = nullptr;
  std::array<std::int64_t, kMaxRank> shape_{};
  DType dtype_ = DType::f32;
  int rank_ = 0;
};

}  // namespace bert
