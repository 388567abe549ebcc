#include "train/training_step.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/cuda_module.h"
#include "runtime/error.h"
#include "train/recordings.h"

namespace bert {

namespace {

// With train.reproducible the losses of a micro-batch are rounded to a multiple of this: their sum
// is then exact, and so the same in any order, up to 2^33; and off by 2^-21 a micro-batch, which is
// 1e-9 of the loss of 50 masked tokens.
constexpr double kLossUnit = 0x1p-20;

}  // namespace

// Everything that changes from step to step and is read by kernels.
struct TrainingStep::Scalars {
  PretrainingLoss loss;
  GradientNorm gradient;
  AdamWStep adamw;
  DropoutKey dropout;
  UpdateGate gate;

  // Whether updates are refused outlives a step; what comes before is set anew for each.
  static std::size_t size_of_a_step() {
    static_assert(offsetof(Scalars, gate.closed) + sizeof gate.closed == sizeof(Scalars));
    return offsetof(Scalars, gate.closed);
  }
};

TrainingStep::TrainingStep(const Config& config, Backend& backend, Communicator& communicator,
                           BertForPretraining& model)
    : config_(config),
      backend_(backend),
      communicator_(communicator),
      model_(model),
      memory_(*backend.device, model.capacity(), model.has_nsp()),
      moment_memory_(*backend.device, 2 * model.parameters().values().bytes()),
      scalar_memory_(*backend.device, sizeof(Scalars)),
      scalars_(static_cast<Scalars*>(scalar_memory_.data())) {
  Device& device = *backend_.device;
  device.fill_zero(scalars_, sizeof *scalars_);
  const Tensor& values = model_.parameters().values();
  device.fill_zero(moment_memory_.data(), moment_memory_.bytes());
  const Tensor both(moment_memory_.data(), values.dtype(), {2 * values.numel()});
  moments_ = {both.slice(0, values.numel()), both.slice(values.numel(), values.numel())};
  const Tensor& gradients = model_.parameters().gradients();
  if (config_.train.reproducible) {
    fixed_point_ =
        std::make_unique<FixedPointSums>(device, *backend_.ops, communicator_, gradients);
  }
  if (device.is_cpu()) {
    reducer_ =
        make_host_all_reducer(communicator_, fixed_point_ ? fixed_point_->sums() : gradients);
  } else if (communicator_.size() > 1) {
    reducer_ =
        make_nccl_all_reducer(device, communicator_,
                              fixed_point_                                         ? DType::i64
                              : config_.runtime.allreduce_dtype == Precision::bf16 ? DType::bf16
                                                                                   : DType::f32);
  }
}

TrainingStep::~TrainingStep() = default;

template <typename F>
void TrainingStep::recorded(int key, const F& f) {
  if (first_step_ || !config_.runtime.cuda_graph) return f();
  backend_.device->run_recorded(key, f);
}

TrainingStep::Queued TrainingStep::queue(const StepBatches& batches, const Position& at) {
  // The loss is a mean over the masked tokens of the whole step: counted before the first forward.
  std::vector<std::int64_t> totals{batches.masked, batches.tokens};
  communicator_.all_reduce_sum(totals);
  StepResult result;
  result.step = at.done + 1;
  result.masked = totals[0];
  result.tokens = totals[1];
  result.learning_rate = at.learning_rate;
  result.max_loss = at.max_loss;

  Scalars scalars;
  scalars.loss.mlm_scale = result.masked > 0 ? 1.0 / static_cast<double>(result.masked) : 0.0;
  scalars.loss.nsp_scale = 1.0 / static_cast<double>(batches.global_sequences);
  scalars.adamw.learning_rate = at.learning_rate;
  if (config_.optimizer.bias_correction) {
    const auto t = static_cast<double>(at.updates + 1);
    scalars.adamw.bias_correction1 = 1.0 - std::pow(config_.optimizer.beta1, t);
    scalars.adamw.bias_correction2 = 1.0 - std::pow(config_.optimizer.beta2, t);
  }
  scalars.dropout = {config_.seed, static_cast<std::uint32_t>(at.done)};
  if (result.masked > 0) scalars.gate.max_loss = at.max_loss / scalars.loss.mlm_scale;

  Device& device = *backend_.device;
  const auto upload = [&] { device.copy_from_host(scalars_, &scalars, Scalars::size_of_a_step()); };
  upload();
  if (first_step_ && communicator_.size() > 1 && backend_.product_choices) {
    choose_products(batches.micro_batches.front());
    upload();  // the sums of losses anew
  }
  if (fixed_point_) {
    compute_fixed_point(batches, upload);
    result.gradient_exponent = fixed_point_->exponent();
  } else {
    compute_gradients(batches);
  }
  recorded(kUpdate, [this] { update(); });
  first_step_ = false;
  return {result, device.read_later(scalars_, sizeof scalars)};
}

// Rank 0 computes a micro-batch for nothing but the choice of its products, which it makes by
// measuring, and the others take its choice. With choices of their own they would compute as well,
// but not the same bits after a resume, as a checkpoint has those of one rank only.
void TrainingStep::choose_products(const Batch& batch) {
  std::string choices;
  if (communicator_.is_root()) {
    work(memory_.upload(batch));
    choices = backend_.product_choices();
  }
  communicator_.broadcast(choices);
  if (!communicator_.is_root() && !backend_.set_product_choices(choices)) {
    std::fprintf(stderr,
                 "warning: rank %d has another GPU or cuBLAS than rank 0 (%s) and chooses its "
                 "products itself: a resumed run goes on equally well but not bit for bit\n",
                 communicator_.rank(), backend_.device->name().c_str());
  }
}

void TrainingStep::work(const PretrainingInput& input, const GradientsReady& ready) {
  model_.forward(input, &scalars_->dropout);
  model_.loss(input, &scalars_->loss, /*with_gradients=*/true, fixed_point_ ? kLossUnit : 0.0);
  model_.backward(input, ready);
}

void TrainingStep::compute_gradients(const StepBatches& batches) {
  Device& device = *backend_.device;
  const Tensor& gradients = model_.parameters().gradients();
  backend_.ops->zero(gradients);
  const std::size_t last = batches.micro_batches.size() - 1;
  for (std::size_t i = 0; i <= last; ++i) {
    const PretrainingInput& input = memory_.upload(batches.micro_batches[i]);
    // The last micro-batch completes the gradients, layer by layer: the first sums travel between
    // ranks while the rest is computed. What sends them off is not recorded, but called between
    // the parts of the recording.
    const bool completes = reducer_ && i == last;
    GradientsReady ready;
    if (completes) {
      ready = [&](std::int64_t first, std::int64_t end) {
        device.run_unrecorded(
            [this, piece = gradients.slice(first, end - first)] { reducer_->start(piece); });
      };
    }
    recorded(completes ? kLastMicroBatch : kMicroBatch, [&] { work(input, ready); });
  }
  if (!reducer_) return;
  start_losses();
  reducer_->finish();
}

// Every rank refuses the same steps, so the losses are summed before the update as well.
void TrainingStep::start_losses() {
  reducer_->start(Tensor(&scalars_->loss.mlm.loss, DType::f64, {1}));
  if (model_.has_nsp()) reducer_->start(Tensor(&scalars_->loss.nsp.loss, DType::f64, {1}));
}

// Each micro-batch by itself, from gradients of zero: then they are the same on any rank.
void TrainingStep::compute_fixed_point(const StepBatches& batches,
                                       const std::function<void()>& reset) {
  const std::int64_t sequences = config_.train.micro_batch_sequences();
  const auto add_up = [&] {
    fixed_point_->begin((batches.global_sequences + sequences - 1) / sequences);
    for (const Batch& batch : batches.micro_batches) {
      const PretrainingInput& input = memory_.upload(batch);
      recorded(kMicroBatch, [&] {
        backend_.ops->zero(model_.parameters().gradients());
        work(input);
        fixed_point_->add();
      });
    }
  };
  add_up();
  if (!fixed_point_->settle()) {
    reset();
    add_up();
    BERT_CHECK(fixed_point_->settle(), "a step has other gradients when it is computed again");
  }
  if (!reducer_) return;
  reducer_->start(fixed_point_->sums());
  start_losses();
  reducer_->finish();
}

void TrainingStep::update() {
  Ops& ops = *backend_.ops;
  const ParameterStore& store = model_.parameters();
  if (fixed_point_) fixed_point_->read();
  ops.gradient_norm({.gradients = store.gradients(),
                     .max_norm = config_.optimizer.max_grad_norm,
                     .loss = &scalars_->loss.mlm.loss,
                     .gate = &scalars_->gate,
                     .result = &scalars_->gradient});
  ops.adamw({.parameters = store.values(),
             .gradients = store.gradients(),
             .m = moments_.m,
             .v = moments_.v,
             .compute = store.compute_copies(),
             .decays = store.decays(),
             .beta1 = config_.optimizer.beta1,
             .beta2 = config_.optimizer.beta2,
             .epsilon = config_.optimizer.epsilon,
             .weight_decay = config_.optimizer.weight_decay,
             .step = &scalars_->adamw,
             .norm = &scalars_->gradient});
}

void TrainingStep::allow_updates() {
  backend_.device->fill_zero(&scalars_->gate.closed, sizeof scalars_->gate.closed);
}

StepResult TrainingStep::wait(Queued queued) {
  Scalars scalars;
  std::memcpy(&scalars, queued.scalars->wait(), sizeof scalars);
  StepResult& result = queued.result;
  result.mlm_loss = scalars.loss.mlm.loss * scalars.loss.mlm_scale;
  result.nsp_loss = model_.has_nsp() ? scalars.loss.nsp.loss * scalars.loss.nsp_scale : 0.0;
  result.loss = result.mlm_loss + result.nsp_loss;
  result.gradient = scalars.gradient;
  return result;
}

}  // namespace bert
