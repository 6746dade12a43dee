"""Print and draw what effectiveness.py has measured: means over the pools, with intervals by bootstrap.

A pool's figure is the mean over its draws; a control on random weights is the mean over their seeds. An interval holds
95 % of the means of pools drawn anew from the pools, each with draws drawn anew from its draws: it speaks of other
pools like these, as far as they are independent. Two of one source are not quite, nor are two draws of a pool.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Line = dict[str, Any]
Values = dict[str, NDArray[np.float64]]  # pool -> a value for each draw
LABELS, SHARES = ("1x", "2x"), ("1 %", "5 %")
OURS = "SAE herding"
SHOWN = (
    *(OURS, "match", "dense herding, width 0.3", "last layer herding, width 0.3", "k-means", "facility_location"),
    *(f"{OURS}, random weights", "match, random weights", "greedy", "simscale", "longest"),
)


def print_tables(lines: list[Line], halves: Sequence[str]) -> None:
    """Print everything for each half, and for both together where there are both."""
    lines = with_means(lines)
    for half in [*halves, "".join(halves)] if len(halves) > 1 else halves:
        of_half = [line for line in lines if line["half"] in half]
        shuffled = [line for line in of_half if "sorted" not in line["pool"]]
        print(f"\n## Half {half}\n" if len(half) == 1 else "\n## Both halves\n")
        coverage_table(shuffled)
        difference_table(shuffled)
        pool_table(shuffled)
        order_table(of_half)


def with_means(lines: list[Line]) -> list[Line]:
    """Replace a rule's lines on random weights of several seeds by their mean."""
    kept, same = list[Line](), dict[tuple[str, int, str], list[Line]]()
    for line in lines:
        rule, control, _ = line["method"].partition(", random weights ")
        key = line["pool"], line["draw"], f"{rule}, random weights"
        same.setdefault(key, []).append(line) if control else kept.append(line)
    for (_, _, method), seeds in same.items():
        worth = {
            budget: {name: float(np.mean([line["worth"][budget][name] for line in seeds])) for name in figures}
            for budget, figures in seeds[0]["worth"].items()
        }
        kept.append(seeds[0] | {"method": method, "worth": worth})
    return kept


def coverage_table(picks: list[Line]) -> None:
    """Print a line a method, the best first."""
    heads = ["method", "labels at 1x, 2x", "worst pool", "at 1 %, 5 %", "mix"]
    heads += ["duplicates", "junk", "length", "seconds"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    lifts = {method: values(picks, method, beyond_chance(LABELS)) for method in dict.fromkeys(methods(picks))}
    mixed = [line for line in picks if "mixture" in line["pool"]]
    by_luck = values(picks, "random", of("distance", LABELS))
    for method in sorted(lifts, key=lambda method: -mean(lifts[method])):
        farther = less(values(picks, method, of("distance", LABELS)), by_luck)
        cells = [spread(lifts[method]), f"{min(map(np.mean, lifts[method].values())):+.1f}"]
        cells += [spread(values(picks, method, beyond_chance(SHARES))), spread(scaled(farther, 100))]
        cells += [f"{mean(values(mixed, method, of(name, ('5 %',)))):.1%}" for name in ("duplicates", "junk")]
        cells.append(f"{mean(values(picks, method, of('length', LABELS))):.2f}")
        cells.append(f"{np.median([line['seconds'] for line in picks if line['method'] == method]):.2f}")
        print(f"| {method} | {' | '.join(cells)} |")


def difference_table(picks: list[Line]) -> None:
    """Print by how many points ours covers more labels than others, draw by draw."""
    print(f"\n| `{OURS}` less | labels at 1x, 2x | at 1 %, 5 % | mix |\n|---|---|---|---|")
    measures = (beyond_chance(LABELS), beyond_chance(SHARES), of("distance", LABELS))
    for method in sorted(set(methods(picks)) - {OURS}):
        pairs = [less(values(picks, OURS, measure), values(picks, method, measure)) for measure in measures]
        pairs[-1] = scaled(pairs[-1], 100)
        print(f"| {method} | {' | '.join(map(spread, pairs))} |")


def pool_table(picks: list[Line]) -> None:
    """Print labels beyond chance pool by pool."""
    lifts = {method: values(picks, method, beyond_chance(LABELS)) for method in SHOWN}
    print(f"\n| pool | {' | '.join(SHOWN)} |\n|---|{'---|' * len(SHOWN)}")
    for pool in lifts[OURS]:
        print(f"| {pool} | {' | '.join(f'{lifts[method][pool].mean():+.1f}' for method in SHOWN)} |")


def order_table(picks: list[Line]) -> None:
    """Print what the order of a pool's rows does."""
    print("\n| T0, balanced | shuffled | sorted by label |\n|---|---|---|")
    t0 = [line for line in picks if line["pool"].startswith("t0")]
    for method in (OURS, "match", "greedy", "simscale", "facility_location"):
        lifts = values(t0, method, beyond_chance(LABELS))
        orders = [np.mean([lifts[pool] for pool in lifts if order in pool]) for order in ("balanced", "sorted")]
        print(f"| {method} | " + " | ".join(f"{lift:+.1f}" for lift in orders) + " |")


# Figures from lines


def values(lines: list[Line], method: str, measure: Callable[[Line], float]) -> Values:
    """Return a method's measure for each pool and draw."""
    by_pool: dict[str, list[float]] = {}
    for line in sorted(lines, key=lambda line: line["draw"]):
        if line["method"] == method:
            by_pool.setdefault(line["pool"], []).append(measure(line))
    return {pool: np.array(of_pool) for pool, of_pool in by_pool.items()}


def methods(picks: list[Line]) -> list[str]:
    return [line["method"] for line in picks]


def of(name: str, budgets: Sequence[str]) -> Callable[[Line], float]:
    """Return a measure: the mean over budgets of one figure."""
    return lambda line: float(np.mean([line["worth"][budget][name] for budget in budgets]))


def beyond_chance(budgets: Sequence[str]) -> Callable[[Line], float]:
    """Return a measure: labels covered beyond what as many rows at random cover on average, in points."""

    def measure(line: Line) -> float:
        worth = [line["worth"][budget] for budget in budgets]
        return 100 * float(np.mean([figures["coverage"] - figures["by chance"] for figures in worth]))

    return measure


def less(ours: Values, theirs: Values) -> Values:
    """Subtract draw by draw, as far as both have been measured."""
    both = {pool: min(len(ours[pool]), len(theirs[pool])) for pool in ours if pool in theirs}
    return {pool: ours[pool][:draws] - theirs[pool][:draws] for pool, draws in both.items()}


def scaled(values: Values, factor: float) -> Values:
    return {pool: factor * of_pool for pool, of_pool in values.items()}


def mean(values: Values) -> float:
    return float(np.mean([of_pool.mean() for of_pool in values.values()])) if values else float("nan")


def interval(values: Values) -> tuple[float, float]:
    rng, draws = np.random.default_rng(0), min(map(len, values.values()))
    table = np.stack([of_pool[:draws] for of_pool in values.values()])
    pools = rng.integers(len(table), size=(2000, len(table), 1))
    means = table[pools, rng.integers(draws, size=(2000, len(table), draws))].mean(axis=(1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def spread(values: Values) -> str:
    low, high = interval(values)
    return f"{mean(values):+.1f} [{low:+.1f}, {high:+.1f}]"


# Picture


def draw_figure(lines: list[Line], folder: Path) -> None:
    """Draw labels covered pool by pool."""
    from matplotlib.figure import Figure

    picks = [line for line in with_means(lines) if "sorted" not in line["pool"]]
    lifts = {method: values(picks, method, beyond_chance(LABELS)) for method in SHOWN}
    pools = list(lifts[OURS])
    folder.mkdir(parents=True, exist_ok=True)

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for method, marker in (
        (OURS, "o"),
        ("match", "s"),
        ("dense herding, width 0.3", "d"),
        ("greedy", "^"),
        ("longest", "x"),
    ):
        axes.plot([lifts[method][pool].mean() for pool in pools], range(len(pools)), marker, label=method)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set(yticks=range(len(pools)), yticklabels=pools, xlabel="labels covered beyond chance, points (1x, 2x)")
    axes.legend()
    figure.savefig(folder / "coverage.svg", metadata={"Date": None})
