"""Measure whether budgets in tokens keep the mix of a pool: its labels, weighed by the tokens of their rows.

    python benchmarks/budgets.py --data FOLDER --out RESULTS [--draws 8] [--quick]

Five pools have a few known labels each, of rows of very different lengths, up to 256 tokens. A method spends 5, 10,
20 and 40 % of a pool's tokens. What counts is the total variation between the labels of the picks' tokens and those of
the pool's tokens, from 0 to 1, beside that of random rows for the same tokens: the mean of 100 seeds. Lower is better.

`datasets` keeps the codes. A line for each pool, draw and method goes to RESULTS/budgets.jsonl; a run that was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import labelled
import numpy as np
import pandas as pd
from datasets import Dataset
from encoded import rows_of
from labelled import few
from numpy.typing import NDArray
from results import append, open_results, read, settings_of
from targets import spread

from hf_sae_select import METHODS, FeatureMatrix, select_indices
from hf_sae_select.features.columns import STATE, encoding_record
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection.cuts import Cuts

MAX_LENGTH = 256  # tokens of a row that are read
SHARES = (0.05, 0.1, 0.2, 0.4)  # of the pool's tokens
SEEDS = 100  # of random rows
KINDS, OF_EACH = 12, 60  # templates of T0, and rows of each
ROWS = {"dolly": 150, "gsm8k": 250, "code": 300, "ultrachat": 200, "truthfulqa": 20}  # of each label at most
ROWS |= {"alpaca": 300, "oasst1": 300, "alpaca_eval": 60, "mtbench101": 50}
POOLS = {
    "Dolly, 8 categories": ("dolly",),
    "T0, 12 templates": ("t0",),
    "MT-Bench-101, 13 tasks": ("mtbench101",),
    "Dolly, sums, code, chats": ("dolly", "gsm8k", "code", "ultrachat"),
    "7 sources": ("alpaca", "oasst1", "novels", "gsm8k", "code", "ultrachat", "truthfulqa"),
}
MEASURES = ("distance", "missing", "length", "likeness")
BY_SOURCE = ("7 sources",)  # pools whose labels are the sources
PER_COST = "match, per cost"  # the better of two runs, by gain and by gain per token
CONTENDERS = (
    *("random", "herding", "match", PER_COST, "facility_location"),
    *("concave", "weighted", "greedy", "simscale", "longest"),
)


class Pool(NamedTuple):
    """Hold one draw of a pool: rows of the universe and their labels."""

    name: str
    draw: int
    rows: NDArray[np.int64]
    labels: NDArray[np.str_]


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    open_results(args.out, settings_of([Path(__file__), Path(labelled.__file__)]))
    rows = rows_of(args.out / "universe.parquet", partial(universe, args.data))
    coded = rows.sae_encode(text="text", keep="state", max_length=MAX_LENGTH)
    features, threshold = FeatureMatrix.from_dataset(coded, vectors=STATE), encoding_record(coded)["threshold"]
    file, draws = args.out / "budgets.jsonl", 2 if args.quick else args.draws
    done = {(line["pool"], line["draw"], line["method"]) for line in read(file)}
    for pool in pools(rows, draws):
        part = features.take(pool.rows)
        shares = Shares.of_strongest(part, np.arange(len(part)))
        for method in CONTENDERS:
            if (pool.name, pool.draw, method) not in done:
                values = measured(pool, shares, list(picks_of(method, part, threshold)))
                append(file, {"pool": pool.name, "draw": pool.draw, "method": method, **values})
    print_tables(pd.DataFrame([line for line in read(file) if line["draw"] < draws]))


# Rows


def universe(data: Path) -> Dataset:
    """Return `text`, `source` and `label` of all rows."""
    novels = labelled.novels(data, 3).assign(label="novels", source="novels")
    parts = [few(labelled.t0(data, OF_EACH).assign(source="t0"), KINDS, OF_EACH), novels]
    parts += [few(part, len(part), ROWS[part["source"].iloc[0]]) for part in labelled.instructions(data)]
    return Dataset.from_pandas(pd.concat(parts, ignore_index=True), preserve_index=False)


def pools(rows: Dataset, draws: int) -> Iterator[Pool]:
    """Draw two thirds of each pool so many times, in a random order."""
    table = rows.select_columns(["source", "label"]).to_pandas()
    for number, (name, sources) in enumerate(POOLS.items()):
        for draw in range(draws):
            drawn = np.random.default_rng([draw, number]).permutation(table.index[table["source"].isin(sources)])
            drawn = drawn[: 2 * len(drawn) // 3]
            labels = table["source" if name in BY_SOURCE else "label"].to_numpy().astype(str)[drawn]
            yield Pool(name, draw, drawn, labels)


# Picks


def picks_of(method: str, features: FeatureMatrix, threshold: float) -> Iterator[list[NDArray[np.int64]]]:
    """Yield, for each budget, the rows that a method picks by the features that `select` would pass it."""
    name, options = method, dict[str, Any]()
    if method == PER_COST:
        name, options = "match", {"per_cost": True}
    cut = Cuts().resolve(METHODS[name], threshold).apply(features)
    for share in SHARES:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*no row left to pick", UserWarning)
            selections = [
                select_indices(cut, share, name, cost="tokens", seed=seed, **options)
                for seed in range(SEEDS if name == "random" else 1)
            ]
        yield [selection.indices for selection in selections]


def measured(pool: Pool, shares: Shares, picks: list[list[NDArray[np.int64]]]) -> dict[str, list[float]]:
    """Return, for each budget, the means over the selections of what `worth` measures."""
    values = [np.mean([worth(pool, shares, rows) for rows in of_budget], axis=0) for of_budget in picks]
    return dict(zip(MEASURES, np.transpose(values).tolist(), strict=True))


def worth(pool: Pool, shares: Shares, picks: NDArray[np.int64]) -> tuple[float, ...]:
    """Return the total variation by tokens, the labels without a pick, the length of a pick to a row's, likeness."""
    tokens, (names, number) = shares.features.tokens, np.unique(pool.labels, return_inverse=True)
    there, spent = (np.bincount(number[rows], tokens[rows], len(names)) for rows in (np.arange(len(number)), picks))
    distance = np.abs(there / there.sum() - spent / spent.sum()).sum() / 2
    return distance, (spent == 0).sum(), tokens[picks].mean() / tokens.mean(), shares.likeness(picks)


# Tables


def print_tables(lines: pd.DataFrame) -> None:
    """Print the distances by budget and by pool, and beside them labels without a row, lengths and likeness."""
    lines = lines.assign(budget=[list(SHARES)] * len(lines)).explode(["budget", *MEASURES])
    lines = lines.astype(dict.fromkeys(MEASURES, float))
    tables = {name: lines.pivot_table(name, ["pool", "draw", "budget"], "method") for name in MEASURES}
    distance, others = tables["distance"], [tables[name] for name in MEASURES[1:]]
    less = distance.sub(distance["random"], axis=0)
    heads = [f"{share:.0%}" for share in SHARES]
    heads += ["less random's", "worst pool and budget", "labels missing", "length", "likeness"]
    print(f"| method | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for method in CONTENDERS:
        of_pools = less[method].groupby(["pool", "draw"]).mean()
        worst = less[method].groupby(["pool", "budget"]).mean().max()
        cells = [f"{value:.3f}" for value in distance[method].groupby("budget").mean()]
        cells += ["", ""] if method == "random" else [spread(of_pools, other_pools=True), f"{worst:+.3f}"]
        cells += [f"{table[method].mean():.2f}" for table in others]
        print(f"| {method} | {' | '.join(cells)} |")
    print(f"\n| pool | budget | {' | '.join(CONTENDERS)} |\n|---|---|{'---|' * len(CONTENDERS)}")
    for (pool, budget), values in distance.groupby(["pool", "budget"]).mean().iterrows():
        print(f"| {pool} | {budget:.0%} | " + " | ".join(f"{values[method]:.3f}" for method in CONTENDERS) + " |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder for rows and what is measured")
    parser.add_argument("--draws", type=int, default=8, help="draws of each pool")
    parser.add_argument("--quick", action="store_true", help="two draws of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
