"""Writes goldens/*.safetensors: what Hugging Face's BERT computes, in float64, on small models.

See README.md in this folder for what a file holds and how to run this.
"""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.numpy import save_file

import dropout_contract as contract


@dataclasses.dataclass
class Case:
    name: str
    model: type
    config: dict
    lengths: list
    masked: list  # masked positions of each sequence; never an input of id 0
    sequence_index: list
    seed: int
    dropout_seed: int = 0
    dropout_step: int = 0


BERT = transformers.BertForPreTraining
BERT_MLM = transformers.BertForMaskedLM
MEGATRON = transformers.MegatronBertForPreTraining


def config(vocab, hidden, layers, heads, intermediate, positions, act, epsilon=1e-12, dropout=(0, 0)):
    return dict(
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
        type_vocab_size=2,
        hidden_act=act,
        layer_norm_eps=epsilon,
        hidden_dropout_prob=float(dropout[0]),
        attention_probs_dropout_prob=float(dropout[1]),
    )


# Sizes are small, differ from each other in every place where a mix-up could hide, and are mostly no
# multiple of anything. One sequence has a single token; one has no masked token.
CASES = [
    Case(
        name="post_gelu",
        model=BERT,
        config=config(101, 25, 2, 5, 42, 33, "gelu"),
        lengths=[13, 1, 21, 6],
        masked=[[2, 7, 11], [], [1, 3, 4, 20], [5]],
        sequence_index=[0, 1, 2, 3],
        seed=1,
    ),
    Case(
        name="post_gelu_new",
        model=BERT,
        config=config(97, 27, 2, 3, 38, 32, "gelu_new", epsilon=1e-5),
        lengths=[32, 5, 2],
        masked=[[1, 9, 16, 30, 31], [2], [0, 1]],
        sequence_index=[0, 1, 2],
        seed=2,
    ),
    Case(
        name="pre_gelu",
        model=MEGATRON,
        config=config(107, 28, 2, 4, 39, 35, "gelu"),
        lengths=[4, 17, 9, 16],
        masked=[[], [3, 4, 16], [1, 8], [5, 6, 7]],
        sequence_index=[0, 1, 2, 3],
        seed=3,
    ),
    Case(
        name="pre_gelu_new",
        model=MEGATRON,
        config=config(79, 20, 3, 2, 34, 34, "gelu_new", epsilon=1e-6),
        lengths=[11, 34, 3],
        masked=[[4], [1, 2, 15, 16, 17, 33], [1]],
        sequence_index=[0, 1, 2],
        seed=4,
    ),
    Case(
        name="mlm_only",
        model=BERT_MLM,
        config=config(131, 24, 2, 8, 31, 36, "gelu_new"),
        lengths=[8, 19],
        masked=[[1, 6], [2, 12, 13]],
        sequence_index=[0, 1],
        seed=5,
    ),
    Case(
        name="post_dropout",
        model=BERT,
        config=config(89, 27, 2, 3, 35, 33, "gelu_new", dropout=(0.1, 0.2)),
        lengths=[19, 5, 33],
        masked=[[3, 18], [1], [2, 15, 16, 31]],
        sequence_index=[5, 2, 9],
        seed=6,
        dropout_seed=0x1234_5678_9ABC_DEF1,
        dropout_step=41,
    ),
    Case(
        name="pre_dropout",
        model=MEGATRON,
        config=config(83, 20, 2, 4, 37, 35, "gelu", dropout=(0.1, 0.2)),
        lengths=[35, 16, 7],
        masked=[[5, 16, 33], [4, 15], [2]],
        sequence_index=[9, 5, 2],
        seed=7,
        dropout_seed=0x0FED_CBA9_8765_4321,
        dropout_step=1000003,
    ),
]


class Factors(torch.nn.Module):
    """Stands where a Dropout stood and multiplies by factors that are given."""

    def __init__(self, factors, probability):
        super().__init__()
        self.factors = factors
        self.p = probability  # BertSelfAttention reads it

    def forward(self, x):
        assert x.shape == self.factors.shape
        return x * self.factors


def pad(parts, shape):
    """Lays each part into the leading corner of ones: padding is neither dropped nor scaled."""
    out = np.ones((len(parts), *shape))
    for index, part in enumerate(parts):
        out[(index, *(slice(size) for size in part.shape))] = part
    return torch.from_numpy(out)


@contextlib.contextmanager
def dropout_by_contract(model, case):
    """Replaces every dropout of the model by the factors of kernels/dropout.h."""
    settings = model.config
    longest = max(case.lengths)
    sequences = list(zip(case.sequence_index, case.lengths))

    def hidden(site):
        parts = [
            contract.hidden_factors(
                case.dropout_seed, case.dropout_step, site, index, length,
                settings.hidden_size, settings.hidden_dropout_prob,
            )
            for index, length in sequences
        ]
        return Factors(pad(parts, (longest, settings.hidden_size)), settings.hidden_dropout_prob)

    def attention(site):
        parts = [
            contract.attention_factors(
                case.dropout_seed, case.dropout_step, site, index,
                settings.num_attention_heads, length, settings.attention_probs_dropout_prob,
            )
            for index, length in sequences
        ]
        shape = (settings.num_attention_heads, longest, longest)
        return Factors(pad(parts, shape), settings.attention_probs_dropout_prob)

    model.bert.embeddings.dropout = hidden(0)
    hooks = []
    current = []
    for number, layer in enumerate(model.bert.encoder.layer):
        layer.attention.self.dropout = attention(4 * number + 1)
        layer.attention.output.dropout = hidden(4 * number + 2)
        layer.output.dropout = hidden(4 * number + 3)
        # BertForPreTraining drops attention through the function, not through its module.
        hooks.append(
            layer.attention.self.register_forward_pre_hook(
                lambda module, _: current.append(module.dropout)
            )
        )
    original = torch.nn.functional.dropout

    def replacement(x, p=0.5, training=True, inplace=False):
        return current[-1](x)

    assert not any(isinstance(module, torch.nn.Dropout) for module in model.modules())
    torch.nn.functional.dropout = replacement
    try:
        yield
    finally:
        torch.nn.functional.dropout = original
        for hook in hooks:
            hook.remove()


def randomise(model, generator):
    """Every parameter off its initial value; float32 values, so that both precisions read the same."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # LayerNorm weights are around 1, everything else around 0.
            is_gain = parameter.dim() == 1 and name.endswith("weight")
            values = generator.normal(1.0 if is_gain else 0.0, 0.3, parameter.shape)
            parameter.copy_(torch.from_numpy(values.astype(np.float32).astype(np.float64)))


def make_batch(case, generator):
    """The packed batch, and the padded one that Hugging Face wants."""
    longest = max(case.lengths)
    vocab = case.config["vocab_size"]
    packed = {name: [] for name in ("input_ids", "token_type_ids", "position_ids")}
    cu_seqlens, masked_rows, masked_targets = [0], [], []
    padded = {
        "input_ids": torch.zeros((len(case.lengths), longest), dtype=torch.int64),
        "token_type_ids": torch.zeros((len(case.lengths), longest), dtype=torch.int64),
        "attention_mask": torch.zeros((len(case.lengths), longest), dtype=torch.int64),
    }
    labels = torch.full((len(case.lengths), longest), -100, dtype=torch.int64)
    for index, (length, masked) in enumerate(zip(case.lengths, case.masked)):
        ids = generator.integers(1, vocab, length)  # id 0 is the padding: its gradient is special
        types = (np.arange(length) >= (length + 1) // 2 + index).astype(np.int64)
        targets = generator.integers(0, vocab, len(masked))
        padded["input_ids"][index, :length] = torch.from_numpy(ids)
        padded["token_type_ids"][index, :length] = torch.from_numpy(types)
        padded["attention_mask"][index, :length] = 1
        labels[index, masked] = torch.from_numpy(targets)
        packed["input_ids"] += ids.tolist()
        packed["token_type_ids"] += types.tolist()
        packed["position_ids"] += range(length)
        masked_rows += [cu_seqlens[-1] + position for position in masked]
        masked_targets += targets.tolist()
        cu_seqlens.append(cu_seqlens[-1] + length)
    packed |= {
        "cu_seqlens": cu_seqlens,
        "sequence_index": case.sequence_index,
        "masked_rows": masked_rows,
        "masked_targets": masked_targets,
    }
    if case.model is not BERT_MLM:
        packed["nsp_labels"] = [(index + 1) % 2 for index in range(len(case.lengths))]
    return {name: np.array(value, dtype=np.int32) for name, value in packed.items()}, padded, labels


def losses(model, case, packed, padded, labels, keep=None):
    """(loss, mlm_loss, nsp_loss or None); keeps the intermediate results asked for."""
    real = padded["attention_mask"].bool()
    pooled = []
    hook = None
    if case.model is not BERT_MLM:
        hook = model.bert.pooler.register_forward_hook(lambda module, x, y: pooled.append(y))
    drop = contextlib.nullcontext()
    if case.config["hidden_dropout_prob"] > 0:
        drop = dropout_by_contract(model, case)
    with drop:
        extra = {} if case.model is BERT_MLM else {
            "next_sentence_label": torch.from_numpy(packed["nsp_labels"]).long()
        }
        out = model(**padded, labels=labels, output_hidden_states=True, **extra)
    if hook is not None:
        hook.remove()
    logits = out.logits if case.model is BERT_MLM else out.prediction_logits
    mlm_logits = logits[real][torch.from_numpy(packed["masked_rows"]).long()]
    targets = torch.from_numpy(packed["masked_targets"]).long()
    mlm_loss = torch.nn.functional.cross_entropy(mlm_logits, targets, reduction="sum") / len(targets)
    nsp_loss = None
    loss = mlm_loss
    if case.model is not BERT_MLM:
        nsp_labels = torch.from_numpy(packed["nsp_labels"]).long()
        nsp_loss = torch.nn.functional.cross_entropy(out.seq_relationship_logits, nsp_labels)
        loss = mlm_loss + nsp_loss
    assert abs(loss.item() - out.loss.item()) < 1e-12  # the packing above is what the labels say
    if keep is not None:
        for number, hidden in enumerate(out.hidden_states):
            keep[f"hidden_states.{number}"] = hidden[real]
        keep["mlm_logits"] = mlm_logits
        if case.model is not BERT_MLM:
            keep["pooled"] = pooled[0]
            keep["nsp_logits"] = out.seq_relationship_logits
    return loss, mlm_loss, nsp_loss


def check_gradients(name, model, loss, generator):
    """The gradient along a random direction against a five-point stencil of loss()."""
    parameters = [parameter for _, parameter in model.named_parameters()]
    directions = [torch.from_numpy(generator.normal(0, 1, p.shape)) for p in parameters]
    analytic = sum((p.grad * d).sum().item() for p, d in zip(parameters, directions))
    starts = [parameter.detach().clone() for parameter in parameters]

    def at(h):
        with torch.no_grad():
            for parameter, start, direction in zip(parameters, starts, directions):
                parameter.copy_(start + h * direction)
            return loss().item()

    h = 1e-4
    numeric = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    at(0.0)
    error = abs(analytic - numeric) / max(abs(analytic), abs(numeric))
    assert error < 1e-7, (name, analytic, numeric)
    return error


def save(path, model, tensors):
    """Writes `tensors`, the parameters, their gradients and config.json."""
    tensors = dict(tensors)
    for name, parameter in model.named_parameters():
        tensors[name] = parameter.detach().numpy().astype(np.float32)
        assert parameter.grad is not None, name
        tensors["grad." + name] = parameter.grad.numpy()
    with tempfile.TemporaryDirectory() as temporary:
        model.save_pretrained(temporary)
        config_text = (pathlib.Path(temporary) / "config.json").read_text()
        with safe_open(pathlib.Path(temporary) / "model.safetensors", "np") as saved:
            names = {name for name, _ in model.named_parameters()}
            assert set(saved.keys()) == names, set(saved.keys()) ^ names
    # These name the program and the arithmetic of this run, not the model.
    stored = {
        key: value
        for key, value in json.loads(config_text).items()
        if key not in ("transformers_version", "dtype", "_attn_implementation")
    }
    # One entry only: the writer orders them by chance.
    metadata = {"config": json.dumps(stored, indent=2, sort_keys=True)}
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path, metadata)
    path.chmod(0o644)
    return f"{len(tensors):3} tensors  {path.stat().st_size:7} bytes"


def make(case, folder):
    torch.manual_seed(case.seed)
    generator = np.random.default_rng(case.seed)
    settings = case.model.config_class(**case.config, attn_implementation="eager")
    model = case.model(settings).double()
    # Without dropout the mode makes no difference; with it, training mode is what calls it.
    model.train()
    randomise(model, generator)
    packed, padded, labels = make_batch(case, generator)
    expected = {}
    loss, mlm_loss, nsp_loss = losses(model, case, packed, padded, labels, keep=expected)
    loss.backward()

    tensors = dict(packed)
    for name, value in expected.items():
        tensors[name] = value.detach().contiguous().numpy()
    tensors["loss"] = np.array([loss.item()])
    tensors["mlm_loss"] = np.array([mlm_loss.item()])
    if nsp_loss is not None:
        tensors["nsp_loss"] = np.array([nsp_loss.item()])
    if case.dropout_seed:
        tensors["dropout_seed"] = np.array([case.dropout_seed], dtype=np.int64)
        tensors["dropout_step"] = np.array([case.dropout_step], dtype=np.int64)

    written = save(folder / f"{case.name}.safetensors", model, tensors)
    error = check_gradients(
        case.name, model, lambda: losses(model, case, packed, padded, labels)[0], generator
    )
    print(f"{case.name:14} loss {loss.item():.6f}  {written}  gradient check {error:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path(__file__).parent / "goldens"
    )
    folder = parser.parse_args().output
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    contract.check_philox()
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    for case in CASES:
        make(case, folder)


if __name__ == "__main__":
    main()
