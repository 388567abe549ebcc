// The CPU backend: every op of kernels/ops.h in f32 or bf16, on OpenMP and SIMD registers. Same
// inputs, number of parts and level: same bits.
//
// kernels/cpu is compiled once for each level of instructions that processors have, each time as a
// module of its own: no code for a higher level can be reached on a processor without it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "runtime/dtype.h"

namespace bert {

struct CpuOptions {
  int threads = 1;  // fixed for the life of the ops
  // Work is cut into parts, by default as many as there are threads; results depend on the parts
  // alone (not on timing), and no more threads than parts are used.
  std::optional<int> parts = std::nullopt;
  DType dtype = DType::f32;  // of activations: f32 or bf16
  std::string level = {};    // of cpu_levels(); empty: $BERT_CPU_LEVEL, else the first of them
};

// The levels that this processor has, the highest first: of x86-64's "avx512_bf16" (with AMX tiles
// where there are any), "avx512", "avx2"; last "baseline", what the compiler takes for granted.
const std::vector<std::string>& cpu_levels();

// Opens bert_cpu_LEVEL.so (runtime/module.h). InputError for a level that is none of cpu_levels(),
// RuntimeError without the module.
std::unique_ptr<Ops> make_cpu_ops(const CpuOptions& options);

// Lets idle OpenMP threads sleep after tens of microseconds, unless OMP_WAIT_POLICY or
// GOMP_SPINCOUNT is set: sets GOMP_SPINCOUNT for this process, so call it before there are threads
// and before make_cpu_ops.
//
// libgomp's threads spin for milliseconds at the end of each parallel region, as long as they are
// not more than the processors. On a machine that does anything else as well, the thread they wait
// for then waits for the processor they spin on: an op of 70 microseconds was measured at 15
// milliseconds beside a compilation. A short spin costs nothing on an idle machine.
void limit_openmp_spinning();

}  // namespace bert
