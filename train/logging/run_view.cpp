#include "train/logging/run_view.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iterator>
#include <limits>
#include <string_view>

#include <fmt/format.h>

#include "data/text/unicode.h"
#include "train/logging/number_text.h"

namespace bert {
namespace {

constexpr int kLeastBar = 10, kMostBar = 40, kMostSparkline = 80;
constexpr std::size_t kMostStretches = 512;
constexpr double kMeanSteps = 50.0;
constexpr std::size_t kPredictionsShown = 3;

double share_done(const ProgressState& state) {
  if (state.max_steps <= 0) return 1.0;
  const double share = static_cast<double>(state.step) / static_cast<double>(state.max_steps);
  return std::clamp(share, 0.0, 1.0);
}

// "[====>    ]"; nothing where there is no room for it.
std::string bar(const ProgressState& state, int columns) {
  if (columns - 2 < kLeastBar) return "";
  const int width = std::min(columns - 2, kMostBar);
  const int full = static_cast<int>(share_done(state) * width);
  std::string text(static_cast<std::size_t>(width), ' ');
  std::fill_n(text.begin(), full, '=');
  if (full < width) text[static_cast<std::size_t>(full)] = '>';
  return fmt::format("[{}]", text);
}

// "loss 4.512  ppl 91.1  lr 9.80e-05  8.8k tokens/s  ETA 4m05s"
std::string numbers(const ProgressState& state) {
  std::string text = fmt::format("loss {:.3f}  ", state.loss);
  if (state.has_perplexity) text += fmt::format("ppl {}  ", format_perplexity(state.loss));
  text += fmt::format("lr {:.2e}  {} tokens/s", state.learning_rate,
                      format_rate(state.tokens_per_second));
  if (state.eta_seconds) text += "  ETA " + format_duration(*state.eta_seconds);
  return text;
}

// "12m03s gone, 4m05s left"
std::string times(const ProgressState& state) {
  std::string text = format_duration(state.elapsed_seconds) + " gone";
  if (state.eta_seconds) text += ", " + format_duration(*state.eta_seconds) + " left";
  return text;
}

using Lines = std::vector<std::string>;

Lines step_lines(const RunView& view, int columns, const TerminalStyle& style) {
  const ProgressState& state = view.progress;
  const std::string step = fmt::format("step {}/{}", state.step, state.max_steps);
  const std::string share = fmt::format("{:.1f} %", 100.0 * share_done(state));
  Lines fields{emphasised(step, Emphasis::strong, style.colour), share};
  const int taken =
      display_columns(step) + display_columns(share) + display_columns(times(state)) + 6;
  if (const std::string drawn = bar(state, columns - taken); !drawn.empty()) {
    fields.push_back(drawn);
  }
  fields.push_back(times(state));
  return flow(fields, columns, style.unicode);
}

Lines number_lines(const RunView& view, int columns, const TerminalStyle& style) {
  const ProgressState& state = view.progress;
  const double mean = view.mean_loss.value_or(state.loss);
  const bool finite = std::isfinite(state.loss) && std::isfinite(state.grad_norm);
  Lines fields{emphasised(fmt::format("loss {:.3f}", state.loss),
                          finite ? Emphasis::strong : Emphasis::bad, style.colour),
               fmt::format("mean {:.3f}", mean), fmt::format("lr {:.2e}", state.learning_rate),
               fmt::format("grad norm {:.3g}", state.grad_norm),
               fmt::format("{} tokens/s", format_rate(state.tokens_per_second))};
  if (state.has_perplexity) {
    fields.insert(fields.begin() + 2, fmt::format("ppl {}", format_perplexity(mean)));
  }
  if (state.mfu) fields.push_back(fmt::format("MFU {:.1f} %", 100.0 * *state.mfu));
  return flow(fields, columns, style.unicode);
}

Lines curve_lines(const RunView& view, int columns, const TerminalStyle& style) {
  const std::vector<double> means = view.losses.means();
  std::vector<double> finite;
  std::copy_if(means.begin(), means.end(), std::back_inserter(finite),
               [](double value) { return std::isfinite(value); });
  if (finite.size() < 2) return {};
  const auto [least, greatest] = std::minmax_element(finite.begin(), finite.end());
  const std::string before = fmt::format("{:.2f} ", *greatest),
                    after = fmt::format(" {:.2f}", *least);
  const int room = columns - display_columns(before) - display_columns(after);
  if (room < kLeastBar) return {};
  return {emphasised(before, Emphasis::faint, style.colour) +
          sparkline(means, std::min(room, kMostSparkline), style.unicode) +
          emphasised(after, Emphasis::faint, style.colour)};
}

Lines validation_lines(const RunView& view, int columns, const TerminalStyle& style) {
  if (!view.validation) return {};
  const ValidationState& state = *view.validation;
  std::string loss = fmt::format("loss {:.4f}", state.loss);
  if (state.standard_error) {
    loss += fmt::format(" {} {:.4f}", style.unicode ? "\u00b1" : "+-", *state.standard_error);
  }
  Lines fields{fmt::format("validation at {}:", state.step), loss};
  if (view.progress.has_perplexity) {
    fields.push_back(fmt::format("ppl {}", format_perplexity(state.loss)));
  }
  if (state.accuracy) fields.push_back(fmt::format("accuracy {:.1f} %", 100.0 * *state.accuracy));
  fields.push_back(state.best_step == state.step
                       ? emphasised("the best so far", Emphasis::good, style.colour)
                       : fmt::format("best {:.4f} at {}", state.best_loss, state.best_step));
  return flow(fields, columns, style.unicode);
}

// "...sat on the [mat] and looked...  sofa 9.1% > mat 87.0%": the word with what stands around it
// in the left half, what was predicted for it in the right one, as far as both fit.
std::string word_line(const FollowedWord& followed, int columns, const TerminalStyle& style) {
  const bool unicode = style.unicode;
  std::string predictions;
  int width = 0;
  const int room = columns / 2;
  const std::string_view arrow = unicode ? " \u2192 " : " > ";
  const auto& all = followed.predictions;
  for (std::size_t back = 0; back < std::min(kPredictionsShown, all.size()); ++back) {
    const auto& prediction = all[all.size() - 1 - back];
    std::string text =
        fmt::format("{} {:.0f}%", printable(prediction.word, unicode), 100.0 * prediction.share);
    if (back == 0) text = cut_end(text, room, unicode);
    const int needed = display_columns(text) + (back > 0 ? display_columns(arrow) : 0);
    if (back > 0 && width + needed > room) break;
    width += needed;
    const Emphasis emphasis = prediction.word == followed.word ? Emphasis::good
                              : back > 0                       ? Emphasis::faint
                                                               : Emphasis::none;
    predictions = emphasised(text, emphasis, style.colour) +
                  (back > 0 ? std::string(arrow) + predictions : "");
  }
  const std::string word = cut_end(fmt::format("[{}]", printable(followed.word, unicode)),
                                   std::max(columns / 4, 3), unicode);
  const int around = columns - width - 2 - display_columns(word);
  if (around < 2) return predictions;
  const std::string whole_before = printable(followed.before, unicode);
  const std::string whole_after = printable(followed.after, unicode);
  // What one side does not need, the other takes.
  const int after_room = std::max(around / 2, around - display_columns(whole_before));
  const std::string after = cut_end(whole_after, after_room, unicode);
  const std::string before = cut_begin(whole_before, around - display_columns(after), unicode);
  const int used = display_columns(before) + display_columns(word) + display_columns(after);
  return before + emphasised(word, Emphasis::strong, style.colour) + after +
         std::string(static_cast<std::size_t>(columns - width - used), ' ') + predictions;
}

}  // namespace

void LossHistory::add(std::int64_t step, double loss) {
  auto index = static_cast<std::size_t>((step - 1) / steps_per_stretch_);
  while (index >= kMostStretches) {
    for (std::size_t i = 0; i < stretches_.size(); ++i) {
      const Stretch moved = std::exchange(stretches_[i], {});
      stretches_[i / 2].sum += moved.sum;
      stretches_[i / 2].count += moved.count;
    }
    steps_per_stretch_ *= 2;
    index = static_cast<std::size_t>((step - 1) / steps_per_stretch_);
  }
  if (index >= stretches_.size()) stretches_.resize(index + 1);
  stretches_[index].sum += loss;
  ++stretches_[index].count;
}

std::vector<double> LossHistory::means() const {
  std::vector<double> means;
  for (const Stretch& stretch : stretches_) {
    if (stretch.count == 0) continue;
    const double mean = stretch.sum / static_cast<double>(stretch.count);
    means.push_back(std::isfinite(mean) ? mean : std::numeric_limits<double>::quiet_NaN());
  }
  return means;
}

void MovingMean::add(double value) {
  if (!std::isfinite(value)) return;
  constexpr double kKeep = 1.0 - 1.0 / kMeanSteps;
  sum_ = kKeep * sum_ + value;
  weight_ = kKeep * weight_ + 1.0;
}

std::optional<double> MovingMean::value() const {
  if (weight_ == 0.0) return std::nullopt;
  return sum_ / weight_;
}

namespace {

// A word and its share in brackets, "that[97.6%]", as show_predictions writes them.
struct Marked {
  std::size_t begin = 0, end = 0;  // in the text
  std::string word;
  double share = 0.0;
};

// The first one whose bracket is at or after `from`.
std::optional<Marked> find_marked(const std::string& text, std::size_t from) {
  for (std::size_t open = from; (open = text.find('[', open)) != std::string::npos; ++open) {
    const std::size_t close = text.find("%]", open);
    if (close == std::string::npos) return std::nullopt;
    const std::string number = text.substr(open + 1, close - open - 1);
    if (number.empty() || number.find_first_not_of("0123456789.") != std::string::npos) continue;
    const std::size_t space = open == 0 ? std::string::npos : text.rfind(' ', open - 1);
    const std::size_t begin = space == std::string::npos ? 0 : space + 1;
    if (begin == open) continue;
    return Marked{begin, close + 2, text.substr(begin, open - begin),
                  std::strtod(number.c_str(), nullptr) / 100.0};
  }
  return std::nullopt;
}

}  // namespace

std::optional<FollowedWord> first_masked_word(const std::string& original,
                                              const std::string& predicted) {
  const std::optional<Marked> first = find_marked(predicted, 0);
  if (!first) return std::nullopt;
  constexpr std::string_view kContinues = "##";
  FollowedWord::Prediction prediction{first->word, first->share};
  std::size_t predicted_end = first->end;
  while (const std::optional<Marked> next = find_marked(predicted, predicted_end)) {
    if (next->begin != predicted_end + 1 || !next->word.starts_with(kContinues)) break;
    prediction.word += next->word.substr(kContinues.size());
    prediction.share *= next->share;
    predicted_end = next->end;
  }
  // Up to the first mask both texts are the same, but for the space that sets a piece apart from
  // the rest of its word; and the word ends at what follows the prediction.
  std::size_t begin = std::min(first->begin, original.size());
  if (begin > 0 && begin == first->begin && original[begin - 1] != ' ') {
    --begin;
    if (prediction.word.starts_with(kContinues)) prediction.word.erase(0, kContinues.size());
  }
  std::size_t end = original.size();
  if (predicted_end < predicted.size()) {
    const std::size_t bytes = decode_utf8(predicted, predicted_end).size;
    end = std::min(end, original.find(predicted.substr(predicted_end, bytes), begin + 1));
  }
  end = std::max(end, begin);
  return FollowedWord{original.substr(0, begin),
                      original.substr(begin, end - begin),
                      original.substr(end),
                      {prediction}};
}

std::string format_progress_line(const ProgressState& state) {
  return fmt::format("step {}/{} ({:.1f}%)  {}", state.step, state.max_steps,
                     100.0 * share_done(state), numbers(state));
}

std::string format_progress_bar(const ProgressState& state, int columns) {
  const std::string text = fmt::format("{}/{}  {}", state.step, state.max_steps, numbers(state));
  const std::string drawn = bar(state, columns - static_cast<int>(text.size()) - 1);
  const std::string line = drawn.empty() ? text : drawn + " " + text;
  return line.substr(0, static_cast<std::size_t>(std::max(columns, 0)));
}

std::string sparkline(const std::vector<double>& values, int columns, bool unicode) {
  static constexpr std::string_view kBlocks[] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                                 "\u2585", "\u2586", "\u2587", "\u2588"};
  static constexpr std::string_view kLetters = "_.:-=+*#";
  const std::size_t n = values.size();
  const std::size_t width = std::min(n, static_cast<std::size_t>(std::max(columns, 0)));
  std::vector<double> means;
  for (std::size_t i = 0; i < width; ++i) {
    const std::size_t begin = i * n / width, end = (i + 1) * n / width;
    double sum = 0.0;
    for (std::size_t k = begin; k < end; ++k) sum += values[k];
    means.push_back(sum / static_cast<double>(end - begin));
  }
  double least = HUGE_VAL, greatest = -HUGE_VAL;
  for (const double mean : means) {
    if (!std::isfinite(mean)) continue;
    least = std::min(least, mean);
    greatest = std::max(greatest, mean);
  }
  std::string line;
  for (const double mean : means) {
    if (!std::isfinite(mean)) {
      line += '!';
      continue;
    }
    const double height = greatest > least ? (mean - least) / (greatest - least) : 0.0;
    const auto level = static_cast<std::size_t>(std::lround(height * 7.0));
    line += unicode ? kBlocks[level] : kLetters.substr(level, 1);
  }
  return line;
}

std::vector<std::string> format_run_view(const RunView& view, int columns, int rows,
                                         const TerminalStyle& style) {
  if (columns <= 0 || rows <= 0) return {};
  // In the order of their importance, and where each stands on the screen.
  Lines examples;
  for (const FollowedWord& word : view.words) examples.push_back(word_line(word, columns, style));
  const std::pair<int, Lines> groups[] = {{0, step_lines(view, columns, style)},
                                          {1, number_lines(view, columns, style)},
                                          {3, validation_lines(view, columns, style)},
                                          {2, curve_lines(view, columns, style)},
                                          {4, std::move(examples)}};
  if (rows == 1) return {format_progress_bar(view.progress, columns)};
  Lines placed[std::size(groups)];
  auto left = static_cast<std::size_t>(rows);
  for (const auto& [place, lines] : groups) {
    const std::size_t count = std::min(left, lines.size());
    placed[place].assign(lines.begin(), lines.begin() + static_cast<std::ptrdiff_t>(count));
    left -= count;
  }
  Lines screen;
  for (const Lines& lines : placed) screen.insert(screen.end(), lines.begin(), lines.end());
  return screen;
}

}  // namespace bert
