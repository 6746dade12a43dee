"""Atlas: the rows as a map, in a Parquet file that Embedding Atlas opens (Apple, MIT; not installed by us).

    embedding-atlas atlas.parquet --text text --x projection_x --y projection_y --neighbors neighbors

Without these options it asks for a column of text, and computes embeddings of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .._datasets import check_dataset
from .._files import check_own_target, whole_file
from .._secrets import masked
from .._validation import check_type
from ..encoding.digests import check_digests
from ..encoding.rows import RowReader
from ..encoding.text import find_text
from ..features.columns import encoding_record, is_encoded, without_codes
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares
from ..sae.labels import Labels, labels_of
from ..selection.attachment import pool_of, selection_of
from ..selection.concept_rules import excluded_rows
from ..selection.result import Selection
from .explanation import Source
from .neighbours import Neighbours
from .projection import projection

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from ..encoding.text import Rendering, TextSource

NEAREST = 10  # rows that a pick stands for, of which it names the nearest
STRONGEST = 5  # features of a row that are named
BATCH_ROWS = 1000

KIND = {b"hf-sae-select": b"atlas"}  # what the schema of a map says of itself
NEIGHBOURS = pa.struct({"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float32())})
COLUMNS = {"text": pa.string(), "projection_x": pa.float32(), "projection_y": pa.float32(), "features": pa.string()}
COLUMNS |= {"strongest_feature": pa.string(), "tokens": pa.int32()}
COLUMNS_OF_SUBSETS = {"picked": pa.string(), "pick": pa.int64(), "gain": pa.float64(), "neighbors": NEIGHBOURS}


def export_atlas(
    dataset: Dataset,
    path: str | Path,
    *,
    labels: Labels | None = None,
    text: TextSource | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the rows as a map: a Parquet file that `embedding-atlas` opens.

    The columns are `text`; `projection_x` and `projection_y`, the first two principal components of the features;
    `features`, the strongest ones of the row by name, and `strongest_feature`; and `tokens`. Of a subset, all rows
    that it was selected from are on the map, and there are `picked` ("yes" or "no"), `pick` (its number, from 0 on),
    `gain`, and `neighbors`: the pick that stands for the row, and of a pick the nearest rows that it stands for, as
    `explain` has them. Access tokens in texts and names are masked.

    Args:
        dataset (`Dataset`):
            What `select` returned, or an encoded dataset.
        path (`str` or `Path`):
            The file to write. A map that is there is replaced.
        labels (`Labels`, *optional*):
            Names of the features. By default those that ship with the SAE.
        text (`str`, `list` or `Callable`, *optional*):
            The text of a row, see `encode`. By default as it was encoded.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether a file that is no map of ours may be replaced.

    Returns:
        `Path`: The file.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If the dataset has neither codes nor a selection with a pool, or `labels` are of another SAE.
        FileExistsError: If `path` is a file that this function did not write.
        OSError: If the file cannot be written.

    Example:

    ```python
    export_atlas(subset, "atlas.parquet")
    # embedding-atlas atlas.parquet --text text --x projection_x --y projection_y --neighbors neighbors
    ```
    """
    check_dataset("dataset", dataset, "draw a map of")
    check_type("labels", labels, Labels, "a Labels, see `load_labels`", optional=True)
    file = check_own_target(path, overwrite, "atlas.parquet", _is_map, "map", "export_atlas")
    rows, codes, selection = _parsed(dataset)
    record = encoding_record(codes)
    if labels is not None:
        labels.check(record)
    labels = labels_of(record) if labels is None else labels
    rendering = _rendering(rows, record, text)
    nearest = None if selection is None else Neighbours.of(Source.of(dataset, None, None).trace())
    table = _columns(FeatureMatrix.from_dataset(codes), selection, nearest, labels)
    reader = RowReader(rows, rendering)
    with whole_file(file) as part, pq.ParquetWriter(part, _schema(selection)) as writer:
        for start in range(0, len(rows), BATCH_ROWS):
            numbers = range(start, min(start + BATCH_ROWS, len(rows)))
            # Parquet holds no lone surrogates, which JSON in a chat may bring.
            texts = [masked(text or "").encode("utf-8", "replace").decode() for text, _ in reader.texts(numbers)]
            batch = {name: values[start : numbers.stop] for name, values in table.items()}
            writer.write_table(pa.table({"text": texts, **batch}, schema=_schema(selection)))
    return file


def _is_map(file: Path) -> bool:
    """Tell whether a file is a map of ours, by what its schema says."""
    try:
        return KIND.items() <= (pq.read_schema(file).metadata or {}).items()
    except pa.ArrowException:
        return False


def _parsed(dataset: Dataset) -> tuple[Dataset, Dataset, Selection | None]:
    """Return the rows of the map, their codes, and the selection of a subset.

    Raises:
        ValueError: The codes are not known.
    """
    pool = pool_of(dataset)
    if pool is not None and pool.codes is not None:
        return pool.rows, pool.codes, selection_of(dataset)
    if not is_encoded(dataset):
        raise ValueError(
            "`dataset` has no features to draw a map of: pass the subset that `sae_select` returned, unchanged, or "
            "run `ds.sae_encode()` first"
        )
    check_digests(dataset)
    return without_codes(dataset), dataset, None


def _rendering(rows: Dataset, record: dict[str, Any], text: TextSource | None) -> Rendering:
    columns = record.get("text", {}).get("columns")
    if text is None and columns is None:
        raise ValueError("a function wrote the text of the rows; pass it, or a column, as `text`")
    return find_text(rows, columns if text is None else text)


def _schema(selection: Selection | None) -> pa.Schema:
    return pa.schema(COLUMNS if selection is None else COLUMNS | COLUMNS_OF_SUBSETS, KIND)


def _columns(
    features: FeatureMatrix, selection: Selection | None, nearest: Neighbours | None, labels: Labels | None
) -> dict[str, Any]:
    """Return the columns beside the text, of all rows."""
    pool = np.arange(len(features))
    if selection is not None:
        pool = np.setdiff1d(pool, excluded_rows(selection.parameters, features, selection.indices))
    shares = Shares.of_strongest(features, pool)
    places = projection(shares)
    titles = [[f"#{i}" if labels is None else labels.title(i) for i in ids] for ids in _strongest(shares)]
    columns: dict[str, Any] = {
        "projection_x": places[:, 0],
        "projection_y": places[:, 1],
        "features": [masked("; ".join(names)) for names in titles],
        "strongest_feature": [masked(names[0]) if names else "" for names in titles],
        "tokens": features.tokens,
    }
    if selection is None or nearest is None:
        return columns
    picks: list[int | None] = [None] * len(features)
    for pick, row in enumerate(selection.indices.tolist()):
        picks[row] = pick
    return columns | {
        "picked": ["no" if pick is None else "yes" for pick in picks],
        "pick": picks,
        "gain": [None if pick is None else float(selection.gains[pick]) for pick in picks],
        "neighbors": list(_neighbours(nearest)),
    }


def _strongest(shares: Shares) -> Iterator[list[int]]:
    """Yield the features of each row with the largest shares, the largest first."""
    offsets, ids, amounts = shares.features.offsets, shares.features.ids, shares.amounts
    for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        order = np.argsort(-amounts[start:end], kind="stable")[:STRONGEST]
        yield [int(ids[start + i]) for i in order.tolist() if amounts[start + i] > 0]


def _neighbours(nearest: Neighbours) -> Iterator[dict[str, list[Any]]]:
    """Yield the neighbours of each row: the pick that stands for it, or of a pick the rows that it stands for."""
    place = {row: pick for pick, row in enumerate(nearest.picks.tolist())}
    for row, pick in enumerate(nearest.pick.tolist()):
        if row in place:
            rows = nearest.rows_of(place[row])[:NEAREST]
            similarity = nearest.similarity[rows]
        else:
            rows = nearest.picks[[pick] if pick >= 0 else []]
            similarity = nearest.similarity[[row] if pick >= 0 else []]
        yield {"ids": rows.tolist(), "distances": (1 - similarity).tolist()}
