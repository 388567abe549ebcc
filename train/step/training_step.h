// TrainingStep: what an optimizer step does on a device. The gradients of its micro-batches, summed
// over them and over the ranks, their norm, and the update.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "data/samples/data_loader.h"
#include "model/bert_model.h"
#include "runtime/all_reducer.h"
#include "runtime/communicator.h"
#include "train/checkpoint/checkpoint.h"
#include "train/config/config_sections.h"
#include "train/step/backend.h"
#include "train/step/device_batch.h"
#include "train/step/fixed_point_sums.h"
#include "train/step/recordings.h"

namespace bert {

// With train.reproducible the losses of a micro-batch are rounded to a multiple of this: their sum
// is then exact, and so the same in any order, up to 2^33; and off by 2^-21 a micro-batch, which is
// 1e-9 of the loss of 50 masked tokens.
inline constexpr double kLossUnit = 0x1p-20;

// What a step needs of a configuration.
struct StepOptions {
  StepOptions(std::uint64_t seed_, const OptimizerConfig& optimizer_, const StepConfig& train,
              const RuntimeConfig& runtime, double layer_decay_ = 1.0)
      : seed(seed_),
        optimizer(optimizer_),
        layer_decay(layer_decay_),
        reproducible_sequences(train.micro_batch_sequences()),
        allreduce_dtype(runtime.allreduce_dtype),
        cuda_graph(runtime.records()) {}

  std::uint64_t seed;
  OptimizerConfig optimizer;
  // The learning rate of each layer is that of the layer above it times this, the heads' being the
  // whole and the embeddings' the smallest (Howard & Ruder 2018, section 3.2, with layers for
  // groups).
  double layer_decay;
  // Of a micro-batch, with the gradients summed in fixed point; 0: as many as fit, and in floats.
  std::int64_t reproducible_sequences;
  Precision allreduce_dtype;  // fp32 or bf16
  bool cuda_graph;
};

struct StepResult {
  std::int64_t step = 0;                               // steps done, this one included
  double loss = 0.0, main_loss = 0.0, nsp_loss = 0.0;  // as in ModelLoss; loss: their sum
  GradientNorm gradient;
  double learning_rate = 0.0;
  double max_loss = 0.0;                        // above it main_loss would have been a spike
  std::int64_t tokens = 0, masked = 0;          // over all ranks
  int exponent_before = 0, exponent_after = 0;  // TrainingStep::gradient_exponent

  bool refused() const { return gradient.refused != 0; }  // nothing was updated
  std::string why_refused() const;                        // "its loss is NaN"
};

class TrainingStep {
 public:
  // Makes room for all a step needs besides the model, which has its memory; what is frozen of it
  // is not updated. All arguments but the options are kept by reference.
  TrainingStep(const StepOptions& options, Backend& backend, Communicator& communicator,
               BertModel& model);
  ~TrainingStep();

  // A step whose work is queued: what is known of it already, and the rest on its way.
  struct Queued {
    StepResult result;
    std::unique_ptr<PendingRead> scalars;
  };
  // What a step is told besides its samples.
  struct Position {
    std::int64_t done = 0;     // steps before it
    std::int64_t updates = 0;  // those of them that changed the parameters
    double learning_rate = 0.0;
    double max_loss = std::numeric_limits<double>::infinity();  // more than this is refused
  };
  // Queues a step, without waiting for it on a GPU. Its update is refused, on the device, where
  // main_loss or a gradient is not finite or main_loss is above the limit; so are then those of all
  // steps queued after it, until allow_updates().
  Queued queue(const StepBatches& batches, const Position& at);
  // Waits for a step, the oldest that is queued.
  StepResult wait(Queued queued);
  void allow_updates();
  // Frees what was recorded of steps whose micro-batches had other sizes than those to come.
  void forget_recordings() { recordings_.forget(); }

  DeviceBatch& memory() { return memory_; }            // of a micro-batch, for others between steps
  const Moments& moments() const { return moments_; }  // zero at first
  const AllReducer* reducer() const { return reducer_.get(); }  // null for one rank on a GPU
  // With train.reproducible, of FixedPointSums: part of a run's state, as it decides how the
  // gradients of the next step are rounded. Otherwise 0, whatever it is set to.
  int gradient_exponent() const { return fixed_point_ ? fixed_point_->exponent() : 0; }
  void set_gradient_exponent(int exponent) {
    if (fixed_point_) fixed_point_->set_exponent(exponent);
  }

 private:
  struct Scalars;

  std::vector<std::byte> scalars_of_a_step(const Scalars& scalars, const Position& at) const;
  void choose_products(const Batch& batch);
  void compute_every_size(const Batch& batch);
  void compute_gradients(const StepBatches& batches);
  // The same in fixed point; `reset` is called before the work of a micro-batch is done again.
  void compute_fixed_point(const StepBatches& batches, const std::function<void()>& reset);
  // Queues what adds the gradients of a micro-batch to what is there.
  void work(const ModelInput& input, const GradientsReady& ready = {});
  void start_losses();
  void update();
  // Of a flat buffer, what is trained.
  Tensor trained(const Tensor& flat) const;
  // A slice of the flat buffers with a learning rate of its own.
  struct Part {
    std::int64_t first = 0, end = 0;
    double rate = 1.0;  // times the step's learning rate
  };
  static std::vector<Part> parts_of(const BertModel& model, double layer_decay);

  const StepOptions options_;
  Backend& backend_;
  Communicator& communicator_;
  BertModel& model_;
  std::vector<Part> parts_;
  DeviceBatch memory_;
  DeviceBuffer moment_memory_, scalar_memory_;
  Moments moments_;
  AdamWStep* adamw_;  // device memory: one for each part, and after them
  Scalars* scalars_;
  std::unique_ptr<FixedPointSums> fixed_point_;
  Recordings recordings_;
  bool first_step_ = true;  // of this process
  // The last member: after a failure it gives up what other ranks will not complete, for which the
  // others' memory would wait.
  std::unique_ptr<AllReducer> reducer_;
};

}  // namespace bert
