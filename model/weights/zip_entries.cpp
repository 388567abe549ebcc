#include "model/weights/zip_entries.h"

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <utility>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50,
                        kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr std::uint32_t kInZip64 = 0xffffffff;  // the number itself is in the zip64 field

class ZipReader {
 public:
  ZipReader(std::span<const std::byte> archive, const std::string& source)
      : archive_(archive), source_(source) {}

  ZipEntries read() const {
    const Directory directory = find_directory();
    ZipEntries entries;
    std::uint64_t at = directory.begin;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      constexpr std::uint64_t kFixed = 46;
      if (number<std::uint32_t>(at) != kCentralHeader) damaged("entry {} is not there", i);
      const std::uint64_t name_size = number<std::uint16_t>(at + 28);
      const std::uint64_t extra_size = number<std::uint16_t>(at + 30);
      const std::uint64_t comment_size = number<std::uint16_t>(at + 32);
      const auto name_bytes = part(at + kFixed, name_size);
      const std::string name(reinterpret_cast<const char*>(name_bytes.data()), name_size);
      if (!entries.emplace(name, content(name, at, at + kFixed + name_size, extra_size)).second) {
        damaged("{} is there twice", name);
      }
      at += kFixed + name_size + extra_size + comment_size;
    }
    return entries;
  }

 private:
  struct Directory {
    std::uint64_t begin = 0, entries = 0;
  };

  template <typename... Args>
  [[noreturn]] void damaged(fmt::format_string<Args...> format, Args&&... args) const {
    throw_input_error("{} is not a zip archive that can be read: {}", source_,
                      fmt::format(format, std::forward<Args>(args)...));
  }

  std::span<const std::byte> part(std::uint64_t begin, std::uint64_t size) const {
    if (begin > archive_.size() || size > archive_.size() - begin) {
      damaged("bytes {} to {} of {} are wanted; was it cut off?", begin, begin + size,
              archive_.size());
    }
    return archive_.subspan(begin, size);
  }
  template <std::unsigned_integral T>
  T number(std::uint64_t at) const {
    T value;
    std::memcpy(&value, part(at, sizeof value).data(), sizeof value);
    return value;
  }

  // The record at the end of the file, which a comment may follow.
  Directory find_directory() const {
    constexpr std::uint64_t kSize = 22, kLocatorSize = 20, kMostComment = 0xffff;
    if (archive_.size() < kSize) damaged("it has {} bytes", archive_.size());
    const std::uint64_t last = archive_.size() - kSize;
    for (std::uint64_t at = last; last - at <= kMostComment; --at) {
      if (number<std::uint32_t>(at) == kEnd && number<std::uint16_t>(at + 20) == last - at) {
        if (at >= kLocatorSize && number<std::uint32_t>(at - kLocatorSize) == kEnd64Locator) {
          const auto end64 = number<std::uint64_t>(at - kLocatorSize + 8);
          if (number<std::uint32_t>(end64) != kEnd64) damaged("its zip64 directory is not there");
          return {number<std::uint64_t>(end64 + 48), number<std::uint64_t>(end64 + 32)};
        }
        return {number<std::uint32_t>(at + 16), number<std::uint16_t>(at + 10)};
      }
      if (at == 0) break;
    }
    damaged("it has no directory at its end; was it cut off?");
  }

  // `at`: the entry's record in the directory, followed by its extra fields.
  std::span<const std::byte> content(const std::string& name, std::uint64_t at, std::uint64_t extra,
                                     std::uint64_t extra_size) const {
    constexpr std::uint16_t kEncrypted = 1, kZip64 = 1;
    std::uint64_t stored = number<std::uint32_t>(at + 20), size = number<std::uint32_t>(at + 24),
                  header = number<std::uint32_t>(at + 42);
    const std::uint64_t end = extra + part(extra, extra_size).size();
    while (end - extra >= 4) {
      const auto kind = number<std::uint16_t>(extra);
      std::uint64_t field = extra + 4;
      extra = field + std::min<std::uint64_t>(number<std::uint16_t>(extra + 2), end - field);
      for (std::uint64_t* value : {&size, &stored, &header}) {
        if (kind != kZip64 || *value != kInZip64 || extra - field < 8) continue;
        *value = number<std::uint64_t>(field);
        field += 8;
      }
    }
    if (number<std::uint16_t>(at + 10) != 0 || (number<std::uint16_t>(at + 8) & kEncrypted) != 0 ||
        stored != size) {
      damaged("{} is compressed or encrypted; expected an entry stored as it is", name);
    }
    if (number<std::uint32_t>(header) != kLocalHeader) damaged("{} has no header", name);
    const std::uint64_t begin =
        header + 30 + number<std::uint16_t>(header + 26) + number<std::uint16_t>(header + 28);
    return part(begin, size);
  }

  std::span<const std::byte> archive_;
  const std::string& source_;
};

}  // namespace

ZipEntries read_zip_entries(std::span<const std::byte> archive, const std::string& source) {
  return ZipReader(archive, source).read();
}

}  // namespace bert
