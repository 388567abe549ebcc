// TensorBoard event files: scalars, texts and histograms.
//
// A file is a sequence of records (u64 length | masked crc32c | data | masked crc32c), each an
// Event message in protobuf's wire format. The few messages needed are written here by hand, for
// Debian's libsentencepiece brings a protobuf of its own, whose symbols a second one would mix
// with.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "train/logging/record_file.h"

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

// How values are distributed, as HistogramProto of summary.proto has it.
struct Histogram {
  double min = 0.0, max = 0.0, num = 0.0, sum = 0.0, sum_squares = 0.0;
  // The i-th bucket counts the values from limits[i - 1] (the first: from -infinity) up to and
  // without limits[i]; the last limit is beyond max.
  std::vector<double> limits, counts;
};
// Limits are 0 and plus and minus 1e-12 * 1.1^k, those that the values need. Values that are not
// finite are left out.
Histogram make_histogram(const std::vector<double>& values);
std::string histogram_event(double wall_time, std::int64_t step, std::string_view tag,
                            const Histogram& histogram);
}  // namespace tensorboard

// `text` as a cell of a table in Markdown that shows it as it is, in one line.
std::string markdown_cell(std::string_view text);

class TensorboardWriter {
 public:
  // Opens a new event file in `folder` (made if it is not there); every run and every resume has a
  // file of its own. `first_step`: TensorBoard drops what earlier files say of this step and later
  // ones, so a resumed run does not show twice what it repeats. RuntimeError when it cannot be
  // opened; a disk that is full later does not end the run, see RecordFile, whose `warn` it is.
  explicit TensorboardWriter(const std::filesystem::path& folder, std::int64_t first_step = 0,
                             RecordFile::Warn warn = {});

  // What has been written of `first_step` and later ones is void.
  void go_back(std::int64_t first_step);
  void scalar(std::string_view tag, double value, std::int64_t step);
  void text(std::string_view tag, std::string_view markdown, std::int64_t step);
  // Nothing is written if no value is finite.
  void histogram(std::string_view tag, const std::vector<double>& values, std::int64_t step);

  const std::filesystem::path& path() const { return file_.path(); }

 private:
  void record(const std::string& data);

  RecordFile file_;
};

}  // namespace bert
