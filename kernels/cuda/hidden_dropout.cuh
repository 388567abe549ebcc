// Dropout of hidden states on the device: kernels/dropout.h's bits for a group of eight channels,
// one call of Philox (about 60 integer instructions) each.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/dropout.h"
#include "kernels/ops.h"

namespace bert::BERT_CUDA {

struct HiddenDropout {
  HiddenDropout(const Dropout& dropout, const PackedTokens& tokens, std::int64_t channels)
      : threshold(dropout_threshold(dropout.probability)),
        scale(static_cast<float>(dropout_scale(dropout.probability))),
        site(dropout.site),
        groups(static_cast<std::uint32_t>((channels + 7) / 8)),
        key(dropout.key),
        position_ids(tokens.position_ids.data<std::int32_t>()),
        token_sequence(tokens.token_sequence.data<std::int32_t>()),
        sequence_index(tokens.sequence_index.data<std::uint32_t>()) {}

  std::uint32_t threshold;  // 0: no dropout, nothing below is read
  float scale;
  std::uint32_t site, groups;  // groups of a row
  const DropoutKey* key;
  const std::int32_t *position_ids, *token_sequence;
  const std::uint32_t* sequence_index;
};

// What the groups of one token row share.
class DropoutRow {
 public:
  // `row` is a valid token row.
  __device__ __forceinline__ DropoutRow(const HiddenDropout& dropout, std::int64_t row)
      : threshold_(dropout.threshold), scale_(dropout.scale), site_(dropout.site) {
    if (threshold_ == 0) return;
    key_ = *dropout.key;
    sequence_ = dropout.sequence_index[dropout.token_sequence[row]];
    first_group_ = static_cast<std::uint32_t>(dropout.position_ids[row]) * dropout.groups;
  }

  // values *= 0 or scale, each; `channel` is the first of its group.
  __device__ __forceinline__ void apply(int channel, float (&values)[8]) const {
    if (threshold_ == 0) return;
    const PhiloxCounter bits = dropout_bits(key_, site_, sequence_,
                                            first_group_ + static_cast<std::uint32_t>(channel / 8));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[i] = dropout_value(bits, i) >= threshold_ ? values[i] * scale_ : 0.0f;
    }
  }

 private:
  std::uint32_t threshold_;
  float scale_;
  std::uint32_t site_;
  DropoutKey key_{};
  std::uint32_t sequence_ = 0, first_group_ = 0;
};

}  // namespace bert::BERT_CUDA
