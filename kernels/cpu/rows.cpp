// Gather and scatter of whole rows: in f32 8 and 12 bytes an element.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::gather_rows(const GatherRows& op) {
  check(op, dtype());
  const std::int64_t count = row_count(op.count, op.y.rows()), channels = op.x.dim(1);
  const auto* rows = op.rows.data<std::int32_t>();
  on_parts(team_, [&](int part) {
    const Range range = share(count, part, team_.parts);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      std::memcpy(op.y.data<Real>() + i * channels, op.x.data<Real>() + rows[i] * channels,
                  static_cast<std::size_t>(channels) * sizeof(Real));
    }
  });
  zero_tail(op.y, count);
}

template <typename Real>
void CpuOps<Real>::scatter_add_rows(const ScatterAddRows& op) {
  check(op, dtype());
  const std::int64_t count = row_count(op.count, op.y.rows()), channels = op.x.dim(1);
  const auto* rows = op.rows.data<std::int32_t>();
  on_parts(team_, [&](int part) {
    const Range range = share(count, part, team_.parts);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const Real* from = op.y.data<Real>() + i * channels;
      Real* to = op.x.data<Real>() + rows[i] * channels;
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        store(to + c, load(to + c, lanes) + load(from + c, lanes), lanes);
      });
    }
  });
}

template void CpuOps<float>::gather_rows(const GatherRows&);
template void CpuOps<Bfloat16>::gather_rows(const GatherRows&);
template void CpuOps<float>::scatter_add_rows(const ScatterAddRows&);
template void CpuOps<Bfloat16>::scatter_add_rows(const ScatterAddRows&);

}  // namespace bert::cpu
