#include "model/weights/safetensors.h"

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

// Reads and checks a header: everything that the class promises.
class HeaderParser {
 public:
  HeaderParser(const std::filesystem::path& path, const MappedFile& file)
      : path_(path.string()), file_(file) {}

  void parse(std::vector<StoredTensor>& tensors, std::map<std::string, std::string>& metadata) {
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

  StoredTensor parse_tensor(const std::string& name, const Header& entry) const {
    const std::size_t keys = entry.is_object() ? entry.size() : 0;
    if (keys != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
        !entry.contains("data_offsets")) {
      damaged("tensor {}: expected an object of dtype, shape and data_offsets", name);
    }
    StoredTensor tensor;
    tensor.name = name;
    const Header& dtype = entry["dtype"];
    if (!dtype.is_string()) damaged("tensor {}: its dtype is not a string", name);
    tensor.dtype = dtype.get<std::string>();
    std::uint64_t size = stored_element_size(tensor.dtype);
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
  void check_layout(std::vector<StoredTensor>& tensors) const {
    std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
      return std::pair(a.data, a.bytes) < std::pair(b.data, b.bytes);
    });
    const std::byte* expected = buffer_;
    for (const StoredTensor& tensor : tensors) {
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

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : WeightsSource(path), file_(path) {
  std::vector<StoredTensor> tensors;
  HeaderParser(path, file_).parse(tensors, metadata_);
  set_tensors(std::move(tensors));
}

void write_safetensors(const std::filesystem::path& path,
                       const std::vector<SafetensorsView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<StoredTensor> stored;
  for (const SafetensorsView& view : tensors) {
    StoredTensor& tensor = stored.emplace_back();
    tensor.name = view.name;
    tensor.dtype = safetensors_name(view.dtype);
    tensor.shape = view.shape;
    tensor.data = static_cast<const std::byte*>(view.data);
    tensor.bytes = static_cast<std::size_t>(tensor.numel()) * dtype_size(view.dtype);
  }
  write_stored_tensors(path, stored, metadata);
}

void write_stored_tensors(const std::filesystem::path& path,
                          const std::vector<StoredTensor>& tensors,
                          const std::map<std::string, std::string>& metadata) {
  std::vector<const StoredTensor*> order;
  for (const StoredTensor& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return stored_element_size(a->dtype) > stored_element_size(b->dtype);
  });

  Json header;
  header[kMetadata] = {{"format", "pt"}};
  for (const auto& [key, value] : metadata) header[kMetadata][key] = value;
  std::size_t offset = 0;
  for (const StoredTensor* tensor : order) {
    BERT_CHECK(!header.contains(tensor->name), "tensor {} is given twice", tensor->name);
    header[tensor->name] = {{"dtype", tensor->dtype},
                            {"shape", tensor->shape},
                            {"data_offsets", {offset, offset + tensor->bytes}}};
    offset += tensor->bytes;
  }

  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the tensors' bytes are aligned
  const std::uint64_t length = text.size();
  AtomicFile file(path);
  file.write(&length, sizeof length);
  file.write(text);
  for (const StoredTensor* tensor : order) file.write(tensor->data, tensor->bytes);
  file.commit();
}

}  // namespace bert
