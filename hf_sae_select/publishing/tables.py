"""Parquet tables of a published subset: its rows, the picks, and the pool. No torch.

`data/*.parquet` holds the selected rows.

`selection.parquet` has a line for each pick: `row` in the source, `pick` from 0 on, `gain`, `round`, `features` of the
row (null where they are not known), `covered` so far, `row_sha256`. Its schema's metadata hold the rest of the
`Selection`: method, parameters, fingerprint, pool coverage.

`pool.parquet` has a line for each row of the source, with what repeating the selection needs: `row_sha256`, the row's
codes, cut by `threshold` and `top`, and the columns that the method and the constraints read. It holds no texts.
Where the source is large, it is in parts.
`target_table.py` says what it has of a target.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset, Value
from datasets.table import InMemoryTable
from datasets.utils import tqdm
from numpy.typing import NDArray

from .._parquet import content_errors, read_table, written_metadata
from ..features.columns import ACTS, IDS, STATE, TOKENS, column_types, encoding_record, read_columns, state_width
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from ..selection.attachment import Pool
from ..selection.concept_rules import ConceptRules
from ..selection.cuts import Cuts
from ..selection.methods import BASELINES, METHODS
from ..selection.result import Selection
from .hashing import Digests, batches, digests_of
from .layout import CLOSENESS, DIGEST, SHA256, pool_files
from .provenance import nested, public

SHARD_BYTES = 500 * 2**20  # of rows in memory, for each file
BLOCK_ROWS = 2000  # in memory together while the pool is written
PART_BLOCKS = 250  # of `BLOCK_ROWS` rows, for each file of the pool: half a million rows of 256 features have 0.6 GB
METADATA_KEY = b"sae_selection"  # in the schema of `selection.parquet`
COLUMNS = {"row": ("int64",), "pick": ("int64",), "gain": ("int64", "double"), "round": ("int64",)}
COLUMNS |= {"features": ("int64",), "covered": ("int64",), DIGEST: ("string",)}
FIELDS = {"fingerprint": str, "method": str, "parameters": dict, "pool_coverage": int, "pool_rows": int}
FIELDS_OF_TARGET = FIELDS | {"target": dict}
FIELDS_1 = {name: type for name, type in FIELDS.items() if name != "pool_rows"}  # of 0.1.0; its parameters are flat


def write_rows(folder: Path, rows: Dataset, name: str) -> Digests:
    """Write rows as Parquet files that begin with `name`, with the files that they refer to; return their SHA-256."""
    folder.mkdir()
    digests: list[Digests] = []
    size, shard, writer = 0, 0, None
    with ExitStack() as stack:
        for table in batches(rows, "Writing rows"):
            if writer is None or size >= SHARD_BYTES:
                stack.close()
                file = folder / f"{name}-{shard:05d}.parquet"
                writer = stack.enter_context(pq.ParquetWriter(file, rows.features.arrow_schema, write_page_index=True))
                size, shard = 0, shard + 1
            try:
                writer.write_table(table)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
                raise ValueError(f"{_unwritable(table)}: convert or remove it before you select ({error})") from error
            size += table.nbytes
            digests.append(digests_of(table, rows.features))
    return np.concatenate(digests)


def _unwritable(table: pa.Table) -> str:
    """Say which column of a table Parquet cannot hold."""
    for name in table.column_names:
        try:
            pq.write_table(table.select([name]), pa.BufferOutputStream())
        except (pa.ArrowException, OSError):
            return f"column `{name}` of type {table[name].type} has a value that Parquet cannot hold"
    return "a column has a value that Parquet cannot hold"


def check_types(rows: Dataset) -> None:
    """Check that Parquet can hold the columns.

    Raises:
        ValueError: If it cannot; the message names the first column.
    """
    for field in rows.features.arrow_schema:
        try:
            if _has_lists_of_length_0(field.type):  # Parquet writes them, and reads nulls in their place
                raise pa.ArrowNotImplementedError("fixed-size lists of length 0")
            empty = pa.Table.from_batches([], pa.schema([field]))  # `empty_table` fails for lists of JSON
            pq.write_table(empty, pa.BufferOutputStream())
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"column `{field.name}` is of type {field.type}, which Parquet cannot hold ({error}): convert it, or "
                f"remove it by `remove_columns({field.name!r})`, before you select"
            ) from error


def _has_lists_of_length_0(type: pa.DataType) -> bool:
    type = getattr(type, "storage_type", type)
    if pa.types.is_fixed_size_list(type) and type.list_size == 0:
        return True
    return any(_has_lists_of_length_0(type.field(i).type) for i in range(type.num_fields))


def write_selection(file: Path, selection: Selection, counts: NDArray[np.int64] | None, digests: Digests) -> None:
    """Write a selection; `counts` are the numbers of features, if known, and `digests` the SHA-256 of picked rows."""
    columns = {
        "row": selection.indices,
        "pick": np.arange(len(selection)),
        "gain": selection.gains,
        "round": selection.rounds,
        "features": [None] * len(selection) if counts is None else counts,
        "covered": selection.covered,
        DIGEST: [bytes(digest).hex() for digest in digests],
    }
    types = {name: Value(COLUMNS[name][0]) for name in columns}
    types["gain"] = Value(str(selection.gains.dtype))
    schema = datasets.Features(types).arrow_schema
    metadata = {name: getattr(selection, name) for name in (FIELDS_OF_TARGET if selection.target else FIELDS)}
    schema = schema.with_metadata(schema.metadata | {METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    pq.write_table(pa.table(list(columns.values()), schema=schema), file)


def read_selection(file: Path) -> tuple[Selection, list[str], NDArray[np.int64] | None]:
    """Return a selection, and the SHA-256 and, where they are known, the numbers of features of the picked rows.

    The file may come from anywhere, so everything in it is checked.

    Raises:
        ValueError: If the file is not such a table.
    """
    try:
        with content_errors():
            table = read_table(file)
            metadata = json.loads(written_metadata(table.schema, METADATA_KEY)[METADATA_KEY])
            columns = {name: table[name].to_numpy() for name in COLUMNS}
            if problem := _problem_of_columns(table) or _problem_of_metadata(metadata):
                raise ValueError(problem)
            if "pool_rows" not in metadata:
                metadata["parameters"] = nested(metadata["parameters"], metadata["method"])
    except ValueError as error:
        raise ValueError(f"{file.name} is not a table of picks that this library wrote: {error}") from error
    starts = np.flatnonzero(np.diff(columns["round"], prepend=-1))
    selection = Selection(columns["row"], columns["gain"], starts, covered=columns["covered"], **metadata)
    return selection, columns[DIGEST].tolist(), None if table["features"].null_count else columns["features"]


def _problem_of_columns(table: pa.Table) -> str | None:
    if not len(table):
        return "it has no rows"
    for name, types in COLUMNS.items():
        nulls = table[name].null_count
        unknown = name == "features" and nulls == len(table)
        if str(table.schema.field(name).type) not in types or (nulls and not unknown):
            actual, allowed = table.schema.field(name).type, " or ".join(types)
            return f"its column `{name}` holds {actual} or nulls; it must hold {allowed}"
    if table.column_names != list(COLUMNS):
        return f"its columns are {', '.join(table.column_names)}"
    if not np.array_equal(table["pick"].to_numpy(), np.arange(len(table))):
        return "its column `pick` does not count up from 0"
    if invalid := [digest for digest in table[DIGEST].to_pylist() if not SHA256.fullmatch(digest)]:
        return f"{invalid[0]!r} is not a SHA-256"
    if set(np.diff(table["round"].to_numpy(), prepend=-1).tolist()) - {0, 1} or table["round"][0].as_py() != 0:
        return "its column `round` does not count up from 0"
    return None


def _problem_of_metadata(metadata: Any) -> str | None:
    types = {name: type(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {}
    if types not in (FIELDS, FIELDS_OF_TARGET, FIELDS_1):
        return f"its schema's metadata do not hold {', '.join(FIELDS)}"
    parameters = metadata["parameters"]
    if not isinstance(parameters.get("encoding"), dict):
        return "its schema's metadata do not say how the rows were encoded"
    if types != FIELDS_1 and not all(
        isinstance(parameters.get(part), dict) for part in ("options", "constraints", "cuts")
    ):
        return "its schema's metadata lack `options`, `constraints` or `cuts`"
    return None


def write_pool(
    folder: Path, pool: Pool, selection: Selection, digests: Digests, closeness: Mapping[str, Int64s]
) -> None:
    """Write what repeating the selection needs, some rows at a time; `closeness` are more columns, of numbers."""
    rows, codes, columns = pool.rows, pool.codes, columns_read(selection, pool)
    with_state = codes is not None and needs_state(selection)
    types = {DIGEST: Value("binary")} | {name: rows.features[name] for name in columns}
    if codes is not None:
        encoding = {name: value for name, value in selection.parameters["encoding"].items() if name != "rows"}
        types |= column_types(public(encoding), state_width(codes) if with_state else None)
    types |= dict.fromkeys(closeness, Value("int64"))
    schema = datasets.Features(types).arrow_schema

    def table_of(start: int, stop: int) -> pa.Table:
        parts: dict[str, Any] = {DIGEST: pa.array([bytes(digest) for digest in digests[start:stop]])}
        parts |= {name: pa.array(sums[start:stop]) for name, sums in closeness.items()}
        if codes is not None:
            block = codes.select(range(start, stop))
            parts |= _arrays(stored(FeatureMatrix.from_dataset(block), selection), schema)
            if with_state:
                parts[STATE] = read_columns(block, [STATE])[STATE]
        if columns:
            table = read_columns(rows.select(range(start, stop)), columns)
            parts |= {name: table[name] for name in columns}
        return pa.table({name: parts[name] for name in schema.names}).cast(schema)

    starts = range(0, len(digests), BLOCK_ROWS)
    files = pool_files(-(-len(starts) // PART_BLOCKS))
    with tqdm(total=len(starts), desc="Writing the pool", unit=" batches") as bar:
        for part, name in enumerate(files):
            with pq.ParquetWriter(folder / name, schema, compression="zstd") as writer:
                for start in starts[part * PART_BLOCKS : (part + 1) * PART_BLOCKS]:
                    writer.write_table(table_of(start, min(start + BLOCK_ROWS, len(digests))))
                    bar.update()


def read_pool(files: Sequence[Path], d_sae: int | None) -> Dataset:
    """Return the pool as a dataset with a column of digests, encoded with `d_sae` features or, for None, not encoded.

    Args:
        files: its parts, in the order of their rows.

    Raises:
        ValueError: If they are not such tables.
    """
    try:
        with content_errors():
            table = pa.concat_tables([read_table(file) for file in files])
            written_metadata(table.schema)
            pool = Dataset(InMemoryTable(table))
            digests = pool.data[DIGEST]
            if (
                digests.null_count
                or str(digests.type) != "binary"
                or set(pc.unique(pc.binary_length(digests)).to_pylist()) != {32}
            ):
                raise ValueError(f"its column `{DIGEST}` does not hold SHA-256 digests")
            width = encoding_record(pool).get("d_sae")
            if width != d_sae:
                raise ValueError(f"its codes are of {width} features, the record says {d_sae}")
            if d_sae is not None:
                FeatureMatrix.from_dataset(pool)
    except ValueError as error:
        raise ValueError(f"{files[0].name} is not a pool that this library wrote: {error}") from error
    return pool


def read_closeness(pool: Dataset, n_parts: int) -> list[Int64s]:
    """Return how near the rows of a published pool are to each part of a target: [n] each, in units.

    Raises:
        ValueError: If a column is missing, or holds something else.
    """
    columns = []
    for i in range(n_parts):
        column = pool.data[f"{CLOSENESS}{i}"] if f"{CLOSENESS}{i}" in pool.column_names else None
        if column is None or str(column.type) != "int64" or column.null_count or pc.min(column).as_py() < 0:
            raise ValueError(f"its column `{CLOSENESS}{i}` is missing, or holds no numbers from 0 on")
        columns.append(column.to_numpy())
    return columns


def view(pool: Pool, selection: Selection) -> Dataset:
    """Return the codes of a pool, with the columns that the selection reads."""
    columns, codes = columns_read(selection, pool), pool.codes
    parts = [pool.rows.select_columns(columns)] if columns else []
    return datasets.concatenate_datasets([codes, *parts], axis=1) if parts else codes


def stored(features: FeatureMatrix, selection: Selection, is_upgraded: bool = False) -> FeatureMatrix:
    """Cut features as the pool stores them: as the selection cut them, but for `max_share`.

    `max_share` depends on all rows, and weaker features take the places of those that it drops among the `top`. Of
    baselines all features are stored: their likeness to all rows is measured by them. Before version 3 of the record
    (`is_upgraded`), it was not. Rules by concepts are of all features too.
    """
    if selection.method in BASELINES and not is_upgraded:
        return features
    if ConceptRules.of_record(selection.parameters["constraints"]):
        return features
    cuts = Cuts(**selection.parameters["cuts"])
    features = features.above(cuts.threshold or 0.0)
    return features if cuts.top is None or cuts.max_share is not None else features.top(cuts.top)


def columns_read(selection: Selection, pool: Pool) -> list[str]:
    """Return the columns of the source that the picks depend on, beside the codes.

    Raises:
        ValueError: If one of them has the name of a column of the pool.
    """
    constraints, cuts = selection.parameters["constraints"], selection.parameters["cuts"]
    quota, cost = constraints.get("quota"), constraints.get("cost")
    names = {cuts["embedding"], constraints.get("quality"), None if cost == "tokens" else cost}
    names |= {quota} if isinstance(quota, str) else set(quota or ())
    columns = [name for name in sorted(pool.rows.column_names) if name in names]
    reserved = [name for name in columns if name in (DIGEST, IDS, ACTS, TOKENS, STATE) or name.startswith(CLOSENESS)]
    if reserved:
        raise ValueError(
            f"the rows were selected by a column `{reserved[0]}`, a name that published tables use: rename it, and "
            "select again"
        )
    return columns


def needs_state(selection: Selection) -> bool:
    """Tell whether the picks depend on the mean hidden states."""
    embedding = selection.parameters["cuts"]["embedding"]
    if embedding is not None:
        return bool(embedding == STATE)
    return selection.method in METHODS and METHODS[selection.method].needs_vectors


def _arrays(features: FeatureMatrix, schema: pa.Schema) -> dict[str, pa.Array]:
    """Return the code columns of features, activations in the type of the schema."""
    acts = features.acts.astype(schema.field(ACTS).type.value_type.to_pandas_dtype(), copy=False)
    starts = pa.array(features.offsets.astype(np.int32))
    return {
        IDS: pa.ListArray.from_arrays(starts, pa.array(features.ids)),
        ACTS: pa.ListArray.from_arrays(starts, pa.array(acts)),
        TOKENS: pa.array(features.tokens),
    }
