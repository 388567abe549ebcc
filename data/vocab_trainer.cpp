#include "data/vocab_trainer.h"

#include <algorithm>
#include <map>
#include <queue>
#include <set>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "data/unicode.h"
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
    const SpecialTokenNames& special = options_.special;
    for (const std::string& name :
         {special.pad, special.unk, special.cls, special.sep, special.mask}) {
      vocab_.add(name);
    }
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
    std::vector<Symbol> symbols;
    std::int64_t count = 0;
  };
  struct Pair {
    std::int64_t count = 0;
    std::vector<std::uint32_t> words;  // where it may occur; a word may be there in vain
  };
  struct Candidate {
    std::int64_t count;
    std::uint64_t key;
    bool operator<(const Candidate& other) const {  // the top is the greatest
      return count != other.count ? count < other.count : key > other.key;
    }
  };

  bool is_learned_from(const std::string& word) const {
    return count_utf8(word) <= options_.max_word_chars;
  }

  void make_alphabet() {
    std::map<char32_t, std::uint64_t> frequency;
    std::set<char32_t> continuing;  // punctuation and ideographs never are
    for (const auto& [word, count] : counts_.words) {
      if (!is_learned_from(word)) continue;
      for (std::size_t i = 0; i < word.size();) {
        const DecodedChar c = decode_utf8(word, i);
        frequency[c.code] += count;
        if (i > 0) continuing.insert(c.code);
        i += c.size;
      }
    }
    if (frequency.empty()) throw_input_error("the text holds no words to learn a vocabulary from");
    std::vector<std::pair<char32_t, std::uint64_t>> characters(frequency.begin(), frequency.end());
    const auto limit = static_cast<std::size_t>(std::max(1, options_.max_alphabet));
    if (characters.size() > limit) {
      std::stable_sort(characters.begin(), characters.end(),
                       [](const auto& a, const auto& b) { return a.second > b.second; });
      result_.characters_left_out = static_cast<std::int32_t>(characters.size() - limit);
      characters.resize(limit);
      std::sort(characters.begin(), characters.end());
    }
    result_.alphabet = static_cast<std::int32_t>(characters.size());
    for (const auto& item : characters) vocab_.add(to_utf8({&item.first, 1}));
    for (const auto& item : characters) {
      if (!continuing.contains(item.first)) continue;
      vocab_.add(std::string(kContinuation) + to_utf8({&item.first, 1}));
    }
    if (vocab_.size() > options_.vocab_size) {
      throw_input_error(
          "a vocabulary of {} has no room for the {} characters of the text: they and "
          "the special tokens need {}; ask for a larger vocabulary, or limit the "
          "alphabet to fewer characters",
          options_.vocab_size, result_.alphabet, vocab_.size());
    }
  }

  // Words as characters, and the pairs in them. A word with a character that was left out is [UNK]
  // whatever is learned: it is passed over.
  void spell_words() {
    for (const auto& [text, count] : counts_.words) {
      if (!is_learned_from(text)) continue;
      Word word;
      word.count = static_cast<std::int64_t>(count);
      for (std::size_t i = 0; i < text.size();) {
        const std::size_t size = decode_utf8(text, i).size;
        std::string piece = text.substr(i, size);
        if (i > 0) piece.insert(0, kContinuation);
        const Symbol symbol = vocab_.find(piece);
        if (symbol < 0) break;
        word.symbols.push_back(symbol);
        i += size;
      }
      if (word.symbols.size() < 2 || word.symbols.size() != count_utf8(text)) continue;
      const auto index = static_cast<std::uint32_t>(words_.size());
      for (std::size_t i = 0; i + 1 < word.symbols.size(); ++i) {
        Pair& pair = pairs_[pair_key(word.symbols[i], word.symbols[i + 1])];
        pair.count += word.count;
        if (pair.words.empty() || pair.words.back() != index) pair.words.push_back(index);
      }
      words_.push_back(std::move(word));
    }
    for (const auto& [key, pair] : pairs_) queue_.push({pair.count, key});
  }

  // Makes the most frequent pair a piece; false when none is frequent enough.
  bool merge_next() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      queue_.pop();
      const auto found = pairs_.find(top.key);
      if (found == pairs_.end()) continue;
      if (found->second.count != top.count) {  // it has lost occurrences since it was queued
        if (found->second.count > 0 && found->second.count < top.count) {
          queue_.push({found->second.count, top.key});
        }
        continue;
      }
      if (top.count < 1 || top.count < static_cast<std::int64_t>(options_.min_frequency)) {
        return false;
      }
      merge(top.key, std::move(found->second.words));
      pairs_.erase(top.key);
      return true;
    }
    return false;
  }

  void merge(std::uint64_t key, std::vector<std::uint32_t> where) {
    const auto first = static_cast<Symbol>(key >> 32);
    const auto second = static_cast<Symbol>(key & 0xFFFFFFFFu);
    const std::string merged =
        vocab_.text(first) + vocab_.text(second).substr(kContinuation.size());
    const Symbol symbol = vocab_.add(merged);
    grown_.clear();
    for (const std::uint32_t index : where) {
      Word& word = words_[index];
      std::vector<Symbol>& s = word.symbols;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < s.size(); ++kept) {
        if (i + 1 == s.size() || s[i] != first || s[i + 1] != second) {
          s[kept] = s[i++];
          continue;
        }
        // The neighbours' pairs change; on the left stands what is already merged.
        if (kept > 0) {
          change(s[kept - 1], first, -word.count, index);
          change(s[kept - 1], symbol, word.count, index);
        }
        if (i + 2 < s.size()) {
          change(second, s[i + 2], -word.count, index);
          change(symbol, s[i + 2], word.count, index);
        }
        s[kept] = symbol;
        i += 2;
      }
      s.resize(kept);
    }
    std::sort(grown_.begin(), grown_.end());
    grown_.erase(std::unique(grown_.begin(), grown_.end()), grown_.end());
    for (const std::uint64_t changed : grown_) {
      const auto found = pairs_.find(changed);
      if (found->second.count > 0 && changed != key) queue_.push({found->second.count, changed});
    }
  }

  void change(Symbol a, Symbol b, std::int64_t by, std::uint32_t word) {
    const std::uint64_t key = pair_key(a, b);
    Pair& pair = pairs_[key];
    pair.count += by;
    if (by < 0) return;
    grown_.push_back(key);
    if (pair.words.empty() || pair.words.back() != word) pair.words.push_back(word);
  }

  const WordCounts& counts_;
  const VocabTrainerOptions& options_;
  TrainedVocab result_;
  Vocab vocab_;
  std::vector<Word> words_;
  std::unordered_map<std::uint64_t, Pair, PairHash> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<std::uint64_t> grown_;
};

}  // namespace

TrainedVocab train_wordpiece(const WordCounts& counts, const VocabTrainerOptions& options) {
  return PairMerger(counts, options).run();
}

}  // namespace bert
