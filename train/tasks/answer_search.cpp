#include "train/tasks/answer_search.h"

#include <algorithm>
#include <tuple>

#include "runtime/error.h"

namespace bert {
namespace {

bool is_better(const AnswerSpan& a, const AnswerSpan& b) {
  if (a.score != b.score) return a.score > b.score;
  return std::tie(a.first, a.last) < std::tie(b.first, b.last);
}

// The best so far, in no order until they are taken.
class BestSpans {
 public:
  explicit BestSpans(std::size_t most) : most_(most) {}

  void add(const AnswerSpan& span) {
    if (spans_.size() == most_) {
      if (!is_better(span, spans_.front())) return;
      std::pop_heap(spans_.begin(), spans_.end(), is_better);  // the worst of them
      spans_.pop_back();
    }
    spans_.push_back(span);
    std::push_heap(spans_.begin(), spans_.end(), is_better);
  }

  std::vector<AnswerSpan> take() {
    std::sort_heap(spans_.begin(), spans_.end(), is_better);
    return std::move(spans_);
  }

 private:
  std::size_t most_;
  std::vector<AnswerSpan> spans_;
};

}  // namespace

std::vector<ContextWindow> context_windows(std::size_t tokens, std::size_t room,
                                           std::size_t stride) {
  BERT_CHECK(room > 0 && stride > 0);
  std::vector<ContextWindow> windows;
  for (std::size_t first = 0;; first += std::min(room, stride)) {
    const std::size_t count = std::min(tokens - first, room);
    windows.push_back({first, count});
    if (first + count == tokens) return windows;
  }
}

std::vector<std::size_t> window_with_most_context(std::span<const ContextWindow> windows,
                                                  std::size_t tokens) {
  std::vector<std::size_t> best(tokens, 0);
  std::vector<double> best_score(tokens, -1);
  for (std::size_t w = 0; w < windows.size(); ++w) {
    for (std::size_t i = 0; i < windows[w].count; ++i) {
      const auto nearer = static_cast<double>(std::min(i, windows[w].count - 1 - i));
      const double score = nearer + 0.01 * static_cast<double>(windows[w].count);
      const std::size_t token = windows[w].first + i;
      if (score <= best_score[token]) continue;
      best_score[token] = score;
      best[token] = w;
    }
  }
  return best;
}

std::vector<AnswerSpan> best_answers(std::span<const ContextWindow> windows,
                                     std::span<const WindowLogits> logits, std::size_t max_length,
                                     std::size_t n_best) {
  BERT_CHECK(!windows.empty() && windows.size() == logits.size() && n_best > 0);
  const std::vector<std::size_t> home =
      window_with_most_context(windows, windows.back().first + windows.back().count);
  BestSpans best(n_best);
  for (std::size_t w = 0; w < windows.size(); ++w) {
    const auto [first, count] = windows[w];
    BERT_CHECK(logits[w].start.size() == count && logits[w].end.size() == count);
    for (std::size_t start = 0; start < count; ++start) {
      if (home[first + start] != w) continue;
      const std::size_t stop = std::min(count, start + max_length);
      for (std::size_t end = start; end < stop; ++end) {
        best.add({first + start, first + end,
                  static_cast<double>(logits[w].start[start]) +
                      static_cast<double>(logits[w].end[end])});
      }
    }
  }
  return best.take();
}

}  // namespace bert
