// A model with a micro-batch in memory that starts as NaN, for tests that run it whole.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/bert_for_pretraining.h"
#include "model/bert_for_task.h"
#include "tests/support/backends.h"
#include "tests/support/device_memory.h"

namespace bert::test {

// A device whose fresh memory is NaN as f32, f64 and bf16, -1 as an integer.
std::unique_ptr<Device> make_poisoned_device(std::unique_ptr<Device> memory = make_cpu_device());

// A packed batch on the host, numbers as double (DeviceTensor's currency).
struct HostBatch {
  std::vector<double> input_ids{}, token_type_ids{}, position_ids{};  // [T]
  std::vector<double> cu_seqlens{0.0};                                // [B + 1]
  std::vector<double> sequence_index{};                               // [B]
  std::vector<double> masked_rows{}, masked_targets{};                // [M], rows ascending
  // As in ModelInput; empty where the model has no use for it.
  std::vector<double> sequence_labels{}, sequence_values{};  // [B]
  std::vector<double> answer_spans{};                        // [2 B]
  std::vector<double> loss_weights{};                        // [B], or [M] of words

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(input_ids.size()); }
  std::int64_t num_sequences() const { return static_cast<std::int64_t>(cu_seqlens.size()) - 1; }
  std::int64_t num_masked() const { return static_cast<std::int64_t>(masked_rows.size()); }
  std::int64_t max_seqlen() const;
  Capacity exact_capacity() const {
    return {num_tokens(), num_sequences(), num_masked(), max_seqlen()};
  }
  // Sequences [first, last) as a batch of their own; sequence_index keeps their place in the step.
  HostBatch part(std::int64_t first, std::int64_t last) const;
};

// Random ids (never 0) and labels; every `masked_every`-th token owns a loss. `sequence_index` is
// not in order.
HostBatch random_batch(std::string_view name, const BertConfig& config,
                       const std::vector<std::int64_t>& lengths, std::int64_t masked_every);

// The tasks that a model can have a head for, labels weighted and not.
struct TaskCase {
  TaskKind kind;
  bool weighted;
  std::string name() const;  // letters and underscores
};
extern const std::vector<TaskCase> kTaskCases;
// Three labels.
std::unique_ptr<BertModel> make_task_model(const BertConfig& config, const TaskCase& task);
// At least three sequences. Some labels are unknown: of a sequence, of words, where an answer ends.
// Weights are of labels, as train/inference/task_batches.h has them.
HostBatch random_task_batch(std::string_view name, const BertConfig& config, const TaskCase& task,
                            const std::vector<std::int64_t>& lengths);

// A batch in device memory of a capacity; what is beyond the counts is -1.
class DeviceBatch {
 public:
  // Reals are of `statistics` dtype.
  DeviceBatch(Device& device, DType statistics, const HostBatch& batch, const Capacity& capacity);
  const ModelInput& input() const { return input_; }

 private:
  Tensor tensor(Device& device, DType dtype, std::int64_t capacity,
                const std::vector<double>& values, std::optional<double> tail = {});
  DeviceCount count(Device& device, std::int64_t value);

  std::vector<std::unique_ptr<DeviceTensor>> tensors_;
  ModelInput input_;
};

// What a forward, loss and backward leave, valid rows only, on the host. Parameters' gradients
// under Hugging Face's names.
struct ModelResults {
  std::vector<std::vector<double>> hidden_states{};
  std::vector<double> pooled{}, mlm_logits{}, nsp_logits{};
  std::vector<double> logits{};  // of a task
  LossSums main{}, nsp{};
  double loss = 0.0;  // as Hugging Face sums it
  std::map<std::string, std::vector<double>> gradients{};
  std::size_t activation_bytes = 0;
};

// A model on a backend, parameters allocated and not yet set.
class ModelRun {
 public:
  ModelRun(std::unique_ptr<BertModel> model, const std::function<Backend()>& make_backend,
           const Capacity& capacity, bool recompute = false);
  ModelRun(const BertConfig& config, BertForPretraining::Heads heads,
           const std::function<Backend()>& make_backend, const Capacity& capacity,
           bool recompute = false)
      : ModelRun(std::make_unique<BertForPretraining>(config, heads), make_backend, capacity,
                 recompute) {}

  BertModel& model() { return *model_; }
  Device& device() { return *backend_.device; }

  // Fresh weights, drawn in f32: on every backend the same.
  void initialize(std::uint64_t seed);

  // One optimizer step's forward, loss and backward over micro-batches, from zero gradients.
  // Activations are those of the last.
  ModelResults step(const std::vector<HostBatch>& micro_batches, std::optional<DropoutKey> key);
  // The same on top of what the gradients are.
  ModelResults accumulate(const std::vector<HostBatch>& micro_batches,
                          std::optional<DropoutKey> key, const GradientsReady& ready = {});

 private:
  void read_outputs(const HostBatch& batch, ModelResults& results) const;

  Backend backend_;
  Capacity capacity_;
  std::unique_ptr<BertModel> model_;
};

// The tensors a parameter's values or gradients are under Hugging Face's names.
void split_by_name(const Parameter& parameter, const std::vector<double>& values,
                   std::map<std::string, std::vector<double>>& out);

// The largest |value - expected| / scale; infinite for NaN or another size. `scale` 0: the largest
// |expected|.
double relative_error(const std::vector<double>& values, const std::vector<double>& expected,
                      double scale = 0.0);
double largest(const std::vector<double>& values);

// relative_error of each gradient, by name; infinite for a name that only one side has. `expected`
// is in f64. Gradients that are zero, where there is but rounding, are judged on the scale of those
// they are summed from: of a key's bias, which adds the same to every score of a query, and in
// question answering of what adds the same to every token's logit.
std::map<std::string, double> gradient_errors(
    const std::map<std::string, std::vector<double>>& gradients,
    const std::map<std::string, std::vector<double>>& expected);

}  // namespace bert::test
