// FlushDenormals: while one is there, the thread's numbers below 2^-126 are zeros, read or written.
//
// What a trained model computes has such numbers in plenty (GELU far below zero, softmax far below
// its maximum), an x86 processor takes over a hundred cycles for each operation with one, and
// products then run at a fifth of their speed. They are far below the rounding of anything they are
// added to.
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace bert::cpu {

class FlushDenormals {
 public:
#if defined(__SSE2__)
  FlushDenormals() : before_(_mm_getcsr()) {
    constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
    _mm_setcsr(before_ | kFlushToZero | kDenormalsAreZero);
  }
  ~FlushDenormals() { _mm_setcsr(before_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned before_;
#endif
};

}  // namespace bert::cpu
