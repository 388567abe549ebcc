// What the lanes of a warp do together, once all of them have come.
#include "kernels/cuda/launch.cuh"
#include "tests/simt/simt_device.h"

namespace bert::simt::harness {
namespace {

struct Shuffle {
  std::uint64_t given, received;
  int source;
  bool source_in_mask;
};

void resolve_shuffle(void* const (&lanes)[32], unsigned mask) {
  for (int i = 0; i < 32; ++i) {
    if ((mask >> i & 1u) == 0) continue;
    Shuffle& own = *static_cast<Shuffle*>(lanes[i]);
    own.source_in_mask = (mask >> (own.source & 31) & 1u) != 0;
    if (own.source_in_mask) {
      own.received = static_cast<const Shuffle*>(lanes[own.source & 31])->given;
    }
  }
}

struct Gather {
  std::uint64_t given;
  std::uint64_t* all;
};

void resolve_gather(void* const (&lanes)[32], unsigned mask) {
  std::uint64_t all[32] = {};
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1u) all[i] = static_cast<const Gather*>(lanes[i])->given;
  }
  for (int i = 0; i < 32; ++i) {
    if (mask >> i & 1u) std::copy(all, all + 32, static_cast<Gather*>(lanes[i])->all);
  }
}

// --- Tensor cores. Lane 4 g + t: rows g and g + 8 of a and c, column g of b. ---------------------

struct Mma {
  float* d;
  const unsigned* a;
  const unsigned* b;
  const float* c;
};

float bf16_low(unsigned pair) { return std::bit_cast<float>(pair << 16); }
float bf16_high(unsigned pair) { return std::bit_cast<float>(pair & 0xffff0000u); }

void resolve_mma_bf16(void* const (&lanes)[32], unsigned) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Mma& own = *static_cast<const Mma*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {  // registers: (g, low k), (g + 8, low k), (g, high k), ...
      const int row = g + 8 * (i % 2), k = 2 * t + 8 * (i / 2);
      a[row][k] = bf16_low(own.a[i]);
      a[row][k + 1] = bf16_high(own.a[i]);
    }
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = bf16_low(own.b[i]);
      b[2 * t + 8 * i + 1][g] = bf16_high(own.b[i]);
    }
    d[g][2 * t] = own.c[0], d[g][2 * t + 1] = own.c[1];
    d[g + 8][2 * t] = own.c[2], d[g + 8][2 * t + 1] = own.c[3];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int column = 0; column < 8; ++column) d[row][column] += a[row][k] * b[k][column];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* out = static_cast<Mma*>(lanes[lane])->d;
    const int g = lane / 4, t = lane % 4;
    out[0] = d[g][2 * t], out[1] = d[g][2 * t + 1];
    out[2] = d[g + 8][2 * t], out[3] = d[g + 8][2 * t + 1];
  }
}

struct MatrixLoad {
  uint4 row;
  unsigned* result;
};

unsigned half_of(const uint4& row, int column) {
  const unsigned words[4] = {row.x, row.y, row.z, row.w};
  return words[column / 2] >> (16 * (column % 2)) & 0xffffu;
}

template <bool Transposed>
void resolve_load(void* const (&lanes)[32], unsigned) {
  for (int lane = 0; lane < 32; ++lane) {
    MatrixLoad& own = *static_cast<MatrixLoad*>(lanes[lane]);
    const int g = lane / 4, t = lane % 4;
    for (int m = 0; m < 4; ++m) {
      const auto element = [&](int row, int column) {
        return half_of(static_cast<const MatrixLoad*>(lanes[8 * m + row])->row, column);
      };
      own.result[m] = Transposed ? element(2 * t, g) | element(2 * t + 1, g) << 16
                                 : element(g, 2 * t) | element(g, 2 * t + 1) << 16;
    }
  }
}

}  // namespace

std::uint64_t shuffle(const char* name, unsigned mask, std::uint64_t bits, int source, Site site) {
  Shuffle operand{bits, 0, source, false};
  warp_collective(name, mask, &operand, resolve_shuffle, site);
  if (!operand.source_in_mask) {
    fail(FailureKind::shuffle_source,
         fmt::format("{} at {}:{} reads from lane {}, which is not in its mask {:#010x}", name,
                     site.file, site.line, source, mask));
  }
  return operand.received;
}

void gather(const char* name, unsigned mask, std::uint64_t bits, std::uint64_t (&all)[32],
            Site site) {
  Gather operand{bits, all};
  warp_collective(name, mask, &operand, resolve_gather, site);
}

void mma_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], const float (&c)[4],
              Site site) {
  Mma operand{d, a, b, c};
  warp_collective("mma_m16n8k16", kFullMask, &operand, resolve_mma_bf16, site);
}

void load_matrices(unsigned (&result)[4], bool transposed, const uint4& row, Site site) {
  MatrixLoad operand{row, result};
  if (transposed) {
    warp_collective("ldmatrix_x4_trans", kFullMask, &operand, resolve_load<true>, site);
  } else {
    warp_collective("ldmatrix_x4", kFullMask, &operand, resolve_load<false>, site);
  }
}

}  // namespace bert::simt::harness
