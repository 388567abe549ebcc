// How a persistent team keeps memory busy: its next rows are on their way to shared memory
// (cp.async) while it computes on the present one, and the few numbers that belong to a row besides
// its channels are read 32 rows at a time, so that loads which depend on each other are waited for
// once.
#pragma once

#include <algorithm>

#include "kernels/cuda/layer_norm_row.cuh"

namespace bert::BERT_CUDA {

// Of rows that have channels alone.
struct alignas(8) NoRowValue {};

// Rows of N tensors, kStages of them in shared memory: the present one and those on their way; and
// the Values of 32 rows. Rows that do not allow vector access are read where they lie. A thread
// reads only channels that it copied itself, so waiting for its own copies is all the
// synchronisation.
//
// `at(n, r)` gives the address of tensor n's row r. It is called once for each row, by all threads
// of the team together; and before what the team writes for the rows in between, so rows may be
// overwritten only by the team that reads them, once they are the present ones.
template <class T, class Shape, int N, int kStages, class Value>
class RowRing {
 public:
  // Bytes of dynamic shared memory of a team: all that the launch has.
  static constexpr std::size_t kTeamBytes =
      (Shape::kVector ? std::size_t{kStages} * N * Shape::kMostChannels * sizeof(T) : 0) +
      std::size_t{Shape::kTeam} * sizeof(Value);

  // Of the rows first, first + step, ... below count. Begins to copy the first ones.
  template <class At>
  __device__ __forceinline__ RowRing(int first, int step, int count, int channels, const At& at)
      : step_(step), count_(count), channels_(channels) {
    unsigned char* const memory =
        dynamic_shared<unsigned char>() + threadIdx.x / Shape::kTeam * kTeamBytes;
    vectors_ = reinterpret_cast<uint4*>(memory) + team_thread<Shape>();
    values_ = reinterpret_cast<Value*>(memory + kTeamBytes) - Shape::kTeam +
              team_thread<Shape>() / 32 * 32;
    if constexpr (Shape::kVector) {
#pragma unroll
      for (int s = 0; s < kStages - 1; ++s) copy(first + s * step, at);
    }
  }

  // Makes the next row, r, the present one; the one before is given up.
  template <class At>
  __device__ __forceinline__ void advance(int r, const At& at) {
    if constexpr (Shape::kVector) {
      copy(r + (kStages - 1) * step_, at);
      cp_async_wait<kStages - 1>();
    } else {
#pragma unroll
      for (int n = 0; n < N; ++n) rows_[n] = at(n, r);
    }
  }

  // values = group g of the present row of tensor n, zeros beyond the row. All lanes of the warp
  // call. Of a group tensor 0 is read first: what is loaded for it takes no registers before.
  __device__ __forceinline__ void get(int n, int g, float (&values)[kGroup]) const {
    const int c = group_channel<Shape>(g);
    if (n == 0) hold_loads();
    if constexpr (!Shape::kVector) {
      load_group<false>(rows_[n], c, channels_, values);
    } else if (c < channels_) {
#pragma unroll
      for (int k = 0; k < kGroupVectors; ++k) {
        float part[kVec<T>];
        load_floats(reinterpret_cast<const T*>(vector(stage_, n, g, k)), part);
#pragma unroll
        for (int i = 0; i < kVec<T>; ++i) values[k * kVec<T> + i] = part[i];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) values[i] = 0.0f;
    }
  }

  // The Value of the present row r, load(r). All lanes of the warp call, once a row.
  template <class Load>
  __device__ __forceinline__ Value value(int r, const Load& load) {
    if (next_value_ == 32) {
      const int lane = static_cast<int>(threadIdx.x) % 32;
      const std::int64_t mine = r + std::int64_t{lane} * step_;
      __syncwarp();  // those before have been read
      if (mine < count_) values_[lane] = load(static_cast<int>(mine));
      __syncwarp();
      next_value_ = 0;
    }
    return values_[next_value_++];
  }

 private:
  static_assert(sizeof(Value) % 8 == 0);
  static constexpr int kGroupVectors = kGroup / kVec<T>;  // of 16 bytes
  static constexpr int kStageVectors = N * Shape::kMostChannels / kVec<T>;

  // Vectors of neighbouring threads are neighbours: no two of a quarter of a warp share a bank.
  __device__ __forceinline__ uint4* vector(int stage, int n, int g, int k) const {
    return vectors_ + stage * kStageVectors +
           ((n * Shape::kGroups + g) * kGroupVectors + k) * Shape::kTeam;
  }

  // Row r into the stage of the row that was given up. Without such a row: an empty group of
  // copies.
  template <class At>
  __device__ __forceinline__ void copy(int r, const At& at) {
    if (r < count_) {
      const T* rows[N];  // before the first copy: what they depend on is loaded together
#pragma unroll
      for (int n = 0; n < N; ++n) rows[n] = at(n, r);
#pragma unroll
      for (int n = 0; n < N; ++n) {
#pragma unroll
        for (int g = 0; g < Shape::kGroups; ++g) {
          const int c = group_channel<Shape>(g);
          if (c >= channels_) continue;
#pragma unroll
          for (int k = 0; k < kGroupVectors; ++k) {
            cp_async_16(vector(stage_, n, g, k), rows[n] + c + k * kVec<T>, true);
          }
        }
      }
    }
    cp_async_commit();
    stage_ = stage_ + 1 == kStages ? 0 : stage_ + 1;
  }

  int step_, count_, channels_;
  uint4* vectors_;  // this thread's first
  Value* values_;   // [32], the warp's
  int next_value_ = 32;
  int stage_ = 0;  // of the present row; while copying, of the row that was given up
  const T* rows_[N] = {};
};

// The launch of a persistent kernel whose teams have a Ring each, for at most `rows` rows: fewer
// threads than most_threads where the device's shared memory ends or there are fewer rows.
template <class Shape, class Ring>
LaunchShape ring_launch(std::int64_t rows, int most_blocks, int most_threads) {
  const auto fit = static_cast<int>(shared_memory_limit() / Ring::kTeamBytes);
  const int teams = std::max(1, std::min(most_threads / Shape::kTeam, fit));
  const PersistentGrid grid = persistent_grid<Shape>(rows, most_blocks, teams * Shape::kTeam);
  return {.grid = dim3(static_cast<unsigned>(grid.blocks)),
          .block = dim3(static_cast<unsigned>(grid.threads)),
          .shared_bytes = static_cast<std::size_t>(grid.threads / Shape::kTeam) * Ring::kTeamBytes};
}

// The same where teams end with store_column_sums, which may take the ring's memory.
template <class Shape>
LaunchShape with_column_sums(LaunchShape launch, std::int64_t channels) {
  launch.shared_bytes =
      std::max(launch.shared_bytes,
               column_sums_shared_bytes<Shape>(static_cast<int>(launch.block.x), channels));
  return launch;
}

}  // namespace bert::BERT_CUDA
