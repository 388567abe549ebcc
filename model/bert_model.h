// BertModel: embeddings, encoder and, if asked for, the pooler. Owns the parameters and the memory
// of one micro-batch. Models with heads derive from it.
//
// One optimizer step: zero the gradients, then for each micro-batch forward(), loss(), backward();
// gradients and loss sums accumulate.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "model/bert_config.h"
#include "model/context.h"
#include "model/embeddings.h"
#include "model/encoder.h"
#include "model/model_input.h"
#include "model/parameter.h"
#include "model/pooler.h"
#include "runtime/arena.h"

namespace bert {

class BertModel {
 public:
  // Declares the parameters; they have no memory yet. `config` is copied.
  BertModel(const BertConfig& config, bool with_pooler);
  virtual ~BertModel() = default;
  BertModel(const BertModel&) = delete;
  BertModel& operator=(const BertModel&) = delete;

  // Gives parameters and one micro-batch of up to `capacity` memory on `device`, for `ops`' dtype.
  // With `recompute`, the layers share the memory of what backward needs of them and backward
  // repeats their forward: a third more products, the same bits, and at most 2 C instead of 16 C
  // elements a token and layer.
  void allocate(Device& device, Ops& ops, const Capacity& capacity, bool with_gradients,
                bool recompute = false);

  // What activation_bytes() will be after allocate() with these arguments; before allocate() only.
  std::size_t count_activation_bytes(Ops& ops, const Capacity& capacity, bool with_gradients,
                                     bool recompute = false);
  // Computes with `ops` from now on, which must be of the same dtype and use the same device.
  void use(Ops& ops) { ops_ = &ops; }

  // From now on backward leaves out the embeddings and the lowest `layers` layers: their gradients
  // stay as they are, and no work is done for them. In pre-LN the LayerNorm at the end of the last
  // of them, which Hugging Face counts to the layer after it, is left out too.
  void freeze(std::int64_t layers);
  // The elements of the flat buffers from here on are trained: 0 with nothing frozen.
  std::int64_t first_trained() const;

  // dropout_key: device memory, or null for evaluation. The memory of a micro-batch is laid out as
  // large as the tensors of `input` are, at most of the capacity, and so are all launches on a GPU.
  void forward(const ModelInput& input, const DropoutKey* dropout_key);
  // Adds to the sums of `loss`. With gradients, turns the logits into their gradients.
  // `loss_unit`: see CrossEntropy.
  virtual void loss(const ModelInput& input, ModelLoss* loss, bool with_gradients,
                    double loss_unit = 0.0);
  // After forward and loss with gradients, on the same input. `ready`, if given, is told of every
  // part of the flat gradient buffer from first_trained() on once, when the work that completes it
  // is queued: the heads, the layers from the last to the first, the embeddings (which an MLM head
  // shares).
  void backward(const ModelInput& input, const GradientsReady& ready = {});

  // What the last forward left, in the arena; valid until the next call.
  std::vector<Tensor> hidden_states() const;  // [T, C] each: as Hugging Face counts them, L + 1
  const Tensor& hidden() const { return hidden_; }          // [T, C], the last of them
  const Tensor& pooled() const { return saved_.pooler.y; }  // [B, C]

  // What config.json says of the head.
  virtual HeadDescription head_description() const { return {.architecture = "Model"}; }
  virtual InputParts input_parts() const { return {}; }
  virtual bool has_nsp() const { return false; }
  bool has_pooler() const { return pooler_ != nullptr; }
  const BertConfig& config() const { return config_; }
  // Elements of the flat buffers at which a part ends that is trained as one: the embeddings, each
  // layer, the heads.
  std::vector<std::int64_t> part_ends() const;
  ParameterStore& parameters() { return store_; }
  const ParameterStore& parameters() const { return store_; }
  std::size_t activation_bytes() const { return activation_bytes_; }
  const Capacity& capacity() const { return capacity_; }

 protected:
  virtual void plan_heads(Arena& arena, const Capacity& capacity, const Ops& ops,
                          bool with_gradients);
  virtual void forward_heads(const Context& context, const ModelInput& input);
  // Adds to d_hidden [T, C], which is zero at first.
  virtual void backward_heads(const Context& context, const ModelInput& input,
                              const Tensor& d_hidden);

  Parameter& word_embeddings() { return embeddings_.word(); }
  // Of the pooler: the pooled states [B, C]; and, dy [B, C] being overwritten, d_hidden added to.
  Tensor pool(const Context& context);
  void pool_backward(const Context& context, const Tensor& dy, const Tensor& d_hidden);
  Ops& ops() const { return *ops_; }

  const BertConfig config_;
  ParameterStore store_;

 private:
  struct Saved {
    Embeddings::Saved embeddings;
    Encoder::Saved encoder;
    Pooler::Saved pooler;
  };
  void plan(Arena& arena, Ops& ops, const Capacity& capacity, bool with_gradients, bool recompute);
  void fit(const ModelInput& input);
  Context context(const ModelInput& input) const { return {ops_, dropout_key_, input.tokens}; }

  Embeddings embeddings_;
  Encoder encoder_;
  std::unique_ptr<Pooler> pooler_;
  std::optional<std::int64_t> frozen_layers_;  // besides the embeddings; nothing: none of them

  Ops* ops_ = nullptr;
  Capacity capacity_, laid_out_;  // the most, and of the last forward
  bool with_gradients_ = false, recompute_ = false;
  Arena arena_;
  std::size_t activation_bytes_ = 0;
  Saved saved_;
  Tensor hidden_;
  BackwardWorkspace workspace_;
  const DropoutKey* dropout_key_ = nullptr;  // of the last forward
};

}  // namespace bert
