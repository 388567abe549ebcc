// An input file of prepare_corpus: text or JSON lines, plain or compressed. The first byte holds
// options. A plain file that is cut at a document's boundary and read in two gives the same.
#include "data/text/text_reader.h"

#include <optional>

#include "data/text/unicode.h"
#include "tests/fuzz/fuzz_target.h"

namespace bert::fuzz {
namespace {

// A few kilobytes can be packed text of gigabytes: reading it is no error, but takes its time.
constexpr std::uint64_t kMostBytes = 4 << 20;

TextReaderOptions options_of(std::uint8_t byte) {
  TextReaderOptions options;
  constexpr TextFormat kFormats[] = {TextFormat::automatic, TextFormat::text,
                                     TextFormat::json_lines, TextFormat::automatic};
  options.format = kFormats[byte & 3];
  options.skip_malformed = (byte & 4) != 0;
  options.refuse_invalid_utf8 = (byte & 8) != 0;
  if ((byte & 16) != 0) options.max_line_bytes = 16;
  if ((byte & 32) != 0) options.max_record_bytes = 64;
  if ((byte & 128) != 0) options.min_line_chars = 3;
  return options;
}

void read_lines(const std::filesystem::path& path, const TextReaderOptions& options) {
  TextReader reader({path.string()}, options);
  for (std::string_view line; reader.stats().bytes < kMostBytes && reader.next_line(line);) {
    require(!line.empty() && is_valid_utf8(line), "a line is valid text");
    require(line.find('\n') == std::string_view::npos, "a line is one line");
  }
}

// The lines of a part, each document's followed by an empty one.
std::vector<std::string> part(const std::filesystem::path& path, const TextParsingOptions& options,
                              std::uint64_t begin, std::uint64_t end) {
  std::vector<std::string> all;
  TextBlockReader reader(path.string(), options, begin, end);
  TextBlock block;
  const auto end_document = [&] {
    if (!all.empty() && !all.back().empty()) all.emplace_back();
  };
  while (reader.next(block)) {
    const ParsedText parsed = parse_text_block(block, options);
    if (!parsed.refused.empty()) throw_input_error("{}", parsed.refused);
    std::size_t next_end = 0;
    for (std::size_t i = 0; i <= parsed.lines.size(); ++i) {
      for (; next_end < parsed.document_ends.size() && parsed.document_ends[next_end] == i;
           ++next_end) {
        end_document();
      }
      if (i < parsed.lines.size()) all.emplace_back(parsed.lines[i]);
    }
  }
  end_document();
  return all;
}

void read_in_two(const std::filesystem::path& path, std::string_view content,
                 TextParsingOptions options) {
  if (content.empty() || !compression_of(content).empty()) return;
  options.format = detect_text_format(path.string(), content);
  const std::vector<std::string> whole = part(path, options, 0, ByteSource::kToTheEnd);
  const std::uint64_t cut =
      find_document_boundary(path.string(), options.format, content.size() / 2);
  require(cut <= content.size(), "a boundary lies in the file");
  if (cut == 0 || cut == content.size()) return;
  std::vector<std::string> both = part(path, options, 0, cut);
  const std::vector<std::string> second = part(path, options, cut, content.size());
  both.insert(both.end(), second.begin(), second.end());
  require(both == whole, "two parts of a file hold what the file holds");
}

}  // namespace
}  // namespace bert::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  if (size == 0) return 0;
  const auto content = as_text(data + 1, size - 1);
  const auto path = put_file("input", content);
  const bert::TextReaderOptions options = options_of(data[0]);
  accepts([&] { read_lines(path, options); });
  accepts([&] { read_in_two(path, content, options); });
  return 0;
}
