"""Windows of tokens, in groups of one length, as the tensors that a model reads.

All is built on the host, also the places of the text: the device is never asked for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Window:
    """A stretch of one row's tokens that goes through the model at once."""

    row: int
    ids: list[int]
    is_text: list[bool]
    """False for BOS, EOS, separators and every other special token."""
    unknown: int = 0
    """Number of text tokens that are [UNK]: text that the tokenizer does not know."""
    start: int = 0
    """Number of the row's tokens before those of this window."""


def by_length(windows: Sequence[Window], pad_to: int, longest: int) -> Iterator[tuple[int, list[Window]]]:
    """Yield the windows that have text, by their padded length: a multiple of `pad_to`, but at most `longest`.

    The longest come first: a batch that does not fit in memory fails at once.
    """
    groups: dict[int, list[Window]] = {}
    for window in windows:
        if any(window.is_text):
            groups.setdefault(-(-len(window.ids) // pad_to) * pad_to, []).append(window)
    for length in sorted(groups, reverse=True):
        yield min(length, longest), groups[length]


def token_ids(windows: Sequence[Window], length: int, pad: int) -> Tensor:
    """Return the token ids, padded on the right: [windows, length]."""
    ids = np.full((len(windows), length), pad, np.int64)
    for row, window in zip(ids, windows, strict=True):
        row[: len(window.ids)] = window.ids
    return torch.from_numpy(ids)


def attention_mask(windows: Sequence[Window], length: int) -> Tensor:
    """Return 1 for the tokens of each window and 0 for its padding: [windows, length]."""
    lengths = np.array([len(window.ids) for window in windows])
    return torch.from_numpy((np.arange(length) < lengths[:, None]).astype(np.int64))


def text_places(windows: Sequence[Window], length: int) -> Tensor:
    """Return where the text tokens are in the padded windows, one window after another."""
    places = [i * length + np.flatnonzero(window.is_text) for i, window in enumerate(windows)]
    return torch.from_numpy(np.concatenate(places))
