// Dropout of picked rows: in f32 8 bytes an element.
#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/hidden_dropout.h"
#include "kernels/cpu/parallel.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::dropout_rows(const DropoutRows& op) {
  check(op, dtype());
  if (op.dropout.probability == 0.0f) return;
  const std::int64_t count = row_count(op.count, op.x.rows()), channels = op.x.dim(1);
  const auto* rows = op.rows.data<std::int32_t>();
  const std::int64_t part_stride = hidden_dropout_scratch(channels);
  float* const scratch = per_part(part_stride);
  on_parts(team_, [&](int part) {
    const Range range = share(count, part, team_.parts);
    HiddenDropout<true> dropout(op.dropout, op.tokens, channels, scratch + part_stride * part);
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      dropout.choose_row(rows[i]);
      Real* x = op.x.data<Real>() + i * channels;
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        store(x + c, dropout(load(x + c, lanes), c), lanes);
      });
    }
  });
}

template void CpuOps<float>::dropout_rows(const DropoutRows&);
template void CpuOps<Bfloat16>::dropout_rows(const DropoutRows&);

}  // namespace bert::cpu
