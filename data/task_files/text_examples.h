// Examples of classification and regression: texts or pairs of texts with a label, out of tables
// (TSV, CSV) and JSON lines.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/task_files/input_report.h"
#include "data/task_files/table_format.h"

namespace bert {

struct TextExampleOptions {
  TableFormat format = TableFormat::automatic;
  // Names of columns, or their numbers from 1 where there is no header. "": the names of GLUE's
  // files and some others are tried (kUsualTexts, kUsualLabels in the .cpp); of two columns without
  // a header the first is the text and the second its label, and one column is the text.
  std::string text_column, text_pair_column, label_column;
  // Whether the first row names the columns. Absent: if it holds a name given above or a usual one.
  std::optional<bool> header;
};

struct TextExample {
  std::size_t line = 0;  // where it begins, from 1
  std::string text;
  std::optional<std::string> pair;
  std::string label;  // as the file has it; "" if not asked for
};

// The examples of `content`, the text of `file`. InputError: a column that is missing, a format
// that cannot be told. To `report`: rows with more or fewer fields than the first, empty texts,
// invalid UTF-8, records that are no objects or lack a field, fields of another type than text,
// empty labels.
std::vector<TextExample> parse_text_examples(std::string_view content, const std::string& file,
                                             const TextExampleOptions& options, bool with_labels,
                                             InputReport& report);

}  // namespace bert
