// Embeddings: a gather of three rows, LayerNorm and dropout in one pass (12 bytes read, 4 written
// an element forward). Backward first turns dy into the gradient of e in place, then scatters it:
// each part owns some of the channels of every table, so no two parts add to the same place and
// the order of addition is the order of the tokens.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/hidden_dropout.h"
#include "kernels/cpu/layer_norm_row.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/with_flag.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {
namespace {

// The three table rows of a token.
template <typename Real>
struct TokenRows {
  const Real *word, *position, *type;
};
template <typename Real, typename Op>
TokenRows<Real> token_rows(const Op& op, std::int64_t t, std::int64_t channels) {
  return {op.word.template data<Real>() + op.input_ids.template data<std::int32_t>()[t] * channels,
          op.position.template data<Real>() +
              op.tokens.position_ids.template data<std::int32_t>()[t] * channels,
          op.type.template data<Real>() +
              op.token_type_ids.template data<std::int32_t>()[t] * channels};
}
template <typename Real, typename Lanes>
F32 embedding(const TokenRows<Real>& rows, std::int64_t c, Lanes lanes) {
  return load(rows.word + c, lanes) + load(rows.position + c, lanes) + load(rows.type + c, lanes);
}

template <typename Real, bool kDropout>
void forward_rows(const EmbeddingsForward& op, Range range, float* scratch, float* e) {
  const std::int64_t channels = op.y.dim(1);
  const float *gamma = op.gamma.data<float>(), *beta = op.beta.data<float>();
  HiddenDropout<kDropout> dropout(op.dropout, op.tokens, channels, scratch);
  for (std::int64_t t = range.begin; t < range.end; ++t) {
    const TokenRows<Real> rows = token_rows<Real>(op, t, channels);
    Real* y = op.y.data<Real>() + t * channels;
    dropout.choose_row(t);
    F32 total{};
    for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
      const F32 sum_of_rows = embedding(rows, c, lanes);
      total += sum_of_rows;
      store(e + c, sum_of_rows, lanes);
    });
    RowStatistics row{0.0f, 1.0f};
    if (gamma != nullptr) {
      row = row_statistics(e, channels, total, op.epsilon);
      op.mean.data<float>()[t] = row.mean;
      op.rstd.data<float>()[t] = row.rstd;
    }
    for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
      const F32 v =
          gamma != nullptr ? normalized(e, gamma, beta, c, row, lanes) : load(e + c, lanes);
      store(y + c, dropout(v, c), lanes);
    });
  }
}

// dy becomes the gradient of e = word + position + type.
template <typename Real, bool kDropout>
void backward_rows(const EmbeddingsBackward& op, Range range, float* scratch, float* e,
                   float* dgamma, float* dbeta) {
  const std::int64_t channels = op.dy.dim(1);
  const float* gamma = op.gamma.data<float>();
  HiddenDropout<kDropout> dropout(op.dropout, op.tokens, channels, scratch);
  for (std::int64_t t = range.begin; t < range.end; ++t) {
    Real* dy = op.dy.data<Real>() + t * channels;
    if constexpr (kDropout) {
      dropout.choose_row(t);
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        store(dy + c, dropout(load(dy + c, lanes), c), lanes);
      });
    }
    if (gamma == nullptr) continue;
    const TokenRows<Real> rows = token_rows<Real>(op, t, channels);
    for_lanes(0, channels,
              [&](std::int64_t c, auto lanes) { store(e + c, embedding(rows, c, lanes), lanes); });
    const RowStatistics row{op.mean.data<float>()[t], op.rstd.data<float>()[t]};
    const RowGradientMeans means =
        row_gradient_means([&](std::int64_t c, auto lanes) { return load(dy + c, lanes); }, e,
                           gamma, channels, row, dgamma, dbeta);
    for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
      store(dy + c, row_gradient(load(dy + c, lanes), e, gamma, c, row, means, lanes), lanes);
    });
  }
}

// table[ids[t]][c] += de[t][c] for the channels c of `range`, in token order.
template <typename Real>
void scatter_add(const Real* de, const std::int32_t* ids, std::int64_t tokens,
                 std::int64_t channels, Range range, float* table) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    const Real* from = de + t * channels;
    float* to = table + ids[t] * channels;
    for_lanes(range.begin, range.end, [&](std::int64_t c, auto lanes) {
      store(to + c, load(to + c, lanes) + load(from + c, lanes), lanes);
    });
  }
}

}  // namespace

template <typename Real>
void CpuOps<Real>::embeddings_forward(const EmbeddingsForward& op) {
  check(op, dtype());
  const std::int64_t tokens = row_count(op.tokens.num_tokens, op.y.rows());
  const std::int64_t row = round_up(op.y.dim(1), 16);
  const std::int64_t part_stride = row + hidden_dropout_scratch(op.y.dim(1));
  float* scratch = per_part(part_stride);
  on_parts(team_, [&](int part) {
    float* const e = scratch + part_stride * part;
    const Range range = share(tokens, part, team_.parts);
    with_flag(op.dropout.probability > 0.0f,
              [&](auto dropout) { forward_rows<Real, dropout.value>(op, range, e + row, e); });
  });
  zero_tail(op.y, tokens);
}

template <typename Real>
void CpuOps<Real>::embeddings_backward(const EmbeddingsBackward& op) {
  check(op, dtype());
  const std::int64_t tokens = row_count(op.tokens.num_tokens, op.dy.rows());
  const std::int64_t channels = op.dy.dim(1), stride = round_up(channels, 16);
  const std::int64_t part_stride = 3 * stride + hidden_dropout_scratch(channels);
  float* scratch = per_part(part_stride);
  on_parts(team_, [&](int part) {
    float* own = scratch + part_stride * part;
    std::memset(own, 0, static_cast<std::size_t>(2 * stride) * sizeof(float));
    const Range range = share(tokens, part, team_.parts);
    with_flag(op.dropout.probability > 0.0f, [&](auto dropout) {
      backward_rows<Real, dropout.value>(op, range, own + 3 * stride, own + 2 * stride, own,
                                         own + stride);
    });
  });
  if (op.gamma) {
    add_partials(scratch, part_stride, channels, op.dgamma.data<float>());
    add_partials(scratch + stride, part_stride, channels, op.dbeta.data<float>());
  }
  on_parts(team_, [&](int part) {
    const Range range = share(channels, part, team_.parts, 16);
    const Real* de = op.dy.data<Real>();
    scatter_add(de, op.input_ids.data<std::int32_t>(), tokens, channels, range,
                op.dword.data<float>());
    scatter_add(de, op.tokens.position_ids.data<std::int32_t>(), tokens, channels, range,
                op.dposition.data<float>());
    scatter_add(de, op.token_type_ids.data<std::int32_t>(), tokens, channels, range,
                op.dtype.data<float>());
  });
}

template void CpuOps<float>::embeddings_forward(const EmbeddingsForward&);
template void CpuOps<Bfloat16>::embeddings_forward(const EmbeddingsForward&);
template void CpuOps<float>::embeddings_backward(const EmbeddingsBackward&);
template void CpuOps<Bfloat16>::embeddings_backward(const EmbeddingsBackward&);

}  // namespace bert::cpu
