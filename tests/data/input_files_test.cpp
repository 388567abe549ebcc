#include "data/text/input_files.h"

#include <gtest/gtest.h>

#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"
#include "tests/data/tokenizer_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

class InputFiles : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* name :
         {"wiki/AB/wiki_00", "wiki/AA/wiki_01.bz2", "wiki/AA/wiki_00", "wiki/AA/LICENSE",
          "wiki/.cache/hidden.txt", "wiki/.hidden.txt", "wiki/z.txt", "books/b.txt.gz",
          "books/a.jsonl", "books/a.json.zst", "books/a.parquet", "books/wiki_x", "odd[1].txt"}) {
      fs::create_directories((folder_ / name).parent_path());
      write_text(folder_ / name, "text\n");
    }
    write_text(folder_ / "wiki/empty.txt", "");
    fs::create_directories(folder_ / "nothing");
    fs::create_directories(folder_ / "hollow");
    write_text(folder_ / "hollow/empty.txt", "");
  }
  std::string path(const std::string& name) { return (folder_ / name).string(); }
  // The paths in the test's folder.
  std::vector<std::string> expand(std::vector<std::string> arguments) {
    inputs_ = expand_inputs(arguments);
    std::vector<std::string> paths;
    for (const InputFile& file : inputs_.files) {
      paths.push_back(fs::relative(file.path, folder_.path()).string());
    }
    return paths;
  }

  TemporaryFolder folder_;
  Inputs inputs_;
};

using Paths = std::vector<std::string>;

TEST_F(InputFiles, FoldersAreReadInOrder) {
  EXPECT_EQ(expand({path("wiki"), path("books")}),
            (Paths{"wiki/AA/wiki_00", "wiki/AA/wiki_01.bz2", "wiki/AB/wiki_00", "wiki/z.txt",
                   "books/a.json.zst", "books/a.jsonl", "books/b.txt.gz"}));
  EXPECT_EQ(inputs_.bytes, 7 * 5u);
  EXPECT_EQ(inputs_.left_out, 4u);  // LICENSE, empty.txt, a.parquet, wiki_x
  EXPECT_EQ(inputs_.first_left_out, path("wiki/AA/LICENSE"));
  EXPECT_EQ(inputs_.files[3].source, 0u);
  EXPECT_EQ(inputs_.files[4].source, 1u);
  EXPECT_FALSE(inputs_.files[4].named);
  EXPECT_TRUE(inputs_.files[4].regular);
  EXPECT_GT(inputs_.files[4].modified, 0);
}

TEST_F(InputFiles, PatternsMatchFilesAndFolders) {
  EXPECT_EQ(expand({path("*/A?/wiki_*"), path("b*")}),
            (Paths{"wiki/AA/wiki_00", "wiki/AA/wiki_01.bz2", "wiki/AB/wiki_00", "books/a.json.zst",
                   "books/a.jsonl", "books/b.txt.gz"}));
  EXPECT_EQ(expand({path("books/*.parquet")}), Paths{"books/a.parquet"});  // asked for by name
  // What exists is no pattern.
  EXPECT_EQ(expand({path("odd[1].txt")}), Paths{"odd[1].txt"});
  EXPECT_TRUE(inputs_.files[0].named);
}

TEST_F(InputFiles, NothingThere) {
  EXPECT_NE(ERROR_OF(expand({path("none.txt")})).find("none.txt: No such file"), std::string::npos);
  EXPECT_NE(ERROR_OF(expand({path("none*.txt")})).find("no file matches"), std::string::npos);
  EXPECT_NE(ERROR_OF(expand({path("nothing")})).find("without text files"), std::string::npos);
  EXPECT_EQ(ERROR_OF(expand({path("hollow")})),
            "2: " + path("hollow") + ": every text file there is empty");
  EXPECT_NE(ERROR_OF(expand({path("wiki/empty.txt")})).find("is empty"), std::string::npos);
  EXPECT_NE(ERROR_OF(expand({path("wiki/e*.txt")})).find("is empty"), std::string::npos);
  EXPECT_NE(ERROR_OF(expand({"-", path("wiki"), "-"})).find("twice"), std::string::npos);
  EXPECT_EQ(ERROR_OF(expand({})), "2: no input file is given");
  EXPECT_EQ(expand_inputs({"-", path("wiki")}).bytes, 0u);
}

}  // namespace
}  // namespace bert
