// Trains a SentencePiece model from text files, through the SentencePiece library.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/text/text_reader.h"

namespace bert {

struct SentencepieceTrainerOptions {
  std::int32_t vocab_size = 30522;  // special tokens included
  std::string type = "unigram";     // or "bpe"
  bool cased = false;               // NFKC normalisation, with case folding if false
  // The trainer's memory grows with its text, some 25 bytes a byte: of more text than this, random
  // lines are taken, the same ones every time.
  std::uint64_t max_bytes = std::uint64_t{40} << 20;
  TextReaderOptions reader = {};
};

struct TrainedSentencepiece {
  std::string model;        // the content of a .model: [PAD] [UNK] [CLS] [SEP] [MASK] are 0 to 4
  std::uint64_t lines = 0;  // that it was trained from
  TextStats text;
};

// InputError for unreadable files, or a vocabulary size that the text cannot fill.
TrainedSentencepiece train_sentencepiece(const std::vector<std::string>& files,
                                         const SentencepieceTrainerOptions& options);

}  // namespace bert
