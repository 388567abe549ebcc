#include "train/tasks/task_sequences.h"

#include <algorithm>

#include <fmt/format.h>

#include "data/text/unicode.h"

namespace bert {

std::pair<std::size_t, std::size_t> longest_first(std::size_t first, std::size_t second,
                                                  std::size_t most) {
  if (first + second <= most) return {first, second};
  std::size_t shorter = std::min(first, second), longer = std::max(first, second);
  longer = std::max(shorter, most - std::min(most, shorter));
  if (shorter + longer > most) {  // neither fits beside the other
    shorter = most / 2;
    longer = most - shorter;
  }
  return first <= second ? std::pair{shorter, longer} : std::pair{longer, shorter};
}

TaskSequence assemble_sequence(const SpecialTokens& special, std::span<const Token> first,
                               std::span<const Token> second, bool is_pair) {
  TaskSequence sequence;
  std::vector<std::int32_t>& ids = sequence.input_ids;
  ids.reserve(first.size() + second.size() + 3);
  ids.push_back(special.cls);
  for (const Token& token : first) ids.push_back(token.id);
  ids.push_back(special.sep);
  sequence.token_type_ids.resize(ids.size(), 0);
  if (!is_pair) return sequence;
  for (const Token& token : second) ids.push_back(token.id);
  ids.push_back(special.sep);
  sequence.token_type_ids.resize(ids.size(), 1);
  return sequence;
}

void report_long_words(const Tokenizer& tokenizer, std::string_view text,
                       std::span<const Token> tokens, std::string_view place, InputReport& report) {
  constexpr std::size_t kMostWordChars = 100;  // of WordPiece
  for (const Token& token : tokens) {
    if (token.id != tokenizer.special().unk || token.end - token.begin <= kMostWordChars) continue;
    const std::size_t chars = count_utf8(text.substr(token.begin, token.end - token.begin));
    if (chars <= kMostWordChars) continue;
    report.unusual("over-long word", place,
                   fmt::format("a word of {} characters is unknown to the model", chars));
  }
}

}  // namespace bert
