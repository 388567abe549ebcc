#!/usr/bin/env python3
"""Compares model folders with what Hugging Face's transformers makes of them: the weights that from_pretrained
finds, tokens of text, hidden states and the outputs of every head, in float32.

    python3 tests/reference/check_hugging_face.py [--programs build/bin] [--random N] [--lines N]
        FOLDER ... [--text FILE.txt[.xz|.gz] ...]
    python3 tests/reference/check_hugging_face.py --make FOLDER --tokenizer FOLDER

The first form takes folders by export, by train (a checkpoint) or by Hugging Face. Text is compared line by
line, N random ones of compare_tokenizers.py among it, with [CLS] and [SEP]. The second form writes small random
models of each head by save_pretrained, in safetensors, in parts and as pytorch_model.bin: folders for the first.
Needs `pip install torch transformers`.
"""
import argparse
import gzip
import json
import lzma
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file

from compare_tokenizers import random_line

TOLERANCE = 1e-4  # of 1, or of the value where that is larger
HEADS = ["Model", "ForMaskedLM", "ForPreTraining", "ForSequenceClassification",
         "ForTokenClassification", "ForQuestionAnswering"]


def read_lines(arguments):
    rng = random.Random(arguments.seed)
    lines = [random_line(rng, lambda code: True) for _ in range(arguments.random)]
    for file in arguments.text:
        opener = {".xz": lzma.open, ".gz": gzip.open}.get(pathlib.Path(file).suffix, open)
        with opener(file, "rb") as text:
            lines += [line.rstrip(b"\r\n") for line, _ in zip(text, range(arguments.lines))]
    # Python's library gets no bytes that are not UTF-8.
    return [line.decode(errors="replace") for line in lines]


def check_tokens(folder, programs, lines):
    """The ids, by which the model is compared then; how many lines differ."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    theirs = [tokenizer(line, truncation=False, padding=False)["input_ids"] for line in lines]
    answer = subprocess.run([programs / "tokenize", "--tokenizer", folder, "--ids", "--special"],
                            input="".join(line + "\n" for line in lines).encode(), check=True,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    ours = [json.loads(line) for line in answer.decode().splitlines()]
    assert len(ours) == len(lines), (len(ours), len(lines))
    different = [i for i in range(len(lines)) if ours[i] != theirs[i]]
    for i in different[:5]:
        print(f"  tokens differ: {lines[i]!r:.300}\n    ours   {ours[i]}\n    theirs {theirs[i]}")
    print(f"  {type(tokenizer).__name__}: {len(lines)} lines, {sum(map(len, theirs))} tokens, "
          f"{len(different)} lines differ")
    return theirs, len(different)


def load(kind, folder):
    model, info = kind.from_pretrained(folder, output_loading_info=True, dtype=torch.float32,
                                       attn_implementation="eager")
    return model.eval(), {key: sorted(value) for key, value in info.items() if value}


def outputs_of(model, ids, types):
    """What `forward` writes for one sequence, by its names."""
    with torch.no_grad():
        result = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types]),
                       output_hidden_states=True, return_dict=True)
    outputs = {}
    if "hidden_states" in result and model.config.model_type == "bert":
        outputs = {f"hidden_states.{i}": h[0] for i, h in enumerate(result.hidden_states)}
    for name, theirs in (("pooled", "pooler_output"), ("nsp_logits", "seq_relationship_logits"),
                         ("mlm_logits", "prediction_logits")):
        if result.get(theirs) is not None:
            outputs[name] = result[theirs].reshape(-1, result[theirs].shape[-1])
    if "last_hidden_state" in result:
        outputs[f"hidden_states.{model.config.num_hidden_layers}"] = result.last_hidden_state[0]
    if "start_logits" in result:
        outputs["logits"] = torch.stack([result.start_logits[0], result.end_logits[0]], 1)
    if "logits" in result:
        masked = "MaskedLM" in type(model).__name__
        outputs["mlm_logits" if masked else "logits"] = result.logits.reshape(-1, result.logits.shape[-1])
    return outputs


def check_outputs(folder, kind, programs, sequences):
    model, info = load(kind, folder)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        batch = [{"input_ids": ids, "token_type_ids": types, "labels": ids} for ids, types in sequences]
        (scratch / "in.json").write_text(json.dumps(batch))
        subprocess.run([programs / "forward", "--checkpoint", folder, "--input", scratch / "in.json",
                        "--output", scratch / "out.safetensors", "--device", "cpu", "--precision", "fp32"],
                       check=True, stdout=subprocess.DEVNULL)
        ours = load_file(scratch / "out.safetensors")
    theirs = {}
    for ids, types in sequences:
        for name, value in outputs_of(model, ids, types).items():
            theirs.setdefault(name, []).append(value)
    worst, where = 0.0, "nothing"
    for name, parts in theirs.items():
        want, have = torch.cat(parts), ours[name]
        assert want.shape == have.shape, (name, want.shape, have.shape)
        difference = ((want - have).abs() / want.abs().clamp(min=1)).max().item()
        if not difference <= worst:
            worst, where = difference, name
    bad = not worst <= TOLERANCE
    print(f"  {kind.__name__} -> {type(model).__name__}: {', '.join(sorted(theirs))}: largest difference "
          f"{worst:.2e} ({where}){' TOO LARGE' if bad else ''}"
          + "".join(f"\n    {key}: {value}" for key, value in info.items()))
    return bad + bool(info.get("missing_keys")) + bool(info.get("mismatched_keys"))


def check(folder, programs, lines):
    print(folder)
    config = json.loads((folder / "config.json").read_text())
    encoded, failures = check_tokens(folder, programs, lines)
    rng = random.Random(1)
    longest = config["max_position_embeddings"]
    chosen = rng.sample([ids for ids in encoded if len(ids) > 4], 8)
    sequences = [(ids[:min(longest, 64)], [rng.randrange(config["type_vocab_size"])] * min(len(ids), longest, 64))
                 for ids in chosen]
    architecture = config["architectures"][0]
    kinds = [getattr(transformers, architecture)]
    if architecture.endswith(("ForPreTraining", "ForMaskedLM")):
        kinds.append(transformers.AutoModelForMaskedLM)
    for kind in kinds:
        failures += check_outputs(folder, kind, programs, sequences)
    return failures


def make(folder, tokenizer):
    """Small random models, their biases and LayerNorms too."""
    torch.manual_seed(0)
    words = transformers.AutoTokenizer.from_pretrained(tokenizer)
    for family in ("Bert", "MegatronBert"):
        for head in HEADS:
            config = getattr(transformers, family + "Config")(
                vocab_size=len(words), hidden_size=24, num_hidden_layers=2, num_attention_heads=3,
                intermediate_size=40, max_position_embeddings=70,
                num_labels=2 if head == "ForQuestionAnswering" else 3)
            if head == "ForPreTraining":
                config.hidden_act = "gelu_new"
            model = getattr(transformers, family + head)(config)
            for parameter in model.parameters():
                parameter.data.add_(torch.randn_like(parameter) * 0.2)
            target = folder / (family + head)
            model.save_pretrained(target)
            for file in pathlib.Path(tokenizer).iterdir():
                if "token" in file.name or file.name == "vocab.txt" or file.suffix == ".model":
                    shutil.copy(file, target)
            if head == "ForPreTraining":  # the same in parts, and as older versions wrote it
                shutil.copytree(target, f"{target}-parts", dirs_exist_ok=True)
                pathlib.Path(f"{target}-parts/model.safetensors").unlink()
                model.save_pretrained(f"{target}-parts", max_shard_size="200KB")
                shutil.copytree(target, f"{target}-bin", dirs_exist_ok=True)
                pathlib.Path(f"{target}-bin/model.safetensors").unlink()
                torch.save(model.half().state_dict(), f"{target}-bin/pytorch_model.bin")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folders", nargs="*", type=pathlib.Path)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("build/bin"))
    parser.add_argument("--text", nargs="*", default=[])
    parser.add_argument("--lines", type=int, default=2000, help="of each file")
    parser.add_argument("--random", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--make", type=pathlib.Path)
    parser.add_argument("--tokenizer", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.make:
        return make(arguments.make, arguments.tokenizer)
    lines = read_lines(arguments)
    failures = sum(check(folder, arguments.programs, lines) for folder in arguments.folders)
    print("all as it should be" if failures == 0 else f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
