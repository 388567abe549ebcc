"""Writes goldens/tasks/*.safetensors: what Hugging Face's models with the heads of tasks compute, in
float64, without dropout.

See README.md in this folder for what a file holds and how to run this.
"""

import argparse
import dataclasses
import pathlib

import numpy as np
import torch
import transformers

from make_goldens import check_gradients, config, randomise, save


@dataclasses.dataclass
class Case:
    name: str
    model: type
    config: dict
    lengths: list
    seed: int
    labels: tuple = ()
    class_weights: tuple = ()
    words: list = None  # token classification: positions of the words of each sequence
    spans: list = None  # question answering: first and last position of each answer


# Sizes are small and differ wherever a mix-up could hide. One sequence has a single token.
CASES = [
    Case(
        name="sequence_labels",
        model=transformers.BertForSequenceClassification,
        config=config(41, 15, 2, 3, 22, 17, "gelu"),
        lengths=[9, 1, 17, 4, 6],
        labels=("no", "maybe", "yes"),
        seed=1,
    ),
    Case(
        name="sequence_labels_pre_weighted",
        model=transformers.MegatronBertForSequenceClassification,
        config=config(37, 12, 2, 2, 19, 15, "gelu_new", epsilon=1e-5),
        lengths=[15, 3, 8, 1],
        labels=("a", "b", "c", "d"),
        class_weights=(0.5, 2.0, 1.25, 0.75),
        seed=2,
    ),
    Case(
        name="sequence_values",
        model=transformers.BertForSequenceClassification,
        config=config(39, 14, 2, 2, 21, 16, "gelu_new"),
        lengths=[5, 16, 1, 7],
        seed=3,
    ),
    Case(
        name="word_labels",
        model=transformers.BertForTokenClassification,
        config=config(43, 15, 2, 5, 23, 18, "gelu"),
        lengths=[18, 1, 7, 11],
        labels=("O", "B-PER", "I-PER", "B-LOC", "I-LOC"),
        words=[[1, 2, 5, 6, 9, 16], [], [1, 3, 5], [2, 8]],
        seed=4,
    ),
    Case(
        name="word_labels_pre_weighted",
        model=transformers.MegatronBertForTokenClassification,
        config=config(38, 12, 3, 3, 20, 14, "gelu"),
        lengths=[6, 14, 2],
        labels=("O", "B", "I"),
        class_weights=(0.25, 1.5, 3.0),
        words=[[0, 1, 4], [2, 3, 7, 12, 13], [1]],
        seed=5,
    ),
    Case(
        name="answers",
        model=transformers.BertForQuestionAnswering,
        config=config(42, 15, 2, 3, 24, 19, "gelu_new"),
        lengths=[19, 1, 8, 12],
        spans=[[7, 18], [0, 0], [0, 0], [5, 5]],
        seed=6,
    ),
    Case(
        name="answers_pre",
        model=transformers.MegatronBertForQuestionAnswering,
        config=config(36, 12, 2, 4, 18, 16, "gelu"),
        lengths=[4, 16, 9],
        spans=[[1, 2], [9, 11], [8, 8]],
        seed=7,
    ),
]


def make_batch(case, generator):
    """The packed batch, and labels of each sequence as Hugging Face wants them."""
    packed = {name: [] for name in ("input_ids", "token_type_ids", "position_ids")}
    packed |= {"cu_seqlens": [0], "sequence_index": list(range(len(case.lengths)))}
    labels = []
    for index, length in enumerate(case.lengths):
        first = packed["cu_seqlens"][-1]
        # Id 0 is the padding: its gradient is special.
        packed["input_ids"] += generator.integers(1, case.config["vocab_size"], length).tolist()
        packed["token_type_ids"] += (np.arange(length) >= (length + 1) // 2 + index % 2).tolist()
        packed["position_ids"] += range(length)
        packed["cu_seqlens"].append(first + length)
        if case.words is not None:
            of_tokens = torch.full((1, length), -100)
            known = generator.integers(0, len(case.labels), len(case.words[index]))
            of_tokens[0, case.words[index]] = torch.from_numpy(known)
            if index == 0:
                of_tokens[0, case.words[0][1]] = -100  # a word whose label is unknown
            rows = [first + position for position in case.words[index]]
            packed["masked_rows"] = packed.get("masked_rows", []) + rows
            targets = of_tokens[0, case.words[index]].tolist()
            packed["masked_targets"] = packed.get("masked_targets", []) + targets
            labels.append({"labels": of_tokens})
        elif case.spans is not None:
            packed["answer_spans"] = packed.get("answer_spans", []) + case.spans[index]
            start, end = case.spans[index]
            labels.append(
                {"start_positions": torch.tensor([start]), "end_positions": torch.tensor([end])}
            )
        elif case.labels:
            label = int(generator.integers(0, len(case.labels)))
            packed["sequence_labels"] = packed.get("sequence_labels", []) + [label]
            labels.append({"labels": torch.tensor([label])})
        else:
            labels.append({"labels": torch.from_numpy(generator.normal(1, 2, 1))})
    tensors = {name: np.array(value, dtype=np.int32) for name, value in packed.items()}
    if not case.labels and case.spans is None:
        tensors["sequence_values"] = np.array([label["labels"].item() for label in labels])
    if case.class_weights:
        of_label = np.array(list(case.class_weights))
        targets = tensors["masked_targets" if case.words is not None else "sequence_labels"]
        tensors["loss_weights"] = np.where(targets < 0, 0, of_label[np.maximum(targets, 0)])
    return tensors, labels


def forward(model, case, tensors, labels):
    """(loss, logits, the pooler's output or None). One sequence at a time: there is no padding, which the
    softmax of question answering would run over."""
    pooled = []
    hook = None
    if getattr(model.bert, "pooler", None) is not None:
        hook = model.bert.pooler.register_forward_hook(lambda module, x, y: pooled.append(y))
    losses, weights, logits = [], [], []
    ends = tensors["cu_seqlens"]
    for first, end, label in zip(ends, ends[1:], labels):
        inputs = {
            name: torch.from_numpy(tensors[name][first:end]).long()[None]
            for name in ("input_ids", "token_type_ids")
        }
        known = "labels" not in label or (label["labels"] != -100).sum().item()
        out = model(**inputs, **(label if known else {}))
        if case.spans is not None:
            logits.append(torch.stack([out.start_logits[0], out.end_logits[0]], dim=1))
        else:
            logits.append(out.logits[0] if case.words is not None else out.logits)
        if known:
            losses.append(out.loss)
            weights.append(float(known))
    if hook is not None:
        hook.remove()
    logits = torch.cat(logits)
    if case.words is not None:
        logits = logits[torch.from_numpy(tensors["masked_rows"]).long()]
    # Theirs is the mean over a sequence.
    loss = sum(weight * value for weight, value in zip(weights, losses)) / sum(weights)
    if case.class_weights:  # theirs has none; PyTorch's loss has
        targets = tensors["masked_targets" if case.words is not None else "sequence_labels"]
        targets = torch.from_numpy(targets).long()
        unweighted = torch.nn.functional.cross_entropy(logits, targets)
        assert abs(unweighted.item() - loss.item()) < 1e-12
        loss = torch.nn.functional.cross_entropy(
            logits, targets, weight=torch.tensor(case.class_weights, dtype=torch.float64)
        )
    return loss, logits, torch.cat(pooled) if pooled else None


def make(case, folder):
    torch.manual_seed(case.seed)
    generator = np.random.default_rng(case.seed)
    head = {"num_labels": 1, "problem_type": "regression"}
    if case.spans is not None:
        head = {}
    elif case.labels:
        head = {
            "id2label": dict(enumerate(case.labels)),
            "label2id": {label: index for index, label in enumerate(case.labels)},
        }
    settings = case.model.config_class(**case.config, **head, attn_implementation="eager")
    model = case.model(settings).double()
    model.eval()
    randomise(model, generator)
    tensors, labels = make_batch(case, generator)
    loss, logits, pooled = forward(model, case, tensors, labels)
    loss.backward()
    tensors["logits"] = logits.detach().numpy()
    if pooled is not None:
        tensors["pooled"] = pooled.detach().numpy()
    tensors["loss"] = np.array([loss.item()])
    written = save(folder / f"{case.name}.safetensors", model, tensors)
    error = check_gradients(
        case.name, model, lambda: forward(model, case, tensors, labels)[0], generator
    )
    print(f"{case.name:28} loss {loss.item():.6f}  {written}  gradient check {error:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "goldens" / "tasks"
    )
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for case in CASES:
        make(case, folder)


if __name__ == "__main__":
    main()
