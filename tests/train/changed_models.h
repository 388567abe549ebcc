// Runs that start from a model that was changed.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "model/weights/safetensors.h"
#include "tests/train/training_fixture.h"

namespace bert {

inline std::vector<float> values_of(const SafetensorsFile& file, const StoredTensor& tensor) {
  std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
  file.read(tensor, values);
  return values;
}

// A copy of a model folder, each tensor passed through `change`(name, values): whether it stays.
template <typename Change>
void copy_model(const std::filesystem::path& from, const std::filesystem::path& to,
                Change&& change) {
  std::filesystem::create_directories(to);
  std::filesystem::copy_file(from / "config.json", to / "config.json");
  const SafetensorsFile file(from / "model.safetensors");
  std::vector<std::vector<float>> memory;
  std::vector<SafetensorsView> views;
  for (const StoredTensor& tensor : file.tensors()) {
    std::vector<float> values = values_of(file, tensor);
    std::string name = tensor.name;
    if (!change(name, values)) continue;
    memory.push_back(std::move(values));
    views.push_back({name, DType::f32, tensor.shape, memory.back().data()});
  }
  write_safetensors(to / "model.safetensors", views);
}

// The fixture's configuration with `model` as its section of that name: what model.init_from does
// not bring. Gives the file's path.
inline std::string config_without_model(const std::filesystem::path& folder,
                                        const std::string& model = "{}") {
  const std::string text = read_file(TrainingWorld::get().config());
  const auto begin = text.find("model:"), end = text.find("optimizer:");
  const std::filesystem::path path = folder / "continued.yaml";
  write_text(path, text.substr(0, begin) + "model: " + model + "\n" + text.substr(end));
  return path.string();
}

}  // namespace bert
