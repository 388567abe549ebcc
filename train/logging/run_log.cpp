#include "train/logging/run_log.h"

#include <cstdio>
#include <ctime>
#include <set>

#include "runtime/json_lines.h"

namespace bert {
namespace fs = std::filesystem;
using nlohmann::ordered_json;

namespace {

constexpr std::size_t kSamplesShown = 3;

std::string utc_time() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::optional<double> number(const ordered_json& record, const char* key) {
  const auto found = record.find(key);
  if (found == record.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

// The evaluations that were the best so far, of the steps up to `last_step`. Events are history: an
// evaluation that a run went back behind counts no more.
std::set<std::int64_t> best_steps(const fs::path& events, std::int64_t last_step) {
  std::set<std::int64_t> steps;
  for_each_record(events, [&](const StepRecord& record) {
    const std::string kind = record.value.value("kind", "");
    const bool best = kind == event_name(RunEvent::best);
    if (best || kind == event_name(RunEvent::resume)) {
      steps.erase(steps.upper_bound(record.step), steps.end());
    }
    if (best && record.step <= last_step) steps.insert(record.step);
  });
  return steps;
}

}  // namespace

void check_run_log(const fs::path& run_dir) {
  for (const char* file :
       {"metrics.jsonl", "gradient_norms.jsonl", "events.jsonl", "predictions.jsonl"}) {
    if (!fs::exists(run_dir / file)) continue;
    for_each_record(run_dir / file, [](const StepRecord& record) {
      (void)record.value.value("sample", std::int64_t{0});
      for (const char* text : {"kind", "text", "predicted"}) {
        (void)record.value.value(text, std::string());
      }
    });
  }
}

RunLog::RunLog(const fs::path& run_dir, std::int64_t first_step, std::int64_t max_steps,
               bool tensorboard)
    : run_dir_(run_dir),
      progress_(stderr, first_step, max_steps),
      log_file_(run_dir / "log.txt",
                [this](const std::string& text) { progress_.message("warning: " + text); }),
      metrics_log_(run_dir / "metrics.jsonl", first_step,
                   [this](const std::string& text) { message("warning: " + text); }),
      predictions_log_(run_dir / "predictions.jsonl", first_step,
                       [this](const std::string& text) { message("warning: " + text); }),
      gradient_norms_log_(run_dir / "gradient_norms.jsonl", first_step,
                          [this](const std::string& text) { message("warning: " + text); }),
      events_log_(run_dir / "events.jsonl", kWholeHistory,
                  [this](const std::string& text) { message("warning: " + text); }) {
  if (tensorboard) {
    tensorboard_ = std::make_unique<TensorboardWriter>(
        run_dir / "tensorboard", first_step + 1,
        [this](const std::string& text) { message("warning: " + text); });
  }
  if (first_step > 0) restore(first_step);
}

void RunLog::restore(std::int64_t first_step) {
  const std::set<std::int64_t> best = best_steps(run_dir_ / "events.jsonl", first_step);
  for_each_record(run_dir_ / "metrics.jsonl", [&](const StepRecord& record) {
    if (const auto loss = number(record.value, "mlm_loss"); loss && record.step > 0) {
      progress_.add_loss(record.step, *loss);
    }
    show_evaluation(record.value);
    if (best.contains(record.step) && validation_.step == record.step) note_best();
  });
  for_each_record(run_dir_ / "predictions.jsonl",
                  [this](const StepRecord& record) { follow(record.value); });
}

void RunLog::go_back(std::int64_t step) {
  for (MetricsLog* log : {&metrics_log_, &predictions_log_, &gradient_norms_log_}) {
    log->go_back(step);
  }
  if (tensorboard_ != nullptr) tensorboard_->go_back(step + 1);
  progress_.go_back(step);
  validation_ = {};
  words_.clear();
  restore(step);
}

void RunLog::message(const std::string& line) {
  progress_.message(line);
  note(line);
}

void RunLog::event(RunEvent kind, std::int64_t step, const std::string& text) {
  events_log_.append({{"step", step},
                      {"kind", std::string(event_name(kind))},
                      {"time", utc_time()},
                      {"text", text}});
  if (kind == RunEvent::best && step == validation_.step) note_best();
  if (text.empty()) return;
  const bool warns = kind == RunEvent::skip || kind == RunEvent::rollback;
  message(fmt::format("{}step {}: {}", warns ? "warning: " : "", step, text));
}

void RunLog::metrics(const ordered_json& record, const std::string& group) {
  metrics_log_.append(record);
  show_evaluation(record);
  if (tensorboard_ == nullptr) return;
  const std::int64_t step = record.at("step");
  for (const auto& [key, value] : record.items()) {
    if (key != "step" && value.is_number()) {
      tensorboard_->scalar(group + "/" + key, value.get<double>(), step);
    }
  }
}

void RunLog::show_evaluation(const ordered_json& record) {
  const std::optional<double> loss = number(record, "val_loss");
  if (!loss) return;
  const bool first = validation_.step == 0;
  validation_.step = record.at("step");
  validation_.loss = *loss;
  validation_.standard_error = number(record, "val_loss_se");
  validation_.accuracy = number(record, "val_accuracy");
  if (first) note_best();
  progress_.set_validation(validation_);
}

void RunLog::note_best() {
  validation_.best_loss = validation_.loss;
  validation_.best_step = validation_.step;
  progress_.set_validation(validation_);
}

void RunLog::prediction(const ordered_json& record) {
  predictions_log_.append(record);
  follow(record);
  const std::size_t sample = record.at("sample");
  if (sample >= kSamplesShown) return;
  const std::string line = "  e.g. " + record.at("predicted").get<std::string>();
  progress_.detail(line);
  log_file_.append(line + "\n");
}

void RunLog::follow(const ordered_json& prediction) {
  if (!prediction.contains("sample")) return;
  const std::size_t sample = prediction.at("sample");
  if (sample >= kSamplesShown || sample > words_.size()) return;
  std::optional<FollowedWord> now =
      first_masked_word(prediction.value("text", ""), prediction.value("predicted", ""));
  if (sample == words_.size()) words_.emplace_back();
  if (!now) return;
  FollowedWord& followed = words_[sample];
  // Another text than before, after a change of the configuration: its story begins anew.
  if (followed.before == now->before && followed.word == now->word) {
    now->predictions.insert(now->predictions.begin(), followed.predictions.begin(),
                            followed.predictions.end());
  }
  followed = std::move(*now);
  progress_.set_words(words_);
}

void RunLog::text(const std::string& tag, const std::string& markdown, std::int64_t step) {
  if (tensorboard_ != nullptr) tensorboard_->text(tag, markdown, step);
}

void RunLog::gradient_norms(std::int64_t step, const LayerGradientNorms& norms) {
  ordered_json record = {{"step", step}};
  for (const auto& layer : norms.layers) record[layer.name] = layer.norm;
  gradient_norms_log_.append(record);
  if (tensorboard_ == nullptr) return;
  for (const auto& layer : norms.layers) {
    tensorboard_->scalar("gradient_norm/" + layer.name, layer.norm, step);
  }
  tensorboard_->histogram("gradient_norm/parameters", norms.parameters, step);
}

void RunLog::finish() {
  progress_.finish();
  for (MetricsLog* log : {&metrics_log_, &predictions_log_, &gradient_norms_log_, &events_log_}) {
    log->finish();
  }
}

}  // namespace bert
