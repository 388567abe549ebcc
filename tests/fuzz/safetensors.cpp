// A safetensors file, whole. What is accepted is written and read again.
#include "model/weights/safetensors.h"

#include <optional>

#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {
namespace {

std::optional<DType> dtype_of(std::string_view name) {
  if (name == "F64") return DType::f64;
  if (name == "F32") return DType::f32;
  if (name == "BF16") return DType::bf16;
  if (name == "I32") return DType::i32;
  if (name == "I64") return DType::i64;
  if (name == "U8") return DType::u8;
  return std::nullopt;
}

void read_all(const SafetensorsFile& file) {
  for (const StoredTensor& tensor : file.tensors()) {
    require(tensor.numel() >= 0 && static_cast<std::size_t>(tensor.numel()) <= tensor.bytes,
            "a tensor has a byte for each element");
    std::vector<double> wide(static_cast<std::size_t>(tensor.numel()));
    std::vector<float> narrow(wide.size());
    accepts([&] { file.read(tensor, wide); });
    accepts([&] { file.read(tensor, narrow); });
    require(&file.at(tensor.name) == &tensor, "a tensor is found by its name");
  }
}

void write_and_read(const SafetensorsFile& file) {
  std::vector<SafetensorsView> views;
  for (const StoredTensor& tensor : file.tensors()) {
    const auto dtype = dtype_of(tensor.dtype);
    if (!dtype) return;
    views.push_back({tensor.name, *dtype, tensor.shape, tensor.data});
  }
  const auto path = scratch_folder() / "written.safetensors";
  write_safetensors(path, views, file.metadata());
  const SafetensorsFile again(path);
  require(again.tensors().size() == file.tensors().size(), "as many tensors are read as written");
  for (const StoredTensor& tensor : file.tensors()) {
    const StoredTensor& found = again.at(tensor.name);
    require(found.dtype == tensor.dtype && found.shape == tensor.shape &&
                std::equal(found.data, found.data + found.bytes, tensor.data,
                           tensor.data + tensor.bytes),
            "a tensor is read as it was written");
  }
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const auto path = put_file("input.safetensors", as_text(data, size));
  accepts([&] {
    const bert::SafetensorsFile file(path);
    read_all(file);
    write_and_read(file);
  });
  return 0;
}
