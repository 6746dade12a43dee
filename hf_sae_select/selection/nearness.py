"""Nearness: how near each pick of a method that compares vectors was to the earlier picks, and which rows it won."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..features.kernels import Floats, Int64s
from . import unit_vectors
from .coverage import ConstraintState, commit, fitting
from .similarity_pairs import Vectors, excess, similarity_blocks, slices
from .trace import SAME_GAIN, Trace

BLOCK_PICKS = 64  # picks that are compared with all rows together
MOST_SIMILARITIES = 2**30  # that are computed to find what lost in `facility_location`


@dataclass(frozen=True, eq=False)
class Nearness:
    """Hold what vectors say of one pick."""

    pick: int
    nearest: int
    """The nearest earlier pick, as its position; of the same round where there are rounds; -1 for the first."""
    similarity: float
    """The cosine with it; nan for the first."""
    n_nearer: int
    """The rows that are nearer to this pick than to any earlier one."""
    runner_up: int
    """The row with the next largest score then; -1 where there is none, or where it was not looked for."""
    runner_up_gain: float


def nearness(trace: Trace, picks: Int64s) -> Iterator[Nearness]:
    """Yield, for each of the ascending `picks`, how near it was to earlier ones.

    Raises:
        ValueError: Its gain is another one, so these are not the vectors that the rows were selected by.
    """
    if not len(picks):
        return
    vectors = trace.engine.vectors()
    unit = unit_vectors.quantize(vectors, bool(trace.options["center"]))
    search = _Search(trace, unit, unit_vectors.quantized_length(vectors) ** 2, len(picks))
    wanted, rows = set(picks.tolist()), trace.selection.indices[: picks[-1] + 1]
    for part in slices(len(rows), BLOCK_PICKS):
        products = np.ascontiguousarray((unit @ unit[rows[part]].T).T)
        for pick, column in enumerate(products, start=part.start):
            if pick in trace.selection.round_starts:
                search.begin_round()
            if pick in wanted:
                yield search.look(pick, column)
            search.add(pick, column)


def why_unknown(trace: Trace, picks: int) -> str:
    """Say why nobody knows what rows were chosen over, by the method that compares all pairs; "" for the others."""
    if trace.method != "facility_location":
        return ""
    if trace.constraints.has_costs:
        return "rows have costs, so one of two runs picked the rows, and nobody recorded which"
    similarities = picks * len(trace.features) ** 2
    return f"to find it would take {similarities:,} similarities" if similarities > MOST_SIMILARITIES else ""


def gains_of(trace: Trace, row: int) -> Floats:
    """Return the gain that another row would have had at each pick, and after the last: [k + 1].

    Only for `facility_location` and `kcenter`: the other methods do not pick by gains of vectors.
    """
    vectors = trace.engine.vectors()
    unit = unit_vectors.quantize(vectors, bool(trace.options["center"]))
    search = _Search(trace, unit, unit_vectors.quantized_length(vectors) ** 2, 0)
    products, gains = unit @ unit[row], np.empty(len(trace.selection) + 1)
    for pick, other in enumerate(trace.selection.indices.tolist()):
        gains[pick] = search.gain(row, products)
        search.add(pick, unit @ unit[other])
    gains[-1] = search.gain(row, products)
    return gains


class _Search:
    """The state of a selection by vectors: which pick is nearest to each row. `square` is the squared length."""

    def __init__(self, trace: Trace, unit: Vectors, square: float, wanted: int) -> None:
        self.trace, self.unit, self.square = trace, unit, square
        self.is_facility, self.is_center = trace.method == "facility_location", trace.method == "kcenter"
        self.squares = np.einsum("ij,ij->i", unit, unit).astype(np.float64)
        self.state: ConstraintState = trace.constraints.state(trace.engine.order)
        self.state.available[self.squares == 0] = False  # blank rows come last
        self.looks_for_all_gains = self.is_facility and not why_unknown(trace, wanted)
        self.begin_round()

    def begin_round(self) -> None:
        """Forget all picks."""
        self.similarity: Vectors = np.full(len(self.unit), -np.inf, np.float32)
        self.distances = np.full(len(self.unit), 4 * self.square)
        self.nearest = np.full(len(self.unit), -1)

    def add(self, pick: int, products: Vectors) -> None:
        """Count a row as picked; `products` are those of its vector with all others."""
        row = self.trace.selection.indices[pick]
        commit(self.state, row)
        if self.squares[row] == 0:
            return
        nearer = products > self.similarity
        self.nearest[nearer] = pick
        self.similarity[nearer] = products[nearer]
        self.distances = np.minimum(self.distances, self.squares + self.squares[row] - 2 * products.astype(np.float64))

    def gain(self, row: int, products: Vectors) -> float:
        """Return what a row gains now; `products` are those of its vector with all others."""
        if self.is_facility:
            return float(excess(products[None], self._counted)[0]) / self.square
        return float(self.distances[row]) / (2 * self.square)

    def look(self, pick: int, products: Vectors) -> Nearness:
        """Say how near a row is to the picks before it."""
        row = int(self.trace.selection.indices[pick])
        self._check_gain(pick, row, products)
        nearest = int(self.nearest[row]) if self.squares[row] else -1
        cosine = min(float(self.unit[row] @ self.unit[self.trace.selection.indices[nearest]]) / self.square, 1.0)
        n_nearer = int((products > self._counted)[self.squares > 0].sum()) if self.squares[row] else 0
        other, gain = self._runner_up(row)
        return Nearness(pick, nearest, np.nan if nearest < 0 else cosine, n_nearer, other, gain)

    @property
    def _counted(self) -> Vectors:
        """Each row's similarity to its nearest pick, which `facility_location` counts where it is positive."""
        return np.maximum(self.similarity, np.float32(0)) if self.is_facility else self.similarity

    def _check_gain(self, pick: int, row: int, products: Vectors) -> None:
        if not (self.is_facility or self.is_center) or not self.squares[row]:
            return
        gain, recorded = self.gain(row, products), float(self.trace.selection.gains[pick])
        if recorded > 0 and not np.isclose(gain, recorded, rtol=SAME_GAIN, atol=1e-9):
            raise ValueError(
                f"these are not the vectors that the rows were selected by: pick {pick} gains {gain:g} by them, and "
                f"gained {recorded:g}; pass those of the pool as they were"
            )

    def _runner_up(self, row: int) -> tuple[int, float]:
        """Return the row with the largest score beside `row`, and its gain."""
        order = self.state.order
        if self.is_center:
            gains = self.distances[order] / (2 * self.square)
        elif self.looks_for_all_gains:
            blocks = similarity_blocks(self.unit, order)
            gains = np.concatenate([excess(block, self._counted) for block in blocks]) / self.square
        else:
            return -1, 0.0
        scores = np.where(fitting(self.state)[order] & (order != row), gains * self.state.scale[order], -np.inf)
        best = int(scores.argmax())
        return (int(order[best]), float(gains[best])) if scores[best] > 0 else (-1, 0.0)
