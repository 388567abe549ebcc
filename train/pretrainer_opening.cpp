// Pretrainer: from a configuration to a run that can begin, or go on from a checkpoint.
#include <algorithm>
#include <cstdio>
#include <utility>

#include "model/model_files.h"
#include "runtime/file.h"
#include "train/pretrainer.h"
#include "train/rank_agreement.h"
#include "train/run_directory.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

// Before there is a log.
void warn(const std::string& text) { std::fprintf(stderr, "warning: %s\n", text.c_str()); }

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
  if (config_.model.init_from && !fs::is_directory(*config_.model.init_from)) {
    throw_input_error("{}: no such folder: {}", config_.where("model.init_from"),
                      *config_.model.init_from);
  }
  if (config_.model.init_from) initial = describe_model(*config_.model.init_from).config;
  const BertConfig bert = resolve_model(config_, tokenizer_->vocab_size(), initial);
  model_ = std::make_unique<BertForPretraining>(bert, config_.objective.next_sentence
                                                          ? BertForPretraining::Heads::mlm_and_nsp
                                                          : BertForPretraining::Heads::mlm);
  open_datasets();
  check_datasets();
  state_.seed = config_.seed;
  state_.precision = precision_name(backend_.precision);
  state_.device = backend_.rounds_as();
  state_.world_size = communicator_.size();
  state_.threads = backend_.threads;
  state_.corpus = corpora_.fingerprint();
  check_ranks_agree(communicator_, {{"the device", backend_.kind()},
                                    {"the precision", state_.precision},
                                    {"the corpus", state_.corpus},
                                    {"the tokenizer", tokenizer_->fingerprint()}});
  if (communicator_.is_root()) check_run_directory();
  plan_micro_batches();

  Device& device = *backend_.device;
  model_->allocate(device, *backend_.ops, capacity_, /*with_gradients=*/true,
                   config_.train.recompute);
  step_ = std::make_unique<TrainingStep>(StepOptions(config_), backend_, communicator_, *model_);
  evaluator_ =
      std::make_unique<Evaluator>(*model_, device, step_->memory(), config_.runtime.records(),
                                  config_.train.micro_batch_sequences());
  model_->parameters().initialize(model_->config(), config_.seed);
  if (config_.model.init_from) {
    verify_model_files(*config_.model.init_from);
    const LoadReport report = load_parameters(*open_weights(*config_.model.init_from),
                                              model_->parameters(), /*missing_heads_ok=*/true);
    if (communicator_.is_root()) {
      if (const std::string note = report.note(); !note.empty()) fmt::print(stderr, "{}\n", note);
      if (const std::string warning = report.warning(); !warning.empty()) warn(warning);
    }
  }
  open_run_directory();
}

Pretrainer::~Pretrainer() = default;

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
  if (warning) warn(*warning);
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
  const std::vector<Phase> phases = config_.phases();
  const bool matters = std::any_of(phases.begin(), phases.end(), [&](const Phase& phase) {
    return !phase.micro_batch_tokens && !config_.train.reproducible;
  });
  if (matters && before && *before != state_.auto_micro_batch_tokens && communicator_.is_root()) {
    warn(
        fmt::format("there is less memory than before: micro-batches of at most {} tokens instead "
                    "of {}; the run goes on equally well but not bit for bit",
                    state_.auto_micro_batch_tokens, *before));
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
    const bool used = fs::exists(run_dir) && !fs::is_empty(run_dir);
    if (!options_.resume && used) {
      throw_input_error(
          "run_dir: {} is not empty; resume it with --resume auto, or name another folder",
          run_dir.string());
    }
    if (options_.resume && *options_.resume == "auto") {
      const auto newest = newest_checkpoint(checkpoints, [](const std::string& damage) {
        warn(damage + "; looking for an older checkpoint");
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
    check_run_log(run_dir);
    try {
      make_directories(checkpoints);
      for (const std::string& moved : leave_later_checkpoints()) warn(moved);
      write_file_atomic(run_dir / "config.yaml", config_to_yaml(config_));
    } catch (const RuntimeError& error) {
      throw_input_error("run_dir: {}", error.what());
    }
    log_ = std::make_unique<RunLog>(run_dir, state_.step, config_.train.max_steps,
                                    config_.logging.tensorboard);
    checkpoints_.open(*log_, std::make_unique<CheckpointWriter>(
                                 checkpoints, config_.checkpoint.keep, *model_, *tokenizer_));
  }
}

// Rank 0: makes the run directory's checkpoints those of a run that is at state_.step. Gives what
// was done to the later ones.
std::vector<std::string> Pretrainer::leave_later_checkpoints() {
  const fs::path folder = fs::path(config_.run_dir) / "checkpoints";
  std::vector<std::string> told;
  for (const fs::path& moved : set_aside_checkpoints(folder, state_.step)) {
    told.push_back(fmt::format("going on from step {}; a later checkpoint is now {}", state_.step,
                               moved.string()));
  }
  remove_unfinished_checkpoints(folder);
  set_links(folder, state_.step, state_.best_step);
  checkpoints_.set_saved_step(fs::exists(folder / checkpoint_name(state_.step)) ? state_.step : -1);
  return told;
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
  const fs::path state = checkpoint / "trainer_state.json";
  const TrainerState was = TrainerState::parse(read_file(state), state.string());
  const auto differs = [&](const std::string& what, const auto& then, const auto& now) {
    throw_input_error("{} was trained with {} {}, this run has {}", checkpoint.string(), what, then,
                      now);
  };
  if (was.corpus != state_.corpus) differs("the corpus", was.corpus, state_.corpus);
  if (was.seed != state_.seed) differs("seed", was.seed, state_.seed);
  const auto is_double = [](const TrainerState& one) {
    return one.precision == precision_name(Precision::fp64);
  };
  // Parameters and moments are f32 in every other precision.
  if (is_double(was) != is_double(state_)) differs("precision", was.precision, state_.precision);
  const auto warn_of = [&](const std::string& how) {
    if (communicator_.is_root()) warn(checkpoint.string() + " was written " + how);
  };
  if (was.precision != state_.precision || was.device != state_.device) {
    warn_of(
        fmt::format("in {} on {}, this run computes in {} on {}: it goes on from the same "
                    "parameters and moments, but rounds otherwise",
                    was.precision, was.device, state_.precision, state_.device));
  }
  if (!config_.train.reproducible &&
      (was.world_size != state_.world_size || was.threads != state_.threads)) {
    warn_of(
        fmt::format("by {} rank(s) of {} thread(s), this run has {} of {}: sums are rounded in "
                    "another order, so it goes on equally well but not bit for bit",
                    was.world_size, was.threads, state_.world_size, state_.threads));
  }
  if (backend_.set_product_choices && !was.product_choices.empty() &&
      !backend_.set_product_choices(was.product_choices)) {
    warn_of(
        "with another cuBLAS or GPU: products are chosen anew, so it goes on equally well but not "
        "bit for bit");
  }
  restore(checkpoint);
  resumed_ = true;
}

// Parameters, moments and counts; with what they are computed stays as it is.
void Pretrainer::restore(const fs::path& checkpoint) {
  const TrainerState now =
      std::exchange(state_, load_checkpoint(checkpoint, *model_, step_->moments()));
  state_.precision = now.precision;
  state_.device = now.device;
  state_.world_size = now.world_size;
  state_.threads = now.threads;
  state_.auto_micro_batch_tokens = now.auto_micro_batch_tokens;
  monitor_.set_statistics(state_.losses);
  if (step_->fixed_point()) step_->fixed_point()->set_exponent(state_.gradient_exponent);
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
  plan.nothing_to_resume = options_.resume && !resumed_;
  return plan;
}

}  // namespace bert
