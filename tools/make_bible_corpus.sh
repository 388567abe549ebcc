#!/usr/bin/env bash
# Writes the King James text of the package bible-kjv: a verse a line, a document a chapter.
# Usage: tools/make_bible_corpus.sh FILE
set -euo pipefail
if (($# != 1)) || [[ "$1" == -* ]]; then
  echo "usage: $0 FILE" >&2
  exit 2
fi
output="$1"
if ! command -v bible >/dev/null; then
  echo "error: the program 'bible' is not here; install the package bible-kjv" >&2
  exit 2
fi

partial="$(mktemp "$output.XXXXXX")"
trap 'rm -f "$partial"' EXIT
# A line is "Ge1:1 In the beginning ...": the reference up to its colon names book and chapter.
bible -f Gen1:1-Rev22:21 </dev/null | awk '
  {
    space = index($0, " ")
    chapter = substr($0, 1, index($0, ":") - 1)
    if (NR > 1 && chapter != last) { print ""; chapters++ }
    last = chapter
    print substr($0, space + 1)
  }
  END {
    # The text is known, so an incomplete one is noticed.
    if (NR != 31102 || chapters + 1 != 1189) {
      printf "error: bible-kjv printed %d verses in %d chapters, not 31102 in 1189\n", NR,
             chapters + 1 > "/dev/stderr"
      exit 1
    }
  }' >"$partial"
chmod 644 "$partial"
mv "$partial" "$output"
trap - EXIT
