"""Print what was learnt: the loss on rows held out less that of random rows, with intervals over the draws.

    python benchmarks/decoder/outcomes.py RESULTS/arms-small

Losses are in nats a token of responses, differences in thousandths of a nat, lower is better. Each method is at its
best learning rate, random rows too: the one with the lowest micro loss on the sources of the pool, on one half of the
rows held out, over the draws on which all rates were tried; the other half is reported. Random rows are the mean of
two arms a draw. Intervals hold 95 % of the means of draws drawn anew from the draws: with few draws they are rough.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pairs import POOLS, TARGETS, TEMPLATE
from rankings import RANDOM

Line = dict[str, Any]
CHOOSING, REPORTED = slice(0, None, 2), slice(1, None, 2)  # halves of the rows held out
Measure = Callable[[Line, slice], float]


def print_tables(folder: Path) -> None:
    """Print the tables of all arms in a folder, those of each pool, budget and kind of equality apart."""
    lines = read(folder)
    tuned = [line for line in lines if line["method"] != "untuned"]
    print(f"{len(tuned)} arms on {', '.join(sorted({line['device'] for line in lines})) or 'no device'}")
    for pool, budget, equal in sorted({(line["pool"], line["budget"], line["equal"]) for line in tuned}):
        untuned = [line for line in lines if line["method"] == "untuned" and line["pool"] == pool]
        print(f"\n## {pool}, {budget} rows, equal {equal}\n")
        arms = Arms(lines, pool, budget, equal)
        print_losses(arms, untuned)
        print_rates(arms)
        print_sources(arms)
        print_targets(arms)


def read(folder: Path) -> list[Line]:
    """Return all arms that have been run."""
    return [json.loads(file.read_text()) for file in sorted(folder.glob("*.*-*.json"))]


class Arms:
    """Hold the arms of one table, by method, rate and draw."""

    def __init__(self, lines: list[Line], pool: str, budget: int, equal: str) -> None:
        self.lines = dict[tuple[str, float], dict[int, list[Line]]]()
        for line in lines:
            if (line["pool"], line["budget"], line["equal"]) != (pool, budget, equal):
                continue
            method = "random" if line["method"] in RANDOM else line["method"]
            self.lines.setdefault((method, line["rate"]), {}).setdefault(line["draw"], []).append(line)
        self.rates = sorted({rate for _, rate in self.lines})
        self.methods = sorted({method for method, _ in self.lines}, key=lambda method: (":" in method, method))

    def plain(self) -> list[str]:
        """Return the methods without a target that can be compared with random rows."""
        return [method for method in self.methods if ":" not in method and self.compared(method)]

    def draws(self, method: str, rate: float) -> set[int]:
        """Return the draws on which a method was run with a rate."""
        return set(self.lines.get((method, rate), {}))

    def tried(self, method: str) -> tuple[list[float], list[int]]:
        """Return the rates with which a method was run on most draws, and the draws that all of them share."""
        draws = {rate: self.draws(method, rate) for rate in self.rates}
        shared = set.intersection(*filter(None, draws.values()))
        return [rate for rate in self.rates if draws[rate]], sorted(shared)

    def best(self, method: str) -> float:
        """Return the rate with the lowest micro loss on the sources of the pool, on one half of the rows held out."""
        rates, draws = self.tried(method)
        return min(rates, key=lambda rate: self.values(method, rate, draws, micro, CHOOSING).mean())

    def compared(self, method: str) -> list[int]:
        """Return the draws on which a method and random rows were run, each at its best rate."""
        return sorted(self.draws(method, self.best(method)) & self.draws("random", self.best("random")))

    def at_best(self, method: str) -> list[Line]:
        """Return the arms of a method at its best rate that are compared with random rows."""
        return [line for number in self.compared(method) for line in self.lines[method, self.best(method)][number]]

    def values(self, method: str, rate: float, draws: list[int], measure: Measure, rows: slice) -> Any:
        """Return a measure of a method for each draw: [draws]."""
        arms = self.lines[method, rate]
        return np.array([np.mean([measure(line, rows) for line in arms[number]]) for number in draws])

    def less_random(self, method: str, measure: Measure, draws: list[int] | None = None) -> Any:
        """Return the differences to random rows in thousandths of a nat, both at their best rates: [draws]."""
        draws = self.compared(method) if draws is None else draws
        values, random = (
            self.values(label, self.best(label), draws, measure, REPORTED) for label in (method, "random")
        )
        return 1000 * (values - random)


# Measures of an arm


def micro(line: Line, rows: slice) -> float:
    """Return the loss on the sources of the pool, each by its tokens of responses in the pool."""
    mix = line["mix"]
    return float(np.average([loss(line, source, rows) for source in mix], weights=list(mix.values())))


def macro(line: Line, rows: slice) -> float:
    """Return the mean loss of the sources of the pool."""
    return float(np.mean([loss(line, source, rows) for source in line["mix"]]))


def micro_outside(line: Line, rows: slice) -> float:
    """Return the loss of a token of the sources outside the pool."""
    pairs = [pair for source in outside(line) for pair in line["losses"][source][rows]]
    return float(sum(nats for nats, _ in pairs) / sum(tokens for _, tokens in pairs))


def macro_outside(line: Line, rows: slice) -> float:
    """Return the mean loss of the sources outside the pool."""
    return float(np.mean([loss(line, source, rows) for source in outside(line)]))


def loss(line: Line, source: str, rows: slice) -> float:
    """Return the loss of a token of one source."""
    pairs = line["losses"][source][rows]
    return float(sum(nats for nats, _ in pairs) / sum(tokens for _, tokens in pairs))


def of(source: str) -> Measure:
    """Return the measure that is the loss of one source."""
    return lambda line, rows: loss(line, source, rows)


def outside(line: Line) -> list[str]:
    """Return the sources of which the pool has no row."""
    return [source for source in line["losses"] if source not in POOLS[line["pool"]] and source != TEMPLATE]


MEASURES: dict[str, Measure] = {
    "pool, micro": micro,
    "pool, macro": macro,
    "outside, micro": micro_outside,
    "outside, macro": macro_outside,
}


# Tables


def print_losses(arms: Arms, untuned: list[Line]) -> None:
    """Print the losses untuned and after random rows, and the differences of the others to random rows."""
    print("| tuned on | draws | rates | best | rows | " + " | ".join(MEASURES) + " |")
    print("|---|---|---|---|---|" + "---|" * len(MEASURES))
    draws = arms.compared("random")
    before = [line for line in untuned if line["draw"] in draws]
    print(f"| nothing, nats | {len(draws)} | | | | " + " | ".join(levels(before)) + " |")
    for method in arms.plain():
        picked = arms.at_best(method)
        cells = [f"{len(arms.compared(method))}", f"{len(arms.tried(method)[0])}", f"{arms.best(method):g}"]
        cells.append(f"{np.mean([len(line['rows']) for line in picked]):.0f}")
        if method == "random":
            cells += levels(picked)
        else:
            cells += [spread(arms.less_random(method, measure)) for measure in MEASURES.values()]
        print(f"| {method}{', nats' * (method == 'random')} | " + " | ".join(cells) + " |")


def levels(lines: list[Line]) -> list[str]:
    """Return the mean of each measure over arms, in nats."""
    return [f"{np.mean([measure(line, REPORTED) for line in lines]):.3f}" for measure in MEASURES.values()]


def print_rates(arms: Arms) -> None:
    """Print the micro loss on the sources of the pool at each learning rate, less that of random rows at the same."""
    print(
        "\n| pool, micro | " + " | ".join(f"{rate:g}" for rate in arms.rates) + " |\n|---|" + "---|" * len(arms.rates)
    )
    for method in arms.plain():
        cells = []
        for rate in arms.rates:
            draws = sorted(arms.draws(method, rate) & arms.draws("random", rate))
            values = (
                [arms.values(label, rate, draws, micro, REPORTED) for label in (method, "random")] if draws else []
            )
            if not values:
                cells.append("")
            elif method == "random":
                cells.append(f"{values[0].mean():.3f} nats ({len(draws)})")
            else:
                cells.append(f"{spread(1000 * (values[0] - values[1]))} ({len(draws)})")
        print(f"| {method} | " + " | ".join(cells) + " |")


def print_sources(arms: Arms) -> None:
    """Print the difference to random rows on each source, and the share of the rows that is of it."""
    some = next(iter(next(iter(arms.lines.values())).values()))[0]
    sources = [source for source in some["losses"] if source != TEMPLATE]
    print("\n| loss of a source (share of the rows) | " + " | ".join(sources) + " |\n|---|" + "---|" * len(sources))
    for method in arms.plain():
        picked, cells = arms.at_best(method), list[str]()
        for source in sources:
            share = np.mean([line["sources"].get(source, 0) / len(line["rows"]) for line in picked])
            difference = arms.less_random(method, of(source)).mean()
            cells.append(f"{difference:+.0f}" + (f" ({share:.0%})" if source in some["mix"] else ""))
        print(f"| {method} | " + " | ".join(cells) + " |")


def print_targets(arms: Arms) -> None:
    """Print the loss on each target's own source, less that of random rows, and what it costs on the others."""
    towards = [method for method in arms.methods if ":" in method and arms.compared(method)]
    if not towards:
        return
    print("\n| towards a target | draws | rows of it | its loss | the same, untargeted `herding` | pool, micro |")
    print("|---|---|---|---|---|---|")
    for method in towards:
        target = next(target for target in TARGETS if method.startswith(f"to {target}:"))
        rows = np.mean([line["sources"].get(target, np.nan) / len(line["rows"]) for line in arms.at_best(method)])
        cells = [f"{rows:.0%}" if rows == rows else ""]
        draws = arms.compared(method)
        cells += [spread(arms.less_random(label, of(target), draws)) for label in (method, "herding")]
        print(
            f"| {method} | {len(arms.compared(method))} | "
            + " | ".join([*cells, spread(arms.less_random(method, micro))])
            + " |"
        )


def spread(values: Any) -> str:
    """Return the mean, and an interval where there are three draws at least."""
    if len(values) < 3:
        return f"{values.mean():+.0f}"
    rng = np.random.default_rng(0)
    means = rng.choice(values, (10_000, len(values))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{values.mean():+.0f} [{low:+.0f}, {high:+.0f}]"


if __name__ == "__main__":
    print_tables(Path(sys.argv[1]))
