"""Overlap: which rows of a pool repeat rows of another dataset, such as the target or an evaluation set.

A row repeats another one of the same text, see `ngrams.normalised`, or of which it has at least half of the 8-grams
of words. Tülu 3 (arXiv:2411.15124) counts the words in such 8-grams; here the 8-grams themselves are counted, which is
stricter for short rows. A row of 3 to 7 words, such as a question, has none: it is repeated by a row of which it is a
line, as a whole or after the name of who speaks. A row of one or two words is repeated by an equal text alone. Blank
rows repeat nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import Floats, Int64s, compiled_beyond
from ..features.matrix import FeatureMatrix
from .ngrams import WORDS, NGrams, normalised, words

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

    from ..encoding.text import TextSource

LEAST_WORDS = 3  # of a row that is looked for among the lines of others
SHARE = 0.5  # of the 8-grams of a row; a row that has at least so many repeats it
BATCH_ROWS = 5000  # rows whose words are in memory together


@dataclass(frozen=True, eq=False)
class Overlap:
    """Hold the rows of a pool that repeat rows of another dataset, the reference.

    Example, row 7 has the text of row 0 of the reference, and row 9 three of four 8-grams of its row 2: rows [7, 9],
    reference_rows [0, 2], exact [True, False], share [1.0, 0.75].
    """

    rows: Int64s
    """The rows of the pool, ascending: [m]."""
    reference_rows: Int64s
    """The row of the reference that each repeats: the first equal one, or the one it has most of: [m]."""
    exact: NDArray[np.bool_]
    """Whether the two are equal: [m]."""
    share: Floats
    """The share of the 8-grams of the reference's row that the pool's row has, 1 for equal rows: [m]."""

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, pairs: Mapping[int, tuple[int, bool, float]]) -> Overlap:
        """Make it of the row of the reference, whether it is equal, and the share, of each row of the pool."""
        rows = sorted(pairs)
        columns = list(zip(*(pairs[row] for row in rows), strict=True)) or [(), (), ()]
        reference_rows, exact = np.array(columns[0], np.int64), np.array(columns[1], np.bool_)
        return cls(np.array(rows, np.int64), reference_rows, exact, np.array(columns[2], np.float64))


def overlap_of(texts: Iterable[str], reference: Iterable[str]) -> Overlap:
    """Return which texts repeat texts of a reference; `texts` are read batch by batch.

    Example: ``overlap_of(["Add 3 and 4.", "Sing."], ["add  3 and 4."])`` has the rows [0].
    """
    sought = [normalised(text) for text in reference]
    first = dict[str, int]()
    for row, text in enumerate(sought):
        if text:
            first.setdefault(text, row)
    index = _Index([words(text) for text in sought])
    pairs, remaining, start = dict[int, tuple[int, bool, float]](), iter(texts), 0
    short = {text: row for text, row in first.items() if LEAST_WORDS <= len(words(text)) < WORDS}
    while rows := list(islice(remaining, BATCH_ROWS)):
        batch = [normalised(text) for text in rows]
        best, shares = index.most_shared([words(text) for text in batch])
        for i in np.flatnonzero(shares >= SHARE).tolist():
            pairs[start + i] = (int(best[i]), False, float(shares[i]))
        for i, text in enumerate(batch):
            if short and (line := next((line for line in _lines(rows[i]) if line in short), None)):
                pairs.setdefault(start + i, (short[line], False, 1.0))
            if text in first:
                pairs[start + i] = (first[text], True, 1.0)
        start += len(batch)
    return Overlap.of(pairs)


def _lines(text: str) -> Iterator[str]:
    """Yield the lines of a text, normalised; of a line such as "user: Hi" also what is said."""
    for line in text.splitlines():
        yield normalised(line)
        speaker, colon, said = line.partition(": ")
        if colon and speaker.isalpha():
            yield normalised(said)


def equal_values(values: Iterable[Any], reference: Iterable[Any]) -> Overlap:
    """Return which values, such as digests of rows, are equal to one of a reference; None is equal to nothing."""
    first = dict[Any, int]()
    for row, value in enumerate(reference):
        first.setdefault(value, row)
    first.pop(None, None)
    return Overlap.of({row: (first[value], True, 1.0) for row, value in enumerate(values) if value in first})


def equal_features(features: FeatureMatrix, reference: FeatureMatrix) -> Overlap:
    """Return which rows have the features of a row of a reference, to the bit: they are taken for the same row."""
    return equal_values(contents_of(features), contents_of(reference))


def texts_of(
    dataset: Dataset, text: TextSource | None = None, record: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Yield the texts of all rows as they were encoded, or as `encode` would read them; chats without a template.

    Args:
        record: the encoding record, which names the columns; without one, those of a common schema are read.

    Raises:
        TypeError, ValueError: If nothing says what the text of a row is, or the columns were changed since.
    """
    from ..encoding.rows import RowReader
    from ..encoding.text import find_text

    columns = (record or {}).get("text", {}).get("columns")
    if record and text is None and not columns:
        raise ValueError("a function made the texts that were encoded: pass `text`, the same function")
    reader = RowReader(dataset, find_text(dataset, columns if text is None else text))
    starts = range(0, len(dataset), BATCH_ROWS)
    batches = (reader.texts(range(start, min(start + BATCH_ROWS, len(dataset)))) for start in starts)
    return (text.text for batch in batches for text in batch)


def contents_of(features: FeatureMatrix) -> Iterator[bytes | None]:
    """Yield the features of each row as bytes; None for a row without any."""
    ids, acts = features.ids.astype("<u4", copy=False), features.acts.astype("<f4", copy=False)
    for start, end in zip(features.offsets[:-1].tolist(), features.offsets[1:].tolist(), strict=True):
        yield ids[start:end].tobytes() + acts[start:end].tobytes() if end > start else None


class _Index:
    """The 8-grams of the rows of a reference: which rows have each, and how many each has."""

    def __init__(self, rows: Sequence[list[str]]) -> None:
        self._grams = NGrams(rows)
        row, gram = self._grams.of(rows)
        self._sizes = np.bincount(row, minlength=len(rows))
        self._starts = np.concatenate([[0], np.bincount(gram, minlength=len(self._grams)).cumsum()])
        self._rows = row[np.argsort(gram, kind="stable")]

    def most_shared(self, rows: Sequence[list[str]]) -> tuple[Int64s, Floats]:
        """Return for each row the row of the reference of which it has the largest share, -1 for none; and the share.

        Of equal shares, the first row of the reference counts.
        """
        row, gram = self._grams.of(rows)
        starts = np.searchsorted(row, np.arange(len(rows) + 1))
        best, shared = _most_shared(starts, gram, self._starts, self._rows, self._sizes)
        return best, np.where(best >= 0, shared / np.append(self._sizes, 1)[best], 0.0)


@compiled_beyond(lambda offsets, grams, starts, holders, sizes: len(grams) * (1 + len(holders) // len(starts)))
def _most_shared(
    offsets: Int64s, grams: Int64s, starts: Int64s, holders: Int64s, sizes: Int64s
) -> tuple[Int64s, Int64s]:
    """Return for each row the row of the reference of which it has the largest share of 8-grams, and their number."""
    n = len(offsets) - 1
    best, shared = np.full(n, -1, np.int64), np.zeros(n, np.int64)
    counts, touched = np.zeros(len(sizes), np.int64), np.empty(len(sizes), np.int64)
    for i in range(n):
        size = 0
        for p in range(offsets[i], offsets[i + 1]):
            for q in range(starts[grams[p]], starts[grams[p] + 1]):
                row = holders[q]
                if counts[row] == 0:
                    touched[size] = row
                    size += 1
                counts[row] += 1
        for row in touched[:size]:
            count, most = counts[row], shared[i]
            larger = best[i] < 0 or count * sizes[best[i]] > most * sizes[row]
            is_equal = best[i] >= 0 and count * sizes[best[i]] == most * sizes[row]
            if larger or (is_equal and row < best[i]):
                best[i], shared[i] = row, count
            counts[row] = 0
    return best, shared
