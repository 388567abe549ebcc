"""Times prepare_corpus on the same text, plain and compressed, with one thread and more, in turns.

    python bench/bench_preparation.py --bin build/bin --tokenizer vocab.txt --input wiki.txt [...]

Prints medians of MB of text per second by the clock and per second of processor time, million words
per second, and the largest memory.
"""
import argparse
import gzip
import json
import lzma
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import tempfile


def prepare(arguments, files, output, threads):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run(
        [str(pathlib.Path(arguments.bin) / "prepare_corpus"), "--tokenizer", arguments.tokenizer,
         "--output", str(output), "--threads", str(threads), "--json", "--input", *map(str, files)],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(answer.stdout)
    report["processor_seconds"] = (after.ru_utime + after.ru_stime
                                   - before.ru_utime - before.ru_stime)
    shutil.rmtree(output)
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--input", nargs="+", required=True, help="plain text files")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, os.cpu_count()])
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        kinds = {"plain": [pathlib.Path(name) for name in arguments.input]}
        for suffix, module in ((".gz", gzip), (".xz", lzma)):
            kinds[suffix] = []
            for name in arguments.input:
                file = folder / (pathlib.Path(name).name + suffix)
                with open(name, "rb") as text, module.open(file, "wb") as compressed:
                    shutil.copyfileobj(text, compressed)
                kinds[suffix].append(file)
        runs = {}
        for _ in range(arguments.rounds):
            for kind, files in kinds.items():
                for threads in arguments.threads:
                    runs.setdefault((kind, threads), []).append(
                        prepare(arguments, files, folder / "corpus", threads))
    print("| input | threads | MB/s | MB per processor second | million words/s | peak MB |")
    print("|---|---|---|---|---|---|")
    for (kind, threads), reports in runs.items():
        def median(figure):
            return statistics.median(map(figure, reports))
        print(f"| {kind} | {threads} "
              f"| {median(lambda r: r['text_bytes'] / r['seconds']) / 1e6:.1f} "
              f"| {median(lambda r: r['text_bytes'] / r['processor_seconds']) / 1e6:.1f} "
              f"| {median(lambda r: r['words'] / r['seconds']) / 1e6:.2f} "
              f"| {median(lambda r: r['peak_memory_bytes']) / 1e6:.0f} |")


if __name__ == "__main__":
    main()
