#include "kernels/op_checks.h"

#include <initializer_list>

#include "runtime/error.h"

namespace bert {
namespace {

// The checks of one op; remembers the op's name for the messages.
class Checker {
 public:
  Checker(const char* op, DType dtype)
      : op_(op), real_(dtype), statistics_(statistics_dtype_of(dtype)) {}

  // A tensor whose shape the others are derived from: only its rank is known.
  void rank(const Tensor& tensor, const char* name, int rank) const {
    present(tensor, name);
    if (tensor.rank() != rank) {
      throw_runtime_error("{}: {} is {}, a tensor of rank {} was expected", op_, name,
                          tensor.shape_string(), rank);
    }
  }
  void tensor(const Tensor& t, const char* name, DType dtype,
              std::initializer_list<std::int64_t> shape) const {
    present(t, name);
    const Tensor expected(nullptr, dtype, shape);
    if (t.shape_string() != expected.shape_string()) {
      throw_runtime_error("{}: {} is {}, {} was expected", op_, name, t.shape_string(),
                          expected.shape_string());
    }
  }
  void real(const Tensor& t, const char* name, std::initializer_list<std::int64_t> shape) const {
    tensor(t, name, real_, shape);
  }
  void statistics(const Tensor& t, const char* name,
                  std::initializer_list<std::int64_t> shape) const {
    tensor(t, name, statistics_, shape);
  }
  void absent(const Tensor& t, const char* name, const char* why) const {
    if (t) throw_runtime_error("{}: {} was given {}", op_, name, why);
  }
  void given(const void* pointer, const char* name) const {
    if (pointer == nullptr) throw_runtime_error("{}: {} is missing", op_, name);
  }
  void not_same(const Tensor& a, const char* a_name, const Tensor& b, const char* b_name) const {
    if (a && a.raw() == b.raw()) {
      throw_runtime_error("{}: {} and {} may not be the same memory", op_, a_name, b_name);
    }
  }
  void that(bool condition, const char* expected) const {
    if (!condition) throw_runtime_error("{}: {} was expected", op_, expected);
  }

  void tokens(const PackedTokens& tokens, std::int64_t t) const {
    rank(tokens.cu_seqlens, "tokens.cu_seqlens", 1);
    const std::int64_t b = tokens.cu_seqlens.rows() - 1;
    that(b >= 1, "a capacity of at least one sequence");
    tensor(tokens.cu_seqlens, "tokens.cu_seqlens", DType::i32, {b + 1});
    tensor(tokens.position_ids, "tokens.position_ids", DType::i32, {t});
    tensor(tokens.token_sequence, "tokens.token_sequence", DType::i32, {t});
    tensor(tokens.sequence_index, "tokens.sequence_index", DType::u32, {b});
    given(tokens.num_tokens, "tokens.num_tokens");
    given(tokens.num_sequences, "tokens.num_sequences");
    that(tokens.max_seqlen >= 1, "tokens.max_seqlen of at least 1");
  }
  // Rows of x that go to rows of y, or rows of x that come from them.
  void moved_rows(const Tensor& x, const Tensor& y, const Tensor& rows, DeviceCount count) const {
    rank(x, "x", 2);
    rank(y, "y", 2);
    real(x, "x", {x.dim(0), x.dim(1)});
    real(y, "y", {y.dim(0), x.dim(1)});
    tensor(rows, "rows", DType::i32, {y.dim(0)});
    given(count, "count");
    not_same(y, "y", x, "x");
  }
  // What the losses have.
  template <typename Op>
  void loss(const Op& op) const {
    given(op.sums, "sums");
    that(op.loss_unit >= 0.0, "loss_unit of at least 0");
  }
  void fixed_point(const Tensor& x, const Tensor& sums, const FixedPoint* fixed) const {
    rank(x, "x", 1);
    statistics(x, "x", {x.dim(0)});
    tensor(sums, "sums", DType::i64, {x.dim(0)});
    given(fixed, "fixed");
  }
  // The LayerNorm in an op: of `rows` rows of `n`. Both directions have gamma and the statistics;
  // beta is the forward's, dgamma and dbeta are the backward's.
  template <typename Op>
  void layer_norm(const Op& op, std::int64_t rows, std::int64_t n) const {
    statistics(op.gamma, "gamma", {n});
    statistics(op.mean, "mean", {rows});
    statistics(op.rstd, "rstd", {rows});
    if constexpr (requires { op.beta; }) {
      statistics(op.beta, "beta", {n});
    } else {
      statistics(op.dgamma, "dgamma", {n});
      statistics(op.dbeta, "dbeta", {n});
    }
  }
  void dropout(const Dropout& dropout) const {
    that(dropout.probability >= 0.0f && dropout_threshold(dropout.probability) < 65536,
         "a dropout probability in [0, 1)");
    if (dropout.probability > 0.0f) given(dropout.key, "dropout.key");
  }
  template <typename Op>
  void attention_dropout(const Op& op) const {
    dropout(op.dropout);
    // Groups are counted in 32 bits: beyond them heads would share their bits.
    that(op.dropout.probability == 0.0f ||
             attention_dropout_groups(op.num_heads, op.tokens.max_seqlen) <= std::int64_t{1} << 32,
         "with dropout, shorter sequences (32 heads (length / 16)^2 <= 2^32)");
  }
  // What both directions of the embeddings have; `activations` [T, C]: y, or its gradient.
  template <typename Op>
  void embeddings(const Op& op, const Tensor& activations, const char* name) const {
    rank(activations, name, 2);
    rank(op.word, "word", 2);
    rank(op.position, "position", 2);
    rank(op.type, "type", 2);
    const std::int64_t t = activations.dim(0), n = activations.dim(1);
    real(activations, name, {t, n});
    tensor(op.input_ids, "input_ids", DType::i32, {t});
    tensor(op.token_type_ids, "token_type_ids", DType::i32, {t});
    tokens(op.tokens, t);
    real(op.word, "word", {op.word.rows(), n});
    real(op.position, "position", {op.position.rows(), n});
    real(op.type, "type", {op.type.rows(), n});
    dropout(op.dropout);
    if (op.gamma) return layer_norm(op, t, n);
    absent(op.mean, "mean", "without gamma");
    absent(op.rstd, "rstd", "without gamma");
    if constexpr (requires { op.beta; }) {
      absent(op.beta, "beta", "without gamma");
    } else {
      absent(op.dgamma, "dgamma", "without gamma");
      absent(op.dbeta, "dbeta", "without gamma");
    }
  }

 private:
  void present(const Tensor& tensor, const char* name) const {
    if (!tensor) throw_runtime_error("{}: {} is missing", op_, name);
  }

  const char* op_;
  DType real_, statistics_;
};

}  // namespace

void check(const EmbeddingsForward& op, DType dtype) {
  Checker("embeddings_forward", dtype).embeddings(op, op.y, "y");
}

void check(const EmbeddingsBackward& op, DType dtype) {
  const Checker c("embeddings_backward", dtype);
  c.embeddings(op, op.dy, "dy");
  const std::int64_t n = op.dy.dim(1);
  c.statistics(op.dword, "dword", {op.word.rows(), n});
  c.statistics(op.dposition, "dposition", {op.position.rows(), n});
  c.statistics(op.dtype, "dtype", {op.type.rows(), n});
}

void check(const LayerNormForward& op, DType dtype) {
  const Checker c("layer_norm_forward", dtype);
  c.rank(op.x, "x", 2);
  const std::int64_t r = op.x.dim(0), n = op.x.dim(1);
  c.real(op.x, "x", {r, n});
  c.layer_norm(op, r, n);
  c.given(op.rows, "rows");
  c.real(op.y, "y", {r, n});
}

void check(const LayerNormBackward& op, DType dtype) {
  const Checker c("layer_norm_backward", dtype);
  c.rank(op.x, "x", 2);
  const std::int64_t r = op.x.dim(0), n = op.x.dim(1);
  c.real(op.dy, "dy", {r, n});
  c.real(op.x, "x", {r, n});
  c.layer_norm(op, r, n);
  c.given(op.rows, "rows");
  c.real(op.dx, "dx", {r, n});
  if (op.accumulate_dx) c.not_same(op.dx, "dx (accumulated)", op.dy, "dy");
}

void check(const BiasDropoutResidualLayerNormForward& op, DType dtype) {
  const Checker c("bias_dropout_residual_layer_norm_forward", dtype);
  c.rank(op.x, "x", 2);
  const std::int64_t t = op.x.dim(0), n = op.x.dim(1);
  c.real(op.x, "x", {t, n});
  c.statistics(op.bias, "bias", {n});
  c.real(op.residual, "residual", {t, n});
  c.layer_norm(op, t, n);
  c.dropout(op.dropout);
  c.tokens(op.tokens, t);
  c.real(op.z, "z", {t, n});
  c.real(op.y, "y", {t, n});
  c.not_same(op.y, "y", op.z, "z");
}

void check(const BiasDropoutResidualLayerNormBackward& op, DType dtype) {
  const Checker c("bias_dropout_residual_layer_norm_backward", dtype);
  c.rank(op.dy, "dy", 2);
  const std::int64_t t = op.dy.dim(0), n = op.dy.dim(1);
  c.real(op.dy, "dy", {t, n});
  if (op.dz) c.real(op.dz, "dz", {t, n});
  c.real(op.z, "z", {t, n});
  c.layer_norm(op, t, n);
  c.dropout(op.dropout);
  c.tokens(op.tokens, t);
  c.real(op.dresidual, "dresidual", {t, n});
  c.real(op.dx, "dx", {t, n});
  c.not_same(op.dx, "dx", op.dresidual, "dresidual");
  c.statistics(op.dbias, "dbias", {n});
}

void check(const LinearForward& op, DType dtype) {
  const Checker c("linear_forward", dtype);
  c.rank(op.x, "x", 2);
  c.rank(op.y, "y", 2);
  const std::int64_t r = op.x.dim(0), k = op.x.dim(1), n = op.y.dim(1);
  c.real(op.x, "x", {r, k});
  c.real(op.weight.compute, "weight.compute", {n, k});
  if (op.bias) c.real(op.bias, "bias", {n});
  c.given(op.rows, "rows");
  if (op.pre_activation) {
    c.that(op.activation != Activation::none, "no pre_activation without an activation");
    c.real(op.pre_activation, "pre_activation", {r, n});
    c.not_same(op.y, "y", op.pre_activation, "pre_activation");
  }
  c.real(op.y, "y", {r, n});
  c.not_same(op.y, "y", op.x, "x");
}

void check(const LinearBackward& op, DType dtype) {
  const Checker c("linear_backward", dtype);
  c.rank(op.dy, "dy", 2);
  c.rank(op.weight.compute, "weight.compute", 2);
  const std::int64_t r = op.dy.dim(0), n = op.dy.dim(1), k = op.weight.compute.dim(1);
  c.real(op.dy, "dy", {r, n});
  c.real(op.weight.compute, "weight.compute", {n, k});
  c.given(op.rows, "rows");
  if (op.dweight) {
    c.real(op.x, "x", {r, k});
    c.statistics(op.dweight, "dweight", {n, k});
  }
  if (op.dbias) c.statistics(op.dbias, "dbias", {n});
  if (op.dx) {
    c.real(op.dx, "dx", {r, k});
    c.not_same(op.dx, "dx", op.dy, "dy");
  }
  if (op.input_activation != Activation::none) {
    c.that(bool(op.dx), "dx together with input_activation");
    c.that(!op.accumulate_dx, "input_activation or accumulate_dx, not both,");
    c.real(op.input_pre_activation, "input_pre_activation", {r, k});
  }
}

void check(const ActivationBackward& op, DType dtype) {
  const Checker c("activation_backward", dtype);
  c.rank(op.dy, "dy", 2);
  const std::int64_t r = op.dy.dim(0), n = op.dy.dim(1);
  c.real(op.dy, "dy", {r, n});
  c.real(op.pre_activation, "pre_activation", {r, n});
  c.given(op.rows, "rows");
  c.real(op.dx, "dx", {r, n});
}

void check(const AttentionForward& op, DType dtype) {
  const Checker c("attention_forward", dtype);
  c.rank(op.y, "y", 2);
  const std::int64_t t = op.y.dim(0), n = op.y.dim(1);
  c.that(op.num_heads >= 1 && n % op.num_heads == 0, "a hidden size divisible by num_heads");
  c.real(op.qkv, "qkv", {t, 3 * n});
  c.tokens(op.tokens, t);
  c.attention_dropout(op);
  c.real(op.y, "y", {t, n});
  c.statistics(op.lse, "lse", {op.num_heads, t});
}

void check(const AttentionBackward& op, DType dtype) {
  const Checker c("attention_backward", dtype);
  c.rank(op.dy, "dy", 2);
  const std::int64_t t = op.dy.dim(0), n = op.dy.dim(1);
  c.that(op.num_heads >= 1 && n % op.num_heads == 0, "a hidden size divisible by num_heads");
  c.real(op.dy, "dy", {t, n});
  c.real(op.y, "y", {t, n});
  c.real(op.qkv, "qkv", {t, 3 * n});
  c.statistics(op.lse, "lse", {op.num_heads, t});
  c.tokens(op.tokens, t);
  c.attention_dropout(op);
  c.real(op.dqkv, "dqkv", {t, 3 * n});
  c.not_same(op.dqkv, "dqkv", op.qkv, "qkv");
}

void check(const GatherRows& op, DType dtype) {
  Checker("gather_rows", dtype).moved_rows(op.x, op.y, op.rows, op.count);
}

void check(const ScatterAddRows& op, DType dtype) {
  Checker("scatter_add_rows", dtype).moved_rows(op.x, op.y, op.rows, op.count);
}

void check(const DropoutRows& op, DType dtype) {
  const Checker c("dropout_rows", dtype);
  c.rank(op.x, "x", 2);
  c.real(op.x, "x", {op.x.dim(0), op.x.dim(1)});
  c.tensor(op.rows, "rows", DType::i32, {op.x.dim(0)});
  c.given(op.count, "count");
  c.dropout(op.dropout);
  c.rank(op.tokens.position_ids, "tokens.position_ids", 1);
  c.tokens(op.tokens, op.tokens.position_ids.dim(0));
}

void check(const CrossEntropy& op, DType dtype) {
  const Checker c("cross_entropy", dtype);
  c.rank(op.logits, "logits", 2);
  const std::int64_t r = op.logits.dim(0);
  c.real(op.logits, "logits", {r, op.logits.dim(1)});
  c.that(op.classes >= 1 && op.classes <= op.logits.dim(1),
         "a number of classes between 1 and the columns of logits");
  c.tensor(op.targets, "targets", DType::i32, {r});
  if (op.weights) c.statistics(op.weights, "weights", {r});
  c.given(op.rows, "rows");
  c.loss(op);
  if (op.row_loss) {
    c.statistics(op.row_loss, "row_loss", {r});
    c.not_same(op.row_loss, "row_loss", op.weights, "weights");
  }
}

void check(const SquaredError& op, DType dtype) {
  const Checker c("squared_error", dtype);
  c.rank(op.predictions, "predictions", 2);
  const std::int64_t r = op.predictions.dim(0);
  c.real(op.predictions, "predictions", {r, op.predictions.dim(1)});
  c.that(op.predictions.dim(1) >= 1, "predictions of at least 1 column");
  c.statistics(op.targets, "targets", {r});
  c.given(op.rows, "rows");
  c.loss(op);
  if (op.row_loss) {
    c.statistics(op.row_loss, "row_loss", {r});
    c.not_same(op.row_loss, "row_loss", op.targets, "targets");
  }
}

void check(const SpanCrossEntropy& op, DType dtype) {
  const Checker c("span_cross_entropy", dtype);
  c.rank(op.logits, "logits", 2);
  const std::int64_t t = op.logits.dim(0);
  c.real(op.logits, "logits", {t, op.logits.dim(1)});
  c.that(op.logits.dim(1) >= 2, "logits of at least 2 columns");
  c.tokens(op.tokens, t);
  const std::int64_t b = op.tokens.sequence_index.rows();
  c.tensor(op.targets, "targets", DType::i32, {2 * b});
  c.loss(op);
  if (op.target_loss) c.statistics(op.target_loss, "target_loss", {b, 2});
}

void check(const AddFixedPoint& op, DType dtype) {
  Checker("add_fixed_point", dtype).fixed_point(op.x, op.sums, op.fixed);
}

void check(const ReadFixedPoint& op, DType dtype) {
  Checker("read_fixed_point", dtype).fixed_point(op.x, op.sums, op.fixed);
}

void check(const ComputeGradientNorm& op, DType dtype) {
  const Checker c("gradient_norm", dtype);
  c.rank(op.gradients, "gradients", 1);
  c.statistics(op.gradients, "gradients", {op.gradients.dim(0)});
  c.that(op.max_norm >= 0.0, "max_norm of at least 0");
  c.given(op.result, "result");
  c.that((op.loss != nullptr) == (op.gate != nullptr), "loss and gate, both or neither");
}

void check(const AdamW& op, DType dtype) {
  const Checker c("adamw", dtype);
  c.rank(op.parameters, "parameters", 1);
  const std::int64_t p = op.parameters.dim(0);
  c.that(p % AdamW::kBlock == 0, "a number of parameters that is a multiple of AdamW::kBlock");
  c.statistics(op.parameters, "parameters", {p});
  c.statistics(op.gradients, "gradients", {p});
  c.statistics(op.m, "m", {p});
  c.statistics(op.v, "v", {p});
  if (statistics_dtype_of(dtype) == dtype) {
    c.absent(op.compute, "compute", "though the parameters have the compute dtype themselves");
  } else {
    c.real(op.compute, "compute", {p});
  }
  c.tensor(op.decays, "decays", DType::u8, {p / AdamW::kBlock});
  c.given(op.step, "step");
  c.given(op.norm, "norm");
}

}  // namespace bert
