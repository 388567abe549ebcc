#!/usr/bin/env python3
"""Writes data/text/unicode_tables.cpp: what Hugging Face's `tokenizers` makes of every character.

Each character is given to the library's BertNormalizer and BertPreTokenizer and its answers are
noted down, so the tables hold behaviour, not the data of any one version of Unicode.

    python3 tests/reference/make_unicode_tables.py > data/text/unicode_tables.cpp

Needs `pip install tokenizers`. Made with tokenizers 0.23.3.
"""
import unicodedata

import tokenizers
from tokenizers import normalizers, pre_tokenizers


def bert(**what):
    options = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False,
                   lowercase=False)
    return normalizers.BertNormalizer(**{**options, **what}).normalize_str


CODES = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
clean, strip = bert(clean_text=True), bert(strip_accents=True)
set_apart, lower = bert(handle_chinese_chars=True), bert(lowercase=True)
nfd = normalizers.NFD().normalize_str
words = pre_tokenizers.BertPreTokenizer().pre_tokenize_str


def ranges(codes):
    found = []
    for code in sorted(codes):
        if found and found[-1][1] == code - 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return found


def emit(declaration, items):
    print(f"constexpr {declaration}[] = {{")
    line = "   "
    for item in items:
        if len(line) + len(item) + 2 > 100:
            print(line)
            line = "   "
        line += " " + item + ","
    print(line + "\n};\n")


def emit_ranges(name, codes):
    emit(f"CodeRange k{name}", [f"{{{a:#x}, {b:#x}}}" for a, b in ranges(codes)])


def emit_mappings(name, mappings):
    items = []
    for code, text in mappings:
        assert 1 <= len(text) <= 3, (hex(code), text)
        items.append(f"{{{code:#x}, {{{', '.join(hex(ord(c)) for c in text)}}}}}")
    emit(f"CodeMapping k{name}", items)


def is_starter(char):
    """Combining class 0: it does not move over a tilde overlay (1) nor an iota below (240)."""
    return nfd(char + "\u0334")[-1] == "\u0334" and nfd("\u0345" + char)[0] == "\u0345"


def shifts(pairs):
    """Runs of single-character lower-casing: equal distances, steps of 1 or 2."""
    runs = []
    for code, target in pairs:
        if runs:
            run = runs[-1]
            step = code - run["last"]
            if target - code == run["delta"] and step in (1, 2) and run["step"] in (0, step):
                run["last"], run["step"] = code, step
                continue
        runs.append(dict(first=code, last=code, step=0, delta=target - code))
    return runs


accents = [c for c in CODES if strip(chr(c)) == ""]
accent_set = set(accents)
pre_split = {c: len(words("a" + chr(c) + "b")) for c in CODES}
lowered = [(c, lower(chr(c))) for c in CODES if lower(chr(c)) != chr(c)]
hangul = range(0xAC00, 0xD7A4)
kept_classes = []
for c in CODES:
    if c in accent_set or c in hangul or nfd(chr(c)) != chr(c) or is_starter(chr(c)):
        continue
    kept_classes.append((c, unicodedata.combining(chr(c))))
    assert kept_classes[-1][1] > 0, hex(c)

print("// What Hugging Face's tokenizers library makes of each character; see unicode.h.")
print(f"// Written by tests/reference/make_unicode_tables.py from tokenizers {tokenizers.__version__};"
      " not edited by hand.")
print('#include "data/text/unicode.h"\n\n// clang-format off\nnamespace bert::huggingface_unicode {\n'
      "namespace {\n")
emit_ranges("Dropped", [c for c in CODES if clean(chr(c)) == ""])
emit_ranges("Spaces", [c for c in CODES if clean(chr(c)) == " "])
emit_ranges("WordBreaks", [c for c in CODES if pre_split[c] == 2])
emit_ranges("Punctuation", [c for c in CODES if pre_split[c] == 3])
emit_ranges("Ideographs", [c for c in CODES if set_apart(chr(c)) == f" {chr(c)} "])
emit_ranges("Accents", accents)
emit_ranges("StarterAccents", [c for c in accents if nfd(chr(c)) == chr(c) and is_starter(chr(c))])
emit("CodeClass kKeptClasses",
     [f"{{{a:#x}, {b:#x}, {k}}}" for k in sorted({k for _, k in kept_classes})
      for a, b in ranges([c for c, v in kept_classes if v == k])])
emit_mappings("Decompositions", [(c, strip(chr(c))) for c in CODES
                                 if c not in hangul and strip(chr(c)) not in ("", chr(c))])
emit("CodeShift kLowerShifts",
     [f"{{{r['first']:#x}, {r['last']:#x}, {max(r['step'], 1)}, {r['delta']}}}"
      for r in shifts([(c, ord(t)) for c, t in lowered if len(t) == 1])])
emit_mappings("LowerMappings", [(c, t) for c, t in lowered if len(t) > 1])
print("}  // namespace\n")
for name, kind, table in [
        ("dropped", "CodeRange", "Dropped"), ("spaces", "CodeRange", "Spaces"),
        ("word_breaks", "CodeRange", "WordBreaks"), ("punctuation", "CodeRange", "Punctuation"),
        ("ideographs", "CodeRange", "Ideographs"), ("accents", "CodeRange", "Accents"),
        ("starter_accents", "CodeRange", "StarterAccents"),
        ("kept_classes", "CodeClass", "KeptClasses"),
        ("decompositions", "CodeMapping", "Decompositions"),
        ("lower_shifts", "CodeShift", "LowerShifts"),
        ("lower_mappings", "CodeMapping", "LowerMappings")]:
    print(f"constinit const std::span<const {kind}> {name} = k{table};")
print("\n}  // namespace bert::huggingface_unicode")
