// Attention, one (sequence, head) at a time on one core: K and V (and their transposes) are copied
// into scratch, then a block of query rows goes through scores, softmax and the product with V
// while it is in cache. 4 T HS FLOP a query row forward, 10 backward; a [kQueryRows, T] block of
// scores is all that is ever kept. Backward recomputes P from the log-sum-exp:
//   dV = P~^T dY;  dP = mask * (dY V^T);  dS = P * (dP - rowsum(dY * Y));  dQ = dS K;  dK = dS^T Q.
#include <cmath>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random_bits.h"
#include "kernels/cpu/small_product.h"
#include "kernels/cpu/softmax_row.h"
#include "kernels/cpu/vector_math.h"
#include "kernels/cpu/with_flag.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {
namespace {

constexpr std::int64_t kQueryRows = 32;  // a multiple of the dropout tile's 16
constexpr std::int64_t kTile = 16;

// One head of one sequence.
struct HeadTask {
  std::int64_t head, first_token, length;
  std::uint32_t sequence_index;
};

HeadTask head_task(const PackedTokens& tokens, std::int64_t num_heads, std::int64_t task) {
  const std::int64_t sequence = task / num_heads;
  const auto* cu_seqlens = tokens.cu_seqlens.data<std::int32_t>();
  return {task % num_heads, cu_seqlens[sequence], cu_seqlens[sequence + 1] - cu_seqlens[sequence],
          tokens.sequence_index.data<std::uint32_t>()[sequence]};
}

// Sizes of a thread's scratch, for the longest sequence.
struct Layout {
  std::int64_t keys;      // row of a [.., T] matrix: T rounded up to tiles
  std::int64_t channels;  // row of a [.., HS] matrix: HS rounded up to registers
  std::int64_t bits() const { return kQueryRows * keys / 2; }   // u16, counted in floats
  std::int64_t scores() const { return kQueryRows * keys; }     // [kQueryRows, T]
  std::int64_t transposed() const { return channels * keys; }   // [HS, T]
  std::int64_t whole() const { return keys * channels; }        // [T, HS]
  std::int64_t block() const { return kQueryRows * channels; }  // [kQueryRows, HS]
};

Layout layout(const PackedTokens& tokens, std::int64_t head_size) {
  return {round_up(tokens.max_seqlen, kTile), round_up(head_size, kLanes)};
}

// The 16-bit values of query rows [first, first + rows) and all keys; `values` [kQueryRows, keys].
void dropout_values(const Dropout& dropout, const HeadTask& task, std::int64_t first,
                    std::int64_t rows, std::uint16_t* values, std::int64_t stride) {
  for (std::int64_t i = 0; i < rows; i += kTile) {
    for (std::int64_t key = 0; key < task.length; key += kTile) {
      const DropoutPlace corner =
          attention_dropout_place(task.head, first + i, key, task.length);  // lane 0 of its tile
      attention_dropout_tile(*dropout.key, dropout.site, task.sequence_index, corner.group,
                             values + i * stride + key, stride);
    }
  }
}

// Asks for rows [first, first + kQueryRows) of one head's columns ahead of their use: they lie a
// whole row of the matrix apart, where the processor does not foresee them.
template <typename Real>
void prefetch_rows(const Real* head, std::int64_t row, std::int64_t first, std::int64_t length,
                   std::int64_t head_size) {
  const std::int64_t end = first + kQueryRows < length ? first + kQueryRows : length;
  for (std::int64_t i = first; i < end; ++i) {
    for (std::int64_t c = 0; c < head_size; c += 64 / sizeof(Real)) {
      __builtin_prefetch(head + i * row + c);
    }
  }
}

template <typename Real>
class Forward {
 public:
  Forward(const AttentionForward& op, const Layout& layout, float* scratch)
      : op_(op), layout_(layout), keep_(op.dropout) {
    keys_ = scratch;
    values_ = keys_ + layout.transposed();
    query_ = values_ + layout.whole();
    scores_ = query_ + layout.block();
    out_ = scores_ + layout.scores();
    bits_ = reinterpret_cast<std::uint16_t*>(out_ + layout.block());
  }
  static std::int64_t scratch_size(const Layout& layout) {
    return layout.transposed() + layout.whole() + layout.scores() + 2 * layout.block() +
           layout.bits();
  }

  template <bool kDropout>
  void run(const HeadTask& task) const {
    const std::int64_t hidden = op_.y.dim(1), head_size = hidden / op_.num_heads;
    const Real* query =
        op_.qkv.data<Real>() + task.first_token * 3 * hidden + task.head * head_size;
    prefetch_rows(query, 3 * hidden, 0, task.length, head_size);
    transpose(query + hidden, 3 * hidden, task.length, head_size, keys_, layout_.keys);
    copy_rows(query + 2 * hidden, 3 * hidden, task.length, head_size, values_, layout_.channels);
    for (std::int64_t first = 0; first < task.length; first += kQueryRows) {
      const std::int64_t rows = task.length - first < kQueryRows ? task.length - first : kQueryRows;
      prefetch_rows(query, 3 * hidden, first + kQueryRows, task.length, head_size);
      copy_rows(query + first * 3 * hidden, 3 * hidden, rows, head_size, query_, layout_.channels);
      small_product(rows, round_up(task.length, kLanes), head_size, {query_, layout_.channels, 1},
                    {keys_, layout_.keys}, scores_, layout_.keys, false);
      if constexpr (kDropout) {
        dropout_values(op_.dropout, task, first, rows, bits_, layout_.keys);
      }
      float inverse[kQueryRows];
      for (std::int64_t i = 0; i < rows; ++i) {
        inverse[i] = softmax_row<kDropout>(task, first, i);
      }
      small_product(rows, layout_.channels, task.length, {scores_, layout_.keys, 1},
                    {values_, layout_.channels}, out_, layout_.channels, false);
      Real* y = op_.y.data<Real>() + (task.first_token + first) * hidden + task.head * head_size;
      for (std::int64_t i = 0; i < rows; ++i) {
        for_lanes(0, head_size, [&](std::int64_t c, auto lanes) {
          store(y + i * hidden + c, load(out_ + i * layout_.channels + c) * splat(inverse[i]),
                lanes);
        });
      }
    }
  }

 private:
  // Row i of the block becomes e^(score - max), dropped out; returns 1 / their sum before dropout.
  template <bool kDropout>
  float softmax_row(const HeadTask& task, std::int64_t first, std::int64_t i) const {
    const std::int64_t head_size = op_.y.dim(1) / op_.num_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_size));
    float* row = scores_ + i * layout_.keys;
    const std::uint16_t* bits = bits_ + i * layout_.keys;
    F32 largest = splat(kMinusInfinity);
    for_lanes(0, task.length, [&](std::int64_t j, auto lanes) {
      largest = max(largest, keep_lanes(load(row + j), lanes, kMinusInfinity));
    });
    const float shift = max(largest) * scale;
    F32 total{};
    for_lanes(0, task.length, [&](std::int64_t j, auto lanes) {
      const F32 p = keep_lanes(exp_nonpositive(load(row + j) * splat(scale) - splat(shift)), lanes);
      total += p;
      store(row + j, kDropout ? p * keep_(bits + j) : p);
    });
    const float denominator = sum(total);
    op_.lse.data<float>()[task.head * op_.lse.dim(1) + task.first_token + first + i] =
        shift + std::log(denominator);
    return 1.0f / denominator;
  }

  const AttentionForward& op_;
  Layout layout_;
  DropoutScale keep_;
  float *keys_, *values_, *query_, *scores_, *out_;
  std::uint16_t* bits_;
};

template <typename Real>
class Backward {
 public:
  Backward(const AttentionBackward& op, const Layout& layout, float* scratch)
      : op_(op), layout_(layout), keep_(op.dropout) {
    keys_transposed_ = scratch;
    values_transposed_ = keys_transposed_ + layout.transposed();
    keys_ = values_transposed_ + layout.transposed();
    dkeys_ = keys_ + layout.whole();
    dvalues_ = dkeys_ + layout.whole();
    query_ = dvalues_ + layout.whole();
    dy_ = query_ + layout.block();
    dquery_ = dy_ + layout.block();
    p_ = dquery_ + layout.block();
    ds_ = p_ + layout.scores();
    bits_ = reinterpret_cast<std::uint16_t*>(ds_ + layout.scores());
  }
  static std::int64_t scratch_size(const Layout& layout) {
    return 2 * layout.transposed() + 3 * layout.whole() + 3 * layout.block() + 2 * layout.scores() +
           layout.bits();
  }

  template <bool kDropout>
  void run(const HeadTask& task) const {
    const std::int64_t hidden = op_.y.dim(1), head_size = hidden / op_.num_heads;
    const std::int64_t row = 3 * hidden;
    const Real* query = op_.qkv.data<Real>() + task.first_token * row + task.head * head_size;
    Real* dquery = op_.dqkv.data<Real>() + task.first_token * row + task.head * head_size;
    const std::int64_t first_element = task.first_token * hidden + task.head * head_size;
    const Real *dy = op_.dy.data<Real>() + first_element, *y = op_.y.data<Real>() + first_element;
    const auto prefetch = [&](std::int64_t first) {
      prefetch_rows(query, row, first, task.length, head_size);
      prefetch_rows(dy, hidden, first, task.length, head_size);
      prefetch_rows(y, hidden, first, task.length, head_size);
    };
    prefetch(0);
    transpose(query + hidden, row, task.length, head_size, keys_transposed_, layout_.keys);
    transpose(query + 2 * hidden, row, task.length, head_size, values_transposed_, layout_.keys);
    copy_rows(query + hidden, row, task.length, head_size, keys_, layout_.channels);
    for (std::int64_t first = 0; first < task.length; first += kQueryRows) {
      const std::int64_t rows = task.length - first < kQueryRows ? task.length - first : kQueryRows;
      const std::int64_t key_columns = round_up(task.length, kLanes);
      copy_rows(query + first * row, row, rows, head_size, query_, layout_.channels);
      copy_rows(dy + first * hidden, hidden, rows, head_size, dy_, layout_.channels);
      float means[kQueryRows];  // of dP under P, row by row
      for (std::int64_t i = 0; i < rows; ++i) {
        F32 product{};
        for_lanes(0, head_size, [&](std::int64_t c, auto lanes) {
          product +=
              load(y + (first + i) * hidden + c, lanes) * load(dy_ + i * layout_.channels + c);
        });
        means[i] = sum(product);
      }
      prefetch(first + kQueryRows);
      small_product(rows, key_columns, head_size, {query_, layout_.channels, 1},
                    {keys_transposed_, layout_.keys}, p_, layout_.keys, false);
      small_product(rows, key_columns, head_size, {dy_, layout_.channels, 1},
                    {values_transposed_, layout_.keys}, ds_, layout_.keys, false);
      if constexpr (kDropout) {
        dropout_values(op_.dropout, task, first, rows, bits_, layout_.keys);
      }
      for (std::int64_t i = 0; i < rows; ++i) {
        softmax_gradient_row<kDropout>(task, first, i, means[i]);
      }
      // dQ = dS K; dK += dS^T Q; dV += P~^T dY.
      small_product(rows, layout_.channels, task.length, {ds_, layout_.keys, 1},
                    {keys_, layout_.channels}, dquery_, layout_.channels, false);
      small_product(task.length, layout_.channels, rows, {ds_, 1, layout_.keys},
                    {query_, layout_.channels}, dkeys_, layout_.channels, first > 0);
      small_product(task.length, layout_.channels, rows, {p_, 1, layout_.keys},
                    {dy_, layout_.channels}, dvalues_, layout_.channels, first > 0);
      write_rows(dquery_, rows, dquery + first * row);
    }
    write_rows(dkeys_, task.length, dquery + hidden);
    write_rows(dvalues_, task.length, dquery + 2 * hidden);
  }

 private:
  // Row i of p_ (scores) becomes the dropped-out probabilities, row i of ds_ (dY V^T) the gradient
  // of the unscaled scores; `dp_mean` is the mean of dP under P.
  template <bool kDropout>
  void softmax_gradient_row(const HeadTask& task, std::int64_t first, std::int64_t i,
                            float dp_mean) const {
    const std::int64_t head_size = op_.y.dim(1) / op_.num_heads;
    const float scale = 1.0f / std::sqrt(static_cast<float>(head_size));
    const std::int64_t token = task.first_token + first + i;
    const float lse = op_.lse.data<float>()[task.head * op_.lse.dim(1) + token];
    const F32 mean = splat(dp_mean);
    float *p_row = p_ + i * layout_.keys, *ds_row = ds_ + i * layout_.keys;
    const std::uint16_t* bits = bits_ + i * layout_.keys;
    for (std::int64_t j = 0; j < task.length; j += kLanes) {
      const F32 p = exp_nonpositive(load(p_row + j) * splat(scale) - splat(lse));
      F32 dp = load(ds_row + j), dropped = p;
      if constexpr (kDropout) {
        const F32 keep = keep_(bits + j);
        dp *= keep;
        dropped *= keep;
      }
      store(p_row + j, dropped);
      store(ds_row + j, p * splat(scale) * (dp - mean));
    }
  }

  // rows [n, HS] of scratch into the columns of one head.
  void write_rows(const float* from, std::int64_t n, Real* to) const {
    const std::int64_t hidden = op_.y.dim(1), head_size = hidden / op_.num_heads;
    for (std::int64_t i = 0; i < n; ++i) {
      for_lanes(0, head_size, [&](std::int64_t c, auto lanes) {
        store(to + i * 3 * hidden + c, load(from + i * layout_.channels + c), lanes);
      });
    }
  }

  const AttentionBackward& op_;
  Layout layout_;
  DropoutScale keep_;
  float *keys_transposed_, *values_transposed_, *keys_, *dkeys_, *dvalues_, *query_, *dy_, *dquery_,
      *p_, *ds_;
  std::uint16_t* bits_;
};

// Runs Worker (Forward or Backward) on every head of every sequence. Each writes rows and columns
// of its own, so it does not matter which thread takes which.
template <typename Worker, typename Op>
void run_heads(const Op& op, int threads, const Layout& sizes, float* scratch) {
  const std::int64_t stride = round_up(Worker::scratch_size(sizes), 16);
  const std::int64_t sequences =
      row_count(op.tokens.num_sequences, op.tokens.sequence_index.rows());
  for_each_dynamic(threads, sequences * op.num_heads, [&](std::int64_t index, int thread) {
    const HeadTask task = head_task(op.tokens, op.num_heads, index);
    const Worker worker(op, sizes, scratch + thread * stride);
    with_flag(op.dropout.probability > 0.0f,
              [&](auto dropout) { worker.template run<dropout.value>(task); });
  });
}

}  // namespace

template <typename Real>
void CpuOps<Real>::attention_forward(const AttentionForward& op) {
  check(op, dtype());
  const Layout sizes = layout(op.tokens, op.y.dim(1) / op.num_heads);
  using Worker = Forward<Real>;
  run_heads<Worker>(op, team_.threads, sizes, per_part(Worker::scratch_size(sizes)));
  zero_tail(op.y, row_count(op.tokens.num_tokens, op.y.rows()));
}

template <typename Real>
void CpuOps<Real>::attention_backward(const AttentionBackward& op) {
  check(op, dtype());
  const Layout sizes = layout(op.tokens, op.y.dim(1) / op.num_heads);
  using Worker = Backward<Real>;
  run_heads<Worker>(op, team_.threads, sizes, per_part(Worker::scratch_size(sizes)));
  zero_tail(op.dqkv, row_count(op.tokens.num_tokens, op.y.rows()));
}

template void CpuOps<float>::attention_forward(const AttentionForward&);
template void CpuOps<Bfloat16>::attention_forward(const AttentionForward&);
template void CpuOps<float>::attention_backward(const AttentionBackward&);
template void CpuOps<Bfloat16>::attention_backward(const AttentionBackward&);

}  // namespace bert::cpu
