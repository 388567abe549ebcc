#include "data/text/text_blocks.h"

#include <algorithm>
#include <utility>

#include "data/text/blank.h"
#include "data/text/json_record.h"
#include "data/text/unicode.h"
#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 18;

// Where to cut a line of more than `limit` bytes: after its last white space before that, else
// before the character that would be torn.
std::size_t cut_position(std::string_view line, std::size_t limit) {
  const std::size_t space = line.substr(0, limit).find_last_of(" \t");
  if (space != std::string_view::npos && space > 0) return space + 1;
  std::size_t cut = limit;
  while (cut > 1 && limit - cut < 4 && (static_cast<unsigned char>(line[cut]) & 0xC0) == 0x80) {
    --cut;
  }
  return cut;
}

class BlockParser {
 public:
  BlockParser(const TextBlock& block, const TextParsingOptions& options)
      : block_(block), options_(options) {}

  ParsedText run() {
    std::string_view rest = block_.bytes;
    if (block_.begins_file && rest.starts_with(kByteOrderMark)) {
      rest.remove_prefix(kByteOrderMark.size());
    }
    bool continues = block_.begins_in_line;
    while (!rest.empty() && parsed_.refused.empty()) {
      const std::size_t newline = rest.find('\n');
      const bool ends = newline != std::string_view::npos;
      const std::string_view line = rest.substr(0, newline);
      rest.remove_prefix(ends ? newline + 1 : rest.size());
      if (block_.format == TextFormat::json_lines) {
        record(line);
      } else if (add_text(line, continues, !ends && block_.ends_in_line) == Blank::yes) {
        end_document();
      }
      continues = false;
      parsed_.line_ends += ends ? 1 : 0;
    }
    return std::move(parsed_);
  }

 private:
  enum class Blank { no, yes };

  void end_document() {
    if (parsed_.document_ends.empty() || parsed_.document_ends.back() != parsed_.lines.size()) {
      parsed_.document_ends.push_back(parsed_.lines.size());
    }
  }

  void refuse(std::string what) {
    parsed_.refused = std::move(what);
    parsed_.refused_at = parsed_.line_ends;
  }

  // The line, in several where it is too long. `continues`: its beginning was in the block before,
  // `goes_on`: its end is in the next.
  Blank add_text(std::string_view line, bool continues, bool goes_on) {
    if (line.size() <= options_.max_line_bytes && !continues && !goes_on) {
      if (line.ends_with('\r')) line.remove_suffix(1);
      if (is_blank(line)) return Blank::yes;
      add_line(line);
      return Blank::no;
    }
    if (!continues) ++parsed_.cut_lines;
    while (!line.empty() && parsed_.refused.empty()) {
      const std::size_t size = line.size() <= options_.max_line_bytes
                                   ? line.size()
                                   : cut_position(line, options_.max_line_bytes);
      std::string_view piece = line.substr(0, size);
      line.remove_prefix(size);
      if (line.empty() && !goes_on && piece.ends_with('\r')) piece.remove_suffix(1);
      if (!is_blank(piece)) add_line(piece);
    }
    return Blank::no;
  }

  void add_line(std::string_view line) {
    line = valid(line);
    if (options_.min_line_chars > 0 && count_utf8(line) < options_.min_line_chars) {
      ++parsed_.short_lines;
    } else {
      parsed_.lines.push_back(line);
      ++parsed_.num_lines;
      parsed_.bytes += line.size();
    }
  }

  // `text` itself if it is valid UTF-8.
  std::string_view valid(std::string_view text) {
    if (is_valid_utf8(text)) return text;
    if (options_.refuse_invalid_utf8) {
      refuse(
          "not valid UTF-8; convert the file with iconv -t UTF-8, or give --invalid-utf8 replace, "
          "which makes the invalid bytes U+FFFD");
    }
    if (parsed_.invalid_utf8 == 0) parsed_.first_invalid_utf8 = parsed_.line_ends;
    return parsed_.storage.emplace_back(replace_invalid_utf8(text, parsed_.invalid_utf8));
  }

  void record(std::string_view line) {
    if (!block_.too_long && is_blank(line)) return;
    std::string problem;
    std::string& text = parsed_.storage.emplace_back();
    if (block_.too_long || line.size() > options_.max_record_bytes) {
      problem = fmt::format("it is longer than {} MiB", options_.max_record_bytes >> 20);
    } else {
      line = valid(line);
      if (!parsed_.refused.empty()) return;
      problem = read_json_text(line, options_.text_field, text);
    }
    if (!problem.empty()) {
      if (!options_.skip_malformed) {
        refuse(fmt::format("{}; --malformed skip leaves such lines out",
                           malformed_record(options_.text_field, problem)));
      }
      if (parsed_.malformed++ == 0) parsed_.first_malformed = parsed_.line_ends;
      return;
    }
    for (std::string_view rest = text; !rest.empty();) {
      const std::size_t newline = rest.find('\n');
      add_text(rest.substr(0, newline), false, false);
      rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
    }
    end_document();
  }

  const TextBlock& block_;
  const TextParsingOptions& options_;
  ParsedText parsed_;
};

}  // namespace

std::string_view text_format_name(TextFormat format) {
  switch (format) {
    case TextFormat::text:
      return "text";
    case TextFormat::json_lines:
      return "jsonl";
    default:
      return "auto";
  }
}

TextFormat parse_text_format(std::string_view name) {
  for (const TextFormat format :
       {TextFormat::automatic, TextFormat::text, TextFormat::json_lines}) {
    if (name == text_format_name(format)) return format;
  }
  throw_input_error("unknown format '{}': expected auto, text or jsonl", name);
}

TextFormat detect_text_format(const std::string& file, std::string_view head) {
  if (head.starts_with(kByteOrderMark)) head.remove_prefix(kByteOrderMark.size());
  const auto next_char = [&] {
    const auto place = std::find_if_not(head.begin(), head.end(), is_blank_char);
    head.remove_prefix(static_cast<std::size_t>(place - head.begin()));
    const char c = head.empty() ? '\0' : head.front();
    if (!head.empty()) head.remove_prefix(1);
    return c;
  };
  const std::string_view all = head;
  const char first = next_char(), second = next_char();
  if (first == '{' && second == '"') return TextFormat::json_lines;
  if (first == '[' && second == '{') {
    throw_input_error(
        "{} looks like a JSON array; expected JSON lines, an object a line: convert it with "
        "jq -c '.[]', or give --format text if it is text",
        file);
  }
  if (all.starts_with("<doc id=")) {
    throw_input_error(
        "{} is WikiExtractor's format with <doc> tags; run WikiExtractor with --json, or give "
        "--format text if the tags are to be read as text",
        file);
  }
  return TextFormat::text;
}

TextBlockReader::TextBlockReader(const std::string& file, const TextParsingOptions& options,
                                 std::uint64_t begin, std::uint64_t end)
    : source_(file, begin, end), options_(options), begins_file_(begin == 0) {
  BERT_CHECK(options_.max_line_bytes >= 16, "lines of at least 16 bytes");
  if (options_.format == TextFormat::automatic) {
    read_more();
    options_.format = detect_text_format(display_name(file), buffer_);
  }
}

bool TextBlockReader::read_more() {
  if (ended_) return false;
  const std::size_t before = buffer_.size();
  buffer_.resize(before + kBlockBytes);
  const std::size_t got = source_.read(buffer_.data() + before, kBlockBytes);
  buffer_.resize(before + got);
  ended_ = got == 0;
  return !ended_;
}

// Moves the first `size` bytes of the buffer to `block`.
void TextBlockReader::take(std::size_t size, TextBlock& block) {
  block = {};
  block.format = options_.format;
  block.begins_file = std::exchange(begins_file_, false);
  block.begins_in_line = std::exchange(in_line_, false);
  std::string rest = buffer_.substr(size);
  buffer_.resize(size);
  block.bytes = std::exchange(buffer_, std::move(rest));
}

// The buffer has no line end. Does `block` have something to give nevertheless?
bool TextBlockReader::next_of_long_line(TextBlock& block) {
  if (options_.format == TextFormat::text) {
    const std::size_t limit = options_.max_line_bytes;
    if (buffer_.size() <= limit) return false;
    // As many pieces as there are: the rest is copied and searched anew each time. Up to one that
    // add_text would join to the piece before it.
    std::size_t size = 0;
    for (std::size_t piece, before = limit; buffer_.size() - size > limit; before = piece) {
      piece = cut_position(std::string_view(buffer_).substr(size), limit);
      if (before + piece <= limit) break;
      size += piece;
    }
    take(size, block);
    block.ends_in_line = in_line_ = true;
    return true;
  }
  if (buffer_.size() <= options_.max_record_bytes) return false;
  std::size_t newline = std::string::npos;
  do {
    buffer_.resize(1);  // what it holds does not matter
    if (!read_more()) break;
    newline = buffer_.find('\n');
  } while (newline == std::string::npos);
  take(newline == std::string::npos ? buffer_.size() : newline + 1, block);
  block.too_long = true;
  return true;
}

bool TextBlockReader::next(TextBlock& block) {
  std::size_t searched = 0;
  while (true) {
    // The last line end of what was not yet searched.
    const std::size_t newline = std::string_view(buffer_).substr(searched).rfind('\n');
    if (newline != std::string_view::npos) {
      take(searched + newline + 1, block);
      return true;
    }
    searched = buffer_.size();
    if (next_of_long_line(block)) return true;
    if (read_more()) continue;
    if (buffer_.empty()) return false;
    take(buffer_.size(), block);
    return true;
  }
}

ParsedText parse_text_block(const TextBlock& block, const TextParsingOptions& options) {
  return BlockParser(block, options).run();
}

TextStats& TextStats::operator+=(const TextStats& later) {
  for_each_count([&](const char*, auto count) { this->*count += later.*count; });
  if (first_invalid_utf8.empty()) first_invalid_utf8 = later.first_invalid_utf8;
  if (first_malformed.empty()) first_malformed = later.first_malformed;
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
  lines += parsed.num_lines;
  bytes += parsed.bytes;
  invalid_utf8 += parsed.invalid_utf8;
  malformed += parsed.malformed;
  short_lines += parsed.short_lines;
  cut_lines += parsed.cut_lines;
}

void throw_blank(const std::string& file) {
  throw_input_error("{} holds no text, only blank lines", display_name(file));
}

std::uint64_t find_document_boundary(const std::string& file, TextFormat format,
                                     std::uint64_t position) {
  ByteSource source(file, position);
  std::vector<char> buffer(std::size_t{1} << 16);
  bool whole_line = false, blank = true;
  for (std::uint64_t place = position;;) {
    const std::size_t got = source.read(buffer.data(), buffer.size());
    if (got == 0) return place;
    for (std::size_t i = 0; i < got; ++i) {
      if (buffer[i] != '\n') {
        blank = blank && is_blank_char(buffer[i]);
        continue;
      }
      if (format == TextFormat::json_lines || (whole_line && blank)) return place + i + 1;
      whole_line = blank = true;
    }
    place += got;
  }
}

std::uint64_t count_lines_before(const std::string& file, std::uint64_t end) {
  if (end == 0) return 0;
  ByteSource source(file, 0, end);
  std::vector<char> buffer(std::size_t{1} << 16);
  std::uint64_t lines = 0;
  while (const std::size_t got = source.read(buffer.data(), buffer.size())) {
    lines += static_cast<std::uint64_t>(std::count(buffer.begin(), buffer.begin() + got, '\n'));
  }
  return lines;
}

}  // namespace bert
