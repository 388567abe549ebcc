#include "train/logging/progress.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace bert {
namespace {

constexpr std::chrono::milliseconds kTerminalInterval(200);

}  // namespace

Progress::Progress(std::FILE* out, std::int64_t first_step, std::int64_t max_steps,
                   Clock::duration plain_interval)
    : out_(out),
      terminal_(terminal_features(out)),
      block_(out),
      first_step_(first_step),
      interval_(terminal_.live ? Clock::duration(kTerminalInterval) : plain_interval),
      start_(Clock::now()),
      printed_step_(first_step) {
  view_.progress.step = first_step;
  view_.progress.max_steps = max_steps;
}

void Progress::start() {
  const std::string line =
      fmt::format("computing step {} of {}", first_step_ + 1, view_.progress.max_steps);
  if (!terminal_.live) return message(line);
  block_.draw({cut_end(line, terminal_size(out_).columns - 1, terminal_.style.unicode)});
}

void Progress::update(ProgressState state) {
  const Clock::time_point now = Clock::now();
  state.max_steps = view_.progress.max_steps;
  state.elapsed_seconds = std::chrono::duration<double>(now - start_).count();
  if (const std::int64_t done = state.step - first_step_ + repeated_; done > 0) {
    state.eta_seconds = state.elapsed_seconds / static_cast<double>(done) *
                        static_cast<double>(state.max_steps - state.step);
  }
  view_.progress = state;
  add_loss(state.step, state.loss);
  if (printed_step_ == first_step_ || now - last_print_ >= interval_) print();
}

void Progress::add_loss(std::int64_t step, double loss) {
  view_.losses.add(step, loss);
  mean_.add(loss);
  view_.mean_loss = mean_.value();
}

void Progress::go_back(std::int64_t step) {
  repeated_ += view_.progress.step - step;
  view_.progress.step = step;
  view_.losses = {};
  mean_ = {};
  view_.mean_loss.reset();
  view_.validation.reset();
  view_.words.clear();
}

void Progress::message(const std::string& line) {
  if (terminal_.live) {
    block_.print_above(line);
  } else {
    std::fprintf(out_, "%s\n", line.c_str());
    std::fflush(out_);
  }
}

void Progress::detail(const std::string& line) {
  if (!terminal_.live) message(line);
}

void Progress::finish() {
  const bool anything_new = view_.progress.step != printed_step_;
  // The last evaluation came after the last step.
  if (anything_new || (terminal_.live && view_.progress.step != first_step_)) print();
}

void Progress::print() {
  last_print_ = Clock::now();
  printed_step_ = view_.progress.step;
  if (terminal_.live) {
    const TerminalSize size = terminal_size(out_);
    // One column stays free, as a full line would make some terminals scroll, and the last row,
    // where the cursor is.
    block_.draw(format_run_view(view_, size.columns - 1, size.rows - 1, terminal_.style));
  } else {
    std::fprintf(out_, "%s\n", format_progress_line(view_.progress).c_str());
    std::fflush(out_);
  }
}

}  // namespace bert
