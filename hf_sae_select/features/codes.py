"""The code columns of an encoded dataset as arrays: all of them, or a block of rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._arrow import Lists, gathered
from .._datasets import has_row_mapping, row_mapping
from .._validation import check_int
from .columns import ACTS, IDS, TOKENS, is_encoded, read_columns, read_lists
from .kept import Kept

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

COLUMNS = [IDS, ACTS, TOKENS]
BLOCK_ENTRIES = 2**18  # of codes, in memory together while they are cut: 1,024 rows of 256 features


def check_encoded(dataset: datasets.Dataset) -> None:
    """Check that a dataset has the code columns.

    Raises:
        ValueError: It has not.
    """
    if not is_encoded(dataset):
        raise ValueError(
            f"no feature columns `{IDS}`, `{ACTS}`, `{TOKENS}` in this dataset; "
            f"run `ds.sae_encode()` first (its columns: {', '.join(dataset.column_names)})"
        )


def code_arrays(table: pa.Table, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return code columns as the fields of a FeatureMatrix; one Arrow chunk is not copied.

    Raises:
        ValueError: They hold nulls or do not fit together, or not with their encoding record.
    """
    check_int("d_sae", record.get("d_sae"))
    kept = Kept.of_record(record)
    _check_types(table, record["d_sae"], kept)
    offsets, ids = read_lists(table.column(IDS))
    acts_offsets, acts = read_lists(table.column(ACTS))
    if not np.array_equal(acts_offsets, offsets):
        raise ValueError(f"a row has another number of `{IDS}` than of `{ACTS}`")
    if table.column(TOKENS).null_count:
        raise ValueError(f"column `{TOKENS}` holds nulls")
    tokens = table.column(TOKENS).to_numpy()
    return {"offsets": offsets, "ids": ids, "acts": acts, "d_sae": record["d_sae"], "tokens": tokens, "kept": kept}


def code_table(dataset: datasets.Dataset) -> pa.Table:
    """Return the code columns of all rows."""
    return read_columns(dataset, COLUMNS)


def code_tables(dataset: datasets.Dataset) -> Iterator[pa.Table]:
    """Yield the code columns, some rows at a time; those of a dataset without rows once."""
    codes = dataset.select_columns(COLUMNS)
    table, rows = codes.data.table, row_mapping(codes)
    step = _block_rows(table)
    take = _taking(table) if rows is not None else None
    for start in range(0, max(len(codes), 1), step):
        yield table.slice(start, step) if take is None or rows is None else take(rows[start : start + step])


def _block_rows(table: pa.Table) -> int:
    """Return the number of rows that have `BLOCK_ENTRIES` entries, on average."""
    entries = sum(len(chunk.flatten()) for chunk in table.column(IDS).chunks)
    return max(BLOCK_ENTRIES * len(table) // max(entries, 1), 1)


def _taking(table: pa.Table) -> Callable[[NDArray[np.int64]], pa.Table]:
    """Return a function that gathers rows of code columns, in any order."""
    import pyarrow as pa

    columns = [table.column(name) for name in (IDS, ACTS)]
    if any(_has_nulls(column) for column in [*columns, table.column(TOKENS)]):
        return lambda rows: gathered(table, rows)  # of which those with nulls may be none
    lists, tokens = [Lists(column) for column in columns], table.column(TOKENS).to_numpy()
    return lambda rows: pa.table([*(column.take(rows) for column in lists), pa.array(tokens[rows])], names=COLUMNS)


def _has_nulls(column: pa.ChunkedArray) -> bool:
    """Tell whether a column holds nulls, or lists of nulls."""
    is_list = hasattr(column.type, "value_type")
    return bool(column.null_count) or (is_list and any(chunk.flatten().null_count for chunk in column.chunks))


def is_view(dataset: datasets.Dataset) -> bool:
    """Tell whether the codes can be read without a copy: one Arrow chunk, activations in float32, rows in order."""
    if has_row_mapping(dataset) or not is_encoded(dataset):
        return False
    column = dataset.data.column(ACTS)
    return column.num_chunks <= 1 and str(column.type.value_type) != "halffloat"


def joined(parts: Iterable[Any], rows: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of matrices one after another; they have `rows` rows in all."""
    offsets, tokens, row = np.zeros(rows + 1, np.int64), np.empty(rows, np.int32), 0
    ids, acts = np.empty(0, np.uint16), np.empty(0, np.float32)
    for part in parts:
        ids = ids if len(ids) else ids.astype(part.ids.dtype)
        stop = row + len(part)
        offsets[row + 1 : stop + 1] = offsets[row] + part.offsets[1:]
        append(ids, part.ids)
        append(acts, part.acts)
        tokens[row:stop], row = part.tokens, stop
    return {"offsets": offsets, "ids": ids, "acts": acts, "tokens": tokens}


def append(array: NDArray[Any], more: NDArray[Any]) -> None:
    """Make an array longer in place: a list of all parts would need twice the memory."""
    start = len(array)
    array.resize(start + len(more), refcheck=False)
    array[start:] = more


def stretches(array: NDArray[Any], starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[Any]:
    """Return stretches of an array, one after another."""
    return np.concatenate([array[:0], *(array[start:end] for start, end in zip(starts, ends, strict=True))])


def with_more(array: NDArray[Any], more: NDArray[Any], filled: int) -> NDArray[Any]:
    """Write numbers behind the first `filled` ones of an array, or of a longer copy where they do not fit."""
    end = filled + len(more)
    if end > len(array):
        array, old = np.empty((2 * end, *more.shape[1:]), more.dtype), array
        array[:filled] = old[:filled]
    array[filled:end] = more
    return array


def _check_types(table: pa.Table, d_sae: int, kept: Kept | None) -> None:
    """Check the types of the code columns: they are those that encoding writes."""
    types = [str(getattr(column.type, "value_type", column.type)) for column in table.select([IDS, ACTS]).columns]
    types.append(str(table.column(TOKENS).type))
    acts = "halffloat" if kept is not None and kept.type == "float16" else "float"
    if types != ["uint16" if d_sae <= 2**16 else "uint32", acts, "int32"]:
        raise ValueError(f"they hold {', '.join(types)}")
