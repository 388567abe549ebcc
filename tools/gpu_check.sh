#!/usr/bin/env bash
# On a machine with a GPU, in under 4 minutes: the tests with CUDA required, compute-sanitizer over
# the kernel tests, short training runs whose losses are compared with the CPU's, one on real text
# in each precision (if the bundle has text), the benchmarks, and PyTorch beside them (if python3
# has it). From a bundle (tools/bundle.sh); writes gpu_check.md, gpu_check.json, the curves on real
# text as gpu_check_losses.csv, and gpu_check_logs.tar.gz. Exit code 1 when anything failed, 2 for a
# mistake in the call. More seconds than 235 are for PyTorch, which compiles for long.
# Of the parts (tests, training, real_text, real_speed, sanitizer, racecheck, speed, pytorch) --only
# does some, each with all the time that is left: --only racecheck,pytorch --rows bert_large:512
# Usage: gpu_check.sh [--out DIR] [--seconds N] [--only PART,...] [--rows "MODEL:LENGTH[:natural] ..."]
set -uo pipefail
bundle="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
out="$PWD"
deadline=235
all_parts=(tests training real_text real_speed sanitizer racecheck speed pytorch)
only=""
pytorch_rows=(bert_base:128 bert_base:512 bert_large:512 bert_base:512:natural)
while (($#)); do
  case "$1" in
    --out) out="${2:?--out needs a folder}"; shift 2 ;;
    --seconds) deadline="${2:?--seconds needs a number}"; shift 2 ;;
    --only) only="${2:?--only needs parts}"; shift 2 ;;
    --rows) read -ra pytorch_rows <<< "${2:?--rows needs models and lengths}"; shift 2 ;;
    -h | --help) sed -n '2,10s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "error: unknown argument $1" >&2; exit 2 ;;
  esac
done
if ! [[ "$deadline" =~ ^[1-9][0-9]*$ ]]; then
  echo "error: --seconds $deadline: expected a whole number of seconds" >&2
  exit 2
fi
for part in ${only//,/ }; do
  if [[ " ${all_parts[*]} " != *" $part "* ]]; then
    echo "error: --only $part: expected some of ${all_parts[*]}" >&2
    exit 2
  fi
done
# Whether a part is to be done.
asked() { [[ -z "$only" || ",$only," == *",$1,"* ]]; }
bin="$bundle/bin"
if [[ ! -x "$bin/train" || ! -f "$bin/bert_cuda_backend.so" ]]; then
  echo "error: $bundle is no bundle of tools/bundle.sh" >&2
  exit 2
fi
mkdir -p "$out" || exit 1
out="$(cd "$out" && pwd)"
work="$(mktemp -d)"
trap 'kill $(jobs -p) 2> /dev/null; rm -rf "$work"' EXIT
logs="$work/gpu_check_logs"
mkdir "$logs"
processors="$(nproc)"
shards=$((processors < 10 ? processors : 10))

# --- Libraries ---
# Where python3 keeps its packages; NVIDIA's may be among them.
python_packages="$(python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2> /dev/null)"
# cuBLAS and NCCL: in the system, in a toolkit, or inside Python packages.
cuda_libraries() {
  local folder
  for folder in /usr/local/cuda*/lib64 /usr/local/cuda*/lib /usr/local/cuda*/targets/*/lib \
    /usr/lib/x86_64-linux-gnu "${python_packages:-/none}"/nvidia/*/lib \
    /usr/lib/python3*/*-packages/nvidia/*/lib /usr/local/lib/python3*/*-packages/nvidia/*/lib \
    "$HOME"/.local/lib/python3*/site-packages/nvidia/*/lib \
    /opt/*/lib/python3*/site-packages/nvidia/*/lib "${VIRTUAL_ENV:-/none}"/lib/python3*/site-packages/nvidia/*/lib \
    "${CONDA_PREFIX:-/none}"/lib "${CONDA_PREFIX:-/none}"/lib/python3*/site-packages/nvidia/*/lib; do
    compgen -G "$folder/libcublasLt.so.13" > /dev/null || compgen -G "$folder/libnccl.so.2" > /dev/null || continue
    printf ':%s' "$folder"
  done
}
own_library_path="${LD_LIBRARY_PATH:-}"
export LD_LIBRARY_PATH="$own_library_path$(cuda_libraries)"
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

# --- Steps, and what became of them ---
names=() states=() times=() notes=()
failed=0
record() { # NAME STATE SECONDS NOTE
  names+=("$1") states+=("$2") times+=("$3") notes+=("$4")
  printf '%-28s %-8s %4s s  %s\n' "$1" "$2" "$3" "$4"
  [[ "$2" == failed ]] && failed=1
}
started=$SECONDS
left() { echo $((deadline - (SECONDS - started))); }
# limit NAME SECONDS: into $seconds, those or what is left, which is for all parts that were asked for
# by --only; with next to nothing left, skips it.
limit() {
  seconds="$(left)"
  if ((seconds < 5)); then
    record "$1" skipped 0 "no time left"
    return 1
  fi
  [[ -z "$only" ]] && ((seconds > $2)) && seconds="$2"
  return 0
}
# conclude NAME CODE SECONDS NOTE: records what ended with the code; NOTE is for one that passed. Of
# one that failed the note is the test, or else the last line that speaks of an error.
conclude() {
  if (($2 == 0)); then
    record "$1" passed "$3" "$4"
  elif (($2 == 124 || $2 == 137)); then
    record "$1" failed "$3" "ran past its time"
  else
    record "$1" failed "$3" "$( (grep -E '^\[  FAILED  \].* ms\)' "$logs/$1.log" ||
      grep -E '(^|[: ])error[: ]|ERROR|FAILED' "$logs/$1.log") | tail -1 | tr -d '|"\\' | cut -c1-160)"
  fi
  return "$2"
}
# step NAME SECONDS COMMAND...: runs it within the seconds, its output in a log of that name.
step() {
  local name="$1" begin=$SECONDS seconds
  limit "$name" "$2" || return 1
  shift 2
  timeout -k 5 "$seconds" "$@" > "$logs/$name.log" 2>&1
  conclude "$name" $? "$((SECONDS - begin))" ""
}
# tests NAME SECONDS COMMAND...: a step of Google Test, its tests dealt out to the processors, for
# what takes long is the reference on the CPU. A part may be left without tests, but not all: tests
# that all were skipped prove nothing.
tests() {
  local name="$1" begin=$SECONDS seconds i code=0 parts=() ran
  limit "$name" "$2" || return 1
  shift 2
  for ((i = 0; i < shards; i++)); do
    GTEST_TOTAL_SHARDS=$shards GTEST_SHARD_INDEX=$i OMP_NUM_THREADS=$((processors / shards)) \
      timeout -k 5 "$seconds" "$@" > "$work/part_$i" 2>&1 &
    parts+=($!)
  done
  for i in "${!parts[@]}"; do
    wait "${parts[i]}" || code=$?
    cat "$work/part_$i"
  done > "$logs/$name.log"
  ran="$(grep -c '^\[       OK \]' "$logs/$name.log")"
  if ((code == 0 && ran == 0)); then
    echo "error: no test ran on CUDA" >> "$logs/$name.log"
    code=1
  fi
  conclude "$name" "$code" "$((SECONDS - begin))" "$ran tests"
}

# --- Losses ---
# Step and loss of a run.
curve() { # METRICS
  sed -n 's/.*"step": *\([0-9]*\), *"loss": *\([-0-9.e]*\),.*/\1 \2/p' "$1"
}
validation_loss() { # METRICS: the last one
  sed -n 's/.*"val_loss": *\([0-9.e-]*\).*/\1/p' "$1" | tail -1
}
within() { # A B BOUND: two numbers that differ by no more
  awk -v a="$1" -v b="$2" -v bound="$3" 'BEGIN {exit !(a > 0 && b > 0 && a - b <= bound && b - a <= bound)}'
}
differences=""
# follows NAME BOUND: whether the losses of a run stay within BOUND of the CPU's.
follows() {
  local largest
  largest=$(join <(curve check/cpu_metrics.jsonl | sort) <(curve "$work/$1/metrics.jsonl" | sort) |
    awk '{d = $2 - $3; if (d < 0) d = -d; if (d > m) m = d; n++} END {if (n >= 100) printf "%.5f", m; else print "none"}')
  differences+="${differences:+, }\"$1\": \"$largest\""
  if awk -v d="$largest" -v b="$2" 'BEGIN {exit !(d != "none" && d + 0 <= b)}'; then
    record "losses_$1" passed 0 "at most $largest from the CPU's over 100 steps"
  else
    record "losses_$1" failed 0 "$largest from the CPU's, at most $2 was expected"
  fi
}

# --- The parts of the check ---
check_tests() {
  tests intrinsics 15 "$bin/intrinsics_gpu_test"
  tests ops 40 "$bin/op_backends_test" '--gtest_filter=*cuda*:*MissingBackends*'
  tests optimizer 15 "$bin/optimizer_test" '--gtest_filter=*cuda*'
  tests loss_sums 15 "$bin/loss_sums_test" '--gtest_filter=*cuda*'
  tests model 30 "$bin/model_backends_test" '--gtest_filter=*cuda*'
}

check_sanitizer() {
  local sanitizer tool
  sanitizer="$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer \
    "${python_packages:-/none}"/nvidia/*/bin/compute-sanitizer 2> /dev/null | head -1)"
  if [[ -z "$sanitizer" ]]; then
    record compute-sanitizer skipped 0 "not installed"
    return
  fi
  asked sanitizer && sanitize memcheck
  asked racecheck && sanitize racecheck
  asked sanitizer || return
  for tool in synccheck initcheck; do  # which find less
    if (($(left) > deadline / 2)); then
      sanitize "$tool"
    else
      record "$tool" skipped 0 "more than half of the time is over"
    fi
  done
}
sanitize() { # TOOL
  local filter='*cuda_bf16*:*cuda*layer_norm*:*cuda*embeddings*' seconds=35
  # The library's products take racecheck up to 20 seconds each, and so do most tests of attention with
  # heads of 128; in fp8 only products are other kernels than in bf16.
  if [[ "$1" == racecheck ]]; then
    filter+='-*linear*:*feed_forward*:*fp8*:*attention_up_to_*_128:*attention_beyond_*_128:*attention_no_dropout_128'
    seconds=60
  fi
  tests "$1" "$seconds" "$sanitizer" --tool "$1" --error-exitcode 9 "$bin/op_backends_test" \
    "--gtest_filter=$filter"
}

# train_on RUN LAUNCHER... -- ARGUMENT...
train_on() {
  local run="$1" launcher=()
  shift
  while [[ "$1" != -- ]]; do launcher+=("$1") && shift; done
  shift
  step "train_$run" 15 "${launcher[@]}" "$bin/train" check/config.yaml run_dir="$work/$run" "$@"
}
# Short runs, their losses beside those that a CPU had when the bundle was made.
check_training() {
  train_on fp32 -- runtime.device=cuda runtime.precision=fp32 && follows fp32 0.01
  train_on tf32 -- runtime.device=cuda runtime.precision=tf32 && follows tf32 0.05
  if train_on bf16 -- runtime.device=cuda runtime.precision=bf16; then
    follows bf16 0.1
    check_evaluate
  fi
  check_graph
  if ((has_fp8)); then
    train_on fp8 -- runtime.device=cuda runtime.precision=fp8 && follows fp8 0.2
  else
    record train_fp8 skipped 0 "compute capability $capability has no FP8"
  fi
  check_ranks
}
# Two ranks: gradients travel in fp32, in bf16, and as whole numbers.
check_ranks() {
  local launcher=(mpirun --allow-run-as-root --oversubscribe -np 2)
  if (($(visible_gpus) < 2)); then
    record ranks skipped 0 "one GPU"
  elif ! command -v mpirun > /dev/null; then
    record ranks skipped 0 "mpirun is not installed"
  else
    train_on ranks "${launcher[@]}" -- runtime.device=cuda runtime.precision=fp32 &&
      follows ranks 0.01
    train_on ranks_bf16 "${launcher[@]}" -- runtime.device=cuda runtime.precision=bf16 \
      runtime.allreduce_dtype=bf16 && follows ranks_bf16 0.1
    train_on ranks_reproducible "${launcher[@]}" -- runtime.device=cuda runtime.precision=fp32 \
      train.reproducible=true && follows ranks_reproducible 0.01
  fi
}
# As many as CUDA sees. nvidia-smi lists all there are, and parts of them below.
visible_gpus() {
  if [[ -n "${CUDA_VISIBLE_DEVICES:-}" ]]; then
    tr ',' '\n' <<< "$CUDA_VISIBLE_DEVICES" | grep -c .
  else
    nvidia-smi -L 2> /dev/null | grep -c '^GPU'
  fi
}
# CUDA graphs of micro-batches of many sizes compute what would be queued afresh: with
# train.reproducible the same bits, for then products are not chosen by measuring.
check_graph() {
  local settings=(runtime.device=cuda runtime.precision=bf16 train.reproducible=true)
  train_on graph -- "${settings[@]}" &&
    train_on no_graph -- "${settings[@]}" runtime.cuda_graph=false || return
  if cmp -s <(curve "$work/graph/metrics.jsonl") <(curve "$work/no_graph/metrics.jsonl"); then
    record graph_changes_nothing passed 0 "the same losses with and without CUDA graphs"
  else
    record graph_changes_nothing failed 0 "losses differ with and without CUDA graphs"
  fi
}
# evaluate finds the loss that the run found at its end.
check_evaluate() {
  local trained found
  step evaluate 10 "$bin/evaluate" --checkpoint "$work/bf16/checkpoints/step_00000100" \
    --data check/corpus --max-batches 4 --device cuda --json || return
  trained="$(validation_loss "$work/bf16/metrics.jsonl")"
  found="$(sed -n 's/.*"mlm_loss": *\([0-9.e-]*\).*/\1/p' "$logs/evaluate.log" | head -1)"
  if within "$trained" "$found" 0.001; then
    record evaluate_agrees passed 0 "loss $found"
  else
    record evaluate_agrees failed 0 "loss $found, at the end of training ${trained:-none}"
  fi
}

# One run on real text in each precision, all at once, from the same seed.
check_real_text() {
  local precision begin=$SECONDS seconds i runs=()
  if [[ ! -d check/real/corpus ]]; then
    record real_text skipped 0 "the bundle has none (tools/bundle.sh --text)"
    return
  fi
  limit real_text 75 || return
  real_precisions=(fp32 tf32 bf16)
  ((has_fp8)) && real_precisions+=(fp8)
  cat > "$work/real.yaml" << 'YAML'
seed: 1
model: {preset: bert_mini}
tokenizer: {path: check/real/tokenizer}
data: {path: check/real/corpus}
optimizer: {learning_rate: 1.0e-3}
schedule: {warmup_steps: 300}
train: {max_steps: 3000, batch_size: 64, sequence_length: 128}
evaluation: {every_steps: 1000, max_batches: 100, samples: 0}
checkpoint: {every_steps: 3000}
logging: {every_steps: 1, tensorboard: false}
YAML
  for precision in "${real_precisions[@]}"; do
    timeout -k 5 "$seconds" "$bin/train" "$work/real.yaml" run_dir="$work/real_$precision" \
      runtime.device=cuda runtime.precision="$precision" > "$logs/real_$precision.log" 2>&1 &
    runs+=($!)
  done
  for i in "${!runs[@]}"; do
    precision="${real_precisions[i]}"
    wait "${runs[i]}"
    conclude "real_$precision" $? "$((SECONDS - begin))" \
      "validation loss $(validation_loss "$work/real_$precision/metrics.jsonl")"
    curve "$work/real_$precision/metrics.jsonl" > "$work/real_$precision.curve" 2> /dev/null
  done
  compare_real_curves
  write_real_csv > "$out/gpu_check_losses.csv"
}
# The table of the report; what is judged is where the runs end, since on the way there a curve may
# fall somewhat earlier or later.
compare_real_curves() {
  local precision found reference bound=0.1 row largest
  reference="$(validation_loss "$work/real_fp32/metrics.jsonl")"
  for precision in "${real_precisions[@]}"; do
    found="$(validation_loss "$work/real_$precision/metrics.jsonl")"
    row="$(compare_windows "$work/real_fp32.curve" "$work/real_$precision.curve")"
    real_table+="| $precision | $row | ${found:-none} |"$'\n'
    [[ "$precision" == fp32 ]] && continue
    largest="$(cut -d' ' -f7 <<< "$row")"
    differences+="${differences:+, }\"real_$precision\": \"$largest\""
    [[ "$precision" == fp8 ]] && bound=0.2
    if within "${found:-0}" "${reference:-0}" "$bound"; then
      record "real_losses_$precision" passed 0 "validation loss $found, in fp32 $reference"
    else
      record "real_losses_$precision" failed 0 \
        "validation loss ${found:-none}, in fp32 ${reference:-none}; at most $bound apart was expected"
    fi
  done
}
# compare_windows REFERENCE CURVE: mean losses of the first and the last 100 steps; the difference of
# the two curves' means over windows of 100 steps: on average, the largest, and where that ends.
compare_windows() {
  awk 'function window(step) {return int((step - 1) / 100)}
    FNR == NR {reference[window($1)] += $2 / 100; next}
    {mean[window($1)] += $2 / 100; n = window($1) + 1}
    END {
      for (w = 0; w < n; w++) {
        d = mean[w] - reference[w]
        if (d < 0) d = -d
        sum += d
        if (d > largest) {largest = d; at = 100 * (w + 1)}
      }
      printf "%.4f | %.4f | %.4f | %.4f | %d", mean[0], mean[n - 1], n ? sum / n : 0, largest, at
    }' "$1" "$2"
}
# Each figure is the mean of the 50 steps that end there.
write_real_csv() {
  local precision columns=()
  for precision in fp32 tf32 bf16 fp8; do
    [[ -f "$work/real_$precision.curve" ]] || : > "$work/real_$precision.curve"
    awk '{sum += $2} $1 % 50 == 0 {printf "%.4f\n", sum / 50; sum = 0}' \
      "$work/real_$precision.curve" > "$work/real_$precision.means"
    columns+=("$work/real_$precision.means")
  done
  echo step,fp32,tf32,bf16,fp8
  paste -d, <(seq 50 50 "$(cat "$work"/real_*.curve | awk '$1 > m {m = $1} END {print m + 0}')") \
    "${columns[@]}"
}

# How fast BERT-base trains on real text, whose micro-batches are of many sizes: a whole batch, and a
# rank's share of one on eight GPUs, the last quarter of whose steps have sequences of 512. Both with
# and without CUDA graphs.
check_real_speed() {
  if [[ ! -d check/real/corpus ]]; then
    record real_speed skipped 0 "the bundle has no real text (tools/bundle.sh --text)"
    return
  fi
  cat > "$work/speed.yaml" << 'YAML'
seed: 1
model: {preset: bert_base}
tokenizer: {path: check/real/tokenizer}
data: {path: check/real/corpus, threads: 4}
schedule: {warmup_steps: 100}
train: {max_steps: 160}
runtime: {device: cuda, precision: bf16}
evaluation: {every_steps: 160, max_batches: 1, samples: 0}
checkpoint: {every_steps: 160}
logging: {every_steps: 1, tensorboard: false}
YAML
  local graph
  for graph in true false; do
    real_speed "batch_graph_$graph" train.batch_size=256 runtime.cuda_graph=$graph
    real_speed "share_graph_$graph" train.batch_size=32 runtime.cuda_graph=$graph \
      'train.phases=[{from: 0.0, sequence_length: 128}, {from: 0.75, sequence_length: 512}]'
  done
}
# real_speed NAME ARGUMENT...: a run, and the rates of its steps.
real_speed() {
  local name="speed_$1" begin=$SECONDS seconds code
  limit "$name" 25 || return
  shift
  timeout -k 5 "$seconds" "$bin/train" "$work/speed.yaml" run_dir="$work/$name" "$@" \
    > "$logs/$name.log" 2>&1
  code=$?
  [[ -f "$work/$name/metrics.jsonl" ]] && cp "$work/$name/metrics.jsonl" "$logs/$name.jsonl"
  rm -rf "$work/$name"  # checkpoints of BERT-base
  conclude "$name" "$code" "$((SECONDS - begin))" \
    "$(median_rate "$logs/$name.jsonl" 41 120) tokens/s in steps 41 to 120, $(median_rate \
      "$logs/$name.jsonl" 131 160) in 131 to 160"
}
# median_rate METRICS FIRST LAST: tokens per second.
median_rate() {
  sed -n 's/.*"step": *\([0-9]*\),.*"tokens_per_second": *\([0-9.e+]*\).*/\1 \2/p' "$1" 2> /dev/null |
    awk -v first="$2" -v last="$3" '$1 >= first && $1 <= last {print $2 + 0}' | sort -g |
    awk '{rate[NR] = $1} END {if (NR) printf "%.0f", rate[int((NR + 1) / 2)]; else print "no"}'
}

check_speed() {
  step bench_step 45 "$bin/bench_step" --device cuda --steps 10
  step bench_natural 25 "$bin/bench_step" --device cuda --steps 10 --natural --length 512
  step bench_kernels 30 "$bin/bench_kernels" --device cuda
}

# PyTorch, if it is there, compiles for minutes what it is to run: that begins first, on the CPU
# beside the tests, and is over (or ended, with what is done by then) before anything is timed.
pytorch_log="$logs/compare_pytorch.log"
begin_pytorch() {
  # PyTorch with the libraries it would have without this script, bench_step with ours.
  printf '#!/bin/bash\nLD_LIBRARY_PATH=%q exec %q "$@"\n' "$LD_LIBRARY_PATH" "$bin/bench_step" > "$work/bench_step"
  chmod +x "$work/bench_step"
  python=(env LD_LIBRARY_PATH="$own_library_path" python3)
  pytorch=("${python[@]}" "$bundle/bench/compare_pytorch.py" --bench "$work/bench_step" --device cuda
    --precision bf16 --compile --tokens 32768 --steps 10 --rounds 2)
  warm_pytorch &
  warming=$!
}
# Its code is 3 without PyTorch. Large models beside the others, which take as long together.
warm_pytorch() {
  local seconds=$((deadline * 55 / 100)) row large=() others=()
  "${python[@]}" -c 'import sys, torch, transformers; sys.exit(not torch.cuda.is_available())' \
    > "$logs/pytorch.log" 2>&1 || return 3
  seconds=$((seconds - (SECONDS - started)))
  for row in "${pytorch_rows[@]}"; do
    if [[ "$row" == bert_large* ]]; then large+=("$row"); else others+=("$row"); fi
  done
  warm_rows warm_large "${large[@]}" &
  warm_rows warm_base "${others[@]}" &
  wait
  return 0
}
warm_rows() { # LOG ROW...: within $seconds; there may be no rows
  (($# == 1)) ||
    timeout -k 5 "$seconds" nice "${pytorch[@]}" --warm-only --rows "${@:2}" > "$logs/$1.log" 2>&1
}
wait_for_pytorch() {
  wait "$warming"
  pytorch_code=$?
}
compare_with_pytorch() {
  local begin=$SECONDS seconds code rows
  if ((pytorch_code != 0)); then
    record compare_pytorch skipped 0 "python3 has no torch and transformers that find the GPU"
    return
  fi
  limit compare_pytorch "$deadline" || return
  timeout -k 2 "$seconds" "${pytorch[@]}" --rows "${pytorch_rows[@]}" \
    --json "$logs/compare_pytorch.json" > "$pytorch_log" 2>&1
  code=$?
  rows="$(grep -c '^| bert_' "$pytorch_log") of ${#pytorch_rows[@]} rows"
  # What another program cannot do here is no failure of ours.
  if ((code == 0)); then
    record compare_pytorch passed "$((SECONDS - begin))" "$rows"
  elif ((code == 124 || code == 137)); then
    record compare_pytorch noted "$((SECONDS - begin))" "$rows in the time left; --seconds gives it more"
  else
    record compare_pytorch noted "$((SECONDS - begin))" "$rows; $(tail -1 "$pytorch_log" | tr -d '|"\\' | cut -c1-160)"
  fi
}

check_gpu() {
  capability="$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -1)"
  has_fp8=$(awk -v c="$capability" 'BEGIN {print (c + 0 >= 8.9)}')
  cd "$bundle" || exit 1
  asked pytorch && begin_pytorch
  asked tests && check_tests
  asked training && check_training
  asked real_text && check_real_text
  if asked sanitizer || asked racecheck; then check_sanitizer; fi
  asked pytorch && wait_for_pytorch
  asked speed && check_speed
  asked real_speed && check_real_speed
  asked pytorch && compare_with_pytorch
}

# Without nvidia-smi, which a container may lack, the program itself is asked.
find_gpu() {
  gpu="$(nvidia-smi --query-gpu=name,driver_version,memory.total,compute_cap --format=csv,noheader 2> "$logs/nvidia-smi.log" | head -1)"
  if [[ -z "$gpu" ]] && (cd "$bundle" && "$bin/train" check/config.yaml run_dir="$work/none" --dry-run \
    runtime.device=cuda) > "$logs/gpu.log" 2>&1; then
    gpu="$(sed -n 's/^computing *\([^;]*\);.*/\1/p' "$logs/gpu.log")"
  fi
  [[ -n "$gpu" ]]
}

# --- Reports ---
write_markdown() {
  local i bench
  printf '# GPU check\n\n%s, commit %s, %s seconds in all.\n\n' "$date" "$commit" "$((SECONDS - started))"
  printf 'GPU: %s\n\n' "${gpu:-none}"
  printf '| check | result | seconds | note |\n|---|---|---|---|\n'
  for i in "${!names[@]}"; do
    printf '| %s | %s | %s | %s |\n' "${names[i]}" "${states[i]}" "${times[i]}" "${notes[i]}"
  done
  if [[ -n "$real_table" ]]; then
    printf '\n## Real text in each precision\n\n3,000 steps of 8,192 tokens, BERT-mini, one seed. %s\n\n' \
      'Differences from fp32 are those of means over 100 steps.'
    printf '| precision | loss, first 100 | last 100 | mean difference | largest | until step | validation loss |\n'
    printf '|---|---|---|---|---|---|---|\n%s' "$real_table"
  fi
  [[ -s "$pytorch_log" ]] && printf '\n## PyTorch\n\n%s\n' "$(cat "$pytorch_log")"
  for bench in bench_step bench_natural bench_kernels; do
    [[ -s "$logs/$bench.log" ]] && printf '\n## %s\n\n```\n%s\n```\n' "$bench" "$(cat "$logs/$bench.log")"
  done
}
text() { printf '%s' "$1" | tr -d '\000-\037' | sed 's/\\/\\\\/g; s/"/\\"/g'; }
write_json() {
  local i
  printf '{"date": "%s", "commit": "%s", "gpu": "%s", "passed": %s, "seconds": %s,\n' "$date" \
    "$(text "$commit")" "$(text "$gpu")" "$( ((failed)) && echo false || echo true)" "$((SECONDS - started))"
  printf ' "loss_differences": {%s},\n "checks": [' "$differences"
  for i in "${!names[@]}"; do
    ((i)) && printf ','
    printf '\n  {"name": "%s", "result": "%s", "seconds": %s, "note": "%s"}' "${names[i]}" \
      "${states[i]}" "${times[i]}" "$(text "${notes[i]}")"
  done
  printf '\n ]}\n'
}

real_precisions=() real_table=""
if find_gpu; then
  check_gpu
else
  record gpu failed 0 "nvidia-smi finds none; $(tail -1 "$logs/gpu.log" | tr -d '|"\\' | cut -c1-160)"
fi
commit="$(cat "$bundle/COMMIT" 2> /dev/null || echo unknown)"
date="$(date -u +%Y-%m-%dT%H:%M:%SZ)"
write_markdown > "$out/gpu_check.md"
write_json > "$out/gpu_check.json"
tar -czf "$out/gpu_check_logs.tar.gz" -C "$work" gpu_check_logs
echo "$out/gpu_check.md, $out/gpu_check.json"
exit "$failed"
