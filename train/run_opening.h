// RunOpening: how a run of pre-training or fine-tuning comes to its run directory, afresh or from a
// checkpoint. Everything is compared before anything is written: what does not fit is refused with
// the directory as it was.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenization/tokenizer.h"
#include "model/bert_model.h"
#include "model/model_files.h"
#include "runtime/communicator.h"
#include "runtime/descriptor.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/config_sections.h"
#include "train/logging/run_log.h"
#include "train/run_checkpoints.h"
#include "train/step/backend.h"

namespace bert {

// What a command line says of a run, besides its configuration.
struct RunOptions {
  // "auto": the newest valid checkpoint of the run directory, or a fresh start. Otherwise the
  // folder of one checkpoint. Absent: the run directory must be empty.
  std::optional<std::string> resume;
  bool dry_run = false;  // check everything, change nothing
  // Development: write each micro-batch as a JSON line to this file, and the fresh weights as a
  // checkpoint of step 0, so that another implementation can train on the very same data.
  std::optional<std::string> dump_batches;
};

class RunOpening {
 public:
  // `communicator` is kept by reference. InputError, on rank 0, where the run directory holds
  // something and it is not to be resumed, or another run is writing to it.
  RunOpening(std::filesystem::path run_dir, const RunOptions& options, Communicator& communicator);

  std::filesystem::path checkpoints() const { return run_dir_ / "checkpoints"; }

  // Rank 0: to standard error, and to log.txt as soon as there is one.
  void say(const std::string& line);
  void warn(const std::string& text) { say("warning: " + text); }

  // Rank 0: InputError where the run directory cannot be written, or its disk has no room for so
  // many checkpoints of `bytes` each.
  void check_room(std::int64_t checkpoints, std::size_t bytes);

  // All ranks: the micro_batch_tokens that the checkpoint to be resumed from chose by itself, if
  // there is one of as many ranks on the same device as `now`: a run rounds as before only with
  // micro-batches as before.
  std::optional<std::int64_t> earlier_auto_tokens(const TrainerState& now, const Backend& backend);
  void warn_of_less_memory(std::int64_t tokens, std::int64_t earlier);

  // All ranks: the checkpoint to go on from, verified; empty for a fresh start.
  std::filesystem::path choose_checkpoint();
  bool resumed() const { return resumed_; }  // whether it chose one
  // What the plan of a run at `step` says of that: ", resumed at step 20".
  std::string beginning(std::int64_t step) const;

  // Warns where the folder of a model holds another tokenizer than the one that is used with it.
  // `path`: where that one is from.
  void compare_tokenizer(const std::filesystem::path& model, const Tokenizer& used,
                         const std::filesystem::path& path, bool cased);
  // Warns where the run of `checkpoint` began with the weights of another folder than
  // model.init_from, `now`, says: it goes on with its own.
  void compare_init_from(const std::filesystem::path& checkpoint, const std::string& now);
  // What was strange about a model's weights.
  void tell(const LoadReport& report);

  // Whether the best checkpoint that a run at `state` knows of is in another folder.
  bool lacks_best(const TrainerState& state) const;

  // The configuration of the run that `checkpoint` is of.
  std::string config_of(const std::filesystem::path& checkpoint) const;

  // Checks that a run of `model` whose state is `now` can go on from `checkpoint`, which must be of
  // such a model, with the seed and kind of numbers it had; InputError if not, which names the
  // place of the key among `keys`. Warns of what will be rounded in another way than before. The
  // products of `backend` become those that the checkpoint chose. Gives the checkpoint's state.
  TrainerState check_can_go_on(const std::filesystem::path& checkpoint, const GivenKeys& keys,
                               const BertModel& model, const TrainerState& now, Backend& backend,
                               bool reproducible);
  // InputError for a checkpoint that was trained with `then` where this run has `now`, which
  // `where` says.
  [[noreturn]] void refuse(const std::filesystem::path& checkpoint, const std::string& where,
                           const std::string& then, const std::string& now) const;

  // Rank 0 of a real run: makes the run directory that of a run which is at `state`, and what was
  // said so far part of its log. InputError where something cannot be written.
  std::unique_ptr<RunLog> begin(const std::string& config_yaml, const TrainerState& state,
                                std::int64_t max_steps, bool tensorboard, RunCheckpoints& kept);

 private:
  void check_same_model(const std::filesystem::path& checkpoint, const BertModel& model) const;

  std::filesystem::path run_dir_;
  std::optional<std::string> resume_;
  Communicator& communicator_;
  std::unique_ptr<Descriptor> lock_;  // rank 0 of a real run, if its folder was there
  bool resumed_ = false;
  std::vector<std::string> said_;
};

}  // namespace bert
