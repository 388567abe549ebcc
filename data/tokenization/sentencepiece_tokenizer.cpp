#include "data/tokenization/sentencepiece_tokenizer.h"

#include <initializer_list>
#include <utility>

#include <sentencepiece_processor.h>
#include <xxhash.h>

#include "data/text/unicode.h"
#include "data/tokenization/wire_format.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::string_view kWordStart = "\xe2\x96\x81";  // U+2581

bool is_readable(std::string_view message) {
  WireReader reader(message);
  while (reader.next()) {
  }
  return reader.ok();
}

std::int32_t find_special(const sentencepiece::SentencePieceProcessor& processor,
                          std::string_view source, const std::string& name,
                          std::initializer_list<const char*> usual, int from_model) {
  const auto id_of = [&](std::string_view piece) {
    // Older versions of the library have a string_view of their own.
    const int id = processor.PieceToId({piece.data(), piece.size()});
    return id >= 0 && processor.IdToPiece(id) == piece ? id : -1;
  };
  if (!name.empty()) {
    if (const int id = id_of(name); id >= 0) return id;
    throw_input_error("{} has no piece '{}'", source, name);
  }
  for (const char* candidate : usual) {
    if (const int id = id_of(candidate); id >= 0) return id;
  }
  if (from_model >= 0) return from_model;
  throw_input_error(
      "{} has no special token {}: add it when the model is trained "
      "(train_tokenizer does so)",
      source, *usual.begin());
}

}  // namespace

SentencepieceTokenizer::SentencepieceTokenizer(std::string model, std::string_view source,
                                               const SpecialTokenNames& names)
    : model_(std::move(model)),
      processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  // The library skips kinds of fields that are not read here; no model has any.
  if (!is_readable(model_) || !processor_->LoadFromSerializedProto(model_).ok() ||
      processor_->GetPieceSize() == 0) {
    throw_input_error("{} is damaged, or is no SentencePiece model", source);
  }
  for (int id = 0; id < processor_->GetPieceSize(); ++id) {
    pieces_.push_back(processor_->IdToPiece(id));
    if (!is_valid_utf8(pieces_.back())) {
      throw_input_error("{} is damaged: its piece {} is not valid UTF-8", source, id);
    }
  }
  const auto& p = *processor_;
  special_.unk = find_special(p, source, names.unk, {"[UNK]", "<unk>"}, p.unk_id());
  special_.pad = find_special(p, source, names.pad, {"[PAD]", "<pad>"}, p.pad_id());
  special_.cls = find_special(p, source, names.cls, {"[CLS]", "<s>"}, p.bos_id());
  special_.sep = find_special(p, source, names.sep, {"[SEP]", "</s>"}, p.eos_id());
  special_.mask = find_special(p, source, names.mask, {"[MASK]", "<mask>"}, -1);
  special_splitter_ = SpecialSplitter(*this);
}

SentencepieceTokenizer::~SentencepieceTokenizer() = default;

void SentencepieceTokenizer::encode(std::string_view text, std::vector<Token>& out,
                                    bool parse_special_tokens) const {
  special_splitter_.encode(
      text, parse_special_tokens, out,
      [&](std::string_view part, std::uint32_t offset) { encode_plain(part, offset, out); });
}

void SentencepieceTokenizer::encode_plain(std::string_view text, std::uint32_t offset,
                                          std::vector<Token>& out) const {
  if (text.empty()) return;
  // A SentencePieceText: pieces are field 2, with id (2), begin (4) and end (5) in bytes. Read as
  // it is serialized, because the classes to read it with differ between the library's versions.
  const std::string encoded = processor_->EncodeAsSerializedProto({text.data(), text.size()});
  WireReader reader(encoded);
  while (const auto field = reader.next()) {
    if (field->number != 2) continue;
    Token token;
    WireReader fields(field->bytes);
    while (const auto part = fields.next()) {
      const auto value = static_cast<std::uint32_t>(part->value);
      if (part->number == 2) token.id = static_cast<std::int32_t>(value);
      if (part->number == 4) token.begin = value;
      if (part->number == 5) token.end = value;
    }
    token.starts_word = starts_word(token.id);
    // The space before a word belongs to its first piece; it is not what the piece shows.
    while (token.begin < token.end && text[token.begin] == ' ') ++token.begin;
    token.begin += offset;
    token.end += offset;
    out.push_back(token);
  }
  BERT_CHECK(reader.ok(), "what SentencePiece returned cannot be read");
}

std::string SentencepieceTokenizer::decode(const std::vector<std::int32_t>& ids) const {
  std::string text;
  std::vector<int> plain;
  const auto flush = [&] {
    if (plain.empty()) return;
    const bool spaced = starts_word(plain.front());
    std::string part;
    BERT_CHECK(processor_->Decode(plain, &part).ok());
    if (spaced && !text.empty()) text += ' ';
    text += part;
    plain.clear();
  };
  for (const std::int32_t id : ids) {
    if (!is_special(id)) {
      BERT_CHECK(id >= 0 && id < vocab_size(), "id {} in a vocabulary of {}", id, vocab_size());
      plain.push_back(id);
      continue;
    }
    flush();
    if (!text.empty() && id != special_.unk) text += ' ';
    text += piece(id);
  }
  flush();
  return text;
}

std::string_view SentencepieceTokenizer::piece(std::int32_t id) const {
  BERT_CHECK(id >= 0 && id < vocab_size(), "id {} in a vocabulary of {}", id, vocab_size());
  return pieces_[static_cast<std::size_t>(id)];
}

bool SentencepieceTokenizer::starts_word(std::int32_t id) const {
  return piece(id).starts_with(kWordStart) && !is_special(id);
}

void SentencepieceTokenizer::save(const std::filesystem::path& folder) const {
  save_sentencepiece(*this, folder);
}

std::string SentencepieceTokenizer::fingerprint() const {
  const std::string all =
      model_ + fmt::format("sentencepiece {} {} {} {} {}", special_.pad, special_.unk, special_.cls,
                           special_.sep, special_.mask);
  return fmt::format("{:016x}", XXH64(all.data(), all.size(), 0));
}

}  // namespace bert
