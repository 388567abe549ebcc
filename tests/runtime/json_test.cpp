#include "runtime/json.h"

#include <gtest/gtest.h>

namespace bert {
namespace {

using nlohmann::json;

template <typename Action>
std::string refusal(Action action) {
  try {
    action();
  } catch (const InputError& error) {
    return error.what();
  }
  return "";
}

std::string nested(int depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, IsNotReadDeeperThanItMayBe) {
  EXPECT_EQ(parse_json<json>(nested(kMostJsonDepth), "a.json").size(), 1u);
  EXPECT_EQ(refusal([] { parse_json<json>("1\n" + nested(kMostJsonDepth + 1), "a.json"); }),
            "a.json:2: is nested more than 100 levels deep");
  // Brackets in strings are text, and a quote that is escaped ends none.
  EXPECT_EQ(refusal([] { check_json_text("\"\\\"" + nested(200) + "\"", "a"); }), "");
  EXPECT_NE(refusal([] { check_json_text("\"\\\\\"" + nested(200), "a"); }), "");
  std::string list = "[";
  for (int i = 0; i < 200; ++i) list += "{},";
  EXPECT_EQ(refusal([&] { parse_json<json>(list + "{}]", "a"); }), "");
}

TEST(Json, WhatIsNoneIsInputError) {
  for (const char* text : {"", "{", "{\"a\": 1e999}", "\xff", "1 2"}) {
    EXPECT_TRUE(
        refusal([&] { parse_json<json>(text, "a.json"); }).starts_with("a.json is not JSON"))
        << text;
  }
}

TEST(Json, DoesNotEndAtNul) {
  EXPECT_EQ(refusal([] { parse_json<json>(std::string("{}\0 {", 5), "a.json"); }),
            "a.json:1: is not JSON: it holds a NUL byte");
}

TEST(Json, IntegersAreNotConverted) {
  EXPECT_EQ(json_integer<std::uint64_t>(json(18446744073709551615u), "a"), 18446744073709551615u);
  EXPECT_EQ(json_integer<std::int32_t>(json(-3), "a"), -3);
  EXPECT_EQ(refusal([] { json_integer<std::int64_t>(json(1.0), "a.json: n"); }),
            "a.json: n is 1.0: expected an integer");
  EXPECT_EQ(refusal([] { json_integer<std::int64_t>(json("1"), "a.json: n"); }),
            "a.json: n is \"1\": expected an integer");
  EXPECT_EQ(refusal([] { json_integer<std::int32_t>(json(2147483648u), "a.json: n"); }),
            "a.json: n is 2147483648: expected an integer from -2147483648 to 2147483647");
  EXPECT_NE(refusal([] { json_integer<std::uint32_t>(json(-1), "n"); }), "");
  EXPECT_NE(refusal([] { json_integer<std::int64_t>(json(18446744073709551615u), "n"); }), "");
}

}  // namespace
}  // namespace bert
