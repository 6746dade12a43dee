"""Measure how long it takes to explain the picks of a selection, beside the selection itself.

    python benchmarks/explaining.py
    python benchmarks/explaining.py --data FOLDER/alpaca_52k.parquet --rows 40000

Without `--data` the pool is that of `synthetic.py`, 52,002 rows with their 256 strongest features.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from synthetic import pool

from hf_sae_select import FeatureMatrix, Selection, reasons, select_indices
from hf_sae_select.concepts.neighbours import Neighbours
from hf_sae_select.features import kernels
from hf_sae_select.selection.trace import Trace

METHODS = ("match", "greedy", "weighted", "simscale", "random")


def main() -> None:
    kernels.MOST_INTERPRETED = -1  # so that what follows is compiled by a first call
    args = arguments()
    features = pool(d_sae=8192) if args.data is None else encoded(args.data, args.rows)
    features = features.top(256)
    print(f"{len(features):,} rows, {len(features.ids):,} nonzeros, {args.budget:,} picks\n")
    warm_up(features)
    print("| method | select | parts | runners-up | neighbours | all reasons | reason of one pick |")
    print("|---|---|---|---|---|---|---|")
    for method in METHODS:
        selection, *figures = measured(features, method, args.budget)
        print(f"| `{method}` | " + " | ".join(f"{wall:.1f} ({cpu:.1f})" for wall, cpu in figures) + " |")
        assert len(selection) == args.budget


def encoded(file: Path, rows: int | None) -> FeatureMatrix:
    dataset = Dataset.from_parquet(str(file))
    return FeatureMatrix.from_dataset(dataset.select(range(rows or len(dataset))).sae_encode())


def measured(features: FeatureMatrix, method: str, budget: int) -> list[Any]:
    """Return a selection, and of each step the seconds on the clock and of all processors."""
    selection, *select = timed(lambda: select_indices(features, budget, method))
    trace, picks = Trace.of(features, selection), np.arange(budget)
    trace.measure  # noqa: B018 -- computed once, and used by each step
    steps: list[Callable[[], Any]] = [
        lambda: list(trace.parts(picks)),
        lambda: trace.runners_up(picks),
        lambda: Neighbours.of(trace),
        lambda: reasons(features, selection),
        lambda: reasons(features, selection, budget // 2),
    ]
    return [selection, select, *(timed(step)[1:] for step in steps)]


def timed(function: Callable[[], Any]) -> tuple[Any, float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def warm_up(features: FeatureMatrix) -> None:
    """Compile."""
    for method in METHODS:
        selection: Selection = select_indices(features, 2, method)
        reasons(features, selection)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a Parquet file of rows; by default a synthetic pool")
    parser.add_argument("--rows", type=int, help="how many of its rows; by default all")
    parser.add_argument("--budget", type=int, default=3000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
