#include "train/inference/mask_filling.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string_view>

#include "runtime/error.h"
#include "runtime/tensor_copy.h"
#include "train/tasks/task_sequences.h"

namespace bert {
namespace {

// The likeliest ids under softmax(logits), over the whole vocabulary; the lower id among equals.
std::vector<TokenPrediction> likeliest(const double* logits, std::int64_t vocab_size, int top_k) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(vocab_size));
  std::iota(order.begin(), order.end(), 0);
  const auto kept = std::min<std::ptrdiff_t>(top_k, vocab_size);
  std::partial_sort(order.begin(), order.begin() + kept, order.end(),
                    [&](std::int32_t a, std::int32_t b) {
                      return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
                    });
  const double largest = *std::max_element(logits, logits + vocab_size);
  double sum = 0.0;
  for (std::int64_t i = 0; i < vocab_size; ++i) sum += std::exp(logits[i] - largest);
  std::vector<TokenPrediction> result;
  for (std::ptrdiff_t i = 0; i < kept; ++i) {
    const std::int32_t id = order[static_cast<std::size_t>(i)];
    result.push_back({id, std::exp(logits[id] - largest) / sum});
  }
  return result;
}

// Parts of a text one after the other, and runs of ids decoded together so that words are joined.
class TextBuilder {
 public:
  explicit TextBuilder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add(std::int32_t id) { run_.push_back(id); }
  void add_apart(const std::string& part) {
    flush();
    write(part);
  }
  std::string finish() {
    flush();
    return std::move(text_);
  }

 private:
  void flush() {
    if (run_.empty()) return;
    write(tokenizer_.decode(run_));
    run_.clear();
  }
  void write(const std::string& part) {
    // As decode() does inside a run: no space before these, but for a prediction ("?[97.6%]"), of
    // which it must be told where it begins.
    constexpr std::string_view kClosing = ".?!,";
    const bool closing = !part.empty() && kClosing.find(part[0]) != kClosing.npos &&
                         (part.size() == 1 || part[1] == ' ');
    if (!text_.empty() && !part.empty() && !closing) text_ += ' ';
    text_ += part;
  }

  const Tokenizer& tokenizer_;
  std::string text_;
  std::vector<std::int32_t> run_;
};

// Calls with_row(row, index) for each token of a sequence but the [CLS] and [SEP] around it;
// `index`: its place among the masked rows of the batch, or -1.
template <typename WithRow>
void for_each_token(const Tokenizer& tokenizer, const Batch& batch, std::int64_t sequence,
                    const WithRow& with_row) {
  const auto b = static_cast<std::size_t>(sequence);
  std::int32_t begin = batch.cu_seqlens[b], end = batch.cu_seqlens[b + 1];
  const auto id = [&](std::int32_t row) { return batch.input_ids[static_cast<std::size_t>(row)]; };
  if (begin < end && id(begin) == tokenizer.special().cls) ++begin;
  if (begin < end && id(end - 1) == tokenizer.special().sep) --end;
  auto masked = std::lower_bound(batch.masked_rows.begin(), batch.masked_rows.end(), begin);
  for (std::int32_t row = begin; row < end; ++row) {
    if (masked != batch.masked_rows.end() && *masked == row) {
      with_row(id(row), masked - batch.masked_rows.begin());
      ++masked;
    } else {
      with_row(id(row), std::ptrdiff_t{-1});
    }
  }
}

}  // namespace

std::vector<std::vector<TokenPrediction>> predict_masked(BertForPretraining& model, Device& device,
                                                         DeviceBatch& memory, const Batch& batch,
                                                         int top_k) {
  BERT_CHECK(top_k >= 1);
  if (batch.num_masked() == 0) return {};
  model.forward(memory.upload(batch), nullptr);
  const std::int64_t stride = model.mlm_logits().dim(-1);
  const std::vector<double> logits =
      copy_to_doubles(device, model.mlm_logits().slice(0, batch.num_masked()));
  std::vector<std::vector<TokenPrediction>> predictions;
  for (std::int64_t row = 0; row < batch.num_masked(); ++row) {
    predictions.push_back(
        likeliest(logits.data() + row * stride, model.config().vocab_size, top_k));
  }
  return predictions;
}

TaskSequence sequence_with_masks(const Tokenizer& tokenizer, const std::string& text,
                                 std::int64_t max_length) {
  const SpecialTokens& special = tokenizer.special();
  std::vector<Token> tokens;
  tokenizer.encode(text, tokens, true);
  const auto length = static_cast<std::int64_t>(tokens.size()) + 2;
  if (length > max_length) {
    throw_input_error("the text has {} tokens with [CLS] and [SEP], the model takes {}: \"{}...\"",
                      length, max_length, text.substr(0, 40));
  }
  TaskSequence sequence = assemble_sequence(special, tokens, {}, /*is_pair=*/false);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].id != special.mask) continue;
    sequence.rows.push_back(static_cast<std::int32_t>(i) + 1);
    sequence.row_labels.push_back(special.mask);
  }
  if (sequence.rows.empty()) {
    throw_input_error("nothing to fill in: write {} for each token to be predicted in \"{}\"",
                      tokenizer.piece(special.mask), text);
  }
  return sequence;
}

std::string show_piece(const Tokenizer& tokenizer, std::int32_t id) {
  constexpr std::string_view kSpace = "\u2581", kContinuation = "##";
  // A model's vocabulary may be rounded up beyond its tokenizer's.
  if (id >= tokenizer.vocab_size()) return fmt::format("[id {}]", id);
  const std::string_view piece = tokenizer.piece(id);
  const SpecialTokens& special = tokenizer.special();
  const bool is_special = id == special.pad || id == special.unk || id == special.cls ||
                          id == special.sep || id == special.mask;
  if (piece.starts_with(kSpace) && piece.size() > kSpace.size()) {
    return std::string(piece.substr(kSpace.size()));
  }
  if (is_special || tokenizer.starts_word(id) || piece.starts_with(kContinuation)) {
    return std::string(piece);
  }
  return fmt::format("{}{}", kContinuation, piece);
}

std::string show_predictions(const Tokenizer& tokenizer, const Batch& batch,
                             const std::vector<std::vector<TokenPrediction>>& predictions,
                             std::int64_t sequence) {
  TextBuilder text(tokenizer);
  for_each_token(tokenizer, batch, sequence, [&](std::int32_t id, std::ptrdiff_t index) {
    if (index < 0) return text.add(id);
    const TokenPrediction& best = predictions.at(static_cast<std::size_t>(index)).at(0);
    text.add_apart(
        fmt::format("{}[{:.1f}%]", show_piece(tokenizer, best.id), 100.0 * best.probability));
  });
  return text.finish();
}

std::string show_masked(const Tokenizer& tokenizer, const Batch& batch, std::int64_t sequence) {
  TextBuilder text(tokenizer);
  for_each_token(tokenizer, batch, sequence,
                 [&](std::int32_t id, std::ptrdiff_t) { text.add(id); });
  return text.finish();
}

std::string show_original(const Tokenizer& tokenizer, const Batch& batch, std::int64_t sequence) {
  TextBuilder text(tokenizer);
  for_each_token(tokenizer, batch, sequence, [&](std::int32_t id, std::ptrdiff_t index) {
    text.add(index < 0 ? id : batch.masked_targets[static_cast<std::size_t>(index)]);
  });
  return text.finish();
}

}  // namespace bert
