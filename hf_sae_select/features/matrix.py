"""FeatureMatrix: which SAE features each row of a dataset has, in CSR form, as a view of Arrow buffers. No torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .arrays import (
    array_of,
    check_entries,
    checked_acts,
    checked_ids,
    checked_offsets,
    checked_tokens,
    checked_vectors,
)
from .codes import is_view
from .columns import read_vectors
from .kept import Kept, check_kept
from .reading import read_blocks, read_cut, read_whole

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """The features of the rows of a dataset, as a sparse matrix in CSR form.

    Row i has the features `ids[offsets[i]:offsets[i + 1]]`, with the activations `acts[offsets[i]:offsets[i + 1]]`.
    `from_dense`, `from_scipy` and `from_dataset` make one. The arrays are checked when a matrix is made: those of
    another integer or float type, byte order or layout are converted where the values fit, all others are refused.

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
    """Where each row begins in `ids` and `acts`, and where the last one ends: int64 [n + 1]."""
    ids: NDArray[np.unsignedinteger[Any]]
    """Feature ids, strictly rising within a row: uint16 or uint32 [nnz]."""
    acts: NDArray[np.float32]
    """Activations, finite and not negative: float32 [nnz]."""
    d_sae: int
    """Number of features of the SAE; every id is below it."""
    tokens: NDArray[np.int32]
    """Number of tokens read of each row, 0 for a blank row: int32 [n]."""
    vectors: NDArray[np.float32] | None = None
    """An embedding of each row, for the methods that compare vectors: float32 [n, d]; None without embeddings."""
    kept: Kept | None = None
    """What encoding kept of each row, where not all; None where every feature of a row is here, or rows were cut."""

    def __post_init__(self) -> None:
        """Check the arrays, and convert them to the types above.

        Raises:
            TypeError, ValueError: If one has another kind, shape or length, or a value that is not allowed.
        """
        ids = checked_ids(self.ids, self.d_sae)
        offsets, acts = checked_offsets(self.offsets, len(ids)), checked_acts(self.acts, len(ids))
        check_entries(offsets, ids, acts)
        n = len(offsets) - 1
        vectors = None if self.vectors is None else checked_vectors(self.vectors, n)
        checked = {"offsets": offsets, "ids": ids, "acts": acts, "d_sae": int(self.d_sae), "vectors": vectors}
        self.__dict__.update(checked | {"tokens": checked_tokens(self.tokens, n)})  # a frozen class has no setters

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of features of each row: int64 [n]."""
        return np.diff(self.offsets)

    @cached_property
    def frequency(self) -> NDArray[np.int64]:
        """Number of rows that have each feature, counted when first used: int64 [d_sae]."""
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
        """Keep the activations strictly above a threshold.

        Args:
            threshold (`float`):
                Activations up to and including this are dropped.

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if every activation is above. Where encoding
            did not keep all of these, the matrix refuses what needs them.
        """
        is_complete = self.kept is None or threshold >= self.kept.above
        return self._masked(self.acts > threshold, None if is_complete else self.kept)

    def top(self, m: int) -> FeatureMatrix:
        """Keep the strongest features of each row.

        Args:
            m (`int`):
                Number of features that a row keeps at most. Of equal activations, the one with the lower id stays.

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if no row has more than `m` features.

        Raises:
            ValueError: If fewer than `m` features of a row were kept by its encoding.
        """
        check_kept(self, 0.0, m)
        if (self.counts <= m).all():
            return self if self.kept is None else self._with(kept=None)
        known: tuple[int, FeatureMatrix] | None = self.__dict__.get("_top")
        if known is not None and known[0] == m:  # several parts of a selection read the same cut
            return known[1]
        from .kernels import largest_of_rows  # needs numba

        bits = self.acts.astype(np.float32, copy=False).view(np.uint32)
        mask = np.zeros(len(self.ids), np.bool_)
        mask[largest_of_rows(self.offsets, bits, m)] = True
        cut = self._masked(mask)
        self.__dict__["_top"] = m, cut
        return cut

    def rare(self, max_share: float, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Drop the features that too many rows have.

        Args:
            max_share (`float`):
                A feature stays if at most this share of the rows have it.
            excluded (`Collection[int]`, *optional*, defaults to `()`):
                Rows that are not counted.

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if no feature is that common.

        Raises:
            ValueError: If not all features of a row were kept by its encoding; see `above`.

        Example:

        ```python
        # four rows {0, 1}, {0, 2}, {0}, {1}: three of four have feature 0
        features.rare(0.5)  # {1}, {2}, {}, {1}
        ```
        """
        return self.of_features(~self.common(max_share, excluded))

    def common(self, max_share: float, excluded: Collection[int] = ()) -> NDArray[np.bool_]:
        """Tell of each feature whether too many rows have it.

        Args:
            max_share (`float`):
                Too many is more than this share of the rows.
            excluded (`Collection[int]`, *optional*, defaults to `()`):
                Rows that are not counted.

        Returns:
            `np.ndarray`: Whether each feature is common: bool [d_sae]; [True, False, False] in the example of `rare`.

        Raises:
            ValueError: If not all features of a row were kept by its encoding: nobody knows how common they are.
        """
        check_kept(self, 0.0)
        frequency = self.frequency.copy()
        for i in excluded:
            frequency[self.row(i)] -= 1
        return np.asarray(frequency / max(len(self) - len(excluded), 1) > max_share)

    def of_features(self, kept: NDArray[np.bool_]) -> FeatureMatrix:
        """Keep the entries of some features.

        Args:
            kept (`np.ndarray`):
                Whether each feature stays: bool [d_sae].

        Returns:
            `FeatureMatrix`: The matrix with fewer entries, or this one if no entry goes.
        """
        return self._masked(kept[self.ids])

    def take(self, rows: NDArray[np.int64]) -> FeatureMatrix:
        """Return some rows, in an order of your own; a row may be taken twice.

        Args:
            rows (`np.ndarray`):
                Numbers of rows, [m], int64.

        Returns:
            `FeatureMatrix`: The rows, with their tokens and vectors.
        """
        from .kernels import of_rows  # needs numba

        offsets = np.concatenate([[0], self.counts[rows].cumsum()])
        ids, acts = (of_rows(self.offsets, column, rows, offsets) for column in (self.ids, self.acts))
        vectors = None if self.vectors is None else self.vectors[rows]
        return self._with(offsets=offsets, ids=ids, acts=acts, tokens=self.tokens[rows], vectors=vectors)

    def _masked(self, mask: NDArray[np.bool_], kept: Kept | None = None) -> FeatureMatrix:
        """Keep the entries where `mask` is true: a byte an entry, where positions would take eight."""
        if mask.all():
            return self if kept is self.kept else self._with(kept=kept)
        from .kernels import offsets_of  # needs numba

        offsets = offsets_of(self.offsets, mask)
        return self._with(offsets=offsets, ids=self.ids[mask], acts=self.acts[mask], kept=kept)

    def _with(self, **fields: Any) -> FeatureMatrix:
        """Return a copy with other fields, which need no check."""
        matrix = copy(self)
        for cached in ("frequency", "_top"):
            matrix.__dict__.pop(cached, None)
        matrix.__dict__.update(fields)
        return matrix

    @classmethod
    def from_dense(cls, activations: Any, tokens: Any = None, vectors: Any = None) -> FeatureMatrix:
        """Make the matrix of an array with a row of activations for each row of a dataset.

        Args:
            activations (`np.ndarray`):
                The activations, [n, d_sae]: an array, or what NumPy makes one of, such as a tensor. A feature that is
                0 is one that the row does not have.
            tokens (`np.ndarray`, *optional*):
                Number of tokens of each row, [n]. By default 1 for rows with features, and 0 for others.
            vectors (`np.ndarray`, *optional*):
                An embedding of each row, [n, d].

        Returns:
            `FeatureMatrix`: The features of the rows.

        Raises:
            TypeError: If `activations` is no array of numbers with two dimensions.
            ValueError: If an activation is negative, NaN or infinite, or an array has another length.

        Example:

        ```python
        features = FeatureMatrix.from_dense(np.array([[0.9, 0.0, 0.1], [0.0, 0.0, 0.0]]))
        # {0, 2} and {}
        ```
        """
        dense = array_of("activations", activations, "numbers", 2)
        rows, ids = dense.nonzero()
        counts = np.bincount(rows, minlength=len(dense))
        return cls._of_counts(counts, ids, dense[rows, ids], dense.shape[1], tokens, vectors)

    @classmethod
    def from_scipy(cls, matrix: Any, tokens: Any = None, vectors: Any = None) -> FeatureMatrix:
        """Make the matrix of a sparse matrix or array of SciPy, in any format.

        The result equals `from_dense(matrix.toarray())`: entries that a matrix has twice are summed, as SciPy does.

        Args:
            matrix (`scipy.sparse.sparray`):
                The activations, [n, d_sae].
            tokens (`np.ndarray`, *optional*):
                Number of tokens of each row, see `from_dense`.
            vectors (`np.ndarray`, *optional*):
                An embedding of each row, [n, d].

        Returns:
            `FeatureMatrix`: The features of the rows.

        Raises:
            TypeError: If `matrix` is no sparse matrix of numbers with two dimensions.
            ValueError: If an activation is negative, NaN or infinite, or an array has another length.

        Example:

        ```python
        features = FeatureMatrix.from_scipy(scipy.sparse.csr_array([[0.9, 0.0, 0.1], [0.0, 0.0, 0.0]]))
        ```
        """
        if not hasattr(matrix, "tocsr") or len(matrix.shape) != 2:
            raise TypeError(
                f"`matrix` is a {type(matrix).__name__}; it must be a sparse matrix of SciPy with two dimensions"
            )
        csr = matrix.tocsr(copy=True)
        csr.sum_duplicates()
        csr.eliminate_zeros()
        return cls._of_counts(np.diff(csr.indptr), csr.indices, csr.data, csr.shape[1], tokens, vectors)

    @classmethod
    def _of_counts(cls, counts: Any, ids: Any, acts: Any, d_sae: int, tokens: Any, vectors: Any) -> FeatureMatrix:
        """Make a matrix from the number of features of each row."""
        offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        tokens = (counts > 0).astype(np.int32) if tokens is None else tokens
        return cls(offsets, ids, acts, d_sae, tokens, vectors)

    @classmethod
    def from_dataset(
        cls,
        dataset: datasets.Dataset,
        vectors: str | None = None,
        *,
        threshold: float | None = None,
        top: int | None = None,
        features: NDArray[np.bool_] | None = None,
    ) -> FeatureMatrix:
        """View the code columns of an encoded dataset.

        One Arrow chunk in float32 is not copied; others are copied once, a block of rows at a time.

        Args:
            dataset (`datasets.Dataset`):
                An encoded dataset, as `encode` returns it.
            vectors (`str`, *optional*):
                Column with an embedding of each row, such as `sae_state`, for `FeatureMatrix.vectors`.
            threshold (`float`, *optional*):
                Read only the activations strictly above this. The result equals `above(threshold)`, but the rest is
                never in memory.
            top (`int`, *optional*):
                Read only so many of the strongest features of each row, as `top(top)` after `above(threshold)`.
            features (`np.ndarray`, *optional*):
                Read only the entries of some features: bool [d_sae], as `of_features(features)` before `top(top)`.

        Returns:
            `FeatureMatrix`: The features of the rows, in the dataset's order.

        Raises:
            ValueError: If the code columns are missing, hold nulls or do not fit together, if a cut needs features
                that encoding did not keep, or if `vectors` does not hold finite vectors of one length.
        """
        is_whole = threshold is None and top is None and features is None and is_view(dataset)
        matrix: FeatureMatrix = (
            read_whole(cls, dataset) if is_whole else read_cut(cls, dataset, threshold, top, features)
        )
        return matrix if vectors is None else matrix._with(vectors=read_vectors(dataset, vectors))

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
    def blocks(cls, dataset: datasets.Dataset) -> Iterator[FeatureMatrix]:
        """Read the code columns of an encoded dataset, some rows at a time.

        Args:
            dataset (`datasets.Dataset`):
                An encoded dataset, as `encode` returns it.

        Returns:
            `Iterator[FeatureMatrix]`: The features of the first rows, of the next ones, and so on; no rows, where the
            dataset has none.

        Raises:
            ValueError: If the code columns are missing, hold nulls or do not fit together.

        Example:

        ```python
        for features in FeatureMatrix.blocks(encoded):
            print(len(features))
        ```
        """
        return read_blocks(cls, dataset)
