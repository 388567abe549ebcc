// Communicator: the ranks of one job. Local (one process) or MPI; NCCL sits beside them on GPUs.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/tensor.h"

namespace bert {

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual std::string name() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int local_rank() const = 0;  // among the ranks of this machine
  virtual int local_size() const = 0;
  bool is_root() const { return rank() == 0; }

  // Element-wise sum over all ranks, in place, in the same order every time; f32, f64 or i64 in
  // host memory.
  virtual void all_reduce_sum(const Tensor& tensor) = 0;
  // Element-wise maximum over all ranks, in place.
  virtual void all_reduce_max(std::vector<std::int64_t>& values) = 0;
  // The bytes of rank `from` reach every rank.
  virtual void broadcast(std::string& bytes, int from) = 0;
  virtual void barrier() = 0;
  // Ends every rank of the job at once; the message has been printed by the caller.
  [[noreturn]] virtual void abort(int exit_code) = 0;

  void broadcast(std::string& bytes) { broadcast(bytes, 0); }
  // The bytes of all ranks, in their order, on each of them.
  std::vector<std::string> all_gather(std::string bytes);

  void all_reduce_sum(std::vector<std::int64_t>& values) {
    all_reduce_sum(Tensor(values.data(), DType::i64, {static_cast<std::int64_t>(values.size())}));
  }
};

std::unique_ptr<Communicator> make_local_communicator();

// Under an MPI launcher (mpirun, srun) loads the MPI module that lies beside the program and joins
// the job; otherwise local. RuntimeError if a launcher started several processes but the module is
// missing: they would all train alone.
std::unique_ptr<Communicator> make_communicator();

}  // namespace bert
