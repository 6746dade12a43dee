"""Card of a published subset: its metadata, and its text from `templates/subset_card.md`. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from datasets import Dataset
from huggingface_hub.repocard_data import CardData, DatasetCardData

from .._cards import PLAIN, code, escaped, render
from .._secrets import masked
from ..concepts.explanation import explain
from ..concepts.measurement import likens_what_it_read
from ..concepts.reason_table import Reasons
from ..concepts.target_facts import DISTANCES, MEANING, NOT_HELP, missing_sentence, overlap_sentence, summary_of
from ..concepts.texts import Texts
from ..sae.labels import Labels
from ..selection.concept_rules import described
from ..selection.methods import BASELINES, METHODS
from ..selection.result import Selection
from .draft import Draft
from .figures import cell, splits_table, tables
from .layout import LICENCE_FIELDS, REPORT_FILE, configs_of, folder_of
from .licence import as_list
from .part import Part
from .provenance import Record, required_arguments

# Metadata that follow from the source and the rows, so that users cannot set them.
DERIVED = (*LICENCE_FIELDS, "configs", "dataset_info", "source_datasets", "size_categories")
TAGS = ["hf-sae-select", "data-selection", "sparse-autoencoder", "diversity"]
SIZES = {10**3: "1K", 10**4: "10K", 10**5: "100K", 10**6: "1M", 10**7: "10M", 10**8: "100M", 10**9: "1B"}
PICKS, CHARACTERS = 5, 120  # how much of the rows the card shows
ENGLISH_MODELS = ("sentence-transformers/all-MiniLM-L6-v2",)  # models trained on English alone
HUB = "https://huggingface.co"
WEB_PAGE = re.compile("https?://")
SAFE_IN_LINKS = ":/?#@!$&+,;=%~"  # not the brackets and quotes that would end a link


def check_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the user's additional metadata, checked.

    Raises:
        TypeError: If YAML cannot hold them.
        ValueError: If they contain a name that follows from the source and the rows.
    """
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise TypeError(f"`metadata={metadata!r}` must be a mapping from names, such as {{'language': 'en'}}")
    if derived := [name for name in DERIVED if name in metadata]:
        raise ValueError(f"`metadata` has `{derived[0]}`, which follows from the source and the rows; omit it")
    if not isinstance(metadata.get("tags", []), str | list | tuple):
        raise TypeError(f"`metadata` has the tags {metadata['tags']!r}; they must be a list of words")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(metadata)))  # a tuple becomes a list, as YAML needs it
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` holds what YAML cannot: {error}; pass texts, numbers and lists of them"
        ) from error
    return plain


def subset_card(
    records: Mapping[str, Record], parts: Mapping[str, Part], source_card: CardData, metadata: Mapping[str, Any]
) -> str:
    """Return the card of a subset, or of the subsets of several splits.

    Args:
        records: the record of each split; that of a subset without splits is named "".
        parts: what they were made from.
        source_card: the metadata of the source's card.
        metadata: the user's additional metadata.
    """
    values = {split: _values(record, parts[split]) for split, record in records.items()}
    card_data = DatasetCardData(**_metadata(records, source_card, metadata)).to_yaml()
    arguments = {level: _arguments(records, level) for level in ("select", "encode")}
    if "" in values:
        return render("subset_card.md", **values[""], card_data=card_data, arguments=arguments)
    return render(
        "splits_card.md",
        **next(iter(values.values())) | {"by_features": all(one["by_features"] for one in values.values())},
        card_data=card_data,
        arguments=arguments,
        rows=sum(record["selection"]["rows"] for record in records.values()),
        table=splits_table(records),
        splits={split: render("subset_section.md", **one).rstrip() for split, one in values.items()},
    )


def _values(record: Record, part: Part) -> dict[str, Any]:
    """Return what a card shows of a subset."""
    selection, encoding, name = record["selection"], record["encoding"] or {}, record["source"]["dataset"]
    draft, labels, method = part.draft, part.labels, METHODS.get(selection["method"])
    values = {field: record[field] for field in ("source", "encoding", "selection", "coverage", "quotas", "versions")}
    return values | {
        "folder": folder_of(part.split),
        "heading": "###" if part.split else "##",
        "name": escaped(name) if name else "a dataset",
        "linked": _link(name, f"datasets/{name}") if name else "a dataset that is not published",
        "summary": summary_of(selection["method"], record["target"] is not None) if method else "",
        "paper": method.source if method else "",
        "by_features": method is not None and not method.needs_vectors and selection["method"] not in BASELINES,
        "parameters": _parameter_cells(selection["parameters"]),
        "constrained": bool(selection["parameters"]["constraints"].keys() - {"cost"}),
        "sae": _sae(encoding),
        "model": _model(encoding),
        "text": _text(encoding),
        "english": encoding.get("model") in ENGLISH_MODELS,
        "target": _target(record, labels),
        "reasons": _reasons(draft, labels),
        "tables": tables(record),
        "has_report": REPORT_FILE in record["files"],
        "has_pool": draft.pool is not None and draft.pool.codes is not None,
        "needs_vectors": method is not None and method.needs_vectors,
        "likens_what_it_read": likens_what_it_read(selection["method"]),
        "licence": _licence(record["license"], name),
    }


def _metadata(records: Mapping[str, Record], source_card: CardData, metadata: Mapping[str, Any]) -> dict[str, Any]:
    tags = as_list(metadata.get("tags"))
    licence = next(iter(records.values()))["license"]
    values = {
        **{field: value for field, value in licence.items() if field in LICENCE_FIELDS},
        "language": source_card.get("language"),
        "task_categories": as_list(source_card.get("task_categories")) or ["text-generation"],
        **derived_metadata(records),
        "configs": configs_of(records),
        **metadata,
        "tags": TAGS + [tag for tag in tags if tag not in TAGS],
    }
    return {field: value for field, value in values.items() if value is not None}


def derived_metadata(records: Mapping[str, Record]) -> dict[str, Any]:
    """Return the metadata that follow from the records of all splits, beside licence and configs.

    The value is None for one that the card lacks.
    """
    names = [record["source"]["dataset"] for record in records.values() if record["source"]["dataset"]]
    return {
        "size_categories": [size_category(sum(record["selection"]["rows"] for record in records.values()))],
        "source_datasets": list(dict.fromkeys(names)) or None,
    }


def size_category(rows: int) -> str:
    """Return the Hub's size category of a number of rows, such as `1K<n<10K`."""
    low, *_ = [label for size, label in reversed(SIZES.items()) if rows >= size] or [""]
    high = next((label for size, label in SIZES.items() if rows < size), "10B")
    return f"{low}<n<{high}" if low else "n<1K"


def quoted(text: str) -> str:
    """Return the beginning of a text as one line of Markdown, with all markup escaped."""
    words = masked(" ".join(text.split()))  # before a token is cut
    shown = words if len(words) <= CHARACTERS else words[:CHARACTERS].rstrip() + "…"
    return f"“{escaped(shown, PLAIN)}”"


def _parameter_cells(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of each parameter that has a value, for a table."""
    cells = {name: value for name, value in parameters.items() if not isinstance(value, Mapping) and name != "target"}
    for part in ("options", "constraints", "cuts"):
        cells |= {name if name not in cells else f"{part}.{name}": value for name, value in parameters[part].items()}
    shown = {name: described(name, value) or value for name, value in cells.items()}
    return [(name, cell(value)) for name, value in shown.items() if value is not None]


def _target(record: Record, labels: Labels | None) -> dict[str, str] | None:
    """Return sentences on what the rows were selected towards; None without a target."""
    if record["target"] is None:
        return None
    measured = record["target"]["measured"]
    words = {"overlap": overlap_sentence(measured), "missing": missing_sentence(measured, labels)}
    return {"distances": DISTANCES, "meaning": MEANING, "no_help": NOT_HELP, **words}


def _reasons(draft: Draft, labels: Labels | None) -> list[dict[str, Any]]:
    """Return why the method picked its first rows, with the beginning of their texts; not of luck or length."""
    subset, method = draft.attached(), draft.selection.method
    if isinstance(subset, Selection) or method in BASELINES or method not in METHODS:
        return []
    start = draft.n_initial if draft.n_initial < len(subset) else 0
    picks = range(start, min(start + PICKS, len(subset)))
    reasons = cast(Reasons, explain(subset, picks, labels=labels, spans=0))
    assert draft.pool is not None
    texts = Texts.of(draft.pool, None).of_rows([reason.row for reason in reasons])
    return [
        {
            "pick": reason.pick,
            "text": quoted(texts[reason.row] if reason.row in texts else _strings(draft.source_rows, reason.row)),
            "sentence": str(reason),
        }
        for reason in reasons
    ]


def _strings(rows: Dataset, row: int) -> str:
    """Return the strings of a row, where a function wrote its text or the columns of the text are gone."""
    names = [name for name, type in rows.features.items() if getattr(type, "dtype", None) == "string"]
    values = rows.with_format(None).select_columns(names)[row] if names else {}
    return " ".join(value for value in values.values() if value)


def _sae(encoding: Mapping[str, Any]) -> str:
    """Say where the SAE is."""
    sae = encoding.get("sae", {})
    if "repo" in sae:
        return f"{_link(sae['repo'], sae['repo'])} at {code(sae['revision'])}, {code(sae['path'])}"
    return f"the one in the package {sae['package']}" if "package" in sae else "not published"


def _model(encoding: Mapping[str, Any]) -> str:
    """Say where the language model is."""
    if not encoding.get("model"):
        return "not published"
    return f"{_link(encoding['model'], encoding['model'])} at {code(encoding['model_revision'])}"


def _link(name: str, path: str) -> str:
    """Return a link to a page of the Hub."""
    return f"[{escaped(name)}]({HUB}/{quote(path)})"


def _text(encoding: Mapping[str, Any]) -> str:
    """Say what the text of a row is."""
    text = encoding.get("text", {})
    if "columns" not in text:
        return f"the result of the author's function {code(text.get('function'))}, whose code is not recorded"
    columns = ", ".join(map(code, text["columns"]))
    if not text["chat"]:
        return f"column {columns}" if len(text["columns"]) == 1 else f"columns {columns}, joined by newlines"
    how = "by the model's chat template" if encoding["chat_template_sha256"] else "as one line `role: words` per turn"
    return f"the chat in {columns}, written {how}"


def _arguments(records: Mapping[str, Record], level: str) -> str:
    """Return the arguments of `verify` for a level, as code."""
    names = {name: None for record in records.values() for name in required_arguments(record, level)}
    return "".join(f", {name}={name}" for name in names)


def _licence(license: Mapping[str, Any], source: str | None) -> str:
    """Say which licence the subset has, and who states it."""
    name = escaped(", ".join(as_list(license["license"])))
    if link := license.get("license_link"):
        title = escaped(license.get("license_name") or ", ".join(as_list(license["license"])))
        name = f"[{title}]({quote(link, SAFE_IN_LINKS)})" if WEB_PAGE.match(link) else f"{title} ({escaped(link)})"
    if license["stated_by"] == "source":
        return f"{name}, as {escaped(source) if source else 'the source'} states it."
    return f"{name}, as the publisher of this subset states it: the source states none."
