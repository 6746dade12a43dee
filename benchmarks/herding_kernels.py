"""Measure which kernel herding should go by: on many small pools of mixed sources, of half "a" alone.

    python benchmarks/herding_kernels.py --data FOLDER --out RESULTS [--pools 72]

RESULTS is the folder that effectiveness.py writes to; what it has encoded is not encoded again. A pool has 20 to 50
kinds of rows from some of the sources, as many rows of each or with a tail. `herding` was chosen by these pools and by
half "a" of effectiveness.py: they differ less from draw to draw than a few large ones do.
"""

from __future__ import annotations

import argparse
from functools import partial
from itertools import product
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from contenders import Draw, kernel, library
from effectiveness import worth
from encoded import Codes, default_codes, last_states, rows_of
from labelled import PER_LABEL, Pool, made, universe
from pool_rivals import herding
from results import append, read
from target_rivals import Floats, Picks

SOURCES = (
    *(("t0-a",), ("verbs-a",), ("novels-a", "dolly", "t0-a")),
    *(("t0-a", "dolly", "gsm8k", "code", "ultrachat"), ("verbs-a", "dolly", "gsm8k", "code", "ultrachat")),
    ("t0-a", "verbs-a", "novels-a", "dolly", "gsm8k", "code", "ultrachat"),
)
TAILS = (0.0, 0.4, 0.8, 1.2)  # a kind's rows fall with its rank to this power
REDUNDANCIES = (1.0, 1.25, 1.5)
WIDTHS = (0.2, 0.3, 0.5, 0.8, None)
REFERENCE = "shares, 128 strongest, width 0.5, redundancy 1.25"


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    rows = rows_of(args.out / "universe.parquet", partial(universe, args.data))
    features = default_codes(rows)
    states = {"dense": np.asarray(features.vectors), "last layer": last_states(rows, args.out / "last_states.npy")}
    codes = Codes({"": features}, features, states)
    table = rows.select_columns(["source", "label", "origin"]).to_pandas()
    file = args.out / "kernels.jsonl"
    done = {line["draw"] for line in read(file)}
    print(f"{len(done)} of {args.pools} pools are in {file} and are not measured again")
    for number in sorted(set(range(args.pools)) - done):
        pool = mixed_pool(table, number)
        append(file, {"draw": number, "worth": measure(Draw(pool, codes))})
    print_table([line["worth"] for line in read(file)[: args.pools]])


def mixed_pool(table: pd.DataFrame, number: int) -> Pool:
    """Draw some kinds of rows of some sources."""
    rng = np.random.default_rng([number, 99])
    there = table[table["source"].isin(SOURCES[number % len(SOURCES)])]
    kinds = [group.index.to_numpy() for _, group in there.groupby(["source", "label"])]
    rng.shuffle(kinds)
    kinds = kinds[: rng.integers(20, 50)]
    tail = TAILS[number // len(SOURCES) % len(TAILS)]
    sizes = np.maximum(3, np.rint(PER_LABEL * np.arange(1, len(kinds) + 1) ** -tail)).astype(int)
    rows = np.concatenate([rng.permutation(kind)[:size] for kind, size in zip(kinds, sizes, strict=True)])
    return made(table, "mixed", number, rng.permutation(rows))


def measure(draw: Draw) -> dict[str, list[float]]:
    """Return, of each rule, labels beyond chance and distance of the mix, means of 1x and 2x, in points."""
    pool, figures = draw.pool, dict[str, list[float]]()
    tokens = draw.features().tokens

    def add(label: str, picks: Picks) -> None:
        of_budgets = [worth(pool, picks[: pool.budgets[budget]], tokens) for budget in ("1x", "2x")]
        lift = np.mean([worth["coverage"] - worth["by chance"] for worth in of_budgets])
        figures[label] = [100 * float(lift), 100 * float(np.mean([worth["distance"] for worth in of_budgets]))]

    for label, cosine in views(draw).items():
        for width, redundancy in product(WIDTHS, REDUNDANCIES):
            kind = "cosine" if width is None else f"width {width}"
            picks = herding(kernel(cosine, width), pool.budgets["2x"], redundancy)
            add(f"{label}, {kind}, redundancy {redundancy}", picks)
    for method in ("match", "random"):
        add(method, library(method, draw, pool.budgets["2x"]))
    return figures


def views(draw: Draw) -> dict[str, Floats]:
    """Return the cosines of all pairs of rows, as they are seen in several ways."""
    shares = {f"shares, {strongest} strongest": draw.cosines("", strongest) for strongest in (64, 128, 256)}
    dense, last = draw.cosines("dense"), draw.cosines("last layer")
    both = {"shares and dense": (shares["shares, 256 strongest"] + dense) / np.float32(2)}
    return shares | {"dense": dense, "last layer": last} | both


def print_table(pools: list[dict[str, list[float]]]) -> None:
    """Print each rule's means over the pools, and its difference to the rule that was chosen."""
    print(f"| {len(pools)} pools | labels | less the chosen | mix |\n|---|---|---|---|")
    values = {rule: np.array([pool[rule] for pool in pools]) for rule in pools[0]}
    for rule in sorted(values, key=lambda rule: -values[rule][:, 0].mean()):
        less = values[rule][:, 0] - values[REFERENCE][:, 0]
        margin = 1.96 * less.std() / len(less) ** 0.5
        lift, distance = values[rule].mean(axis=0)
        print(f"| {rule} | {lift:+.1f} | {less.mean():+.1f} ± {margin:.1f} | {distance:.1f} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder that effectiveness.py writes to")
    parser.add_argument("--pools", type=int, default=72)
    return parser.parse_args()


if __name__ == "__main__":
    main()
