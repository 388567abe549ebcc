// Parameters: all of a model's weights in one contiguous buffer in the order they were declared
// (layer order), with the gradients mirroring it. AdamW is one pass over flat memory, an all-reduce
// bucket is a slice.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "model/bert_config.h"
#include "runtime/device.h"
#include "runtime/tensor.h"

namespace bert {

// Rows of the word embeddings, and with them columns of the logits, are padded to a multiple of
// this: sixteen bytes of bf16, below which products by tensor cores are slow.
inline constexpr std::int64_t kVocabularyMultiple = 8;

enum class ParameterKind { weight, bias, layer_norm_weight, layer_norm_bias };

struct Parameter {
  // Hugging Face's names. More than one when a parameter is several of their tensors stacked along
  // dimension 0 in equal parts (query, key, value).
  std::vector<std::string> hf_names;
  std::vector<std::int64_t> shape;  // one or two extents
  ParameterKind kind = ParameterKind::weight;
  // Rows of zeros after the last, so that memory holds a multiple of some number of rows: what
  // products are fast with. They belong to no file and never change.
  std::int64_t padding_rows = 0;
  std::int64_t offset = 0;  // of its first element in the flat buffers
  // Once allocated, of `shape`.
  Tensor value, gradient;
  // The same as ops take them, with the padding rows: `compute` in the ops' own dtype (the memory
  // of `value`, or its copy in a narrower dtype).
  Tensor compute, compute_gradient;

  const std::string& name() const { return hf_names.front(); }
  std::int64_t numel() const;
  std::int64_t stored_rows() const { return shape[0] + padding_rows; }
  LinearWeight weight() const { return {value, compute}; }
  // Weight decay applies to matrices only: decided by kind, never by name.
  bool decays() const { return kind == ParameterKind::weight; }
};

class ParameterStore {
 public:
  // References stay valid for the store's life. `row_multiple`: rows are padded to it.
  Parameter& add(std::vector<std::string> hf_names, std::vector<std::int64_t> shape,
                 ParameterKind kind, std::int64_t row_multiple = 1);

  // Gives every parameter memory of `dtype` (zero), a copy in `compute_dtype` if that differs, and
  // gradients of `dtype` if `with_gradients`.
  void allocate(Device& device, DType dtype, DType compute_dtype, bool with_gradients);
  // Fresh weights: a normal distribution of standard deviation initializer_range, truncated at two
  // of them (google-research/bert) or plain; biases 0, LayerNorm 1 and 0. A pure function of seed.
  void initialize(const BertConfig& config, std::uint64_t seed);
  // Rounds the values into the compute copies; after every change that AdamW did not make.
  void refresh_compute();

  const std::deque<Parameter>& parameters() const { return parameters_; }
  std::int64_t num_parameters() const;                   // without padding
  std::int64_t flat_size() const { return flat_size_; }  // of what has been added so far
  Device& device() const { return *device_; }
  // Flat, each parameter padded with zeros to a multiple of AdamW::kBlock elements.
  const Tensor& values() const { return values_; }
  const Tensor& gradients() const { return gradients_; }
  // The copies in the compute dtype; absent where the values have it themselves.
  const Tensor& compute_copies() const { return compute_copies_; }
  const Tensor& decays() const { return decays_; }  // u8 [size / kBlock]

  // One parameter's elements to or from host memory of f64, whatever its dtype.
  std::vector<double> read(const Tensor& view) const;
  void write(const Tensor& view, const std::vector<double>& values);

 private:
  std::deque<Parameter> parameters_;
  std::int64_t flat_size_ = 0;
  Device* device_ = nullptr;
  DeviceBuffer value_memory_, gradient_memory_, compute_memory_, decay_memory_;
  Tensor values_, gradients_, compute_copies_, decays_;
};

}  // namespace bert
