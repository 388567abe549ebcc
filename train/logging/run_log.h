// RunLog: all that a run tells, to the terminal and to its directory (docs/watching.md says what
// each file holds). Only rank 0 has one. A disk that is full does not end the run: see RecordFile.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "runtime/named_values.h"
#include "train/logging/layer_gradient_norms.h"
#include "train/logging/metrics_log.h"
#include "train/logging/progress.h"
#include "train/logging/record_file.h"
#include "train/logging/tensorboard_writer.h"

namespace bert {

// What happens to a run besides its steps; their names in events.jsonl are event_name's.
enum class RunEvent {
  start,       // fresh
  resume,      // from a checkpoint
  checkpoint,  // one was written
  skip,        // of an update that was refused
  rollback,    // to an earlier state
  best,        // an evaluation better than all before
  stop,        // before the last step
};
inline constexpr Named<RunEvent> kRunEvents[] = {{RunEvent::start, "start"},
                                                 {RunEvent::resume, "resume"},
                                                 {RunEvent::checkpoint, "checkpoint"},
                                                 {RunEvent::skip, "skip"},
                                                 {RunEvent::rollback, "rollback"},
                                                 {RunEvent::best, "best"},
                                                 {RunEvent::stop, "stop"}};
constexpr std::string_view event_name(RunEvent kind) { return name_of(kRunEvents, kind); }

// Reads the files of JSON lines that RunLog would cut in `run_dir`, and changes nothing. InputError
// naming the file and line that no run has written.
void check_run_log(const std::filesystem::path& run_dir);

class RunLog {
 public:
  // `first_step`: steps done before; what the files say of later ones is cut off, but for events:
  // they are history. On a resume the view starts with what the files tell of the steps before.
  RunLog(const std::filesystem::path& run_dir, std::int64_t first_step, std::int64_t max_steps,
         bool tensorboard);

  // To the terminal and log.txt.
  void message(const std::string& line);
  // To log.txt alone: what the terminal has already, or gets otherwise.
  void note(const std::string& line) { log_file_.append(line + "\n"); }
  // A line of events.jsonl, and `text` as a message with its step; a warning if it is a skipped
  // step or a rollback. `text` empty: no message.
  void event(RunEvent kind, std::int64_t step, const std::string& text);
  // `record` holds "step" and numbers: a line of metrics.jsonl and, under `group`/KEY, scalars.
  // With "val_loss" it is an evaluation, and the view shows it; the best so far are the first one
  // and those that an event says to be better.
  void metrics(const nlohmann::ordered_json& record, const std::string& group);
  // `record` holds "step", "sample" (a number from 0 on), "text", "masked" and "predicted": a line
  // of predictions.jsonl; the first samples are shown.
  void prediction(const nlohmann::ordered_json& record);
  void text(const std::string& tag, const std::string& markdown, std::int64_t step);
  // A line of gradient_norms.jsonl; under gradient_norm/NAME a scalar for each layer, and a
  // histogram of the parameters' norms.
  void gradient_norms(std::int64_t step, const LayerGradientNorms& norms);
  Progress& progress() { return progress_; }

  // The run goes on from `step`, an earlier one. Cuts the files as the constructor does, lines that
  // still wait for room on the disk included, and begins the view's curve, validation and examples
  // again with what the files then hold; the view stays where it is.
  void go_back(std::int64_t step);

  // The end of the run: shows its last state. RuntimeError if lines of metrics, predictions, events
  // or gradient norms are still unwritten.
  void finish();

 private:
  void restore(std::int64_t first_step);
  void show_evaluation(const nlohmann::ordered_json& record);
  void note_best();
  void follow(const nlohmann::ordered_json& prediction);

  std::filesystem::path run_dir_;
  Progress progress_;
  std::vector<FollowedWord> words_;  // of the first samples
  ValidationState validation_;
  RecordFile log_file_;
  MetricsLog metrics_log_, predictions_log_, gradient_norms_log_, events_log_;
  std::unique_ptr<TensorboardWriter> tensorboard_;
};

}  // namespace bert
