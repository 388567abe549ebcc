// Dropout of picked rows: in f32 8 bytes an element.
#include <vector>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/random_bits.h"
#include "kernels/op_checks.h"
#include "kernels/row_count.h"

namespace bert::cpu {

template <typename Real>
void CpuOps<Real>::dropout_rows(const DropoutRows& op) {
  check(op, dtype());
  if (op.dropout.probability == 0.0f) return;
  const std::int64_t count = row_count(op.count, op.x.rows()), channels = op.x.dim(1);
  const auto *rows = op.rows.data<std::int32_t>(),
             *position = op.tokens.position_ids.data<std::int32_t>(),
             *sequence = op.tokens.token_sequence.data<std::int32_t>();
  const auto* sequence_index = op.tokens.sequence_index.data<std::uint32_t>();
  const std::int64_t stride = dropout_row_capacity(channels);
  auto* const values = scratch_.reserve_as<std::uint16_t>(team_.parts * stride);
  const DropoutScale keep(op.dropout);
  on_parts(team_, [&](int part) {
    const Range range = share(count, part, team_.parts);
    std::uint16_t* const bits = values + part * stride;
    for (std::int64_t i = range.begin; i < range.end; ++i) {
      const std::int32_t t = rows[i];
      hidden_dropout_row(*op.dropout.key, op.dropout.site, sequence_index[sequence[t]], position[t],
                         channels, bits);
      Real* x = op.x.data<Real>() + i * channels;
      for_lanes(0, channels, [&](std::int64_t c, auto lanes) {
        store(x + c, load(x + c, lanes) * keep(bits + c), lanes);
      });
    }
  });
}

template void CpuOps<float>::dropout_rows(const DropoutRows&);
template void CpuOps<Bfloat16>::dropout_rows(const DropoutRows&);

}  // namespace bert::cpu
