// Files are there whole or not at all.
#include "runtime/file.h"

#include <cstring>
#include <functional>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/error.h"
#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

std::size_t entries(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

template <typename E>
void expect_error(const std::function<void()>& action, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << "no error that names " << part;
  } catch (const E& error) {
    EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

TEST(ReadFile, AnyContent) {
  TemporaryFolder folder;
  std::string content(200'000, '\0');
  for (std::size_t i = 0; i < content.size(); ++i) content[i] = static_cast<char>(i * 7919 >> 3);
  write_text(folder / "a", content);
  EXPECT_TRUE(read_file(folder / "a") == content);
  write_text(folder / "empty", "");
  EXPECT_EQ(read_file(folder / "empty"), "");
  expect_error<InputError>([&] { read_file(folder / "none"); }, (folder / "none").string());
  expect_error<InputError>([&] { read_file(folder.path()); }, folder.path().string());
}

TEST(WriteFileAtomic, ReplacesWhole) {
  TemporaryFolder folder;
  write_file_atomic(folder / "a", "one, and longer");
  write_file_atomic(folder / "a", "two");
  EXPECT_EQ(read_file(folder / "a"), "two");
  EXPECT_EQ(entries(folder.path()), 1u);
  // Readers that have it open keep what they have.
  const MappedFile before(folder / "a");
  write_file_atomic(folder / "a", "TWO");
  EXPECT_EQ(std::memcmp(before.data(), "two", 3), 0);
}

TEST(WriteFileAtomic, FailsWithNothingChanged) {
  TemporaryFolder folder;
  expect_error<RuntimeError>([&] { write_file_atomic(folder / "none/a", "x"); },
                             (folder / "none/a").string());
  // The name is taken by a folder: found out at the rename only.
  fs::create_directories(folder / "taken/inside");
  expect_error<RuntimeError>([&] { write_file_atomic(folder / "taken", "x"); },
                             (folder / "taken").string());
  EXPECT_TRUE(fs::exists(folder / "taken/inside"));
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(AtomicFileTest, APipeStaysAPipe) {
  const TemporaryFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const int reader = ::open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  write_file_atomic(pipe, "text");
  char text[8] = {};
  EXPECT_EQ(::read(reader, text, sizeof text), 4);
  ::close(reader);
  EXPECT_EQ(std::string(text), "text");
  EXPECT_TRUE(fs::is_fifo(pipe));
}

// As /dev/stdout often is one: a link whose end has no path.
TEST(AtomicFileTest, APipeWithoutANameIsWrittenTo) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  write_file_atomic("/proc/self/fd/" + std::to_string(ends[1]), "text");
  char text[8] = {};
  EXPECT_EQ(::read(ends[0], text, sizeof text), 4);
  EXPECT_EQ(std::string(text), "text");
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(AtomicFileTest, ALinkStaysALink) {
  const TemporaryFolder folder;
  fs::create_symlink("file", folder / "link");
  expect_error<RuntimeError>([&] { AtomicFile(folder / "link"); },
                             "link, a link: No such file or directory");
  write_text(folder / "file", "old");
  write_file_atomic(folder / "link", "new");
  EXPECT_TRUE(fs::is_symlink(folder / "link"));
  EXPECT_EQ(read_file(folder / "file"), "new");
}

TEST(AtomicFileTest, WithoutCommitNothingIsLeft) {
  TemporaryFolder folder;
  write_text(folder / "a", "old");
  {
    AtomicFile file(folder / "a");
    file.write("new and much longer");
    EXPECT_EQ(read_file(folder / "a"), "old");
  }
  EXPECT_EQ(read_file(folder / "a"), "old");
  EXPECT_EQ(entries(folder.path()), 1u);
  AtomicFile file(folder / "a");
  file.write("n");
  file.write(nullptr, 0);
  file.write("ew");
  file.commit();
  EXPECT_EQ(read_file(folder / "a"), "new");
  EXPECT_EQ(entries(folder.path()), 1u);
}

TEST(MakeDirectories, ParentsAndObstacles) {
  TemporaryFolder folder;
  make_directories(folder / "a/b/c");
  EXPECT_TRUE(fs::is_directory(folder / "a/b/c"));
  EXPECT_NO_THROW(make_directories(folder / "a/b/c"));
  write_text(folder / "file", "dear");
  expect_error<RuntimeError>([&] { make_directories(folder / "file"); },
                             (folder / "file").string());
  expect_error<RuntimeError>([&] { make_directories(folder / "file/below"); },
                             (folder / "file/below").string());
  EXPECT_EQ(read_file(folder / "file"), "dear");
}

TEST(FsyncDirectory, NamesWhatIsMissing) {
  TemporaryFolder folder;
  EXPECT_NO_THROW(fsync_directory(folder.path()));
  EXPECT_NO_THROW(fsync_directory(""));
  expect_error<RuntimeError>([&] { fsync_directory(folder / "none"); }, "none");
}

TEST(MappedFileTest, MapsAndMoves) {
  TemporaryFolder folder;
  write_text(folder / "a", "content");
  MappedFile file(folder / "a");
  ASSERT_EQ(file.size(), 7u);
  EXPECT_EQ(std::memcmp(file.data(), "content", 7), 0);
  MappedFile moved(std::move(file));
  EXPECT_EQ(moved.size(), 7u);
  fs::remove(folder / "a");  // the map stays
  EXPECT_EQ(std::memcmp(moved.data(), "content", 7), 0);
  write_text(folder / "empty", "");
  const MappedFile empty(folder / "empty");
  EXPECT_EQ(empty.size(), 0u);
  moved = MappedFile(folder / "empty");
  EXPECT_EQ(moved.size(), 0u);
  EXPECT_EQ(MappedFile().data(), nullptr);
}

TEST(MappedFileTest, RefusesWhatIsNoFile) {
  TemporaryFolder folder;
  expect_error<InputError>([&] { MappedFile(folder / "none"); }, (folder / "none").string());
  expect_error<InputError>([&] { MappedFile(folder.path()); }, folder.path().string());
}

}  // namespace
}  // namespace bert
