#!/usr/bin/env python3
"""Compares the vectors of `embed` with those of Hugging Face's transformers, pooled as
sentence-transformers does: the mean over all tokens, [CLS] and [SEP] included, of length 1 if asked.

    python3 tests/reference/compare_embeddings.py --embed build/bin/embed --model FOLDER --input FILE

FOLDER: a model of Hugging Face's, for example all-MiniLM-L6-v2. FILE: a text per line; the first
--texts that are not blank are taken. Exit code 1 where a cosine distance is above --tolerance.
Needs numpy, torch, transformers.
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer


def reference(folder, texts, pooling, max_length):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    vectors = []
    with torch.no_grad():
        for text in texts:
            inputs = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
            states = model(**inputs).last_hidden_state[0]
            vectors.append((states[0] if pooling == "cls" else states.mean(0)).numpy())
    return np.stack(vectors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--embed", required=True, help="the program")
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--texts", type=int, default=100)
    parser.add_argument("--pooling", choices=["mean", "cls"], default="mean")
    parser.add_argument("--max-length", type=int, default=256)
    parser.add_argument("--normalize", action="store_true")
    parser.add_argument("--auto", action="store_true",
                        help="leave pooling, length and normalising to the folder's own files")
    parser.add_argument("--tolerance", type=float, default=1e-4)
    arguments = parser.parse_args()

    lines = Path(arguments.input).read_text(encoding="utf-8").splitlines()
    texts = [line for line in lines if line.strip()][: arguments.texts]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "texts.txt"), Path(folder, "vectors.npy")
        source.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        command = [arguments.embed, "--checkpoint", arguments.model, "--input", source,
                   "--output", target]
        if not arguments.auto:
            command += ["--pooling", arguments.pooling, "--max-length", str(arguments.max_length)]
            command += ["--normalize"] if arguments.normalize else []
        subprocess.run([str(part) for part in command], check=True)
        ours = np.load(target)
    theirs = reference(arguments.model, texts, arguments.pooling, arguments.max_length)
    if arguments.normalize or arguments.auto:
        theirs /= np.linalg.norm(theirs, axis=1, keepdims=True)

    assert ours.shape == theirs.shape and ours.dtype == np.float32, (ours.shape, theirs.shape)
    cosine = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    distance = (1 - cosine.astype(np.float64)).max()
    difference = np.abs(ours - theirs).max()
    print(f"{len(texts)} texts of {ours.shape[1]} numbers: cosine distance at most {distance:.2e}, "
          f"largest difference {difference:.2e}, lengths {np.linalg.norm(ours, axis=1).min():.6f} "
          f"to {np.linalg.norm(ours, axis=1).max():.6f}")
    return 0 if distance < arguments.tolerance and difference < arguments.tolerance else 1


if __name__ == "__main__":
    sys.exit(main())
