// The windows in which a long context is read, and the best answers over all of them (appendix A.4
// of BERT's paper and run_squad.py).
#pragma once

#include <cstddef>
#include <span>
#include <vector>

namespace bert {

struct ContextWindow {
  std::size_t first = 0, count = 0;  // tokens of the context
};

// Windows of at most `room` tokens that begin `stride` tokens apart; the last one ends with the
// context. A stride over `room` counts as `room`, so that no token is left out. At least one
// window.
std::vector<ContextWindow> context_windows(std::size_t tokens, std::size_t room,
                                           std::size_t stride);

// For each token the window in which it has most context: the smaller of its distances to both
// ends, a hundredth of the window's length added; of equal ones the first.
std::vector<std::size_t> window_with_most_context(std::span<const ContextWindow> windows,
                                                  std::size_t tokens);

// What the model says of a window's tokens, one logit each.
struct WindowLogits {
  std::span<const float> start, end;
};

struct AnswerSpan {
  std::size_t first = 0, last = 0;  // tokens of the context
  double score = 0;                 // the start's logit and the end's
};

// The best spans of at most `max_length` tokens over all windows, best first, at most `n_best`. A
// span lies within one window, and counts only in the one where its first token has most context.
// All spans compete, where run_squad.py takes those of the n_best starts and ends of a window. Of
// equal scores the earlier one is first.
std::vector<AnswerSpan> best_answers(std::span<const ContextWindow> windows,
                                     std::span<const WindowLogits> logits, std::size_t max_length,
                                     std::size_t n_best);

}  // namespace bert
