// Dropout of hidden states: the factor of every channel of a token row.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/dropout.h"
#include "kernels/ops.h"

namespace bert::reference {

template <typename Scalar>
class HiddenDropout {
 public:
  HiddenDropout(const Dropout& dropout, const PackedTokens& tokens, std::int64_t channels)
      : dropout_(dropout),
        position_ids_(tokens.position_ids.data<std::int32_t>()),
        token_sequence_(tokens.token_sequence.data<std::int32_t>()),
        sequence_index_(tokens.sequence_index.data<std::uint32_t>()),
        factors_(static_cast<std::size_t>(channels), Scalar(1)) {}

  // [C]: 0 where token row `t` is dropped, 1 / (1 - p) where it is kept; all 1 without dropout.
  // Valid until the next call.
  const Scalar* factors(std::int64_t t) {
    if (dropout_.probability == 0.0f) return factors_.data();
    const std::uint32_t threshold = dropout_threshold(dropout_.probability);
    const Scalar scale = static_cast<Scalar>(dropout_scale(dropout_.probability));
    const std::uint32_t sequence = sequence_index_[token_sequence_[t]];
    const std::int64_t channels = static_cast<std::int64_t>(factors_.size());
    PhiloxCounter bits{};
    for (std::int64_t c = 0; c < channels; ++c) {
      const DropoutPlace place = hidden_dropout_place(position_ids_[t], c, channels);
      if (place.element == 0) {
        bits = dropout_bits(*dropout_.key, dropout_.site, sequence, place.group);
      }
      factors_[static_cast<std::size_t>(c)] =
          dropout_value(bits, place.element) >= threshold ? scale : Scalar(0);
    }
    return factors_.data();
  }

 private:
  Dropout dropout_;
  const std::int32_t* position_ids_;
  const std::int32_t* token_sequence_;
  const std::uint32_t* sequence_index_;
  std::vector<Scalar> factors_;
};

}  // namespace bert::reference
