"""Cuts: which features of each row a method sees."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from .._validation import check_int, check_number
from ..features.kept import Kept, check_kept
from ..features.matrix import FeatureMatrix
from .method import Method

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

    from .sharded.features import Features, ShardedFeatures


@dataclass(frozen=True)
class Cuts:
    """Say what a method sees of each row's features."""

    threshold: float | None = None
    """Only activations above it count; None for the method's or the SAE's own."""
    top: int | None = None
    """Only this many of a row's strongest features count; None for the method's own."""
    max_share: float | None = None
    """Features that more than this share of the rows have do not count; None for no limit."""
    embedding: str | None = None
    """The column of vectors that are compared; None for the mean hidden state."""

    def check(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is not allowed; the message names it.
        """
        check_number("threshold", self.threshold, "[0, inf)", optional=True)
        check_int("top", self.top, optional=True)
        check_number("max_share", self.max_share, "(0, 1)", optional=True)

    def resolve(self, method: Method, calibrated: float) -> Cuts:
        """Fill in the method's own values, or else `calibrated`, the SAE's threshold."""
        check_number("threshold", calibrated, "(-inf, inf)")  # it may come from a foreign encoding record
        own = calibrated if method.threshold is None else method.threshold
        threshold = float(own if self.threshold is None else self.threshold)
        top = method.top if self.top is None else int(self.top)
        max_share = None if self.max_share is None else float(self.max_share)
        return replace(self, threshold=threshold, top=top, max_share=max_share)

    def read(self, dataset: Dataset, vectors: str | None = None, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Read the features of encoded rows, cut by resolved values: what is cut is never in memory."""
        threshold = self.threshold or 0.0
        if self.max_share is None:
            return FeatureMatrix.from_dataset(dataset, vectors, threshold=threshold, top=self.top)
        excluded = np.unique(np.array(list(excluded), np.int64))
        counts = _frequency(dataset, threshold) - _frequency(dataset.select(excluded), threshold)
        rare = counts / max(len(dataset) - len(excluded), 1) <= self.max_share
        return FeatureMatrix.from_dataset(dataset, vectors, threshold=threshold, top=self.top, features=rare)

    def is_of_kept(self, kept: Kept) -> bool:
        """Tell whether resolved values need no activation that encoding would not keep of any row."""
        is_of_strongest = self.top is not None and self.top <= kept.strongest and self.max_share is None
        return is_of_strongest or (self.threshold or 0.0) >= kept.above

    def _check_kept(self, features: Features) -> None:
        """Check that the cuts need no activation that encoding did not keep.

        Raises:
            ValueError: They do.
        """
        if isinstance(features, FeatureMatrix):  # shards check their own
            check_kept(features, self.threshold or 0.0, self.top if self.max_share is None else None)

    def apply_as(self, features: FeatureMatrix, pool: Features, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Cut the features of other rows by resolved values, as `apply` cuts those of `pool`."""
        self._check_kept(features)
        features = features.above(self.threshold or 0.0)
        if self.max_share is not None:
            self._check_kept(pool)
            features = features.of_features(~pool.above(self.threshold or 0.0).common(self.max_share, excluded))
        return features if self.top is None else features.top(self.top)

    @overload
    def apply(self, features: FeatureMatrix, excluded: Collection[int] = ()) -> FeatureMatrix: ...
    @overload
    def apply(self, features: ShardedFeatures, excluded: Collection[int] = ()) -> ShardedFeatures: ...
    def apply(self, features: Any, excluded: Collection[int] = ()) -> Any:
        """Cut features by resolved values; rows that are `excluded` do not count for `max_share`."""
        self._check_kept(features)
        features = features.above(self.threshold or 0.0)
        features = features if self.max_share is None else features.rare(self.max_share, excluded)
        return features if self.top is None else features.top(self.top)

    def record(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return dict(vars(self))


def _frequency(dataset: Dataset, threshold: float) -> NDArray[np.int64]:
    """Count the rows that have each feature above a threshold, a block of rows at a time: [d_sae]."""
    parts = (block.above(threshold).frequency for block in FeatureMatrix.blocks(dataset))
    return np.asarray(sum(parts))
