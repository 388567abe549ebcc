// Tokens to the model's sequences: [CLS] A [SEP], or [CLS] A [SEP] B [SEP].
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "data/task_files/input_report.h"
#include "data/tokenization/tokenizer.h"
#include "train/tasks/task.h"

namespace bert {

// How many tokens of two texts are kept so that there are at most `most` together: the longer one
// is cut first, then both to the same length (an odd token stays with the longer one, else with the
// second), as by Hugging Face's tokenizers with truncation=True.
std::pair<std::size_t, std::size_t> longest_first(std::size_t first, std::size_t second,
                                                  std::size_t most);

// Only ids and types are set. `second` may be empty; with `is_pair` its [SEP] is there
// nevertheless.
TaskSequence assemble_sequence(const SpecialTokens& special, std::span<const Token> first,
                               std::span<const Token> second, bool is_pair);

// Reports words of `text` so long that WordPiece does not try to take them apart.
void report_long_words(const Tokenizer& tokenizer, std::string_view text,
                       std::span<const Token> tokens, std::string_view place, InputReport& report);

}  // namespace bert
