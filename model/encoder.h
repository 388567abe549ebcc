// Encoder: the stack of layers. Pre-LN normalises the embeddings' sum before the first branch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "model/encoder_layer.h"

namespace bert {

// Told during a backward pass that the gradients of the elements [first, last) of the flat buffer
// (ParameterStore::gradients) are complete.
using GradientsReady = std::function<void(std::int64_t first, std::int64_t last)>;

class Encoder {
 public:
  Encoder(ParameterStore& store, const BertConfig& config);

  struct Saved {
    Tensor x{};                           // [T, C], the embeddings' output
    Tensor first_norm{}, mean{}, rstd{};  // [T, C], [T], [T]; pre-LN only
    std::vector<EncoderLayer::Saved> layers{};
    // Only the layers' outputs are each layer's own; all the rest is one memory, which holds what
    // the last forward of a layer left. Backward then runs each layer's forward again.
    bool shared = false;
  };
  void plan(Arena& arena, const Capacity& capacity, const Ops& ops, bool shared,
            Saved& saved) const;
  void plan_backward(Arena& arena, const Capacity& capacity, const Ops& ops,
                     BackwardWorkspace& workspace) const;

  // x [T, C] -> the last layer's normalised output [T, C].
  Tensor forward(const Context& context, const Tensor& x, Saved& saved) const;
  // From workspace.d_normalized, the gradient of forward's result; returns that of x, a tensor of
  // the workspace. `ready` may be empty; it is told of each layer when its backward is queued.
  Tensor backward(const Context& context, Saved& saved, BackwardWorkspace& workspace,
                  const GradientsReady& ready = {}) const;

  // The same for the layers from `lowest` on only, without the gradient of what the lowest of them
  // reads.
  void backward_down_to(std::int64_t lowest, const Context& context, Saved& saved,
                        BackwardWorkspace& workspace, const GradientsReady& ready = {}) const;

  // Where the layers' parameters begin in the flat buffer, and where those after them do.
  std::int64_t layers_begin() const { return layer_begins_.front(); }
  std::int64_t layers_end() const { return layer_begins_.back(); }
  std::int64_t layer_begin(std::int64_t layer) const {
    return layer_begins_.at(static_cast<std::size_t>(layer));
  }

 private:
  // What layer i reads: the output of the layer before, or of what is before the layers.
  Stream input_of(std::size_t i, const Saved& saved) const;

  // Backward of layer i; the gradient of what it reads only if `wants_dx`.
  void layer_backward(std::size_t i, const Context& context, Saved& saved,
                      BackwardWorkspace& workspace, bool wants_dx,
                      const GradientsReady& ready) const;

  const BertConfig& config_;
  Parameter* first_gamma_ = nullptr;  // pre-LN only
  Parameter* first_beta_ = nullptr;
  std::vector<std::unique_ptr<EncoderLayer>> layers_;
  std::vector<std::int64_t> layer_begins_;  // in the flat buffer; one more than layers
};

}  // namespace bert
