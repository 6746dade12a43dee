"""Print and draw what effectiveness.py has measured: means over the pools, with intervals by bootstrap.

A pool's figure is the mean over its draws. An interval holds 95 % of the means of pools drawn anew from the pools,
each with draws drawn anew from its draws: it speaks of other pools like these, as far as they are independent. Two of
one source are not quite, nor are two draws of a pool.
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
SHOWN = (
    *("match", "match, random weights", "match, words", "facility_location", "kmeans", "kcenter"),
    *("weighted", "greedy", "simscale", "longest"),
)
BEATEN = ("facility_location", "kmeans", "kcenter", "match, random weights", "match, words", "length-matched")


def print_tables(lines: dict[str, list[Line]], halves: Sequence[str]) -> None:
    """Print everything for each half, and for both together where there are both."""
    for half in [*halves, "".join(halves)] if len(halves) > 1 else halves:
        picks = [line for line in lines["picks"] if line["half"] in half]
        learnt = [line for line in lines["learnt"] if line["half"] in half]
        print(f"\n## Half {half}\n" if len(half) == 1 else "\n## Both halves\n")
        coverage_table([line for line in picks if "sorted" not in line["pool"]])
        difference_table([line for line in picks if "sorted" not in line["pool"]])
        order_table(picks)
        if learnt:
            loss_table(learnt)


def coverage_table(picks: list[Line]) -> None:
    """Print a line a method: labels covered beyond chance, probe, entropy, duplicates, junk, length."""
    print("| method | labels at 1x, 2x | worst pool | at 1 %, 5 % | probe | entropy | duplicates | junk | length |")
    print("|---|---|---|---|---|---|---|---|---|")
    by_luck = values(picks, "random", of("probe", LABELS))
    for method in dict.fromkeys(line["method"] for line in picks):
        lift = values(picks, method, beyond_chance(LABELS))
        probe = less(values(picks, method, of("probe", LABELS)), by_luck)
        mixed = [line for line in picks if "mixture" in line["pool"]]
        plain = [mean(values(picks, method, of(name, LABELS))) for name in ("entropy", "length")]
        kept = [mean(values(mixed, method, of(name, ("5 %",)))) for name in ("duplicates", "junk")]
        cells = [spread(lift), f"{min(map(np.mean, lift.values())):+.1f}"]
        cells += [spread(values(picks, method, beyond_chance(SHARES))), spread(probe), f"{plain[0]:.3f}"]
        print(f"| {method} | " + " | ".join([*cells, *(f"{each:.1%}" for each in kept), f"{plain[1]:.2f}"]) + " |")


def difference_table(picks: list[Line]) -> None:
    """Print by how many points `match` covers more labels than others, and pool by pool than chance."""
    print("\n| `match` less | labels at 1x, 2x | probe |\n|---|---|---|")
    ours = [values(picks, "match", measure) for measure in (beyond_chance(LABELS), of("probe", LABELS))]
    for method in BEATEN:
        theirs = [values(picks, method, measure) for measure in (beyond_chance(LABELS), of("probe", LABELS))]
        print(f"| {method} | " + " | ".join(spread(less(*pair)) for pair in zip(ours, theirs, strict=True)) + " |")
    print("\n| pool | " + " | ".join(SHOWN) + " |\n|---|" + "---|" * len(SHOWN))
    for pool in ours[0]:
        found = [values(picks, method, beyond_chance(LABELS))[pool].mean() for method in SHOWN]
        print(f"| {pool} | " + " | ".join(f"{each:+.1f}" for each in found) + " |")


def order_table(picks: list[Line]) -> None:
    """Print what the order of a pool's rows does."""
    print("\n| T0, balanced | shuffled | sorted by label |\n|---|---|---|")
    t0 = [line for line in picks if line["pool"].startswith("t0")]
    for method in ("match", "greedy", "simscale", "facility_location"):
        lifts = values(t0, method, beyond_chance(LABELS))
        found = [np.mean([lifts[pool] for pool in lifts if order in pool]) for order in ("balanced", "sorted")]
        print(f"| {method} | " + " | ".join(f"{each:+.1f}" for each in found) + " |")


def loss_table(learnt: list[Line]) -> None:
    """Print the decoder's loss on held-out rows, less that with random rows, in thousandths of a nat per token."""
    print("\n| tuned on | at equal rows | at equal tokens | rows at equal tokens |\n|---|---|---|---|")
    for method in dict.fromkeys(line["method"] for line in learnt):
        found = []
        for equal in ("rows", "tokens"):
            same = [line for line in learnt if line["equal"] == equal]
            found.append(spread(less(values(same, method, loss), values(same, "random", loss))))
        rows = np.mean([line["rows"] for line in same if line["method"] == method])
        print(f"| {method} | {found[0]} | {found[1]} | {rows:.0f} |")


# Figures from lines


def values(lines: list[Line], method: str, measure: Callable[[Line], float | None]) -> Values:
    """Return a method's measure for each pool and draw, where it was taken."""
    found: dict[str, list[float]] = {}
    for line in sorted(lines, key=lambda line: line["draw"]):
        if line["method"] == method and (value := measure(line)) is not None:
            found.setdefault(line["pool"], []).append(value)
    return {pool: np.array(each) for pool, each in found.items()}


def of(name: str, budgets: Sequence[str]) -> Callable[[Line], float | None]:
    """Return a measure: the mean over budgets of one figure, in points where it is an accuracy."""

    def measure(line: Line) -> float | None:
        found = [line["found"][budget].get(name) for budget in budgets]
        return None if None in found else float(np.mean(found)) * (100 if name == "probe" else 1)

    return measure


def beyond_chance(budgets: Sequence[str]) -> Callable[[Line], float]:
    """Return a measure: labels covered beyond what as many rows at random cover on average, in points."""

    def measure(line: Line) -> float:
        found = [line["found"][budget] for budget in budgets]
        return 100 * float(np.mean([each["coverage"] - each["by chance"] for each in found]))

    return measure


def loss(line: Line) -> float:
    """Return the mean of the sources' losses, in thousandths of a nat per token."""
    return 1000 * float(np.mean(list(line["loss"].values())))


def less(ours: Values, theirs: Values) -> Values:
    """Subtract draw by draw, as far as both have been measured."""
    both = {pool: min(len(ours[pool]), len(theirs[pool])) for pool in ours if pool in theirs}
    return {pool: ours[pool][:draws] - theirs[pool][:draws] for pool, draws in both.items()}


def mean(found: Values) -> float:
    return float(np.mean([each.mean() for each in found.values()])) if found else float("nan")


def interval(found: Values) -> tuple[float, float]:
    rng, pools = np.random.default_rng(0), list(found.values())
    means = []
    for _ in range(2000):
        drawn = [pools[i] for i in rng.integers(len(pools), size=len(pools))]
        means.append(np.mean([rng.choice(each, len(each)).mean() for each in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def spread(found: Values) -> str:
    low, high = interval(found)
    return f"{mean(found):+.1f} [{low:+.1f}, {high:+.1f}]"


# Pictures


def draw_figures(lines: dict[str, list[Line]], folder: Path) -> None:
    """Draw labels covered pool by pool, and against the length of the rows picked."""
    from matplotlib.figure import Figure

    picks = [line for line in lines["picks"] if "sorted" not in line["pool"]]
    lifts = {method: values(picks, method, beyond_chance(LABELS)) for method in SHOWN}
    pools = list(lifts["match"])
    folder.mkdir(parents=True, exist_ok=True)

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for method, marker in (("match", "o"), ("facility_location", "s"), ("greedy", "^"), ("longest", "x")):
        axes.plot([lifts[method][pool].mean() for pool in pools], range(len(pools)), marker, label=method)
    axes.axvline(0, color="grey", linewidth=1)
    axes.set(yticks=range(len(pools)), yticklabels=pools, xlabel="labels covered beyond chance, points (1x, 2x)")
    axes.legend()
    figure.savefig(folder / "coverage.svg", metadata={"Date": None})

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method in SHOWN:
        at = mean(values(picks, method, of("length", LABELS))), mean(lifts[method])
        axes.plot(*at, "o", color="C0" if method == "match" else "grey")
        axes.annotate(method, at, xytext=(5, 3), textcoords="offset points", fontsize=8)
    axes.axhline(0, color="grey", linewidth=1)
    axes.set(xscale="log", xlabel="mean length of the rows picked, pool = 1", ylabel="labels beyond chance, points")
    figure.savefig(folder / "length.svg", metadata={"Date": None})
