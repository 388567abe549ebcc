// TrainingStep: what an optimizer step does on a device. The gradients of its micro-batches, summed
// over them and over the ranks, their norm, and the update.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "data/data_loader.h"
#include "model/bert_for_pretraining.h"
#include "runtime/all_reducer.h"
#include "runtime/communicator.h"
#include "train/backend.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/device_batch.h"
#include "train/fixed_point_sums.h"

namespace bert {

struct StepResult {
  std::int64_t step = 0;  // steps done, this one included
  double loss = 0.0, mlm_loss = 0.0, nsp_loss = 0.0;
  GradientNorm gradient;
  double learning_rate = 0.0;
  double max_loss = 0.0;                // above it mlm_loss would have been a spike
  std::int64_t tokens = 0, masked = 0;  // over all ranks
  int gradient_exponent = 0;            // of fixed_point(), after the step

  bool refused() const { return gradient.refused != 0; }  // nothing was updated
};

class TrainingStep {
 public:
  // Makes room for all a step needs besides the model, which has its memory. All arguments are kept
  // by reference.
  TrainingStep(const Config& config, Backend& backend, Communicator& communicator,
               BertForPretraining& model);
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
  // Queues a step, without waiting for it on a GPU. Its update is refused, on the device, where the
  // loss or a gradient is not finite or mlm_loss is above the limit; so are then those of all steps
  // queued after it, until allow_updates().
  Queued queue(const StepBatches& batches, const Position& at);
  // Waits for a step, the oldest that is queued.
  StepResult wait(Queued queued);
  void allow_updates();

  DeviceBatch& memory() { return memory_; }            // of a micro-batch, for others between steps
  const Moments& moments() const { return moments_; }  // zero at first
  const AllReducer* reducer() const { return reducer_.get(); }  // null for one rank on a GPU
  // With train.reproducible, else null. Its exponent is part of a run's state.
  FixedPointSums* fixed_point() { return fixed_point_.get(); }

 private:
  struct Scalars;

  void choose_products(const Batch& batch);
  void compute_gradients(const StepBatches& batches);
  // The same in fixed point; `reset` is called before the work of a micro-batch is done again.
  void compute_fixed_point(const StepBatches& batches, const std::function<void()>& reset);
  // Queues what adds the gradients of a micro-batch to what is there.
  void work(const PretrainingInput& input, const GradientsReady& ready = {});
  void start_losses();
  void update();
  // Does what f queues: recorded, if that is wanted and the first step is over.
  template <typename F>
  void recorded(int key, const F& f);

  const Config& config_;
  Backend& backend_;
  Communicator& communicator_;
  BertForPretraining& model_;
  DeviceBatch memory_;
  DeviceBuffer moment_memory_, scalar_memory_;
  Moments moments_;
  Scalars* scalars_;  // device memory
  std::unique_ptr<FixedPointSums> fixed_point_;
  bool first_step_ = true;  // of this process
  // The last member: after a failure it gives up what other ranks will not complete, for which the
  // others' memory would wait.
  std::unique_ptr<AllReducer> reducer_;
};

}  // namespace bert
