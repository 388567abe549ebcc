// What the configurations of several programs have in common: the sections that mean the same in
// each, and where every key that was given stands.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/error.h"
#include "runtime/named_values.h"

namespace bert {

enum class DeviceChoice { automatic, cpu, cuda };
inline constexpr Named<DeviceChoice> kDeviceChoices[] = {
    {DeviceChoice::automatic, "auto"}, {DeviceChoice::cpu, "cpu"}, {DeviceChoice::cuda, "cuda"}};

enum class Precision { automatic, fp64, fp32, tf32, bf16, fp8 };
inline constexpr Named<Precision> kPrecisions[] = {
    {Precision::automatic, "auto"}, {Precision::fp64, "fp64"}, {Precision::fp32, "fp32"},
    {Precision::tf32, "tf32"},      {Precision::bf16, "bf16"}, {Precision::fp8, "fp8"}};
constexpr std::string_view precision_name(Precision precision) {
  return name_of(kPrecisions, precision);
}

// "auto" in the file: nullopt here.
template <typename T>
using OrAuto = std::optional<T>;

struct OptimizerConfig {
  double learning_rate = 1e-4;
  double beta1 = 0.9, beta2 = 0.999;
  double epsilon = 1e-6;
  double weight_decay = 0.01;
  bool bias_correction = true;
  double max_grad_norm = 1.0;  // 0: no clipping
};

// How a step's sequences are computed; part of the section `train`.
struct StepConfig {
  std::int64_t batch_size = 256;  // sequences per optimizer step, over all ranks
  OrAuto<std::int64_t> micro_batch_tokens;
  bool recompute = false;  // the layers' activations, in backward
  bool reproducible = false;
  std::int64_t reproducible_sequences = 8;  // of a micro-batch, with it

  // How many sequences each micro-batch has, whatever ranks there are; 0: as many as fit.
  std::int64_t micro_batch_sequences() const { return reproducible ? reproducible_sequences : 0; }
};

// What to do with a step whose loss or gradient is not finite, or whose loss is a spike. Its update
// is refused in any case.
enum class OnDivergence {
  skip,      // go on with the next batch
  rollback,  // back to the last checkpoint, and on with the batch after this one
  stop       // save the state before the step, and fail
};
inline constexpr Named<OnDivergence> kOnDivergence[] = {{OnDivergence::skip, "skip"},
                                                        {OnDivergence::rollback, "rollback"},
                                                        {OnDivergence::stop, "stop"}};

struct DivergenceConfig {
  OnDivergence policy = OnDivergence::skip;
  double spike_z_score = 10.0;     // 0: no loss is a spike
  std::int64_t max_in_a_row = 10;  // refused steps, or rollbacks to one checkpoint
};

struct CheckpointConfig {
  std::int64_t every_steps = 10000;  // 0: at the end only
  std::int64_t keep = 3;             // besides the best
};

struct LoggingConfig {
  std::int64_t every_steps = 10;
  bool tensorboard = true;
};

struct RuntimeConfig {
  DeviceChoice device = DeviceChoice::automatic;
  Precision precision = Precision::automatic;
  OrAuto<std::int64_t> threads;
  Precision allreduce_dtype = Precision::fp32;  // or bf16
  bool cuda_graph = true;
  bool profile = false;

  // Whether a GPU records its work. What is recorded cannot be timed op by op.
  bool records() const { return cuda_graph && !profile; }
};

struct GivenKeys {
  // Where each key that was given stands, and each inside it: "optimizer.epsilon" ->
  // "configs/a.yaml:12", "train.phases[1].batch_size" -> "configs/a.yaml:20".
  std::map<std::string, std::string, std::less<>> given;

  bool is_given(std::string_view key) const { return given.find(key) != given.end(); }
  // "configs/a.yaml:12: train.batch_size", "argument train.batch_size=8", "argument
  // train={batch_size: 8}: train.batch_size", or "train.batch_size (its default)".
  std::string where(std::string_view key) const;
  // f(), whose InputErrors then begin with where(key), of which they do not know.
  template <typename F>
  auto naming(std::string_view key, const F& f) const {
    try {
      return f();
    } catch (const InputError& error) {
      throw_input_error("{}: {}", where(key), error.what());
    }
  }
};

// InputError, naming `key`, when sequences of `length` tokens do not fit into micro-batches of
// `micro_batch_tokens`, or as many as train.reproducible computes at once do not.
void check_micro_batch(const GivenKeys& keys, std::string_view key, const StepConfig& step,
                       std::int64_t length, OrAuto<std::int64_t> micro_batch_tokens);
// InputError when gradients cannot travel as they have to with train.reproducible.
void check_reproducible(const GivenKeys& keys, const StepConfig& step,
                        const RuntimeConfig& runtime);
// InputError, naming `key`, when a batch of so many sequences has none, or no micro-batch of
// `fixed` (unless 0), for some rank.
void check_shares(const GivenKeys& keys, std::string_view key, std::int64_t batch_size,
                  std::int64_t fixed, int ranks);

// Whether the text of a configuration has the key `task`, as all of fine-tuning and none of
// pre-training have.
bool has_task(const std::string& yaml);

// Whether a command line's argument is "key=value", and no file of that name.
bool is_override(const std::string& argument);

}  // namespace bert
