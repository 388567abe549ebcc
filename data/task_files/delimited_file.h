// Rows of fields out of TSV and CSV text.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

enum class Delimited {
  tsv,  // a row a line, fields between tabs; quotes are characters like others (GLUE)
  csv,  // RFC 4180: fields between commas; a field that begins with a double quote ends at the next
        // one that is not doubled, and may hold commas and line breaks
};

struct DelimitedRow {
  std::size_t line = 0;  // where it begins, from 1
  std::vector<std::string> fields;
  std::string problem;  // "": none; else what is wrong with its quotes
};

// Lines end with \n or \r\n. Blank lines, but for those in quotes, are no rows. After a quote that
// nothing closes the rest of the text is one row with a problem.
class DelimitedReader {
 public:
  DelimitedReader(std::string_view content, Delimited format)
      : content_(content), format_(format) {}

  bool next(DelimitedRow& row);  // false after the last

 private:
  void read_tsv(DelimitedRow& row);
  void read_csv(DelimitedRow& row);
  bool read_quoted(std::string& field, std::string& problem);
  bool skip_blank_line();
  std::string_view take_line();

  std::string_view content_;
  Delimited format_;
  std::size_t position_ = 0, line_ = 1;
};

}  // namespace bert
