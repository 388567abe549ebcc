#include "train/profile/op_work.h"

#include <algorithm>

namespace bert {
namespace {

double element(const Tensor& tensor) { return static_cast<double>(dtype_size(tensor.dtype())); }
double columns(const Tensor& tensor) { return static_cast<double>(tensor.dim(-1)); }

// Elements of the rows of `tensor` that count.
double counted_rows(const Tensor& tensor, DeviceCount count, bool read_counts) {
  const std::int64_t capacity = tensor.rows();
  return static_cast<double>(read_counts ? std::min<std::int64_t>(*count, capacity) : capacity);
}
double counted(const Tensor& tensor, DeviceCount count, bool read_counts) {
  return counted_rows(tensor, count, read_counts) * columns(tensor);
}

// As often as `times` says, each element of the rows that count is read or written.
OpWork moved(double times, const Tensor& tensor, DeviceCount count, bool read_counts) {
  return {.bytes = times * element(tensor) * counted(tensor, count, read_counts)};
}

// The lengths of all sequences squared and added up.
double squared_lengths(const PackedTokens& tokens, bool read_counts) {
  if (!read_counts) {
    return static_cast<double>(tokens.token_sequence.rows()) *
           static_cast<double>(tokens.max_seqlen);
  }
  const std::int32_t* const starts = tokens.cu_seqlens.data<std::int32_t>();
  double sum = 0.0;
  for (std::int32_t b = 0; b < *tokens.num_sequences; ++b) {
    const double length = starts[b + 1] - starts[b];
    sum += length * length;
  }
  return sum;
}

}  // namespace

// The tables of positions and types stay in cache, here and in backward.
OpWork work_of(const EmbeddingsForward& op, bool read_counts) {
  return moved(2.0, op.y, op.tokens.num_tokens, read_counts);
}

// dy and the word's row are read; the row of dword is read and written.
OpWork work_of(const EmbeddingsBackward& op, bool read_counts) {
  const double accumulated = op.dword ? 2.0 * element(op.dword) : 0.0;
  return {.bytes = (2.0 * element(op.dy) + accumulated) *
                   counted(op.dy, op.tokens.num_tokens, read_counts)};
}

OpWork work_of(const LayerNormForward& op, bool read_counts) {
  return moved(2.0, op.x, op.rows, read_counts);
}
OpWork work_of(const LayerNormBackward& op, bool read_counts) {
  return moved(op.accumulate_dx ? 4.0 : 3.0, op.dy, op.rows, read_counts);
}
OpWork work_of(const BiasDropoutResidualLayerNormForward& op, bool read_counts) {
  return moved(4.0, op.x, op.tokens.num_tokens, read_counts);
}
OpWork work_of(const BiasDropoutResidualLayerNormBackward& op, bool read_counts) {
  return moved(op.dz ? 5.0 : 4.0, op.dy, op.tokens.num_tokens, read_counts);
}

OpWork work_of(const LinearForward& op, bool read_counts) {
  return {.flop = 2.0 * counted(op.x, op.rows, read_counts) * columns(op.y)};
}
OpWork work_of(const LinearBackward& op, bool read_counts) {
  const double products = (op.dx ? 1.0 : 0.0) + (op.dweight ? 1.0 : 0.0);
  return {.flop =
              products * 2.0 * counted(op.dy, op.rows, read_counts) * columns(op.weight.compute)};
}
OpWork work_of(const ActivationBackward& op, bool read_counts) {
  return moved(3.0, op.dy, op.rows, read_counts);
}

// Two products of T x T x HS for each sequence and head; five in backward, which makes one of them
// again.
OpWork work_of(const AttentionForward& op, bool read_counts) {
  return {.flop = 4.0 * squared_lengths(op.tokens, read_counts) * columns(op.y)};
}
OpWork work_of(const AttentionBackward& op, bool read_counts) {
  return {.flop = 10.0 * squared_lengths(op.tokens, read_counts) * columns(op.y)};
}

OpWork work_of(const GatherRows& op, bool read_counts) {
  return moved(2.0, op.y, op.count, read_counts);
}
OpWork work_of(const ScatterAddRows& op, bool read_counts) {
  return moved(3.0, op.y, op.count, read_counts);
}
OpWork work_of(const DropoutRows& op, bool read_counts) {
  return moved(op.dropout.probability > 0.0f ? 2.0 : 0.0, op.x, op.count, read_counts);
}

OpWork work_of(const CrossEntropy& op, bool read_counts) {
  return {.bytes = (op.loss_scale != nullptr ? 2.0 : 1.0) * element(op.logits) *
                   counted_rows(op.logits, op.rows, read_counts) * static_cast<double>(op.classes)};
}
// The gradient has columns of padding, which become zeros.
OpWork work_of(const SquaredError& op, bool read_counts) {
  const double written = op.loss_scale != nullptr ? columns(op.predictions) : 0.0;
  return {.bytes = ((1.0 + written) * element(op.predictions) + element(op.targets)) *
                   counted_rows(op.predictions, op.rows, read_counts)};
}
OpWork work_of(const SpanCrossEntropy& op, bool read_counts) {
  const double written = op.loss_scale != nullptr ? columns(op.logits) : 0.0;
  return {.bytes = (2.0 + written) * element(op.logits) *
                   counted_rows(op.logits, op.tokens.num_tokens, read_counts)};
}

OpWork work_of(const AddFixedPoint& op, bool) {
  return {.bytes = static_cast<double>(op.x.bytes() + 2 * op.sums.bytes())};
}
OpWork work_of(const ReadFixedPoint& op, bool) {
  return {.bytes = static_cast<double>(op.x.bytes() + op.sums.bytes())};
}
OpWork work_of(const ComputeGradientNorm& op, bool) {
  return {.bytes = static_cast<double>(op.gradients.bytes())};
}
// Parameters and both moments are read and written, gradients are read.
OpWork work_of(const AdamW& op, bool) {
  const std::size_t copies = op.compute ? op.compute.bytes() : 0;
  return {.bytes = static_cast<double>(7 * op.parameters.bytes() + copies)};
}
OpWork work_of(const Tensor& zeroed, bool) {
  return {.bytes = static_cast<double>(zeroed.bytes())};
}

}  // namespace bert
