#include "data/text/text_lines.h"

#include <string>
#include <vector>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

// A named pipe that this test writes into.
class Pipe {
 public:
  explicit Pipe(const std::filesystem::path& path) : path_(path.string()) {
    EXPECT_EQ(::mkfifo(path_.c_str(), 0600), 0);
    descriptor_ = ::open(path_.c_str(), O_RDWR);  // waits for no reader
  }
  ~Pipe() { close(); }
  void put(const std::string& text) {
    EXPECT_EQ(::write(descriptor_, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  int descriptor_ = -1;
};

class TextLinesTest : public testing::Test {
 protected:
  std::string file(const std::string& name, const std::string& content) {
    write_text(folder_ / name, content);
    return (folder_ / name).string();
  }
  TemporaryFolder folder_;
};

TEST_F(TextLinesTest, ReadsFilesOneAfterTheOther) {
  TextLines lines(
      {file("a.txt", "\xef\xbb\xbfone\r\n\ntwo"), file("b.jsonl", "\xef\xbb\xbf\n\n \v\n"),
       file("c.jsonl", "\n{\"text\": \"three\"}\n\t\n{\"text\": \"\"}")},
      "");
  std::vector<std::string> found;
  while (const auto line = lines.next()) {
    found.push_back(fmt::format("{}:{} {}", std::filesystem::path(line->file).filename().string(),
                                line->number, line->text));
    EXPECT_TRUE(lines.ready());
  }
  EXPECT_EQ(found, (std::vector<std::string>{"a.txt:1 one", "a.txt:2 ", "a.txt:3 two",
                                             "c.jsonl:2 three", "c.jsonl:4 "}));
  EXPECT_FALSE(lines.next());
}

TEST_F(TextLinesTest, GoesOnBehindAMalformedLine) {
  TextLines lines({file("a.txt", "{bad\n{\"body\": \"one\"}\n")}, "body");
  const auto malformed = lines.next();
  EXPECT_EQ(malformed->malformed,
            "expected a JSON object with a string 'body', which --text-field names (a string is "
            "missing at its byte 2)");
  EXPECT_EQ(malformed->text, "");
  EXPECT_EQ(malformed->place(), (folder_ / "a.txt").string() + ":1");
  const auto next = lines.next();
  EXPECT_EQ(next->malformed, "");
  EXPECT_EQ(next->text, "one");
}

// Who sends blank lines between its records and waits for the answer gets it.
TEST_F(TextLinesTest, BlankJsonLinesAreNoAnswer) {
  Pipe pipe(folder_ / "lines.jsonl");
  TextLines lines({pipe.path()}, "");
  pipe.put("{\"text\": \"one\"}\n\n");
  EXPECT_EQ(lines.next()->text, "one");
  EXPECT_FALSE(lines.ready());
  pipe.put(" \n{\"text\": \"two\"}\n{\"text\": \"three\"}\n\n");
  EXPECT_TRUE(lines.ready());
  EXPECT_EQ(lines.next()->text, "two");
  EXPECT_TRUE(lines.ready());
  EXPECT_EQ(lines.next()->text, "three");
  EXPECT_FALSE(lines.ready());
  pipe.put("\n");
  pipe.close();
  EXPECT_TRUE(lines.ready());
  EXPECT_FALSE(lines.next());
}

// The next pipe may have nobody yet who writes into it.
TEST_F(TextLinesTest, IsNotReadyForAPipeThatMustBeOpened) {
  Pipe pipe(folder_ / "pipe");
  pipe.put("three\n");
  TextLines lines({file("a.txt", "one\n"), file("b.txt", "two\n"), pipe.path()}, "");
  EXPECT_EQ(lines.next()->text, "one");
  EXPECT_TRUE(lines.ready());  // a file is there
  EXPECT_EQ(lines.next()->text, "two");
  EXPECT_FALSE(lines.ready());
  EXPECT_EQ(lines.next()->text, "three");
}

}  // namespace
}  // namespace bert
