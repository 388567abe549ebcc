// A configuration in YAML, of pre-training and of fine-tuning, and a line for each override. What
// is accepted is written and read again.
#include "train/config/config.h"

#include <optional>
#include <vector>

#include "tests/fuzz/fuzz_target.h"
#include "train/config/finetune_config.h"

namespace bert::fuzz {
namespace {

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    lines.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

void use(const Config& config) {
  const std::string yaml = config_to_yaml(config);
  std::optional<Config> again;
  require(accepts([&] { again = parse_config(yaml, "written"); }),
          "a configuration that was written can be read");
  require(config_to_yaml(*again) == yaml, "and is the same");
  explain_config(config);
  const std::vector<Phase> phases = config.phases();
  std::int64_t step = 0;
  for (const Phase& phase : phases) {
    require(phase.first_step == step && phase.end_step > step, "phases follow one another");
    step = phase.end_step;
  }
  require(step == config.train.max_steps, "and cover all steps");
  accepts([&] { resolve_model(config, 100); });
}

void use(const FinetuneConfig& config) {
  const std::string yaml = finetune_config_to_yaml(config);
  std::optional<FinetuneConfig> again;
  require(accepts([&] { again = parse_finetune_config(yaml, "written"); }),
          "a configuration of fine-tuning that was written can be read");
  require(finetune_config_to_yaml(*again) == yaml, "and is the same");
  explain_finetune_config(config);
  accepts([&] { config.task_options(512); });
  accepts([&] { resolve_model(config, 100, BertConfig{}); });
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  auto files = split_files(as_text(data, size), {"config.yaml", "overrides"});
  const std::string& yaml = files["config.yaml"];
  const std::vector<std::string> overrides = lines_of(files["overrides"]);
  std::optional<bert::Config> config;
  accepts([&] { config = bert::parse_config(yaml, "config.yaml", overrides); });
  if (config) use(*config);
  std::optional<bert::FinetuneConfig> finetuning;
  accepts([&] { finetuning = bert::parse_finetune_config(yaml, "config.yaml", overrides); });
  if (finetuning) use(*finetuning);
  return 0;
}
