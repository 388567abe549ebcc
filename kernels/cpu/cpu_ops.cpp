#include "kernels/cpu/cpu_ops.h"

#include <omp.h>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/product_kernels.h"

namespace bert::cpu {

CpuOpsBase::CpuOpsBase(Team team) : team_(team) {
  omp_set_dynamic(0);
  if (omp_get_thread_limit() < team.threads) {
    throw_input_error("{} threads are asked for, OMP_THREAD_LIMIT allows {}", team.threads,
                      omp_get_thread_limit());
  }
}

template <typename Real>
std::string CpuOps<Real>::name() const {
  const ProductInstructions by = product_instructions<Real>();
  return fmt::format("cpu {} with {} instructions{}", dtype_name(dtype_of<Real>), BERT_CPU_LEVEL,
                     by == ProductInstructions::tiles        ? " and AMX tiles"
                     : by == ProductInstructions::bf16_pairs ? " and dot products of pairs"
                                                             : "");
}
template class CpuOps<float>;
template class CpuOps<Bfloat16>;

void CpuOpsBase::zero_floats(float* x, std::int64_t n) {
  constexpr std::int64_t kGrain = 16384;  // below it, one thread is faster
  const Team team = n < 2 * kGrain ? Team() : team_;
  on_parts(team, [&](int part) {
    const Range range = share(n, part, team.parts, 16);
    std::memset(x + range.begin, 0, static_cast<std::size_t>(range.end - range.begin) * 4);
  });
}

void CpuOpsBase::zero(const Tensor& x) {
  if (!x || x.numel() == 0) return;
  if (x.bytes() % 4 == 0) {
    zero_floats(static_cast<float*>(x.raw()), static_cast<std::int64_t>(x.bytes() / 4));
  } else {
    std::memset(x.raw(), 0, x.bytes());
  }
}

void CpuOpsBase::zero_tail(const Tensor& x, std::int64_t count) {
  if (x && count < x.rows()) zero(x.slice(count, x.rows() - count));
}

float* CpuOpsBase::per_part(std::int64_t count) {
  return part_scratch_.reserve_as<float>(round_up(count, 16) * team_.parts);
}

void CpuOpsBase::add_partials(const float* partials, std::int64_t stride, std::int64_t n,
                              float* into) {
  for_lanes(0, n, [&](std::int64_t c, auto lanes) {
    F32 total = load(partials + c, lanes);
    for (int part = 1; part < team_.parts; ++part) {
      total += load(partials + part * stride + c, lanes);
    }
    store(into + c, load(into + c, lanes) + total, lanes);
  });
}

}  // namespace bert::cpu
