"""Measure what each part of `match` does: the rule with one thing changed, on the pools of effectiveness.py.

    python benchmarks/variants.py --data FOLDER --out RESULTS [--draws 6] [--half a]

RESULTS is the folder that effectiveness.py writes to; what it has encoded
is not encoded again. The method was chosen by half "a" alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from effectiveness import worth
from effects import LABELS, SHARES, beyond_chance, spread, values
from encoded import default_codes, rows_of
from labelled import pools, universe
from numpy.typing import NDArray
from results import append, read

from hf_sae_select import METHODS, FeatureMatrix, Selection, select_indices
from hf_sae_select.features import kernels as counting
from hf_sae_select.selection import coverage
from hf_sae_select.selection.coverage import Measure
from hf_sae_select.selection.engine import Engine

CHANGED: dict[str, dict[str, Any]] = {
    "as it is": {},
    "activations, not their roots": {"power": 1.0},
    "not centred": {"center": 0.0},
    "half the pool's mean taken off": {"center": 0.5},
    "1.5 times the mean taken off": {"center": 1.5},
    "64 strongest features of a row": {"top": 64},
    "128 strongest": {"top": 128},
    "512 strongest": {"top": 512},
    "all features": {"top": None},
    "rare features for more (idf)": {"idf": 1.0},
    "flatter target, m^0.8": {"tilt": 0.8},
    "sharper target, m^1.2": {"tilt": 1.2},
    "flat target, m^0": {"tilt": 0.0},
    "the largest share alone counts": {"curve": "max"},
    "facility location on these shares": {"curve": "facility_location"},
}


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    rows = rows_of(args.out / "universe.parquet", partial(universe, args.data))
    ours = default_codes(rows)
    file = args.out / "variants.jsonl"
    done = {(line["pool"], line["draw"], line["method"]) for line in read(file)}
    for pool in pools(rows, args.half, args.draws):
        for label, changed in CHANGED.items():
            if (pool.name, pool.draw, label) in done or "sorted" in pool.name:
                continue
            features = ours.take(pool.rows)
            picks = select_indices(features, max(pool.budgets.values()), variant, seed=pool.draw, **changed).indices
            measured = {name: worth(pool, picks[:size], features.tokens) for name, size in pool.budgets.items()}
            line = {"half": args.half, "pool": pool.name, "draw": pool.draw, "method": label}
            append(file, line | {"worth": measured})
    table([line for line in read(file) if line["half"] == args.half], list(CHANGED))


def variant(
    features: FeatureMatrix,
    budget: int,
    rng: np.random.Generator | None,
    *,
    power: float = 0.5,
    center: float = 1.0,
    top: int | None = METHODS["match"].top,
    idf: float = 0.0,
    tilt: float = 1.0,
    curve: str = "sqrt",
) -> Selection:
    """Pick as `match` does, its parts open to change."""
    features = features if top is None else features.top(top)
    engine = Engine(features, budget, rng, None)
    amounts = features.acts ** np.float32(power) * (engine.weights(True) ** idf)[features.ids].astype(np.float32)
    usual = engine.mass(lambda _: amounts)
    usual *= center / max(usual.sum(), 1)
    apart = counting.shares_above(features.offsets, features.ids, amounts, usual)
    if curve == "facility_location":
        dense = replace(features, vectors=matrix(features, apart))
        return select_indices(dense, budget, "facility_location", seed=int(engine.order[0]), center=False)
    weight = engine.mass(lambda _: apart) ** (tilt if curve == "max" else tilt / 2)
    return engine.greedy(Measure(lambda: coverage.mass_objective(weight, curve), lambda _: apart), "never")


def matrix(features: FeatureMatrix, amounts: NDArray[np.float32]) -> NDArray[np.float32]:
    dense = np.zeros((len(features), features.d_sae), np.float32)
    dense[np.repeat(np.arange(len(features)), features.counts), features.ids] = amounts
    return dense


def table(lines: list[dict[str, Any]], labels: list[str]) -> None:
    """Print what each variant covers beyond chance."""
    print("| `match` | labels at 1x, 2x | worst pool | at 1 %, 5 % |\n|---|---|---|---|")
    for label in labels:
        lift = values(lines, label, beyond_chance(LABELS))
        worst = min(each.mean() for each in lift.values())
        print(f"| {label} | {spread(lift)} | {worst:+.1f} | {spread(values(lines, label, beyond_chance(SHARES)))} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder that effectiveness.py writes to")
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--half", default="a", choices=["a", "b"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
