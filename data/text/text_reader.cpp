#include "data/text/text_reader.h"

#include <utility>

namespace bert {
namespace {

constexpr std::uint64_t kProgressStep = std::uint64_t{1} << 20;

}  // namespace

TextReader::TextReader(const std::vector<std::string>& files, TextReaderOptions options)
    : inputs_(expand_inputs(files)), options_(std::move(options)) {}

bool TextReader::next_line(std::string_view& line) {
  while (next_line_ == parsed_.lines.size()) {
    parsed_ = {};
    next_line_ = 0;
    if (reader_ && next_block(block_)) {
      parsed_ = parse_text_block(block_, options_);
      add(parsed_);
    } else if (!next_file()) {
      return false;
    }
  }
  line = parsed_.lines[next_line_++];
  return true;
}

bool TextReader::next_file() {
  if (reader_) {
    if (file().named && stats_.seen() == seen_before_) throw_blank(file().path);
    ++stats_.files;
    bytes_before_ += reader_->bytes_read();
    reader_.reset();
    if (files_opened_ == inputs_.files.size()) report_progress(0);
  }
  if (files_opened_ == inputs_.files.size()) return false;
  reader_.emplace(inputs_.files[files_opened_++].path, options_);
  line_ends_ = 0;
  seen_before_ = stats_.seen();
  return true;
}

bool TextReader::next_block(TextBlock& block) {
  if (!reader_->next(block)) return false;
  report_progress(kProgressStep);
  return true;
}

void TextReader::add(const ParsedText& parsed) {
  stats_.add(parsed, display_name(file().path), line_ends_);
  line_ends_ += parsed.line_ends;
}

void TextReader::report_progress(std::uint64_t step) {
  const std::uint64_t bytes = bytes_before_ + (reader_ ? reader_->bytes_read() : 0);
  if (!options_.progress || bytes < bytes_reported_ + step) return;
  bytes_reported_ = bytes;
  options_.progress(bytes, inputs_.bytes);
}

}  // namespace bert
