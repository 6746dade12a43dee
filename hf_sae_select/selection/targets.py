"""Target: what a selection is made towards, as the features of its rows. Several parts share the budget."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from ..features import kernels
from ..features.kernels import Floats, Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .herding import Herding


@dataclass(frozen=True, eq=False)
class TargetPart:
    """Hold the rows of one target."""

    features: FeatureMatrix
    """The features of its rows."""
    sha256: str
    """The digest of all features that they were encoded to."""
    share: float = 1.0
    """Its share of the budget."""
    name: str = ""
    """Its name; empty where it is the only one."""


@dataclass(frozen=True, eq=False)
class Target:
    """Hold what a selection is made towards: one part, or several that share the budget. Shares sum to 1.

    Its features are those of the pool's SAE; a method sees them cut as it sees the pool's.
    """

    parts: tuple[TargetPart, ...]

    def __len__(self) -> int:
        return sum(len(part.features) for part in self.parts)

    @property
    def shares(self) -> Floats:
        """The share of each part: [parts]."""
        return np.array([part.share for part in self.parts])

    def cut(self, cuts: Any, pool: FeatureMatrix, excluded: Collection[int]) -> Target:
        """Cut the features as those of a pool are cut."""
        parts = [replace(part, features=cuts.apply_as(part.features, pool, excluded)) for part in self.parts]
        return Target(tuple(parts))

    def mass(self, mean: Floats, sharpen: float) -> Floats:
        """Return the mass of each feature, to the power `sharpen`: [d_sae].

        A feature's mass is the sum of its shares above the pool's `mean`. Parts count by their share of the budget.
        """
        masses = [Shares.above(mean, part.features).total ** sharpen for part in self.parts]
        if len(masses) == 1:
            return masses[0]
        return np.asarray(sum(s * mass / max(mass.sum(), 1e-300) for s, mass in zip(self.shares, masses, strict=True)))

    def activation(self) -> Floats:
        """Return the share of each feature in a row's activation, summed over the rows: [d_sae]."""
        total = np.zeros(self.parts[0].features.d_sae)
        for part in self.parts:
            features = part.features
            rows = np.arange(len(features))
            mass = kernels.mass(features.offsets, features.ids, features.acts, rows, features.d_sae)
            total += part.share * mass / max(mass.sum(), 1e-300)
        return total

    def has(self) -> NDArray[np.bool_]:
        """Tell of each feature whether any row has it: [d_sae]."""
        return np.asarray(sum(part.features.frequency for part in self.parts)) > 0

    def closeness(self, herding: Herding) -> Int64s:
        """Sum the kernel of each row of the pool with the rows of each part: [parts, n], in units."""
        return np.stack([herding.closeness(part.features) for part in self.parts])

    def sizes(self) -> Int64s:
        """Return the number of rows with features of each part: [parts]."""
        return np.array([np.count_nonzero(part.features.counts) for part in self.parts])

    def record(self) -> list[Mapping[str, Any]]:
        """Return what is recorded of the parts, as JSON values."""
        return [
            {"name": part.name, "rows": len(part.features), "share": part.share, "sha256": part.sha256}
            for part in self.parts
        ]


def digest_of(features: FeatureMatrix) -> str:
    """Return the SHA-256 of features, row by row: counts, ids, activations and tokens as little-endian numbers."""
    digest = sha256()
    for array, kind in ((features.counts, "<i8"), (features.ids, "<u4"), (features.acts, "<f4")):
        digest.update(array.astype(kind).tobytes())
    digest.update(features.tokens.astype("<i4").tobytes())
    return digest.hexdigest()
