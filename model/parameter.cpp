#include "model/parameter.h"

#include <cmath>
#include <numbers>
#include <utility>

#include "runtime/philox.h"

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
                               ParameterKind kind) {
  BERT_CHECK(shape.size() == 1 || shape.size() == 2);
  BERT_CHECK(shape[0] % static_cast<std::int64_t>(hf_names.size()) == 0);
  Parameter& parameter = parameters_.emplace_back();
  parameter.hf_names = std::move(hf_names);
  parameter.shape = std::move(shape);
  parameter.kind = kind;
  parameter.offset = flat_size_;
  flat_size_ += (parameter.numel() + AdamW::kBlock - 1) / AdamW::kBlock * AdamW::kBlock;
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
    const auto view = [&](const Tensor& flat) {
      const Tensor part = flat.slice(parameter.offset, parameter.numel());
      return parameter.shape.size() == 1 ? part
                                         : part.view({parameter.shape[0], parameter.shape[1]});
    };
    parameter.value = view(values_);
    parameter.compute = compute_copies_ ? view(compute_copies_) : parameter.value;
    if (with_gradients) parameter.gradient = view(gradients_);
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
  const auto n = static_cast<std::size_t>(flat_size_);
  std::vector<float> values(n);
  device_->copy_to_host(values.data(), values_.raw(), values_.bytes());
  std::vector<Bfloat16> rounded(n);
  for (std::size_t i = 0; i < n; ++i) rounded[i] = Bfloat16(values[i]);
  device_->copy_from_host(compute_copies_.raw(), rounded.data(), compute_copies_.bytes());
}

std::int64_t ParameterStore::num_parameters() const {
  std::int64_t n = 0;
  for (const Parameter& parameter : parameters_) n += parameter.numel();
  return n;
}

std::vector<double> ParameterStore::read(const Tensor& view) const {
  const auto n = static_cast<std::size_t>(view.numel());
  std::vector<double> values(n);
  if (view.dtype() == DType::f64) {
    device_->copy_to_host(values.data(), view.raw(), view.bytes());
    return values;
  }
  BERT_CHECK(view.dtype() == DType::f32);
  std::vector<float> narrow(n);
  device_->copy_to_host(narrow.data(), view.raw(), view.bytes());
  values.assign(narrow.begin(), narrow.end());
  return values;
}

void ParameterStore::write(const Tensor& view, const std::vector<double>& values) {
  BERT_CHECK(static_cast<std::int64_t>(values.size()) == view.numel());
  if (view.dtype() == DType::f64) {
    device_->copy_from_host(view.raw(), values.data(), view.bytes());
    return;
  }
  BERT_CHECK(view.dtype() == DType::f32);
  std::vector<float> narrow(values.size());
  for (std::size_t i = 0; i < values.size(); ++i) narrow[i] = static_cast<float>(values[i]);
  device_->copy_from_host(view.raw(), narrow.data(), view.bytes());
}

}  // namespace bert
