"""Measure how many picks stay where activations have a little noise, as of another GPU or another precision.

    python benchmarks/noise.py --data FOLDER --out RESULTS

The rows are those of effectiveness.py. Printed is, for relative noise and for half precision: the share of the picks
that stay, the sum of the gains beside that without noise, and the likeness to all rows with and without noise.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import datasets
import numpy as np
from encoded import default_codes, rows_of
from labelled import universe

from hf_sae_select import FeatureMatrix, load_sae, select_indices
from hf_sae_select.features.shares import STRONGEST, Shares

POOLS = {6_000: 300, 26_681: 2_000}  # rows of a pool, and picks
NOISE: tuple[float | str, ...] = (1e-6, 1e-5, 1e-4, "half precision")
METHODS = ("herding", "match", "greedy")


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    every = default_codes(rows_of(args.out / "universe.parquet", partial(universe, args.data)))
    every, threshold = replace(every, vectors=None), load_sae().config.feature_threshold
    print("| rows | picks | noise | method | same picks | gain | likeness | without noise |")
    print("|---|---|---|---|---|---|---|---|")
    for rows, picks in POOLS.items():
        pool = every.take(np.sort(np.random.default_rng(1).permutation(len(every))[:rows]))
        shares = Shares.of_strongest(pool, np.arange(len(pool)))
        for method in METHODS:
            exact = select_indices(as_read(pool, method, threshold), picks, method)
            for noise in NOISE:
                again = select_indices(as_read(noisy(pool, noise), method, threshold), picks, method)
                same = len(np.intersect1d(exact.indices, again.indices)) / picks
                gain = again.gains.sum() / exact.gains.sum()
                likeness = f"{shares.likeness(again.indices):.5f} | {shares.likeness(exact.indices):.5f}"
                line = f"| {len(pool):,} | {picks:,} | {noise} | `{method}` | {same:.1%} | {gain:.6f} | {likeness} |"
                print(line, flush=True)


def as_read(features: FeatureMatrix, method: str, threshold: float) -> FeatureMatrix:
    """Cut the features of a pool as `select` does by default."""
    return features.above(threshold) if method == "greedy" else features.top(STRONGEST)


def noisy(features: FeatureMatrix, noise: float | str) -> FeatureMatrix:
    """Multiply each activation by 1 and noise of this standard deviation, or round it to half precision."""
    if isinstance(noise, str):
        return replace(features, acts=features.acts.astype(np.float16).astype(np.float32))
    factors = 1 + noise * np.random.default_rng(5).standard_normal(len(features.acts))
    return replace(features, acts=(features.acts * factors).astype(np.float32))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows, such as effectiveness.py's")
    return parser.parse_args()


if __name__ == "__main__":
    main()
