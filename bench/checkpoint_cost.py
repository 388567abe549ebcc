#!/usr/bin/env python3
"""How much checkpoints slow training down.

Trains the same steps with checkpoints on the way and with none but the last, by turns, and compares
how long the processes ran. Both start alike and write one checkpoint at the end.

    bench/checkpoint_cost.py build/bin/train configs/bert_small.yaml --steps 80 --every 20 \\
        data.path=corpus tokenizer.path=tokenizer train.batch_size=64

Prints the seconds of each run, a step's time, the slow-down and what one checkpoint adds, by the
means.
"""
import argparse
import pathlib
import statistics
import subprocess
import tempfile
import time


def seconds_of(command):
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", help="the program")
    parser.add_argument("config", help="a configuration")
    parser.add_argument("overrides", nargs="*", help="key.path=value")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--every", type=int, default=20, help="steps between checkpoints")
    parser.add_argument("--rounds", type=int, default=4, help="an even number")
    options = parser.parse_intermixed_args()

    seconds = {0: [], options.every: []}
    with tempfile.TemporaryDirectory() as folder:
        # Warm: the corpus is in memory, the programs are loaded.
        for number in range(-1, options.rounds):
            # Back and forth, so that a machine that gets slower or faster does not show.
            for every in (0, options.every) if number % 2 == 0 else (options.every, 0):
                run_dir = pathlib.Path(folder) / f"{number}_{every}"
                took = seconds_of([
                    options.train, options.config, *options.overrides, f"run_dir={run_dir}",
                    f"train.max_steps={2 if number < 0 else options.steps}",
                    "schedule.warmup_steps=0", "evaluation.every_steps=0",
                    "evaluation.max_batches=1", f"checkpoint.every_steps={every}"
                ])
                if number < 0:
                    continue
                seconds[every].append(took)
                saved = "at the end only" if every == 0 else f"every {every} steps"
                print(f"checkpoints {saved}: {took:.2f} s", flush=True)
    without, with_them = (statistics.mean(seconds[every]) for every in (0, options.every))
    print(f"a step takes {without / options.steps:.2f} s")
    print(f"slow-down: {100 * (with_them / without - 1):.1f} %")
    more = (options.steps - 1) // options.every
    print(f"a checkpoint takes {(with_them - without) / more:.2f} s of the training")


if __name__ == "__main__":
    main()
