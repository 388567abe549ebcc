// Pretrainer: from a configuration to a run that can begin, or go on from a checkpoint.
#include <algorithm>
#include <utility>

#include "model/model_files.h"
#include "train/pretrainer.h"

namespace bert {
namespace fs = std::filesystem;

Pretrainer::Pretrainer(Config config, RunOptions options, Communicator& communicator)
    : TrainingRun(config.run_dir, std::move(options), config, config.runtime, config.train,
                  config.divergence, communicator),
      config_(std::move(config)),
      corpora_(config_.naming("data.path", [this] { return CorpusSet(config_.data.path); })) {
  tokenizer_ = config_.naming("tokenizer.path", [this] {
    return load_tokenizer(config_.tokenizer.path, {.cased = config_.tokenizer.cased});
  });
  schedule_ = config_.lr_schedule();
  corpora_.check_tokenizer(*tokenizer_);
  std::optional<BertConfig> initial;
  if (config_.model.init_from && !fs::is_directory(*config_.model.init_from)) {
    throw_input_error("{}: no such folder: {}", config_.where("model.init_from"),
                      *config_.model.init_from);
  }
  if (config_.model.init_from) {
    initial = config_.naming("model.init_from",
                             [this] { return describe_model(*config_.model.init_from).config; });
  }
  const BertConfig bert = resolve_model(config_, tokenizer_->vocab_size(), initial);
  model_ = std::make_unique<BertForPretraining>(bert, config_.objective.next_sentence
                                                          ? BertForPretraining::Heads::mlm_and_nsp
                                                          : BertForPretraining::Heads::mlm);
  open_datasets();
  check_datasets();
  agree(config_.seed, "the corpus", corpora_.fingerprint(), *model_, most_checkpoints(config_));
  plan_micro_batches();

  Device& device = *backend_.device;
  model_->allocate(device, *backend_.ops, capacity_, /*with_gradients=*/true,
                   config_.train.recompute);
  step_ = std::make_unique<TrainingStep>(
      StepOptions(config_.seed, config_.optimizer, config_.train, config_.runtime), backend_,
      communicator_, *model_);
  evaluator_ =
      std::make_unique<Evaluator>(*model_, device, step_->memory(), config_.runtime.records(),
                                  config_.train.micro_batch_sequences());
  open_run_directory();
}

Pretrainer::~Pretrainer() { close(); }

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
        "{}: a batch of {} sequences is more than the corpus's training split has: {} of up to {} "
        "tokens; make it smaller, or prepare more text",
        config_.where(phase.batch_key), phase.batch_size, samples, phase.sequence_length);
  }
}

// How large micro-batches are, and with them all that is allocated.
void Pretrainer::plan_micro_batches() {
  const auto before = opening_.earlier_auto_tokens(state_, backend_);
  state_.auto_micro_batch_tokens =
      choose_auto_tokens(config_, *model_, backend_, communicator_, before);
  const std::vector<Phase> phases = config_.phases();
  const bool matters = std::any_of(phases.begin(), phases.end(), [&](const Phase& phase) {
    return !phase.micro_batch_tokens && !config_.train.reproducible;
  });
  if (matters && before && *before != state_.auto_micro_batch_tokens) {
    opening_.warn_of_less_memory(state_.auto_micro_batch_tokens, *before);
  }
  capacity_ = run_capacity(config_, communicator_.size(), state_.auto_micro_batch_tokens);
  memory_ = plan_memory(*model_, backend_, capacity_, config_.train);
  memory_for_a_rank_ = memory_for_a_rank(backend_, communicator_, memory_.snapshot);
}

// InputError where the corpus does not fit a phase.
void Pretrainer::open_datasets() {
  for (const Phase& phase : config_.phases()) {
    const std::int64_t length = phase.sequence_length;
    datasets_.try_emplace(length, config_.naming("data.path", [&] {
      return Datasets{
          corpora_.mixture(Split::train, dataset_options(length, config_.seed)),
          corpora_.mixture(Split::validation, dataset_options(length, kValidationSeed))};
    }));
  }
}

void Pretrainer::open_run_directory() {
  const fs::path checkpoint = opening_.choose_checkpoint();
  if (checkpoint.empty()) {
    load_first_weights();
  } else {
    resume_from(checkpoint);
  }
  begin(config_to_yaml(config_), config_.train.max_steps, config_.logging, config_.checkpoint,
        *model_);
}

void Pretrainer::load_first_weights() {
  model_->parameters().initialize(model_->config(), config_.seed);
  if (!config_.model.init_from) return;
  const fs::path from = *config_.model.init_from;
  opening_.compare_tokenizer(from, *tokenizer_, config_.tokenizer.path, config_.tokenizer.cased);
  verify_model_files(from);
  opening_.tell(
      load_parameters(*open_weights(from), model_->parameters(), /*missing_heads_ok=*/true));
}

void Pretrainer::resume_from(const fs::path& checkpoint) {
  const TrainerState was = opening_.check_can_go_on(checkpoint, config_, *model_, state_, backend_,
                                                    config_.train.reproducible);
  if (was.corpus != state_.corpus) {
    opening_.refuse(checkpoint, config_.where("data.path"),
                    "the corpus of fingerprint " + was.corpus, state_.corpus);
  }
  if (was.step >= config_.train.max_steps &&
      !fs::exists(opening_.checkpoints() / checkpoint.filename())) {
    throw_input_error("{}: {} is no more than step {}, which {} is of: there is nothing to do",
                      config_.where("train.max_steps"), config_.train.max_steps, was.step,
                      checkpoint.string());
  }
  if (config_.model.init_from) opening_.compare_init_from(checkpoint, *config_.model.init_from);
  RunCheckpoints::load(checkpoint, *model_, *step_, monitor_, state_);
  if (!opening_.lacks_best(state_)) return;
  opening_.warn(
      fmt::format("{}, the best checkpoint so far, is not in {}: best will lead to a later one if "
                  "that is better",
                  checkpoint_name(state_.best_step), opening_.checkpoints().string()));
}

RunPlan Pretrainer::plan() const {
  RunPlan plan;
  plan.model = model_->config();
  plan.parameters = model_->parameters().num_parameters();
  for (const auto& corpus : corpora_.corpora()) plan.corpora.push_back(corpus->folder().string());
  plan.shares = corpora_.shares();
  plan.training = corpora_.counts(Split::train);
  plan.validation = corpora_.counts(Split::validation);
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
  plan.beginning = opening_.beginning(state_.step);
  return plan;
}

}  // namespace bert
