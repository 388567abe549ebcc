// pytorch_model.bin: a state dict as torch.save writes it since PyTorch 1.6, a zip archive of
//
//   NAME/data.pkl    a pickle (protocol 2): a dict of names to tensors, each a place in a storage
//   NAME/data/KEY    the bytes of the storages
//   NAME/byteorder   "little" (not in older files)
//
// A pickle is a program for a machine that can call any function of Python. The reader here is no
// such machine: it knows the few instructions and the few names that a state dict needs, looks none
// of them up and calls nothing. Whatever else a file asks for is refused, by name.
#pragma once

#include <filesystem>

#include "model/weights/weights_source.h"
#include "runtime/file.h"

namespace bert {

// The whole file is checked when it is opened: all tensors lie inside their storages and are
// contiguous. Several may share a storage. InputError otherwise, naming file and tensor.
class PickleFile final : public WeightsSource {
 public:
  explicit PickleFile(const std::filesystem::path& path);

 private:
  MappedFile file_;
};

}  // namespace bert
