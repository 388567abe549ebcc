// finetune, as a user runs it, on tasks with a rule that a very small model can learn; and what
// holds for all of them: resumes, ranks, freezing, rates by layer.
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>

#include "data/shards/random_streams.h"
#include "model/model_files.h"
#include "runtime/file.h"
#include "tests/train/training_fixture.h"
#include "train/checkpoint/checkpoint.h"
#include "train/step/backend.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Files of each task, in a language of words w0 ... w39, and an encoder with random weights.
class FinetunerTest : public testing::Test {
 protected:
  static constexpr std::uint32_t kWords = 40;

  void SetUp() override {
    const std::unique_ptr<Tokenizer> tokenizer = topic_tokenizer();
    BertConfig config;
    config.vocab_size = tokenizer->vocab_size();
    config.hidden_size = 32;
    config.num_hidden_layers = 2;
    config.num_attention_heads = 2;
    config.intermediate_size = 64;
    config.max_position_embeddings = 40;
    config.initializer_range = 0.1;
    Backend backend = make_backend(Precision::fp32, 1);
    BertForPretraining model(config, BertForPretraining::Heads::mlm);
    model.allocate(*backend.device, *backend.ops,
                   {.tokens = 8, .sequences = 1, .masked = 1, .max_seqlen = 8}, false);
    model.parameters().initialize(config, 3);
    fs::create_directories(folder_ / "encoder");
    save_model(folder_ / "encoder", model, tokenizer->special().pad);
    tokenizer->save(folder_ / "encoder");
    write_files();
  }

  std::vector<std::string> some_words(std::uint32_t least, std::uint32_t most) {
    std::vector<std::string> words;
    const std::uint32_t count = least + random_.next_below(most - least + 1);
    for (std::uint32_t i = 0; i < count; ++i) {
      words.push_back(fmt::format("w{}", random_.next_below(kWords)));
    }
    return words;
  }

  void write_files() {
    for (const auto& [name, count] : {std::pair("train", 400), std::pair("dev", 80)}) {
      std::string classes = "text\tlabel\n", values = "text\tscore\n", words;
      json questions{{"version", "1.1"}, {"data", json::array()}};
      for (int i = 0; i < count; ++i) {
        std::vector<std::string> text = some_words(4, 10);
        // The class: which of two words is there. The value: how often w1 is.
        const bool positive = random_.next_below(2) == 1;
        for (std::string& word : text) {
          if (word == "w1" || word == "w2") word = "w3";
        }
        text[random_.next_below(static_cast<std::uint32_t>(text.size()))] = positive ? "w1" : "w2";
        classes += fmt::format("{}\t{}\n", fmt::join(text, " "), positive ? "good" : "bad");
        values += fmt::format("{}\t{}\n", fmt::join(text, " "), positive ? 2.5 : -1.5);
        // Entities: runs of words below w8.
        bool inside = false;
        for (const std::string& word : some_words(4, 10)) {
          const bool entity = std::stoi(word.substr(1)) < 8;
          words += fmt::format("{} {}\n", word, !entity ? "O" : inside ? "I-LOW" : "B-LOW");
          inside = entity;
        }
        words += "\n";
        // The answer is the word after w0.
        std::vector<std::string> context = some_words(6, 10);
        for (std::string& word : context) {
          if (word == "w0") word = "w3";
        }
        const std::uint32_t at = random_.next_below(static_cast<std::uint32_t>(context.size()) - 1);
        context[at] = "w0";
        const std::string joined = fmt::format("{}", fmt::join(context, " "));
        questions["data"].push_back({{"title", ""},
                                     {"paragraphs",
                                      {{{"context", joined},
                                        {"qas",
                                         {{{"id", fmt::format("{}{}", name, i)},
                                           {"question", "w30"},
                                           {"answers",
                                            {{{"text", context[at + 1]},
                                              {"answer_start", joined.find("w0 ") + 3}}}}}}}}}}});
      }
      write_text(folder_ / fmt::format("classes_{}.tsv", name), classes);
      write_text(folder_ / fmt::format("values_{}.tsv", name), values);
      write_text(folder_ / fmt::format("words_{}.conll", name), words);
      write_text(folder_ / fmt::format("questions_{}.json", name), questions.dump());
    }
  }

  std::string config(const std::string& task) const {
    static const std::map<std::string, std::string> kFiles{
        {"classification", "classes_{}.tsv"},
        {"regression", "values_{}.tsv"},
        {"token_classification", "words_{}.conll"},
        {"question_answering", "questions_{}.json"}};
    const auto file = [&](const char* split) {
      return (folder_ / fmt::format(fmt::runtime(kFiles.at(task)), split)).string();
    };
    const fs::path path = folder_ / (task + ".yaml");
    write_text(
        path,
        fmt::format("task: {}\nmodel: {{init_from: {}}}\n"
                    "data: {{train: {}, validation: {}, max_length: 32{}}}\n"
                    "train: {{epochs: 4, batch_size: 16}}\n"
                    "optimizer: {{learning_rate: 2.0e-3}}\n"
                    "logging: {{every_steps: 1, tensorboard: false}}\n"
                    "runtime: {{device: cpu, threads: 1}}\n",
                    task, (folder_ / "encoder").string(), file("train"), file("dev"),
                    task == "question_answering" ? ", max_query_length: 4, doc_stride: 16" : ""));
    return path.string();
  }

  std::string command(const std::string& task, const fs::path& run_dir,
                      const std::vector<std::string>& more = {}) const {
    return fmt::format("{} {} run_dir={} {}", BERT_FINETUNE, config(task), run_dir.string(),
                       fmt::join(more, " "));
  }
  void finetune(const std::string& task, const fs::path& run_dir,
                const std::vector<std::string>& more = {}) const {
    const Answer answer = run(command(task, run_dir, more));
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
  }
  static json results(const fs::path& run_dir) {
    return json::parse(read_file(run_dir / "results.json"));
  }
  static std::vector<fs::path> checkpoints(const fs::path& run_dir) {
    return list_checkpoints(run_dir / "checkpoints");
  }
  static std::string newest_bytes(const fs::path& run_dir, const char* file = "model.safetensors") {
    return read_file(checkpoints(run_dir).front() / file);
  }
  // The tensors of two checkpoints in which they differ, by name, and the largest difference.
  static std::map<std::string, double> differences(const fs::path& a, const fs::path& b) {
    const SafetensorsFile first(a / "model.safetensors"), second(b / "model.safetensors");
    std::map<std::string, double> result;
    for (const StoredTensor& tensor : first.tensors()) {
      if (second.find(tensor.name) == nullptr) continue;
      std::vector<double> x(static_cast<std::size_t>(tensor.numel())), y(x.size());
      first.read(tensor, std::span<double>(x));
      second.read(second.at(tensor.name), std::span<double>(y));
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (x[i] != y[i]) {
          double& most = result[tensor.name];
          most = std::max(most, std::abs(x[i] - y[i]));
        }
      }
    }
    return result;
  }

  TemporaryFolder folder_;
  PhiloxStream random_{5, kOrderStream, 0};
};

TEST_F(FinetunerTest, LearnsEachTask) {
  struct Expected {
    const char *task, *metric;
    double least;
    int epochs;
  };
  for (const auto& [task, metric, least, epochs] :
       {Expected{"classification", "accuracy", 0.97, 4}, Expected{"regression", "pearson", 0.95, 4},
        Expected{"token_classification", "f1", 0.95, 24},
        Expected{"question_answering", "exact_match", 90.0, 16}}) {
    const fs::path run_dir = folder_ / (std::string("run_") + task);
    finetune(task, run_dir, {fmt::format("train.epochs={}", epochs)});
    const json result = results(run_dir);
    EXPECT_GE(result["validation"][metric]["mean"].get<double>(), least) << task << result.dump(1);
    // The best checkpoint is there, with its task, and what it said of the validation file.
    EXPECT_TRUE(fs::exists(run_dir / "checkpoints" / "best" / "task.json"));
    const std::string predictions = read_file(run_dir / "predictions_validation.jsonl");
    EXPECT_EQ(std::count(predictions.begin(), predictions.end(), '\n'), 80) << task;
  }
}

// Stopped by a signal once it trains, and again, then to the end.
TEST_F(FinetunerTest, ResumesToTheSameBytes) {
  const std::vector<std::string> more{"--resume auto", "train.epochs=20",
                                      "checkpoint.every_steps=40"};
  finetune("classification", folder_ / "whole", more);
  const fs::path run_dir = folder_ / "stopped";
  for (int stops = 1; stops <= 2; ++stops) {
    const std::string metrics = (run_dir / "metrics.jsonl").string();
    const Answer answer = run(
        fmt::format("lines=$(cat {0} 2>/dev/null | wc -l); {1} & pid=$!; "
                    "while kill -0 $pid 2>/dev/null && "
                    "[ $(cat {0} 2>/dev/null | wc -l) -le $((lines + 9)) ]; do sleep 0.01; done; "
                    "kill -TERM $pid; wait $pid",
                    metrics, command("classification", run_dir, more)));
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    ASSERT_NE(answer.output.find("stopped by SIGTERM"), std::string::npos) << answer.output;
    EXPECT_FALSE(fs::exists(run_dir / "results.json"));
    EXPECT_NE(answer.output.find(stops == 1 ? "starting afresh" : "resumed at step "),
              std::string::npos)
        << answer.output;
    // The last that is said.
    const std::size_t end = answer.output.find("\nstopped: ");
    ASSERT_NE(end, std::string::npos) << answer.output;
    EXPECT_EQ(answer.output.find('\n', end + 1), answer.output.size() - 1) << answer.output;
  }
  finetune("classification", run_dir, more);
  EXPECT_NE(read_file(run_dir / "events.jsonl").find("\"resume\""), std::string::npos);
  EXPECT_EQ(newest_bytes(run_dir), newest_bytes(folder_ / "whole"));
  EXPECT_EQ(newest_bytes(run_dir, "optimizer.safetensors"),
            newest_bytes(folder_ / "whole", "optimizer.safetensors"));
  EXPECT_EQ(results(run_dir), results(folder_ / "whole"));
  EXPECT_EQ(read_file(run_dir / "predictions_validation.jsonl"),
            read_file(folder_ / "whole" / "predictions_validation.jsonl"));
  // Once more, it has nothing left to do and says the same.
  finetune("classification", run_dir, more);
  EXPECT_EQ(results(run_dir), results(folder_ / "whole"));
  EXPECT_NE(read_file(run_dir / "log.txt").find("validation by the best checkpoint, of step "),
            std::string::npos);
}

TEST_F(FinetunerTest, GoesOnFromACheckpointOfItsOwnOrInAnotherFolder) {
  const std::vector<std::string> more{"train.epochs=3", "checkpoint.keep=9"};
  const fs::path whole = folder_ / "whole";
  finetune("classification", whole, more);
  const json expected = results(whole);
  const std::string end = newest_bytes(whole);
  const std::vector<fs::path> newest_first = list_checkpoints(whole / "checkpoints");
  ASSERT_GE(newest_first.size(), 2u);
  std::vector<std::string> resumed = more;
  resumed.push_back("--resume " + newest_first[1].string() + "/");

  // Its own: what came after is set aside, and comes again; the log has what was said of it.
  finetune("classification", whole, resumed);
  EXPECT_TRUE(fs::exists(newest_first[0].string() + ".set_aside"));
  EXPECT_NE(read_file(whole / "log.txt").find("warning: going on from step "), std::string::npos);
  EXPECT_EQ(newest_bytes(whole), end);
  EXPECT_EQ(results(whole), expected);
  // In a new folder, and in numbers of another kind.
  finetune("classification", folder_ / "new", resumed);
  EXPECT_EQ(newest_bytes(folder_ / "new"), end);
  resumed.push_back("runtime.precision=bf16");
  finetune("classification", folder_ / "coarse", resumed);
  EXPECT_NE(read_file(folder_ / "coarse" / "log.txt").find("but rounds otherwise"),
            std::string::npos);
  EXPECT_NE(newest_bytes(folder_ / "coarse"), end);

  expect_refused(run(command("classification", folder_ / "other", {"--resume nowhere"})),
                 "--resume: nowhere is no folder");
  expect_refused(
      run(command("classification", folder_ / "new", {"--resume " + newest_first[1].string()})),
      "not one of its checkpoints");
  // The last step, where the best one is not.
  expect_refused(run(command("classification", folder_ / "other",
                             {"train.epochs=3", "--resume " + newest_first[0].string()})),
                 "there is nothing to go on with");
  // The configuration that is pointed to is that of the checkpoint's run.
  expect_refused(run(command("classification", folder_ / "other",
                             {"data.max_examples=7", "--resume " + newest_first[1].string()})),
                 (whole / "config.yaml").string() + " says");
  resumed = more;
  resumed.push_back("--resume " + newest_first[1].string() + " seeds=[1,2]");
  expect_refused(run(command("classification", folder_ / "other", resumed)),
                 "a checkpoint is of one seed, and the configuration has 2");
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

TEST_F(FinetunerTest, GoesOnWithTheSameModelOnly) {
  finetune("classification", folder_ / "run", {"train.epochs=1"});
  const fs::path checkpoint = checkpoints(folder_ / "run").front();
  const std::string resume = fmt::format("--resume {}", checkpoint.string());
  // Whatever of the encoder has changed: what shapes do not show as well.
  const std::string config = read_file(folder_ / "encoder" / "config.json");
  for (const auto& [key, value] :
       {std::pair("num_attention_heads", json(4)), std::pair("layer_norm_eps", json(1e-5)),
        std::pair("hidden_act", json("gelu"))}) {
    json changed = json::parse(config);
    changed[key] = value;
    write_text(folder_ / "encoder" / "config.json", changed.dump());
    expect_refused(
        run(command("classification", folder_ / "other", {"train.epochs=2", resume})),
        fmt::format("holds another model than the configuration describes: {} is ", key));
  }
  write_text(folder_ / "encoder" / "config.json", config);
  // Dropout may change, and where the first weights are from does not matter any more.
  fs::copy(folder_ / "encoder", folder_ / "same", fs::copy_options::recursive);
  const Answer answer = run(command("classification", folder_ / "new",
                                    {"train.epochs=2", "model.hidden_dropout_prob=0.2",
                                     "model.init_from=" + (folder_ / "same").string(), resume}));
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("it goes on with the weights of the checkpoint"), std::string::npos)
      << answer.output;

  // A checkpoint of pre-training, whatever else is unlike this run.
  json sums = json::parse(read_file(checkpoint / "checksums.json"));
  ASSERT_EQ(sums.erase("task.json"), 1u);
  write_text(checkpoint / "checksums.json", sums.dump());
  fs::remove(checkpoint / "task.json");
  expect_refused(run(command("classification", folder_ / "other", {"seeds=[5]", resume})),
                 "is of pre-training; begin with it by model.init_from");
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

TEST_F(FinetunerTest, KeepsWhatAutoChoseAndNothingElse) {
  const auto chosen = [&](const fs::path& run_dir) {
    return json::parse(newest_bytes(run_dir, "trainer_state.json")).at("auto_micro_batch_tokens");
  };
  finetune("classification", folder_ / "auto", {"train.epochs=1"});
  EXPECT_GT(chosen(folder_ / "auto"), 16);
  finetune("classification", folder_ / "given", {"train.epochs=1", "train.micro_batch_tokens=64"});
  EXPECT_EQ(chosen(folder_ / "given"), 0);
}

// A signal that comes when it is too late to stop one seed stops before the next, and says so.
// Neither finds what the other has done.
TEST_F(FinetunerTest, OneSeedAndSeveralDoNotShareAFolder) {
  const std::vector<std::string> one{"train.epochs=1", "--resume auto"};
  const std::vector<std::string> two{"train.epochs=1", "'seeds=[0, 1]'", "--resume auto"};
  finetune("classification", folder_ / "one", one);
  finetune("classification", folder_ / "two", two);
  finetune("classification", folder_ / "two", two);
  expect_refused(run(command("classification", folder_ / "one", two)), "is of one seed");
  expect_refused(run(command("classification", folder_ / "two", one)), "is of several seeds");
}

TEST_F(FinetunerTest, StopsBetweenSeeds) {
  std::string many = "text\tlabel\n";
  for (int i = 0; i < 30000; ++i) {
    many += fmt::format("{} {}\t{}\n", fmt::join(some_words(8, 8), " "), i % 2 == 0 ? "w1" : "w2",
                        i % 2 == 0 ? "good" : "bad");
  }
  write_text(folder_ / "many.tsv", many);
  // One step, of which metrics.jsonl tells before the long evaluation.
  const std::vector<std::string> more{
      "'seeds=[0, 1]'", "train.epochs=1", "train.batch_size=400",
      fmt::format("data.validation={}", (folder_ / "many.tsv").string()), "--resume auto"};
  const fs::path run_dir = folder_ / "seeds";
  const Answer answer = run(fmt::format(
      "{} & pid=$!; while kill -0 $pid 2>/dev/null && "
      "! grep -q learning_rate {}/seed_0/metrics.jsonl 2>/dev/null; do sleep 0.01; done; "
      "kill -TERM $pid; wait $pid",
      command("classification", run_dir, more), run_dir.string()));
  EXPECT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("stopped by SIGTERM; --resume auto goes on with the other seeds\n"),
            std::string::npos)
      << answer.output;
  EXPECT_TRUE(fs::exists(run_dir / "seed_0" / "predictions_validation.jsonl"));
  EXPECT_FALSE(fs::exists(run_dir / "seed_1"));
  EXPECT_FALSE(fs::exists(run_dir / "results.json"));
  finetune("classification", run_dir, more);
  EXPECT_EQ(results(run_dir)["seeds"].size(), 2u);
}

TEST_F(FinetunerTest, RanksAgreeToTheBitWhenReproducible) {
  if (!runs_under_mpirun(BERT_FINETUNE)) GTEST_SKIP() << "MPI is not installed";
  for (const char* task : {"token_classification", "question_answering"}) {
    const std::vector<std::string> more{"train.reproducible=true", "train.reproducible_sequences=4",
                                        "train.epochs=1"};
    finetune(task, folder_ / (std::string("one_") + task), more);
    const fs::path run_dir = folder_ / (std::string("two_") + task);
    const Answer answer = run(mpirun(2) + command(task, run_dir, more));
    ASSERT_EQ(answer.exit_code, 0) << answer.output;
    EXPECT_NE(answer.output.find("ranks: 2 over MPI"), std::string::npos) << answer.output;
    EXPECT_EQ(newest_bytes(run_dir), newest_bytes(folder_ / (std::string("one_") + task)));
    EXPECT_EQ(results(run_dir), results(folder_ / (std::string("one_") + task)));
  }
}

TEST_F(FinetunerTest, ProfilePrintsATableAndChangesNothing) {
  finetune("question_answering", folder_ / "plain", {"train.epochs=1"});
  const fs::path run_dir = folder_ / "profiled";
  const Answer answer =
      run(command("question_answering", run_dir, {"train.epochs=1", "runtime.profile=true"}));
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_EQ(newest_bytes(run_dir), newest_bytes(folder_ / "plain"));
  // 400 examples in batches of 16.
  EXPECT_NE(answer.output.find("profile of 24 steps, without the first"), std::string::npos)
      << answer.output;
  for (const char* line : {"\nlinear_backward ", "\nspan_cross_entropy ", "\noutside the ops "}) {
    EXPECT_NE(answer.output.find(line), std::string::npos) << answer.output;
  }
}

TEST_F(FinetunerTest, FrozenPartsStayAsTheyWere) {
  finetune("classification", folder_ / "frozen",
           {"freeze.embeddings=true", "freeze.layers=1", "train.epochs=1"});
  const auto changed = differences(folder_ / "encoder", checkpoints(folder_ / "frozen").front());
  EXPECT_FALSE(changed.empty());
  for (const auto& [name, difference] : changed) {
    EXPECT_TRUE(name.starts_with("bert.encoder.layer.1.")) << name << " by " << difference;
  }
  EXPECT_TRUE(changed.contains("bert.encoder.layer.1.attention.self.query.weight"));
}

// The first step of AdamW moves each element by its learning rate, whatever the gradient.
TEST_F(FinetunerTest, EachLayerHasItsRate) {
  finetune("classification", folder_ / "decayed",
           {"optimizer.layer_decay=0.5", "optimizer.learning_rate=0.01", "optimizer.weight_decay=0",
            "schedule.warmup_fraction=0", "schedule.decay=constant", "train.batch_size=400",
            "train.epochs=1", "optimizer.epsilon=1.0e-12"});
  const auto changed = differences(folder_ / "encoder", checkpoints(folder_ / "decayed").front());
  const auto rate = [&](const std::string& name) { return changed.at(name); };
  EXPECT_NEAR(rate("bert.encoder.layer.1.output.dense.weight"), 0.01 * 0.5, 1e-6);
  EXPECT_NEAR(rate("bert.encoder.layer.0.output.dense.weight"), 0.01 * 0.25, 1e-6);
  EXPECT_NEAR(rate("bert.embeddings.word_embeddings.weight"), 0.01 * 0.125, 1e-6);
}

TEST_F(FinetunerTest, SeveralSeedsAreAveraged) {
  finetune("classification", folder_ / "seeds", {"\"seeds=[0, 1, 2]\"", "train.epochs=1"});
  const json result = results(folder_ / "seeds");
  ASSERT_EQ(result["seeds"].size(), 3u);
  double mean = 0.0, squares = 0.0;
  for (const json& one : result["seeds"]) mean += one["validation"]["accuracy"].get<double>() / 3;
  for (const json& one : result["seeds"]) {
    squares += std::pow(one["validation"]["accuracy"].get<double>() - mean, 2);
  }
  EXPECT_NEAR(result["validation"]["accuracy"]["mean"], mean, 1e-12);
  EXPECT_NEAR(result["validation"]["accuracy"]["deviation"], std::sqrt(squares / 2), 1e-12);
  EXPECT_NE(read_file(checkpoints(folder_ / "seeds" / "seed_0").front() / "model.safetensors"),
            read_file(checkpoints(folder_ / "seeds" / "seed_1").front() / "model.safetensors"));
}

// A class that weighs next to nothing is not learnt.
TEST_F(FinetunerTest, ClassesHaveWeights) {
  finetune("classification", folder_ / "weighted",
           {"\"class_weights=[1.0e-6, 1.0]\"", "\"data.labels=[bad, good]\"", "train.epochs=2"});
  const std::string predictions = read_file(folder_ / "weighted" / "predictions_validation.jsonl");
  EXPECT_EQ(predictions.find("\"label\":\"bad\""), std::string::npos);
  EXPECT_NE(predictions.find("\"label\":\"good\""), std::string::npos);
}

TEST_F(FinetunerTest, StopsWhenNothingGetsBetter) {
  finetune("classification", folder_ / "patient",
           {"train.epochs=40", "evaluation.patience=2", "evaluation.every_steps=10"});
  EXPECT_NE(read_file(folder_ / "patient" / "log.txt").find("stopping: no better accuracy"),
            std::string::npos);
}

// Lengths are left to the model, which reads 40 tokens; a warning counts what is used.
TEST_F(FinetunerTest, LengthsFitTheModel) {
  std::string text = "text\tlabel\n";
  for (int i = 0; i < 20; ++i) {
    const std::vector<std::string> words = i == 3 || i > 9 ? some_words(60, 60) : some_words(4, 4);
    text += fmt::format("{}\t{}\n", fmt::join(words, " "), i % 2 == 0 ? "good" : "bad");
  }
  write_text(folder_ / "long.tsv", text);
  const fs::path run_dir = folder_ / "auto";
  const std::string line =
      command("classification", run_dir,
              {"data.max_length=auto", "data.max_examples=10", "train.epochs=1",
               "train.batch_size=4", "data.train=" + (folder_ / "long.tsv").string()});
  const Answer answer = run(line);
  ASSERT_EQ(answer.exit_code, 0) << answer.output;
  EXPECT_NE(answer.output.find("up to 40 tokens; the model reads 40"), std::string::npos)
      << answer.output;
  const std::string log = read_file(run_dir / "log.txt");
  EXPECT_NE(log.find("warning: 1 cut: long text"), std::string::npos) << log;
  finetune("question_answering", folder_ / "windows",
           {"data.max_length=auto", "data.max_query_length=auto", "data.doc_stride=auto",
            "train.epochs=1"});
}

TEST_F(FinetunerTest, RefusesWhatItCannotUse) {
  finetune("classification", folder_ / "run", {"train.epochs=1"});
  // Before anything is read.
  write_text(folder_ / "broken.tsv", "no columns");
  expect_refused(run(command("classification", folder_ / "run",
                             {fmt::format("data.train={}", (folder_ / "broken.tsv").string())})),
                 "is not empty");
  expect_refused(run(command("classification", folder_ / "other", {"data.max_length=64"})),
                 "which reads 40");
  expect_refused(run(command("classification", folder_ / "other",
                             {"freeze.embeddings=true", "freeze.layers=3"})),
                 "freeze.layers");
  expect_refused(run(command("classification", folder_ / "other",
                             {"data.validation=" + (folder_ / "values_dev.tsv").string()})),
                 "label");
  expect_refused(run(command("regression", folder_ / "run", {"--resume auto"})),
                 "has another task than the configuration says: kind is \"classification\" "
                 "there, \"regression\" here");
  expect_refused(
      run(command("classification", folder_ / "other", {"evaluation.metric=bleu"})),
      "error: argument evaluation.metric=bleu: 'bleu' is no metric of this classification task");
  expect_refused(run(command("classification", folder_ / "other", {"runtime.precision=tf32"})),
                 "error: argument runtime.precision=tf32: tf32 needs a GPU");
  expect_refused(
      run(command("classification", folder_ / "run", {"--resume auto", "evaluation.metric=f1"})),
      "was trained with another evaluation.metric (accuracy, not f1) than this run has");
  expect_refused(
      run(command("classification", folder_ / "run", {"--resume auto", "data.max_examples=7"})),
      "was trained with another data.train than this run has");
  // A tokenizer of fewer entries would do, but is not the model's.
  const std::vector<std::string> with_another{"train.epochs=1",
                                              "tokenizer.path=" + (folder_ / "words").string()};
  fs::create_directory(folder_ / "words");
  write_text(folder_ / "words" / "vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nw1\nw2\n");
  const Answer warned = run(command("classification", folder_ / "another", with_another));
  EXPECT_EQ(warned.exit_code, 0) << warned.output;
  EXPECT_NE(warned.output.find("encoder is another one ("), std::string::npos) << warned.output;
  EXPECT_NE(read_file(folder_ / "another" / "log.txt").find("(7 entries, fingerprint "),
            std::string::npos);
  expect_refused(run(command("classification", folder_ / "other", {"model.init_from=nowhere"})),
                 "argument model.init_from=nowhere: no such folder");
  expect_refused(run(command("classification", folder_ / "other",
                             {"model.init_from=" + (folder_ / "run").string()})),
                 "is the folder of a run");
  expect_refused(run(command("classification", folder_ / "other", {"data.train=nowhere.tsv"})),
                 "argument data.train=nowhere.tsv: no such file");
  expect_refused(run(std::string(BERT_FINETUNE) + " run_dir=x"), "which configuration?");
  write_text(folder_ / "pretraining.yaml", "run_dir: x\nseed: 0\n");
  const std::string other =
      fmt::format("{} {}", BERT_FINETUNE, (folder_ / "pretraining.yaml").string());
  expect_refused(run(other), "a file without the key task is for train");
  EXPECT_EQ(run(other + " task=classification").output.find("is for train"), std::string::npos);
  EXPECT_FALSE(fs::exists(folder_ / "other"));
}

}  // namespace
}  // namespace bert
