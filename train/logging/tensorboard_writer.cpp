#include "train/logging/tensorboard_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <iterator>
#include <utility>

#include <unistd.h>

#include "runtime/error.h"
#include "runtime/file.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

void append_little_endian(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xff));
}

// A protobuf message being written: each field is a key (number and wire type) and a value.
class Message {
 public:
  void varint(int field, std::uint64_t value) {
    raw_varint(static_cast<std::uint64_t>(field) << 3);
    raw_varint(value);
  }
  void fixed64(int field, double value) { fixed(field, 1, std::bit_cast<std::uint64_t>(value), 8); }
  void fixed32(int field, float value) { fixed(field, 5, std::bit_cast<std::uint32_t>(value), 4); }
  // Strings, bytes, and messages inside messages.
  void bytes(int field, std::string_view value) {
    raw_varint(static_cast<std::uint64_t>(field) << 3 | 2);
    raw_varint(value.size());
    data_ += value;
  }
  void packed(int field, const std::vector<double>& values) {
    std::string data;
    for (const double value : values) {
      append_little_endian(data, std::bit_cast<std::uint64_t>(value), 8);
    }
    bytes(field, data);
  }
  const std::string& data() const { return data_; }

 private:
  void fixed(int field, unsigned type, std::uint64_t bits, int count) {
    raw_varint(static_cast<std::uint64_t>(field) << 3 | type);
    append_little_endian(data_, bits, count);
  }
  void raw_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) data_.push_back(static_cast<char>(value | 0x80));
    data_.push_back(static_cast<char>(value));
  }

  std::string data_;
};

double now() {
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

// The seconds come first in the name, for TensorBoard reads files in the order of their names; the
// last number keeps two files of one second and process apart.
fs::path new_file(const fs::path& folder) {
  make_directories(folder);
  const auto seconds = static_cast<std::int64_t>(now());
  for (int number = 0;; ++number) {
    fs::path path = folder / fmt::format("events.out.tfevents.{:010d}.{}.{}.{}", seconds,
                                         host_name(), ::getpid(), number);
    if (!fs::exists(path)) return path;
  }
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

// Event: wall_time = 1, step = 2.
Message event_at(double when, std::int64_t step) {
  Message event;
  event.fixed64(1, when);
  event.varint(2, static_cast<std::uint64_t>(step));
  return event;
}

// Event.summary = 5; Summary.value = 1.
std::string summary_event(double when, std::int64_t step, const Message& value) {
  Message summary, event = event_at(when, step);
  summary.bytes(1, value.data());
  event.bytes(5, summary.data());
  return event.data();
}

}  // namespace

namespace tensorboard {

std::string version_event(double wall_time) {
  Message event;
  event.fixed64(1, wall_time);
  event.bytes(3, "brain.Event:2");
  return event.data();
}

std::string start_event(double wall_time, std::int64_t step) {
  Message session_log, event = event_at(wall_time, step);
  session_log.varint(1, 1);  // status: START
  event.bytes(7, session_log.data());
  return event.data();
}

std::string scalar_event(double wall_time, std::int64_t step, std::string_view tag, float scalar) {
  Message value;  // Summary.Value
  value.bytes(1, tag);
  value.fixed32(2, scalar);  // simple_value
  return summary_event(wall_time, step, value);
}

std::string text_event(double wall_time, std::int64_t step, std::string_view tag,
                       std::string_view markdown) {
  Message size, shape, tensor, plugin, metadata, value;
  size.varint(1, 1);            // TensorShapeProto.Dim: size
  shape.bytes(2, size.data());  // TensorShapeProto: dim
  tensor.varint(1, 7);          // TensorProto: dtype DT_STRING
  tensor.bytes(2, shape.data());
  tensor.bytes(8, markdown);         // string_val
  plugin.bytes(1, "text");           // PluginData: plugin_name
  metadata.bytes(1, plugin.data());  // SummaryMetadata: plugin_data
  value.bytes(1, tag);
  value.bytes(8, tensor.data());
  value.bytes(9, metadata.data());
  return summary_event(wall_time, step, value);
}

namespace {

constexpr double kFirstLimit = 1e-12, kLimitGrowth = 1.1;

// The number of the bucket of a value, counted from the one that begins at 0.
int bucket_of(double value) {
  const auto of_size = [](double size) {
    if (size < kFirstLimit) return 0;
    return 1 + static_cast<int>(std::floor(std::log(size / kFirstLimit) / std::log(kLimitGrowth)));
  };
  return value >= 0 ? of_size(value) : -1 - of_size(-value);
}

// Where a bucket ends.
double limit_of(int bucket) {
  if (bucket == -1) return 0.0;
  return bucket >= 0 ? kFirstLimit * std::pow(kLimitGrowth, bucket)
                     : -kFirstLimit * std::pow(kLimitGrowth, -bucket - 2);
}

}  // namespace

Histogram make_histogram(const std::vector<double>& values) {
  std::vector<double> sorted;
  std::copy_if(values.begin(), values.end(), std::back_inserter(sorted),
               [](double value) { return std::isfinite(value); });
  Histogram histogram;
  if (sorted.empty()) return histogram;
  std::sort(sorted.begin(), sorted.end());
  histogram.min = sorted.front();
  histogram.max = sorted.back();
  histogram.num = static_cast<double>(sorted.size());
  auto next = sorted.begin();
  for (int bucket = bucket_of(histogram.min); next != sorted.end(); ++bucket) {
    // Decided by the limits that are written, which the logarithm may miss by a rounding.
    const double limit = limit_of(bucket);
    const auto end = std::lower_bound(next, sorted.end(), limit);
    histogram.limits.push_back(limit);
    histogram.counts.push_back(static_cast<double>(end - next));
    next = end;
  }
  for (const double value : sorted) {
    histogram.sum += value;
    histogram.sum_squares += value * value;
  }
  return histogram;
}

std::string histogram_event(double wall_time, std::int64_t step, std::string_view tag,
                            const Histogram& histogram) {
  Message proto, value;
  proto.fixed64(1, histogram.min);
  proto.fixed64(2, histogram.max);
  proto.fixed64(3, histogram.num);
  proto.fixed64(4, histogram.sum);
  proto.fixed64(5, histogram.sum_squares);
  proto.packed(6, histogram.limits);
  proto.packed(7, histogram.counts);
  value.bytes(1, tag);
  value.bytes(5, proto.data());  // Summary.Value: histo
  return summary_event(wall_time, step, value);
}

}  // namespace tensorboard

std::uint32_t crc32c(std::string_view data) {
  static constexpr std::array<std::uint32_t, 256> kTable = make_crc_table();
  std::uint32_t crc = ~0u;
  for (const char c : data) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(c)) & 0xff];
  return ~crc;
}

TensorboardWriter::TensorboardWriter(const fs::path& folder, std::int64_t first_step,
                                     RecordFile::Warn warn)
    : file_(new_file(folder), std::move(warn)) {
  record(tensorboard::version_event(now()));
  if (first_step > 0) go_back(first_step);
}

std::string markdown_cell(std::string_view text) {
  constexpr std::string_view kMarkup = "\\`*_|[";
  std::string cell;
  for (const char c : text) {
    if (kMarkup.find(c) != kMarkup.npos) cell += '\\';
    if (c == '<') {
      cell += "&lt;";
    } else if (c == '&') {
      cell += "&amp;";
    } else {
      cell += c == '\n' || c == '\r' ? ' ' : c;
    }
  }
  return cell;
}

void TensorboardWriter::go_back(std::int64_t first_step) {
  record(tensorboard::start_event(now(), first_step));
}

void TensorboardWriter::scalar(std::string_view tag, double value, std::int64_t step) {
  record(tensorboard::scalar_event(now(), step, tag, static_cast<float>(value)));
}

void TensorboardWriter::text(std::string_view tag, std::string_view markdown, std::int64_t step) {
  record(tensorboard::text_event(now(), step, tag, markdown));
}

void TensorboardWriter::histogram(std::string_view tag, const std::vector<double>& values,
                                  std::int64_t step) {
  const tensorboard::Histogram histogram = tensorboard::make_histogram(values);
  if (histogram.num > 0) record(tensorboard::histogram_event(now(), step, tag, histogram));
}

void TensorboardWriter::record(const std::string& data) {
  std::string length, framed;
  append_little_endian(length, data.size(), 8);
  framed = length;
  append_little_endian(framed, masked_crc32c(length), 4);
  framed += data;
  append_little_endian(framed, masked_crc32c(data), 4);
  file_.append(std::move(framed));
}

}  // namespace bert
