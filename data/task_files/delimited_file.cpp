#include "data/task_files/delimited_file.h"

#include <algorithm>

namespace bert {

bool DelimitedReader::next(DelimitedRow& row) {
  while (skip_blank_line()) {
  }
  if (position_ == content_.size()) return false;
  row.line = line_;
  row.fields.clear();
  row.problem.clear();
  format_ == Delimited::tsv ? read_tsv(row) : read_csv(row);
  return true;
}

bool DelimitedReader::skip_blank_line() {
  const std::string_view rest = content_.substr(position_);
  const std::size_t size = rest.starts_with("\r\n") ? 2 : rest.starts_with('\n') ? 1 : 0;
  position_ += size;
  line_ += size > 0 ? 1 : 0;
  return size > 0;
}

// What is left of the line, without its end, which is passed too.
std::string_view DelimitedReader::take_line() {
  const std::size_t newline = content_.find('\n', position_);
  std::string_view line = content_.substr(position_, newline - position_);
  position_ = newline == std::string_view::npos ? content_.size() : newline + 1;
  ++line_;
  if (newline != std::string_view::npos && line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

void DelimitedReader::read_tsv(DelimitedRow& row) {
  std::string_view line = take_line();
  while (true) {
    const std::size_t tab = line.find('\t');
    row.fields.emplace_back(line.substr(0, tab));
    if (tab == std::string_view::npos) return;
    line.remove_prefix(tab + 1);
  }
}

void DelimitedReader::read_csv(DelimitedRow& row) {
  while (true) {
    std::string& field = row.fields.emplace_back();
    if (position_ < content_.size() && content_[position_] == '"') {
      if (!read_quoted(field, row.problem)) return;
    } else {
      const std::size_t end = std::min(content_.find_first_of(",\n", position_), content_.size());
      field = content_.substr(position_, end - position_);
      position_ = end;
      const bool ends_line = end < content_.size() && content_[end] == '\n';
      if (ends_line && field.ends_with('\r')) field.pop_back();
      if (row.problem.empty() && field.find('"') != std::string::npos) {
        row.problem = "has a quote within a field that does not begin with one";
      }
    }
    if (position_ == content_.size()) return;
    if (content_[position_] == ',') {
      ++position_;
      continue;
    }
    take_line();  // nothing is left of it but its end
    return;
  }
}

// From an opening quote to the comma or line end after the closing one. False: the row is over,
// because nothing else can be told of it.
bool DelimitedReader::read_quoted(std::string& field, std::string& problem) {
  ++position_;
  while (true) {
    const std::size_t quote = content_.find('"', position_);
    if (quote == std::string_view::npos) {
      problem = "has a quote that is never closed";
      position_ = content_.size();
      return false;
    }
    field += content_.substr(position_, quote - position_);
    line_ += static_cast<std::size_t>(
        std::count(content_.begin() + static_cast<std::ptrdiff_t>(position_),
                   content_.begin() + static_cast<std::ptrdiff_t>(quote), '\n'));
    position_ = quote + 1;
    if (position_ == content_.size() || content_[position_] != '"') break;
    field += '"';
    ++position_;
  }
  const std::string_view rest = content_.substr(position_);
  if (rest.empty() || rest.starts_with(',') || rest.starts_with('\n') || rest.starts_with("\r\n")) {
    return true;
  }
  problem = "has something after a closing quote";
  take_line();
  return false;
}

}  // namespace bert
