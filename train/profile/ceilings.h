// What a machine reaches: what the speed of single ops is a part of.
#pragma once

#include "kernels/ops.h"
#include "runtime/device.h"

namespace bert {

struct Ceilings {
  double product_flops = 0.0;  // FLOP/s of a large product in the precision of the ops
  double copy_bytes = 0.0;     // bytes/s read + written by a copy larger than the caches
};

// Takes a second or two, and half a GB (of a GPU 4 GB) that is given back. `threads`: of a CPU.
Ceilings measure_ceilings(Ops& ops, Device& device, int threads);

}  // namespace bert
