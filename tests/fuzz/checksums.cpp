// checksums.json of a checkpoint, with other files beside it.
#include "tests/fuzz/fuzz_target.h"
#include "train/checkpoint/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  static const auto folder = [] {
    for (const char* name :
         {"model.safetensors", "config.json", "optimizer.safetensors", "trainer_state.json"}) {
      put_file(std::filesystem::path("step_00000001") / name, name);
    }
    return scratch_folder() / "step_00000001";
  }();
  put_file("step_00000001/checksums.json", as_text(data, size));
  accepts([&] { bert::verify_checkpoint(folder); });
  accepts([&] { bert::verify_model_files(folder); });
  return 0;
}
