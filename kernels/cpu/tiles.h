// The tile registers of x86 (AMX): eight of 16 lines of 64 bytes. _tile_dpbf16ps adds to 16 x 16
// sums of f32 the products of 16 lines and 16 columns, 32 numbers of bf16 each, in pairs.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"

#if defined(__AVX512F__) && defined(__AMX_BF16__)
#define BERT_CPU_TILES 1

namespace bert::cpu {

// Whether the processor has tile registers and the system lets this process use them; asked once.
bool may_use_tiles();

// The compiler does not know that the instructions for tiles read and write memory: what was stored
// before is there, and what is read after is read anew.
inline void tiles_see(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// While it is there, this thread's tile registers can be used.
class TileRegisters {
 public:
  TileRegisters() {
    struct alignas(64) {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t bytes_a_line[16] = {};
      std::uint8_t lines[16] = {};
    } shape;
    for (int i = 0; i < 8; ++i) {
      shape.bytes_a_line[i] = 64;
      shape.lines[i] = 16;
    }
    tiles_see(&shape);
    _tile_loadconfig(&shape);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

}  // namespace bert::cpu
#endif
