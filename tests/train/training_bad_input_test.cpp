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
  write_text(folder_ / "task.yaml", "run_dir: x\nseeds: [0]\ntask: classification\n");
  expect_refused(run(fmt::format("{} {}", BERT_TRAIN, (folder_ / "task.yaml").string())),
                 "a file with the key task is for finetune");
  expect_refused(run(fmt::format("{} run_dir=x", BERT_TRAIN)), "which configuration?");
  expect_refused_untouched({"--resum"}, "--resum");
  expect_refused_untouched({"train"}, "key.path=value");
}

// Whatever can be asked of the defaults is answered without a file.
TEST_F(TrainingBadInput, PrintConfigNeedsNoConfiguration) {
  const Answer defaults = run(fmt::format("{} --print-config", BERT_TRAIN));
  EXPECT_EQ(defaults.exit_code, 0) << defaults.output;
  EXPECT_NE(defaults.output.find("  batch_size: 256\n"), std::string::npos) << defaults.output;
  const Answer changed =
      run(fmt::format("{} train.batch_size=77 model.preset=bert_mini --print-config", BERT_TRAIN));
  EXPECT_EQ(changed.exit_code, 0) << changed.output;
  EXPECT_NE(changed.output.find("  batch_size: 77\n"), std::string::npos) << changed.output;
  EXPECT_NE(changed.output.find("  hidden_size: 256\n"), std::string::npos) << changed.output;
  expect_refused(run(fmt::format("{} train.bach_size=77 --print-config", BERT_TRAIN)),
                 "did you mean train.batch_size?");
}

TEST_F(TrainingBadInput, Keys) {
  expect_refused_untouched({"train.batchsize=4"}, "did you mean train.batch_size?");
  expect_refused_untouched({"optimiser.epsilon=1e-6"}, "optimizer.epsilon");
  expect_refused_untouched({"train.batch_size=many"}, "train.batch_size");
  expect_refused_untouched({"train.max_steps=0"}, "train.max_steps");
  expect_refused_untouched({"model.hidden_dropout_prob=1.5"}, "model.hidden_dropout_prob");
  expect_refused_untouched({"schedule.warmup_steps=50"}, "schedule.warmup_steps");
  expect_refused_untouched({"runtime.precision=tf32"},
                           "error: argument runtime.precision=tf32: tf32 needs a GPU");
}

TEST_F(TrainingBadInput, WhatDoesNotFit) {
  expect_refused_untouched({"train.sequence_length=33"}, "max_position_embeddings");
  expect_refused_untouched({"train.phases=[{from: 0.5, sequence_length: 64}]"},
                           "max_position_embeddings");
  expect_refused_untouched({"model.vocab_size=100"}, "100 is less than the 197 entries");
  expect_refused_untouched({"model.num_attention_heads=5"}, "num_attention_heads");
  expect_refused_untouched({"train.micro_batch_tokens=16"}, "train.micro_batch_tokens");
}

TEST_F(TrainingBadInput, ABatchLargerThanTheCorpus) {
  expect_refused_untouched({"train.phases=[{from: 0.5, batch_size: 100000}]"},
                           "error: argument train.phases=[{from: 0.5, batch_size: 100000}]: "
                           "train.phases[0].batch_size: a batch of 100000 sequences");
  expect_refused_untouched(
      {"train.batch_size=100000"},
      "error: argument train.batch_size=100000: a batch of 100000 sequences is more than the "
      "corpus's training split has: ");
}

TEST_F(TrainingBadInput, UnknownOptionsNameWhatMayBeMeant) {
  expect_refused_untouched({"--dry-rnu"}, "unknown option --dry-rnu; did you mean --dry-run?");
  expect_refused_untouched({"--threads", "1"},
                           "unknown option --threads; keys of the configuration are given as "
                           "KEY=VALUE; did you mean data.threads or runtime.threads?");
  expect_refused_untouched({"--batch-size=8"}, "did you mean train.batch_size?");
  expect_refused_untouched({"--xylophone"}, "unknown option --xylophone (see train --help)");
}

// The plan is printed, and nothing is changed, not even the time of the folder.
TEST_F(TrainingBadInput, DryRun) {
  const auto before = fs::last_write_time(folder_.path());
  const Answer text = train(run_dir(), with(kShort, {"--dry-run"}));
  EXPECT_EQ(text.exit_code, 0) << text.output;
  for (const char* part : {"parameters ", "gradients ", "moments ", "activations ", "batch ",
                           "workspace", "at most 2048 tokens a step, about ", "checkpoints ",
                           "every 5 steps, the newest 3 and the best kept", "10 steps into ",
                           " tokens, ", " epochs"}) {
    EXPECT_NE(text.output.find(part), std::string::npos) << text.output << "lacks " << part;
  }
  const Answer json = train(run_dir(), with(kShort, {"--dry-run", "--json"}));
  EXPECT_EQ(json.exit_code, 0) << json.output;
  const auto plan = nlohmann::json::parse(json.output);
  EXPECT_EQ(plan.at("phases").at(0).at("step_tokens_at_most"), 2048);
  EXPECT_EQ(plan.at("phases").at(0).at("micro_batch_tokens"), 2048);
  EXPECT_FALSE(fs::exists(run_dir()));
  EXPECT_EQ(fs::last_write_time(folder_.path()), before);
  expect_refused_untouched({"--json"}, "--dry-run");
  // Where there is nothing to go on from, it is said.
  const std::string afresh = "no checkpoint there: starting afresh";
  EXPECT_EQ(text.output.find(afresh), std::string::npos) << text.output;
  const Answer resumed = train(run_dir(), with(kShort, {"--dry-run", "--resume", "auto"}));
  EXPECT_NE(resumed.output.find(afresh), std::string::npos) << resumed.output;

  // The mean is that of the run's batches, and a checkpoint is as large as was said.
  ASSERT_EQ(
      train(run_dir(), with(kShort, {"--dump-batches", (folder_ / "batches").string()})).exit_code,
      0);
  double tokens = 0;
  const std::string batches = read_file(folder_ / "batches");
  for (std::size_t at = 0; (at = batches.find("\"input_ids\":", at)) != std::string::npos; ++at) {
    tokens += 1 + static_cast<double>(std::count(
                      batches.begin() + static_cast<std::ptrdiff_t>(at),
                      batches.begin() + static_cast<std::ptrdiff_t>(batches.find(']', at)), ','));
  }
  EXPECT_NEAR(tokens / plan.at("tokens").get<double>(), 1.0, 0.05);
  std::uintmax_t bytes = 0;
  for (const char* name : {"model.safetensors", "optimizer.safetensors"}) {
    bytes += fs::file_size(checkpoint_of(run_dir(), 10) / name);
  }
  const auto planned = plan.at("checkpoint").at("bytes").get<double>();
  EXPECT_GE(static_cast<double>(bytes), planned);
  EXPECT_LT(static_cast<double>(bytes), planned + 50000);  // headers
}

// The address space is limited, which is one of the limits that are looked at.
TEST_F(TrainingBadInput, TooLittleMemory) {
  const Arguments model{"model.hidden_size=256", "model.num_hidden_layers=8", "--dry-run",
                        "--json"};
  const std::size_t plenty = std::size_t{8} << 30;
  const auto limited = [&](std::size_t bytes, const Arguments& more) {
    return run(fmt::format("ulimit -v {}; {}", bytes / 1024, command(run_dir(), more)));
  };
  const Answer answer = limited(plenty, model);
  if (answer.exit_code != 0) GTEST_SKIP() << "it does not run with 8 GB of address space";
  const auto plan = nlohmann::json::parse(answer.output).at("memory");
  const std::size_t total = plan.at("total"), snapshot = plan.at("checkpoint_snapshot_on_host");
  const std::size_t taken_before =
      plenty - plan.at("free_for_a_rank").get<std::size_t>() - snapshot;

  const Arguments start{"model.hidden_size=256", "model.num_hidden_layers=8"};
  expect_refused(limited(taken_before + 2 * snapshot, start), "B are needed for micro-batches of");
  EXPECT_FALSE(fs::exists(run_dir()));

  // Half of the activations: smaller micro-batches, which the run remembers when it goes on with
  // plenty, so that it goes on with the same bits.
  const std::size_t activations = plan.at("activations");
  const std::size_t room = taken_before + snapshot + (total - activations / 2) * 10 / 9;
  const Arguments more = with(start, {"train.max_steps=4", "checkpoint.every_steps=2",
                                      "schedule.warmup_steps=2", "evaluation.max_batches=1"});
  const Answer small = limited(room, more);
  ASSERT_EQ(small.exit_code, 0) << small.output;
  const auto chosen = [&](std::int64_t step) -> std::int64_t {
    return nlohmann::json::parse(read_file(checkpoint_of(run_dir(), step) / "trainer_state.json"))
        .at("auto_micro_batch_tokens");
  };
  EXPECT_LT(chosen(4), 2048);
  EXPECT_GE(chosen(4), 768);
  const std::string weights = read_file(checkpoint_of(run_dir(), 4) / "model.safetensors");
  const Answer resumed =
      train(run_dir(), with(more, {"--resume", checkpoint_of(run_dir(), 2).string()}));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.output;
  EXPECT_LT(chosen(4), 2048);
  EXPECT_TRUE(read_file(checkpoint_of(run_dir(), 4) / "model.safetensors") == weights);
  // Its micro-batches are what makes those bits.
  const Answer large = train(folder_ / "large", more);
  ASSERT_EQ(large.exit_code, 0) << large.output;
  EXPECT_FALSE(read_file(checkpoint_of(folder_ / "large", 4) / "model.safetensors") == weights);
}

// On disks of their own, mounted where only the command sees them.
TEST_F(TrainingBadInput, DisksThatAreFullOrCannotBeWrittenTo) {
  fs::create_directories(folder_ / "disk");
  const auto on_disk = [&](const std::string& options, const Arguments& more) {
    return run(
        fmt::format("unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o {} none "
                    "{} && exec \"$@\"' sh {}",
                    options, (folder_ / "disk").string(), command(folder_ / "disk" / "run", more)));
  };
  if (on_disk("size=64m", with(kShort, {"--dry-run"})).exit_code != 0) {
    GTEST_SKIP() << "disks cannot be mounted here";
  }
  // Two checkpoints of 300 kB.
  expect_refused(on_disk("size=400k", kShort), "up to 2 checkpoints of ");
  expect_refused(on_disk("size=400k", with(kShort, {"--dry-run"})), " MB are free on the disk of ");
  EXPECT_EQ(on_disk("size=400k", with(kShort, {"checkpoint.every_steps=0", "--dry-run"})).exit_code,
            0);
  expect_refused(on_disk("size=64m,ro", kShort), "Read-only file system");
}

TEST_F(TrainingBadInput, MissingFiles) {
  expect_refused_untouched({"data.path=/nowhere"}, "error: argument data.path=/nowhere: ");
  expect_refused_untouched({"tokenizer.path=/nowhere"},
                           "error: argument tokenizer.path=/nowhere: ");
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
  fs::create_symlink(folder_ / "nothing", folder_ / "link");
  for (const char* run : {"link", "link/run"}) {
    expect_refused(train(folder_ / run, {"--dry-run"}), "is a symbolic link to nothing");
  }

  fs::create_directories(run_dir());
  write_text(run_dir() / "letters.txt", "dear");
  expect_refused_and_kept({}, "--resume auto");
  fs::remove(run_dir() / "letters.txt");
  EXPECT_EQ(train(run_dir(), kShort).exit_code, 0);  // an empty folder is fine
  expect_refused_and_kept(kShort, "--resume auto");
  // What a run writes to must be a folder.
  write_text(run_dir() / "tensorboard", "dear");
  expect_refused_and_kept(with(kShort, {"--resume", "auto"}), "tensorboard is not a folder");
}

TEST_F(TrainingBadInput, ResumeWithSomethingElse) {
  make_run();
  const Arguments resumed = with(kShort, {"train.max_steps=12", "--resume", "auto"});
  write_topic_corpus(folder_ / "other", 2);
  const std::string corpus = "data.path=" + (folder_ / "other").string();
  // The key, where it stands, and both values.
  const std::string from = checkpoint_of(run_dir(), 10).string();
  const std::string model = from + " holds another model than the configuration describes: ";
  const std::string with_ours = "; resume with the configuration the run was started with (" +
                                (run_dir() / "config.yaml").string() + ")";
  for (const auto& [setting, message] :
       {std::pair<std::string, std::string>{"model.hidden_size=64",
                                            model + "hidden_size is 32 there, 64 here"},
        {"model.layer_norm=post", model + "layer_norm is pre there, post here"},
        {"objective.next_sentence=true", model + "next_sentence is false there, true here"},
        {"seed=4", "argument seed=4: " + from + " was trained with 3, this run has 4"},
        {"runtime.precision=fp64", "argument runtime.precision=fp64: " + from +
                                       " was trained with fp32, this run has fp64"}}) {
    expect_refused_and_kept(with(resumed, {setting}), message + with_ours);
  }
  expect_refused_and_kept(
      with(resumed, {corpus}),
      "argument " + corpus + ": " + from + " was trained with the corpus of fingerprint ");
  const Answer answer = train(run_dir(), resumed);
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(losses(run_dir()).size(), 12u);
}

TEST_F(TrainingBadInput, ResumeFromWhatIsNoCheckpoint) {
  make_run();
  expect_refused_and_kept(with(kShort, {"--resume", "/nowhere"}),
                          "--resume: /nowhere is no folder");
  expect_refused_and_kept(with(kShort, {"--resume", run_dir().string()}),
                          "is the folder of a run; its models are in");
  expect_refused_and_kept(with(kShort, {"--resume", folder_.path().string()}),
                          "is a folder of runs (run)");
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
  EXPECT_NE(answer.output.find("no checkpoint there is whole"), std::string::npos) << answer.output;
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
