#!/usr/bin/env bash
# Installs what is missing, builds everything with warnings as errors, and runs the whole test suite.
# Usage: tools/test.sh [ctest option ...]      for example: tools/test.sh -L gradcheck
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]]; then
  sed -n '2,3s/^# //p' tools/test.sh
  exit 0
fi
source tools/packages.sh

install_packages
configure_build build -DCMAKE_BUILD_TYPE=Release -DBERT_WERROR=ON \
  -DBERT_BUILD_TESTS=ON -DBERT_BUILD_BENCH=ON
cmake --build build --parallel "$(build_jobs)"
# Kernels of processors unlike this machine's are emulated: to leave them out is a failure.
if grep -qw avx2 /proc/cpuinfo 2>/dev/null; then export BERT_REQUIRE_EMULATED_CPU=1; fi
exec ctest --test-dir build --output-on-failure --no-tests=error -j2 "$@"
