#include "tests/cpu/emulated_instructions.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "kernels/cpu/flush_denormals.h"
#include "kernels/cpu/tiles.h"
#include "runtime/bfloat16.h"

namespace bert {
namespace cpu {

bool may_use_tiles() { return BERT_EMULATED_TILES; }

}  // namespace cpu

namespace emulated {
namespace {

constexpr int kTiles = 8, kLines = 16, kColumns = 16;  // of 32 bits: an f32, or a pair of bf16

struct Tiles {
  bool configured = false;
  std::uint32_t of[kTiles][kLines][kColumns];
};
thread_local Tiles tiles;

std::uint32_t (&tile_at(int tile))[kLines][kColumns] {
  if (!tiles.configured) {
    std::fputs("tile registers are used without a configuration\n", stderr);
    std::abort();
  }
  return tiles.of[tile];
}

float as_float(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
std::uint32_t as_bits(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
float lower(std::uint32_t pair) { return as_float(pair << 16); }
float upper(std::uint32_t pair) { return as_float(pair & 0xFFFF0000u); }

}  // namespace

__m512 sqrt_ps(__m512 x) {
  auto lanes = reinterpret_cast<F32x16>(x);
  for (int i = 0; i < 16; ++i) lanes[i] = std::sqrt(lanes[i]);
  return reinterpret_cast<__m512>(lanes);
}

__m256bh cvtneps_pbh(__m512 x) {
  const auto lanes = reinterpret_cast<F32x16>(x);
  U16x16 rounded{};
  for (int i = 0; i < 16; ++i) {
    const bool denormal = std::fabs(lanes[i]) < std::numeric_limits<float>::min();
    rounded[i] = Bfloat16(denormal ? std::copysign(0.0f, lanes[i]) : lanes[i]).bits;
  }
  return reinterpret_cast<__m256bh>(rounded);
}

__m512 dpbf16_ps(__m512 sum, __m512bh a, __m512bh b) {
  const cpu::FlushDenormals flush;
  auto sums = reinterpret_cast<F32x16>(sum);
  const auto left = reinterpret_cast<U32x16>(a), right = reinterpret_cast<U32x16>(b);
  for (int i = 0; i < 16; ++i) {
    sums[i] = std::fma(upper(left[i]), upper(right[i]), sums[i]);
    sums[i] = std::fma(lower(left[i]), lower(right[i]), sums[i]);
  }
  return reinterpret_cast<__m512>(sums);
}

void tile_loadconfig(const void* shape) {
  // Palette 1, then 16 reserved and start bytes, 16 widths in bytes, 16 heights.
  std::uint8_t expected[64] = {1};
  for (int i = 0; i < kTiles; ++i) {
    expected[16 + 2 * i] = kColumns * 4;
    expected[48 + i] = kLines;
  }
  if (std::memcmp(shape, expected, sizeof expected) != 0) {
    std::fputs("tiles are configured otherwise than as eight of 16 lines of 64 bytes\n", stderr);
    std::abort();
  }
  tiles.configured = true;
  std::memset(tiles.of, 0xFF, sizeof tiles.of);
}

void tile_release() { tiles.configured = false; }

void tile_zero(int tile) { std::memset(tile_at(tile), 0, sizeof tiles.of[0]); }

void tile_loadd(int tile, const void* from, std::size_t bytes_a_line) {
  auto& lines = tile_at(tile);
  for (std::size_t i = 0; i < kLines; ++i) {
    std::memcpy(lines[i], static_cast<const std::byte*>(from) + i * bytes_a_line, sizeof lines[i]);
  }
}

void tile_stored(int tile, void* to, std::size_t bytes_a_line) {
  const auto& lines = tile_at(tile);
  for (std::size_t i = 0; i < kLines; ++i) {
    std::memcpy(static_cast<std::byte*>(to) + i * bytes_a_line, lines[i], sizeof lines[i]);
  }
}

// Of the sums of the lower numbers' products and the upper ones', each by itself.
void tile_dpbf16ps(int sums, int rows, int columns) {
  const cpu::FlushDenormals flush;
  auto& to = tile_at(sums);
  const auto &left = tile_at(rows), &right = tile_at(columns);
  for (int m = 0; m < kLines; ++m) {
    float lower_sums[kColumns] = {}, upper_sums[kColumns] = {};
    for (int k = 0; k < kColumns; ++k) {
      for (int n = 0; n < kColumns; ++n) {
        lower_sums[n] = std::fma(lower(left[m][k]), lower(right[k][n]), lower_sums[n]);
        upper_sums[n] = std::fma(upper(left[m][k]), upper(right[k][n]), upper_sums[n]);
      }
    }
    for (int n = 0; n < kColumns; ++n) {
      to[m][n] = as_bits(as_float(to[m][n]) + (lower_sums[n] + upper_sums[n]));
    }
  }
}

}  // namespace emulated
}  // namespace bert
