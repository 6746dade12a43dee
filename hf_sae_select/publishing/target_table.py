"""`target.parquet`: what a selection reads of its target, feature by feature. It holds no row of the target. No torch.

It has a line for each feature of each part of the target: `part`, from 0 on in the order of the record; `feature`;
`mass`, the sum of its shares above the mean of the rows that were selected from; `activation`, the sum of its shares
of a row's activation; `rows` of the part that have it. For a method that goes by a kernel, `pool.parquet` has a column
for each part beside it: the sum of the kernel of a row with the rows of the part, in units of 2^-32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .._parquet import content_errors, read_table
from ..features.kernels import Int64s
from ..selection.recorded_target import RecordedPart
from ..selection.targets import Target
from .layout import CLOSENESS

COLUMNS = {"part": "int32", "feature": "uint32", "mass": "double", "activation": "double", "rows": "int64"}


def write_target(file: Path, target: Target) -> None:
    """Write the features of the parts of a target."""
    tables = []
    for i, part in enumerate(_parts(target)):
        features = np.flatnonzero(part.holders)
        numbers = [part.total[features], part.activation[features], part.holders[features]]
        tables.append([np.full(len(features), i), features, *numbers])
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)]
    schema = pa.schema({name: pa.type_for_alias(type) for name, type in COLUMNS.items()})
    pq.write_table(pa.table(columns, names=list(COLUMNS)).cast(schema), file)


def read_target(
    file: Path, parts: Sequence[Mapping[str, Any]], sizes: Sequence[int], d_sae: int, sums: Sequence[Int64s]
) -> Target:
    """Return a target as it was recorded. The file may come from anywhere, so everything in it is checked.

    Args:
        parts: what the parameters of the selection say of each part.
        sizes: the number of rows with features of each part.
        sums: the sums of the kernel of each row of the pool with each part; empty where no kernel was read.

    Raises:
        ValueError: If the file is not such a table.
    """
    try:
        with content_errors():
            table = read_table(file)
            if problem := _problem_of(table, len(parts), d_sae):
                raise ValueError(problem)
            part, feature = (table[name].to_numpy() for name in ("part", "feature"))
            dense = {name: np.zeros((len(parts), d_sae), table[name].to_numpy().dtype) for name in list(COLUMNS)[2:]}
            for name, values in dense.items():
                values[part, feature] = table[name].to_numpy()
    except ValueError as error:
        raise ValueError(f"{file.name} is not a table of a target that this library wrote: {error}") from error
    return Target(
        tuple(
            RecordedPart(
                **{name: recorded[name] for name in ("name", "share", "sha256", "rows")},
                size=size,
                total=dense["mass"][i],
                activation=dense["activation"][i],
                holders=dense["rows"][i],
                sums=sums[i] if len(sums) else None,
            )
            for i, (recorded, size) in enumerate(zip(parts, sizes, strict=True))
        )
    )


def closeness_columns(target: Target | None) -> dict[str, Int64s]:
    """Return the columns that the pool has for a target: by name, [n] each."""
    if target is None:
        return {}
    return {f"{CLOSENESS}{i}": part.sums for i, part in enumerate(_parts(target)) if part.sums is not None}


def _parts(target: Target) -> list[RecordedPart]:
    return [part for part in target.parts if isinstance(part, RecordedPart)]


def _problem_of(table: pa.Table, n_parts: int, d_sae: int) -> str | None:
    types = {field.name: str(field.type) for field in table.schema}
    if types != COLUMNS or any(table[name].null_count for name in COLUMNS):
        return f"its columns are not {', '.join(COLUMNS)}, or hold nulls"
    part, feature, *numbers = (table[name].to_numpy() for name in COLUMNS)
    if not len(part) or part.min() < 0 or part.max() >= n_parts or feature.max() >= d_sae:
        return f"it has no features, or some of other parts than {n_parts} or of more than {d_sae} features"
    place = part.astype(np.int64) * d_sae + feature
    if len(np.unique(place)) < len(place):
        return "it has a feature twice"
    if not all(np.isfinite(values).all() and (values >= 0).all() for values in numbers):
        return "its numbers are not all 0 or more"
    return None
