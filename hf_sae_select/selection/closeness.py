"""Closeness: how near each pick of `herding` was to the target or to all rows, by which features, and what lost."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s
from .herd import Herd
from .herding import LENGTH, SHIFT, STEPS, UNITS
from .targets import PoolSample, TargetPart
from .trace import SAME_GAIN, Parts, Trace

NEAREST = 3  # rows of a target that are named


@dataclass(frozen=True, eq=False)
class Closeness:
    """Hold what a target, or without one the pool, says of one pick, in the state before it."""

    pick: int
    turn: int
    """The target whose turn it was, as its position."""
    nearness: float
    """The mean of the kernel with the rows of this target, or with those of the pool."""
    novelty: float
    """What the pick gains for being unlike earlier picks: nearness and novelty sum to the gain."""
    parts: Parts | None
    """What each feature adds to the nearness; None where the features of the target are not at hand."""
    rows: Int64s
    """The nearest rows of the target, or of those that stand for the pool, the nearest first."""
    cosines: Floats
    """Their cosines with the pick."""
    runner_up: int
    """The row with the next largest score in this turn; -1 where no other candidate was left."""
    runner_up_gain: float


def closeness(trace: Trace, picks: Int64s, runners_up: bool = True) -> Iterator[Closeness]:
    """Yield, for each of the ascending `picks` but those that fill the budget, how near it was to the target.

    Raises:
        ValueError: Its gain is another one, so these are not the features that the rows were selected by.
    """
    if not len(picks):
        return
    wanted, near = set(picks.tolist()), _TargetVectors(trace)
    herd = trace.new_herd(watched=trace.selection.indices[: picks[-1] + 1])
    with ThreadPoolExecutor() as threads:
        for pick, row in enumerate(trace.selection.indices[: picks[-1] + 1].tolist()):
            turn = herd.turn_of(row)
            if pick in wanted and trace.kind_of(pick) != "filler":
                yield _of_pick(trace, herd, near, pick, turn, threads if runners_up else None)
            herd.take(row, turn)


def parts_of_picks(trace: Trace, picks: Int64s) -> Iterator[Parts]:
    """Yield, for each of the ascending `picks`, what its gain is the sum of, or its nearness to a target."""
    if trace.kind != "nearness":
        yield from trace.parts(picks)
    elif not trace.lacks_target:
        yield from (near.parts for near in closeness(trace, picks, runners_up=False) if near.parts is not None)


def gains_of(trace: Trace, row: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what another row would have gained at each pick, in its turn, and after the last: [k + 1].

    And whether the row was a candidate at each pick: [k].
    """
    picks = trace.selection.indices
    gains, is_candidate = np.empty(len(picks) + 1), np.empty(len(picks), np.bool_)
    herd = trace.new_herd(watched=np.append(picks, row))
    for pick, other in enumerate(picks.tolist()):
        turn = herd.turn_of(other)
        gains[pick], is_candidate[pick] = herd.gain(row, turn), herd.is_candidate(row)
        herd.take(other, turn)
    gains[-1] = herd.gain(row, herd.turn_of(row))
    return gains, is_candidate


def scores_at(trace: Trace, pick: int) -> Floats:
    """Return the scores of all rows that fitted at a pick; 0 for others: [n]."""
    herd = _herd_at(trace, pick)
    return herd.scores(herd.turn_of(int(trace.selection.indices[pick])))


def parts_of(trace: Trace, row: int, pick: int) -> Parts | None:
    """Return what each feature of another row would have added to its nearness at a pick; None where unknown."""
    turn = _herd_at(trace, pick).turn_of(int(trace.selection.indices[pick]))
    return _TargetVectors(trace).parts(pick, row, turn)[0]


def _herd_at(trace: Trace, pick: int) -> Herd:
    """Return the search in the state before a pick."""
    picks = trace.selection.indices[: pick + 1]
    herd = trace.new_herd(watched=picks)
    for row in picks[:-1].tolist():
        herd.take(row, herd.turn_of(row))
    return herd


def _of_pick(
    trace: Trace, herd: Herd, near: _TargetVectors, pick: int, turn: int, threads: ThreadPoolExecutor | None
) -> Closeness:
    row, recorded = int(trace.selection.indices[pick]), float(trace.selection.gains[pick])
    gain, nearness = herd.gain(row, turn), herd.nearness(row, turn)
    if not np.isclose(gain, recorded, rtol=SAME_GAIN, atol=1e-12):
        raise ValueError(
            f"`features` are not those that the rows were selected by: pick {pick} gains {gain:g} by them, and "
            f"gained {recorded:g}; pass the features of the pool as they were, and the same `target`"
        )
    other = -1 if threads is None else herd.best(turn, threads, beside=row)
    parts, rows, cosines = near.parts(pick, row, turn)
    other_gain = herd.gain(other, turn) if other >= 0 else 0.0
    return Closeness(pick, turn, nearness, gain - nearness, parts, rows, cosines, other, other_gain)


class _TargetVectors:
    """The vectors of the target's rows, where their features are at hand."""

    def __init__(self, trace: Trace) -> None:
        self._trace, self._parts, herding = trace, trace.engine.aim.parts, trace.herding
        self._vectors = {
            turn: herding.vectors_of(part.features)
            for turn, part in enumerate(self._parts)
            if isinstance(part, TargetPart)
        }

    def parts(self, pick: int, row: int, turn: int) -> tuple[Parts | None, Int64s, Floats]:
        """Return what the features of a row add to its mean kernel with a target, and the nearest rows of it.

        The kernel of two rows is divided among their common features, in proportion to what each adds to the product
        of their vectors. So the sum over the features is the mean kernel.
        """
        part, none = self._parts[turn], np.empty(0, np.int64)
        if not isinstance(part, TargetPart):
            return None, none, np.empty(0)
        trace, vectors = self._trace, self._vectors[turn]
        own, own_vector = np.zeros(vectors.d_sae, np.int64), trace.herding.vectors(np.array([row]))
        own[own_vector.ids] = own_vector.entries
        offsets, ids, terms = vectors.offsets, vectors.ids, own[vectors.ids] * vectors.entries
        sums = np.concatenate([[0], terms.cumsum()])
        products = sums[offsets[1:]] - sums[offsets[:-1]]
        kernel = trace.herding.table[np.minimum(products >> SHIFT, STEPS)]
        times, itself = part.counts_for(row) if isinstance(part, PoolSample) else (1.0, 0.0)
        weight = np.divide(kernel * times, products, out=np.zeros(len(products)), where=products > 0)
        added = np.bincount(ids, terms * np.repeat(weight, np.diff(offsets)), minlength=len(own))
        added = added + own**2 * (itself * int(trace.herding.own(own_vector)[0]) / max(int(own_vector.squares[0]), 1))
        gains = added[trace.features.row(row)] / (max(part.size, 1) * UNITS)
        nearest = np.argsort(-products, kind="stable")[:NEAREST]
        nearest = nearest[products[nearest] > 0]
        cosines = np.minimum(products[nearest] / LENGTH**2, 1)
        return trace.as_parts(pick, row, gains), nearest, cosines
