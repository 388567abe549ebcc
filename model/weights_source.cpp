#include "model/weights_source.h"

#include <bit>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

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
void read_tensor(const std::filesystem::path& path, const StoredTensor& tensor, std::span<To> out) {
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
    throw_input_error("{}: tensor {} is {}: expected F64, F32, F16 or BF16", path.string(),
                      tensor.name, tensor.shape_string());
  }
}

}  // namespace

std::size_t stored_element_size(std::string_view dtype) {
  for (const NamedSize& known : kDtypes) {
    if (known.name == dtype) return known.bytes;
  }
  return 0;
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
  read_tensor(path_, tensor, out);
}

void WeightsSource::read(const StoredTensor& tensor, std::span<double> out) const {
  read_tensor(path_, tensor, out);
}

}  // namespace bert
