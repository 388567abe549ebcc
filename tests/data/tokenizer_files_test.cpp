// What lies on disk: vocab.txt, Hugging Face's folders, and what is wrong with them.
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/tokenization/wordpiece_files.h"
#include "data/tokenization/wordpiece_tokenizer.h"
#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Json = nlohmann::ordered_json;
using Strings = std::vector<std::string>;

const char* const kText = "H\u00e9llo \u4eac [MASK] world";

class TokenizerFiles : public testing::Test {
 protected:
  static std::vector<std::string> pieces() {
    return with_special({"hello", "H\u00e9llo", "\u4eac", "world", "##s", "\\\"quoted"});
  }
  std::string vocab_text() const {
    std::string text;
    for (const std::string& piece : pieces()) text += piece + "\n";
    return text;
  }
  Json read(const char* name) { return Json::parse(std::ifstream(folder_ / name)); }
  void write(const char* name, const Json& json) { write_text(folder_ / name, json.dump()); }
  // What the tokenizer in the folder makes of kText.
  Strings tokens(bool special = true) {
    const auto tokenizer = load_tokenizer(folder_.path());
    return pieces_of(*tokenizer, encode(*tokenizer, kText, special));
  }
  std::string load_error() { return ERROR_OF(load_tokenizer(folder_.path())); }

  const Strings uncased_tokens_{"hello", "\u4eac", "[MASK]", "world"};
  const Strings cased_tokens_{"H\u00e9llo", "\u4eac", "[MASK]", "world"};
  TemporaryFolder folder_;
};

TEST_F(TokenizerFiles, LoadsABareVocabulary) {
  write_text(folder_ / "v.txt", vocab_text());
  TokenizerOptions options;
  for (const bool cased : {false, true}) {
    options.cased = cased;
    const auto tokenizer = load_tokenizer(folder_ / "v.txt", options);
    EXPECT_EQ(pieces_of(*tokenizer, encode(*tokenizer, kText, true)),
              cased ? cased_tokens_ : uncased_tokens_);
  }
  // Line ends of Windows, no line end at the end, empty lines there.
  std::string windows;
  for (const std::string& piece : pieces()) windows += piece + "\r\n";
  write_text(folder_ / "w.txt", windows + "\r\n\n");
  EXPECT_EQ(load_tokenizer(folder_ / "w.txt")->fingerprint(),
            load_tokenizer(folder_ / "v.txt")->fingerprint());
  write_text(folder_ / "x.txt", vocab_text().substr(0, vocab_text().size() - 1));
  EXPECT_EQ(load_tokenizer(folder_ / "x.txt")->vocab_size(), 11);
}

TEST_F(TokenizerFiles, LoadsWhatItSaved) {
  for (const CompatMode mode : {CompatMode::kHuggingFace, CompatMode::kGoogle}) {
    for (const bool cased : {false, true}) {
      const WordpieceTokenizer saved(pieces(), wordpiece_options(cased, mode));
      saved.save(folder_.path());
      const auto loaded = load_tokenizer(folder_.path());
      EXPECT_EQ(loaded->fingerprint(), saved.fingerprint());
      EXPECT_EQ(tokens(), cased ? cased_tokens_ : uncased_tokens_);
      // Without tokenizer.json the other files say the same.
      std::filesystem::remove(folder_ / "tokenizer.json");
      EXPECT_EQ(load_tokenizer(folder_.path())->fingerprint(), saved.fingerprint());
      // And tokenizer.json by itself, but for google's mode, which it cannot hold.
      saved.save(folder_.path());
      for (const char* name : {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json"}) {
        std::filesystem::remove(folder_ / name);
      }
      EXPECT_EQ(tokens(), cased ? cased_tokens_ : uncased_tokens_);
      EXPECT_EQ(load_tokenizer(folder_ / "tokenizer.json")->vocab_size(), 11);
    }
  }
}

TEST_F(TokenizerFiles, WritesWhatHuggingFaceReads) {
  WordpieceTokenizer(pieces(), wordpiece_options(true)).save(folder_.path());
  const Json json = read("tokenizer.json"), config = read("tokenizer_config.json");
  EXPECT_EQ(json.at("model").at("type"), "WordPiece");
  EXPECT_EQ(json.at("model").at("vocab").size(), pieces().size());
  EXPECT_EQ(json.at("model").at("vocab").at("\\\"quoted"), 10);
  EXPECT_EQ(json.at("normalizer").at("lowercase"), false);
  EXPECT_EQ(json.at("added_tokens").size(), 5u);
  EXPECT_EQ(json.at("post_processor").at("special_tokens").at("[SEP]").at("ids").at(0), 3);
  EXPECT_EQ(json.at("post_processor").at("pair").size(), 5u);
  EXPECT_EQ(config.at("tokenizer_class"), "BertTokenizer");
  EXPECT_EQ(config.at("do_lower_case"), false);
  EXPECT_EQ(config.at("mask_token"), "[MASK]");
  EXPECT_EQ(read("special_tokens_map.json").at("unk_token"), "[UNK]");
  std::ifstream vocab(folder_ / "vocab.txt");
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(vocab), {}), vocab_text());
  // What a BertTokenizer does not read from tokenizer.json needs the class that does.
  WordpieceTokenizer(pieces(), wordpiece_options(true, CompatMode::kGoogle)).save(folder_.path());
  EXPECT_EQ(read("tokenizer_config.json").at("tokenizer_class"), "PreTrainedTokenizerFast");
}

TEST_F(TokenizerFiles, FollowsTheConfiguration) {
  write_text(folder_ / "vocab.txt", vocab_text());
  EXPECT_EQ(tokens(), uncased_tokens_);  // as Hugging Face, where nothing says otherwise
  write("tokenizer_config.json", {{"do_lower_case", false}});
  EXPECT_EQ(tokens(), cased_tokens_);
  write("tokenizer_config.json", {{"do_lower_case", true}, {"strip_accents", false}});
  EXPECT_EQ(tokens(), (Strings{"[UNK]", "\u4eac", "[MASK]", "world"}));
  write("tokenizer_config.json", {{"do_lower_case", true}, {"strip_accents", nullptr}});
  EXPECT_EQ(tokens(), uncased_tokens_);
  // It goes before what tokenizer.json says.
  WordpieceTokenizer(pieces(), wordpiece_options(false)).save(folder_.path());
  write("tokenizer_config.json", {{"do_lower_case", false}});
  EXPECT_EQ(tokens(), cased_tokens_);
}

TEST_F(TokenizerFiles, KnowsOtherNamesOfSpecialTokens) {
  write_text(folder_ / "vocab.txt", "<pad>\n<unk>\n<s>\n</s>\n<mask>\nhello\nworld\n");
  EXPECT_NE(load_error().find("no special token [PAD]"), std::string::npos);
  write("special_tokens_map.json", {{"pad_token", "<pad>"},
                                    {"unk_token", "<unk>"},
                                    {"cls_token", "<s>"},
                                    {"sep_token", "</s>"},
                                    {"mask_token", {{"content", "<mask>"}, {"lstrip", true}}}});
  const auto tokenizer = load_tokenizer(folder_.path());
  EXPECT_EQ(tokenizer->special().mask, 4);
  EXPECT_EQ(pieces_of(*tokenizer, encode(*tokenizer, "hello<mask>world", true)),
            (Strings{"hello", "<mask>", "world"}));
  const std::string fingerprint = tokenizer->fingerprint();
  tokenizer->save(folder_ / "again");
  EXPECT_EQ(load_tokenizer(folder_ / "again")->fingerprint(), fingerprint);
}

TEST_F(TokenizerFiles, TakesAddedSpecialTokens) {
  WordpieceTokenizer(pieces(), wordpiece_options(false)).save(folder_.path());
  Json json = read("tokenizer.json");
  json["added_tokens"].push_back({{"id", 11}, {"content", "[USER]"}, {"special", true}});
  write("tokenizer.json", json);
  const auto tokenizer = load_tokenizer(folder_.path());
  EXPECT_EQ(tokenizer->vocab_size(), 12);
  EXPECT_EQ(ids_of(encode(*tokenizer, "hello [USER]", true)), (std::vector<std::int32_t>{5, 11}));
  EXPECT_FALSE(tokenizer->starts_word(11));
  json["added_tokens"].back()["special"] = false;
  write("tokenizer.json", json);
  EXPECT_NE(load_error().find("'[USER]' is not a special token"), std::string::npos);
  for (const char* flag : {"single_word", "normalized"}) {
    Json changed = json;
    changed["added_tokens"].back() = {
        {"id", 11}, {"content", "[USER]"}, {"special", true}, {flag, true}};
    write("tokenizer.json", changed);
    EXPECT_NE(load_error().find(std::string("'[USER]' is ") + flag), std::string::npos);
  }
  json["added_tokens"].back() = {{"id", 12}, {"content", "[USER]"}, {"special", true}};
  write("tokenizer.json", json);
  EXPECT_NE(load_error().find("the id 12 of the added token '[USER]'"), std::string::npos);
  json["added_tokens"].back() = {{"id", 11}, {"content", "hello"}, {"special", true}};
  write("tokenizer.json", json);
  EXPECT_NE(load_error().find("the id 11 of the added token 'hello'"), std::string::npos);
}

// vocab.txt alone, and what older and newer folders say beside it.
TEST_F(TokenizerFiles, TakesAddedTokensBesideAVocabulary) {
  const auto user_and_world = [&] {
    const auto tokenizer = load_tokenizer(folder_.path());
    EXPECT_EQ(tokenizer->vocab_size(), 13);
    return ids_of(encode(*tokenizer, "world[USER]hello[BOT]", true));
  };
  const std::vector<std::int32_t> expected{8, 11, 5, 12};
  write_text(folder_ / "vocab.txt", vocab_text());
  const auto token = [](const char* text) { return Json{{"content", text}, {"special", true}}; };
  write("tokenizer_config.json",
        {{"added_tokens_decoder", {{"12", token("[BOT]")}, {"11", token("[USER]")}}}});
  EXPECT_EQ(user_and_world(), expected);
  write("tokenizer_config.json",
        {{"added_tokens_decoder", {{"11", {{"content", "[USER]"}, {"special", false}}}}}});
  EXPECT_NE(load_error().find("'[USER]' is not a special token"), std::string::npos);

  write("added_tokens.json", {{"[USER]", 11}, {"[BOT]", 12}});
  write("tokenizer_config.json", Json::object());
  EXPECT_NE(load_error().find("is not a special token"), std::string::npos);
  write("special_tokens_map.json", {{"additional_special_tokens", {token("[USER]"), "[BOT]"}}});
  EXPECT_EQ(user_and_world(), expected);
  std::filesystem::remove(folder_ / "added_tokens.json");  // the next ids, then
  EXPECT_EQ(user_and_world(), expected);
  const auto tokenizer = load_tokenizer(folder_.path());
  tokenizer->save(folder_ / "again");
  EXPECT_EQ(load_tokenizer(folder_ / "again")->fingerprint(), tokenizer->fingerprint());
}

// What this tokenizer would do otherwise than Hugging Face's is refused.
TEST_F(TokenizerFiles, RefusesWhatItCannotDo) {
  write_text(folder_ / "vocab.txt", vocab_text());
  const auto error_of = [&](const Json& config) {
    write("tokenizer_config.json", config);
    return load_error();
  };
  EXPECT_EQ(error_of({{"do_basic_tokenize", true}, {"never_split", nullptr}}), "");
  EXPECT_EQ(error_of({{"tokenizer_class", "DistilBertTokenizerFast"}}), "");
  EXPECT_NE(error_of({{"tokenizer_class", "MPNetTokenizer"}}).find("a MPNetTokenizer"),
            std::string::npos);
  EXPECT_NE(error_of({{"do_basic_tokenize", false}}).find("do_basic_tokenize"), std::string::npos);
  EXPECT_NE(error_of({{"never_split", {"hello"}}}).find("never_split"), std::string::npos);

  WordpieceTokenizer(pieces(), wordpiece_options(false)).save(folder_.path());
  const Json good = read("tokenizer.json");
  const auto with_processor = [&](const Json& processor) {
    Json json = good;
    json["post_processor"] = processor;
    write("tokenizer.json", json);
    return load_error();
  };
  EXPECT_EQ(
      with_processor({{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}),
      "");
  const std::string expected = "expected [CLS] before a text and [SEP] after it";
  EXPECT_NE(
      with_processor({{"type", "BertProcessing"}, {"sep", {"[CLS]", 2}}, {"cls", {"[SEP]", 3}}})
          .find(expected),
      std::string::npos);
  EXPECT_NE(with_processor(nullptr).find(expected), std::string::npos);
  Json other = good["post_processor"];
  other["single"].push_back(other["single"].back());
  EXPECT_NE(with_processor(other).find(expected), std::string::npos);
}

TEST_F(TokenizerFiles, RefusesWhatIsNoTokenizer) {
  const std::string path = folder_.path().string();
  EXPECT_TRUE(ERROR_OF(load_tokenizer(folder_ / "none")).starts_with("2: no tokenizer at " + path));
  EXPECT_TRUE(load_error().starts_with("2: the folder " + path + " holds no tokenizer"));
  write_text(folder_ / "vocab.txt", "");
  EXPECT_EQ(load_error(), "2: " + path + "/vocab.txt holds no entries");
  write_text(folder_ / "vocab.txt", vocab_text() + "hello\n");
  EXPECT_EQ(load_error(), "2: " + path +
                              "/vocab.txt: 'hello' is there twice, as entries 5 and 11 (lines 6 "
                              "and 12)");
  write_text(folder_ / "vocab.txt", vocab_text());
  write_text(folder_ / "tokenizer_config.json", "{\"do_lower_case\": tru");
  EXPECT_TRUE(load_error().starts_with("2: " + path + "/tokenizer_config.json is not JSON"));
  write("tokenizer_config.json", {{"do_lower_case", "yes"}});
  EXPECT_TRUE(load_error().starts_with("2: " + path + "/tokenizer_config.json does not describe"));
  write("tokenizer_config.json", {{"tokenizer_class", "BertJapaneseTokenizer"}});
  EXPECT_NE(load_error().find("BertJapaneseTokenizer cannot be read"), std::string::npos);
  std::filesystem::remove(folder_ / "tokenizer_config.json");

  WordpieceTokenizer(pieces(), wordpiece_options(false)).save(folder_.path());
  const Json good = read("tokenizer.json");
  const auto error_with = [&](const auto& change) {
    Json json = good;
    change(json);
    write("tokenizer.json", json);
    return load_error();
  };
  EXPECT_EQ(error_with([](Json&) {}), "");
  EXPECT_NE(error_with([](Json& json) {
              json["model"]["type"] = "BPE";
            }).find("its model is BPE; expected WordPiece"),
            std::string::npos);
  EXPECT_NE(error_with([](Json& json) {
              json["normalizer"] = nullptr;
            }).find("its normalizer is missing"),
            std::string::npos);
  EXPECT_NE(error_with([](Json& json) {
              json["pre_tokenizer"]["type"] = "ByteLevel";
            }).find("its pre_tokenizer is ByteLevel"),
            std::string::npos);
  EXPECT_NE(error_with([](Json& json) { json["model"]["vocab"]["hello"] = 6; }).find("used twice"),
            std::string::npos);
  EXPECT_NE(error_with([](Json& json) {
              json["model"]["vocab"]["hello"] = 99;
            }).find("the id 99 of 'hello' is out of range"),
            std::string::npos);
  EXPECT_NE(error_with([](Json& json) { json["model"].erase("vocab"); }).find("does not describe"),
            std::string::npos);
  EXPECT_NE(error_with([](Json& json) {
              json["model"]["continuing_subword_prefix"] = "@@";
            }).find("expected '##'"),
            std::string::npos);
}

TEST_F(TokenizerFiles, LeavesTheFolderAloneWhereItCannotWrite) {
  write_text(folder_ / "taken", "a file");
  const WordpieceTokenizer tokenizer(pieces(), wordpiece_options(false));
  EXPECT_TRUE(ERROR_OF(tokenizer.save(folder_ / "taken")).starts_with("1: cannot create"));
  EXPECT_TRUE(std::filesystem::is_regular_file(folder_ / "taken"));
}

}  // namespace
}  // namespace bert
