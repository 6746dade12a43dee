"""Contexts: stretches of rows as words, and which words each feature fires on. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .._cards import UNSEEN
from ..features.columns import encoding_record, is_encoded

if TYPE_CHECKING:  # annotations only: these files load torch
    import datasets

    from ..encoding.spans import RowSpans
    from ..encoding.text import TextSource
    from ..sae.model import SparseAutoencoder

WORD = re.compile(r"\w+|[^\w\s]")
BEGINNING, END, SHORT = "(beginning)", "(end)", "(short text)"
FEW_TOKENS = 24  # a text of fewer tokens is short

# Kinds of contexts. No word of a text is in parentheses, so kinds and words cannot be mixed up.
KINDS = {
    "(number)": re.compile(r"\d"),
    "(year)": re.compile(r"\b(?:1[5-9]|20)\d\d\b"),
    "(arithmetic)": re.compile(r"\d\s*[-+*/=]\s*\d"),
    "(code)": re.compile(r"[{};]\s*$|\w\(\w*\)|</\w|==|^\s*(?:def|import|from|class|#include)\s\w", re.MULTILINE),
    "(list)": re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE),
    "(capitals)": re.compile(r"\b[A-Z]{3,}\b"),
    "(web address)": re.compile(r"https?://|www\.|\w@\w"),
    "(non-Latin script)": re.compile(r"[^\W\u0000-\u024f\u1e00-\u1eff]"),
}
SPECIAL = (BEGINNING, END, SHORT, *KINDS)  # the first ids of every vocabulary
MOST_WORDS = 2**20 - 2  # different ones; further words are in no term
MOST_LETTERS = 30  # of a word that may be part of a name

Ints = NDArray[np.int64]
Pairs = tuple[Ints, Ints]


@dataclass(frozen=True, eq=False)
class Contexts:
    """Hold contexts as sequences of words, and the tokens that features fire on.

    The words of a context that begins a text have `BEGINNING` before them, and those of one that ends it have `END`
    after them. A *place* is an index of `words`, which has the contexts one after another.
    """

    texts: list[str]
    """[contexts]: the text of each."""
    digests: NDArray[np.uint8]
    """[contexts]: a byte that the whole text of the row decides; rows of equal text have the same."""
    vocabulary: list[str]
    """Words in lower case, by id."""
    words: Ints
    """[places]: the id of the word; -1 for a word that the vocabulary has no room for."""
    offsets: Ints
    """[contexts + 1]: where the words of each context begin."""
    kinds: Pairs
    """Contexts, and ids of kinds that they are of."""
    pieces: Pairs
    """Contexts, and ids of tokens in them that are part of a word: `be…`, `…gin…` or `…ning`."""
    features: Ints
    """[nnz]: the feature that fires, for each token and feature."""
    places: Ints
    """[nnz]: the place of the word that the token is in."""
    fired_pieces: Ints
    """[nnz]: the id of the token as part of a word; -1 where it is a whole word."""
    starts: Ints
    """[nnz]: the first character of the token in the text of the context."""
    ends: Ints
    """[nnz]: the character after the last one of the token."""
    acts: NDArray[np.float32]
    """[nnz]: the activation."""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def context_of_place(self) -> Ints:
        """[places]: the context of each place."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """[contexts]: half of them, chosen by the text of the row alone."""
        return self.digests >= 128


def contexts_of(
    dataset: datasets.Dataset,
    rows: Sequence[int],
    sae: str | Path | SparseAutoencoder | None = None,
    *,
    text: TextSource | None = None,
    max_length: int,
    context_size: int,
    batch_size: int = 32,
    show_progress_bar: bool | None = None,
) -> tuple[Contexts, Mapping[str, Any]]:
    """Return the contexts of rows, and the encoding record by which they were read; arguments as `label_features`."""
    # They load torch.
    from ..encoding.arguments import EncodingArguments
    from ..encoding.encoder import Encoder
    from ..encoding.spans import row_spans
    from ..encoding.text import find_text
    from ..sae.loading import load_sae

    if is_encoded(dataset):
        record = encoding_record(dataset)
        read = record.get("max_length")
        record = record | {"max_length": max_length if read is None else min(read, max_length)}
    else:
        sae = load_sae(sae, encoder_only=True)
        arguments = EncodingArguments.parse(text=text, max_length=max_length)
        record = Encoder(sae, find_text(dataset, text), arguments).record()
    spans = row_spans(
        dataset,
        rows,
        sae,
        record=record,
        text=text,
        threshold=record["threshold"],
        batch_size=batch_size,
        show_progress_bar=show_progress_bar,
    )
    return read_contexts(spans, context_size), record


def read_contexts(rows: Iterable[RowSpans], size: int) -> Contexts:
    """Cut rows into contexts of at most `size` tokens, and gather what fires in them."""
    reader = _Reader()
    for row in rows:
        digest = sha256(row.text.encode("utf-8", "replace")).digest()[0]
        for first in range(0, len(row.starts), size):
            reader.read(row, first, min(first + size, len(row.starts)), digest)
    return reader.contexts()


class _Reader:
    """Gather contexts, one after another."""

    def __init__(self) -> None:
        self.ids = {word: i for i, word in enumerate(SPECIAL)}
        self.texts: list[str] = []
        self.digests: list[int] = []
        self.words: list[int] = []
        self.offsets = [0]
        self.kinds: list[tuple[int, int]] = []
        self.pieces: list[tuple[int, int]] = []
        self.firing: list[tuple[NDArray[Any], ...]] = []

    def read(self, row: RowSpans, first: int, last: int, digest: int) -> None:
        """Read the tokens from `first` to `last` as a context; one without words is left out."""
        start, end = int(row.starts[first]), int(row.ends[last - 1])
        text, number = row.text[start:end], len(self.texts)
        spans = np.array([match.span() for match in WORD.finditer(text)], np.int64).reshape(-1, 2)
        if not len(spans):
            return
        begins, ends = not row.text[:start].strip(), not row.text[end:].strip()
        self.kinds += [(number, self.ids[name]) for name, kind in KINDS.items() if kind.search(text)]
        if begins and ends and last - first < FEW_TOKENS:
            self.kinds.append((number, self.ids[SHORT]))
        tokens = np.stack([row.starts[first:last], row.ends[first:last]], 1).astype(np.int64) - start
        # A token may begin with the space before its word, so its last character tells the word.
        word = np.maximum(np.searchsorted(spans[:, 0], tokens[:, 1] - 1, side="right") - 1, 0)
        pieces = self._pieces(text, spans, tokens, word)
        self.pieces += [(number, piece) for piece in set(pieces.tolist()) - {-1}]
        nonzeros = slice(row.offsets[first], row.offsets[last])
        token = np.repeat(np.arange(last - first), np.diff(row.offsets[first : last + 1]))
        places = word[token] + len(self.words) + begins
        numbers = (row.ids[nonzeros], places, pieces[token], *tokens[token].T, row.acts[nonzeros])
        self.firing.append(numbers)
        self.words += [self.ids[BEGINNING]] * begins
        self.words += [self._id(text[a:b].lower()) for a, b in spans.tolist()]
        self.words += [self.ids[END]] * ends
        self.offsets.append(len(self.words))
        self.texts.append(text)
        self.digests.append(digest)

    def _pieces(self, text: str, spans: Ints, tokens: Ints, word: Ints) -> Ints:
        """Return the ids of tokens that are parts of words; -1 for whole words."""
        pieces = np.full(len(tokens), -1, np.int64)
        for i in np.flatnonzero(np.bincount(word)[word] > 1).tolist():
            (start, end), (first, last) = tokens[i].tolist(), spans[word[i]].tolist()
            before, after = "…" * (start > first), "…" * (end < last)
            if part := text[max(start, 0) : end].strip().lower():
                pieces[i] = self._id(f"{before}{part}{after}")
        return pieces

    def _id(self, word: str) -> int:
        if word not in self.ids:
            if len(self.ids) == MOST_WORDS or len(word) > MOST_LETTERS or UNSEEN.search(word):
                return -1
            self.ids[word] = len(self.ids)
        return self.ids[word]

    def contexts(self) -> Contexts:
        """Return all that was read."""
        columns = list(zip(*self.firing, strict=True)) or [[np.empty(0, np.int64)]] * 6
        features, places, pieces, starts, ends, acts = (np.concatenate(column) for column in columns)
        return Contexts(
            self.texts,
            np.array(self.digests, np.uint8),
            list(self.ids),
            np.array(self.words, np.int64),
            np.array(self.offsets),
            _pairs(self.kinds),
            _pairs(self.pieces),
            features.astype(np.int64),
            places,
            pieces,
            np.maximum(starts, 0),
            ends,
            acts.astype(np.float32),
        )


def _pairs(pairs: list[tuple[int, int]]) -> Pairs:
    first, second = np.array(pairs, np.int64).reshape(-1, 2).T
    return first, second
