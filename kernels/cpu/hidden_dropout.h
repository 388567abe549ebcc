// Dropout of hidden states, a token row at a time, by one thread.
#pragma once

#include <cstdint>

#include "kernels/cpu/random_bits.h"
#include "kernels/ops.h"

namespace bert::cpu {

// How many floats of scratch HiddenDropout needs for rows of `channels`: a multiple of 16.
inline std::int64_t hidden_dropout_scratch(std::int64_t channels) {
  return dropout_row_capacity(channels) / 2;
}

// Without kDropout everything stays as it is.
template <bool kDropout>
class HiddenDropout {
 public:
  HiddenDropout(const Dropout& dropout, const PackedTokens& tokens, std::int64_t channels,
                float* scratch)
      : dropout_(dropout),
        position_ids_(tokens.position_ids.data<std::int32_t>()),
        token_sequence_(tokens.token_sequence.data<std::int32_t>()),
        sequence_index_(tokens.sequence_index.data<std::uint32_t>()),
        channels_(channels),
        keep_(dropout),
        values_(reinterpret_cast<std::uint16_t*>(scratch)) {}

  // From now on token row t is dropped out.
  void choose_row(std::int64_t t) {
    if constexpr (kDropout) {
      hidden_dropout_row(*dropout_.key, dropout_.site, sequence_index_[token_sequence_[t]],
                         position_ids_[t], channels_, values_);
    }
  }
  // x, channels c to c + kLanes of the row, dropped out.
  F32 operator()(F32 x, std::int64_t c) const {
    if constexpr (kDropout) x *= keep_(values_ + c);
    return x;
  }

 private:
  Dropout dropout_;
  const std::int32_t *position_ids_, *token_sequence_;
  const std::uint32_t* sequence_index_;
  std::int64_t channels_;
  DropoutScale keep_;
  std::uint16_t* values_;
};

}  // namespace bert::cpu
