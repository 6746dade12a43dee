"""How like all rows the picks of each method are, and what measures of a subset cost.

    python benchmarks/likeness.py --data FOLDER/alpaca_52k.parquet --budget 3000

The rows are encoded first where the cache of `datasets` does not have their codes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from hf_sae_select import FeatureMatrix, export_atlas, metrics
from hf_sae_select.concepts.representation import representation
from hf_sae_select.features import kernels
from hf_sae_select.features.duplicates import duplicates

METHODS = ("match", "greedy", "simscale", "weighted")


def main() -> None:
    kernels.MOST_INTERPRETED = -1  # so that what follows is compiled by a first call
    args = arguments()
    ds = Dataset.from_parquet(str(args.data))
    coded = ds.select(range(args.rows or len(ds))).sae_encode()
    budget = min(args.budget, len(coded))
    print(f"{len(coded):,} rows, {budget:,} selected\n{coded.sae_compare(budget, list(METHODS))}\n")
    subset = coded.sae_select(budget)
    features = FeatureMatrix.from_dataset(coded)
    above = features.above(subset.sae_selection.parameters["encoding"]["threshold"])
    rows = {"match": subset.sae_selection.indices, "random": coded.sae_select(budget, "random").sae_selection.indices}
    rows["longest"] = np.argsort(-features.tokens, kind="stable")[:budget]
    metrics.likeness(features, [0])  # compiles
    duplicates(features, [0])
    for name, picks in rows.items():
        print(f"{name}: {representation(above, picks)}, near-duplicates: {len(duplicates(features, picks).rows):,}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "atlas.parquet"
        export_atlas(subset, file)  # compiles
        calls: dict[str, Callable[[], Any]] = {
            "likeness": lambda: metrics.likeness(features, rows["match"]),
            "representation": lambda: representation(above, rows["match"]),
            "duplicates": lambda: duplicates(features, rows["match"]),
            "export_atlas": lambda: export_atlas(subset, file),
        }
        for name, call in calls.items():
            started, used = time.perf_counter(), time.process_time()
            call()
            print(f"{name:<16}{time.perf_counter() - started:>8.2f} s{time.process_time() - used:>8.2f} s of CPU")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a Parquet file")
    parser.add_argument("--rows", type=int, help="the first rows of it (all)")
    parser.add_argument("--budget", type=int, default=3000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
