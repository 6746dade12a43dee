"""Rejection: why a row was not picked, true of the method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validation import is_number
from ..features.kernels import Int64s
from ..selection import nearness, similarity
from ..selection.engine import sorted_by
from ..selection.result import Selection
from ..selection.trace import GREEDY, Trace
from .duplicates import LEAST
from .evidence import Neighbour, plain
from .explanation import Source
from .markup import clean
from .neighbours import nearest_picks

if TYPE_CHECKING:
    from datasets import Dataset

NEAREST_PICKS = 3  # that are named


@dataclass(frozen=True)
class Attempt:
    """Hold when a row came nearest to being picked."""

    pick: int
    """The position of the pick that it lost to."""
    row: int
    """The row that was picked."""
    gain: float
    """What the row would have gained."""
    difference: float
    """How much larger the score of the pick was; below 0 if the row was not allowed then."""
    rank: int | None
    """The rank of the row by score then, from 1 on; None where nobody computes all scores."""


@dataclass(frozen=True)
class WhyNot:
    """Hold why a row was not picked."""

    row: int
    """The row of the pool."""
    method: str
    """The method."""
    cause: str
    """What decided: "picked" (it was), "excluded", "blank", "quality" (0), "quota" (no room), "cost" (too expensive),
    "score", "overlap" or "similarity" with picks, "turn" (the budget was spent before), "length", "chance", "own"."""
    pick: int | None
    """The position of the row in the selection, if it was picked."""
    closest: Attempt | None
    """When it came nearest to being picked, where the method picks by scores."""
    gain_at_end: float | None
    """What it would add after the last pick, where the method picks by gains."""
    overlap: float | None
    """At its turn in a scan, the share of its features that picks had, or its cosine with the nearest pick; of several
    rounds the smallest."""
    limit: float | None
    """The largest overlap that the method allows."""
    nearest: tuple[Neighbour, ...]
    """The picks that are most like the row: the first of them stands for it."""
    is_near_duplicate: bool
    """Whether the row is nearly the same as the first of `nearest`: a similarity of 0.95 or more."""
    tokens: int
    """The number of tokens of the row."""

    def __str__(self) -> str:
        return _sentences(self)

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values.

        Returns:
            `dict`: The fields of this class, and `sentence`.
        """
        return {**plain(asdict(self)), "sentence": str(self)}


def why_not(subset: Dataset, row: int, *, selection: Selection | None = None, pool: Dataset | None = None) -> WhyNot:
    """Say why a row was not picked, true of the method.

    Args:
        subset (`datasets.Dataset`):
            What `select` returned.
        row (`int`):
            The row of the dataset that was selected from.
        selection (`Selection`, *optional*):
            The selection, where it is not attached to the subset any more.
        pool (`datasets.Dataset`, *optional*):
            The encoded dataset that the rows were selected from, where it is not attached.

    Returns:
        `WhyNot`: What decided, how near the row came, and which picks are most like it. Of a row that was picked it
        says so.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If the row does not exist, or the pool is not known.

    Example:

    ```python
    print(subset.sae_why_not(12))
    ```
    """
    source = Source.of(subset, selection, pool)
    n = len(source.pool.source)
    if not is_number(row, int | np.integer) or not 0 <= row < n:
        raise ValueError(f"`row={row!r}` must be a row of the dataset that was selected from, from 0 to {n - 1}")
    return rejection(source.trace(), int(row))


def rejection(trace: Trace, row: int) -> WhyNot:
    """Say why a row was not picked in a selection that is gone through again."""
    selection, scale = trace.selection, trace.constraints.scale
    picks = np.flatnonzero(selection.indices == row)
    closest, gain_at_end, overlap, limit = None, None, None, None
    if len(picks):
        cause = "picked"
    elif row in trace.constraints.excluded:
        cause = "excluded"
    elif trace.kind == "own":
        cause = "own"
    elif not trace.can_win[row]:
        cause = "quality" if scale[row] == 0 else "blank"
    elif trace.method in GREEDY or trace.finds_by_vectors:
        cause, closest, gain_at_end = _by_score(trace, row)
    elif trace.kind in ("coverage", "similarity"):
        cause, overlap, limit = _by_scan(trace, row)
    else:
        cause = _by_order(trace, row)
    nearest = [(pick, like) for pick, like in nearest_picks(trace, row, NEAREST_PICKS + 1) if pick not in picks]
    return WhyNot(
        row,
        trace.method,
        cause,
        int(picks[0]) if len(picks) else None,
        closest,
        gain_at_end,
        overlap,
        limit,
        tuple(Neighbour(int(selection.indices[pick]), like, pick) for pick, like in nearest[:NEAREST_PICKS]),
        is_near_duplicate=bool(nearest and nearest[0][1] >= LEAST),
        tokens=int(trace.features.tokens[row]),
    )


def _by_score(trace: Trace, row: int) -> tuple[str, Attempt | None, float | None]:
    """Compare the scores of a row and of the picks: it lost to all of them, but where it was not allowed."""
    selection, scale = trace.selection, trace.deciding.scale
    if trace.finds_by_vectors and trace.constraints.has_costs:  # which of two runs picked the rows is not known
        return "score", None, None
    gains = nearness.gains_of(trace, row) if trace.finds_by_vectors else trace.gains_of(row)
    contested = np.array([trace.kind_of(pick) == trace.kind for pick in range(len(selection))], np.bool_)
    differences = selection.gains * scale[selection.indices] - gains[:-1] * scale[row]
    differences = np.where(contested, differences, np.inf)
    obstacles = trace.obstacles(row)[:-1]
    lost = np.flatnonzero((obstacles != "") & (differences < 0))
    if len(lost):  # it would have won
        pick, cause = int(lost[0]), str(obstacles[lost[0]])
    else:
        allowed = np.where(obstacles == "", differences, np.inf)
        if not np.isfinite(allowed).any():
            blocked = [str(obstacle) for obstacle in trace.obstacles(row) if obstacle]
            return (blocked or ["score"])[0], None, float(gains[-1])
        pick, cause = int(allowed.argmin()), "score"
    rank = None if trace.finds_by_vectors or cause != "score" else trace.rank(row, pick)
    attempt = Attempt(pick, int(selection.indices[pick]), float(gains[pick]), float(differences[pick]), rank)
    return cause, attempt, float(gains[-1])


def _by_scan(trace: Trace, row: int) -> tuple[str, float | None, float]:
    """Repeat the turns of a row in the rounds of a scan: its overlap with the picks before it."""
    selection, options, initial = trace.selection, trace.options, len(trace.constraints.initial)
    is_filter = trace.method == "repr_filter"
    limit = float(options["max_similarity"] if is_filter else options.get("max_overlap", 1.0))
    place = _places(_scan_order(trace), len(trace.features))
    scanned = sum(trace.kind_of(pick) != "filler" for pick in range(len(selection)))  # those that fill come last
    obstacles, overlaps, cause = trace.obstacles(row), list[float](), "turn"
    for start, end in pairwise([*selection.round_starts.tolist(), scanned]):
        before = [p for p in range(start, end) if p < initial or place[selection.indices[p]] < place[row]]
        turn = start + len(before)
        if end <= initial or turn == scanned == trace.engine.budget:  # no scan, or it ended before
            continue
        overlaps.append(_overlap(trace, row, start, turn))
        if is_filter:
            is_open = overlaps[-1] <= limit or limit == 1
        else:
            is_open = overlaps[-1] <= limit and (options.get("against") == "nearest" or overlaps[-1] < 1)
        cause = str(obstacles[turn]) or "turn" if is_open else "similarity" if is_filter else "overlap"
    return cause, min(overlaps, default=None), limit


def _overlap(trace: Trace, row: int, start: int, stop: int) -> float:
    """Return a row's overlap with picks: the share of its features, or the cosine with the nearest one."""
    if trace.method != "repr_filter":
        return trace.overlap(row, start, stop)[1]
    vectors, picks = trace.engine.vectors(), trace.selection.indices[start:stop]
    unit = similarity.quantize(vectors, bool(trace.options["center"]))
    return float((unit[picks] @ unit[row]).max(initial=-np.inf)) / similarity.quantized_length(vectors) ** 2


def _scan_order(trace: Trace) -> Int64s:
    if trace.method == "repr_filter":
        return sorted_by(trace.engine.order, -trace.constraints.scale)
    return trace.engine.ordered(str(trace.options.get("order", "richest")))


def _by_order(trace: Trace, row: int) -> str:
    """Say what decided in a baseline: what forbade the row before it was its turn, or the order."""
    selection, obstacles = trace.selection, trace.obstacles(row)
    last = int(selection.indices[-1]) if len(selection) else row
    if trace.kind == "length":
        place = _places(sorted_by(trace.engine.order, -trace.features.tokens), len(trace.features))
        return str(obstacles[-1]) or "length" if place[row] < place[last] else "length"
    return str(obstacles[0]) or "chance"


def _places(order: Int64s, n: int) -> Int64s:
    """Return the position of each row in an order: [n]."""
    places = np.empty(n, np.int64)
    places[order] = np.arange(n)
    return places


CAUSES = {
    "excluded": "it is in `exclude`",
    "blank": "it has no feature that counts, or no text",
    "quality": "its quality is 0",
    "quota": "its quota had no room",
    "cost": "it cost more than was left",
    "score": "other rows had a larger score at each step",
    "overlap": "earlier picks had too many of its features at its turn",
    "similarity": "it was too similar to an earlier pick at its turn",
    "turn": "the budget was spent before its turn",
    "length": "longer rows were picked",
    "chance": "it was not drawn",
    "own": "the method is your own, and only it knows",
}


def _sentences(why: WhyNot) -> str:
    """Return the answer as a few sentences, on one line."""
    if why.pick is not None:
        text = f"Row {why.row} was picked: it is pick {why.pick}."
    else:
        text = f"Row {why.row} was not picked by `{why.method}`: {CAUSES[why.cause]}{_measured(why)}."
    if (at := why.closest) is not None and why.cause == "score":
        rank = "" if at.rank is None else f", rank {at.rank:,} of the rows that were left"
        text += (
            f" It came nearest at pick {at.pick}, row {at.row}: it would have gained {at.gain:.4g}{rank}, and its "
            f"score was lower by {at.difference:.2g}."
        )
    elif at is not None:
        text += f" At pick {at.pick} its score was larger than that of row {at.row}."
    if why.gain_at_end is not None:
        text += f" After the last pick it would add {why.gain_at_end:.4g}."
    if why.nearest:
        first = why.nearest[0]
        what = "nearly the same" if why.is_near_duplicate else "the pick most like it"
        text += f" Row {first.row}, pick {first.pick}, is {what}, with a similarity of {first.similarity:.2f}."
    return clean(text)


def _measured(why: WhyNot) -> str:
    if why.cause == "length":
        return f"; it has {why.tokens:,} tokens"
    if why.cause not in ("overlap", "similarity") or why.overlap is None:
        return ""
    if why.cause == "similarity":
        return f", a cosine of {why.overlap:.2f} where {why.limit:.2f} is allowed"
    return f", {why.overlap:.0%} where {why.limit:.0%} is allowed"
