#include "model/parameter.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "runtime/philox.h"
#include "runtime/tensor_copy.h"

namespace bert {
namespace {

// The stream of PhiloxStream that initial weights are drawn from.
constexpr std::uint32_t kInitStream = 0x494E4954;  // "INIT"

class NormalDistribution {
 public:
  NormalDistribution(std::uint64_t seed, std::uint64_t index) : random_(seed, kInitStream, index) {}

  // Box and Muller 1958.
  double next() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    const double radius = std::sqrt(-2.0 * std::log(1.0 - random_.next_double()));
    const double angle = 2.0 * std::numbers::pi * random_.next_double();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
  }

 private:
  PhiloxStream random_;
  double spare_ = 0.0;
  bool has_spare_ = false;
};

}  // namespace

std::int64_t Parameter::numel() const {
  std::int64_t n = 1;
  for (std::int64_t extent : shape) n *= extent;
  return n;
}

Parameter& ParameterStore::add(std::vector<std::string> hf_names, std::vector<std::int64_t> shape,
                               ParameterKind kind, std::int64_t row_multiple) {
  BERT_CHECK(shape.size() == 1 || shape.size() == 2);
  BERT_CHECK(shape[0] % static_cast<std::int64_t>(hf_names.size()) == 0);
  Parameter& parameter = parameters_.emplace_back();
  parameter.hf_names = std::move(hf_names);
  parameter.shape = std::move(shape);
  parameter.kind = kind;
  const std::int64_t rows = parameter.shape[0];
  parameter.padding_rows = (rows + row_multiple - 1) / row_multiple * row_multiple - rows;
  parameter.offset = flat_size_;
  const std::int64_t stored = parameter.numel() / rows * parameter.stored_rows();
  flat_size_ += (stored + AdamW::kBlock - 1) / AdamW::kBlock * AdamW::kBlock;
  return parameter;
}

void ParameterStore::allocate(Device& device, DType dtype, DType compute_dtype,
                              bool with_gradients) {
  device_ = &device;
  const auto make = [&](DeviceBuffer& memory, DType of) {
    const Tensor sized(nullptr, of, {flat_size_});
    memory = DeviceBuffer(device, sized.bytes());
    device.fill_zero(memory.data(), sized.bytes());
    return Tensor(memory.data(), of, {flat_size_});
  };
  values_ = make(value_memory_, dtype);
  if (compute_dtype != dtype) compute_copies_ = make(compute_memory_, compute_dtype);
  if (with_gradients) gradients_ = make(gradient_memory_, dtype);

  std::vector<std::uint8_t> decays(static_cast<std::size_t>(flat_size_ / AdamW::kBlock), 0);
  for (Parameter& parameter : parameters_) {
    const std::int64_t rows = parameter.shape[0], row = parameter.numel() / rows;
    const auto stored = [&](const Tensor& flat) {
      const Tensor part = flat.slice(parameter.offset, parameter.stored_rows() * row);
      return parameter.shape.size() == 1 ? part : part.view({parameter.stored_rows(), row});
    };
    parameter.value = stored(values_).slice(0, rows);
    parameter.compute = stored(compute_copies_ ? compute_copies_ : values_);
    if (with_gradients) {
      parameter.compute_gradient = stored(gradients_);
      parameter.gradient = parameter.compute_gradient.slice(0, rows);
    }
    const std::int64_t first = parameter.offset / AdamW::kBlock;
    const std::int64_t last = (parameter.offset + parameter.numel() - 1) / AdamW::kBlock;
    for (std::int64_t block = first; block <= last; ++block) {
      decays[static_cast<std::size_t>(block)] = parameter.decays() ? 1 : 0;
    }
  }
  decay_memory_ = DeviceBuffer(device, decays.size());
  device.copy_from_host(decay_memory_.data(), decays.data(), decays.size());
  decays_ = Tensor(decay_memory_.data(), DType::u8, {static_cast<std::int64_t>(decays.size())});
}

void ParameterStore::initialize(const BertConfig& config, std::uint64_t seed) {
  std::uint64_t index = 0;
  for (const Parameter& parameter : parameters_) {
    std::vector<double> values(static_cast<std::size_t>(parameter.numel()), 0.0);
    if (parameter.kind == ParameterKind::layer_norm_weight) values.assign(values.size(), 1.0);
    if (parameter.kind == ParameterKind::weight) {
      NormalDistribution normal(seed, index);
      for (double& value : values) {
        double x = normal.next();
        while (config.init == WeightInit::truncated_normal && std::abs(x) > 2.0) x = normal.next();
        value = config.initializer_range * x;
      }
    }
    write(parameter.value, values);
    ++index;
  }
  refresh_compute();
}

void ParameterStore::refresh_compute() {
  if (!compute_copies_) return;
  BERT_CHECK(values_.dtype() == DType::f32 && compute_copies_.dtype() == DType::bf16);
  // In pieces: all at once would take as much host memory again as the parameters have.
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;
  std::vector<float> values;
  for (std::int64_t first = 0; first < flat_size_; first += kPiece) {
    const std::int64_t n = std::min(kPiece, flat_size_ - first);
    values.resize(static_cast<std::size_t>(n));
    const Tensor masters = values_.slice(first, n), copies = compute_copies_.slice(first, n);
    device_->copy_to_host(values.data(), masters.raw(), masters.bytes());
    const std::vector<Bfloat16> rounded(values.begin(), values.end());
    device_->copy_from_host(copies.raw(), rounded.data(), copies.bytes());
  }
}

std::int64_t ParameterStore::num_parameters() const {
  std::int64_t n = 0;
  for (const Parameter& parameter : parameters_) n += parameter.numel();
  return n;
}

std::vector<double> ParameterStore::read(const Tensor& view) const {
  return copy_to_doubles(*device_, view);
}

void ParameterStore::write(const Tensor& view, const std::vector<double>& values) {
  copy_from_doubles(*device_, view, values);
}

}  // namespace bert
