// prepare_corpus and inspect as a user runs them: what they print, and exit codes.
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "model/bert_config.h"
#include "model/weights/safetensors.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

class CorpusPrograms : public testing::Test {
 protected:
  void SetUp() override {
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char c = 'a'; c <= 'z'; ++c) {
      vocabulary += fmt::format("{}\n##{}\n", c, c);
    }
    write_text(folder_ / "vocab.txt", vocabulary);
    std::string text;
    for (int i = 0; i < 200; ++i) text += "some words in a line\nand some more of them here\n\n";
    write_text(folder_ / "text.txt", text);
  }
  Answer prepare(const std::string& more) {
    return run(fmt::format("{} --tokenizer {} --output {} {}", BERT_PREPARE_CORPUS,
                           (folder_ / "vocab.txt").string(), (folder_ / "corpus").string(), more));
  }
  Answer inspect(const fs::path& path, const std::string& more = "") {
    return run(fmt::format("{} {} {}", BERT_INSPECT, path.string(), more));
  }
  std::string text() { return "--input " + (folder_ / "text.txt").string(); }

  TemporaryFolder folder_;
};

TEST_F(CorpusPrograms, PrepareAndInspect) {
  const Answer prepared = prepare(text() + " --json --sequence-length 32");
  ASSERT_EQ(prepared.exit_code, 0) << prepared.output;
  const auto report = nlohmann::json::parse(prepared.output);
  EXPECT_EQ(report.at("documents"), 200);
  EXPECT_EQ(report.at("sentences"), 400);
  EXPECT_EQ(report.at("words"), 200 * (5 + 6));
  EXPECT_EQ(report.at("unknown"), 0);

  const Answer shown = inspect(folder_ / "corpus", "--verify --json --next-sentence");
  ASSERT_EQ(shown.exit_code, 0) << shown.output;
  const auto answer = nlohmann::json::parse(shown.output);
  EXPECT_EQ(answer.at("kind"), "corpus");
  EXPECT_EQ(answer.at("all").at("tokens"), report.at("tokens"));
  EXPECT_EQ(answer.at("verified"), true);
  EXPECT_EQ(answer.at("samples").size(), 3u);
  EXPECT_EQ(answer.at("tokenizer").at("vocab_size"), 57);
  EXPECT_TRUE(answer.at("audit").contains("random_next"));
  EXPECT_NE(inspect(folder_ / "corpus").output.find("80"), std::string::npos);

  EXPECT_EQ(inspect(folder_ / "vocab.txt").exit_code, 0);
  EXPECT_EQ(inspect(folder_ / "corpus" / "tokenizer").exit_code, 0);
  EXPECT_NE(inspect(folder_ / "corpus" / "train" / "tokens.bin", "--verify").output.find("tokens"),
            std::string::npos);
}

TEST_F(CorpusPrograms, ReadsStandardInput) {
  const Answer answer = run(fmt::format(
      "printf 'fine 42\\n\\n42 42 fine\\n\\n\\377 x\\n' | {} --tokenizer {} --output {} "
      "--max-unknown-rate 1 --input -",
      BERT_PREPARE_CORPUS, (folder_ / "vocab.txt").string(), (folder_ / "corpus").string()));
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(Corpus(folder_ / "corpus").manifest().sources[0].counts.documents, 3u);
}

// Folders, patterns and compressed JSON lines give the same tokens as the texts in them.
TEST_F(CorpusPrograms, ReadsFoldersPatternsAndJsonLines) {
  ASSERT_EQ(prepare(text()).exit_code, 0);
  const std::string tokens = read_file(folder_ / "corpus" / "train" / "tokens.bin");
  std::string lines;
  for (int i = 0; i < 200; ++i) {
    lines += R"({"id": 1, "body": "some words in a line\nand some more of them here"})"
             "\n";
  }
  fs::create_directories(folder_ / "in" / "deep");
  write_text(folder_ / "in" / "deep" / "a.jsonl", lines);
  ASSERT_EQ(run("gzip " + (folder_ / "in" / "deep" / "a.jsonl").string()).exit_code, 0);
  write_text(folder_ / "in" / "photo.png", "not text");
  const std::string field = " --text-field body --input ";
  for (const char* input : {"in", "in/deep/*.jsonl.gz", "'in/*/a.*'"}) {
    const Answer answer = run("cd " + folder_.path().string() + " && " + BERT_PREPARE_CORPUS +
                              " --tokenizer vocab.txt --overwrite --output corpus" + field + input);
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    EXPECT_EQ(read_file(folder_ / "corpus" / "train" / "tokens.bin"), tokens) << input;
  }
  // A line without the field is named.
  write_text(folder_ / "bad.jsonl", lines + "{\"text\": \"a\"}\n");
  expect_refused(prepare("--overwrite" + field + (folder_ / "bad.jsonl").string()),
                 "bad.jsonl:201");
  const Answer skipped =
      prepare("--overwrite --malformed skip" + field + (folder_ / "bad.jsonl").string());
  EXPECT_EQ(skipped.exit_code, 0) << skipped.output;
  EXPECT_NE(skipped.output.find("left out 1 malformed record, first at"), std::string::npos)
      << skipped.output;
}

TEST_F(CorpusPrograms, ShortSequenceCuts) {
  ASSERT_EQ(prepare(text() + " --sequence-length 32 --short-sequence-probability 0.1").exit_code,
            0);
  EXPECT_TRUE(fs::exists(folder_ / "corpus" / "train" / "cuts_sentences_30_short_0.1.bin"));
  expect_refused(prepare(text() + " --overwrite --short-sequence-probability 2"),
                 "--short-sequence-probability");
}

TEST_F(CorpusPrograms, WarnsOfUnknownWordsAndInvalidText) {
  write_text(folder_ / "odd.txt", "fine 42\n\n42 42 fine\n\n\xff x\n");
  const std::string odd = "--input " + (folder_ / "odd.txt").string();
  expect_refused(prepare(odd), "50.0 % of the words are not in the vocabulary");
  const Answer answer = prepare(odd + " --max-unknown-rate 0.6");
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("WARNING: 50.0 % of the words"), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("commonest unknown words: 42 (3)"), std::string::npos)
      << answer.output;
  EXPECT_NE(answer.output.find("invalid UTF-8"), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("odd.txt:5"), std::string::npos) << answer.output;
}

TEST_F(CorpusPrograms, BadInputIsOneErrorLine) {
  expect_refused(prepare("--input " + (folder_ / "none.txt").string()), "none.txt");
  write_text(folder_ / "empty.txt", "");
  expect_refused(prepare("--input " + (folder_ / "empty.txt").string()), "empty.txt");
  write_text(folder_ / "blank.txt", "\n \n");
  expect_refused(prepare("--input " + (folder_ / "blank.txt").string()), "blank.txt");
  write_text(folder_ / "bad.txt", "one\n\ntwo \xff\n");
  expect_refused(prepare("--invalid-utf8 refuse --input " + (folder_ / "bad.txt").string()),
                 "bad.txt:3");
  expect_refused(prepare(text() + " --invalid-utf8 perhaps"), "perhaps");
  expect_refused(prepare(text() + " --validation-fraction 1"), "fraction");
  expect_refused(prepare(text() + " --sequence-length 3"), "--sequence-length");
  expect_refused(prepare(text() + " --colour red"), "colour");
  expect_refused(prepare(text() + " --min-document-words -1"), "--min-document-words: -1 is less");
  expect_refused(run(fmt::format("{} --tokenizer {} {} --output ''", BERT_PREPARE_CORPUS,
                                 (folder_ / "vocab.txt").string(), text())),
                 "--output: the value is empty");
  expect_refused(run(fmt::format("{} --tokenizer /nowhere --output {} {}", BERT_PREPARE_CORPUS,
                                 (folder_ / "corpus").string(), text())),
                 "/nowhere");
  EXPECT_FALSE(fs::exists(folder_ / "corpus"));
  fs::create_directories(folder_ / "corpus");
  write_text(folder_ / "corpus" / "letters.txt", "dear");
  expect_refused(prepare(text()), "is not a corpus (\"letters.txt\" is in it)");
  EXPECT_EQ(read_file(folder_ / "corpus" / "letters.txt"), "dear");
}

TEST_F(CorpusPrograms, ReplacesACorpusOnlyIfToldTo) {
  ASSERT_EQ(prepare(text()).exit_code, 0);
  const auto before = contents(folder_ / "corpus");
  expect_refused(prepare(text() + " --seed 7"), "holds a corpus already; --overwrite replaces it");
  EXPECT_EQ(contents(folder_ / "corpus"), before);
  EXPECT_EQ(prepare(text() + " --seed 7 --overwrite").exit_code, 0);
  EXPECT_NE(contents(folder_ / "corpus"), before);
  // Nor what else somebody keeps there.
  for (const char* name : {"notes.txt", "train/notes.txt", "other/manifest.json"}) {
    const fs::path kept = folder_ / "corpus" / name;
    fs::create_directories(kept.parent_path());
    write_text(kept, "dear");
    expect_refused(prepare(text() + " --overwrite"), std::string(name).starts_with("other")
                                                         ? "\"other\" in it is not of a corpus"
                                                         : name);
    EXPECT_EQ(read_file(kept), "dear");
    fs::remove(kept);
    fs::remove(folder_ / "corpus" / "other");
  }
}

// The folder is replaced by a rename: whoever stands in it would be left in one without a name.
TEST_F(CorpusPrograms, DoesNotReplaceTheFolderItRunsIn) {
  fs::create_directories(folder_ / "here" / "below");
  fs::create_directory_symlink(folder_ / "here", folder_ / "link");
  for (const char* output : {".", "../here", "../link/", "below/.."}) {
    const Answer answer =
        run(fmt::format("cd {} && {} --tokenizer {} {} --output {}", (folder_ / "here").string(),
                        BERT_PREPARE_CORPUS, (folder_ / "vocab.txt").string(), text(), output));
    expect_refused(answer, "is or holds the folder that the program runs in");
  }
  EXPECT_FALSE(fs::exists(folder_ / "here.partial"));
  // A link is kept: the corpus is where it leads.
  ASSERT_EQ(run(fmt::format("{} --tokenizer {} {} --output {}", BERT_PREPARE_CORPUS,
                            (folder_ / "vocab.txt").string(), text(),
                            (folder_ / "link" / "new").string()))
                .exit_code,
            0);
  EXPECT_TRUE(is_corpus(folder_ / "here" / "new"));
}

TEST_F(CorpusPrograms, FailureLeavesNoFolders) {
  expect_refused(run(fmt::format("{} --tokenizer {} --input {} --output {}", BERT_PREPARE_CORPUS,
                                 (folder_ / "vocab.txt").string(), (folder_ / "none.txt").string(),
                                 (folder_ / "a" / "b" / "corpus").string())),
                 "none.txt");
  EXPECT_FALSE(fs::exists(folder_ / "a"));
  const Answer answer = run(fmt::format("{} --tokenizer {} {} --output {}", BERT_PREPARE_CORPUS,
                                        (folder_ / "vocab.txt").string(), text(),
                                        (folder_ / "a" / std::string(300, 'n')).string()));
  EXPECT_NE(answer.exit_code, 0) << answer.output;
  EXPECT_FALSE(fs::exists(folder_ / "a")) << answer.output;
}

TEST_F(CorpusPrograms, ALinkToNothingIsNoFolder) {
  fs::create_symlink(folder_ / "nothing", folder_ / "corpus");
  expect_refused(prepare(text()), "is a symbolic link to nothing");
}

TEST_F(CorpusPrograms, InspectSaysWhatTheFolderOfARunIs) {
  fs::create_directories(folder_ / "run" / "checkpoints" / "step_00000010");
  expect_refused(inspect(folder_ / "run"), "is the folder of a run; its models are in");
  ASSERT_EQ(prepare(text()).exit_code, 0);
  fs::create_directories(folder_ / "data" / "raw");
  fs::rename(folder_ / "corpus", folder_ / "data" / "corpus");
  expect_refused(inspect(folder_ / "data"),
                 "; it holds " + (folder_ / "data" / "corpus").string() + "\n");
  expect_refused(inspect(folder_ / "run" / "checkpoints"), "tokenizer and holds none");
}

TEST_F(CorpusPrograms, InspectShowsADocument) {
  ASSERT_EQ(prepare(text()).exit_code, 0);
  const auto corpus = std::make_shared<const Corpus>(folder_ / "corpus");
  const TokenShard& shard = corpus->shard(Split::train);
  const std::string last = std::to_string(shard.num_documents() - 1);
  const Answer shown = inspect(folder_ / "corpus", "--json --document " + last);
  ASSERT_EQ(shown.exit_code, 0) << shown.output;
  const auto document = nlohmann::json::parse(shown.output).at("document");
  const std::vector<std::int32_t> ids = shard.document(shard.num_documents() - 1).ids;
  EXPECT_EQ(document.at("tokens"), ids.size());
  EXPECT_EQ(document.at("text"), corpus->tokenizer()->decode(ids));
  EXPECT_NE(inspect(folder_ / "corpus", "--document 0").output, shown.output);
  expect_refused(inspect(folder_ / "corpus", "--split validation --document 200"),
                 "there is no document 200 in the validation split");
}

TEST_F(CorpusPrograms, InspectSaysThatASplitIsEmpty) {
  ASSERT_EQ(prepare(text() + " --validation-fraction 0").exit_code, 0);
  const Answer shown = inspect(folder_ / "corpus", "--split validation");
  ASSERT_EQ(shown.exit_code, 0) << shown.output;
  EXPECT_NE(shown.output.find("samples      none: the validation split is empty\n"),
            std::string::npos)
      << shown.output;
}

TEST_F(CorpusPrograms, InspectFindsDamage) {
  ASSERT_EQ(prepare(text()).exit_code, 0);
  const fs::path tokens = folder_ / "corpus" / "train" / "tokens.bin";
  flip_bit(tokens, 8 * 77);
  expect_refused(inspect(folder_ / "corpus", "--verify"), tokens.string());
  expect_refused(inspect(tokens, "--verify"), tokens.string());
  fs::resize_file(tokens, 1000);
  expect_refused(inspect(folder_ / "corpus"), tokens.string());
  fs::remove(folder_ / "corpus" / "manifest.json");
  EXPECT_EQ(inspect(folder_ / "corpus").exit_code, 2);
  expect_refused(inspect(folder_ / "nothing"), "does not exist");
}

TEST_F(CorpusPrograms, InspectCheckpoint) {
  BertConfig config = bert_preset("bert_tiny");
  config.vocab_size = 57;
  const fs::path folder = folder_ / "checkpoint";
  fs::create_directories(folder);
  write_text(folder / "config.json", to_hugging_face_json(config, {"ForPreTraining"}));
  const std::vector<float> weights(57 * 128);
  write_safetensors(
      folder / "model.safetensors",
      {{"bert.embeddings.word_embeddings.weight", DType::f32, {57, 128}, weights.data()},
       {"cls.predictions.bias", DType::f32, {57}, weights.data()}});
  fs::copy_file(folder_ / "vocab.txt", folder / "vocab.txt");
  const Answer answer = inspect(folder, "--json");
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const auto shown = nlohmann::json::parse(answer.output);
  EXPECT_EQ(shown.at("kind"), "checkpoint");
  EXPECT_EQ(shown.at("config").at("hidden_size"), 128);
  EXPECT_EQ(shown.at("weights").at("parameters"), 57 * 129);
  EXPECT_EQ(shown.at("weights").at("tensors").size(), 2u);
  EXPECT_EQ(shown.at("tokenizer").at("vocab_size"), 57);
  EXPECT_NE(inspect(folder).output.find("word_embeddings.weight"), std::string::npos);
  EXPECT_EQ(inspect(folder / "model.safetensors").exit_code, 0);
  expect_refused(inspect(folder / "config.json"), "give the folder");
  fs::resize_file(folder / "model.safetensors", 5000);
  expect_refused(inspect(folder), "model.safetensors");
}

TEST_F(CorpusPrograms, HelpAndVersion) {
  for (const char* program : {BERT_PREPARE_CORPUS, BERT_INSPECT}) {
    EXPECT_EQ(run(std::string(program) + " --help").exit_code, 0);
    EXPECT_TRUE(run(std::string(program) + " --version").output.starts_with("bert.cu "));
    EXPECT_EQ(run(program).exit_code, 2);
  }
}

}  // namespace
}  // namespace bert
