// libbert as another project uses it: installed, found by CMake, linked, run; the answers are those
// of the programs.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/bert_for_pretraining.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"
#include "tests/train/task_checkpoint.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

class Library : public testing::Test {
 protected:
  // Once for all tests: it takes some seconds.
  static void SetUpTestSuite() {
    installed_ = std::make_unique<TemporaryFolder>();
    const std::string prefix = (*installed_ / "prefix").string();
    const std::string build = (*installed_ / "build").string();
    for (const std::string& command :
         {fmt::format("{} --install {} --prefix {}", BERT_CMAKE, BERT_BUILD_DIR, prefix),
          fmt::format("{} -S {} -B {} -DCMAKE_PREFIX_PATH={} -DCMAKE_CXX_COMPILER={} "
                      "-DCMAKE_BUILD_TYPE=Release -DCMAKE_CXX_FLAGS='{}'",
                      BERT_CMAKE, BERT_EXAMPLE, build, prefix, BERT_CXX, sanitizer()),
          fmt::format("{} --build {}", BERT_CMAKE, build)}) {
      const Answer answer = run(command);
      ASSERT_EQ(answer.exit_code, 0) << command << '\n' << answer.output;
    }
  }
  static void TearDownTestSuite() { installed_.reset(); }
  static std::string sanitizer() {
    const std::string names = BERT_SANITIZE;
    return names.empty() ? "" : "-fsanitize=" + names;
  }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // Its lines; the first says the task, then a vector for each text.
  std::vector<std::string> use_library(const std::string& arguments) {
    const Answer answer =
        run(fmt::format("{} {}", (*installed_ / "build" / "use_library").string(), arguments));
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    return lines(answer.output);
  }
  static std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> list;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) list.push_back(line);
    return list;
  }
  std::vector<Json> program(const std::string& name, const std::string& arguments) {
    const Answer answer = run(
        fmt::format("{} {} 2>/dev/null", (*installed_ / "prefix/bin" / name).string(), arguments));
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    std::vector<Json> records;
    for (const std::string& line : lines(answer.output)) records.push_back(Json::parse(line));
    return records;
  }
  // What `embed` says of the texts is what the library said of them in line `i`, after the colon.
  static void expect_vector(const std::string& line, const std::vector<double>& vector) {
    std::istringstream numbers(line.substr(line.find(": ") + 2));
    for (const double expected : vector) {
      double value = NAN;
      ASSERT_TRUE(numbers >> value) << line;
      EXPECT_NEAR(value, expected, 1e-5);
    }
    std::string more;
    EXPECT_FALSE(numbers >> more) << line;
  }

  static inline std::unique_ptr<TemporaryFolder> installed_;
  TemporaryFolder folder_;
  WordpieceTokenizer tokenizer_ = number_tokenizer(60);
};

TEST_F(Library, VectorsAndMaskedTokens) {
  write_random_model(
      folder_ / "mlm", tokenizer_,
      std::make_unique<BertForPretraining>(random_config(60), BertForPretraining::Heads::mlm));
  write_text(folder_ / "texts", "w5 [MASK] w7\n[MASK] w9\n");
  const std::vector<std::string> said = use_library(path("mlm") + " 'w5 [MASK] w7' '[MASK] w9'");
  ASSERT_EQ(said.size(), 7u);
  EXPECT_EQ(said[0], "masked_tokens");
  const std::vector<Json> vectors =
      program("embed", fmt::format("--checkpoint {} --input {}", path("mlm"), path("texts")));
  const std::vector<Json> filled = program(
      "fill_mask",
      fmt::format("--json --top-k 2 --checkpoint {} --input {}", path("mlm"), path("texts")));
  ASSERT_EQ(vectors.size(), 2u);
  ASSERT_EQ(filled.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    expect_vector(said[1 + i], vectors[i].at("embedding"));
    for (std::size_t k = 0; k < 2; ++k) {
      const Json prediction = filled[i].at("masks")[0][k];
      std::istringstream line(said[3 + 2 * i + k]);
      std::string token;
      double probability = 0;
      line >> token >> probability;
      EXPECT_EQ(token, prediction.at("token"));
      EXPECT_NEAR(probability, prediction.at("probability"), 1e-5);
    }
  }
}

TEST_F(Library, Tasks) {
  write_task_checkpoint(folder_ / "class", tokenizer_, TaskKind::classification, {"x", "y"});
  std::vector<std::string> said = use_library(path("class") + " 'w5 w7' 'w9'");
  std::vector<Json> records =
      program("predict", fmt::format("--json --checkpoint {} 'w5 w7' w9", path("class")));
  ASSERT_EQ(said.size(), 5u);
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(said[0], "classification");
  for (std::size_t i = 0; i < 2; ++i) {
    const std::string label = records[i].at("label");
    EXPECT_TRUE(said[3 + i].starts_with(label + " x=")) << said[3 + i];
    EXPECT_NEAR(std::stod(said[3 + i].substr(label.size() + 3)),
                records[i].at("probabilities").at("x").get<double>(), 3e-6);
  }

  write_task_checkpoint(folder_ / "number", tokenizer_, TaskKind::regression, {});
  said = use_library(path("number") + " 'w5 w7'");
  records = program("predict", fmt::format("--json --checkpoint {} 'w5 w7'", path("number")));
  ASSERT_EQ(said.size(), 3u);
  EXPECT_NEAR(std::stod(said[2]), records.at(0).at("value").get<double>(), 3e-6);

  write_task_checkpoint(folder_ / "tags", tokenizer_, TaskKind::token_classification, {"O", "B-X"});
  said = use_library(path("tags") + " 'w5 w7.'");
  records = program("predict", fmt::format("--json --checkpoint {} 'w5 w7.'", path("tags")));
  ASSERT_EQ(said.size(), 3u);
  const std::vector<std::string> tags = records.at(0).at("tags");
  EXPECT_EQ(said[2], fmt::format("w5/{} w7/{} ./{} ", tags[0], tags[1], tags[2]));

  write_task_checkpoint(folder_ / "qa", tokenizer_, TaskKind::question_answering, {});
  said = use_library(path("qa") + " 'w5 w7' 'w9 w11 w13 w15 w17'");
  records = program(
      "predict", fmt::format("--json --checkpoint {} --question 'w5 w7' --context 'w9 w11 w13 w15 "
                             "w17'",
                             path("qa")));
  ASSERT_EQ(said.size(), 4u);
  EXPECT_EQ(said[3],
            fmt::format("{} {} {}", records.at(0).at("text").get<std::string>(),
                        records.at(0).at("start").get<int>(), records.at(0).at("end").get<int>()));
}

TEST_F(Library, ErrorsAreStandardExceptions) {
  const Answer missing =
      run(fmt::format("{} {} text", (*installed_ / "build/use_library").string(), path("nowhere")));
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_TRUE(missing.output.starts_with("error: " + path("nowhere"))) << missing.output;
}

TEST_F(Library, ShowsNothingOfWhatIsInside) {
  const Answer symbols = run(fmt::format("nm -DC --defined-only {} | cut -c20-",
                                         (*installed_ / "prefix/lib*/libbert.so").string()));
  ASSERT_EQ(symbols.exit_code, 0) << symbols.output;
  std::size_t calls = 0;
  for (const std::string& symbol : lines(symbols.output)) {
    EXPECT_TRUE(symbol.starts_with("bert::Pipeline::")) << symbol;
    EXPECT_EQ(symbol.find("Impl"), std::string::npos) << symbol;
    ++calls;
  }
  EXPECT_GT(calls, 10u);
}

TEST_F(Library, TheHeaderNeedsTheStandardLibraryOnly) {
  const std::string include = (*installed_ / "prefix/include").string();
  for (const std::string& line : lines(read_file(include + "/bert/bert.h"))) {
    if (!line.starts_with("#include")) continue;
    EXPECT_EQ(line.find_first_of("/.\""), std::string::npos) << line;
  }
  write_text(folder_ / "use.cpp", "#include <bert/bert.h>\nint main() {}\n");
  const Answer answer =
      run(fmt::format("{} -std=c++17 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I{} {}",
                      BERT_CXX, include, path("use.cpp")));
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
}

}  // namespace
}  // namespace bert
