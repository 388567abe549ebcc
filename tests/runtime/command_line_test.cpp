#include "runtime/command_line.h"

#include <cstdint>

#include <gtest/gtest.h>

#include "runtime/program.h"

namespace bert {
namespace {

enum class Fruit { apple, pear };
constexpr Named<Fruit> kFruits[] = {{Fruit::apple, "apple"}, {Fruit::pear, "pear"}};

// A program with every kind of option.
struct Probe {
  bool flag = false;
  std::string text = "none";
  double number = 0.5;
  int small = 3;
  std::int64_t large = 0;
  std::uint64_t count = 7;
  std::optional<std::string> maybe_text;
  std::optional<double> maybe_number;
  std::optional<std::int64_t> maybe_large;
  std::optional<std::uint64_t> maybe_count;
  std::optional<bool> sure;
  std::vector<int> numbers;
  std::vector<std::int64_t> lengths = {128, 512};
  std::vector<std::string> files, texts;
  Fruit fruit = Fruit::apple;
  bool given = false;  // --count

  // The exit code, or nullopt where the program would go on.
  std::optional<int> parse(std::vector<std::string> words, const OptionHint& hint = {}) {
    CommandLine line("A test.", "probe");
    line.add("--flag", flag, "a flag");
    line.add("--text", text, "a text");
    line.add("--number", number, "a share").range(0.0, 1.0);
    line.add("--small", small, "an int").range(1, 10);
    line.add("--large", large, "an int64");
    line.add("--count", count, "a uint64").needs("--flag");
    line.add("--maybe-text", maybe_text, "optional").type_name("auto|TEXT");
    line.add("--maybe-number", maybe_number, "optional").excludes("--number");
    line.add("--maybe-large", maybe_large, "optional").group("Larger");
    line.add("--maybe-count", maybe_count, "optional").group("");
    line.add_flag("--yes", sure, true, "surely");
    line.add_flag("--no", sure, false, "surely not").excludes("--yes");
    line.add("--numbers", numbers, "ints");
    line.add("--length", lengths, "int64s");
    line.add("--file", files, "texts");
    line.add_choice("--fruit", fruit, kFruits, "an enum");
    line.option("--text").one_of({"none", "some", "[some]"});
    line.add("TEXT", texts, "texts");
    words.insert(words.begin(), "probe");
    std::vector<char*> pointers;
    for (std::string& word : words) pointers.push_back(word.data());
    const auto done = line.parse(static_cast<int>(words.size()), pointers.data(), hint);
    given = line.option("--count").given();
    return done;
  }
};

// What a program is told that is given `words`.
std::string refusal(const std::vector<std::string>& words, const OptionHint& hint = {}) {
  try {
    Probe().parse(words, hint);
  } catch (const InputError& error) {
    return error.what();
  }
  return "it was accepted";
}

TEST(CommandLine, SetsValuesOfEveryType) {
  Probe probe;
  EXPECT_EQ(probe.parse({}), std::nullopt);
  EXPECT_EQ(probe.text, "none");
  EXPECT_EQ(probe.maybe_count, std::nullopt);
  EXPECT_EQ(probe.sure, std::nullopt);
  EXPECT_EQ(probe.lengths, (std::vector<std::int64_t>{128, 512}));
  EXPECT_FALSE(probe.given);

  EXPECT_EQ(probe.parse({"--flag",
                         "--text=some",
                         "--number",
                         "0.25",
                         "--small",
                         "10",
                         "--large",
                         "-9000000000",
                         "--count",
                         "18446744073709551615",
                         "--maybe-text",
                         "",
                         "--maybe-large",
                         "-1",
                         "--maybe-count",
                         "9",
                         "--no",
                         "--numbers",
                         "-1",
                         "2",
                         "--length",
                         "64",
                         "--file",
                         "a",
                         "b",
                         "--fruit",
                         "pear",
                         "--",
                         "c",
                         "--flag"}),
            std::nullopt);
  EXPECT_TRUE(probe.flag);
  EXPECT_EQ(probe.text, "some");
  EXPECT_EQ(probe.number, 0.25);
  EXPECT_EQ(probe.small, 10);
  EXPECT_EQ(probe.large, -9'000'000'000);
  EXPECT_EQ(probe.count, UINT64_MAX);
  EXPECT_TRUE(probe.given);
  EXPECT_EQ(probe.maybe_text, "");
  EXPECT_EQ(probe.maybe_large, -1);
  EXPECT_EQ(probe.maybe_count, 9u);
  EXPECT_EQ(probe.sure, false);
  EXPECT_EQ(probe.numbers, (std::vector<int>{-1, 2}));
  EXPECT_EQ(probe.lengths, (std::vector<std::int64_t>{64}));
  EXPECT_EQ(probe.files, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(probe.fruit, Fruit::pear);
  EXPECT_EQ(probe.texts, (std::vector<std::string>{"c", "--flag"}));
}

TEST(CommandLine, RefusesWrongValues) {
  EXPECT_EQ(refusal({"--small", "seven"}),
            "--small: 'seven' is not a whole number (see probe --help)");
  EXPECT_EQ(refusal({"--small", "11"}), "--small: 11 is not from 1 to 10 (see probe --help)");
  EXPECT_EQ(refusal({"--number", "1.5"}), "--number: 1.5 is not from 0 to 1 (see probe --help)");
  const auto not_whole = [](const std::string& option, const std::string& value) {
    EXPECT_EQ(refusal({option, value}),
              option + ": '" + value + "' is not a whole number (see probe --help)");
  };
  not_whole("--large", "x");
  not_whole("--large", "");
  not_whole("--small", "1e3");
  not_whole("--count", " -1");
  EXPECT_EQ(refusal({"--large="}), "--large: '' is not a whole number (see probe --help)");
  EXPECT_EQ(refusal({"--count", "18446744073709551616"}),
            "--count: 18446744073709551616 is out of range (see probe --help)");
  EXPECT_EQ(refusal({"--maybe-number", "nan"}),
            "--maybe-number: 'nan' is not a number (see probe --help)");
  EXPECT_EQ(refusal({"--text", "other"}),
            "--text: other not in {none,some,[some]} (see probe --help)");
  EXPECT_EQ(refusal({"--fruit", "fig"}), "--fruit: fig not in {apple,pear} (see probe --help)");
  EXPECT_EQ(refusal({"--text"}),
            "--text: 1 required TEXT:{none,some,[some]} missing (see probe --help)");
}

TEST(CommandLine, WantsTheValuesOfItsOptions) {
  EXPECT_EQ(refusal({"--text", "--flag"}),
            "--text: expected a value, not --flag (see probe --help)");
  EXPECT_EQ(refusal({"--file", "--large=3"}),
            "--file: expected a value, not --large=3 (see probe --help)");
  Probe probe;
  probe.parse({"--maybe-text=--flag", "--large", "010", "--file=", "a"});
  EXPECT_EQ(probe.maybe_text, "--flag");
  EXPECT_EQ(probe.large, 10);
  EXPECT_FALSE(probe.flag);
  EXPECT_EQ(probe.files, (std::vector<std::string>{"", "a"}));
}

TEST(CommandLine, RefusesNegativeCounts) {
  EXPECT_EQ(refusal({"--flag", "--count", "-1"}), "--count: -1 is less than 0 (see probe --help)");
  EXPECT_EQ(refusal({"--flag", "--count=-2"}), "--count: -2 is less than 0 (see probe --help)");
}

TEST(CommandLine, KnowsWhichOptionsGoTogether) {
  EXPECT_EQ(refusal({"--count", "3"}), "--count requires --flag (see probe --help)");
  EXPECT_EQ(refusal({"--number", "0", "--maybe-number", "1"}),
            "--number excludes --maybe-number (see probe --help)");
  EXPECT_EQ(refusal({"--no", "--yes"}), "--yes excludes --no (see probe --help)");

  CommandLine line("A test.", "probe");
  std::string needed;
  line.add("--needed", needed, "").required();
  char name[] = "probe";
  char* words[] = {name};
  EXPECT_THROW(line.parse(1, words), InputError);
  char empty[] = "--needed=";
  char* more[] = {name, empty};
  EXPECT_THROW(line.parse(2, more), InputError);
}

TEST(CommandLine, NamesUnknownOptions) {
  // The misspelt option is the mistake, not its value or what is wrong with others.
  EXPECT_EQ(refusal({"--smal=7", "--count", "3"}),
            "unknown option --smal; did you mean --small? (see probe --help)");
  EXPECT_EQ(refusal({"--other"}), "unknown option --other (see probe --help)");
  const auto hint = [](const std::string& option) { return "what is " + option + "?"; };
  EXPECT_EQ(refusal({"--other=3"}, hint),
            "unknown option --other; what is --other? (see probe --help)");
  EXPECT_EQ(refusal({"--smal"}, hint),
            "unknown option --smal; did you mean --small? (see probe --help)");
}

TEST(CommandLine, TakesTextInBracketsAsItIs) {
  const std::vector<std::string> texts{"TEXT", "[MASK] is a [MASK]", "[a, b]", " [a]", "  [a]", "[",
                                       "[]"};
  Probe probe;
  probe.parse(texts);
  EXPECT_EQ(probe.texts, texts);
  probe.parse({"--flag", "[MASK], [MASK]", "--small", "3", "[a,b]", "--text", "[some]"});
  EXPECT_EQ(probe.texts, (std::vector<std::string>{"[MASK], [MASK]", "[a,b]"}));
  EXPECT_EQ(probe.text, "[some]");
  probe.parse({"--file", "[a]", " [b]", "--maybe-text=[c]"});
  EXPECT_EQ(probe.files, (std::vector<std::string>{"[a]", " [b]"}));
  EXPECT_EQ(probe.maybe_text, "[c]");
  probe.parse({"--", "--file", "[a]", "--file=[a]"});
  EXPECT_EQ(probe.texts, (std::vector<std::string>{"--file", "[a]", "--file=[a]"}));
  // As --help shows lists.
  for (const std::vector<std::string>& words :
       {std::vector<std::string>{"--length", "[1,2]"}, {"--length=[1,2]"}}) {
    probe.parse(words);
    EXPECT_EQ(probe.lengths, (std::vector<std::int64_t>{1, 2}));
  }
}

TEST(CommandLine, PrintsHelpAndVersion) {
  testing::internal::CaptureStdout();
  EXPECT_EQ(Probe().parse({"--help"}), 0);
  const std::string help = testing::internal::GetCapturedStdout();
  for (const char* part : {"Usage: probe [OPTIONS] [TEXT...]", "--flag ", "--maybe-text auto|TEXT ",
                           "Larger:\n  --maybe-large INT ", "--numbers INT ... "}) {
    EXPECT_NE(help.find(part), std::string::npos) << part << "\nis not in\n" << help;
  }
  for (const auto& [option, value] :
       {std::pair<std::string, std::string>{"--number FLOAT:FLOAT in [0 - 1]", "0.5"},
        {"--small INT:INT in [1 - 10]", "3"},
        {"--large INT", "0"},
        {"--count UINT", "7"},
        {"--length INT", "[128,512]"},
        {"--fruit TEXT:{apple,pear}", "apple"}}) {
    // Newer releases of CLI11 write the default in brackets.
    const bool shown = help.find(option + "=" + value) != std::string::npos ||
                       help.find(option + " [" + value + "]") != std::string::npos;
    EXPECT_TRUE(shown) << option << " " << value << "\nis not in\n" << help;
  }
  EXPECT_EQ(help.find("--maybe-count"), std::string::npos) << help;

  testing::internal::CaptureStdout();
  EXPECT_EQ(Probe().parse({"--version"}), 0);
  EXPECT_EQ(testing::internal::GetCapturedStdout(), version_string() + "\n");
}

}  // namespace
}  // namespace bert
