#include "data/tokenization/sentencepiece_tokenizer.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/tokenization/sentencepiece_trainer.h"
#include "runtime/error.h"
#include "runtime/philox.h"
#include "tests/data/corpus_fixture.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Strings = std::vector<std::string>;

const std::string kMark = "\u2581";

// Text of a small language: words of syllables, some far more frequent than others.
std::string make_text() {
  PhiloxStream random(13, 0, 0);
  const Strings syllables{"ba", "ko", "mi", "tu", "re", "san", "ol", "\u00e9t"};
  std::string text;
  for (int line = 0; line < 3000; ++line) {
    for (int word = 0; word < 8; ++word) {
      const std::uint32_t count = 1 + random.next_below(3);
      for (std::uint32_t i = 0; i < count; ++i) {
        const std::uint32_t bound = 1 + random.next_below(8);
        text += syllables[random.next_below(bound)];
      }
      text += word == 7 ? ".\n" : " ";
    }
  }
  return text;
}

std::string decode_base64(const std::string& text) {
  const std::string digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  EXPECT_EQ(text.size() % 4, 0u);
  std::string bytes;
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text.substr(0, text.find('='))) {
    bits = bits << 6 | static_cast<std::uint32_t>(digits.find(c));
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 0xFF);
  }
  return bytes;
}

class SentencepieceTokenizerTest : public testing::Test {
 protected:
  void SetUp() override { write_text(folder_ / "text.txt", make_text()); }
  std::string train(const char* type = "unigram", bool cased = false) {
    SentencepieceTrainerOptions options;
    options.vocab_size = 60;
    options.type = type;
    options.cased = cased;
    return train_sentencepiece({(folder_ / "text.txt").string()}, options).model;
  }
  TemporaryFolder folder_;
};

TEST_F(SentencepieceTokenizerTest, TrainsAndCuts) {
  for (const char* type : {"unigram", "bpe"}) {
    SCOPED_TRACE(type);
    const SentencepieceTokenizer tokenizer(train(type), "test");
    EXPECT_EQ(tokenizer.vocab_size(), 60);
    for (std::int32_t id = 0; id < 5; ++id) {
      EXPECT_EQ(tokenizer.piece(id), with_special({})[static_cast<std::size_t>(id)]);
      EXPECT_FALSE(tokenizer.starts_word(id));
    }
    EXPECT_EQ(tokenizer.special().pad, 0);
    EXPECT_EQ(tokenizer.special().mask, 4);

    const std::string text = "  Bako \u00e9t  misan.";
    const auto tokens = encode(tokenizer, text);
    // Joined, the pieces are the normalised text, and the ranges its words.
    std::string joined, words;
    std::size_t starts = 0;
    for (const Token& token : tokens) {
      joined += tokenizer.piece(token.id);
      words += text.substr(token.begin, token.end - token.begin);
      starts += token.starts_word;
      EXPECT_EQ(token.starts_word, tokenizer.starts_word(token.id));
      EXPECT_LE(token.begin, token.end);
      EXPECT_LE(token.end, text.size());
    }
    EXPECT_EQ(joined, kMark + "bako" + kMark + "\u00e9t" + kMark + "misan.");
    EXPECT_EQ(words, "Bako\u00e9tmisan.");
    EXPECT_EQ(starts, 3u);
    EXPECT_EQ(tokenizer.decode(ids_of(tokens)), "bako \u00e9t misan.");
    EXPECT_TRUE(encode(tokenizer, "").empty());
    EXPECT_TRUE(encode(tokenizer, "  ").empty());
    // The same again: training draws no dice.
    EXPECT_EQ(SentencepieceTokenizer(train(type), "test").fingerprint(), tokenizer.fingerprint());
  }
}

TEST_F(SentencepieceTokenizerTest, KeepsCaseWhenAsked) {
  const SentencepieceTokenizer cased(train("unigram", true), "test");
  EXPECT_EQ(pieces_of(cased, encode(cased, "BA")), (Strings{kMark, "[UNK]"}));
  const SentencepieceTokenizer uncased(train(), "test");
  EXPECT_EQ(uncased.decode(ids_of(encode(uncased, "BA"))), "ba");
}

TEST_F(SentencepieceTokenizerTest, FindsSpecialTokensWhenAsked) {
  const SentencepieceTokenizer tokenizer(train(), "test");
  const std::string text = "bako [MASK] misan[SEP]";
  const auto tokens = encode(tokenizer, text, true);
  const auto masked =
      std::find_if(tokens.begin(), tokens.end(), [](const Token& token) { return token.id == 4; });
  ASSERT_NE(masked, tokens.end());
  EXPECT_EQ(text.substr(masked->begin, masked->end - masked->begin), "[MASK]");
  EXPECT_FALSE(masked->starts_word);
  EXPECT_EQ(text.substr((masked + 1)->begin, 2), "mi");
  EXPECT_EQ(tokens.back().id, 3);
  EXPECT_EQ(tokenizer.decode(ids_of(tokens)), "bako [MASK] misan [SEP]");
  for (const Token& token : encode(tokenizer, text)) EXPECT_NE(token.id, 4);
}

TEST_F(SentencepieceTokenizerTest, LoadsWhatItSaved) {
  for (const char* type : {"unigram", "bpe"}) {
    const SentencepieceTokenizer saved(train(type), "test");
    saved.save(folder_ / type);
    for (const auto& path :
         {folder_ / type, folder_ / type / "spiece.model", folder_ / type / "tokenizer.json"}) {
      EXPECT_EQ(load_tokenizer(path)->fingerprint(), saved.fingerprint()) << path;
    }
    const auto json = nlohmann::json::parse(std::ifstream(folder_ / type / "tokenizer.json"));
    const auto& model = json.at("model");
    EXPECT_EQ(model.at("vocab").size(), 60u);
    if (std::string_view(type) == "bpe") {
      EXPECT_EQ(model.at("vocab").at("[MASK]"), 4);
      EXPECT_GT(model.at("merges").size(), 20u);
      const std::string first = model.at("merges").at(0).at(0),
                        second = model.at("merges").at(0).at(1);
      EXPECT_TRUE(model.at("vocab").contains(first + second));
    } else {
      EXPECT_EQ(model.at("vocab").at(4).at(0), "[MASK]");
      EXPECT_EQ(model.at("unk_id"), 1);
    }
    const auto& normalizer = json.at("normalizer").at("normalizers").at(0);
    EXPECT_EQ(normalizer.at("type"), "Precompiled");
    const std::string charsmap = decode_base64(normalizer.at("precompiled_charsmap"));
    EXPECT_GT(charsmap.size(), 10000u);
    EXPECT_NE(saved.model().find(charsmap), std::string::npos);
  }
}

TEST_F(SentencepieceTokenizerTest, RefusesBadModels) {
  const std::string model = train();
  EXPECT_EQ(ERROR_OF(SentencepieceTokenizer("no model", "m.model")),
            "2: m.model is damaged, or is no SentencePiece model");
  EXPECT_EQ(ERROR_OF(SentencepieceTokenizer("", "m.model")),
            "2: m.model is damaged, or is no SentencePiece model");
  EXPECT_EQ(ERROR_OF(SentencepieceTokenizer(model.substr(0, model.size() / 2), "m.model")),
            "2: m.model is damaged, or is no SentencePiece model");
  SpecialTokenNames names;
  names.cls = "<cls>";
  EXPECT_EQ(ERROR_OF(SentencepieceTokenizer(model, "m.model", names)),
            "2: m.model has no piece '<cls>'");
  std::string unmasked = model;
  unmasked.replace(unmasked.find("[MASK]"), 6, "[HIDE]");
  EXPECT_TRUE(ERROR_OF(SentencepieceTokenizer(unmasked, "m.model"))
                  .starts_with("2: m.model has no special token [MASK]"));
  names = {};
  names.mask = "[HIDE]";
  EXPECT_EQ(SentencepieceTokenizer(unmasked, "m.model", names).special().mask, 4);

  write_text(folder_ / "a.model", model);
  write_text(folder_ / "b.model", model);
  EXPECT_NE(ERROR_OF(load_tokenizer(folder_.path())).find("more than one SentencePiece model"),
            std::string::npos);
}

TEST_F(SentencepieceTokenizerTest, LearnsFromASample) {
  SentencepieceTrainerOptions options;
  options.vocab_size = 60;
  const std::vector<std::string> files{(folder_ / "text.txt").string()};
  const TrainedSentencepiece all = train_sentencepiece(files, options);
  EXPECT_EQ(all.lines, 3000u);
  EXPECT_EQ(all.text.lines, 3000u);
  options.max_bytes = all.text.bytes / 4;
  const TrainedSentencepiece quarter = train_sentencepiece(files, options);
  EXPECT_NEAR(static_cast<double>(quarter.lines), 750.0, 30.0);
  EXPECT_EQ(quarter.text.lines, 3000u);
  EXPECT_EQ(SentencepieceTokenizer(quarter.model, "quarter").vocab_size(), 60);
  EXPECT_NE(quarter.model, all.model);
  EXPECT_EQ(train_sentencepiece(files, options).model, quarter.model);
  // Of lines that differ, those taken come from everywhere: a digit for each tenth of the text.
  std::string text;
  for (int line = 0; line < 20000; ++line) {
    text += std::string(1, static_cast<char>('0' + line / 2000)) + " ab ba\n";
  }
  write_text(folder_ / "tenths.txt", text);
  options.vocab_size = 18;
  options.max_bytes = 2000;
  const SentencepieceTokenizer tenths(
      train_sentencepiece({(folder_ / "tenths.txt").string()}, options).model, "tenths");
  for (const Token& token : encode(tenths, "0 1 2 3 4 5 6 7 8 9")) {
    EXPECT_NE(token.id, tenths.special().unk);
  }
}

TEST_F(SentencepieceTokenizerTest, RefusesWhatItCannotTrainFrom) {
  SentencepieceTrainerOptions options;
  options.vocab_size = 100000;
  const std::vector<std::string> text{(folder_ / "text.txt").string()};
  const std::string error = ERROR_OF(train_sentencepiece(text, options));
  EXPECT_TRUE(
      error.starts_with("2: SentencePiece cannot train a --vocab-size of 100000 from this "
                        "text: it is enough for "))
      << error;
  options.vocab_size = 10;
  EXPECT_NE(ERROR_OF(train_sentencepiece(text, options))
                .find("its characters and the special tokens alone need "),
            std::string::npos);
  options.vocab_size = 60;
  EXPECT_TRUE(ERROR_OF(train_sentencepiece({"/none.txt"}, options)).starts_with("2: cannot read"));
  write_text(folder_ / "bad.gz", "\x1f\x8b\x08 this is no gzip");
  EXPECT_NE(ERROR_OF(train_sentencepiece({text[0], (folder_ / "bad.gz").string()}, options))
                .find("damaged"),
            std::string::npos);
  options.type = "words";
  EXPECT_TRUE(ERROR_OF(train_sentencepiece(text, options)).starts_with("2: unknown"));
}

}  // namespace
}  // namespace bert
