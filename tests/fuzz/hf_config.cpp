// Hugging Face's config.json. What is accepted is written and read again.
#include <optional>

#include "model/bert_config.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  std::optional<bert::BertConfig> config;
  accepts([&] { config = bert::from_hugging_face_json(as_text(data, size), "config.json"); });
  if (config) {
    const std::string written = bert::to_hugging_face_json(*config, {"ForPreTraining"});
    require(bert::from_hugging_face_json(written, "written") == *config,
            "a config.json that was written is read as it was");
  }
  return 0;
}
