// Embeddings: the sum of three table rows, LayerNorm (post-LN models), dropout.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "kernels/reference/hidden_dropout.h"
#include "kernels/reference/layer_norm.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

// The table rows of a token.
struct TokenRows {
  std::int64_t word, position, type;
};
template <typename Op>
TokenRows token_rows(const Op& op, std::int64_t t) {
  return {op.input_ids.template data<std::int32_t>()[t],
          op.tokens.position_ids.template data<std::int32_t>()[t],
          op.token_type_ids.template data<std::int32_t>()[t]};
}

// e [C] = word[...] + position[...] + type[...]
template <typename Scalar, typename Op>
void embed_row(const Op& op, std::int64_t t, std::int64_t channels, Scalar* e) {
  const TokenRows rows = token_rows(op, t);
  const Scalar* word = op.word.template data<Scalar>() + rows.word * channels;
  const Scalar* position = op.position.template data<Scalar>() + rows.position * channels;
  const Scalar* type = op.type.template data<Scalar>() + rows.type * channels;
  for (std::int64_t c = 0; c < channels; ++c) e[c] = word[c] + position[c] + type[c];
}

template <typename Scalar>
void embeddings_forward(const EmbeddingsForward& op) {
  const std::int64_t channels = op.y.dim(1);
  const std::int64_t count = row_count(op.tokens.num_tokens, op.y.rows());
  HiddenDropout<Scalar> dropout(op.dropout, op.tokens, channels);
  for (std::int64_t t = 0; t < count; ++t) {
    Scalar* y = op.y.data<Scalar>() + t * channels;
    embed_row(op, t, channels, y);
    if (op.gamma) {
      layer_norm_row(y, op.gamma.data<Scalar>(), op.beta.data<Scalar>(), op.epsilon, channels, y,
                     op.mean.data<Scalar>() + t, op.rstd.data<Scalar>() + t);
    }
    const Scalar* keep = dropout.factors(t);
    for (std::int64_t c = 0; c < channels; ++c) y[c] *= keep[c];
  }
  zero_tail<Scalar>(op.y, count);
}

template <typename Scalar>
void embeddings_backward(const EmbeddingsBackward& op) {
  const std::int64_t channels = op.dy.dim(1);
  const std::int64_t count = row_count(op.tokens.num_tokens, op.dy.rows());
  HiddenDropout<Scalar> dropout(op.dropout, op.tokens, channels);
  std::vector<Scalar> e(static_cast<std::size_t>(channels)), de(e.size());
  for (std::int64_t t = 0; t < count; ++t) {
    const Scalar* keep = dropout.factors(t);
    const Scalar* dy = op.dy.data<Scalar>() + t * channels;
    for (std::size_t c = 0; c < de.size(); ++c) de[c] = dy[c] * keep[c];
    if (op.gamma) {
      embed_row(op, t, channels, e.data());
      layer_norm_backward_row(de.data(), e.data(), op.gamma.data<Scalar>(),
                              op.mean.data<Scalar>()[t], op.rstd.data<Scalar>()[t], channels,
                              de.data(), false, op.dgamma.data<Scalar>(), op.dbeta.data<Scalar>());
    }
    const TokenRows rows = token_rows(op, t);
    Scalar* dword = op.dword.data<Scalar>() + rows.word * channels;
    Scalar* dposition = op.dposition.data<Scalar>() + rows.position * channels;
    Scalar* dtype = op.dtype.data<Scalar>() + rows.type * channels;
    for (std::size_t c = 0; c < de.size(); ++c) {
      dword[c] += de[c];
      dposition[c] += de[c];
      dtype[c] += de[c];
    }
  }
}

}  // namespace bert::reference
