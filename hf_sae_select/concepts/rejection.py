"""Rejection: why a row was not picked, true of the method."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._validation import is_number
from ..features.duplicates import LEAST
from ..features.kernels import Floats
from ..sae.labels import Labels
from ..selection import closeness, nearness, unit_vectors
from ..selection.concept_rules import RULES
from ..selection.result import Selection
from ..selection.trace import Trace
from .evidence import Neighbour, Part, named_parts, plain
from .explanation import Source
from .markup import clean
from .neighbours import nearest_picks
from .reasons import MOST_PARTS, largest_parts

if TYPE_CHECKING:
    from datasets import Dataset

    from ..selection.target_argument import TargetSource

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
    """What decided: "picked" (it was), "excluded", the argument that left it out, such as "avoid", "in_target" (it
    repeats a row of the target), "blank", "apart" (it shares nothing with the target), "quality" (0), "quota" (no
    room), "cost" (too expensive), "score", "overlap" or "similarity" with picks, "turn" (the budget was spent before),
    "budget" (`must_include` and `extend` spent it), "length", "chance", "own"."""
    pick: int | None
    """The position of the row in the selection, if it was picked."""
    closest: Attempt | None
    """When it came nearest to being picked, where the method picks by scores."""
    parts: tuple[Part, ...]
    """What the gain then would have been the sum of, the ten largest first; empty where it is no sum over features. By
    nearness to a target, what its mean kernel would have been the sum of."""
    gain_at_end: float | None
    """What it would add after the last pick, where the method picks by gains."""
    obstacle: str
    """What forbade it after the last pick: "quota", "cost" or nothing."""
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
    exclusion: str = ""
    """Of a row that is left out by its features, what it has or lacks."""

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


def why_not(
    subset: Dataset,
    row: int,
    *,
    labels: Labels | None = None,
    selection: Selection | None = None,
    pool: Dataset | None = None,
    target: TargetSource | None = None,
) -> WhyNot:
    """Say why a row was not picked, true of the method.

    Args:
        subset (`datasets.Dataset`):
            What `select` returned.
        row (`int`):
            The row of the dataset that was selected from.
        labels (`Labels`, *optional*):
            The names of the features. By default those that the SAE ships with, if it has any.
        selection (`Selection`, *optional*):
            The selection, where it is not attached to the subset any more.
        pool (`datasets.Dataset`, *optional*):
            The encoded dataset that the rows were selected from, where it is not attached.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            What the rows were selected towards, as it was passed to `select`, where it is not attached.

    Returns:
        `WhyNot`: What decided, how near the row came, and which picks are most like it. Of a row that was picked it
        says so.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If the row does not exist, the pool or the target is not known, or the labels are those of another
            SAE.

    Example:

    ```python
    print(subset.sae_why_not(12))
    ```
    """
    source = Source.of(subset, selection, pool, target)
    n = len(source.pool.source)
    if not is_number(row, int | np.integer) or not 0 <= row < n:
        raise ValueError(f"`row={row!r}` must be a row of the dataset that was selected from, from 0 to {n - 1}")
    trace = source.trace()
    if trace.lacks_target:
        raise ValueError(
            "the rows were selected towards a target that is not attached to the subset, and without it nobody knows "
            "what a row would have gained: pass it as `target`, as it was passed to `select`"
        )
    return rejection(trace, int(row), source.labels(labels))


def rejection(trace: Trace, row: int, labels: Labels | None = None) -> WhyNot:
    """Say why a row was not picked in a selection that is gone through again."""
    selection, scale = trace.selection, trace.constraints.scale
    picks = np.flatnonzero(selection.indices == row)
    closest, gain_at_end, overlap, limit = None, None, None, None
    if len(picks):
        cause = "picked"
    elif row in trace.constraints.excluded:
        cause = _exclusion(trace, row)
    elif len(trace.constraints.initial) == trace.engine.budget:
        cause = "budget"
    elif trace.kind == "own":
        cause = "own"
    elif not trace.can_win(row):
        is_apart = trace.is_apart(row) and trace.features.counts[row] > 0
        cause = "quality" if scale[row] == 0 else "apart" if is_apart else "blank"
    elif trace.has_scores:
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
        () if closest is None else _parts(trace, row, closest, labels),
        gain_at_end,
        "" if len(picks) else str(trace.obstacles(row)[-1]),
        overlap,
        limit,
        tuple(Neighbour(int(selection.indices[pick]), like, pick) for pick, like in nearest[:NEAREST_PICKS]),
        is_near_duplicate=bool(nearest and nearest[0][1] >= LEAST),
        tokens=int(trace.features.tokens[row]),
        exclusion=trace.request.arguments.concepts.reason(cause, trace.read, row) if cause in RULES else "",
    )


def _exclusion(trace: Trace, row: int) -> str:
    """Name the argument that excluded a row."""
    left_out = trace.request.arguments.left_out
    reason = next((reason for reason, rows in left_out.items() if row in rows), "excluded")
    return "in_target" if reason == "overlap" else reason


def _parts(trace: Trace, row: int, at: Attempt, labels: Labels | None) -> tuple[Part, ...]:
    """Return the largest parts of what a row would have gained, or of its nearness to a target."""
    by_nearness = trace.kind == "nearness"
    own = closeness.parts_of(trace, row, at.pick) if by_nearness else trace.parts_of(row, at.pick)
    if own is None:
        return ()
    total = float(own.gains.sum()) if by_nearness else at.gain
    return largest_parts(own, total, trace.engine.holders, labels, MOST_PARTS)


def _gains(trace: Trace, row: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the gain that a row would have had at each pick, and after the last: [k + 1].

    And whether it was compared with other rows at each pick: [k].
    """
    if trace.kind == "nearness":
        return closeness.gains_of(trace, row)
    gains = nearness.gains_of(trace, row) if trace.finds_by_vectors else trace.gains_of(row)
    return gains, np.ones(len(gains) - 1, np.bool_)


def _rank(trace: Trace, row: int, pick: int) -> int | None:
    """Return the rank of a row by score at a pick, from 1 on; None where nobody computes all scores."""
    if trace.kind == "nearness":
        scores = closeness.scores_at(trace, pick)
        return 1 + int((scores > scores[row]).sum())
    return None if trace.finds_by_vectors else trace.rank(row, pick)


def _by_score(trace: Trace, row: int) -> tuple[str, Attempt | None, float | None]:
    """Compare the scores of a row and of the picks: it lost to all of them, but where it was not allowed."""
    gains, is_candidate = _gains(trace, row)
    if not is_candidate.any() and len(is_candidate):
        return "candidates", None, float(gains[-1])
    if trace.method == "facility_location" and trace.constraints.has_costs:
        return _in_either_run(trace, row, gains)
    cause, attempt = _lost(trace, row, gains, trace.deciding.scale, is_candidate)
    return cause, attempt, float(gains[-1])


def _in_either_run(trace: Trace, row: int, gains: Floats) -> tuple[str, Attempt | None, float | None]:
    """Say what holds in both runs, by gain and by gain per cost: it is not known which of them picked the rows."""
    scales = (trace.constraints.scale, trace.constraints.per_cost().scale)
    causes = {_lost(trace, row, gains, scale, True)[0] for scale in scales}
    obstacle = str(trace.obstacles(row)[-1]) if gains[-1] > 0 else ""
    return obstacle or (causes.pop() if len(causes) == 1 else "score"), None, float(gains[-1])


def _lost(
    trace: Trace, row: int, gains: Floats, scale: Floats, is_candidate: NDArray[np.bool_] | bool
) -> tuple[str, Attempt | None]:
    """Say what decided where scores do: the first step that the row would have won, or that which it nearly won."""
    selection, place = trace.selection, trace.place
    contested = np.array([trace.kind_of(pick) == trace.kind for pick in range(len(selection))], np.bool_)
    differences = selection.gains * scale[selection.indices] - gains[:-1] * scale[row]
    differences = np.where(contested & is_candidate, differences, np.inf)
    obstacles = trace.obstacles(row)
    is_open = obstacles[:-1] == ""
    wins = (differences < 0) | ((differences == 0) & (place[row] < place[selection.indices]))
    lost = np.flatnonzero(~is_open & wins)
    allowed = np.where(is_open, differences, np.inf)
    if trace.method == "kcenter" and (np.isfinite(allowed).sum() > 1 or (obstacles != "").any()):
        allowed = np.where(trace.has_earlier, allowed, np.inf)  # no row is farther than others from no pick
    if len(lost):
        pick, cause = int(lost[0]), str(obstacles[lost[0]])
    elif np.isfinite(allowed).any():
        pick, cause = int(allowed.argmin()), "score"
    else:
        return next((str(obstacle) for obstacle in obstacles if obstacle), "score"), None
    rank = _rank(trace, row, pick) if cause == "score" else None
    row_of_pick, difference = int(selection.indices[pick]), float(differences[pick])
    return cause, Attempt(pick, row_of_pick, float(gains[pick]), difference, rank)


def _by_scan(trace: Trace, row: int) -> tuple[str, float | None, float]:
    """Repeat the turns of a row in the rounds of a scan: what decided in the first one in which it was allowed."""
    selection, options, initial = trace.selection, trace.options, len(trace.constraints.initial)
    is_filter, place, obstacles = trace.method == "repr_filter", trace.place, trace.obstacles(row)
    limit = float(options["max_similarity"] if is_filter else options.get("max_overlap", 1.0))
    scanned = sum(trace.kind_of(pick) != "filler" for pick in range(len(selection)))  # those that fill come last
    is_spent = scanned == trace.engine.budget
    if obstacles[initial]:
        return str(obstacles[initial]), None, limit
    overlaps = list[float]()
    for start, end in pairwise([*selection.round_starts.tolist(), scanned]):
        before = [p for p in range(start, end) if p < initial or place[selection.indices[p]] < place[row]]
        turn = start + len(before)
        if end <= initial or (is_spent and turn == scanned):  # no scan, or it ended before
            continue
        overlaps.append(_overlap(trace, row, start, turn))
        adds = is_filter or options.get("against") == "nearest" or overlaps[-1] < 1
        if (overlaps[-1] <= limit or (is_filter and limit == 1)) and adds:
            return str(obstacles[turn]) or "turn", min(overlaps), limit
    if not is_spent and options.get("exhausted") == "restart":  # a last round began, in which no row fitted
        return str(obstacles[scanned]) or "turn", min(overlaps, default=None), limit
    refused = "similarity" if is_filter else "overlap"
    return refused if overlaps else "turn", min(overlaps, default=None), limit


def _overlap(trace: Trace, row: int, start: int, stop: int) -> float:
    """Return a row's overlap with picks: the share of its features, or the cosine with the nearest one."""
    if trace.method != "repr_filter":
        return trace.overlap(row, start, stop)[1]
    vectors, picks = trace.engine.vectors(), trace.selection.indices[start:stop]
    unit = unit_vectors.quantize(vectors, bool(trace.options["center"]))
    return float((unit[picks] @ unit[row]).max(initial=-np.inf)) / unit_vectors.quantized_length(vectors) ** 2


def _by_order(trace: Trace, row: int) -> str:
    """Say what decided in a baseline: what forbade the row at its turn, or that the budget was spent before."""
    initial, place = len(trace.constraints.initial), trace.place
    turn = initial + int((place[trace.selection.indices[initial:]] < place[row]).sum())
    return str(trace.obstacles(row)[turn]) or trace.kind


CAUSES = {
    "excluded": "it is in `exclude`",
    "blank": "it has no feature that counts, or no text",
    "quality": "its quality is 0",
    "quota": "its quota had no room",
    "cost": "it cost more than was left",
    "score": "at each step another row had a larger score",
    "overlap": "earlier picks had too many of its features at its turn",
    "similarity": "it was too similar to an earlier pick at its turn",
    "turn": "the budget was spent before its turn",
    "budget": "the rows of `must_include` and `extend` spent the budget, so nothing else was picked",
    "length": "rows that are at least as long came first, and spent the budget",
    "chance": "it was not drawn",
    "candidates": "the method compares some rows at each pick, see its option `candidates`, and it was not among them",
    "own": "the method is your own, and only it knows",
    "apart": "it shares no feature that counts with the target",
    "in_target": "it repeats a row of the target",
}


def _sentences(why: WhyNot) -> str:
    """Return the answer as a few sentences, on one line."""
    if why.pick is not None:
        text = f"Row {why.row} was picked: it is pick {why.pick}."
    else:
        text = f"Row {why.row} was not picked by `{why.method}`: {_cause(why)}."
    if why.closest is not None:
        text += _attempt(why, why.closest)
    if why.gain_at_end is not None:
        but = f", but {CAUSES[why.obstacle]}" if why.obstacle and why.obstacle != why.cause else ""
        text += f" After the last pick it would add {why.gain_at_end:.4g}{but}."
    if why.nearest:
        first = why.nearest[0]
        what = "nearly the same" if why.is_near_duplicate else "the pick most like it"
        text += f" Row {first.row}, pick {first.pick}, is {what}, with a similarity of {first.similarity:.2f}."
    return clean(text)


def _cause(why: WhyNot) -> str:
    """Say what decided, with what was measured."""
    text = why.exclusion or CAUSES.get(why.cause) or f"`{why.cause}` leaves it out"
    if why.cause == "score" and (why.closest is None or not why.closest.difference):
        return f"{text}, or the same one and came first"
    if why.cause == "length":
        return f"{text}; it has {why.tokens:,} tokens"
    if why.cause not in ("overlap", "similarity") or why.overlap is None:
        return text
    if why.cause == "similarity":
        return f"{text}, a cosine of {why.overlap:.2f} where {why.limit:.2f} is allowed"
    if why.overlap == 1:
        return "earlier picks had all of its features at its turn, so it added none"
    return f"{text}, {why.overlap:.0%} where {why.limit:.0%} is allowed"


def _attempt(why: WhyNot, at: Attempt) -> str:
    """Say when the row came nearest to being picked."""
    if why.cause != "score":
        larger = "was larger than" if at.difference < 0 else "was the same as, and came before,"
        return f" At pick {at.pick} its score {larger} that of row {at.row}."
    rank = "" if at.rank is None else f", rank {at.rank:,} of the rows that were left"
    lost = f"was lower by {at.difference:.2g}" if at.difference else "was the same, but came later in order"
    parts = f" (the largest parts: {named_parts(why.parts, with_share=True)})" if why.parts else ""
    return (
        f" It came nearest at pick {at.pick}, row {at.row}: it would have gained {at.gain:.4g}{parts}{rank}, and its "
        f"score {lost}."
    )
