// BertForPretraining: embeddings, encoder, the masked-token head and, if asked for, the pooler and
// the next-sentence head. Owns the parameters and the memory of one micro-batch.
//
// One optimizer step: zero the gradients, then for each micro-batch forward(), loss(), backward();
// gradients and loss sums accumulate.
#pragma once

#include <cstdint>
#include <vector>

#include "model/bert_config.h"
#include "model/context.h"
#include "model/embeddings.h"
#include "model/encoder.h"
#include "model/mlm_head.h"
#include "model/nsp_head.h"
#include "model/parameter.h"
#include "model/pooler.h"
#include "runtime/arena.h"

namespace bert {

// A micro-batch in device memory.
struct PretrainingInput {
  Tensor input_ids{}, token_type_ids{};  // i32 [T]
  PackedTokens tokens{};
  Tensor masked_rows{}, masked_targets{};  // i32 [M]
  DeviceCount num_masked = nullptr;
  Tensor nsp_labels{};  // i32 [B]; absent without next-sentence prediction
};

// Sums over micro-batches, and what the gradient of each sum is multiplied by; device memory.
struct PretrainingLoss {
  LossSums mlm, nsp;
  double mlm_scale = 0.0;  // 1 / masked tokens of the whole optimizer step, 0 without any
  double nsp_scale = 0.0;  // 1 / sequences of the whole optimizer step
};

class BertForPretraining {
 public:
  enum class Heads { mlm, mlm_and_nsp };

  // Declares the parameters; they have no memory yet. `config` is copied.
  BertForPretraining(const BertConfig& config, Heads heads);
  BertForPretraining(const BertForPretraining&) = delete;
  BertForPretraining& operator=(const BertForPretraining&) = delete;

  // Gives parameters and one micro-batch memory on `device`, for `ops`' dtype. With `recompute`,
  // the layers share the memory of what backward needs of them and backward repeats their forward:
  // a third more products, the same bits, and at most 2 C instead of 15 C elements a token and
  // layer.
  void allocate(Device& device, Ops& ops, const Capacity& capacity, bool with_gradients,
                bool recompute = false);

  // What activation_bytes() will be after allocate() with these arguments; before allocate() only.
  std::size_t count_activation_bytes(Ops& ops, const Capacity& capacity, bool with_gradients,
                                     bool recompute = false);
  // Computes with `ops` from now on, which must be of the same dtype and use the same device.
  void use(Ops& ops) { ops_ = &ops; }

  // dropout_key: device memory, or null for evaluation.
  void forward(const PretrainingInput& input, const DropoutKey* dropout_key);
  // Adds to loss->mlm and loss->nsp. With gradients, turns the logits into their gradients.
  // `loss_unit`: see CrossEntropy.
  void loss(const PretrainingInput& input, PretrainingLoss* loss, bool with_gradients,
            double loss_unit = 0.0);
  // After forward and loss with gradients, on the same input. `ready`, if given, is told of every
  // part of the flat gradient buffer once, when the work that completes it is queued: the heads,
  // the layers from the last to the first, the embeddings (which the MLM head shares).
  void backward(const PretrainingInput& input, const GradientsReady& ready = {});

  // What the last forward left, in the arena; valid until the next call.
  std::vector<Tensor> hidden_states() const;  // [T, C] each: as Hugging Face counts them, L + 1
  const Tensor& mlm_logits() const {
    return saved_.mlm.logits;
  }  // [M, V and padding], before loss()
  const Tensor& nsp_logits() const { return saved_.nsp.logits; }  // [B, 2], before loss()
  const Tensor& pooled() const { return saved_.pooler.y; }        // [B, C]

  const BertConfig& config() const { return config_; }
  bool has_nsp() const { return heads_ == Heads::mlm_and_nsp; }
  ParameterStore& parameters() { return store_; }
  const ParameterStore& parameters() const { return store_; }
  std::size_t activation_bytes() const { return arena_.bytes(); }
  const Capacity& capacity() const { return capacity_; }

 private:
  struct Saved {
    Embeddings::Saved embeddings;
    Encoder::Saved encoder;
    Tensor hidden{};  // [T, C], the encoder's output
    MlmHead::Saved mlm;
    Pooler::Saved pooler;
    NspHead::Saved nsp;
  };
  void plan(Arena& arena, Ops& ops, const Capacity& capacity, bool with_gradients, bool recompute);
  Context context(const PretrainingInput& input) const {
    return {ops_, dropout_key_, input.tokens};
  }

  const BertConfig config_;
  const Heads heads_;
  ParameterStore store_;
  Embeddings embeddings_;
  Encoder encoder_;
  std::unique_ptr<Pooler> pooler_;  // with next-sentence prediction
  MlmHead mlm_head_;
  std::unique_ptr<NspHead> nsp_head_;

  Ops* ops_ = nullptr;
  Capacity capacity_;
  Arena arena_;
  Saved saved_;
  BackwardWorkspace workspace_;
  const DropoutKey* dropout_key_ = nullptr;  // of the last forward
};

}  // namespace bert
