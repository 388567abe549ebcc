#include "train/inference/npy_file.h"

#include <bit>
#include <string>
#include <type_traits>
#include <utility>

#include "runtime/error.h"

namespace bert {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::size_t kHeaderBytes = 128;  // a multiple of 64; room for any shape

template <typename T>
std::string header(std::int64_t values, std::int64_t width) {
  constexpr const char* kType = std::is_same_v<T, float> ? "<f4" : "<i8";
  const std::string shape =
      width == 0 ? fmt::format("({},)", values) : fmt::format("({}, {})", values / width, width);
  std::string text =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", kType, shape);
  constexpr std::size_t kTextBytes = kHeaderBytes - 10;
  BERT_CHECK(text.size() < kTextBytes);
  text.resize(kTextBytes - 1, ' ');
  text += '\n';
  const auto size = static_cast<std::uint16_t>(kTextBytes);
  std::string bytes = "\x93NUMPY";
  bytes += {'\x01', '\x00', static_cast<char>(size & 0xffu), static_cast<char>(size >> 8)};
  return bytes + text;
}

}  // namespace

template <typename T>
NpyFile<T>::NpyFile(std::filesystem::path path, std::int64_t width)
    : file_(std::move(path)), width_(width) {
  file_.write(header<T>(0, width_));
}

template <typename T>
void NpyFile<T>::append(std::span<const T> values) {
  BERT_CHECK(width_ == 0 || static_cast<std::int64_t>(values.size()) % width_ == 0);
  file_.write(values.data(), values.size_bytes());
  values_ += static_cast<std::int64_t>(values.size());
}

template <typename T>
void NpyFile<T>::commit() {
  const std::string fixed = header<T>(values_, width_);
  file_.write_at_start(fixed);
  file_.commit();
}

template class NpyFile<float>;
template class NpyFile<std::int64_t>;

}  // namespace bert
