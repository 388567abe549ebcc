// The SIMT harness: runs CUDA kernels, compiled by a C++ compiler with BERT_SIMT, on the CPU.
// Blocks run one after another; the threads of a block are fibers, which run until a barrier or a
// warp collective and wait there for the others. docs/simt_harness.md says what it catches.
//
// This header is for tests: in which order threads run, and how a broken kernel is reported. What
// kernels see of the harness is in simt_device.h.
#pragma once

#include <cstdint>
#include <string>

#include <vector_types.h>

#include "runtime/error.h"

namespace bert::simt::harness {

// Which thread runs next, of those that can; and which block. A kernel that lacks a barrier goes
// wrong in at least one of forward and reverse where two threads are concerned; random orders mix.
struct Schedule {
  enum class Order { forward, reverse, random };
  Order order = Order::forward;
  std::uint64_t seed = 0;  // of the random order
};

// "forward", "reverse" or "random:SEED"; InputError otherwise.
Schedule parse_schedule(const std::string& text);

// Of all launches from now on. At first that of the environment's BERT_SIMT_ORDER, else forward.
void set_schedule(const Schedule& schedule);
Schedule schedule();

class ScopedSchedule {
 public:
  explicit ScopedSchedule(const Schedule& schedule) : before_(harness::schedule()) {
    set_schedule(schedule);
  }
  ~ScopedSchedule() { set_schedule(before_); }
  ScopedSchedule(const ScopedSchedule&) = delete;
  ScopedSchedule& operator=(const ScopedSchedule&) = delete;

 private:
  Schedule before_;
};

enum class FailureKind {
  exited_before_barrier,  // some threads returned, others wait at a __syncthreads
  divergent_barrier,      // the threads of a block wait at different __syncthreads
  stuck,                  // nobody can go on: lanes of a mask wait in different places
  mask_without_caller,    // the calling lane is not in its own mask
  mask_beyond_block,      // the mask names lanes that the block does not have
  mask_of_exited,         // the mask names a lane that has returned
  shuffle_source,         // a value is read from a lane that is not in the mask
  shared_overrun,         // something was written beside a shared array
  shared_limit,           // more shared memory than a block can have
  misaligned,             // an address that the instruction does not take
  pending_copy,           // a thread returned without having waited for its cp.async
  data_race,              // ThreadSanitizer has reported one (on standard error)
  trap                    // __trap()
};
std::string failure_name(FailureKind kind);

// What launch() throws when a kernel breaks a rule. The message names all that is below, and where
// the threads of the block are.
class Failure : public RuntimeError {
 public:
  Failure(FailureKind kind, const std::string& kernel, uint3 block, int thread,
          const std::string& what);

  FailureKind kind;
  std::string kernel;
  uint3 block;
  int thread;  // within the block, x first; -1 where it cannot be told
};

// How many kernels were launched (empty grids excepted): shows that a test ran any.
std::uint64_t launch_count();

// "plain", "address" or "thread": the sanitizer this harness was built for.
const char* sanitizer();

}  // namespace bert::simt::harness
