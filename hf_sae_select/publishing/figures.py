"""Figures of a card: its tables. They follow from the record alone, so that `verify` can check them.

Another form of a table is another version of the record: `verify` looks for the tables of the current version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .._cards import code, escaped
from .._secrets import masked
from ..concepts.measurement import QUANTILES, measures_of
from ..concepts.target_facts import distances_of, lines_of
from ..features.shares import likeness_text

COMPARED = ("subset", "random")
ROWS = {"pool": "all rows", "subset": "this subset", "random": "random", "longest": "longest"}


def tables(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables of a card, in Markdown: "likeness", "coverage", "lengths", "target", "distances"
    and "quotas", where known.
    """
    coverage, shown = record["coverage"], {}
    target = record.get("target")
    measures = measures_of(record["selection"]["method"], target is not None)
    if coverage is not None:
        if "likeness" in measures and record["likeness"] is not None:
            shown["likeness"] = _likeness(record["likeness"], coverage)
        if "coverage" in measures:
            shown["coverage"] = _coverage(coverage)
        shown["lengths"] = _lengths(coverage)
    if target is not None:
        shown["target"] = _target(record["selection"]["parameters"]["target"])
        if lines := distances_of(target["measured"], target["untargeted"]):
            shown["distances"] = _table(["", "distance in features", "distance by the kernel"], lines)
    if record["quotas"]:
        shown["quotas"] = "\n".join(map(_quota, record["quotas"]))
    return shown


def splits_table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of a card of several splits: the rows of each, and what they are worth, where it is known."""
    lines = []
    for split, record in records.items():
        coverage, likeness, source = record["coverage"], record["likeness"] or {}, record["source"]["rows"]
        alike = [likeness_text(likeness[rows]) if likeness.get(rows) is not None else "" for rows in COMPARED]
        share = "" if coverage is None else f"{coverage['subset']['share']:.1%}"
        rows = [f"{record['selection']['rows']:,}", "" if source is None else f"{source:,}"]
        lines.append([code(split), *rows, code(record["selection"]["method"]), *alike, share])
    head = ["split", "rows", "of", "method", "likeness to all rows", "likeness of `random`", "share of all features"]
    return _table(head, lines)


def cell(value: Any) -> str:
    """Return a value for a cell of a table, shortened if it is long."""
    text = masked(json.dumps(value, ensure_ascii=False))
    return escaped(text) if len(text) <= 100 else f"{escaped(text[:100])} … (in full in provenance.json)"


def _table(head: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    names = list(head)
    rows = [names, ["---"] * len(names), *lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _likeness(likeness: Mapping[str, float | None], coverage: Mapping[str, Any]) -> str:
    lines = (
        [name, f"{coverage[rows]['rows']:,}", "" if likeness[rows] is None else likeness_text(likeness[rows])]
        for rows, name in ROWS.items()
        if rows != "pool"
    )
    return _table(["", "rows", "likeness to all rows"], lines)


def _coverage(coverage: Mapping[str, Any]) -> str:
    lines = []
    for rows, name in ROWS.items():
        figures = coverage[rows]
        counts = [f"{figures['rows']:,}", f"{figures['features']:,}", f"{figures['share']:.1%}"]
        saturated_at = figures["saturated_at"] if rows != "pool" else None
        lines.append([name, *counts, _mean(figures["richness"]), f"{saturated_at:,} rows" if saturated_at else ""])
    head = ["", "rows", "features", "share of all features", "features per row", "all features covered after"]
    return _table(head, lines)


def _lengths(coverage: Mapping[str, Any]) -> str:
    lines = []
    for rows, name in ROWS.items():
        quantiles = coverage[rows]["length_quantiles"]
        lines.append([name, *(f"{quantiles.get(q, 0):,}" for q in QUANTILES), _mean(coverage[rows]["tokens"])])
    return _table(["tokens per row", *QUANTILES, "mean"], lines)


def _target(parts: Sequence[Mapping[str, Any]]) -> str:
    lines = ([escaped(name), rows, share, code(digest)] for name, rows, share, digest in lines_of(parts))
    return _table(["target", "rows", "share of the budget", "SHA-256 of their features"], lines)


def _quota(counts: Mapping[str, Any]) -> str:
    items = [(cell(item["value"]), item) for item in counts["values"]]
    if others := counts["others"]:
        items.append((f"{others['values']:,} other value{'' if others['values'] == 1 else 's'}", others))
    pool, subset = (sum(item[rows] for _, item in items) for rows in ("pool", "subset"))
    lines = ([name, *_share(item["pool"], pool), *_share(item["subset"], subset)] for name, item in items)
    return _table([code(counts["column"]), ROWS["pool"], "share", ROWS["subset"], "share"], lines)


def _share(rows: int, total: int) -> tuple[str, str]:
    return f"{rows:,}", f"{rows / total:.1%}" if total else ""


def _mean(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"
