#include "data/samples/mlm_masking.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/error.h"

namespace bert {

std::string_view masking_name(Masking masking) {
  return masking == Masking::whole_word ? "whole_word" : "token";
}

Masking parse_masking(std::string_view name) {
  if (name == "whole_word") return Masking::whole_word;
  if (name == "token") return Masking::token;
  throw_input_error("unknown masking '{}': expected whole_word or token", name);
}

MlmMasker::MlmMasker(const MaskingOptions& options, std::int32_t vocab_size, std::int32_t mask_id)
    : options_(options), vocab_size_(static_cast<std::uint32_t>(vocab_size)), mask_id_(mask_id) {
  if (!(options.fraction > 0 && options.fraction < 1)) {
    throw_input_error("the mask fraction is {}, expected a number between 0 and 1",
                      options.fraction);
  }
  if (options.max_predictions < 0) {
    throw_input_error("the largest number of predictions is {}, expected 0 (no limit) or more",
                      options.max_predictions);
  }
  BERT_CHECK(vocab_size > 0 && mask_id >= 0 && mask_id < vocab_size);
}

std::int64_t MlmMasker::num_predictions(std::int64_t length) const {
  const double wanted = std::nearbyint(options_.fraction * static_cast<double>(length));
  const std::int64_t number = std::max<std::int64_t>(1, static_cast<std::int64_t>(wanted));
  return options_.max_predictions > 0 ? std::min(number, options_.max_predictions) : number;
}

void MlmMasker::mask(PhiloxStream& random, std::span<std::int32_t> ids,
                     std::span<const MaskRole> roles, std::int32_t first_row,
                     std::vector<std::int32_t>& rows, std::vector<std::int32_t>& targets,
                     Scratch& scratch) const {
  BERT_CHECK(ids.size() == roles.size());
  scratch.words.clear();
  scratch.ends.clear();
  bool open = false;  // whether the token before belongs to a word that may go on
  for (std::uint32_t i = 0; i < ids.size(); ++i) {
    if (roles[i] == MaskRole::never) {
      open = false;
    } else if (open && roles[i] == MaskRole::continues_word &&
               options_.masking == Masking::whole_word) {
      scratch.ends.back() = i + 1;
    } else {
      scratch.words.push_back(i);
      scratch.ends.push_back(i + 1);
      open = true;
    }
  }

  scratch.chosen.assign(ids.size(), 0);
  auto left = static_cast<std::uint32_t>(num_predictions(static_cast<std::int64_t>(ids.size())));
  const auto num_words = static_cast<std::uint32_t>(scratch.words.size());
  // A Fisher-Yates shuffle, carried only as far as words are asked for.
  for (std::uint32_t i = 0; i < num_words && left > 0; ++i) {
    const std::uint32_t pick = i + random.next_below(num_words - i);
    std::swap(scratch.words[i], scratch.words[pick]);
    std::swap(scratch.ends[i], scratch.ends[pick]);
    const std::uint32_t begin = scratch.words[i], end = scratch.ends[i];
    if (end - begin > left) continue;
    left -= end - begin;
    std::fill(scratch.chosen.begin() + begin, scratch.chosen.begin() + end, std::uint8_t{1});
  }

  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (scratch.chosen[i] == 0) continue;
    rows.push_back(first_row + static_cast<std::int32_t>(i));
    targets.push_back(ids[i]);
    const std::uint32_t draw = random.next_below(10);
    if (draw < 8) {
      ids[i] = mask_id_;
    } else if (draw == 8) {
      ids[i] = static_cast<std::int32_t>(random.next_below(vocab_size_));
    }
  }
}

}  // namespace bert
