#include "train/step/training_step.h"

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <utility>

#include "kernels/cuda_module.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace bert {

// Everything that changes from step to step and is read by kernels.
struct TrainingStep::Scalars {
  ModelLoss loss;
  GradientNorm gradient;
  DropoutKey dropout;
  UpdateGate gate;

  // Whether updates are refused outlives a step; what comes before is set anew for each.
  static std::size_t size_of_a_step() {
    static_assert(offsetof(Scalars, gate.closed) + sizeof gate.closed == sizeof(Scalars));
    return offsetof(Scalars, gate.closed);
  }
};

std::string StepResult::why_refused() const {
  if (std::isnan(loss)) return "its loss is NaN";
  if (std::isinf(loss)) return "its loss is infinite";
  if (gradient.nonfinite != 0) {
    return fmt::format("its gradient is not finite in {}",
                       plural(static_cast<std::uint64_t>(gradient.nonfinite), "element"));
  }
  return fmt::format("its loss is {:.4f}, and above {:.4f} is a spike", main_loss, max_loss);
}

std::vector<TrainingStep::Part> TrainingStep::parts_of(const BertModel& model, double layer_decay) {
  std::vector<Part> parts;
  const std::vector<std::int64_t> ends = model.part_ends();
  if (layer_decay == 1.0) return {{model.first_trained(), ends.back()}};
  std::int64_t first = 0;
  for (std::size_t i = 0; i < ends.size(); ++i) {
    const double depth = static_cast<double>(ends.size() - 1 - i);
    if (first >= model.first_trained()) {
      parts.push_back({first, ends[i], std::pow(layer_decay, depth)});
    }
    first = ends[i];
  }
  return parts;
}

Tensor TrainingStep::trained(const Tensor& flat) const {
  const std::int64_t first = model_.first_trained();
  return flat.slice(first, flat.numel() - first);
}

TrainingStep::TrainingStep(const StepOptions& options, Backend& backend, Communicator& communicator,
                           BertModel& model)
    : options_(options),
      backend_(backend),
      communicator_(communicator),
      model_(model),
      parts_(parts_of(model, options.layer_decay)),
      memory_(*backend.device, *backend.ops, model.capacity(), model),
      moment_memory_(*backend.device, 2 * model.parameters().values().bytes()),
      scalar_memory_(*backend.device, parts_.size() * sizeof(AdamWStep) + sizeof(Scalars)),
      adamw_(static_cast<AdamWStep*>(scalar_memory_.data())),
      scalars_(reinterpret_cast<Scalars*>(adamw_ + parts_.size())),
      recordings_(*backend.device, options.cuda_graph) {
  Device& device = *backend_.device;
  device.fill_zero(scalar_memory_.data(), scalar_memory_.bytes());
  const Tensor& values = model_.parameters().values();
  device.fill_zero(moment_memory_.data(), moment_memory_.bytes());
  const Tensor both(moment_memory_.data(), values.dtype(), {2 * values.numel()});
  moments_ = {both.slice(0, values.numel()), both.slice(values.numel(), values.numel())};
  const Tensor gradients = trained(model_.parameters().gradients());
  if (options_.reproducible_sequences > 0) {
    fixed_point_ =
        std::make_unique<FixedPointSums>(device, *backend_.ops, communicator_, gradients);
  }
  if (device.is_cpu()) {
    reducer_ =
        make_host_all_reducer(communicator_, fixed_point_ ? fixed_point_->sums() : gradients);
  } else if (communicator_.size() > 1) {
    reducer_ = make_gpu_all_reducer(device, communicator_,
                                    fixed_point_                                  ? DType::i64
                                    : options_.allreduce_dtype == Precision::bf16 ? DType::bf16
                                                                                  : DType::f32);
  }
}

TrainingStep::~TrainingStep() = default;

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
  result.exponent_before = gradient_exponent();

  Scalars scalars;
  const double denominator = batches.loss_weight.value_or(static_cast<double>(result.masked));
  scalars.loss.main_scale = denominator > 0.0 ? 1.0 / denominator : 0.0;
  scalars.loss.nsp_scale = 1.0 / static_cast<double>(batches.global_sequences);
  scalars.dropout = {options_.seed, static_cast<std::uint32_t>(at.done)};
  if (denominator > 0.0) scalars.gate.max_loss = at.max_loss / scalars.loss.main_scale;
  const std::vector<std::byte> fresh = scalars_of_a_step(scalars, at);

  Device& device = *backend_.device;
  const auto upload = [&] { device.copy_from_host(adamw_, fresh.data(), fresh.size()); };
  upload();
  if (first_step_ && backend_.product_choices) {
    choose_products(batches.micro_batches.front());
    upload();  // the sums of losses anew
  }
  first_step_ = false;
  const StepProfile::Watch watch(backend_.profile.get());
  if (fixed_point_) {
    compute_fixed_point(batches, upload);
  } else {
    compute_gradients(batches);
  }
  result.exponent_after = gradient_exponent();
  recordings_.run(kUpdate, 0, [this] { update(); });
  return {result, device.read_later(scalars_, sizeof scalars)};
}

// As they lie in device memory: the parts' AdamWSteps, and what is new of the scalars.
std::vector<std::byte> TrainingStep::scalars_of_a_step(const Scalars& scalars,
                                                       const Position& at) const {
  AdamWStep adamw;
  if (options_.optimizer.bias_correction) {
    const auto t = static_cast<double>(at.updates + 1);
    adamw.bias_correction1 = 1.0 - std::pow(options_.optimizer.beta1, t);
    adamw.bias_correction2 = 1.0 - std::pow(options_.optimizer.beta2, t);
  }
  const std::size_t size = parts_.size() * sizeof adamw;
  std::vector<std::byte> bytes(size + Scalars::size_of_a_step());
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    adamw.learning_rate = at.learning_rate * parts_[i].rate;
    std::memcpy(bytes.data() + i * sizeof adamw, &adamw, sizeof adamw);
  }
  std::memcpy(bytes.data() + size, &scalars, Scalars::size_of_a_step());
  return bytes;
}

// Before anything else rank 0 computes a micro-batch in several sizes for nothing but the choice of
// their products, which it makes by measuring. The products of any other size are then computed
// like those of the nearest, and the other ranks take rank 0's choices. With choices of their own,
// or made when a size is first met, they would compute as well, but not the same bits after a
// resume: a checkpoint has those of one rank, up to its step. All ranks compute these sizes, so
// that scratch memory has grown before anything is recorded.
void TrainingStep::choose_products(const Batch& batch) {
  std::string choices;
  if (communicator_.is_root()) {
    compute_every_size(batch);
    choices = backend_.product_choices();
  }
  if (communicator_.size() > 1) communicator_.broadcast(choices);
  if (!communicator_.is_root() && !backend_.set_product_choices(choices)) {
    std::fprintf(stderr,
                 "warning: rank %d has another GPU or cuBLAS than rank 0 (%s) and chooses its "
                 "products itself: a resumed run goes on equally well but not bit for bit\n",
                 communicator_.rank(), backend_.device->name().c_str());
  }
  if (!communicator_.is_root()) compute_every_size(batch);
  backend_.stop_choosing_products();
}

// The whole capacity, the half, the quarter and the eighth, each with as much of `batch` as fits:
// the sizes depend on the capacity alone.
void TrainingStep::compute_every_size(const Batch& batch) {
  for (const std::int64_t parts : {1, 2, 4, 8}) {
    const auto part_of = [&](std::int64_t most) { return round_rows(most / parts, most); };
    Capacity size = memory_.capacity();
    size.tokens = part_of(size.tokens);
    size.masked = part_of(size.masked);
    work(memory_.upload(first_sequences(batch, size.tokens, size.masked), size));
  }
}

void TrainingStep::work(const ModelInput& input, const GradientsReady& ready) {
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
    const ModelInput& input = memory_.upload(batches.micro_batches[i]);
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
    recordings_.run(completes ? kLastMicroBatch : kMicroBatch, memory_.layout(),
                    [&] { work(input, ready); });
  }
  if (!reducer_) return;
  start_losses();
  reducer_->finish();
}

// Every rank refuses the same steps, so the losses are summed before the update as well.
void TrainingStep::start_losses() {
  reducer_->start(Tensor(&scalars_->loss.main.loss, DType::f64, {1}));
  if (model_.has_nsp()) reducer_->start(Tensor(&scalars_->loss.nsp.loss, DType::f64, {1}));
}

// Each micro-batch by itself, from gradients of zero: then they are the same on any rank.
void TrainingStep::compute_fixed_point(const StepBatches& batches,
                                       const std::function<void()>& reset) {
  const std::int64_t sequences = options_.reproducible_sequences;
  const auto add_up = [&] {
    fixed_point_->begin((batches.global_sequences + sequences - 1) / sequences);
    for (const Batch& batch : batches.micro_batches) {
      const ModelInput& input = memory_.upload(batch);
      recordings_.run(kMicroBatch, memory_.layout(), [&] {
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
  ops.gradient_norm({.gradients = trained(store.gradients()),
                     .max_norm = options_.optimizer.max_grad_norm,
                     .loss = &scalars_->loss.main.loss,
                     .gate = &scalars_->gate,
                     .result = &scalars_->gradient});
  for (std::size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    const auto of = [&](const Tensor& flat, std::int64_t unit = 1) {
      return flat ? flat.slice(part.first / unit, (part.end - part.first) / unit) : Tensor();
    };
    ops.adamw({.parameters = of(store.values()),
               .gradients = of(store.gradients()),
               .m = of(moments_.m),
               .v = of(moments_.v),
               .compute = of(store.compute_copies()),
               .decays = of(store.decays(), AdamW::kBlock),
               .beta1 = options_.optimizer.beta1,
               .beta2 = options_.optimizer.beta2,
               .epsilon = options_.optimizer.epsilon,
               .weight_decay = options_.optimizer.weight_decay,
               .step = adamw_ + i,
               .norm = &scalars_->gradient});
  }
}

void TrainingStep::allow_updates() {
  backend_.device->fill_zero(&scalars_->gate.closed, sizeof scalars_->gate.closed);
}

StepResult TrainingStep::wait(Queued queued) {
  Scalars scalars;
  std::memcpy(&scalars, queued.scalars->wait(), sizeof scalars);
  StepResult& result = queued.result;
  result.main_loss = scalars.loss.main.loss * scalars.loss.main_scale;
  result.nsp_loss = model_.has_nsp() ? scalars.loss.nsp.loss * scalars.loss.nsp_scale : 0.0;
  result.loss = result.main_loss + result.nsp_loss;
  result.gradient = scalars.gradient;
  return result;
}

}  // namespace bert
