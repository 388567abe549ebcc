// checksums.json of a checkpoint: what its other files hold, as xxh3 (64 bits, hexadecimal).
//
//   {"config.json": HASH, "model.safetensors": {"header": HASH, "tensors": {NAME: HASH, ...}}, ...}
//
// A safetensors file has a checksum per tensor, so that damage is named.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/weights/safetensors.h"

namespace bert {

inline constexpr const char* kChecksums = "checksums.json";

// Writes folder/checksums.json for all files of `folder`. `tensors`: what was written into the
// safetensors files, by file name; their checksums are those of memory, so that what a disk made of
// it shows when it is verified.
void write_checksums(const std::filesystem::path& folder,
                     const std::map<std::string, std::vector<SafetensorsView>>& tensors);

// folder/checksums.json, to verify files by. InputError when it is damaged.
class Checksums {
 public:
  explicit Checksums(const std::filesystem::path& folder);
  ~Checksums();

  std::vector<std::string> files() const;
  bool lists(const std::string& file) const;
  // Reads every byte of a listed file. InputError naming the file, and the tensor, when it is
  // missing or differs.
  void verify(const std::string& file) const;

 private:
  struct Entries;
  std::filesystem::path list_;
  std::unique_ptr<Entries> entries_;
};

}  // namespace bert
