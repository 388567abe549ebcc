// Masking for the masked language model (Devlin et al. 2018, section 3.1, and its whole-word form).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "runtime/philox.h"

namespace bert {

enum class Masking {
  whole_word,  // all pieces of a word are chosen together
  token,       // each piece by itself
};
std::string_view masking_name(Masking masking);
Masking parse_masking(std::string_view name);  // InputError naming the possible values

struct MaskingOptions {
  Masking masking = Masking::whole_word;
  double fraction = 0.15;            // of all tokens of a sample, [CLS] and [SEP] counted; (0, 1)
  std::int64_t max_predictions = 0;  // per sample; 0: no limit
};

// What a token of a sample is to the masking.
enum class MaskRole : std::uint8_t {
  continues_word = 0,
  starts_word = 1,
  never = 2,  // [CLS], [SEP]
};

class MlmMasker {
 public:
  // Buffers of one caller, kept between calls.
  struct Scratch {
    std::vector<std::uint32_t> words;  // where candidates begin
    std::vector<std::uint32_t> ends;   // where they end
    std::vector<std::uint8_t> chosen;  // [length]
  };

  // `mask_id`: the id of [MASK]. InputError if an option is out of range.
  MlmMasker(const MaskingOptions& options, std::int32_t vocab_size, std::int32_t mask_id);

  // How many tokens of a sample of `length` tokens are to be predicted:
  // min(max_predictions, max(1, round(fraction * length))), halves to even.
  std::int64_t num_predictions(std::int64_t length) const;

  // Chooses candidate words in random order until num_predictions(ids.size()) tokens are chosen; a
  // word that would be too much is skipped. Each chosen piece becomes [MASK] (80 %), a random id of
  // the whole vocabulary (10 %), or stays (10 %). Appends to `rows` the chosen indices plus
  // `first_row`, ascending, and to `targets` the ids that were there. Few or none are chosen if no
  // word is short enough.
  void mask(PhiloxStream& random, std::span<std::int32_t> ids, std::span<const MaskRole> roles,
            std::int32_t first_row, std::vector<std::int32_t>& rows,
            std::vector<std::int32_t>& targets, Scratch& scratch) const;

 private:
  MaskingOptions options_;
  std::uint32_t vocab_size_;
  std::int32_t mask_id_;
};

}  // namespace bert
