#include "data/tokenization/vocab_trainer.h"

#include <algorithm>
#include <queue>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "data/text/unicode.h"
#include "runtime/error.h"

namespace bert {
namespace {

using Symbol = std::int32_t;  // an id of the vocabulary that is being made
constexpr std::string_view kContinuation = "##";

struct PairHash {
  std::size_t operator()(std::uint64_t key) const {
    key ^= key >> 31;  // the ids are small: spread them over all bits
    key *= 0x9E3779B97F4A7C15u;
    return static_cast<std::size_t>(key ^ (key >> 29));
  }
};

std::uint64_t pair_key(Symbol a, Symbol b) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(a)) << 32) |
         static_cast<std::uint32_t>(b);
}
Symbol first_of(std::uint64_t key) { return static_cast<Symbol>(key >> 32); }
Symbol second_of(std::uint64_t key) { return static_cast<Symbol>(key & 0xFFFFFFFFu); }

// The vocabulary as it grows.
class Vocab {
 public:
  Symbol add(std::string text) {
    const auto [found, inserted] = ids_.emplace(std::move(text), size());
    if (inserted) pieces_.push_back(found->first);
    return found->second;
  }
  Symbol size() const { return static_cast<Symbol>(ids_.size()); }
  const std::string& text(Symbol id) const { return pieces_[static_cast<std::size_t>(id)]; }
  Symbol find(const std::string& text) const {
    const auto found = ids_.find(text);
    return found == ids_.end() ? -1 : found->second;
  }
  std::vector<std::string> take() { return std::move(pieces_); }

 private:
  std::unordered_map<std::string, Symbol> ids_;
  std::vector<std::string> pieces_;
};

class PairMerger {
 public:
  PairMerger(const WordCounts& counts, const VocabTrainerOptions& options)
      : counts_(counts), options_(options) {}

  TrainedVocab run() {
    SpecialTokenNames::for_each(
        [&](const char*, auto name) { vocab_.add(options_.special.*name); });
    make_alphabet();
    spell_words();
    while (vocab_.size() < options_.vocab_size && merge_next()) {
      if (options_.progress && vocab_.size() % 256 == 0) {
        options_.progress(vocab_.size(), options_.vocab_size);
      }
    }
    if (options_.progress) options_.progress(vocab_.size(), options_.vocab_size);
    result_.pieces = vocab_.take();
    return std::move(result_);
  }

 private:
  struct Word {
    std::uint64_t begin;  // in symbols_
    std::uint32_t size;
    std::int64_t count;
  };
  struct Pair {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // where it is, or was
  };
  // In the queue a pair stands at least as high as it should: who pops it looks again.
  struct Candidate {
    double score;
    std::uint64_t key;
    bool operator<(const Candidate& other) const {
      return score != other.score ? score < other.score : key > other.key;
    }
  };

  bool is_learned_from(const std::string& word) const {
    return count_utf8(word) <= options_.max_word_chars;
  }

  void make_alphabet() {
    constexpr std::size_t kCodes = 0x110000;
    std::vector<std::uint64_t> frequency(kCodes);
    std::vector<bool> continuing(kCodes);  // punctuation and ideographs never are
    for (const auto& [word, count] : counts_.words) {
      if (!is_learned_from(word)) continue;
      for (std::size_t i = 0; i < word.size();) {
        const DecodedChar c = decode_utf8(word, i);
        frequency[c.code] += count;
        if (i > 0) continuing[c.code] = true;
        i += c.size;
      }
    }
    std::vector<char32_t> characters;
    for (char32_t code = 0; code < kCodes; ++code) {
      if (frequency[code] > 0) characters.push_back(code);
    }
    if (characters.empty()) throw_input_error("the text holds no words to learn a vocabulary from");
    const auto limit = static_cast<std::size_t>(std::max(1, options_.max_alphabet));
    if (characters.size() > limit) {
      std::stable_sort(characters.begin(), characters.end(),
                       [&](char32_t a, char32_t b) { return frequency[a] > frequency[b]; });
      result_.characters_left_out = static_cast<std::int32_t>(characters.size() - limit);
      characters.resize(limit);
      std::sort(characters.begin(), characters.end());
    }
    result_.alphabet = static_cast<std::int32_t>(characters.size());
    for (const char32_t code : characters) vocab_.add(to_utf8({&code, 1}));
    for (const char32_t code : characters) {
      if (continuing[code]) vocab_.add(std::string(kContinuation) + to_utf8({&code, 1}));
    }
    if (vocab_.size() > options_.vocab_size) {
      throw_input_error(
          "a vocabulary of {} has no room for the {} characters of the text: they and "
          "the special tokens need {}; give a larger --vocab-size or a smaller --max-alphabet",
          options_.vocab_size, result_.alphabet, vocab_.size());
    }
  }

  // Words as characters, and the pairs in them. A word with a character that was left out is [UNK]
  // whatever is learned: it is passed over.
  void spell_words() {
    occurrences_.assign(static_cast<std::size_t>(vocab_.size()), 0);
    std::vector<Symbol> spelled;
    std::string piece;
    for (const auto& [text, count] : counts_.words) {
      if (!is_learned_from(text)) continue;
      spelled.clear();
      for (std::size_t i = 0; i < text.size();) {
        const std::size_t size = decode_utf8(text, i).size;
        piece.assign(i > 0 ? kContinuation : "").append(text, i, size);
        const Symbol symbol = vocab_.find(piece);
        if (symbol < 0) break;
        spelled.push_back(symbol);
        i += size;
      }
      if (spelled.size() != count_utf8(text)) continue;
      const Word word{symbols_.size(), static_cast<std::uint32_t>(spelled.size()),
                      static_cast<std::int64_t>(count)};
      for (const Symbol symbol : spelled) occurrences(symbol) += word.count;
      if (spelled.size() < 2) continue;
      const auto index = static_cast<std::uint32_t>(words_.size());
      for (std::size_t i = 0; i + 1 < spelled.size(); ++i) {
        change(spelled[i], spelled[i + 1], word.count, index);
      }
      symbols_.insert(symbols_.end(), spelled.begin(), spelled.end());
      words_.push_back(word);
      changed_.clear();  // all are queued in the end
    }
    for (const auto& [key, pair] : pairs_) push(key, pair);
  }

  std::int64_t& occurrences(Symbol symbol) {
    return occurrences_[static_cast<std::size_t>(symbol)];
  }

  double score(std::uint64_t key, const Pair& pair) {
    const auto count = static_cast<double>(pair.count);
    if (options_.method == VocabMethod::kFrequency) return count;
    return count / (static_cast<double>(occurrences(first_of(key))) *
                    static_cast<double>(occurrences(second_of(key))));
  }

  bool is_frequent(const Pair& pair) const {
    return pair.count >= 1 && static_cast<std::uint64_t>(pair.count) >= options_.min_frequency;
  }

  void push(std::uint64_t key, const Pair& pair) {
    if (is_frequent(pair)) queue_.push({score(key, pair), key});
  }

  // Makes the best pair a piece; false when none is frequent enough.
  bool merge_next() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(top.key);
      if (found == pairs_.end() || !is_frequent(found->second)) continue;
      // Where its score has fallen since, it goes back; where it has risen, it was queued again.
      if (const double now = score(top.key, found->second); now != top.score) {
        if (now < top.score) queue_.push({now, top.key});
        continue;
      }
      merge(top.key, std::move(found->second.words));
      return true;
    }
    return false;
  }

  void merge(std::uint64_t key, const std::vector<std::uint32_t>& where) {
    const Symbol first = first_of(key), second = second_of(key);
    const std::string merged =
        vocab_.text(first) + vocab_.text(second).substr(kContinuation.size());
    const Symbol symbol = vocab_.add(merged);
    occurrences_.resize(static_cast<std::size_t>(vocab_.size()));
    changed_.clear();
    for (const std::uint32_t index : where) {
      Word& word = words_[index];
      Symbol* const s = symbols_.data() + word.begin;
      std::uint32_t kept = 0;
      for (std::uint32_t i = 0; i < word.size; ++kept) {
        if (i + 1 == word.size || s[i] != first || s[i + 1] != second) {
          s[kept] = s[i++];
          continue;
        }
        occurrences(first) -= word.count;
        occurrences(second) -= word.count;
        occurrences(symbol) += word.count;
        // The neighbours' pairs change; on the left stands what is already merged.
        if (kept > 0) {
          change(s[kept - 1], first, -word.count, index);
          change(s[kept - 1], symbol, word.count, index);
        }
        if (i + 2 < word.size) {
          change(second, s[i + 2], -word.count, index);
          change(symbol, s[i + 2], word.count, index);
        }
        s[kept] = symbol;
        i += 2;
      }
      word.size = kept;
    }
    pairs_.erase(key);
    if (options_.method == VocabMethod::kLikelihood) {
      // Fewer occurrences of the parts raise the scores of all the pairs they are in.
      add_pairs_of(first);
      if (second != first) add_pairs_of(second);
    }
    std::sort(changed_.begin(), changed_.end());
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const std::uint64_t changed : changed_) {
      if (const auto found = pairs_.find(changed); found != pairs_.end()) {
        push(changed, found->second);
      }
    }
  }

  void change(Symbol a, Symbol b, std::int64_t by, std::uint32_t word) {
    const std::uint64_t key = pair_key(a, b);
    const auto [found, inserted] = pairs_.try_emplace(key);
    Pair& pair = found->second;
    pair.count += by;
    if (by < 0) {
      if (pair.count == 0) pairs_.erase(found);
      return;
    }
    changed_.push_back(key);
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
    if (inserted && options_.method == VocabMethod::kLikelihood) {
      pairs_of_.resize(std::max(pairs_of_.size(), static_cast<std::size_t>(vocab_.size())));
      pairs_of_[static_cast<std::size_t>(a)].push_back(key);
      if (a != b) pairs_of_[static_cast<std::size_t>(b)].push_back(key);
    }
  }

  void add_pairs_of(Symbol symbol) {
    std::vector<std::uint64_t>& keys = pairs_of_[static_cast<std::size_t>(symbol)];
    std::erase_if(keys, [&](std::uint64_t key) { return !pairs_.contains(key); });
    changed_.insert(changed_.end(), keys.begin(), keys.end());
  }

  const WordCounts& counts_;
  const VocabTrainerOptions& options_;
  TrainedVocab result_;
  Vocab vocab_;
  std::vector<Symbol> symbols_;
  std::vector<Word> words_;
  std::vector<std::int64_t> occurrences_;  // of each symbol
  std::unordered_map<std::uint64_t, Pair, PairHash> pairs_;
  std::vector<std::vector<std::uint64_t>> pairs_of_;  // of each symbol, for the likelihood alone
  std::priority_queue<Candidate> queue_;
  std::vector<std::uint64_t> changed_;  // pairs whose score may have risen
};

}  // namespace

VocabMethod parse_vocab_method(std::string_view name) {
  if (name == "frequency") return VocabMethod::kFrequency;
  if (name == "likelihood") return VocabMethod::kLikelihood;
  throw_input_error("unknown vocabulary method '{}': expected frequency or likelihood", name);
}

TrainedVocab train_wordpiece(const WordCounts& counts, const VocabTrainerOptions& options) {
  return PairMerger(counts, options).run();
}

}  // namespace bert
