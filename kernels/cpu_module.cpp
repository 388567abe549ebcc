#include "kernels/cpu_module.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <mutex>

#include <dlfcn.h>
#include <fmt/ranges.h>

#include "kernels/cpu_module_entry.h"
#include "runtime/error.h"
#include "runtime/module.h"
#include "runtime/program.h"

namespace bert {
namespace {

std::vector<std::string> find_levels() {
  std::vector<std::string> levels{"baseline"};
#if defined(__x86_64__)
  const auto add = [&](const char* level, bool has_it) {
    if (has_it) levels.insert(levels.begin(), level);
    return has_it;
  };
  // What each is compiled for (kernels/cpu/CMakeLists.txt), and the system saves the registers of.
  if (add("avx2", __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) &&
      add("avx512", __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vl"))) {
    add("avx512_bf16", __builtin_cpu_supports("avx512bf16"));
  }
#endif
  return levels;
}

// The level to compute with, one of cpu_levels().
std::string choose(const std::string& asked) {
  const char* const variable = std::getenv("BERT_CPU_LEVEL");
  const bool by_variable = asked.empty() && variable != nullptr && *variable != '\0';
  const std::string level = by_variable ? variable : asked;
  const std::vector<std::string>& levels = cpu_levels();
  if (level.empty()) return levels.front();
  if (std::find(levels.begin(), levels.end(), level) == levels.end()) {
    throw_input_error("{}: {} is none of this processor's levels: {}",
                      by_variable ? "BERT_CPU_LEVEL" : "level", level, fmt::join(levels, ", "));
  }
  return level;
}

MakeCpuOps* open(const std::string& level) {
  static std::mutex mutex;
  static std::map<std::string, MakeCpuOps*> opened;
  const std::lock_guard lock(mutex);
  MakeCpuOps*& function = opened[level];
  if (function == nullptr) {
    const std::string file = fmt::format("bert_cpu_{}.so", level);
    const auto path = find_module(file);
    if (path.empty())
      throw_runtime_error(
          "{} is missing: it lies neither beside the program or the library, nor in ../bin; "
          "build the target programs, or copy the bert_cpu_*.so along",
          file);
    std::string why_not;
    void* const library = open_library(path, RTLD_LOCAL, why_not);
    if (library == nullptr) throw_runtime_error("{} cannot be loaded: {}", file, why_not);
    function = module_function<MakeCpuOps>(library, file, kMakeCpuOps);
  }
  return function;
}

}  // namespace

const std::vector<std::string>& cpu_levels() {
  static const std::vector<std::string> levels = find_levels();
  return levels;
}

std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options) {
  std::unique_ptr<Ops> ops;
  open(choose(options.level))(options, version_string(), ops);
  return ops;
}

void limit_openmp_spinning() {
  if (std::getenv("OMP_WAIT_POLICY") == nullptr) ::setenv("GOMP_SPINCOUNT", "1000", 0);
}

}  // namespace bert
