// Softmax cross-entropy down two columns, within each sequence. With z_t the column's logits of a
// sequence's tokens and s its target: loss = log sum_t exp(z_t) - z_s, d loss / d z_t = p_t - [t =
// s] (docs/derivations/tied_cross_entropy.md, (2) to (5), tokens in place of words).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/loss_adder.h"
#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

template <typename Scalar>
void span_cross_entropy(const SpanCrossEntropy& op) {
  const std::int64_t tokens = row_count(op.tokens.num_tokens, op.logits.rows());
  const std::int64_t sequences =
      row_count(op.tokens.num_sequences, op.tokens.sequence_index.rows());
  const std::int64_t stride = op.logits.dim(1);
  const std::int32_t* cu = op.tokens.cu_seqlens.data<std::int32_t>();
  LossAdder sums(*op.sums, op.loss_unit);
  for (std::int64_t i = 0; i < 2 * sequences; ++i) {
    const std::int64_t sequence = i / 2, length = cu[sequence + 1] - cu[sequence];
    Scalar* const first = op.logits.data<Scalar>() + cu[sequence] * stride + i % 2;
    std::vector<Scalar> z(static_cast<std::size_t>(length));
    for (std::int64_t t = 0; t < length; ++t) z[static_cast<std::size_t>(t)] = first[t * stride];
    std::vector<Scalar> gradient(z.size(), Scalar(0));
    Scalar loss = 0;
    const std::int32_t target = op.targets.data<std::int32_t>()[i];
    if (target != kIgnoreIndex) {
      BERT_CHECK(target >= 0 && target < length, "target {} in sequence {} of {} tokens", target,
                 sequence, length);
      const auto largest = std::max_element(z.begin(), z.end());  // the first of equals
      Scalar sum = 0;
      for (const Scalar x : z) sum += std::exp(x - *largest);
      const Scalar lse = *largest + std::log(sum);
      loss = lse - z[static_cast<std::size_t>(target)];
      sums.add(static_cast<double>(loss), largest - z.begin() == target);
      for (std::size_t t = 0; t < z.size(); ++t) gradient[t] = std::exp(z[t] - lse);
      gradient[static_cast<std::size_t>(target)] -= Scalar(1);
    }
    if (op.target_loss) op.target_loss.data<Scalar>()[i] = loss;
    if (!op.loss_scale) continue;
    for (std::int64_t t = 0; t < length; ++t) {
      first[t * stride] =
          gradient[static_cast<std::size_t>(t)] * static_cast<Scalar>(*op.loss_scale);
    }
  }
  if (op.loss_scale) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      Scalar* const row = op.logits.data<Scalar>() + t * stride;
      std::fill(row + 2, row + stride, Scalar(0));
    }
    zero_tail<Scalar>(op.logits, tokens);
  }
  if (op.target_loss) zero_tail<Scalar>(op.target_loss, sequences);
}

}  // namespace bert::reference
