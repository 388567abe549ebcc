#!/usr/bin/env bash
# On a machine with a GPU, in under 8 minutes: the tests with CUDA required, compute-sanitizer over
# the kernel tests, the benchmarks, and short training runs whose losses are compared with the
# CPU's. From a bundle (tools/bundle.sh); writes gpu_check.md and gpu_check.json. Exit code 1 when
# anything failed, 2 for a mistake in the call.
# Usage: gpu_check.sh [--out DIR]
set -uo pipefail
bundle="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$PWD"
while (($#)); do
  case "$1" in
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    -h | --help) sed -n '2,6s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
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

# Step and loss of a run.
curve() { # METRICS
  sed -n 's/.*"step": *\([0-9]*\), *"loss": *\([-0-9.e]*\),.*/\1 \2/p' "$1"
}
differences=""
# follows NAME RUN BOUND: whether the losses of a run stay within BOUND of the CPU's.
follows() {
  local largest
  largest=$(join <(curve check/cpu_metrics.jsonl | sort) <(curve "$work/$2/metrics.jsonl" | sort) |
    awk '{d = $2 - $3; if (d < 0) d = -d; if (d > m) m = d; n++} END {if (n >= 100) printf "%.5f", m; else print "none"}')
  differences+="${differences:+, }\"$1\": \"$largest\""
  if awk -v d="$largest" -v b="$3" 'BEGIN {exit !(d != "none" && d + 0 <= b)}'; then
    record "losses_$1" passed 0 "at most $largest from the CPU's over 100 steps"
  else
    record "losses_$1" failed 0 "$largest from the CPU's, at most $3 was expected"
  fi
}
# train_on RUN LAUNCHER... -- ARGUMENT...
train_on() {
  local run="$1" launcher=()
  shift
  while [[ "$1" != -- ]]; do launcher+=("$1") && shift; done
  shift
  step "train_$run" 17 "${launcher[@]}" "$bin/train" check/config.yaml run_dir="$work/$run" "$@"
}

# The seconds given to all steps together are fewer than the 8 minutes.
check_gpu() {
  # Tests.
  step intrinsics 15 "$bin/intrinsics_gpu_test"
  step ops 75 "$bin/op_backends_test" '--gtest_filter=*cuda*:*MissingBackends*' && ran_on_cuda ops
  step optimizer 20 "$bin/optimizer_test" '--gtest_filter=*cuda*' && ran_on_cuda optimizer
  step loss_sums 15 "$bin/loss_sums_test" '--gtest_filter=*cuda*' && ran_on_cuda loss_sums
  step model 40 "$bin/model_backends_test" '--gtest_filter=*cuda*' && ran_on_cuda model

  # Short training runs, their losses beside those that a CPU had when the bundle was made.
  cd "$bundle" || exit 1
  train_on fp32 -- runtime.device=cuda runtime.precision=fp32 && follows fp32 fp32 0.01
  train_on tf32 -- runtime.device=cuda runtime.precision=tf32 && follows tf32 tf32 0.05
  if train_on bf16 -- runtime.device=cuda runtime.precision=bf16; then
    follows bf16 bf16 0.1
    check_evaluate
    if train_on no_graph -- runtime.device=cuda runtime.precision=bf16 runtime.cuda_graph=false; then
      if cmp -s <(curve "$work/bf16/metrics.jsonl") <(curve "$work/no_graph/metrics.jsonl"); then
        record graph_changes_nothing passed 0 "the same losses with and without CUDA graphs"
      else
        # The choice of product algorithms is timed, so bits may differ without being wrong.
        record graph_changes_nothing noted 0 "losses differ with and without CUDA graphs"
      fi
    fi
  fi
  local capability
  capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -1)"
  if awk -v c="$capability" 'BEGIN {exit !(c + 0 >= 8.9)}'; then
    train_on fp8 -- runtime.device=cuda runtime.precision=fp8 && follows fp8 fp8 0.2
  else
    record train_fp8 skipped 0 "compute capability $capability has no FP8"
  fi
  if (($(nvidia-smi -L 2> /dev/null | wc -l) < 2)); then
    record ranks skipped 0 "one GPU"
  elif ! command -v mpirun > /dev/null; then
    record ranks skipped 0 "mpirun is not installed"
  else
    train_on ranks mpirun --allow-run-as-root -np 2 -- runtime.device=cuda runtime.precision=fp32 &&
      follows ranks ranks 0.01
  fi

  # Benchmarks.
  step bench_step 55 "$bin/bench_step" --device cuda
  step bench_kernels 55 "$bin/bench_kernels" --device cuda

  # compute-sanitizer.
  local sanitizer tool
  sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2> /dev/null | head -1)"
  if [[ -n "$sanitizer" ]]; then
    for tool in memcheck racecheck; do
      step "$tool" 42 "$sanitizer" --tool "$tool" --error-exitcode 9 "$bin/op_backends_test" \
        "--gtest_filter=${BERT_SANITIZER_FILTER:-*cuda*layer_norm*:*cuda*rows*:*cuda*cross_entropy*}"
    done
  else
    record compute-sanitizer skipped 0 "not installed"
  fi
}

# evaluate finds the loss that the run found at its end.
check_evaluate() {
  local trained found
  step evaluate 10 "$bin/evaluate" --checkpoint "$work/bf16/checkpoints/step_00000100" \
    --data check/corpus --max-batches 4 --device cuda --json || return
  trained="$(sed -n 's/.*"val_loss": *\([0-9.e-]*\).*/\1/p' "$work/bf16/metrics.jsonl" | tail -1)"
  found="$(sed -n 's/.*"mlm_loss": *\([0-9.e-]*\).*/\1/p' "$logs/evaluate.log" | head -1)"
  if awk -v a="$trained" -v b="$found" 'BEGIN {exit !(a > 0 && a - b < 0.001 && b - a < 0.001)}'; then
    record evaluate_agrees passed 0 "loss $found"
  else
    record evaluate_agrees failed 0 "loss $found, at the end of training ${trained:-none}"
  fi
}

gpu="$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2> "$logs/nvidia-smi.log" | head -1)"
# Without nvidia-smi, which a container may lack, the program itself is asked.
if [[ -z "$gpu" ]] && (cd "$bundle" && "$bin/train" check/config.yaml run_dir="$work/none" --dry-run \
  runtime.device=cuda) > "$logs/gpu.log" 2>&1; then
  gpu="$(sed -n 's/^computing *\([^;]*\);.*/\1/p' "$logs/gpu.log")"
fi
if [[ -n "$gpu" ]]; then
  check_gpu
else
  record gpu failed 0 "nvidia-smi finds none; $(tail -1 "$logs/gpu.log" | tr -d '|"\\' | cut -c1-160)"
fi

# --- Reports ---
commit="$(cat "$bundle/COMMIT" 2> /dev/null || echo unknown)"
date="$(date -u +%Y-%m-%dT%H:%M:%SZ)"
{
  printf '# GPU check\n\n%s, commit %s, %s seconds in all.\n\n' "$date" "$commit" "$((SECONDS - started))"
  printf 'GPU: %s\n\n' "${gpu:-none}"
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
