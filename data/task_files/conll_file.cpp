#include "data/task_files/conll_file.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "data/text/blank.h"
#include "data/text/unicode.h"
#include "runtime/error.h"
#include "runtime/plural.h"

namespace bert {
namespace {

std::vector<std::string_view> split(std::string_view line) {
  const bool tabs = line.find('\t') != std::string_view::npos;
  const std::string_view separators = tabs ? "\t" : " ";
  std::vector<std::string_view> fields;
  while (true) {
    if (!tabs) line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    if (!tabs && line.empty()) return fields;
    const std::size_t end = line.find_first_of(separators);
    fields.push_back(line.substr(0, end));
    if (end == std::string_view::npos) return fields;
    line.remove_prefix(end + 1);
  }
}

class ConllParser {
 public:
  ConllParser(const std::string& file, const ConllOptions& options, bool with_tags,
              InputReport& report)
      : file_(file), options_(options), with_tags_(with_tags), report_(report) {}

  std::vector<TaggedSentence> run(std::string_view rest) {
    while (!rest.empty()) {
      const std::size_t newline = rest.find('\n');
      std::string_view line = rest.substr(0, newline);
      rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
      if (line.ends_with('\r')) line.remove_suffix(1);
      ++line_;
      if (is_blank(line) || line.starts_with("-DOCSTART-")) {
        end_sentence();
      } else {
        add_word(split(line), line);
      }
    }
    end_sentence();
    return std::move(sentences_);
  }

 private:
  std::string place() const { return fmt::format("{}:{}", file_, line_); }

  void end_sentence() {
    if (!sentence_.words.empty() && !bad_) sentences_.push_back(std::move(sentence_));
    sentence_ = {};
    bad_ = false;
  }

  // A sentence is left out once, whatever else is wrong with it.
  void bad(std::string_view kind, std::string_view why) {
    if (!bad_) report_.bad(kind, place(), why);
    bad_ = true;
  }

  std::size_t column(std::int64_t given, std::string_view what) const {
    const auto columns = static_cast<std::int64_t>(columns_);
    const std::int64_t index = given > 0 ? given - 1 : columns + given;
    if (index < 0 || index >= columns) {
      throw_input_error("{}: has {}; there is no column {} for the {}", place(),
                        plural(columns_, "column"), given, what);
    }
    return static_cast<std::size_t>(index);
  }

  void choose_columns(std::size_t columns) {
    columns_ = columns;
    token_ = column(options_.token_column, "word (data.text, --token-column)");
    if (!with_tags_) return;
    tag_ = column(options_.tag_column, "tag (data.label, --tag-column)");
    if (tag_ == token_) {
      throw_input_error(
          "{}: column {} would be both word and tag; expected words with tags (data.text "
          "and data.label, --token-column and --tag-column)",
          place(), token_ + 1);
    }
  }

  void add_word(const std::vector<std::string_view>& fields, std::string_view line) {
    if (columns_ == 0) choose_columns(fields.size());
    if (sentence_.words.empty()) sentence_.line = line_;
    if (fields.size() != columns_) {
      bad("ragged row",
          fmt::format("has {}, expected {} as before", plural(fields.size(), "column"), columns_));
    } else if (!is_valid_utf8(line)) {
      bad("invalid UTF-8", "is not valid UTF-8");
    } else if (is_blank(fields[token_])) {
      bad("empty word", "has an empty word");
    } else if (with_tags_ && fields[tag_].empty()) {
      bad("empty tag", "has an empty tag");
    }
    // Also of a bad sentence, so that its end is seen.
    sentence_.words.emplace_back(token_ < fields.size() ? fields[token_] : "");
    if (with_tags_) sentence_.tags.emplace_back(tag_ < fields.size() ? fields[tag_] : "");
  }

  const std::string& file_;
  const ConllOptions& options_;
  bool with_tags_;
  InputReport& report_;
  std::size_t line_ = 0, columns_ = 0, token_ = 0, tag_ = 0;
  bool bad_ = false;
  TaggedSentence sentence_;
  std::vector<TaggedSentence> sentences_;
};

}  // namespace

std::vector<TaggedSentence> parse_conll(std::string_view content, const std::string& file,
                                        const ConllOptions& options, bool with_tags,
                                        InputReport& report) {
  return ConllParser(file, options, with_tags, report).run(content);
}

}  // namespace bert
