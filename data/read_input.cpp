#include "data/read_input.h"

#include <string_view>

#include "data/byte_source.h"

namespace bert {

std::string read_input(const std::string& file) {
  constexpr std::size_t kStep = std::size_t{1} << 20;
  constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
  ByteSource source(file);
  std::string content;
  for (std::size_t got = kStep; got > 0;) {
    const std::size_t size = content.size();
    content.resize(size + kStep);
    got = source.read(content.data() + size, kStep);
    content.resize(size + got);
  }
  if (content.starts_with(kByteOrderMark)) content.erase(0, kByteOrderMark.size());
  return content;
}

std::string without_compression(const std::string& file) {
  for (const std::string_view ending : {".gz", ".bz2", ".xz", ".zst"}) {
    if (file.ends_with(ending)) return file.substr(0, file.size() - ending.size());
  }
  return file;
}

}  // namespace bert
