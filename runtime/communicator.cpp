#include "runtime/communicator.h"

#include <cstdlib>
#include <utility>

#include <dlfcn.h>

#include "runtime/error.h"
#include "runtime/module.h"

namespace bert {
namespace {

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

std::vector<std::string> Communicator::all_gather(std::string bytes) {
  std::vector<std::string> all(static_cast<std::size_t>(size()));
  all[static_cast<std::size_t>(rank())] = std::move(bytes);
  for (int from = 0; from < size(); ++from) broadcast(all[static_cast<std::size_t>(from)], from);
  return all;
}

std::unique_ptr<Communicator> make_communicator() {
  const int processes = launched_processes();
  if (processes <= 1) return make_local_communicator();
  const std::string file = "bert_mpi_communicator.so";
  const auto path = find_module(file);
  std::string why_not = file + " is not there";
  // RTLD_GLOBAL: OpenMPI's plugins look for its symbols.
  void* const library = path.empty() ? nullptr : open_library(path, RTLD_GLOBAL, why_not);
  if (library == nullptr) {
    throw_runtime_error(
        "a launcher started {} processes, but the MPI module cannot be loaded: {}; build with MPI "
        "installed (libopenmpi-dev), or start one process",
        processes, why_not);
  }
  return std::unique_ptr<Communicator>(
      module_function<Communicator*()>(library, file, "bert_make_mpi_communicator")());
}

}  // namespace bert
