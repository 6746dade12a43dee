"""Extension: the rows of an earlier selection, found again in a dataset that may have grown or been shuffled since.

Rows are told by digests of their content. A digest is of the columns that were encoded, where they are known, because
other columns may change and codes differ from device to device. Without a dataset, it is of the row's features.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..features.columns import code_columns
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from .attachment import selection_of
from .result import Selection

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

DIGEST_BYTES = 16
BATCH_ROWS = 1000  # rows in memory as Python objects
DigestRows = Callable[[Int64s], Sequence[str]]  # row indices -> digests


def earlier_selection(extend: Any, dataset: Dataset) -> Selection | None:
    """Return the rows that the argument `extend` names, at their places in `dataset`.

    Raises:
        TypeError, ValueError: `extend` is neither a Selection nor a Dataset, or one of its rows is not in `dataset`.
    """
    if extend is None:
        return None
    check_known(extend, dataset)
    earlier = extend if isinstance(extend, Selection) else _selection_of(extend, dataset)
    if not earlier.digest_columns:
        return earlier  # whose gains tell, see `outcome.check_extended`
    return _placed(earlier, lambda rows: content_digests(dataset, earlier.digest_columns, rows), len(dataset))


def check_known(extend: Any, dataset: Dataset | None) -> None:
    """Check that the argument `extend` tells its rows by columns that a dataset has; None where that is not read yet.

    Raises:
        TypeError, ValueError: `extend` is neither a Selection nor a Dataset, or a column is missing.
    """
    if extend is None:
        return
    try:
        earlier = extend if isinstance(extend, Selection) else selection_of(extend)
    except AttributeError as error:
        if not hasattr(extend, "column_names") or not hasattr(extend, "select_columns"):
            raise TypeError(
                f"`extend` is a {type(extend).__name__}; pass a subset, a Selection, or the rows as a Dataset"
            ) from error
        if dataset is not None and not _shared_columns(extend, dataset):
            raise ValueError(
                "`extend` has no column of plain values that this dataset has too, to know its rows by"
            ) from error
        return
    except ValueError as error:
        raise ValueError(f"`extend` was changed: {error}") from error
    names = earlier.digest_columns if dataset is None else dataset.column_names
    if missing := [name for name in earlier.digest_columns if name not in names]:
        raise ValueError(
            f"`extend` knows its rows by column `{missing[0]}`, which this dataset does not have; it has: "
            f"{', '.join(names)}"
        )


def earlier_picks(extend: Any, features: FeatureMatrix, method: Any) -> Selection | None:
    """Return the rows of the Selection `extend`, at their places among the rows of a matrix.

    Raises:
        TypeError, ValueError: `extend` is no Selection, or one of its rows, picked by this method, has no equal.
    """
    if extend is None or (isinstance(extend, Selection) and (not extend.row_digests or extend.digest_columns)):
        return extend
    if not isinstance(extend, Selection):
        raise TypeError(f"`extend` is a {type(extend).__name__}; pass a Selection")
    try:
        return _placed(extend, lambda rows: feature_digests(features, rows), len(features))
    except ValueError:
        if extend.method == method:
            raise
        return extend  # another method may have seen features that were cut otherwise


def digest_columns(dataset: Dataset, encoding: Mapping[str, Any]) -> list[str]:
    """Return the columns by which rows are told: those that were encoded, or all of plain values, or the codes."""
    schema, codes = dataset.features.arrow_schema, code_columns(dataset)
    plain = {name for name in schema.names if name not in codes and _is_plain(schema.field(name).type)}
    read = encoding.get("text", {}).get("columns", [])
    read = {name if name in plain else name.partition(".")[0] for name in read}  # a field is known by its struct
    return sorted((read if read <= plain else plain) or plain or codes)


def content_digests(dataset: Dataset, columns: Sequence[str], rows: Int64s) -> list[str]:
    """Return a digest of what each of the `rows` has in the `columns`."""
    view, digests = dataset.select_columns(list(columns)).with_format("arrow"), list[str]()
    for start in range(0, len(rows), BATCH_ROWS):
        for row in view[rows[start : start + BATCH_ROWS].tolist()].to_pylist():
            digests.append(_digest(json.dumps([row[name] for name in columns], default=_text).encode()))
    return digests


def changed_picks(selection: Selection, rows: Dataset, indices: Int64s) -> list[int]:
    """Return the picks whose rows, at `indices` of a dataset, are not those that were selected.

    Raises:
        ValueError: A column by which rows are known is missing.
    """
    columns = selection.digest_columns
    if missing := [name for name in columns if name not in rows.column_names]:
        raise ValueError(f"no column `{missing[0]}`, by which the selected rows are known")
    digests = content_digests(rows, columns, indices) if columns else selection.row_digests
    return [pick for pick, digest in enumerate(selection.row_digests) if digests[pick] != digest]


def feature_digests(features: FeatureMatrix, rows: Int64s) -> list[str]:
    """Return a digest of the features, tokens and vectors of each of the `rows`."""
    taken = features.take(rows)
    ids, acts, tokens = (
        array.astype(kind).tobytes()
        for array, kind in ((taken.ids, "<u4"), (taken.acts, "<f4"), (taken.tokens, "<i4"))
    )
    digests, ends = [], (4 * taken.offsets).tolist()
    for i, (start, end) in enumerate(pairwise(ends)):
        vector = b"" if taken.vectors is None else taken.vectors[i].astype("<f4").tobytes()
        digests.append(_digest(ids[start:end] + acts[start:end] + tokens[4 * i : 4 * i + 4] + vector))
    return digests


def _placed(earlier: Selection, digests_of: DigestRows, n: int) -> Selection:
    """Return a selection of the same rows, each at its place in a dataset of `n` rows: the same one, if it is there.

    The result has no method: its rows are known to be the same, whatever they add now.
    """
    indices, digests = earlier.indices, earlier.row_digests
    places = np.full(len(indices), -1, np.int64)
    inside = np.flatnonzero(indices < n)
    for pick, digest in zip(inside.tolist(), digests_of(indices[inside]), strict=True):
        places[pick] = indices[pick] if digests[pick] == digest else -1
    if (places < 0).any():
        _find_elsewhere(places, digests, digests_of(np.arange(n)))
    if (places < 0).any():
        pick = int(np.flatnonzero(places < 0)[0])
        raise ValueError(
            f"`extend` was selected from other rows: its pick {pick + 1}, row {indices[pick]} then, is not in this "
            "dataset, or was changed"
        )
    return Selection(places, earlier.gains, earlier.round_starts)


def _find_elsewhere(places: NDArray[np.int64], wanted: Sequence[str], digests: Sequence[str]) -> None:
    """Fill in places that are -1, each by the first row of the same digest that no other pick has."""
    taken, rows = set(places.tolist()), dict[str, list[int]]()
    for row, digest in enumerate(digests):
        if row not in taken:
            rows.setdefault(digest, []).append(row)
    for pick in np.flatnonzero(places < 0).tolist():
        equal = rows.get(wanted[pick])
        places[pick] = equal.pop(0) if equal else -1


def _selection_of(extend: Any, dataset: Dataset) -> Selection:
    """Return the selection of a subset: the one that is attached, or else its rows in their order, as one round."""
    try:
        return selection_of(extend)
    except AttributeError:
        columns = _shared_columns(extend, dataset)
    rows = np.arange(len(extend))
    digests = content_digests(extend, columns, rows)
    return Selection(
        rows, np.zeros(len(rows)), rows[:1], pool_rows=len(dataset), row_digests=digests, digest_columns=columns
    )


def _shared_columns(extend: Dataset, dataset: Dataset) -> list[str]:
    """Return the columns of plain values that both have."""
    return [name for name in digest_columns(extend, {}) if name in digest_columns(dataset, {})]


def _digest(content: bytes) -> str:
    return blake2b(content, digest_size=DIGEST_BYTES).hexdigest()


def _text(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _is_plain(type: pa.DataType) -> bool:
    """Tell whether Python holds every value of an Arrow type, and reads no file for it."""
    if pa.types.is_struct(type):
        return all(_is_plain(field.type) for field in type.fields) and {field.name for field in type.fields} != {
            "bytes",
            "path",
        }
    if isinstance(type, pa.BaseExtensionType):  # an array of `datasets`, whose `value_type` is a string
        return False
    if hasattr(type, "value_type"):
        return _is_plain(type.value_type)
    return not pa.types.is_temporal(type)
