// What a training run does: it learns, survives bad gradients and full disks, changes sizes on the
// way, starts from other models.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "model/weights/safetensors.h"
#include "tests/train/changed_models.h"
#include "tests/train/training_fixture.h"
#include "train/checkpoint/checkpoint.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

using PretrainerTest = TrainingTest;

std::string continued(const fs::path& folder, const fs::path& run_dir, const fs::path& from,
                      const std::string& more) {
  const TrainingWorld& world = TrainingWorld::get();
  return fmt::format(
      "{} {} run_dir={} data.path={} tokenizer.path={} model.init_from={} {}", BERT_TRAIN,
      config_without_model(folder, "{hidden_dropout_prob: 0, attention_probs_dropout_prob: 0}"),
      run_dir.string(), world.corpus().string(), world.tokenizer().string(), from.string(), more);
}

// The samples of a file of --dump-batches, masks undone, and what each step was made of.
struct DumpedSteps {
  struct Step {
    std::int64_t sequences = 0, longest = 0, micro_batches = 0;
    bool numbered = true;  // sequences are numbered within the step, whatever the micro-batch
  };
  std::vector<Step> steps;
  std::vector<std::pair<std::size_t, std::vector<std::int32_t>>> samples;  // step, tokens

  explicit DumpedSteps(const fs::path& path) {
    const std::string text = read_file(path);
    for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos;
         begin = end + 1) {
      add(json::parse(text.substr(begin, end - begin)));
    }
  }
  std::vector<std::vector<std::int32_t>> samples_before(std::size_t step) const {
    std::vector<std::vector<std::int32_t>> list;
    for (const auto& [of, tokens] : samples) {
      if (of < step) list.push_back(tokens);
    }
    return list;
  }

 private:
  void add(const json& batch) {
    const std::size_t index = batch.at("step");
    if (steps.size() <= index) steps.resize(index + 1);
    Step& step = steps[index];
    ++step.micro_batches;
    std::vector<std::int32_t> ids = batch.at("input_ids");
    const std::vector<std::size_t> rows = batch.at("masked_rows");
    const std::vector<std::int32_t> targets = batch.at("masked_targets");
    for (std::size_t i = 0; i < rows.size(); ++i) ids[rows[i]] = targets[i];
    const std::vector<std::int64_t> cu = batch.at("cu_seqlens");
    const std::vector<std::int64_t> numbers = batch.at("sequence_index");
    for (std::size_t b = 0; b < numbers.size(); ++b) {
      step.numbered = step.numbered && numbers[b] == step.sequences++;
      step.longest = std::max(step.longest, cu[b + 1] - cu[b]);
      samples.emplace_back(index,
                           std::vector<std::int32_t>(ids.begin() + cu[b], ids.begin() + cu[b + 1]));
    }
  }
};

TEST_F(PretrainerTest, LearnsALanguage) {
  const Answer answer =
      train(folder_ / "run",
            {"train.max_steps=400", "evaluation.every_steps=0", "evaluation.max_batches=0",
             "model.hidden_dropout_prob=0", "model.attention_probs_dropout_prob=0",
             "checkpoint.every_steps=0", "optimizer.learning_rate=1e-2"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const json last = read_metrics(folder_ / "run").back();
  const double loss = last.at("val_loss");
  const double words = std::log(TrainingWorld::kTopics * TrainingWorld::kWordsPerTopic);
  std::printf("validation loss %.3f, of word frequencies alone %.3f\n", loss, words);
  EXPECT_LT(loss, 1.6);  // ln 4 = 1.39: it knows the topic of every sample
  EXPECT_NEAR(last.at("val_perplexity"), std::exp(loss), 1e-6 * std::exp(loss));
  EXPECT_GT(static_cast<double>(last.at("val_accuracy")), 0.2);  // 1 in 4, not 1 in 192
  // What it was at first: nothing but chance.
  EXPECT_NEAR(losses(folder_ / "run").front(), std::log(TrainingWorld::kVocabulary), 0.3);
}

TEST_F(PretrainerTest, LearnsNextSentences) {
  // Sentences of one document share its topic, random ones seldom do.
  const Answer answer =
      train(folder_ / "run", {"train.max_steps=300", "objective.next_sentence=true",
                              "evaluation.every_steps=0", "evaluation.max_batches=0",
                              "model.hidden_dropout_prob=0", "model.attention_probs_dropout_prob=0",
                              "checkpoint.every_steps=0", "optimizer.learning_rate=1e-2"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const json last = read_metrics(folder_ / "run").back();
  EXPECT_GT(static_cast<double>(last.at("val_nsp_accuracy")), 0.8);
}

TEST_F(PretrainerTest, SkipsUpdatesOfBadGradients) {
  const fs::path first = folder_ / "first", run_dir = folder_ / "run";
  ASSERT_EQ(train(first, {"train.max_steps=10"}).exit_code, 0);
  copy_model(checkpoint_of(first, 10), folder_ / "poisoned",
             [](const std::string& name, std::vector<float>& values) {
               if (name == "bert.encoder.layer.0.intermediate.dense.bias") {
                 values[3] = std::numeric_limits<float>::quiet_NaN();
               }
               return true;
             });
  const Answer answer = run(continued(folder_.path(), run_dir, folder_ / "poisoned",
                                      "train.max_steps=4 schedule.warmup_steps=0"));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("warning: step 1: refused"), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("the parameter bert.encoder.layer.0.intermediate.dense.bias itself "
                               "is not finite"),
            std::string::npos)
      << answer.output;
  const fs::path last = checkpoint_of(run_dir, 4);
  const TrainerState state =
      TrainerState::parse(read_file(last / "trainer_state.json"), "trainer_state.json");
  EXPECT_EQ(state.skipped, 4);
  // Not one weight moved, and the moments stayed zero.
  const SafetensorsFile before(folder_ / "poisoned" / "model.safetensors"),
      after(last / "model.safetensors"), optimizer(last / "optimizer.safetensors");
  for (const StoredTensor& tensor : before.tensors()) {
    const StoredTensor& same = after.at(tensor.name);
    ASSERT_EQ(same.bytes, tensor.bytes);
    EXPECT_EQ(std::memcmp(same.data, tensor.data, tensor.bytes), 0) << tensor.name;
  }
  for (const StoredTensor& tensor : optimizer.tensors()) {
    for (const float value : values_of(optimizer, tensor)) ASSERT_EQ(value, 0.0f) << tensor.name;
  }
}

// Each phase goes on with the samples where the one before stopped: all of an epoch, none twice.
TEST_F(PretrainerTest, PhasesChangeSizes) {
  const fs::path dump = folder_ / "batches.jsonl", run_dir = folder_ / "run";
  const Answer answer =
      train(run_dir, {"train.max_steps=12", "train.batch_size=8", "train.sequence_length=16",
                      "schedule.warmup_steps=0",
                      "train.phases=[{from: 0.25, batch_size: 16}, "
                      "{from: 0.75, sequence_length: 32, micro_batch_tokens: 64}]",
                      "--dump-batches", dump.string()});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const DumpedSteps found(dump);
  ASSERT_EQ(found.steps.size(), 12u);
  for (std::size_t step = 0; step < 12; ++step) {
    const DumpedSteps::Step& made = found.steps[step];
    EXPECT_EQ(made.sequences, step < 3 ? 8 : 16) << "step " << step;
    EXPECT_LE(made.longest, step < 9 ? 16 : 32) << "step " << step;
    EXPECT_EQ(made.micro_batches > 1, step >= 9) << "step " << step;
    EXPECT_TRUE(made.numbered) << "step " << step;
  }
  EXPECT_GT(found.steps[10].longest, 16);

  // The same samples in the same order as in a run whose batch never changes.
  const fs::path plain = folder_ / "plain.jsonl";
  ASSERT_EQ(train(folder_ / "plain",
                  {"train.max_steps=15", "train.batch_size=8", "train.sequence_length=16",
                   "schedule.warmup_steps=0", "--dump-batches", plain.string()})
                .exit_code,
            0);
  const auto expected = DumpedSteps(plain).samples_before(15);
  EXPECT_EQ(expected.size(), 3u * 8 + 6u * 16);
  EXPECT_TRUE(found.samples_before(9) == expected);
}

// What is followed from evaluation to evaluation is the same thing: through a change of sizes, and
// with micro-batches that hold one sequence.
TEST_F(PretrainerTest, FollowsTheSameSamplesAndTheNormsOfLayers) {
  const fs::path run_dir = folder_ / "run";
  const Answer answer = train(
      run_dir, {"train.max_steps=12", "train.batch_size=8", "train.sequence_length=16",
                "train.micro_batch_tokens=16", "evaluation.every_steps=3", "evaluation.samples=5",
                "train.phases=[{from: 0.5, sequence_length: 32, micro_batch_tokens: 32}]"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const std::vector<json> predictions = read_lines(run_dir / "predictions.jsonl");
  ASSERT_EQ(predictions.size(), 4u * 5);
  std::vector<std::string> masked;
  bool learned = false;
  for (std::size_t i = 0; i < predictions.size(); ++i) {
    EXPECT_EQ(predictions[i].at("step"), 3 * (1 + i / 5));
    EXPECT_EQ(predictions[i].at("sample"), i % 5);
    const json& first = predictions[i % 5];
    EXPECT_EQ(predictions[i].at("masked"), first.at("masked"));
    EXPECT_EQ(predictions[i].at("text"), first.at("text"));
    learned = learned || predictions[i].at("predicted") != first.at("predicted");
    masked.push_back(first.at("masked"));
  }
  EXPECT_TRUE(learned);
  EXPECT_NE(masked[0], masked[1]);
  for (const std::size_t i : {0, 5, 10, 15}) {
    const std::string line = "  e.g. " + predictions[i].at("predicted").get<std::string>() + "\n";
    EXPECT_NE(read_file(run_dir / "log.txt").find(line), std::string::npos) << line;
    EXPECT_NE(answer.output.find(line), std::string::npos) << line;
  }

  std::map<std::int64_t, double> grad_norm, from_layers;
  for (const json& record : read_metrics(run_dir)) {
    if (record.contains("grad_norm")) grad_norm[record.at("step")] = record.at("grad_norm");
  }
  for (const json& record : read_lines(run_dir / "gradient_norms.jsonl")) {
    EXPECT_TRUE(record.contains("layer_01"));
    double sum = 0.0;
    for (const auto& [key, value] : record.items()) {
      if (key != "step") sum += value.get<double>() * value.get<double>();
    }
    from_layers[record.at("step")] = std::sqrt(sum);
  }
  ASSERT_EQ(from_layers.size(), 4u);
  for (const auto& [step, norm] : from_layers) {
    ASSERT_TRUE(grad_norm.count(step));
    EXPECT_NEAR(norm, grad_norm[step], 1e-6 * norm) << "step " << step;
  }

  const std::vector<json> events = read_lines(run_dir / "events.jsonl");
  ASSERT_GE(events.size(), 2u);
  EXPECT_EQ(events[0].at("kind"), "start");
  EXPECT_EQ(events[0].at("step"), 0);
  EXPECT_EQ(events[1].at("kind"), "best");  // the first evaluation
  EXPECT_EQ(events[1].at("step"), 3);
}

TEST_F(PretrainerTest, InitFromACheckpoint) {
  const fs::path first = folder_ / "first", second = folder_ / "second";
  const Arguments settings{"train.max_steps=200", "checkpoint.every_steps=0",
                           "evaluation.max_batches=0", "evaluation.every_steps=0",
                           "optimizer.learning_rate=1e-2"};
  ASSERT_EQ(train(first, settings).exit_code, 0);
  const fs::path source = checkpoint_of(first, 200);
  // The first update changes nothing: warm-up begins at a rate of 0.
  const Answer answer =
      run(continued(folder_.path(), second, source,
                    "train.max_steps=1 schedule.warmup_steps=1 evaluation.max_batches=0"));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_TRUE(read_file(checkpoint_of(second, 1) / "model.safetensors") ==
              read_file(source / "model.safetensors"));
  // It begins with what was learned, not with chance.
  const double before = read_metrics(first).back().at("val_loss");
  const double fresh = losses(first).front();
  EXPECT_LT(losses(second).front(), (before + fresh) / 2);
  EXPECT_NEAR(read_metrics(second).back().at("val_loss"), before, 1e-6 * before);

  // It brings its own sizes.
  expect_refused(train(folder_ / "third", {"model.init_from=" + source.string()}), "model.preset");
  expect_refused(run(continued(folder_.path(), folder_ / "third", source, "model.hidden_size=64")),
                 "model.hidden_size");
  EXPECT_FALSE(fs::exists(folder_ / "third"));
}

// As from_pretrained("...").save_pretrained() of an encoder alone leaves it.
TEST_F(PretrainerTest, InitFromAnEncoder) {
  const fs::path first = folder_ / "first", second = folder_ / "second";
  ASSERT_EQ(train(first, {"train.max_steps=10"}).exit_code, 0);
  copy_model(checkpoint_of(first, 10), folder_ / "encoder",
             [](std::string& name, std::vector<float>&) {
               if (name.starts_with("cls.")) return false;
               name = name.substr(std::strlen("bert."));
               return true;
             });
  const Answer answer = run(continued(folder_.path(), second, folder_ / "encoder",
                                      "train.max_steps=1 schedule.warmup_steps=1 seed=9"));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  const SafetensorsFile from(checkpoint_of(first, 10) / "model.safetensors"),
      to(checkpoint_of(second, 1) / "model.safetensors");
  int same = 0, other = 0;
  for (const StoredTensor& tensor : from.tensors()) {
    const bool equal = std::memcmp(to.at(tensor.name).data, tensor.data, tensor.bytes) == 0;
    EXPECT_TRUE(equal || tensor.name.starts_with("cls.")) << tensor.name;
    ++(equal ? same : other);
  }
  EXPECT_GT(same, 30);
  EXPECT_GT(other, 0);
}

TEST_F(PretrainerTest, StopsWhenNothingGetsBetter) {
  const Answer answer =
      train(folder_ / "run", {"train.max_steps=500", "evaluation.every_steps=5",
                              "evaluation.patience=3", "optimizer.learning_rate=1e-30"});
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("stopping: no better validation loss"), std::string::npos)
      << answer.output;
  // The first evaluation is the best one, the third after it ends the run, which is saved.
  EXPECT_EQ(read_metrics(folder_ / "run").back().at("step"), 20);
  EXPECT_TRUE(fs::exists(checkpoint_of(folder_ / "run", 20)));
  std::vector<std::string> kinds;
  for (const json& event : read_lines(folder_ / "run" / "events.jsonl")) {
    // Checkpoints are written beside the training, each when it is done.
    if (event.at("kind") != "checkpoint") kinds.push_back(event.at("kind"));
  }
  EXPECT_EQ(kinds, std::vector<std::string>({"start", "best", "stop"}));
  // Resumed, it stays stopped.
  const Answer again = train(
      folder_ / "run", {"train.max_steps=500", "evaluation.every_steps=5", "evaluation.patience=3",
                        "optimizer.learning_rate=1e-30", "--resume", "auto"});
  EXPECT_NE(again.output.find("stopped early at step 20"), std::string::npos) << again.output;
  EXPECT_EQ(read_metrics(folder_ / "run").back().at("step"), 20);
}

TEST_F(PretrainerTest, KeepsTheLastCheckpoints) {
  ASSERT_EQ(train(folder_ / "run", {"train.max_steps=10", "checkpoint.every_steps=2",
                                    "checkpoint.keep=2", "logging.tensorboard=true"})
                .exit_code,
            0);
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder_ / "run" / "checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names, (std::vector<std::string>{"best", "latest", "step_00000008", "step_00000010"}));
  EXPECT_FALSE(fs::is_empty(folder_ / "run" / "tensorboard"));
  // config.yaml says the same again.
  const Answer again = run(
      fmt::format("{} {} --resume auto", BERT_TRAIN, (folder_ / "run" / "config.yaml").string()));
  EXPECT_EQ(again.exit_code, 0) << again.output;
  EXPECT_NE(again.output.find("nothing to do"), std::string::npos) << again.output;
}

// The disk gets full in the middle of the run: the run ends with an error, and what was saved
// before is whole.
TEST_F(PretrainerTest, AFullDiskEndsTheRun) {
  const fs::path run_dir = folder_ / "run";
  const Arguments settings{"train.max_steps=20", "checkpoint.every_steps=10"};
  ASSERT_EQ(train(folder_ / "whole", settings).exit_code, 0);
  Arguments resumed = settings;
  resumed.insert(resumed.end(), {"--resume", "auto"});
  ASSERT_EQ(train(run_dir, {"train.max_steps=20", "checkpoint.every_steps=10"}).exit_code, 0);
  fs::remove_all(checkpoint_of(run_dir, 20));
  // As on a full disk, no file may get larger than 20 KB.
  const Answer answer = run("ulimit -f 40; exec " + command(run_dir, resumed));
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_NE(answer.output.find("error: "), std::string::npos) << answer.output;
  EXPECT_NE(answer.output.find("File too large"), std::string::npos) << answer.output;
  EXPECT_FALSE(fs::exists(checkpoint_of(run_dir, 20)));
  EXPECT_FALSE(fs::exists(checkpoint_of(run_dir, 20).string() + ".tmp"));
  const Answer later = train(run_dir, resumed);
  ASSERT_EQ(later.exit_code, 0) << later.output;
  EXPECT_TRUE(contents(checkpoint_of(run_dir, 20)) ==
              contents(checkpoint_of(folder_ / "whole", 20)));
}

TEST_F(PretrainerTest, DryRunWritesNothing) {
  const auto before = contents(TrainingWorld::get().path());
  const Answer answer = train(folder_ / "run", {"--dry-run"});
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  for (const char* part : {"2 layers of 32", "vocabulary 197", "40 steps into"}) {
    EXPECT_NE(answer.output.find(part), std::string::npos) << part << " in " << answer.output;
  }
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_TRUE(contents(TrainingWorld::get().path()) == before);
  // It finds what a run would find.
  ASSERT_EQ(train(folder_ / "used", {"train.max_steps=5", "schedule.warmup_steps=2"}).exit_code, 0);
  expect_refused(train(folder_ / "used", {"--dry-run"}), "is not empty");
  const auto used = contents(folder_ / "used");
  const Answer resumed = train(folder_ / "used", {"--dry-run", "--resume", "auto"});
  EXPECT_NE(resumed.output.find("resumed at step 5"), std::string::npos) << resumed.output;
  EXPECT_TRUE(contents(folder_ / "used") == used);
  expect_refused(train(folder_ / "run", {"--dry-run", "train.sequence_length=33"}),
                 "max_position_embeddings");
}

TEST_F(PretrainerTest, PrintConfigHelpAndVersion) {
  const Answer printed = train(folder_ / "run", {"--print-config", "train.batch_size=24"});
  EXPECT_EQ(printed.exit_code, 0) << printed.output;
  write_text(folder_ / "printed.yaml", printed.output);
  // What is printed is a configuration, this one.
  const Answer again =
      run(fmt::format("{} {} --print-config", BERT_TRAIN, (folder_ / "printed.yaml").string()));
  EXPECT_EQ(again.output, printed.output);
  EXPECT_NE(printed.output.find("batch_size: 24"), std::string::npos) << printed.output;
  EXPECT_FALSE(fs::exists(folder_ / "run"));

  const Answer help = run(std::string(BERT_TRAIN) + " --help");
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_NE(help.output.find("--resume"), std::string::npos);
  const Answer version = run(std::string(BERT_TRAIN) + " --version");
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_TRUE(version.output.starts_with("bert.cu ")) << version.output;
  EXPECT_NE(version.output.find("commit"), std::string::npos) << version.output;
}

}  // namespace
}  // namespace bert
