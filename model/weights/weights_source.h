// WeightsSource: named tensors in memory-mapped files, whatever the format of the files. What
// models are loaded from: a SafetensorsFile, a PickleFile, or several of them (ShardedWeights).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

// A tensor in a mapped file, contiguous, little endian; valid as long as its WeightsSource.
struct StoredTensor {
  std::string name;
  std::string dtype;  // as safetensors writes it: "F64", "F32", "F16", "BF16", "I64", ...
  std::vector<std::int64_t> shape;
  const std::byte* data = nullptr;  // at any address, aligned or not
  std::size_t bytes = 0;

  std::int64_t numel() const;
  std::string shape_string() const;  // "F32[128, 768]"
};

class WeightsSource {
 public:
  virtual ~WeightsSource() = default;
  WeightsSource(const WeightsSource&) = delete;
  WeightsSource& operator=(const WeightsSource&) = delete;

  const std::filesystem::path& path() const { return path_; }
  const std::vector<StoredTensor>& tensors() const { return tensors_; }  // in file order

  const StoredTensor* find(std::string_view name) const;  // null when there is none
  const StoredTensor& at(std::string_view name) const;    // InputError when there is none

  // Copies `tensor` (F64, F32, F16 or BF16) into `out`, converting; `out` has numel() elements.
  // InputError naming file and tensor for another dtype.
  void read(const StoredTensor& tensor, std::span<float> out) const;
  void read(const StoredTensor& tensor, std::span<double> out) const;

 protected:
  explicit WeightsSource(std::filesystem::path path) : path_(std::move(path)) {}
  // What a derived class has found; names are unique.
  void set_tensors(std::vector<StoredTensor> tensors);

 private:
  std::filesystem::path path_;
  std::vector<StoredTensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> index_;
};

// The same without a file: errors begin with `where`.
void read_elements(const StoredTensor& tensor, std::span<double> out, const std::string& where);

// The other way round: `values` as bytes of F64, F32, F16 or BF16, each rounded to the nearest one
// (to even where two are as near), by way of f32 for the narrow ones. What F16 cannot hold becomes
// infinite.
std::vector<std::byte> encode_elements(std::span<const double> values, std::string_view dtype);

// Bytes of an element by the name of its dtype; 0 for a name that is not known.
std::size_t stored_element_size(std::string_view dtype);

}  // namespace bert
