"""The columns that encoding adds to a dataset: their names, types, metadata, and reading them from Arrow. No torch.


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
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

IDS, ACTS, TOKENS = "sae_ids", "sae_acts", "sae_tokens"
MEANS, STATE = "sae_means", "sae_state"
KEPT = {"means": MEANS, "state": STATE}  # what `encode` may be told to keep -> its column


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


def read_columns(ds: datasets.Dataset, columns: list[str]) -> pa.Table:
    """Return `columns` as Arrow holds them, rows in the dataset's order."""
    view = ds.select_columns(columns)
    # `.data` ignores the row order of select/shuffle/filter: materialise it where there is one.
    return view.data.table if view._indices is None else view.with_format("arrow")[:]


def csr_of(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[Any]]:
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


def means_of(column: pa.ChunkedArray, offsets: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the values of the column `sae_means`, one for each of `sae_ids`."""
    if _holds_floats(column):
        ends, means = csr_of(column)
        if np.array_equal(ends, offsets):
            return means
    raise ValueError(f"column `{MEANS}` does not go with `{IDS}`; encode again with `keep='means'`, or remove it")


def vectors_of(ds: datasets.Dataset, name: str) -> NDArray[np.float32]:
    """Return a column of vectors as a float32 matrix; one Arrow chunk of float32 is not copied."""
    import pyarrow.compute as pc

    if name not in ds.column_names:
        raise ValueError(f"no column `{name}` to read vectors from; there is: {', '.join(ds.column_names)}")
    column = read_columns(ds, [name]).column(name)
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
