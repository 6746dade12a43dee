"""Features: which SAE features each row of a dataset has, as a view over Arrow buffers. No torch.

An encoded Dataset has three columns more than its source:

    sae_ids     list<uint16|uint32>   the features that fired anywhere in the row, ascending
    sae_acts    list<float32>         the largest activation of each over the row's tokens
    sae_tokens  int32                 how many tokens were read

The *type* of `sae_ids` carries a JSON record of how the codes were made (which SAE, which model, which text, which
threshold). A type survives `map`, `filter`, `select`, Parquet and the Hub, where an attribute would be lost, and
`datasets` refuses to concatenate two columns of different types: codes of two SAEs cannot be mixed by accident.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

IDS, ACTS, TOKENS = "sae_ids", "sae_acts", "sae_tokens"


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

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> NDArray[np.int64]:
        """[n]: number of features of each row."""
        return np.diff(self.offsets)

    def row(self, i: int) -> NDArray[np.unsignedinteger[Any]]:
        """Return the feature ids of row `i`."""
        return self.ids[self.offsets[i] : self.offsets[i + 1]]

    def above(self, threshold: float) -> Features:
        """Keep the activations strictly above `threshold`: a mask over the stored values, not a re-encode."""
        return self._keep(np.flatnonzero(self.acts > threshold))

    def top(self, m: int) -> Features:
        """Keep each row's `m` strongest features; of equal activations the lower id stays."""
        kept = []
        for i in range(len(self)):
            start, end = self.offsets[i], self.offsets[i + 1]
            strongest = np.argsort(-self.acts[start:end], kind="stable")[:m]
            kept.append(start + np.sort(strongest))
        return self._keep(np.concatenate(kept) if kept else np.empty(0, np.int64))

    def _keep(self, positions: NDArray[np.intp]) -> Features:
        """Keep the nonzeros at `positions`, which ascend."""
        if len(positions) == len(self.ids):
            return self
        offsets = np.searchsorted(positions, self.offsets)  # how many kept nonzeros lie before each row
        return Features(offsets, self.ids[positions], self.acts[positions], self.d_sae, self.tokens)

    @classmethod
    def from_dataset(cls, ds: datasets.Dataset) -> Features:
        """View the code columns of an encoded Dataset; one Arrow chunk is not copied, several are copied once.

        Raises:
            ValueError: the columns are missing or hold nulls.
        """
        codes = ds.select_columns([IDS, ACTS, TOKENS]) if is_encoded(ds) else None
        if codes is None:
            raise ValueError(
                f"no feature columns `{IDS}`, `{ACTS}`, `{TOKENS}` in this dataset; "
                f"run `ds.sae_encode()` first (found: {', '.join(ds.column_names)})"
            )
        # `.data` ignores the row order of select/shuffle/filter: materialise it where there is one.
        table = codes.data.table if codes._indices is None else codes.with_format("arrow")[:]
        offsets, ids = _csr(table.column(IDS))
        _, acts = _csr(table.column(ACTS))
        if table.column(TOKENS).null_count:
            raise ValueError(f"column `{TOKENS}` holds nulls; encode the whole dataset again")
        return cls(offsets, ids, acts, encoding_record(ds)["d_sae"], table.column(TOKENS).to_numpy())


def is_encoded(ds: datasets.Dataset) -> bool:
    """Tell whether `ds` has the code columns with their record, that is, whether `sae_encode` made them."""
    return {IDS, ACTS, TOKENS} <= set(ds.column_names) and _record_text(ds) is not None


def encoding_record(ds: datasets.Dataset) -> dict[str, Any]:
    """Return how the codes of an encoded Dataset were made, from the type of its `sae_ids` column."""
    record: dict[str, Any] = json.loads(_record_text(ds) or "{}")
    return record


def column_types(record: dict[str, Any]) -> datasets.Features:
    """Return the types of the three code columns, `record` written into that of `sae_ids`."""
    from datasets import Features as Schema
    from datasets import List, Value

    ids = "uint16" if record["d_sae"] <= 2**16 else "uint32"
    text = json.dumps(record, sort_keys=True)
    return Schema({IDS: List(Value(ids, id=text)), ACTS: List(Value("float32")), TOKENS: Value("int32")})


def _record_text(ds: datasets.Dataset) -> str | None:
    return getattr(getattr(ds.features.get(IDS), "feature", None), "id", None)


def _csr(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Turn a list column into (offsets, values); 64-bit offsets, since chunks together may pass 2^31 values."""
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
