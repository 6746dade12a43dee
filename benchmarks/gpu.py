"""Measure all that runs on a GPU: products, copies, encoding, equality of codes, a training step; and selection.

    python benchmarks/gpu.py --out FOLDER [--part env,micro,encode,equal,train,select] [--minutes 8]

Models, SAEs and texts are random, so nothing is downloaded. Each figure is a line of JSON, printed and written to
FOLDER/gpu.jsonl at once; FOLDER/gpu.md is the tables for README.md, and comes last. The parts share the minutes. A
measurement begins only while its part has time, and one that needs too much memory says so and the next goes on.

Roofs are measured on this machine first, and shares are of these, not of a data sheet. Language models are in
bfloat16, with as many layers as their SAE needs. `--device cpu --tiny` runs every part on small shapes, for the tests.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import datasets
import torch
from gpu_bench import codes, equality, picks, pieces, roofs, steps
from gpu_bench.bench import Bench
from gpu_bench.lines import Lines
from gpu_bench.shapes import FULL, TINY
from transformers.utils import logging

# name -> what measures it, and its share of the time
PARTS: dict[str, tuple[Callable[[Bench], None], int]] = {
    "env": (roofs.measure, 1),
    "micro": (pieces.measure, 3),
    "encode": (codes.measure, 4),
    "equal": (equality.measure, 1),
    "train": (steps.measure, 2),
    "select": (picks.measure, 2),
}


def main() -> None:
    args = arguments()
    datasets.disable_caching()  # what is encoded is encoded anew
    datasets.disable_progress_bars()
    logging.disable_progress_bar()
    device = torch.empty(0, device=args.device).device  # with its index
    bench = Bench(device, TINY if args.tiny else FULL, Lines(args.out))
    shares, left = sum(PARTS[part][1] for part in args.part), 60 * args.minutes
    for part in args.part:
        measure, share = PARTS[part]
        started = time.monotonic()
        bench.begin(part, left * share / shares)
        try:
            measure(bench)
        except Exception as error:  # the other parts are worth their figures
            traceback.print_exc()
            bench.lines.add(part, "failed", error=f"{type(error).__name__}: {error}")
        took = time.monotonic() - started
        bench.lines.add("time", "seconds", of=part, seconds=took)
        left, shares = left - took, shares - share  # what one part leaves is for the others
    tables = bench.lines.markdown()
    (args.out / "gpu.md").write_text(tables + "\n")
    print(f"\n{tables}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.jsonl and gpu.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes and one run of each, for the tests")
    parser.add_argument("--part", type=lambda names: names.split(","), default=list(PARTS), metavar="NAME,NAME")
    parser.add_argument("--minutes", type=float, default=8)
    args = parser.parse_args()
    if unknown := set(args.part) - set(PARTS):
        parser.error(f"unknown --part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    if args.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a trainer takes a GPU where it sees one
    return args


if __name__ == "__main__":
    main()
