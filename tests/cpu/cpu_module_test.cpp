// The levels of the CPU backend, and how one is chosen.
#include "kernels/cpu_module.h"

#include <algorithm>
#include <cstdlib>

#include <gtest/gtest.h>

#include "runtime/error.h"

namespace bert {
namespace {

class CpuModuleTest : public testing::Test {
 protected:
  void SetUp() override { ::unsetenv("BERT_CPU_LEVEL"); }
  void TearDown() override { ::unsetenv("BERT_CPU_LEVEL"); }

  // Of "cpu f32 with LEVEL instructions and AMX tiles".
  static std::string level_of(const Ops& ops) {
    const std::string name = ops.name(), before = " with ";
    const auto begin = name.find(before) + before.size();
    return name.substr(begin, name.find(" instructions") - begin);
  }
  static std::string refusal(const CpuOptions& options) {
    try {
      make_cpu_ops(options);
    } catch (const InputError& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(CpuModuleTest, BaselineIsEverywhereAndLast) {
  ASSERT_FALSE(cpu_levels().empty());
  EXPECT_EQ(cpu_levels().back(), "baseline");
}

TEST_F(CpuModuleTest, EachLevelIsItsOwnModule) {
  for (const std::string& level : cpu_levels()) {
    const auto ops = make_cpu_ops({.level = level});
    EXPECT_EQ(level_of(*ops), level) << ops->name();
    EXPECT_EQ(ops->dtype(), DType::f32);
    EXPECT_EQ(make_cpu_ops({.dtype = DType::bf16, .level = level})->dtype(), DType::bf16);
  }
}

TEST_F(CpuModuleTest, TheHighestUnlessAsked) {
  const auto level = [] { return level_of(*make_cpu_ops({})); };
  EXPECT_EQ(level(), cpu_levels().front());
  ::setenv("BERT_CPU_LEVEL", "baseline", 1);
  EXPECT_EQ(level(), "baseline");
  ::setenv("BERT_CPU_LEVEL", "", 1);
  EXPECT_EQ(level(), cpu_levels().front());
}

TEST_F(CpuModuleTest, AnUnknownLevelIsRefused) {
  EXPECT_EQ(refusal({.level = "avx9"}).find("level: avx9 is none of this processor's levels: "),
            0u);
  ::setenv("BERT_CPU_LEVEL", "avx9", 1);
  const std::string message = refusal({});
  EXPECT_EQ(message.find("BERT_CPU_LEVEL: avx9 is none of this processor's levels: "), 0u);
  EXPECT_NE(message.find("baseline"), std::string::npos);
}

TEST_F(CpuModuleTest, AnImpossibleNumberOfThreadsIsRefused) {
  EXPECT_THROW(make_cpu_ops({.threads = 0}), RuntimeError);
  EXPECT_THROW(make_cpu_ops({.parts = 0}), RuntimeError);
}

TEST_F(CpuModuleTest, OthersSettingsOfWaitingThreadsStay) {
  ::unsetenv("GOMP_SPINCOUNT");
  ::setenv("OMP_WAIT_POLICY", "passive", 1);
  limit_openmp_spinning();
  EXPECT_EQ(std::getenv("GOMP_SPINCOUNT"), nullptr);
  ::unsetenv("OMP_WAIT_POLICY");
  ::setenv("GOMP_SPINCOUNT", "7", 1);
  limit_openmp_spinning();
  EXPECT_STREQ(std::getenv("GOMP_SPINCOUNT"), "7");
  ::unsetenv("GOMP_SPINCOUNT");
  limit_openmp_spinning();
  EXPECT_STREQ(std::getenv("GOMP_SPINCOUNT"), "1000");
}

}  // namespace
}  // namespace bert
