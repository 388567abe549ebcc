#include "train/pretrainer.h"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <fstream>
#include <utility>

#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "runtime/file.h"
#include "train/inference_session.h"
#include "train/layer_gradient_norms.h"
#include "train/rank_agreement.h"
#include "train/run_directory.h"
#include "train/step_replay.h"
#include "train/utilisation.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Pretrainer::Pretrainer(Config config, PretrainerOptions options, Communicator& communicator)
    : config_(std::move(config)),
      options_(std::move(options)),
      communicator_(communicator),
      backend_(make_backend(config_.runtime, communicator, "runtime.", config_.train.reproducible)),
      corpora_(config_.data.path),
      tokenizer_(load_tokenizer(config_.tokenizer.path, {.cased = config_.tokenizer.cased})),
      schedule_(config_.lr_schedule()),
      monitor_(config_.divergence.spike_z_score) {
  corpora_.check_tokenizer(*tokenizer_);
  std::optional<BertConfig> initial;
  if (config_.model.init_from) initial = describe_model(*config_.model.init_from).config;
  const BertConfig bert = resolve_model(config_, tokenizer_->vocab_size(), initial);
  model_ = std::make_unique<BertForPretraining>(bert, config_.objective.next_sentence
                                                          ? BertForPretraining::Heads::mlm_and_nsp
                                                          : BertForPretraining::Heads::mlm);
  open_datasets();
  check_datasets();
  state_.seed = config_.seed;
  state_.precision = precision_name(backend_.precision);
  state_.device = backend_.device->name();
  state_.world_size = communicator_.size();
  state_.threads = backend_.threads;
  state_.corpus = corpora_.fingerprint();
  check_ranks_agree(communicator_, {{"the device", backend_.device->is_cpu() ? "a CPU" : "a GPU"},
                                    {"the precision", state_.precision},
                                    {"the corpus", state_.corpus},
                                    {"the tokenizer", tokenizer_->fingerprint()}});
  if (communicator_.is_root()) check_run_directory();
  plan_micro_batches();

  Device& device = *backend_.device;
  model_->allocate(device, *backend_.ops, capacity_, /*with_gradients=*/true,
                   config_.train.recompute);
  step_ = std::make_unique<TrainingStep>(config_, backend_, communicator_, *model_);
  evaluator_ =
      std::make_unique<Evaluator>(*model_, device, step_->memory(), config_.runtime.cuda_graph,
                                  config_.train.micro_batch_sequences());
  model_->parameters().initialize(model_->config(), config_.seed);
  if (config_.model.init_from) {
    verify_model_files(*config_.model.init_from);
    load_parameters(SafetensorsFile(fs::path(*config_.model.init_from) / "model.safetensors"),
                    model_->parameters(), /*missing_heads_ok=*/true);
  }
  open_run_directory();
}

Pretrainer::~Pretrainer() = default;

// --- Opening ------------------------------------------------------------------------------------

DatasetOptions Pretrainer::dataset_options(std::int64_t sequence_length, std::uint64_t seed) const {
  return {.sampling = config_.data.sampling,
          .sequence_length = sequence_length,
          .short_sequence_probability = config_.data.short_sequence_probability,
          .next_sentence = config_.objective.next_sentence,
          .masking = {.masking = config_.objective.masking,
                      .fraction = config_.objective.mask_fraction,
                      .max_predictions = config_.objective.max_predictions.value_or(0)},
          .static_masks = config_.objective.static_masks,
          .seed = seed};
}

// A batch that holds a sample twice would weigh it twice.
void Pretrainer::check_datasets() const {
  for (const Phase& phase : config_.phases()) {
    const std::uint64_t samples = datasets_.at(phase.sequence_length).training.num_samples();
    if (static_cast<std::uint64_t>(phase.batch_size) <= samples) continue;
    throw_input_error(
        "{}: a batch of {} sequences is more than the corpus's training part has: {} of up to {} "
        "tokens; make it smaller, or prepare more text",
        config_.where("train.batch_size"), phase.batch_size, samples, phase.sequence_length);
  }
}

void Pretrainer::check_run_directory() const {
  check_writable(config_.run_dir);
  const std::size_t number = dtype_size(backend_.ops->statistics_dtype());
  const auto warning =
      check_disk_space(config_.run_dir, most_checkpoints(config_),
                       checkpoint_bytes(model_->parameters().num_parameters(), number));
  if (warning) std::fprintf(stderr, "warning: %s\n", warning->c_str());
}

// How large micro-batches are, and with them all that is allocated. A run that is resumed on the
// same device and number of ranks rounds as before only with micro-batches as before.
void Pretrainer::plan_micro_batches() {
  std::vector<std::int64_t> earlier{0};
  if (communicator_.is_root() && options_.resume) {
    const auto found = *options_.resume == "auto"
                           ? newest_state(fs::path(config_.run_dir) / "checkpoints")
                           : peek_state(*options_.resume);
    if (found && found->world_size == state_.world_size && found->device == state_.device) {
      earlier[0] = found->auto_micro_batch_tokens > 0
                       ? found->auto_micro_batch_tokens
                       : most_auto_tokens(backend_.device->is_cpu());  // of older versions
    }
  }
  communicator_.all_reduce_sum(earlier);
  const auto before = earlier[0] > 0 ? std::optional(earlier[0]) : std::nullopt;
  state_.auto_micro_batch_tokens =
      choose_auto_tokens(config_, *model_, backend_, communicator_, before);
  if (before && *before != state_.auto_micro_batch_tokens && communicator_.is_root()) {
    std::fprintf(stderr,
                 "warning: there is less memory than before: micro-batches of at most %lld tokens "
                 "instead of %lld; the run goes on equally well but not bit for bit\n",
                 static_cast<long long>(state_.auto_micro_batch_tokens),
                 static_cast<long long>(*before));
  }
  capacity_ = run_capacity(config_, communicator_.size(), state_.auto_micro_batch_tokens);
  memory_ = plan_memory(*model_, backend_, capacity_, config_.train);
  memory_for_a_rank_ = memory_for_a_rank(backend_, communicator_, memory_.snapshot);
}

// InputError where the corpus does not fit a phase.
void Pretrainer::open_datasets() {
  for (const Phase& phase : config_.phases()) {
    const std::int64_t length = phase.sequence_length;
    datasets_.try_emplace(
        length,
        Datasets{corpora_.mixture(Part::train, dataset_options(length, config_.seed)),
                 corpora_.mixture(Part::validation, dataset_options(length, kValidationSeed))});
  }
}

void Pretrainer::open_run_directory() {
  const fs::path run_dir = config_.run_dir;
  const fs::path checkpoints = run_dir / "checkpoints";
  std::string resume;  // decided by rank 0 for all
  if (communicator_.is_root()) {
    const bool used = fs::is_directory(run_dir) && !fs::is_empty(run_dir);
    if (fs::exists(run_dir) && !fs::is_directory(run_dir)) {
      throw_input_error("run_dir: {} is not a folder", run_dir.string());
    }
    if (!options_.resume && used) {
      throw_input_error(
          "run_dir: {} is not empty; resume it with --resume auto, or name another folder",
          run_dir.string());
    }
    if (options_.resume && *options_.resume == "auto") {
      const auto newest = newest_checkpoint(checkpoints, [](const std::string& damage) {
        std::fprintf(stderr, "warning: %s; looking for an older checkpoint\n", damage.c_str());
      });
      if (newest) resume = newest->string();
    } else if (options_.resume) {
      resume = *options_.resume;
      while (resume.size() > 1 && resume.back() == '/') resume.pop_back();
      verify_checkpoint(resume);
      // Going on in a folder that holds another run would cut back what that one has written.
      if (used && fs::weakly_canonical(fs::path(resume)).parent_path() !=
                      fs::weakly_canonical(checkpoints)) {
        throw_input_error(
            "run_dir: {} is not empty and {} is not one of its checkpoints; name another folder",
            run_dir.string(), resume);
      }
    }
  }
  communicator_.broadcast(resume);
  if (!resume.empty()) resume_from(resume);
  // Nothing has been written so far: what does not fit is refused with everything as it was.
  if (communicator_.is_root() && !options_.dry_run) {
    try {
      make_directories(checkpoints);
      for (const fs::path& moved : set_aside_checkpoints(checkpoints, state_.step)) {
        std::fprintf(stderr, "warning: going on from step %lld; a later checkpoint is now %s\n",
                     static_cast<long long>(state_.step), moved.c_str());
      }
      write_file_atomic(run_dir / "config.yaml", config_to_yaml(config_));
    } catch (const RuntimeError& error) {
      throw_input_error("run_dir: {}", error.what());
    }
    open_log();
    writer_ = std::make_unique<CheckpointWriter>(checkpoints, config_.checkpoint.keep, *model_,
                                                 *tokenizer_);
  }
}

void Pretrainer::open_log() {
  log_ = std::make_unique<RunLog>(config_.run_dir, state_.step, config_.train.max_steps,
                                  config_.logging.tensorboard);
}

void Pretrainer::resume_from(const fs::path& checkpoint) {
  const ModelDescription found = describe_model(checkpoint);
  BertConfig comparable = found.config;
  // What may change during a run, or was only needed at its start.
  comparable.init = model_->config().init;
  comparable.initializer_range = model_->config().initializer_range;
  comparable.hidden_dropout_prob = model_->config().hidden_dropout_prob;
  comparable.attention_probs_dropout_prob = model_->config().attention_probs_dropout_prob;
  if (!(comparable == model_->config()) ||
      (found.heads == BertForPretraining::Heads::mlm_and_nsp) != model_->has_nsp()) {
    throw_input_error(
        "{} holds another model than the configuration describes; resume with the configuration "
        "the run was started with ({}/config.yaml)",
        checkpoint.string(), config_.run_dir);
  }
  const TrainerState now = state_;
  state_ = load_checkpoint(checkpoint, *model_, step_->moments());
  const auto differs = [&](const std::string& what, const auto& was, const auto& is) {
    throw_input_error("{} was trained with {} {}, this run has {}", checkpoint.string(), what, was,
                      is);
  };
  if (state_.corpus != now.corpus) differs("the corpus", state_.corpus, now.corpus);
  if (state_.seed != now.seed) differs("seed", state_.seed, now.seed);
  const auto is_double = [](const TrainerState& state) {
    return state.precision == precision_name(Precision::fp64);
  };
  // Parameters and moments are f32 in every other precision.
  if (is_double(state_) != is_double(now)) differs("precision", state_.precision, now.precision);
  if (communicator_.is_root() &&
      (state_.precision != now.precision || state_.device != now.device)) {
    std::fprintf(stderr,
                 "warning: %s was written in %s on %s, this run computes in %s on %s: it goes on "
                 "from the same parameters and moments, but rounds otherwise\n",
                 checkpoint.c_str(), state_.precision.c_str(), state_.device.c_str(),
                 now.precision.c_str(), now.device.c_str());
  }
  if (step_->fixed_point()) step_->fixed_point()->set_exponent(state_.gradient_exponent);
  if (communicator_.is_root() && !config_.train.reproducible &&
      (state_.world_size != now.world_size || state_.threads != now.threads)) {
    std::fprintf(stderr,
                 "warning: %s was written by %lld rank(s) of %lld thread(s), this run has %lld of "
                 "%lld: sums are rounded in another order, so it goes on equally well but not bit "
                 "for bit\n",
                 checkpoint.c_str(), static_cast<long long>(state_.world_size),
                 static_cast<long long>(state_.threads), static_cast<long long>(now.world_size),
                 static_cast<long long>(now.threads));
  }
  if (backend_.set_product_choices && !state_.product_choices.empty() &&
      !backend_.set_product_choices(state_.product_choices) && communicator_.is_root()) {
    std::fprintf(stderr,
                 "warning: %s was written with another cuBLAS or GPU: products are chosen anew, so "
                 "it goes on equally well but not bit for bit\n",
                 checkpoint.c_str());
  }
  monitor_.set_statistics(state_.losses);
  state_.precision = now.precision;
  state_.device = now.device;
  state_.world_size = now.world_size;
  state_.threads = now.threads;
  state_.auto_micro_batch_tokens = now.auto_micro_batch_tokens;
}

void Pretrainer::start_phase(std::int64_t step) {
  phase_ = config_.phase_at(step);
  if (step == phase_.first_step) monitor_.reset();
  loader_ = std::make_unique<DataLoader>(
      datasets_.at(phase_.sequence_length).training,
      LoaderOptions{.batch_size = phase_.batch_size,
                    .rank = communicator_.rank(),
                    .world_size = communicator_.size(),
                    .limits = {.tokens = phase_capacity(config_, phase_, communicator_.size(),
                                                        state_.auto_micro_batch_tokens)
                                             .tokens,
                               .sequences = capacity_.sequences,
                               .masked = capacity_.masked},
                    .micro_batch_sequences = config_.train.micro_batch_sequences(),
                    // Where its batches go on from.
                    .sequences_before = sequences_before(phase_.first_step) + state_.passed_over,
                    .steps_before = static_cast<std::uint64_t>(phase_.first_step),
                    .first_step = static_cast<std::uint64_t>(step),
                    .end_step = static_cast<std::uint64_t>(phase_.end_step),
                    .threads = static_cast<int>(config_.data.threads),
                    .prefetch_steps = static_cast<int>(config_.data.prefetch)});
}

// Of all the steps before, each of its phase's size.
std::uint64_t Pretrainer::sequences_before(std::int64_t step) const {
  std::uint64_t seen = 0;
  for (const Phase& phase : config_.phases()) {
    const std::int64_t end = std::min(step, phase.end_step);
    if (end <= phase.first_step) break;
    seen += static_cast<std::uint64_t>((end - phase.first_step) * phase.batch_size);
  }
  return seen;
}

RunPlan Pretrainer::plan() const {
  RunPlan plan;
  plan.model = model_->config();
  plan.parameters = model_->parameters().num_parameters();
  for (const auto& corpus : corpora_.corpora()) plan.corpora.push_back(corpus->folder().string());
  plan.training = corpora_.counts(Part::train);
  plan.validation = corpora_.counts(Part::validation);
  plan.ranks = communicator_.size();
  for (const Phase& phase : config_.phases()) {
    const DatasetMixture& training = datasets_.at(phase.sequence_length).training;
    plan.phases.push_back(
        {.first_step = phase.first_step,
         .end_step = phase.end_step,
         .sequence_length = phase.sequence_length,
         .batch_size = phase.batch_size,
         .micro_batch_tokens =
             phase_capacity(config_, phase, plan.ranks, state_.auto_micro_batch_tokens).tokens,
         .samples = training.num_samples(),
         .sample_tokens = mean_sample_tokens(training)});
  }
  plan.communication = communicator_.name();
  const AllReducer* const reducer = step_->reducer();
  if (reducer != nullptr && reducer->name() != communicator_.name()) {
    plan.communication += fmt::format(", gradients by {}", reducer->name());
  }
  plan.computing = backend_.description();
  plan.memory = memory_;
  plan.memory_for_it = memory_for_a_rank_;
  plan.checkpoint_bytes =
      checkpoint_bytes(plan.parameters, dtype_size(model_->parameters().values().dtype()));
  plan.checkpoint_every = config_.checkpoint.every_steps;
  plan.checkpoints_kept = config_.checkpoint.keep;
  plan.micro_batch_sequences = config_.train.micro_batch_sequences();
  plan.max_steps = config_.train.max_steps;
  plan.first_step = state_.step;
  plan.run_dir = config_.run_dir;
  return plan;
}

// --- Training -----------------------------------------------------------------------------------

void Pretrainer::run() {
  if (options_.dry_run && communicator_.is_root()) {
    const std::string text = options_.json ? to_json(plan()).dump(2) : describe(plan());
    std::printf("%s\n", text.c_str());
  }
  if (options_.dry_run) return;
  const StopSignals signals;
  if (log_) say(describe(plan()));
  if (options_.dump_batches && state_.step == 0) save();
  if (state_.step >= config_.train.max_steps) {
    say(fmt::format("nothing to do: step {} of {} is done", state_.step, config_.train.max_steps));
    return;
  }

  const std::int64_t patience = config_.evaluation.patience;
  if (patience > 0 && state_.evaluations_since_best >= patience) {
    say(fmt::format("nothing to do: stopped early at step {}; a larger evaluation.patience goes on",
                    state_.step));
    return;
  }

  // There must be something to go back to.
  if (config_.divergence.policy == OnDivergence::rollback && state_.step == 0) save();
  if (log_) {
    log_->event(state_.step > 0 ? RunEvent::resume : RunEvent::start, state_.step, "");
  }
  start_phase(state_.step);
  const std::int64_t first_step = state_.step;
  const auto started = Clock::now();
  last_settled_ = started;
  int signal = 0;
  bool go_on = true;
  // A GPU computes one step while the next is queued: a step is settled one step late.
  std::optional<InFlight> before;
  while (go_on && state_.step < config_.train.max_steps) {
    if (state_.step == phase_.end_step) start_phase(state_.step);
    InFlight now = queue_step();
    if (before && settle(*before)) {
      // The one after it was refused as well, and is queued again.
      (void)step_->wait(std::move(now.queued));
      if (step_->fixed_point()) {
        step_->fixed_point()->set_exponent(before->queued.result.gradient_exponent);
      }
      --state_.step;
      again_ = std::move(now.batches);
      diverged(*before);
      before.reset();
      continue;
    }
    before = std::move(now);

    const bool at_end = state_.step == config_.train.max_steps;
    const auto due = [&](std::int64_t every) {
      return at_end || (every > 0 && state_.step % every == 0);
    };
    const bool evaluates = due(config_.evaluation.every_steps);
    signal = stop_signal(signals);
    bool saves = due(config_.checkpoint.every_steps) || signal != 0;
    if (backend_.device->is_cpu() || evaluates || saves) {
      const std::int64_t step = state_.step;
      if (settle(*before)) diverged(*before);
      before.reset();
      if (state_.step != step) continue;  // gone back
    }
    const Verdict verdict = evaluates ? evaluate_and_report() : Verdict{};
    saves = saves || verdict.best || verdict.stop;
    go_on = !verdict.stop && signal == 0;
    if (saves) save();
    if (evaluates || saves) last_settled_ = Clock::now();
    if (writer_) report(writer_->ended());
  }
  finish_saving();
  if (signal != 0) {
    if (log_) {
      log_->event(RunEvent::stop, state_.step,
                  fmt::format("stopped by {}; --resume auto goes on", signal_name(signal)));
    }
  }
  say(describe_end(state_.step - first_step, tokens_done_,
                   std::chrono::duration<double>(Clock::now() - started).count()));
  if (log_) log_->finish();
}

Pretrainer::InFlight Pretrainer::queue_step() {
  std::optional<StepBatches> batches = std::exchange(again_, std::nullopt);
  if (!batches) {
    batches = loader_->next();
    BERT_CHECK(batches.has_value());
    if (options_.dump_batches) dump(*batches);
  }
  TrainingStep::Queued queued =
      step_->queue(*batches, {.done = state_.step,
                              .updates = state_.step - state_.skipped,
                              .learning_rate = schedule_.at(state_.step),
                              .max_loss = monitor_.limit(state_.step + 1)});
  ++state_.step;
  return {std::move(queued), std::move(*batches), &datasets_.at(phase_.sequence_length).training};
}

bool Pretrainer::settle(InFlight& step) {
  StepResult& result = step.queued.result;
  result = step_->wait(std::move(step.queued));
  if (!result.refused()) {
    state_.refused_in_a_row = 0;
    // The last of a phase may be settled in the next.
    if (result.step > phase_.first_step) monitor_.add(result.step, result.mlm_loss);
  }
  const auto now = Clock::now();
  const double seconds =
      std::chrono::duration<double>(now - std::exchange(last_settled_, now)).count();
  log_step(result, static_cast<double>(result.tokens) / seconds);
  tokens_done_ += result.tokens;
  if (const auto mean = time_estimate_.add(seconds); mean && log_) {
    say(describe_estimate(plan(), result.step, *mean));
  }
  return result.refused();
}

void Pretrainer::diverged(const InFlight& step) {
  const StepResult& result = step.queued.result;
  ++state_.skipped;
  ++state_.refused_in_a_row;
  StepReplay replay(*model_, backend_, step_->memory(), *step.dataset);
  const DropoutKey dropout{config_.seed, static_cast<std::uint32_t>(result.step - 1)};
  std::string found;
  for (const std::string& text :
       communicator_.all_gather(replay.explain(step.batches, dropout, result.masked))) {
    found += text;
  }
  step_->allow_updates();
  std::string why = "refused, and nothing was changed: ";
  if (!std::isfinite(result.loss)) {
    why += fmt::format("its loss is {}", result.loss);
  } else if (result.gradient.nonfinite != 0) {
    why += fmt::format("{} elements of its gradient are not finite", result.gradient.nonfinite);
  } else {
    why += fmt::format("its loss is {:.4f}, and above {:.4f} is a spike", result.mlm_loss,
                       result.max_loss);
  }
  if (!found.empty()) found = "\n" + found.substr(0, found.size() - 1);
  if (log_) log_->event(RunEvent::skip, result.step, why + found);

  const bool too_many = state_.refused_in_a_row >= config_.divergence.max_in_a_row;
  if (config_.divergence.policy == OnDivergence::stop || too_many) {
    // As it was before the step, so that a resumed run tries it again.
    --state_.step;
    --state_.skipped;
    --state_.refused_in_a_row;
    save();
    finish_saving();
    throw_runtime_error(
        "step {}: {}; {}; the state before it is checkpoint {}", result.step, why,
        too_many ? fmt::format("{} steps in a row were refused", config_.divergence.max_in_a_row)
                 : std::string("divergence.policy is stop"),
        checkpoint_name(state_.step));
  }
  if (config_.divergence.policy == OnDivergence::rollback) roll_back();
  last_settled_ = Clock::now();  // what all this took is no part of the next step
}

void Pretrainer::roll_back() {
  const std::int64_t left = state_.step;
  const std::uint64_t position = sequences_before(left) + state_.passed_over;
  std::string checkpoint;
  if (writer_) {
    report(writer_->wait());
    const auto newest =
        newest_checkpoint(fs::path(config_.run_dir) / "checkpoints",
                          [&](const std::string& damage) { say("warning: " + damage); });
    if (newest) checkpoint = newest->string();
  }
  communicator_.broadcast(checkpoint);
  if (checkpoint.empty()) throw_runtime_error("there is no checkpoint to go back to");
  resume_from(checkpoint);
  rollbacks_ = rolled_back_to_ == state_.step ? rollbacks_ + 1 : 1;
  rolled_back_to_ = state_.step;
  if (rollbacks_ > config_.divergence.max_in_a_row) {
    throw_runtime_error("step {} diverged after {} rollbacks to {}", left, rollbacks_ - 1,
                        checkpoint);
  }
  state_.passed_over = position - sequences_before(state_.step);
  if (log_) {
    log_.reset();
    open_log();
    log_->event(RunEvent::rollback, left,
                fmt::format("went back to {}, and on with the batches after", checkpoint));
  }
  again_.reset();
  start_phase(state_.step);
}

void Pretrainer::log_step(const StepResult& result, double tokens_per_second) {
  if (!log_) return;
  const std::optional<double> mfu = utilisation(result, tokens_per_second);
  log_->progress().update({.step = result.step,
                           .loss = result.mlm_loss,
                           .learning_rate = result.learning_rate,
                           .grad_norm = result.gradient.norm,
                           .tokens_per_second = tokens_per_second,
                           .mfu = mfu});
  const std::int64_t every = config_.logging.every_steps;
  if (result.step % every != 0 && result.step != config_.train.max_steps) return;
  ordered_json record;
  record["step"] = result.step;
  record["loss"] = result.loss;
  record["mlm_loss"] = result.mlm_loss;
  if (model_->has_nsp()) record["nsp_loss"] = result.nsp_loss;
  record["learning_rate"] = result.learning_rate;
  record["grad_norm"] = result.gradient.norm;
  record["tokens_per_second"] = tokens_per_second;
  if (mfu) record["mfu"] = *mfu;
  record["masked_tokens"] = result.masked;
  log_->metrics(record, "train");
}

// Of all devices together; nothing where their peak is not known. The sequences are taken to be
// equally long, with which their attention costs least: what is reported is rather too little.
std::optional<double> Pretrainer::utilisation(const StepResult& result,
                                              double tokens_per_second) const {
  const std::optional<double> peak = peak_flop_per_second(
      backend_.device->name(), std::string(precision_name(backend_.precision)));
  if (!peak || result.tokens == 0) return std::nullopt;
  const auto tokens = static_cast<double>(result.tokens);
  const double squared_lengths = tokens * tokens / static_cast<double>(phase_.batch_size);
  const double seconds = tokens / tokens_per_second;
  return necessary_flop(model_->config(), tokens, squared_lengths,
                        static_cast<double>(result.masked)) /
         (seconds * *peak * communicator_.size());
}

Pretrainer::Verdict Pretrainer::evaluate_and_report() {
  const EvaluationResult result =
      evaluator_->run(datasets_.at(phase_.sequence_length).validation, phase_.batch_size,
                      config_.evaluation.max_batches, communicator_);
  const bool best = result.loss() < state_.best_loss - config_.evaluation.min_improvement;
  if (best) {
    state_.best_loss = result.loss();
    state_.best_step = state_.step;
  }
  state_.evaluations_since_best = best ? 0 : state_.evaluations_since_best + 1;
  const std::int64_t patience = config_.evaluation.patience;
  const bool stop = patience > 0 && state_.evaluations_since_best >= patience;
  if (!log_) return {best, stop};

  ordered_json record;
  record["step"] = state_.step;
  record["val_loss"] = result.loss();
  if (result.loss_se) record["val_loss_se"] = *result.loss_se;
  record["val_perplexity"] = result.perplexity();
  record["val_accuracy"] = result.accuracy();
  if (model_->has_nsp()) {
    record["val_nsp_loss"] = result.nsp_loss();
    record["val_nsp_accuracy"] = result.nsp_accuracy();
  }
  log_->metrics(record, "validation");
  std::string text = fmt::format("validation loss {:.4f}", result.loss());
  if (result.loss_se) text += fmt::format(" (standard error {:.4f})", *result.loss_se);
  text += fmt::format(", perplexity {:.2f}, accuracy {:.1f} %", result.perplexity(),
                      100.0 * result.accuracy());
  if (best) {
    log_->event(RunEvent::best, state_.step, text + " (best)");
  } else {
    log_->message(fmt::format("step {}: {}", state_.step, text));
  }
  // Of the step just settled: its gradients are there until the next one begins.
  log_->gradient_norms(state_.step, layer_gradient_norms(model_->parameters()));
  report_samples();
  if (stop) {
    log_->event(RunEvent::stop, state_.step,
                fmt::format("stopping: no better validation loss than step {}'s in {} evaluations",
                            state_.best_step, patience));
  }
  return {best, stop};
}

// The same samples under the same masks each time, so that they can be followed: in every phase and
// after a resume those of the first phase's sequence length.
void Pretrainer::report_samples() {
  const std::int64_t length = config_.phases().front().sequence_length;
  const DatasetMixture& validation = datasets_.at(length).validation;
  const std::int64_t wanted =
      std::min(config_.evaluation.samples, static_cast<std::int64_t>(validation.num_samples()));
  if (wanted <= 0) return;
  const StepBatches step = make_step(validation,
                                     {.batch_size = wanted,
                                      .limits = {.tokens = capacity_.tokens,
                                                 .sequences = capacity_.sequences,
                                                 .masked = capacity_.masked},
                                      .in_order = true,
                                      .end_step = 1},
                                     0);
  std::string markdown = "| text | masked | predicted |\n|---|---|---|\n";
  std::int64_t sample = 0;
  for (const Batch& batch : step.micro_batches) {
    const auto predictions = predict_masked(*model_, *backend_.device, step_->memory(), batch, 1);
    for (std::int64_t b = 0; b < batch.num_sequences(); ++b, ++sample) {
      const std::string predicted = show_predictions(*tokenizer_, batch, predictions, b);
      const std::string original = show_original(*tokenizer_, batch, b);
      const std::string masked = show_masked(*tokenizer_, batch, b);
      markdown += fmt::format("| {} | {} | {} |\n", original, masked, predicted);
      log_->prediction({{"step", state_.step},
                        {"sample", sample},
                        {"text", original},
                        {"masked", masked},
                        {"predicted", predicted}});
    }
  }
  log_->text("validation/predictions", markdown, state_.step);
}

int Pretrainer::stop_signal(const StopSignals& signals) {
  // At most one rank gets it as a rule; where several do, each names the same.
  std::vector<std::int64_t> received{signals.received(), signals.received() != 0 ? 1 : 0};
  communicator_.all_reduce_sum(received);
  return received[1] == 0 ? 0 : static_cast<int>(received[0] / received[1]);
}

void Pretrainer::save() {
  if (!writer_) return;
  report(writer_->wait());
  state_.losses = monitor_.statistics();
  if (step_->fixed_point()) state_.gradient_exponent = step_->fixed_point()->exponent();
  state_.product_choices = backend_.product_choices ? backend_.product_choices() : "";
  writer_->save(state_, step_->moments());
}

void Pretrainer::report(const std::optional<CheckpointWriter::Outcome>& outcome) {
  if (!outcome) return;
  if (outcome->error.empty()) {
    log_->event(RunEvent::checkpoint, outcome->step,
                fmt::format("checkpoint written in {:.1f} s", outcome->seconds));
    return;
  }
  // The ones before it are still there, and the next may find room again.
  log_->message(fmt::format("warning: the checkpoint of step {} could not be written: {}",
                            outcome->step, outcome->error));
}

void Pretrainer::finish_saving() {
  if (writer_) {
    const std::optional<CheckpointWriter::Outcome> outcome = writer_->wait();
    if (outcome && outcome->error.empty()) report(outcome);
    if (outcome && !outcome->error.empty()) {
      throw_runtime_error("the last checkpoint, of step {}, could not be written: {}",
                          outcome->step, outcome->error);
    }
  }
  communicator_.barrier();  // all know that it is done
}

void Pretrainer::dump(const StepBatches& batches) {
  std::ofstream out(*options_.dump_batches, std::ios::app);
  for (const Batch& batch : batches.micro_batches) {
    ordered_json record;
    record["step"] = state_.step;
    record["input_ids"] = batch.input_ids;
    record["position_ids"] = batch.position_ids;
    record["token_type_ids"] = batch.token_type_ids;
    record["cu_seqlens"] = batch.cu_seqlens;
    record["sequence_index"] = batch.sequence_index;
    record["masked_rows"] = batch.masked_rows;
    record["masked_targets"] = batch.masked_targets;
    record["nsp_labels"] = batch.nsp_labels;
    out << record.dump() << '\n';
  }
  if (!out.flush()) throw_runtime_error("cannot write {}", *options_.dump_batches);
}

void Pretrainer::say(const std::string& line) {
  if (log_) log_->message(line);
}

}  // namespace bert
