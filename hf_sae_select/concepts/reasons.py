"""Reasons: what each pick added to the picks before it, as data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..features.matrix import FeatureMatrix
from ..selection.result import Selection


@dataclass(frozen=True, eq=False)
class Reason:
    """Hold what one pick added: the features that no earlier pick of its round has."""

    row: int
    new: int
    """The number of new features."""
    feature: int | None
    """The new feature with the highest activation in this row; None without new features."""
    holders: int
    """The number of rows that have that feature."""
    examples: NDArray[np.int64]
    """Other selected rows that have it, highest activation first."""


def reasons(features: FeatureMatrix, selection: Selection, picks: int = 5) -> list[Reason]:
    """Return what the first `picks` rows added; `features` are cut as the rows were selected by.

    Example, rows with the features {0, 1}, {1, 2, 3}, {3}, picked in the order 1, 0: row 1 added three features, and
    if 2 is the strongest of them, one row has it; row 0 added one, feature 0.
    """
    result, covered = [], np.zeros(features.d_sae, np.bool_)
    for pick, row in enumerate(selection.indices[:picks].tolist()):
        if pick in selection.round_starts:
            covered[:] = False
        ids = features.row(row)
        acts = features.acts[features.offsets[row] : features.offsets[row + 1]]
        new = np.flatnonzero(~covered[ids])
        covered[ids] = True
        if not len(new):
            result.append(Reason(row, 0, None, 0, new))
            continue
        feature = int(ids[new[np.argmax(acts[new])]])
        holders, strengths = _rows_with(features, feature)
        strongest_first = holders[np.argsort(-strengths, kind="stable")]
        examples = strongest_first[np.isin(strongest_first, selection.indices) & (strongest_first != row)]
        result.append(Reason(row, len(new), feature, len(holders), examples))
    return result


def _rows_with(features: FeatureMatrix, feature: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the rows that have a feature, and its activation in each."""
    places = np.flatnonzero(features.ids == feature)
    return np.searchsorted(features.offsets, places, side="right") - 1, features.acts[places]


# ---- placeholder until the branch `reasons` is merged


@dataclass(frozen=True)
class Part:
    feature: int
    name: str
    gain: float
    share: float
    activation: float
    rows: int
    spans: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Neighbour:
    row: int
    similarity: float


@dataclass(frozen=True)
class RunnerUp:
    row: int
    gain: float
    difference: float


@dataclass(frozen=True)
class NewReason:
    pick: int
    row: int
    method: str
    kind: str
    gain: float
    parts: tuple[Part, ...]
    n_parts: int
    nearest: Neighbour | None
    stands_for: tuple[Neighbour, ...]
    n_stands_for: int
    runner_up: RunnerUp | None
    text: str

    def __str__(self) -> str:
        return f"Brings the mix of features nearer to that of all rows, most of all by #{self.parts[0].feature if self.parts else 0}."


def explain(subset, picks=None, *, labels=None, sae=None, spans=0):
    from ..encoding.text import find_text
    from ..selection.attachment import pool_of, selection_of
    from ..features.metrics import frequency
    from ..encoding.spans import row_spans

    selection, pool = selection_of(subset), pool_of(subset)
    features = FeatureMatrix.from_dataset(pool.codes)
    freq = frequency(features)
    rendering = find_text(pool.rows, None)
    rng = np.random.default_rng(0)
    result = []
    rows = selection.indices[: picks or None].tolist()
    texts = [t.text for t in rendering(pool.rows.with_format(None).select_columns(list(rendering.columns))[rows])]
    read = []
    if spans:
        read = list(
            row_spans(
                pool.source if pool.encoded is None else pool.source,
                rows[:spans],
                sae,
                record=selection.parameters["encoding"],
            )
        )
    for pick, (row, text) in enumerate(zip(rows, texts)):
        ids, acts = features.row(row), features.acts[features.offsets[row] : features.offsets[row + 1]]
        best = np.argsort(-acts)[:8]
        parts = []
        for b in best:
            f = int(ids[b])
            sp = tuple((s, e) for s, e, _ in read[pick].of(f)) if pick < len(read) else ()
            parts.append(
                Part(
                    f,
                    labels.name(f) if labels else "",
                    float(acts[b]),
                    float(acts[b] / acts[best].sum()),
                    float(acts[b]),
                    int(freq[f]),
                    sp,
                )
            )
        n = int(rng.integers(0, 30))
        near = tuple(
            Neighbour(int(r), float(s))
            for r, s in zip(rng.integers(len(features), size=min(n, 5)), np.sort(rng.random(min(n, 5)))[::-1])
        )
        ru = RunnerUp(int(rng.integers(len(features))), 0.1, 0.0012)
        result.append(
            NewReason(
                pick,
                row,
                selection.method,
                "distribution",
                float(selection.gains[pick]),
                tuple(parts),
                len(ids),
                None,
                near,
                n,
                ru,
                text,
            )
        )
    return result
