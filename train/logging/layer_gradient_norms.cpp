#include "train/logging/layer_gradient_norms.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "runtime/error.h"

namespace bert {
namespace {

// Elements on the host at a time: 8 MB in f64.
constexpr std::int64_t kPiece = 1 << 20;

double squared_norm(const ParameterStore& store, const Parameter& parameter) {
  double sum = 0.0;
  const std::int64_t end = parameter.offset + parameter.numel();
  for (std::int64_t first = parameter.offset; first < end; first += kPiece) {
    for (const double g :
         store.read(store.gradients().slice(first, std::min(kPiece, end - first)))) {
      sum += g * g;
    }
  }
  return sum;
}

}  // namespace

std::string layer_of_parameter(const std::string& hf_name) {
  constexpr std::string_view kLayer = "encoder.layer.";
  if (const std::size_t at = hf_name.find(kLayer); at != std::string::npos) {
    return fmt::format("layer_{:02}", std::stoi(hf_name.substr(at + kLayer.size())));
  }
  const auto has = [&](const char* part) { return hf_name.find(part) != std::string::npos; };
  if (has("embeddings.")) return "embeddings";
  if (has("encoder.")) return "final_norm";  // which ends a pre-LN encoder
  if (has("pooler.")) return "pooler";
  if (has("cls.seq_relationship.")) return "nsp_head";
  if (has("cls.predictions.")) return "mlm_head";
  BERT_CHECK(has("classifier.") || has("qa_outputs."), "{}", hf_name);
  return "task_head";
}

LayerGradientNorms layer_gradient_norms(const ParameterStore& store) {
  LayerGradientNorms norms;
  for (const Parameter& parameter : store.parameters()) {
    const double squared = squared_norm(store, parameter);
    norms.parameters.push_back(std::sqrt(squared));
    const std::string name = layer_of_parameter(parameter.name());
    auto layer = std::find_if(norms.layers.begin(), norms.layers.end(),
                              [&](const auto& other) { return other.name == name; });
    if (layer == norms.layers.end()) layer = norms.layers.insert(layer, {name, 0.0});
    layer->norm += squared;
  }
  for (auto& layer : norms.layers) layer.norm = std::sqrt(layer.norm);
  return norms;
}

}  // namespace bert
