"""FeatureMatrix: which SAE features each row of a dataset has, in CSR form, as a view of Arrow buffers. No torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .columns import ACTS, IDS, TOKENS, encoding_record, is_encoded, read_columns, read_lists, read_vectors

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

BLOCK_ROWS = 10_000  # rows whose codes are in memory together while a threshold is applied


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """The features of the rows of a dataset, as a sparse matrix in CSR form.

    Row i has the features `ids[offsets[i]:offsets[i + 1]]`, with the activations `acts[offsets[i]:offsets[i + 1]]`.

    Args:
        offsets (`np.ndarray` of int64):
            Where each row begins in `ids` and `acts`, and where the last one ends: [n + 1].
        ids (`np.ndarray` of uint16 or uint32):
            Feature ids, ascending within a row: [nnz].
        acts (`np.ndarray` of float32):
            Activations, all above zero: [nnz].
        d_sae (`int`):
            Number of features of the SAE; every id is below it.
        tokens (`np.ndarray` of int32):
            Number of tokens read of each row, 0 for a blank row: [n].
        vectors (`np.ndarray` of float32, *optional*):
            An embedding of each row, for the methods that compare vectors: [n, d].

    Example:

    ```python
    # three rows of an SAE with eight features: {0, 2, 5}, {} and {2, 7}
    features = FeatureMatrix(
        offsets=np.array([0, 3, 3, 5]),
        ids=np.array([0, 2, 5, 2, 7], np.uint16),
        acts=np.array([0.9, 0.1, 0.4, 0.6, 0.3], np.float32),
        d_sae=8,
        tokens=np.array([12, 0, 7], np.int32),
    )
    ```
    """

    offsets: NDArray[np.int64]
    ids: NDArray[np.unsignedinteger[Any]]
    acts: NDArray[np.float32]
    d_sae: int
    tokens: NDArray[np.int32]
    vectors: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of features of each row: int64 [n]."""
        return np.diff(self.offsets)

    @cached_property
    def frequency(self) -> NDArray[np.int64]:
        """Number of rows that have each feature: int64 [d_sae]. Counted once, when first used."""
        from .kernels import frequency  # needs numba

        return frequency(self.offsets, self.ids, self.d_sae)

    def row(self, i: int) -> NDArray[np.unsignedinteger[Any]]:
        """Return the features of one row.

        Args:
            i (`int`):
                Number of the row.

        Returns:
            `np.ndarray`: The feature ids, ascending: uint16 or uint32.
        """
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def above(self, threshold: float) -> FeatureMatrix:
        """Keep the activations strictly above a threshold. Nothing is encoded again.

        Args:
            threshold (`float`):
                Activations up to and including this are dropped.

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if every activation is above.
        """
        return self._masked(self.acts > threshold)

    def top(self, m: int) -> FeatureMatrix:
        """Keep the strongest features of each row.

        Args:
            m (`int`):
                Number of features that a row keeps at most. Of equal activations, the one with the lower id stays.

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if no row has more than `m` features.
        """
        if (self.counts <= m).all():
            return self
        from .kernels import largest_of_rows  # needs numba

        bits = self.acts.astype(np.float32, copy=False).view(np.uint32)
        mask = np.zeros(len(self.ids), np.bool_)
        mask[largest_of_rows(self.offsets, bits, m)] = True
        return self._masked(mask)

    def rare(self, max_share: float, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Drop the features that too many rows have.

        Args:
            max_share (`float`):
                A feature stays if at most this share of the rows have it.
            excluded (`Collection[int]`, *optional*, defaults to `()`):
                Rows that are not counted.

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if no feature is that common.

        Example:

        ```python
        # four rows {0, 1}, {0, 2}, {0}, {1}: three of four have feature 0
        features.rare(0.5)  # {1}, {2}, {}, {1}
        ```
        """
        frequency = self.frequency.copy()
        for i in excluded:
            frequency[self.row(i)] -= 1
        common = frequency / max(len(self) - len(excluded), 1) > max_share
        return self._masked(~common[self.ids])

    def _masked(self, mask: NDArray[np.bool_]) -> FeatureMatrix:
        """Keep the entries where `mask` is true: a byte an entry, where positions would take eight."""
        if mask.all():
            return self
        filled = np.flatnonzero(self.counts)  # `reduceat` cannot sum over a row without features
        offsets = np.zeros_like(self.offsets)
        offsets[filled + 1] = np.add.reduceat(mask, self.offsets[filled], dtype=np.int64)
        return replace(self, offsets=offsets.cumsum(), ids=self.ids[mask], acts=self.acts[mask])

    def check(self) -> None:
        """Check that the arrays fit together.

        Compiled code reads them without bounds checks, so arrays from outside must be checked first.
        `select_indices` does so.

        Raises:
            ValueError: If an array has another length or type than its place needs, an id is not below `d_sae`, or
                `vectors` are not finite.
        """
        n, nnz, sizes = len(self), len(self.ids), np.diff(self.offsets)
        whole = self.offsets[0] == 0 and self.offsets[-1] == nnz and (sizes >= 0).all()
        if not (whole and self.offsets.dtype == np.int64):
            raise ValueError(
                "`features.offsets` must be int64, begin with 0, never fall and end with the number of ids"
            )
        if nnz and not (self.ids.dtype.kind == "u" and self.ids.max() < self.d_sae):
            raise ValueError(f"`features.ids` must be unsigned integers below `d_sae`, which is {self.d_sae}")
        for name, length in (("acts", nnz), ("tokens", n), ("vectors", n)):
            values = getattr(self, name)
            if values is not None and len(values) != length:
                raise ValueError(f"`features.{name}` has {len(values)} values; {length} go with the offsets")
        if self.vectors is not None and not np.isfinite(self.vectors).all():
            raise ValueError("`features.vectors` holds NaN or infinity; fix or drop those rows")

    @classmethod
    def from_dataset(
        cls, dataset: datasets.Dataset, vectors: str | None = None, *, threshold: float | None = None
    ) -> FeatureMatrix:
        """View the code columns of an encoded dataset. One Arrow chunk is not copied, several are copied once.

        Args:
            dataset (`datasets.Dataset`):
                An encoded dataset, as `encode` returns it.
            vectors (`str`, *optional*):
                Column with an embedding of each row, such as `sae_state`, for `FeatureMatrix.vectors`.
            threshold (`float`, *optional*):
                Read only the activations strictly above this, a block of rows at a time. The result equals
                `above(threshold)`, but the rest is never in memory.

        Returns:
            `FeatureMatrix`: The features of the rows, in the dataset's order.

        Raises:
            ValueError: If the code columns are missing, hold nulls or do not fit together, or if `vectors` does not
                hold finite vectors of one length.
        """
        features = cls._read(dataset) if threshold is None else cls._read_above(dataset, threshold)
        return features if vectors is None else replace(features, vectors=read_vectors(dataset, vectors))

    @classmethod
    def from_vectors(cls, dataset: datasets.Dataset, column: str) -> FeatureMatrix:
        """Read the vectors of a dataset that is not encoded: rows without features, each counted as one token.

        Args:
            dataset (`datasets.Dataset`):
                Any dataset with a column of vectors.
            column (`str`):
                Column with lists of floats, all of one length.

        Returns:
            `FeatureMatrix`: The rows with their vectors, `d_sae` being 1.

        Raises:
            ValueError: If `column` does not exist, or does not hold finite vectors of one length.
        """
        ids, acts = np.empty(0, np.uint16), np.empty(0, np.float32)
        offsets, tokens = np.zeros(len(dataset) + 1, np.int64), np.ones(len(dataset), np.int32)
        return cls(offsets, ids, acts, d_sae=1, tokens=tokens, vectors=read_vectors(dataset, column))

    @classmethod
    def _read(cls, dataset: datasets.Dataset) -> FeatureMatrix:
        if not is_encoded(dataset):
            raise ValueError(
                f"no feature columns `{IDS}`, `{ACTS}`, `{TOKENS}` in this dataset; "
                f"run `ds.sae_encode()` first (its columns: {', '.join(dataset.column_names)})"
            )
        table = read_columns(dataset, [IDS, ACTS, TOKENS])
        d_sae = int(encoding_record(dataset)["d_sae"])
        offsets, ids = read_lists(table.column(IDS))
        acts_offsets, acts = read_lists(table.column(ACTS))
        _check_types(table, d_sae)
        if not np.array_equal(acts_offsets, offsets) or (len(ids) and ids.max() >= d_sae):
            raise ValueError(
                f"columns `{IDS}` and `{ACTS}` do not go together, or not with {d_sae:,} features; encode again"
            )
        if table.column(TOKENS).null_count:
            raise ValueError(f"column `{TOKENS}` holds nulls; encode the whole dataset again")
        return cls(offsets, ids, acts, d_sae, table.column(TOKENS).to_numpy())

    @classmethod
    def _read_above(cls, dataset: datasets.Dataset, threshold: float) -> FeatureMatrix:
        starts = range(0, len(dataset), BLOCK_ROWS)
        blocks = (dataset.select(range(i, min(i + BLOCK_ROWS, len(dataset)))) for i in starts)
        parts = [cls._read(block).above(threshold) for block in blocks] or [cls._read(dataset)]
        offsets = np.zeros(len(dataset) + 1, np.int64)
        np.cumsum(np.concatenate([part.counts for part in parts]), out=offsets[1:])
        ids, acts, tokens = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "acts", "tokens")
        )
        return cls(offsets, ids, acts, parts[0].d_sae, tokens)


def _check_types(table: pa.Table, d_sae: int) -> None:
    """Check the types of the code columns: compiled code trusts them, and the columns may come from anywhere."""
    types = [str(column.type.value_type) for column in (table.column(IDS), table.column(ACTS))]
    types.append(str(table.column(TOKENS).type))
    if types != ["uint16" if d_sae <= 2**16 else "uint32", "float", "int32"]:
        raise ValueError(f"columns `{IDS}`, `{ACTS}`, `{TOKENS}` hold {', '.join(types)}; encode again")
