#include "train/step/step_replay.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "runtime/tensor_copy.h"

namespace bert {
namespace {

constexpr std::size_t kMostSamples = 4;  // named at once

// What is thrown to leave a step at the first op that went wrong.
struct Finding {
  std::string where;                 // "linear_forward of bert.encoder.layer.0...., y"
  std::set<std::int64_t> sequences;  // of the micro-batch; empty: it cannot be told
};

// The sequence of a micro-batch that a token row belongs to.
std::int64_t sequence_of(const Batch& batch, std::int64_t token) {
  const auto after = std::upper_bound(batch.cu_seqlens.begin(), batch.cu_seqlens.end(), token);
  return after - batch.cu_seqlens.begin() - 1;
}

// Ops that look at every result: throws a Finding at the first that is not finite. Keeps the losses
// of masked rows.
class WatchedOps final : public Ops {
 public:
  WatchedOps(Ops& ops, Device& device, const ParameterStore& store, const ModelInput& input,
             const Batch& batch)
      : ops_(ops), device_(device), store_(store), input_(input), batch_(batch) {}

  const std::vector<double>& row_losses() const { return row_losses_; }

  std::string name() const override { return ops_.name(); }
  DType dtype() const override { return ops_.dtype(); }
  DType statistics_dtype() const override { return ops_.statistics_dtype(); }
  void zero(const Tensor& x) override { ops_.zero(x); }

  void embeddings_forward(const EmbeddingsForward& op) override {
    ops_.embeddings_forward(op);
    rows("embeddings_forward", op.word, "y", op.y);
  }
  void embeddings_backward(const EmbeddingsBackward& op) override {
    ops_.embeddings_backward(op);
    gradients("embeddings_backward", {op.dword, op.dposition, op.dtype, op.dgamma, op.dbeta});
  }
  void layer_norm_forward(const LayerNormForward& op) override {
    ops_.layer_norm_forward(op);
    rows("layer_norm_forward", op.gamma, "y", op.y, op.rows);
  }
  void layer_norm_backward(const LayerNormBackward& op) override {
    ops_.layer_norm_backward(op);
    rows("layer_norm_backward", op.gamma, "dx", op.dx, op.rows);
    gradients("layer_norm_backward", {op.dgamma, op.dbeta});
  }
  void bias_dropout_residual_layer_norm_forward(
      const BiasDropoutResidualLayerNormForward& op) override {
    ops_.bias_dropout_residual_layer_norm_forward(op);
    rows("bias_dropout_residual_layer_norm_forward", op.gamma, "z", op.z);
    rows("bias_dropout_residual_layer_norm_forward", op.gamma, "y", op.y);
  }
  void bias_dropout_residual_layer_norm_backward(
      const BiasDropoutResidualLayerNormBackward& op) override {
    ops_.bias_dropout_residual_layer_norm_backward(op);
    rows("bias_dropout_residual_layer_norm_backward", op.gamma, "dresidual", op.dresidual);
    rows("bias_dropout_residual_layer_norm_backward", op.gamma, "dx", op.dx);
    gradients("bias_dropout_residual_layer_norm_backward", {op.dgamma, op.dbeta, op.dbias});
  }
  void linear_forward(const LinearForward& op) override {
    ops_.linear_forward(op);
    rows("linear_forward", op.weight.master, "y", op.y, op.rows);
  }
  void linear_backward(const LinearBackward& op) override {
    ops_.linear_backward(op);
    rows("linear_backward", op.weight.master, "dx", op.dx, op.rows);
    gradients("linear_backward", {op.dweight, op.dbias});
  }
  void activation_backward(const ActivationBackward& op) override {
    ops_.activation_backward(op);
    rows("activation_backward", {}, "dx", op.dx, op.rows);
  }
  void attention_forward(const AttentionForward& op) override {
    ops_.attention_forward(op);
    rows("attention_forward", {}, "y", op.y);
  }
  void attention_backward(const AttentionBackward& op) override {
    ops_.attention_backward(op);
    rows("attention_backward", {}, "dqkv", op.dqkv);
  }
  void gather_rows(const GatherRows& op) override {
    ops_.gather_rows(op);
    rows("gather_rows", {}, "y", op.y, op.count);
  }
  void scatter_add_rows(const ScatterAddRows& op) override {
    ops_.scatter_add_rows(op);
    rows("scatter_add_rows", {}, "x", op.x);
  }
  void dropout_rows(const DropoutRows& op) override {
    ops_.dropout_rows(op);
    rows("dropout_rows", {}, "x", op.x, op.count);
  }
  void cross_entropy(const CrossEntropy& op) override {
    const bool masked = op.rows == input_.num_masked;
    const std::int64_t capacity = op.logits.rows();
    const DeviceBuffer memory(device_,
                              static_cast<std::size_t>(capacity) * dtype_size(statistics_dtype()));
    CrossEntropy with_losses = op;
    with_losses.row_loss = Tensor(memory.data(), statistics_dtype(), {capacity});
    ops_.cross_entropy(with_losses);
    rows("cross_entropy", {}, "loss", with_losses.row_loss, op.rows);
    if (masked) row_losses_ = copy_to_doubles(device_, with_losses.row_loss);
    if (op.loss_scale != nullptr) rows("cross_entropy", {}, "dlogits", op.logits, op.rows);
  }
  void squared_error(const SquaredError& op) override {
    ops_.squared_error(op);
    if (op.loss_scale != nullptr) rows("squared_error", {}, "gradient", op.predictions, op.rows);
  }
  void span_cross_entropy(const SpanCrossEntropy& op) override {
    ops_.span_cross_entropy(op);
    if (op.loss_scale != nullptr) rows("span_cross_entropy", {}, "dlogits", op.logits);
  }
  void add_fixed_point(const AddFixedPoint& op) override { ops_.add_fixed_point(op); }
  void read_fixed_point(const ReadFixedPoint& op) override { ops_.read_fixed_point(op); }
  void gradient_norm(const ComputeGradientNorm& op) override { ops_.gradient_norm(op); }
  void adamw(const AdamW& op) override { ops_.adamw(op); }

 private:
  // The name of what lies at an address of the parameters, their copies or their gradients.
  std::string name_of(const Tensor& tensor) const {
    for (const Parameter& parameter : store_.parameters()) {
      for (const Tensor* part : {&parameter.value, &parameter.compute, &parameter.gradient}) {
        const auto* const begin = static_cast<const char*>(part->raw());
        const auto* const at = static_cast<const char*>(tensor.raw());
        if (begin != nullptr && at >= begin && at < begin + part->bytes()) return parameter.name();
      }
    }
    return "";
  }

  // Looks at a result with a row for each token (`count` absent), masked token or sequence.
  // `parameter`: one of the op's; where it has none, the last op's names the place.
  void rows(const char* op, const Tensor& parameter, const char* what, const Tensor& result,
            DeviceCount count = nullptr) {
    if (parameter) place_ = name_of(parameter);
    if (!result) return;
    std::int64_t number = batch_.num_tokens();
    if (count == input_.num_masked) number = batch_.num_masked();
    if (count == input_.tokens.num_sequences) number = batch_.num_sequences();
    const std::vector<double> values = copy_to_doubles(device_, result);
    const std::int64_t columns = result.numel() / result.rows();
    Finding finding;
    for (std::int64_t row = 0; row < number; ++row) {
      const auto begin = values.begin() + row * columns;
      if (std::all_of(begin, begin + columns, [](double x) { return std::isfinite(x); })) continue;
      if (count == input_.tokens.num_sequences) {
        finding.sequences.insert(row);
      } else {
        const bool masked = count == input_.num_masked;
        finding.sequences.insert(
            sequence_of(batch_, masked ? batch_.masked_rows[static_cast<std::size_t>(row)] : row));
      }
    }
    if (finding.sequences.empty()) return;
    finding.where = fmt::format("{} {} {}, {}", op, parameter ? "of" : "after", place_, what);
    throw Finding(std::move(finding));
  }

  void gradients(const char* op, std::initializer_list<Tensor> results) const {
    for (const Tensor& result : results) {
      if (!result) continue;
      for (const double x : copy_to_doubles(device_, result)) {
        if (!std::isfinite(x)) {
          throw Finding{fmt::format("{}, gradient of {}", op, name_of(result)), {}};
        }
      }
    }
  }

  Ops& ops_;
  Device& device_;
  const ParameterStore& store_;
  const ModelInput& input_;
  const Batch& batch_;
  std::string place_ = "the input";
  std::vector<double> row_losses_;
};

// The model computes with other ops while this lives.
class OpsInUse {
 public:
  OpsInUse(BertForPretraining& model, Ops& ops, Ops& before) : model_(model), before_(before) {
    model_.use(ops);
  }
  ~OpsInUse() { model_.use(before_); }
  OpsInUse(const OpsInUse&) = delete;
  OpsInUse& operator=(const OpsInUse&) = delete;

 private:
  BertForPretraining& model_;
  Ops& before_;
};

// A parameter that is not finite itself makes everything else so.
std::string damaged_parameter(Device& device, const ParameterStore& store) {
  for (const Parameter& parameter : store.parameters()) {
    for (const double x : copy_to_doubles(device, parameter.value.view({parameter.numel()}))) {
      if (!std::isfinite(x)) {
        return fmt::format("the parameter {} itself is not finite\n", parameter.name());
      }
    }
  }
  return "";
}

// The name of a sequence of a micro-batch.
using Describe = std::function<std::string(const Batch& batch, std::int64_t sequence)>;

std::string text_of(const Finding& finding, const Batch& batch, const Describe& describe) {
  std::string text = fmt::format("the first value that is not finite: {}\n", finding.where);
  std::size_t named = 0;
  for (const std::int64_t sequence : finding.sequences) {
    if (named++ == kMostSamples) break;
    text += fmt::format("  in {}\n", describe(batch, sequence));
  }
  if (finding.sequences.size() > kMostSamples) {
    text += fmt::format("  and {} more of the micro-batch's {} sequences\n",
                        finding.sequences.size() - kMostSamples, batch.num_sequences());
  }
  return text;
}

struct SampleLoss {
  double loss = 0.0;  // the mean over its masked tokens
  std::string sample;
};

void add_losses(const std::vector<double>& row_losses, const Batch& batch, const Describe& describe,
                std::vector<SampleLoss>& losses) {
  std::vector<double> sums(static_cast<std::size_t>(batch.num_sequences()));
  std::vector<std::int64_t> counts(sums.size());
  for (std::size_t i = 0; i < batch.masked_rows.size(); ++i) {
    const auto sequence = static_cast<std::size_t>(sequence_of(batch, batch.masked_rows[i]));
    sums[sequence] += row_losses[i];
    ++counts[sequence];
  }
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (counts[i] == 0) continue;
    losses.push_back(
        {sums[i] / static_cast<double>(counts[i]), describe(batch, static_cast<std::int64_t>(i))});
  }
}

std::string greatest(std::vector<SampleLoss> losses) {
  std::stable_sort(losses.begin(), losses.end(),
                   [](const SampleLoss& a, const SampleLoss& b) { return a.loss > b.loss; });
  std::string text;
  for (std::size_t i = 0; i < std::min(kMostSamples, losses.size()); ++i) {
    text += fmt::format("  loss {:.3f} in {}\n", losses[i].loss, losses[i].sample);
  }
  return text.empty() ? text : "the samples with the greatest losses:\n" + text;
}

}  // namespace

std::string StepReplay::explain(const StepBatches& batches, const DropoutKey& dropout,
                                std::int64_t masked) {
  Device& device = *backend_.device;
  const ParameterStore& store = model_.parameters();
  std::string damage = damaged_parameter(device, store);
  if (!damage.empty()) return damage;

  struct Constants {
    ModelLoss loss;
    DropoutKey dropout;
  } constants;
  constants.loss.main_scale = masked > 0 ? 1.0 / static_cast<double>(masked) : 0.0;
  constants.loss.nsp_scale = 1.0 / static_cast<double>(batches.global_sequences);
  constants.dropout = dropout;
  const DeviceBuffer memory(device, sizeof constants);
  device.copy_from_host(memory.data(), &constants, sizeof constants);
  auto* const on_device = static_cast<Constants*>(memory.data());

  const Describe describe = [&](const Batch& batch, std::int64_t sequence) {
    const std::uint32_t index = batch.sequence_index[static_cast<std::size_t>(sequence)];
    return dataset_.describe(dataset_.shuffled(batches.first_element + index));
  };
  std::vector<SampleLoss> losses;
  backend_.ops->zero(store.gradients());
  for (const Batch& batch : batches.micro_batches) {
    const ModelInput& input = memory_.upload(batch);
    WatchedOps watched(*backend_.ops, device, store, input, batch);
    try {
      const OpsInUse in_use(model_, watched, *backend_.ops);
      model_.forward(input, &on_device->dropout);
      model_.loss(input, &on_device->loss, /*with_gradients=*/true);
      model_.backward(input);
    } catch (const Finding& finding) {
      return text_of(finding, batch, describe);
    }
    add_losses(watched.row_losses(), batch, describe, losses);
  }
  return greatest(std::move(losses));
}

}  // namespace bert
