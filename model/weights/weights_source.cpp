#include "model/weights/weights_source.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "runtime/dtype.h"
#include "runtime/error.h"

namespace bert {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors in files are little endian");

struct NamedSize {
  std::string_view name;
  std::size_t bytes;
};
constexpr NamedSize kDtypes[] = {{"F64", 8},  {"F32", 4}, {"F16", 2},     {"BF16", 2},
                                 {"I64", 8},  {"I32", 4}, {"I16", 2},     {"I8", 1},
                                 {"U64", 8},  {"U32", 4}, {"U16", 2},     {"U8", 1},
                                 {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

float half_to_float(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000u) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1fu;
  const std::uint32_t fraction = half & 0x3ffu;
  if (exponent == 0) {  // zero and subnormal numbers: fraction * 2^-24, exact in f32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const std::uint32_t wide = exponent == 31 ? 255 : exponent + (127 - 15);
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

std::uint16_t float_to_half(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const float magnitude = std::abs(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>(sign | 0x7e00u);
  if (magnitude >= 65520.0f)
    return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds up to 2^16
  if (magnitude < 0x1p-14f) {  // a multiple of 2^-24, exactly what nearbyint rounds to
    return static_cast<std::uint16_t>(
        sign | static_cast<std::uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
  }
  // 13 bits of the fraction go; a carry moves into the exponent as it should.
  const std::uint32_t kept = (bits & 0x7fffffffu) - ((127u - 15u) << 23);
  return static_cast<std::uint16_t>(sign | ((kept + 0xfffu + ((kept >> 13) & 1u)) >> 13));
}

float bfloat16_to_float(std::uint16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value) << 16);
}

// Elements may lie at any address, so each is copied out.
template <typename Stored, typename To, typename Convert>
void convert_elements(const std::byte* from, std::span<To> out, Convert convert) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, from + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<To>(convert(stored));
  }
}

template <typename To>
void read_tensor(const std::string& where, const StoredTensor& tensor, std::span<To> out) {
  BERT_CHECK(static_cast<std::int64_t>(out.size()) == tensor.numel(), "{} into {} elements",
             tensor.shape_string(), out.size());
  const auto identity = [](auto value) { return value; };
  if (tensor.dtype == "F32") {
    convert_elements<float>(tensor.data, out, identity);
  } else if (tensor.dtype == "F64") {
    convert_elements<double>(tensor.data, out, identity);
  } else if (tensor.dtype == "F16") {
    convert_elements<std::uint16_t>(tensor.data, out, half_to_float);
  } else if (tensor.dtype == "BF16") {
    convert_elements<std::uint16_t>(tensor.data, out, bfloat16_to_float);
  } else {
    throw_input_error("{}: tensor {} is {}: expected F64, F32, F16 or BF16", where, tensor.name,
                      tensor.shape_string());
  }
}

template <typename Stored, typename Convert>
std::vector<std::byte> convert_to(std::span<const double> values, Convert convert) {
  std::vector<std::byte> bytes(values.size() * sizeof(Stored));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const Stored stored = convert(values[i]);
    std::memcpy(bytes.data() + i * sizeof stored, &stored, sizeof stored);
  }
  return bytes;
}

}  // namespace

std::size_t stored_element_size(std::string_view dtype) {
  for (const NamedSize& known : kDtypes) {
    if (known.name == dtype) return known.bytes;
  }
  return 0;
}

void read_elements(const StoredTensor& tensor, std::span<double> out, const std::string& where) {
  read_tensor(where, tensor, out);
}

std::vector<std::byte> encode_elements(std::span<const double> values, std::string_view dtype) {
  const auto to_float = [](double value) { return static_cast<float>(value); };
  if (dtype == "F64") return convert_to<double>(values, [](double value) { return value; });
  if (dtype == "F32") return convert_to<float>(values, to_float);
  if (dtype == "F16") {
    return convert_to<std::uint16_t>(values,
                                     [&](double value) { return float_to_half(to_float(value)); });
  }
  BERT_CHECK(dtype == "BF16", "elements cannot be written as {}", dtype);
  return convert_to<Bfloat16>(values, [&](double value) { return Bfloat16(to_float(value)); });
}

std::int64_t StoredTensor::numel() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::string StoredTensor::shape_string() const {
  return fmt::format("{}[{}]", dtype, fmt::join(shape, ", "));
}

void WeightsSource::set_tensors(std::vector<StoredTensor> tensors) {
  tensors_ = std::move(tensors);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const StoredTensor* WeightsSource::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

const StoredTensor& WeightsSource::at(std::string_view name) const {
  if (const StoredTensor* tensor = find(name)) return *tensor;
  throw_input_error("{} has no tensor {}; it holds {}{}", path_.string(), name, tensors_.size(),
                    tensors_.empty() ? "" : ", the first being " + tensors_.front().name);
}

void WeightsSource::read(const StoredTensor& tensor, std::span<float> out) const {
  read_tensor(path_.string(), tensor, out);
}

void WeightsSource::read(const StoredTensor& tensor, std::span<double> out) const {
  read_tensor(path_.string(), tensor, out);
}

}  // namespace bert
