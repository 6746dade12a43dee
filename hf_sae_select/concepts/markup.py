"""Markup: texts of rows and names for terminals and HTML, in which nothing of them runs."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from .._cards import UNSEEN
from .._secrets import masked

SHOWN_CHARACTERS = 2000  # of a text in HTML


def clean(text: str) -> str:
    """Return a text on one line that a terminal shows as it is: without control characters and access tokens."""
    return " ".join(UNSEEN.sub("\ufffd", masked(text)).split())


def marked_html(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """Return the beginning of a text as HTML, with the characters of `spans` marked."""
    shown, position, parts = text[:SHOWN_CHARACTERS], 0, []
    for start, end in _merged(spans, len(shown)):
        parts += [_safe(shown[position:start]), f"<mark>{_safe(shown[start:end])}</mark>"]
        position = end
    return "".join(parts) + _safe(shown[position:]) + "…" * (len(text) > len(shown))


def _safe(text: str) -> str:
    return escape(UNSEEN.sub("\ufffd", masked(text)))


def _merged(spans: Iterable[tuple[int, int]], end: int) -> list[tuple[int, int]]:
    """Return spans without overlaps, ascending, up to `end`."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted((start, min(stop, end)) for start, stop in spans if start < end):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        else:
            merged.append((start, stop))
    return merged
