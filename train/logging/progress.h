// Progress of a long run: on a terminal a view of several lines that is redrawn in place, plain
// lines elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "train/logging/run_view.h"
#include "train/logging/terminal_block.h"

namespace bert {

class Progress {
 public:
  using Clock = std::chrono::steady_clock;

  // Writes to `out`, as a terminal if it is one that can move its cursor. `first_step`: steps done
  // before this run began, which say nothing about its speed. Plain lines come at most every
  // `plain_interval`.
  Progress(std::FILE* out, std::int64_t first_step, std::int64_t max_steps,
           Clock::duration plain_interval = std::chrono::seconds(10));
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Before the first step, which may take long: says that it is being computed.
  void start();
  // After each optimizer step: cheap, prints a few times a second at most. The size of the terminal
  // is asked for each time. max_steps and the times of `state` are filled in here.
  void update(ProgressState state);
  // For the view, with the next update: what is known besides the step, some of it from before
  // a resume.
  void set_validation(const ValidationState& validation) { view_.validation = validation; }
  void set_words(std::vector<FollowedWord> words) { view_.words = std::move(words); }
  void add_loss(std::int64_t step, double loss);
  // The run goes on from `step`, an earlier one, and what is known of it is to be given again. The
  // view, the time and the speed stay.
  void go_back(std::int64_t step);

  // A line of its own (an evaluation, a checkpoint), above the view.
  void message(const std::string& line);
  // A line of what the view shows itself: for plain output only.
  void detail(const std::string& line);
  // The last state, whatever the rate limit says. No more updates after it.
  void finish();

  const RunView& view() const { return view_; }

 private:
  void print();

  std::FILE* out_;
  TerminalFeatures terminal_;
  TerminalBlock block_;
  std::int64_t first_step_;
  std::int64_t repeated_ = 0;  // steps that are done once more after going back
  Clock::duration interval_;
  Clock::time_point start_, last_print_;
  RunView view_;
  MovingMean mean_;
  std::int64_t printed_step_;
};

}  // namespace bert
