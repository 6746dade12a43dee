"""Evidence: what speaks for a pick, as data and in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from ..sae.labels import one_line
from ..selection.methods import METHODS
from .markup import clean, marked_html

NAMED = 3  # features that a sentence names
NAME_LETTERS = 40  # of the name of a target, in a sentence


@dataclass(frozen=True)
class Part:
    """Hold what one feature adds to the gain of a pick."""

    feature: int
    """The number of the feature."""
    name: str
    """Its name; empty without labels, or if nothing names it."""
    gain: float
    """What it adds to the gain."""
    share: float
    """Which share of the pick's gain that is."""
    activation: float
    """Its activation in the row."""
    rows: int
    """The number of rows of the pool that have it, by the features that the rows were selected by."""
    spans: tuple[tuple[int, int], ...] = ()
    """The characters of `Reason.text`, from start to end, whose tokens fire; empty if the row was not read again."""


@dataclass(frozen=True)
class Neighbour:
    """Hold a row that is near another one."""

    row: int
    """The row of the pool."""
    similarity: float
    """How similar they are: the cosine of their features, or of their vectors for a method that compares these."""
    pick: int | None = None
    """Its position in the selection; None if it was not picked."""


@dataclass(frozen=True)
class Aim:
    """Hold how near a pick of `herding` is to what it selects towards: a target, or all rows."""

    name: str
    """The name of the target whose turn it was; empty where there is only one, or none."""
    nearness: float
    """The mean of the kernel with the rows of the target, or of the pool: `parts` sum to it."""
    novelty: float
    """What the pick gains for being unlike earlier picks; with `nearness` it is the gain."""
    rows: tuple[Neighbour, ...]
    """The nearest rows of the target, at most three: `row` counts in the target, and is no row of the pool. Without a
    target there are none."""


@dataclass(frozen=True)
class RunnerUp:
    """Hold the row that a pick was chosen over: the one with the next largest score at that step."""

    row: int
    """The row of the pool."""
    gain: float
    """What it would have gained."""
    difference: float
    """How much larger the pick's score is: its gain, times its quality or divided by its cost where these count."""


@dataclass(frozen=True)
class Reason:
    """Hold why a row was picked."""

    pick: int
    """The position of the pick, from 0 on: the row of the subset."""
    row: int
    """The row of the pool."""
    method: str
    """The method that picked it."""
    kind: str
    """What decided: "distribution" or "coverage" of features, "nearness" to all rows or a target, "similarity" of
    vectors, "length" or "chance"; "earlier" for a row of `must_include` or `extend`, "filler" for one that adds
    nothing, "own" for a method of your own."""
    gain: float
    """The gain, as the selection has it."""
    parts: tuple[Part, ...]
    """What the gain is the sum of, the largest first; at most `most`. Empty where it is no sum over features. Of a
    method that decides by nearness to a target, what `aim.nearness` is the sum of."""
    n_parts: int
    """The number of all features that add to the gain."""
    nearest: Neighbour | None
    """The nearest earlier pick, where the method compares rows with each other."""
    n_nearer: int | None
    """The rows that are nearer to this pick than to any earlier one, where the method compares vectors."""
    covered: float | None
    """The share of the row's features that earlier picks had, where the method has a limit for it."""
    stands_for: tuple[Neighbour, ...]
    """The rows of the pool that belong to this pick and no other, the nearest five."""
    n_stands_for: int
    """The number of all these rows."""
    runner_up: RunnerUp | None
    """What it was chosen over; None where the method has no scores, nothing was left, or see `unknown`."""
    tokens: int
    """The number of tokens of the row."""
    rank: int | None
    """Its rank by length, from 1 on, where length decided."""
    source: str
    """Of an earlier row: the argument that brought it, `must_include` or `extend`; else empty."""
    score: str = "gain"
    """What was compared, in words: "gain", or "gain times quality", "gain per token" and the like."""
    unknown: str = ""
    """Why nobody knows what it was chosen over, where the method has scores and another row may have been left."""
    has_target: bool = False
    """Whether the rows were selected towards a target."""
    lacks_target: bool = False
    """Whether this target is not at hand, so that nobody knows what the gain is made of."""
    aim: Aim | None = None
    """How near the row is to the target, or to all rows, where the method decides by it."""
    is_apart: bool = False
    """Whether the row shares no feature that counts with the target."""
    text: str = ""
    """The row as the model read it; empty if it was not read again."""

    def __str__(self) -> str:
        return _sentences(self)

    def _repr_html_(self) -> str:
        return _html(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the reason as JSON values.

        Returns:
            `dict`: The fields of this class, and `sentence`.
        """
        return {**plain(asdict(self)), "sentence": str(self)}


def _sentences(reason: Reason) -> str:
    """Return a reason as one to three sentences, on one line and without control characters."""
    text = f"Pick {reason.pick}, row {reason.row}: {cause(reason)}."
    if reason.runner_up is not None:
        text += f" {runner_up(reason.runner_up, reason.score)}"
    elif reason.unknown:
        text += f" What it was chosen over is not known: {reason.unknown}."
    if reason.n_stands_for:
        nearest, is_one = reason.stands_for[0], reason.n_stands_for == 1
        rows = "1 row of the pool is" if is_one else f"{reason.n_stands_for:,} rows of the pool are"
        first = f"row {nearest.row}," if is_one else f"the nearest, row {nearest.row},"
        text += (
            f" {rows} more like it than like any other pick ({first} has a similarity of {nearest.similarity:.2f})."
        )
    return clean(text)


def runner_up(other: RunnerUp, score: str) -> str:
    """Say what a pick was chosen over; `score` says in words what was compared."""
    if not other.difference:
        return f"Row {other.row} had the same score, and came later in the order of equal rows."
    what = "its score" if score == "gain" else f"its score, {score},"
    return (
        f"The next best row, {other.row}, would have gained {other.gain:.4g}; {what} was lower by "
        f"{other.difference:.2g}."
    )


def title(part: Part) -> str:
    """Return number and name of a feature, such as `#551 concentration`."""
    return f"#{part.feature} {part.name}".rstrip()


def cause(reason: Reason, with_parts: bool = True) -> str:
    """Say what decided, by the kind of the reason; without the names of parts where these are shown beside it."""
    match reason.kind:
        case "earlier":
            return f"picked before the method began, as a row of `{reason.source}`" + _also(reason)
        case "filler":
            apart = "it shares no feature that counts with the target"
            why = apart if reason.is_apart else "no row that was left had a score above 0"
            return f"it fills the budget: {why}" + _also(reason)
        case "own":
            return f"picked by `{reason.method}`, a method of your own, with a gain of {reason.gain:.4g}"
        case "length":
            rank = f"rank {reason.rank:,} of the pool by length"
            return f"picked for its {reason.tokens:,} tokens, {rank}" + _also(reason)
        case "chance":
            return "drawn at random" + _also(reason)
        case "distribution" | "nearness" | "coverage" if reason.lacks_target:
            return f"picked towards a target, which is not at hand, with a gain of {reason.gain:.4g}"
        case "distribution":
            return _by_distribution(reason, with_parts)
        case "nearness":
            return _by_nearness(reason, with_parts)
        case "similarity":
            return _by_similarity(reason)
    return _by_coverage(reason, with_parts)


def _by_distribution(reason: Reason, with_parts: bool) -> str:
    whose, gain = "target" if reason.has_target else "pool", _gain(reason, with_parts)
    return f"it brings the picks' distribution of features nearer to the {whose}'s, with {gain}"


def _by_coverage(reason: Reason, with_parts: bool) -> str:
    if reason.method == "concave":
        return f"a feature adds the more, the fewer picks have it, and it has {_gain(reason, with_parts)}"
    of_target = " of the target" if reason.has_target else ""
    text = f"it has {_count(reason.n_parts)}{of_target} that no earlier pick of the round has"
    largest = f"; {_largest(reason)}" if with_parts else ""
    if reason.parts and (reason.parts[0].gain != reason.parts[-1].gain or reason.gain != reason.n_parts):
        text += f", with a gain of {reason.gain:.4g}{largest}"
    elif reason.parts and with_parts:
        which = "the strongest" if _is_in_order(reason) else "among them"
        text += f", {which} {named_parts(reason.parts, False)}"
    if not reason.covered:
        return text
    if reason.nearest is not None:
        text += f"; row {reason.nearest.row}, the pick most like it, has {reason.covered:.0%} of its features"
    else:
        text += f"; earlier picks have {reason.covered:.0%} of its features"
    return text


def _by_nearness(reason: Reason, with_parts: bool) -> str:
    aim = reason.aim
    assert aim is not None
    whose = f"the target “{one_line(aim.name, NAME_LETTERS)}”, whose turn it was" if aim.name else "the target"
    where, rows = (f"it is near {whose}: ", "the rows of the target") if reason.has_target else ("", "all rows")
    first = " (there are none)" if reason.pick == 0 else ""
    text = (
        f"{where}of its gain of {reason.gain:.4g}, {aim.nearness:.4g} is for being near {rows} (its mean kernel with "
        f"them), and {aim.novelty:.4g} for being unlike earlier picks{first}"
    )
    if with_parts and reason.parts:
        text += f"; {_largest(reason, 'of the kernel ')}"
    if aim.rows:
        nearest = aim.rows[0]
        text += f"; row {nearest.row} of the target is nearest, with a cosine of {nearest.similarity:.2f}"
    return text


def _by_similarity(reason: Reason) -> str:
    nearest = reason.nearest
    if reason.n_nearer is None:
        return f"picked by the similarity of vectors, which are not at hand, with a gain of {reason.gain:.4g}"
    near = (
        "nothing was picked before it"
        if nearest is None
        else f"the nearest earlier pick is row {nearest.row}, with a cosine of {nearest.similarity:.2f}"
    )
    if reason.method == "kcenter" and reason.score != "gain":
        score = reason.score.replace("gain", "distance")
        return f"of the rows that could be picked it had the largest score, {score}: {near}"
    if reason.method == "kcenter":
        far = "was farther from all earlier picks" if nearest else "comes before it in the order of equal rows"
        return f"no row that could be picked {far}: {near}"
    if reason.method == "repr_filter":
        return f"it was first in order of those not too similar to any pick of the round: {near}"
    return f"{reason.n_nearer:,} rows are nearer to it than to any earlier pick; {near}"


def _also(reason: Reason) -> str:
    """Say how many features the row adds, where the method counts the new ones."""
    method = METHODS.get(reason.method)
    if not reason.n_parts or reason.method == "concave" or (method is not None and method.decides_by_shares):
        return ""
    return f"; it adds {_count(reason.n_parts)} that no earlier pick{_of_round(reason)} has"


def _of_round(reason: Reason) -> str:
    return "" if reason.method in ("longest", "random") else " of the round"


def _count(features: int) -> str:
    return f"{features:,} feature{'s' * (features != 1)}"


def _gain(reason: Reason, with_parts: bool) -> str:
    """Say how large the gain is, and what it is made of."""
    spread = f", spread over {_count(reason.n_parts)}" if reason.n_parts > NAMED else ""
    largest = f"; {_largest(reason)}" if with_parts else ""
    return f"a gain of {reason.gain:.4g}{spread}{largest}"


def _largest(reason: Reason, of: str = "") -> str:
    """Name the largest parts, `of` what they are, and the largest that has a name where none of these has one."""
    text = f"the largest parts {of}".rstrip() + f" are {named_parts(reason.parts, with_share=True)}"
    first = next((part for part in reason.parts if part.name), None)
    if first is not None and not any(part.name for part in shown_parts(reason.parts)):
        text += f", and the largest with a name is {title(first)} ({first.share:.1%})"
    return text


def named_parts(parts: Sequence[Part], with_share: bool) -> str:
    """Name the parts that `shown_parts` returns."""
    names = [title(part) + (f" ({part.share:.1%})" if with_share else "") for part in shown_parts(parts)]
    return ", ".join(names[:-1]) + " and " * (len(names) > 1) + names[-1] if names else "of no feature"


def shown_parts(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Return the parts that a sentence names: the largest first, and of equal ones those that have names."""
    return tuple(sorted(parts, key=lambda part: (-part.gain, not part.name)))[:NAMED]


def _is_in_order(reason: Reason) -> bool:
    return shown_parts(reason.parts) == reason.parts[:NAMED]


def _html(reason: Reason) -> str:
    """Return a reason as HTML: the sentences, a table of the parts, and the text with what fires marked."""
    parts = [f"<p>{escape(str(reason))}</p>"]
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


def plain(value: Any) -> Any:
    """Return nested values with lists for tuples, and None for what JSON cannot hold."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
