"""The card of a published subset: its metadata, and its text from `templates/subset_card.md`. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from datasets import Dataset
from huggingface_hub.repocard_data import CardData, DatasetCardData

from .._cards import render
from ..encoding.text import Rendering
from ..selection.methods import BASELINES, METHODS
from ..selection.reasons import reasons
from ..selection.result import Selection
from .layout import CONFIGS, LICENCE_FIELDS
from .provenance import Record
from .replay import Measured

# Metadata that follow from the source and the rows.
OURS = (*LICENCE_FIELDS, "configs", "dataset_info", "source_datasets", "size_categories")
TAGS = ["sae-select", "data-selection", "sparse-autoencoder", "diversity"]
NONCOMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non[-_ ]?commercial|research|amlr", re.IGNORECASE)
LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")
SIZES = {10**3: "1K", 10**4: "10K", 10**5: "100K", 10**6: "1M", 10**7: "10M", 10**8: "100M", 10**9: "1B"}
PICKS, EXAMPLES, LETTERS = 5, 2, 120  # how much is shown of the rows

License = str | Sequence[str]


def licence(sources: Sequence[CardData], given: License | None) -> dict[str, Any]:
    """Return the licence of the subset, as metadata: the one that its sources state, or `given` if none does.

    Raises:
        ValueError: no licence is stated nor given, another is given, or several are stated and the one given is not
            among them or would allow a commercial use that one forbids.
    """
    given = None if given is None else _plain(given)
    stated: list[dict[str, Any]] = []
    for source in sources:
        terms = {name: source.get(name) for name in LICENCE_FIELDS if source.get(name)}
        known = _list(terms.get("license")) not in ([], ["unknown"])
        if known and not any(_list(terms["license"]) == _list(other["license"]) for other in stated):
            stated.append(terms)
    if not stated:
        if given is None:
            raise ValueError(
                "the source states no licence: pass `license`, such as 'cc-by-4.0', as its makers meant it "
                "('unknown' if nobody knows)"
            )
        return {"license": given, "stated_by": "publisher"}
    names = ", ".join(str(terms["license"]) for terms in stated)
    allowed = [terms for terms in stated if NONCOMMERCIAL.search(str(list(terms.values())))] or stated
    if len(stated) == 1:
        remedy = f"the source is {names}, and so is what is taken from it: leave it out"
    else:
        ids = " or ".join(repr(terms["license"]) for terms in allowed)
        remedy = f"the rows are from sources of several licences, {names}: pass the one that holds for all, {ids}"
    fitting = [terms for terms in allowed if given is None or _list(terms["license"]) == _list(given)]
    if not fitting or (given is None and len(stated) > 1):
        raise ValueError(f"`license={given!r}`, but {remedy}")
    return fitting[0] | {"stated_by": "source"}


def check_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata that the user adds; refuse what follows from the source and the rows."""
    given = {} if metadata is None else metadata
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise TypeError(f"`metadata={metadata!r}` must be a mapping of names, such as {{'language': 'en'}}")
    if taken := [name for name in OURS if name in given]:
        raise ValueError(f"`metadata` has `{taken[0]}`, which follows from the source and the rows; leave it out")
    if not isinstance(given.get("tags", []), str | list | tuple):
        raise TypeError(f"`metadata` has the tags {given['tags']!r}; they must be a list of words")
    try:
        plain: dict[str, Any] = json.loads(json.dumps(dict(given)))  # a tuple is a list in YAML too
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`metadata` holds what YAML cannot: {error}; pass texts, numbers and lists of them"
        ) from error
    return plain


def subset_card(
    record: Record,
    receipt: Selection,
    found: Measured | None,
    rows: Dataset,
    *,
    source: CardData,
    metadata: Mapping[str, Any],
) -> str:
    """Return the card of a subset.

    Args:
        found: what it covers; None without features.
        rows: what it was picked from, of which picked rows are shown.
        source: the metadata of the source's card.
    """
    data = _metadata(record, source, metadata)
    name, method = record["source"]["dataset"], record["selection"]["method"]
    known, parameters = METHODS.get(method), record["selection"]["parameters"]
    return render(
        "subset_card.md",
        card_data=DatasetCardData(**data).to_yaml(),
        **{part: record[part] for part in ("source", "encoding", "selection", "coverage", "versions")},
        name=name or "a dataset",
        linked=f"[{name}](https://huggingface.co/datasets/{name})" if name else "a dataset that is not published",
        summary=known.summary if known else "",
        paper=known.source if known else "",
        parameters=_parameter_cells(parameters),
        counts=known is not None and not known.needs_vectors and method not in BASELINES,
        constrained=bool(parameters["constraints"].keys() - {"cost"}),
        sae=_sae(record["encoding"] or {}),
        text=_text(record["encoding"] or {}),
        reasons=[] if found is None else _reasons(receipt, found, rows, record["encoding"]["text"]),
        code=code,
        number=lambda value: "" if value is None else f"{value:,.1f}",
        needs={level: _needed(record, level) for level in ("select", "encode")},
        licence=_licence(record["license"], name),
    )


def _parameter_cells(parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and value of each parameter that has one, for a table."""
    flat = {name: value for name, value in parameters.items() if not isinstance(value, Mapping)}
    for part in ("options", "constraints", "cuts"):
        flat |= {name if name not in flat else f"{part}.{name}": value for name, value in parameters[part].items()}
    return [(name, _cell(value)) for name, value in flat.items() if value is not None]


def _metadata(record: Record, source: CardData, metadata: Mapping[str, Any]) -> dict[str, Any]:
    name, tags = record["source"]["dataset"], _list(metadata.get("tags"))
    data = {
        **{name: value for name, value in record["license"].items() if name in LICENCE_FIELDS},
        "language": source.get("language"),
        "task_categories": _list(source.get("task_categories")) or ["text-generation"],
        "size_categories": [size_category(record["selection"]["rows"])],
        "source_datasets": [name] if name else None,
        "configs": CONFIGS,
        **metadata,
        "tags": TAGS + [tag for tag in tags if tag not in TAGS],
    }
    return {name: value for name, value in data.items() if value is not None}


def size_category(rows: int) -> str:
    """Return the Hub's word for so many rows, such as `1K<n<10K`."""
    low, *_ = [word for size, word in reversed(SIZES.items()) if rows >= size] or [""]
    high = next((word for size, word in SIZES.items() if rows < size), "10B")
    return f"{low}<n<{high}" if low else "n<1K"


def quoted(text: str) -> str:
    """Return the beginning of a text for a line of Markdown, in which nothing of it is markup."""
    words = " ".join(text.split())
    shown = words if len(words) <= LETTERS else words[:LETTERS].rstrip() + "…"
    return "“" + "".join(sign if sign.isalnum() or sign in " ,.?!';…" else f"&#{ord(sign)};" for sign in shown) + "”"


def code(name: str) -> str:
    """Return a name as code for a cell of a table, where its signs allow that."""
    return f"`{name}`" if name.strip() and name.isprintable() and not set(name) & set("`|<>") else _cell(name)


def _reasons(receipt: Selection, found: Measured, rows: Dataset, text: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = []
    for each in reasons(found.features, receipt, PICKS):
        examples = [_words(rows, row, text) for row in each.examples[:EXAMPLES].tolist()]
        shown.append(vars(each) | {"text": _words(rows, each.row, text), "examples": examples})
    return shown


def _words(rows: Dataset, row: int, text: Mapping[str, Any]) -> str:
    """Return the beginning of a row's text; where a function wrote it, or the columns are gone, of its strings."""
    names = [name for name in text.get("columns", []) if name in rows.column_names]
    if names:
        batch = rows.with_format(None).select_columns(names)[row : row + 1]
        with suppress(AttributeError, TypeError):  # they hold something else since they were encoded
            return quoted(Rendering(tuple(names), text["chat"])(batch)[0])
    strings = [name for name, type in rows.features.items() if getattr(type, "dtype", None) == "string"]
    words = rows.with_format(None).select_columns(strings)[row] if strings else {}
    return quoted(" ".join(value for value in words.values() if value))


def _cell(value: Any) -> str:
    """Return a value for a cell of a table, shortened if it is long."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= 100 else f"{text[:100]} … (in full in provenance.json)"
    return "".join(f"&#{ord(sign)};" if sign in "|<>*_`[]&" else sign for sign in text)


def _sae(encoding: Mapping[str, Any]) -> str:
    sae = encoding.get("sae", {})
    if "repo" in sae:
        return f"[{sae['repo']}](https://huggingface.co/{sae['repo']}) at `{sae['revision']}`, `{sae['path']}`"
    return f"the one in the package {sae['package']}" if "package" in sae else "one that others cannot fetch"


def _text(encoding: Mapping[str, Any]) -> str:
    text = encoding.get("text", {})
    if "columns" not in text:
        return f"what the author's function {_cell(text.get('function'))} returns; its code is not recorded"
    columns = ", ".join(map(code, text["columns"]))
    if not text["chat"]:
        return f"column {columns}" if len(text["columns"]) == 1 else f"columns {columns}, joined by newlines"
    how = "by the model's chat template" if encoding["chat_template_sha256"] else "as `role: words`, a line a turn"
    return f"the chat in {columns}, written {how}"


def _needed(record: Record, level: str) -> str:
    """Return the arguments that `verify` needs for a level: what others cannot fetch."""
    encoding = record["encoding"] or {}
    needed = {"method": not record["selection"]["builtin"]}
    if level == "select":
        needed["features"] = "pool.parquet" not in record["files"]
    else:
        needed["source"] = not record["source"]["as_published"]
        needed["sae"] = not encoding.get("sae") or encoding.get("model") is None
        needed["text"] = "function" in encoding.get("text", {})
    return "".join(f", {name}={name}" for name, missing in needed.items() if missing)


def _licence(license: Mapping[str, Any], name: str | None) -> str:
    told = ", ".join(_list(license["license"]))
    if link := license.get("license_link"):
        told = f"[{license.get('license_name') or told}]({link})"
    if license["stated_by"] == "source":
        return f"{told}, as {name or 'the source'} states it."
    return f"{told}, as the publisher of this subset states it: the source states none."


def _list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _plain(license: Any) -> str | list[str]:
    names = [license] if isinstance(license, str) else list(license) if isinstance(license, Sequence) else []
    if names and all(isinstance(name, str) and LICENCE_ID.fullmatch(name) for name in names):
        return license if isinstance(license, str) else names
    raise TypeError(f"`license={license!r}` must be the id of a licence, such as 'cc-by-4.0', or a list of them")
