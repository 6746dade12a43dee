"""Contents of a report: what its template shows and its script reads, of a subset or of a selection alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from ..features.duplicates import Duplicates, duplicates
from ..sae.labels import Labels
from ..selection.attachment import pool_of, selection_of
from ..selection.methods import METHODS
from ..selection.result import Selection
from ..selection.trace import Trace
from . import charts, summary
from .evidence import Reason
from .explanation import Source, with_spans
from .measurement import Measured, count_quotas, measure
from .neighbours import Neighbours, compares_vectors
from .page import quoted
from .payload import PARTS as MOST_PARTS
from .payload import REASON_LETTERS, excerpt, features_data, fitted, holders_data, neighbours_of, picks_data
from .reasons import reasons_of
from .repetition import Repetition
from .representation import representation
from .summary import Table
from .texts import Texts

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource

Contents = tuple[dict[str, Any], dict[str, Any]]

PACKAGES = ("hf-sae-select", "datasets", "numpy", "torch", "transformers")
SECTIONS = {
    "summary": "Summary",
    "target": "Target",
    "charts": "Pick by pick",
    "features": "Features",
    "picks": "Picks",
    "groups": "Rows that picks stand for",
    "quotas": "Quotas, before and after",
    "record": "How it was made",
}
PARTS = {"all": "All", "over": "Over-represented", "under": "Under-represented", "missing": "Missing"}
MOST_GROUPS = 20
RUNNERS_UP = 200  # picks, the first ones, of which the page says what they were chosen over


def short_contents(selection: Selection, picks: int, labels: Labels | None) -> Contents:
    """Return the contents of the report of a selection whose rows are not known."""
    note = (
        "The features of the rows that these were selected from are not at hand, so this report is short: it shows "
        "what the selection records. Of a subset of an encoded dataset it also shows features, texts and reasons."
    )
    table = summary.picks_table(selection, picks)
    return (
        _values(
            selection,
            None,
            labels,
            notes=[note],
            pick_table=table if table.rows else None,
            pick_notes=_left_out(len(table.rows), selection),
        ),
        {"picks": [], "features": [], "rows": {}, "charts": {}},
    )


def full_contents(
    subset: Dataset,
    *,
    labels: Labels | None,
    sae: SaeSource | None,
    text: TextSource | None,
    spans: int,
    picks: int,
) -> Contents:
    """Return the contents of the report of a subset whose pool is encoded."""
    selection, pool = selection_of(subset), pool_of(subset)
    assert pool is not None
    dataset = pool.columns
    measured = measure(dataset, selection, ("likeness", "coverage"))
    source = Source.of(subset, None, None)
    trace = source.trace(None if _reads_vectors(selection) else measured.features)
    by_vectors = compares_vectors(trace)
    why = _reasons(trace, range(min(picks, len(selection))), labels)
    why = with_spans(why[:spans], source, sae, text) + why[spans:]
    texts = Texts.of(pool, text)
    shares = representation(measured.features, selection.indices, measured.rows["pool"], labels=labels)
    same = duplicates(measured.read, selection.indices, measured.rows["pool"])
    features, drawn = features_data(shares.features, labels, why), _charts(measured)
    data = fitted(
        {
            "picks": picks_data(why, texts.of_rows([reason.row for reason in why if not reason.text])),
            "features": features,
            "rows": {row: excerpt(text) for row, text in texts.of_rows(neighbours_of(why)).items()},
            "charts": {chart["id"]: chart["spec"] for chart in drawn},
            "holders": holders_data(measured.features, selection.indices[:picks]),
        }
    )
    is_read = [bool(reason.text) for reason in why]
    if spans and why and not any(is_read):
        texts.problems.append(
            "The model did not read any pick again, so the tokens that features fire on are not marked."
        )
    values = _values(
        selection,
        measured,
        labels,
        notes=summary.notes_of(selection, measured),
        warnings=[*summary.warnings_of(selection, measured, same), *map(quoted, texts.problems)],
        charts=drawn,
        parts=_parts(features),
        feature_note=_feature_note(labels, len(features)),
        n_picks=len(why),
        pick_notes=_pick_notes(selection, data),
        has_labels=labels is not None,
        has_spans=any(is_read),
        has_words=labels is not None and not all(is_read),
        group_note=_group_note(by_vectors),
        group_tables=_groups(why, data["picks"], same),
        quotas=summary.quota_tables(count_quotas(dataset, selection)),
    )
    return values, data


def _reads_vectors(selection: Selection) -> bool:
    """Tell whether a selection compared vectors, which the measured features lack."""
    method = METHODS.get(selection.method)
    return selection.parameters["cuts"].get("embedding") is not None or (method is not None and method.needs_vectors)


def _reasons(trace: Trace, picks: Sequence[int], labels: Labels | None) -> list[Reason]:
    """Return the reasons of picks; of the first ones also what they were chosen over, which takes longest."""
    neighbours = Neighbours.of(trace)
    parts = ((picks[:RUNNERS_UP], True), (picks[RUNNERS_UP:], False))
    return [
        reason
        for part, runners_up in parts
        if len(part)
        for reason in reasons_of(
            trace, part, labels=labels, most=MOST_PARTS, runners_up=runners_up, neighbours=neighbours
        )
    ]


def _values(selection: Selection, measured: Measured | None, labels: Labels | None, **parts: Any) -> dict[str, Any]:
    """Return what the template shows; `parts` beside what every report has."""
    versions = [[name, number] for name in PACKAGES if (number := _version(name))]
    values: dict[str, Any] = {
        "summary": summary.sentences(selection, measured),
        "facts": summary.facts(selection, measured),
        "figures": None if measured is None else summary.figures_table(measured),
        "warnings": summary.warnings_of(selection, measured, None),
        "parameters": summary.parameters_table(selection),
        "versions": Table("This report was made with", ["package", "version"], versions, is_numeric=False),
        "repeat": Repetition(selection),
        "pick_table": None,
        "group_note": "",
        "target_tables": summary.target_tables(selection),
        "target_notes": summary.target_notes(selection, labels),
        "has_labels": False,
        "has_spans": False,
        "has_words": False,
        "n_picks": 0,
        "feature_note": "",
    }
    values |= {name: [] for name in ("notes", "charts", "parts", "pick_notes", "group_tables", "quotas")} | parts
    shown = {"charts": values["charts"], "features": values["parts"], "target": values["target_tables"]}
    shown |= {"picks": values["n_picks"] or values["pick_table"]}
    shown |= {"groups": values["group_tables"], "quotas": values["quotas"]}
    return values | {"sections": [(name, title) for name, title in SECTIONS.items() if shown.get(name, True)]}


def _charts(measured: Measured) -> list[dict[str, Any]]:
    """Return each chart with its description, and its numbers as a table."""
    tokens = {name: measured.features.tokens[rows] for name, rows in measured.rows.items()}
    total = measured.figures["pool"]["features"]
    drawn = [
        ("likeness", "Likeness to all rows", charts.likeness_curve(measured.curves["likeness"]), "likeness"),
        ("coverage", "Features covered", charts.coverage_curve(measured.curves["coverage"], total), "coverage"),
        ("lengths", "Tokens of a row", charts.lengths(tokens), None),
    ]
    return [
        {
            "id": name,
            "title": title,
            "sentence": summary.chart_sentence(name, measured),
            "spec": _on_page(chart),
            "table": summary.lengths_table(measured) if curve is None else summary.curves_table(measured, curve),
        }
        for name, title, chart, curve in drawn
    ]


def _on_page(chart: Any) -> dict[str, Any]:
    """Return the description of a chart as wide as its place on the page, which has its title."""
    description: dict[str, Any] = chart.properties(width="container", height=220).to_dict()
    del description["title"]
    description["config"]["legend"] |= {"orient": "top", "columns": 3}
    return description


def _parts(features: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """Return the parts of the table of features, with their sizes."""
    sizes = {part: sum(feature[6] == part for feature in features) for part in PARTS} | {"all": len(features)}
    return [{"id": part, "name": name, "count": f"{sizes[part]:,}"} for part, name in PARTS.items()]


def _feature_note(labels: Labels | None, n_features: int) -> str:
    note = (
        f"All rows together have {n_features:,} features. Lift is the share of picks that have a feature, divided by "
        "the share of all rows. Over- and under-represented are those that random picks would hardly have so often "
        "or so seldom; missing are those that no pick has."
    )
    if labels is None:
        return f"{note} There are no labels for this autoencoder, so its features are numbers."
    return (
        f"{note} The score of a label says how well it predicts the feature on other text: 0.5 is chance, 1 is best."
    )


def _pick_notes(selection: Selection, data: Mapping[str, Any]) -> list[str]:
    """Return what the list of picks leaves out."""
    notes, picks = (
        ["In the order they were picked; the numbers are those of the subset's rows, from 0 on."],
        data["picks"],
    )
    notes += _left_out(len(picks), selection)
    if any("over" in pick for pick in picks[:RUNNERS_UP]):
        notes += _score(selection)
        if len(picks) > RUNNERS_UP:
            notes.append(f"What a pick was chosen over is shown for the first {RUNNERS_UP:,}.")
    if cut := [pick["cut"] for pick in picks if "cut" in pick]:
        notes.append(f"{len(cut):,} long texts are cut, by {sum(cut):,} characters together, to keep the file small.")
    if letters := data.get("letters"):
        notes.append(
            f"Names of features and texts of neighbours are cut to {letters} characters, and reasons to "
            f"{REASON_LETTERS * letters}, and fewer words of names are marked, to keep the file small."
        )
    if strongest := data["holders"]["strongest"]:
        notes.append(f"A filter by a feature finds the picks that have it among their {strongest:,} strongest.")
    return notes


def _group_note(by_vectors: bool) -> str:
    kind = "vectors" if by_vectors else "features"
    return (
        f"A pick stands for the rows of the pool that are nearer to it, by their {kind}, than to any other pick. "
        "Near-duplicates have almost the same features."
    )


def _left_out(n_picks: int, selection: Selection) -> list[str]:
    if n_picks == len(selection):
        return []
    first = "Of" if not n_picks else f"The first {n_picks:,} of"
    return [f"{first} {len(selection):,} picks {'none is' if not n_picks else 'are'} here."]


def _score(selection: Selection) -> list[str]:
    """Say what the score of a row is, where it is not its gain."""
    constraints = selection.parameters["constraints"]
    factors = []
    if constraints.get("quality"):
        factors.append(f"times its quality, column “{constraints['quality']}”")
    if constraints.get("per_token"):
        factors.append(f"divided by its tokens to the power of {constraints['per_token']:g}")
    method = METHODS.get(selection.method)
    if constraints.get("cost") and method is not None and method.runs_by_cost(selection.parameters["options"]):
        factors.append(f"divided by its cost, “{constraints['cost']}”, if that order of picks had the larger gain")
    return [f"The score of a row is its gain, {', and '.join(factors)}."] if factors else []


def _groups(why: Sequence[Reason], picks: Sequence[Mapping[str, Any]], same: Duplicates) -> list[Table]:
    """Return the picks that stand for the most rows, those with the most near-duplicates, and groups of picks."""
    texts = {reason.row: excerpt(pick["text"]) for reason, pick in zip(why, picks, strict=True)}
    place = {reason.row: reason.pick for reason in why}
    stand_for = sorted((reason for reason in why if reason.n_stands_for), key=lambda reason: -reason.n_stands_for)
    largest = [
        [
            texts[reason.row],
            f"{reason.n_stands_for:,}",
            f"{reason.stands_for[0].similarity:.2f}",
            {"pick": reason.pick},
        ]
        for reason in stand_for[:MOST_GROUPS]
    ]
    counts = [(len(same.of(reason.pick)), reason) for reason in why]
    repeated = [
        [texts[reason.row], f"{count:,}", {"pick": reason.pick}]
        for count, reason in sorted(counts, key=lambda pair: -pair[0])[:MOST_GROUPS]
        if count
    ]
    groups = [[row for row in group if row in place] for group in same.groups]
    among = [
        [texts[group[0]], f"{len(group):,}", *({"pick": place[row]} for row in group[:2])]
        for group in groups[:MOST_GROUPS]
        if len(group) > 1
    ]
    tables = [
        Table("Picks that stand for the most rows of the pool", ["text", "rows", "nearest", "pick"], largest),
        Table("Picks with the most near-duplicates among all rows", ["text", "near-duplicates", "pick"], repeated),
        Table("Picks that are near-duplicates of each other", ["text", "picks", "first", "second"], among),
    ]
    return [table for table in tables if table.rows]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
