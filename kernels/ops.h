// Ops: every operation a BERT needs, forward and backward, with its contract. One implementation
// per backend: kernels/reference (the readable mathematics), kernels/cpu, kernels/cuda.
//
// Conventions
// - Letters: T token rows, M masked rows, B sequences, R rows of any kind, C hidden size, NH heads,
//   HS head size (C = NH * HS), K inputs and N outputs of a product, V vocabulary size.
// - "real" tensors hold Ops::dtype() (f64, f32 or bf16). Statistics (mean, rstd, lse), losses,
//   parameters and their gradients are f32 at least: f64 under f64, f32 otherwise. Where a
//   parameter is named "real", it is the copy in Ops::dtype() that products read.
// - Capacity and count. A tensor's first dimension is its capacity; how many rows count in this
//   micro-batch is a number in device memory (`DeviceCount`). Rows at and beyond the count ("tail
//   rows") own no loss. An op never lets a tail row reach a valid row or a parameter gradient. Tail
//   rows of activations are finite and otherwise unspecified; tail rows of gradients are zero: an
//   op that is given zero tails in `dy` leaves zero tails in `dx`. Tail entries of index tensors
//   (ids, rows, targets, token_sequence) and of statistics are unspecified, and never used.
// - Every DeviceCount is given, never null.
// - Gradients of parameters accumulate (+=). Gradients of activations are overwritten, except
//   where a flag `accumulate_dx` says otherwise.
// - An absent Tensor (default constructed) means "without", where the contract allows it.
// - No op reduces in an order that depends on timing: the same inputs, backend and parts that work
//   is cut into (one for each thread, unless told otherwise) give the same bits.
// - An Ops object serves one stream of work at a time and owns the scratch its ops need.
// - Shapes and dtypes are checked; a mismatch is a bug and throws.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/dropout.h"
#include "kernels/update_gate.h"
#include "runtime/dtype.h"
#include "runtime/tensor.h"

namespace bert {

// A number of rows in device memory.
using DeviceCount = const std::int32_t*;

// gelu: x * Phi(x) with erf. gelu_new: the tanh approximation of google-research/bert. The names
// are those of Hugging Face's `hidden_act`.
enum class Activation { none, gelu, gelu_new, tanh };

// The weight of a product, [N, K] like torch.nn.Linear. `compute` is what ops read, in
// Ops::dtype(). `master`, what the optimizer updates, they do not: by its address
// train/step/step_replay names the parameter. They are one memory unless the compute dtype is
// narrower.
struct LinearWeight {
  Tensor master{};
  Tensor compute{};
};

// How the packed tokens of a micro-batch lie: all in device memory. Capacity: T tokens, B
// sequences.
struct PackedTokens {
  Tensor position_ids{};    // i32 [T], 0.. within each sequence
  Tensor token_sequence{};  // i32 [T], the sequence (0..B-1) each token row belongs to
  Tensor cu_seqlens{};      // i32 [B + 1]; entries past the last sequence repeat the token count
  Tensor sequence_index{};  // u32 [B], place in the whole optimizer step; keys the dropout bits
  DeviceCount num_tokens = nullptr;
  DeviceCount num_sequences = nullptr;
  std::int64_t max_seqlen = 0;  // host: no sequence is longer
};

// --- Embeddings ---------------------------------------------------------------------------------
// e = word[input_ids] + position[position_ids] + type[token_type_ids];
// y = dropout(LayerNorm(e)), or y = dropout(e) when gamma is absent (pre-LN).
struct EmbeddingsForward {
  Tensor input_ids{}, token_type_ids{};  // i32 [T], inside their tables (checked by the caller)
  PackedTokens tokens{};                 // position_ids index the position table
  Tensor word{}, position{}, type{};     // real [V, C], [P, C], [S, C]
  Tensor gamma{}, beta{};                // [C], both or neither
  double epsilon = 1e-12;
  Dropout dropout{};
  Tensor y{};             // out real [T, C]
  Tensor mean{}, rstd{};  // out [T], kept for backward; absent without gamma
};
// The tables must still hold what forward read: e is recomputed from them.
struct EmbeddingsBackward {
  Tensor input_ids{}, token_type_ids{};
  PackedTokens tokens{};
  Tensor word{}, position{}, type{}, gamma{};
  Tensor mean{}, rstd{};
  Dropout dropout{};
  Tensor dy{};                           // [T, C]; may be overwritten (scratch)
  Tensor dword{}, dposition{}, dtype{};  // += , in an order that does not depend on timing
  Tensor dgamma{}, dbeta{};              // +=
};

// --- LayerNorm (Ba et al. 2016) -----------------------------------------------------------------
// y = gamma * (x - mean) * rstd + beta over each row; biased variance, rstd = 1/sqrt(var +
// epsilon).
struct LayerNormForward {
  Tensor x{};              // [R, C]
  Tensor gamma{}, beta{};  // [C]
  double epsilon = 1e-12;
  DeviceCount rows = nullptr;
  Tensor y{};             // out [R, C]; may be x
  Tensor mean{}, rstd{};  // out [R]
};
struct LayerNormBackward {
  Tensor dy{}, x{};  // [R, C]
  Tensor gamma{}, mean{}, rstd{};
  DeviceCount rows = nullptr;
  Tensor dx{};                 // out [R, C]; may be dy
  bool accumulate_dx = false;  // dx += (then dx is not dy)
  Tensor dgamma{}, dbeta{};    // +=
};

// z = dropout(x + bias) + residual; y = LayerNorm(z). Post-LN goes on with y alone; pre-LN carries
// z along the residual stream and feeds y to the next branch.
struct BiasDropoutResidualLayerNormForward {
  Tensor x{};              // [T, C], a product without its bias
  Tensor bias{};           // [C]
  Tensor residual{};       // [T, C]
  Tensor gamma{}, beta{};  // [C]
  double epsilon = 1e-12;
  Dropout dropout{};
  PackedTokens tokens{};
  Tensor z{};             // out [T, C], kept for backward; may be x
  Tensor y{};             // out [T, C]
  Tensor mean{}, rstd{};  // out [T]
};
struct BiasDropoutResidualLayerNormBackward {
  Tensor dy{};  // [T, C], gradient of y
  Tensor dz{};  // [T, C], gradient reaching z along the residual stream; absent for post-LN
  Tensor z{}, gamma{}, mean{}, rstd{};
  Dropout dropout{};
  PackedTokens tokens{};
  Tensor dresidual{};  // out [T, C] = LayerNorm'(dy) + dz; may be dy or dz
  Tensor dx{};         // out [T, C] = dropout mask and scale * dresidual; not the same as dresidual
  Tensor dgamma{}, dbeta{}, dbias{};  // +=
};

// --- Products -----------------------------------------------------------------------------------
// `allow_fp8`: a backend that was opened for FP8 products may round this product's operands to 8
// bits: x and W to e4m3, dy to e5m2, each scaled by its largest absolute value in rows that count
// (kernels/cuda/float8.h). It does so where K and N are multiples of 16, and for dweight R too.
// dbias is summed from dy as it is. All other backends ignore it. The model allows it for the
// products of its encoder layers, none else.
//
// y = activation(x W^T + bias).
struct LinearForward {
  Tensor x{};             // [R, K]
  LinearWeight weight{};  // [N, K]
  Tensor bias{};          // real [N] or absent
  Activation activation = Activation::none;
  DeviceCount rows = nullptr;
  Tensor pre_activation{};  // out [R, N] = x W^T + bias, kept for backward; absent without
                            // activation or when backward will not follow
  Tensor y{};               // out [R, N]; may not be pre_activation
  bool allow_fp8 = false;
};
// Given dy, the gradient of x W^T + bias (so: already past the activation, see below):
// dx = dy W; dweight += dy^T x; dbias += column sums of dy.
// If `x` itself came from an activation of `input_pre_activation`, dx is turned into the gradient
// of that pre-activation at once: dx = (dy W) * activation'(input_pre_activation).
struct LinearBackward {
  Tensor dy{};            // [R, N]
  Tensor x{};             // [R, K]; read for dweight only
  LinearWeight weight{};  // [N, K]
  DeviceCount rows = nullptr;
  Activation input_activation = Activation::none;
  Tensor input_pre_activation{};  // [R, K], with input_activation
  Tensor dx{};                    // out [R, K], or absent: not wanted
  bool accumulate_dx = false;     // dx += dy W; not together with input_activation
  Tensor dweight{};               // += [N, K], or absent: frozen
  Tensor dbias{};                 // += [N], or absent
  bool allow_fp8 = false;
};

// dx = dy * activation'(pre), where the gradient does not come from a product.
struct ActivationBackward {
  Tensor dy{};  // [R, N]
  Activation activation = Activation::none;
  Tensor pre_activation{};  // [R, N]
  DeviceCount rows = nullptr;
  Tensor dx{};  // out [R, N]; may be dy
};

// --- Attention (Vaswani et al. 2017) ------------------------------------------------------------
// For each sequence and head: P = softmax(Q K^T / sqrt(HS)), y = dropout(P) V. Tokens attend within
// their own sequence only. A T x T matrix is never kept.
struct AttentionForward {
  Tensor qkv{};  // [T, 3C]: columns [Q | K | V], each NH heads of HS
  std::int64_t num_heads = 0;
  PackedTokens tokens{};
  Dropout dropout{};
  Tensor y{};    // out [T, C]
  Tensor lse{};  // out [NH, T], log-sum-exp of the scaled scores, kept for backward
};
struct AttentionBackward {
  Tensor dy{}, y{}, qkv{};  // [T, C], [T, C], [T, 3C]
  Tensor lse{};             // [NH, T]
  std::int64_t num_heads = 0;
  PackedTokens tokens{};
  Dropout dropout{};
  Tensor dqkv{};  // out [T, 3C]; may not be qkv
};

// --- Rows ---------------------------------------------------------------------------------------
// y[i] = x[rows[i]]: the masked positions, or each sequence's [CLS]. Tail rows of y are zero.
struct GatherRows {
  Tensor x{};     // [T, C]
  Tensor rows{};  // i32 [R]
  DeviceCount count = nullptr;
  Tensor y{};  // out [R, C]
};
// x[rows[i]] += y[i]; the rows are distinct.
struct ScatterAddRows {
  Tensor y{};     // [R, C]
  Tensor rows{};  // i32 [R], distinct
  DeviceCount count = nullptr;
  Tensor x{};  // += [T, C]
};

// Dropout of picked rows, before a head: x[i] *= the mask and scale of token row rows[i]. The same
// again is its backward. Tail rows stay as they are.
struct DropoutRows {
  Tensor x{};     // [R, C], in place
  Tensor rows{};  // i32 [R]
  DeviceCount count = nullptr;
  Dropout dropout{};  // with a probability of 0 nothing is done
  PackedTokens tokens{};
};

// --- Losses -------------------------------------------------------------------------------------
// Sums over a micro-batch, in device memory; added to, in a fixed order. A loss op overwrites what
// it is given with the gradient where it has a `loss_scale`: that of *loss_scale times the loss it
// adds.
struct LossSums {
  double loss = 0.0;         // sum of -log p(target), times weights if there are; or of (y - t)^2
  std::int64_t count = 0;    // targets, whatever their weights
  std::int64_t correct = 0;  // targets with the largest logit (the first of equals)
};
inline constexpr std::int32_t kIgnoreIndex = -100;  // a target that owns no loss

// Softmax cross-entropy. Rows are gathered beforehand, so no logits exist for positions without a
// target.
struct CrossEntropy {
  Tensor logits{};  // [R, V or more]; overwritten with the gradient when `loss_scale` is given:
                    // dlogits = (softmax(logits) - onehot(target)) * weight * *loss_scale, tail
                    // rows zero
  std::int64_t classes = 0;  // V: columns from there on are padding, not read; their dlogits zero
  Tensor targets{};          // i32 [R], 0..V-1 or kIgnoreIndex (dlogits row is then zero)
  // [R] (statistics dtype): a row's loss and gradient are multiplied by its own, such as that of
  // the target's class. Absent: all 1.
  Tensor weights{};
  DeviceCount rows = nullptr;
  const double* loss_scale = nullptr;  // device: 1 / denominator of the step; null: no gradient
  LossSums* sums = nullptr;            // device: +=
  // A power of two, or 0. The loss of all rows together is rounded to a multiple of it before it is
  // added: then sums->loss adds up multiples of it, which f64 does exactly, and so in any order,
  // while the sum is below 2^53 of them.
  double loss_unit = 0.0;
  Tensor row_loss{};  // out [R] (statistics dtype), weighted like the sum, tail zero; or absent
};

// Regression: the loss of a row is (y - t)^2.
struct SquaredError {
  Tensor predictions{};  // [R, 1 or more], y in column 0, the others are padding, not read;
                         // overwritten with the gradient when `loss_scale` is given:
                         // 2 (y - t) * *loss_scale, padding and tail rows zero
  Tensor targets{};      // t, [R] (statistics dtype)
  DeviceCount rows = nullptr;
  const double* loss_scale = nullptr;  // these as in CrossEntropy
  LossSums* sums = nullptr;            // correct stays as it is
  double loss_unit = 0.0;
  Tensor row_loss{};  // out [R] (statistics dtype), tail zero; or absent
};

// Where in its sequence an answer lies (Devlin et al. 2018, section 4.2): two softmax
// cross-entropies for each sequence, over its own tokens, column 0 for the first token of the
// answer and column 1 for the last.
struct SpanCrossEntropy {
  Tensor logits{};  // [T, 2 or more], columns from 2 on are padding, not read; overwritten with the
                    // gradient when `loss_scale` is given: of each sequence's column
                    // (softmax(column) - onehot(target)) * *loss_scale, padding and tail rows zero
  PackedTokens tokens{};
  Tensor targets{};  // i32 [2B]: start and end of sequence b at 2 b and 2 b + 1, counted from its
                     // first token; or kIgnoreIndex, each for itself (that gradient is then zero)
  const double* loss_scale = nullptr;  // these as in CrossEntropy
  LossSums* sums = nullptr;            // count: targets, so at most two for a sequence
  double loss_unit = 0.0;
  Tensor target_loss{};  // out [B, 2] (statistics dtype), tail zero; or absent
};

// --- Fixed point --------------------------------------------------------------------------------
// Sums whose bits do not depend on the order of their addends, nor on who added which: each addend
// is rounded to a whole multiple of `unit`, and the multiples are added as i64. A sum of n addends
// is off by n / 2 units at most. Device memory.
struct FixedPoint {
  double unit = 1.0;     // a power of two
  double largest = 0.0;  // of the |x| added so far; infinite after one that is infinite or NaN
};
// sums += round(x / unit), ties to even; largest = max(largest, |x|). An element of 2^62 units or
// more, or that is not finite, is left out, so that no conversion overflows; that the sums do not
// is up to the caller, who sees from `largest` whether the unit was well chosen.
struct AddFixedPoint {
  Tensor x{};     // [P], statistics dtype
  Tensor sums{};  // i64 [P], +=
  FixedPoint* fixed = nullptr;
};
// x = sums * unit, rounded; NaN everywhere if `largest` is not finite.
struct ReadFixedPoint {
  Tensor sums{};  // i64 [P]
  Tensor x{};     // out [P], statistics dtype
  const FixedPoint* fixed = nullptr;
};

// --- Optimizer ----------------------------------------------------------------------------------
// Written by gradient_norm, read by adamw; device memory.
struct GradientNorm {
  double norm = 0.0;           // of the whole gradient, before clipping
  double scale = 1.0;          // min(1, max_norm / norm); 1 without clipping
  std::int64_t nonfinite = 0;  // how many elements are NaN or infinite
  std::int64_t refused = 0;    // not zero: no update (update_gate.h)
};
// norm = sqrt(sum g^2), summed in f64 over fixed blocks. With nonfinite elements, norm and scale
// are unspecified.
struct ComputeGradientNorm {
  Tensor gradients{};            // [P]
  double max_norm = 0.0;         // 0: no clipping
  const double* loss = nullptr;  // device, with a gate: what it limits
  UpdateGate* gate = nullptr;    // device, or null: only nonfinite elements refuse an update
  GradientNorm* result = nullptr;
};

// What changes from step to step; device memory.
struct AdamWStep {
  double learning_rate = 0.0;
  double bias_correction1 = 1.0;  // 1 - beta1^t, or 1 without bias correction
  double bias_correction2 = 1.0;  // 1 - beta2^t, or 1
};
// AdamW (Loshchilov & Hutter 2019) over flat buffers in one pass, g scaled by norm->scale:
// m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2;
// p -= lr * ((m / bc1) / (sqrt(v / bc2) + eps) + decay * p).
// Nothing at all is changed when norm->refused is not zero.
struct AdamW {
  static constexpr std::int64_t kBlock = 64;   // parameters are laid out in multiples of this
  Tensor parameters{}, gradients{}, m{}, v{};  // [P], P a multiple of kBlock
  Tensor compute{};  // out real [P]: the parameters rounded; absent where they are Ops::dtype()
  Tensor decays{};   // u8 [P / kBlock]: 1 where weight decay applies
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-6, weight_decay = 0.01;
  const AdamWStep* step = nullptr;
  const GradientNorm* norm = nullptr;
};

class Ops {
 public:
  virtual ~Ops() = default;
  virtual std::string name() const = 0;  // "reference f64", "cpu f32 with avx2 instructions"
  virtual DType dtype() const = 0;       // of activations
  virtual DType statistics_dtype() const = 0;

  virtual void zero(const Tensor& x) = 0;

  virtual void embeddings_forward(const EmbeddingsForward& op) = 0;
  virtual void embeddings_backward(const EmbeddingsBackward& op) = 0;
  virtual void layer_norm_forward(const LayerNormForward& op) = 0;
  virtual void layer_norm_backward(const LayerNormBackward& op) = 0;
  virtual void bias_dropout_residual_layer_norm_forward(
      const BiasDropoutResidualLayerNormForward& op) = 0;
  virtual void bias_dropout_residual_layer_norm_backward(
      const BiasDropoutResidualLayerNormBackward& op) = 0;
  virtual void linear_forward(const LinearForward& op) = 0;
  virtual void linear_backward(const LinearBackward& op) = 0;
  virtual void activation_backward(const ActivationBackward& op) = 0;
  virtual void attention_forward(const AttentionForward& op) = 0;
  virtual void attention_backward(const AttentionBackward& op) = 0;
  virtual void gather_rows(const GatherRows& op) = 0;
  virtual void scatter_add_rows(const ScatterAddRows& op) = 0;
  virtual void dropout_rows(const DropoutRows& op) = 0;
  virtual void cross_entropy(const CrossEntropy& op) = 0;
  virtual void squared_error(const SquaredError& op) = 0;
  virtual void span_cross_entropy(const SpanCrossEntropy& op) = 0;
  virtual void add_fixed_point(const AddFixedPoint& op) = 0;
  virtual void read_fixed_point(const ReadFixedPoint& op) = 0;
  virtual void gradient_norm(const ComputeGradientNorm& op) = 0;
  virtual void adamw(const AdamW& op) = 0;
};

}  // namespace bert
