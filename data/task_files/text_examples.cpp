#include "data/task_files/text_examples.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <utility>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "data/task_files/delimited_file.h"
#include "data/task_files/json_objects.h"
#include "data/text/blank.h"
#include "data/text/byte_source.h"
#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace bert {
namespace {

using nlohmann::ordered_json;

// Columns by these names need not be named by the user; the first row of the table that fits
// counts.
constexpr std::pair<std::string_view, std::string_view> kUsualTexts[] = {
    {"sentence1", "sentence2"}, {"question1", "question2"}, {"premise", "hypothesis"},
    {"question", "sentence"},   {"text_a", "text_b"},       {"text1", "text2"},
    {"text", "text_pair"},      {"sentence", ""},           {"text", ""}};
constexpr std::string_view kUsualLabels[] = {"gold_label", "label", "labels", "score", "target"};

std::string lower(std::string_view name) {
  std::string result(name);
  for (char& c : result) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

std::optional<std::size_t> parse_number(std::string_view text) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

TableFormat detect_format(std::string_view content, const std::string& file) {
  const std::string name = without_compression(file);
  for (const auto& [ending, format] :
       {std::pair{".tsv", TableFormat::tsv}, std::pair{".csv", TableFormat::csv},
        std::pair{".jsonl", TableFormat::json_lines}, std::pair{".ndjson", TableFormat::json_lines},
        std::pair{".json", TableFormat::json_lines}}) {
    if (name.ends_with(ending)) return format;
  }
  const std::string_view line = content.substr(0, content.find('\n'));
  if (line.starts_with('{')) return TableFormat::json_lines;
  if (line.find('\t') != std::string_view::npos) return TableFormat::tsv;
  // A single column of text may hold commas as well as a CSV file does.
  if (line.find(',') == std::string_view::npos) return TableFormat::tsv;
  throw_input_error(
      "{}: neither its name nor its first line tells what it is: give tsv, csv or "
      "jsonl as its format (data.format, --format)",
      file);
}

// Which columns of a file are used: positions among `names`.
struct Columns {
  std::size_t text = 0;
  std::optional<std::size_t> pair, label;
};

class ColumnChooser {
 public:
  // `names`: of the file's columns, in their order; without a header they are "1", "2", ...
  ColumnChooser(const std::vector<std::string>& names, bool named, const std::string& file)
      : names_(names), named_(named), file_(file) {}

  Columns choose(const TextExampleOptions& options, bool with_labels) const {
    Columns columns;
    if (!options.text_column.empty()) {
      columns.text = required(options.text_column, "text (data.text, --text)");
      if (!options.text_pair_column.empty()) {
        columns.pair =
            required(options.text_pair_column, "second text (data.text_pair, --text-pair)");
      }
    } else {
      if (!options.text_pair_column.empty()) {
        throw_input_error(
            "{}: the column of the second text is given, that of the first (data.text, --text) is "
            "not",
            file_);
      }
      usual_texts(columns);
    }
    if (with_labels) {
      columns.label = options.label_column.empty()
                          ? usual_label()
                          : required(options.label_column, "label (data.label, --label)");
    }
    return columns;
  }

 private:
  std::optional<std::size_t> find(std::string_view name) const {
    const auto found = std::find_if(names_.begin(), names_.end(), [&](const std::string& known) {
      return lower(known) == lower(name);
    });
    if (found == names_.end()) return std::nullopt;
    return static_cast<std::size_t>(found - names_.begin());
  }

  std::string columns_text() const {
    if (!named_) return fmt::format("it has {} without names", plural(names_.size(), "column"));
    return fmt::format("its columns are {}", fmt::join(names_, ", "));
  }

  std::size_t required(const std::string& name, std::string_view what) const {
    if (const auto found = find(name)) return *found;
    const auto number = parse_number(name);
    if (number && *number >= 1 && *number <= names_.size()) return *number - 1;
    throw_input_error("{}: there is no column '{}' for the {}: {}", file_, name, what,
                      columns_text());
  }

  void usual_texts(Columns& columns) const {
    if (!named_) {
      if (names_.size() <= 2) return;  // the first
    } else {
      for (const auto& [first, second] : kUsualTexts) {
        const auto text = find(first);
        const auto pair = second.empty() ? std::nullopt : find(second);
        if (!text || (!second.empty() && !pair)) continue;
        columns.text = *text;
        columns.pair = pair;
        return;
      }
      if (names_.size() == 1) return;
    }
    throw_input_error(
        "{}: which column is the text? {}: give the text's column by {} (data.text, --text)", file_,
        columns_text(), named_ ? "name" : "its number");
  }

  std::size_t usual_label() const {
    if (!named_ && names_.size() == 2) return 1;
    for (const std::string_view name : kUsualLabels) {
      if (const auto found = find(name)) return *found;
    }
    throw_input_error(
        "{}: which column is the label? {}: give the label's column by {} (data.label, --label)",
        file_, columns_text(), named_ ? "name" : "its number");
  }

  const std::vector<std::string>& names_;
  bool named_;
  const std::string& file_;
};

class ExampleParser {
 public:
  ExampleParser(std::string_view content, const std::string& file,
                const TextExampleOptions& options, bool with_labels, InputReport& report)
      : content_(content),
        file_(file),
        options_(options),
        with_labels_(with_labels),
        report_(report) {}

  std::vector<TextExample> run() {
    const TableFormat format = options_.format == TableFormat::automatic
                                   ? detect_format(content_, file_)
                                   : options_.format;
    if (format == TableFormat::json_lines) {
      for_each_json_object(
          content_, file_, report_,
          [&](const ordered_json& record, std::size_t line) { read_record(record, line); });
    } else {
      read_table(format == TableFormat::csv ? Delimited::csv : Delimited::tsv);
    }
    return std::move(examples_);
  }

 private:
  std::string place(std::size_t line) const { return fmt::format("{}:{}", file_, line); }

  // Whether the first row names the columns.
  bool is_header(const std::vector<std::string>& row) const {
    if (options_.header) return *options_.header;
    for (const std::string* given :
         {&options_.text_column, &options_.text_pair_column, &options_.label_column}) {
      if (!given->empty() && !parse_number(*given)) return true;
    }
    return std::any_of(row.begin(), row.end(), [](const std::string& field) {
      const std::string name = lower(field);
      const auto is_name = [&](std::string_view usual) { return !usual.empty() && name == usual; };
      return std::any_of(std::begin(kUsualLabels), std::end(kUsualLabels), is_name) ||
             std::any_of(std::begin(kUsualTexts), std::end(kUsualTexts), [&](const auto& texts) {
               return is_name(texts.first) || is_name(texts.second);
             });
    });
  }

  void read_table(Delimited format) {
    DelimitedReader reader(content_, format);
    DelimitedRow row;
    if (!reader.next(row)) return;
    if (!row.problem.empty()) throw_input_error("{}: {}", place(row.line), row.problem);
    const std::size_t first_line = row.line;
    std::vector<std::string> names = row.fields;
    const bool named = is_header(names);
    for (std::size_t i = 0; !named && i < names.size(); ++i) names[i] = std::to_string(i + 1);
    const Columns columns = ColumnChooser(names, named, file_).choose(options_, with_labels_);
    if (named && !reader.next(row)) return;
    do {
      if (!row.problem.empty()) {
        report_.bad("malformed row", place(row.line), row.problem);
      } else if (row.fields.size() != names.size()) {
        report_.bad("ragged row", place(row.line),
                    fmt::format("has {}, expected {} as in line {}",
                                plural(row.fields.size(), "field"), names.size(), first_line));
      } else {
        TextExample example;
        example.line = row.line;
        example.text = std::move(row.fields[columns.text]);
        if (columns.pair) example.pair = std::move(row.fields[*columns.pair]);
        if (columns.label) example.label = std::move(row.fields[*columns.label]);
        add(std::move(example));
      }
    } while (reader.next(row));
  }

  void read_record(const ordered_json& record, std::size_t line) {
    if (field_names_.empty()) {
      for (const auto& [name, value] : record.items()) field_names_.push_back(name);
      columns_ = ColumnChooser(field_names_, true, place(line)).choose(options_, with_labels_);
    }
    TextExample example;
    example.line = line;
    std::string pair;
    if (!text_field(record, columns_.text, line, example.text)) return;
    if (columns_.pair) {
      if (!text_field(record, *columns_.pair, line, pair)) return;
      example.pair = std::move(pair);
    }
    if (columns_.label && !label_field(record, line, example.label)) return;
    add(std::move(example));
  }

  const ordered_json* field(const ordered_json& record, std::size_t column, std::size_t line) {
    const auto found = record.find(field_names_[column]);
    if (found != record.end()) return &*found;
    report_.bad("missing field", place(line),
                fmt::format("has no field '{}'", field_names_[column]));
    return nullptr;
  }

  bool text_field(const ordered_json& record, std::size_t column, std::size_t line,
                  std::string& text) {
    const ordered_json* const value = field(record, column, line);
    if (value == nullptr) return false;
    if (!value->is_string()) {
      report_.bad("not a text", place(line),
                  fmt::format("the value of '{}' is not a string", field_names_[column]));
      return false;
    }
    text = value->get<std::string>();
    return true;
  }

  bool label_field(const ordered_json& record, std::size_t line, std::string& label) {
    const ordered_json* const value = field(record, *columns_.label, line);
    if (value == nullptr) return false;
    if (value->is_string()) {
      label = value->get<std::string>();
    } else if (value->is_number() || value->is_boolean()) {
      label = value->dump();
    } else {
      report_.bad("not a label", place(line),
                  fmt::format("the value of '{}' is neither a string nor a number",
                              field_names_[*columns_.label]));
      return false;
    }
    return true;
  }

  void add(TextExample example) {
    const bool valid = is_valid_utf8(example.text) && is_valid_utf8(example.label) &&
                       (!example.pair || is_valid_utf8(*example.pair));
    if (!valid) {
      report_.bad("invalid UTF-8", place(example.line), "is not valid UTF-8");
    } else if (is_blank(example.text) || (example.pair && is_blank(*example.pair))) {
      report_.bad("empty text", place(example.line), "has an empty text");
    } else if (with_labels_ && example.label.empty()) {
      report_.bad("empty label", place(example.line), "has an empty label");
    } else {
      examples_.push_back(std::move(example));
    }
  }

  std::string_view content_;
  const std::string& file_;
  const TextExampleOptions& options_;
  bool with_labels_;
  InputReport& report_;
  std::vector<std::string> field_names_;  // of the first JSON record
  Columns columns_;
  std::vector<TextExample> examples_;
};

}  // namespace

std::vector<TextExample> parse_text_examples(std::string_view content, const std::string& file,
                                             const TextExampleOptions& options, bool with_labels,
                                             InputReport& report) {
  return ExampleParser(content, file, options, with_labels, report).run();
}

}  // namespace bert
