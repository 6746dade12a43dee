"""Cuts: which features of each row a method sees."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from .._validation import check_int, check_number
from ..features.matrix import FeatureMatrix
from .method import Method


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

    def apply_as(self, features: FeatureMatrix, pool: FeatureMatrix, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Cut the features of other rows by resolved values, as `apply` cuts those of `pool`."""
        features = features.above(self.threshold or 0.0)
        if self.max_share is not None:
            features = features.of_features(~pool.above(self.threshold or 0.0).common(self.max_share, excluded))
        return features if self.top is None else features.top(self.top)

    def apply(self, features: FeatureMatrix, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Cut features by resolved values; rows that are `excluded` do not count for `max_share`."""
        features = features.above(self.threshold or 0.0)
        features = features if self.max_share is None else features.rare(self.max_share, excluded)
        return features if self.top is None else features.top(self.top)

    def record(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return dict(vars(self))
