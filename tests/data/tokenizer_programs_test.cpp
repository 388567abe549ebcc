// The programs train_tokenizer and tokenize as a user runs them: exit codes, outputs, errors.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sys/wait.h>

#include "data/tokenization/tokenizer.h"
#include "tests/data/corpus_fixture.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Json = nlohmann::json;

struct Outcome {
  int exit_code = -1;
  std::string output, errors;
};

class TokenizerPrograms : public testing::Test {
 protected:
  std::string read(const std::string& name) {
    std::ifstream file(folder_ / name, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  // Runs a shell command line in the test's folder, with `input` as its standard input.
  Outcome run(const std::string& command, const std::string& input = "") {
    write_text(folder_ / "stdin", input);
    const int status = std::system(
        fmt::format("cd '{}' && {} < stdin > stdout 2> stderr", folder_.path().string(), command)
            .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read("stdout"), read("stderr")};
  }
  // A run that fails with exit code 2 and one line on standard error, which is returned.
  std::string error_of(const std::string& command) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.exit_code, 2) << command;
    EXPECT_EQ(outcome.output, "") << command;
    // Slow work may have shown its progress before.
    const std::size_t begin = outcome.errors.find("error: ");
    if (begin == std::string::npos) {
      ADD_FAILURE() << command << " says no error but: " << outcome.errors;
      return outcome.errors;
    }
    const std::string line = outcome.errors.substr(begin);
    EXPECT_EQ(line.find('\n'), line.size() - 1) << line;
    return line;
  }
  void write_corpus_text() {
    PhiloxStream random(17, 0, 0);
    std::string text;
    for (int line = 0; line < 2000; ++line) {
      for (int word = 0; word < 10; ++word) {
        text += std::string(1, static_cast<char>('A' + random.next_below(3))) + "ord" +
                std::to_string(random.next_below(40)) + " ";
      }
      text += "\n";
    }
    write_text(folder_ / "text.txt", text);
  }
  const std::string train_ = BERT_TRAIN_TOKENIZER, tokenize_ = BERT_TOKENIZE;
  TemporaryFolder folder_;
};

TEST_F(TokenizerPrograms, TrainAndTokenize) {
  write_corpus_text();
  const std::string arguments = " --vocab-size 56 --input text.txt --json --output ";
  for (const std::string type : {"wordpiece", "sentencepiece"}) {
    SCOPED_TRACE(type);
    const Outcome outcome = run(train_ + " --type " + type + arguments + type);
    ASSERT_EQ(outcome.exit_code, 0) << outcome.errors;
    const Json report = Json::parse(outcome.output);
    EXPECT_EQ(report.at("type"), type);
    const auto tokenizer = load_tokenizer(folder_ / type);
    EXPECT_EQ(report.at("vocab_size"), tokenizer->vocab_size());
    EXPECT_EQ(report.at("fingerprint"), tokenizer->fingerprint());
    EXPECT_EQ(report.at("unknown_rate"), 0.0);
    EXPECT_GE(report.at("tokens_per_word").get<double>(), 1.0);
    EXPECT_LT(report.at("tokens_per_word").get<double>(), 3.0);

    const std::string text = "Aord1 bord22\n\n[MASK] cord3\n";
    const Outcome ids = run(tokenize_ + " --ids --tokenizer " + type, text);
    const Outcome pieces = run(tokenize_ + " --tokenizer " + type, text);
    ASSERT_EQ(ids.exit_code, 0) << ids.errors;
    std::istringstream id_lines(ids.output), piece_lines(pieces.output);
    for (const char* line : {"Aord1 bord22", "", "[MASK] cord3"}) {
      std::string json;
      ASSERT_TRUE(std::getline(id_lines, json));
      const auto tokens = encode(*tokenizer, line, true);
      EXPECT_EQ(Json::parse(json).get<std::vector<std::int32_t>>(), ids_of(tokens));
      ASSERT_TRUE(std::getline(piece_lines, json));
      EXPECT_EQ(Json::parse(json).get<std::vector<std::string>>(), pieces_of(*tokenizer, tokens));
    }
    std::string rest;
    EXPECT_FALSE(std::getline(id_lines, rest));
  }
  // The number of threads changes no file.
  for (const char* threads : {"1", "3"}) {
    ASSERT_EQ(run(train_ + arguments + "t" + threads + " --threads " + threads).exit_code, 0);
  }
  EXPECT_EQ(read("t1/tokenizer.json"), read("t3/tokenizer.json"));
  EXPECT_EQ(read("t1/vocab.txt"), read("wordpiece/vocab.txt"));

  const Outcome offsets = run(tokenize_ + " --offsets --special --tokenizer wordpiece", "aord1");
  const Json first = Json::parse(offsets.output);
  EXPECT_EQ(first.front(), (Json{"[CLS]", 0, 0}));
  EXPECT_EQ(first.back(), (Json{"[SEP]", 5, 5}));
  EXPECT_EQ(first.at(1).at(1), 0);
  EXPECT_EQ(
      Json::parse(run(tokenize_ + " --plain-text --tokenizer wordpiece", "[MASK]").output).size(),
      3u);  // unknown, all of them: the text had no brackets
}

TEST_F(TokenizerPrograms, TrainByLikelihood) {
  write_corpus_text();
  const std::string command = train_ + " --vocab-size 56 --input text.txt --json --output ";
  const Outcome frequency = run(command + "frequency");
  const Outcome likelihood = run(command + "likelihood --wordpiece-method likelihood");
  ASSERT_EQ(likelihood.exit_code, 0) << likelihood.errors;
  EXPECT_EQ(Json::parse(frequency.output).at("method"), "frequency");
  EXPECT_EQ(Json::parse(likelihood.output).at("method"), "likelihood");
  EXPECT_NE(read("frequency/vocab.txt"), read("likelihood/vocab.txt"));
}

TEST_F(TokenizerPrograms, Decode) {
  write_corpus_text();
  ASSERT_EQ(run(train_ + " --vocab-size 56 --input text.txt --output t").exit_code, 0);
  const std::string text = "Aord1 bord22 [MASK] cord3\naord4\n\n";
  const std::string ids = run(tokenize_ + " --ids --tokenizer t", text).output;
  EXPECT_EQ(run(tokenize_ + " --decode --tokenizer t", ids).output,
            "aord1 bord22 [MASK] cord3\naord4\n\n");
  for (const char* bad : {"[1, 2, 56]", "[-1]", "1, 2", "[\"a\"]"}) {
    const Outcome refused = run(tokenize_ + " --decode --tokenizer t", bad);
    EXPECT_EQ(refused.exit_code, 2) << bad;
    EXPECT_EQ(refused.errors.find("error: standard input:1: "), 0u) << refused.errors;
  }
}

// Bytes that are no UTF-8 are taken as U+FFFD and counted, or refused.
TEST_F(TokenizerPrograms, CountInvalidUtf8) {
  write_corpus_text();
  ASSERT_EQ(run(train_ + " --vocab-size 56 --input text.txt --output t").exit_code, 0);
  const std::string text = "Aord1\nAo\xffrd1\n\xc3(\xed\xa0\x80\n";
  const Outcome replaced = run(tokenize_ + " --tokenizer t", text);
  EXPECT_EQ(replaced.exit_code, 0);
  std::istringstream lines(replaced.output);
  std::string first, second;
  std::getline(lines, first);
  std::getline(lines, second);
  EXPECT_EQ(first, second);
  EXPECT_EQ(replaced.errors.find("warning: invalid UTF-8 in 2 lines, first in line 2"), 0u)
      << replaced.errors;
  const Outcome refused = run(tokenize_ + " --tokenizer t --invalid-utf8 refuse", text);
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_EQ(refused.errors.find("error: standard input:2: not valid UTF-8"), 0u) << refused.errors;

  write_text(folder_ / "bad.txt", read("text.txt") + "Aord\xff\n\xc3(\n");
  for (const char* type : {"wordpiece", "sentencepiece"}) {
    const Outcome warned =
        run(train_ + " --vocab-size 56 --input bad.txt --overwrite --output u --type " + type);
    EXPECT_EQ(warned.exit_code, 0) << warned.errors;
    EXPECT_NE(warned.errors.find("warning: replaced 2 invalid UTF-8 sequences by U+FFFD, first at "
                                 "bad.txt:2001"),
              std::string::npos)
        << warned.errors;
  }
}

TEST_F(TokenizerPrograms, TrainOnJsonLines) {
  std::string records;
  for (int i = 0; i < 40; ++i)
    records += R"({"body": "a ab abc abcd"})"
               "\n";
  write_text(folder_ / "lines.jsonl", records + R"({"text": 1})"
                                                "\n");
  const std::string command = train_ + " --vocab-size 12 --input lines.jsonl --output j";
  EXPECT_NE(error_of(command).find("'text'"), std::string::npos);
  EXPECT_NE(error_of(command + " --text-field body").find("lines.jsonl:41"), std::string::npos);
  const Outcome skipped = run(command + " --text-field body --malformed skip");
  EXPECT_EQ(skipped.exit_code, 0) << skipped.errors;
  EXPECT_NE(skipped.errors.find("left out 1 malformed record, first at"), std::string::npos);
  EXPECT_NE(read("j/vocab.txt").find("##b"), std::string::npos);
}

TEST_F(TokenizerPrograms, TrainWritesIntoNoFolderOfOtherThings) {
  write_text(folder_ / "text.txt", "a ab abc abcd\n");
  ASSERT_EQ(run("mkdir other && touch other/file.cpp").exit_code, 0);
  EXPECT_NE(error_of(train_ + " --vocab-size 12 --input text.txt --output other").find("other"),
            std::string::npos);
  const std::string again = train_ + " --vocab-size 12 --input text.txt --output fresh";
  EXPECT_EQ(run(again).exit_code, 0);
  EXPECT_EQ(error_of(again), "error: fresh holds a tokenizer already; --overwrite replaces it\n");
  EXPECT_EQ(run(again + " --overwrite").exit_code, 0);
  // Nothing of another kind of tokenizer is left, which would be taken for this one.
  write_text(folder_ / "fresh" / "spiece.model", "older");
  EXPECT_EQ(run(again + " --overwrite").exit_code, 0);
  EXPECT_EQ(load_tokenizer(folder_ / "fresh")->vocab_size(), 12);
  // Nothing is replaced where there is more, such as a model, whose weights are of its tokenizer.
  for (const char* name : {"config.json", "notes.txt"}) {
    write_text(folder_ / "fresh" / name, "{}");
    EXPECT_NE(error_of(again + " --overwrite").find(fmt::format("fresh: \"{}\" in it", name)),
              std::string::npos);
    ASSERT_EQ(run(fmt::format("rm fresh/{}", name)).exit_code, 0);
  }
}

TEST_F(TokenizerPrograms, FailureLeavesNoFolder) {
  write_text(folder_ / "text.txt", "abcdefghijklmnopqrstuvwxyz\n");
  const std::string to = " --input text.txt --output above/out";
  EXPECT_NE(error_of(train_ + " --vocab-size 12" + to).find("--max-alphabet"), std::string::npos);
  EXPECT_EQ(run("ls above").exit_code, 2);
  EXPECT_EQ(run(train_ + " --vocab-size 100" + to).exit_code, 0);
  EXPECT_EQ(run("ls above/out/vocab.txt").exit_code, 0);
}

TEST_F(TokenizerPrograms, ALinkToNothingIsNoFolder) {
  write_text(folder_ / "text.txt", "abcdefghijklmnopqrstuvwxyz\n");
  std::filesystem::create_symlink(folder_ / "nothing", folder_ / "link");
  for (const std::string output : {"link", "link/below"}) {
    const std::string error =
        error_of(train_ + " --vocab-size 100 --input text.txt --output " + output);
    EXPECT_NE(error.find("is a symbolic link to nothing"), std::string::npos) << error;
    EXPECT_TRUE(std::filesystem::is_symlink(folder_ / "link"));
  }
}

TEST_F(TokenizerPrograms, OptionsAreOfTheKindOfVocabulary) {
  write_text(folder_ / "text.txt", "a ab abc abcd\n");
  const std::string to = " --vocab-size 12 --input text.txt --output out ";
  EXPECT_NE(error_of(train_ + to + "--sample 1").find("--sample is for --type sentencepiece only"),
            std::string::npos);
  EXPECT_NE(error_of(train_ + to + "--type sentencepiece --max-alphabet 9")
                .find("--max-alphabet is for --type wordpiece only"),
            std::string::npos);
}

TEST_F(TokenizerPrograms, ReportBadInput) {
  write_corpus_text();
  const std::string output = " --vocab-size 120 --output out --input ";
  EXPECT_EQ(error_of(train_ + output + "none.txt"),
            "error: cannot read none.txt: No such file or directory\n");
  write_text(folder_ / "empty.txt", "");
  EXPECT_EQ(error_of(train_ + output + "text.txt empty.txt"),
            "error: empty.txt is empty: expected UTF-8 text\n");
  EXPECT_EQ(error_of(train_ + output + "-").find("error: --input -: the text is read twice"), 0u);
  EXPECT_NE(error_of(train_ + " --vocab-size 12 --output out --input text.txt")
                .find("has no room for the"),
            std::string::npos);
  EXPECT_NE(error_of(train_ + " --type sentencepiece --vocab-size 90000 --output out --input "
                              "text.txt")
                .find("of 90000 from this text: it is enough for "),
            std::string::npos);
  write_text(folder_ / "bad.txt", "ab\xff\n");
  EXPECT_NE(
      error_of(train_ + output + "bad.txt --invalid-utf8 refuse").find("bad.txt:1: not valid"),
      std::string::npos);
  error_of(train_ + output + "text.txt --vocab-size many");
  error_of(train_ + output + "text.txt --type words");
  error_of(train_ + " --output out");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out" / "vocab.txt"));  // nothing half-written
  EXPECT_FALSE(std::filesystem::exists(folder_ / "out" / "spiece.model"));

  EXPECT_NE(error_of(tokenize_ + " --tokenizer none").find("no tokenizer at none"),
            std::string::npos);
  write_text(folder_ / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n");
  EXPECT_NE(error_of(tokenize_ + " --tokenizer vocab.txt").find("no special token [MASK]"),
            std::string::npos);
  write_text(folder_ / "broken.model", "not a model");
  EXPECT_NE(error_of(tokenize_ + " --tokenizer broken.model").find("broken.model is damaged"),
            std::string::npos);
  EXPECT_NE(error_of(tokenize_ + " --tokenizer vocab.txt 'a text'").find("standard input: give it"),
            std::string::npos);
  error_of(tokenize_);
  error_of(tokenize_ + " --tokenizer vocab.txt --no-such-option");
  for (const std::string& program : {train_, tokenize_}) {
    EXPECT_EQ(run(program + " --help").exit_code, 0);
    EXPECT_TRUE(run(program + " --version").output.starts_with("bert.cu "));
  }
}

}  // namespace
}  // namespace bert
