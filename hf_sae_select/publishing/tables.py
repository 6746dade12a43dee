"""The two Parquet tables of a published subset: a line for each pick, and a line for each row of the source. No torch.

`selection.parquet` is the selection, a line for each pick: `row` in the source, `pick` from 0 on, `gain`, `round`,
`features` of the row, `covered` so far, `row_sha256`. The metadata of its schema hold method, parameters and the rest.

`pool.parquet` holds what the selection can be repeated from, a line for each row of the source: `row_sha256`, the
row's codes as far as `threshold` and `top` keep them, and the columns that the method and the constraints read. The
rows' texts are not in it.
"""

from __future__ import annotations

import json
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

from ..features.columns import ACTS, IDS, STATE, TOKENS, column_types, encoding_record, state_width
from ..features.matrix import BLOCK_ROWS, FeatureMatrix
from ..selection.attachment import Pool
from ..selection.methods import METHODS
from ..selection.request import Cuts
from ..selection.result import Selection
from .hashing import Digests
from .layout import DIGEST, SHA256
from .provenance import nested, public

METADATA_KEY = b"sae_selection"  # in the schema of `selection.parquet`
COLUMNS = {"row": ("int64",), "pick": ("int64",), "gain": ("int64", "double"), "round": ("int64",)}
COLUMNS |= {"features": ("int64",), "covered": ("int64",), DIGEST: ("string",)}
FIELDS = {"fingerprint": str, "method": str, "parameters": dict, "pool_coverage": int, "pool_rows": int}
FIELDS_1 = {name: type for name, type in FIELDS.items() if name != "pool_rows"}  # of 0.1.0, with flat parameters


def write_selection(file: Path, selection: Selection, counts: NDArray[np.int64], digests: Digests) -> None:
    """Write a selection; `counts` are the features and `digests` the SHA-256 of the picked rows."""
    columns = {
        "row": selection.indices,
        "pick": np.arange(len(selection)),
        "gain": selection.gains,
        "round": selection.rounds,
        "features": counts,
        "covered": selection.covered,
        DIGEST: [bytes(digest).hex() for digest in digests],
    }
    types = {name: Value(str(getattr(values, "dtype", "string"))) for name, values in columns.items()}
    schema = datasets.Features(types).arrow_schema
    metadata = {name: getattr(selection, name) for name in FIELDS}
    schema = schema.with_metadata(schema.metadata | {METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    pq.write_table(pa.table(list(columns.values()), schema=schema), file)


def read_selection(file: Path) -> tuple[Selection, list[str], NDArray[np.int64]]:
    """Return a selection, and the SHA-256 and the number of features of the picked rows.

    Raises:
        ValueError: If the file is not such a table. It may come from anywhere, and everything in it is checked.
    """
    try:
        table = pq.read_table(file)
        metadata = json.loads((table.schema.metadata or {})[METADATA_KEY])
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        if problem := _problem_of_columns(table) or _problem_of_metadata(metadata):
            raise ValueError(problem)
        if "pool_rows" not in metadata:
            metadata["parameters"] = nested(metadata["parameters"], metadata["method"])
    except (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException) as error:
        raise ValueError(f"{file.name} is not a table of picks that this library wrote: {error}") from error
    starts = np.flatnonzero(np.diff(columns["round"], prepend=-1))
    selection = Selection(columns["row"], columns["gain"], starts, covered=columns["covered"], **metadata)
    return selection, columns[DIGEST].tolist(), columns["features"]


def _problem_of_columns(table: pa.Table) -> str | None:
    for name, types in COLUMNS.items():
        if str(table.schema.field(name).type) not in types or table[name].null_count:
            return f"its column `{name}` is {table.schema.field(name).type}, or holds nulls"
    if table.column_names != list(COLUMNS):
        return f"its columns are {', '.join(table.column_names)}"
    if not np.array_equal(table["pick"].to_numpy(), np.arange(len(table))):
        return "its column `pick` does not count from 0 on"
    if invalid := [digest for digest in table[DIGEST].to_pylist() if not SHA256.fullmatch(digest)]:
        return f"{invalid[0]!r} is not a SHA-256"
    if set(np.diff(table["round"].to_numpy(), prepend=-1).tolist()) - {0, 1} or table["round"][0].as_py() != 0:
        return "its column `round` does not count from 0 on"
    return None


def _problem_of_metadata(metadata: Any) -> str | None:
    types = {name: type(value) for name, value in metadata.items()} if isinstance(metadata, dict) else {}
    if types not in (FIELDS, FIELDS_1):
        return f"its schema's metadata do not hold {', '.join(FIELDS)}"
    parameters = metadata["parameters"]
    if not isinstance(parameters.get("encoding"), dict):
        return "its schema's metadata do not say how the rows were encoded"
    if types == FIELDS and not all(
        isinstance(parameters.get(part), dict) for part in ("options", "constraints", "cuts")
    ):
        return "its schema's metadata lack `options`, `constraints` or `cuts`"
    return None


def write_pool(file: Path, pool: Pool, selection: Selection, digests: Digests) -> None:
    """Write what the selection can be repeated from, some rows at a time."""
    rows, codes, columns = pool.rows, pool.codes, columns_read(selection, pool)
    keep = needs(selection) if codes is not None else []
    types = {DIGEST: Value("binary")} | {name: rows.features[name] for name in columns}
    if codes is not None:
        types |= column_types(public(selection.parameters["encoding"]), state_width(codes) if keep else None)
    schema = datasets.Features(types).arrow_schema
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in tqdm(range(0, len(digests), BLOCK_ROWS), desc="Writing the pool", unit=" batches"):
            stop = min(start + BLOCK_ROWS, len(digests))
            parts: dict[str, Any] = {DIGEST: pa.array([bytes(digest) for digest in digests[start:stop]])}
            if codes is not None:
                block = codes.select(range(start, stop))
                parts |= _arrays(stored(FeatureMatrix.from_dataset(block), selection))
                if keep:
                    parts[STATE] = block.select_columns([STATE]).with_format("arrow")[:][STATE]
            if columns:
                table = rows.select_columns(columns).with_format("arrow")[start:stop]
                parts |= {name: table[name] for name in columns}
            writer.write_table(pa.table({name: parts[name] for name in schema.names}).cast(schema))


def read_pool(file: Path, d_sae: int | None) -> Dataset:
    """Return the pool as a dataset with a column of digests, encoded with `d_sae` features or not (None).

    Raises:
        ValueError: If the file is not such a table.
    """
    try:
        pool = Dataset(InMemoryTable(pq.read_table(file)))
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
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
        raise ValueError(f"{file.name} is not a pool that this library wrote: {error}") from error
    return pool


def view(pool: Pool, selection: Selection) -> Dataset:
    """Return the codes of a pool with the columns that the selection reads."""
    columns, codes = columns_read(selection, pool), pool.codes
    parts = [pool.rows.select_columns(columns)] if columns else []
    return datasets.concatenate_datasets([codes, *parts], axis=1) if parts else codes


def stored(features: FeatureMatrix, selection: Selection) -> FeatureMatrix:
    """Cut the features of some rows as the selection did, except for what depends on the other rows.

    That is `max_share`: what it drops makes place for weaker features among the `top`.
    """
    cuts = Cuts(**selection.parameters["cuts"])
    features = features.above(cuts.threshold or 0.0)
    return features if cuts.top is None or cuts.max_share is not None else features.top(cuts.top)


def columns_read(selection: Selection, pool: Pool) -> list[str]:
    """Return the columns of the source that the picks depend on, beside the codes.

    Raises:
        ValueError: If one has a name that the pool uses itself.
    """
    constraints, cuts = selection.parameters["constraints"], selection.parameters["cuts"]
    quota, cost = constraints.get("quota"), constraints.get("cost")
    names = {cuts["embedding"], constraints.get("quality"), None if cost == "tokens" else cost}
    names |= {quota} if isinstance(quota, str) else set(quota or ())
    columns = [name for name in sorted(pool.rows.column_names) if name in names]
    if reserved := [name for name in columns if name in (DIGEST, IDS, ACTS, TOKENS, STATE)]:
        raise ValueError(f"the rows were selected by a column `{reserved[0]}`: rename it, and select again")
    return columns


def needs(selection: Selection) -> list[str]:
    """Return what the method needs beside the codes, as `encode(keep=...)` names it."""
    embedding = selection.parameters["cuts"]["embedding"]
    if embedding is not None:
        return ["state"] if embedding == STATE else []
    method = METHODS.get(selection.method)
    return ["state"] if method is not None and method.needs_vectors else []


def _arrays(features: FeatureMatrix) -> dict[str, pa.Array]:
    starts = pa.array(features.offsets.astype(np.int32))
    return {
        IDS: pa.ListArray.from_arrays(starts, pa.array(features.ids)),
        ACTS: pa.ListArray.from_arrays(starts, pa.array(features.acts)),
        TOKENS: pa.array(features.tokens),
    }
