// NpyFile: an array of numbers that numpy.load reads, written row by row without knowing their
// number (NPY format 1.0).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "runtime/file.h"

namespace bert {

// T: float or std::int64_t.
template <typename T>
class NpyFile {
 public:
  // `width`: numbers of a row; 0: the array has one dimension. Without commit() nothing is left.
  NpyFile(std::filesystem::path path, std::int64_t width);

  // Whole rows. RuntimeError as AtomicFile.
  void append(std::span<const T> values);
  void commit();

 private:
  AtomicFile file_;
  std::int64_t width_;
  std::int64_t values_ = 0;
};

}  // namespace bert
