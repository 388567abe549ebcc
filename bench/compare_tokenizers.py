"""Times tokenization and vocabulary training beside Hugging Face's tokenizers library (Rust), on the
same text and the same cores, in turns, and prints tables with ratios.

    python bench/compare_tokenizers.py --bin build/bin --vocab bert-base-uncased-vocab.txt \\
        --input wiki.txt.xz books.txt.gz --validation valid.txt.xz

Encoding is of text that lies in memory, line by line in batches of 1000, to ids with offsets and no
padding. On one thread (RAYON_NUM_THREADS=1) and on all cores, against two of theirs:

  encode_batch       ids, tokens, offsets and masks
  encode_batch_fast  the same without offsets

Training is of whole programs on plain files: train_tokenizer, which also writes its files and
measures its fit, and BertWordPieceTokenizer.train with the same size, minimum frequency and limit
of the alphabet. Of every round the sides take turns; figures are medians over rounds, ratios medians
of each round's ratio, and above 1 bert.cu is faster. Seconds of processor time are given beside
those of the clock: on a machine that others use too, they are the steadier. Needs `tokenizers`.
"""
import argparse
import gzip
import json
import lzma
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

BATCH = 1000
OPENERS = {".xz": lzma.open, ".gz": gzip.open}


def read_text(files, max_bytes=0):
    """Lines that are not blank, of at most about max_bytes of each file's share of the text."""
    lines = []
    for file in files:
        size, most = 0, max_bytes // len(files)
        with OPENERS.get(pathlib.Path(file).suffix, open)(file, "rt", encoding="utf-8",
                                                          newline="\n") as text:
            for line in text:
                line = line.rstrip("\r\n")
                if line.strip(" \t"):
                    lines.append(line)
                    size += len(line.encode())
                    if max_bytes and size >= most:
                        break
    return lines


def encode_worker(arguments):
    """Theirs, in a process whose environment says how many threads: a line in, a JSON line out."""
    import tokenizers
    bert = tokenizers.BertWordPieceTokenizer(arguments.vocab, lowercase=not arguments.cased)._tokenizer
    lines = read_text(arguments.input)
    batches = [lines[i:i + BATCH] for i in range(0, len(lines), BATCH)]
    for method in sys.stdin:
        encode = getattr(bert, method.strip())
        tokens, cpu, begin = 0, time.process_time(), time.perf_counter()
        for batch in batches:
            tokens += sum(map(len, encode(batch, add_special_tokens=False)))
        print(json.dumps({"seconds": time.perf_counter() - begin,
                          "cpu_seconds": time.process_time() - cpu, "tokens": tokens}), flush=True)


def train_worker(arguments):
    import tokenizers
    bert = tokenizers.BertWordPieceTokenizer(lowercase=not arguments.cased)
    bert.train(arguments.input, vocab_size=arguments.vocab_size, min_frequency=2,
               limit_alphabet=1000, show_progress=False)
    bert.save_model(arguments.output)


def environment(threads):
    return {**os.environ, "RAYON_NUM_THREADS": str(threads),
            "TOKENIZERS_PARALLELISM": "false" if threads == 1 else "true"}


# A program's peak memory counts from its fork: it is started by this small process, not by this
# script, which holds text.
MEASURE = """
import json, os, subprocess, sys, time
begin = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.PIPE, text=True)
output = process.stdout.read()
_, status, usage = os.wait4(process.pid, 0)
print(json.dumps({"seconds": time.perf_counter() - begin, "output": output, "status": status,
                  "cpu_seconds": usage.ru_utime + usage.ru_stime,
                  "peak_mib": usage.ru_maxrss / 1024}))
"""


def timed(command, **options):
    """Wall seconds, processor seconds and peak MiB of a program, and what it printed."""
    process = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, check=True, **options)
    answer = json.loads(process.stdout)
    if answer["status"] != 0:
        raise SystemExit(f"{command}: {process.stderr.decode()}")
    return answer


def median(rounds, key):
    return statistics.median(r[key] for r in rounds)


def ratio(theirs, ours, key):
    return statistics.median(a[key] / b[key] for a, b in zip(theirs, ours))


def table(title, header, rows):
    print(f"\n{title}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def compare_encoding(arguments, folder, report):
    lines = read_text(arguments.input, arguments.max_bytes)
    plain = folder / "encode.txt"
    plain.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    megabytes = sum(len(line.encode()) for line in lines) / 1e6
    print(f"{len(lines)} lines, {megabytes:.1f} MB; {arguments.rounds} rounds")
    for threads in sorted({1, arguments.threads}):
        worker = subprocess.Popen(
            [sys.executable, __file__, "--worker", "encode", "--vocab", arguments.vocab,
             "--input", str(plain)] + ["--cased"] * arguments.cased,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(threads))

        def theirs(method):
            worker.stdin.write(method + "\n")
            worker.stdin.flush()
            return json.loads(worker.stdout.readline())

        def ours():
            answer = json.loads(timed(
                [str(arguments.bin / "bench_tokenizers"), "--tokenizer", arguments.vocab, "--input",
                 str(plain), "--threads", str(threads), "--rounds", "3", "--json"] +
                ["--cased"] * arguments.cased)["output"])
            return {key: statistics.median(answer[key]) for key in ("seconds", "cpu_seconds")} | {
                "tokens": answer["tokens"]}

        theirs("encode_batch")  # warm
        rounds = {"bert.cu": [], "encode_batch": [], "encode_batch_fast": []}
        for _ in range(arguments.rounds):
            rounds["bert.cu"].append(ours())
            for method in ("encode_batch", "encode_batch_fast"):
                rounds[method].append(theirs(method))
        worker.stdin.close()
        worker.wait()
        counts = {r["tokens"] for side in rounds.values() for r in side}
        assert len(counts) == 1, f"the sides disagree on the number of tokens: {counts}"
        rows = []
        for side, figures in rounds.items():
            seconds, cpu = median(figures, "seconds"), median(figures, "cpu_seconds")
            rows.append([side, f"{megabytes / seconds:.1f}", f"{megabytes / cpu:.1f}",
                         f"{counts.copy().pop() / seconds / 1e6:.2f}",
                         "" if side == "bert.cu" else
                         f"{ratio(figures, rounds['bert.cu'], 'seconds'):.1f}",
                         "" if side == "bert.cu" else
                         f"{ratio(figures, rounds['bert.cu'], 'cpu_seconds'):.1f}"])
        table(f"Encoding, {threads} thread(s)",
              ["", "MB/s", "MB per processor second", "million tokens/s", "ratio",
               "ratio of processor time"], rows)
        report[f"encode_{threads}"] = rounds


def tokens_per_word(vocab, lines, cased):
    import tokenizers
    bert = tokenizers.BertWordPieceTokenizer(str(vocab), lowercase=not cased)._tokenizer
    tokens = sum(len(e) for e in bert.encode_batch(lines, add_special_tokens=False))
    return tokens / sum(len(line.split()) for line in lines)


def compare_training(arguments, folder, report):
    plain = []
    for i, file in enumerate(arguments.input):
        plain.append(folder / f"train{i}.txt")
        plain[-1].write_text("\n".join(read_text([file])) + "\n", encoding="utf-8", newline="\n")
    files = [str(file) for file in plain]
    megabytes = sum(file.stat().st_size for file in plain) / 1e6
    ours_command = [str(arguments.bin / "train_tokenizer"), "--vocab-size",
                    str(arguments.vocab_size), "--input", *files, "--json", "--overwrite"] + [
                        "--cased"] * arguments.cased
    theirs_command = [sys.executable, __file__, "--worker", "train", "--vocab-size",
                      str(arguments.vocab_size), "--input", *files] + ["--cased"] * arguments.cased
    theirs_out, ours_out = folder / "theirs", folder / "ours"
    theirs_out.mkdir()
    for threads in sorted({1, arguments.threads}):
        ours, theirs = [], []
        for _ in range(arguments.training_rounds):
            ours.append(timed(ours_command + ["--output", str(ours_out), "--threads",
                                              str(threads)]))
            theirs.append(timed(theirs_command + ["--output", str(theirs_out)],
                                env=environment(threads)))
        rows = [[side, f"{median(figures, 'seconds'):.1f}", f"{median(figures, 'cpu_seconds'):.1f}",
                 f"{median(figures, 'peak_mib'):.0f}",
                 f"{ratio(theirs, ours, 'seconds'):.1f}" if side == "tokenizers" else "",
                 f"{ratio(theirs, ours, 'cpu_seconds'):.1f}" if side == "tokenizers" else ""]
                for side, figures in (("bert.cu", ours), ("tokenizers", theirs))]
        table(f"Training {arguments.vocab_size} entries from {megabytes:.0f} MB, {threads} thread(s)",
              ["", "s", "processor s", "peak MiB", "ratio", "ratio of processor time"], rows)
        report[f"train_{threads}"] = {"ours": [{**r, "output": None} for r in ours],
                                      "theirs": [{**r, "output": None} for r in theirs]}
    likelihood_out = folder / "likelihood"
    timed(ours_command + ["--output", str(likelihood_out), "--wordpiece-method", "likelihood",
                          "--min-frequency", str(arguments.likelihood_min_frequency)])
    validation = read_text(arguments.validation)
    vocabularies = {"tokenizers": theirs_out, "bert.cu, frequency": ours_out,
                    "bert.cu, likelihood": likelihood_out}
    entries = {name: set((path / "vocab.txt").read_text(encoding="utf-8").split("\n")) - {""}
               for name, path in vocabularies.items()}
    rows = []
    for name, path in vocabularies.items():
        shared = len(entries[name] & entries["tokenizers"])
        fit = tokens_per_word(path / "vocab.txt", validation, arguments.cased)
        rows.append([name, str(len(entries[name])),
                     f"{100 * shared / len(entries['tokenizers']):.2f} %", f"{fit:.4f}"])
        report.setdefault("vocabularies", {})[name] = {"entries": len(entries[name]),
                                                       "shared": shared, "tokens_per_word": fit}
    table(f"Vocabularies (likelihood with --min-frequency {arguments.likelihood_min_frequency}), "
          "tokens per word of text they were not made from",
          ["", "entries", "of tokenizers' entries", "tokens per word"], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", type=pathlib.Path, help="the folder with the programs")
    parser.add_argument("--vocab", help="a vocab.txt to encode by")
    parser.add_argument("--input", nargs="+", required=True)
    parser.add_argument("--validation", nargs="+", help="text to measure vocabularies on")
    parser.add_argument("--cased", action="store_true")
    parser.add_argument("--max-bytes", type=int, default=20_000_000, help="of text to encode")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--training-rounds", type=int, default=3)
    parser.add_argument("--vocab-size", type=int, default=30000)
    parser.add_argument("--likelihood-min-frequency", type=int, default=200)
    parser.add_argument("--json", type=pathlib.Path, help="write every round here")
    parser.add_argument("--worker", choices=["encode", "train"], help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        return {"encode": encode_worker, "train": train_worker}[arguments.worker](arguments)
    report = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.vocab:
            compare_encoding(arguments, pathlib.Path(folder), report)
        if arguments.validation:
            compare_training(arguments, pathlib.Path(folder), report)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
