"""Selection: the receipt of which rows were picked, in which order, and why. Plain numbers, no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.matrix import FeatureMatrix

Int64s = NDArray[np.int64]
NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, eq=False)
class Selection:
    """Hold which rows were picked, in which order, and why: the receipt of a selection.

    Example, rows with the features {0, 1}, {1, 2, 3}, {3}, picked greedily: row 1 brings three, row 0 one more, and
    row 2 is left for a second round::

        indices [1, 0, 2], gains [3, 1, 1], round_starts [0, 2], covered [3, 4, 4], pool_coverage 4, saturated_at 2
    """

    indices: Int64s
    """[k]: the rows, in the order they were picked."""
    gains: NDArray[Any]
    """[k]: what each pick added to what its round had before, in the method's measure: new features (int64), or their
    weight, the similarity gained, the distance (float64); of vectors, 0 for rows that only fill the budget."""
    round_starts: Int64s
    """The pick positions at which a round began, coverage starting anew; [0] for a single round."""
    method: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    """Everything that decided the picks, defaults included; JSON-able."""
    fingerprint: str = ""
    """The source dataset's fingerprint."""
    covered: Int64s = field(default_factory=NOTHING.copy)
    """[k]: how many distinct features the rows up to this pick have, all rounds together."""
    pool_coverage: int = 0
    """How many distinct features all rows have that were there to be picked."""

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def rounds(self) -> Int64s:
        """[k]: the round of each pick, from 0 on."""
        return np.searchsorted(self.round_starts, np.arange(len(self)), side="right") - 1

    @property
    def saturated_at(self) -> int | None:
        """After how many picks every feature of the pool was covered; None if some never were."""
        full = np.flatnonzero(self.covered >= max(1, self.pool_coverage))
        return int(full[0]) + 1 if len(full) else None

    def first_rows(self, features: FeatureMatrix) -> Int64s:
        """Say which row was the first to cover each feature: [d_sae], -1 where none did.

        `features` as the rows were chosen by: cut by the same threshold. Example as above: [0, 1, 1, 1].
        """
        found = np.full(features.d_sae, -1, np.int64)
        for row in self.indices[::-1]:
            found[features.row(row)] = row
        return found
