// trainer_state.json of a checkpoint. What is accepted is written and read again.
#include <optional>

#include "tests/fuzz/fuzz_target.h"
#include "train/checkpoint/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  std::optional<bert::TrainerState> state;
  accepts([&] {
    state = bert::TrainerState::parse(std::string(as_text(data, size)), "trainer_state.json");
  });
  if (state) {
    const std::string written = state->to_json();
    require(bert::TrainerState::parse(written, "written").to_json() == written,
            "a state that was written is read as it was");
  }
  return 0;
}
