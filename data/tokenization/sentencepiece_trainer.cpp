#include "data/tokenization/sentencepiece_trainer.h"

#include <algorithm>
#include <cstdint>
#include <regex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sentencepiece_trainer.h>

#include "runtime/error.h"
#include "runtime/philox.h"

namespace bert {
namespace {

// A random sample of lines of at most so many bytes, out of any number of them in one pass: each
// line draws a number, and those with the smallest stay (reservoir sampling by keys; Efraimidis and
// Spirakis 2006).
class LineSample {
 public:
  explicit LineSample(std::uint64_t max_bytes) : max_bytes_(max_bytes) {}

  void add(std::string line) {
    PhiloxStream random(kSeed, 0, index_);
    const std::uint64_t high = random.next_u32();
    heap_.push_back({high << 32 | random.next_u32(), index_++, std::move(line)});
    bytes_ += heap_.back().text.size();
    std::push_heap(heap_.begin(), heap_.end());
    while (bytes_ > max_bytes_ && heap_.size() > 1) {
      std::pop_heap(heap_.begin(), heap_.end());
      bytes_ -= heap_.back().text.size();
      heap_.pop_back();
    }
  }
  // In the order of the text.
  std::vector<std::string> take() {
    std::sort(heap_.begin(), heap_.end(),
              [](const Line& a, const Line& b) { return a.index < b.index; });
    std::vector<std::string> lines;
    lines.reserve(heap_.size());
    for (Line& line : heap_) lines.push_back(std::move(line.text));
    heap_.clear();
    return lines;
  }

 private:
  static constexpr std::uint64_t kSeed = 0x53656e74656e6365;
  struct Line {
    std::uint64_t key, index;
    std::string text;
    bool operator<(const Line& other) const {
      return key != other.key ? key < other.key : index < other.index;
    }
  };
  std::uint64_t max_bytes_, bytes_ = 0, index_ = 0;
  std::vector<Line> heap_;  // the largest key first
};

class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  explicit LineIterator(const std::vector<std::string>& lines) : lines_(lines) {}
  bool done() const override { return next_ == lines_.size(); }
  void Next() override { ++next_; }
  const std::string& value() const override { return lines_[next_]; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& lines_;
  std::size_t next_ = 0;
};

// What the library says, without the names of its own options where it is one of two that occur.
std::string cause_of(std::string status) {
  std::smatch found;
  if (std::regex_search(status, found, std::regex("size too high .*<= ([0-9]+)"))) {
    return fmt::format("it is enough for {} entries at most", found.str(1));
  }
  if (std::regex_search(status, found, std::regex("required_chars.*[0-9]+ vs ([0-9]+)"))) {
    return fmt::format("its characters and the special tokens alone need {}", found.str(1));
  }
  // "Internal: file(line) [condition] what it means": the last part is for users.
  const std::size_t bracket = status.rfind("] ");
  return bracket == std::string::npos ? status : status.substr(bracket + 2);
}

}  // namespace

TrainedSentencepiece train_sentencepiece(const std::vector<std::string>& files,
                                         const SentencepieceTrainerOptions& options) {
  if (options.type != "unigram" && options.type != "bpe") {
    throw_input_error("unknown SentencePiece model '{}': expected unigram or bpe", options.type);
  }
  const std::unordered_map<std::string, std::string> arguments{
      {"model_type", options.type},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", "0.9999"},  // characters beyond become [UNK]
      {"normalization_rule_name", options.cased ? "nmt_nfkc" : "nmt_nfkc_cf"},
      {"pad_id", "0"},
      {"unk_id", "1"},
      {"bos_id", "2"},
      {"eos_id", "3"},
      {"pad_piece", "[PAD]"},
      {"unk_piece", "[UNK]"},
      {"bos_piece", "[CLS]"},
      {"eos_piece", "[SEP]"},
      {"control_symbols", "[MASK]"},
      {"max_sentence_length", std::to_string(1 << 24)},  // or it drops longer lines
      // Its sums, and so its result, depend on the number of its threads: that stays fixed.
      {"num_threads", "4"},
      {"minloglevel", "2"},
  };
  TrainedSentencepiece trained;
  std::vector<std::string> lines;
  {
    LineSample sample(options.max_bytes);
    TextReader reader(files, options.reader);
    for (std::string_view line; reader.next_line(line);) sample.add(std::string(line));
    trained.text = reader.stats();
    lines = sample.take();
  }
  trained.lines = lines.size();
  LineIterator iterator(lines);
  const auto status =
      sentencepiece::SentencePieceTrainer::Train(arguments, &iterator, &trained.model);
  if (!status.ok()) {
    throw_input_error("SentencePiece cannot train a --vocab-size of {} from this text: {}",
                      options.vocab_size, cause_of(status.ToString()));
  }
  return trained;
}

}  // namespace bert
