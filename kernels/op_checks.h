// What every backend checks before it touches memory: shapes, dtypes, presence, forbidden aliases.
// `dtype` is the backend's Ops::dtype(). A broken promise throws RuntimeError that names the op,
// the tensor, what it was and what was expected. Counts lie in device memory and are not read here.
#pragma once

#include "kernels/ops.h"

namespace bert {

// f64 keeps its statistics and parameters in f64, every other dtype in f32.
inline constexpr DType statistics_dtype_of(DType dtype) {
  return dtype == DType::f64 ? DType::f64 : DType::f32;
}

void check(const EmbeddingsForward& op, DType dtype);
void check(const EmbeddingsBackward& op, DType dtype);
void check(const LayerNormForward& op, DType dtype);
void check(const LayerNormBackward& op, DType dtype);
void check(const BiasDropoutResidualLayerNormForward& op, DType dtype);
void check(const BiasDropoutResidualLayerNormBackward& op, DType dtype);
void check(const LinearForward& op, DType dtype);
void check(const LinearBackward& op, DType dtype);
void check(const ActivationBackward& op, DType dtype);
void check(const AttentionForward& op, DType dtype);
void check(const AttentionBackward& op, DType dtype);
void check(const GatherRows& op, DType dtype);
void check(const ScatterAddRows& op, DType dtype);
void check(const DropoutRows& op, DType dtype);
void check(const CrossEntropy& op, DType dtype);
void check(const SquaredError& op, DType dtype);
void check(const SpanCrossEntropy& op, DType dtype);
void check(const AddFixedPoint& op, DType dtype);
void check(const ReadFixedPoint& op, DType dtype);
void check(const ComputeGradientNorm& op, DType dtype);
void check(const AdamW& op, DType dtype);

}  // namespace bert
