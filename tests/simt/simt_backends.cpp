// Adds the SIMT harness to the backends of the program that this file is compiled into.
#include "tests/simt/simt.h"
#include "tests/simt/simt_ops.h"
#include "tests/support/backends.h"

namespace bert::test {
namespace {

void set_timing(int timing) {
  using simt::harness::Schedule;
  static const Schedule first = simt::harness::schedule();
  simt::harness::set_schedule(
      timing == 0 ? first
                  : Schedule{Schedule::Order::random, static_cast<std::uint64_t>(100 + timing)});
}

BackendEntry entry(const std::string& name, DType dtype, bool fused, bool fp8 = false) {
  return {name,
          [dtype, fused, fp8] {
            Backend backend{make_cpu_device(), nullptr};
            backend.ops = simt::make_simt_ops(dtype, *backend.device, fused, fp8);
            return backend;
          },
          set_timing, fp8};
}

const BackendRegistration f32(entry("simt_f32", DType::f32, true));
const BackendRegistration bf16(entry("simt_bf16", DType::bf16, true));
const BackendRegistration fp8(entry("simt_fp8", DType::bf16, true, true));
// Their products do no epilogue, so that the kernels do.
const BackendRegistration unfused_f32(entry("unfused_simt_f32", DType::f32, false));
const BackendRegistration unfused_bf16(entry("unfused_simt_bf16", DType::bf16, false));
const BackendRegistration unfused_fp8(entry("unfused_simt_fp8", DType::bf16, false, true));

}  // namespace
}  // namespace bert::test
