#include "kernels/cpu/openmp_wait.h"

#include <cstdlib>
#include <filesystem>
#include <system_error>

#include <dlfcn.h>
#include <unistd.h>

namespace bert::cpu {

void limit_openmp_spinning(char** argv) {
  constexpr const char* kSpins = "1000";  // tens of microseconds
  const bool is_libgomp = dlsym(RTLD_DEFAULT, "GOMP_parallel") != nullptr &&
                          dlsym(RTLD_DEFAULT, "__kmpc_fork_call") == nullptr;
  if (!is_libgomp || std::getenv("OMP_WAIT_POLICY") != nullptr ||
      std::getenv("GOMP_SPINCOUNT") != nullptr) {
    return;
  }
  setenv("GOMP_SPINCOUNT", kSpins, 1);
  // By its own path where that can be read: "exe" would be its name in ps and pkill.
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  execv(error ? "/proc/self/exe" : program.c_str(), argv);
}

}  // namespace bert::cpu
