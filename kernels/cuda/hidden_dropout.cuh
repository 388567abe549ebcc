// Dropout of hidden states on the device: kernels/dropout.h's bits for a group of eight channels,
// one call of Philox (about 60 integer instructions) each.
#pragma once

#include "kernels/cuda/intrinsics.cuh"
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

  // Where the bits of a token row begin.
  struct alignas(8) Row {
    std::uint32_t sequence = 0, first_group = 0;
  };
  // `row` is a valid token row.
  __device__ __forceinline__ Row row(std::int64_t row) const {
    if (threshold == 0) return {};
    return {sequence_index[token_sequence[row]],
            static_cast<std::uint32_t>(position_ids[row]) * groups};
  }
  // Of zeros without dropout.
  __device__ __forceinline__ DropoutKey read_key() const {
    return threshold == 0 ? DropoutKey{} : *key;
  }
};

// What the groups of one token row share.
class DropoutRow {
 public:
  // For a loop over rows, which reads the key once; the keys of Philox's rounds follow from it for
  // each row anew, for they would take 14 registers.
  __device__ __forceinline__ DropoutRow(const HiddenDropout& dropout, const DropoutKey& key,
                                        const HiddenDropout::Row& row)
      : threshold_(dropout.threshold),
        scale_(dropout.scale),
        site_(dropout.site),
        key_{std::uint64_t{anew(static_cast<unsigned>(key.seed >> 32))} << 32 |
                 anew(static_cast<unsigned>(key.seed)),
             anew(key.step)},
        row_(row) {}
  // `row` is a valid token row.
  __device__ __forceinline__ DropoutRow(const HiddenDropout& dropout, std::int64_t row)
      : DropoutRow(dropout, dropout.read_key(), dropout.row(row)) {}

  // values *= 0 or scale, each; `channel` is the first of its group.
  __device__ __forceinline__ void apply(int channel, float (&values)[8]) const {
    if (threshold_ == 0) return;
    const PhiloxCounter bits = dropout_bits<WideProduct>(
        key_, site_, row_.sequence, row_.first_group + static_cast<std::uint32_t>(channel / 8));
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      values[i] = dropout_value(bits, i) >= threshold_ ? values[i] * scale_ : 0.0f;
    }
  }

 private:
  std::uint32_t threshold_;
  float scale_;
  std::uint32_t site_;
  DropoutKey key_;
  HiddenDropout::Row row_;
};

}  // namespace bert::BERT_CUDA
