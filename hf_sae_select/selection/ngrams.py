"""Words of texts, and the n-grams of words that texts share with a few others. No model.

Texts are compared without regard to case, Unicode form and white space; words, without regard to punctuation too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import chain, repeat

import numpy as np

from ..features.kernels import Int64s

WORDS = 8  # of an n-gram
SPANS = (1, 2, 4)  # two words make a pair, two pairs that follow each other four words, and two of these eight
# Chinese and Japanese put no spaces between words: each of their characters counts as a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")


def normalised(text: str) -> str:
    """Return a text in Unicode's form NFKC, in lower case, with single spaces between its parts."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.lower().split())


def words(text: str) -> list[str]:
    """Return the words of a normalised text."""
    return WORD.findall(text)


class NGrams:
    """Number the 8-grams of some rows of words, and find them in other rows. No hash can take two for one.

    Args:
        rows (`Sequence[list[str]]`):
            The words of each row.
    """

    def __init__(self, rows: Sequence[list[str]]) -> None:
        self._vocabulary: dict[str, int] = {}
        for word in chain.from_iterable(rows):
            self._vocabulary.setdefault(word, len(self._vocabulary))
        self._levels: list[Int64s] = []
        """Of each span the pairs that the rows have, ascending; the place of a pair is the number of what it makes."""
        numbers, size = self._numbers(rows), len(self._vocabulary)
        for span in SPANS:
            pairs = _pairs(numbers, span, size)
            self._levels.append(np.unique(pairs[pairs >= 0]))
            numbers, size = _places(pairs, self._levels[-1]), len(self._levels[-1])

    def __len__(self) -> int:
        return len(self._levels[-1])

    def of(self, rows: Sequence[list[str]]) -> tuple[Int64s, Int64s]:
        """Return which rows have which of the numbered 8-grams: rows, ascending, and numbers, each pair once."""
        numbers, size = self._numbers(rows), len(self._vocabulary)
        for span, level in zip(SPANS, self._levels, strict=True):
            numbers, size = _places(_pairs(numbers, span, size), level), len(level)
        at = np.flatnonzero(numbers >= 0)
        row = np.repeat(np.arange(len(rows)), [len(row) + 1 for row in rows])[at]
        pairs = np.unique(row * max(size, 1) + numbers[at])
        return pairs // max(size, 1), pairs % max(size, 1)

    def _numbers(self, rows: Sequence[list[str]]) -> Int64s:
        """Return the number of each word, -1 for a word that is not known and after each row."""
        every = chain.from_iterable(chain(row, ("",)) for row in rows)  # no word is empty
        numbers = map(self._vocabulary.get, every, repeat(-1))
        return np.fromiter(numbers, np.int64, sum(map(len, rows)) + len(rows))


def _pairs(numbers: Int64s, span: int, size: int) -> Int64s:
    """Return one number for each pair of numbers that are `span` apart; -1 where one of them is unknown."""
    first, second = numbers[:-span], numbers[span:]
    return np.where((first >= 0) & (second >= 0), first * size + second, -1)


def _places(pairs: Int64s, level: Int64s) -> Int64s:
    """Return the place of each pair in `level`; -1 for a pair that is not in it."""
    if not len(level):
        return np.full(len(pairs), -1)
    places = np.minimum(np.searchsorted(level, pairs), len(level) - 1)
    return np.where(level[places] == pairs, places, -1)
