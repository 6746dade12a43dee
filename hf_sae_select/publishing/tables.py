"""Evidence: the two tables that a published subset brings beside its rows. No torch.

`selection.parquet` is the receipt, a line for each pick: `row` in the source, `pick` from 0 on, `gain`, `round`,
`features` of the row, `covered` so far, `row_sha256`. Its schema's metadata hold method, parameters and the rest.

`pool.parquet` is what the selection can be made again from, a line for each row of the source: `row_sha256`, its codes
as far as the threshold and `top` let them through, and the columns that the method and the constraints go by. Its
rows' texts are not in it.
"""

from __future__ import annotations

import json
import re
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
from ..selection.methods import METHODS
from ..selection.pool import Pool
from ..selection.result import Selection
from .hashing import Digests
from .provenance import public

SELECTION_FILE, POOL_FILE = "selection.parquet", "pool.parquet"
DIGEST = "row_sha256"
SHA256 = re.compile("[0-9a-f]{64}")
RECEIPT = b"sae_selection"  # key of the schema's metadata
COLUMNS = {"row": ("int64",), "pick": ("int64",), "gain": ("int64", "double"), "round": ("int64",)}
COLUMNS |= {"features": ("int64",), "covered": ("int64",), DIGEST: ("string",)}
TOLD = {"fingerprint": str, "method": str, "parameters": dict, "pool_coverage": int}


def write_selection(file: Path, receipt: Selection, counts: NDArray[np.int64], digests: Digests) -> None:
    """Write the receipt; `counts` are the features and `digests` the SHA-256 of the picked rows."""
    columns = {
        "row": receipt.indices,
        "pick": np.arange(len(receipt)),
        "gain": receipt.gains,
        "round": receipt.rounds,
        "features": counts,
        "covered": receipt.covered,
        DIGEST: [bytes(digest).hex() for digest in digests],
    }
    types = {name: Value(str(getattr(values, "dtype", "string"))) for name, values in columns.items()}
    schema = datasets.Features(types).arrow_schema
    told = {name: getattr(receipt, name) for name in TOLD}
    schema = schema.with_metadata(schema.metadata | {RECEIPT: json.dumps(told, sort_keys=True).encode()})
    pq.write_table(pa.table(list(columns.values()), schema=schema), file)


def read_selection(file: Path) -> tuple[Selection, list[str], NDArray[np.int64]]:
    """Return the receipt, and the SHA-256 and the number of features of the picked rows.

    Raises:
        ValueError: the file is no such table; it may come from anywhere, and is looked at closely.
    """
    try:
        table = pq.read_table(file)
        told = json.loads((table.schema.metadata or {})[RECEIPT])
        columns = {name: table[name].to_numpy() for name in COLUMNS}
        if problem := _of_picks(table, told):
            raise ValueError(problem)
    except (OSError, ValueError, LookupError, TypeError, RecursionError, pa.ArrowException) as error:
        raise ValueError(f"{file.name} is no table of picks as this library writes it: {error}") from error
    starts = np.flatnonzero(np.diff(columns["round"], prepend=-1))
    receipt = Selection(columns["row"], columns["gain"], starts, covered=columns["covered"], **told)
    return receipt, columns[DIGEST].tolist(), columns["features"]


def _of_picks(table: pa.Table, told: Any) -> str | None:
    """Say what is wrong with a table of picks, or with what its schema tells."""
    for name, types in COLUMNS.items():
        if str(table.schema.field(name).type) not in types or table[name].null_count:
            return f"its column `{name}` is {table.schema.field(name).type}, or holds nulls"
    if table.column_names != list(COLUMNS):
        return f"its columns are {', '.join(table.column_names)}"
    if not np.array_equal(table["pick"].to_numpy(), np.arange(len(table))):
        return "its column `pick` does not count from 0 on"
    if wrong := [digest for digest in table[DIGEST].to_pylist() if not SHA256.fullmatch(digest)]:
        return f"{wrong[0]!r} is no SHA-256"
    if set(np.diff(table["round"].to_numpy(), prepend=-1).tolist()) - {0, 1} or table["round"][0].as_py() != 0:
        return "its column `round` does not count from 0 on"
    if not isinstance(told, dict) or {name: type(value) for name, value in told.items()} != TOLD:
        return f"its schema does not tell {', '.join(TOLD)}"
    if not isinstance(told["parameters"].get("encoding"), dict):
        return "its schema does not tell how the rows were encoded"
    return None


def write_pool(file: Path, pool: Pool, receipt: Selection, digests: Digests) -> None:
    """Write what the selection can be made again from, some rows at a time."""
    columns, with_state = columns_of(receipt, pool), False
    types = {DIGEST: Value("binary")} | {name: pool.rows.features[name] for name in columns}
    if pool.codes is not None:
        with_state = needs_state(receipt)
        types |= column_types(public(receipt.parameters["encoding"]), state_width(pool.codes) if with_state else None)
    schema = datasets.Features(types).arrow_schema
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in tqdm(range(0, len(digests), BLOCK_ROWS), desc="Writing the pool", unit=" batches"):
            stop = min(start + BLOCK_ROWS, len(digests))
            parts: dict[str, Any] = {DIGEST: pa.array([bytes(digest) for digest in digests[start:stop]])}
            if pool.codes is not None:
                codes = pool.codes.select(range(start, stop))
                parts |= _codes(let_through(FeatureMatrix.from_dataset(codes), receipt.parameters))
                if with_state:
                    parts[STATE] = codes.select_columns([STATE]).with_format("arrow")[:][STATE]
            if columns:
                given = pool.rows.select_columns(columns).with_format("arrow")[start:stop]
                parts |= {name: given[name] for name in columns}
            writer.write_table(pa.table({name: parts[name] for name in schema.names}).cast(schema))


def read_pool(file: Path, d_sae: int | None) -> Dataset:
    """Return the pool as a dataset with a column of digests, encoded with `d_sae` features; not, where that is None.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        pool = Dataset(InMemoryTable(pq.read_table(file)))
        digests = pool.data[DIGEST]
        if (
            digests.null_count
            or str(digests.type) != "binary"
            or set(pc.unique(pc.binary_length(digests)).to_pylist()) != {32}
        ):
            raise ValueError(f"its column `{DIGEST}` holds no SHA-256")
        told = encoding_record(pool).get("d_sae")
        if told != d_sae:
            raise ValueError(f"its codes are of {told} features, recorded are {d_sae}")
        if d_sae is not None:
            FeatureMatrix.from_dataset(pool)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
        raise ValueError(f"{file.name} is no pool as this library writes it: {error}") from error
    return pool


def view(pool: Pool, receipt: Selection) -> Dataset:
    """Return the codes of a pool with the columns that the constraints of the selection go by."""
    columns = columns_of(receipt, pool)
    parts = [pool.rows.select_columns(columns)] if columns else []
    return datasets.concatenate_datasets([pool.codes, *parts], axis=1) if parts else pool.codes


def let_through(features: FeatureMatrix, parameters: dict[str, Any]) -> FeatureMatrix:
    """Cut the features of some rows as the selection did, but for what depends on the other rows.

    That is `max_share`; what it drops leaves room for weaker features among the `top`.
    """
    features, top = features.above(parameters["threshold"]), parameters.get("top")
    return features if top is None or "max_share" in parameters else features.top(top)


def columns_of(receipt: Selection, pool: Pool) -> list[str]:
    """Return the columns of the source that the picks depend on, beside the codes.

    Raises:
        ValueError: one is called as the pool calls its own.
    """
    parameters = receipt.parameters
    quota, cost = parameters.get("quota"), parameters.get("cost")
    named = {parameters.get("embedding"), parameters.get("quality"), None if cost == "tokens" else cost}
    named |= {quota} if isinstance(quota, str) else set(quota or ())
    found = [name for name in sorted(pool.rows.column_names) if name in named]
    if taken := [name for name in found if name in (DIGEST, IDS, ACTS, TOKENS, STATE)]:
        raise ValueError(f"the rows were picked by a column `{taken[0]}`: rename it, and select again")
    return found


def needs_state(receipt: Selection) -> bool:
    """Tell whether the picks depend on the mean hidden states."""
    embedding = receipt.parameters.get("embedding")
    if embedding is not None:
        return bool(embedding == STATE)
    return receipt.method in METHODS and METHODS[receipt.method].keep == "state"


def _codes(features: FeatureMatrix) -> dict[str, pa.Array]:
    starts = pa.array(features.offsets.astype(np.int32))
    return {
        IDS: pa.ListArray.from_arrays(starts, pa.array(features.ids)),
        ACTS: pa.ListArray.from_arrays(starts, pa.array(features.acts)),
        TOKENS: pa.array(features.tokens),
    }
