"""MinHash: which kept rows share most of their stretches of words with another row, by the library `datasketch`.

Its LSH proposes rows, and their Jaccard similarity is then computed exactly. LSH is a matter of chance, with a fixed
seed: it may miss a row that is just above the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._optional import extra
from .ngrams import words

SHINGLE = 5  # words
PERMUTATIONS, SEED = 128, 1
MISSES = (0.1, 0.9)  # what wrong proposals and misses weigh where bands are chosen: a wrong proposal costs time alone


class MinHashes:
    """Hold the rows that are kept so far.

    Args:
        texts (`Sequence[str]`):
            The normalised texts of all rows.
        least (`float`):
            The least Jaccard similarity of rows that are near.

    Raises:
        ImportError: `datasketch` is not installed.
    """

    def __init__(self, texts: Sequence[str], least: float) -> None:
        self._library = extra("datasketch", "dedup")
        self._texts, self._least = texts, float(least)
        self._order = dict[int, int]()
        self._last: tuple[int, Any] | None = None
        self._index = self._library.MinHashLSH(threshold=self._least, num_perm=PERMUTATIONS, weights=MISSES)

    def nearest(self, row: int) -> tuple[int, float] | None:
        """Return the kept row that is most similar to a row, of equal ones the first, and the similarity."""
        own, near = shingles(self._texts[row]), []
        for kept in self._index.query(self._sketch(row)):
            other = shingles(self._texts[kept])
            similarity = len(own & other) / len(own | other)
            if similarity >= self._least:
                near.append((-similarity, self._order[kept], kept))
        if not near:
            return None
        least, _, kept = min(near)
        return kept, -least

    def keep(self, row: int) -> None:
        """Keep a row."""
        self._order[row] = len(self._order)
        self._index.insert(row, self._sketch(row))

    def _sketch(self, row: int) -> Any:
        if self._last is None or self._last[0] != row:  # a row that is kept was asked for just before
            sketch = self._library.MinHash(num_perm=PERMUTATIONS, seed=SEED)
            sketch.update_batch([shingle.encode() for shingle in sorted(shingles(self._texts[row]))])
            self._last = row, sketch
        return self._last[1]


def shingles(text: str) -> set[str]:
    """Return all stretches of five words of a normalised text; all its words where they are fewer."""
    row = words(text)
    return {" ".join(row[i : i + SHINGLE]) for i in range(max(len(row) - SHINGLE + 1, 1))}
