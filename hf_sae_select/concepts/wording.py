"""Wording: reasons in sentences, and as HTML in which nothing of a row or a name runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from .._cards import UNSEEN
from .._secrets import masked

if TYPE_CHECKING:
    from .reasons import Part, Reason, RunnerUp

NAMED = 3  # features that a sentence names
SHOWN_CHARACTERS = 2000  # of a text in HTML
LINES = 100  # of a table in HTML


def sentences(reason: Reason) -> str:
    """Return a reason as one to three sentences, on one line and without control characters."""
    text = f"Pick {reason.pick}, row {reason.row}: {_cause(reason)}."
    if reason.runner_up is not None:
        text += f" {_runner_up(reason.runner_up)}"
    if reason.n_stands_for:
        nearest = reason.stands_for[0]
        rows = f"{reason.n_stands_for:,} other row{'s' * (reason.n_stands_for > 1)}"
        text += f" It stands for {rows} of the pool, the nearest {nearest.row} ({nearest.similarity:.2f})."
    return clean(text)


def _runner_up(other: RunnerUp) -> str:
    """Say what a pick was chosen over."""
    if not other.difference:
        return f"Row {other.row} had the same score, and came later in the order of equal rows."
    return (
        f"The next best row, {other.row}, would have gained {other.gain:.4g}; its score was lower by "
        f"{other.difference:.2g}."
    )


def clean(text: str) -> str:
    """Return a text on one line that a terminal shows as it is: without control characters and access tokens."""
    return " ".join(UNSEEN.sub("\ufffd", masked(text)).split())


def title(part: Part) -> str:
    """Return number and name of a feature, such as `#551 concentration`."""
    return f"#{part.feature} {part.name}".rstrip()


def _cause(reason: Reason) -> str:
    """Say what decided, by the kind of the reason."""
    match reason.kind:
        case "earlier":
            return f"picked before the method began, as a row of `{reason.source}`" + _also(reason)
        case "filler":
            return "it fills the budget: no row that was left had a score above 0" + _also(reason)
        case "own":
            return f"picked by `{reason.method}`, a method of your own, with a gain of {reason.gain:.4g}"
        case "length":
            rank = f"rank {reason.rank:,} of the pool by length"
            return f"picked for its {reason.tokens:,} tokens, {rank}" + _also(reason)
        case "chance":
            return "drawn at random" + _also(reason)
        case "distribution":
            return (
                f"it brings the picks' distribution of features nearer to the pool's, with a gain of "
                f"{reason.gain:.4g}, the largest parts are {_parts(reason, with_share=True)}"
            )
        case "similarity":
            return _by_similarity(reason)
    return _by_coverage(reason)


def _by_coverage(reason: Reason) -> str:
    if reason.method == "concave":
        return f"it has what few picks have: a gain of {reason.gain:.4g}, the largest parts are {_parts(reason, True)}"
    text = f"it has {_count(reason.n_parts)} that no earlier pick of the round has"
    if reason.parts:
        weighs = reason.parts[0].gain != reason.parts[-1].gain or reason.gain != reason.n_parts
        text += (
            f", with a gain of {reason.gain:.4g}, the largest parts are {_parts(reason, True)}"
            if weighs
            else f", the strongest {_parts(reason, False)}"
        )
    if reason.covered is not None and reason.nearest is not None:
        text += f"; row {reason.nearest.row}, the pick most like it, has {reason.covered:.0%} of its features"
    elif reason.covered is not None:
        text += f"; earlier picks have {reason.covered:.0%} of its features"
    return text


def _by_similarity(reason: Reason) -> str:
    nearest = reason.nearest
    near = (
        "no row was picked before it"
        if nearest is None
        else f"the nearest earlier pick is row {nearest.row}, with a cosine of {nearest.similarity:.2f}"
    )
    if reason.method == "kcenter":
        return f"it was the row farthest from all earlier picks: {near}"
    if reason.method == "repr_filter":
        return f"it was first in order of those not too similar to any pick of the round: {near}"
    return f"{reason.n_nearer or 0:,} rows are nearer to it than to any earlier pick; {near}"


def _also(reason: Reason) -> str:
    """Say how many features the row adds."""
    return f"; it adds {_count(reason.n_parts)} that no earlier pick has" if reason.n_parts else ""


def _count(features: int) -> str:
    return f"{features:,} feature{'s' * (features != 1)}"


def _parts(reason: Reason, with_share: bool) -> str:
    """Name the largest parts."""
    names = [title(part) + (f" ({part.share:.0%})" if with_share else "") for part in reason.parts[:NAMED]]
    listed = ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1] if names else "no feature"
    return listed + (f", of {_count(reason.n_parts)}" if with_share and reason.n_parts > len(names) else "")


# ---- HTML


def html(reason: Reason) -> str:
    """Return a reason as HTML: the sentences, a table of the parts, and the text with what fires marked."""
    parts = [f"<p>{escape(sentences(reason))}</p>"]
    if reason.parts:
        head = "<tr><th>feature</th><th>gain</th><th>share</th><th>rows of the pool</th></tr>"
        lines = (
            f"<tr><td>{escape(clean(title(part)))}</td><td>{part.gain:.4g}</td><td>{part.share:.1%}</td>"
            f"<td>{part.rows:,}</td></tr>"
            for part in reason.parts
        )
        parts.append(f"<table>{head}{''.join(lines)}</table>")
    if reason.text:
        spans = [span for part in reason.parts for span in part.spans]
        parts.append(f'<p style="white-space: pre-wrap">{marked_html(reason.text, spans)}</p>')
    return "".join(parts)


def table(reasons: Sequence[Reason]) -> str:
    """Return reasons as an HTML table of sentences; a long table is cut, and says so."""
    lines = [f"<tr><td>{escape(sentences(reason))}</td></tr>" for reason in reasons[:LINES]]
    if len(reasons) > LINES:
        lines.append(f"<tr><td>and {len(reasons) - LINES:,} more</td></tr>")
    return f"<table><caption>{len(reasons):,} reasons</caption>{''.join(lines)}</table>"


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
