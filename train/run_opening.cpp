#include "train/run_opening.h"

#include <cstdio>
#include <utility>

#include <yaml-cpp/yaml.h>

#include "model/bert_for_pretraining.h"
#include "model/bert_for_task.h"
#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/plural.h"
#include "train/checkpoint/run_directory.h"
#include "train/config/config.h"
#include "train/step/micro_batch_limits.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

bool is_of_a_task(const BertModel& model) {
  return dynamic_cast<const BertForTask*>(&model) != nullptr;
}

}  // namespace

RunOpening::RunOpening(fs::path run_dir, const RunOptions& options, Communicator& communicator)
    : run_dir_(std::move(run_dir)), resume_(options.resume), communicator_(communicator) {
  if (communicator_.is_root()) {
    if (!options.dry_run && fs::is_directory(run_dir_)) lock_ = lock_run_directory(run_dir_);
    if (!resume_) refuse_used_directory(run_dir_);
  }
  while (resume_ && resume_->size() > 1 && resume_->back() == '/') resume_->pop_back();
}

void RunOpening::say(const std::string& line) {
  if (!communicator_.is_root()) return;
  std::fprintf(stderr, "%s\n", line.c_str());
  said_.push_back(line);
}

void RunOpening::check_room(std::int64_t checkpoints, std::size_t bytes) {
  if (!communicator_.is_root()) return;
  check_writable(run_dir_);
  if (const auto warning = check_disk_space(run_dir_, checkpoints, bytes)) warn(*warning);
}

std::optional<std::int64_t> RunOpening::earlier_auto_tokens(const TrainerState& now,
                                                            const Backend& backend) {
  std::vector<std::int64_t> earlier{0};
  if (communicator_.is_root() && resume_) {
    const auto found = *resume_ == "auto" ? newest_state(checkpoints()) : peek_state(*resume_);
    if (found && found->world_size == now.world_size && found->device == now.device) {
      earlier[0] = found->auto_micro_batch_tokens > 0
                       ? found->auto_micro_batch_tokens
                       : good_batch_tokens(*backend.device);  // of older versions
    }
  }
  communicator_.all_reduce_sum(earlier);
  return earlier[0] > 0 ? std::optional(earlier[0]) : std::nullopt;
}

void RunOpening::warn_of_less_memory(std::int64_t tokens, std::int64_t earlier) {
  warn(
      fmt::format("there is less memory than before: micro-batches of at most {} tokens instead "
                  "of {}; the run goes on equally well but not bit for bit",
                  tokens, earlier));
}

fs::path RunOpening::choose_checkpoint() {
  std::string chosen;
  if (communicator_.is_root()) {
    if (resume_ && *resume_ == "auto") {
      const auto newest = newest_checkpoint(checkpoints(), [this](const std::string& damage) {
        warn(damage + "; looking for an older checkpoint");
      });
      if (newest) chosen = newest->string();
    } else if (resume_) {
      chosen = *resume_;
      if (!fs::is_directory(chosen)) {
        throw_input_error("--resume: {} is no folder; expected auto, or a checkpoint's folder",
                          chosen);
      }
      refuse_run_folder(chosen);
      verify_checkpoint(chosen);
      // Going on in a folder that holds another run would cut back what that one has written.
      if (holds_something(run_dir_) && fs::weakly_canonical(fs::path(chosen)).parent_path() !=
                                           fs::weakly_canonical(checkpoints())) {
        throw_input_error(
            "run_dir: {} is not empty and {} is not one of its checkpoints; name another folder",
            run_dir_.string(), chosen);
      }
    }
  }
  communicator_.broadcast(chosen);
  resumed_ = !chosen.empty();
  return chosen;
}

std::string RunOpening::beginning(std::int64_t step) const {
  if (resumed_) return fmt::format(", resumed at step {}", step);
  return resume_ ? "; no checkpoint there: starting afresh" : "";
}

void RunOpening::tell(const LoadReport& report) {
  if (const std::string note = report.note(); !note.empty()) say(note);
  if (const std::string warning = report.warning(); !warning.empty()) warn(warning);
}

bool RunOpening::lacks_best(const TrainerState& state) const {
  return state.best_step > 0 && !fs::exists(checkpoints() / checkpoint_name(state.best_step));
}

void RunOpening::compare_tokenizer(const fs::path& model, const Tokenizer& used,
                                   const fs::path& path, bool cased) {
  if (!communicator_.is_root() || path == model) return;
  std::unique_ptr<Tokenizer> own;
  try {
    own = load_tokenizer(model, {.cased = cased});
  } catch (const InputError&) {
    return;  // it has none
  }
  if (own->fingerprint() == used.fingerprint()) return;
  warn(fmt::format(
      "the tokenizer in {} is another one ({} entries, fingerprint {}) than tokenizer.path "
      "gives ({} entries, fingerprint {}): the model's embeddings are those of its own",
      model.string(), own->vocab_size(), own->fingerprint(), used.vocab_size(),
      used.fingerprint()));
}

void RunOpening::compare_init_from(const fs::path& checkpoint, const std::string& now) {
  if (!communicator_.is_root()) return;
  try {
    const YAML::Node then = YAML::LoadFile(config_of(checkpoint))["model"]["init_from"];
    if (!then || !then.IsScalar() || then.Scalar() == now) return;
    warn(
        fmt::format("model.init_from is {}, and the run of {} began with {}: it goes on with the "
                    "weights of the checkpoint",
                    now, checkpoint.string(), then.Scalar()));
  } catch (const YAML::Exception&) {
    return;  // it has no configuration
  }
}

std::string RunOpening::config_of(const fs::path& checkpoint) const {
  const fs::path own = checkpoint.parent_path().parent_path() / "config.yaml";
  return (fs::exists(own) ? own : run_dir_ / "config.yaml").string();
}

void RunOpening::check_same_model(const fs::path& checkpoint, const BertModel& model) const {
  const bool of_a_task = is_of_a_task(model);
  if (fs::exists(checkpoint / "task.json") != of_a_task) {
    throw_input_error("{} is of {}", checkpoint.string(),
                      of_a_task ? "pre-training; begin with it by model.init_from"
                                : "fine-tuning, which finetune goes on with");
  }
  const ModelDescription found = describe_model(checkpoint);
  const bool has_nsp = found.heads == BertForPretraining::Heads::mlm_and_nsp;
  std::string differences = model_differences(model.config(), found.config);
  if (differences.empty() && has_nsp != model.has_nsp()) {
    differences = fmt::format("next_sentence is {} there, {} here", has_nsp, model.has_nsp());
  }
  if (differences.empty()) return;
  throw_input_error(
      "{} holds another model than the configuration describes: {}; resume with the configuration "
      "the run was started with ({})",
      checkpoint.string(), differences, config_of(checkpoint));
}

TrainerState RunOpening::check_can_go_on(const fs::path& checkpoint, const GivenKeys& keys,
                                         const BertModel& model, const TrainerState& now,
                                         Backend& backend, bool reproducible) {
  check_same_model(checkpoint, model);
  const fs::path file = checkpoint / "trainer_state.json";
  TrainerState was = TrainerState::parse(read_file(file), file.string());
  if (was.seed != now.seed) {
    refuse(checkpoint, keys.where(is_of_a_task(model) ? "seeds" : "seed"), fmt::to_string(was.seed),
           fmt::to_string(now.seed));
  }
  const auto is_double = [](const TrainerState& one) {
    return one.precision == precision_name(Precision::fp64);
  };
  // Parameters and moments are f32 in every other precision.
  if (is_double(was) != is_double(now)) {
    refuse(checkpoint, keys.where("runtime.precision"), was.precision, now.precision);
  }
  const auto warn_of = [&](const std::string& how) {
    warn(checkpoint.string() + " was written " + how);
  };
  if (was.precision != now.precision || was.device != now.device) {
    warn_of(
        fmt::format("in {} on {}, this run computes in {} on {}: it goes on from the same "
                    "parameters and moments, but rounds otherwise",
                    was.precision, was.device, now.precision, now.device));
  }
  if (!reproducible && (was.world_size != now.world_size || was.threads != now.threads)) {
    warn_of(
        fmt::format("by {} of {}, this run has {} of {}: sums are rounded in "
                    "another order, so it goes on equally well but not bit for bit",
                    plural(was.world_size, "rank"), plural(was.threads, "thread"),
                    plural(now.world_size, "rank"), plural(now.threads, "thread")));
  }
  if (backend.set_product_choices && !was.product_choices.empty() &&
      !backend.set_product_choices(was.product_choices)) {
    warn_of(
        "with another program, cuBLAS or GPU: products are chosen anew, so it goes on equally well "
        "but not bit for bit");
  }
  return was;
}

void RunOpening::refuse(const fs::path& checkpoint, const std::string& where,
                        const std::string& then, const std::string& now) const {
  throw_input_error(
      "{}: {} was trained with {}, this run has {}; resume with the configuration the run was "
      "started with ({})",
      where, checkpoint.string(), then, now, config_of(checkpoint));
}

std::unique_ptr<RunLog> RunOpening::begin(const std::string& config_yaml, const TrainerState& state,
                                          std::int64_t max_steps, bool tensorboard,
                                          RunCheckpoints& kept) {
  check_run_log(run_dir_);
  try {
    if (!fs::is_directory(run_dir_)) {
      make_directories(run_dir_);
      lock_ = lock_run_directory(run_dir_);
      refuse_used_directory(run_dir_);  // by one that began at the same moment
    }
    make_directories(checkpoints());
    for (const std::string& told : kept.go_back(checkpoints(), state)) warn(told);
    // Of a run that is over this is still what it was done with.
    if (state.step < max_steps) write_file_atomic(run_dir_ / "config.yaml", config_yaml);
  } catch (const RuntimeError& error) {
    throw_input_error("run_dir: {}", error.what());
  }
  auto log = std::make_unique<RunLog>(run_dir_, state.step, max_steps, tensorboard);
  for (const std::string& line : said_) log->note(line);
  return log;
}

}  // namespace bert
