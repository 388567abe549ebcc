// What the tests of fill_mask, evaluate and forward share: two small checkpoints of random weights,
// a corpus, and the programs as a user runs them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/bert_for_pretraining.h"
#include "model/weights/safetensors.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {

inline constexpr std::int32_t kVocabSize = 60;

// A checkpoint of random weights whose output bias makes `favourite` certain where it is given.
void write_checkpoint(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                      BertForPretraining::Heads heads,
                      std::optional<std::int32_t> favourite = std::nullopt,
                      double certainty = 50.0);

// "mlm" and "nsp" are checkpoints, of a model with masked tokens only and of one with both heads.
class ToolsTest : public testing::Test {
 protected:
  void SetUp() override;
  void write_text_corpus(const Tokenizer& tokenizer, const std::string& name);
  std::string path(std::string_view name) const { return (folder_ / name).string(); }
  Answer fill_mask(const std::string& arguments, const std::string& checkpoint = "mlm");
  Answer evaluate(const std::string& arguments, const std::string& checkpoint = "mlm");
  // Writes out.safetensors.
  Answer forward(const std::string& input, const std::string& more = "",
                 const std::string& checkpoint = "nsp");

  TemporaryFolder folder_;
  WordpieceTokenizer tokenizer_ = number_tokenizer(kVocabSize);
};

std::vector<double> read_doubles(const SafetensorsFile& file, std::string_view name);

// Runs forward with `options` on the model and batch of a golden file of tests/reference: every
// tensor there is computed, each element within `tolerance` of it, relative above 1.
void expect_golden(const std::string& name, const std::string& options, double tolerance);

}  // namespace bert
