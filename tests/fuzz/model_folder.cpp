// A model folder: config.json and model.safetensors, looked at and loaded into a small model.
#include "model/model_files.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/fuzz/small_model.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  static SmallModel small;
  const auto files = split_files(as_text(data, size), {"config.json", "model.safetensors"});
  for (const char* name : {"config.json", "model.safetensors"}) {
    std::filesystem::remove(scratch_folder() / name);
  }
  for (const auto& [name, content] : files) put_file(name, content);
  accepts([&] { bert::make_model(bert::describe_model(scratch_folder())); });
  accepts([&] {
    const bert::SafetensorsFile file(scratch_folder() / "model.safetensors");
    bert::load_parameters(file, small.model.parameters(), true);
  });
  return 0;
}
