#!/usr/bin/env bash
# tools/quickstart.sh on a small text, with programs that are built already: a training that is
# stopped ends the script, and the same command goes on.
#
#   quickstart_test.sh PROGRAMS SOURCE
set -euo pipefail

programs=$(realpath "$1")
source=$(realpath "$2")
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p tools build stand_ins
cp "$source"/tools/{quickstart,packages}.sh tools
ln -s "$programs" build/bin
# Nothing is installed or built.
for name in cmake apt-get; do printf '#!/bin/sh\nexit 0\n' > stand_ins/$name; done
printf '#!/bin/sh\necho install ok installed\n' > stand_ins/dpkg-query
chmod +x stand_ins/*
export PATH="$folder/stand_ins:$PATH"

cat > small.yaml <<'END'
model: {num_hidden_layers: 1, hidden_size: 16, num_attention_heads: 2, intermediate_size: 32}
train: {batch_size: 8, max_steps: 400, sequence_length: 32}
schedule: {warmup_steps: 10}
evaluation: {every_steps: 400, samples: 1}
checkpoint: {every_steps: 400}
logging: {every_steps: 1}
runtime: {device: cpu, threads: 1}
END
awk 'BEGIN {
  split("the cat dog sat on a mat and ran to me in old rain with his red hat", word, " ")
  srand(1)
  for (line = 1; line <= 1200; ++line) {
    for (i = 0; i < 8; ++i) printf "%s ", word[1 + int(rand() * 17)]
    print line % 4 == 0 ? ".\n" : "."
  }
}' > text.txt
grep . text.txt > one_document.txt

fail() {
  cat output
  echo "FAILED: $1"
  exit 1
}
quickstart() { tools/quickstart.sh --config small.yaml --vocab-size 60 --folder made "$@" > output 2>&1; }

tools/quickstart.sh --config small.yaml --vocab-size 60 --folder made text.txt > output 2>&1 &
script=$!
steps() { cat made/*/run_small/metrics.jsonl 2> /dev/null | wc -l; }
until (($(steps) >= 20)); do
  kill -0 $script 2> /dev/null || fail "it ended before it could be stopped"
  sleep 0.01
done
# What the script waits for: train.
kill -TERM "$(grep -l "^PPid:[[:space:]]*$script$" /proc/[0-9]*/status 2> /dev/null | cut -d / -f 3)"
status=0
wait $script || status=$?
((status == 130)) || fail "exit code $status of a run that was stopped"
grep -q "the same command goes on" output || fail "it does not say how to go on"
! grep -q "== Done" output || fail "a run that was stopped is said to be done"
(($(steps) < 400)) || fail "the run was over already"
before=$(steps)

quickstart text.txt || fail "exit code $? of a run that goes on"
grep -q "resumed at step $before" output || fail "it did not go on at step $before"
grep -q "== Done" output || fail "it did not come to its end"

quickstart text.txt || fail "exit code $? of a run that is over"
grep -q "reusing made/.*/run_small" output || fail "it trained again"

! quickstart one_document.txt || fail "a text of one document has nothing to validate on"
grep -q "separate documents by blank lines" output || fail "it does not say what is wrong"
! grep -q "same command" output || fail "the same command would fail again"
echo passed
