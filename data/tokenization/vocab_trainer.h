// Trains a WordPiece vocabulary: from characters, those that do not begin a word carrying "##",
// pairs of neighbours are joined one after the other. Which pair is best is a matter of method.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenization/word_counts.h"
#include "data/tokenization/wordpiece_tokenizer.h"

namespace bert {

enum class VocabMethod {
  // The most frequent pair: byte-pair merging (Sennrich et al. 2016, arXiv:1508.07909), as Hugging
  // Face's WordPiece trainer does.
  kFrequency,
  // The pair whose joining raises the likelihood of the text most (Schuster and Nakajima 2012;
  // Wu et al. 2016, arXiv:1609.08144), by the score frequency(ab) / (frequency(a) * frequency(b)).
  // It prefers pairs that seldom occur apart, however rare: min_frequency matters.
  kLikelihood,
};
// "frequency" or "likelihood"; InputError for another name.
VocabMethod parse_vocab_method(std::string_view name);

struct VocabTrainerOptions {
  VocabMethod method = VocabMethod::kFrequency;
  std::int32_t vocab_size = 30522;   // special tokens included
  std::uint64_t min_frequency = 2;   // pairs seen less often are not merged
  std::int32_t max_alphabet = 1000;  // characters beyond the most frequent so many become [UNK]
  std::size_t max_word_chars = 100;  // longer words are [UNK] and not learned from
  SpecialTokenNames special = kBertSpecialTokens;  // ids 0 to 4: pad, unk, cls, sep, mask
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
// occur within words, then the merges, the best pair first; among equals the pair with the smaller
// ids. InputError where vocab_size has no room for the alphabet, or there is no word to
// learn from.
TrainedVocab train_wordpiece(const WordCounts& counts, const VocabTrainerOptions& options);

}  // namespace bert
