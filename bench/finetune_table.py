"""Fine-tunes a small pre-trained model and the same model from random weights on six tasks, and
prints what pre-training was worth.

    python3 bench/finetune_table.py --model runs/small/checkpoints/best --data DATA --runs runs/table

DATA holds glue/{SST-2,CoLA,RTE}, agnews, wnut17 and squad, as docs/finetuning.md says. Each task is
configs/finetune/TASK.yaml with the overrides below, which are those of a model of a few million
parameters; what is given after -- is added to all. Each of the two models is trained at each of
--rates and shown at the one that served it best. A run that is there already is not done again. Needs Python's standard library only.
"""

import argparse
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = ["schedule.warmup_fraction=0.1", "train.batch_size=32"]
# Files, overrides, and the metric.
TASKS = {
    "sst2": ("glue/SST-2/train.tsv", "glue/SST-2/dev.tsv", ["train.epochs=1"], "accuracy"),
    "cola": ("glue/CoLA/train.tsv", "glue/CoLA/dev.tsv", ["train.epochs=4"], "matthews"),
    "rte": ("glue/RTE/train.tsv", "glue/RTE/dev.tsv", ["train.epochs=3"], "accuracy"),
    "agnews": ("agnews/train.tsv", "agnews/test.tsv",
               ["train.epochs=2", "data.text=1", "data.text_pair=auto", "data.label=2"],
               "accuracy"),
    "wnut17": ("wnut17/train.conll", "wnut17/dev.conll", ["train.epochs=8"], "f1"),
    "squad": ("squad/train-v1.1-subset.json", "squad/dev-v1.1.json",
              ["train.epochs=2", "data.max_length=128", "data.max_query_length=32", "data.doc_stride=48"], "f1"),
}


def finetune(arguments, task, random_weights, rate):
    """The metric's mean and deviation over the seeds, on the validation split."""
    training, validation, overrides, metric = TASKS[task]
    weights = "random" if random_weights else "pretrained"
    run_dir = arguments.runs / f"{task}_{weights}_{rate}"
    results = run_dir / "results.json"
    if not results.exists():
        subprocess.run(
            [arguments.finetune, ROOT / "configs" / "finetune" / f"{task}.yaml",
             f"run_dir={run_dir}", f"model.init_from={arguments.model}",
             f"model.random_weights={str(random_weights).lower()}",
             f"optimizer.learning_rate={rate}",
             f"data.train={arguments.data / training}",
             f"data.validation={arguments.data / validation}", f"seeds={arguments.seeds}",
             "--resume", "auto", *SMALL, *overrides, *arguments.more],
            check=True, stdout=sys.stderr)
    return json.loads(results.read_text())["validation"][metric]


def best(arguments, task, random_weights):
    scores = {rate: finetune(arguments, task, random_weights, rate) for rate in arguments.rates}
    rate = max(scores, key=lambda rate: scores[rate]["mean"])
    return f"{shown(scores[rate])} ({rate})"


def shown(scores):
    deviation = scores.get("deviation")
    return f"{scores['mean']:.4g}" + (f" ± {deviation:.2g}" if deviation is not None else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=pathlib.Path, required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    parser.add_argument("--runs", type=pathlib.Path, required=True)
    parser.add_argument("--finetune", default=ROOT / "build" / "bin" / "finetune")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--rates", nargs="+", default=["1e-4", "3e-4", "1e-3"],
                        help="learning rates to choose from, for each model and task")
    parser.add_argument("--seeds", default="[0]")
    parser.add_argument("more", nargs="*", help="overrides for all, after --")
    arguments = parser.parse_args()
    print("| task | metric | pre-trained | from random weights |")
    print("|---|---|---|---|")
    for task in arguments.tasks:
        cells = [best(arguments, task, random_weights) for random_weights in (False, True)]
        print(f"| {task} | {TASKS[task][3]} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
