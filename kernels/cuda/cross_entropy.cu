// Softmax cross-entropy over a vocabulary, the gradient written where the logits were.
//
// Bytes: each logit is read once and, with a gradient, written once: 4 a logit in bf16, 8 in f32.
// About 12 FLOPs and two exponentials a logit; limited by memory (at 4.3 TB/s an SM of an H200 sees
// 4.6 bf16 logits a clock, and could do 16 exponentials).
//
// A block per row. Maximum and sum of exponentials come out of one pass (Milakov & Gimelshein
// 2018), the gradient of a second one. A row that is short enough is copied to shared memory first,
// all of it under way at once (61 KB for 30,522 logits in bf16: three blocks an SM); a longer one
// is read twice, the second time out of the L2 cache. Each thread only ever sees its own vectors of
// the copy, so it needs no barrier. Rows of any length begin at any address: what lies before the
// first and after the last aligned 16 bytes is done one logit a thread.
//
// The rows' losses are added up by a second launch (loss_sums.cuh).
#include "kernels/cuda/block_softmax.cuh"
#include "kernels/cuda/cuda_ops.h"
#include "kernels/cuda/loss_sums.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/op_checks.h"

namespace bert::BERT_CUDA {
namespace {

// --- Kernels -------------------------------------------------------------------------------------
constexpr int kRowThreads = 512;
[[maybe_unused]] constexpr int kRowBlocksPerSm = 3;  // unknown to a C++ compiler's builds
constexpr std::size_t kLongestResidentRow = std::size_t{96} << 10;  // any sm_80 and later has it

// Where the aligned vectors of a row are; the other elements are "loose": [0, head) and [head +
// vectors * kVec, n), fewer than 2 * kVec.
template <class T>
struct RowSplit {
  int head, vectors, loose;

  __device__ RowSplit(const T* row, int n) {
    const auto misaligned = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16);
    const int to_aligned = (16 - misaligned) % 16 / static_cast<int>(sizeof(T));
    head = to_aligned < n ? to_aligned : n;
    vectors = (n - head) / kVec<T>;
    loose = n - vectors * kVec<T>;
  }
  __device__ int first_of(int vector) const { return head + vector * kVec<T>; }
  __device__ int loose_element(int i) const { return i < head ? i : i + vectors * kVec<T>; }
};

template <class T>
__device__ void zero_row(T* row, int n) {
  const RowSplit<T> split(row, n);
  const int thread = static_cast<int>(threadIdx.x);
  const float zeros[kVec<T>] = {};
  for (int v = thread; v < split.vectors; v += kRowThreads) {
    store_floats<Reuse::once>(row + split.first_of(v), zeros);
  }
  if (thread < split.loose) row[split.loose_element(thread)] = from_float<T>(0.0f);
}

template <int N>
__device__ float largest_of(const float (&values)[N]) {
  float largest = values[0];
#pragma unroll
  for (int i = 1; i < N; ++i) largest = fmaxf(largest, values[i]);
  return largest;
}

// Whether one of `values`, at columns first.., is as large as the target's logit and before it: the
// target is then not the answer, even where no logit is larger.
template <int N>
__device__ bool precedes(const float (&values)[N], float largest, int first, int target,
                         float target_logit) {
  if (largest < target_logit || first >= target) return false;
  bool found = false;
#pragma unroll
  for (int i = 0; i < N; ++i) found |= values[i] == target_logit && first + i < target;
  return found;
}

// grid: a block for each of the capacity's rows. logits [R, columns], n of them classes; weights
// [R] or null; results [R]; row_loss [R] or null.
template <class T, bool kResident>
__global__ void __launch_bounds__(kRowThreads, kRowBlocksPerSm)
    cross_entropy_rows(T* __restrict__ logits, const std::int32_t* __restrict__ targets,
                       const float* __restrict__ weights, DeviceCount rows,
                       const double* __restrict__ loss_scale, RowResult* __restrict__ results,
                       float* __restrict__ row_loss, int n, int columns) {
  constexpr int kN = kVec<T>;
  const int r = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  T* const row = logits + static_cast<std::int64_t>(r) * columns;
  const bool gradient = loss_scale != nullptr;
  // Of a tail row not even the target is read. The same for all threads of the block.
  const std::int32_t target = r < *rows ? targets[r] : kIgnoreIndex;
  if (target == kIgnoreIndex) {
    if (gradient) zero_row(row, columns);
    if (thread == 0) store_result({0.0f, RowKind::ignored}, r, results, row_loss);
    return;
  }

  const RowSplit<T> split(row, n);
  const T* vectors = row + split.head;
  if constexpr (kResident) {
    T* const copy = dynamic_shared<T>();
    for (int v = thread; v < split.vectors; v += kRowThreads) {
      cp_async_16(copy + v * kN, vectors + v * kN, true);
    }
    cp_async_commit();
    vectors = copy;
  }
  const float target_logit = to_float(row[target]);
  const bool has_loose = thread < split.loose;
  const int loose = has_loose ? split.loose_element(thread) : 0;
  const float loose_logit[1] = {has_loose ? to_float(row[loose]) : kLowest};

  OnlineSum online;
  bool preceded = false;
  if (has_loose) {
    online.add(loose_logit, loose_logit[0]);
    preceded = precedes(loose_logit, loose_logit[0], loose, target, target_logit);
  }
  if constexpr (kResident) cp_async_wait<0>();
#pragma unroll 2
  for (int v = thread; v < split.vectors; v += kRowThreads) {
    float x[kN];
    load_floats(vectors + v * kN, x);
    const float largest = largest_of(x);
    online.add(x, largest);
    preceded |= precedes(x, largest, split.first_of(v), target, target_logit);
  }

  const BlockSoftmax softmax(online);
  const bool correct = !__syncthreads_or(preceded) && target_logit == softmax.max;
  const float weight = weights != nullptr ? weights[r] : 1.0f;
  if (thread == 0) {
    store_result(
        {weight * softmax.loss(target_logit), correct ? RowKind::correct : RowKind::counted}, r,
        results, row_loss);
  }
  if (!gradient) return;

  const float scale = weight * static_cast<float>(*loss_scale);
  const float factor = scale / softmax.sum;
#pragma unroll 2
  for (int v = thread; v < split.vectors; v += kRowThreads) {
    float x[kN];
    load_floats(vectors + v * kN, x);
#pragma unroll
    for (int i = 0; i < kN; ++i) x[i] = softmax.probability(x[i], factor);
    const int of_target = target - split.first_of(v);
    if (of_target >= 0 && of_target < kN) {
#pragma unroll
      for (int i = 0; i < kN; ++i) x[i] -= i == of_target ? scale : 0.0f;
    }
    store_floats<Reuse::likely>(row + split.first_of(v), x);  // the next product reads it
  }
  if (has_loose) {
    row[loose] = from_float<T>(softmax.probability(loose_logit[0], factor) -
                               (loose == target ? scale : 0.0f));
  }
  for (int c = n + thread; c < columns; c += kRowThreads) row[c] = from_float<T>(0.0f);
}

// --- Launchers -----------------------------------------------------------------------------------
template <class T>
void launch_rows(const CrossEntropy& op, RowResult* results, cudaStream_t stream) {
  const auto rows = static_cast<unsigned>(op.logits.dim(0));
  const auto n = static_cast<int>(op.classes);
  const auto columns = static_cast<int>(op.logits.dim(1));
  T* const logits = op.logits.data<T>();
  const auto* const targets = op.targets.data<std::int32_t>();
  const float* const weights = op.weights ? op.weights.data<float>() : nullptr;
  float* const row_loss = op.row_loss ? op.row_loss.data<float>() : nullptr;
  const std::size_t row_bytes = static_cast<std::size_t>(n) * sizeof(T) / 16 * 16;
  if (row_bytes <= kLongestResidentRow) {
    launch("cross_entropy_rows", cross_entropy_rows<T, true>,
           {.grid = rows, .block = kRowThreads, .shared_bytes = row_bytes}, stream, logits, targets,
           weights, op.rows, op.loss_scale, results, row_loss, n, columns);
  } else {
    launch("cross_entropy_rows", cross_entropy_rows<T, false>, {.grid = rows, .block = kRowThreads},
           stream, logits, targets, weights, op.rows, op.loss_scale, results, row_loss, n, columns);
  }
}

}  // namespace

void CudaOps::cross_entropy(const CrossEntropy& op) {
  check(op, dtype());
  auto* const results = scratch_.reserve<RowResult>(op.logits.dim(0));
  with_real([&](auto real) { launch_rows<decltype(real)>(op, results, stream_); });
  add_loss_sums(results, op.rows, 1, op.loss_unit, op.sums, stream_);
}

}  // namespace bert::BERT_CUDA
