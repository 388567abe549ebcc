#!/usr/bin/env python3
"""Compares build/bin/tokenize with a reference, line by line: Hugging Face's tokenizers library, ids,
byte offsets and decoding; or, with --google, ids by a naive transcription of google-research/bert's rules.

    python3 tests/reference/compare_tokenizers.py build/bin/tokenize TOKENIZER [--cased] [--google]
        [--ids-only] [--random N] [--seed S] [FILE.txt[.xz|.gz] ...]

TOKENIZER is a vocab.txt or a folder with tokenizer.json, of SentencePiece too (with --ids-only: the
library counts the space before a word to it). Lines are those of the files, and N random
ones: mixtures of words, rare and unassigned characters, combining sequences, spaces, controls,
ideographs, jamo, right-to-left text, emoji sequences, and bytes that are not UTF-8 (overlong forms,
surrogates, cut sequences; the references are given what Python's decoder replaces them by).
Needs `pip install tokenizers`, but for --google.
"""
import argparse
import gzip
import json
import lzma
import pathlib
import random
import subprocess
import sys
import unicodedata

RANGES = [(0x20, 0x7E)] * 6 + [
    (0x00, 0x1F), (0x7F, 0xFF), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
    (0x700, 0x8FF), (0x900, 0xDFF), (0xE00, 0xFFF), (0x1100, 0x11FF), (0x1200, 0x1AAF),
    (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x1E00, 0x1FFF), (0x2000, 0x20FF), (0x2100, 0x214F),
    (0x2150, 0x2FFF), (0x3000, 0x30FF), (0x4E00, 0x4E80), (0xA640, 0xA7FF), (0xA800, 0xABFF),
    (0xAC00, 0xD7A3), (0xD7B0, 0xD7FB), (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFFFF),
    (0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x12000, 0x1CFFF), (0x1D100, 0x1D1FF),
    (0x1D200, 0x1E8FF), (0x1E900, 0x1E95F), (0x1F300, 0x1F6FF), (0x1F700, 0x1FFFF),
    (0x20000, 0x20010), (0x2A6D0, 0x32000), (0x2B800, 0x2B930), (0x2F800, 0x2FA1F),
    (0x32000, 0xDFFFF), (0xE0000, 0xE01FF), (0xE0200, 0xEFFFF), (0xF0000, 0x10FFFF)]
WORDS = ["the", "running", "[MASK]", "[UNK]", "[SEP]", "[PAD", "don't", "Straße", "İstanbul", "ΣΑΣ",
         "Σ", "ΟΔΟΣ.", "ΑΣ'Α", "naïve", "e\u0301", "a" * 99, "b" * 100, "c" * 101, "é" * 100,
         "é" * 101, "d" * 200, "d" * 201, "##ing", "한국어", "北京", "שָׁלוֹם", "السَّلَامُ", "\u202bab\u202c",
         "👩\u200d👩\u200d👧\u200d👦", "👍🏽", "🏳\ufe0f\u200d🌈", "🇩🇪", "1\ufe0f\u20e3", "ﬁne", "①",
         "q\u0307\u0323", "\u1e9b\u0323", "\u0344", "\u2126", "\u212b", "क्षि", "\u00ad", "\u200b"]
INVALID = [b"\x80", b"\xbf", b"\xc0\xaf", b"\xc3", b"\xe0\x80\x80", b"\xe2\x82", b"\xed\xa0\x80",
           b"\xed\xb0\x80", b"\xed\xa0\xbd\xed\xb8\x80", b"\xf0\x80\x80\x80", b"\xf0\x9f\x98",
           b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xfe", b"\xff"]


def random_line(rng, usable):
    parts = []
    ranges = rng.sample(RANGES, 3) + [(0x20, 0x7E)]
    invalid = rng.random() < 0.15
    for _ in range(rng.randint(1, 12)):
        if rng.random() < 0.25:
            parts.append(rng.choice(WORDS).encode())
        low, high = rng.choice(ranges)
        for _ in range(rng.randint(1, 6)):
            code = rng.randint(low, high)
            if code not in (0x0A, 0x0D) and not 0xD800 <= code < 0xE000 and usable(code):
                parts.append(chr(code).encode())
            if rng.random() < 0.1:  # combining marks after anything
                parts.append(chr(rng.randint(0x300, 0x36F)).encode())
        if invalid and rng.random() < 0.5:
            parts.append(rng.choice(INVALID))
            if rng.random() < 0.2:
                parts.append(bytes(c for c in rng.randbytes(4) if c not in b"\r\n"))
        if rng.random() < 0.5:
            parts.append(b" ")
    return b"".join(parts)


class HuggingFace:
    """Ids and byte offsets; offsets are None where the line is not UTF-8."""

    def __init__(self, path, cased):
        import tokenizers
        if pathlib.Path(path).is_dir():
            self.bert = tokenizers.Tokenizer.from_file(str(pathlib.Path(path) / "tokenizer.json"))
        else:
            self.bert = tokenizers.BertWordPieceTokenizer(str(path), lowercase=not cased)._tokenizer

    @staticmethod
    def usable(code):
        return True

    def parse_special(self, special):
        self.bert.encode_special_tokens = not special

    def compare_decoding(self, command, rng):
        """Of random ids, special tokens among them; how many texts differ."""
        size = self.bert.get_vocab_size()
        lists = [[rng.randrange(size) if rng.random() < 0.7 else rng.randrange(min(size, 1200))
                  for _ in range(rng.randint(1, 30))] for _ in range(10000)]
        texts = subprocess.run(command + ["--decode"], check=True, stdout=subprocess.PIPE,
                               input="\n".join(map(json.dumps, lists)).encode() + b"\n").stdout
        theirs = self.bert.decode_batch(lists, skip_special_tokens=False)
        different = [(a, b) for a, b in zip(texts.decode().split("\n"), theirs) if a != b]
        for ours, want in different[:5]:
            print("decoded differ:\n  ours  ", ours, "\n  theirs", want)
        print(f"{len(lists)} lists of ids decoded: {len(different)} texts differ")
        return len(different)

    def encode(self, lines):
        texts = [line.decode(errors="replace") for line in lines]
        for line, text, encoding in zip(lines, texts,
                                        self.bert.encode_batch(texts, add_special_tokens=False)):
            if line != text.encode():
                yield encoding.ids, None
                continue
            starts = [0]
            for char in text:
                starts.append(starts[-1] + len(char.encode()))
            yield encoding.ids, [(starts[a], starts[b]) for a, b in encoding.offsets]


class Google:
    """What google-research/bert's tokenization does, written from its description."""

    SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    IDEOGRAPHS = ((0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
                  (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F))

    def __init__(self, path, cased):
        lines = pathlib.Path(path).read_text(encoding="utf-8").split("\n")
        self.ids = {piece: i for i, piece in enumerate(lines) if piece}
        self.cased = cased
        self.special = True

    @staticmethod
    def usable(code):
        """Assigned in this Python's Unicode; newer characters are told apart by newer tables."""
        return unicodedata.category(chr(code)) != "Cn"

    def parse_special(self, special):
        self.special = special

    def clean(self, text):
        out = []
        for char in text:
            category = unicodedata.category(char)
            if char in "\t\n\r" or category == "Zs":
                out.append(" ")
            elif char in "\0\ufffd" or category in ("Cc", "Cf"):
                continue
            elif any(low <= ord(char) <= high for low, high in self.IDEOGRAPHS):
                out.append(f" {char} ")
            else:
                out.append(char)
        return "".join(out)

    @staticmethod
    def is_punctuation(char):
        code = ord(char)
        return (33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126 or
                unicodedata.category(char).startswith("P"))

    def words(self, text):
        for word in self.clean(text).split():
            if not self.cased:
                word = "".join(c for c in unicodedata.normalize("NFD", word.lower())
                               if unicodedata.category(c) != "Mn")
            part = ""
            for char in word:
                if self.is_punctuation(char):
                    yield from part.split()
                    yield char
                    part = ""
                else:
                    part += char
            yield from part.split()

    def pieces(self, word):
        if len(word) > 200:
            return [self.ids["[UNK]"]]
        found, begin = [], 0
        while begin < len(word):
            for end in range(len(word), begin, -1):
                piece = self.ids.get(("##" if begin else "") + word[begin:end])
                if piece is not None:
                    break
            else:
                return [self.ids["[UNK]"]]
            found.append(piece)
            begin = end
        return found

    def encode_plain(self, text):
        return [piece for word in self.words(text) for piece in self.pieces(word)]

    def encode(self, lines):
        for line in lines:
            text, ids = line.decode(errors="replace"), []
            while self.special:
                places = [(text.find(name), name) for name in self.SPECIAL if name in text]
                if not places:
                    break
                place, name = min(places)
                ids += self.encode_plain(text[:place]) + [self.ids[name]]
                text = text[place + len(name):]
            yield ids + self.encode_plain(text), None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("program")
    parser.add_argument("tokenizer")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--cased", action="store_true")
    parser.add_argument("--google", action="store_true")
    parser.add_argument("--ids-only", action="store_true")
    parser.add_argument("--random", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_intermixed_args()
    reference = (Google if arguments.google else HuggingFace)(arguments.tokenizer, arguments.cased)
    rng = random.Random(arguments.seed)
    lines = [random_line(rng, reference.usable) for _ in range(arguments.random)]
    for file in arguments.files:
        opener = {".xz": lzma.open, ".gz": gzip.open}.get(pathlib.Path(file).suffix, open)
        with opener(file, "rb") as text:
            lines += [line.rstrip(b"\r\n") for line in text]
    failures = id_failures = tokens = 0
    for special in (True, False):
        reference.parse_special(special)
        command = [arguments.program, "--tokenizer", arguments.tokenizer, "--ids", "--offsets"]
        command += ["--cased"] * arguments.cased + ["--plain-text"] * (not special)
        command += ["--mode", "google"] * arguments.google
        answer = subprocess.run(command, input=b"\n".join(lines) + b"\n", check=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        answer = answer.decode().splitlines()
        assert len(answer) == len(lines), (len(answer), len(lines))
        for begin in range(0, len(lines), 1000):
            batch = lines[begin:begin + 1000]
            for line, ours, (ids, offsets) in zip(batch, answer[begin:], reference.encode(batch)):
                ours = [tuple(token) for token in json.loads(ours)]
                our_ids = [token[0] for token in ours]
                offsets = None if arguments.ids_only else offsets
                tokens += len(ids)
                if our_ids == ids and (offsets is None or [t[1:] for t in ours] == offsets):
                    continue
                failures += 1
                id_failures += our_ids != ids
                if failures <= 10 or our_ids != ids and id_failures <= 10:
                    print("ids differ:" if our_ids != ids else "offsets differ:", line[:500],
                          "\n  ours  ", ours, "\n  theirs", list(zip(ids, offsets or ids)))
    print(f"{len(lines)} lines twice, {tokens} tokens: {id_failures} lines with different ids, "
          f"{failures - id_failures} with the same ids but different offsets")
    if not arguments.google and not arguments.ids_only:
        id_failures += reference.compare_decoding(
            [arguments.program, "--tokenizer", arguments.tokenizer] + ["--cased"] * arguments.cased,
            rng)
    return 1 if id_failures else 0  # HF's offsets go astray where it reorders combining marks


if __name__ == "__main__":
    sys.exit(main())
