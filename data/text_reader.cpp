#include "data/text_reader.h"

#include <utility>

#include "data/input_files.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::uint64_t kProgressStep = std::uint64_t{1} << 20;

}  // namespace

TextStats& TextStats::operator+=(const TextStats& later) {
  files += later.files;
  documents += later.documents;
  lines += later.lines;
  bytes += later.bytes;
  invalid_utf8 += later.invalid_utf8;
  if (first_invalid_utf8.empty()) first_invalid_utf8 = later.first_invalid_utf8;
  malformed += later.malformed;
  if (first_malformed.empty()) first_malformed = later.first_malformed;
  short_lines += later.short_lines;
  cut_lines += later.cut_lines;
  cut_documents += later.cut_documents;
  return *this;
}

void TextStats::add(const ParsedText& parsed, const std::string& file, std::uint64_t lines_before) {
  const auto place = [&](std::uint64_t line_ends) {
    return fmt::format("{}:{}", file, lines_before + line_ends + 1);
  };
  if (!parsed.refused.empty()) {
    throw_input_error("{}: {}", place(parsed.refused_at), parsed.refused);
  }
  if (parsed.invalid_utf8 > 0 && invalid_utf8 == 0) {
    first_invalid_utf8 = place(parsed.first_invalid_utf8);
  }
  if (parsed.malformed > 0 && malformed == 0) first_malformed = place(parsed.first_malformed);
  invalid_utf8 += parsed.invalid_utf8;
  malformed += parsed.malformed;
  short_lines += parsed.short_lines;
  cut_lines += parsed.cut_lines;
}

struct TextReader::Impl {
  Inputs inputs;
  TextReaderOptions options;
  TextStats stats;
  std::size_t next_file = 0;
  std::unique_ptr<TextBlockReader> reader;  // of file next_file - 1
  std::uint64_t bytes_before = 0, bytes_reported = 0;
  std::uint64_t line_ends = 0, lines_before = 0;
  TextBlock block;
  ParsedText parsed;
  std::size_t next_line = 0, next_end = 0;  // in parsed
  bool finished = false;

  const InputFile& file() const { return inputs.files[next_file - 1]; }

  void report_progress(bool at_end) {
    if (!options.progress) return;
    const std::uint64_t bytes = bytes_before + (reader ? reader->bytes_read() : 0);
    if (!at_end && bytes < bytes_reported + kProgressStep) return;
    bytes_reported = bytes;
    options.progress(bytes, inputs.bytes);
  }

  void close_file() {
    bytes_before += reader->bytes_read();
    reader.reset();
    if (stats.lines == lines_before && stats.malformed == 0 && stats.short_lines == 0 &&
        file().named) {
      throw_input_error("{} holds no text, only blank lines", display_name(file().path));
    }
    ++stats.files;
  }

  // Parses on. What came is in `parsed`; at the end of a file that is a document's end alone. False
  // after the last file.
  bool read_on() {
    parsed = {};
    next_line = next_end = 0;
    if (!reader) {
      if (next_file == inputs.files.size()) return false;
      reader = std::make_unique<TextBlockReader>(inputs.files[next_file++].path, options);
      line_ends = 0;
      lines_before = stats.lines;
    }
    if (reader->next(block)) {
      parsed = parse_text_block(block, options);
      stats.add(parsed, display_name(file().path), line_ends);
      line_ends += parsed.line_ends;
      report_progress(false);
    } else {
      close_file();
      parsed.document_ends.push_back(0);
    }
    return true;
  }

  bool next_document(std::vector<std::string>& lines) {
    lines.clear();
    std::size_t bytes = 0;
    while (true) {
      if (next_end < parsed.document_ends.size() && parsed.document_ends[next_end] == next_line) {
        ++next_end;
        if (!lines.empty()) break;
      } else if (next_line < parsed.lines.size()) {
        lines.emplace_back(parsed.lines[next_line++]);
        bytes += lines.back().size();
        ++stats.lines;
        if (bytes >= options.max_document_bytes) {
          ++stats.cut_documents;
          break;
        }
      } else if (!read_on()) {
        if (!std::exchange(finished, true)) report_progress(true);
        return false;
      }
    }
    stats.bytes += bytes;
    ++stats.documents;
    return true;
  }
};

TextReader::TextReader(const std::vector<std::string>& files, TextReaderOptions options)
    : impl_(std::make_unique<Impl>()) {
  impl_->options = std::move(options);
  impl_->inputs = expand_inputs(files);
}

TextReader::~TextReader() = default;
TextReader::TextReader(TextReader&&) noexcept = default;
TextReader& TextReader::operator=(TextReader&&) noexcept = default;

bool TextReader::next_document(std::vector<std::string>& lines) {
  return impl_->next_document(lines);
}

const TextStats& TextReader::stats() const { return impl_->stats; }

}  // namespace bert
