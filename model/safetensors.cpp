#include "model/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "runtime/json.h"

namespace bert {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little endian");

using Json = nlohmann::ordered_json;
// For reading: it finds a key among many at once. Where tensors lie gives their order.
using Header = nlohmann::json;

constexpr std::size_t kMostHeader = 100'000'000;  // the limit of the Hugging Face library
constexpr const char* kMetadata = "__metadata__";

struct NamedSize {
  std::string_view name;
  std::size_t bytes;
};
constexpr NamedSize kDtypes[] = {{"F64", 8},  {"F32", 4}, {"F16", 2},     {"BF16", 2},
                                 {"I64", 8},  {"I32", 4}, {"I16", 2},     {"I8", 1},
                                 {"U64", 8},  {"U32", 4}, {"U16", 2},     {"U8", 1},
                                 {"BOOL", 1}, {"C64", 8}, {"F8_E4M3", 1}, {"F8_E5M2", 1}};

// 0 for a dtype that is not known.
std::size_t element_size(std::string_view dtype) {
  for (const NamedSize& known : kDtypes) {
    if (known.name == dtype) return known.bytes;
  }
  return 0;
}

std::string_view safetensors_name(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return "F64";
    case DType::f32:
      return "F32";
    case DType::bf16:
      return "BF16";
    case DType::i32:
      return "I32";
    case DType::u32:
      return "U32";
    case DType::i64:
      return "I64";
    case DType::u8:
      return "U8";
    case DType::e4m3:
      return "F8_E4M3";
    case DType::e5m2:
      return "F8_E5M2";
  }
  return "?";
}

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
void read_tensor(const std::filesystem::path& path, const SafetensorsTensor& tensor,
                 std::span<To> out) {
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

// Reads and checks a header: everything that the class promises.
class HeaderParser {
 public:
  HeaderParser(const std::filesystem::path& path, const MappedFile& file)
      : path_(path.string()), file_(file) {}

  void parse(std::vector<SafetensorsTensor>& tensors,
             std::map<std::string, std::string>& metadata) {
    const std::string_view header = find_header();
    const Header json = parse_header(header);
    if (!json.is_object()) damaged("its header is not a JSON object");
    for (const auto& [name, entry] : json.items()) {
      if (name == kMetadata) {
        parse_metadata(entry, metadata);
      } else {
        tensors.push_back(parse_tensor(name, entry));
      }
    }
    check_layout(tensors);
  }

 private:
  template <typename... Args>
  [[noreturn]] void damaged(fmt::format_string<Args...> format, Args&&... args) const {
    throw_input_error("{} is not a valid safetensors file: {}", path_,
                      fmt::format(format, std::forward<Args>(args)...));
  }

  std::string_view find_header() {
    std::uint64_t length = 0;
    if (file_.size() < sizeof length) damaged("it has {} bytes, fewer than 8", file_.size());
    std::memcpy(&length, file_.data(), sizeof length);
    const std::size_t rest = file_.size() - sizeof length;
    if (length > rest) {
      damaged("its header should have {} bytes, but only {} follow; was it cut off?", length, rest);
    }
    if (length > kMostHeader) {
      damaged("its header would have {} bytes, more than {}", length, kMostHeader);
    }
    const char* begin = reinterpret_cast<const char*>(file_.data()) + sizeof length;
    if (length == 0 || *begin != '{') damaged("its header does not begin with '{{'");
    buffer_ = reinterpret_cast<const std::byte*>(begin) + length;
    buffer_size_ = rest - length;
    return {begin, length};
  }

  // JSON allows a key twice and keeps the last; here that hides a tensor, so it is an error.
  Header parse_header(std::string_view header) const {
    check_json_text(header, path_ + ", its header");
    std::vector<std::set<std::string>> seen;
    const auto watch = [&](int, Header::parse_event_t event, Header& value) {
      if (event == Header::parse_event_t::object_start) {
        seen.emplace_back();
      } else if (event == Header::parse_event_t::object_end) {
        seen.pop_back();
      } else if (event == Header::parse_event_t::key &&
                 !seen.back().insert(value.get<std::string>()).second) {
        damaged("its header names {} twice", value.get<std::string>());
      }
      return true;
    };
    try {
      return Header::parse(header, watch);
    } catch (const Header::exception& error) {
      damaged("its header is not JSON: {}", error.what());
    }
  }

  void parse_metadata(const Header& entry, std::map<std::string, std::string>& metadata) const {
    if (!entry.is_object()) damaged("{} is not an object", kMetadata);
    for (const auto& [key, value] : entry.items()) {
      if (!value.is_string()) damaged("{}.{} is not a string", kMetadata, key);
      metadata[key] = value.get<std::string>();
    }
  }

  SafetensorsTensor parse_tensor(const std::string& name, const Header& entry) const {
    const std::size_t keys = entry.is_object() ? entry.size() : 0;
    if (keys != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets")) {
      damaged("tensor {}: expected an object of dtype, shape and data_offsets", name);
    }
    SafetensorsTensor tensor;
    tensor.name = name;
    const Header& dtype = entry["dtype"];
    if (!dtype.is_string()) damaged("tensor {}: its dtype is not a string", name);
    tensor.dtype = dtype.get<std::string>();
    std::uint64_t size = element_size(tensor.dtype);
    if (size == 0) damaged("tensor {}: the dtype {} is not known", name, tensor.dtype);

    const Header& shape = entry["shape"];
    if (!shape.is_array()) damaged("tensor {}: its shape is not a list", name);
    for (const Header& extent : shape) {
      const std::uint64_t value = unsigned_number(name, "shape", extent);
      tensor.shape.push_back(static_cast<std::int64_t>(value));
      if (value > 0 && size > std::numeric_limits<std::int64_t>::max() / value) {
        damaged("tensor {}: its shape has too many elements", name);
      }
      size *= value;
    }

    const Header& offsets = entry["data_offsets"];
    if (!offsets.is_array() || offsets.size() != 2) {
      damaged("tensor {}: data_offsets is not a list of two numbers", name);
    }
    const std::uint64_t begin = unsigned_number(name, "data_offsets", offsets[0]);
    const std::uint64_t end = unsigned_number(name, "data_offsets", offsets[1]);
    if (begin > end) damaged("tensor {}: its bytes end before they begin", name);
    if (end > buffer_size_) {
      damaged("tensor {}: its bytes end at {} of {}; was the file cut off?", name, end,
              buffer_size_);
    }
    if (end - begin != size) {
      damaged("tensor {}: {} needs {} bytes, its data_offsets span {}", name, tensor.shape_string(),
              size, end - begin);
    }
    tensor.data = buffer_ + begin;
    tensor.bytes = size;
    return tensor;
  }

  std::uint64_t unsigned_number(const std::string& name, const char* key,
                                const Header& value) const {
    constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > kMost) {
      damaged("tensor {}: {} holds {}, not a whole number", name, key, value.dump());
    }
    return value.get<std::uint64_t>();
  }

  // Sorts by place; each tensor begins where the one before ends, and the last ends the file.
  void check_layout(std::vector<SafetensorsTensor>& tensors) const {
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return std::pair(a.data, a.bytes) < std::pair(b.data, b.bytes);
    });
    const std::byte* expected = buffer_;
    for (const SafetensorsTensor& tensor : tensors) {
      if (tensor.data != expected) {
        damaged("tensor {} begins at byte {}, the one before ends at {}", tensor.name,
                tensor.data - buffer_, expected - buffer_);
      }
      expected += tensor.bytes;
    }
    if (expected != buffer_ + buffer_size_) {
      damaged("{} bytes after the last tensor belong to none", buffer_ + buffer_size_ - expected);
    }
  }

  std::string path_;
  const MappedFile& file_;
  const std::byte* buffer_ = nullptr;  // the tensors' bytes
  std::size_t buffer_size_ = 0;
};

}  // namespace

std::int64_t SafetensorsTensor::numel() const {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::string SafetensorsTensor::shape_string() const {
  return fmt::format("{}[{}]", dtype, fmt::join(shape, ", "));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
  HeaderParser(path_, file_).parse(tensors_, metadata_);
  for (std::size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

const SafetensorsTensor* SafetensorsFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

const SafetensorsTensor& SafetensorsFile::at(std::string_view name) const {
  if (const SafetensorsTensor* tensor = find(name)) return *tensor;
  throw_input_error("{} has no tensor {}; it holds {}{}", path_.string(), name, tensors_.size(),
                    tensors_.empty() ? "" : ", the first being " + tensors_.front().name);
}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::span<float> out) const {
  read_tensor(path_, tensor, out);
}

void SafetensorsFile::read(const SafetensorsTensor& tensor, std::span<double> out) const {
  read_tensor(path_, tensor, out);
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<SafetensorsView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const SafetensorsView*> order;
  for (const SafetensorsView& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return dtype_size(a->dtype) > dtype_size(b->dtype);
  });

  Json header;
  header[kMetadata] = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) header[kMetadata][key] = value;
  std::vector<std::size_t> sizes;
  std::size_t offset = 0;
  for (const SafetensorsView* tensor : order) {
    std::size_t bytes = dtype_size(tensor->dtype);
    for (const std::int64_t extent : tensor->shape) bytes *= static_cast<std::size_t>(extent);
    BERT_CHECK(!header.contains(tensor->name), "tensor {} is given twice", tensor->name);
    header[tensor->name] = {{"dtype", safetensors_name(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
    sizes.push_back(bytes);
  }

  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the tensors' bytes are aligned
  const std::uint64_t length = text.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(text);
  for (std::size_t i = 0; i < order.size(); ++i) file.write(order[i]->data, sizes[i]);
  file.commit();
}

}  // namespace bert
