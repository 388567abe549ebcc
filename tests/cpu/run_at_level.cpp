// run_at_level LEVEL PROGRAM: runs a program that is compiled for a level of instructions; exit
// code 77 where this processor does not have it.
#include <algorithm>
#include <cstdio>

#include <unistd.h>

#include "kernels/cpu_module.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fprintf(stderr, "usage: run_at_level LEVEL PROGRAM [ARGUMENT ...]\n");
    return 2;
  }
  const auto& levels = bert::cpu_levels();
  if (std::find(levels.begin(), levels.end(), argv[1]) == levels.end()) {
    std::printf("this processor has no %s\n", argv[1]);
    return 77;
  }
  execv(argv[2], argv + 2);
  std::perror(argv[2]);
  return 1;
}
