// Progress of a long run: one line that updates itself on a terminal, plain lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>

namespace bert {

struct ProgressState {
  std::int64_t step = 0;  // optimizer steps done
  std::int64_t max_steps = 0;
  double loss = 0.0;  // of the masked tokens, for the perplexity
  double learning_rate = 0.0;
  double tokens_per_second = 0.0;
  std::optional<double> eta_seconds;  // unknown at first
};

std::string format_duration(double seconds);  // "7s", "4m05s", "3h07m", "2d04h"
std::string format_rate(double per_second);   // "812", "8.8k", "1.25M"
std::string format_perplexity(double loss);   // exp(loss): "57.3", "1.2e+06"
// "[=====>    ] 1200/4000  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s", the bar
// as wide as `columns` leaves room for; never longer than `columns`.
std::string format_progress_bar(const ProgressState& state, int columns);
// "step 1200/4000 (30.0%)  loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s"
std::string format_progress_line(const ProgressState& state);

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  // Writes to `out`, as a terminal if it is one. `first_step`: steps done before this run began,
  // which say nothing about its speed. Plain lines come at most every `plain_interval`.
  Progress(std::FILE* out, std::int64_t first_step, std::int64_t max_steps,
           Clock::duration plain_interval = std::chrono::seconds(10));
  ~Progress();  // leaves the cursor on a fresh line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // After each optimizer step: cheap, prints a few times a second at most. eta_seconds and
  // max_steps are filled in here.
  void update(std::int64_t step, double loss, double learning_rate, double tokens_per_second);
  // A line of its own (an evaluation, a checkpoint), above the bar.
  void message(const std::string& line);
  // The last state, whatever the rate limit says. No more updates after it.
  void finish();

 private:
  void print(bool force);

  std::FILE* out_;
  bool terminal_;
  bool line_open_ = false;  // the cursor stands behind a bar
  std::int64_t first_step_;
  Clock::duration plain_interval_;
  Clock::time_point start_, last_print_;
  bool printed_ = false;
  ProgressState state_;
  std::int64_t printed_step_ = -1;
};

}  // namespace bert
