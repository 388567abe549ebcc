#include "data/text/text_lines.h"

#include <algorithm>
#include <filesystem>
#include <string_view>
#include <utility>

#include "data/text/blank.h"
#include "data/text/json_record.h"
#include "data/text/unicode.h"
#include "runtime/error.h"

namespace bert {
namespace {

bool named_as_json_lines(const std::string& file) {
  const std::string name = without_compression(file);
  return name.ends_with(".jsonl") || name.ends_with(".ndjson");
}

}  // namespace

TextLines::TextLines(std::vector<std::string> files, std::string text_field)
    : files_(std::move(files)), text_field_(std::move(text_field)) {}

std::optional<TextLine> TextLines::next() {
  reach_line(true);
  if (source_ == nullptr) return std::nullopt;
  TextLine line{take_line(), display_name(files_[opened_ - 1]), number_, {}};
  decode(line);
  return line;
}

bool TextLines::ready() { return reach_line(false); }

// Goes on to the next line, or behind the last file: then no source is open. False where that would
// mean to wait, unless it may.
bool TextLines::reach_line(bool may_wait) {
  while (true) {
    if (source_ == nullptr) {
      if (opened_ == files_.size()) return true;
      // To open a pipe is to wait for who writes into it.
      std::error_code ignored;
      if (!may_wait && !std::filesystem::is_regular_file(files_[opened_], ignored)) return false;
      open();
    }
    if (has_line()) return true;
    if (ended_) {
      source_.reset();
      continue;
    }
    if (!may_wait && source_->would_wait()) return false;
    read_more();
  }
}

// Whether a line that counts lies in the buffer; blank JSON lines before it are dropped.
bool TextLines::has_line() {
  while (true) {
    const std::size_t newline = buffer_.find('\n', taken_);
    if (newline == std::string::npos && (!ended_ || taken_ == buffer_.size())) return false;
    const std::string_view rest = std::string_view(buffer_).substr(taken_);
    if (field_.empty() || !is_blank(rest.substr(0, newline - taken_))) return true;
    take_line();
  }
}

void TextLines::open() {
  const std::string& file = files_[opened_++];
  source_ =
      std::make_unique<ByteSource>(file, 0, ByteSource::kToTheEnd, ByteSource::Pace::as_it_comes);
  field_ = text_field_.empty() && named_as_json_lines(file) ? "text" : text_field_;
  buffer_.clear();
  taken_ = 0;
  number_ = 0;
  ended_ = false;
  read_more();
  if (buffer_.starts_with(kByteOrderMark)) taken_ = kByteOrderMark.size();
}

void TextLines::read_more() {
  constexpr std::size_t kStep = std::size_t{1} << 16;
  buffer_.erase(0, std::exchange(taken_, 0));
  const std::size_t size = buffer_.size();
  if (size > kMostLineBytes) {
    throw_input_error("{}:{}: a line of more than {} MiB", display_name(files_[opened_ - 1]),
                      number_ + 1, kMostLineBytes >> 20);
  }
  buffer_.resize(size + kStep);
  const std::size_t got = source_->read(buffer_.data() + size, kStep);
  buffer_.resize(size + got);
  ended_ = got == 0;
}

std::string TextLines::take_line() {
  const std::size_t end = std::min(buffer_.find('\n', taken_), buffer_.size());
  std::string line = buffer_.substr(taken_, end - taken_);
  taken_ = std::min(end + 1, buffer_.size());
  if (line.ends_with('\r')) line.pop_back();
  ++number_;
  return line;
}

void TextLines::decode(TextLine& line) {
  if (!is_valid_utf8(line.text)) line.text = replace_invalid_utf8(line.text, invalid_utf8_);
  if (field_.empty()) return;
  std::string text;
  const std::string problem = read_json_text(line.text, field_, text);
  if (!problem.empty()) line.malformed = malformed_record(field_, problem);
  line.text = problem.empty() ? std::move(text) : "";
}

}  // namespace bert
