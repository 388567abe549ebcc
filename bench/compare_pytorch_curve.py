"""Trains Hugging Face's BERT in PyTorch on the very batches of a run of `train` or `finetune`, from
the same weights and with the same settings, and sets the two loss curves side by side.

    build/bin/train CONFIG.yaml run_dir=RUN logging.every_steps=1 --dump-batches BATCHES.jsonl ...
    python bench/compare_pytorch_curve.py --run RUN --initial CHECKPOINT --batches BATCHES.jsonl \\
        --output pytorch.jsonl

CHECKPOINT is the run's checkpoint of step 0. BATCHES.jsonl has a JSON object a line, one for each
micro-batch in order: `step` (optimizer steps done before it) and the members of data/samples/batch.h,
`input_ids`, `position_ids`, `token_type_ids`, `cu_seqlens`, `masked_rows`, `masked_targets`,
`nsp_labels` (also the classes of sequences), `sequence_values`, `answer_spans`. Optimizer and
schedule are read from RUN/config.yaml. With --save, the model that PyTorch has trained is written
as a folder, which `predict --checkpoint FOLDER --evaluate` judges as it does our own.
With --encoder-products, the operands of the encoder's products are rounded to bf16 or FP8 first, as
kernels/cuda/float8.h says; everything else stays as it is. So what FP8 does to training can be
seen without a GPU that has it.
Needs torch, transformers and pyyaml; see tests/reference/README.md.
"""

import argparse
import itertools
import json
import math
import pathlib
import sys
import time

import torch
import transformers
import yaml


def learning_rate(config, last, step):
    """train/config/lr_schedule.h of `last` steps; `step` counts the steps done before this one."""
    peak = config["optimizer"]["learning_rate"]
    schedule = config["schedule"]
    warmup = schedule.get("warmup_steps")
    if warmup is None:
        warmup = math.floor(schedule["warmup_fraction"] * last)
    decay = config["schedule"]["decay"]
    if step < warmup:
        return peak * step / warmup
    if decay == "constant":
        return peak
    if step >= last:
        return 0.0
    return peak * ((1 - step / last) if decay == "google" else (last - step) / (last - warmup))


def parameter_groups(model, weight_decay):
    """No decay on biases and LayerNorms, by what they are and not by their names."""
    norms = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, torch.nn.LayerNorm)
        for parameter in module.parameters()
    }
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        is_bias = parameter.dim() == 1 and name.endswith("bias")
        (others if is_bias or id(parameter) in norms else decayed).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]


def to_float8(x, dtype):
    """x rounded to 8 bits, times the power of two that kernels/cuda/float8.h takes."""
    largest = x.abs().max().item()
    if largest == 0.0:
        return x
    fraction, exponent = math.frexp(largest)  # 0.5 <= fraction < 1; the formats end at 1.75 * 2^e
    end = 8 if dtype == torch.float8_e4m3fn else 15
    scale = math.ldexp(1.0, min(end - (exponent - 1) - (fraction > 0.875), 126))
    return (x * scale).to(dtype).to(x.dtype) / scale


class RoundedProduct(torch.autograd.Function):
    """x weight^T + bias of rounded operands, both ways."""

    @staticmethod
    def forward(ctx, x, weight, bias, operands):
        if operands == "fp8":
            ctx.narrow_gradient = lambda dy: to_float8(dy, torch.float8_e5m2)
            x, weight = (to_float8(each, torch.float8_e4m3fn) for each in (x, weight))
        else:
            ctx.narrow_gradient = lambda dy: dy.bfloat16().to(dy.dtype)
            x, weight = (each.bfloat16().to(each.dtype) for each in (x, weight))
        ctx.save_for_backward(x, weight)
        return torch.nn.functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        narrow = ctx.narrow_gradient(dy)
        rows = narrow.flatten(0, -2)
        return narrow @ weight, rows.T @ x.flatten(0, -2), dy.flatten(0, -2).sum(0), None


def round_encoder_products(model, operands):
    for module in model.bert.encoder.modules():
        if isinstance(module, torch.nn.Linear):
            module.forward = lambda x, linear=module: RoundedProduct.apply(
                x, linear.weight, linear.bias, operands)


def padded(batch):
    """The packed batch as rows with an attention mask, and the masked places in it."""
    starts = batch["cu_seqlens"]
    lengths = [end - start for start, end in itertools.pairwise(starts)]
    shape = (len(lengths), max(lengths))
    rows = {name: torch.zeros(shape, dtype=torch.int64) for name in
            ("input_ids", "token_type_ids", "position_ids", "attention_mask")}
    for row, (start, length) in enumerate(zip(starts, lengths)):
        for name in ("input_ids", "token_type_ids", "position_ids"):
            rows[name][row, :length] = torch.tensor(batch[name][start : start + length])
        rows["attention_mask"][row, :length] = 1
    if min(lengths) == shape[1]:
        del rows["attention_mask"]  # nothing to hide, and PyTorch is faster without
    row_of = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    masked = torch.tensor(batch["masked_rows"], dtype=torch.int64)
    places = (row_of[masked], masked - torch.tensor(starts)[row_of[masked]])
    return rows, places


def sum_of_losses(logits, targets):
    return torch.nn.functional.cross_entropy(logits, torch.tensor(targets), reduction="sum")


def pretraining_losses(model, batch, rows, places):
    """(of masked tokens, of next-sentence prediction): sums over a micro-batch."""
    out = model.bert(**rows)
    mlm = sum_of_losses(model.cls.predictions(out.last_hidden_state[places]),
                        batch["masked_targets"])
    if not batch.get("nsp_labels"):
        return mlm, torch.zeros(())
    return mlm, sum_of_losses(model.cls.seq_relationship(out.pooler_output), batch["nsp_labels"])


def task_losses(model, batch, rows, places):
    """(of the task, nothing)."""
    out = model(**rows)
    if "start_logits" in out:
        # Hugging Face lets padding compete; here, as in a packed batch, only real tokens do.
        hidden = rows["attention_mask"] == 0 if "attention_mask" in rows else None
        loss = torch.zeros(())
        for logits, first in ((out.start_logits, 0), (out.end_logits, 1)):
            if hidden is not None:
                logits = logits.masked_fill(hidden, -math.inf)
            loss = loss + sum_of_losses(logits, batch["answer_spans"][first::2])
        return loss, torch.zeros(())
    if "sequence_values" in batch:
        values = torch.tensor(batch["sequence_values"], dtype=out.logits.dtype)
        return (out.logits[:, 0] - values).pow(2).sum(), torch.zeros(())
    if batch["masked_targets"]:
        return sum_of_losses(out.logits[places], batch["masked_targets"]), torch.zeros(())
    return sum_of_losses(out.logits, batch["nsp_labels"]), torch.zeros(())


def weight_of(batches):
    """What the losses of a step are divided by."""
    if "answer_spans" in batches[0]:
        return sum(len(batch["answer_spans"]) for batch in batches)
    masked = sum(len(batch["masked_rows"]) for batch in batches)
    return masked or sum(len(batch["cu_seqlens"]) - 1 for batch in batches)


def clip(parameters, max_norm):
    """Scales the gradients to a global norm of at most max_norm; gives the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = math.sqrt(sum(gradient.double().pow(2).sum().item() for gradient in gradients))
    if 0 < max_norm < norm:
        for gradient in gradients:
            gradient.mul_(max_norm / norm)
    return norm


def read_steps(path):
    """(step, its micro-batches), in order."""
    with open(path, encoding="utf-8") as lines:
        batches = (json.loads(line) for line in lines)
        for step, group in itertools.groupby(batches, key=lambda batch: batch["step"]):
            yield step, list(group)


def train(arguments, config):
    optimizer_config = config["optimizer"]
    if not optimizer_config["bias_correction"]:
        sys.exit("error: PyTorch's AdamW corrects its bias; train with optimizer.bias_correction=true")
    architecture = json.loads((arguments.initial / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(arguments.initial)
    model = model.to(torch.float64 if arguments.double else torch.float32).train()
    # Hugging Face gives the word embedding of [PAD] no gradient; masking's random tokens include it.
    model.bert.embeddings.word_embeddings.padding_idx = None
    if arguments.encoder_products:
        round_encoder_products(model, arguments.encoder_products)
    losses_of = pretraining_losses if hasattr(model, "cls") else task_losses
    parameters = list(model.parameters())
    last = config["train"].get("max_steps") or sum(1 for _ in read_steps(arguments.batches))
    optimizer = torch.optim.AdamW(
        parameter_groups(model, optimizer_config["weight_decay"]),
        lr=0.0,
        betas=tuple(optimizer_config["betas"]),
        eps=optimizer_config["epsilon"],
    )
    curve, tokens, began = [], 0, time.monotonic()
    with open(arguments.output, "w", encoding="utf-8") as output:
        for step, batches in read_steps(arguments.batches):
            if arguments.steps is not None and step >= arguments.steps:
                break
            weight = weight_of(batches)
            sequences = sum(len(batch["cu_seqlens"]) - 1 for batch in batches)
            rate = learning_rate(config, last, step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            mlm_loss = nsp_loss = 0.0
            for batch in batches:
                mlm, nsp = losses_of(model, batch, *padded(batch))
                mlm, nsp = mlm / weight, nsp / sequences
                (mlm + nsp).backward()
                mlm_loss += mlm.item()
                nsp_loss += nsp.item()
                tokens += len(batch["input_ids"])
            norm = clip(parameters, optimizer_config["max_grad_norm"])
            optimizer.step()
            record = {
                "step": step + 1,  # as metrics.jsonl counts: steps done
                "loss": mlm_loss + nsp_loss,
                "mlm_loss": mlm_loss,
                "nsp_loss": nsp_loss,
                "learning_rate": rate,
                "grad_norm": norm,
                "tokens_per_second": tokens / (time.monotonic() - began),
            }
            curve.append(record)
            output.write(json.dumps(record) + "\n")
            output.flush()
            if (step + 1) % arguments.every == 0:
                print(
                    f"step {step + 1}  loss {record['loss']:.4f}  norm {norm:.3f}  "
                    f"{record['tokens_per_second']:.0f} tokens/s",
                    file=sys.stderr,
                )
    if arguments.save:
        model.float().save_pretrained(arguments.save)
    return curve


def read_metrics(path):
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {record["step"]: record for record in records if "loss" in record}


def print_comparison(ours, curve, every):
    """Means over windows of steps, as a single batch's loss says little, and beside them the largest
    relative difference that a single step of the window has, which says more."""
    shared = [(ours[record["step"]]["loss"], record["loss"], record["step"])
              for record in curve if record["step"] in ours]
    if not shared:
        sys.exit("error: the two curves have no step in common")

    def largest(steps):
        return max(abs(mine - theirs) / abs(theirs) for mine, theirs, _ in steps)

    print("| steps | bert.cu | PyTorch | difference | largest relative difference of a step |")
    print("|---|---|---|---|---|")
    for first in range(0, len(shared), every):
        window = shared[first : first + every]
        mine, theirs = (sum(step[i] for step in window) / len(window) for i in (0, 1))
        print(f"| {window[0][2]}-{window[-1][2]} | {mine:.4f} | {theirs:.4f} | "
              f"{mine - theirs:+.1e} | {largest(window):.1e} |")
    print(f"\nlargest relative difference: {largest(shared[:1]):.1e} in the first step, "
          f"{largest(shared[:10]):.1e} in the first ten, {largest(shared):.1e} in all {len(shared)}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=pathlib.Path, required=True, help="run directory of train")
    parser.add_argument("--initial", type=pathlib.Path, required=True, help="checkpoint of step 0")
    parser.add_argument("--batches", type=pathlib.Path, required=True, help="the run's batches")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="curve to write")
    parser.add_argument("--save", type=pathlib.Path, help="folder for the trained model")
    parser.add_argument("--steps", type=int, help="stop after this many steps")
    parser.add_argument("--every", type=int, default=100, help="steps a printed line stands for")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--double", action="store_true", help="train in float64")
    parser.add_argument("--encoder-products", choices=["bf16", "fp8"],
                        help="round the operands of the encoder's products")
    parser.add_argument("--seed", type=int, default=0, help="of PyTorch's own dropout")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(arguments.seed)
    config = yaml.safe_load((arguments.run / "config.yaml").read_text())
    for section, key in (("optimizer", "learning_rate"), ("optimizer", "epsilon"),
                         ("optimizer", "weight_decay"), ("optimizer", "max_grad_norm")):
        config[section][key] = float(config[section][key])  # PyYAML takes 1e-3 for a string
    curve = train(arguments, config)
    print_comparison(read_metrics(arguments.run / "metrics.jsonl"), curve, arguments.every)


if __name__ == "__main__":
    main()
