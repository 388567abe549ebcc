// TokenShard: the tokens of one split (train, validation) of a corpus, memory-mapped.
//
//   tokens.bin      u16 ids where the vocabulary has at most 65,536 entries, u32 otherwise
//   words.bin       one bit per token, least significant first: does it start a word?
//   sentences.bin   u64[S + 1]: the first token of each sentence, then the number of tokens
//   documents.bin   u64[D + 1]: the first sentence of each document, then the number of sentences
//
// A sentence is a line of the input. No sentence and no document is empty. Each file is a
// CorpusFile: damage is an InputError at first touch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/shards/corpus_file.h"
#include "data/tokenization/tokenizer.h"

namespace bert {

// The name of a corpus file and its digest, as the manifest keeps them.
using FileDigests = std::vector<std::pair<std::string, std::uint64_t>>;

// A document as tokens: sentence i is tokens [sentence_ends[i - 1], sentence_ends[i]).
struct TokenizedDocument {
  std::vector<std::int32_t> ids;
  std::vector<std::uint8_t> word_starts;  // one per id
  std::vector<std::uint32_t> sentence_ends;

  // Appends a sentence; nothing if `tokens` is empty.
  void add_sentence(const std::vector<Token>& tokens);
};

class TokenShardWriter {
 public:
  TokenShardWriter(const std::filesystem::path& folder, std::int32_t vocab_size);

  void append(const TokenizedDocument& document);  // nothing if it has no sentence
  // The same in several: sentences of the document at hand, then its end (nothing if it has none).
  // Sentence i ends before ids[sentence_ends[i] - offset].
  void append_sentences(std::span<const std::int32_t> ids,
                        std::span<const std::uint8_t> word_starts,
                        std::span<const std::uint32_t> sentence_ends, std::uint32_t offset = 0);
  void end_document();
  FileDigests commit();

  std::uint64_t num_tokens() const { return num_tokens_; }
  std::uint64_t num_words() const { return num_words_; }
  std::uint64_t num_sentences() const { return num_sentences_; }
  std::uint64_t num_documents() const { return num_documents_; }

 private:
  std::int32_t vocab_size_;
  bool wide_;
  CorpusFileWriter tokens_, words_, sentences_, documents_;
  std::uint64_t num_tokens_ = 0, num_words_ = 0, num_sentences_ = 0, num_documents_ = 0;
  std::uint64_t document_begin_ = 0;  // the first sentence of the document at hand
  std::vector<std::uint16_t> narrow_ids_;
  std::uint8_t word_bits_ = 0;  // of the last, incomplete byte
};

class TokenShard {
 public:
  // InputError if a file is missing, damaged or does not fit the others.
  TokenShard(const std::filesystem::path& folder, std::int32_t vocab_size);

  std::uint64_t num_tokens() const { return num_tokens_; }
  std::uint64_t num_sentences() const { return sentences_.size() - 1; }
  std::uint64_t num_documents() const { return documents_.size() - 1; }

  // The first token of sentence i; i == num_sentences() gives num_tokens().
  std::uint64_t sentence_begin(std::uint64_t i) const { return sentences_[i]; }
  // The first sentence of document i; i == num_documents() gives num_sentences().
  std::uint64_t document_begin(std::uint64_t i) const { return documents_[i]; }
  // The document that token `token` lies in, by bisection; token < num_tokens().
  std::uint64_t document_of(std::uint64_t token) const;

  // Ids of tokens [begin, begin + out.size()); InputError if one is not of the vocabulary.
  void read_ids(std::uint64_t begin, std::span<std::int32_t> out) const;
  bool starts_word(std::uint64_t token) const {
    return (words_[token / 8] >> (token % 8) & 1u) != 0;
  }
  // The same for tokens [begin, begin + out.size()): 1 or 0 each.
  void read_word_starts(std::uint64_t begin, std::span<std::uint8_t> out) const;

  TokenizedDocument document(std::uint64_t i) const;
  void read_document(std::uint64_t i, TokenizedDocument& document) const;

  // Lets go of the memory behind the pages touched so far; they can be touched again.
  void release() const;

  FileDigests digests() const;
  // Reads and checks every byte, and that the files fit together.
  void verify() const;
  // `what` ("sentences") contradict themselves, as no writer makes them.
  [[noreturn]] void throw_out_of_order(std::string_view what) const;

 private:
  std::filesystem::path folder_;
  std::int32_t vocab_size_;
  bool wide_;
  CorpusArray<std::uint16_t> narrow_tokens_;  // one of the two
  CorpusArray<std::uint32_t> wide_tokens_;
  CorpusArray<std::uint8_t> words_;
  CorpusArray<std::uint64_t> sentences_, documents_;
  std::uint64_t num_tokens_ = 0;
};

}  // namespace bert
