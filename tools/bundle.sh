#!/usr/bin/env bash
# Makes a folder that runs on a GPU node without packages: programs, their modules, the tests and
# benchmarks that need a GPU, configurations, what gpu_check.sh trains on, and the shared libraries
# they need. The C library, cuBLAS, NCCL, MPI and the driver are the node's own.
# Usage: tools/bundle.sh [--text FILE]... DIR [BUILD]
#   BUILD  a built tree; made in build-bundle otherwise
#   FILE   real text, plain or compressed: gpu_check.sh then trains on it in each precision. Five
#          million words are enough; each takes about four bytes of the bundle
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
texts=()
while [[ "${1:-}" == --text && $# -ge 2 ]]; do
  texts+=("$2")
  shift 2
done
if [[ $# -lt 1 || $# -gt 2 || "$1" == -* ]]; then
  sed -n '2,8s/^# //p' "${BASH_SOURCE[0]}"
  [[ "${1:-}" == "-h" || "${1:-}" == "--help" ]] && exit 0 || exit 2
fi
target="$1"
build="${2:-$root/build-bundle}"
most_mib=64

# Raw text is read where packages are: what reads archives of it (fill_mask too) needs 35 MB of
# libraries.
programs=(train evaluate forward tokenize)
preparing=(train_tokenizer prepare_corpus)
modules=(bert_cuda_backend.so bert_mpi_communicator.so) # and the CPU's
tests=(op_backends_test optimizer_test loss_sums_test model_backends_test intrinsics_gpu_test)
benches=(bench_kernels bench_step)

if [[ -e "$target" && -n "$(ls -A "$target")" ]]; then
  echo "error: $target is not empty" >&2
  exit 2
fi
if [[ $# -eq 1 ]]; then
  cmake -S "$root" -B "$build" -DCMAKE_BUILD_TYPE=Release -DBERT_WITH_CUDA=ON
  cmake --build "$build" --parallel "$(nproc)" --target "${programs[@]}" "${preparing[@]}" bert_cuda_backend \
    "${tests[@]}" "${benches[@]}" $(cmake --build "$build" --target help |
      grep -ow bert_mpi_communicator | head -1)
fi

build="$(cd "$build" && pwd)"
for file in "$build"/bin/bert_cpu_*.so; do modules+=("$(basename "$file")"); done
mkdir -p "$target/bin" "$target/lib" "$target/tools"
target="$(cd "$target" && pwd)"
take() { # FILE FOLDER: a copy without symbols
  install -m 755 "$1" "$2/"
  strip --strip-unneeded "$2/$(basename "$1")"
}
for name in "${programs[@]}" "${benches[@]}"; do take "$build/bin/$name" "$target/bin"; done
for name in "${tests[@]}"; do take "$build/tests/$name" "$target/bin"; done
for name in "${modules[@]}"; do
  if [[ -f "$build/bin/$name" ]]; then
    take "$build/bin/$name" "$target/bin"
  elif [[ "$name" != bert_mpi_communicator.so ]]; then
    echo "error: $build has no $name" >&2
    exit 1
  fi
done

# All libraries but those of the system's C library and of what the node has. The C++ library is a
# fallback, which gpu_check.sh takes where the node's is too old.
node='^(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|libcuda|libcublas|libcublasLt|libnccl)\.so'
for file in "$target"/bin/*; do
  [[ "$(basename "$file")" == bert_mpi_communicator.so ]] && continue
  ldd "$file"
done | awk '$2 == "=>" {print $1, $3}' | sort -u | while read -r name path; do
  [[ "$name" =~ $node ]] && continue
  if [[ ! -f "$path" ]]; then
    echo "error: the library $name is missing on this machine" >&2
    exit 1
  fi
  folder="$target/lib"
  [[ "$name" == libstdc++.so.* || "$name" == libgcc_s.so.* ]] && folder="$target/lib/cxx"
  mkdir -p "$folder"
  install -m 755 "$path" "$folder/$name"
  strip --strip-unneeded "$folder/$name" 2> /dev/null || true
done

# What gpu_check.sh trains on, and the losses of a CPU: text from the project's own pages.
check="$target/check"
mkdir "$check"
prepare() { # FOLDER VOCABULARY VALIDATION_FRACTION FILE...: folder/tokenizer and folder/corpus
  local log
  if ! log="$({ "$build/bin/train_tokenizer" --type wordpiece --vocab-size "$2" --input "${@:4}" \
    --output "$1/tokenizer" && "$build/bin/prepare_corpus" --tokenizer "$1/tokenizer" \
    --input "${@:4}" --output "$1/corpus" --validation-fraction "$3"; } 2>&1)"; then
    grep '^error' <<< "$log" >&2
    exit 1
  fi
}
find "$root/docs" "$root/README.md" "$root/CONTRIBUTING.md" -name '*.md' -print0 | sort -z |
  xargs -0 cat > "$check/text.txt"
prepare "$check" 2000 0.1 "$check/text.txt"
rm "$check/text.txt"
if ((${#texts[@]})); then
  mkdir "$check/real"
  prepare "$check/real" 8000 0.02 "${texts[@]}"
fi
cat > "$check/config.yaml" << 'YAML'
seed: 1
model: {preset: bert_tiny}
tokenizer: {path: check/tokenizer}
data: {path: check/corpus}
optimizer: {learning_rate: 1.0e-3}
schedule: {warmup_steps: 20}
train: {max_steps: 100, batch_size: 32, sequence_length: 128}
evaluation: {every_steps: 100, max_batches: 4}
checkpoint: {every_steps: 100}
logging: {every_steps: 1, tensorboard: false}
YAML
(cd "$target" && "$build/bin/train" check/config.yaml run_dir=check/run runtime.device=cpu > /dev/null)
mv "$check/run/metrics.jsonl" "$check/cpu_metrics.jsonl"
rm -r "$check/run"

cp -r "$root/configs" "$target/configs"
ln -s ../configs "$target/bin/configs"
cp "$root/tools/gpu_check.sh" "$target/tools/"
mkdir "$target/bench"
cp "$root/bench/compare_pytorch.py" "$target/bench/"
git -C "$root" describe --always --dirty > "$target/COMMIT" 2>/dev/null || echo unknown > "$target/COMMIT"

size=$(du -sm --apparent-size "$target" | cut -f1)
newest=$(for file in "$target"/bin/* "$target"/lib/*; do
  [[ -f "$file" ]] && objdump -T "$file" 2>/dev/null; done |
  grep -o 'GLIBC_2\.[0-9]*' | sort -u -V | tail -1)
echo "$target: $size MiB, needs ${newest/_/ } or later"
if ((size > most_mib)); then
  echo "error: that is more than $most_mib MiB" >&2
  exit 1
fi
