"""Measure what the rows that each method picks are worth, on pools whose labels are known.

    python benchmarks/effectiveness.py --data FOLDER --out RESULTS [--draws 12] [--halves a b] [--figures FOLDER]

Every pool (see labelled.py) is drawn several times, for one run of a rule is one draw of luck. On each draw every
contender (contenders.py) picks, and a line goes to RESULTS/picks.jsonl: labels covered, how far the mix of labels is
from the pool's, near-duplicates, junk, length, and seconds. A run that was interrupted goes on. At the end the tables
are printed, with intervals over pools and draws, and `--figures` draws them. Rules and their parameters were chosen on
half "a"; half "b" was looked at once, afterwards.

Encoding takes longest: by the default SAE, by three of random weights, and once more for the last layer's states.
`datasets` keeps it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import datasets
import numpy as np
from contenders import NOT_NESTED, Contender, Draw, contenders
from effects import draw_figure, print_tables
from encoded import MAX_LENGTH, Codes, all_codes, rows_of
from labelled import Pool, pools, universe
from numpy.typing import NDArray
from results import append, open_results, read, settings_of

from hf_sae_select import load_sae
from hf_sae_select.features.metrics import length_correlation

SOURCES = ("effectiveness", "contenders", "control", "encoded", "labelled", "pool_rivals", "target_rivals")


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    folder = Path(__file__).parent
    settings = settings_of([folder / f"{name}.py" for name in SOURCES], max_length=MAX_LENGTH)
    open_results(args.out, settings)
    rows = rows_of(args.out / "universe.parquet", partial(universe, args.data))
    codes = all_codes(rows, args.out)
    file = args.out / "picks.jsonl"
    for half in args.halves:
        measure(file, half, codes, list(pools(rows, half, args.draws)))
    lines = [line for line in read(file) if line["half"] in args.halves and line["draw"] < args.draws]
    print_lengths(codes)
    print_tables(lines, args.halves)
    if args.figures:
        draw_figure(lines, args.figures)


def measure(file: Path, half: str, codes: Codes, drawn: list[Pool]) -> None:
    """Measure every contender on every draw of a pool, but for what the file has."""
    done = {(line["pool"], line["draw"], line["method"]) for line in read(file)}
    here = {(pool.name, pool.draw, label) for pool in drawn for label in contenders()}
    print(f"half {half}: {len(here & done):,} of {len(here):,} lines are in {file} and are not measured again")
    for pool in drawn:
        for label, contender in contenders().items():
            if (pool.name, pool.draw, label) not in done:
                start = time.perf_counter()
                worth = dict(worths(Draw(pool, codes), label, contender))
                line = {"half": half, "pool": pool.name, "draw": pool.draw, "method": label}
                append(file, line | {"seconds": time.perf_counter() - start, "worth": worth})


# What the picks are worth


def worths(draw: Draw, label: str, contender: Contender) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what the picks of each budget are worth; but for two rules, a smaller one's are a larger one's first."""
    pool = draw.pool
    most = None if label in NOT_NESTED else contender(draw, max(pool.budgets.values()))
    for name, budget in pool.budgets.items():
        picks = contender(draw, budget) if most is None else most[:budget]
        yield name, worth(pool, picks, draw.features().tokens)


def worth(pool: Pool, picks: NDArray[np.int64], tokens: NDArray[np.int32]) -> dict[str, float]:
    """Measure picks of a pool; `tokens` are those of each of its rows."""
    names, there = np.unique(pool.labels[~pool.junk], return_counts=True)
    labels = pool.labels[picks][~pool.junk[picks]]
    counts = np.array([(labels == name).sum() for name in names])
    shares = counts / max(counts.sum(), 1)
    some = shares[shares > 0]
    return {
        "coverage": float((counts > 0).mean()),
        "by chance": by_chance(there, len(pool.rows), len(picks)),
        "distance": float(np.abs(shares - there / there.sum()).sum() / 2),
        "entropy": float(-(some * np.log(some)).sum() / np.log(len(names))),
        "duplicates": 1 - len(set(pool.origin[picks])) / len(picks),
        "junk": float(pool.junk[picks].mean()),
        "length": float(tokens[picks].mean() / tokens.mean()),
    }


def by_chance(counts: NDArray[np.int64], rows: int, budget: int) -> float:
    """Return the coverage to expect of `budget` rows at random: the mean over all draws that there are."""
    logs = np.concatenate([[0.0], np.log(np.arange(1, rows + 1)).cumsum()])  # of factorials
    left = rows - counts
    none = logs[left] + logs[rows - budget] - logs[np.maximum(left - budget, 0)] - logs[rows]
    return float(1 - np.where(left >= budget, np.exp(none), 0).mean())


def print_lengths(codes: Codes) -> None:
    """Print how closely the number of a row's features follows its length."""
    threshold = load_sae().config.feature_threshold
    print("| Pearson's r of a row's tokens and features | r |\n|---|---|")
    ours = codes.features[""]
    for label, features in {"above the threshold": ours.above(threshold), "all": ours, "words": codes.words}.items():
        print(f"| {label} | {length_correlation(features):.2f} |")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for what is measured; a second run goes on there"
    )
    parser.add_argument("--halves", nargs="+", default=["a", "b"], choices=["a", "b"])
    parser.add_argument("--draws", type=int, default=12)
    parser.add_argument("--figures", type=Path, help="folder for the figures of docs/effectiveness.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
