#!/usr/bin/env python3
"""Compares build/bin/tokenize with Hugging Face's tokenizers: ids and byte offsets, line by line.

    python3 tests/reference/compare_tokenizers.py build/bin/tokenize TOKENIZER [--cased]
        [--random N] [--seed S] [FILE.txt[.xz|.gz] ...]

TOKENIZER is a vocab.txt or a folder with tokenizer.json. Lines are those of the files, and N random
ones: mixtures of words, rare characters, combining marks, spaces, controls, ideographs, jamo.
Needs `pip install tokenizers`.
"""
import argparse
import gzip
import json
import lzma
import pathlib
import random
import subprocess
import sys

import tokenizers

RANGES = [(0x20, 0x7E)] * 6 + [
    (0x00, 0x1F), (0x7F, 0xFF), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
    (0x900, 0xDFF), (0xE00, 0xFFF), (0x1100, 0x11FF), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF),
    (0x1E00, 0x1FFF), (0x2000, 0x20FF), (0x2100, 0x214F), (0x3000, 0x30FF), (0x4E00, 0x4E80),
    (0xA640, 0xA7FF), (0xAC00, 0xD7A3), (0xD7B0, 0xD7FB), (0xE000, 0xF8FF), (0xF900, 0xFAFF),
    (0xFB00, 0xFFFF),
    (0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x1D100, 0x1D1FF), (0x1E900, 0x1E95F),
    (0x1F300, 0x1F6FF), (0x20000, 0x20010), (0x2B800, 0x2B930), (0x2F800, 0x2FA1F),
    (0x2A6D0, 0x32000), (0xE0000, 0xE01FF), (0xF0000, 0x10FFFF)]
WORDS = ["the", "running", "[MASK]", "[UNK]", "[SEP]", "[PAD", "don't", "Straße", "İstanbul", "ΣΑΣ",
         "naïve", "e\u0301", "a" * 99, "b" * 100, "c" * 101, "é" * 100, "é" * 101, "##ing", "한국어", "北京"]


def random_line(rng):
    parts = []
    ranges = rng.sample(RANGES, 3) + [(0x20, 0x7E)]
    for _ in range(rng.randint(1, 12)):
        if rng.random() < 0.25:
            parts.append(rng.choice(WORDS))
        low, high = rng.choice(ranges)
        for _ in range(rng.randint(1, 6)):
            code = rng.randint(low, high)
            if code not in (0x0A, 0x0D) and not 0xD800 <= code < 0xE000:
                parts.append(chr(code))
        if rng.random() < 0.5:
            parts.append(" ")
    return "".join(parts)


def reference(path, cased):
    folder = pathlib.Path(path)
    if folder.is_dir():
        return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    bert = tokenizers.BertWordPieceTokenizer(str(path), lowercase=not cased)
    return bert._tokenizer


def byte_offsets(line, offsets):
    starts = [0]
    for char in line:
        starts.append(starts[-1] + len(char.encode()))
    return [(starts[a], starts[b]) for a, b in offsets]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("tokenizer")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--cased", action="store_true")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_intermixed_args()
    rng = random.Random(arguments.seed)
    lines = [random_line(rng) for _ in range(arguments.random)]
    for file in arguments.files:
        opener = {".xz": lzma.open, ".gz": gzip.open}.get(pathlib.Path(file).suffix, open)
        with opener(file, "rt", encoding="utf-8", newline="\n") as text:
            lines += [line.rstrip("\r\n") for line in text]
    lines = [line for line in lines if "\n" not in line]
    bert = reference(arguments.tokenizer, arguments.cased)
    failures = id_failures = tokens = 0
    for special in (True, False):
        bert.encode_special_tokens = not special
        command = [arguments.program, "--tokenizer", arguments.tokenizer, "--ids", "--offsets"]
        command += ["--cased"] * arguments.cased + ["--plain-text"] * (not special)
        answer = subprocess.run(command, input="\n".join(lines).encode() + b"\n", check=True,
                                stdout=subprocess.PIPE).stdout.decode().splitlines()
        assert len(answer) == len(lines), (len(answer), len(lines))
        for begin in range(0, len(lines), 1000):
            batch = lines[begin:begin + 1000]
            for line, ours, theirs in zip(batch, answer[begin:], bert.encode_batch(
                    batch, add_special_tokens=False)):
                ours = [tuple(token) for token in json.loads(ours)]
                want = [(i, *o) for i, o in zip(theirs.ids, byte_offsets(line, theirs.offsets))]
                tokens += len(want)
                if ours == want:
                    continue
                failures += 1
                ids_differ = [t[0] for t in ours] != theirs.ids
                id_failures += ids_differ
                if failures <= 10 or ids_differ and id_failures <= 10:
                    print("differs:" if ids_differ else "offsets differ:", ascii(line), "\n  ours  ",
                          [t for t in ours if t not in want], "\n  theirs",
                          [t for t in want if t not in ours])
    print(f"{len(lines)} lines twice, {tokens} tokens: {id_failures} lines with different ids, "
          f"{failures - id_failures} with the same ids but different offsets")
    return 1 if id_failures else 0  # HF's offsets go astray where it reorders combining marks


if __name__ == "__main__":
    sys.exit(main())
