#include "train/checkpoint/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/model_files.h"
#include "runtime/file.h"
#include "runtime/json.h"
#include "train/checkpoint/checksums.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

constexpr std::string_view kPrefix = "step_";
constexpr std::string_view kTemporary = ".tmp";
constexpr std::string_view kSetAside = ".set_aside";

// Whatever ends the writing of a checkpoint, its unfinished folder must not fill the disk.
struct LeftoverRemover {
  const fs::path& temporary;
  ~LeftoverRemover() {
    std::error_code ignored;  // gone already once it has been renamed
    fs::remove_all(temporary, ignored);
  }
};

// The step of a folder named like a checkpoint.
std::optional<std::int64_t> step_of(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name.size() <= kPrefix.size() || !name.starts_with(kPrefix) ||
      name.find_first_not_of("0123456789", kPrefix.size()) != std::string::npos) {
    return std::nullopt;
  }
  std::int64_t step = 0;
  const auto [end, error] =
      std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  if (error != std::errc()) return std::nullopt;  // more digits than a step has
  return step;
}

// Renames a checkpoint to a name that no other has; gives that.
fs::path set_aside(const fs::path& checkpoint) {
  const std::string base = checkpoint.string() + std::string(kSetAside);
  fs::path target = base;
  for (int n = 2; fs::exists(target); ++n) target = base + "." + std::to_string(n);
  std::error_code error;
  fs::rename(checkpoint, target, error);
  if (error) {
    throw_runtime_error("cannot rename {} to {}: {}", checkpoint.string(), target.string(),
                        error.message());
  }
  return target;
}

ordered_json losses_json(const LossStatistics& losses) {
  return {{"count", losses.count},         {"mean", losses.mean},
          {"variance", losses.variance},   {"last", number_or_null(losses.last)},
          {"last_step", losses.last_step}, {"phase", losses.phase}};
}

LossStatistics parse_losses(const ordered_json& json, const std::string& source) {
  LossStatistics losses;
  losses.count = json_integer<std::int64_t>(json.at("count"), source + ": losses.count");
  losses.mean = json.at("mean");
  losses.variance = json.at("variance");
  if (!json.at("last").is_null()) losses.last = json.at("last");
  losses.last_step =
      json_integer<std::int64_t>(json.at("last_step"), source + ": losses.last_step");
  losses.phase = json_integer<std::int64_t>(json.at("phase"), source + ": losses.phase");
  return losses;
}

}  // namespace

std::string TrainerState::to_json() const {
  ordered_json json;
  json["step"] = step;
  json["skipped"] = skipped;
  json["seed"] = seed;
  json["precision"] = precision;
  json["device"] = device;
  json["product_choices"] = product_choices;
  json["world_size"] = world_size;
  json["threads"] = threads;
  json["auto_micro_batch_tokens"] = auto_micro_batch_tokens;
  json["gradient_exponent"] = gradient_exponent;
  json["corpus"] = corpus;
  json["best_loss"] = number_or_null(best_loss);
  json["best_step"] = best_step;
  json["evaluations_since_best"] = evaluations_since_best;
  json["refused_in_a_row"] = refused_in_a_row;
  json["passed_over"] = passed_over;
  json["losses"] = losses_json(losses);
  return json.dump(2) + "\n";
}

TrainerState TrainerState::parse(const std::string& text, const std::string& source) {
  try {
    const auto json = parse_json<ordered_json>(text, source);
    const auto read = [&](const char* key, auto& value) {
      value =
          json_integer<std::remove_reference_t<decltype(value)>>(json.at(key), source + ": " + key);
    };
    // Of keys that are absent in files of older versions.
    const auto read_later_key = [&](const char* key, auto& value) {
      if (json.contains(key)) read(key, value);
    };
    TrainerState state;
    read("step", state.step);
    read("skipped", state.skipped);
    read("seed", state.seed);
    state.precision = json.at("precision");
    state.device = json.value("device", "CPU");  // absent in files of older versions
    state.product_choices = json.value("product_choices", "");
    read("world_size", state.world_size);
    read("threads", state.threads);
    read_later_key("auto_micro_batch_tokens", state.auto_micro_batch_tokens);
    read_later_key("gradient_exponent", state.gradient_exponent);
    state.corpus = json.at("corpus");
    if (!json.at("best_loss").is_null()) state.best_loss = json.at("best_loss");
    read("best_step", state.best_step);
    read("evaluations_since_best", state.evaluations_since_best);
    read_later_key("refused_in_a_row", state.refused_in_a_row);
    read_later_key("passed_over", state.passed_over);
    if (json.contains("losses")) state.losses = parse_losses(json.at("losses"), source);
    return state;
  } catch (const ordered_json::exception& error) {
    throw_input_error("{}: not the state of a training run: {}", source, error.what());
  }
}

std::vector<fs::path> list_checkpoints(const fs::path& folder) {
  std::vector<fs::path> found;
  if (!fs::is_directory(folder)) return found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory() && step_of(entry.path())) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end(),
            [](const fs::path& a, const fs::path& b) { return *step_of(a) > *step_of(b); });
  return found;
}

std::string checkpoint_name(std::int64_t step) { return fmt::format("{}{:08}", kPrefix, step); }

void Snapshot::take(const TrainerState& state, const Moments& moments) {
  const ParameterStore& store = model_.parameters();
  state_ = state;
  copy_flat_to_host(store, store.values(), values_);
  copy_flat_to_host(store, moments.m, m_);
  copy_flat_to_host(store, moments.v, v_);
}

fs::path Snapshot::save(const fs::path& folder) const {
  const fs::path target = folder / checkpoint_name(state_.step);
  const fs::path temporary = target.string() + std::string(kTemporary);
  const LeftoverRemover remover{temporary};
  std::error_code error;
  fs::remove_all(temporary, error);
  make_directories(temporary);

  const ParameterStore& store = model_.parameters();
  std::map<std::string, std::vector<SafetensorsView>> tensors;
  append_views(store, values_, "", tensors["model.safetensors"]);
  append_views(store, m_, "exp_avg.", tensors["optimizer.safetensors"]);
  append_views(store, v_, "exp_avg_sq.", tensors["optimizer.safetensors"]);
  for (const auto& [name, views] : tensors) write_safetensors(temporary / name, views);
  write_file_atomic(temporary / "config.json", model_config_json(model_, tokenizer_.special().pad));
  tokenizer_.save(temporary);
  write_file_atomic(temporary / "trainer_state.json", state_.to_json());
  if (!task_.empty()) write_file_atomic(temporary / "task.json", task_);
  write_checksums(temporary, tensors);

  for (const auto& entry : fs::directory_iterator(temporary)) forget_cached_pages(entry.path());
  try {
    verify_checkpoint(temporary);
  } catch (const InputError& damage) {
    throw_runtime_error("{} was not written as it should be: {}", target.string(), damage.what());
  }
  if (fs::exists(target)) set_aside(target);
  fs::rename(temporary, target, error);
  if (error) {
    throw_runtime_error("cannot rename {} to {}: {}", temporary.string(), target.string(),
                        error.message());
  }
  fsync_directory(folder);
  return target;
}

void verify_checkpoint(const fs::path& checkpoint) {
  if (!fs::exists(checkpoint)) throw_input_error("{} does not exist", checkpoint.string());
  if (!fs::exists(checkpoint / kChecksums)) {
    throw_input_error("{} is not a checkpoint: it has no {}", checkpoint.string(), kChecksums);
  }
  const Checksums checksums(checkpoint);
  for (const char* needed :
       {"model.safetensors", "config.json", "optimizer.safetensors", "trainer_state.json"}) {
    if (!checksums.lists(needed)) {
      throw_input_error("{} is damaged: it does not list {}", (checkpoint / kChecksums).string(),
                        needed);
    }
  }
  for (const std::string& file : checksums.files()) checksums.verify(file);
}

void verify_model_files(const fs::path& folder) {
  if (!fs::exists(folder / kChecksums)) return;
  const Checksums checksums(folder);
  for (const std::string& file : checksums.files()) {
    if (file != "optimizer.safetensors" && file != "trainer_state.json") checksums.verify(file);
  }
}

std::optional<fs::path> newest_checkpoint(
    const fs::path& folder, const std::function<void(const std::string&)>& on_damaged) {
  const std::vector<fs::path> checkpoints = list_checkpoints(folder);
  for (const fs::path& checkpoint : checkpoints) {
    try {
      verify_checkpoint(checkpoint);
      return checkpoint;
    } catch (const InputError& error) {
      on_damaged(error.what());
    }
  }
  if (!checkpoints.empty()) {
    throw_input_error(
        "{}: no checkpoint there is whole; move them away to start afresh, or name another run_dir",
        folder.string());
  }
  return std::nullopt;
}

std::optional<TrainerState> peek_state(const fs::path& checkpoint) {
  const fs::path state = checkpoint / "trainer_state.json";
  try {
    return TrainerState::parse(read_file(state), state.string());
  } catch (const InputError&) {  // whoever resumes from it will say so
    return std::nullopt;
  }
}

std::optional<TrainerState> newest_state(const fs::path& folder) {
  for (const fs::path& checkpoint : list_checkpoints(folder)) {
    if (auto state = peek_state(checkpoint)) return state;
  }
  return std::nullopt;
}

std::vector<fs::path> set_aside_checkpoints(const fs::path& folder, std::int64_t step) {
  std::vector<fs::path> moved;
  for (const fs::path& checkpoint : list_checkpoints(folder)) {
    if (*step_of(checkpoint) > step) moved.push_back(set_aside(checkpoint));
  }
  return moved;
}

TrainerState load_checkpoint(const fs::path& checkpoint, BertModel& model, const Moments& moments) {
  load_parameters(SafetensorsFile(checkpoint / "model.safetensors"), model.parameters());
  const SafetensorsFile optimizer(checkpoint / "optimizer.safetensors");
  load_flat(optimizer, "exp_avg.", model.parameters(), moments.m);
  load_flat(optimizer, "exp_avg_sq.", model.parameters(), moments.v);
  const fs::path state = checkpoint / "trainer_state.json";
  return TrainerState::parse(read_file(state), state.string());
}

void link_checkpoint(const fs::path& checkpoint, const std::string& name) {
  const fs::path link = checkpoint.parent_path() / name;
  const fs::path temporary = link.string() + std::string(kTemporary);
  std::error_code error;
  fs::remove(temporary, error);
  fs::create_directory_symlink(checkpoint.filename(), temporary, error);
  if (!error) fs::rename(temporary, link, error);
  if (error) throw_runtime_error("cannot write {}: {}", link.string(), error.message());
  fsync_directory(checkpoint.parent_path());
}

void set_links(const fs::path& folder, std::int64_t latest, std::int64_t best) {
  for (const auto& [name, step] : {std::pair("latest", latest), std::pair("best", best)}) {
    const fs::path link = folder / name;
    const bool none = name == std::string_view("best") && step == 0;
    if (!none && fs::is_directory(folder / checkpoint_name(step))) {
      link_checkpoint(folder / checkpoint_name(step), name);
    } else if (fs::is_symlink(link) && (none || !fs::exists(link))) {
      fs::remove(link);
    }
  }
}

void remove_unfinished_checkpoints(const fs::path& folder) {
  std::error_code ignored;  // what cannot be removed now is removed next time
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPrefix) && entry.path().extension() == kTemporary) {
      fs::remove_all(entry.path(), ignored);
    }
  }
}

void prune_checkpoints(const fs::path& folder, std::int64_t keep) {
  const std::vector<fs::path> checkpoints = list_checkpoints(folder);
  std::error_code ignored;
  const fs::path best = fs::read_symlink(folder / "best", ignored);
  for (std::size_t i = static_cast<std::size_t>(keep); i < checkpoints.size(); ++i) {
    if (checkpoints[i].filename() == best) continue;
    // Under its own name it is whole to the end.
    fs::rename(checkpoints[i], checkpoints[i].string() + std::string(kTemporary), ignored);
  }
  remove_unfinished_checkpoints(folder);
}

}  // namespace bert
