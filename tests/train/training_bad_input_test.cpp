// What is wrong with what train is given: one line that says it, exit code 2, nothing lost.
#include "tests/train/training_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

const Arguments kShort{"train.max_steps=10", "checkpoint.every_steps=5", "schedule.warmup_steps=2"};

Arguments with(Arguments settings, const Arguments& more) {
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}

class TrainingBadInput : public TrainingTest {
 protected:
  fs::path run_dir() const { return folder_ / "run"; }

  // Refused before anything is written.
  void expect_refused_untouched(const Arguments& more, const std::string& part) {
    SCOPED_TRACE(fmt::format("{}", fmt::join(more, " ")));
    expect_refused(train(run_dir(), more), part);
    EXPECT_FALSE(fs::exists(run_dir()));
  }
  // A run of ten steps with checkpoints at 5 and 10.
  void make_run() { ASSERT_EQ(train(run_dir(), kShort).exit_code, 0); }
  // The run directory stays as it was, to the byte.
  void expect_refused_and_kept(const Arguments& more, const std::string& part) {
    SCOPED_TRACE(fmt::format("{}", fmt::join(more, " ")));
    const auto before = contents(run_dir());
    expect_refused(train(run_dir(), more), part);
    EXPECT_TRUE(contents(run_dir()) == before);
  }
  std::string copy_of_corpus() const {
    fs::copy(TrainingWorld::get().corpus(), folder_ / "corpus", fs::copy_options::recursive);
    return "data.path=" + (folder_ / "corpus").string();
  }
};

TEST_F(TrainingBadInput, CommandLine) {
  expect_refused(run(BERT_TRAIN), "config");
  expect_refused(run(fmt::format("{} {}", BERT_TRAIN, (folder_ / "none.yaml").string())),
                 "none.yaml");
  write_text(folder_ / "empty.yaml", "");
  expect_refused(run(fmt::format("{} {}", BERT_TRAIN, (folder_ / "empty.yaml").string())),
                 "empty.yaml is empty");
  write_text(folder_ / "odd.yaml", "train: {max_steps: 5\n");
  expect_refused(run(fmt::format("{} {}", BERT_TRAIN, (folder_ / "odd.yaml").string())),
                 "not YAML");
  expect_refused_untouched({"--resum"}, "--resum");
  expect_refused_untouched({"train"}, "key.path=value");
}

TEST_F(TrainingBadInput, Keys) {
  expect_refused_untouched({"train.batchsize=4"}, "did you mean train.batch_size?");
  expect_refused_untouched({"optimiser.epsilon=1e-6"}, "optimizer.epsilon");
  expect_refused_untouched({"train.batch_size=many"}, "train.batch_size");
  expect_refused_untouched({"train.max_steps=0"}, "train.max_steps");
  expect_refused_untouched({"model.hidden_dropout_prob=1.5"}, "model.hidden_dropout_prob");
  expect_refused_untouched({"schedule.warmup_steps=50"}, "schedule.warmup_steps");
  expect_refused_untouched({"runtime.precision=bf16"}, "precision");
}

TEST_F(TrainingBadInput, WhatDoesNotFit) {
  expect_refused_untouched({"train.sequence_length=33"}, "max_position_embeddings");
  expect_refused_untouched({"train.phases=[{from: 0.5, sequence_length: 64}]"},
                           "max_position_embeddings");
  expect_refused_untouched({"model.vocab_size=100"}, "100 is less than the 197 entries");
  expect_refused_untouched({"model.num_attention_heads=5"}, "num_attention_heads");
  expect_refused_untouched({"train.micro_batch_tokens=16"}, "train.micro_batch_tokens");
}

TEST_F(TrainingBadInput, MissingFiles) {
  expect_refused_untouched({"data.path=/nowhere"}, "/nowhere");
  expect_refused_untouched({"tokenizer.path=/nowhere"}, "/nowhere");
  expect_refused_untouched({"model.init_from=/nowhere"}, "/nowhere");
  fs::create_directories(folder_ / "bare");
  expect_refused_untouched({"data.path=" + (folder_ / "bare").string()}, "bare");
  expect_refused_untouched({"tokenizer.path=" + (folder_ / "bare").string()}, "bare");
  expect_refused_untouched({"model.init_from=" + (folder_ / "bare").string()}, "bare");
}

TEST_F(TrainingBadInput, EmptyFiles) {
  write_text(folder_ / "vocab.txt", "");
  expect_refused_untouched({"tokenizer.path=" + (folder_ / "vocab.txt").string()}, "vocab.txt");
  fs::create_directories(folder_ / "model");
  write_text(folder_ / "model" / "config.json", "");
  write_text(folder_ / "model" / "model.safetensors", "");
  expect_refused_untouched({"model.init_from=" + (folder_ / "model").string()}, "config.json");
  const std::string corpus = copy_of_corpus();
  write_text(folder_ / "corpus" / "manifest.json", "");
  expect_refused_untouched({corpus}, "manifest.json");
}

TEST_F(TrainingBadInput, AnotherTokenizer) {
  std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
  for (int i = 0; i < 192; ++i) vocabulary += fmt::format("w{}\n", (i + 1) % 192);
  write_text(folder_ / "vocab.txt", vocabulary);
  expect_refused_untouched({"tokenizer.path=" + (folder_ / "vocab.txt").string()}, "tokenizer");
}

TEST_F(TrainingBadInput, DamagedCorpus) {
  const std::string corpus = copy_of_corpus();
  const fs::path tokens = folder_ / "corpus" / "train" / "tokens.bin";
  const std::string whole = read_file(tokens);
  fs::resize_file(tokens, whole.size() - 100);
  expect_refused_untouched({corpus}, tokens.string());
  write_text(tokens, "");
  expect_refused_untouched({corpus}, tokens.string());
  fs::remove(tokens);
  expect_refused_untouched({corpus}, tokens.string());
  write_text(tokens, whole);
  const std::string manifest = read_file(folder_ / "corpus" / "manifest.json");
  write_text(folder_ / "corpus" / "manifest.json", manifest.substr(0, manifest.size() / 2));
  expect_refused_untouched({corpus}, "manifest.json");
  write_text(folder_ / "corpus" / "manifest.json", manifest);
  EXPECT_EQ(train(run_dir(), with(kShort, {corpus})).exit_code, 0);
}

// A flipped bit is seen when its block is first read, by the thread that makes the batches.
TEST_F(TrainingBadInput, FlippedBitInTheCorpus) {
  const std::string corpus = copy_of_corpus();
  const fs::path tokens = folder_ / "corpus" / "train" / "tokens.bin";
  flip_bit(tokens, 8 * (fs::file_size(tokens) / 2) + 3);
  const Answer answer = train(run_dir(), {corpus});
  EXPECT_EQ(answer.exit_code, 2) << answer.output;
  const auto at = answer.output.find("error: ");
  ASSERT_NE(at, std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find(tokens.string(), at), std::string::npos) << answer.output;
  EXPECT_EQ(answer.output.find("error: ", at + 1), std::string::npos) << answer.output;
}

TEST_F(TrainingBadInput, RunDirectory) {
  write_text(folder_ / "file", "dear");
  expect_refused(train(folder_ / "file"), "file");
  expect_refused(train(folder_ / "file" / "run"), "file");
  EXPECT_EQ(read_file(folder_ / "file"), "dear");
  expect_refused(train("/proc/bert_run"), "/proc/bert_run");

  fs::create_directories(run_dir());
  write_text(run_dir() / "letters.txt", "dear");
  expect_refused_and_kept({}, "--resume auto");
  fs::remove(run_dir() / "letters.txt");
  EXPECT_EQ(train(run_dir(), kShort).exit_code, 0);  // an empty folder is fine
  expect_refused_and_kept(kShort, "--resume auto");
}

TEST_F(TrainingBadInput, ResumeWithSomethingElse) {
  make_run();
  const Arguments resumed = with(kShort, {"train.max_steps=12", "--resume", "auto"});
  expect_refused_and_kept(with(resumed, {"model.hidden_size=64"}), "another model");
  expect_refused_and_kept(with(resumed, {"model.layer_norm=post"}), "another model");
  expect_refused_and_kept(with(resumed, {"objective.next_sentence=true"}), "another model");
  expect_refused_and_kept(with(resumed, {"seed=4"}), "seed 3, this run has 4");
  expect_refused_and_kept(with(resumed, {"runtime.precision=fp64"}), "precision fp32");
  write_topic_corpus(folder_ / "other", 2);
  expect_refused_and_kept(with(resumed, {"data.path=" + (folder_ / "other").string()}),
                          "the corpus");
  const Answer answer = train(run_dir(), resumed);
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(losses(run_dir()).size(), 12u);
}

TEST_F(TrainingBadInput, ResumeFromWhatIsNoCheckpoint) {
  make_run();
  expect_refused_and_kept(with(kShort, {"--resume", "/nowhere"}), "/nowhere");
  expect_refused_and_kept(with(kShort, {"--resume", run_dir().string()}), "not a checkpoint");
}

// Going on there would cut back what the other run has written.
TEST_F(TrainingBadInput, ResumeIntoTheFolderOfAnotherRun) {
  make_run();
  ASSERT_EQ(train(folder_ / "other", kShort).exit_code, 0);
  const std::string theirs = checkpoint_of(folder_ / "other", 5).string();
  expect_refused_and_kept(with(kShort, {"--resume", theirs}), "not one of its checkpoints");
  // Into a fresh folder, or its own (a slash at the end is no matter), it may go on.
  EXPECT_EQ(train(folder_ / "fresh", with(kShort, {"--resume", theirs})).exit_code, 0);
  EXPECT_EQ(train(folder_ / "other", with(kShort, {"--resume", theirs + "/"})).exit_code, 0);
}

TEST_F(TrainingBadInput, DamagedCheckpoint) {
  make_run();
  const fs::path five = checkpoint_of(run_dir(), 5), ten = checkpoint_of(run_dir(), 10);
  const std::string original = read_file(ten / "model.safetensors");
  const auto metrics = comparable_metrics(run_dir());
  flip_bit(ten / "optimizer.safetensors", 8 * 3000 + 5);
  expect_refused_and_kept(with(kShort, {"--resume", ten.string()}),
                          (ten / "optimizer.safetensors").string());

  // auto goes on from the older one, says so, and makes the newer one anew.
  Answer answer = train(run_dir(), with(kShort, {"--resume", "auto"}));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("warning: " + (ten / "optimizer.safetensors").string()),
            std::string::npos)
      << answer.output;
  EXPECT_NE(answer.output.find("resumed at step 5"), std::string::npos) << answer.output;
  EXPECT_TRUE(read_file(ten / "model.safetensors") == original);
  EXPECT_EQ(comparable_metrics(run_dir()), metrics);
  // What was damaged can still be looked at.
  EXPECT_TRUE(fs::exists(ten.string() + ".set_aside"));

  // Truncated, and a file missing.
  fs::resize_file(ten / "model.safetensors", original.size() / 2);
  expect_refused_and_kept(with(kShort, {"--resume", ten.string()}), "model.safetensors");
  fs::remove(ten / "model.safetensors");
  expect_refused_and_kept(with(kShort, {"--resume", ten.string()}), "model.safetensors");

  // None is whole: not a fresh start over what might be saved.
  fs::remove(five / "checksums.json");
  const auto before = contents(run_dir());
  answer = train(run_dir(), with(kShort, {"--resume", "auto"}));
  EXPECT_EQ(answer.exit_code, 2) << answer.output;
  EXPECT_NE(answer.output.find("error: "), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("all 2 checkpoints are damaged"), std::string::npos)
      << answer.output;
  EXPECT_TRUE(contents(run_dir()) == before);
}

// With one checkpoint kept, a damaged newer one must not push out the good ones.
TEST_F(TrainingBadInput, DamagedCheckpointIsNotTheOneKept) {
  make_run();
  const fs::path ten = checkpoint_of(run_dir(), 10);
  flip_bit(ten / "model.safetensors", 8 * 3000);
  const Arguments more = with(kShort, {"checkpoint.every_steps=2", "checkpoint.keep=1",
                                       "train.max_steps=9", "--resume", "auto"});
  const Answer answer = train(run_dir(), more);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_TRUE(fs::exists(checkpoint_of(run_dir(), 9)));
  EXPECT_FALSE(fs::exists(checkpoint_of(run_dir(), 8)));
  EXPECT_FALSE(fs::exists(ten));
}

}  // namespace
}  // namespace bert
