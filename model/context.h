// What every layer is handed besides its own memory: where to compute, and the step's dropout bits.
#pragma once

#include <cstdint>

#include "kernels/ops.h"
#include "model/bert_config.h"

namespace bert {

struct Context {
  Ops* ops = nullptr;
  const DropoutKey* dropout_key = nullptr;  // device memory; null: evaluation, no dropout
  PackedTokens tokens{};                    // of the micro-batch at hand

  Dropout dropout(double probability, DropoutSite site, std::uint32_t layer = 0) const {
    if (dropout_key == nullptr) return {};
    return {static_cast<float>(probability), dropout_site(site, layer), dropout_key};
  }
};

// How much one micro-batch may hold; every buffer is planned for it.
struct Capacity {
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
  std::int64_t masked = 0;
  std::int64_t max_seqlen = 0;

  bool operator==(const Capacity&) const = default;
};

// The two streams between the blocks of an encoder, both [T, C].
//   normalized: what the next branch (attention, feed-forward) reads.
//   residual:   what is added to that branch's output. Post-LN: the same as `normalized`. Pre-LN:
//               the sum before its LayerNorm.
struct Stream {
  Tensor normalized{};
  Tensor residual{};
};

// Memory that backward passes through from the last layer to the first.
struct BackwardWorkspace {
  Tensor d_normalized{};  // [T, C], gradient of Stream::normalized
  Tensor d_residual{};    // [T, C], gradient reaching Stream::residual besides; pre-LN only
  Tensor d_branch{};      // [T, C], gradient of a branch's output
  Tensor d_attention{};   // [T, C], gradient of the heads' outputs
  Tensor d_wide{};        // [T * max(3C, I)], gradient of qkv or of the intermediate activations
};

}  // namespace bert
