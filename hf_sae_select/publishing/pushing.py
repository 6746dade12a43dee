"""Publishing: a staged folder -> one commit of a dataset repo on the Hub. No torch, unless `stage` needs it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from huggingface_hub import CommitInfo
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented

from .. import _hub as hub
from .._cards import merged, parsed
from .._hub import Repo, Token, hub_errors, prepare
from ..selection.result import Selection
from .card import License
from .layout import (
    CARD_FILE,
    LICENCE_FIELDS,
    PLACEHOLDER,
    PLOT_FILE,
    POOL_FILE,
    RECORD_FILE,
    ROWS,
    SELECTION_FILE,
)
from .provenance import read
from .source import SourceName
from .staging import stage
from .verification import verify

# What a repo may hold that we did not write: anything else may be rows of another dataset.
NO_DATA = re.compile(r"\.git[^/]*|[^/]+\.md|(LICEN[CS]E|NOTICE|CITATION)[^/]*", re.IGNORECASE)
# Of the card's metadata, what follows from the subset; `dataset_info` would be that of an earlier one.
RENEWED = ("size_categories", "source_datasets", "dataset_info", *LICENCE_FIELDS)
MESSAGE = "Publish a subset and its provenance"


def publish(
    subset: Dataset,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = MESSAGE,
    token: Token = None,
    selection: Selection | None = None,
    pool: Dataset | None = None,
    license: License | None = None,
    source: SourceName | None = None,
    include_features: bool = True,
    metadata: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """Write a subset, its provenance and a card to a dataset repo on the Hub, created if need be, in one commit.

    `stage` and `push` in one. If pushing fails, what was staged stays, and the error says where it is.

    Args:
        subset: what `sae_select` returned, unchanged.
        repo_id: such as "me/alpaca-3k".
        private, revision, create_pr, commit_message, token: as in `push`.
        license, source, features, metadata: as in `stage`.

    Raises:
        TypeError, ValueError, ImportError: as `stage` and `push`; before anything is sent.
        FileNotFoundError, PermissionError, OSError: the Hub refuses or is out of reach; the repo is as it was.

    Example: ``publish(ds.sae_select(3000), "me/alpaca-3k")``.
    """
    _check_id(repo_id)
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_sae_select" / "staged" / repo_id.replace("/", "--")
    stage(
        subset,
        folder,
        selection=selection,
        pool=pool,
        license=license,
        source=source,
        include_features=include_features,
        metadata=metadata,
        token=token,
    )
    where: dict[str, Any] = {"private": private, "revision": revision, "create_pr": create_pr}
    try:
        commit = push(folder, repo_id, **where, commit_message=commit_message, token=token)
    except BaseException as error:
        said = "".join(f", {name}={value!r}" for name, value in where.items() if value)
        error.add_note(f"staged, and kept: hf_sae_select.push({str(folder)!r}, {repo_id!r}{said}) goes on from there")
        raise
    shutil.rmtree(folder)
    return commit


def push(
    folder: str | Path,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = MESSAGE,
    token: Token = None,
) -> CommitInfo:
    """Write a folder that `stage` made to a dataset repo on the Hub, created if need be, in one commit.

    Nothing is there before all is; after a failure push again: files that arrived are not sent twice. Of a README that
    is there the text is kept, and of its metadata what does not follow from the subset. An earlier subset is replaced.

    Args:
        private: whether the repo is to be private, if it is created; by default as the Hub does for you.
        revision: the branch to write to; by default main.
        create_pr: propose the commit as a pull request instead.

    Raises:
        ValueError: the folder is no staged subset, or was changed since; the repo holds other data, or its README
            cannot be read; the Hub does not accept the card's metadata.
        FileNotFoundError, PermissionError, OSError: the Hub refuses, is out of reach, or somebody else wrote to the
            repo meanwhile; the repo is as it was.

    Example: ``push(stage(subset, "alpaca-3k"), "me/alpaca-3k")``.
    """
    _check_id(repo_id)
    folder = Path(folder)
    if not (folder / RECORD_FILE).is_file():
        raise ValueError(f"`folder={str(folder)!r}` holds no staged subset; make one with `stage`")
    if difference := verify(folder).difference:
        raise ValueError(f"`folder={str(folder)!r}` was changed after it was staged: {difference}; stage it again")
    names = [*read(folder / RECORD_FILE)["files"], RECORD_FILE]
    files: dict[str, str | Path | bytes] = {name: folder / name for name in names}
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    with hub_errors(repo_id):  # or a repo would be made for a card that the Hub does not take
        parsed(card, CARD_FILE).validate(repo_type="dataset")
    repo, readme = prepare(repo_id, private=private, revision=revision, token=token, kind="dataset")
    there = repo.files()
    earlier = _earlier(repo, there)
    files[CARD_FILE] = merged(card.replace(PLACEHOLDER, repo.name), readme, RENEWED).encode()
    gone = [name for name in earlier if name in there and name not in files and _is_ours(name)]
    return hub.push(repo, files, message=commit_message, revision=revision, create_pr=create_pr, deleted=gone)


def _check_id(repo_id: str) -> None:
    try:
        if not repo_id:
            raise HFValidationError
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ValueError(f"`repo_id={repo_id!r}` is no id of a Hub repo; pass owner/name") from error


def _earlier(repo: Repo, there: list[str]) -> list[str]:
    """Return the files of an earlier subset. Refuse a repo that holds other data, of which rows would be mixed."""
    try:
        names = [*read(repo.fetch(RECORD_FILE))["files"], RECORD_FILE] if RECORD_FILE in there else []
    except ValueError:
        names = []
    foreign = [name for name in there if name not in names and not NO_DATA.fullmatch(name)]
    if names:  # a repo of ours: other files may be there, but not where `load_dataset` would read them
        foreign = [name for name in foreign if name.startswith(f"{ROWS}/")]
    if foreign:
        name = foreign[0]
        raise ValueError(f"{repo.name} holds other data, such as {name}; publish the subset to a repo of its own")
    return names


def _is_ours(name: str) -> bool:
    """Tell whether a file is one that `stage` writes: a record may say anything, and what it lists may be deleted."""
    return name in (SELECTION_FILE, POOL_FILE, PLOT_FILE) or name.startswith(f"{ROWS}/")
