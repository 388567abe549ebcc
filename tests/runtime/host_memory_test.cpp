// The kernel's files are made here, of machines with and without limits.
#include "runtime/host_memory.h"

#include <cstdint>

#include <gtest/gtest.h>

#include "tests/data/corpus_fixture.h"

namespace bert {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kMegabyte = 1 << 20;

class HostMemory : public testing::Test {
 protected:
  void put(const std::string& name, const std::string& content) {
    fs::create_directories((folder_ / name).parent_path());
    write_text(folder_ / name, content);
  }
  std::size_t megabytes() const {
    return host_memory_available(folder_ / "proc", folder_ / "cgroup") / kMegabyte;
  }
  void SetUp() override {
    put("proc/meminfo",
        "MemTotal:       16777216 kB\nMemFree:          100 kB\n"
        "MemAvailable:    8388608 kB\nBuffers: 12 kB\n");
  }
  TemporaryFolder folder_;
};

std::string mib(std::size_t megabytes) { return std::to_string(megabytes * kMegabyte) + "\n"; }

TEST_F(HostMemory, OfAMachine) { EXPECT_EQ(megabytes(), 8192u); }

TEST_F(HostMemory, OfAContainer) {
  // Inside, the path may be one of the outside; the root is the container.
  put("proc/self/cgroup", "0::/docker/abc\n");
  put("cgroup/memory.max", mib(1000));
  put("cgroup/memory.current", mib(600));
  put("cgroup/memory.stat", "anon 5\nfile 9\ninactive_file " + mib(100) + "active_file " + mib(50));
  EXPECT_EQ(megabytes(), 1000u - (600 - 150));  // page cache can go
  put("cgroup/memory.max", "max\n");
  EXPECT_EQ(megabytes(), 8192u);
}

TEST_F(HostMemory, OfTheTightestOfNestedGroups) {
  put("proc/self/cgroup", "0::/job/step/task\n");
  put("cgroup/job/memory.max", mib(4000));
  put("cgroup/job/memory.current", mib(1000));
  put("cgroup/job/step/memory.max", mib(3500));
  put("cgroup/job/step/memory.current", mib(1000));
  put("cgroup/job/step/task/memory.max", "max\n");
  put("cgroup/job/step/task/memory.current", mib(1000));
  EXPECT_EQ(megabytes(), 2500u);
  put("cgroup/job/memory.max", mib(900));  // more than allowed is used
  EXPECT_EQ(megabytes(), 0u);
}

TEST_F(HostMemory, OfTheFirstVersionOfGroups) {
  put("proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/job\n0::/\n");
  put("cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("cgroup/memory/memory.usage_in_bytes", mib(300));
  put("cgroup/memory/job/memory.limit_in_bytes", mib(700));
  put("cgroup/memory/job/memory.usage_in_bytes", mib(300));
  EXPECT_EQ(megabytes(), 400u);
}

TEST_F(HostMemory, OfThisMachine) {
  EXPECT_GT(host_memory_available(), 10 * kMegabyte);
  EXPECT_LT(host_memory_available(), std::size_t{1} << 50);
}

}  // namespace
}  // namespace bert
