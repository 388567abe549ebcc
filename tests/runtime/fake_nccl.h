// What tests ask and are told of tests/runtime/fake_nccl.cpp.
#pragma once

#include <cstddef>

#include "tests/runtime/fake_cuda.h"

struct FakeNccl {
  int calls_until_lost = -1;  // questions for errors until a rank is lost; negative: none is
  int aborted = 0, destroyed = 0;
  std::size_t bytes = 0;  // that travelled
};
extern "C" FakeNccl* fake_nccl();
