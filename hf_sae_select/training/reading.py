"""TextReading: the texts of a dataset, or texts themselves, as training and evaluation read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from datasets import Dataset
from torch import Tensor

from .._datasets import check_dataset
from ..encoding.batches import Window
from ..encoding.chat_template import ChatTemplate
from ..encoding.language_model import LanguageModel
from ..encoding.rows import RowReader
from ..encoding.text import Rendering, TextSource, find_text
from ..sae.config import SaeConfig
from ..sae.model import SparseAutoencoder

ROWS = 1000  # rendered at once
CHUNK_FLOATS = 2**26  # activations computed at once: 256 MB, 8,192 tokens of an SAE of 8,192 latents


def as_dataset(name: str, value: Any, purpose: str) -> Dataset:
    """Return a dataset as it is, and a list of strings as a dataset of them; `name` and `purpose` are for errors.

    Raises:
        TypeError: If the argument `name` is neither.
        ValueError: If it has no row.
    """
    if isinstance(value, str) or (isinstance(value, Sequence) and not all(isinstance(text, str) for text in value)):
        raise TypeError(f"`{name}` must be a list of strings, or a datasets.Dataset")
    if isinstance(value, Sequence):
        value = Dataset.from_dict({"text": list(value)})
    check_dataset(name, value, purpose)
    dataset: Dataset = value
    return dataset


@dataclass(frozen=True)
class TextReading:
    """Rows, and how they become texts."""

    name: str
    """Name of the argument, for errors."""
    dataset: Dataset
    rendering: Rendering

    @classmethod
    def of(cls, name: str, value: Any, text: TextSource | None, purpose: str) -> Self:
        """Check the argument `name`, a dataset or a list of strings, and find the text of its rows.

        Raises:
            TypeError, ValueError: As `as_dataset` and `find_text`.
        """
        dataset = as_dataset(name, value, purpose)
        return cls(name, dataset, find_text(dataset, text))

    def windows(self, model: LanguageModel, config: SaeConfig) -> list[Window]:
        """Return the windows of all texts.

        Raises:
            ValueError: If no text has a word.
        """
        template = ChatTemplate.of(config.model, config.model_revision) if self.rendering.chat else None
        texts: list[str] = []
        reader = RowReader(self.dataset, self.rendering, template)
        for start in range(0, len(self.dataset), ROWS):
            texts += [text for text, _ in reader.texts(range(start, min(start + ROWS, len(self.dataset))))]
        if not any(text.strip() for text in texts):
            raise ValueError(f"`{self.name}` has no text to measure on; pass at least one text that is not blank")
        return model.windows(texts, special=template is None)


def in_chunks(x: Tensor, sae: SparseAutoencoder) -> Sequence[Tensor]:
    """Cut vectors [tokens, d_in] into chunks whose activations [tokens, d_sae] are at most `CHUNK_FLOATS`."""
    chunks: Sequence[Tensor] = x.split(max(1, CHUNK_FLOATS // sae.config.d_sae))
    return chunks


def hub_ids(dataset: Dataset) -> list[str]:
    """Return the ids of the Hub datasets that rows were downloaded from, as far as the dataset's info has them."""
    files = dataset.info.download_checksums or {}
    ids = [match[1] for match in map(re.compile(r"hf://datasets/([^@]+)@").match, map(str, files)) if match]
    return list(dict.fromkeys(ids))
