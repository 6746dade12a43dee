"""Features: which SAE features each row of a dataset has, as a view over Arrow buffers. No torch.

An encoded Dataset has three columns more than its source:

    sae_ids     list<uint16|uint32>   the features that fired anywhere in the row, ascending
    sae_acts    list<float32>         the largest activation of each over the row's tokens
    sae_tokens  int32                 how many tokens were read

and, when asked for with `keep`,

    sae_means   list<float32>         the mean activation of each of `sae_ids` over the row's tokens
    sae_state   list<float32>[d_in]   the mean of the hidden state that the SAE read; zeros for a blank row

The *type* of `sae_ids` carries a JSON record of how the codes were made (which SAE, which model, which text, which
threshold). A type survives `map`, `filter`, `select`, Parquet and the Hub, where an attribute would be lost, and
`datasets` refuses to concatenate two columns of different types: codes of two SAEs cannot be mixed by accident.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

BLOCK_ROWS = 10_000  # rows whose codes are read together, where not all are
IDS, ACTS, TOKENS = "sae_ids", "sae_acts", "sae_tokens"
MEANS, STATE = "sae_means", "sae_state"
KEPT = {"means": MEANS, "state": STATE}  # what `encode` may be told to keep -> its column


@dataclass(frozen=True, eq=False)
class Features:
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
        from .counting import frequency  # needs numba

        return frequency(self.offsets, self.ids, self.d_sae)

    def row(self, i: int) -> NDArray[np.unsignedinteger[Any]]:
        """Return the feature ids of row `i`."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def above(self, threshold: float) -> Features:
        """Keep the activations strictly above `threshold`: a mask over the stored values, not a re-encode."""
        return self._keep(self.acts > threshold)

    def top(self, m: int) -> Features:
        """Keep each row's `m` strongest features; of equal activations the lower id stays."""
        if (self.counts <= m).all():
            return self
        kept = np.zeros(len(self.ids), np.bool_)
        kept[_compiled_strongest()(self.offsets, self.acts.astype(np.float32, copy=False).view(np.uint32), m)] = True
        return self._keep(kept)

    def rare(self, max_share: float, excluded: Collection[int] = ()) -> Features:
        """Drop every feature that more than a share `max_share` of the rows have, those `excluded` not counted.

        Example, features of four rows being {0, 1}, {0, 2}, {0}, {1}: at most half of the rows leaves {1}, {2}, {},
        {1}, since three of four have feature 0.
        """
        holders = self.frequency.copy()
        for i in excluded:
            holders[self.row(i)] -= 1
        common = holders / max(len(self) - len(excluded), 1) > max_share
        return self._keep(~common[self.ids])

    def _keep(self, mask: NDArray[np.bool_]) -> Features:
        """Keep the nonzeros of a mask: a byte each, where their positions would be eight."""
        if mask.all():
            return self
        there = np.flatnonzero(self.counts)  # `reduceat` has no word for a row without features
        offsets = np.zeros_like(self.offsets)
        offsets[there + 1] = np.add.reduceat(mask, self.offsets[there], dtype=np.int64)
        means = None if self.means is None else self.means[mask]
        return replace(self, offsets=offsets.cumsum(), ids=self.ids[mask], acts=self.acts[mask], means=means)

    @classmethod
    def from_dataset(cls, ds: datasets.Dataset, vectors: str | None = None) -> Features:
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
        table = _read(ds, [name for name in (IDS, ACTS, TOKENS, MEANS) if name in ds.column_names])
        d_sae = int(encoding_record(ds)["d_sae"])
        offsets, ids = _csr(table.column(IDS))
        ends, acts = _csr(table.column(ACTS))
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
            _means(table.column(MEANS), offsets) if MEANS in table.column_names else None,
            None if vectors is None else _vectors(ds, vectors),
        )

    @classmethod
    def read_above(cls, ds: datasets.Dataset, threshold: float) -> Features:
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
    def of_vectors(cls, ds: datasets.Dataset, column: str) -> Features:
        """Read the vectors of a Dataset that is not encoded: rows without features, each taken for one token long.

        Raises:
            ValueError: `column` does not hold finite vectors of one length.
        """
        nothing = np.empty(0, np.uint16)
        offsets, tokens = np.zeros(len(ds) + 1, np.int64), np.ones(len(ds), np.int32)
        return cls(offsets, nothing, nothing.astype(np.float32), 1, tokens, vectors=_vectors(ds, column))


def is_encoded(ds: datasets.Dataset) -> bool:
    """Tell whether `ds` has the code columns with their record, that is, whether `sae_encode` made them."""
    return {IDS, ACTS, TOKENS} <= set(ds.column_names) and _record_text(ds) is not None


def encoding_record(ds: datasets.Dataset) -> dict[str, Any]:
    """Return how the codes of an encoded Dataset were made, from the type of its `sae_ids` column."""
    record = json.loads(_record_text(ds) or "{}")
    if not isinstance(record, dict):
        raise ValueError(f"the type of `{IDS}` carries no record of how the codes were made; encode again")
    return record


def code_columns(ds: datasets.Dataset) -> list[str]:
    """Return the columns of `ds` that `sae_encode` made: none in a dataset that is not encoded."""
    ours = [IDS, ACTS, TOKENS, *KEPT.values()] if is_encoded(ds) else []
    return [name for name in ours if name in ds.column_names]


def without_codes(ds: datasets.Dataset) -> datasets.Dataset:
    """Return `ds` without the columns that `sae_encode` made."""
    return ds.remove_columns(code_columns(ds))


def column_types(record: dict[str, Any], keep: Collection[str] = (), d_in: int = -1) -> datasets.Features:
    """Return the types of the code columns, `record` written into that of `sae_ids`; `d_in` is the state's width."""
    from datasets import Features as Schema
    from datasets import List, Value

    ids = "uint16" if record["d_sae"] <= 2**16 else "uint32"
    text = json.dumps(record, sort_keys=True)
    kept = {MEANS: List(Value("float32")), STATE: List(Value("float32"), length=d_in)}
    codes = {IDS: List(Value(ids, id=text)), ACTS: List(Value("float32")), TOKENS: Value("int32")}
    return Schema(codes | {column: kept[column] for name, column in KEPT.items() if name in keep})


def with_record(coded: datasets.Dataset, record: dict[str, Any]) -> datasets.Dataset:
    """Return the code columns with another record of how they were made; no number is copied."""
    from datasets import Dataset

    names = {column: name for name, column in KEPT.items()}
    width = getattr(coded.features.get(STATE), "length", -1)
    types = column_types(record, [names[each] for each in coded.column_names if each in names], width)
    return Dataset(coded.data.cast(types.arrow_schema), fingerprint=coded._fingerprint)


def _record_text(ds: datasets.Dataset) -> str | None:
    return getattr(getattr(ds.features.get(IDS), "feature", None), "id", None)


def _read(ds: datasets.Dataset, columns: list[str]) -> pa.Table:
    """Return `columns` as Arrow holds them, rows in the dataset's order."""
    view = ds.select_columns(columns)
    # `.data` ignores the row order of select/shuffle/filter: materialise it where there is one.
    return view.data.table if view._indices is None else view.with_format("arrow")[:]


def _csr(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Turn a list column into (offsets, values); 64-bit offsets, since chunks together may pass 2^31 values."""
    if not hasattr(column.type, "value_type") or str(column.type).startswith("fixed"):
        raise ValueError(f"a column of codes is {column.type}, which has no offsets; encode again")
    if column.null_count:
        raise ValueError(f"{column.null_count} rows have no SAE codes (null); encode the whole dataset again")
    counts = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    values = [chunk.flatten().to_numpy() for chunk in column.chunks]
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(np.concatenate(counts) if counts else [], out=offsets[1:])
    if len(values) == 1:
        return offsets, values[0]
    empty = np.empty(0, column.type.value_type.to_pandas_dtype())
    return offsets, np.concatenate([empty, *values])


def _means(column: pa.ChunkedArray, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the values of the column `sae_means`, one for each of `sae_ids`."""
    if _holds_floats(column):
        ends, means = _csr(column)
        if np.array_equal(ends, offsets):
            return means
    raise ValueError(f"column `{MEANS}` does not go with `{IDS}`; encode again with `keep='means'`, or remove it")


def _vectors(ds: datasets.Dataset, name: str) -> NDArray[np.float32]:
    """Return a column of vectors as a float32 matrix; one Arrow chunk of float32 is not copied."""
    import pyarrow.compute as pc

    if name not in ds.column_names:
        raise ValueError(f"no column `{name}` to read vectors from; there is: {', '.join(ds.column_names)}")
    column = _read(ds, [name]).column(name)
    if not _holds_floats(column):
        raise ValueError(f"column `{name}` holds {column.type}; vectors are lists of floats, all of one length")
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        raise ValueError(f"column `{name}` holds nulls; every row needs a vector, and every vector its numbers")
    lengths = sorted(pc.unique(pc.list_value_length(column)).to_pylist())
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"column `{name}` holds lists of {lengths[0]} to {lengths[-1]} numbers; give all one length")
    with np.errstate(over="ignore"):  # beyond float32 is infinity, refused below
        parts = [chunk.flatten().to_numpy().astype(np.float32, copy=False) for chunk in column.chunks]
    vectors = parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, np.float32), *parts])
    if not np.isfinite(vectors).all():
        raise ValueError(f"column `{name}` holds NaN or infinity (as float32); mend those rows or leave them out")
    return vectors.reshape(len(column), *(lengths or [0]))


def _holds_floats(column: pa.ChunkedArray) -> bool:
    from pyarrow import types

    lists = types.is_list, types.is_large_list, types.is_fixed_size_list
    return any(test(column.type) for test in lists) and types.is_floating(column.type.value_type)


@cache  # compiled when first used: importing this file costs no numba
def _compiled_strongest() -> Callable[[NDArray[np.int64], NDArray[np.uint32], int], NDArray[np.int64]]:
    from numba import njit

    compiled: Callable[..., Any] = njit(cache=True)(_strongest)
    return compiled


def _strongest(offsets: NDArray[np.int64], bits: NDArray[np.uint32], m: int) -> NDArray[np.int64]:
    """Return the positions of each row's `m` largest values, ascending; of equal values the first.

    `bits` are those of floats above zero, which are in order where the floats are. The m-th largest is found byte by
    byte, the highest first: so many have a larger one, and the search goes on among those that share its own.
    """
    positions, n, counts = np.empty(np.minimum(np.diff(offsets), m).sum(), np.int64), 0, np.empty(256, np.int64)
    for i in range(len(offsets) - 1):
        start, end = offsets[i], offsets[i + 1]
        least, known, left = np.uint32(0), np.uint32(0), m  # of the m-th largest: its bits, as far as they are known
        if end - start > m:
            for shift in (24, 16, 8, 0):
                counts[:] = 0
                for each in bits[start:end]:
                    if each & known == least:
                        counts[(each >> np.uint32(shift)) & np.uint32(255)] += 1
                byte = 255
                while left > counts[byte]:
                    left -= counts[byte]
                    byte -= 1
                least |= np.uint32(byte << shift)
                known |= np.uint32(255 << shift)
        for position in range(start, end):
            equal = bits[position] == least
            if bits[position] > least or (equal and left > 0):
                positions[n] = position
                n += 1
                left -= equal
    return positions[:n]
