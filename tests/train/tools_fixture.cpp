#include "tests/train/tools_fixture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/model_files.h"
#include "train/step/backend.h"

namespace bert {
namespace fs = std::filesystem;
using Json = nlohmann::json;

void write_checkpoint(const fs::path& folder, const Tokenizer& tokenizer,
                      BertForPretraining::Heads heads, std::optional<std::int32_t> favourite,
                      double certainty) {
  BertConfig config;
  config.vocab_size = kVocabSize;
  config.hidden_size = 16;
  config.num_hidden_layers = 2;
  config.num_attention_heads = 2;
  config.intermediate_size = 24;
  config.max_position_embeddings = 40;
  Backend backend = make_backend(Precision::fp32, 1);
  BertForPretraining model(config, heads);
  model.allocate(*backend.device, *backend.ops,
                 {.tokens = 8, .sequences = 1, .masked = 1, .max_seqlen = 8}, false);
  model.parameters().initialize(config, 3);
  if (favourite) {
    for (const Parameter& parameter : model.parameters().parameters()) {
      if (parameter.name() != "cls.predictions.bias") continue;
      std::vector<double> bias(static_cast<std::size_t>(kVocabSize));
      bias[static_cast<std::size_t>(*favourite)] = certainty;
      model.parameters().write(parameter.value, bias);
    }
  }
  fs::create_directories(folder);
  save_model(folder, model, tokenizer.special().pad);
  tokenizer.save(folder);
}

void ToolsTest::SetUp() {
  write_checkpoint(folder_ / "mlm", tokenizer_, BertForPretraining::Heads::mlm);
  write_checkpoint(folder_ / "nsp", tokenizer_, BertForPretraining::Heads::mlm_and_nsp);
}

void ToolsTest::write_text_corpus(const Tokenizer& tokenizer, const std::string& name) {
  PhiloxStream random(11, 2, 0);
  std::vector<TokenizedDocument> documents(120);
  for (TokenizedDocument& document : documents) {
    for (int sentence = 0; sentence < 3; ++sentence) {
      for (std::uint32_t i = 0; i < 9; ++i) {
        // Squared, so that low ids are common.
        const std::uint32_t u = random.next_below(28);
        const auto id = kNumSpecial + 2 * static_cast<std::int32_t>(u * u / 28);
        document.ids.push_back(id);
        document.word_starts.push_back(1);
      }
      document.sentence_ends.push_back(static_cast<std::uint32_t>(document.ids.size()));
    }
  }
  CorpusWriterOptions options;
  options.validation_fraction = 0.3;
  write_corpus(folder_ / name, tokenizer, documents, options);
}

Answer ToolsTest::fill_mask(const std::string& arguments, const std::string& checkpoint) {
  return run(fmt::format("{} --checkpoint {} {}", BERT_FILL_MASK, path(checkpoint), arguments));
}

Answer ToolsTest::evaluate(const std::string& arguments, const std::string& checkpoint) {
  return run(fmt::format("{} --checkpoint {} {}", BERT_EVALUATE, path(checkpoint), arguments));
}

Answer ToolsTest::forward(const std::string& input, const std::string& more,
                          const std::string& checkpoint) {
  write_text(folder_ / "input.json", input);
  return run(fmt::format("{} --checkpoint {} --input {} --output {} {}", BERT_FORWARD,
                         path(checkpoint), path("input.json"), path("out.safetensors"), more));
}

std::vector<double> read_doubles(const SafetensorsFile& file, std::string_view name) {
  const StoredTensor& tensor = file.at(name);
  std::vector<double> values(static_cast<std::size_t>(tensor.numel()));
  file.read(tensor, std::span<double>(values));
  return values;
}

namespace {

std::vector<std::int32_t> read_integers(const SafetensorsFile& file, std::string_view name) {
  const StoredTensor& tensor = file.at(name);
  std::vector<std::int32_t> values(static_cast<std::size_t>(tensor.numel()));
  std::memcpy(values.data(), tensor.data, tensor.bytes);
  return values;
}

Json golden_input(const SafetensorsFile& golden) {
  const auto ids = read_integers(golden, "input_ids");
  const auto types = read_integers(golden, "token_type_ids");
  const auto ends = read_integers(golden, "cu_seqlens");
  const auto rows = read_integers(golden, "masked_rows");
  const auto targets = read_integers(golden, "masked_targets");
  std::vector<std::int32_t> labels(ids.size(), -100);
  for (std::size_t m = 0; m < rows.size(); ++m) {
    labels[static_cast<std::size_t>(rows[m])] = targets[m];
  }
  Json input = Json::array();
  for (std::size_t b = 0; b + 1 < ends.size(); ++b) {
    const auto part = [&](const std::vector<std::int32_t>& all) {
      return std::vector<std::int32_t>(all.begin() + ends[b], all.begin() + ends[b + 1]);
    };
    input.push_back(
        {{"input_ids", part(ids)}, {"token_type_ids", part(types)}, {"labels", part(labels)}});
    if (golden.find("nsp_labels") != nullptr) {
      input.back()["next_sentence_label"] = read_integers(golden, "nsp_labels")[b];
    }
  }
  return input;
}

}  // namespace

void expect_golden(const std::string& name, const std::string& options, double tolerance) {
  const SafetensorsFile golden(fs::path(BERT_GOLDENS) / (name + ".safetensors"));
  const TemporaryFolder folder;
  fs::copy_file(golden.path(), folder / "model.safetensors");
  write_text(folder / "config.json", golden.metadata().at("config"));
  write_text(folder / "input.json", golden_input(golden).dump());
  const fs::path output = folder / "out.safetensors";
  const Answer answer = run(fmt::format(
      "{} --checkpoint {} --input {} --output {} --gradients {}", BERT_FORWARD,
      folder.path().string(), (folder / "input.json").string(), output.string(), options));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const SafetensorsFile computed(output);
  std::size_t compared = 0;
  for (const StoredTensor& expected : golden.tensors()) {
    if (expected.dtype != "F64") continue;  // results are, parameters and batch are not
    ASSERT_NE(computed.find(expected.name), nullptr) << expected.name;
    EXPECT_EQ(computed.at(expected.name).shape, expected.shape) << expected.name;
    const std::vector<double> want = read_doubles(golden, expected.name);
    const std::vector<double> have = read_doubles(computed, expected.name);
    ASSERT_EQ(have.size(), want.size()) << expected.name;
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(have[i], want[i], tolerance * std::max(1.0, std::abs(want[i])))
          << expected.name << " at " << i << " with " << options;
    }
    ++compared;
  }
  EXPECT_EQ(compared, computed.tensors().size());
  EXPECT_GT(compared, 30u);
}

}  // namespace bert
