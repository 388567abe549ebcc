// Answers as SQuAD's official scripts (evaluate-v1.1.py, evaluate-v2.0.py) compare them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace bert {

// The words of an answer: lower case, without ASCII's punctuation, without the words a, an and the,
// split at white space. `answer` is valid UTF-8. Letters, white space and lower case are those of
// Python's str and re, within a Unicode version.
std::vector<std::string> answer_words(std::string_view answer);

// Harmonic mean of the shares of words that are in both, counted as often as in both. Without words
// on a side: 1 if there are none on the other either and `empty_is_equal` (2.0), else 0 (1.1).
double word_overlap_f1(const std::vector<std::string>& predicted,
                       const std::vector<std::string>& gold, bool empty_is_equal);

}  // namespace bert
