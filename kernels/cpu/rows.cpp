// Gather and scatter of whole rows: 8 and 12 bytes an element.
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"

namespace bert::cpu {

void CpuOps::gather_rows(const GatherRows& op) {
  check(op, dtype());
  const std::int64_t count = row_count(op.count, op.y.rows()), channels = op.x.dim(1);
  const auto* rows = op.rows.data<std::int32_t>();
  on_parts(team_, [&](int part) {
    const Range range = share(count, part, team_.parts);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      std::memcpy(op.y.data<float>() + i * channels, op.x.data<float>() + rows[i] * channels,
                  static_cast<std::size_t>(channels) * sizeof(float));
    }
  });
  zero_tail(op.y, count);
}

void CpuOps::scatter_add_rows(const ScatterAddRows& op) {
  check(op, dtype());
  const std::int64_t count = row_count(op.count, op.y.rows()), channels = op.x.dim(1);
  const auto* rows = op.rows.data<std::int32_t>();
  on_parts(team_, [&](int part) {
    const Range range = share(count, part, team_.parts);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const float* from = op.y.data<float>() + i * channels;
      float* to = op.x.data<float>() + rows[i] * channels;
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        store(to + c, load(to + c, lanes) + load(from + c, lanes), lanes);
      });
    }
  });
}

}  // namespace bert::cpu
