"""Times training steps of Hugging Face's BertForMaskedLM in PyTorch beside bert.cu's, on the same
machine, in turns, and prints the ratios.

    python bench/compare_pytorch.py --bench build/bin/bench_step --device cpu --threads 2
    python bench/compare_pytorch.py --bench bin/bench_step --device cuda --precision bf16 --compile \\
        --models bert_base bert_large --lengths 128 512 --tokens 32768 --json report.json

A step is forward, backward, clipping and AdamW with dropout 0.1, on made-up tokens of which 15 % own
a loss. Against two of them:

  as_shipped   BertForMaskedLM as it is: its head computes logits at every position
  masked_head  the same weights with the head on the masked positions only, as bert.cu does it

Rounds alternate bert.cu, as_shipped, masked_head; a figure is the median over rounds of each
round's median step. Ratios above 1: bert.cu is faster. Needs torch and transformers; both sides use
the same number of threads on a CPU (see tests/reference/README.md for an environment).
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers

VOCABULARY = 30522
MASK_FRACTION = 0.15
SHAPES = {  # layers, hidden size, heads: the presets of model/bert_config.h
    "bert_tiny": (2, 128, 2),
    "bert_mini": (4, 256, 4),
    "bert_small": (4, 512, 8),
    "bert_base": (12, 768, 12),
    "bert_large": (24, 1024, 16),
}


class PyTorchStep:
    """One training step, ready to be run again and again."""

    def __init__(self, name, length, arguments, masked_head):
        layers, hidden, heads = SHAPES[name]
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=4 * hidden, hidden_act="gelu_new",
            max_position_embeddings=max(512, length), attn_implementation="sdpa")
        device = torch.device(arguments.device)
        self.model = transformers.BertForMaskedLM(config).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, eps=1e-6,
                                           weight_decay=0.01, fused=True)
        self.autocast = torch.autocast(arguments.device, torch.bfloat16,
                                       enabled=arguments.precision == "bf16")
        if arguments.device == "cuda":
            torch.set_float32_matmul_precision(
                "high" if arguments.precision == "tf32" else "highest")
        sequences = max(1, arguments.tokens // length)
        self.tokens = sequences * length
        self.ids = torch.randint(0, VOCABULARY, (sequences, length), device=device)
        masked = int(MASK_FRACTION * self.tokens)
        places = (torch.arange(masked, device=device) * self.tokens) // masked
        self.labels = torch.full((self.tokens,), -100, device=device)
        self.labels[places] = torch.randint(0, VOCABULARY, (masked,), device=device)
        self.labels = self.labels.view(sequences, length)
        self.places = places
        forward = self.masked_head if masked_head else self.as_shipped
        self.forward = torch.compile(forward) if arguments.compile else forward

    def as_shipped(self):
        return self.model(input_ids=self.ids, labels=self.labels).loss

    def masked_head(self):
        hidden = self.model.bert(input_ids=self.ids).last_hidden_state.flatten(0, 1)
        logits = self.model.cls(hidden[self.places])
        return torch.nn.functional.cross_entropy(logits.float(), self.labels.flatten()[self.places])

    def run(self):
        with self.autocast:
            loss = self.forward()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def seconds_per_step(step, steps, device):
    """Median over `steps`."""
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        step.run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def our_seconds_per_step(name, length, arguments):
    """One process of bench_step; its own median."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "config.yaml"
        config.write_text(f"model: {{preset: {name}, max_position_embeddings: {max(512, length)}}}\n"
                          f"train: {{sequence_length: {length}}}\n")
        command = [arguments.bench, str(config), "--json", "--vocab-size", str(VOCABULARY),
                   "--tokens", str(arguments.tokens), "--length", str(length),
                   "--steps", str(arguments.steps)]
        if arguments.device == "cuda":
            command += ["--device", "cuda", "--precision", arguments.precision]
        else:
            command += ["--threads", str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])["step_ms"] / 1e3


def compare(name, length, arguments):
    variants = {variant: PyTorchStep(name, length, arguments, variant == "masked_head")
                for variant in ("as_shipped", "masked_head")}
    tokens = next(iter(variants.values())).tokens
    for step in variants.values():  # compilation, allocation
        seconds_per_step(step, 3 if arguments.compile else 1, arguments.device)
    rounds = {"bert.cu": [], **{variant: [] for variant in variants}}
    for _ in range(arguments.rounds):
        rounds["bert.cu"].append(our_seconds_per_step(name, length, arguments))
        for variant, step in variants.items():
            rounds[variant].append(seconds_per_step(step, arguments.steps, arguments.device))
    times = {variant: statistics.median(values) for variant, values in rounds.items()}
    return {
        "model": name, "sequence_length": length, "tokens": tokens,
        "tokens_per_second": {variant: tokens / value for variant, value in times.items()},
        "ratio": {variant: times[variant] / times["bert.cu"] for variant in variants},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bin/bench_step", help="the program bench_step")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward pass")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["bert_tiny", "bert_base"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write the rows to this file too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    where = (torch.cuda.get_device_name() if arguments.device == "cuda"
             else f"CPU, {arguments.threads} threads")
    print(f"{where}; PyTorch {torch.__version__}, transformers {transformers.__version__}, "
          f"{arguments.precision}{', torch.compile' if arguments.compile else ''}, "
          f"{arguments.tokens} tokens a step")
    print("| model | T | bert.cu tokens/s | as shipped | masked head | bert.cu : as shipped "
          "| bert.cu : masked head |\n|---|---|---|---|---|---|---|")
    rows = []
    for name in arguments.models:
        for length in arguments.lengths:
            row = compare(name, length, arguments)
            rows.append(row)
            speed, ratio = row["tokens_per_second"], row["ratio"]
            print(f"| {name} | {length} | {speed['bert.cu']:.0f} | {speed['as_shipped']:.0f} "
                  f"| {speed['masked_head']:.0f} | {ratio['as_shipped']:.2f} "
                  f"| {ratio['masked_head']:.2f} |", flush=True)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
