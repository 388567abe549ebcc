#!/usr/bin/env bash
# On a machine with a GPU, in under 8 minutes: the tests with CUDA required, compute-sanitizer over
# the kernel tests, the benchmarks, and a short training run whose losses are compared with the
# CPU's. From a bundle (tools/bundle.sh); writes gpu_check.md and gpu_check.json.
# Usage: gpu_check.sh [--out DIR]
set -uo pipefail
bundle="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$PWD"
while (($#)); do
  case "$1" in
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    -h | --help) sed -n '2,5s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: unknown argument $1" >&2; exit 2 ;;
  esac
done
bin="$bundle/bin"
if [[ ! -x "$bin/train" || ! -f "$bin/bert_cuda_backend.so" ]]; then
  echo "error: $bundle is no bundle of tools/bundle.sh" >&2
  exit 2
fi
mkdir -p "$out/gpu_check_logs" || exit 1
out="$(cd "$out" && pwd)"
logs="$out/gpu_check_logs"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
started=$SECONDS
deadline=460

# cuBLAS and NCCL: in the system, in a toolkit, or inside Python packages.
cuda_libraries() {
  local folder
  for folder in /usr/local/cuda*/lib64 /usr/local/cuda*/lib /usr/local/cuda*/targets/*/lib \
    /usr/lib/x86_64-linux-gnu \
    /usr/lib/python3*/*-packages/nvidia/*/lib /usr/local/lib/python3*/*-packages/nvidia/*/lib \
    "$HOME"/.local/lib/python3*/site-packages/nvidia/*/lib \
    /opt/*/lib/python3*/site-packages/nvidia/*/lib "${VIRTUAL_ENV:-/none}"/lib/python3*/site-packages/nvidia/*/lib \
    "${CONDA_PREFIX:-/none}"/lib "${CONDA_PREFIX:-/none}"/lib/python3*/site-packages/nvidia/*/lib; do
    compgen -G "$folder/libcublasLt.so.13" > /dev/null || compgen -G "$folder/libnccl.so.2" > /dev/null || continue
    printf ':%s' "$folder"
  done
}
export LD_LIBRARY_PATH="${LD_LIBRARY_PATH:-}$(cuda_libraries)"
LD_LIBRARY_PATH="${LD_LIBRARY_PATH#:}"
# The bundle's C++ library only where the machine's own is too old for it.
if ! "$bin/train" --version > "$logs/version.log" 2>&1; then
  LD_LIBRARY_PATH="$bundle/lib/cxx${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  if ! "$bin/train" --version > "$logs/version.log" 2>&1; then
    echo "error: train does not start here: $(tail -1 "$logs/version.log")" >&2
    exit 1
  fi
fi
export BERT_REQUIRE_CUDA=1

names=() states=() times=() notes=()
failed=0
record() { # NAME STATE SECONDS NOTE
  names+=("$1") states+=("$2") times+=("$3") notes+=("$4")
  printf '%-28s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
  [[ "$2" == failed ]] && failed=1
}
# step NAME SECONDS COMMAND...: runs it within the seconds, its output in a log of that name.
step() {
  local name="$1" limit="$2" begin=$SECONDS left=$((deadline - (SECONDS - started))) code
  shift 2
  if ((left < 5)); then
    record "$name" skipped 0 "no time left"
    return 1
  fi
  timeout -k 5 "$((limit < left ? limit : left))" "$@" > "$logs/$name.log" 2>&1
  code=$?
  if ((code == 0)); then
    record "$name" passed "$((SECONDS - begin))" "$(grep -E '^\[  PASSED' "$logs/$name.log" | tail -1)"
  elif ((code == 124 || code == 137)); then
    record "$name" failed "$((SECONDS - begin))" "ran past its time"
  else
    record "$name" failed "$((SECONDS - begin))" "$(grep -E 'error|ERROR|FAILED' "$logs/$name.log" | tail -1 | tr -d '|"\\' | cut -c1-160)"
  fi
  return "$code"
}
# Tests that all were skipped, or that ran none on CUDA, prove nothing.
ran_on_cuda() { # NAME
  grep -q '^\[       OK \].*cuda' "$logs/$1.log" || record "$1: on CUDA" failed 0 "no test ran on CUDA"
}

gpu="$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2> "$logs/nvidia-smi.log" | head -1)"
if [[ -z "$gpu" ]]; then
  record gpu failed 0 "nvidia-smi finds no GPU"
fi

# --- Tests ---
step intrinsics 60 "$bin/intrinsics_gpu_test"
step ops 150 "$bin/op_backends_test" '--gtest_filter=*cuda*:*MissingBackends*' && ran_on_cuda ops
step optimizer 60 "$bin/optimizer_test" '--gtest_filter=*cuda*' && ran_on_cuda optimizer
step loss_sums 60 "$bin/loss_sums_test" '--gtest_filter=*cuda*' && ran_on_cuda loss_sums
step model 100 "$bin/model_backends_test" '--gtest_filter=*cuda*' && ran_on_cuda model

# --- A short training run, its losses beside those that a CPU had when the bundle was made ---
cd "$bundle" || exit 1
curve() { # METRICS: step and loss
  sed -n 's/.*"step": *\([0-9]*\), *"loss": *\([-0-9.e]*\),.*/\1 \2/p' "$1"
}
train_on() { # NAME ARGUMENT...
  local name="$1"
  shift
  step "train_$name" 60 "$bin/train" check/config.yaml run_dir="$work/$name" "$@"
}
differences=""
precisions=(fp32 tf32 bf16)
capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -1)"
awk -v c="$capability" 'BEGIN {exit !(c + 0 >= 8.9)}' && precisions+=(fp8)
for precision in "${precisions[@]}"; do
  train_on "cuda_$precision" runtime.device=cuda runtime.precision="$precision" || continue
  largest=$(join <(curve check/cpu_metrics.jsonl | sort) <(curve "$work/cuda_$precision/metrics.jsonl" | sort) |
    awk '{d = $2 - $3; if (d < 0) d = -d; if (d > m) m = d; n++} END {if (n >= 100) printf "%.5f", m; else print "none"}')
  case "$precision" in fp32) bound=0.01 ;; tf32) bound=0.05 ;; bf16) bound=0.1 ;; *) bound=0.2 ;; esac
  differences+="${differences:+, }\"$precision\": \"$largest\""
  if awk -v d="$largest" -v b="$bound" 'BEGIN {exit !(d != "none" && d + 0 <= b)}'; then
    record "losses_$precision" passed 0 "at most $largest from the CPU's over 100 steps"
  else
    record "losses_$precision" failed 0 "$largest from the CPU's, at most $bound was expected"
  fi
done
train_on cuda_no_graph runtime.device=cuda runtime.cuda_graph=false &&
  if cmp -s <(curve "$work/cuda_bf16/metrics.jsonl") <(curve "$work/cuda_no_graph/metrics.jsonl"); then
    record graph_changes_nothing passed 0 "the same losses with and without CUDA graphs"
  else
    # The choice of product algorithms is timed, so bits may differ without being wrong.
    record graph_changes_nothing noted 0 "losses differ with and without CUDA graphs"
  fi

# --- Benchmarks ---
step bench_step 70 "$bin/bench_step" --device cuda
step bench_kernels 70 "$bin/bench_kernels" --device cuda

# --- compute-sanitizer ---
sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | head -1)"
if [[ -n "$sanitizer" ]]; then
  for tool in memcheck racecheck; do
    step "$tool" 60 "$sanitizer" --tool "$tool" --error-exitcode 9 "$bin/op_backends_test" \
      "--gtest_filter=${BERT_SANITIZER_FILTER:-*cuda*layer_norm*:*cuda*rows*:*cuda*cross_entropy*}"
  done
else
  record compute-sanitizer skipped 0 "not installed"
fi

# --- Reports ---
commit="$(cat "$bundle/COMMIT" 2> /dev/null || echo unknown)"
date="$(date -u +%Y-%m-%dT%H:%M:%SZ)"
{
  printf '# GPU check\n\n%s, commit %s, %s seconds in all.\n\n' "$date" "$commit" "$((SECONDS - started))"
  printf 'GPU: %s (name, driver, memory, compute capability)\n\n' "${gpu:-none}"
  printf '| check | result | seconds | note |\n|---|---|---|---|\n'
  for i in "${!names[@]}"; do
    printf '| %s | %s | %s | %s |\n' "${names[i]}" "${states[i]}" "${times[i]}" "${notes[i]}"
  done
  for bench in bench_step bench_kernels; do
    [[ -s "$logs/$bench.log" ]] && printf '\n## %s\n\n```\n%s\n```\n' "$bench" "$(cat "$logs/$bench.log")"
  done
} > "$out/gpu_check.md"
text() { printf '%s' "$1" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }
{
  printf '{"date": "%s", "commit": "%s", "gpu": "%s", "passed": %s, "seconds": %s,\n' "$date" \
    "$(text "$commit")" "$(text "$gpu")" "$( ((failed)) && echo false || echo true)" "$((SECONDS - started))"
  printf ' "loss_differences": {%s},\n "checks": [' "$differences"
  for i in "${!names[@]}"; do
    ((i)) && printf ','
    printf '\n  {"name": "%s", "result": "%s", "seconds": %s, "note": "%s"}' "${names[i]}" \
      "${states[i]}" "${times[i]}" "$(text "${notes[i]}")"
  done
  printf '\n ]}\n'
} > "$out/gpu_check.json"
echo "$out/gpu_check.md, $out/gpu_check.json"
exit "$failed"
