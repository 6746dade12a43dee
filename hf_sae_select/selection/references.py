"""References: rows beside the pool that an argument names, as features of the pool's SAE.

`target` and other arguments take a Dataset, encoded or not, a list of texts, the place of a dataset, or a
FeatureMatrix. Rows that are not encoded are encoded as the pool is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._datasets import check_dataset
from .._places import Place
from .._validation import check_text
from ..features.columns import encoding_record, is_encoded
from ..features.concatenation import check_comparable
from ..features.kept import STRONGEST
from ..features.matrix import FeatureMatrix
from .overlap import texts_of

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets or torch
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource
    from ..sae.model import SparseAutoencoder

    TextReader = Callable[[], Iterator[str]]
    References = Dataset | Sequence[str] | FeatureMatrix | str | Path


@dataclass(frozen=True, eq=False)
class PoolEncoding:
    """Say how the rows of a pool are encoded, or will be."""

    record: Mapping[str, Any] | None = None
    """The encoding record, where they are encoded."""
    sae: SaeSource | None = None
    text: TextSource | None = None
    max_length: int | None = None
    batch_size: int = 32
    keep: tuple[int | str, ...] = (STRONGEST,)
    """What is kept of rows that will be encoded, see `encode`."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `encode` for the rows of the pool, where they are not encoded."""
        how = {"max_length": self.max_length, "batch_size": self.batch_size, "keep": self.keep}
        return {"sae": self.sae, "text": self.text, **how}

    def codes(self, name: str, rows: Dataset) -> Dataset:
        """Return the code columns of rows that the argument `name` named.

        Raises:
            ValueError: They are encoded in another way than the pool.
        """
        if is_encoded(rows):
            self._check(name, encoding_record(rows))
            return rows
        self.check_texts(name, rows)
        from ..encoding.pipeline import codes, codes_like  # needs torch

        if self.record is not None:
            return codes_like(rows, self.record, self.sae, batch_size=self.batch_size)
        keep = [item for item in self.keep if item != "state"]
        return codes(rows, **self.arguments | {"text": self._columns(rows), "keep": keep})

    def check_texts(self, name: str, rows: Dataset) -> None:
        """Check that a row has a text, where rows are not encoded, before a model loads.

        Raises:
            TypeError, ValueError: All are blank, or nothing says what the text of a row is.
        """
        if is_encoded(rows):
            return
        read = self.texts(name, rows)
        if read is not None and not any(text.strip() for text in read()):
            raise ValueError(f"`{name}`: all of its {len(rows):,} rows are blank; pass rows with text")

    def texts(self, name: str, rows: Dataset) -> TextReader | None:
        """Return what reads the texts of rows that the argument `name` named; None where codes are all that is left.

        Raises:
            TypeError, ValueError: Nothing says what the text of a row that is not encoded is.
        """
        if is_encoded(rows):
            return text_reader(rows, None, encoding_record(rows))
        read = partial(texts_of, rows, self._columns(rows))
        try:
            read()
        except (TypeError, ValueError) as error:
            columns = ", ".join(rows.column_names)
            raise type(error)(
                f"`{name}`: which of its columns is the text: {columns}? Pass a list of texts, or keep one column, as "
                "`rows.select_columns('column').rename_column('column', 'text')` does"
            ) from error
        return read

    def _columns(self, rows: Dataset) -> list[str] | None:
        """Return the columns that are the text of the pool's rows, where other rows have all of them."""
        from ..encoding.text import columns_as_recorded

        record, text = self.record, self.text
        if record is None and isinstance(text, str | Sequence):
            record = {"text": {"columns": [text] if isinstance(text, str) else list(text)}}
        return columns_as_recorded(rows, record or {})  # a function is of the pool's rows alone

    def check_width(self, name: str, features: FeatureMatrix) -> None:
        """Check that features are of as many as the pool's.

        Raises:
            ValueError: They are not.
        """
        d_sae = self._sae().config.d_sae if self.record is None else self.record["d_sae"]
        if features.d_sae != d_sae:
            raise ValueError(
                f"`{name}` is of an SAE with {features.d_sae:,} features, and the dataset's SAE has {d_sae:,}; encode "
                "both with one SAE"
            )

    def _sae(self) -> SparseAutoencoder:
        from ..sae.loading import load_sae  # needs torch

        return load_sae(self.sae, encoder_only=True)

    def _check(self, name: str, record: Mapping[str, Any]) -> None:
        """Check that rows were encoded by the pool's SAE, and as the pool was where that is known."""
        if self.record is not None:
            check_comparable("dataset", self.record, name, record)
            return
        sae = self._sae()
        if record.get("sae_sha256") != sae.digest():
            raise ValueError(
                f"`{name}` was encoded by another SAE than the one that encodes the rows: its digest is "
                f"{str(record.get('sae_sha256'))[:12]}, and the other one's {sae.digest()[:12]}; encode both with one"
            )


def text_reader(rows: Dataset, text: TextSource | None, record: Mapping[str, Any] | None) -> TextReader | None:
    """Return what reads the texts of rows as they were encoded; None where a function made them, or columns are gone.

    Args:
        text: the function that made them, or their columns; None for those of the record.
    """
    read = partial(texts_of, rows, text, record)
    try:
        read()
    except (TypeError, ValueError):
        return None
    return read


def reference_rows(name: str, value: Any) -> Dataset | FeatureMatrix:
    """Return the rows that an argument names, before anything is encoded.

    Raises:
        TypeError: It is neither a dataset, nor texts, nor a place, nor a FeatureMatrix.
        ValueError: It has no row, or no text that is not blank.
        OSError: A place cannot be read.
    """
    if isinstance(value, FeatureMatrix):
        if not len(value):
            raise ValueError(f"`{name}` has no rows; pass at least one")
        return value
    if isinstance(value, str | Path):
        value = _at_place(name, value)
    elif isinstance(value, Sequence) and not hasattr(value, "column_names"):
        value = _of_texts(name, value)
    if not hasattr(value, "column_names"):
        raise TypeError(
            f"`{name}` is of type {type(value).__name__}; pass a Dataset, a list of texts, a FeatureMatrix, or the "
            "place of a dataset: a file, a folder or owner/name:split"
        )
    check_dataset(name, value, "read")
    return value


def _at_place(name: str, place: str | Path) -> Dataset:
    check_text(name, place, (str, Path))
    try:
        return Place.parse(name, str(place)).load(name)
    except OSError as error:
        is_named, is_path = f"`{name}" in str(error), isinstance(place, Path)
        if is_named and (is_path or not re.search(r"\s", str(place))):
            raise
        problem = str(error) if is_named else f"`{name}={str(place)!r}`: {error}"
        raise type(error)(problem + ("" if is_path else f"; for a text, pass a list: [{place!r}]")) from error


def _of_texts(name: str, texts: Sequence[Any]) -> Dataset:
    from datasets import Dataset

    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"`{name}[{i}]` is a {type(text).__name__}; pass texts, or a Dataset of rows")
    if not any(text.strip() for text in texts):
        problem = "holds blank texts alone" if texts else "is empty"
        raise ValueError(f"`{name}` {problem}; pass at least one text")
    return Dataset.from_dict({"text": list(texts)})


def reference_features(name: str, rows: Dataset | FeatureMatrix, pool: PoolEncoding) -> FeatureMatrix:
    """Return the features of such rows, encoded as the pool is where they are not.

    Raises:
        ValueError: They are encoded in another way than the pool, or no row has a feature.
    """
    if isinstance(rows, FeatureMatrix):
        pool.check_width(name, rows)
    features = rows if isinstance(rows, FeatureMatrix) else FeatureMatrix.from_dataset(pool.codes(name, rows))
    if not features.counts.any():
        raise ValueError(f"`{name}`: none of its {len(features):,} rows has a feature; are they blank?")
    return features
