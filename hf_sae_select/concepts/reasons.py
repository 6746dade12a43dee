"""Reasons: why rows were picked, true of the method that picked them, as data and as sentences."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .._validation import check_flag, check_int, is_number
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from ..selection.nearness import Nearness, nearness
from ..selection.result import Selection
from ..selection.trace import Parts, Trace
from . import wording
from .neighbours import Neighbours

if TYPE_CHECKING:
    import pandas as pd

    from .labels import Labels

SCANS = ("simscale", "instag")
NEAREST_ROWS = 5  # of the rows that a pick stands for, those that a reason names


@dataclass(frozen=True)
class Part:
    """Hold what one feature adds to the gain of a pick."""

    feature: int
    """The number of the feature."""
    name: str
    """Its name; empty without labels, or if nothing names it."""
    gain: float
    """What it adds to the gain."""
    share: float
    """Which share of the pick's gain that is."""
    activation: float
    """Its activation in the row."""
    rows: int
    """The number of rows of the pool that have it, by the features that the rows were selected by."""
    spans: tuple[tuple[int, int], ...] = ()
    """The characters of `Reason.text`, from start to end, whose tokens fire; empty if the row was not read again."""


@dataclass(frozen=True)
class Neighbour:
    """Hold a row that is near another one."""

    row: int
    """The row of the pool."""
    similarity: float
    """How similar they are: the cosine of their features, or of their vectors for a method that compares these."""


@dataclass(frozen=True)
class RunnerUp:
    """Hold the row that a pick was chosen over: the one with the next largest score at that step."""

    row: int
    """The row of the pool."""
    gain: float
    """What it would have gained."""
    difference: float
    """How much larger the pick's score is: its gain, times its quality or divided by its cost where these count."""


@dataclass(frozen=True)
class Reason:
    """Hold why a row was picked."""

    pick: int
    """The position of the pick, from 0 on: the row of the subset."""
    row: int
    """The row of the pool."""
    method: str
    """The method that picked it."""
    kind: str
    """What decided: "distribution" or "coverage" of features, "similarity" of vectors, "length" or "chance"; "earlier"
    for a row of `must_include` or `extend`, "filler" for one that adds nothing, "own" for a method of your own."""
    gain: float
    """The gain, as the selection has it."""
    parts: tuple[Part, ...]
    """What the gain is the sum of, the largest first; at most `most`. Empty where it is no sum over features."""
    n_parts: int
    """The number of all features that add to the gain."""
    nearest: Neighbour | None
    """The nearest earlier pick, where the method compares rows with each other."""
    n_nearer: int | None
    """The rows that are nearer to this pick than to any earlier one, where the method compares vectors."""
    covered: float | None
    """The share of the row's features that earlier picks had, where the method has a limit for it."""
    stands_for: tuple[Neighbour, ...]
    """The rows of the pool that belong to this pick and no other, the nearest five."""
    n_stands_for: int
    """The number of all these rows."""
    runner_up: RunnerUp | None
    """What it was chosen over; None where the method has no scores, or nothing was left."""
    tokens: int
    """The number of tokens of the row."""
    rank: int | None
    """Its rank by length, from 1 on, where length decided."""
    source: str
    """Of an earlier row: the argument that brought it, `must_include` or `extend`; else empty."""
    text: str = ""
    """The row as the model read it; empty if it was not read again."""

    def __str__(self) -> str:
        return wording.sentences(self)

    def _repr_html_(self) -> str:
        return wording.html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the reason as JSON values.

        Returns:
            `dict`: The fields of this class, and `sentence`.
        """
        return {**_plain(asdict(self)), "sentence": str(self)}


class Reasons(Sequence[Reason]):
    """Hold the reasons of several picks.

    Args:
        reasons (`Sequence[Reason]`):
            The reasons, in any order.

    Example:

    ```python
    why = subset.sae_explain()
    why[0].parts[0].name, why.to_pandas()
    ```
    """

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self._reasons = tuple(reasons)

    def __len__(self) -> int:
        return len(self._reasons)

    @overload
    def __getitem__(self, key: int) -> Reason: ...
    @overload
    def __getitem__(self, key: slice) -> Reasons: ...
    def __getitem__(self, key: int | slice) -> Reason | Reasons:
        return Reasons(self._reasons[key]) if isinstance(key, slice) else self._reasons[key]

    def __iter__(self) -> Iterator[Reason]:
        return iter(self._reasons)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reasons) and self._reasons == other._reasons

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return "\n".join(map(str, self._reasons))

    def __repr__(self) -> str:
        return f"Reasons({len(self):,} picks)"

    def _repr_html_(self) -> str:
        return wording.table(self._reasons)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the reasons as JSON values.

        Returns:
            `list`: One mapping a reason, see `Reason.to_dict`.
        """
        return [reason.to_dict() for reason in self._reasons]

    def to_pandas(self) -> pd.DataFrame:
        """Return the reasons as a table.

        Returns:
            `pandas.DataFrame`: One line a reason, with the features of its parts in one cell.
        """
        import pandas as pd

        return pd.DataFrame([_line(reason) for reason in self._reasons])


def reasons(
    features: FeatureMatrix,
    selection: Selection,
    picks: int | Sequence[int] | None = None,
    *,
    labels: Labels | None = None,
    columns: Any = None,
    most: int = 10,
    runners_up: bool = True,
) -> Reasons:
    """Say why rows were picked, by their features alone.

    Args:
        features (`FeatureMatrix`):
            The features of all rows of the pool, as they were passed to `select_indices`, or as the dataset has them.
        selection (`Selection`):
            The selection.
        picks (`int` or `Sequence[int]`, *optional*):
            The picks to explain, as positions in the selection. By default all.
        labels (`Labels`, *optional*):
            The names of the features.
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
    trace = Trace.of(features, selection, columns)
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
    most: int = 10,
    runners_up: bool = True,
    neighbours: Neighbours | None = None,
) -> list[Reason]:
    """Return the reasons of picks of a selection that is gone through again; see `reasons`."""
    wanted = np.unique(np.array(picks, np.int64))
    neighbours = Neighbours.of(trace) if neighbours is None else neighbours
    parts = {of_pick.pick: of_pick for of_pick in trace.parts(wanted)}
    compared = {near.pick: near for near in nearness(trace, wanted)} if trace.kind == "similarity" else {}
    others = _runners_up(trace, wanted, compared) if runners_up else {}
    holders, lengths = trace.engine.holders(), np.sort(trace.features.tokens[trace.constraints.pool])
    result = {}
    for pick in wanted.tolist():
        row, kind, gain = int(trace.selection.indices[pick]), trace.kind_of(pick), float(trace.selection.gains[pick])
        own, near = parts.get(pick), compared.get(pick)
        gains = np.empty(0) if own is None else own.gains
        nearest, covered = _overlap(trace, pick) if trace.method in SCANS and kind == trace.kind else (None, None)
        if near is not None and near.nearest >= 0:
            nearest = Neighbour(int(trace.selection.indices[near.nearest]), near.similarity)
        rows = neighbours.rows_of(pick)
        result[pick] = Reason(
            pick,
            row,
            trace.method,
            kind,
            gain,
            parts=() if own is None else _parts(own, gain, holders, labels, most),
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
        )
    return [result[pick] for pick in picks]


def _parts(own: Parts, gain: float, holders: Int64s, labels: Labels | None, most: int) -> tuple[Part, ...]:
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


def _runners_up(trace: Trace, picks: Int64s, compared: Mapping[int, Nearness]) -> dict[int, RunnerUp]:
    """Return what each pick was chosen over, where there was another row."""
    rows, gains = trace.runners_up(picks)
    entries = zip(picks.tolist(), rows.tolist(), gains.tolist(), strict=True)
    if compared:
        entries = zip(
            compared,
            [near.runner_up for near in compared.values()],
            [near.runner_up_gain for near in compared.values()],
            strict=True,
        )
    scale, selection = trace.deciding.scale, trace.selection
    result = {}
    for pick, row, gain in entries:
        if row >= 0:
            own = float(selection.gains[pick]) * scale[selection.indices[pick]]
            result[pick] = RunnerUp(row, gain, max(float(own - gain * scale[row]), 0.0))
    return result


def _overlap(trace: Trace, pick: int) -> tuple[Neighbour | None, float]:
    """Return the earlier pick of the round that a scan compares with, if it is one, and the share that is covered."""
    row, rounds = int(trace.selection.indices[pick]), trace.selection.round_starts
    start = int(rounds[rounds <= pick].max())
    place, share = trace.overlap(row, start, pick)
    nearest = None if place < 0 else Neighbour(int(trace.selection.indices[place]), share)
    return nearest, share


def _rank(lengths: NDArray[np.int32], tokens: int) -> int:
    """Return the rank of a row by length: 1 for the longest of the ascending `lengths`."""
    return len(lengths) - int(np.searchsorted(lengths, tokens, side="right")) + 1


def _line(reason: Reason) -> dict[str, Any]:
    """Return a reason as a line of a table."""
    other, nearest = reason.runner_up, reason.nearest
    return {
        "pick": reason.pick,
        "row": reason.row,
        "kind": reason.kind,
        "gain": reason.gain,
        "features": "; ".join(wording.title(part) for part in reason.parts),
        "n_parts": reason.n_parts,
        "nearest": None if nearest is None else nearest.row,
        "similarity": None if nearest is None else nearest.similarity,
        "n_stands_for": reason.n_stands_for,
        "runner_up": None if other is None else other.row,
        "difference": None if other is None else other.difference,
        "tokens": reason.tokens,
        "reason": str(reason),
        "text": reason.text,
    }


def _plain(value: Any) -> Any:
    """Return nested values with lists for tuples, and None for what JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
