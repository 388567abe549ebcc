// One line of a JSON lines file: finds the text in it. A parser of its own because tokenization
// runs at 100 MB/s a core, so that a general one, which builds every value, would be as dear as all
// else.
#pragma once

#include <string>
#include <string_view>

namespace bert {

// `record` (RFC 8259, valid UTF-8) must be an object with a string named `field`, which becomes
// `text`; of several, the last. Returns what is wrong, "" if nothing is.
std::string read_json_text(std::string_view record, std::string_view field, std::string& text);

// The message about a record in which `problem` is wrong.
std::string malformed_record(std::string_view field, std::string_view problem);

}  // namespace bert
