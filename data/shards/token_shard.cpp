#include "data/shards/token_shard.h"

#include <algorithm>

#include "runtime/error.h"

namespace bert {
namespace fs = std::filesystem;

namespace {

constexpr std::int32_t kNarrowVocabulary = 65536;

}  // namespace

void TokenizedDocument::add_sentence(const std::vector<Token>& tokens) {
  if (tokens.empty()) return;
  for (const Token& token : tokens) {
    ids.push_back(token.id);
    word_starts.push_back(token.starts_word ? 1 : 0);
  }
  sentence_ends.push_back(static_cast<std::uint32_t>(ids.size()));
}

TokenShardWriter::TokenShardWriter(const fs::path& folder, std::int32_t vocab_size)
    : vocab_size_(vocab_size),
      wide_(vocab_size > kNarrowVocabulary),
      tokens_(folder / "tokens.bin", "tokens", wide_ ? 4 : 2),
      words_(folder / "words.bin", "word bits", 1),
      sentences_(folder / "sentences.bin", "sentences", 8),
      documents_(folder / "documents.bin", "documents", 8) {}

void TokenShardWriter::append(const TokenizedDocument& document) {
  append_sentences(document.ids, document.word_starts, document.sentence_ends);
  end_document();
}

void TokenShardWriter::append_sentences(std::span<const std::int32_t> ids,
                                        std::span<const std::uint8_t> word_starts,
                                        std::span<const std::uint32_t> sentence_ends,
                                        std::uint32_t offset) {
  if (ids.empty()) return;
  BERT_CHECK(word_starts.size() == ids.size() && sentence_ends.back() - offset == ids.size());
  for (const std::int32_t id : ids) {
    BERT_CHECK(id >= 0 && id < vocab_size_, "token id {} of a vocabulary of {}", id, vocab_size_);
  }
  if (wide_) {
    tokens_.append(ids.data(), ids.size() * sizeof(std::int32_t));
  } else {
    narrow_ids_.assign(ids.begin(), ids.end());
    tokens_.append(narrow_ids_.data(), narrow_ids_.size() * sizeof(std::uint16_t));
  }
  std::uint64_t sentence_begin = num_tokens_;
  for (const std::uint32_t end : sentence_ends) {
    sentences_.append_value(sentence_begin);
    sentence_begin = num_tokens_ + (end - offset);
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::uint64_t token = num_tokens_ + i;
    num_words_ += word_starts[i];
    word_bits_ = static_cast<std::uint8_t>(word_bits_ | word_starts[i] << token % 8);
    if (token % 8 == 7) {
      words_.append_value(word_bits_);
      word_bits_ = 0;
    }
  }
  num_tokens_ += ids.size();
  num_sentences_ += sentence_ends.size();
}

void TokenShardWriter::end_document() {
  if (num_sentences_ == document_begin_) return;
  documents_.append_value(document_begin_);
  document_begin_ = num_sentences_;
  ++num_documents_;
}

FileDigests TokenShardWriter::commit() {
  if (num_tokens_ % 8 != 0) words_.append_value(word_bits_);
  sentences_.append_value(num_tokens_);
  documents_.append_value(num_sentences_);
  return {{"tokens.bin", tokens_.commit()},
          {"words.bin", words_.commit()},
          {"sentences.bin", sentences_.commit()},
          {"documents.bin", documents_.commit()}};
}

TokenShard::TokenShard(const fs::path& folder, std::int32_t vocab_size)
    : folder_(folder),
      vocab_size_(vocab_size),
      wide_(vocab_size > kNarrowVocabulary),
      words_(folder / "words.bin", "word bits"),
      sentences_(folder / "sentences.bin", "sentences"),
      documents_(folder / "documents.bin", "documents") {
  if (wide_) {
    wide_tokens_ = {folder / "tokens.bin", "tokens"};
    num_tokens_ = wide_tokens_.size();
  } else {
    narrow_tokens_ = {folder / "tokens.bin", "tokens"};
    num_tokens_ = narrow_tokens_.size();
  }
  const bool consistent = words_.size() == (num_tokens_ + 7) / 8 && sentences_.size() > 0 &&
                          documents_.size() > 0 && sentences_[num_sentences()] == num_tokens_ &&
                          documents_[num_documents()] == num_sentences();
  if (!consistent) {
    throw_input_error(
        "{}: its files do not belong together; rebuild the corpus with "
        "prepare_corpus",
        folder.string());
  }
}

void TokenShard::read_ids(std::uint64_t begin, std::span<std::int32_t> out) const {
  if (wide_) {
    const auto ids = wide_tokens_.span(begin, begin + out.size());
    std::copy(ids.begin(), ids.end(), out.begin());
  } else {
    const auto ids = narrow_tokens_.span(begin, begin + out.size());
    std::copy(ids.begin(), ids.end(), out.begin());
  }
  // Whoever computes with an id uses it as an index.
  for (const std::int32_t id : out) {
    if (id < 0 || id >= vocab_size_) {
      throw_input_error("{}: token id {}, but the vocabulary has {} entries", folder_.string(), id,
                        vocab_size_);
    }
  }
}

void TokenShard::read_word_starts(std::uint64_t begin, std::span<std::uint8_t> out) const {
  if (out.empty()) return;
  const std::uint64_t first_byte = begin / 8, end_byte = (begin + out.size() - 1) / 8 + 1;
  const auto bytes = words_.span(first_byte, end_byte);
  for (std::size_t i = 0; i < out.size(); ++i) {
    const std::uint64_t bit = begin + i;
    out[i] = bytes[bit / 8 - first_byte] >> (bit % 8) & 1u;
  }
}

std::uint64_t TokenShard::document_of(std::uint64_t token) const {
  std::uint64_t first = 0, end = num_documents();
  while (end - first > 1) {
    const std::uint64_t middle = first + (end - first) / 2;
    (sentence_begin(document_begin(middle)) <= token ? first : end) = middle;
  }
  return first;
}

TokenizedDocument TokenShard::document(std::uint64_t i) const {
  TokenizedDocument document;
  read_document(i, document);
  return document;
}

void TokenShard::read_document(std::uint64_t i, TokenizedDocument& document) const {
  const std::uint64_t first = document_begin(i), last = document_begin(i + 1);
  if (first > last || last > num_sentences()) throw_out_of_order("documents");
  const std::uint64_t begin = sentence_begin(first), end = sentence_begin(last);
  if (begin > end || end > num_tokens_) throw_out_of_order("sentences");
  document.ids.resize(end - begin);
  document.word_starts.resize(end - begin);
  read_ids(begin, document.ids);
  read_word_starts(begin, document.word_starts);
  document.sentence_ends.clear();
  for (std::uint64_t sentence = first; sentence < last; ++sentence) {
    document.sentence_ends.push_back(
        static_cast<std::uint32_t>(sentence_begin(sentence + 1) - begin));
  }
}

void TokenShard::throw_out_of_order(std::string_view what) const {
  throw_input_error(
      "{}: the {} are not in increasing order; rebuild the corpus with prepare_corpus",
      folder_.string(), what);
}

void TokenShard::release() const {
  (wide_ ? wide_tokens_.file() : narrow_tokens_.file()).release();
  words_.file().release();
  sentences_.file().release();
  documents_.file().release();
}

FileDigests TokenShard::digests() const {
  const CorpusFile& tokens = wide_ ? wide_tokens_.file() : narrow_tokens_.file();
  return {{"tokens.bin", tokens.digest()},
          {"words.bin", words_.file().digest()},
          {"sentences.bin", sentences_.file().digest()},
          {"documents.bin", documents_.file().digest()}};
}

void TokenShard::verify() const {
  (wide_ ? wide_tokens_.file() : narrow_tokens_.file()).verify();
  words_.file().verify();
  sentences_.file().verify();
  documents_.file().verify();
  const auto increasing = [&](const CorpusArray<std::uint64_t>& array, const char* what) {
    const auto values = array.span(0, array.size());
    const auto fault = std::adjacent_find(values.begin(), values.end(), std::greater_equal<>());
    if (values[0] != 0 || fault != values.end()) throw_out_of_order(what);
  };
  increasing(sentences_, "sentences");
  increasing(documents_, "documents");
  std::vector<std::int32_t> ids(std::size_t{1} << 16);
  for (std::uint64_t begin = 0; begin < num_tokens_; begin += ids.size()) {
    ids.resize(std::min<std::uint64_t>(ids.size(), num_tokens_ - begin));
    read_ids(begin, ids);
  }
}

}  // namespace bert
