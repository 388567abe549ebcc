// Memory of the host: how much more this process may take before the kernel refuses or kills it,
// and taking large pieces of it.
#pragma once

#include <cstddef>
#include <filesystem>

namespace bert {

// At least `bytes`, on a cache line of its own; null where there is none. Large pieces are on huge
// pages where the kernel has them for who asks, and then a multiple of 2 MiB: matrices are read
// across their rows, a page each. To be given to std::free.
void* allocate_host_memory(std::size_t bytes);

// Bytes: the least of what the machine has available (MemAvailable), what is left below the limits
// of this process's control group and of those around it (a container's, a batch job's), where page
// cache counts as free, and what is left of the address space (ulimit -v). The largest size_t where
// nothing is known. `proc` and `cgroup`: where the kernel shows these.
std::size_t host_memory_available(const std::filesystem::path& proc = "/proc",
                                  const std::filesystem::path& cgroup = "/sys/fs/cgroup");

}  // namespace bert
