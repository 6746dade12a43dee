"""Evidence: the two tables that a published subset brings beside its rows. No torch.

`selection.parquet` is the receipt, a line for each pick: `row` in the source, `pick` from 0 on, `gain`, `round`,
`features` of the row, `covered` so far, `row_sha256`. Its schema's metadata hold method, parameters and the rest.

`pool.parquet` is what the selection can be made again from, a line for each row of the source: `row_sha256`, its codes
above the threshold, and the columns that the method and the constraints go by. Its rows' texts are not in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Value
from datasets.table import InMemoryTable
from datasets.utils import tqdm
from numpy.typing import NDArray

from .digests import Digests
from .features import ACTS, IDS, KEPT, MEANS, STATE, TOKENS, Features, column_types
from .pool import Pool
from .record import public
from .rules import SELECTORS
from .selection import Selection

SELECTION_FILE, POOL_FILE = "selection.parquet", "pool.parquet"
DIGEST = "row_sha256"
RECEIPT = b"sae_selection"  # key of the schema's metadata
BATCH_ROWS = 10_000


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
    told = {name: getattr(receipt, name) for name in ("method", "parameters", "fingerprint", "pool_coverage")}
    schema = schema.with_metadata(schema.metadata | {RECEIPT: json.dumps(told, sort_keys=True).encode()})
    pq.write_table(pa.table(list(columns.values()), schema=schema), file)


def read_selection(file: Path) -> tuple[Selection, list[str], NDArray[np.int64]]:
    """Return the receipt, and the SHA-256 and the number of features of the picked rows.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        table = pq.read_table(file)
        told = json.loads(table.schema.metadata[RECEIPT])
        rounds = table["round"].to_numpy()
        receipt = Selection(
            indices=table["row"].to_numpy(),
            gains=table["gain"].to_numpy(),
            round_starts=np.flatnonzero(np.diff(rounds, prepend=-1)),
            covered=table["covered"].to_numpy(),
            **told,
        )
        return receipt, table[DIGEST].to_pylist(), table["features"].to_numpy()
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ValueError(f"{file.name} is no table of picks as this library writes it: {error}") from error


def write_pool(file: Path, pool: Pool, receipt: Selection, digests: Digests) -> None:
    """Write what the selection can be made again from."""
    columns = columns_of(receipt)
    types = {DIGEST: Value("binary")} | {name: pool.rows.features[name] for name in columns}
    features, kept = None, []
    if pool.codes is not None:
        features, kept = Features.from_dataset(pool.codes), _kept(pool.codes, receipt)
        features = features.above(receipt.parameters["threshold"])
        width = getattr(pool.codes.features.get(STATE), "length", -1)
        types |= column_types(public(receipt.parameters["encoding"]), kept, width)
    schema = datasets.Features(types).arrow_schema
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for start in tqdm(range(0, len(digests), BATCH_ROWS), desc="Writing the pool", unit=" batches"):
            stop = min(start + BATCH_ROWS, len(digests))
            parts: dict[str, Any] = {DIGEST: pa.array([bytes(digest) for digest in digests[start:stop]])}
            if features is not None and pool.codes is not None:
                parts |= _codes(features, start, stop)
                if "state" in kept:
                    parts[STATE] = pool.codes.select_columns([STATE]).with_format("arrow")[start:stop][STATE]
            if columns:
                given = pool.rows.select_columns(columns).with_format("arrow")[start:stop]
                parts |= {name: given[name] for name in columns}
            writer.write_table(pa.table({name: parts[name] for name in schema.names}).cast(schema))


def read_pool(file: Path) -> Dataset:
    """Return the pool as an encoded dataset, with a column of digests.

    Raises:
        ValueError: the file is no such table.
    """
    try:
        pool = Dataset(InMemoryTable(pq.read_table(file)))
        pool.features[DIGEST]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise ValueError(f"{file.name} is no pool as this library writes it: {error}") from error
    return pool


def view(pool: Pool, receipt: Selection) -> Dataset:
    """Return the codes of a pool with the columns that the constraints of the selection go by."""
    columns = columns_of(receipt)
    parts = [pool.rows.select_columns(columns)] if columns else []
    return datasets.concatenate_datasets([pool.codes, *parts], axis=1) if parts else pool.codes


def columns_of(receipt: Selection) -> list[str]:
    """Return the columns of the source that the picks depend on, beside the codes."""
    parameters = receipt.parameters
    quota = parameters.get("quota")
    named = [parameters.get("embedding"), parameters.get("quality"), parameters.get("cost")]
    named += [quota] if isinstance(quota, str) else list(quota or ())
    return sorted({name for name in named if name not in (None, "tokens")})


def needs(receipt: Selection) -> list[str]:
    """Return what the method needs beside the codes, as `encode` names it; a rule of one's own may need all."""
    if receipt.method not in SELECTORS:
        return list(KEPT)
    selector = SELECTORS[receipt.method]
    options = {name: receipt.parameters.get(name) for name in selector.options}
    needed = None if receipt.parameters.get("embedding") else selector.needs(options)
    return [needed] if needed else []


def _kept(codes: Dataset, receipt: Selection) -> list[str]:
    return [name for name in needs(receipt) if KEPT[name] in codes.column_names]


def _codes(features: Features, start: int, stop: int) -> dict[str, pa.Array]:
    offsets = features.offsets[start : stop + 1]
    numbers = slice(offsets[0], offsets[-1])
    starts = pa.array((offsets - offsets[0]).astype(np.int32))
    found = {
        IDS: pa.ListArray.from_arrays(starts, pa.array(features.ids[numbers])),
        ACTS: pa.ListArray.from_arrays(starts, pa.array(features.acts[numbers])),
        TOKENS: pa.array(features.tokens[start:stop]),
    }
    if features.means is not None:
        found[MEANS] = pa.ListArray.from_arrays(starts, pa.array(features.means[numbers]))
    return found
