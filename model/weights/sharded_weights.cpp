#include "model/weights/sharded_weights.h"

#include <map>
#include <set>
#include <string>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "model/weights/pickle_file.h"
#include "model/weights/safetensors.h"
#include "runtime/json.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// The names of the tensors in each file.
std::map<std::string, std::vector<std::string>> read_list(const fs::path& list) {
  const auto json = parse_json<nlohmann::json>(read_file(list), list.string());
  const auto map = json.is_object() ? json.find("weight_map") : json.end();
  if (map == json.end() || !map->is_object()) {
    throw_input_error("{}: expected an object \"weight_map\" from tensors' names to files",
                      list.string());
  }
  std::map<std::string, std::vector<std::string>> files;
  for (const auto& [name, file] : map->items()) {
    if (!file.is_string()) throw_input_error("{}: {} has no file", list.string(), name);
    const std::string text = file.get<std::string>();
    if (text.empty() || fs::path(text).filename() != text) {
      throw_input_error("{}: {} is in \"{}\"; expected the name of a file beside this one",
                        list.string(), name, text);
    }
    files[text].push_back(name);
  }
  return files;
}

}  // namespace

ShardedWeights::ShardedWeights(const fs::path& list) : WeightsSource(list) {
  std::vector<StoredTensor> tensors;
  std::map<std::string_view, std::string> seen;
  for (const auto& [file, names] : read_list(list)) {
    shards_.push_back(open_weights_file(list.parent_path() / file));
    const WeightsSource& shard = *shards_.back();
    for (const std::string& name : names) shard.at(name);
    for (const StoredTensor& tensor : shard.tensors()) {
      const auto [first, inserted] = seen.emplace(tensor.name, file);
      if (!inserted) {
        throw_input_error("{}: {} is both in {} and in {}", list.string(), tensor.name,
                          first->second, file);
      }
      tensors.push_back(tensor);
    }
  }
  set_tensors(std::move(tensors));
}

std::unique_ptr<WeightsSource> open_weights_file(const fs::path& file) {
  constexpr std::string_view kPointer = "version https://git-lfs";
  const MappedFile bytes(file);
  if (std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())
          .starts_with(kPointer)) {
    throw_input_error("{} is not the weights, but git-lfs's note of where they are: git lfs pull",
                      file.string());
  }
  if (file.extension() == ".bin") return std::make_unique<PickleFile>(file);
  return std::make_unique<SafetensorsFile>(file);
}

fs::path find_weights(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json"}) {
    if (fs::exists(folder / name)) return folder / name;
  }
  return {};
}

std::unique_ptr<WeightsSource> open_weights(const fs::path& folder) {
  const fs::path file = find_weights(folder);
  if (file.empty()) {
    throw_input_error(
        "{} holds no weights: expected model.safetensors or pytorch_model.bin, or either in parts "
        "with its .index.json",
        folder.string());
  }
  if (file.extension() == ".json") return std::make_unique<ShardedWeights>(file);
  return open_weights_file(file);
}

}  // namespace bert
