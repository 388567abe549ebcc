// Softmax cross-entropy; equations of docs/derivations/tied_cross_entropy.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kernels/loss_adder.h"
#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

template <typename Scalar>
void cross_entropy(const CrossEntropy& op) {
  const std::int64_t rows = row_count(op.rows, op.logits.rows()), classes = op.classes;
  const std::int64_t stride = op.logits.dim(1);
  LossAdder sums(*op.sums, op.loss_unit);
  for (std::int64_t r = 0; r < rows; ++r) {
    Scalar* logits = op.logits.data<Scalar>() + r * stride;
    if (op.loss_scale) std::fill(logits + classes, logits + stride, Scalar(0));
    const std::int32_t target = op.targets.data<std::int32_t>()[r];
    if (target == kIgnoreIndex) {
      if (op.loss_scale) std::fill(logits, logits + classes, Scalar(0));
      if (op.row_loss) op.row_loss.data<Scalar>()[r] = Scalar(0);
      continue;
    }
    BERT_CHECK(target >= 0 && target < classes, "target {} of row {}, {} classes", target, r,
               classes);
    const Scalar weight = op.weights ? op.weights.data<Scalar>()[r] : Scalar(1);
    const Scalar* largest = std::max_element(logits, logits + classes);  // the first of equals
    const bool correct = largest - logits == target;
    const Scalar shift = *largest;
    Scalar sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) sum += std::exp(logits[c] - shift);
    const Scalar lse = shift + std::log(sum);             // (3)
    const Scalar loss = weight * (lse - logits[target]);  // (2)
    sums.add(static_cast<double>(loss), correct);
    if (op.row_loss) op.row_loss.data<Scalar>()[r] = loss;
    if (op.loss_scale) {  // (5)
      const Scalar scale = weight * static_cast<Scalar>(*op.loss_scale);
      for (std::int64_t c = 0; c < classes; ++c) {
        const Scalar p = std::exp(logits[c] - lse);
        logits[c] = (p - (c == target ? Scalar(1) : Scalar(0))) * scale;
      }
    }
  }
  if (op.loss_scale) zero_tail<Scalar>(op.logits, rows);
  if (op.row_loss) zero_tail<Scalar>(op.row_loss, rows);
}

}  // namespace bert::reference
