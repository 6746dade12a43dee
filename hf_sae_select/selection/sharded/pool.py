"""Pools in shards: features or encoded rows, cut into ranges that this process or an engine holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..._datasets import picklable, range_to_send
from ...features.columns import code_columns, encoding_record
from ...features.kernels import cores
from ...features.matrix import FeatureMatrix
from .codes import Codes
from .features import ShardedFeatures
from .shard import Shard
from .shards import LocalShards, MakeShard, Shards
from .vector_column import VectorColumn

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset


class ShardEngine(Protocol):
    """Hold shards somewhere."""

    @property
    def workers(self) -> int:
        """The number of shards that it holds at once."""

    def shards(self, make: Sequence[MakeShard]) -> AbstractContextManager[Shards]:
        """Make shards, and end what holds them afterwards."""


class ThisProcess:
    """Hold shards in this process, one for each core: codes stay in their files, and a search holds what it needs."""

    @property
    def workers(self) -> int:
        return cores()

    @contextmanager
    def shards(self, make: Sequence[MakeShard]) -> Iterator[Shards]:
        yield LocalShards(make)


@contextmanager
def of_dataset(
    encoded: Dataset | None, engine: ShardEngine, vectors: VectorColumn | None = None
) -> Iterator[ShardedFeatures]:
    """Cut rows into shards, which read codes and vectors where these are; rows without codes have no features."""
    rows: Any = vectors if encoded is None else picklable(encoded.select_columns(code_columns(encoded)))
    parts = ranges(len(rows), engine.workers)
    make = [
        partial(
            _shard,
            None if encoded is None else range_to_send(rows, low, high),
            low,
            None if vectors is None else vectors.part(low, high),
        )
        for low, high in parts
    ]
    d_sae = 1 if encoded is None else encoding_record(encoded)["d_sae"]
    with engine.shards(make) as shards:
        yield ShardedFeatures(shards, [high - low for low, high in parts], d_sae)


def of_matrix(features: FeatureMatrix, shards: int) -> ShardedFeatures:
    """Cut features into shards in this process."""
    parts = ranges(len(features), shards)
    make = [partial(Shard, features.take(np.arange(low, high))) for low, high in parts]
    return ShardedFeatures(LocalShards(make), [high - low for low, high in parts], features.d_sae)


def ranges(rows: int, shards: int) -> list[tuple[int, int]]:
    """Cut rows into ranges of about the same size."""
    cuts = np.linspace(0, rows, shards + 1).astype(int).tolist()
    return list(pairwise(cuts))


def _shard(codes: Dataset | None, first: int, vectors: VectorColumn | None) -> Shard:
    if codes is not None:
        return Shard(Codes(codes, first), vectors)
    assert vectors is not None
    n = len(vectors)  # as `FeatureMatrix.from_vectors` has them
    return Shard(FeatureMatrix.from_dense(np.zeros((n, 1)), np.ones(n, np.int32)), vectors)
