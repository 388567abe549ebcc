#include "tests/train/training_fixture.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <unistd.h>

#include "runtime/json_lines.h"
#include "train/checkpoint/checkpoint.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kConfig = R"(seed: 3
model:
  preset: bert_tiny
  num_hidden_layers: 2
  hidden_size: 32
  num_attention_heads: 2
  intermediate_size: 64
  max_position_embeddings: 32
  layer_norm: pre
  hidden_dropout_prob: 0.1
  attention_probs_dropout_prob: 0.1
optimizer: {learning_rate: 3.0e-3}
schedule: {warmup_steps: 10}
train: {max_steps: 40, batch_size: 64, sequence_length: 32}
evaluation: {every_steps: 15, max_batches: 2, samples: 2}
checkpoint: {every_steps: 20, keep: 3}
logging: {every_steps: 1, tensorboard: false}
runtime: {threads: 1}
)";

std::string quoted(const std::string& text) { return fmt::format("'{}'", text); }

// A process's place among those that mpirun has started; -1: it has ended.
int rank_of(pid_t process) {
  const std::string name = "OMPI_COMM_WORLD_RANK=";
  try {
    const std::string environment =
        '\0' + read_file(fs::path("/proc") / std::to_string(process) / "environ");
    const auto at = environment.find('\0' + name);
    if (at != std::string::npos) return std::stoi(environment.substr(at + 1 + name.size()));
  } catch (const InputError&) {
  }
  return -1;
}

}  // namespace

std::vector<pid_t> processes_of(const fs::path& run_dir) {
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (fs::read_symlink(entry.path() / "exe", error) != fs::path(BERT_TRAIN)) continue;
    try {
      const std::string arguments = read_file(entry.path() / "cmdline");
      if (arguments.find("run_dir=" + run_dir.string()) != std::string::npos) {
        found.push_back(static_cast<pid_t>(std::stol(name)));
      }
    } catch (const InputError&) {  // it has just ended
    }
  }
  return found;
}

std::int64_t last_step(const fs::path& run_dir) {
  const fs::path path = run_dir / "metrics.jsonl";
  if (!fs::exists(path)) return 0;
  const std::string text = read_file(path);
  const auto end = text.rfind('\n');
  if (end == std::string::npos) return 0;
  const auto before = text.rfind('\n', end - 1);
  const auto begin = before == std::string::npos ? 0 : before + 1;
  return json::parse(text.substr(begin, end - begin)).at("step");
}

std::unique_ptr<Tokenizer> topic_tokenizer() {
  std::vector<std::string> pieces = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"};
  for (int i = 0; i < TrainingWorld::kTopics * TrainingWorld::kWordsPerTopic; ++i) {
    pieces.push_back(fmt::format("w{}", i));
  }
  return std::make_unique<WordpieceTokenizer>(std::move(pieces), wordpiece_options(true));
}

void write_topic_corpus(const fs::path& folder, std::uint64_t seed) {
  PhiloxStream random(seed, 1, 0);
  std::vector<TokenizedDocument> documents(400);
  for (TokenizedDocument& document : documents) {
    const auto topic = static_cast<std::int32_t>(random.next_below(TrainingWorld::kTopics));
    const std::uint32_t sentences = 2 + random.next_below(6);
    for (std::uint32_t s = 0; s < sentences; ++s) {
      std::uint32_t place = random.next_below(TrainingWorld::kWordsPerTopic);
      const std::uint32_t length = 4 + random.next_below(12);
      for (std::uint32_t i = 0; i < length; ++i, ++place) {
        document.ids.push_back(5 + topic * TrainingWorld::kWordsPerTopic +
                               static_cast<std::int32_t>(place % TrainingWorld::kWordsPerTopic));
        document.word_starts.push_back(1);
      }
      document.sentence_ends.push_back(static_cast<std::uint32_t>(document.ids.size()));
    }
  }
  write_corpus(folder, *topic_tokenizer(), documents,
               {.validation_fraction = 0.1, .sequence_lengths = {32}});
}

TrainingWorld::TrainingWorld() {
  fs::create_directories(tokenizer());
  topic_tokenizer()->save(tokenizer());
  write_topic_corpus(corpus(), 1);
  write_text(config(), kConfig);
}

const TrainingWorld& TrainingWorld::get() {
  static const TrainingWorld world;
  return world;
}

std::string TrainingTest::command(const fs::path& run_dir, const Arguments& more) const {
  const TrainingWorld& world = TrainingWorld::get();
  std::string line = fmt::format("{} {}", BERT_TRAIN, quoted(world.config().string()));
  for (const std::string& argument :
       {"run_dir=" + run_dir.string(), "data.path=" + world.corpus().string(),
        "tokenizer.path=" + world.tokenizer().string()}) {
    line += fmt::format(" {}", quoted(argument));
  }
  for (const std::string& argument : more) line += fmt::format(" {}", quoted(argument));
  return line;
}

Answer TrainingTest::train_ranks(int ranks, const fs::path& run_dir, const Arguments& more) const {
  return run(mpirun(ranks) + command(run_dir, more));
}

void TrainingTest::train_and_kill(int ranks, std::int64_t step, const fs::path& run_dir,
                                  const Arguments& more) const {
  const std::string line = (ranks > 0 ? mpirun(ranks) : "") + command(run_dir, more);
  // A busy machine may look too late and find the run at its end: then again from the start.
  for (int attempt = 0; attempt < 5; ++attempt) {
    fs::remove_all(run_dir);
    Answer answer;
    std::thread runner([&] { answer = run(line); });
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    const fs::path latest = run_dir / "checkpoints" / "latest";
    while ((last_step(run_dir) < step || !fs::exists(latest)) &&
           std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    for (const pid_t process : processes_of(run_dir)) ::kill(process, SIGKILL);
    runner.join();
    ASSERT_GE(last_step(run_dir), step) << answer.output;
    if (answer.exit_code != 0) return;
  }
  FAIL() << "the run always ended before it could be killed";
}

std::pair<Answer, double> TrainingTest::train_and_signal(int ranks, const fs::path& run_dir,
                                                         const Arguments& more, int victim,
                                                         int signal,
                                                         const std::function<bool()>& when) const {
  using Clock = std::chrono::steady_clock;
  Answer answer;
  std::thread runner([&] { answer = run(mpirun(ranks) + command(run_dir, more)); });
  const auto deadline = Clock::now() + std::chrono::seconds(60);
  pid_t process = 0;
  while (process == 0 && Clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    if (!when()) continue;
    const std::vector<pid_t> processes = processes_of(run_dir);
    if (processes.size() < static_cast<std::size_t>(ranks)) continue;
    for (const pid_t candidate : processes) {
      if (rank_of(candidate) == victim) process = candidate;
    }
  }
  EXPECT_NE(process, 0) << "the moment never came";
  if (process != 0) ::kill(process, signal);
  const auto killed = Clock::now();
  runner.join();
  return {answer, std::chrono::duration<double>(Clock::now() - killed).count()};
}

std::pair<Answer, double> TrainingTest::train_and_kill_one(int ranks, const fs::path& run_dir,
                                                           const Arguments& more) const {
  return train_and_signal(ranks, run_dir, more, ranks - 1, SIGKILL,
                          [&] { return last_step(run_dir) >= 5; });
}

std::vector<json> read_lines(const fs::path& path) {
  std::vector<json> records;
  for_each_record(path, [&](const StepRecord& record) { records.emplace_back(record.value); });
  return records;
}

std::vector<json> read_metrics(const fs::path& run_dir) {
  return read_lines(run_dir / "metrics.jsonl");
}

std::vector<json> comparable_metrics(const fs::path& run_dir) {
  std::vector<json> records = read_metrics(run_dir);
  for (json& record : records) record.erase("tokens_per_second");
  return records;
}

std::vector<double> losses(const fs::path& run_dir) {
  std::vector<double> values;
  for (const json& record : read_metrics(run_dir)) {
    if (record.contains("loss")) values.push_back(record.at("loss"));
  }
  return values;
}

fs::path checkpoint_of(const fs::path& run_dir, std::int64_t step) {
  return run_dir / "checkpoints" / checkpoint_name(step);
}

}  // namespace bert
