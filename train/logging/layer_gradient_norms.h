// How large the gradient is in each part of a model: what one looks at when training is unstable.
#pragma once

#include <string>
#include <vector>

#include "model/parameter.h"

namespace bert {

struct LayerGradientNorms {
  struct Layer {
    std::string name;  // "embeddings", "layer_00", ..., "final_norm" (pre-LN), "pooler",
                       // "mlm_head", "nsp_head", "task_head"
    double norm = 0.0;
  };
  std::vector<Layer> layers;       // in the order of the parameters
  std::vector<double> parameters;  // the norm of each parameter's gradient, in the same order
};

// The part of the model that a parameter belongs to, by its Hugging Face name. The decoder is the
// word embedding and counts there.
std::string layer_of_parameter(const std::string& hf_name);

// From the flat gradients, in f64; before clipping, as the trainer's gradient norm is: the squares
// of the layers' norms add up to its square. Waits for the device and copies the gradients to the
// host piece by piece, so it is for now and then. To be called when no step is queued: the
// gradients of a step stay until the next one begins. Not a number, or infinite, where gradients
// are.
LayerGradientNorms layer_gradient_norms(const ParameterStore& store);

}  // namespace bert
