// TensorBoard event files: scalars and texts.
//
// A file is a sequence of records (u64 length | masked crc32c | data | masked crc32c), each an
// Event message in protobuf's wire format. The few messages needed are written here by hand, for
// Debian's libsentencepiece brings a protobuf of its own, whose symbols a second one would mix
// with.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

namespace bert {

// CRC-32C (Castagnoli), as in RFC 3720: crc32c("123456789") == 0xe3069283.
std::uint32_t crc32c(std::string_view data);

// Event messages, under the field numbers of tensorflow's event.proto, summary.proto and
// tensor.proto. `wall_time`: seconds since 1970.
namespace tensorboard {
std::string version_event(double wall_time);
// A run starts at `step`: what earlier files say of it and of later steps is void.
std::string start_event(double wall_time, std::int64_t step);
std::string scalar_event(double wall_time, std::int64_t step, std::string_view tag, float value);
std::string text_event(double wall_time, std::int64_t step, std::string_view tag,
                       std::string_view markdown);
}  // namespace tensorboard

class TensorboardWriter {
 public:
  // Opens a new event file in `folder` (made if it is not there); every run and every resume has a
  // file of its own. `first_step`: TensorBoard drops what earlier files say of this step and later
  // ones, so a resumed run does not show twice what it repeats. RuntimeError when it cannot be
  // written.
  explicit TensorboardWriter(const std::filesystem::path& folder, std::int64_t first_step = 0);
  ~TensorboardWriter();
  TensorboardWriter(const TensorboardWriter&) = delete;
  TensorboardWriter& operator=(const TensorboardWriter&) = delete;

  void scalar(std::string_view tag, double value, std::int64_t step);
  void text(std::string_view tag, std::string_view markdown, std::int64_t step);
  void flush();

  const std::filesystem::path& path() const { return path_; }

 private:
  void record(const std::string& data);

  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
};

}  // namespace bert
