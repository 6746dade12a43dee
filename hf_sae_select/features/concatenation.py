"""`concatenate`: encoded datasets one after another, where their codes are of the same features. No torch.

`datasets.concatenate_datasets` takes columns of equal types only, and the type of `sae_ids` also says which columns
were the text, which may differ from dataset to dataset.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from .._datasets import check_dataset, retyped
from .columns import (
    DIGEST,
    code_columns,
    column_types,
    digested_columns,
    encoding_record,
    is_encoded,
    state_width,
)

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

# What a record says about the text of a row. This and the place of the SAE may differ, nothing else.
READING = ("text", "texts", "chat_template_sha256", "chat_template_kwargs")


def concatenate(dsets: Sequence[Dataset]) -> Dataset:
    """Concatenate encoded datasets whose codes are comparable, although their texts were read from other columns.

    Codes are comparable if they come from the same SAE, language model and settings. Where all datasets were read in
    the same way, `datasets.concatenate_datasets` does the same.

    Args:
        dsets (`Sequence[Dataset]`):
            Encoded datasets. Columns that one of them lacks are filled with None, as `datasets` does it.

    Returns:
        `Dataset`: The rows of all datasets in order. Its record has the records of all of them.

    Raises:
        TypeError: If one of them is no `Dataset`.
        ValueError: If one of them is not encoded, or their codes are not comparable; the message says what differs.

    Example:

    ```python
    chats = chats.sae_encode(text="messages")
    books = books.sae_encode(text="body")
    subset = concatenate([chats, books]).sae_select(3000)
    ```
    """
    import datasets

    if not isinstance(dsets, Sequence) or not dsets:
        raise TypeError(f"`dsets` is a {type(dsets).__name__}; pass a list of encoded datasets: [first, second]")
    for i, dataset in enumerate(dsets):
        check_dataset(f"dsets[{i}]", dataset, "concatenate")
        if not is_encoded(dataset):
            raise ValueError(f"`dsets[{i}]` is not encoded: call its `sae_encode` first")
    record, digested = _common_record(dsets), _common_digests(dsets)
    names = [name for name in code_columns(dsets[0]) if all(name in code_columns(dataset) for dataset in dsets)]
    if lost := {name for dataset in dsets for name in code_columns(dataset)} - set(names):
        warnings.warn(f"not all datasets have {', '.join(sorted(lost))}; the result lacks it", stacklevel=2)
    types = column_types(record, state_width(dsets[0].select_columns(names)), digested if DIGEST in names else None)
    return datasets.concatenate_datasets(
        [
            retyped(dataset.remove_columns([name for name in code_columns(dataset) if name not in names]), types)
            for dataset in dsets
        ]
    )


def _common_record(dsets: Sequence[Dataset]) -> dict[str, Any]:
    """Return one record for all datasets.

    Raises:
        ValueError: Their codes are not comparable.
    """
    records = [encoding_record(dataset) for dataset in dsets]
    first = _without(records[0], *READING, "sae")
    for i, record in enumerate(records):
        check_comparable("dsets[0]", first, f"dsets[{i}]", record)
    texts: list[Any] = []
    for record in records:
        for reading in record.get("texts", [{name: record[name] for name in READING if name in record}]):
            texts += [] if reading in texts else [reading]
    saes = [record.get("sae") for record in records]
    place = {"sae": saes[0]} if saes[0] and all(sae == saes[0] for sae in saes) else {}
    if len(texts) == 1:
        return {**first, **texts[0], **place}
    digest = sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
    # For a published subset, the text of a row is what a function returned that nobody else has.
    text = {"text": {"function": "concatenate", "hash": digest}, "chat_template_sha256": None}
    return {**first, **text, "texts": texts, **place}


def check_comparable(name: str, record: Mapping[str, Any], other_name: str, other: Mapping[str, Any]) -> None:
    """Check that two encoding records differ in nothing but how texts were read, and where the SAE is.

    Raises:
        ValueError: They differ; the message says in what.
    """
    record, other = (_without(part, *READING, "sae") for part in (record, other))
    if differing := [key for key in sorted({*record, *other}) if record.get(key) != other.get(key)]:
        values = "; ".join(f"`{key}` is {record.get(key)!r} and {other.get(key)!r}" for key in differing)
        raise ValueError(
            f"the codes of `{name}` and `{other_name}` are not comparable: {values}; encode both in the same way"
        )


def _common_digests(dsets: Sequence[Dataset]) -> dict[tuple[str, ...], str]:
    """Return the columns that the digests are of; none where they differ, so that nobody compares them."""
    columns = [digested_columns(dataset) for dataset in dsets]
    return columns[0] if all(other == columns[0] for other in columns) else {}


def _without(record: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in names}
