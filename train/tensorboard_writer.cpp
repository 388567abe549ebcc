#include "train/tensorboard_writer.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>

#include <fcntl.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "tensorboard_event.pb.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
using tensorboard::Event;

constexpr int kStringDtype = 7;
constexpr int kSessionStart = 1;

double wall_time() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0 || name[0] == '\0') return "localhost";
  std::string host(name);
  for (char& c : host) {
    if (c == '/') c = '_';
  }
  return host;
}

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0x82f63b78u : 0u);
    table[byte] = crc;
  }
  return table;
}

// TensorFlow's records keep checksums "masked", so that a checksum of bytes with checksums in them
// is still a good one.
std::uint32_t masked_crc32c(std::string_view data) {
  const std::uint32_t crc = crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

void append_little_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

Event event_at(std::int64_t step) {
  Event event;
  event.set_wall_time(wall_time());
  event.set_step(step);
  return event;
}

tensorboard::Summary::Value& add_value(Event& event, std::string_view tag) {
  auto* value = event.mutable_summary()->add_value();
  value->set_tag(std::string(tag));
  return *value;
}

}  // namespace

std::uint32_t crc32c(std::string_view data) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = ~0u;
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

TensorboardWriter::TensorboardWriter(const fs::path& folder, std::int64_t first_step) {
  make_directories(folder);
  // The seconds come first in the name, for TensorBoard reads files in the order of their names;
  // the last number keeps two files of one second and process apart.
  const auto seconds = static_cast<std::int64_t>(wall_time());
  for (int number = 0; file_ == nullptr; ++number) {
    path_ = folder / fmt::format("events.out.tfevents.{:010d}.{}.{}.{}", seconds, host_name(),
                                 ::getpid(), number);
    const int descriptor = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor >= 0) {
      file_ = ::fdopen(descriptor, "wb");
    } else if (errno != EEXIST) {
      throw_runtime_error("cannot write {}: {}", path_.string(), std::strerror(errno));
    }
  }
  Event version;
  version.set_wall_time(wall_time());
  version.set_file_version("brain.Event:2");
  record(version.SerializeAsString());
  if (first_step > 0) {
    Event start = event_at(first_step);
    start.mutable_session_log()->set_status(kSessionStart);
    record(start.SerializeAsString());
  }
  flush();
}

TensorboardWriter::~TensorboardWriter() { std::fclose(file_); }

void TensorboardWriter::scalar(std::string_view tag, double value, std::int64_t step) {
  Event event = event_at(step);
  add_value(event, tag).set_simple_value(static_cast<float>(value));
  record(event.SerializeAsString());
}

void TensorboardWriter::text(std::string_view tag, std::string_view markdown, std::int64_t step) {
  Event event = event_at(step);
  auto& value = add_value(event, tag);
  value.mutable_metadata()->mutable_plugin_data()->set_plugin_name("text");
  value.mutable_tensor()->set_dtype(kStringDtype);
  value.mutable_tensor()->mutable_tensor_shape()->add_dim()->set_size(1);
  value.mutable_tensor()->add_string_val(std::string(markdown));
  record(event.SerializeAsString());
}

void TensorboardWriter::flush() {
  if (std::fflush(file_) != 0) {
    throw_runtime_error("cannot write {}: {}", path_.string(), std::strerror(errno));
  }
}

void TensorboardWriter::record(const std::string& data) {
  std::string length, framed;
  append_little_endian(length, data.size(), 8);
  framed = length;
  append_little_endian(framed, masked_crc32c(length), 4);
  framed += data;
  append_little_endian(framed, masked_crc32c(data), 4);
  if (std::fwrite(framed.data(), 1, framed.size(), file_) != framed.size()) {
    throw_runtime_error("cannot write {}: {}", path_.string(), std::strerror(errno));
  }
}

}  // namespace bert
