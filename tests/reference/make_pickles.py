#!/usr/bin/env python3
"""Makes the inputs of fuzz_pickle, which tests/model/pickle_file_test.cpp reads too: what torch.save
writes of small state dicts, and of things that are no state dict.

    python3 tests/reference/make_pickles.py tests/fuzz/corpus/pickle

Made with torch 2.15.0; another version pads the entries otherwise. Needs `pip install torch`.
"""
import collections
import os
import pathlib
import pickle
import sys
import zipfile

import torch


def counted(first, *shape, dtype=torch.float32):
    """first, first + 1/4, first + 2/4, ...: exact in every floating type."""
    count = 1
    for extent in shape:
        count *= extent
    return (first + torch.arange(count) / 4).reshape(shape).to(dtype)


def state_dict():
    """Every dtype that is read, a scalar, tied tensors, views into one storage, a parameter."""
    tied, base = counted(1, 3, 2), counted(0, 4, 2)
    weights = collections.OrderedDict()
    weights["f32"] = tied
    weights["f16"] = counted(2, 3, dtype=torch.float16)
    weights["bf16"] = counted(3, 2, 2, dtype=torch.bfloat16)
    weights["f64"] = counted(4, 2, dtype=torch.float64)
    weights["position_ids"] = torch.arange(300).reshape(1, 300)
    weights["flags"] = torch.tensor([True, False])
    weights["scalar"] = torch.tensor(2.5)
    weights["tied"] = tied
    weights["rows"] = base[1:3]
    weights["parameter"] = torch.nn.Parameter(base[3])
    weights._metadata = collections.OrderedDict({"": {"version": 1}})
    return weights


class Command:
    """A pickle of this calls os.system when Python loads it."""

    def __reduce__(self):
        return os.system, ("false",)


def pickle_in_archive(path, value):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("a/data.pkl", pickle.dumps(value, 2)), ("a/version", b"3\n")):
            archive.writestr(zipfile.ZipInfo(name), content)


def main(folder):
    torch.save(state_dict(), folder / "state_dict")
    torch.save(state_dict(), folder / "before_1_6", _use_new_zipfile_serialization=False)
    torch.save({"a": counted(0, 2, 3).t()}, folder / "transposed")
    torch.save({"a": counted(0, 2).expand(3, 2)}, folder / "expanded")
    torch.save({"model": {"a": counted(0, 2)}, "epoch": 3}, folder / "dict_of_dicts")
    torch.save(torch.nn.Linear(2, 3), folder / "module")
    torch.save([counted(0, 2)], folder / "list")
    torch.save({"a": torch.quantize_per_tensor(counted(0, 2), 0.1, 0, torch.qint8)},
               folder / "quantized")
    pickle_in_archive(folder / "command", {"a": Command()})
    with zipfile.ZipFile(folder / "compressed", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("a/data.pkl"), b"x" * 100, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
