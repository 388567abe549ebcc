#!/usr/bin/env python3
"""Writes the text of Parquet files as JSON lines, for prepare_corpus. Needs `pip install pyarrow`.

    tools/parquet_to_jsonl.py [--text-field NAME] FILE_OR_FOLDER ... > text.jsonl
    tools/parquet_to_jsonl.py wikipedia/20231101.en | build/bin/prepare_corpus --input - ...

A row is a document: {"text": ...}. Where rows are sentences, as in Hugging Face's bookcorpus, which
does not say where a book ends, --rows-per-document N makes a document of N of them, a line each.
Files are read a batch of rows at a time, in the order of their names; rows whose text is null or
empty are left out and counted.
"""
import argparse
import json
import pathlib
import sys


def parquet_files(paths):
    for path in map(pathlib.Path, paths):
        if path.is_dir():
            found = sorted(path.rglob("*.parquet"))
            if not found:
                raise SystemExit(f"error: {path}: no .parquet file in this folder")
            yield from found
        elif path.exists():
            yield path
        else:
            raise SystemExit(f"error: {path}: does not exist")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER")
    parser.add_argument("--text-field", default="text", help="the column (default: text)")
    parser.add_argument("--rows-per-document", type=int, default=1, metavar="N",
                        help="rows that make a document, a line each (default: 1)")
    arguments = parser.parse_args()
    if arguments.rows_per_document < 1:
        parser.error("--rows-per-document is less than 1")
    try:
        import pyarrow.parquet
    except ImportError:
        raise SystemExit("error: this needs pyarrow: pip install pyarrow") from None
    documents = empty = 0
    rows = []

    def write_document():
        nonlocal documents
        documents += 1
        sys.stdout.write(json.dumps({"text": "\n".join(rows)}, ensure_ascii=False) + "\n")
        rows.clear()

    for path in parquet_files(arguments.paths):
        file = pyarrow.parquet.ParquetFile(path)
        if arguments.text_field not in file.schema_arrow.names:
            raise SystemExit(f"error: {path}: no column {arguments.text_field}; it has "
                             + ", ".join(file.schema_arrow.names))
        for batch in file.iter_batches(columns=[arguments.text_field], batch_size=1024):
            for text in batch.column(0).to_pylist():
                if not text:
                    empty += 1
                    continue
                rows.append(text)
                if len(rows) == arguments.rows_per_document:
                    write_document()
        print(f"{path}: {documents} documents so far", file=sys.stderr)
    if rows:
        write_document()
    if empty:
        print(f"{empty} rows without text were left out", file=sys.stderr)


if __name__ == "__main__":
    main()
