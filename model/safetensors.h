// safetensors: named tensors in one file (huggingface/safetensors, format 0.x).
//
//   u64 (little endian) N | N bytes of JSON, space padded | the tensors' bytes without holes
//   JSON: {"__metadata__": {str: str}, name: {"dtype": "F32", "shape": [..], "data_offsets":
//   [b,e]}}
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/dtype.h"
#include "runtime/file.h"

namespace bert {

// A tensor in a mapped file; valid as long as its SafetensorsFile.
struct SafetensorsTensor {
  std::string name;
  std::string dtype;  // as written: "F64", "F32", "F16", "BF16", "I64", ...
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;
  std::size_t bytes = 0;

  std::int64_t numel() const;
  std::string shape_string() const;  // "F32[128, 768]"
};

// A whole file, memory-mapped and checked when it is opened: header length, JSON, no duplicate
// names, known dtypes, sizes that fit dtype and shape, offsets inside the file, no holes, no
// overlaps. InputError naming the file and the tensor otherwise.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  const std::vector<SafetensorsTensor>& tensors() const { return tensors_; }  // in file order
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  const SafetensorsTensor* find(std::string_view name) const;  // null when there is none
  const SafetensorsTensor& at(std::string_view name) const;    // InputError when there is none

  // Copies `tensor` (F64, F32, F16 or BF16) into `out`, converting; `out` has numel() elements.
  // InputError naming file and tensor for another dtype.
  void read(const SafetensorsTensor& tensor, std::span<float> out) const;
  void read(const SafetensorsTensor& tensor, std::span<double> out) const;

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::vector<SafetensorsTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
  std::map<std::string, std::string> metadata_;
};

// A tensor to be written, in host memory.
struct SafetensorsView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;
};

// Writes `tensors` to `path` atomically and without copying them. `metadata` joins
// {"format": "pt"}. Order in the file: wider element types first (so that every tensor is aligned),
// otherwise as given; the same arguments give the same bytes. RuntimeError when it cannot be
// written.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<SafetensorsView>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace bert
