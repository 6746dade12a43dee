"""ShardedFeatures: the features of a pool whose rows are in shards, as the driver of a selection sees them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...features import kernels
from ...features.kernels import Floats, Int64s
from ...features.matrix import FeatureMatrix
from ...features.shares import Shares, amounts_above, mean_of
from ..overlap import Overlap, equal_features
from ..unit_vectors import NO_VECTORS
from .codes import Cut
from .messages import Rows, VectorSummary
from .shards import Shards


@dataclass(frozen=True, eq=False)
class ShardedFeatures:
    """Know of each row how many features and tokens it has, and of each feature how many rows have it.

    All else stays in the shards: 8 bytes a row are here. Its methods mean the same as those of a FeatureMatrix.
    """

    shards: Shards
    rows: Sequence[int]
    """The number of rows of each shard."""
    d_sae: int
    cut: Cut | None = None
    """Which features count; None for all."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    @cached_property
    def starts(self) -> Int64s:
        """Where each shard begins: [shards + 1]."""
        return np.cumsum([0, *self.rows])

    # ---- calls

    def call_each(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call a method of every shard with arguments of its own."""
        if self.cut is None:
            return self.shards.call_each(method, arguments)
        return self.shards.call_each("of_cut", [(self.cut, method, *own) for own in arguments])

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Call a method of every shard with the same arguments."""
        if self.cut is None:
            return self.shards.call(method, *arguments)
        return self.shards.call("of_cut", self.cut, method, *arguments)

    def summed(self, method: str, *arguments: Any) -> Floats:
        """Let a sum of floats go through the shards in the order of rows: so it is that of one process, to the bit."""
        sums: Floats = self.through(method, *arguments, np.zeros(self.d_sae))
        return sums

    def through(self, method: str, *arguments: Any) -> Any:
        """Call a method of one shard after another; the last argument of each call is what the one before returned."""
        call = (method,) if self.cut is None else ("of_cut", self.cut, method)
        *others, value = arguments
        for shard in range(len(self.shards)):
            value = self.shards.call_one(shard, *call, *others, value)
        return value

    def ranges(self) -> list[tuple[int, int]]:
        """Return where the rows of each shard begin and end."""
        return list(pairwise(self.starts.tolist()))

    def shard_of(self, rows: Int64s) -> Int64s:
        """Return which shard has each of some rows."""
        return np.asarray(np.searchsorted(self.starts, rows, side="right") - 1)

    def split(self, rows: Int64s) -> list[tuple[Int64s]]:
        """Return which of some rows each shard has, by their numbers within it."""
        shard = self.shard_of(rows)
        return [(rows[shard == i] - start,) for i, start in enumerate(self.starts[:-1])]

    def gathered(self, method: str, rows: Int64s) -> list[tuple[NDArray[Any], NDArray[np.float32]]]:
        """Call a method of the shards with their numbers of some rows; return ids and amounts of each row."""
        parts = [iter(answer.parts()) for answer in self.call_each(method, self.split(rows))]
        return [next(parts[i]) for i in self.shard_of(rows).tolist()]

    # ---- as of a FeatureMatrix

    @cached_property
    def _summaries(self) -> list[dict[str, Any]]:
        return self.call("summary")

    @cached_property
    def counts(self) -> Int64s:
        """Number of features of each row: [n]."""
        return np.concatenate([summary["counts"] for summary in self._summaries])

    @cached_property
    def tokens(self) -> NDArray[np.int32]:
        """Number of tokens of each row: int32 [n]."""
        return np.concatenate([summary["tokens"] for summary in self._summaries])

    @cached_property
    def frequency(self) -> Int64s:
        """Number of rows that have each feature: int64 [d_sae]."""
        return np.asarray(sum(summary["frequency"] for summary in self._summaries))

    @cached_property
    def has_vector(self) -> NDArray[np.bool_]:
        """Whether the vector of each row is not zeros: [n]."""
        return np.concatenate([summary.has_vector for summary in self._vector_summaries])

    @cached_property
    def width(self) -> int:
        """The number of numbers of a vector."""
        widths = {summary.width for summary in self._vector_summaries if summary.width} or {0}
        if len(widths) > 1:
            raise ValueError(f"vectors have {min(widths)} to {max(widths)} numbers; give all one length")
        return widths.pop()

    @cached_property
    def _vector_summaries(self) -> list[VectorSummary]:
        return self.call("vector_summary")

    def above(self, threshold: float) -> ShardedFeatures:
        """Keep the activations strictly above a threshold."""
        return replace(self, cut=Cut(threshold))

    def rare(self, max_share: float, excluded: Collection[int] = ()) -> ShardedFeatures:
        """Drop the features that too many rows have."""
        rare = ~self.common(max_share, excluded)
        return replace(self, cut=replace(self.cut or Cut(), features=rare.tobytes()))

    def common(self, max_share: float, excluded: Collection[int] = ()) -> NDArray[np.bool_]:
        """Tell of each feature whether too many rows have it."""
        frequency = self.pool_frequency(np.unique(np.array(list(excluded), np.int64)))
        return np.asarray(frequency / max(len(self) - len(excluded), 1) > max_share)

    def top(self, m: int) -> ShardedFeatures:
        """Keep the strongest features of each row."""
        return replace(self, cut=replace(self.cut or Cut(), top=m))

    def take(self, rows: Int64s) -> FeatureMatrix:
        """Return some rows, in an order of your own."""
        taken = Rows.joined(self.gathered("take", rows))
        offsets = np.concatenate([[0], taken.counts.cumsum()])
        return FeatureMatrix(offsets, taken.ids, taken.amounts, self.d_sae, self.tokens[rows])

    def new_features(self, rows: Int64s) -> Int64s:
        """Count the features that each of some rows adds to the rows before it."""
        n, shard = len(rows), self.shard_of(rows)
        calls = [(*own, np.flatnonzero(shard == i), n) for i, own in enumerate(self.split(rows))]
        first = np.min(self.call_each("first_holders", calls), axis=0)
        return np.bincount(first[first < n], minlength=n)

    def pool_frequency(self, excluded: Int64s) -> Int64s:
        """Count the rows that have each feature, and leave `excluded` rows out, from now on in all sums: [d_sae]."""
        return np.asarray(self.frequency - sum(self.call_each("leave_out", self.split(excluded))))

    def equal_rows(self, reference: FeatureMatrix) -> Overlap:
        """Return which rows have the features of a row of a reference."""
        parts = self.call("equal_rows", reference)
        parts = [replace(part, rows=part.rows + start) for part, start in zip(parts, self.starts[:-1], strict=True)]
        columns = [[getattr(part, name) for part in parts] for name in Overlap.__dataclass_fields__]
        return Overlap(*(np.concatenate(column) for column in columns))


Features = FeatureMatrix | ShardedFeatures
"""The features of a pool, whole or in shards."""


def pool_frequency(features: Features, excluded: Int64s) -> Int64s:
    """Count the rows that have each feature, without `excluded` ones: [d_sae]."""
    if isinstance(features, ShardedFeatures):
        return features.pool_frequency(excluded)
    return features.frequency - kernels.holders(features.offsets, features.ids, excluded, features.d_sae)


def new_features(features: Features, rows: Int64s) -> Int64s:
    """Count the features that each of some rows adds to the rows before it."""
    if isinstance(features, ShardedFeatures):
        return features.new_features(rows)
    taken = features.take(rows)
    return kernels.new_features(taken.offsets, taken.ids, taken.d_sae, np.arange(len(rows)))


def equal_rows(features: Features, reference: FeatureMatrix) -> Overlap:
    """Return which rows have the features of a row of a reference."""
    if isinstance(features, ShardedFeatures):
        return features.equal_rows(reference)
    return equal_features(features, reference)


def has_vectors(features: Features) -> NDArray[np.bool_]:
    """Return whether the vector of each row is not zeros: [n].

    Raises:
        ValueError: The rows have no vectors.
    """
    if isinstance(features, ShardedFeatures):
        return features.has_vector
    if features.vectors is None:
        raise ValueError(NO_VECTORS)
    return np.asarray(features.vectors.any(axis=1))


def mean_and_total(features: Features, pool: Int64s) -> tuple[Floats, Floats]:
    """Return the mean shares of a pool, and the sum of the shares above them, see `Shares`: [d_sae] both."""
    if not isinstance(features, ShardedFeatures):
        shares = Shares.of(features, pool)
        return shares.mean, shares.total
    features.pool_frequency(np.setdiff1d(np.arange(len(features)), pool))
    mean = mean_of(features.summed("add_shares"))
    return mean, features.summed("add_mass", partial(amounts_above, mean))
