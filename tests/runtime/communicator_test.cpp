// Communicators, alone and, in processes that this program starts of itself, under mpirun.
#include "runtime/communicator.h"

#include <cstdlib>
#include <filesystem>

#include <gtest/gtest.h>

#include "runtime/program.h"
#include "tests/data/corpus_fixture.h"
#include "tests/support/program_runner.h"

namespace bert {
namespace {

namespace fs = std::filesystem;

// What each rank does under mpirun: 0 if every answer is right.
int probe(const std::string& what) {
  const auto communicator = make_communicator();
  const int rank = communicator->rank(), size = communicator->size();
  int wrong = communicator->name() == "MPI" && rank >= 0 && rank < size ? 0 : 1;
  wrong += communicator->local_size() == size && communicator->local_rank() == rank ? 0 : 1;
  if (what == "fail" && rank == 1) communicator->abort(7);
  const double total = size * (size + 1) / 2.0;  // of rank + 1

  // Longer than the pieces it is sent in, and no multiple of them.
  std::vector<float> floats((std::size_t{16} << 20) / sizeof(float) * 2 + 3);
  for (std::size_t i = 0; i < floats.size(); ++i) {
    floats[i] = static_cast<float>((rank + 1) * static_cast<int>(i % 1000));
  }
  communicator->all_reduce_sum(
      Tensor(floats.data(), DType::f32, {static_cast<std::int64_t>(floats.size())}));
  for (std::size_t i = 0; i < floats.size(); ++i) {
    wrong += floats[i] == static_cast<float>(total * static_cast<double>(i % 1000)) ? 0 : 1;
  }
  double doubles[3] = {0.5 * (rank + 1), 1e-300 * (rank + 1), -1.0};
  communicator->all_reduce_sum(Tensor(doubles, DType::f64, {3}));
  wrong += doubles[0] == 0.5 * total && doubles[2] == -size ? 0 : 1;
  std::vector<std::int64_t> integers{(std::int64_t{1} << 60) + rank, rank};
  integers[0] -= rank > 0 ? std::int64_t{1} << 60 : 0;
  communicator->all_reduce_sum(integers);
  wrong += integers[0] == (std::int64_t{1} << 60) + size * (size - 1) / 2 ? 0 : 1;

  std::vector<std::int64_t> largest{rank, -rank, (std::int64_t{1} << 62) - rank};
  communicator->all_reduce_max(largest);
  wrong += largest == std::vector<std::int64_t>{size - 1, 0, std::int64_t{1} << 62} ? 0 : 1;

  std::string text = rank == 0 ? std::string("a\0b", 3) + std::string(100'000, 'x') : "other";
  communicator->broadcast(text);
  wrong += text == std::string("a\0b", 3) + std::string(100'000, 'x') ? 0 : 1;
  text = rank == 0 ? "" : "not empty";
  communicator->broadcast(text);
  wrong += text.empty() ? 0 : 1;

  // Of every rank, of other lengths; one has none.
  const auto own_text = [](int of) {
    return std::string(static_cast<std::size_t>(of) * 70'001, static_cast<char>(of));
  };
  const std::vector<std::string> texts = communicator->all_gather(own_text(rank));
  wrong += static_cast<int>(texts.size()) == size ? 0 : 1;
  for (int of = 0; of < size; ++of)
    wrong += texts.at(static_cast<std::size_t>(of)) == own_text(of) ? 0 : 1;

  std::uint8_t byte = 0;
  try {
    communicator->all_reduce_sum(Tensor(&byte, DType::u8, {1}));
    ++wrong;
  } catch (const RuntimeError&) {  // of a type that is not promised
  }
  communicator->barrier();
  if (communicator->is_root()) std::printf("%d ranks, wrong: %d\n", size, wrong);
  return wrong == 0 ? 0 : 1;
}

std::string under_mpirun(int ranks, const std::string& what) {
  return fmt::format("BERT_PROBE={} {}{}", what, mpirun(ranks),
                     fs::read_symlink("/proc/self/exe").string());
}

class MpiCommunicatorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!runs_under_mpirun(fs::read_symlink("/proc/self/exe"))) {
      GTEST_SKIP() << "MPI is not installed";
    }
  }
};

TEST_F(MpiCommunicatorTest, SumsAndBroadcasts) {
  for (const int ranks : {2, 3}) {
    const Answer answer = run(under_mpirun(ranks, "work"));
    EXPECT_EQ(answer.exit_code, 0) << answer.output;
    EXPECT_NE(answer.output.find(fmt::format("{} ranks, wrong: 0", ranks)), std::string::npos)
        << answer.output;
  }
}

TEST_F(MpiCommunicatorTest, AbortEndsAllRanks) {
  // Rank 0 waits for rank 1, which never comes.
  EXPECT_EQ(run(under_mpirun(2, "fail")).exit_code, 7);
}

// Started by a launcher without its module, ranks must not train alone, each thinking it is all.
TEST_F(MpiCommunicatorTest, AMissingModuleIsAnError) {
  TemporaryFolder folder;
  fs::copy_file(fs::read_symlink("/proc/self/exe"), folder / "alone");
  const Answer answer =
      run(fmt::format("OMPI_COMM_WORLD_SIZE=2 BERT_PROBE=work {}", (folder / "alone").string()));
  EXPECT_EQ(answer.exit_code, 1) << answer.output;
  EXPECT_NE(answer.output.find("bert_mpi_communicator.so"), std::string::npos) << answer.output;
}

TEST(LocalCommunicatorTest, OneRank) {
  const auto communicator = make_communicator();
  EXPECT_EQ(communicator->size(), 1);
  EXPECT_EQ(communicator->rank(), 0);
  EXPECT_EQ(communicator->local_size(), 1);
  EXPECT_EQ(communicator->local_rank(), 0);
  EXPECT_TRUE(communicator->is_root());
  std::vector<std::int64_t> values{3, 4};
  communicator->all_reduce_sum(values);
  EXPECT_EQ(values, (std::vector<std::int64_t>{3, 4}));
  std::string text = "same";
  communicator->broadcast(text);
  EXPECT_EQ(text, "same");
  communicator->barrier();
  EXPECT_EXIT(communicator->abort(9), testing::ExitedWithCode(9), "");
}

}  // namespace
}  // namespace bert

int main(int argc, char** argv) {
  if (const char* what = std::getenv("BERT_PROBE")) {
    return bert::run_program([&] { return bert::probe(what); });
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
