#include <exception>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <sentencepiece_trainer.h>

#include "data/sentencepiece_tokenizer.h"
#include "data/text_reader.h"
#include "runtime/error.h"

namespace bert {
namespace {

// The lines of text files, for the trainer. What the reader throws is kept, not thrown through the
// library.
class LineIterator final : public sentencepiece::SentenceIterator {
 public:
  LineIterator(const std::vector<std::string>& files, const TextReaderOptions& options)
      : reader_(files, options) {
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }
  std::exception_ptr error() const { return error_; }

  void Next() override {
    if (done_) return;
    try {
      if (next_ == lines_.size()) {
        next_ = 0;
        if (!reader_.next_document(lines_)) {
          done_ = true;
          return;
        }
      }
      line_ = std::move(lines_[next_++]);
    } catch (...) {
      error_ = std::current_exception();
      done_ = true;
    }
  }

 private:
  TextReader reader_;
  std::vector<std::string> lines_;
  std::size_t next_ = 0;
  std::string line_;
  bool done_ = false;
  std::exception_ptr error_;
};

}  // namespace

std::string train_sentencepiece(const std::vector<std::string>& files,
                                const SentencepieceTrainerOptions& options) {
  if (options.type != "unigram" && options.type != "bpe") {
    throw_input_error("unknown SentencePiece model '{}': expected unigram or bpe", options.type);
  }
  const std::unordered_map<std::string, std::string> arguments{
      {"model_type", options.type},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", fmt::format("{}", options.character_coverage)},
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
  TextReaderOptions reader;
  reader.refuse_invalid_utf8 = options.refuse_invalid_utf8;
  LineIterator lines(files, reader);
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(arguments, &lines, &model);
  if (lines.error()) std::rethrow_exception(lines.error());
  if (!status.ok()) {
    // "Internal: file(line) [condition] what it means": the last part is for users.
    std::string cause = status.ToString();
    if (const std::size_t bracket = cause.rfind("] "); bracket != std::string::npos) {
      cause.erase(0, bracket + 2);
    }
    throw_input_error("SentencePiece cannot train a vocabulary of {} from this text: {}",
                      options.vocab_size, cause);
  }
  return model;
}

}  // namespace bert
