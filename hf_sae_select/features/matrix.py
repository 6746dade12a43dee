"""FeatureMatrix: which SAE features each row of a dataset has, in CSR form, as a view over Arrow buffers. No torch."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .columns import ACTS, IDS, MEANS, TOKENS, csr_of, encoding_record, is_encoded, means_of, read_columns, vectors_of

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets

BLOCK_ROWS = 10_000  # rows whose codes are read together, where not all are


@dataclass(frozen=True, eq=False)
class FeatureMatrix:
    """Hold the features of n rows in CSR form: row i owns `ids[offsets[i]:offsets[i + 1]]`.

    Example, three rows of an SAE with eight features, the second one empty::

        offsets  [0, 3, 3, 5]
        ids      [0, 2, 5,  2, 7]
        acts     [.9, .1, .4,  .6, .3]
        tokens   [12, 0, 7]
    """

    offsets: NDArray[np.int64]
    """[n + 1]: where each row begins."""
    ids: NDArray[np.unsignedinteger[Any]]
    """[nnz], uint16 or uint32: feature ids, ascending within a row."""
    acts: NDArray[np.float32]
    """[nnz], float32: activations, all above zero."""
    d_sae: int
    """Number of features of the SAE; every id is below it."""
    tokens: NDArray[np.int32]
    """[n]: number of tokens read; 0 for a blank row."""
    means: NDArray[np.float32] | None = None
    """[nnz]: mean activation over the row's tokens; None where it was not kept."""
    vectors: NDArray[np.float32] | None = None
    """[n, d]: an embedding of each row; None where none was read."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """[n]: number of features of each row."""
        return np.diff(self.offsets)

    @cached_property
    def frequency(self) -> NDArray[np.int64]:
        """[d_sae]: number of rows that have each feature; counted when first asked for."""
        from .kernels import frequency  # needs numba

        return frequency(self.offsets, self.ids, self.d_sae)

    def check(self) -> None:
        """Refuse arrays that do not go together: the kernels read them unchecked."""
        n, sizes = len(self), np.diff(self.offsets)
        whole = self.offsets[0] == 0 and self.offsets[-1] == len(self.ids) and (sizes >= 0).all()
        if not (whole and self.offsets.dtype == np.int64):
            raise ValueError(
                "`features.offsets` must be int64, begin with 0, never fall and end with the number of ids"
            )
        if len(self.ids) and not (self.ids.dtype.kind == "u" and self.ids.max() < self.d_sae):
            raise ValueError(f"`features.ids` must be unsigned integers below `d_sae`, which is {self.d_sae}")
        for name, length in (("acts", len(self.ids)), ("means", len(self.ids)), ("tokens", n), ("vectors", n)):
            values = getattr(self, name)
            if values is not None and len(values) != length:
                raise ValueError(f"`features.{name}` has {len(values)} values; {length} go with the offsets")
        if self.vectors is not None and not np.isfinite(self.vectors).all():
            raise ValueError("`features.vectors` holds NaN or infinity; mend those rows or leave them out")

    def row(self, i: int) -> NDArray[np.unsignedinteger[Any]]:
        """Return the feature ids of row `i`."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def above(self, threshold: float) -> FeatureMatrix:
        """Keep the activations strictly above `threshold`: a mask over the stored values, not a re-encode."""
        return self._keep(self.acts > threshold)

    def top(self, m: int) -> FeatureMatrix:
        """Keep each row's `m` strongest features; of equal activations the lower id stays."""
        if (self.counts <= m).all():
            return self
        from .kernels import strongest  # needs numba

        kept = np.zeros(len(self.ids), np.bool_)
        kept[strongest(self.offsets, self.acts.astype(np.float32, copy=False).view(np.uint32), m)] = True
        return self._keep(kept)

    def rare(self, max_share: float, excluded: Collection[int] = ()) -> FeatureMatrix:
        """Drop every feature that more than a share `max_share` of the rows have, those `excluded` not counted.

        Example, features of four rows being {0, 1}, {0, 2}, {0}, {1}: at most half of the rows leaves {1}, {2}, {},
        {1}, since three of four have feature 0.
        """
        holders = self.frequency.copy()
        for i in excluded:
            holders[self.row(i)] -= 1
        common = holders / max(len(self) - len(excluded), 1) > max_share
        return self._keep(~common[self.ids])

    def _keep(self, mask: NDArray[np.bool_]) -> FeatureMatrix:
        """Keep the nonzeros of a mask: a byte each, where their positions would be eight."""
        if mask.all():
            return self
        there = np.flatnonzero(self.counts)  # `reduceat` has no word for a row without features
        offsets = np.zeros_like(self.offsets)
        offsets[there + 1] = np.add.reduceat(mask, self.offsets[there], dtype=np.int64)
        means = None if self.means is None else self.means[mask]
        return replace(self, offsets=offsets.cumsum(), ids=self.ids[mask], acts=self.acts[mask], means=means)

    @classmethod
    def from_dataset(cls, ds: datasets.Dataset, vectors: str | None = None) -> FeatureMatrix:
        """View the code columns of an encoded Dataset; one Arrow chunk is not copied, several are copied once.

        Args:
            vectors: a column with an embedding of each row, such as `sae_state`, to go with the features.

        Raises:
            ValueError: the columns are missing or hold nulls, or `vectors` are no finite vectors of one length.
        """
        if not is_encoded(ds):
            raise ValueError(
                f"no feature columns `{IDS}`, `{ACTS}`, `{TOKENS}` in this dataset; "
                f"run `ds.sae_encode()` first (found: {', '.join(ds.column_names)})"
            )
        table = read_columns(ds, [name for name in (IDS, ACTS, TOKENS, MEANS) if name in ds.column_names])
        d_sae = int(encoding_record(ds)["d_sae"])
        offsets, ids = csr_of(table.column(IDS))
        ends, acts = csr_of(table.column(ACTS))
        # The kernels read unchecked, and the columns may come from anywhere.
        types = [column.type.value_type for column in (table.column(IDS), table.column(ACTS))]
        types.append(table.column(TOKENS).type)
        if list(map(str, types)) != ["uint16" if d_sae <= 2**16 else "uint32", "float", "int32"]:
            raise ValueError(f"columns `{IDS}`, `{ACTS}`, `{TOKENS}` hold {', '.join(map(str, types))}; encode again")
        if not np.array_equal(ends, offsets) or (len(ids) and ids.max() >= d_sae):
            raise ValueError(
                f"columns `{IDS}` and `{ACTS}` do not go together, or not with {d_sae:,} features; encode again"
            )
        if table.column(TOKENS).null_count:
            raise ValueError(f"column `{TOKENS}` holds nulls; encode the whole dataset again")
        return cls(
            offsets,
            ids,
            acts,
            d_sae,
            table.column(TOKENS).to_numpy(),
            means_of(table.column(MEANS), offsets) if MEANS in table.column_names else None,
            None if vectors is None else vectors_of(ds, vectors),
        )

    @classmethod
    def read_above(cls, ds: datasets.Dataset, threshold: float) -> FeatureMatrix:
        """Read the activations strictly above `threshold` alone, some rows at a time: the rest is never held.

        Raises:
            ValueError: as `from_dataset`.
        """
        starts = range(0, len(ds), BLOCK_ROWS)
        parts = [cls.from_dataset(ds.select(range(i, min(i + BLOCK_ROWS, len(ds))))).above(threshold) for i in starts]
        offsets = np.zeros(len(ds) + 1, np.int64)
        np.cumsum(np.concatenate([part.counts for part in parts]), out=offsets[1:])
        joined: dict[str, Any] = {
            name: np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "acts", "tokens")
        }
        if parts[0].means is not None:
            joined["means"] = np.concatenate([part.means for part in parts])
        return cls(offsets, d_sae=parts[0].d_sae, **joined)

    @classmethod
    def of_vectors(cls, ds: datasets.Dataset, column: str) -> FeatureMatrix:
        """Read the vectors of a Dataset that is not encoded: rows without features, each taken for one token long.

        Raises:
            ValueError: `column` does not hold finite vectors of one length.
        """
        nothing = np.empty(0, np.uint16)
        offsets, tokens = np.zeros(len(ds) + 1, np.int64), np.ones(len(ds), np.int32)
        return cls(offsets, nothing, nothing.astype(np.float32), 1, tokens, vectors=vectors_of(ds, column))
