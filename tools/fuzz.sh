#!/usr/bin/env bash
# Builds the fuzz targets with clang's libFuzzer and sanitizers, and runs one of them, or all one
# after another, for so many seconds each (default: 60).
# Usage: tools/fuzz.sh TARGET|all [SECONDS] [libFuzzer option ...]
# Targets are the folders of tests/fuzz/corpus. What libFuzzer finds worth keeping gathers in
# build-fuzz/corpus/TARGET, and an input that breaks a parser is build-fuzz/crashes/TARGET-...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if (($# == 0)) || [[ "$1" == "-h" || "$1" == "--help" ]]; then
  sed -n '2,6s/^# //p' tools/fuzz.sh
  exit 0
fi
target="$1"
seconds="${2:-60}"
shift $(($# < 2 ? $# : 2))

if ! command -v clang++ >/dev/null; then
  echo "error: fuzzing needs clang and its libFuzzer: apt-get install clang libclang-rt-14-dev" >&2
  exit 1
fi
targets=("$target")
if [[ "$target" == all ]]; then
  mapfile -t targets < <(ls tests/fuzz/corpus)
elif [[ ! -d "tests/fuzz/corpus/$target" ]]; then
  echo "error: there is no target '$target'; expected all or one of: $(ls -x tests/fuzz/corpus | xargs)" >&2
  exit 2
fi
if [[ ! -e build-fuzz/CMakeCache.txt ]]; then
  cmake --preset fuzz >/dev/null
fi
cmake --build build-fuzz --target "${targets[@]/#/fuzz_}"

# Recursion that follows the input shows on a small stack.
ulimit -s 1024
export UBSAN_OPTIONS=print_stacktrace=1
failed=()
for name in "${targets[@]}"; do
  mkdir -p "build-fuzz/corpus/$name" build-fuzz/crashes
  # xz and zstd say themselves how much memory they want, and get up to 1 GiB. The timeout is by the
  # clock on the wall: on a busy machine an input of two seconds waits for a minute.
  if ! nice -n 10 "build-fuzz/tests/fuzz_$name" "build-fuzz/corpus/$name" "tests/fuzz/corpus/$name" \
    -max_total_time="$seconds" -max_len=8192 -timeout=120 -rss_limit_mb=2048 -malloc_limit_mb=1100 \
    -print_final_stats=1 -artifact_prefix="build-fuzz/crashes/$name-" "$@"; then
    failed+=("$name")
  fi
done
if ((${#failed[@]} > 0)); then
  echo "error: an input was found that breaks: ${failed[*]} (see build-fuzz/crashes)" >&2
  exit 1
fi
