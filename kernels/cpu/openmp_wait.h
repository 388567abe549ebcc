// How long idle OpenMP threads spin before they sleep.
//
// libgomp's threads spin for milliseconds at the end of each parallel region, as long as they are
// not more than the processors. On a machine that does anything else as well, the thread they wait
// for then waits for the processor they spin on: an op of 70 microseconds was measured at 15
// milliseconds beside a compilation. A short spin costs nothing on an idle machine.
#pragma once

namespace bert::cpu {

// The first statement of a main that computes. libgomp reads its settings before main, so where
// the user has set neither OMP_WAIT_POLICY nor GOMP_SPINCOUNT this sets GOMP_SPINCOUNT and starts
// the program again in the same process; it returns at once otherwise, under another OpenMP
// library, and where the program cannot be started again.
void limit_openmp_spinning(char** argv);

}  // namespace bert::cpu
