#include "data/text/json_record.h"

#include <optional>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "data/text/unicode.h"
#include "runtime/philox.h"

namespace bert {
namespace {

using nlohmann::json;

// What the general parser finds; nothing if it refuses.
std::optional<std::string> oracle(const std::string& record) {
  const json parsed = json::parse(record, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("text") || !parsed["text"].is_string()) return {};
  return parsed["text"].get<std::string>();
}

std::optional<std::string> scan(const std::string& record) {
  std::string text;
  if (!read_json_text(record, "text", text).empty()) return {};
  return text;
}

TEST(JsonRecord, SaysWhatIsWrong) {
  std::string text;
  EXPECT_EQ(read_json_text("{\"body\": \"x\"}", "text", text), "it has no field 'text'");
  EXPECT_EQ(read_json_text("{\"text\": null}", "text", text),
            "the value of 'text' is not a string");
  EXPECT_EQ(read_json_text("[1]", "text", text), "not a JSON object");
  EXPECT_EQ(read_json_text("{\"text\": \"x", "text", text), "a string has no end at its byte 12");
  EXPECT_EQ(read_json_text("{\"text\": \"\\ud800\"}", "text", text),
            "half of a surrogate pair at its byte 17");
  EXPECT_EQ(read_json_text("{\"a\": " + std::string(200, '[') + "}", "text", text)
                .find("nested too deep"),
            0u);
}

// Valid records, and what is left of them after some bytes are changed: the same verdict and the
// same text as of a parser written by others.
TEST(JsonRecord, AgreesWithAGeneralParser) {
  const std::vector<std::string> seeds = {
      R"({"id": 12, "text": "one\ntwo \"three\" caf\u00e9 \ud83d\ude00 \/ \b\f\t", "x": [1, -2.5e+10, {}]})",
      R"( { "text" : "" , "a" : { "text" : "no" , "b" : [ true , false , null ] } } )",
      R"({"te\u0078t": "escaped key", "n": 0, "m": -0.0E-5, "text": "last wins \u4eac"})",
      "{\"text\":\"plain and rather long, so that whole words of it are skipped \xe4\xba\xac\"}",
  };
  const std::string alphabet = "{}[]\",:\\/ue0123456789.-+EtrufalsnbABCDdD8 \n\t\x01";
  int accepted = 0, refused = 0;
  for (std::uint32_t trial = 0; trial < 200000; ++trial) {
    PhiloxStream random(11, trial, 0);
    std::string record = seeds[random.next_below(static_cast<std::uint32_t>(seeds.size()))];
    for (std::uint32_t change = random.next_below(4); change > 0; --change) {
      const std::size_t place = random.next_below(static_cast<std::uint32_t>(record.size()));
      const char c = alphabet[random.next_below(static_cast<std::uint32_t>(alphabet.size()))];
      switch (random.next_below(4)) {
        case 0:
          record[place] = c;
          break;
        case 1:
          record.insert(record.begin() + static_cast<std::ptrdiff_t>(place), c);
          break;
        case 2:
          record.erase(place, 1 + random.next_below(3));
          break;
        default:
          record.resize(place);
      }
      if (record.empty()) record.push_back(0x20);
    }
    if (!is_valid_utf8(record)) continue;
    try {
      [[maybe_unused]] const json parsed = json::parse(record);
    } catch (const json::out_of_range&) {
      continue;  // a number beyond a double: RFC 8259 leaves open what becomes of it
    } catch (const json::exception&) {
    }
    const auto expected = oracle(record);
    (expected ? accepted : refused) += 1;
    ASSERT_EQ(scan(record), expected) << record;
  }
  EXPECT_GT(accepted, 50000);
  EXPECT_GT(refused, 50000);
}

}  // namespace
}  // namespace bert
