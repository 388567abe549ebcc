// A run that a single document poisons: it alone has tokens at a position whose embedding is so
// large that sums of it are infinite.
#pragma once

#include <algorithm>
#include <set>
#include <string>

#include "tests/train/changed_models.h"

namespace bert {

class PoisonedRun {
 public:
  static constexpr std::int64_t kBatch = 64;  // sequences a step

  // Makes a corpus and a model in `folder`.
  explicit PoisonedRun(const std::filesystem::path& folder) : folder_(folder) {
    std::vector<TokenizedDocument> documents(400);
    PhiloxStream random(11, 1, 0);
    for (std::size_t d = 0; d < documents.size(); ++d) {
      const std::uint32_t length = d == kLongDocument ? kLength : 6 + random.next_below(10);
      for (std::uint32_t i = 0; i < length; ++i) {
        documents[d].ids.push_back(5 + static_cast<std::int32_t>(random.next_below(150)));
        documents[d].word_starts.push_back(1);
      }
      documents[d].sentence_ends.push_back(length);
    }
    write_corpus(folder_ / "corpus", *topic_tokenizer(), documents,
                 {.validation_fraction = 0.1, .sequence_lengths = {32}});
    const TrainingWorld& world = TrainingWorld::get();
    const Answer made = run(fmt::format(
        "{} {} run_dir={} data.path={} tokenizer.path={} train.max_steps=1 schedule.warmup_steps=0 "
        "evaluation.every_steps=0",
        BERT_TRAIN, world.config().string(), (folder_ / "made").string(), world.corpus().string(),
        world.tokenizer().string()));
    EXPECT_EQ(made.exit_code, 0) << made.output;
    poison(kPosition);
  }

  // Every sequence has a first token.
  void poison_all() { poison(0); }

  std::string command(const std::string& train, const std::filesystem::path& run_dir,
                      const std::string& more) const {
    const TrainingWorld& world = TrainingWorld::get();
    return fmt::format(
        "{} {} run_dir={} data.path={} tokenizer.path={} model.init_from={} train.max_steps=12 "
        "optimizer.learning_rate=1e-3 schedule.warmup_steps=0 {}",
        train, config_without_model(folder_), run_dir.string(), (folder_ / "corpus").string(),
        world.tokenizer().string(), (folder_ / "poisoned").string(), more);
  }

  // What a sample of the long document is called.
  std::string sample() const {
    const Corpus corpus(folder_ / "corpus");
    const TokenShard& shard = corpus.shard(Split::train);
    for (std::uint64_t d = 0; d < shard.num_documents(); ++d) {
      if (shard.document(d).ids.size() == kLength) {
        return fmt::format("{}, document {}, tokens 0 to {}", (folder_ / "corpus").string(), d,
                           kLength - 1);
      }
    }
    return "the long document, which is not in the training split";
  }

  // The steps, 1 for the first, that have the sample, as the program itself makes its batches.
  std::set<std::int64_t> poisoned_steps(const std::string& train, std::int64_t steps) const {
    const std::filesystem::path dump = folder_ / "batches.jsonl";
    const Answer answer =
        run(command(train, folder_ / "dumped",
                    fmt::format("--dump-batches {} train.max_steps={} runtime.device=cpu",
                                dump.string(), steps)));
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    std::set<std::int64_t> found;
    std::ifstream lines(dump);
    for (std::string line; std::getline(lines, line);) {
      const auto record = nlohmann::json::parse(line);
      for (const std::int64_t position : record.at("position_ids")) {
        if (position == kPosition) found.insert(record.at("step").get<std::int64_t>() + 1);
      }
    }
    return found;
  }

 private:
  static constexpr std::size_t kLongDocument = 7;  // of the training split
  static constexpr std::uint32_t kLength = 28;
  static constexpr std::int64_t kPosition = 25;

  void poison(std::int64_t position) {
    std::filesystem::remove_all(folder_ / "poisoned");
    copy_model(folder_ / "made" / "checkpoints" / "latest", folder_ / "poisoned",
               [&](const std::string& name, std::vector<float>& values) {
                 if (name != "bert.embeddings.position_embeddings.weight") return true;
                 constexpr std::int64_t kPositions = 32;  // of the fixture's model
                 const std::int64_t width = static_cast<std::int64_t>(values.size()) / kPositions;
                 std::fill_n(values.begin() + position * width, width, 3e38f);
                 return true;
               });
  }

  std::filesystem::path folder_;
};

}  // namespace bert
