"""Code columns become a FeatureMatrix: all rows as a view, a block of rows at a time, or cut while they are read.

matrix.py imports this file, and passes the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .codes import check_encoded, code_arrays, code_table, code_tables, joined
from .columns import ACTS, IDS, TOKENS, encoding_record
from .kept import check_kept

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    import datasets
    import pyarrow as pa

Matrix: TypeAlias = Any  # a FeatureMatrix


def read_whole(cls: Callable[..., Matrix], dataset: datasets.Dataset) -> Matrix:
    """Read the code columns of all rows; one Arrow chunk is not copied."""
    check_encoded(dataset)
    return _of_table(cls, code_table(dataset), encoding_record(dataset))


def read_blocks(cls: Callable[..., Matrix], dataset: datasets.Dataset) -> Iterator[Matrix]:
    """Read the code columns, some rows at a time; those of a dataset without rows once."""
    check_encoded(dataset)
    record = encoding_record(dataset)
    return (_of_table(cls, table, record) for table in code_tables(dataset))


def read_cut(
    cls: Callable[..., Matrix], dataset: datasets.Dataset, threshold: float | None, top: int | None, features: Any
) -> Matrix:
    """Read the code columns, cut as `FeatureMatrix.from_dataset` says."""

    def parts() -> Iterator[Matrix]:
        row = 0
        for part in read_blocks(cls, dataset):
            yield _cut(part, threshold, top, features, row)
            row += len(part)

    return next(parts())._with(**joined(parts(), len(dataset)))


def _cut(part: Matrix, threshold: float | None, top: int | None, features: Any, row: int) -> Matrix:
    """Cut rows; `row` is the number that the first one has in errors."""
    if threshold is not None:
        check_kept(part, threshold, top if features is None else None, row)
        part = part.above(threshold)
    part = part if features is None else part.of_features(features)
    return part if top is None else part.top(top)


def _of_table(cls: Callable[..., Matrix], table: pa.Table, record: Mapping[str, Any]) -> Matrix:
    try:
        return cls(**code_arrays(table, record))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"columns `{IDS}`, `{ACTS}`, `{TOKENS}` do not go together, or not with "
            f"{record.get('d_sae')} features: {error}; encode the dataset again"
        ) from error
