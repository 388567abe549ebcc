// Kernels that break one rule each, and the same kernels put right: what the harness must tell
// apart. Pointers are host memory.
#pragma once

#include <cstdint>

namespace bert::simt {

enum class Break {
  nothing,
  missing_barrier,
  return_before_barrier,
  divergent_barriers,
  unwritten_shared,
  write_behind_shared,
  write_before_shared,
  write_behind_dynamic,
  write_before_dynamic,
  write_behind_global,
  read_behind_global,
  write_behind_local,
  misaligned_ldmatrix,
  caller_not_in_mask,
  lane_returned,
  lanes_beyond_block,
  source_not_in_mask,
  divergent_shuffles,
  copy_read_too_early,
  copy_never_waited_for,
  too_much_static_shared,
  trap,
  missing_syncwarp,
  missing_fence,
  plain_counter,
  product_in_multiply_add
};

// All [64] = in reversed, through shared memory, by one block of 64 threads.
void reverse_in_shared(Break what, const float* in, float* out);
// out [64] = in, vectors of 4 floats by a block of 16 threads; `in` as found.
void copy_vectors(Break what, const float* in, float* out);
// out[i] = sum of the 32 of in [64] of i's warp, with shuffles.
void sum_warps(Break what, const float* in, float* out);
// out [128] = in through cp.async, each thread reading what its neighbour has copied.
void copy_asynchronously(Break what, const float* in, float* out);
// out [32] = in with neighbours exchanged, within one warp.
void exchange_in_warp(Break what, const float* in, float* out);
// *total = the sum of 64 * blocks of `in`, by the block that comes last; partial [blocks] and
// *counter (zero before) are its scratch.
void sum_by_last_block(Break what, const float* in, float* partial, unsigned* counter, float* total,
                       int blocks);
// out [64] = 0: a product less itself, rounded, from shared memory.
void subtract_products(Break what, const float* in, float* out);
// Whether kernels are compiled so that a product and a sum become one multiply-add.
bool makes_multiply_adds();
// A launch of the given shape; nothing is run but an empty kernel.
void launch_empty(unsigned grid, unsigned threads, std::uint64_t shared_bytes);
// order[i] = which thread of 64, of two blocks, came i-th.
void record_order(int* order, unsigned* counter);

}  // namespace bert::simt
