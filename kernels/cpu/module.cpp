// bert_cpu_LEVEL.so: what kernels/cpu_module.h opens.
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu_module_entry.h"
#include "runtime/error.h"

extern "C" void bert_make_cpu_ops(const bert::CpuOptions& options,
                                  std::unique_ptr<bert::Ops>& ops) {
  const int parts = options.parts.value_or(options.threads);
  BERT_CHECK(options.threads >= 1 && parts >= 1, "{} threads, {} parts", options.threads, parts);
  const bert::cpu::Team team(parts, options.threads);
  if (options.dtype == bert::DType::bf16) {
    ops = std::make_unique<bert::cpu::CpuOps<bert::Bfloat16>>(team);
  } else {
    BERT_CHECK(options.dtype == bert::DType::f32, "CPU ops in {}", dtype_name(options.dtype));
    ops = std::make_unique<bert::cpu::CpuOps<float>>(team);
  }
}
