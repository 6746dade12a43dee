"""Summary of a selection in plain words: sentences, figures, warnings and tables, for the report."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..features.duplicates import Duplicates
from ..features.shares import likeness_text
from ..sae.labels import Labels
from ..selection.concept_rules import described
from ..selection.methods import METHODS
from ..selection.result import Selection
from .measurement import QUANTILES, Measured, likens_what_it_read
from .target_facts import (
    DISTANCES,
    MEANING,
    NOT_HELP,
    distances_of,
    lines_of,
    missing_sentence,
    overlap_sentence,
    summary_of,
)

NAMES = {"subset": "this subset", "random": "random rows", "longest": "the longest rows", "pool": "all rows"}
FLAGS = {
    "refused": "the chat template refused the row, which was written in another way",
    "left_out": "the chat template left out words of a turn",
    "unknown": "the tokenizer knows less than half of the tokens",
}


@dataclass(frozen=True)
class Table:
    """Hold a table of a report; the first cell of a row is its heading."""

    caption: str
    columns: list[str]
    rows: list[list[Any]]
    """The cells, as texts; `{"pick": position}` becomes a button that shows a pick."""
    is_numeric: bool = True
    marked: int = -1
    """The row that stands out; -1 for none."""


_STRONGEST_COUNT = "; the 256 strongest features of a row count"
LONGER = 1.25  # times the pool's mean: from there on a warning
MOST_CHARACTERS = 120  # of a value in a table


def title_of(selection: Selection) -> str:
    """Return such as "300 of 4,000 rows"."""
    return f"{_rows(len(selection), selection.pool_rows)}"


def sentences(selection: Selection, measured: Measured | None) -> list[str]:
    """Return how the rows were selected, and how they compare, in a few sentences."""
    method = METHODS.get(selection.method)
    if method is None:
        lines = [f"The method “{selection.method}” is the author's own."]
    else:
        lines = [f"The method “{selection.method}” {summary_of(selection.method, 'target' in selection.parameters)}."]
    if measured is not None:
        lines.append((_distance(selection) or _likeness(measured)) + _coverage(measured))
    return lines


def baselines(measured: Measured) -> list[str]:
    """Return the baselines, but for one whose rows the subset has: a subset is not compared with itself."""
    picked = measured.rows["subset"]
    return [name for name in ("random", "longest") if not np.array_equal(measured.rows[name], picked)]


def _distance(selection: Selection) -> str:
    distances = {name: distance for name, distance, _ in distances_of(selection.target)}
    if not distances:
        return ""
    own = distances.pop(NAMES["subset"])
    return (
        f"The distance of the picks to the target is {own}{_beside([' '.join(line) for line in distances.items()])}. "
    )


def _likeness(measured: Measured) -> str:
    likeness = measured.likeness or {}
    if not likeness or None in likeness.values():
        return ""
    others = [f"{_name(measured, name)} {likeness_text(likeness[name])}" for name in baselines(measured)]
    return (
        f"The picks are as like all rows as {measured.random_rows['subset']:,.0f} random rows: their likeness is "
        f"{likeness_text(likeness['subset'])}{_beside(others)}. "
    )


def _coverage(measured: Measured) -> str:
    subset, pool = measured.figures["subset"], measured.figures["pool"]
    others = [f"{_name(measured, name)} {measured.figures[name]['share']:.1%}" for name in baselines(measured)]
    return (
        f"They have {subset['features']:,} of the {pool['features']:,} features of all rows, {subset['share']:.1%}"
        f"{_beside(others)}, in {_tokens(measured, 'subset'):,} tokens."
    )


def _name(measured: Measured, name: str) -> str:
    """Return such as "300 random rows have": under a budget of costs the baselines have another number of rows."""
    rows = len(measured.rows[name])
    return f"{'the ' * (name == 'longest')}{rows:,} {name} row{'s have' if rows != 1 else ' has'}"


def _beside(others: list[str]) -> str:
    return f" ({', '.join(others)})" if others else ""


def notes_of(selection: Selection, measured: Measured) -> list[str]:
    """Explain what the figures are of: a feature, the likeness, and baselines that are the picks themselves."""
    cuts = selection.parameters.get("cuts", {})
    limits = [f"its activation is above {cuts.get('threshold') or 0:.4g}"]
    if cuts.get("top"):
        limits.append(f"it is one of the row's {cuts['top']:,} strongest")
    if cuts.get("max_share"):
        limits.append(f"no more than {cuts['max_share']:.4g} of all rows have it")
    notes = [
        "A feature is a direction in the hidden states of the language model, which the autoencoder has learned. On "
        f"this page a row has a feature if {' and '.join(limits)}: as the selection was made."
    ]
    if measured.likeness:
        notes.append(
            "Likeness is 1 where rows have each feature as often and as strongly as all rows, and 0 where they have "
            f"none of theirs{'' if likens_what_it_read(selection.method) else _STRONGEST_COUNT}. More rows are more "
            "alike, so it stands beside the likeness of random rows. These are one draw; how many random rows are as "
            "like as the picks is a mean of several draws."
        )
    for name in ("random", "longest"):
        if name not in baselines(measured):
            notes.append(f"In tables and charts, “{NAMES[name]}” are the picks themselves.")
    return notes


def _tokens(measured: Measured, name: str) -> int:
    return int(measured.features.tokens[measured.rows[name]].sum(dtype=np.int64))


def facts(selection: Selection, measured: Measured | None) -> list[dict[str, Any]]:
    """Return the large figures at the top."""
    share = f"{len(selection) / selection.pool_rows:.1%} of all rows" if selection.pool_rows else ""
    result = [_fact("rows picked", f"{len(selection):,}", share)]
    if measured is None:
        if selection.pool_coverage and len(selection.covered):
            covered = int(selection.covered[-1])
            line = f"{covered:,} of {selection.pool_coverage:,}"
            result.append(_fact("features covered", f"{covered / selection.pool_coverage:.1%}", line))
        return [*result, _fact("sum of gains", f"{selection.gain:,.6g}", "in the method's own measure")]
    figures, likeness = measured.figures, measured.likeness or {}
    if distances := {name: distance for name, distance, _ in distances_of(selection.target)}:
        own = distances.pop(NAMES["subset"])
        result.append(_fact("distance to the target", own, *map(" ".join, distances.items())))
    elif likeness.get("subset") is not None:
        lines = [f"{name} {likeness_text(likeness[name])}" for name in baselines(measured)]
        lines.append(f"as like as {measured.random_rows['subset']:,.0f} random rows")
        result.append(_fact("likeness to all rows", likeness_text(likeness["subset"]), *lines))
    lines = [f"{name} {figures[name]['share']:.1%}" for name in baselines(measured)]
    result.append(_fact("features covered", f"{figures['subset']['share']:.1%}", *lines))
    means = f"{figures['subset']['tokens'] or 0:,.0f} a row; all rows {figures['pool']['tokens'] or 0:,.0f}"
    return [*result, _fact("tokens", f"{_tokens(measured, 'subset'):,}", means)]


def figures_table(measured: Measured) -> Table:
    """Return the table of the subset beside the baselines and all rows."""
    rows, likeness = [], {"pool": 1.0, **measured.likeness} if measured.likeness else {}
    for name in ("subset", "random", "longest", "pool"):
        figures = measured.figures[name]
        cells = [
            NAMES[name],
            f"{figures['rows']:,}",
            likeness_text(likeness.get(name)),
            _number(measured.random_rows.get(name), ",.0f"),
            _number(figures["tokens"], ",.1f"),
            _number(figures["redundancy"], ".3f"),
            f"{figures['features']:,}",
            f"{figures['share']:.1%}",
            _number(figures["richness"], ",.1f"),
            f"{_tokens(measured, name):,}",
        ]
        rows.append(cells)
    columns = ["", "rows", "likeness", "as random rows", "tokens a row", "redundancy"]
    columns += ["features", "share", "features a row", "tokens"]
    caption = (
        "Random and longest rows have the same budget and constraints. As random rows: so many random rows are as "
        "like all rows. Redundancy: how much two rows share."
    )
    return Table(caption, columns, rows, marked=0)


def lengths_table(measured: Measured) -> Table:
    """Return the quantiles of the rows' tokens."""
    rows = [
        [NAMES[name], *(f"{length:,}" for length in measured.figures[name]["length_quantiles"].values())]
        for name in NAMES
    ]
    return Table("Tokens of a row", ["", *QUANTILES], rows, marked=0)


def curves_table(measured: Measured, curve: str, points: int = 10) -> Table:
    """Return a curve at a few picks."""
    curves = measured.curves[curve]
    most = max(map(len, curves.values()), default=0)
    picks = np.unique(np.linspace(1, most, min(points, most)).round().astype(int)).tolist()
    form = likeness_text if curve == "likeness" else "{:,}".format
    rows = [
        [f"{pick:,}", *(form(values[pick - 1]) if pick <= len(values) else "-" for values in curves.values())]
        for pick in picks
    ]
    columns = ["picks", *(NAMES[name] for name in curves)]
    return Table("After so many picks", columns, rows)


def chart_sentence(name: str, measured: Measured) -> str:
    """Say in words what a chart shows."""
    figures = measured.figures
    if name == "lengths":
        medians = {part: figures[part]["length_quantiles"].get("median", 0) for part in NAMES}
        return "Median: " + ", ".join(f"{NAMES[part]} {median:,} tokens" for part, median in medians.items()) + "."
    names = ("subset", *baselines(measured))
    likeness = measured.likeness or {}
    ends = {part: likeness.get(part) if name == "likeness" else figures[part]["share"] for part in names}
    form = likeness_text if name == "likeness" else "{:.1%}".format
    values = ", ".join(f"{NAMES[part]} {form(end)}" for part, end in ends.items())
    return f"With all picks: {values}."


def warnings_of(selection: Selection, measured: Measured | None, duplicates: Duplicates | None) -> list[str]:
    """Return what a reader should know before the rows are used."""
    lines = []
    if measured is not None:
        lines += _blank(measured) + _lengths(measured)
    flagged = selection.parameters.get("encoding", {}).get("rows") or {}
    lines += [f"{count:,} of all rows: {FLAGS.get(name, name)}." for name, count in flagged.items()]
    if duplicates is not None and (repeated := sum(map(len, duplicates.groups))):
        lines.append(f"{repeated:,} picks are near-duplicates of other picks by their features; see the groups.")
    lines += [
        f"{count:,} of all rows: left out by `{reason}`." for reason, count in selection.left_out.items() if count
    ]
    if extend := selection.parameters.get("constraints", {}).get("extend"):
        picks = "pick comes" if extend == 1 else f"{extend:,} picks come"
        lines.append(f"The first {picks} from an earlier selection.")
    return lines


def _blank(measured: Measured) -> list[str]:
    blank = {name: int((measured.features.tokens[measured.rows[name]] == 0).sum()) for name in ("pool", "subset")}
    if not blank["pool"]:
        return []
    return [f"Blank rows: {blank['pool']:,} of all rows, {blank['subset']:,} of the picks."]


def _lengths(measured: Measured) -> list[str]:
    subset, pool = (measured.figures[name] for name in ("subset", "pool"))
    if not subset["tokens"] or not pool["tokens"]:
        return []
    ratio, r = subset["tokens"] / pool["tokens"], pool["length_correlation"]
    if 1 / LONGER < ratio < LONGER:
        return []
    why = f" Over all rows, tokens and features correlate with r = {r:.2f}." if r is not None else ""
    return [
        f"Length: a pick has {subset['tokens']:,.0f} tokens on average, and a row {pool['tokens']:,.0f}: picks are "
        f"{ratio:.2g} times as long as all rows.{why}"
    ]


def parameters_table(selection: Selection) -> Table:
    """Return everything that decided the picks."""
    cells = [["method", selection.method], *_flat(selection.parameters)]
    if selection.fingerprint:
        cells.append(["fingerprint of the dataset", selection.fingerprint])
    rows = [[name, _value(value)] for name, value in cells if value is not None]
    return Table("Parameters", ["name", "value"], rows, is_numeric=False)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[list[Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield [f"{prefix}{name}", described(name, value) or value]


def _value(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}… ({len(text):,} characters)"


def target_tables(selection: Selection) -> list[Table]:
    """Return what the rows were selected towards, and how near they are to it; nothing without a target."""
    parts = lines_of(selection.parameters.get("target", ()))
    columns = ["target", "rows", "share of the budget", "SHA-256 of their features"]
    tables = [Table("The rows were selected to be like the rows of", columns, parts)] if parts else []
    if lines := distances_of(selection.target):
        columns = ["", "in features", "by the kernel"]
        tables.append(Table("Distance to the target", columns, lines, marked=0))
    return tables


def target_notes(selection: Selection, labels: Labels | None) -> list[str]:
    """Return what a reader should know of a selection towards a target."""
    if "target" not in selection.parameters:
        return []
    measured = selection.target
    notes = [DISTANCES] if distances_of(measured) else []
    notes += [missing_sentence(measured, labels), overlap_sentence(measured), MEANING, NOT_HELP]
    return [note for note in notes if note]


def picks_table(selection: Selection, most: int) -> Table:
    """Return the row and the gain of each of the first picks, as the selection has them."""
    gains = zip(selection.indices[:most].tolist(), selection.gains[:most].tolist(), strict=True)
    rows = [[f"{pick:,}", f"{row:,}", f"{gain:.6g}"] for pick, (row, gain) in enumerate(gains)]
    return Table("Picks, in the order they were picked", ["pick", "row", "gain"], rows)


def quota_tables(counts: Iterable[Mapping[str, Any]]) -> list[Table]:
    """Return the rows of each value of the columns of a quota, among all rows and in the subset."""
    tables = []
    for count in counts:
        lines = [(_value(item["value"]), item) for item in count["values"]]
        if others := count["others"]:
            lines.append((f"{others['values']:,} other values", others))
        totals = {name: max(1, sum(item[name] for _, item in lines)) for name in ("pool", "subset")}
        rows = [
            [name, *(cell for part in totals for cell in (f"{item[part]:,}", f"{item[part] / totals[part]:.1%}"))]
            for name, item in lines
        ]
        columns = ["value", "all rows", "share", "picks", "share"]
        tables.append(Table(f"Column “{count['column']}”", columns, rows))
    return tables


def _fact(name: str, value: str, *beside: str) -> dict[str, Any]:
    return {"name": name, "value": value, "beside": [line for line in beside if line]}


def _rows(count: int, total: int) -> str:
    return f"{count:,} of {total:,} rows" if total else f"{count:,} row{'' if count == 1 else 's'}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)
