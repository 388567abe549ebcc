// The formats of tables of examples, and their names in configurations. Apart from what reads the
// tables, which needs the libraries of compressed files.
#pragma once

#include <string_view>

namespace bert {

enum class TableFormat {
  automatic,   // by the file's name, else by its first bytes
  tsv,         // as GLUE's files: tabs separate, nothing quotes
  csv,         // RFC 4180: commas separate, "" quotes, also line breaks
  json_lines,  // an object a line; its fields are the columns
};
std::string_view table_format_name(TableFormat format);  // "auto", "tsv", "csv", "jsonl"
TableFormat parse_table_format(std::string_view name);   // InputError naming the possible values

}  // namespace bert
