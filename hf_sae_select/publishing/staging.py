"""Staging: writing a published subset into a folder: rows, tables, record, plot and card. Nothing is sent."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from huggingface_hub import get_token

from .._cards import section_of
from .._folders import whole_folder
from .._hub import Token, check_token, sha256_of
from .._optional import extra
from .._secrets import masked, masks_tokens
from .._validation import check_flag, check_text, check_type
from ..concepts.measurement import count_quotas, measures_of
from ..concepts.report import report as write_report
from ..features.columns import encoding_record
from ..sae.labels import Labels, labels_of
from ..selection.methods import METHODS
from ..selection.result import Selection
from .card import check_metadata, subset_card
from .draft import Draft
from .hashing import Digests, digest_of, row_digests
from .layout import (
    CARD_FILE,
    FILES,
    PLOT_FILES,
    RECORD_FILE,
    REPORT_FILE,
    ROWS,
    SECTION,
    SELECTION_FILE,
    TARGET_FILE,
    is_listed,
)
from .licence import License, subset_licence
from .plot import curve_png
from .provenance import dumps, sealed, versions
from .source import Source, SourceName, find_source, origins
from .tables import write_pool, write_rows, write_selection
from .target_table import closeness_columns, write_target

if TYPE_CHECKING:  # annotations only
    from ..selection.target_argument import TargetSource


@masks_tokens
def stage(
    subset: Dataset,
    folder: str | Path,
    *,
    selection: Selection | None = None,
    pool: Dataset | None = None,
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

    Args:
        subset (`Dataset`):
            The subset that `sae_select` returned, unchanged.
        folder (`str` or `Path`):
            Folder to write.
        selection (`Selection`, *optional*):
            The selection of a subset that no longer has the attribute `sae_selection`, for example after saving and
            loading it. See `Selection.save`.
        pool (`Dataset`, *optional*):
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
            the licence is unknown or contradicts the source, or `folder` holds something else.
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
    draft = Draft.parse(subset, selection, pool, target)
    _warn_without_target(draft)
    encoding = draft.selection.parameters["encoding"]
    if labels is not None:
        labels.check(encoding)
    elif encoding:
        labels = labels_of(encoding)
    card_metadata = check_metadata(metadata)
    source_rows = draft.source_rows
    origin = find_source(source_rows, source, token)
    quotas = None if draft.columns is None else count_quotas(draft.columns, draft.selection)
    selected = {"parameters": draft.selection.parameters, "target": draft.selection.target}
    _check_no_token({"source": origin.record(), **selected, "quotas": quotas})
    source_card = origin.card(token)
    others = [other for other in origins(source_rows) if other.dataset != origin.dataset]
    licence = subset_licence([source_card, *(other.card(token) for other in others)], license)
    _check_no_token({"license": licence})
    with whole_folder(folder) as unfinished:
        picked = write_rows(unfinished / ROWS, draft.rows)
        digests = None if draft.pool is None else row_digests(source_rows, "Hashing the source")
        if digests is not None:
            draft.check_rows(picked, digests)
        measured = draft.measure()
        counts = None if measured is None else measured.features.counts[draft.selection.indices]
        write_selection(unfinished / SELECTION_FILE, draft.selection, counts, picked)
        if include_features and draft.pool is not None and digests is not None:
            closeness = closeness_columns(draft.target)
            write_pool(unfinished, draft.pool, draft.selection, digests, closeness)
        if draft.target is not None:
            write_target(unfinished / TARGET_FILE, draft.target)
        if measured is not None:
            for measure in measures_of(draft.selection.method, "target" in draft.selection.parameters):
                (unfinished / PLOT_FILES[measure]).write_bytes(curve_png(measured, measure))
        if report:
            write_report(draft.attached(), unfinished / REPORT_FILE, labels=labels)
        fields = {
            "source": _source_record(draft, origin, digests),
            "license": licence,
            "encoding": _encoding_record(draft),
            "selection": _selection_record(draft.selection, picked),
            "coverage": None if measured is None else measured.figures,
            "likeness": None if measured is None else measured.likeness,
            "quotas": quotas,
            "target": _target_record(draft),
            "versions": versions(),
            "files": _files_record(unfinished),
        }
        card = subset_card(sealed(fields), draft, labels=labels, source_card=source_card, metadata=card_metadata)
        record = sealed(fields | {SECTION: digest_of(section_of(card))})
        (unfinished / RECORD_FILE).write_text(dumps(record), encoding="utf-8")
        (unfinished / CARD_FILE).write_text(card, encoding="utf-8")
    return folder


def _check_replaceable(folder: Path) -> None:
    """Check that a folder is new, empty, or a staged subset."""
    if files := [place for place in folder.parents if place.exists() and not place.is_dir()]:
        raise ValueError(f"`folder={str(folder)!r}` cannot be made: {str(files[-1])!r} is a file; pass another folder")
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    foreign = {name for name in names - FILES if not is_listed(name)}
    if folder.exists() and (not folder.is_dir() or foreign or (names and RECORD_FILE not in names)):
        raise ValueError(f"`folder={str(folder)!r}` exists and is not a staged subset; pass a new or an empty folder")


def _warn_without_target(draft: Draft) -> None:
    """Warn that a target is not at hand, of which the folder would have the numbers that the selection read."""
    if draft.lacks_target:
        remedy = "pass `target=`" if draft.pool is not None else "pass `target=` and `pool=`"
        warnings.warn(
            "what the rows were selected towards is not at hand, so the repo will not have what repeats the "
            f"selection: {remedy}",
            stacklevel=4,
        )


def _check_no_token(parts: Mapping[str, Any]) -> None:
    """Check that nothing that the record will hold looks like an access token."""
    for name, part in parts.items():
        text = json.dumps(part, default=str)
        if masked(text, get_token()) != text:
            raise ValueError(
                f"the record's `{name}` would hold what looks like an access token, for everybody to read: remove it "
                "from the arguments, and revoke it if it is one"
            )


def _source_record(draft: Draft, origin: Source, digests: Digests | None) -> dict[str, Any]:
    return {
        **origin.record(),
        "fingerprint": draft.selection.fingerprint,
        "rows": draft.selection.pool_rows or None if digests is None else len(digests),
        "columns": draft.source_rows.features.to_dict(),
        "sha256": None if digests is None else digest_of(digests),
    }


def _selection_record(selection: Selection, picked: Digests) -> dict[str, Any]:
    return {
        "method": selection.method,
        "builtin": selection.method in METHODS,
        "parameters": {name: value for name, value in selection.parameters.items() if name != "encoding"},
        "rows": len(selection),
        "round_starts": selection.round_starts.tolist(),
        "pool_coverage": selection.pool_coverage,
        "indices_sha256": digest_of(selection.indices.astype("<i8")),
        "rows_sha256": digest_of(picked),
    }


def _target_record(draft: Draft) -> dict[str, Any] | None:
    if not draft.selection.parameters.get("target"):
        return None
    sizes = None if draft.target is None else [int(size) for size in draft.target.sizes()]
    return {"sizes": sizes, "measured": draft.selection.target, "untargeted": draft.untargeted_distances()}


def _encoding_record(draft: Draft) -> dict[str, Any] | None:
    encoding = draft.selection.parameters["encoding"]
    return {**encoding, "chat_template": _chat_template(draft)} if encoding else None


def _chat_template(draft: Draft) -> str | None:
    """Return the text of the chat template that was used, if its model can still be loaded."""
    digest, pool = draft.selection.parameters["encoding"]["chat_template_sha256"], draft.pool
    if digest is None or pool is None or pool.codes is None:
        return None
    from ..encoding.chat_template import ChatTemplate  # needs torch

    encoding = encoding_record(pool.codes)  # with the path of a model in a folder, which is not published
    try:
        template = ChatTemplate.of(encoding["model"], encoding["model_revision"])
    except OSError:
        return None
    return template.source if template is not None and template.digest == digest else None


def _files_record(folder: Path) -> dict[str, Any]:
    """Return SHA-256 and size of each file in a folder."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.*"))}
    return {name: {"sha256": sha256_of(file), "bytes": file.stat().st_size} for name, file in files.items()}
