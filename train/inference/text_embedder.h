// Vectors of texts out of a model's hidden states, as sentence-transformers makes them (Reimers and
// Gurevych 2019).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "data/samples/batch.h"
#include "train/inference/inference_session.h"
#include "train/tasks/task.h"

namespace bert {

enum class Pooling {
  cls,     // the last hidden state of [CLS]
  mean,    // the mean over all tokens, [CLS] and [SEP] included
  pooler,  // the pooler's output: what next-sentence prediction or a classifier was trained on
  tokens,  // no pooling: a vector for each token, [CLS] and [SEP] included
};
std::string_view pooling_name(Pooling pooling);
Pooling parse_pooling(std::string_view name);  // InputError naming the possible values

struct EmbeddingOptions {
  std::optional<Pooling> pooling{};          // absent: mean
  std::optional<bool> normalize{};           // to length 1; absent: no
  std::optional<std::int64_t> max_length{};  // tokens, [CLS] and [SEP] included; absent: all that
                                             // the model takes
};

// What the files of sentence-transformers say, if they are there: modules.json and
// 1_Pooling/config.json of pooling and normalising; sentence_bert_config.json of the length. Of the
// former nothing where `options` have a pooling already. InputError naming the file: it is damaged,
// or asks for something that is not done here (pooling by maximum, dense layers).
EmbeddingOptions complete_from_folder(const EmbeddingOptions& options,
                                      const std::filesystem::path& folder);

// A model of what a folder's texts are embedded with: without heads, with the pooler only if it is
// asked for. InputError where the folder has none.
std::unique_ptr<BertModel> make_embedding_model(const std::filesystem::path& folder,
                                                Pooling pooling);

class TextEmbedder {
 public:
  // Keeps `session` by reference; no files are asked here. InputError: the model has no pooler and
  // it is asked for, or takes fewer tokens than max_length.
  TextEmbedder(InferenceSession& session, const EmbeddingOptions& options);

  // [CLS] text [SEP], the text cut to max_length; `cut` counts those that are.
  TaskSequence sequence(std::string_view text, std::int64_t& cut) const;
  // [B, C], row by row; with Pooling::tokens [T, C].
  std::vector<float> embed(const Batch& batch);

  std::int64_t width() const { return session_.model().config().hidden_size; }  // C
  Pooling pooling() const { return pooling_; }
  bool normalizes() const { return normalize_; }
  std::int64_t max_length() const { return max_length_; }

 private:
  InferenceSession& session_;
  Pooling pooling_;
  bool normalize_;
  std::int64_t max_length_;
};

}  // namespace bert
