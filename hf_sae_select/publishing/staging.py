"""Staging: writing a published subset into a folder: rows, tables, record, plot and card. Nothing is sent."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset, DatasetDict

from .._cards import section_of
from .._datasets import by_split, in_split
from .._folders import whole_folder
from .._hub import Token, check_token
from .._optional import extra
from .._secrets import masks_tokens
from .._validation import check_flag, check_text, check_type
from ..sae.labels import Labels
from ..selection.result import Selection
from .card import check_metadata, subset_card
from .draft import Draft
from .hashing import digest_of
from .layout import CARD_FILE, FILES, RECORD_FILE, SECTION, folder_of, is_listed, problem_of_splits
from .licence import License, subset_licence
from .part import Part, check_no_token
from .provenance import dumps, parts_of, read, sealed
from .source import Source, SourceName

if TYPE_CHECKING:  # annotations only
    from ..selection.target_argument import TargetSource


@masks_tokens
def stage(
    subset: Dataset | DatasetDict,
    folder: str | Path,
    *,
    selection: Selection | Mapping[str, Selection] | None = None,
    pool: Dataset | Mapping[str, Dataset] | None = None,
    license: License | None = None,
    source: SourceName | None = None,
    target: TargetSource | None = None,
    include_features: bool = True,
    labels: Labels | None = None,
    report: bool = False,
    metadata: Mapping[str, Any] | None = None,
    token: Token = None,
) -> Path:
    """Write a subset into a folder as it will be published; `push` sends it to the Hub.

    The folder holds the rows as Parquet (`data/`), the selection (`selection.parquet`), what repeating it needs
    (`pool.parquet`), the record (`provenance.json`), a plot of the likeness or the coverage and the card (`README.md`,
    where you may write before and after our section). The same subset and package versions give the
    same bytes. The folder appears whole or not at all, and replaces one that an earlier call wrote.

    Of a DatasetDict, each split has a folder with its rows and tables, and one record and one card are of all splits.
    Arguments about rows (`selection`, `pool`) are then dicts by split, and `source` may be one.

    Args:
        subset (`Dataset` or `DatasetDict`):
            The subset that `sae_select` returned, unchanged.
        folder (`str` or `Path`):
            Folder to write.
        selection (`Selection` or `dict`, *optional*):
            The selection of a subset that no longer has the attribute `sae_selection`, for example after saving and
            loading it. See `Selection.save`.
        pool (`Dataset` or `dict`, *optional*):
            The encoded dataset that the rows were selected from, for a subset that was saved and loaded. Without it
            the folder has no `pool.parquet`, and the card shows no figures; others then need the encoded dataset to
            repeat the selection.
        license (`str`, `list` or `dict`, *optional*):
            Licence of the subset, an id of the Hub's list such as "cc-by-4.0", or for any other licence
            `{"license": "other", "license_name": ..., "license_link": ...}`. By default that of the source; required
            if the source states none.
        source (`str` or `dict`, *optional*):
            The Hub dataset that the rows are from, if the cache of `datasets` does not tell: its id, or
            `{"dataset": id, "config": ..., "split": ..., "revision": ...}`, which states that `load_dataset` with
            these returns those rows. `"as_published": False` states that they were made from the dataset.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            What the rows were selected towards, for a subset that was saved and loaded. Without it the folder has no
            `target.parquet`, and others need the target to repeat the selection: a warning says so. Only sums over
            its rows are written, never a text or the features of a row.
        include_features (`bool`, *optional*, defaults to `True`):
            Whether to write `pool.parquet`, so that others can repeat the selection without a model.
        labels (`Labels`, *optional*):
            Names of the features, for the card's reasons and the report. By default those that ship with the SAE.
        report (`bool`, *optional*, defaults to `False`):
            Whether to write the report of the subset too, see `report`, and link it in the card. It is short without
            the pool.
        metadata (`dict`, *optional*):
            Additional metadata of the card, such as `{"language": "en", "pretty_name": "..."}`. What the README of the
            repo already has of these takes precedence.
        token (`str` or `bool`, *optional*):
            Token to read the card of a private source.

    Returns:
        `Path`: The folder.

    Raises:
        TypeError: If `subset` has no selection, or an argument has another type than above.
        ValueError: If the rows of `subset` are not those that were selected, `selection` or `pool` are of other rows,
            the licence is unknown or contradicts the source, `folder` holds something else, or splits are from several
            sources or have names that cannot be those of folders.
        ImportError: If the extra `publish` is not installed.

    Example:

    ```python
    push(stage(dataset.sae_select(3000), "alpaca-3k"), "me/alpaca-3k")
    ```
    """
    for module in ("jsonschema", "altair", "vl_convert"):
        extra(module)
    check_text("folder", folder, (str, Path))
    check_flag("include_features", include_features)
    check_flag("report", report)
    check_token(token)
    check_type("labels", labels, Labels, "a Labels, see `load_labels`", optional=True)
    folder = Path(os.path.expanduser(folder)).absolute()
    _check_replaceable(folder)
    drafts = _drafts(subset, selection, pool, target)
    card_metadata = check_metadata(metadata)
    sources = _sources(source, drafts)
    parts: dict[str, Part] = {}
    for split, draft in drafts.items():
        with in_split(split):
            parts[split] = Part.parse(split, draft, sources[split], labels, token)
    origin = _origin(parts)
    source_card = origin.card(token)
    licence = subset_licence([source_card, *(card for part in parts.values() for card in part.cards(token))], license)
    check_no_token({"license": licence})
    with whole_folder(folder) as unfinished:
        fields = {}
        for split, part in parts.items():
            with in_split(split):
                written = part.write(
                    unfinished / folder_of(split), licence, include_features=include_features, report=report
                )
                fields[split] = written
        card = subset_card({split: sealed(fields[split]) for split in parts}, parts, source_card, card_metadata)
        section = {SECTION: digest_of(section_of(card))}
        records = {split: sealed(fields[split] | section) for split in parts}
        record = records[""] if "" in records else sealed({"splits": records})
        (unfinished / RECORD_FILE).write_text(dumps(record), encoding="utf-8")
        (unfinished / CARD_FILE).write_text(card, encoding="utf-8")
    return folder


def _drafts(subset: Any, selection: Any, pool: Any, target: Any) -> dict[str, Draft]:
    """Return the draft of each split, or of the subset under the name "", all checked before any is written.

    Raises:
        TypeError, ValueError: If a split cannot be published, or an argument that is about rows is not by split.
    """
    if not isinstance(subset, DatasetDict):
        drafts = {"": Draft.parse(subset, selection, pool, target)}
    else:
        if not subset:
            raise ValueError("`subset`: the DatasetDict has no splits; there is no row to publish")
        if problem := problem_of_splits(subset):
            raise ValueError(f"`subset`: {problem}; name it otherwise")
        selections, pools = (
            by_split(name, value, subset) for name, value in (("selection", selection), ("pool", pool))
        )
        drafts = {}
        for split, rows in subset.items():
            with in_split(split):
                drafts[split] = Draft.parse(rows, selections.get(split), pools.get(split), target)
    for split, draft in drafts.items():
        if draft.lacks_target:
            _warn_without_target(draft, split)
    return drafts


def _sources(source: Any, drafts: Mapping[str, Draft]) -> dict[str, SourceName | None]:
    """Return the argument `source` of each split: the same id for all, or one by split."""
    if "" in drafts or not isinstance(source, Mapping):
        return dict.fromkeys(drafts, source)
    by_name = by_split("source", source, drafts)
    return {split: by_name.get(split) for split in drafts}


def _origin(parts: Mapping[str, Part]) -> Source:
    """Return the dataset that all splits are from.

    Raises:
        ValueError: If they are from several, or from several commits of one.
    """
    first, *others = parts.values()
    for other in others:
        one, another = ((part.origin.dataset, part.origin.revision) for part in (first, other))
        if one != another:
            places = [
                "no dataset of the Hub" if name is None else f"{name} at {revision}"
                for name, revision in (one, another)
            ]
            raise ValueError(
                f"`subset`: the split {first.split!r} is from {places[0]}, and the split {other.split!r} from "
                f"{places[1]}; publish splits of several sources in a repo each"
            )
    return first.origin


def _check_replaceable(folder: Path) -> None:
    """Check that a folder is new, empty, or a staged subset."""
    if files := [place for place in folder.parents if place.exists() and not place.is_dir()]:
        raise ValueError(f"`folder={str(folder)!r}` cannot be made: {str(files[-1])!r} is a file; pass another folder")
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    foreign = {name for name in names - FILES - _splits_in(folder) if not is_listed(name)}
    if folder.exists() and (not folder.is_dir() or foreign or (names and RECORD_FILE not in names)):
        raise ValueError(f"`folder={str(folder)!r}` exists and is not a staged subset; pass a new or an empty folder")


def _splits_in(folder: Path) -> set[str]:
    """Return the names of the splits that an earlier call wrote into a folder."""
    try:
        return set(parts_of(read(folder / RECORD_FILE)))
    except (OSError, ValueError):
        return set()


def _warn_without_target(draft: Draft, split: str) -> None:
    """Warn that a target is not at hand, of which the folder would have the numbers that the selection read."""
    remedy = "pass `target=`" if draft.pool is not None else "pass `target=` and `pool=`"
    which = f" of the split {split!r}" if split else ""
    warnings.warn(
        f"what the rows{which} were selected towards is not at hand, so the repo will not have what repeats the "
        f"selection: {remedy}",
        stacklevel=5,
    )
