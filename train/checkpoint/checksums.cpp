#include "train/checkpoint/checksums.h"

#include <algorithm>
#include <cstring>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "runtime/file.h"
#include "runtime/json.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

std::string digest(const void* data, std::size_t size) {
  return fmt::format("{:016x}", XXH3_64bits(data, size));
}

// The bytes before the first tensor; all of a file that is too short to have any.
std::size_t header_size(const MappedFile& file) {
  std::uint64_t length = 0;
  if (file.size() < sizeof length) return file.size();
  std::memcpy(&length, file.data(), sizeof length);
  return length > file.size() - sizeof length ? file.size() : sizeof length + length;
}

std::size_t size_of(const SafetensorsView& view) {
  std::size_t bytes = dtype_size(view.dtype);
  for (const std::int64_t extent : view.shape) bytes *= static_cast<std::size_t>(extent);
  return bytes;
}

[[noreturn]] void damaged(const fs::path& file, const std::string& part, const fs::path& list) {
  throw_input_error("{} is damaged: {}checksum differs from the one in {}", file.string(), part,
                    list.string());
}

void verify_tensors(const fs::path& file, const ordered_json& expected, const fs::path& list) {
  const MappedFile bytes(file);
  if (digest(bytes.data(), header_size(bytes)) != expected.value("header", "")) {
    damaged(file, "its header's ", list);
  }
  // The header is what was written, so it can be believed.
  const SafetensorsFile opened(file);
  const ordered_json& tensors = expected.at("tensors");
  for (const StoredTensor& tensor : opened.tensors()) {
    if (digest(tensor.data, tensor.bytes) != tensors.value(tensor.name, "")) {
      damaged(file, tensor.name + "'s ", list);
    }
  }
  if (opened.tensors().size() != tensors.size()) {
    throw_input_error("{} is damaged: it lists {} tensors of {}, which has {}", list.string(),
                      tensors.size(), file.string(), opened.tensors().size());
  }
}

}  // namespace

void write_checksums(const fs::path& folder,
                     const std::map<std::string, std::vector<SafetensorsView>>& tensors) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder)) files.push_back(entry.path());
  std::sort(files.begin(), files.end());

  ordered_json checksums = ordered_json::object();
  for (const fs::path& path : files) {
    const std::string name = path.filename().string();
    const MappedFile file(path);
    const auto written = tensors.find(name);
    if (written == tensors.end()) {
      checksums[name] = digest(file.data(), file.size());
      continue;
    }
    ordered_json& entry = checksums[name];
    entry["header"] = digest(file.data(), header_size(file));
    for (const SafetensorsView& view : written->second) {
      entry["tensors"][view.name] = digest(view.data, size_of(view));
    }
  }
  write_file_atomic(folder / kChecksums, checksums.dump(2) + "\n");
}

struct Checksums::Entries {
  ordered_json json;
};

Checksums::Checksums(const fs::path& folder)
    : list_(folder / kChecksums), entries_(std::make_unique<Entries>()) {
  ordered_json& json = entries_->json;
  try {
    json = parse_json<ordered_json>(read_file(list_), list_.string());
  } catch (const InputError& error) {
    throw_input_error("{} is damaged: {}", list_.string(), error.what());
  }
  if (!json.is_object()) throw_input_error("{} is damaged: not an object", list_.string());
}

Checksums::~Checksums() = default;

std::vector<std::string> Checksums::files() const {
  std::vector<std::string> names;
  for (const auto& item : entries_->json.items()) names.push_back(item.key());
  return names;
}

bool Checksums::lists(const std::string& file) const { return entries_->json.contains(file); }

void Checksums::verify(const std::string& file) const {
  const fs::path path = list_.parent_path() / file;
  const ordered_json& expected = entries_->json.at(file);
  if (expected.is_string()) {
    const MappedFile bytes(path);
    if (digest(bytes.data(), bytes.size()) != expected.get<std::string>()) {
      damaged(path, "its ", list_);
    }
    return;
  }
  try {
    verify_tensors(path, expected, list_);
  } catch (const ordered_json::exception& error) {
    throw_input_error("{} is damaged: the entry {}: {}", list_.string(), file, error.what());
  }
}

}  // namespace bert
