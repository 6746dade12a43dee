"""Facts of a selection towards a target, in words and figures: for the card and the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..sae.labels import Labels, one_line
from ..selection.methods import METHODS
from .markup import clean

ROWS = {
    "subset": "this subset",
    "untargeted": "picks without the target",
    "random": "random rows",
    "pool": "all rows",
}
# By what decides: what a method selects towards a target; of other methods only features of the target count.
TOWARDS = {
    "distribution": "selects rows that together have the feature distribution of a target",
    "nearness": "selects rows near those of the target and far from each other, by a kernel of features",
}
NAME_LETTERS = 60
MOST_MISSING = 10  # features that are named
OVERLAPS = {
    "exclude": "were left out",
    "only_report": "could be picked",
}
MEANING = (
    "Rows that were selected towards the test set of a benchmark are like its questions: a model that is trained on "
    "them may score higher there without being better elsewhere, so its score is no fair comparison."
)
DISTANCES = (
    "The distance in features is the Hellinger distance of the distributions over features of some rows and of the "
    "target: 0 where they have each feature as often and as strongly, 1 where they share none. The distance by the "
    "kernel is the maximum mean discrepancy of the two, from 0 on. The 256 strongest features of a row count."
)
NOT_HELP = (
    "A row that is like the target need not help a model with it: likeness of features is all that was measured."
)


def summary_of(method: str, has_target: bool) -> str:
    """Return what a method of the library selects, as the end of a sentence, and what it selects towards a target."""
    known = METHODS[method]
    return (
        TOWARDS.get(known.kind, f"{known.summary}; only features of a target count") if has_target else known.summary
    )


def lines_of(parts: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return recorded targets as lines of a table: name, rows, share of the budget and digest."""
    return [
        [
            one_line(part["name"], NAME_LETTERS) or "target",
            f"{part['rows']:,}",
            f"{part['share']:.0%}",
            part["sha256"],
        ]
        for part in parts
    ]


def distances_of(target: Mapping[str, Any], untargeted: Mapping[str, Any] | None = None) -> list[list[str]]:
    """Return the distances to the target as lines of a table: rows, in features, by the kernel.

    Args:
        untargeted: the distances of picks without the target, where they were measured.
    """
    measured = {**target.get("distances", {}), **({} if untargeted is None else {"untargeted": untargeted})}
    return [
        [name, distance_text(measured[rows].get("hellinger")), distance_text(measured[rows].get("kernel"))]
        for rows, name in ROWS.items()
        if rows in measured
    ]


def distance_text(distance: float | None) -> str:
    """Return a distance with three digits; "-" where it is not known."""
    return "-" if distance is None or math.isnan(distance) else f"{distance:.3f}"


def overlap_sentence(target: Mapping[str, Any]) -> str:
    """Say how many rows repeat rows of the target, and what became of them; "" where nobody looked."""
    overlap = target.get("overlap", {})
    mode, rows = overlap.get("mode"), overlap.get("rows")
    if mode == "keep":
        return "Nobody looked for rows that are in the target too."
    if rows is None or mode not in OVERLAPS:
        return ""
    if not rows:
        return "No row that could be selected repeats a row of the target."
    count = "1 row repeats" if rows == 1 else f"{rows:,} rows repeat"
    became = OVERLAPS[mode] if rows > 1 else OVERLAPS[mode].replace("were", "was")
    return f"{count} a row of the target, as a whole, by half of its 8-grams of words, or as a line, and {became}."


def missing_sentence(target: Mapping[str, Any], labels: Labels | None) -> str:
    """Name the features of the target that no row has; "" where that is not known."""
    missing = target.get("missing", {})
    count = missing.get("features")
    if count is None:
        return ""
    if not count:
        return "All features of the target are in some row that could be selected."
    largest = missing.get("largest", [])[:MOST_MISSING]
    names = [f"{_title(int(feature), labels)} ({share:.1%})" for feature, share in largest]
    rest = count - len(names)
    shown = ", ".join(names) + (f" and {rest:,} more" if rest else "")
    features, are = ("1 feature", "is") if count == 1 else (f"{count:,} features", "are")
    return (
        f"{features} of the target, {missing.get('share', 0):.1%} of its distribution, {are} in no row that could be "
        f"selected: {shown}."
    )


def _title(feature: int, labels: Labels | None) -> str:
    return f"#{feature}" if labels is None else clean(one_line(labels.title(feature), NAME_LETTERS))
