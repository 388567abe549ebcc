#!/usr/bin/env bash
# From nothing to masked predictions: installs, builds, makes a corpus and a vocabulary, trains a
# small BERT on this machine's processor, and shows what it learned. What is already there is reused.
set -euo pipefail

usage() {
  cat <<'END'
Usage: tools/quickstart.sh [option ...] [FILE ...]

Without FILEs the text is the King James Bible. FILEs are your own text, UTF-8, plain or .gz, .bz2,
.xz or .zst: a sentence or paragraph a line, a blank line after each document.

  --config FILE     what to train (default: configs/bert_tiny.yaml)
  --vocab-size N    pieces of the vocabulary (default: the configuration's, or 4000)
  --folder DIR      where everything is written (default: quickstart)
  --prepare-only    stop before training
  -h, --help        this text
END
}

die() {
  echo "error: $*" >&2
  exit 2
}

config=configs/bert_tiny.yaml
vocab_size=""
folder=quickstart
prepare_only=false
files=()
start_folder="$PWD"
# Paths are the caller's; the script then works in the project's root.
as_given() {
  case "$1" in
    /*) echo "$1" ;;
    *) realpath -m -- "$start_folder/$1" ;;
  esac
}
while (($# > 0)); do
  case "$1" in
    --config | --vocab-size | --folder)
      (($# > 1)) || die "$1 wants a value (see tools/quickstart.sh --help)"
      case "$1" in
        --config) config="$(as_given "$2")" ;;
        --vocab-size) vocab_size="$2" ;;
        --folder) folder="$(as_given "$2")" ;;
      esac
      shift 2
      ;;
    --prepare-only) prepare_only=true && shift ;;
    -h | --help) usage && exit 0 ;;
    -*) die "unknown option $1 (see tools/quickstart.sh --help)" ;;
    *) files+=("$(as_given "$1")") && shift ;;
  esac
done

cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tools/packages.sh
# Below the project's root, shorter names read better.
config="${config#"$PWD/"}"
folder="${folder#"$PWD/"}"

# Everything that can be wrong with the command is said before anything is installed.
[[ -f "$config" ]] || die "no configuration $config"
for file in "${files[@]}"; do
  [[ -f "$file" ]] || die "no file $file"
  [[ -r "$file" ]] || die "$file cannot be read"
  [[ -s "$file" ]] || die "$file is empty"
done
if [[ -z "$vocab_size" ]]; then
  vocab_size="$(sed -n 's/^ *vocab_size: *\([0-9][0-9]*\).*/\1/p' "$config" | head -n 1)"
  vocab_size="${vocab_size:-4000}"
fi
[[ "$vocab_size" =~ ^[1-9][0-9]*$ ]] || die "--vocab-size $vocab_size is not a number"
mkdir -p "$folder" 2>/dev/null || die "--folder $folder: the folder cannot be made"

began=$SECONDS
heading() { printf '\n== %s  (%d:%02d)\n' "$1" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }

fingerprint() { sha256sum | cut -c 1-16; }

# made OUTPUT FINGERPRINT: whether OUTPUT is there and was made from exactly this.
made() { [[ -e "$1" && -f "$1.made_from" && "$(cat "$1.made_from")" == "$2" ]]; }

# The command as one would type it.
show() { printf '$' && printf ' %q' "$@" && printf '\n'; }

# step TITLE OUTPUT FINGERPRINT COMMAND ...: runs the command unless its output is there.
step() {
  local title="$1" output="$2" made_from="$3"
  shift 3
  heading "$title"
  if made "$output" "$made_from"; then
    echo "reusing $output"
    return 0
  fi
  rm -rf "$output" "$output.made_from"
  show "$@"
  "$@"
  echo "$made_from" >"$output.made_from"
}

heading "Packages"
install_packages
echo "all packages are installed"

heading "Build"
build_log="$(mktemp)"
build_programs() {
  cmake --build build --parallel "$(build_jobs)" --target programs
}
build_failed() {
  tail -n 40 "$build_log" >&2
  echo "error: the build failed; the whole log is $build_log" >&2
  exit 1
}
# Kernels for a GPU take minutes to compile; without one they are left out of a new build.
options=()
if [[ ! -e build/CMakeCache.txt && ! -e /dev/nvidiactl ]]; then options=(-DBERT_WITH_CUDA=OFF); fi
configure_build build "${options[@]}" >"$build_log" 2>&1 || build_failed
# Of ninja's lines, "[12/266] Building ...", one for each tenth of the way.
show_tenths() {
  local line tenths=0
  while IFS= read -r line; do # awk may read its pipe in blocks
    if [[ "$line" =~ ^\[([0-9]+)/([0-9]+)\] ]] &&
      ((10 * BASH_REMATCH[1] / BASH_REMATCH[2] > tenths)); then
      tenths=$((10 * BASH_REMATCH[1] / BASH_REMATCH[2]))
      echo "${BASH_REMATCH[1]} of ${BASH_REMATCH[2]} files compiled"
    fi
  done
}
if [[ -t 1 ]]; then
  build_programs # ninja shows its progress in one line
else
  if [[ -e build/bin/train ]]; then
    echo "compiling what has changed"
  else
    echo "compiling; on two processors this takes about ten minutes"
  fi
  build_programs 2>&1 | tee -a "$build_log" | show_tenths || build_failed
fi
rm -f "$build_log"
bin=build/bin
"$bin/train" --version | head -n 1

if ((${#files[@]} == 0)); then
  text_folder="$folder/bible"
  mkdir -p "$text_folder"
  text_from="$(fingerprint <tools/make_bible_corpus.sh)"
  step "Text: the King James Bible" "$text_folder/text.txt" "$text_from" \
    tools/make_bible_corpus.sh "$text_folder/text.txt"
  texts=("$text_folder/text.txt")
else
  # Another text, or one that has changed, gets a folder of its own: nothing learned is lost.
  text_from="$(stat -L -c '%n %s %Y' -- "${files[@]}" | fingerprint)"
  name="$(basename -- "${files[0]}" | sed 's/\..*//; s/[^A-Za-z0-9_-]/_/g' | cut -c 1-32)"
  text_folder="$folder/${name:-text}-${text_from:0:8}"
  mkdir -p "$text_folder"
  texts=("${files[@]}")
fi

tokenizer="$text_folder/vocab_$vocab_size/tokenizer"
corpus="$text_folder/vocab_$vocab_size/corpus"
mkdir -p "$text_folder/vocab_$vocab_size"
tokenizer_from="$(echo "$text_from wordpiece $vocab_size" | fingerprint)"
step "Vocabulary: $vocab_size pieces" "$tokenizer" "$tokenizer_from" \
  "$bin/train_tokenizer" --type wordpiece --vocab-size "$vocab_size" --input "${texts[@]}" \
  --output "$tokenizer"
corpus_from="$(echo "$tokenizer_from corpus" | fingerprint)"
step "Token shards" "$corpus" "$corpus_from" \
  "$bin/prepare_corpus" --tokenizer "$tokenizer" --input "${texts[@]}" --output "$corpus"
if [[ "$prepare_only" == true ]]; then
  exit 0
fi

heading "Training: $config"
run="$text_folder/run_$(basename "$config" .yaml)"
run_from="$({ echo "$corpus_from" && cat "$config"; } | fingerprint)"
if [[ -d "$run" && "$(cat "$run.made_from" 2>/dev/null)" != "$run_from" ]]; then
  # The configuration or the vocabulary changed. What was trained before is kept.
  old=1
  while [[ -e "$run.old$old" ]]; do old=$((old + 1)); done
  mv "$run" "$run.old$old"
  rm -f "$run.made_from" "$run.done"
  echo "another configuration or vocabulary than before; the earlier run is now $run.old$old"
fi
# `train` ends with exit code 0 after a signal too; what it was asked by is then its last event.
interrupted() {
  tail -n 1 "$run/events.jsonl" 2>/dev/null | grep -q '"kind": "stop".*"text": "stopped by '
}
if [[ -d "$run" && -f "$run.done" ]] && ! interrupted; then
  echo "reusing $run"
else
  echo "$run_from" >"$run.made_from"
  command=("$bin/train" "$config" "run_dir=$run" "tokenizer.path=$tokenizer" "data.path=$corpus"
    model.vocab_size=auto
    --resume auto)
  show "${command[@]}"
  # An interrupted run goes on from its last checkpoint.
  "${command[@]}"
  if interrupted; then
    echo "The training was stopped before its end; the same command goes on from there."
    exit 130
  fi
  touch "$run.done"
fi
checkpoint="$(find "$run/checkpoints" -mindepth 1 -maxdepth 1 -type d -name 'step_*' ! -name '*.*' | sort | tail -n 1)"
[[ -n "$checkpoint" ]] || { echo "error: no checkpoint in $run/checkpoints" >&2 && exit 1; }

heading "What it learned, on text it has not seen"
"$bin/evaluate" --checkpoint "$checkpoint" --data "$corpus" --unigram
echo
"$bin/fill_mask" --checkpoint "$checkpoint" --data "$corpus" --samples 8

heading "Done"
cat <<END
Everything is in $text_folder. To try next:

  a sentence of your own:
    $bin/fill_mask --checkpoint $checkpoint "And God said, Let there be [MASK]."
  your own text:
    tools/quickstart.sh my_text.txt
  all that was logged, on one page:
    $bin/report $run
  the curves:
    tensorboard --logdir $run/tensorboard
  the same model in Python:
    transformers.AutoModelForMaskedLM.from_pretrained("$checkpoint")
  all settings:
    $bin/train --print-config
END
