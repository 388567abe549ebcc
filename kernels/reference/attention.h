// Self-attention within each packed sequence; equations of docs/derivations/attention.md.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/dropout.h"
#include "kernels/ops.h"
#include "kernels/reference/zero_tail.h"
#include "kernels/row_count.h"

namespace bert::reference {

// One head of one sequence: where its rows lie, and the dropout factor of each probability.
struct AttentionHead {
  std::int64_t first, length;       // token rows [first, first + length)
  std::int64_t head, head_size;     // columns [head * head_size, ...) of Q, K, V and y
  std::int64_t channels, capacity;  // C, T
  std::uint32_t sequence_index;
  Dropout dropout;

  // Q, K or V (part 0, 1, 2) of the sequence's token i.
  template <typename Scalar>
  Scalar* part(const Tensor& qkv, int part, std::int64_t i) const {
    return qkv.data<Scalar>() + (first + i) * 3 * channels + part * channels + head * head_size;
  }
  template <typename Scalar>
  Scalar* row(const Tensor& y, std::int64_t i) const {
    return y.data<Scalar>() + (first + i) * channels + head * head_size;
  }
  template <typename Scalar>
  Scalar* lse_of(const Tensor& lse, std::int64_t i) const {
    return lse.data<Scalar>() + head * capacity + first + i;
  }
  template <typename Scalar>
  Scalar scale() const {
    return Scalar(1) / std::sqrt(static_cast<Scalar>(head_size));
  }

  // M_ij of (3): 0 or 1 / (1 - p).
  template <typename Scalar>
  Scalar keep(std::int64_t query, std::int64_t key) const {
    if (dropout.probability == 0.0f) return Scalar(1);
    const DropoutPlace place = attention_dropout_place(head, query, key, length);
    const PhiloxCounter bits =
        dropout_bits(*dropout.key, dropout.site, sequence_index, place.group);
    return dropout_value(bits, place.element) >= dropout_threshold(dropout.probability)
               ? static_cast<Scalar>(dropout_scale(dropout.probability))
               : Scalar(0);
  }
};

template <typename Scalar>
Scalar dot(const Scalar* a, const Scalar* b, std::int64_t n) {
  Scalar sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// Calls body(AttentionHead) for every head of every sequence of the micro-batch.
template <typename Op, typename Body>
void for_each_head(const Op& op, Body body) {
  const std::int64_t capacity = op.y.rows(), channels = op.y.dim(1);
  const std::int32_t* cu = op.tokens.cu_seqlens.template data<std::int32_t>();
  const std::int64_t sequences =
      row_count(op.tokens.num_sequences, op.tokens.sequence_index.rows());
  for (std::int64_t s = 0; s < sequences; ++s) {
    BERT_CHECK(cu[s + 1] >= cu[s] && cu[s + 1] <= capacity, "cu_seqlens of sequence {}", s);
    BERT_CHECK(cu[s + 1] - cu[s] <= op.tokens.max_seqlen,
               "sequence {} has {} tokens, max_seqlen {}", s, cu[s + 1] - cu[s],
               op.tokens.max_seqlen);
    for (std::int64_t h = 0; h < op.num_heads; ++h) {
      body(AttentionHead{cu[s], cu[s + 1] - cu[s], h, channels / op.num_heads, channels, capacity,
                         op.tokens.sequence_index.template data<std::uint32_t>()[s], op.dropout});
    }
  }
}

template <typename Scalar>
void attention_forward(const AttentionForward& op) {
  std::vector<Scalar> scores;
  for_each_head(op, [&](const AttentionHead& head) {
    scores.resize(static_cast<std::size_t>(head.length));
    for (std::int64_t i = 0; i < head.length; ++i) {
      const Scalar* q = head.part<Scalar>(op.qkv, 0, i);
      for (std::int64_t j = 0; j < head.length; ++j) {  // (1)
        scores[static_cast<std::size_t>(j)] =
            head.scale<Scalar>() * dot(q, head.part<Scalar>(op.qkv, 1, j), head.head_size);
      }
      const Scalar largest = *std::max_element(scores.begin(), scores.end());
      Scalar sum = 0;
      for (const Scalar score : scores) sum += std::exp(score - largest);
      const Scalar lse = largest + std::log(sum);  // (2)
      *head.lse_of<Scalar>(op.lse, i) = lse;

      Scalar* y = head.row<Scalar>(op.y, i);
      std::fill(y, y + head.head_size, Scalar(0));
      for (std::int64_t j = 0; j < head.length; ++j) {  // (3), (4)
        const Scalar p = std::exp(scores[static_cast<std::size_t>(j)] - lse);
        const Scalar* v = head.part<Scalar>(op.qkv, 2, j);
        const Scalar kept = p * head.keep<Scalar>(i, j);
        for (std::int64_t d = 0; d < head.head_size; ++d) y[d] += kept * v[d];
      }
    }
  });
  zero_tail<Scalar>(op.y, row_count(op.tokens.num_tokens, op.y.rows()));
}

template <typename Scalar>
void attention_backward(const AttentionBackward& op) {
  Scalar* dqkv = op.dqkv.data<Scalar>();
  std::fill(dqkv, dqkv + op.dqkv.numel(), Scalar(0));
  for_each_head(op, [&](const AttentionHead& head) {
    for (std::int64_t i = 0; i < head.length; ++i) {
      const Scalar* q = head.part<Scalar>(op.qkv, 0, i);
      const Scalar* dy = head.row<Scalar>(op.dy, i);
      const Scalar delta = dot(dy, head.row<Scalar>(op.y, i), head.head_size);  // (9)
      const Scalar lse = *head.lse_of<Scalar>(op.lse, i);
      Scalar* dq = head.part<Scalar>(op.dqkv, 0, i);
      for (std::int64_t j = 0; j < head.length; ++j) {
        const Scalar* k = head.part<Scalar>(op.qkv, 1, j);
        const Scalar* v = head.part<Scalar>(op.qkv, 2, j);
        Scalar* dk = head.part<Scalar>(op.dqkv, 1, j);
        Scalar* dv = head.part<Scalar>(op.dqkv, 2, j);
        const Scalar p =  // (5)
            std::exp(head.scale<Scalar>() * dot(q, k, head.head_size) - lse);
        const Scalar keep = head.keep<Scalar>(i, j);
        const Scalar dp = keep * dot(dy, v, head.head_size);  // (7)
        const Scalar ds = p * (dp - delta);                   // (10)
        for (std::int64_t d = 0; d < head.head_size; ++d) {
          dv[d] += p * keep * dy[d];                  // (6)
          dq[d] += head.scale<Scalar>() * ds * k[d];  // (11)
          dk[d] += head.scale<Scalar>() * ds * q[d];  // (12)
        }
      }
    }
  });
}

}  // namespace bert::reference
