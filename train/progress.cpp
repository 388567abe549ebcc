#include "train/progress.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace bert {
namespace {

constexpr int kLeastBar = 10, kMostBar = 40;
constexpr std::chrono::milliseconds kTerminalInterval(200);

// "loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s"
std::string numbers(const ProgressState& state) {
  std::string text = fmt::format("loss {:.3f}  ppl {}  lr {:.2e}  {} tokens/s", state.loss,
                                 format_perplexity(state.loss), state.learning_rate,
                                 format_rate(state.tokens_per_second));
  if (state.eta_seconds) text += "  ETA " + format_duration(*state.eta_seconds);
  return text;
}

double share_done(const ProgressState& state) {
  if (state.max_steps <= 0) return 1.0;
  const double share = static_cast<double>(state.step) / static_cast<double>(state.max_steps);
  return std::clamp(share, 0.0, 1.0);
}

int terminal_columns(std::FILE* out) {
  winsize size{};
  if (::ioctl(::fileno(out), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "?";
  const auto total = static_cast<long long>(std::min(std::round(seconds), 1e15));
  const long long minutes = total / 60, hours = minutes / 60, days = hours / 24;
  if (days > 0) return fmt::format("{}d{:02}h", days, hours % 24);
  if (hours > 0) return fmt::format("{}h{:02}m", hours, minutes % 60);
  if (minutes > 0) return fmt::format("{}m{:02}s", minutes, total % 60);
  return fmt::format("{}s", total);
}

std::string format_rate(double per_second) {
  if (!std::isfinite(per_second) || per_second < 0) return "?";
  if (per_second < 999.5) return fmt::format("{:.0f}", per_second);
  if (per_second < 99'950) return fmt::format("{:.1f}k", per_second / 1e3);
  if (per_second < 999'500) return fmt::format("{:.0f}k", per_second / 1e3);
  return fmt::format("{:.2f}M", per_second / 1e6);
}

std::string format_perplexity(double loss) {
  const double perplexity = std::exp(loss);
  if (!std::isfinite(perplexity)) return "-";
  if (perplexity < 99.95) return fmt::format("{:.1f}", perplexity);
  if (perplexity < 99'999.5) return fmt::format("{:.0f}", perplexity);
  return fmt::format("{:.1e}", perplexity);
}

std::string format_progress_bar(const ProgressState& state, int columns) {
  const std::string text = fmt::format(" {}/{}  {}", state.step, state.max_steps, numbers(state));
  const int room = columns - static_cast<int>(text.size()) - 2;
  std::string line;
  if (room >= kLeastBar) {
    const int width = std::min(room, kMostBar);
    const int full = static_cast<int>(share_done(state) * width);
    std::string bar(static_cast<std::size_t>(width), ' ');
    std::fill_n(bar.begin(), full, '=');
    if (full < width) bar[static_cast<std::size_t>(full)] = '>';
    line = "[" + bar + "]" + text;
  } else {
    line = text.substr(1);
  }
  return line.substr(0, static_cast<std::size_t>(std::max(columns, 0)));
}

std::string format_progress_line(const ProgressState& state) {
  return fmt::format("step {}/{} ({:.1f}%)  {}", state.step, state.max_steps,
                     100.0 * share_done(state), numbers(state));
}

Progress::Progress(std::FILE* out, std::int64_t first_step, std::int64_t max_steps,
                   Clock::duration plain_interval)
    : out_(out),
      terminal_(::isatty(::fileno(out)) == 1),
      first_step_(first_step),
      plain_interval_(plain_interval),
      start_(Clock::now()) {
  state_.step = first_step;
  state_.max_steps = max_steps;
}

Progress::~Progress() {
  if (line_open_) std::fputc('\n', out_);
  std::fflush(out_);
}

void Progress::update(std::int64_t step, double loss, double learning_rate,
                      double tokens_per_second) {
  state_.step = step;
  state_.loss = loss;
  state_.learning_rate = learning_rate;
  state_.tokens_per_second = tokens_per_second;
  print(false);
}

void Progress::message(const std::string& line) {
  // On a terminal the message takes the bar's place, and the bar comes back below it.
  std::fprintf(out_, "%s%s\n", line_open_ ? "\r\x1b[K" : "", line.c_str());
  const bool had_bar = line_open_;
  line_open_ = false;
  if (had_bar) print(true);
  std::fflush(out_);
}

void Progress::finish() {
  const bool anything_new = state_.step != printed_step_ && state_.step != first_step_;
  if (anything_new) print(true);
  if (line_open_) std::fputc('\n', out_);
  line_open_ = false;
  std::fflush(out_);
}

void Progress::print(bool force) {
  const Clock::time_point now = Clock::now();
  const Clock::duration interval = terminal_ ? kTerminalInterval : plain_interval_;
  if (!force && printed_ && now - last_print_ < interval) return;
  printed_ = true;
  last_print_ = now;
  printed_step_ = state_.step;

  const double elapsed = std::chrono::duration<double>(now - start_).count();
  const std::int64_t done = state_.step - first_step_;
  state_.eta_seconds.reset();
  if (done > 0) {
    state_.eta_seconds =
        elapsed / static_cast<double>(done) * static_cast<double>(state_.max_steps - state_.step);
  }
  if (terminal_) {
    // One column stays free: a full line would make some terminals scroll.
    const std::string line = format_progress_bar(state_, terminal_columns(out_) - 1);
    std::fprintf(out_, "\r%s\x1b[K", line.c_str());
    line_open_ = true;
  } else {
    std::fprintf(out_, "%s\n", format_progress_line(state_).c_str());
  }
  std::fflush(out_);
}

}  // namespace bert
