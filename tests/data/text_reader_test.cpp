#include "data/text/text_reader.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runtime/error.h"
#include "runtime/file.h"
#include "runtime/philox.h"
#include "tests/data/corpus_fixture.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

using Documents = std::vector<std::vector<std::string>>;

// Block by block, as the makers of corpora do.
Documents read_all(TextReader& reader, const TextReaderOptions& options = {}) {
  Documents documents;
  std::vector<std::string> lines;
  const auto end_document = [&] {
    if (!lines.empty()) documents.push_back(std::exchange(lines, {}));
  };
  while (reader.next_file()) {
    for (TextBlock block; reader.next_block(block);) {
      const ParsedText parsed = parse_text_block(block, options);
      reader.add(parsed);
      std::size_t end = 0;
      for (std::size_t i = 0; i <= parsed.lines.size(); ++i) {
        for (; end < parsed.document_ends.size() && parsed.document_ends[end] == i; ++end) {
          end_document();
        }
        if (i < parsed.lines.size()) lines.emplace_back(parsed.lines[i]);
      }
    }
    end_document();
  }
  EXPECT_FALSE(reader.next_file());
  return documents;
}

Documents read_all(const std::vector<std::string>& files, const TextReaderOptions& options = {}) {
  TextReader reader(files, options);
  return read_all(reader, options);
}

using AddFilter = int (*)(struct archive*);
struct Filter {
  const char* extension;
  AddFilter add;
};
constexpr std::array<Filter, 4> kFilters{{{".gz", archive_write_add_filter_gzip},
                                          {".bz2", archive_write_add_filter_bzip2},
                                          {".xz", archive_write_add_filter_xz},
                                          {".zst", archive_write_add_filter_zstd}}};

std::string compress(AddFilter add, std::string_view text) {
  std::string buffer(text.size() + 65536, '\0');
  std::size_t used = 0;
  struct archive* a = archive_write_new();
  EXPECT_EQ(add(a), ARCHIVE_OK);
  archive_write_set_format_raw(a);
  archive_write_set_bytes_in_last_block(a, 1);
  EXPECT_EQ(archive_write_open_memory(a, buffer.data(), buffer.size(), &used), ARCHIVE_OK);
  struct archive_entry* entry = archive_entry_new();
  archive_entry_set_filetype(entry, AE_IFREG);
  EXPECT_EQ(archive_write_header(a, entry), ARCHIVE_OK);
  if (!text.empty()) {
    EXPECT_EQ(archive_write_data(a, text.data(), text.size()),
              static_cast<la_ssize_t>(text.size()));
  }
  archive_entry_free(entry);
  EXPECT_EQ(archive_write_close(a), ARCHIVE_OK);
  archive_write_free(a);
  buffer.resize(used);
  return buffer;
}

class TextReaderTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) {
    write_text(folder_ / name, content);
    return (folder_ / name).string();
  }
  TemporaryFolder folder_;
};

TEST_F(TextReaderTest, EndsDocumentsAtBlankLinesAndFileEnds) {
  const std::string a = file("a.txt", "\n\none\ntwo\n\n \t \nthree\n\n\n");
  const std::string b = file("b.txt", "four\n\nfive");
  const std::string c = file("c.txt", "six");
  TextReader reader({a, b, c});
  EXPECT_EQ(read_all(reader), (Documents{{"one", "two"}, {"three"}, {"four"}, {"five"}, {"six"}}));
  EXPECT_EQ(reader.stats().files, 3u);
  EXPECT_EQ(reader.stats().lines, 6u);
  EXPECT_EQ(reader.stats().bytes, 22u);
  EXPECT_EQ(reader.stats().invalid_utf8, 0u);
  EXPECT_EQ(reader.stats().cut_lines, 0u);

  TextReader by_line({a, b, c});
  std::string text;
  for (std::string_view line; by_line.next_line(line);) text += std::string(line) + " ";
  EXPECT_EQ(text, "one two three four five six ");
  EXPECT_EQ(by_line.stats().lines, 6u);
  EXPECT_EQ(by_line.stats().files, 3u);
}

// A byte order mark stands at the beginning of a file; elsewhere it is a character.
TEST_F(TextReaderTest, DropsByteOrderMarksAndCarriageReturns) {
  EXPECT_EQ(read_all({file("a.txt", "\xef\xbb\xbfone\r\ntwo\r\n\r\n\xef\xbb\xbfthree\r\n")}),
            (Documents{{"one", "two"}, {"\xef\xbb\xbfthree"}}));
}

TEST_F(TextReaderTest, ReadsWhatIsCompressed) {
  std::string text;
  PhiloxStream random(3, 0, 0);
  for (int i = 0; i < 60000; ++i) {
    text += std::to_string(random.next_below(1000000)) + (random.next_below(9) == 0 ? "\n" : " ");
    if (random.next_below(200) == 0) text += "\n\n";
  }
  const Documents plain = read_all({file("plain.txt", text)});
  ASSERT_GT(plain.size(), 100u);
  for (const Filter& filter : kFilters) {
    SCOPED_TRACE(filter.extension);
    const std::string packed = compress(filter.add, text);
    ASSERT_LT(packed.size(), text.size());
    EXPECT_EQ(read_all({file(std::string("a.txt") + filter.extension, packed)}), plain);
    // The name does not matter, nor do several streams in one file.
    EXPECT_EQ(read_all({file("unnamed", packed)}), plain);
    Documents twice = plain;
    const std::string joined = compress(filter.add, text + "\n\n") + packed;
    twice.insert(twice.end(), plain.begin(), plain.end());
    EXPECT_EQ(read_all({file("joined", joined)}), twice);
  }
}

TEST_F(TextReaderTest, RefusesDamagedCompression) {
  PhiloxStream random(4, 0, 0);
  std::string text;
  for (int i = 0; i < 40000; ++i) text += std::to_string(random.next_below(1000000)) + "\n";
  for (const Filter& filter : kFilters) {
    SCOPED_TRACE(filter.extension);
    const std::string packed = compress(filter.add, text);
    // Cut anywhere, even in the last bytes, where all the text is there and only its end is not.
    for (const std::size_t size : {packed.size() / 2, packed.size() - 7, packed.size() - 1}) {
      const std::string path = file("cut.txt", packed.substr(0, size));
      const std::string what = ERROR_OF(read_all({path}));
      EXPECT_TRUE(what.starts_with("2: " + path + " is damaged or cut short")) << size << what;
    }
    // A changed bit is seen where the format has a checksum that libarchive looks at.
    if (filter.add == archive_write_add_filter_bzip2 || filter.add == archive_write_add_filter_xz) {
      std::string flipped = packed;
      flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 0x10);
      EXPECT_NE(ERROR_OF(read_all({file("flipped.txt", flipped)})).find("damaged"),
                std::string::npos);
    }
    const std::string header = file("header", packed.substr(0, 6) + " and no more of it\n");
    EXPECT_NE(ERROR_OF(read_all({header})).find(header + " is damaged"), std::string::npos);
    const std::string plain = file(std::string("plain") + filter.extension, "not compressed\n");
    EXPECT_NE(ERROR_OF(read_all({plain})).find(plain + " ends in " + filter.extension),
              std::string::npos);
    const std::string blank = file("blank", compress(filter.add, ""));
    EXPECT_TRUE(ERROR_OF(read_all({blank})).starts_with("2: " + blank + " "));
  }
}

TEST_F(TextReaderTest, RefusesWhatIsNoText) {
  const std::string good = file("good.txt", "text\n");
  const std::string missing = (folder_ / "missing.txt").string();
  // At once, before the files in front of it are read.
  EXPECT_EQ(ERROR_OF(TextReader({good, missing})),
            "2: cannot read " + missing + ": No such file or directory");
  EXPECT_EQ(ERROR_OF(TextReader({good, file("empty.txt", "")})),
            "2: " + (folder_ / "empty.txt").string() + " is empty: expected UTF-8 text");
  EXPECT_NE(
      ERROR_OF(read_all({file("tags", "<doc id=\"1\" title=\"A\">\nA\n</doc>\n")})).find("--json"),
      std::string::npos);
  EXPECT_EQ(ERROR_OF(TextReader({})), "2: no input file is given");
  EXPECT_NE(ERROR_OF(read_all({file("blank.txt", "\n \n\t\n")})).find("holds no text"),
            std::string::npos);
  // Also after a file of which all was left out.
  TextReaderOptions options;
  options.skip_malformed = true;
  options.format = TextFormat::json_lines;
  EXPECT_NE(ERROR_OF(read_all({file("bad.jsonl", "bad\n"), file("blank.jsonl", "\n\n")}, options))
                .find("blank.jsonl holds no text"),
            std::string::npos);
  EXPECT_NE(ERROR_OF(read_all({file("wide.txt", std::string("\xff\xfeh\0i\0", 6))})).find("UTF-16"),
            std::string::npos);
  if (::geteuid() != 0) {
    std::filesystem::permissions(good, std::filesystem::perms::none);
    EXPECT_NE(ERROR_OF(TextReader({good})).find("Permission denied"), std::string::npos);
  }
}

TEST_F(TextReaderTest, ReplacesOrRefusesInvalidUtf8) {
  const std::string path = file("bad.txt",
                                "good\n\nb\xff"
                                "d\nw\xe2\x82rse \xc0\n");
  TextReader reader({path});
  EXPECT_EQ(read_all(reader), (Documents{{"good"},
                                         {"b\ufffd"
                                          "d",
                                          "w\ufffdrse \ufffd"}}));
  EXPECT_EQ(reader.stats().invalid_utf8, 3u);
  EXPECT_EQ(reader.stats().first_invalid_utf8, path + ":3");
  TextReaderOptions options;
  options.refuse_invalid_utf8 = true;
  EXPECT_TRUE(
      ERROR_OF(read_all({path}, options)).starts_with("2: " + path + ":3: not valid UTF-8"));
}

TEST_F(TextReaderTest, CutsLongLines) {
  std::string words, letters;
  for (int i = 0; i < 1000; ++i) words += "word ";
  for (int i = 0; i < 1000; ++i) letters += "\u4eac";
  TextReaderOptions options;
  options.max_line_bytes = 100;
  TextReader reader({file("long.txt", words + "\nshort\n\n" + letters + "\n")}, options);
  const Documents documents = read_all(reader, options);
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(reader.stats().cut_lines, 2u);
  std::string joined;
  for (std::size_t i = 0; i + 1 < documents[0].size(); ++i) {
    EXPECT_LE(documents[0][i].size(), 100u);
    EXPECT_EQ(documents[0][i].size() % 5, 0u);  // between words
    joined += documents[0][i];
  }
  EXPECT_EQ(joined, words);
  EXPECT_EQ(documents[0].back(), "short");
  joined.clear();
  for (const std::string& part : documents[1]) joined += part;
  EXPECT_EQ(joined, letters);  // between characters
  EXPECT_EQ(reader.stats().invalid_utf8, 0u);
}

// A line is cut at the same places whether its end is in the reader's buffer or not, whatever its
// bytes are.
TEST_F(TextReaderTest, CutsALineTheSameWithoutItsEnd) {
  TextReaderOptions options;
  options.max_line_bytes = 16;
  const auto lines_of = [&](const std::string& content) {
    return read_all({file("line.txt", content)}, options).at(0);
  };
  // "a " and the letters have room in a line, but the white space is where the line is cut first.
  const std::string letters(12, 'b'), torn(5, '\x80');
  EXPECT_EQ(lines_of("a " + letters + torn).size(), 3u);
  EXPECT_EQ(lines_of("a " + letters + torn), lines_of("a " + letters + torn + "\n"));

  constexpr std::string_view kBytes = "ab \t\x80\x80\xbf\xf0\xe4";
  PhiloxStream random(6, 0, 0);
  std::string text = "text";
  while (text.size() < 600000) text += kBytes[random.next_below(kBytes.size())];
  const std::vector<std::string> lines = lines_of(text);
  EXPECT_GT(lines.size(), 37500u);
  EXPECT_EQ(lines, lines_of(text + "\n"));
}

// Lines and documents that lie across the reader's buffers come out whole.
TEST_F(TextReaderTest, ReadsAcrossBuffers) {
  std::string text;
  Documents expected;
  PhiloxStream random(5, 0, 0);
  while (text.size() < (std::size_t{3} << 20)) {
    std::vector<std::string>& document = expected.emplace_back();
    for (std::uint32_t i = 0; i <= random.next_below(5); ++i) {
      document.emplace_back(1 + random.next_below(random.next_below(50) == 0 ? 700000 : 300), 'x');
      text += document.back() + "\n";
    }
    text += "\n";
  }
  EXPECT_TRUE(read_all({file("large.txt", text)}) == expected);
}

TEST_F(TextReaderTest, ReadsJsonLines) {
  const std::string json =
      "{\"id\": 7, \"text\": \"one\\n\\n two\\r\\n\", \"tags\": [1, {\"text\": \"no\"}]}\n"
      "\n"
      "{\"text\":\"caf\\u00e9 \\ud83d\\ude00\"}\n{\"text\": \"\"}\n{\"text\": \"end\"}";
  const Documents expected = {{"one", " two"}, {"caf\u00e9 \U0001F600"}, {"end"}};
  EXPECT_EQ(read_all({file("a.jsonl", json)}), expected);
  EXPECT_EQ(read_all({file("a.txt", "\xef\xbb\xbf" + json)}), expected);  // by its content
  EXPECT_EQ(read_all({file("wiki_00", compress(archive_write_add_filter_bzip2, json))}), expected);
  TextReaderOptions options;
  options.format = TextFormat::text;
  EXPECT_EQ(read_all({file("a.txt", json)}, options).size(), 2u);
  options = {};
  options.text_field = "body";
  EXPECT_EQ(read_all({file("b.jsonl", "{\"body\": \"here\", \"text\": \"not here\"}\n")}, options),
            (Documents{{"here"}}));
  EXPECT_NE(ERROR_OF(read_all({file("array.json", "[{\"text\": \"a\"}]\n")})).find("jq"),
            std::string::npos);
}

TEST_F(TextReaderTest, RefusesOrLeavesOutMalformedRecords) {
  const std::string path =
      file("bad.jsonl",
           "{\"text\": \"good\"}\n\n{\"text\": \"no end\n{\"title\": \"no text\"}\n{\"text\": 5}\n"
           "plain\n{\"text\": \"" +
               std::string(2000, 'x') + "\"}\n{\"text\": \"last\"}\n");
  const std::string what = ERROR_OF(read_all({path}));
  EXPECT_TRUE(what.starts_with("2: " + path + ":3: expected a JSON object with a string 'text'"))
      << what;
  TextReaderOptions options;
  options.skip_malformed = true;
  options.max_record_bytes = 1000;
  for (const std::size_t copies : {1, 400}) {  // 400: over several blocks
    std::string text;
    for (std::size_t i = 0; i < copies; ++i) text += read_file(path);
    TextReader reader({file("many.jsonl", text)}, options);
    EXPECT_EQ(read_all(reader, options).size(), 2 * copies);
    EXPECT_EQ(reader.stats().malformed, 5 * copies);
    EXPECT_EQ(reader.stats().first_malformed, (folder_ / "many.jsonl").string() + ":3");
  }
}

// A record over the limit is left out whole, and the numbers of the lines after it are right.
TEST_F(TextReaderTest, LeavesOutRecordsThatAreTooLong) {
  const std::string path =
      file("long.jsonl", "{\"text\": \"first\"}\n{\"text\": \"" + std::string(3000000, 'x') +
                             "\"}\n{\"text\": \"last\"}\nbad\n");
  TextReaderOptions options;
  options.max_record_bytes = std::size_t{1} << 20;
  EXPECT_TRUE(ERROR_OF(read_all({path}, options)).starts_with("2: " + path + ":2: "));
  options.skip_malformed = true;
  TextReader reader({path}, options);
  EXPECT_EQ(read_all(reader, options), (Documents{{"first"}, {"last"}}));
  EXPECT_EQ(reader.stats().malformed, 2u);
  // Also where it begins with a blank and nothing comes after it.
  TextReader last({file("last.jsonl", "{\"text\": \"first\"}\n {\"text\": \"" +
                                          std::string(3000000, 'x') + "\"}")},
                  options);
  EXPECT_EQ(read_all(last, options), (Documents{{"first"}}));
  EXPECT_EQ(last.stats().malformed, 1u);
}

// Parts of a plain file, cut anywhere, have the documents of the whole.
TEST_F(TextReaderTest, DocumentsSurviveCuttingAFile) {
  PhiloxStream random(6, 0, 0);
  for (const TextFormat format : {TextFormat::text, TextFormat::json_lines}) {
    std::string text = format == TextFormat::text ? "\n" : "";
    for (int i = 0; i < 3000; ++i) {
      const std::string word = std::to_string(random.next_below(100000));
      if (format == TextFormat::json_lines) {
        text += "{\"text\": \"" + word + "\\n\\n" + word + "\"}\n";
      } else {
        text += word + (random.next_below(4) == 0 ? "\n \t\r\n" : "\n");
        if (random.next_below(30) == 0) text += "\n\n";
      }
    }
    const std::string path = file("whole", text);
    const Documents whole = read_all({path});
    for (int trial = 0; trial < 30; ++trial) {
      const std::uint64_t cut = find_document_boundary(
          path, format, random.next_below(static_cast<std::uint32_t>(text.size())) + 1);
      ASSERT_LE(cut, text.size());
      Documents parts = read_all({file("a", text.substr(0, cut))});
      if (cut < text.size()) {
        const Documents rest = read_all({file("b", text.substr(cut))});
        parts.insert(parts.end(), rest.begin(), rest.end());
      }
      EXPECT_EQ(parts, whole);
      EXPECT_EQ(count_lines_before(path, cut),
                static_cast<std::uint64_t>(std::count(
                    text.begin(), text.begin() + static_cast<std::ptrdiff_t>(cut), '\n')));
    }
  }
}

TEST_F(TextReaderTest, LeavesOutShortLines) {
  TextReaderOptions options;
  options.min_line_chars = 4;
  TextReader reader({file("a.txt", "four\n\u00e9\u00e9\u00e9\nlonger\n\nabc\n\nabcd\n")}, options);
  EXPECT_EQ(read_all(reader, options), (Documents{{"four", "longer"}, {"abcd"}}));
  EXPECT_EQ(reader.stats().short_lines, 2u);
}

TEST_F(TextReaderTest, ReportsProgress) {
  const std::string a = file("a.txt", std::string(999999, 'a') + "\n" + std::string(999999, 'a') +
                                          "\n" + std::string(1000000, 'a') + "\n");
  const std::string b = file("b.txt", "b\n");
  std::vector<std::uint64_t> reports;
  TextReaderOptions options;
  options.progress = [&](std::uint64_t read, std::uint64_t total) {
    EXPECT_EQ(total, 3000003u);
    reports.push_back(read);
  };
  read_all({a, b}, options);
  ASSERT_GE(reports.size(), 3u);
  EXPECT_TRUE(std::is_sorted(reports.begin(), reports.end()));
  EXPECT_EQ(reports.back(), 3000003u);
}

// What the system says of a compressed file that it cannot read is not taken for damage.
TEST_F(TextReaderTest, SaysWhyCompressedDataCannotBeRead) {
  const std::string packed = compress(archive_write_add_filter_gzip, "some text\n");
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_NONBLOCK), 0);
  ASSERT_EQ(::write(ends[1], packed.data(), packed.size() / 2),
            static_cast<ssize_t>(packed.size() / 2));
  const int saved = ::dup(STDIN_FILENO);
  ASSERT_EQ(::dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
  const auto read = [] {
    char buffer[100];
    ByteSource source("-", 0, ByteSource::kToTheEnd, ByteSource::Pace::as_it_comes);
    source.read(buffer, sizeof buffer);
  };
  EXPECT_EQ(ERROR_OF((read(), 0)),
            "2: cannot read standard input: Resource temporarily unavailable");
  ::dup2(saved, STDIN_FILENO);
  for (const int descriptor : {saved, ends[0], ends[1]}) ::close(descriptor);
}

// A file that is refused is closed.
TEST_F(TextReaderTest, LeavesNothingOpen) {
  const std::string wide = file("wide.txt", std::string("\xff\xfeh\0i\0", 6));
  const auto next_descriptor = [] {
    const int descriptor = ::dup(STDIN_FILENO);
    ::close(descriptor);
    return descriptor;
  };
  const int before = next_descriptor();
  EXPECT_NE(ERROR_OF(ByteSource(wide)), "");
  EXPECT_EQ(next_descriptor(), before);
}

TEST_F(TextReaderTest, ReadsStandardInput) {
  const std::string path = file("in.txt", "from\nstandard input\n");
  const int saved = ::dup(STDIN_FILENO);
  const int opened = ::open(path.c_str(), O_RDONLY);
  ASSERT_EQ(::dup2(opened, STDIN_FILENO), STDIN_FILENO);
  ::close(opened);
  const Documents documents = read_all({"-"});
  ::dup2(saved, STDIN_FILENO);
  ::close(saved);
  EXPECT_EQ(documents, (Documents{{"from", "standard input"}}));
}

}  // namespace
}  // namespace bert
