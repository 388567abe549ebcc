// What an op has to do at least: the FLOP of its products, and the bytes that must move, each
// counted once. docs/performance.md has the same as a table.
#pragma once

#include "kernels/ops.h"

namespace bert {

struct OpWork {
  double flop = 0.0;   // of products and attention only
  double bytes = 0.0;  // of everything else only, which memory limits
};

// `read_counts`: the op's counts lie in memory that the host can read, and the rows that count are
// what is computed; otherwise all rows are, and a sequence is as long as any may be.
OpWork work_of(const EmbeddingsForward& op, bool read_counts);
OpWork work_of(const EmbeddingsBackward& op, bool read_counts);
OpWork work_of(const LayerNormForward& op, bool read_counts);
OpWork work_of(const LayerNormBackward& op, bool read_counts);
OpWork work_of(const BiasDropoutResidualLayerNormForward& op, bool read_counts);
OpWork work_of(const BiasDropoutResidualLayerNormBackward& op, bool read_counts);
OpWork work_of(const LinearForward& op, bool read_counts);
OpWork work_of(const LinearBackward& op, bool read_counts);
OpWork work_of(const ActivationBackward& op, bool read_counts);
OpWork work_of(const AttentionForward& op, bool read_counts);
OpWork work_of(const AttentionBackward& op, bool read_counts);
OpWork work_of(const GatherRows& op, bool read_counts);
OpWork work_of(const ScatterAddRows& op, bool read_counts);
OpWork work_of(const DropoutRows& op, bool read_counts);
OpWork work_of(const CrossEntropy& op, bool read_counts);
OpWork work_of(const SquaredError& op, bool read_counts);
OpWork work_of(const SpanCrossEntropy& op, bool read_counts);
OpWork work_of(const AddFixedPoint& op, bool read_counts);
OpWork work_of(const ReadFixedPoint& op, bool read_counts);
OpWork work_of(const ComputeGradientNorm& op, bool read_counts);
OpWork work_of(const AdamW& op, bool read_counts);
OpWork work_of(const Tensor& zeroed, bool read_counts);

}  // namespace bert
