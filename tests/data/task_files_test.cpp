// The readers of fine-tuning data: tables, JSON lines, CoNLL columns, SQuAD's JSON.
#include <fstream>

#include <gtest/gtest.h>

#include "data/task_files/answer_text.h"
#include "data/task_files/conll_file.h"
#include "data/task_files/delimited_file.h"
#include "data/task_files/squad_file.h"
#include "data/task_files/text_examples.h"
#include "data/text/byte_source.h"
#include "data/text/read_input.h"
#include "runtime/error.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Strings = std::vector<std::string>;

// "LINE: a|b|c", and "!" with what is wrong.
Strings rows_of(std::string_view content, Delimited format) {
  Strings rows;
  DelimitedReader reader(content, format);
  for (DelimitedRow row; reader.next(row);) {
    std::string text = std::to_string(row.line) + ":";
    for (const std::string& field : row.fields) text += " [" + field + "]";
    rows.push_back(text + (row.problem.empty() ? "" : "! " + row.problem));
  }
  return rows;
}

TEST(DelimitedFile, TsvQuotesNothing) {
  EXPECT_EQ(rows_of("a\t\"b\n\n\"c\tx\"y\"\t\r\nlast", Delimited::tsv),
            (Strings{"1: [a] [\"b]", "3: [\"c] [x\"y\"] []", "4: [last]"}));
  EXPECT_EQ(rows_of("", Delimited::tsv), Strings{});
  EXPECT_EQ(rows_of("\n\r\n", Delimited::tsv), Strings{});
}

TEST(DelimitedFile, CsvQuotesCommasQuotesAndLineBreaks) {
  EXPECT_EQ(rows_of("a,\"b,\"\"c\"\"\"\r\n\n\"two\nlines\",,\"\"\nlast,", Delimited::csv),
            (Strings{"1: [a] [b,\"c\"]", "3: [two\nlines] [] []", "5: [last] []"}));
}

TEST(DelimitedFile, CsvSaysWhatIsWrongWithQuotes) {
  EXPECT_EQ(rows_of("a\"b\"\n\"x\"y,z\nfine\n\"open\n\n", Delimited::csv),
            (Strings{"1: [a\"b\"]! has a quote within a field that does not begin with one",
                     "2: [x]! has something after a closing quote", "3: [fine]",
                     "4: []! has a quote that is never closed"}));
}

struct Found {
  std::vector<TextExample> examples;
  Strings report;
};

Found examples_of(std::string_view content, const TextExampleOptions& options = {},
                  bool with_labels = true, const std::string& file = "f.tsv",
                  BadRows bad_rows = BadRows::skip) {
  InputReport report(bad_rows);
  Found found;
  found.examples = parse_text_examples(content, file, options, with_labels, report);
  found.report = report.lines();
  return found;
}

// "LINE text|pair=label"
Strings shown(const std::vector<TextExample>& examples) {
  Strings lines;
  for (const TextExample& example : examples) {
    lines.push_back(std::to_string(example.line) + " " + example.text +
                    (example.pair ? "|" + *example.pair : "") + "=" + example.label);
  }
  return lines;
}

TEST(TextExamples, UsualColumnsNeedNoNames) {
  EXPECT_EQ(shown(examples_of("sentence\tlabel\nx y\t1\n").examples), Strings{"2 x y=1"});
  EXPECT_EQ(shown(examples_of("index\tquestion\tsentence\tlabel\n0\tq\ts\tno\n").examples),
            Strings{"2 q|s=no"});
  EXPECT_EQ(
      shown(
          examples_of("id,Sentence1,Sentence2,Score\n0,a,b,2.5\n", {}, true, "f.csv.gz").examples),
      Strings{"2 a|b=2.5"});
  EXPECT_EQ(shown(examples_of("a text\tlabel one\nmore\tb\n").examples),
            (Strings{"1 a text=label one", "2 more=b"}));
  EXPECT_EQ(shown(examples_of("one\ntwo\n", {}, false, "-").examples),
            (Strings{"1 one=", "2 two="}));
}

TEST(TextExamples, ColumnsByNameOrNumber) {
  TextExampleOptions named;
  named.text_column = "#1 String";
  named.text_pair_column = "#2 String";
  named.label_column = "Quality";
  const std::string mrpc = "Quality\t#1 ID\t#1 String\t#2 String\n1\t7\tx\ty\n";
  EXPECT_EQ(shown(examples_of(mrpc, named).examples), Strings{"2 x|y=1"});
  TextExampleOptions numbered;
  numbered.text_column = "4";
  numbered.label_column = "2";
  const std::string cola = "gj04\t2\t*\tA label.\n";
  EXPECT_EQ(shown(examples_of(cola, numbered).examples), Strings{"1 A label.=2"});
  numbered.header = true;
  EXPECT_TRUE(examples_of(cola, numbered).examples.empty());
  TextExampleOptions without;
  without.header = false;
  EXPECT_EQ(shown(examples_of("text\tlabel\n", without).examples), Strings{"1 text=label"});
}

TEST(TextExamples, AMissingColumnIsNamed) {
  TextExampleOptions options;
  options.text_column = "body";
  EXPECT_EQ(ERROR_OF(examples_of("title\tlabel\nx\t1\n", options)),
            "2: f.tsv: there is no column 'body' for the text (data.text, --text): its "
            "columns are title, label");
  EXPECT_EQ(ERROR_OF(examples_of("a\tb\tc\n")),
            "2: f.tsv: which column is the text? it has 3 columns without names: give the text's "
            "column by its number (data.text, --text)");
  options.text_column = "5";
  EXPECT_EQ(ERROR_OF(examples_of("a\tb\tc\n", options)),
            "2: f.tsv: there is no column '5' for the text (data.text, --text): it has "
            "3 columns without names");
  EXPECT_EQ(ERROR_OF(examples_of("sentence\nx\n")),
            "2: f.tsv: which column is the label? its columns are sentence: give the label's "
            "column by name (data.label, --label)");
  options.text_column = "";
  options.text_pair_column = "2";
  EXPECT_EQ(
      ERROR_OF(examples_of("a\tb\n", options)),
      "2: f.tsv: the column of the second text is given, that of the first (data.text, --text) is "
      "not");
  EXPECT_EQ(ERROR_OF(examples_of("one, two\n", {}, false, "-")),
            "2: -: neither its name nor its first line tells what it is: give tsv, csv or jsonl as "
            "its format (data.format, --format)");
}

TEST(TextExamples, BadRowsAreNamedAndCounted) {
  const std::string content =
      "sentence\tlabel\nfine\t1\nonly one\nthree\t1\t2\n \t1\nno label\t\n\xff\t0\nlast\t0\n";
  const Found found = examples_of(content);
  EXPECT_EQ(shown(found.examples), (Strings{"2 fine=1", "8 last=0"}));
  EXPECT_EQ(found.report,
            (Strings{"2 left out: ragged row (f.tsv:3: has 1 field, expected 2 as in line 1; "
                     "f.tsv:4: has 3 fields, expected 2 as in line 1)",
                     "1 left out: empty text (f.tsv:5: has an empty text)",
                     "1 left out: empty label (f.tsv:6: has an empty label)",
                     "1 left out: invalid UTF-8 (f.tsv:7: is not valid UTF-8)"}));
  EXPECT_EQ(ERROR_OF(examples_of(content, {}, true, "f.tsv", BadRows::refuse)),
            "2: f.tsv:3: has 1 field, expected 2 as in line 1 (ragged row; what cannot be used "
            "is left out and counted by --skip-bad-rows, in finetune by data.bad_rows=skip)");
}

TEST(TextExamples, OnlyTheFirstPlacesAreKept) {
  InputReport report(BadRows::skip);
  for (int i = 0; i < 5; ++i) report.bad("row", "f:" + std::to_string(i), "is bad");
  report.truncated("text", "f:9", "is long");
  EXPECT_EQ(report.lines(), (Strings{"5 left out: row (f:0: is bad; f:1: is bad; f:2: is bad; ...)",
                                     "1 cut: text (f:9: is long)"}));
  EXPECT_EQ(report.count(InputReport::Effect::left_out), 5u);
  EXPECT_EQ(report.count(InputReport::Effect::unusual), 0u);
}

TEST(TextExamples, JsonLines) {
  const Found found = examples_of(
      "{\"premise\": \"p\", \"hypothesis\": \"h\\n2\", \"label\": 2}\n\n"
      "{\"label\": true, \"hypothesis\": \"b\", \"premise\": \"a\"}\n"
      "{\"premise\": 1, \"hypothesis\": \"b\", \"label\": 0}\n"
      "{\"premise\": \"a\", \"label\": 0}\n"
      "{\"premise\": \"a\", \"hypothesis\": \"b\", \"label\": null}\n"
      "[1]\n{\"premise\"\n",
      {}, true, "f.jsonl");
  EXPECT_EQ(shown(found.examples), (Strings{"1 p|h\n2=2", "3 a|b=true"}));
  ASSERT_EQ(found.report.size(), 5u);
  EXPECT_EQ(found.report[0],
            "1 left out: not a text (f.jsonl:4: the value of 'premise' is not a string)");
  EXPECT_EQ(found.report[1], "1 left out: missing field (f.jsonl:5: has no field 'hypothesis')");
  EXPECT_EQ(found.report[3], "1 left out: not an object (f.jsonl:7: is no JSON object)");
  EXPECT_EQ(found.report[4].rfind("1 left out: not JSON (f.jsonl:8: ", 0), 0u) << found.report[4];
}

Strings sentences_of(std::string_view content, const ConllOptions& options, bool with_tags,
                     InputReport& report) {
  Strings lines;
  for (const TaggedSentence& sentence : parse_conll(content, "f", options, with_tags, report)) {
    std::string line = std::to_string(sentence.line);
    for (std::size_t i = 0; i < sentence.words.size(); ++i) {
      line += " " + sentence.words[i] + (with_tags ? "/" + sentence.tags[i] : "");
    }
    lines.push_back(line);
  }
  return lines;
}

TEST(ConllFile, WordsAndTagsOfSentences) {
  InputReport report;
  const std::string conll03 =
      "-DOCSTART- -X- -X- O\n\nEU NNP I-NP B-ORG\nrejects  VBZ I-VP O\r\n\n\nPeter NNP I-NP B-PER";
  EXPECT_EQ(sentences_of(conll03, {}, true, report),
            (Strings{"3 EU/B-ORG rejects/O", "7 Peter/B-PER"}));
  EXPECT_EQ(sentences_of(conll03, {1, 2}, true, report),
            (Strings{"3 EU/NNP rejects/VBZ", "7 Peter/NNP"}));
  EXPECT_EQ(sentences_of("a b\tO\n", {}, true, report), Strings{"1 a b/O"});
  EXPECT_EQ(sentences_of("one\ntwo\n", {}, false, report), Strings{"1 one two"});
}

TEST(ConllFile, ABadLineCostsItsSentence) {
  const std::string content = "a O\nb\nc O O\n\nd O\n\n\xff O\ne O\n\nf\t\ng O\n";
  InputReport report(BadRows::skip);
  EXPECT_EQ(sentences_of(content, {}, true, report), Strings{"5 d/O"});
  EXPECT_EQ(report.lines(),
            (Strings{"1 left out: ragged row (f:2: has 1 column, expected 2 as before)",
                     "1 left out: invalid UTF-8 (f:7: is not valid UTF-8)",
                     "1 left out: empty tag (f:10: has an empty tag)"}));
  InputReport refusing;
  EXPECT_EQ(ERROR_OF(parse_conll(content, "f", {}, true, refusing)).rfind("2: f:2: has 1", 0), 0u);
  EXPECT_EQ(ERROR_OF(parse_conll("a b\n", "f", {1, 3}, true, refusing)),
            "2: f:1: has 2 columns; there is no column 3 for the tag (data.label, --tag-column)");
  EXPECT_EQ(ERROR_OF(parse_conll("word\n", "f", {}, true, refusing)),
            "2: f:1: column 1 would be both word and tag; expected words with tags (data.text and "
            "data.label, --token-column and --tag-column)");
}

std::string squad(const std::string& context, const std::string& questions) {
  return "{\"data\": [{\"paragraphs\": [{\"context\": \"" + context + "\", \"qas\": [" + questions +
         "]}]}]}";
}

TEST(SquadFile, OffsetsCountCodePoints) {
  InputReport report;
  const SquadFile file =
      parse_squad(squad("\u00c9t\u00e9 \U0001f600 in Paris", R"({"id": 7, "question": "Where?",
            "answers": [{"text": "Paris", "answer_start": 9}]})"),
                  "f", SquadAnswers::learn, report);
  ASSERT_EQ(file.questions.size(), 1u);
  const SquadAnswer& answer = file.questions[0].answers.at(0);
  EXPECT_EQ(file.contexts[0].substr(answer.begin, answer.end - answer.begin), "Paris");
  EXPECT_EQ(file.questions[0].id, "7");
  EXPECT_FALSE(file.has_no_answers);
}

TEST(SquadFile, WhatCannotBeLearntIsNamedById) {
  const std::string content =
      squad("one two",
            R"({"id": "a", "question": "?", "answers": [{"text": "two", "answer_start": 4}]},
         {"id": "a", "question": "?", "answers": [{"text": "two", "answer_start": 4}]},
         {"id": "b", "question": "?", "answers": [{"text": "two", "answer_start": 3}]},
         {"id": "c", "question": "?", "answers": [{"text": "two", "answer_start": 99}]},
         {"id": "d", "question": "?", "answers": []},
         {"id": "e", "question": " ", "answers": [{"text": "two", "answer_start": 4}]},
         {"id": "f", "question": "?", "answers": [], "is_impossible": true},
         {"id": "g", "question": "?", "is_impossible": true,
          "answers": [{"text": "two", "answer_start": 4}]})");
  InputReport report(BadRows::skip);
  const SquadFile file = parse_squad(content, "s", SquadAnswers::learn, report);
  ASSERT_EQ(file.questions.size(), 2u);
  EXPECT_EQ(file.questions[1].id, "f");
  EXPECT_TRUE(file.has_no_answers);
  EXPECT_EQ(
      report.lines(),
      (Strings{"1 left out: duplicate id (s: a: this id was there before)",
               "2 left out: answer not in its place (s: b: 'two' is not in the context at "
               "answer_start; s: c: 'two' is not in the context at answer_start)",
               "2 left out: answers and is_impossible (s: d: has no answer and is not said to be "
               "impossible; s: g: is_impossible, but has answers)",
               "1 left out: empty text (s: e: has an empty question or context)"}));
  InputReport scoring(BadRows::skip);
  EXPECT_EQ(parse_squad(content, "s", SquadAnswers::score, scoring).questions.size(), 4u);
  InputReport asking(BadRows::skip);
  EXPECT_EQ(parse_squad(content, "s", SquadAnswers::ignore, asking).questions.size(), 6u);
  InputReport refusing;
  EXPECT_EQ(ERROR_OF(parse_squad(content, "s", SquadAnswers::learn, refusing))
                .rfind("2: s: a: this id was there before", 0),
            0u);
}

TEST(SquadFile, JsonLinesHoldAQuestionEach) {
  InputReport report(BadRows::skip);
  const SquadFile file = parse_squad(
      "{\"question\": \"Who?\", \"context\": \"one\"}\n\n[]\n"
      "{\"id\": \"x\", \"question\": \"What?\", \"context\": \"two\"}\n",
      "q", SquadAnswers::ignore, report);
  ASSERT_EQ(file.questions.size(), 2u);
  EXPECT_EQ(file.questions[0].id, "1");
  EXPECT_EQ(file.questions[1].id, "x");
  EXPECT_EQ(file.contexts.at(file.questions[1].context), "two");
  EXPECT_EQ(report.lines(), Strings{"1 left out: not an object (q:3: is no JSON object)"});
  EXPECT_EQ(ERROR_OF(parse_squad("{\"question\": \"Who?\", \"context\": 1}\n", "q",
                                 SquadAnswers::ignore, report)),
            "2: q:1: 'context' is not a string");
  EXPECT_EQ(ERROR_OF(parse_squad("{\"question\": \"Who?\", \"context\": \"a\"}\n", "q",
                                 SquadAnswers::learn, report)),
            "2: q: 1: 'answers' is missing: expected what SQuAD's files have");
}

TEST(SquadFile, TheFormIsChecked) {
  InputReport report;
  const auto error = [&](const std::string& content) {
    return ERROR_OF(parse_squad(content, "s", SquadAnswers::learn, report));
  };
  EXPECT_EQ(error("{}"), "2: s: 'data' is missing: expected what SQuAD's files have");
  for (const char* other : {"[1]", "sentence\tlabel\na\t1\n", ""}) {
    EXPECT_EQ(error(other),
              "2: s: expected JSON as SQuAD's files, which begin with {\"data\": ..., or an object "
              "with question, context and answers a line");
  }
  EXPECT_EQ(error("{\"data\": 1}"), "2: s: 'data' is not a list");
  EXPECT_EQ(error(squad("x", R"({"id": "a", "question": 1, "answers": []})")),
            "2: s: a: 'question' is not a string");
  EXPECT_EQ(error(squad("x", R"({"id": "a", "question": "?", "is_impossible": 1, "answers": []})")),
            "2: s: a: 'is_impossible' is neither true nor false");
  EXPECT_EQ(error(squad("x", R"({"id": "a", "question": "?",
                                 "answers": [{"text": "x", "answer_start": 0.5}]})")),
            "2: s: a: answer_start is 0.5: expected an integer");
}

TEST(ReadInput, DropsTheByteOrderMark) {
  const std::string path = ::testing::TempDir() + "/read_input";
  std::ofstream(path, std::ios::binary) << "\xef\xbb\xbfsentence\n";
  EXPECT_EQ(read_input(path), "sentence\n");
  EXPECT_EQ(without_compression("a.tsv.gz"), "a.tsv");
  EXPECT_EQ(without_compression("a.tsv"), "a.tsv");
}

// As Python's str.lower(): of the characters around a capital sigma those count that have a case,
// letters or not, and those between letters do not.
TEST(AnswerText, LowersASigmaByItsNeighbours) {
  const auto lower = [](std::string_view text) { return answer_words(text).at(0); };
  EXPECT_EQ(lower("\u039f\u0394\u039f\u03a3"), "\u03bf\u03b4\u03bf\u03c2");
  EXPECT_EQ(lower("\u03a3"), "\u03c3");
  EXPECT_EQ(lower("A\u03a3\u00adB"), "a\u03c3\u00adb");
  EXPECT_EQ(lower("\u00aa\u03a3"), "\u00aa\u03c2");
  EXPECT_EQ(lower("A\u03a3\u24b6"), "a\u03c3\u24d0");
  EXPECT_EQ(lower("B\u0387\u03a3"), "b\u0387\u03c2");
  EXPECT_EQ(lower("A\u03a3\uff0eB"), "a\u03c3\uff0eb");
}

}  // namespace
}  // namespace bert
