#include "data/task_files/table_format.h"

#include <utility>

#include "runtime/error.h"

namespace bert {
namespace {

constexpr std::pair<TableFormat, std::string_view> kFormats[] = {
    {TableFormat::automatic, "auto"},
    {TableFormat::tsv, "tsv"},
    {TableFormat::csv, "csv"},
    {TableFormat::json_lines, "jsonl"}};

}  // namespace

std::string_view table_format_name(TableFormat format) {
  for (const auto& [value, name] : kFormats) {
    if (value == format) return name;
  }
  return "";
}

TableFormat parse_table_format(std::string_view name) {
  for (const auto& [format, known] : kFormats) {
    if (known == name) return format;
  }
  throw_input_error("'{}' is no format of a table: expected auto, tsv, csv or jsonl", name);
}

}  // namespace bert
