// CheckpointWriter: writes checkpoints beside the training, one at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <future>
#include <optional>
#include <string>

#include "train/checkpoint/checkpoint.h"

namespace bert {

class CheckpointWriter {
 public:
  // What became of a checkpoint.
  struct Outcome {
    std::int64_t step = 0;
    double seconds = 0.0;  // from the copy on
    std::string error;     // empty: it is safe
  };

  // Writes into `folder`, which exists, and keeps the newest `keep` and the best by validation
  // loss. The rest is kept by reference.
  CheckpointWriter(std::filesystem::path folder, std::int64_t keep, const BertModel& model,
                   const Tokenizer& tokenizer, std::string task = "");
  // Waits for the one that is being written.
  ~CheckpointWriter();
  CheckpointWriter(const CheckpointWriter&) = delete;
  CheckpointWriter& operator=(const CheckpointWriter&) = delete;

  // Copies what is to be saved and returns; a thread writes it, verifies it, moves the links
  // `latest` and `best`, and only then removes older ones. Waits for the one before it: what became
  // of that is asked for first.
  void save(const TrainerState& state, const Moments& moments);

  // What became of the last one, once: when it has come to an end, or after waiting for that.
  std::optional<Outcome> ended();
  std::optional<Outcome> wait();

 private:
  Outcome write(std::chrono::steady_clock::time_point start) const;

  std::filesystem::path folder_;
  std::int64_t keep_;
  Snapshot snapshot_;
  std::future<Outcome> writing_;
};

}  // namespace bert
