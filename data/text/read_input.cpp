#include "data/text/read_input.h"

#include "data/text/blank.h"
#include "data/text/byte_source.h"

namespace bert {

std::string read_input(const std::string& file) {
  constexpr std::size_t kStep = std::size_t{1} << 20;
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

}  // namespace bert
