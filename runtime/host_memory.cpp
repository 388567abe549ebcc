#include "runtime/host_memory.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <string>

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

namespace bert {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kUnknown = std::numeric_limits<std::size_t>::max();

// Address space that threads reserve for their stacks and heaps, mostly without using it.
constexpr std::size_t kReservedByThreads = std::size_t{256} << 20;

std::size_t less(std::size_t a, std::size_t b) { return a > b ? a - b : 0; }

// The number behind the word `key` in a file of lines "KEY NUMBER ...".
std::optional<std::size_t> find_number(const fs::path& path, const std::string& key) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    std::size_t number = 0;
    if (word == key && file >> number) return number;
    file.clear();
    file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return std::nullopt;
}

// A file that holds a number; nothing for "max".
std::optional<std::size_t> read_number(const fs::path& path) {
  std::ifstream file(path);
  std::size_t number = 0;
  if (file >> number) return number;
  return std::nullopt;
}

// What is left below the limit of one group.
std::size_t left_in(const fs::path& group, const char* limit, const char* used) {
  const auto most = read_number(group / limit), now = read_number(group / used);
  if (!most || !now) return kUnknown;
  std::size_t cache = 0;
  for (const char* list : {"inactive_file", "active_file"}) {
    cache += find_number(group / "memory.stat", list).value_or(0);
  }
  return less(*most, less(*now, cache));
}

// The limits of a group and of all around it. Inside a container a group's path may be one of the
// outside, that does not exist here: the limits at the root are the container's then.
std::size_t left_in_all(const fs::path& root, std::string group, const char* limit,
                        const char* used) {
  std::size_t left = left_in(root, limit, used);
  while (group.size() > 1) {
    left = std::min(left, left_in(root.string() + group, limit, used));
    group.resize(group.find_last_of('/'));
  }
  return left;
}

// Of both versions of control groups; "0::/PATH" and "5:memory:/PATH" in /proc/self/cgroup.
std::size_t left_in_groups(const fs::path& proc, const fs::path& cgroup) {
  std::size_t left = left_in_all(cgroup, "", "memory.max", "memory.current");
  std::ifstream file(proc / "self" / "cgroup");
  for (std::string line; std::getline(file, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos || line.compare(second + 1, 1, "/") != 0) continue;
    const std::string controllers = fmt::format(",{},", line.substr(first + 1, second - first - 1));
    const std::string group = line.substr(second + 1);
    if (controllers == ",,") {
      left = std::min(left, left_in_all(cgroup, group, "memory.max", "memory.current"));
    } else if (controllers.find(",memory,") != std::string::npos) {
      left = std::min(left, left_in_all(cgroup / "memory", group, "memory.limit_in_bytes",
                                        "memory.usage_in_bytes"));
    }
  }
  return left;
}

std::size_t left_of_address_space(const fs::path& proc) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return kUnknown;
  const auto pages = read_number(proc / "self" / "statm");
  if (!pages) return kUnknown;
  const std::size_t used = *pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return less(limit.rlim_cur, used + kReservedByThreads);
}

}  // namespace

void* allocate_host_memory(std::size_t bytes) {
  constexpr std::size_t kCacheLine = 64, kHugePage = std::size_t{2} << 20;
  const bool large = bytes >= kHugePage;
  const std::size_t unit = large ? kHugePage : kCacheLine;
  const std::size_t rounded = (bytes + unit - 1) / unit * unit;
  void* const memory = std::aligned_alloc(unit, rounded);
  if (memory != nullptr && large) ::madvise(memory, rounded, MADV_HUGEPAGE);  // advice: may fail
  return memory;
}

std::size_t host_memory_available(const fs::path& proc, const fs::path& cgroup) {
  std::size_t left = std::min(left_in_groups(proc, cgroup), left_of_address_space(proc));
  if (const auto kilobytes = find_number(proc / "meminfo", "MemAvailable:")) {
    left = std::min(left, *kilobytes * 1024);
  }
  return left;
}

}  // namespace bert
