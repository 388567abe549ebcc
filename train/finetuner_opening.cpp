// Finetuner: from a configuration to a run that can begin, or go on from a checkpoint.
#include <algorithm>
#include <bit>
#include <sstream>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "runtime/plural.h"
#include "train/finetuner.h"
#include "train/inference/task_inference.h"
#include "train/memory_plan.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

// What the configuration names is there: errors of those who open it do not know its key.
const FinetuneConfig& with_all_files(const FinetuneConfig& config) {
  if (!fs::is_directory(config.model.init_from)) {
    throw_input_error("{}: no such folder: {}", config.where("model.init_from"),
                      config.model.init_from);
  }
  const auto expect_file = [&](std::string_view key, const std::string& file) {
    if (file != "-" && !fs::exists(file)) {
      throw_input_error("{}: no such file: {}", config.where(key), file);
    }
  };
  expect_file("data.train", config.data.train);
  expect_file("data.validation", config.data.validation);
  if (config.data.test) expect_file("data.test", *config.data.test);
  return config;
}

std::string fingerprint_of(const std::vector<TaskSequence>& sequences) {
  std::uint64_t hash = 14695981039346656037u;  // FNV-1a
  const auto add = [&](std::int64_t value) {
    for (int byte = 0; byte < 8; ++byte) {
      hash = (hash ^ (static_cast<std::uint64_t>(value) >> (8 * byte) & 0xFFu)) * 1099511628211u;
    }
  };
  for (const TaskSequence& one : sequences) {
    add(static_cast<std::int64_t>(one.input_ids.size()));
    for (const std::int32_t id : one.input_ids) add(id);
    for (const std::int32_t label : one.row_labels) add(label);
    for (const std::int32_t number : {one.label, one.start, one.end}) add(number);
    add(std::bit_cast<std::int32_t>(one.value));
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace

Finetuner::Finetuner(FinetuneConfig config, std::uint64_t seed, fs::path run_dir,
                     RunOptions options, const StopSignals& signals, Communicator& communicator)
    : TrainingRun(run_dir, std::move(options), with_all_files(config), config.runtime, config.train,
                  config.divergence, communicator),
      config_(std::move(config)),
      seed_(seed),
      run_dir_(std::move(run_dir)),
      encoder_(config_.naming("model.init_from",
                              [this] { return describe_model(config_.model.init_from); })),
      task_(make_task(config_.task_options(encoder_.config.max_position_embeddings),
                      config_.data.train)),
      metric_(config_.naming(
          "evaluation.metric",
          [this] { return choose_metric(*task_, config_.evaluation.metric.value_or("")); })),
      loss_memory_(*backend_.device, sizeof(ModelLoss)),
      signals_(signals) {
  tokenizer_ =
      config_.naming(config_.tokenizer.path ? "tokenizer.path" : "model.init_from", [this] {
        return load_tokenizer(config_.tokenizer_path(), {.cased = config_.tokenizer.cased});
      });
  check_shares(config_, "train.batch_size", config_.train.batch_size,
               config_.train.micro_batch_sequences(), communicator_.size());
  training_ = read(config_.data.train, Purpose::training, config_.data.max_examples);
  validation_ = read(config_.data.validation, Purpose::evaluation, 0);
  if (config_.data.test) test_ = read(*config_.data.test, Purpose::evaluation, 0);
  class_weights_ = class_weights();
  open_model();
  for (const Split* split : {&training_, &validation_, &test_}) {
    check_fits(split->sequences, model_->config());
  }
  agree(seed_, "the data",
        fmt::format("{} {} {}", fingerprint_of(training_.sequences),
                    fingerprint_of(validation_.sequences), metric_),
        *model_, config_.checkpoint.keep + 2);
  choose_micro_batches();
  make_batches();
  model_->allocate(*backend_.device, *backend_.ops, capacity_, /*with_gradients=*/true,
                   config_.train.recompute);
  step_ =
      std::make_unique<TrainingStep>(StepOptions(seed_, config_.optimizer, config_.train,
                                                 config_.runtime, config_.optimizer.layer_decay),
                                     backend_, communicator_, *model_);
  open_run_directory();
}

Finetuner::~Finetuner() { close(); }

Finetuner::Split Finetuner::read(const std::string& file, Purpose purpose,
                                 std::int64_t most_examples) {
  Split split;
  split.dataset = task_->read(file, *tokenizer_, purpose, most_examples);
  split.sequences = split.dataset->sequences();
  for (const std::string& line : split.dataset->report().lines()) opening_.warn(line);
  return split;
}

void Finetuner::open_model() {
  const BertConfig bert = resolve_model(config_, tokenizer_->vocab_size(), encoder_.config);
  model_ =
      std::make_unique<BertForTask>(bert, task_->kind(), task_->labels(), !class_weights_.empty());
  if (config_.freeze.embeddings) model_->freeze(config_.freeze.layers);
}

// `balanced`: examples / (labels * examples of the label), so that all labels weigh the same
// (scikit-learn's compute_class_weight).
std::vector<double> Finetuner::class_weights() const {
  const ClassWeights& wanted = config_.class_weights;
  const std::vector<std::string>& labels = task_->labels();
  if (wanted.kind == ClassWeights::Kind::none) return {};
  if (wanted.kind == ClassWeights::Kind::listed) {
    if (wanted.weights.size() != labels.size()) {
      throw_input_error("{}: {} for {} labels ({})", config_.where("class_weights"),
                        plural(wanted.weights.size(), "weight"), labels.size(),
                        fmt::join(labels, ", "));
    }
    return wanted.weights;
  }
  std::vector<double> counts(labels.size(), 0.0);
  double total = 0.0;
  const auto count = [&](std::int32_t label) {
    if (label == kIgnoreIndex) return;
    ++counts[static_cast<std::size_t>(label)];
    ++total;
  };
  for (const TaskSequence& sequence : training_.sequences) {
    if (task_->kind() == TaskKind::classification) count(sequence.label);
    for (const std::int32_t label : sequence.row_labels) count(label);
  }
  std::vector<double> weights;
  for (const double n : counts) {
    weights.push_back(n > 0.0 ? total / (static_cast<double>(labels.size()) * n) : 0.0);
  }
  return weights;
}

// How large micro-batches are, and with them all that is allocated.
void Finetuner::choose_micro_batches() {
  std::int64_t longest = 1;
  for (const Split* split : {&training_, &validation_, &test_}) {
    longest = std::max(longest, longest_sequence(split->sequences));
  }
  const std::int64_t ranks = communicator_.size();
  const std::int64_t fixed = config_.train.micro_batch_sequences();
  const std::int64_t share = fixed > 0 ? fixed : (config_.train.batch_size + ranks - 1) / ranks;
  const bool words = task_->kind() == TaskKind::token_classification;
  const OrAuto<std::int64_t> given = config_.train.micro_batch_tokens;
  MicroBatchRange range;
  range.capacity = [=](std::int64_t tokens) {
    return Capacity{.tokens = tokens,
                    .sequences = std::max(share, tokens / 8),  // evaluation packs short ones
                    .masked = words ? tokens : 1,
                    .max_seqlen = longest};
  };
  range.where = config_.where("train.micro_batch_tokens");
  range.given = given.has_value();
  const bool automatic = fixed == 0 && !given;
  if (automatic) {
    range.least = longest;
    range.most = std::max(longest, std::min(share * longest, good_batch_tokens(*backend_.device)));
    const auto earlier = opening_.earlier_auto_tokens(state_, backend_);
    if (earlier) range.earlier = std::clamp(*earlier, range.least, range.most);
  } else {
    range.most = std::max(longest, fixed > 0 ? share * longest : *given);
    range.least = range.most;
  }

  const std::int64_t tokens = choose_tokens(range, config_.train, *model_, backend_, communicator_);
  if (automatic) state_.auto_micro_batch_tokens = tokens;
  if (range.earlier && tokens < *range.earlier) {
    opening_.warn_of_less_memory(tokens, *range.earlier);
  }
  capacity_ = range.capacity(tokens);
}

// And how many steps there are.
void Finetuner::make_batches() {
  const TaskBatchOptions options{.batch_size = config_.train.batch_size,
                                 .rank = communicator_.rank(),
                                 .world_size = communicator_.size(),
                                 .limits = limits_of(capacity_),
                                 .micro_batch_sequences = config_.train.micro_batch_sequences(),
                                 .seed = seed_,
                                 .class_weights = class_weights_};
  for (Split* split : {&training_, &validation_, &test_}) {
    if (split->sequences.empty()) continue;
    split->batches = std::make_unique<TaskBatches>(split->sequences, task_->kind(), options);
  }
  max_steps_ = training_.batches->steps(config_.train.epochs);
  steps_per_epoch_ = training_.batches->steps(1);
  schedule_ = config_.lr_schedule(max_steps_);
}

void Finetuner::load_encoder() {
  model_->parameters().initialize(model_->config(), seed_);
  if (config_.model.random_weights) return;
  opening_.compare_tokenizer(config_.model.init_from, *tokenizer_, config_.tokenizer_path(),
                             config_.tokenizer.cased);
  verify_model_files(config_.model.init_from);
  // A head that was trained for other labels would only be in the way.
  const HeadDescription& found = encoder_.head;
  const HeadDescription wanted = model_->head_description();
  const bool same_head = found.architecture == wanted.architecture && found.labels == wanted.labels;
  const LoadReport report =
      load_parameters(*open_weights(config_.model.init_from), model_->parameters(),
                      /*missing_heads_ok=*/true, /*fresh_task_head=*/!same_head);
  opening_.tell(report);
}

void Finetuner::open_run_directory() {
  const fs::path checkpoint = opening_.choose_checkpoint();
  if (checkpoint.empty()) {
    load_encoder();
  } else {
    resume_from(checkpoint);
  }
  begin(finetune_config_to_yaml(config_), max_steps_, config_.logging, config_.checkpoint, *model_,
        task_->to_json());
}

void Finetuner::check_same_task(const fs::path& checkpoint) const {
  const std::string source = (checkpoint / "task.json").string();
  const auto then = parse_json<ordered_json>(read_file(source), source);
  const auto now = parse_json<ordered_json>(task_->to_json(), "this task");
  ordered_json either = then;  // the keys of both
  either.update(now);
  for (const auto& item : either.items()) {
    const std::string& key = item.key();
    const ordered_json before = then.value(key, ordered_json()),
                       after = now.value(key, ordered_json());
    if (before == after && then.contains(key) == now.contains(key)) continue;
    throw_input_error(
        "{} has another task than the configuration says: {} is {} there, {} here; resume with the "
        "configuration the run was started with ({})",
        checkpoint.string(), key, one_line(before), one_line(after),
        opening_.config_of(checkpoint));
  }
}

// `corpus`: state_.corpus of the checkpoint.
void Finetuner::check_same_data(const std::string& checkpoint, const std::string& corpus) const {
  std::istringstream then(corpus), now(state_.corpus);
  std::vector<std::string> differs;
  for (const std::string key : {"data.train", "data.validation", "evaluation.metric"}) {
    std::string before, after;
    then >> before;
    now >> after;
    if (before == after) continue;
    const bool is_name = key == "evaluation.metric";  // the others are fingerprints
    differs.push_back(is_name ? fmt::format("{} ({}, not {})", key, before, after) : key);
  }
  if (differs.empty()) return;
  throw_input_error(
      "{} was trained with another {} than this run has (or other settings by which it is read); "
      "resume with what {} says, or name another run_dir",
      checkpoint, fmt::join(differs, ", another "), opening_.config_of(checkpoint));
}

void Finetuner::resume_from(const fs::path& checkpoint) {
  const TrainerState was = opening_.check_can_go_on(checkpoint, config_, *model_, state_, backend_,
                                                    config_.train.reproducible);
  check_same_task(checkpoint);
  check_same_data(checkpoint.string(), was.corpus);
  opening_.compare_init_from(checkpoint, config_.model.init_from);
  RunCheckpoints::load(checkpoint, *model_, *step_, monitor_, state_);
  if (!opening_.lacks_best(state_)) return;
  // At the end the best one is judged, so it must be there.
  const std::string best = checkpoint_name(state_.best_step);
  if (finished()) {
    throw_input_error(
        "{} is the end of its run, and the best checkpoint of that, {}, is not in {}: there is "
        "nothing to go on with",
        checkpoint.string(), best, opening_.checkpoints().string());
  }
  opening_.warn(fmt::format(
      "{}, the best checkpoint so far, is not in {}: the best will be one of the later ones", best,
      opening_.checkpoints().string()));
  const TrainerState fresh;
  state_.best_loss = fresh.best_loss;
  state_.best_step = fresh.best_step;
  state_.evaluations_since_best = fresh.evaluations_since_best;
}

std::string Finetuner::plan() const {
  const BertConfig& bert = model_->config();
  std::int64_t trained = 0;
  for (const Parameter& parameter : model_->parameters().parameters()) {
    if (parameter.offset >= model_->first_trained()) trained += parameter.numel();
  }
  std::string text =
      fmt::format("model       {} of {}, {}, {}-LN, from {}{}; {} parameters, {} trained\n",
                  plural(bert.num_hidden_layers, "layer"), bert.hidden_size,
                  plural(bert.num_attention_heads, "head"), layer_norm_name(bert.layer_norm),
                  config_.model.init_from,
                  config_.model.random_weights ? " (its architecture, fresh weights)" : "",
                  model_->parameters().num_parameters(), trained);
  const auto describe_split = [](const Split& split) {
    return fmt::format("{} in {}", plural(split.dataset->num_examples(), "example"),
                       plural(split.sequences.size(), "sequence"));
  };
  text += fmt::format("task        {}", task_kind_name(task_->kind()));
  if (!task_->labels().empty()) {
    text +=
        fmt::format(", {} labels: {}", task_->labels().size(), fmt::join(task_->labels(), ", "));
  }
  text += fmt::format("; judged by {}\n", metric_);
  text += fmt::format("training    {}: {}\n", config_.data.train,
                      plural(training_.sequences.size(), "sequence"));
  text += fmt::format("validation  {}: {}\n", config_.data.validation, describe_split(validation_));
  if (test_.dataset) {
    text += fmt::format("test        {}: {}\n", *config_.data.test, describe_split(test_));
  }
  const TaskOptions& options = task_->options();
  text += fmt::format("lengths     up to {} tokens", options.max_length);
  if (task_->kind() == TaskKind::question_answering) {
    text += fmt::format(" a window, {} apart; questions of up to {}", options.doc_stride,
                        options.max_query_length);
  }
  text += fmt::format("; the model reads {}\n", bert.max_position_embeddings);
  const int ranks = communicator_.size();
  text +=
      fmt::format("steps       {} of {}, {} an epoch; micro-batches of up to {} tokens{}\n",
                  max_steps_, plural(config_.train.batch_size, "sequence"), steps_per_epoch_,
                  capacity_.tokens, ranks > 1 ? fmt::format(" on each of {} ranks", ranks) : "");
  text += fmt::format("computing   {}; ranks: {}{}\n", backend_.description(), ranks,
                      ranks > 1 ? " over " + communicator_.name() : "");
  text += fmt::format("run         seed {}, into {}", seed_, run_dir_.string());
  return text + opening_.beginning(state_.step);
}

}  // namespace bert
