// pytorch_model.bin, whole: archive and pickle.
#include <vector>

#include "model/weights/pickle_file.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  const auto path = put_file("pytorch_model.bin", as_text(data, size));
  accepts([&] {
    const bert::PickleFile file(path);
    for (const bert::StoredTensor& tensor : file.tensors()) {
      require(tensor.bytes <= size, "a tensor lies in the file");
      require(&file.at(tensor.name) == &tensor, "a tensor is found by its name");
      std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
      accepts([&] { file.read(tensor, std::span<float>(values)); });
    }
  });
  return 0;
}
