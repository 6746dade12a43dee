"""Licence of a subset: that of its source, or the one that the publisher states if the source has none. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from huggingface_hub.repocard_data import CardData

from .layout import LICENCE_FIELDS

License = str | Sequence[str] | Mapping[str, str]

LICENCE_ID = re.compile(r"[a-z0-9][a-z0-9.+-]*")

# The ids that the Hub takes in a card (docs/hub/repositories-licenses, and its answer to a wrong one, May 2026).
LICENCE_IDS = (
    "apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m "
    "afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 "
    "cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 "
    "cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 "
    "cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl "
    "gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr "
    "mpl-2.0 odc-by odbl openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr "
    "deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 "
    "grok2-community gemma unknown other"
).split()
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
        _check_known(license)
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
        raise TypeError(f"`license={license!r}` must be the id of a licence, such as 'cc-by-4.0', or a list of ids")
    return {"license": license if isinstance(license, str) else ids}


def _check_known(license: Any) -> None:
    """Check that the Hub knows the ids of a licence."""
    for id in as_list(license):
        if id not in LICENCE_IDS:
            nearest = get_close_matches(id, LICENCE_IDS, cutoff=0.5) or ["apache-2.0", "mit", "cc-by-4.0"]
            raise ValueError(
                f"`license={license!r}`: {id!r} must be one of the Hub's ids, such as {', '.join(nearest)}; for any "
                "other licence pass {'license': 'other', 'license_name': name, 'license_link': address of its text}"
            )


def _other(license: Mapping[str, Any]) -> dict[str, Any]:
    """Return a licence that the Hub has no id for."""
    fields = dict(license)
    is_text = all(isinstance(value, str) and value.strip() for value in fields.values())
    if fields.get("license") != "other" or fields.keys() != set(LICENCE_FIELDS) or not is_text:
        raise ValueError(
            f"`license={fields!r}` must be the Hub's id of a licence, or "
            "{'license': 'other', 'license_name': name, 'license_link': address of its text}"
        )
    if not re.fullmatch(r"https?://\S+|[\w.-]+", fields["license_link"]):
        raise ValueError(
            f"`license_link={fields['license_link']!r}` must be an address (https://...), or a file of the repo, such "
            "as LICENSE"
        )
    return fields
