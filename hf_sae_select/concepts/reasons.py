"""Reasons: why rows were picked, true of the method that picked them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._validation import check_flag, check_int, is_number
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from ..sae.labels import Labels
from ..selection.closeness import Closeness, closeness
from ..selection.nearness import Nearness, nearness, why_unknown
from ..selection.references import PoolEncoding
from ..selection.result import Selection
from ..selection.target_argument import same_target
from ..selection.trace import Parts, Trace
from .evidence import Aim, Neighbour, Part, Reason, RunnerUp
from .neighbours import Neighbours
from .reason_table import Reasons

SCANS = ("simscale", "instag")
MOST_PARTS = 10  # of a gain that a reason keeps by default
NEAREST_ROWS = 5  # of the rows that a pick stands for, those that a reason names


def reasons(
    features: FeatureMatrix,
    selection: Selection,
    picks: int | Sequence[int] | None = None,
    *,
    labels: Labels | None = None,
    target: FeatureMatrix | Mapping[str, Any] | None = None,
    columns: Any = None,
    most: int = MOST_PARTS,
    runners_up: bool = True,
) -> Reasons:
    """Say why rows were picked, by their features alone.

    Args:
        features (`FeatureMatrix`):
            The features of all rows of the pool, as they were passed to `select_indices`, or as the dataset has them.
            Without the vectors that a method compared, nothing is said of the nearest pick.
        selection (`Selection`):
            The selection.
        picks (`int` or `Sequence[int]`, *optional*):
            The picks to explain, as positions in the selection. By default all.
        labels (`Labels`, *optional*):
            The names of the features.
        target (`FeatureMatrix` or `dict`, *optional*):
            The target of a selection towards one. Without it, nothing is said of what the picks have of it.
        columns (`Dataset` or `dict`, *optional*):
            The columns that the constraints of the selection name.
        most (`int`, *optional*, defaults to `10`):
            The number of parts of each gain that are kept, the largest first.
        runners_up (`bool`, *optional*, defaults to `True`):
            Whether to look for what each pick was chosen over. It takes about as long as the selection did.

    Returns:
        `Reasons`: One reason a pick, in the order of `picks`.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If a pick does not exist, or the features or labels are not those of the selection.

    Example:

    ```python
    selection = select_indices(features, 100)
    print(reasons(features, selection, [0, 1]))
    ```
    """
    wanted = checked_picks(picks, selection)
    check_int("most", most)
    check_flag("runners_up", runners_up)
    if labels is not None:
        labels.check({"d_sae": features.d_sae, **selection.parameters.get("encoding", {})})
    aim = same_target(selection, target, PoolEncoding({"d_sae": features.d_sae}))
    trace = Trace.of(features, selection, columns, aim)
    return Reasons(reasons_of(trace, wanted, labels=labels, most=most, runners_up=runners_up))


def checked_picks(picks: Any, selection: Selection) -> list[int]:
    """Check the argument `picks`, and return it as a list.

    Raises:
        TypeError: It is neither a position nor a list of positions.
        ValueError: A position does not exist.
    """
    if picks is None:
        return list(range(len(selection)))
    if isinstance(picks, str | Mapping) or not (is_number(picks, int | np.integer) or hasattr(picks, "__iter__")):
        raise TypeError(f"`picks={picks!r}` must be the position of a pick, a list of positions, or None for all")
    positions = list(picks) if hasattr(picks, "__iter__") else [picks]
    for pick in positions:
        if not is_number(pick, int | np.integer) or not 0 <= pick < len(selection):
            raise ValueError(f"`picks` has {pick!r}; it must be a position from 0 to {len(selection) - 1}")
    return [int(pick) for pick in positions]


def reasons_of(
    trace: Trace,
    picks: Sequence[int],
    *,
    labels: Labels | None = None,
    most: int = MOST_PARTS,
    runners_up: bool = True,
    neighbours: Neighbours | None = None,
) -> list[Reason]:
    """Return the reasons of picks of a selection that is gone through again; see `reasons`."""
    wanted = np.unique(np.array(picks, np.int64))
    neighbours = Neighbours.of(trace) if neighbours is None else neighbours
    parts = {of_pick.pick: of_pick for of_pick in trace.parts(wanted)}
    has_vectors = trace.kind == "similarity" and trace.features.vectors is not None
    compared = {near.pick: near for near in nearness(trace, wanted)} if has_vectors else {}
    aims = _aims(trace, wanted, runners_up)
    parts |= {pick: near.parts for pick, near in aims.items() if near.parts is not None}
    others = _runners_up(trace, wanted, [*compared.values(), *aims.values()]) if runners_up else {}
    score, unknown = _score(trace), _why_unknown(trace, len(wanted)) if runners_up else ""
    holders, lengths = trace.engine.holders, np.sort(trace.features.tokens[trace.constraints.pool])
    result = {}
    for pick in wanted.tolist():
        row, kind, gain = int(trace.selection.indices[pick]), trace.kind_of(pick), float(trace.selection.gains[pick])
        own, near, aim = parts.get(pick), compared.get(pick), aims.get(pick)
        gains = np.empty(0) if own is None else own.gains
        nearest, covered = _overlap(trace, pick) if trace.method in SCANS and kind == trace.kind else (None, None)
        if near is not None and near.nearest >= 0:
            nearest = Neighbour(int(trace.selection.indices[near.nearest]), near.similarity, near.nearest)
        rows = neighbours.rows_of(pick)
        result[pick] = Reason(
            pick,
            row,
            trace.method,
            kind,
            gain,
            parts=()
            if own is None
            else largest_parts(own, gain if aim is None else aim.nearness, holders, labels, most),
            n_parts=int((gains > 0).sum()),
            nearest=nearest,
            n_nearer=None if near is None else near.n_nearer,
            covered=covered,
            stands_for=tuple(
                Neighbour(int(other), float(neighbours.similarity[other])) for other in rows[:NEAREST_ROWS]
            ),
            n_stands_for=len(rows),
            runner_up=others.get(pick) if kind == trace.kind else None,
            tokens=int(trace.features.tokens[row]),
            rank=_rank(lengths, int(trace.features.tokens[row])) if kind == "length" else None,
            source=trace.source_of(pick),
            score=score,
            unknown=unknown if kind == trace.kind else "",
            has_target=bool(trace.selection.parameters.get("target")),
            lacks_target=trace.lacks_target,
            aim=None if aim is None else _aim(trace, aim),
            is_apart=trace.is_apart(row),
        )
    return [result[pick] for pick in picks]


def _aims(trace: Trace, picks: Int64s, runners_up: bool) -> dict[int, Closeness]:
    """Return how near each pick is to the target, or to all rows, where the method decides by that."""
    if trace.kind != "nearness" or trace.lacks_target:
        return {}
    return {near.pick: near for near in closeness(trace, picks, runners_up)}


def _aim(trace: Trace, near: Closeness) -> Aim:
    if trace.engine.target is None:
        return Aim("", near.nearness, near.novelty, ())
    rows = zip(near.rows.tolist(), near.cosines.tolist(), strict=True)
    nearest = tuple(Neighbour(row, cosine) for row, cosine in rows)
    return Aim(trace.engine.target.parts[near.turn].name, near.nearness, near.novelty, nearest)


def _why_unknown(trace: Trace, picks: int) -> str:
    """Say why nobody knows what rows were chosen over; "" where that is known."""
    if trace.lacks_target and trace.has_scores:
        return "the target is not at hand; pass it as `target`"
    return why_unknown(trace, picks)


def largest_parts(own: Parts, gain: float, holders: Int64s, labels: Labels | None, most: int) -> tuple[Part, ...]:
    """Return the largest parts of a gain; of equal ones those with the highest activation first."""
    order = np.lexsort((own.ids, -own.acts, -own.gains))
    order = order[: min(most, int((own.gains > 0).sum()))]
    return tuple(
        Part(
            feature,
            "" if labels is None else labels.name(feature),
            part,
            part / gain if gain else 0.0,
            activation,
            int(holders[feature]),
        )
        for feature, part, activation in zip(
            own.ids[order].tolist(), own.gains[order].tolist(), own.acts[order].tolist(), strict=True
        )
    )


def _runners_up(trace: Trace, picks: Int64s, compared: Sequence[Nearness | Closeness]) -> dict[int, RunnerUp]:
    """Return what each pick was chosen over, where there was another row."""
    rows, gains = trace.runners_up(picks)
    entries = zip(picks.tolist(), rows.tolist(), gains.tolist(), strict=True)
    if compared:
        entries = zip(
            [near.pick for near in compared],
            [near.runner_up for near in compared],
            [near.runner_up_gain for near in compared],
            strict=True,
        )
    scale, selection = trace.deciding.scale, trace.selection
    result = {}
    for pick, row, gain in entries:
        if row >= 0:
            own = float(selection.gains[pick]) * scale[selection.indices[pick]]
            result[pick] = RunnerUp(row, gain, max(float(own - gain * scale[row]), 0.0))
    return result


def _score(trace: Trace) -> str:
    """Say in words what the scores of rows are, which a method compares."""
    arguments = trace.selection.parameters.get("constraints", {})
    power = arguments.get("per_token", 0)
    words = "gain times quality" if arguments.get("quality") else "gain"
    if power:
        words += " per token" if power == 1 else f" divided by tokens to the power of {power:g}"
    if trace.deciding is not trace.constraints:
        words += " per token" if trace.selection.parameters["constraints"].get("cost") == "tokens" else " per cost"
    return words


def _overlap(trace: Trace, pick: int) -> tuple[Neighbour | None, float]:
    """Return the earlier pick of the round that a scan compares with, if it is one, and the share that is covered."""
    row, rounds = int(trace.selection.indices[pick]), trace.selection.round_starts
    start = int(rounds[rounds <= pick].max())
    place, share = trace.overlap(row, start, pick)
    nearest = None if place < 0 else Neighbour(int(trace.selection.indices[place]), share, place)
    return nearest, share


def _rank(lengths: NDArray[np.int32], tokens: int) -> int:
    """Return the rank of a row by length: 1 for the longest of the ascending `lengths`."""
    return len(lengths) - int(np.searchsorted(lengths, tokens, side="right")) + 1
