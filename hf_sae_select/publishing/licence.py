"""Licence of a subset: that of its source, or the one that the publisher states if the source has none. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.repocard_data import CardData

from .._licences import check_known
from .layout import LICENCE_FIELDS

License = str | Sequence[str] | Mapping[str, str]

OTHER = "{'license': 'other', 'license_name': name, 'license_link': address of its text}"
LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")

# The ids, names and links of licences that forbid commercial use: "nc" of Creative Commons, "non-commercial", and the
# research licences among the Hub's ids (apple-amlr, intel-research, h-research, ...). It is read only where rows come
# from sources of several licences: then the subset gets one that forbids commercial use, if there is one.
NONCOMMERCIAL = re.compile(r"(?<![a-z])nc(?![a-z])|non[-_ ]?commercial|research|amlr", re.IGNORECASE)


def subset_licence(cards: Sequence[CardData], license: License | None) -> dict[str, Any]:
    """Return the licence of a subset as a card's metadata, with `stated_by`: "source" or "publisher".

    - If the sources have one licence, the subset has it too.
    - If they have none, the publisher must pass one.
    - If they have several, the publisher must pass one of these. It must forbid commercial use if any of them does.

    Args:
        cards: the metadata of the sources' cards.
        license: what the publisher passed.

    Raises:
        TypeError: If `license` is not a licence id, a list of them, or a mapping with a name and a link.
        ValueError: If it is missing, unknown to the Hub, or contradicts the sources.
    """
    fields = {} if license is None else _checked(license)
    license = fields.get("license")
    licences = _distinct_licences(cards)
    if not licences:
        if license is None:
            raise ValueError(
                "the source states no licence: pass `license`, such as 'cc-by-4.0', as its authors intended it, or "
                "'unknown' if nobody knows it"
            )
        for id in as_list(license):
            check_known(id, OTHER)
        return fields | {"stated_by": "publisher"}
    names = ", ".join(str(licence["license"])[:100] for licence in licences)
    if len(licences) == 1:
        if license is None or as_list(license) == as_list(licences[0]["license"]):
            return licences[0] | {"stated_by": "source"}
        raise ValueError(
            f"`license={license!r}`, but the source has the licence {names}, and so has its subset; omit it"
        )
    allowed = [licence for licence in licences if _is_noncommercial(licence)] or licences
    for licence in allowed:
        if license is not None and as_list(license) == as_list(licence["license"]):
            return licence | {"stated_by": "source"}
    ids = " or ".join(repr(licence["license"])[:100] for licence in allowed)
    raise ValueError(
        f"`license={license!r}`, but the rows are from sources of several licences, {names}: pass the one that holds "
        f"for all rows, {ids}"
    )


def as_list(value: Any) -> list[Any]:
    """Return a value of a card's metadata, which may be one item or several, as a list."""
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _distinct_licences(cards: Sequence[CardData]) -> list[dict[str, Any]]:
    """Return the licences that cards state, each once."""
    licences: list[dict[str, Any]] = []
    for card in cards:
        licence = {name: card.get(name) for name in LICENCE_FIELDS if card.get(name)}
        ids = as_list(licence.get("license"))
        if ids not in ([], ["unknown"]) and not any(ids == as_list(other["license"]) for other in licences):
            licences.append(licence)
    return licences


def _is_noncommercial(licence: dict[str, Any]) -> bool:
    return NONCOMMERCIAL.search(str(list(licence.values()))) is not None


def _checked(license: Any) -> dict[str, Any]:
    """Return a licence as a card's metadata."""
    if isinstance(license, Mapping) and "license" in license:
        return _other(license)
    ids = [license] if isinstance(license, str) else list(license) if isinstance(license, Sequence) else []
    if not ids or not all(isinstance(id, str) and LICENCE_ID.fullmatch(id) for id in ids):
        raise TypeError(
            f"`license={license!r}` must be the id of a licence, such as 'mit' or 'cc-by-4.0', or a list of ids; "
            "they are in lower case: https://huggingface.co/docs/hub/repositories-licenses"
        )
    return {"license": license if isinstance(license, str) else ids}


def _other(license: Mapping[str, Any]) -> dict[str, Any]:
    """Return a licence that the Hub has no id for."""
    fields = dict(license)
    is_text = all(isinstance(value, str) and value.strip() for value in fields.values())
    if fields.get("license") != "other" or fields.keys() != set(LICENCE_FIELDS) or not is_text:
        raise ValueError(f"`license={fields!r}` must be the Hub's id of a licence, or {OTHER}")
    if not re.fullmatch(r"https?://\S+|[\w.-]+", fields["license_link"]):
        raise ValueError(
            f"`license_link={fields['license_link']!r}` must be an address (https://...), or a file of the repo, such "
            "as LICENSE"
        )
    return fields
