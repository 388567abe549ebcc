// bert_cpu_LEVEL.so: what kernels/cpu_module.h opens.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu_module_entry.h"
#include "runtime/error.h"
#include "runtime/program.h"

extern "C" void bert_make_cpu_ops(const bert::CpuOptions& options, const std::string& version,
                                  std::unique_ptr<bert::Ops>& ops) {
  if (version != bert::version_string()) {
    bert::throw_runtime_error("bert_cpu_{}.so is of another build ({}) than the program ({})",
                              BERT_CPU_LEVEL, bert::version_string(), version);
  }
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
