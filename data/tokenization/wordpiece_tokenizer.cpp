#include "data/tokenization/wordpiece_tokenizer.h"

#include <algorithm>
#include <iterator>
#include <unordered_map>
#include <utility>

#include <xxhash.h>

#include "data/text/unicode.h"
#include "data/tokenization/wordpiece_files.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::string_view kContinuation = "##";

// What Hugging Face's decoder puts no space before.
bool closes_up(std::string_view piece) {
  constexpr std::string_view kClosing[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
  return std::any_of(std::begin(kClosing), std::end(kClosing),
                     [&](std::string_view closing) { return piece.starts_with(closing); });
}

}  // namespace

WordpieceOptions wordpiece_options(bool cased, CompatMode mode) {
  WordpieceOptions options;
  options.splitter.mode = mode;
  options.splitter.lowercase = options.splitter.strip_accents = !cased;
  options.max_word_chars = mode == CompatMode::kGoogle ? 200 : 100;
  return options;
}

WordpieceTokenizer::WordpieceTokenizer(std::vector<std::string> pieces, WordpieceOptions options,
                                       std::string_view source)
    : pieces_(std::move(pieces)), options_(std::move(options)), splitter_(options_.splitter) {
  if (pieces_.empty()) throw_input_error("{} holds no entries", source);
  std::unordered_map<std::string_view, std::int32_t> ids;
  std::vector<std::pair<std::string_view, std::int32_t>> initial, continuing;
  // A piece longer than any word that is cut cannot match.
  const auto add = [&](auto& list, std::string_view piece, std::int32_t id) {
    if (count_utf8(piece) <= options_.max_word_chars) list.emplace_back(piece, id);
  };
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    const std::string_view text = pieces_[i];
    const auto id = static_cast<std::int32_t>(i);
    if (text.empty()) {
      throw_input_error("{}: entry {} (line {}) is empty; a vocabulary has one piece a line",
                        source, i, i + 1);
    }
    if (!is_valid_utf8(text)) {
      throw_input_error("{}: entry {} (line {}) is not valid UTF-8", source, i, i + 1);
    }
    const auto [first, inserted] = ids.emplace(text, id);
    if (!inserted) {
      throw_input_error("{}: '{}' is there twice, as entries {} and {} (lines {} and {})", source,
                        text, first->second, i, first->second + 1, i + 1);
    }
    add(initial, text, id);
    if (text.starts_with(kContinuation) && text.size() > kContinuation.size()) {
      add(continuing, text.substr(kContinuation.size()), id);
    }
  }
  is_special_.assign(pieces_.size(), false);
  const auto find_special = [&](const std::string& name) {
    const auto found = ids.find(name);
    if (found == ids.end()) {
      throw_input_error(
          "{} has no special token {}; a BERT vocabulary has [PAD], [UNK], [CLS], "
          "[SEP] and [MASK] (or what tokenizer_config.json calls them)",
          source, name);
    }
    is_special_[static_cast<std::size_t>(found->second)] = true;
    return found->second;
  };
  special_.pad = find_special(options_.special.pad);
  special_.unk = find_special(options_.special.unk);
  special_.cls = find_special(options_.special.cls);
  special_.sep = find_special(options_.special.sep);
  special_.mask = find_special(options_.special.mask);
  for (const std::string& name : options_.extra_special) find_special(name);
  matcher_ = WordpieceMatcher(std::move(initial), std::move(continuing));
  special_splitter_ = SpecialSplitter(*this);
}

void WordpieceTokenizer::encode(std::string_view text, std::vector<Token>& out,
                                bool parse_special_tokens) const {
  special_splitter_.encode(
      text, parse_special_tokens, out,
      [&](std::string_view part, std::uint32_t offset) { encode_plain(part, offset, out); });
}

void WordpieceTokenizer::encode_plain(std::string_view text, std::uint32_t offset,
                                      std::vector<Token>& out) const {
  WordSplitter::Scanner scanner(splitter_, text);
  SplitWord word;
  while (scanner.next(word)) encode_word(word, offset, out);
}

void WordpieceTokenizer::encode_word(const SplitWord& word, std::uint32_t offset,
                                     std::vector<Token>& out) const {
  const std::size_t tokens_before = out.size();
  const std::string_view text = word.text;
  const bool known =
      (text.size() <= options_.max_word_chars || count_utf8(text) <= options_.max_word_chars) &&
      matcher_.match(text, [&](std::int32_t id, std::size_t begin, std::size_t end) {
        Token token;
        token.id = id;
        token.begin =
            offset + (word.bytes == nullptr ? word.begin + static_cast<std::uint32_t>(begin)
                                            : word.bytes[begin].begin);
        token.end = offset + (word.bytes == nullptr ? word.begin + static_cast<std::uint32_t>(end)
                                                    : word.bytes[end - 1].end);
        token.starts_word = begin == 0;
        out.push_back(token);
      });
  if (known) return;
  out.resize(tokens_before);
  out.push_back({special_.unk, offset + word.begin, offset + word.end, true});
}

std::string WordpieceTokenizer::decode(const std::vector<std::int32_t>& ids) const {
  std::string text;
  for (const std::int32_t id : ids) {
    const std::string_view part = piece(id);
    if (text.empty()) {
      text += part;
    } else if (part.starts_with(kContinuation) && part.size() > kContinuation.size()) {
      text += part.substr(kContinuation.size());
    } else {
      if (!closes_up(part)) text += ' ';
      text += part;
    }
  }
  return text;
}

std::string_view WordpieceTokenizer::piece(std::int32_t id) const {
  BERT_CHECK(id >= 0 && id < vocab_size(), "id {} in a vocabulary of {}", id, vocab_size());
  return pieces_[static_cast<std::size_t>(id)];
}

bool WordpieceTokenizer::starts_word(std::int32_t id) const {
  return id == special_.unk || (!piece(id).starts_with(kContinuation) && !is_special(id));
}

void WordpieceTokenizer::save(const std::filesystem::path& folder) const {
  save_wordpiece(*this, folder);
}

std::string WordpieceTokenizer::fingerprint() const {
  std::string all;
  for (const std::string& text : pieces_) (all += text) += '\n';
  const WordSplitterOptions& s = options_.splitter;
  all += fmt::format("wordpiece {} {} {} {} {} {} {} {} {} {} {}", compat_mode_name(s.mode),
                     s.lowercase, s.strip_accents, s.split_ideographs, s.clean_text,
                     options_.max_word_chars, special_.pad, special_.unk, special_.cls,
                     special_.sep, special_.mask);
  return fmt::format("{:016x}", XXH64(all.data(), all.size(), 0));
}

}  // namespace bert
