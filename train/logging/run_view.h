// What a terminal shows of a run: from its state to a few lines. Nothing here writes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/logging/terminal_text.h"

namespace bert {

struct ProgressState {
  std::int64_t step = 0;  // optimizer steps done
  std::int64_t max_steps = 0;
  double loss = 0.0;  // of the masked tokens, or of a task
  double learning_rate = 0.0;
  double grad_norm = 0.0;  // before clipping
  double tokens_per_second = 0.0;
  std::optional<double> mfu{};          // model FLOP utilisation, 0 to 1, where a peak is known
  std::optional<double> eta_seconds{};  // unknown at first
  double elapsed_seconds = 0.0;         // of this process
  bool has_perplexity = true;           // the loss is one of predicted tokens
};

// The losses of a run, however long, as means over equal stretches of steps.
class LossHistory {
 public:
  void add(std::int64_t step, double loss);  // step >= 1
  // In the order of the steps; NaN where a loss was not finite. Stretches of which nothing is known
  // are left out.
  std::vector<double> means() const;

 private:
  struct Stretch {
    double sum = 0.0;
    std::int64_t count = 0;
  };
  std::int64_t steps_per_stretch_ = 1;
  std::vector<Stretch> stretches_;
};

// A mean over roughly the last fifty values, each weighing a fiftieth less than the one after it.
class MovingMean {
 public:
  void add(double value);  // what is not finite is left out
  std::optional<double> value() const;

 private:
  double sum_ = 0.0, weight_ = 0.0;
};

struct ValidationState {
  std::int64_t step = 0;
  double loss = 0.0;
  std::optional<double> standard_error, accuracy;
  double best_loss = 0.0;
  std::int64_t best_step = 0;
};

// One masked word of a sample, and what was predicted for it at each evaluation.
struct FollowedWord {
  std::string before, word, after;  // the sample's text around it
  struct Prediction {
    std::string word;
    double share = 0.0;  // 0 to 1
  };
  std::vector<Prediction> predictions;  // oldest first
};
// The first masked word of a sample from its texts: `original`, and `predicted` as show_predictions
// has it ("a cat that[97.6%] sat"). Pieces that continue a word are joined, their shares
// multiplied. Nothing if nothing was predicted. `before`, `word` and `after` are those of
// `original`.
std::optional<FollowedWord> first_masked_word(const std::string& original,
                                              const std::string& predicted);

struct RunView {
  ProgressState progress;
  std::optional<double> mean_loss;
  LossHistory losses;
  std::optional<ValidationState> validation;
  std::vector<FollowedWord> words;  // two or three
};

// "step 1200/4000 (30.0%)  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s"
std::string format_progress_line(const ProgressState& state);
// "[=====>    ] 1200/4000  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s", the bar
// as wide as `columns` leaves room for; never longer than `columns`.
std::string format_progress_bar(const ProgressState& state, int columns);

// `values` from the first to the last as `columns` characters or fewer, a character for the mean
// of a stretch: eight heights from the least to the greatest, "!" where a value is not finite.
std::string sparkline(const std::vector<double>& values, int columns, bool unicode);

// The lines of the live view, none wider than `columns`, at most `rows`. Where there is no room for
// all, the examples go first, then the curve, then the validation; in one row what is left is the
// progress bar.
std::vector<std::string> format_run_view(const RunView& view, int columns, int rows,
                                         const TerminalStyle& style);

}  // namespace bert
