// What the kernels around LayerNorm share: how a row of C channels lies on its threads, the sums
// over a row, and the sums over columns that become gradients of parameters.
//
// A row belongs to a team: a warp (C <= 1024), or a block of 256 threads. A team reads a row from
// global memory once, in groups of eight channels (one group of dropout bits, 16 bytes of bf16):
// thread i has the groups i, i + kTeam, ...
#pragma once

#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "runtime/tensor.h"

namespace bert::BERT_CUDA {

// Threads and groups per thread of a row. kVector: C is a multiple of eight and rows are 16-byte
// aligned; otherwise channels are read one by one. kFull: C is kMostChannels, which the compiler
// then knows: no thread asks whether it has a channel, and addresses are constants.
template <int kTeamThreads, int kGroupsPerThread, bool kVectorAccess, bool kFullRow = false>
struct RowShape {
  static constexpr int kTeam = kTeamThreads;
  static constexpr int kGroups = kGroupsPerThread;
  static constexpr bool kVector = kVectorAccess;
  static constexpr bool kFull = kFullRow;
  static constexpr int kMostChannels = kTeam * kGroups * kGroup;
};

// C, given it.
template <class Shape>
__device__ __forceinline__ int row_channels(int channels) {
  return Shape::kFull ? Shape::kMostChannels : channels;
}

// Where row tensors allow vector access; absent tensors do.
template <class... Tensors>
bool vector_access(std::int64_t channels, const Tensors&... tensors) {
  return channels % kGroup == 0 &&
         ((reinterpret_cast<std::uintptr_t>(tensors.raw()) % 16 == 0) && ...);
}

// Calls f(RowShape{}) with the shape for rows of `channels`.
template <class F>
void with_row_shape(std::int64_t channels, bool vector, F&& f) {
  if (vector && channels == 256) {
    f(RowShape<32, 1, true, true>{});
  } else if (vector && channels == 512) {
    f(RowShape<32, 2, true, true>{});
  } else if (vector && channels == 768) {
    f(RowShape<32, 3, true, true>{});
  } else if (vector && channels == 1024) {
    f(RowShape<32, 4, true, true>{});
  } else if (vector && channels <= 256) {
    f(RowShape<32, 1, true>{});
  } else if (vector && channels <= 512) {
    f(RowShape<32, 2, true>{});
  } else if (vector && channels <= 1024) {
    f(RowShape<32, 4, true>{});
  } else if (channels <= 1024) {
    f(RowShape<32, 4, false>{});
  } else if (vector && channels <= 2048) {
    f(RowShape<256, 1, true>{});
  } else if (channels <= 4096) {
    f(RowShape<256, 2, false>{});
  } else {
    throw_input_error("rows of {} channels: the CUDA kernels have rows of at most 4096", channels);
  }
}

// --- Groups of channels --------------------------------------------------------------------------
// Whether channel c + i exists, c the first of a group.
template <bool kVector>
__device__ __forceinline__ bool in_row(int c, int i, int channels) {
  return kVector ? c < channels : c + i < channels;
}

// values = row[c .. c + 7], zeros beyond the row.
template <bool kVector, Reuse kReuse = Reuse::likely, class T>
__device__ __forceinline__ void load_group(const T* row, int c, int channels,
                                           float (&values)[kGroup]) {
  if (kVector && c < channels) {
    load_floats<kReuse>(row + c, values);
  } else {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      values[i] = !kVector && c + i < channels ? to_float(row[c + i]) : 0.0f;
    }
  }
}

// row[c .. c + 7] = values, as far as the row goes.
template <bool kVector, class T>
__device__ __forceinline__ void store_group(T* row, int c, int channels,
                                            const float (&values)[kGroup]) {
  if (kVector && c < channels) {
    store_floats(row + c, values);
  } else if (!kVector) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      if (c + i < channels) row[c + i] = from_float<T>(values[i]);
    }
  }
}

// values as T holds them.
template <class T>
__device__ __forceinline__ void round_group(float (&values)[kGroup]) {
  if constexpr (sizeof(T) == 2) {
#pragma unroll
    for (int i = 0; i < kGroup; i += 2) {
      const float2 pair = unpack_bf16(pack_bf16(values[i], values[i + 1]));
      values[i] = pair.x;
      values[i + 1] = pair.y;
    }
  }
}

// A group as it lies in memory: half the registers for bf16.
template <class T, bool kVector>
struct HeldGroup {
  float values[kGroup];
  __device__ __forceinline__ void load(const T* row, int c, int channels) {
    load_group<kVector, Reuse::once>(row, c, channels, values);
  }
  __device__ __forceinline__ void get(float (&to)[kGroup]) const {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) to[i] = values[i];
  }
};
template <>
struct HeldGroup<__nv_bfloat16, true> {
  uint4 raw;
  __device__ __forceinline__ void load(const __nv_bfloat16* row, int c, int channels) {
    raw = c < channels ? detail::load_16_bytes<Reuse::once>(reinterpret_cast<const uint4*>(row + c))
                       : make_uint4(0, 0, 0, 0);
  }
  __device__ __forceinline__ void get(float (&to)[kGroup]) const {
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int w = 0; w < 4; ++w) {
      const float2 pair = unpack_bf16(words[w]);
      to[2 * w] = pair.x;
      to[2 * w + 1] = pair.y;
    }
  }
};

// --- Teams ---------------------------------------------------------------------------------------
template <class Shape>
__device__ __forceinline__ int team_thread() {
  return static_cast<int>(threadIdx.x) % Shape::kTeam;
}
template <class Shape>
__device__ __forceinline__ int teams_per_block() {
  return static_cast<int>(blockDim.x) / Shape::kTeam;
}
// The number of this thread's team in the grid.
template <class Shape>
__device__ __forceinline__ std::int64_t team_index() {
  return std::int64_t{blockIdx.x} * teams_per_block<Shape>() + threadIdx.x / Shape::kTeam;
}
// The first channel of the team thread's group g.
template <class Shape>
__device__ __forceinline__ int group_channel(int g) {
  return (team_thread<Shape>() + g * Shape::kTeam) * kGroup;
}

// How many teams the grid has.
template <class Shape>
__device__ __forceinline__ int team_count() {
  return static_cast<int>(gridDim.x) * teams_per_block<Shape>();
}

template <class Shape, int N>
__device__ __forceinline__ void team_sum(float (&values)[N]) {
  if constexpr (Shape::kTeam == 32) {
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = warp_sum(values[i]);
  } else {
    block_sum(values);
  }
}

template <class Shape, class T>
__device__ __forceinline__ void zero_row(T* row, int channels) {
  const float zeros[kGroup] = {};
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    store_group<Shape::kVector>(row, group_channel<Shape>(g), channels, zeros);
  }
}

// The thread's part of a parameter [C], read for every row. kHeld: from registers; otherwise each
// time from L1.
template <class Shape, bool kHeld>
class RowParameter {
 public:
  __device__ __forceinline__ RowParameter(const float* from, int channels)
      : from_(from), channels_(channels) {
    if constexpr (kHeld) {
#pragma unroll
      for (int g = 0; g < Shape::kGroups; ++g) {
        load_group<Shape::kVector>(from, group_channel<Shape>(g), channels, held_[g]);
      }
    }
  }
  __device__ __forceinline__ void get(int g, float (&values)[kGroup]) const {
    if constexpr (kHeld) {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) values[i] = held_[g][i];
    } else {
      load_group<Shape::kVector>(from_, group_channel<Shape>(g), channels_, values);
    }
  }

 private:
  const float* from_;
  int channels_;
  float held_[kHeld ? Shape::kGroups : 1][kGroup];
};

// --- LayerNorm of a row --------------------------------------------------------------------------
struct RowStatistics {
  float mean, rstd;
};

// Of the row that the team holds; two passes over registers, so a large mean cancels nothing.
template <class Shape>
__device__ __forceinline__ RowStatistics row_statistics(const float (&x)[Shape::kGroups][kGroup],
                                                        int channels, float epsilon) {
  float sum[1] = {0.0f};
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) sum[0] += x[g][i];  // zeros beyond the row
  }
  team_sum<Shape>(sum);
  const float mean = sum[0] / static_cast<float>(channels);
  float squares[1] = {0.0f};
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const float d =
          in_row<Shape::kVector>(group_channel<Shape>(g), i, channels) ? x[g][i] - mean : 0.0f;
      squares[0] += d * d;
    }
  }
  team_sum<Shape>(squares);
  return {mean, rsqrtf(squares[0] / static_cast<float>(channels) + epsilon)};
}

// y = gamma * (x - mean) * rstd + beta of group g.
template <class Parameter>
__device__ __forceinline__ void normalize_group(const float (&x)[kGroup], const Parameter& gamma,
                                                const Parameter& beta, const RowStatistics& row,
                                                int g, float (&y)[kGroup]) {
  float scale[kGroup], shift[kGroup];
  gamma.get(g, scale);
  beta.get(g, shift);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) y[i] = scale[i] * ((x[i] - row.mean) * row.rstd) + shift[i];
}

// Means over a row of dxhat = dy * gamma and of dxhat * xhat: what its gradient needs.
struct RowGradientMeans {
  float dxhat, dxhat_xhat;
};

// dy(g, values) and x(g, values) give the group g of the row, zeros beyond it. Adds the row to this
// thread's column sums of dy * xhat and dy.
template <class Shape, class Dy, class X, class Parameter>
__device__ __forceinline__ RowGradientMeans row_gradient_means(
    Dy&& dy, X&& x, const Parameter& gamma, const RowStatistics& row, int channels,
    float (&dgamma)[Shape::kGroups][kGroup], float (&dbeta)[Shape::kGroups][kGroup]) {
  float sums[2] = {0.0f, 0.0f};
#pragma unroll
  for (int g = 0; g < Shape::kGroups; ++g) {
    float upstream[kGroup], value[kGroup], scale[kGroup];
    dy(g, upstream);
    x(g, value);
    gamma.get(g, scale);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      const float xhat = (value[i] - row.mean) * row.rstd, dxhat = upstream[i] * scale[i];
      sums[0] += dxhat;
      sums[1] += dxhat * xhat;
      dgamma[g][i] += upstream[i] * xhat;
      dbeta[g][i] += upstream[i];
    }
  }
  team_sum<Shape>(sums);
  return {sums[0] / static_cast<float>(channels), sums[1] / static_cast<float>(channels)};
}

// dx = rstd * (dxhat - mean(dxhat) - xhat * mean(dxhat * xhat)) of group g.
template <class Parameter>
__device__ __forceinline__ void row_gradient(const float (&dy)[kGroup], const float (&x)[kGroup],
                                             const Parameter& gamma, const RowStatistics& row,
                                             const RowGradientMeans& means, int g,
                                             float (&dx)[kGroup]) {
  float scale[kGroup];
  gamma.get(g, scale);
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    const float xhat = (x[i] - row.mean) * row.rstd;
    dx[i] = row.rstd * (dy[i] * scale[i] - means.dxhat - xhat * means.dxhat_xhat);
  }
}

// --- Column sums ---------------------------------------------------------------------------------
// Each team of a persistent grid sums its rows in registers; a block adds up its teams in order;
// add_column_sums adds up the blocks in order. So the result depends on the grid, not on timing.

// Threads of a multiprocessor each of which holds its part of `rows` rows of C floats (column sums,
// parameters), and `working` registers besides: as many as there are registers for. What kernels
// ask for was read off ptxas: none spills.
template <class Shape>
constexpr int row_threads(int rows, int working) {
  const int registers = Shape::kGroups * kGroup * rows + working + (Shape::kVector ? 0 : 64);
  return registers <= 96 ? 640 : registers <= 128 ? 512 : registers <= 168 ? 384 : 256;
}

// `working` of a row's gradient, rows in shared memory. 56 for bf16 would be 16 warps instead of 12
// for three column sums of C = 768, and some spills.
template <class T>
inline constexpr int kGradientRegisters = sizeof(T) == 2 ? 68 : 108;

// Threads of a block whose threads keep `sums` column sums: one block fills a multiprocessor.
template <class T, class Shape>
constexpr int gradient_threads(int sums) {
  return Shape::kTeam > 32 ? Shape::kTeam : row_threads<Shape>(sums, kGradientRegisters<T>);
}

// Whether a row of parameters may be held besides `sums` column sums at the cost of no warp.
template <class T, class Shape>
constexpr bool holds_parameter(int sums) {
  return gradient_threads<T, Shape>(sums + 1) == gradient_threads<T, Shape>(sums);
}

struct PersistentGrid {
  int blocks, threads;
};
// For at most `rows` rows: no team without a row as long as there are multiprocessors without one.
template <class Shape>
PersistentGrid persistent_grid(std::int64_t rows, int multiprocessors, int most_threads) {
  const std::int64_t teams = most_threads / Shape::kTeam;
  const std::int64_t blocks = std::min<std::int64_t>(multiprocessors, rows);
  if (blocks == 0) return {0, most_threads};
  const std::int64_t needed = std::min(teams, ceil_div(rows, blocks));
  return {static_cast<int>(blocks), static_cast<int>(needed) * Shape::kTeam};
}

// Dynamic shared memory that store_column_sums needs.
template <class Shape>
std::size_t column_sums_shared_bytes(int threads, std::int64_t channels) {
  if (threads == Shape::kTeam) return 0;
  return static_cast<std::size_t>(threads / Shape::kTeam) * static_cast<std::size_t>(channels) *
         sizeof(float);
}

// partials [blocks, N, C]: this block's sums. All threads of the block call.
template <class Shape, int N>
__device__ __forceinline__ void store_column_sums(const float (&sums)[N][Shape::kGroups][kGroup],
                                                  int channels, float* partials) {
  float* const to = partials + std::int64_t{blockIdx.x} * N * channels;
  if (teams_per_block<Shape>() == 1) {
#pragma unroll
    for (int n = 0; n < N; ++n) {
#pragma unroll
      for (int g = 0; g < Shape::kGroups; ++g) {
        store_group<Shape::kVector>(to + std::int64_t{n} * channels, group_channel<Shape>(g),
                                    channels, sums[n][g]);
      }
    }
    return;  // all threads alike
  }
  float* const shared = dynamic_shared<float>();  // [teams, C]
  const int team = static_cast<int>(threadIdx.x) / Shape::kTeam;
#pragma unroll
  for (int n = 0; n < N; ++n) {
    __syncthreads();  // the sums before have been read
#pragma unroll
    for (int g = 0; g < Shape::kGroups; ++g) {
      store_group<Shape::kVector>(shared + team * channels, group_channel<Shape>(g), channels,
                                  sums[n][g]);
    }
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < channels; c += static_cast<int>(blockDim.x)) {
      float total = 0.0f;
      for (int t = 0; t < teams_per_block<Shape>(); ++t) total += shared[t * channels + c];
      to[std::int64_t{n} * channels + c] = total;
    }
  }
}

// to[c] += the sum over `rows` rows of partials, `stride` floats apart.
struct ColumnSum {
  const float* partials;
  std::int64_t stride;
  int rows;
  float* to;
};
// Up to N of them in one launch.
template <int N>
struct ColumnSums {
  void add(const ColumnSum& sum) { sums[count++] = sum; }
  ColumnSum sums[N];
  int count = 0;
};

inline constexpr int kColumnSumWarps = 16;

// Block (x, n): columns 32 x to 32 x + 31 of sum n. Warp w takes the rows w, w + 16, ...
template <int N>
__global__ void __launch_bounds__(32 * kColumnSumWarps)
    add_column_sums_kernel(const __grid_constant__ ColumnSums<N> all, int channels) {
  BERT_SHARED(float, partial, 32 * kColumnSumWarps);
  const ColumnSum& sum = all.sums[blockIdx.y];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int c = static_cast<int>(blockIdx.x) * 32 + lane;
  constexpr int kAtOnce = 12;  // rows of a thread: those of 192 blocks wait for memory together
  const float before = warp == 0 && c < channels ? sum.to[c] : 0.0f;
  float total = 0.0f;
  for (int first = warp; first < sum.rows; first += kAtOnce * kColumnSumWarps) {
    float values[kAtOnce];
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) {
      const int r = first + j * kColumnSumWarps;
      values[j] = c < channels && r < sum.rows ? sum.partials[r * sum.stride + c] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kAtOnce; ++j) total += values[j];
  }
  partial[threadIdx.x] = total;
  __syncthreads();
  if (warp == 0 && c < channels) {
    total = 0.0f;
#pragma unroll
    for (int w = 0; w < kColumnSumWarps; ++w) total += partial[32 * w + lane];
    sum.to[c] = before + total;
  }
}

template <int N>
void add_column_sums(const ColumnSums<N>& sums, std::int64_t channels, cudaStream_t stream) {
  launch("add_column_sums_kernel", add_column_sums_kernel<N>,
         {dim3(static_cast<unsigned>((channels + 31) / 32), static_cast<unsigned>(sums.count)),
          dim3(32 * kColumnSumWarps)},
         stream, sums, static_cast<int>(channels));
}

}  // namespace bert::BERT_CUDA
