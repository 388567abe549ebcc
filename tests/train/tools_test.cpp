// fill_mask, evaluate, forward and inspect as a user runs them: what they print, and exit codes.
#include <algorithm>
#include <cmath>

#include "data/samples/pretraining_dataset.h"
#include "tests/train/tools_fixture.h"
#include "train/checkpoint/checksums.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

using Tools = ToolsTest;

TEST_F(Tools, FillMaskGivesShareOfTheWholeVocabulary) {
  const Answer answer = fill_mask("--json --top-k 60 'w5 [MASK] w7 [MASK]'");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json json = Json::parse(answer.output);
  ASSERT_EQ(json.at("masks").size(), 2u);
  for (const Json& mask : json.at("masks")) {
    ASSERT_EQ(mask.size(), 60u);
    double sum = 0.0, last = 1.0;
    for (const Json& prediction : mask) {
      const double probability = prediction.at("probability");
      EXPECT_LE(probability, last);
      last = probability;
      sum += probability;
    }
    EXPECT_NEAR(sum, 1.0, 1e-6);
  }
  // Two of sixty are a small share of it, and the same two.
  const Json few = Json::parse(fill_mask("--json --top-k 2 'w5 [MASK] w7 [MASK]'").output);
  EXPECT_EQ(few.at("masks")[1].size(), 2u);
  EXPECT_EQ(few.at("masks")[1][0], json.at("masks")[1][0]);
  EXPECT_LT(few.at("masks")[1][0].at("probability"), 0.2);
}

TEST_F(Tools, FillMaskShowsThePredictionInItsPlace) {
  write_checkpoint(folder_ / "sure", tokenizer_, BertForPretraining::Heads::mlm, 9);
  const Answer answer = fill_mask("'w5 [MASK] w7' 'w11 w11 [MASK]'", "sure");
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("w5 w9[100.0%] w7"), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("w11 w11 w9[100.0%]"), std::string::npos) << answer.output;

  // A text in brackets is no list.
  const Answer bracketed = fill_mask("'[MASK] w5, w7 [MASK]' '[MASK]' 'w5 [MASK]'", "sure");
  EXPECT_EQ(bracketed.exit_code, 0) << bracketed.output;
  EXPECT_NE(bracketed.output.find("text        [MASK] w5, w7 [MASK]\n"), std::string::npos)
      << bracketed.output;
  EXPECT_NE(bracketed.output.find("text        [MASK]\n"), std::string::npos);
  EXPECT_NE(bracketed.output.find("text        w5 [MASK]\n"), std::string::npos);

  const Answer piped = run(
      fmt::format("printf 'w5 [MASK] w7\\n\\n[MASK]\\r\\n' | {} --checkpoint {} --json 2>/dev/null",
                  BERT_FILL_MASK, path("sure")));
  EXPECT_EQ(piped.exit_code, 0) << piped.output;
  EXPECT_EQ(std::count(piped.output.begin(), piped.output.end(), '\n'), 2) << piped.output;
  EXPECT_EQ(Json::parse(piped.output.substr(0, piped.output.find('\n'))).at("filled"),
            "w5 w9[100.0%] w7");
}

TEST_F(Tools, FillMaskShowsSamples) {
  write_text_corpus(tokenizer_, "corpus");
  write_checkpoint(folder_ / "sure", tokenizer_, BertForPretraining::Heads::mlm, 9);
  const Answer answer = fill_mask("--samples 3 --data " + path("corpus"), "sure");
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("3 of 3"), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("w9[100.0%]"), std::string::npos) << answer.output;
  const Answer json = fill_mask("--json --samples 1 --data " + path("corpus"), "sure");
  const Json sample = Json::parse(json.output);
  EXPECT_EQ(sample.at("masks")[0].at("predictions").size(), 5u);
  // Where the masks are filled in again with the targets, the text is as it was.
  EXPECT_EQ(sample.at("text").get<std::string>().find("[MASK]"), std::string::npos);
  EXPECT_NE(sample.at("masked").get<std::string>().find("[MASK]"), std::string::npos);
}

TEST_F(Tools, FillMaskRefuses) {
  expect_refused(fill_mask("'w5 w7'"), "[MASK]");
  expect_refused(fill_mask(""), "standard input is empty");
  write_text(folder_ / "blank", "\n \n");
  expect_refused(fill_mask("--input " + path("blank")), "no text");
  write_text(folder_ / "bad", "w5 w7\n");
  expect_refused(fill_mask("--skip-bad-rows --input " + path("bad")), "every text was left out");
  fs::create_directories(folder_ / "run" / "checkpoints");
  expect_refused(fill_mask("'[MASK]'", "run"), "is the folder of a run");
  fs::create_directories(folder_ / "seeds" / "seed_1" / "checkpoints");
  expect_refused(fill_mask("'[MASK]'", "seeds"), "is a folder of runs (seed_1); a model is " +
                                                     path("seeds/seed_1/checkpoints/latest") +
                                                     ", for example");
  write_checkpoint(folder_ / "models" / "step_3", tokenizer_, BertForPretraining::Heads::mlm, 9);
  expect_refused(fill_mask("'[MASK]'", "models"), "is a folder of models (step_3)");
  std::string longer = "[MASK]";
  for (int i = 0; i < 38; ++i) longer += " w5";
  expect_refused(fill_mask("'" + longer + "'"), "41 tokens");
  EXPECT_EQ(fill_mask("'" + longer.substr(0, longer.size() - 3) + "'").exit_code, 0);
  expect_refused(fill_mask("'[MASK]'", "nowhere"), path("nowhere"));
  expect_refused(fill_mask("--top-k 0 '[MASK]'"), "top-k");
  expect_refused(fill_mask("--data " + path("nowhere")), path("nowhere"));
  expect_refused(run(std::string(BERT_FILL_MASK) + " '[MASK]'"), "--checkpoint");
  fs::resize_file(folder_ / "mlm" / "model.safetensors", 3000);
  expect_refused(fill_mask("'[MASK]'"), "model.safetensors");
  write_text(folder_ / "mlm" / "config.json", "{\"vocab_size\": ");
  expect_refused(fill_mask("'[MASK]'"), "config.json");
}

TEST_F(Tools, InspectVerifiesACheckpoint) {
  const auto inspect = [&](const std::string& more) {
    return run(fmt::format("{} --verify {} {}", BERT_INSPECT, path("mlm"), more));
  };
  expect_refused(inspect(""), "checksums.json");
  write_checksums(folder_ / "mlm", {});
  EXPECT_NE(inspect("").output.find("every checksum is right"), std::string::npos);
  EXPECT_EQ(Json::parse(inspect("--json").output).at("verified"), true);
  std::string weights = read_file(folder_ / "mlm" / "model.safetensors");
  weights.back() = static_cast<char>(weights.back() ^ 1);
  write_text(folder_ / "mlm" / "model.safetensors", weights);
  expect_refused(inspect(""), "model.safetensors is damaged");
}

TEST_F(Tools, EvaluateAndUnigram) {
  write_text_corpus(tokenizer_, "corpus");
  const Answer answer = evaluate("--unigram --json --sequence-length 32 --data " + path("corpus"));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json json = Json::parse(answer.output);
  EXPECT_FALSE(json.contains("nsp_accuracy"));

  // The baseline by hand, over the same masked tokens.
  const auto corpus = std::make_shared<const Corpus>(folder_ / "corpus");
  DatasetOptions options;
  options.sequence_length = 32;
  const PretrainingDataset validation(corpus, Split::validation, options);
  std::vector<double> counts(static_cast<std::size_t>(kVocabSize), 1.0);
  double total = kVocabSize;
  for (std::uint64_t d = 0; d < corpus->shard(Split::train).num_documents(); ++d) {
    for (const std::int32_t id : corpus->shard(Split::train).document(d).ids) {
      ++counts[static_cast<std::size_t>(id)];
      ++total;
    }
  }
  const auto commonest = std::max_element(counts.begin(), counts.end()) - counts.begin();
  double loss = 0.0, correct = 0.0;
  std::int64_t masked = 0;
  PretrainingDataset::Scratch scratch;
  for (std::uint64_t i = 0; i < validation.num_samples(); ++i) {
    Batch batch;
    validation.append(validation.plan(validation.in_order(i)), 0, batch, scratch);
    for (const std::int32_t target : batch.masked_targets) {
      loss -= std::log(counts[static_cast<std::size_t>(target)] / total);
      correct += target == commonest ? 1 : 0;
      ++masked;
    }
  }
  const auto n = static_cast<double>(masked);
  EXPECT_EQ(json.at("masked_tokens"), masked);
  EXPECT_EQ(json.at("unigram").at("masked_tokens"), masked);
  EXPECT_NEAR(json.at("unigram").at("mlm_loss"), loss / n, 1e-12);
  EXPECT_NEAR(json.at("unigram").at("mlm_accuracy"), correct / n, 1e-12);
  EXPECT_GT(json.at("unigram").at("mlm_accuracy"), 0.0);
  EXPECT_NEAR(json.at("perplexity_below_unigram"),
              1.0 - json.at("perplexity").get<double>() / std::exp(loss / n), 1e-9);
  // Of a few hundred tokens; the tokens' own losses, if they were independent, give about as much.
  EXPECT_GT(json.at("mlm_loss_se"), 0.0);
  EXPECT_LT(json.at("mlm_loss_se"), 0.2);
  EXPECT_NEAR(json.at("perplexity_se"),
              json.at("perplexity").get<double>() * json.at("mlm_loss_se").get<double>(), 1e-9);
  EXPECT_GT(json.at("unigram").at("mlm_loss_se"), 0.0);
  // Of one micro-batch there is none.
  EXPECT_TRUE(
      Json::parse(
          evaluate("--json --max-batches 1 --sequence-length 32 --data " + path("corpus")).output)
          .at("mlm_loss_se")
          .is_null());
  // Random weights know nothing: about the logarithm of the vocabulary.
  EXPECT_NEAR(json.at("mlm_loss"), std::log(60.0), 0.2);

  // Batches, and micro-batches with them, change nothing but rounding.
  const Json other = Json::parse(
      evaluate("--json --batch-size 1 --sequence-length 32 --data " + path("corpus")).output);
  EXPECT_EQ(other.at("masked_tokens"), masked);
  EXPECT_NEAR(other.at("mlm_loss"), json.at("mlm_loss").get<double>(), 1e-6);
  const Json part = Json::parse(
      evaluate("--json --unigram --batch-size 2 --max-batches 2 --sequence-length 32 --data " +
               path("corpus"))
          .output);
  EXPECT_LT(part.at("masked_tokens"), masked);
  EXPECT_EQ(part.at("masked_tokens"), part.at("unigram").at("masked_tokens"));

  const Answer shown = evaluate("--unigram --data " + path("corpus"));
  EXPECT_NE(shown.output.find("the unigram perplexity"), std::string::npos) << shown.output;
}

TEST_F(Tools, EvaluateCountsACertainModelRight) {
  write_text_corpus(tokenizer_, "corpus");
  // Certain of the commonest token: its accuracy is the unigram baseline's.
  write_checkpoint(folder_ / "sure", tokenizer_, BertForPretraining::Heads::mlm, 5);
  const Json json =
      Json::parse(evaluate("--unigram --json --data " + path("corpus"), "sure").output);
  EXPECT_EQ(json.at("mlm_accuracy"), json.at("unigram").at("mlm_accuracy"));
  EXPECT_LT(json.at("perplexity_below_unigram"), -1.0);
}

TEST_F(Tools, EvaluateNextSentence) {
  write_text_corpus(tokenizer_, "corpus");
  const Answer answer = evaluate("--json --data " + path("corpus"), "nsp");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const Json json = Json::parse(answer.output);
  EXPECT_GT(json.at("sequences"), 20);
  EXPECT_NEAR(json.at("nsp_loss"), std::log(2.0), 0.1);
}

TEST_F(Tools, EvaluateRefuses) {
  write_text_corpus(tokenizer_, "corpus");
  expect_refused(evaluate("--data " + path("nowhere")), path("nowhere"));
  expect_refused(evaluate("--data " + path("corpus"), "nowhere"), path("nowhere"));
  expect_refused(evaluate(""), "--data");
  expect_refused(evaluate("--sequence-length 41 --data " + path("corpus")), "at most 40");
  expect_refused(evaluate("--batch-size 0 --data " + path("corpus")), "batch-size");
  expect_refused(evaluate("--masking some --data " + path("corpus")), "some");
  write_text_corpus(number_tokenizer(kVocabSize - 1), "other");
  expect_refused(evaluate("--data " + path("other")), "another tokenizer");
  expect_refused(fill_mask("--data " + path("other")), "another tokenizer");
}

TEST_F(Tools, ForwardRefuses) {
  const std::string good = R"([{"input_ids": [2, 4, 3], "labels": [-100, 7, -100]}])";
  EXPECT_EQ(forward(good, "--gradients").exit_code, 0);
  EXPECT_TRUE(fs::exists(folder_ / "out.safetensors"));
  fs::remove(folder_ / "out.safetensors");
  expect_refused(forward("[{\"input_ids\": "), "input.json");
  expect_refused(forward("[]"), "list of sequences");
  expect_refused(forward("3"), "list of sequences");
  expect_refused(forward("[3]"), "sequence 0");
  expect_refused(forward(R"([{}])"), "input_ids");
  expect_refused(forward(R"([{"input_ids": []}])"), "0 ids");
  expect_refused(forward(R"([{"input_ids": [2, 60]}])"), "input_ids[1] is 60");
  expect_refused(forward(R"([{"input_ids": [2]}, {"input_ids": [-1]}])"), "sequence 1");
  expect_refused(forward(R"([{"input_ids": [2.5]}])"), "2.5");
  expect_refused(forward(R"([{"input_ids": [18446744073709551615]}])"), "18446744073709551615");
  expect_refused(forward(R"([{"input_ids": [2], "token_type_ids": [2]}])"), "token_type_ids[0]");
  expect_refused(forward(R"([{"input_ids": [2], "token_type_ids": [0, 0]}])"), "2 token_type_ids");
  expect_refused(forward(R"([{"input_ids": [2], "labels": [-1]}])"), "-100");
  expect_refused(forward(R"([{"input_ids": [2], "label": [1]}])"), "unknown key label");
  expect_refused(forward(R"([{"input_ids": [2], "next_sentence_label": 2}])"), "0 to 1");
  expect_refused(forward(R"([{"input_ids": [2], "next_sentence_label": 1}, {"input_ids": [2]}])"),
                 "1 of 2");
  expect_refused(forward(R"([{"input_ids": [2], "next_sentence_label": 1}])", "", "mlm"),
                 "no next-sentence head");
  std::string longer = "2";
  for (int i = 0; i < 40; ++i) longer += ", 5";
  expect_refused(forward("[{\"input_ids\": [" + longer + "]}]"), "41 ids");
  expect_refused(forward(good, "--precision fp8"), "precision");
  expect_refused(forward(good, "", "nowhere"), path("nowhere"));
  EXPECT_FALSE(fs::exists(folder_ / "out.safetensors"));
}

// --- forward against Hugging Face ---------------------------------------------------------------
TEST_F(Tools, FillMaskAgreesWithForward) {
  const Json masks = Json::parse(fill_mask("--json --top-k 60 'w5 [MASK] w7 [MASK]'").output);
  ASSERT_EQ(
      forward(R"([{"input_ids": [2, 5, 4, 7, 4, 3], "labels": [-100, -100, 8, -100, 9, -100]}])",
              "--precision fp64", "mlm")
          .exit_code,
      0);
  const std::vector<double> logits =
      read_doubles(SafetensorsFile(folder_ / "out.safetensors"), "mlm_logits");
  for (std::size_t m = 0; m < 2; ++m) {
    double sum = 0.0;
    for (std::size_t id = 0; id < 60; ++id) sum += std::exp(logits[60 * m + id]);
    for (const Json& prediction : masks.at("masks").at(m)) {
      EXPECT_NEAR(prediction.at("probability"),
                  std::exp(logits[60 * m + prediction.at("id").get<std::size_t>()]) / sum, 1e-6);
    }
  }
}

class ForwardGolden : public testing::TestWithParam<const char*> {};

TEST_P(ForwardGolden, AgreesInEveryTensor) {
  expect_golden(GetParam(), "--device cpu --precision fp64", 1e-10);
  expect_golden(GetParam(), "--device cpu --precision fp32", 2e-4);
}

INSTANTIATE_TEST_SUITE_P(Goldens, ForwardGolden,
                         testing::Values("post_gelu", "post_gelu_new", "pre_gelu", "pre_gelu_new",
                                         "mlm_only"),
                         [](const auto& golden) { return std::string(golden.param); });

}  // namespace
}  // namespace bert
