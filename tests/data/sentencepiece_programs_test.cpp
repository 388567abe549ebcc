// SentencePiece through all the programs: train_tokenizer, prepare_corpus, inspect, train,
// fill_mask, and the folder that is handed on.
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/samples/pretraining_dataset.h"
#include "data/tokenization/tokenizer.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr std::string_view kMark = "\u2581";

// A document is one of ten topics, and a sentence walks round the topic's three words: a masked
// word is told by its neighbours. Words are of two or three syllables.
constexpr int kTopics = 10, kWordsPerTopic = 3;
std::string topic_word(int topic, int place) {
  const std::vector<std::string> syllables{"ba", "ko", "mi", "tu", "re", "san", "ol", "fe"};
  const auto syllable = [&](int i) { return syllables[static_cast<std::size_t>(i % 8)]; };
  std::string word = syllable(topic) + syllable(topic / 2 + 3 * place + 1);
  if ((topic + place) % 2 == 0) word += syllable(topic + 5 * place + 2);
  return word;
}

std::string topic_text(std::uint64_t& words) {
  PhiloxStream random(29, 0, 0);
  std::string text;
  for (int document = 0; document < 600; ++document) {
    const int topic = static_cast<int>(random.next_below(kTopics));
    for (std::uint32_t sentence = 2 + random.next_below(3); sentence > 0; --sentence) {
      int place = static_cast<int>(random.next_below(kWordsPerTopic));
      const std::uint32_t length = 4 + random.next_below(8);
      for (std::uint32_t i = 0; i < length; ++i, ++place, ++words) {
        text += topic_word(topic, place % kWordsPerTopic);
        text += i + 1 == length ? '\n' : ' ';
      }
    }
    text += "\n";
  }
  return text;
}

constexpr const char* kConfig = R"(seed: 3
model: {preset: bert_tiny, num_hidden_layers: 2, hidden_size: 48, num_attention_heads: 2,
        intermediate_size: 96, max_position_embeddings: 48, vocab_size: auto, layer_norm: pre,
        initializer_range: 0.06, hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}
objective: {masking: whole_word}
optimizer: {learning_rate: 5.0e-3}
schedule: {warmup_steps: 20}
train: {max_steps: 400, batch_size: 32, sequence_length: 48}
evaluation: {every_steps: 400, max_batches: 4, samples: 1}
checkpoint: {every_steps: 400}
logging: {every_steps: 10, tensorboard: false}
runtime: {threads: 1, device: cpu}
)";

class SentencepiecePrograms : public testing::TestWithParam<const char*> {
 protected:
  std::string path(std::string_view name) const { return (folder_ / name).string(); }
  TemporaryFolder folder_;
};

// A sample's masked words are masked whole: their pieces, from a mark to the next, all or none.
void expect_whole_words_masked(const Corpus& corpus, const Tokenizer& tokenizer) {
  DatasetOptions options;
  options.sequence_length = 48;
  options.masking.masking = Masking::whole_word;
  const PretrainingDataset dataset(std::make_shared<const Corpus>(corpus.folder()), Split::train,
                                   options);
  PretrainingDataset::Scratch scratch;
  std::size_t words_of_several = 0;
  for (std::uint64_t i = 0; i < dataset.num_samples(); ++i) {
    Batch batch;
    dataset.append(dataset.plan(dataset.in_order(i)), 0, batch, scratch);
    std::vector<std::int32_t> ids = batch.input_ids;
    std::set<std::size_t> masked;
    for (std::size_t m = 0; m < batch.masked_rows.size(); ++m) {
      ids[static_cast<std::size_t>(batch.masked_rows[m])] = batch.masked_targets[m];
      masked.insert(static_cast<std::size_t>(batch.masked_rows[m]));
    }
    for (std::size_t t = 1; t + 1 < ids.size(); ++t) {
      if (t == 1 || tokenizer.piece(ids[t]).starts_with(kMark)) continue;  // it starts a word
      EXPECT_EQ(masked.contains(t), masked.contains(t - 1)) << "sample " << i << ", token " << t;
      words_of_several += masked.contains(t);
    }
  }
  EXPECT_GT(words_of_several, 100u);
}

TEST_P(SentencepiecePrograms, AllTakeIt) {
  std::uint64_t words = 0;
  write_text(folder_ / "text.txt", topic_text(words));
  const Answer made = run(fmt::format(
      "{} --type sentencepiece --model {} --vocab-size 36 --input {} --output {} --json",
      BERT_TRAIN_TOKENIZER, GetParam(), path("text.txt"), path("tokenizer")));
  ASSERT_EQ(made.exit_code, 0) << made.output;
  EXPECT_EQ(Json::parse(made.output).at("model"), GetParam());
  const auto tokenizer = load_tokenizer(folder_ / "tokenizer");

  // The corpus: its words are those between spaces, told by the marks.
  const Answer prepared =
      run(fmt::format("{} --tokenizer {} --input {} --output {} --sequence-length 48 --json",
                      BERT_PREPARE_CORPUS, path("tokenizer"), path("text.txt"), path("corpus")));
  ASSERT_EQ(prepared.exit_code, 0) << prepared.output;
  const Json counts = Json::parse(prepared.output);
  EXPECT_EQ(counts.at("words"), words);
  EXPECT_GT(counts.at("tokens"), words);
  EXPECT_EQ(counts.at("unknown"), 0);
  const Corpus corpus(folder_ / "corpus");
  const TokenShard& shard = corpus.shard(Split::train);
  for (std::uint64_t d = 0; d < shard.num_documents(); ++d) {
    const TokenizedDocument document = shard.document(d);
    for (std::size_t i = 0; i < document.ids.size(); ++i) {
      ASSERT_EQ(document.word_starts[i] != 0, tokenizer->piece(document.ids[i]).starts_with(kMark));
    }
  }
  expect_whole_words_masked(corpus, *tokenizer);
  const Answer inspected = run(fmt::format("{} {} --json", BERT_INSPECT, path("corpus")));
  ASSERT_EQ(inspected.exit_code, 0) << inspected.output;
  EXPECT_EQ(Json::parse(inspected.output).at("tokenizer").at("vocab_size"), 36);

  // The model learns it, and carries the tokenizer along.
  write_text(folder_ / "config.yaml", kConfig);
  const Answer trained =
      run(fmt::format("{} {} run_dir={} tokenizer.path={} data.path={}", BERT_TRAIN,
                      path("config.yaml"), path("run"), path("tokenizer"), path("corpus")));
  ASSERT_EQ(trained.exit_code, 0) << trained.output;
  fs::path checkpoint;
  for (const auto& entry : fs::directory_iterator(folder_ / "run" / "checkpoints")) {
    if (fs::exists(entry.path() / "model.safetensors")) checkpoint = entry.path();
  }
  ASSERT_FALSE(checkpoint.empty());
  EXPECT_EQ(load_tokenizer(checkpoint)->fingerprint(), tokenizer->fingerprint());
  for (const char* name : {"spiece.model", "tokenizer.json", "tokenizer_config.json"}) {
    EXPECT_TRUE(fs::exists(checkpoint / name)) << name;
  }

  // A word cut in several, all of it hidden, its neighbours seen. The model knows it: each piece is
  // among the first three of the vocabulary's 36.
  int asked = 0, right = 0;
  for (int topic = 0; topic < kTopics; ++topic) {
    const std::string word = topic_word(topic, 0);
    std::vector<Token> tokens;
    tokenizer->encode(word, tokens);
    if (tokens.size() < 2) continue;
    std::string hidden;
    for (std::size_t i = 0; i < tokens.size(); ++i) hidden += "[MASK]";
    const Answer filled =
        run(fmt::format("{} --checkpoint {} --top-k 3 --json '{} {} {} {} {}'", BERT_FILL_MASK,
                        checkpoint.string(), topic_word(topic, 1), topic_word(topic, 2), hidden,
                        topic_word(topic, 1), topic_word(topic, 2)));
    ASSERT_EQ(filled.exit_code, 0) << filled.output;
    const Json answer = Json::parse(filled.output);
    ASSERT_EQ(answer.at("masks").size(), tokens.size());
    for (std::size_t i = 0; i < tokens.size(); ++i, ++asked) {
      for (const Json& prediction : answer.at("masks").at(i)) {
        right += prediction.at("id") == tokens[i].id;
      }
    }
  }
  EXPECT_GE(asked, 12);
  EXPECT_GE(3 * right, 2 * asked) << right << " of " << asked;
}

INSTANTIATE_TEST_SUITE_P(Models, SentencepiecePrograms, testing::Values("unigram", "bpe"));

}  // namespace
}  // namespace bert
