"""The card of a published subset: its metadata, and its text from `hub_cards/subset/`. No torch."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from huggingface_hub.repocard_data import CardData, DatasetCardData

from .cards import render
from .explain import reasons
from .record import Record
from .repeating import Measured
from .rules import SELECTORS
from .selection import Selection
from .text import Rendering

LICENCE = ("license", "license_name", "license_link")
OURS = (
    *LICENCE,
    "configs",
    "source_datasets",
    "size_categories",
)  # metadata that follows from the source and the rows
PLACEHOLDER = "OWNER/NAME"  # stands in the card for the repo, which is not known before it is pushed
TAGS = ["sae-select", "data-selection", "sparse-autoencoder", "diversity"]
CONFIGS: list[dict[str, Any]] = [
    {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}], "default": True},
    {"config_name": "selection", "data_files": [{"split": "train", "path": "selection.parquet"}]},
]
NONCOMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non-?commercial", re.IGNORECASE)
SIZES = {10**3: "1K", 10**4: "10K", 10**5: "100K", 10**6: "1M", 10**7: "10M", 10**8: "100M", 10**9: "1B"}
PICKS, EXAMPLES, LETTERS = 5, 2, 120  # how much is shown of the rows

License = str | Sequence[str]


def licence(source: CardData, given: License | None) -> dict[str, Any]:
    """Return the licence of the subset, as metadata: that of its source, or `given` where that allows it.

    Raises:
        ValueError: the source states none and none is given, or it forbids commercial use and another is given.
    """
    stated = {name: source.get(name) for name in LICENCE if source.get(name)}
    if not stated.get("license"):
        if given is None:
            raise ValueError(
                "the source states no licence: pass `license`, such as 'cc-by-4.0', as its makers meant it "
                "('unknown' if nobody knows)"
            )
        return {"license": _plain(given)}
    if given is None or _plain(given) == stated["license"]:
        return stated
    if NONCOMMERCIAL.search(str(list(stated.values()))):
        raise ValueError(
            f"`license={given!r}`, but the source is {stated['license']}, which forbids commercial use, and so is "
            "what is taken from it; leave `license` out"
        )
    return {"license": _plain(given)}


def check_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the metadata that the user adds; refuse what follows from the source and the rows."""
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"`metadata={metadata!r}` must be a mapping, such as {{'language': 'en'}}")
    if taken := [name for name in OURS if name in (metadata or {})]:
        raise ValueError(f"`metadata` has `{taken[0]}`, which follows from the source and the rows; leave it out")
    return dict(metadata or {})


def subset_card(
    record: Record,
    receipt: Selection,
    found: Measured | None,
    rows: Dataset,
    *,
    source: CardData,
    license: dict[str, Any],
    metadata: Mapping[str, Any],
) -> str:
    """Return the card of a subset.

    Args:
        found: what it covers; None without features.
        rows: what it was picked from, of which picked rows are shown.
        source: the metadata of the source's card.
        license: as `licence` returns it.
    """
    data = _metadata(record, source, license, metadata)
    name, method = record["source"]["dataset"], record["selection"]["method"]
    selector, parameters = SELECTORS.get(method), record["selection"]["parameters"]
    constraints = {"must_include", "exclude", "quota", "quality", "per_token", "extend"}
    return render(
        "subset/README.md",
        card_data=DatasetCardData(**data).to_yaml(),
        **{part: record[part] for part in ("source", "encoding", "selection", "coverage", "versions")},
        name=name or "a dataset",
        linked=f"[{name}](https://huggingface.co/datasets/{name})" if name else "a dataset that is not published",
        picks=selector.picks if selector else "",
        paper=selector.paper if selector else "",
        parameters=[(each, _cell(value)) for each, value in parameters.items() if value is not None],
        constrained=bool(constraints & parameters.keys()),
        sae=_sae(record["encoding"] or {}),
        text=_text(record["encoding"] or {}),
        reasons=[] if found is None else _reasons(receipt, found, rows, record["encoding"]["text"]),
        number=lambda value: "" if value is None else f"{value:,.1f}",
        pool="pool.parquet" in record["files"],
        needed=_needed(record),
        licence=_licence(license, source, name),
    )


def _metadata(
    record: Record, source: CardData, license: dict[str, Any], metadata: Mapping[str, Any]
) -> dict[str, Any]:
    name, tags = record["source"]["dataset"], _list(metadata.get("tags"))
    data = {
        **license,
        "language": source.get("language"),
        "task_categories": source.get("task_categories") or ["text-generation"],
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


def _reasons(receipt: Selection, found: Measured, rows: Dataset, text: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = []
    for each in reasons(found.features, receipt, PICKS):
        examples = [_words(rows, row, text) for row in each.examples[:EXAMPLES].tolist()]
        shown.append(vars(each) | {"text": _words(rows, each.row, text), "examples": examples})
    return shown


def _words(rows: Dataset, row: int, text: Mapping[str, Any]) -> str:
    """Return the beginning of a row's text; where a function wrote it, of its strings."""
    batch = rows.with_format(None).select([row])[:]
    if "columns" in text:
        return quoted(Rendering(tuple(text["columns"]), text["chat"])(batch)[0])
    return quoted(" ".join(value for (value,) in batch.values() if isinstance(value, str)))


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
    columns = ", ".join(f"`{_cell(name)[1:-1]}`" for name in text["columns"])
    if not text["chat"]:
        return f"column {columns}" if len(text["columns"]) == 1 else f"columns {columns}, joined by newlines"
    how = "by the model's chat template" if encoding["chat_template_sha256"] else "as `role: words`, a line a turn"
    return f"the chat in {columns}, written {how}"


def _needed(record: Record) -> str:
    """Return the arguments that `verify` needs to encode again: what others cannot fetch."""
    encoding = record["encoding"] or {}
    needed = {
        "source": not record["source"]["as_published"],
        "sae": not encoding.get("sae") or encoding.get("model") is None,
        "text": "function" in encoding.get("text", {}),
    }
    return "".join(f", {name}={name}" for name, missing in needed.items() if missing)


def _licence(license: dict[str, Any], source: CardData, name: str | None) -> str:
    told = ", ".join(_list(license["license"]))
    if link := license.get("license_link"):
        told = f"[{license.get('license_name') or told}]({link})"
    stated = source.get("license")
    if stated == license["license"]:
        return f"{told}, as {name} states it."
    theirs = f"{name} states {', '.join(_list(stated))}: heed that too." if stated else "the source states none."
    return f"{told}, as the publisher of this subset states it; {theirs}"


def _list(value: Any) -> list[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _plain(license: Any) -> str | list[str]:
    if isinstance(license, str) and license.strip():
        return license
    if isinstance(license, Sequence) and license and all(isinstance(each, str) for each in license):
        return list(license)
    raise TypeError(f"`license={license!r}` must be the id of a licence, such as 'cc-by-4.0', or a list of them")
