#include "train/tasks/task_options.h"

#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "data/text/unicode.h"
#include "runtime/json.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

// The keys of task.json and what they hold, once for the writer and the reader.
template <typename Options, typename Visitor>
void visit(Options& options, Visitor&& key) {
  key("kind", options.kind);
  key("labels", options.labels);
  key("max_length", options.max_length);
  key("bad_rows", options.bad_rows);
  key("format", options.table.format);
  key("text_column", options.table.text_column);
  key("text_pair_column", options.table.text_pair_column);
  key("label_column", options.table.label_column);
  key("header", options.table.header);
  key("token_column", options.token_column);
  key("tag_column", options.tag_column);
  key("scheme", options.scheme);
  key("doc_stride", options.doc_stride);
  key("max_query_length", options.max_query_length);
  key("max_answer_length", options.max_answer_length);
  key("n_best", options.n_best);
  key("allow_no_answer", options.allow_no_answer);
  key("null_threshold", options.null_threshold);
}

class Writer {
 public:
  explicit Writer(ordered_json& json) : json_(json) {}

  template <typename T>
  void operator()(const char* key, const T& value) {
    json_[key] = value;
  }
  void operator()(const char* key, const std::optional<bool>& value) {
    json_[key] = value ? ordered_json(*value) : ordered_json(nullptr);
  }
  void operator()(const char* key, TaskKind value) { json_[key] = task_kind_name(value); }
  void operator()(const char* key, TableFormat value) { json_[key] = table_format_name(value); }
  void operator()(const char* key, TagScheme value) { json_[key] = name_of(kTagSchemes, value); }
  void operator()(const char* key, BadRows value) { json_[key] = bad_rows_name(value); }

 private:
  ordered_json& json_;
};

class Reader {
 public:
  Reader(const ordered_json& json, const std::string& source) : json_(json), source_(source) {}

  template <typename T>
  void operator()(const char* key, T& value) {
    seen_.insert(key);
    const auto found = json_.find(key);
    if (found == json_.end()) throw_input_error("{}: '{}' is missing", source_, key);
    take(*found, key, value);
  }

  void refuse_others() const {
    for (const auto& [key, value] : json_.items()) {
      if (!seen_.contains(key)) throw_input_error("{}: unknown key '{}'", source_, key);
    }
  }

 private:
  std::string where(const char* key) const { return source_ + ": " + key; }
  [[noreturn]] void wrong(const char* key, std::string_view expected) const {
    throw_input_error("{}: '{}' is not {}", source_, key, expected);
  }

  std::string text(const ordered_json& json, const char* key) const {
    if (!json.is_string()) wrong(key, "a string");
    return json.get<std::string>();
  }

  void take(const ordered_json& json, const char* key, std::int64_t& value) const {
    value = json_integer<std::int64_t>(json, where(key));
  }
  void take(const ordered_json& json, const char* key, double& value) const {
    if (!json.is_number()) wrong(key, "a number");
    value = json.get<double>();
  }
  void take(const ordered_json& json, const char* key, bool& value) const {
    if (!json.is_boolean()) wrong(key, "true or false");
    value = json.get<bool>();
  }
  void take(const ordered_json& json, const char* key, std::optional<bool>& value) const {
    if (json.is_null()) return value.reset();
    take(json, key, value.emplace());
  }
  void take(const ordered_json& json, const char* key, std::string& value) const {
    value = text(json, key);
  }
  void take(const ordered_json& json, const char* key, std::vector<std::string>& value) const {
    if (!json.is_array()) wrong(key, "a list of strings");
    value.clear();
    for (const ordered_json& item : json) value.push_back(text(item, key));
  }
  void take(const ordered_json& json, const char* key, TaskKind& value) const {
    value = parse_task_kind(text(json, key));
  }
  void take(const ordered_json& json, const char* key, TableFormat& value) const {
    value = parse_table_format(text(json, key));
  }
  void take(const ordered_json& json, const char* key, TagScheme& value) const {
    value = parse_name(kTagSchemes, text(json, key), "scheme of tags");
  }
  void take(const ordered_json& json, const char* key, BadRows& value) const {
    value = parse_bad_rows(text(json, key));
  }

  const ordered_json& json_;
  const std::string& source_;
  std::set<std::string, std::less<>> seen_;
};

void check_range(std::string_view name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  throw_input_error("{} is {}: expected {} to {}", name, value, least, most);
}

void check_column(std::string_view name, std::int64_t value) {
  constexpr std::int64_t kMostColumns = 1000;
  if (value == 0) {
    throw_input_error("{} is 0: columns count from 1, or from the last: -1", name);
  }
  check_range(name, value, -kMostColumns, kMostColumns);
}

void check_labels(const std::vector<std::string>& labels) {
  std::set<std::string_view> seen;
  for (const std::string& label : labels) {
    if (label.empty()) throw_input_error("labels: one of them is empty");
    if (!is_valid_utf8(label)) throw_input_error("labels: one of them is not valid UTF-8");
    if (!seen.insert(label).second) throw_input_error("labels: '{}' is given twice", label);
  }
}

}  // namespace

void check_task_options(const TaskOptions& options) {
  constexpr std::int64_t kMost = 1 << 20;
  const bool answers = options.kind == TaskKind::question_answering;
  // A pair needs three special tokens and should have a token for each text.
  check_range("max_length", options.max_length, 5, kMost);
  check_labels(options.labels);
  if (options.kind == TaskKind::token_classification) {
    check_column("token_column", options.token_column);
    check_column("tag_column", options.tag_column);
  }
  if (!answers) return;
  check_range("doc_stride", options.doc_stride, 1, kMost);
  check_range("max_query_length", options.max_query_length, 1, options.max_length - 4);
  check_range("max_answer_length", options.max_answer_length, 1, kMost);
  check_range("n_best", options.n_best, 1, 1000);
  if (!std::isfinite(options.null_threshold)) {
    throw_input_error("null_threshold is {}: expected a finite number", options.null_threshold);
  }
}

std::string task_options_to_json(const TaskOptions& options) {
  ordered_json json;
  visit(options, Writer(json));
  return json.dump(2) + "\n";
}

TaskOptions task_options_from_json(std::string_view text, const std::string& source) {
  const auto json = parse_json<ordered_json>(text, source);
  if (!json.is_object()) throw_input_error("{} is no JSON object", source);
  TaskOptions options;
  Reader reader(json, source);
  try {
    visit(options, reader);
  } catch (const InputError& error) {
    // The names of choices do not know where they stand.
    const std::string what = error.what();
    if (what.starts_with(source)) throw;
    throw_input_error("{}: {}", source, what);
  }
  reader.refuse_others();
  return options;
}

}  // namespace bert
