"""The columns that encoding adds to a dataset: names, types, metadata, and reading them from Arrow. No torch.

An encoded Dataset has five columns more than its source:

    sae_ids     list<uint16|uint32>   the features that fired on any token of the row, ascending
    sae_acts    list<float16>         the largest activation of each feature over the row's tokens; the strongest, see
                                      `Kept`, or all of them as list<float32>
    sae_tokens  int32                 the number of tokens read
    sae_flags   uint8                 what was unusual about reading the row, see `RowFlags`; codes of 0.1.0 lack it
    sae_digest  string                a digest of what was read of the row; codes of 0.1.0 lack it

and, with `keep="state"`,

    sae_state   list<float32>[d_in]   the mean of the hidden states that the SAE read; zeros for a blank row

The *type* of `sae_ids` carries the encoding record: how the codes were made (SAE, model, text, threshold), in JSON. A
type survives `map`, `filter`, `select`, Parquet and the Hub, where an attribute would be lost. `datasets` refuses to
concatenate two columns of different types, so nobody mixes the codes of two SAEs by accident. `_ids_type` writes the
record, `_record_text` reads it, and nothing else knows where it is. The type of `sae_digest` names the columns that
the digests are of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntFlag
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .kept import Kept

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

IDS, ACTS, TOKENS, STATE = "sae_ids", "sae_acts", "sae_tokens", "sae_state"
FLAGS, DIGEST = "sae_flags", "sae_digest"


class RowFlags(IntFlag):
    """Say what was unusual about reading a row."""

    REFUSED = 1
    """The chat template raised an error, so the row was rendered in another way."""
    LEFT_OUT = 2
    """The chat template left out words of a turn."""
    UNKNOWN = 4
    """The tokenizer knows less than half of the tokens."""


# ---- the encoding record


def _ids_type(record: Mapping[str, Any]) -> Any:
    """Return the type of `sae_ids` with the encoding record in it."""
    from datasets import List, Value

    width = "uint16" if record["d_sae"] <= 2**16 else "uint32"
    return List(Value(width, id=json.dumps(record, sort_keys=True)))


def _record_text(feature: Any) -> str | None:
    """Return the JSON text of the encoding record in the type of a column, or None for another type."""
    return getattr(getattr(feature, "feature", None), "id", None)


def is_encoded(dataset: datasets.Dataset) -> bool:
    """Tell whether `sae_encode` made the code columns of a dataset: they carry an encoding record."""
    return {IDS, ACTS, TOKENS} <= set(dataset.column_names) and _record_text(dataset.features.get(IDS)) is not None


def encoding_record(dataset: datasets.Dataset) -> dict[str, Any]:
    """Return how the codes of an encoded dataset were made; an empty dict without codes.

    Raises:
        ValueError: the record is no JSON object.
    """
    record = json.loads(_record_text(dataset.features.get(IDS)) or "{}")
    if not isinstance(record, dict):
        raise ValueError(f"the type of `{IDS}` carries no encoding record; encode the dataset again")
    return record


def is_code_column(feature: Any) -> bool:
    """Tell whether the type of a column, whatever its name, carries an encoding record, at any depth."""
    if isinstance(feature, Mapping):  # a struct
        return any(map(is_code_column, feature.values()))
    if isinstance(feature, list | tuple):
        return any(map(is_code_column, feature))
    try:
        record = json.loads(_record_text(feature) or "null")
    except (TypeError, ValueError, RecursionError):
        record = None
    if isinstance(record, dict) and "d_sae" in record:
        return True
    inner = getattr(feature, "feature", None)
    return inner is not None and is_code_column(inner)


# ---- names and types


def code_columns(dataset: datasets.Dataset) -> list[str]:
    """Return the columns that `sae_encode` made; an empty list for a dataset that is not encoded."""
    names = [IDS, ACTS, TOKENS, FLAGS, DIGEST, STATE] if is_encoded(dataset) else []
    return [name for name in names if name in dataset.column_names]


def without_codes(dataset: datasets.Dataset) -> datasets.Dataset:
    """Return a dataset without the columns that `sae_encode` made."""
    return dataset.remove_columns(code_columns(dataset))


def column_types(
    record: Mapping[str, Any], state_width: int | None = None, digested: Mapping[tuple[str, ...], str] | None = None
) -> datasets.Features:
    """Return the types of the code columns.

    `state_width` is the width of `sae_state`, `digested` the columns, or fields of structs, that `sae_digest` is of,
    with their types in words; None leaves the column out.
    """
    from datasets import Features as Schema
    from datasets import List, Value

    kept = Kept.of_record(record)
    acts = "float32" if kept is None else kept.type
    types = {IDS: _ids_type(record), ACTS: List(Value(acts)), TOKENS: Value("int32")}
    if digested is not None:
        types[FLAGS] = Value("uint8")
        types[DIGEST] = Value("string", id=json.dumps(list(digested.items())))
    if state_width is not None:
        types[STATE] = List(Value("float32"), length=state_width)
    return Schema(types)


def digested_columns(dataset: datasets.Dataset) -> dict[tuple[str, ...], str]:
    """Return the columns that the digests are of, and their types in words; none without digests."""
    try:
        columns = json.loads(getattr(dataset.features.get(DIGEST), "id", None) or "[]")
        return {tuple(path): kind for path, kind in columns}
    except (TypeError, ValueError):  # a column of somebody else
        return {}


def flagged_rows(dataset: datasets.Dataset) -> dict[str, int]:
    """Count the rows that have a flag, by the flag's name in lower case; no zeros."""
    import pyarrow.compute as pc

    if FLAGS not in dataset.column_names:
        return {}
    flags = pc.fill_null(read_columns(dataset, [FLAGS]).column(FLAGS), 0).to_numpy()
    counts = {str(flag.name).lower(): int((flags & flag > 0).sum()) for flag in RowFlags}
    return {name: count for name, count in counts.items() if count}


def state_width(dataset: datasets.Dataset) -> int | None:
    """Return the width of the column `sae_state`, or None without that column."""
    return getattr(dataset.features[STATE], "length", -1) if STATE in dataset.column_names else None


def with_record(
    codes: datasets.Dataset, record: Mapping[str, Any], digested: Mapping[tuple[str, ...], str] | None = None
) -> datasets.Dataset:
    """Return code columns with another encoding record, and digests of these columns; no number is copied."""
    from .._datasets import retyped

    return retyped(codes, column_types(record, state_width(codes), digested))


# ---- reading from Arrow


def read_columns(dataset: datasets.Dataset, columns: list[str]) -> pa.Table:
    """Return `columns` as an Arrow table, rows in the dataset's order."""
    from .._arrow import gathered
    from .._datasets import row_mapping

    view = dataset.select_columns(columns)
    rows = row_mapping(view)
    # `.data` ignores the order of rows after select, shuffle or filter: then the rows have to be gathered.
    return view.data.table if rows is None else gathered(view.data.table, rows)


def feature_counts(dataset: datasets.Dataset) -> NDArray[np.int64]:
    """Return the number of features that are stored of each row, without reading one: int64 [n]."""
    import pyarrow.compute as pc

    from .._datasets import row_mapping

    view = dataset.select_columns([IDS])
    lengths = pc.fill_null(pc.list_value_length(view.data.table.column(IDS)), 0).to_numpy().astype(np.int64)
    rows = row_mapping(view)
    return np.asarray(lengths if rows is None else lengths[rows])


def read_lists(column: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Turn a column of lists into (offsets, values); 64-bit offsets, since chunks together may pass 2^31 values."""
    if not hasattr(column.type, "value_type") or str(column.type).startswith("fixed"):
        raise ValueError(f"a column of codes is {column.type}, which has no offsets")
    if column.null_count:
        raise ValueError(f"{column.null_count} rows have no SAE codes (null)")
    if any(chunk.flatten().null_count for chunk in column.chunks):
        raise ValueError(f"a row of {column.type} holds nulls")
    counts = [np.diff(chunk.offsets.to_numpy()) for chunk in column.chunks]
    values = [chunk.flatten().to_numpy() for chunk in column.chunks]
    offsets = np.zeros(len(column) + 1, np.int64)
    np.cumsum(np.concatenate(counts) if counts else [], out=offsets[1:])
    if len(values) == 1:
        return offsets, values[0]
    empty = np.empty(0, column.type.value_type.to_pandas_dtype())
    return offsets, np.concatenate([empty, *values])


def read_vectors(dataset: datasets.Dataset, name: str) -> NDArray[np.float32]:
    """Return a column of vectors as a float32 matrix [n, d]; one Arrow chunk of float32 is not copied.

    Raises:
        ValueError: the column does not exist, or does not hold finite vectors of one length.
    """
    import pyarrow.compute as pc

    if name not in dataset.column_names:
        raise ValueError(f"no column `{name}` of vectors in this dataset; it has: {', '.join(dataset.column_names)}")
    column = read_columns(dataset, [name]).column(name)
    if not _holds_floats(column):
        raise ValueError(f"column `{name}` holds {column.type}; vectors are lists of floats, all of one length")
    if column.null_count or any(chunk.flatten().null_count for chunk in column.chunks):
        raise ValueError(f"column `{name}` holds nulls; every row needs a vector, and every vector its numbers")
    lengths = sorted(pc.unique(pc.list_value_length(column)).to_pylist())
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(f"column `{name}` holds lists of {lengths[0]} to {lengths[-1]} numbers; give all one length")
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinity, refused below
        chunks = [chunk.flatten().to_numpy().astype(np.float32, copy=False) for chunk in column.chunks]
    vectors = chunks[0] if len(chunks) == 1 else np.concatenate([np.empty(0, np.float32), *chunks])
    if not np.isfinite(vectors).all():
        raise ValueError(f"column `{name}` holds NaN or infinity (as float32); fix or drop those rows")
    return vectors.reshape(len(column), *(lengths or [0]))


def _holds_floats(column: pa.ChunkedArray) -> bool:
    from pyarrow import types

    lists = types.is_list, types.is_large_list, types.is_fixed_size_list
    return any(is_kind(column.type) for is_kind in lists) and types.is_floating(column.type.value_type)
