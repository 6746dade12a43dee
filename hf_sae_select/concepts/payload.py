"""Payload: what the script of a report reads, as JSON of a bounded size: features, picks and texts."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.matrix import FeatureMatrix
from ..sae.labels import Labels
from .evidence import Reason, cause
from .page import JSON_ESCAPES, embedded, quoted, shown
from .representation import FeatureShare

MOST_BYTES = 4_000_000  # of the payload; beside it the page has 1 MB, mostly Vega
MOST_HOLDER_BYTES = 500_000  # about 120 features each of 3,000 picks
PARTS, NEIGHBOURS = 6, 3  # of a pick that are shown
CUT_BYTES = len(',"cut":100000')  # of the number of characters that are cut of a pick
EXCERPT = 90  # characters of the text of a row that a pick stands for
SHORT_ESCAPES, LONG_ESCAPES = (
    [ord(sign) for sign in signs] for signs in ('"\\\n\r\t\b\f', "".join(map(chr, JSON_ESCAPES)))
)
LEAST_CHARACTERS = 200  # of a pick's text that are shown, unless all else is short
NAME_LETTERS, REASON_LETTERS = (60, 20), 6  # of names and neighbours' texts; a reason has as many for each of these


def excerpt(text: str, characters: int = EXCERPT) -> str:
    """Return the beginning of a text on one line."""
    line = shown(" ".join(text[: 4 * characters].split()))
    return line if len(line) <= characters else f"{line[:characters].rstrip()}…"


def features_data(shares: Iterable[FeatureShare], labels: Labels | None, reasons: Sequence[Reason]) -> list[list[Any]]:
    """Return each feature as the page's script reads it.

    Features with names come first. The fields: number, name, score of the label, share of all rows and of the picks,
    lift, part, and the words of the label where a pick names the feature, to mark them in its text.
    """
    result, named = [], {part.feature for reason in reasons for part in reason.parts[:PARTS]}
    for share in sorted(shares, key=lambda share: not share.name):
        label = None if labels is None else labels[share.feature]
        score, words = (
            (None, []) if label is None else (_rounded(label.score, 3), [shown(word) for word in label.words])
        )
        amounts = [_rounded(share.pool_share, 6), _rounded(share.share, 6), _rounded(share.lift, 3)]
        result.append(
            [share.feature, shown(share.name), score, *amounts, share.kind, words if share.feature in named else []]
        )
    return result


def neighbours_of(reasons: Sequence[Reason]) -> list[int]:
    """Return the rows beside the picks whose texts the page shows."""
    rows = [neighbour.row for reason in reasons for neighbour in reason.stands_for[:NEIGHBOURS]]
    rows += [reason.runner_up.row for reason in reasons if reason.runner_up is not None]
    return sorted(set(rows))


def picks_data(reasons: Sequence[Reason], texts: Mapping[int, str]) -> list[dict[str, Any]]:
    """Return each pick as the page's script reads it; `texts` are of rows that the model did not read again."""
    return [_pick(reason, texts) for reason in reasons]


def _pick(reason: Reason, texts: Mapping[int, str]) -> dict[str, Any]:
    text = reason.text or texts.get(reason.row, "")
    parts = reason.parts[:PARTS]
    pick: dict[str, Any] = {"row": reason.row, "text": shown(text), "why": _sentence(cause(reason, with_parts=False))}
    if not reason.tokens or (reason.row in texts and not text.strip()):
        pick |= {"text": "", "blank": True}
    pick["parts"] = [_part(part) for part in parts]
    if reason.n_parts > len(parts):
        pick["more"] = reason.n_parts - len(parts)
    # A masked token makes a text shorter, and then no offset holds.
    if reason.text and len(pick["text"]) == len(text):
        pick["spans"] = [[*span, part.feature] for part in parts for span in part.spans]
    if reason.n_stands_for:
        rows = [[near.row, _rounded(near.similarity, 3)] for near in reason.stands_for[:NEIGHBOURS]]
        pick["stands"] = [reason.n_stands_for, rows]
    if (other := reason.runner_up) is not None:
        pick["over"] = [other.row, f"{other.gain:.4g}", f"{other.difference:.2g}" if other.difference else ""]
    return pick


def _sentence(text: str) -> str:
    return shown(quoted(f"{text[:1].upper()}{text[1:]}."))


def _part(part: Any) -> list[Any]:
    return [part.feature, _rounded(part.share, 3), part.rows, _rounded(part.activation, 2)]


def _rounded(value: float, digits: int) -> float | None:
    """Return a number as JSON holds it; None for nan."""
    return None if value is None or math.isnan(value) else round(float(value), digits)


def holders_data(features: FeatureMatrix, picks: NDArray[np.int64]) -> dict[str, Any]:
    """Return which picks have each feature, as varints in base64, and how many features of a pick count (None: all).

    Where all features of the picks are too many, the strongest of each pick count, as many as the size allows.
    """
    strongest, matrix = None, features
    data = _holders(matrix, picks)
    while len(data) > MOST_HOLDER_BYTES and (strongest is None or strongest > 1):
        longest = int(matrix.counts[picks].max())
        strongest = max(1, min(longest - 1, int(longest * MOST_HOLDER_BYTES / len(data))))
        matrix = features.top(strongest)
        data = _holders(matrix, picks)
    return {"data": data, "strongest": strongest}


def _holders(features: FeatureMatrix, picks: NDArray[np.int64]) -> str:
    counts = features.counts[picks]
    place = np.repeat(np.arange(len(picks)), counts)
    ids = np.concatenate([features.row(row) for row in picks] or [np.empty(0, np.int64)]).astype(np.int64)
    order = np.lexsort((place, ids))
    ids, place = ids[order], place[order]
    heads, starts, sizes = np.unique(ids, return_index=True, return_counts=True)
    values: list[int] = []
    last = -1
    for head, start, size in zip(heads.tolist(), starts.tolist(), sizes.tolist(), strict=True):
        # Differences, less one: they are small, and so most of them are one byte.
        values += [head - last - 1, size, *(np.diff(place[start : start + size], prepend=-1) - 1).tolist()]
        last = head
    return base64.b64encode(_varints(values)).decode()


def _varints(values: Iterable[int]) -> bytes:
    """Write whole numbers in groups of seven bits, the lowest first; the eighth bit says that another one follows."""
    result = bytearray()
    for value in values:
        while value > 127:
            result.append(value & 127 | 128)
            value >>= 7
        result.append(value)
    return bytes(result)


def fitted(data: dict[str, Any]) -> dict[str, Any]:
    """Shorten texts so that the data are no larger than `MOST_BYTES`; `cut` counts what is cut of a pick's text.

    The texts of picks are cut first: all to the same number of characters, the largest that fits, at least 200. Where
    this is not enough, names, reasons and the texts of neighbours are cut too, to a number of `letters`; and then the
    texts of picks as far as needed.
    """
    _cut_texts(data, LEAST_CHARACTERS)
    for letters in NAME_LETTERS:
        if len(embedded(data).encode()) <= MOST_BYTES:
            return data
        data["letters"] = letters
        for pick in data["picks"]:
            pick["why"] = _short(pick["why"], REASON_LETTERS * letters)
        for feature in data["features"]:
            feature[1] = _short(feature[1], letters)
            feature[-1] = [word for word in feature[-1] if len(word) <= letters][: letters // 20]
        data["rows"] = {row: _short(text, letters) for row, text in data["rows"].items()}
    _cut_texts(data, 0)
    return data


def _short(text: str, letters: int) -> str:
    return text if len(text) <= letters else f"{text[: letters - 1].rstrip()}…"


def _cut_texts(data: dict[str, Any], least: int) -> None:
    """Cut the texts of the picks to the largest number of characters that fits, and to no less than `least`."""
    sizes = [_bytes_of(pick["text"]).cumsum() for pick in data["picks"]]
    room = MOST_BYTES - len(embedded(data).encode()) - CUT_BYTES * len(sizes)
    room += sum(int(size[-1]) for size in sizes if len(size))
    low, high = least, max([least, *map(len, sizes)])
    while low < high:  # the largest number of characters that fits
        middle = (low + high + 1) // 2
        used = sum(int(size[min(middle, len(size)) - 1]) for size in sizes if len(size))
        low, high = (middle, high) if used <= room else (low, middle - 1)
    for pick in data["picks"]:
        if len(pick["text"]) > low:
            pick["cut"] = pick.get("cut", 0) + len(pick["text"]) - low
            pick["text"] = pick["text"][:low]
            if "spans" in pick:
                pick["spans"] = [[start, min(end, low), i] for start, end, i in pick["spans"] if start < low]


def _bytes_of(text: str) -> NDArray[np.int64]:
    """Return how many bytes each character of a text takes in the page: [characters]."""
    signs = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    sizes = 1 + (signs > 0x7F) + (signs > 0x7FF) + (signs > 0xFFFF)
    sizes[np.isin(signs, SHORT_ESCAPES)] = 2
    sizes[np.isin(signs, LONG_ESCAPES) | ((signs < 0x20) & ~np.isin(signs, SHORT_ESCAPES))] = 6
    return sizes.astype(np.int64)
