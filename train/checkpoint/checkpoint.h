// Checkpoints: a Hugging Face model folder with everything a resumed run needs beside it.
//
//   config.json, model.safetensors, tokenizer files   what from_pretrained loads
//   optimizer.safetensors                             moments: exp_avg.NAME, exp_avg_sq.NAME
//   trainer_state.json                                TrainerState
//   task.json                                         of a fine-tuned model: train/tasks/task.h
//   checksums.json                                    xxh3 of every file and tensor above
//
// A checkpoint is written under a temporary name, every file synced, read back from the disk and
// compared, and only then renamed: a folder called step_XXXXXXXX is whole. Beside the checkpoints
// lie two links, `latest` and `best` (by validation loss).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/tokenization/tokenizer.h"
#include "model/bert_model.h"
#include "train/checkpoint/loss_monitor.h"

namespace bert {

// What an evaluation says of a run.
struct Verdict {
  bool best = false;  // none before was better
  bool stop = false;  // the patience is exhausted
};

// Everything besides parameters and moments that decides how a run goes on.
struct TrainerState {
  std::int64_t step = 0;     // optimizer steps done
  std::int64_t skipped = 0;  // of them, those whose update was refused
  std::uint64_t seed = 0;
  std::string precision;        // "fp32"
  std::string device;           // its name
  std::string product_choices;  // how its products were computed, where that was measured; or empty
  std::int64_t world_size = 1;
  std::int64_t threads = 1;
  // What train.micro_batch_tokens: auto chose; 0: unknown.
  std::int64_t auto_micro_batch_tokens = 0;
  // TrainingStep::gradient_exponent(), which decides how the gradients of the next step are
  // rounded.
  int gradient_exponent = 0;
  std::string corpus;  // fingerprint of what the samples are made from
  // Of validation. In fine-tuning the metric counts, and this is its negative.
  double best_loss = std::numeric_limits<double>::infinity();
  std::int64_t best_step = 0;               // 0: none
  std::int64_t evaluations_since_best = 0;  // early stopping counts them
  std::int64_t refused_in_a_row = 0;        // up to this step
  std::uint64_t passed_over = 0;  // sequences of the training data that rollbacks left out
  LossStatistics losses;

  // Whether so many evaluations in a row were no better; 0: there is no limit.
  bool out_of_patience(std::int64_t patience) const {
    return patience > 0 && evaluations_since_best >= patience;
  }

  // Counts an evaluation. Of two that are equal the first is the best; one whose loss is not finite
  // is never.
  Verdict note_evaluation(double loss, double min_improvement, std::int64_t patience) {
    const bool best = std::isfinite(loss) && loss < best_loss - min_improvement;
    if (best) {
      best_loss = loss;
      best_step = step;
    }
    evaluations_since_best = best ? 0 : evaluations_since_best + 1;
    return {best, out_of_patience(patience)};
  }

  std::string to_json() const;
  // InputError naming `source` when a key is missing or of the wrong type.
  static TrainerState parse(const std::string& text, const std::string& source);
};

// The optimizer's flat buffers, laid out like ParameterStore::values().
struct Moments {
  Tensor m, v;
};

// "step_00000020"
std::string checkpoint_name(std::int64_t step);

// All that a checkpoint holds, in host memory: taken between two steps, and written while the next
// ones are computed.
class Snapshot {
 public:
  // Both are kept by reference. What is written of them later never changes: names, shapes, sizes.
  // `task`: task.json of a fine-tuned model; empty: there is none.
  Snapshot(const BertModel& model, const Tokenizer& tokenizer, std::string task = "")
      : model_(model), tokenizer_(tokenizer), task_(std::move(task)) {}

  // Copies `state`, the model's parameters and the moments; waits for the work queued before.
  void take(const TrainerState& state, const Moments& moments);

  const TrainerState& state() const { return state_; }
  // Writes folder/step_XXXXXXXX and verifies it; an older checkpoint of that name is set aside.
  // RuntimeError when the disk refuses or gives back something else; nothing half-written is left
  // under that name.
  std::filesystem::path save(const std::filesystem::path& folder) const;

 private:
  const BertModel& model_;
  const Tokenizer& tokenizer_;
  std::string task_;
  TrainerState state_;
  std::vector<std::byte> values_, m_, v_;
};

// Reads every byte. InputError naming the file that is missing or damaged.
void verify_checkpoint(const std::filesystem::path& checkpoint);

// The same for what is needed to use a model: a folder without checksums.json passes (Hugging Face
// writes none), and so does a checkpoint whose optimizer files were left out.
void verify_model_files(const std::filesystem::path& folder);

// The newest checkpoint in `folder` that verifies, if there is one; `on_damaged` is told of each
// newer one that does not. InputError when there are some and none is whole: starting afresh would
// write over what might still be saved.
std::optional<std::filesystem::path> newest_checkpoint(
    const std::filesystem::path& folder, const std::function<void(const std::string&)>& on_damaged);

// The state in the newest checkpoint of `folder` where it can be read, whole or not: what a run
// that is resumed chose before, for what must be decided before anything can be loaded.
std::optional<TrainerState> newest_state(const std::filesystem::path& folder);
// The same for one checkpoint.
std::optional<TrainerState> peek_state(const std::filesystem::path& checkpoint);

// Fills parameters and moments. `checkpoint` has been verified.
TrainerState load_checkpoint(const std::filesystem::path& checkpoint, BertModel& model,
                             const Moments& moments);

// Renames the checkpoints of later steps than `step`, from which a run is resumed, to
// NAME.set_aside: they are damaged, or of a past that the run now leaves, and must neither be
// resumed from nor count among those to keep. Gives their new names.
std::vector<std::filesystem::path> set_aside_checkpoints(const std::filesystem::path& folder,
                                                         std::int64_t step);

// Makes folder/NAME, a link, lead to `checkpoint`, a folder beside it; in one move, so that the
// link is there at any moment.
void link_checkpoint(const std::filesystem::path& checkpoint, const std::string& name);

// Makes the links `latest` and `best` lead to the checkpoints of steps `latest` and `best` (0:
// there is none), where those are there; removes a link that would lead nowhere.
void set_links(const std::filesystem::path& folder, std::int64_t latest, std::int64_t best);

// What interrupted writes have left.
void remove_unfinished_checkpoints(const std::filesystem::path& folder);

// Removes all checkpoints but the newest `keep` and the one that `best` leads to, and what
// interrupted writes have left.
void prune_checkpoints(const std::filesystem::path& folder, std::int64_t keep);

// All checkpoints of a folder by their names, whole or not, the newest first.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& folder);

}  // namespace bert
