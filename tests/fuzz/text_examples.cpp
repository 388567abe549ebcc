// A table or JSON lines of fine-tuning examples (data/task_files/text_examples.h). The first byte
// holds options.
#include "data/task_files/text_examples.h"

#include "data/text/unicode.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace bert::fuzz;
  if (size == 0) return 0;
  constexpr bert::TableFormat kFormats[] = {bert::TableFormat::automatic, bert::TableFormat::tsv,
                                            bert::TableFormat::csv, bert::TableFormat::json_lines};
  const bool numbered = (data[0] & 32) != 0;
  bert::TextExampleOptions options{kFormats[data[0] & 3], numbered ? "1" : "", numbered ? "3" : "",
                                   numbered ? "2" : "", std::nullopt};
  if ((data[0] & 8) != 0) options.header = (data[0] & 16) != 0;
  const bool with_labels = (data[0] & 4) != 0;
  const auto bad_rows = (data[0] & 64) != 0 ? bert::BadRows::refuse : bert::BadRows::skip;
  const auto content = as_text(data + 1, size - 1);
  accepts([&] {
    bert::InputReport report(bad_rows);
    std::size_t line = 0;
    for (const bert::TextExample& example :
         bert::parse_text_examples(content, "input", options, with_labels, report)) {
      require(example.line > line, "lines go up");
      line = example.line;
      require(!example.text.empty() && bert::is_valid_utf8(example.text), "a text is text");
      require(!example.pair || (!example.pair->empty() && bert::is_valid_utf8(*example.pair)),
              "so is a second one");
      require(example.label.empty() != with_labels, "a label is there where it was asked for");
    }
    require(
        bad_rows == bert::BadRows::skip || report.count(bert::InputReport::Effect::left_out) == 0,
        "what is refused is not left out");
  });
  return 0;
}
