"""Kept: which activations of each row are stored, where not all are: the strongest, and all above a threshold.

Methods that go by shares read the 256 strongest features of a row, those that count features read what is above the
SAE's threshold, and rules by concepts what is above `FIRING` times it. So a row keeps the union of these. A row with
fewer features than `strongest` was not cut: it holds all that it has.

Activations in half precision stay on their side of these thresholds, so that what counts features counts the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._validation import check_choice, check_int, check_number, check_type

STRONGEST = 256  # features of a row that count in its distribution, whatever their activation
FIRING = 0.6  # of the calibrated threshold: where filters by names find most of what they name, benchmarks/filters.py
TYPES = ("float16", "float32")
LARGEST = float(np.finfo(np.float16).max)
LEAST_NORMAL = float(np.finfo(np.float16).tiny)  # below it, half precision cannot tell two thresholds apart


@dataclass(frozen=True)
class Kept:
    """Say which activations of a row are stored: its strongest, and all above a threshold."""

    strongest: int
    above: float
    type: str = "float16"
    """Type of the stored activations."""

    @classmethod
    def of(cls, strongest: int, threshold: float, type: str = "float16") -> Kept:
        """Return what is kept of the codes of an SAE with a calibrated `threshold`."""
        above = FIRING * threshold
        return cls(strongest, above, "float32" if 0 < above < LEAST_NORMAL else type)

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Kept | None:
        """Return what an encoding record, which may be anybody's, says; None where every activation is stored.

        Raises:
            TypeError, ValueError: It says something else.
        """
        if "keep" not in record:
            return None
        check_type("keep", record["keep"], Mapping, "what is kept of each row")
        if record["keep"].keys() != {"strongest", "above", "type"}:
            raise ValueError(f"`keep` has {', '.join(map(str, record['keep']))}; it must have strongest, above, type")
        kept = cls(**record["keep"])
        check_int("strongest", kept.strongest)
        check_number("above", kept.above, "[0, inf)")
        check_choice("type", kept.type, TYPES)
        return kept

    def record(self) -> dict[str, Any]:
        """Return this as JSON."""
        return dict(vars(self))

    def holds(self, act: float) -> bool:
        """Tell whether the type of stored activations can hold one."""
        return self.type == "float32" or act <= LARGEST

    def cut(self, ids: NDArray[Any], acts: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Return what is stored of a row; of equal activations the strongest is the one with the lower id."""
        if len(acts) <= self.strongest:
            return ids, acts
        weakest = np.partition(acts, -self.strongest)[-self.strongest]
        mask = acts > weakest
        mask[np.flatnonzero(acts == weakest)[: self.strongest - np.count_nonzero(mask)]] = True
        mask |= acts > np.float32(self.above)
        return ids[mask], acts[mask]

    def stored(self, acts: NDArray[np.float32], threshold: float) -> NDArray[Any]:
        """Return activations in their stored type, each on its side of 0, `above` and the SAE's threshold."""
        if self.type == "float32":
            return acts
        halves = acts.astype(np.float16)
        for limit in np.array([0, self.above, threshold], np.float32):
            is_above, reads_above = acts > limit, halves.astype(np.float32) > limit
            raised, lowered = is_above & ~reads_above, ~is_above & reads_above
            halves[raised] = np.nextafter(halves[raised], np.float16(np.inf))
            halves[lowered] = np.nextafter(halves[lowered], np.float16(0))
        return halves


class CodedRows(Protocol):
    """Rows with codes, such as a FeatureMatrix."""

    @property
    def offsets(self) -> NDArray[np.int64]: ...

    @property
    def acts(self) -> NDArray[np.float32]: ...

    @property
    def kept(self) -> Kept | None: ...


def check_kept(rows: CodedRows, threshold: float, top: int | None = None, first: int = 0) -> None:
    """Check that a cut of rows needs no activation that encoding did not keep.

    A row with as many features as `strongest` may have had more: none above its weakest one, nor above `above`.

    Args:
        top: the number of strongest features above the threshold that the cut keeps; None for all.
        first: the number that the first row has in the message.

    Raises:
        ValueError: It needs more of a row.
    """
    kept = rows.kept
    if kept is None or threshold >= kept.above or (top is not None and top <= kept.strongest):
        return
    for row in np.flatnonzero(np.diff(rows.offsets) >= kept.strongest).tolist():
        if rows.acts[rows.offsets[row] : rows.offsets[row + 1]].min() > np.float32(threshold):
            wanted = f"all above {threshold:.4g}" if top is None else f"the {top} strongest above {threshold:.4g}"
            raise ValueError(
                f"of row {first + row} only the {kept.strongest} strongest features and those above {kept.above:.4g} "
                f"are stored, but {wanted} are needed (`max_share`, rules by concepts and likeness may need them): "
                f"encode with `keep='all'`, or count only features above {kept.above:.4g}, by `threshold`"
            )
