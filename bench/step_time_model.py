#!/usr/bin/env python3
"""Estimates how long a pre-training step takes on 1 to 8 H200s and on several nodes: the tables of
docs/scaling.md. Per-op times are bytes and FLOPs over stated speeds, which were measured on one H200
(docs/performance.md) or, where several GPUs are needed, are published or guessed.

    python bench/step_time_model.py            # the tables, in Markdown
    python bench/step_time_model.py --ops      # one GPU's step, op by op

Every assumption is a field of Machine; change one as soon as a GPU has told it.
"""

import argparse
import dataclasses
import math


@dataclasses.dataclass
class Machine:
    multiprocessors: int = 132
    # Products in bf16 with their epilogues, FLOP/s with all multiprocessors busy, by tile of the
    # result: such that one GPU's steps come out as measured, within 3 %. An 8192^3 product reaches
    # 690e12 where it is repeated.
    tiles = {(256, 128): 650e12, (128, 256): 650e12, (128, 128): 560e12, (128, 64): 430e12}
    weight_gradient: float = 570e12  # few tiles, many rows: split over the rows
    # Attention with dropout, of the FLOPs that are necessary, by the sequences' length: measured.
    attention_forward = {128: 144e12, 512: 247e12}
    attention_backward = {128: 200e12, 512: 213e12}
    memory: float = 0.78 * 4.25e12  # bytes/s of kernels that only move: measured, their mean
    launch: float = 1.2e-6  # between two kernels of a recorded step
    peak: float = 989e12  # for MFU
    # Each GPU, each way. Published: NVLink 4 450 GB/s, InfiniBand NDR 400 Gb/s = 50 GB/s; and the
    # part of it that large all-reduces are assumed to see.
    nvlink: float = 0.80 * 450e9
    infiniband: float = 0.85 * 50e9
    nvlink_latency: float = 20e-6  # of one all-reduce
    infiniband_latency: float = 40e-6
    gpus_per_node: int = 8
    contention: float = 0.12  # multiprocessors that communication takes while it runs


@dataclasses.dataclass
class Model:
    name: str
    layers: int
    C: int
    heads: int
    I: int
    pre_layer_norm: bool = False
    V: int = 30528
    positions: int = 512

    def layer_parameters(self):
        C, I = self.C, self.I
        return 4 * C * C + 2 * C * I + 9 * C + I

    def embedding_parameters(self):
        return (self.V + self.positions + 2) * self.C + 2 * self.C

    def head_parameters(self):
        return self.C * self.C + 3 * self.C + self.V

    def parameters(self):
        return (self.layers * self.layer_parameters() + self.embedding_parameters()
                + self.head_parameters())


BASE = Model("BERT-base", 12, 768, 12, 3072)
LARGE = Model("BERT-large", 24, 1024, 16, 4096, pre_layer_norm=True)


def product_seconds(machine, rows, columns, inner):
    """The fastest tile, whole waves of it over the multiprocessors."""
    best = math.inf
    for (height, width), speed in machine.tiles.items():
        tiles = math.ceil(rows / height) * math.ceil(columns / width)
        waves = math.ceil(tiles / machine.multiprocessors)
        of_wave = 2 * height * width * inner * machine.multiprocessors / speed
        best = min(best, waves * of_wave)
    return best + machine.launch


class Step:
    """One GPU's step on `tokens` tokens: (name, seconds, FLOPs) of each op, in four parts."""

    def __init__(self, machine, model, tokens, length):
        self.machine, self.model, self.tokens, self.length = machine, model, tokens, length
        self.masked = round(0.15 * tokens)
        self.parts = {"forward": [], "head": [], "layer_backward": [], "embeddings_backward": [],
                      "update": []}
        m, T, C, I, M, V = model, tokens, model.C, model.I, self.masked, model.V
        two = 2  # bytes of bf16
        # A layer, forward; elements moved are those that the kernels' first comments count.
        self.product("forward", "linear_forward", T, 3 * C, C, m.layers)
        self.attention("forward", "attention_forward", 4, 8, machine.attention_forward[length], m.layers)
        self.product("forward", "linear_forward", T, C, C, m.layers)
        self.product("forward", "linear_forward", T, I, C, m.layers)
        self.product("forward", "linear_forward", T, C, I, m.layers)
        self.moved("forward", "bias_dropout_residual_layer_norm_forward", 4 * two * T * C,
                   2 * m.layers)
        self.moved("forward", "embeddings_forward", 2 * two * T * C)
        # The MLM head on masked positions, both ways, and the loss.
        self.moved("head", "gather_rows and scatter_add_rows", 5 * two * M * C, kernels=2)
        self.product("head", "linear_forward", M, C, C)
        self.moved("head", "layer_norm_forward", 2 * two * M * C)
        self.product("head", "linear_forward", M, V, C)
        self.moved("head", "cross_entropy", 2 * two * M * V, kernels=2)
        self.product("head", "linear_backward", M, C, V)
        self.weight_gradient("head", M, V, C)
        self.moved("head", "layer_norm_backward", 3 * two * M * C, kernels=2)
        self.moved("head", "activation_backward", 3 * two * M * C)
        self.product("head", "linear_backward", M, C, C)
        self.weight_gradient("head", M, C, C)
        self.moved("head", "column sums", two * M * (C + V), kernels=4)
        # One layer, backward.
        dz = 1 if m.pre_layer_norm else 0
        self.moved("layer_backward", "bias_dropout_residual_layer_norm_backward",
                   (4 + dz) * two * T * C, 2, kernels=2)
        for rows, columns, inner in ((T, I, C), (T, C, I), (T, C, C), (T, C, 3 * C)):
            self.product("layer_backward", "linear_backward", rows, columns, inner)
        for columns, inner in ((C, I), (I, C), (C, C), (3 * C, C)):
            self.weight_gradient("layer_backward", T, columns, inner)
        self.moved("layer_backward", "column sums", two * T * (I + 3 * C), kernels=4)
        # One kernel up to 256 tokens; beyond, Q, K, V and dy are read twice.
        self.attention("layer_backward", "attention_backward", 10, 16 if length <= 256 else 24,
                       machine.attention_backward[length])
        # Embeddings, and what is done once for all parameters.
        self.moved("embeddings_backward", "embeddings_backward", 10 * T * C, kernels=7)
        P = m.parameters()
        self.moved("update", "zero", 4 * P)
        self.moved("update", "gradient_norm", 4 * P, kernels=2)
        self.moved("update", "adamw", 30 * P)

    def moved(self, part, name, amount, times=1, kernels=1):
        seconds = amount / self.machine.memory + kernels * self.machine.launch
        self.parts[part].append((name, times * seconds, 0.0))

    def product(self, part, name, rows, columns, inner, times=1):
        seconds = product_seconds(self.machine, rows, columns, inner)
        self.parts[part].append((name, times * seconds, times * 2.0 * rows * columns * inner))

    def weight_gradient(self, part, rows, columns, inner):
        flop = 2.0 * rows * columns * inner
        seconds = max(flop / self.machine.weight_gradient,
                      8.0 * columns * inner / self.machine.memory) + self.machine.launch
        self.parts[part].append(("linear_backward", seconds, flop))

    def attention(self, part, name, factor, elements, speed, times=1):
        flop = float(factor * self.tokens * self.length * self.model.C)
        seconds = max(flop / speed, elements * self.tokens * self.model.C
                      / self.machine.memory) + self.machine.launch
        self.parts[part].append((name, times * seconds, times * flop))

    def seconds(self, part):
        return sum(seconds for _, seconds, _ in self.parts[part])

    def whole(self):
        return sum(self.seconds(part) * (self.model.layers if part == "layer_backward" else 1)
                   for part in self.parts)

    def by_op(self):
        times = {}
        for part, ops in self.parts.items():
            repeats = self.model.layers if part == "layer_backward" else 1
            for name, seconds, _ in ops:
                times[name] = times.get(name, 0.0) + repeats * seconds
        return times

    def necessary_flop(self):
        m = self.model
        of_token = 2 * (4 * m.C * m.C + 2 * m.C * m.I) + 4 * self.length * m.C
        return 3 * (self.tokens * m.layers * of_token
                    + self.masked * 2 * (m.C * m.C + m.C * 30522))

    def mfu(self, seconds):
        return self.necessary_flop() / seconds / self.machine.peak


def all_reduce_seconds(machine, size, gpus):
    """Reduce-scatter within each node, all-reduce of a part by each GPU's own adapter between the
    nodes, all-gather within each node."""
    if gpus == 1:
        return 0.0
    local = min(gpus, machine.gpus_per_node)
    nodes = gpus // local
    seconds = 2 * (local - 1) / local * size / machine.nvlink + machine.nvlink_latency
    if nodes > 1:
        seconds += (2 * (nodes - 1) / nodes * size / local / machine.infiniband
                    + machine.infiniband_latency * math.log2(nodes))
    return seconds


@dataclasses.dataclass
class Result:
    step: float  # seconds
    compute: float
    communication: float
    exposed: float


def distributed(machine, model, tokens, length, gpus, gradient_bytes, micro_batches=1):
    """`tokens` of each GPU; a bucket is reduced as soon as its backward in the last micro-batch is
    done: heads, layers from the last to the first, embeddings."""
    step = Step(machine, model, tokens // micro_batches, length)
    update = step.seconds("update")
    before = (micro_batches - 1) * (step.whole() - update)
    clock = before + step.seconds("forward") + step.seconds("head")
    free, total = 0.0, 0.0

    def reduce(parameters):
        nonlocal free, total
        seconds = all_reduce_seconds(machine, gradient_bytes * parameters, gpus)
        if gradient_bytes == 2 and gpus > 1:  # narrowed before, widened after
            seconds += 12.0 * parameters / machine.memory
        free = max(free, clock) + seconds
        total += seconds

    reduce(model.head_parameters())
    for _ in range(model.layers):
        # Communication that runs beside it takes some of the multiprocessors.
        work = step.seconds("layer_backward")
        busy = min(max(free - clock, 0.0), work)
        clock += work + busy * machine.contention
        reduce(model.layer_parameters())
    work = step.seconds("embeddings_backward")
    clock += work + min(max(free - clock, 0.0), work) * machine.contention
    reduce(model.embedding_parameters())
    compute = micro_batches * (step.whole() - update) + update
    end = max(clock, free) + update
    return Result(end, compute, total, max(free - clock, 0.0)), step


def print_ops(machine):
    for model in (BASE, LARGE):
        for length in (128, 512):
            step = Step(machine, model, 32768, length)
            whole = step.whole()
            print(f"\n{model.name}, {model.parameters() / 1e6:.1f} M parameters, 32768 tokens, "
                  f"T = {length}: {whole * 1e3:.1f} ms, {32768 / whole / 1e6:.2f} M tokens/s, MFU "
                  f"{100 * step.mfu(whole):.0f} %\n\n| op | ms | % |\n|---|---|---|")
            for name, seconds in sorted(step.by_op().items(), key=lambda item: -item[1]):
                print(f"| {name} | {seconds * 1e3:.2f} | {100 * seconds / whole:.1f} |")


def print_buckets(machine):
    print("\n### Buckets\n\n| bucket | BERT-base | BERT-large |\n|---|---|---|")
    rows = (("heads", Model.head_parameters), ("each layer", Model.layer_parameters),
            ("embeddings, last", Model.embedding_parameters), ("all", Model.parameters))
    for name, of in rows:
        cells = [f"{of(model) / 1e6:.1f} M, {4 * of(model) / 1e6:.0f} MB"
                 for model in (BASE, LARGE)]
        print(f"| {name} | {' | '.join(cells)} |")


GPUS = (1, 2, 4, 8, 16, 32, 64)


def print_strong(machine, model, length, batch):
    print(f"\n### {model.name}, {batch} sequences of {length} a step in all\n\n"
          "| GPUs | tokens a GPU | gradients | step, ms | computing | communicating | not hidden | "
          "M tokens/s | speed-up | efficiency |\n|---|---|---|---|---|---|---|---|---|---|")
    one = None
    for gpus in GPUS:
        tokens = batch * length // gpus
        if tokens < length:
            continue
        for size in (4, 2) if gpus >= 8 else (4,):
            result, _ = distributed(machine, model, tokens, length, gpus, size,
                                    max(1, tokens // 65536))
            one = one or result.step
            print(f"| {gpus} | {tokens} | {'f32' if size == 4 else 'bf16'} | "
                  f"{result.step * 1e3:.2f} | {result.compute * 1e3:.2f} | "
                  f"{result.communication * 1e3:.2f} | {result.exposed * 1e3:.2f} | "
                  f"{batch * length / result.step / 1e6:.2f} | {one / result.step:.2f} | "
                  f"{100 * one / result.step / gpus:.0f} % |")


def print_weak(machine):
    print("\n### 32,768 tokens a GPU, T = 128, f32 gradients\n\n| GPUs | BERT-base, ms | not hidden "
          "| efficiency | BERT-large, ms | not hidden | efficiency |\n|---|---|---|---|---|---|---|")
    ones = {}
    for gpus in GPUS:
        cells = []
        for model in (BASE, LARGE):
            result, _ = distributed(machine, model, 32768, 128, gpus, 4)
            ones.setdefault(model.name, result.step)
            cells.append(f"{result.step * 1e3:.2f} | {result.exposed * 1e3:.2f} | "
                         f"{100 * ones[model.name] / result.step:.1f} %")
        print(f"| {gpus} | {' | '.join(cells)} |")


def print_shows(machine):
    """The fewest tokens a GPU from which on less than 2 % of a step waits for communication."""
    print("\n### Where communication begins to show\n\n| GPUs | gradients | BERT-base | BERT-large |"
          "\n|---|---|---|---|")
    for gpus in GPUS[1:]:
        for size in (4, 2):
            cells = []
            for model in (BASE, LARGE):
                tokens = 512
                while tokens < 1 << 20:
                    result, _ = distributed(machine, model, tokens, 128, gpus, size)
                    if result.exposed < 0.02 * result.step:
                        break
                    tokens += 512
                cells.append(str(tokens))
            print(f"| {gpus} | {'f32' if size == 4 else 'bf16'} | {' | '.join(cells)} |")


def print_runs(machine):
    print("\n### A million steps of 256 sequences: 900,000 at T = 128, 100,000 at T = 512\n\n"
          "| GPUs | BERT-base, days | BERT-large, days |\n|---|---|---|")
    for gpus in GPUS:
        cells = []
        for model in (BASE, LARGE):
            seconds = 0.0
            for steps, length in ((900_000, 128), (100_000, 512)):
                tokens = 256 * length // gpus
                result, _ = distributed(machine, model, tokens, length, gpus, 4,
                                        max(1, tokens // 65536))
                seconds += steps * result.step
            cells.append(f"{seconds / 86400:.2f}")
        print(f"| {gpus} | {' | '.join(cells)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ops", action="store_true", help="one GPU's step, op by op")
    arguments = parser.parse_args()
    machine = Machine()
    if arguments.ops:
        print_ops(machine)
        return
    print_buckets(machine)
    for model in (BASE, LARGE):
        for length in (128, 512):
            print_strong(machine, model, length, 256)
    print_weak(machine)
    print_shows(machine)
    print_runs(machine)


if __name__ == "__main__":
    main()
