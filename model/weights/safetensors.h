// safetensors: named tensors in one file (huggingface/safetensors, format 0.x).
//
//   u64 (little endian) N | N bytes of JSON, space padded | the tensors' bytes without holes
//   JSON: {"__metadata__": {str: str},
//          name: {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}}
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "model/weights/weights_source.h"
#include "runtime/dtype.h"
#include "runtime/file.h"

namespace bert {

// A whole file, memory-mapped and checked when it is opened: header length, JSON, no duplicate
// names, known dtypes, sizes that fit dtype and shape, offsets inside the file, no holes, no
// overlaps. InputError naming the file and the tensor otherwise.
class SafetensorsFile final : public WeightsSource {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  const std::map<std::string, std::string>& metadata() const { return metadata_; }

 private:
  MappedFile file_;
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

// The same of tensors whose dtype has no name here (F16).
void write_stored_tensors(const std::filesystem::path& path,
                          const std::vector<StoredTensor>& tensors,
                          const std::map<std::string, std::string>& metadata = {});

}  // namespace bert
