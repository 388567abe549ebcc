// Trains a WordPiece vocabulary the way Hugging Face's trainer does: byte-pair merging (Sennrich et
// al. 2016, arXiv:1508.07909) over characters, those that do not begin a word carrying "##". It is
// not the likelihood method of the WordPiece paper, which nobody published code for.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/word_counts.h"
#include "data/wordpiece_tokenizer.h"

namespace bert {

struct VocabTrainerOptions {
  std::int32_t vocab_size = 30522;   // special tokens included
  std::uint64_t min_frequency = 2;   // pairs seen less often are not merged
  std::int32_t max_alphabet = 1000;  // characters beyond the most frequent so many become [UNK]
  std::size_t max_word_chars = 100;  // longer words are [UNK] and not learned from
  SpecialTokenNames special;         // ids 0 to 4: pad, unk, cls, sep, mask
  // Called now and then with the entries found so far.
  std::function<void(std::int32_t found, std::int32_t wanted)> progress;
};

struct TrainedVocab {
  std::vector<std::string> pieces;  // in the order of their ids; fewer than vocab_size where no
                                    // pair occurs min_frequency times any more
  std::int32_t alphabet = 0;        // characters kept
  std::int32_t characters_left_out = 0;
};

// Special tokens, then the alphabet in code point order, then the "##" forms of characters that
// occur within words, then the merges, the most frequent pair first; among equals the pair with the
// smaller ids. InputError where vocab_size has no room for the alphabet, or there is no word to
// learn from.
TrainedVocab train_wordpiece(const WordCounts& counts, const VocabTrainerOptions& options);

}  // namespace bert
