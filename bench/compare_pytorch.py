"""Times training steps (or with --inference forward passes) of Hugging Face's BertForMaskedLM in
PyTorch beside bert.cu's, on the same machine, in turns, and prints the ratios.

    python bench/compare_pytorch.py --bench build/bin/bench_step --device cpu --threads 2
    python bench/compare_pytorch.py --bench bin/bench_step --device cuda --precision bf16 --compile \\
        --tokens 32768 --rows bert_base:128 bert_large:512 bert_base:512:natural --json report.json

A step is forward, backward, clipping and AdamW with dropout 0.1, on made-up tokens of which 15 % own
a loss. With --inference it is forward up to the logits, in evaluation mode, without gradients and
without a loss. Against two of them:

  as_shipped   BertForMaskedLM as it is: its head computes logits at every position
  masked_head  the same weights with the head on the masked positions only, as bert.cu does it

With natural lengths, those of `bench_step --natural`, PyTorch is given rows padded to the longest
and an attention mask. Tokens are real ones, for all.

Rounds alternate bert.cu, as_shipped, masked_head; a figure is the median over rounds of each
round's median step. Ratios above 1: bert.cu is faster. Memory on a GPU is PyTorch's peak (allocated,
without what its allocator keeps in reserve), and bert.cu's activations, parameters and optimizer
state. On a CPU each variant of PyTorch runs in a process of its own, as bert.cu does, and memory is
for all of them the most that their process had resident, its libraries included.
--warm-only compiles what the same call without it will want, so that this can be done while the GPU
has nothing to be measured. Needs torch and transformers; both sides use the same number of threads
on a CPU (see tests/reference/README.md for an environment).
"""

import argparse
import dataclasses
import gc
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# What was compiled once is found again by the next process; before torch looks.
os.environ.setdefault("TORCHINDUCTOR_FX_GRAPH_CACHE", "1")
os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE", "1")

import torch  # noqa: E402
import transformers  # noqa: E402

VOCABULARY = 30522  # for PyTorch not padded to a multiple of 8: as it is shipped
MASK_FRACTION = 0.15
SHAPES = {  # layers, hidden size, heads: the presets of model/bert_config.h
    "bert_tiny": (2, 128, 2),
    "bert_mini": (4, 256, 4),
    "bert_small": (4, 512, 8),
    "bert_base": (12, 768, 12),
    "bert_large": (24, 1024, 16),
}
VARIANTS = ("as_shipped", "masked_head")


@dataclasses.dataclass
class Row:
    """What is compared: a model on sequences of one length, or of natural ones up to it."""
    model: str
    length: int
    natural: bool = False

    @staticmethod
    def parse(text):
        model, length, *rest = text.split(":")
        if model not in SHAPES or rest not in ([], ["natural"]):
            raise argparse.ArgumentTypeError(f"{text}: expected MODEL:LENGTH[:natural]")
        return Row(model, int(length), bool(rest))

    def __str__(self):
        return f"{self.model}, T = {self.length}{', natural lengths' if self.natural else ''}"

    def lengths(self, tokens):
        return (natural_lengths(tokens, self.length) if self.natural
                else [self.length] * max(1, tokens // self.length))


def natural_lengths(tokens, length):
    """bench/bench_support.cpp has the same: spread evenly up to `length`, short and long in turns."""
    n = max(1, (2 * tokens + length // 2) // length - 1)
    ends = [length * k * (k + 1) // (2 * n) for k in range(n + 1)]
    ascending = [max(1, end - begin) for begin, end in zip(ends, ends[1:])]
    return [ascending[i // 2 if i % 2 == 0 else n - 1 - i // 2] for i in range(n)]


class PyTorchStep:
    """Steps of one model, with either head, ready to be run again and again."""

    def __init__(self, row, arguments):
        layers, hidden, heads = SHAPES[row.model]
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=VOCABULARY, hidden_size=hidden, num_hidden_layers=layers,
            num_attention_heads=heads, intermediate_size=4 * hidden, hidden_act="gelu_new",
            max_position_embeddings=max(512, row.length), attn_implementation="sdpa")
        self.device = torch.device(arguments.device)
        self.inference = arguments.inference
        with self.device:  # or a large model's weights are drawn on the CPU, in seconds
            self.model = transformers.BertForMaskedLM(config).train(not self.inference)
        if not self.inference:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, eps=1e-6,
                                               weight_decay=0.01, fused=True)
        self.autocast = torch.autocast(arguments.device, torch.bfloat16,
                                       enabled=arguments.precision == "bf16")
        self.make_batch(row, arguments.tokens)
        self.forward = {"as_shipped": self.as_shipped, "masked_head": self.masked_head}
        self.compiled = arguments.compile
        if arguments.compile:
            # Sizes never change within a row; left to itself it would take the next row's for dynamic.
            self.forward = {variant: torch.compile(forward, mode=arguments.compile_mode,
                                                   dynamic=False)
                            for variant, forward in self.forward.items()}

    def make_batch(self, row, wanted_tokens):
        """Rows padded to `row.length`; places are those of masked tokens among all slots."""
        lengths = torch.tensor(row.lengths(wanted_tokens), device=self.device)
        shape = (len(lengths), row.length)
        real = torch.arange(row.length, device=self.device)[None, :] < lengths[:, None]
        self.tokens = int(lengths.sum())
        masked = max(1, int(MASK_FRACTION * self.tokens))
        evenly = (torch.arange(masked, device=self.device) * self.tokens) // masked
        self.places = real.flatten().nonzero().flatten()[evenly]
        self.ids = torch.randint(0, VOCABULARY, shape, device=self.device) * real
        self.targets = torch.randint(0, VOCABULARY, (masked,), device=self.device)
        self.labels = torch.full((real.numel(),), -100, device=self.device)
        self.labels[self.places] = self.targets
        self.labels = self.labels.view(shape)
        self.mask = real.long() if row.natural else None

    def as_shipped(self):
        if self.inference:
            return self.model(input_ids=self.ids, attention_mask=self.mask).logits
        return self.model(input_ids=self.ids, attention_mask=self.mask, labels=self.labels).loss

    def masked_head(self):
        output = self.model.bert(input_ids=self.ids, attention_mask=self.mask)
        logits = self.model.cls(output.last_hidden_state.flatten(0, 1)[self.places])
        if self.inference:
            return logits
        return torch.nn.functional.cross_entropy(logits.float(), self.targets)

    def run(self, variant):
        if self.compiled:
            torch.compiler.cudagraph_mark_step_begin()
        if self.inference:
            with torch.inference_mode(), self.autocast:
                self.forward[variant]()
            return
        with self.autocast:
            loss = self.forward[variant]()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)


def synchronize(device):
    if device == "cuda":
        torch.cuda.synchronize()


def release(device):
    """Gives back what nothing refers to any more."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def times_of(work, times, device):
    """Seconds of each of `times` calls, each waited for."""
    synchronize(device)
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - begin)
    return seconds


class Failures(dict):
    """Why a variant has no figure: what ran out of memory or did not compile is left out."""

    def attempt(self, variant, work, device):
        """What `work` returns, None if it failed, now or before."""
        if variant in self:
            return None
        try:
            return work()
        except torch.cuda.OutOfMemoryError:
            self[variant] = "out of memory"
        except WorkerFailure as failure:
            self[variant] = str(failure)
        except Exception as error:  # compilers fail in many ways, none of which should end the rest
            self[variant] = describe(error)
        release(device)
        return None


def describe(error):
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:100]}"


class WorkerFailure(Exception):
    """What went wrong in another process, in its words."""


class Here:
    """Both variants of one model in this process, which share its weights: on a GPU."""

    def __init__(self, row, arguments):
        self.step = PyTorchStep(row, arguments)
        self.arguments = arguments

    def warm(self, variant):
        """Compiles, allocates."""
        times = 3 if self.arguments.compile and not self.arguments.warm_only else 1
        times_of(lambda: self.step.run(variant), times, self.arguments.device)

    def round(self, variant):
        """Median seconds of a step, and the peak of memory in bytes."""
        if self.arguments.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = statistics.median(times_of(lambda: self.step.run(variant), self.arguments.steps,
                                             self.arguments.device))
        return seconds, (torch.cuda.max_memory_allocated() if self.arguments.device == "cuda"
                         else peak_resident_bytes())

    def close(self):
        pass


def peak_resident_bytes():
    """Of this process. What getrusage calls so counts the process that started it as well."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


class InProcesses:
    """Each variant in a process of its own, which waits for its turn: on a CPU, where the memory of a
    process can be told, and not that of a model."""

    def __init__(self, row, arguments):
        request = {"row": dataclasses.asdict(row),
                   "arguments": {**vars(arguments), "rows": None}}
        self.workers = {}
        for variant in VARIANTS:
            self.workers[variant] = subprocess.Popen(
                [sys.executable, __file__, "--worker"], stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True)
            self.ask(variant, request)

    def ask(self, variant, request):
        worker = self.workers[variant]
        try:
            worker.stdin.write(json.dumps(request) + "\n")
            worker.stdin.flush()
            answer = worker.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise WorkerFailure(f"its process ended with {worker.wait()}")
        answer = json.loads(answer)
        if "failure" in answer:
            raise WorkerFailure(answer["failure"])
        return answer

    def warm(self, variant):
        self.ask(variant, {"warm": variant})

    def round(self, variant):
        answer = self.ask(variant, {"round": variant})
        return answer["seconds"], answer["memory"]

    def close(self):
        for worker in self.workers.values():
            worker.stdin.close()
            worker.wait()


def answer_requests():
    """A worker of InProcesses: JSON lines, first what to make, then what to do with it."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what compilers print is no answer
    here = None
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        try:
            if "row" in request:
                arguments = argparse.Namespace(**request["arguments"])
                torch.set_num_threads(arguments.threads)
                here = Here(Row(**request["row"]), arguments)
            elif "warm" in request:
                here.warm(request["warm"])
            else:
                answer["seconds"], answer["memory"] = here.round(request["round"])
        except Exception as error:  # it belongs into a cell of the table
            answer["failure"] = describe(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def our_step(row, arguments):
    """The answer of one process of bench_step."""
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "config.yaml"
        config.write_text(f"model: {{preset: {row.model}, "
                          f"max_position_embeddings: {max(512, row.length)}}}\n"
                          f"train: {{sequence_length: {row.length}}}\n")
        command = [arguments.bench, str(config), "--json", "--vocab-size", str(VOCABULARY),
                   "--tokens", str(arguments.tokens), "--length", str(row.length),
                   "--steps", str(arguments.steps)]
        if row.natural:
            command.append("--natural")
        if arguments.inference:
            command.append("--inference")
        command += ["--device", arguments.device, "--precision", arguments.precision]
        if arguments.device == "cpu":
            command += ["--threads", str(arguments.threads)]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"bench_step ended with {done.returncode}: {done.stderr.strip()}")
    return json.loads(done.stdout.splitlines()[-1])


def warm(side, failures, arguments):
    for variant in VARIANTS:
        begin = time.perf_counter()
        failures.attempt(variant, lambda: side.warm(variant), arguments.device)
        release(arguments.device)
        if arguments.warm_only:
            print(f"{variant}: {failures.get(variant, 'ready')}, "
                  f"{time.perf_counter() - begin:.0f} s", flush=True)


def compare(row, arguments):
    failures = Failures()
    make = Here if arguments.device == "cuda" else InProcesses
    side = failures.attempt("model", lambda: make(row, arguments), arguments.device)
    if side is None:
        failures.update({variant: failures["model"] for variant in VARIANTS})
    else:
        warm(side, failures, arguments)
    try:
        return None if arguments.warm_only else measure(row, side, failures, arguments)
    finally:
        if side is not None:
            side.close()


def our_memory(answer):
    """The process's on a CPU; on a GPU what was allocated there."""
    return (answer["peak_resident_bytes"] if "peak_resident_bytes" in answer
            else answer["activation_bytes"] + answer["parameter_bytes"])


def measure(row, side, failures, arguments):
    seconds = {"bert.cu": [], **{variant: [] for variant in VARIANTS}}
    memory, ours = {}, None
    for _ in range(arguments.rounds):
        release(arguments.device)  # the other process needs room too
        answer = failures.attempt("bert.cu", lambda: our_step(row, arguments), arguments.device)
        if answer is not None:
            ours = answer
            seconds["bert.cu"].append(ours["step_ms"] / 1e3)
            memory["bert.cu"] = max(memory.get("bert.cu", 0), our_memory(ours))
        for variant in VARIANTS:
            measured = failures.attempt(variant, lambda: side.round(variant), arguments.device)
            if measured is not None:
                seconds[variant].append(measured[0])
                memory[variant] = max(memory.get(variant, 0), measured[1])
    tokens = sum(row.lengths(arguments.tokens))
    if ours is not None and ours["tokens"] != tokens:
        raise RuntimeError(f"bench_step had {ours['tokens']} tokens, PyTorch {tokens}")
    times = {side: statistics.median(values) for side, values in seconds.items()
             if side not in failures}
    return {
        "model": row.model, "sequence_length": row.length, "natural_lengths": row.natural,
        "inference": arguments.inference, "precision": arguments.precision,
        "tokens": tokens, "failures": dict(failures),
        "tokens_per_second": {side: tokens / value for side, value in times.items()},
        "memory_bytes": {side: memory[side] for side in times},
        "ratio": {variant: times[variant] / times["bert.cu"] for variant in VARIANTS
                  if variant in times and "bert.cu" in times},
    }


def print_ceilings(arguments):
    """PyTorch's own speed of what bench_kernels measures too: its ceilings."""
    cuda = arguments.device == "cuda"
    n, size = (8192, 1 << 31) if cuda else (1024, 1 << 26)
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    device = torch.device(arguments.device)
    a, b = (torch.rand((n, n), device=device).mul_(2).sub_(1).to(dtype) for _ in range(2))
    c = torch.empty_like(a)
    product = times_of(lambda: torch.matmul(a, b.t(), out=c), 13, arguments.device)[3:]
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy = times_of(lambda: target.copy_(source), 13, arguments.device)[3:]
    print(f"PyTorch: a product of {n} x {n} x {n} {2 * n ** 3 / statistics.median(product) / 1e12:.4g}"
          f" TFLOP/s in {str(dtype).removeprefix('torch.')}, a copy of {size >> 20} MiB "
          f"{2 * size / statistics.median(copy) / 1e9:.4g} GB/s (read + written)", flush=True)


def print_row(row, result):
    def cell(values, side, form):
        if side in result["failures"] and values is result["tokens_per_second"]:
            return result["failures"][side].replace("|", "/")
        return form(values[side]) if values.get(side) else "-"

    def speed(side):
        return cell(result["tokens_per_second"], side, lambda v: f"{v:.0f}")

    def memory(side):
        return cell(result["memory_bytes"], side, lambda v: f"{v / 1e9:.2f}")

    def ratio(variant):
        return cell(result["ratio"], variant, lambda v: f"{v:.2f}")

    length = f"{'up to ' if row.natural else ''}{row.length}"
    sides = ("bert.cu",) + VARIANTS
    print(f"| {row.model} | {length} | {' | '.join(map(speed, sides))} | "
          f"{' | '.join(map(ratio, VARIANTS))} | {' | '.join(map(memory, sides))} |", flush=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="build/bin/bench_step", help="the program bench_step")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32",
                        help="bf16: autocast; tf32 on a GPU only")
    parser.add_argument("--inference", action="store_true",
                        help="forward passes only, without gradients and dropout")
    parser.add_argument("--compile", action="store_true", help="torch.compile the forward pass")
    parser.add_argument("--compile-mode", choices=["default", "reduce-overhead"], default="default",
                        help="torch.compile's mode; reduce-overhead uses CUDA graphs")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=["bert_tiny", "bert_base"])
    parser.add_argument("--lengths", nargs="+", type=int, default=[128, 512])
    parser.add_argument("--natural", action="store_true", help="natural lengths up to those")
    parser.add_argument("--rows", nargs="+", type=Row.parse, metavar="MODEL:LENGTH[:natural]",
                        help="these instead of all models at all lengths")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of a step")
    parser.add_argument("--steps", type=int, default=5, help="steps a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-only", action="store_true",
                        help="compile and run each variant once, then end")
    parser.add_argument("--json", help="write the rows to this file too")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rows is None:
        arguments.rows = [Row(model, length, arguments.natural)
                          for model in arguments.models for length in arguments.lengths]
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.worker:
        return answer_requests()
    torch.set_num_threads(arguments.threads)
    if arguments.device == "cuda":
        torch.set_float32_matmul_precision("high" if arguments.precision == "tf32" else "highest")
    if not arguments.warm_only:
        where = (torch.cuda.get_device_name() if arguments.device == "cuda"
                 else f"CPU, {arguments.threads} threads")
        compiled = f", torch.compile ({arguments.compile_mode})" if arguments.compile else ""
        print(f"{where}; PyTorch {torch.__version__}, transformers {transformers.__version__}, "
              f"{arguments.precision}{compiled}, {'inference' if arguments.inference else 'training'}, "
              f"{arguments.tokens} tokens a step")
        print_ceilings(arguments)
        print("\n| model | T | bert.cu tokens/s | as shipped | masked head | bert.cu : as shipped "
              "| bert.cu : masked head | bert.cu GB | as shipped GB | masked head GB |\n"
              "|---|---|---|---|---|---|---|---|---|---|", flush=True)
    results = []
    for row in arguments.rows:
        if arguments.warm_only:
            print(row, flush=True)
        result = compare(row, arguments)
        torch._dynamo.reset()
        release(arguments.device)  # this model's memory, before the next one
        if result is None:
            continue
        results.append(result)
        print_row(row, result)
        if arguments.json:  # after each row: a call that is ended early has left those before
            pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
