"""Measure what `herding` loses by comparing some rows at each pick, and not all.

    python benchmarks/candidates.py --data FOLDER --out RESULTS [--draws 6] [--halves a b]

On each draw of each pool with labels (see labelled.py), `herding` picks among all rows, and among a quarter, an eighth
and a sixteenth of them as candidates. The budget is twice the number of labels. Printed are, over all pools and draws:

- the gain of the picks by `candidates=None`'s measure, and the share that is left of what that gains over random rows;
- labels covered beyond chance, in points, and the difference from `candidates=None` with its interval of 95 %.

Encoding takes longest, once: RESULTS may be the folder of effectiveness.py.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import datasets
import numpy as np
from contenders import Draw
from effectiveness import worth
from encoded import Codes, default_codes, rows_of
from labelled import pools, universe
from numpy.typing import NDArray

from hf_sae_select import FeatureMatrix, select_indices

PARTS = {"all": 1, "an eighth": 8, "a thirty-second": 32}
RESAMPLES = 2000


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    rows = rows_of(args.out / "universe.parquet", partial(universe, args.data))
    features = default_codes(rows)
    codes = Codes({"": features}, features, {})  # words are not read
    for half in args.halves:
        lines: dict[str, list[NDArray[np.float64]]] = {pool.name: [] for pool in pools(rows, half, 1)}
        for pool in pools(rows, half, args.draws):
            lines[pool.name].append(measure(Draw(pool, codes)))
        print_table(half, {name: np.array(draws) for name, draws in lines.items()})


def measure(draw: Draw) -> NDArray[np.float64]:
    """Return, for each part, the gain over random rows as a share of that of all, the ratio, and labels in points."""
    features, budget = draw.features().top(256), draw.pool.budgets["2x"]
    chance = gain(features, np.random.default_rng(draw.pool.draw).permutation(len(features))[:budget])
    figures = []
    for part in PARTS.values():
        candidates = None if part == 1 else max(len(features) // part, 1)
        picks = select_indices(features, budget, "herding", candidates=candidates).indices
        measured = worth(draw.pool, picks, features.tokens)
        figures.append((gain(features, picks), 100 * (measured["coverage"] - measured["by chance"])))
    most = figures[0][0]
    return np.array([((own - chance) / (most - chance), own / most, labels) for own, labels in figures])


def gain(features: FeatureMatrix, picks: NDArray[np.int64]) -> float:
    """Return what picks gain, one after another, where all rows are compared."""
    picked = select_indices(features, len(picks), "herding", candidates=None, must_include=picks.tolist())
    return float(picked.gains.sum())


def print_table(half: str, lines: dict[str, NDArray[np.float64]]) -> None:
    """Print a line for each part, over all pools and draws."""
    everything = np.concatenate(list(lines.values()))
    print(f"\nhalf {half}: {len(lines)} pools, {len(everything)} draws")
    print("| candidates | gain | gain over random rows | labels beyond chance | beside all |\n|---|---|---|---|---|")
    for i, name in enumerate(PARTS):
        over_random, ratio, labels = everything[:, i].mean(axis=0)
        low, high = interval([draws[:, i, 2] - draws[:, 0, 2] for draws in lines.values()])
        beside = (
            "" if i == 0 else f"{(everything[:, i, 2] - everything[:, 0, 2]).mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        )
        print(f"| {name} | {ratio:.5f} | {over_random:.2f} | {labels:+.1f} | {beside} |")


def interval(differences: list[NDArray[np.float64]]) -> tuple[float, float]:
    """Return an interval of 95 % of the mean, over resampled pools and draws within them."""
    rng, means = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = [differences[i] for i in rng.integers(0, len(differences), len(differences))]
        means.append(np.mean([rng.choice(pool, len(pool)).mean() for pool in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows, such as effectiveness.py's")
    parser.add_argument("--halves", nargs="+", default=["a", "b"], choices=["a", "b"])
    parser.add_argument("--draws", type=int, default=6)
    return parser.parse_args()


if __name__ == "__main__":
    main()
