#include <cstdlib>
#include <filesystem>

#include <dlfcn.h>

#include "runtime/communicator.h"
#include "runtime/error.h"

namespace bert {
namespace {

class LocalCommunicator final : public Communicator {
 public:
  std::string name() const override { return "local"; }
  int rank() const override { return 0; }
  int size() const override { return 1; }
  int local_rank() const override { return 0; }
  int local_size() const override { return 1; }
  void all_reduce_sum(const Tensor&) override {}
  void all_reduce_max(std::vector<std::int64_t>&) override {}
  void broadcast(std::string&) override {}
  void barrier() override {}
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }
};

// The number of processes an MPI launcher started, from what it leaves in the environment; 0
// without one. srun alone (SLURM_NTASKS) also starts plain programs, so it must speak PMI too.
int launched_processes() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MPI_LOCALNRANKS", "PMIX_SIZE"}) {
    if (const char* value = std::getenv(name)) return std::atoi(value);
  }
  if (std::getenv("PMIX_RANK") != nullptr && std::getenv("SLURM_NTASKS") != nullptr) {
    return std::atoi(std::getenv("SLURM_NTASKS"));
  }
  return 0;
}

}  // namespace

std::unique_ptr<Communicator> make_local_communicator() {
  return std::make_unique<LocalCommunicator>();
}

std::unique_ptr<Communicator> make_communicator() {
  const int processes = launched_processes();
  if (processes <= 1) return make_local_communicator();
  const auto module =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "bert_mpi_communicator.so";
  // Never closed: MPI's own threads and exit handlers live in it. RTLD_GLOBAL: OpenMPI's plugins
  // look for its symbols.
  void* library = ::dlopen(module.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (library == nullptr) {
    throw_runtime_error(
        "a launcher started {} processes, but the MPI module cannot be loaded: {}; build with MPI "
        "installed (libopenmpi-dev), or start one process",
        processes, ::dlerror());
  }
  using Factory = Communicator* (*)();
  const auto factory = reinterpret_cast<Factory>(::dlsym(library, "bert_make_mpi_communicator"));
  if (factory == nullptr) throw_runtime_error("{} is not the MPI module", module.string());
  return std::unique_ptr<Communicator>(factory());
}

}  // namespace bert
