// The part of cuBLASLt and the CUDA runtime that kernels/cuda/gemm_cublaslt.cpp calls, in host
// memory and by the words of cublasLt.h: column-major, a bias along the rows of D, the gradient of
// one along its columns. So what is handed to the library can be tested where there is no GPU. Link
// it instead of the libraries.
#pragma once

#include <cstddef>
#include <vector>

namespace bert::test {

// What happened, and what shall happen. The library proposes algorithms 1, 2 and 3, which take 5, 2
// and 3 milliseconds of a clock that stands still otherwise.
struct FakeCublasLt {
  float milliseconds = 0.0f;           // the clock
  float epilogue_milliseconds = 0.0f;  // what one adds, but for a bias
  int heuristics = 0;                  // how often proposals were asked for
  int float8_shapes = 0;               // of these, for products in FP8 that are supported
  std::vector<int> algorithms{};       // of each product, in order
  int proposals = 3;                   // how many there are; 0: the product is not supported
  int failing = 0;                     // an algorithm that fails when it runs
  int unsupported = 0;                 // one that is not for a shape, if it is asked
  int refused = 0;                     // one that is then, and is not when it is to run
  bool capturing = false;              // the stream is
  std::size_t version = 130001;
  unsigned smallest_alignment = 0;  // that proposals were asked for
};
FakeCublasLt& fake_cublaslt();

}  // namespace bert::test
