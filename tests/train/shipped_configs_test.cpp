// The configurations that come with the project, and their documentation.
#include <filesystem>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "runtime/file.h"
#include "train/config/config.h"
#include "train/config/config_keys.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

TEST(ShippedConfigs, AreValid) {
  int count = 0;
  for (const auto& entry : fs::directory_iterator(BERT_CONFIGS)) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    Config config;
    ASSERT_NO_THROW(config = load_config(entry.path())) << entry.path();
    EXPECT_NO_THROW(resolve_model(config, 4000)) << entry.path();
    EXPECT_EQ(config.run_dir, "runs/" + entry.path().stem().string());
  }
  EXPECT_EQ(count, 10);
}

Config shipped(const std::string& name) {
  return load_config(fs::path(BERT_CONFIGS) / (name + ".yaml"));
}

// What the name of a configuration promises, by its file's name.
TEST(ShippedConfigs, AreWhatTheirNamesSay) {
  struct Size {
    const char* name;
    std::int64_t layers, hidden, heads;
  };
  for (const Size& size :
       {Size{"bert_tiny", 2, 128, 4}, Size{"bert_mini", 4, 256, 4}, Size{"bert_small", 4, 512, 8},
        Size{"bert_base", 12, 768, 12}, Size{"bert_base_original", 12, 768, 12},
        Size{"bert_base_pre_ln", 12, 768, 12}, Size{"bert_base_24h", 12, 768, 12},
        Size{"bert_large", 24, 1024, 16}}) {
    SCOPED_TRACE(size.name);
    const BertConfig model = shipped(size.name).model.bert;
    EXPECT_EQ(model.num_hidden_layers, size.layers);
    EXPECT_EQ(model.hidden_size, size.hidden);
    EXPECT_EQ(model.num_attention_heads, size.heads);
    EXPECT_EQ(model.intermediate_size, 4 * size.hidden);
  }

  const Config original = shipped("bert_base_original");
  EXPECT_EQ(original.model.bert.layer_norm, LayerNormPlacement::post);
  EXPECT_TRUE(original.objective.next_sentence);
  EXPECT_FALSE(original.optimizer.bias_correction);
  EXPECT_EQ(original.optimizer.learning_rate, 1e-4);
  EXPECT_EQ(original.schedule.warmup_steps, 10000);
  EXPECT_EQ(original.schedule.decay, Decay::google);
  const std::vector<Phase> phases = original.phases();
  ASSERT_EQ(phases.size(), 2u);
  EXPECT_EQ(phases[0].sequence_length, 128);
  EXPECT_EQ(phases[1].sequence_length, 512);
  EXPECT_EQ(phases[1].first_step, 900000);
  EXPECT_EQ(phases[1].end_step, 1000000);
  EXPECT_EQ(phases[1].batch_size, 256);

  const Config pre_ln = shipped("bert_base_pre_ln");
  EXPECT_EQ(pre_ln.model.bert.layer_norm, LayerNormPlacement::pre);
  EXPECT_EQ(pre_ln.optimizer.learning_rate, 3e-4);
  EXPECT_EQ(pre_ln.phases().size(), 1u);
  EXPECT_EQ(pre_ln.train.sequence_length, 128);

  // A day at the 900,000 tokens a second and 105 tokens a sequence that the file speaks of.
  const Config day = shipped("bert_base_24h");
  const double seconds =
      105.0 * static_cast<double>(day.train.max_steps * day.train.batch_size) / 9e5;
  EXPECT_NEAR(seconds / 3600, 24, 1.5);
}

TEST(ShippedConfigs, TheDocumentedKeysAreThese) {
  const fs::path path = fs::path(BERT_CONFIGS).parent_path() / "docs" / "configuration.md";
  const std::string text = read_file(path);
  const std::string opening = "```yaml\n";
  const std::size_t begin = text.find(opening) + opening.size();
  ASSERT_NE(text.find(opening), std::string::npos);
  const std::string documented = text.substr(begin, text.find("```", begin) - begin);
  EXPECT_EQ(documented, explain_config(parse_config("{}", "a.yaml")))
      << path << " is out of date: put the output of `train FILE --print-config` there, FILE "
      << "holding {}";
}

}  // namespace
}  // namespace bert
