// Weights in several files with a list of them, as Hugging Face writes large models:
//
//   model.safetensors.index.json, pytorch_model.bin.index.json: {"weight_map": {name: file, ...}}
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "model/weights/weights_source.h"

namespace bert {

// All tensors of the files that the list names. InputError where the list or a file cannot be read,
// a tensor is not in its file, or one is in two.
class ShardedWeights final : public WeightsSource {
 public:
  explicit ShardedWeights(const std::filesystem::path& list);

 private:
  std::vector<std::unique_ptr<WeightsSource>> shards_;
};

// One file, by its ending: a PickleFile for .bin, otherwise a SafetensorsFile.
std::unique_ptr<WeightsSource> open_weights_file(const std::filesystem::path& file);

// What open_weights would open, or an empty path.
std::filesystem::path find_weights(const std::filesystem::path& folder);

// The weights of a model folder: model.safetensors, model.safetensors.index.json,
// pytorch_model.bin or pytorch_model.bin.index.json, the first that is there. InputError naming
// what was looked for where none is.
std::unique_ptr<WeightsSource> open_weights(const std::filesystem::path& folder);

}  // namespace bert
