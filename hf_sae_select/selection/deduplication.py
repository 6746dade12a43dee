"""`dedup`: a dataset without the rows that repeat others, by their texts, stretches of words or features.

Groups are stars: each row that is removed is near the row that is kept in its place. Rows are gone through from the
best to the worst; a row is kept unless it is near a row that is kept already. So a chain of rows, each near the next,
does not become one group. A row whose text an earlier one has goes where that row goes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._datasets import check_dataset, select_rows
from .._optional import extra
from .._validation import check_number, check_type
from ..encoding.digests import check_digests
from ..features.columns import encoding_record
from ..features.kernels import Int64s
from ..features.leaders import BLOCK_ROWS, Leaders
from ..features.shares import Shares
from ..sae.labels import Labels, labels_of
from .api import available_codes
from .columns import column_numbers
from .contamination import ComparedRows
from .minhash import MinHashes
from .ngrams import normalised
from .overlap import contents_of
from .removals import Near, attach, removals

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource


def dedup(
    dataset: Dataset,
    threshold: float = 0.9,
    *,
    minhash: float | None = None,
    quality: str | None = None,
    labels: Labels | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
) -> Dataset:
    """Remove the rows that repeat other rows: by equal texts, then by MinHash where it is asked for, then by features.

    Of each group of near-duplicates one row stays, the best by `quality` or else the first. Each row that is removed
    is near the row that stays. Texts are compared without regard to case, Unicode form and white space; features by
    the cosine of their shares, in which the strongest 256 features of a row count. Rows without text stay, all of
    them. Where a function made the texts that were encoded, rows of equal features count as rows of equal text.

    The time grows with the square of the number of rows: seconds for 52,000, minutes for 500,000.

    Args:
        dataset (`Dataset`):
            The rows. Where they are not encoded, `dedup` encodes them, and the codes stay in datasets' cache.
        threshold (`float`, *optional*, defaults to `0.9`):
            The least cosine of the features of near-duplicates. From 0.8 down, rows that differ in numbers alone are
            taken for duplicates, see `docs/duplicates.md`.
        minhash (`float`, *optional*):
            The least Jaccard similarity of the stretches of five words of near-duplicates, such as 0.8. By default
            they are not compared. It needs `datasketch`: `pip install "hf-sae-select[dedup]"`.
        quality (`str`, *optional*):
            A column of non-negative numbers. The row of a group with the largest stays; of equal ones the first.
        labels (`Labels`, *optional*):
            The labels that have the names of shared features. By default those of the SAE.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The autoencoder, see `encode`; not needed where the dataset is encoded.
        text (`str`, `list` or `Callable`, *optional*):
            The text of a row, see `encode`.
        max_length (`int`, *optional*):
            Number of tokens that are read of each row, see `encode`.
        batch_size (`int`, *optional*, defaults to `32`):
            Windows per forward pass, see `encode`.

    Returns:
        `Dataset`: The rows that stay, in their order, with all their columns. Its attribute `sae_removals` says which
        rows were removed, for which row and why; `map`, `select` and `shuffle` drop it.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If an argument is not allowed; the message names it.
        ImportError: If `minhash` is passed and `datasketch` is not installed.

    Example:

    ```python
    unique = dedup(load_dataset("tatsu-lab/alpaca", split="train"), 0.8, minhash=0.7)
    unique.sae_removals.to_pandas()
    ```
    """
    check_dataset("dataset", dataset, "remove duplicates of")
    check_number("threshold", threshold, "(0, 1]")
    check_number("minhash", minhash, "(0, 1]", optional=True)
    check_type("labels", labels, Labels, "Labels, see `load_labels`", optional=True)
    if minhash is not None:
        extra("datasketch", "dedup")
    factors = np.ones(len(dataset)) if quality is None else column_numbers("quality", quality, dataset, len(dataset))
    codes = available_codes(dataset, (), sae, text=text, max_length=max_length)
    if codes is not None:
        check_digests(dataset)
    else:
        from ..encoding.pipeline import codes as encoded  # needs torch

        codes = encoded(dataset, sae, text=text, max_length=max_length, batch_size=batch_size)
    record = encoding_record(codes)
    if labels is not None:
        labels.check(record)
    rows = ComparedRows.of(dataset, codes, text)
    shares = Shares.of_strongest(rows.features, np.arange(len(dataset)))
    keys = _keys(rows, minhash)
    order = np.argsort(-factors, kind="stable")
    near = _near_rows(order, keys, Leaders(shares, threshold), minhash)
    settings = {"threshold": threshold, "minhash": minhash, "quality": quality}
    n_blank = sum(key is None for key in keys)
    removed = removals(near, shares, labels or labels_of(record), settings, len(dataset), n_blank)
    result = select_rows(dataset, np.setdiff1d(np.arange(len(dataset)), removed.rows))
    attach(result, removed)
    return result


def _keys(rows: ComparedRows, minhash: float | None) -> list[Any]:
    """Return the normalised text of each row, or else the content of its features; None for a blank row."""
    if rows.texts is not None:
        return [normalised(text) or None for text in rows.texts()]
    if minhash is not None:
        raise ValueError(
            f"`minhash={minhash!r}` compares texts, and nobody knows those that were encoded: a function made them, "
            "or their columns are gone; leave `minhash` out"
        )
    return list(contents_of(rows.features))


def _near_rows(order: Int64s, keys: Sequence[Any], leaders: Leaders, minhash: float | None) -> dict[int, Near]:
    """Return the rows that are near a row that is kept; `order` is that in which rows are kept."""
    first, copies = dict[Any, int](), dict[int, int]()
    for row in order.tolist():
        if keys[row] is not None and first.setdefault(keys[row], row) != row:
            copies[row] = first[keys[row]]
    hashes = None if minhash is None else MinHashes(keys, minhash)
    near = dict[int, Near]()
    for block in _blocks(list(first.values())):
        pairs = dict[int, list[tuple[int, float]]]()
        for row, other, cosine in leaders.near(block):
            pairs.setdefault(row, []).append((other, cosine))
        kept = []
        for row in block:
            same_words = None if hashes is None else hashes.nearest(row)
            alike = [pair for pair in pairs.get(row, []) if pair[0] not in near]
            if same_words is not None:
                near[row] = Near("minhash", *same_words)
            elif alike:
                near[row] = Near("features", *max(alike, key=lambda pair: pair[1]))  # the first of equal ones
            else:
                kept.append(row)
                if hashes is not None:
                    hashes.keep(row)
        leaders.keep(kept)
    return near | {row: near.get(same, Near("text", same, 1.0)) for row, same in copies.items()}


def _blocks(rows: list[int]) -> Iterator[list[int]]:
    return (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))
