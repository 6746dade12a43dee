"""Pushing a staged subset to a dataset repo on the Hub in one commit. No torch, unless `stage` needs it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import datasets
from datasets import Dataset, DatasetDict
from huggingface_hub import CommitInfo

from .. import _commits
from .._cards import merged, named, parsed
from .._commits import prepare
from .._hub import Repo, Token, hub_errors
from .._secrets import masks_tokens
from .._validation import check_text
from ..sae.labels import Labels
from ..selection.result import Selection
from .layout import CARD_FILE, LICENCE_FIELDS, RECORD_FILE, is_listed, is_rows
from .licence import License
from .provenance import files_of, read
from .source import SourceName
from .staging import stage
from .verification import verify

if TYPE_CHECKING:  # annotations only
    from ..selection.target_argument import TargetSource

# Files of a repo that cannot be rows of another dataset.
NO_DATA = re.compile(r"\.git[^/]*|[^/]+\.md|(LICEN[CS]E|NOTICE|CITATION)[^/]*", re.IGNORECASE)
# Metadata of a README that the new card replaces; `dataset_info` would describe an earlier subset.
RENEWED = ("size_categories", "source_datasets", "dataset_info", *LICENCE_FIELDS)
MESSAGE = "Publish a subset and its provenance"


@masks_tokens
def publish(
    subset: Dataset | DatasetDict,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str = MESSAGE,
    token: Token = None,
    selection: Selection | Mapping[str, Selection] | None = None,
    pool: Dataset | Mapping[str, Dataset] | None = None,
    license: License | None = None,
    source: SourceName | None = None,
    target: TargetSource | None = None,
    include_features: bool = True,
    labels: Labels | None = None,
    report: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> CommitInfo:
    """Publish a subset with its provenance and a card in a dataset repo on the Hub, in one commit.

    This is `stage` and `push` in one call. If pushing fails, the staged folder is kept, and the error names it.

    Args:
        subset (`Dataset` or `DatasetDict`):
            The subset that `sae_select` returned, unchanged. Splits of a DatasetDict stay splits.
        repo_id (`str`):
            Id of the repo, such as "me/alpaca-3k". It is created if it does not exist.
        private (`bool`, *optional*):
            Whether a new repo is private. By default as the Hub does for you.
        revision (`str`, *optional*):
            Branch to write to; by default main.
        create_pr (`bool`, *optional*, defaults to `False`):
            Whether to open a pull request instead of writing to the branch.
        commit_message (`str`, *optional*, defaults to `"Publish a subset and its provenance"`):
            Message of the commit.
        token (`str` or `bool`, *optional*):
            Token for the Hub.
        selection (`Selection` or `dict`, *optional*):
            The selection of a subset that was saved and loaded, see `stage`.
        pool (`Dataset` or `dict`, *optional*):
            The encoded dataset that the rows were selected from, for a subset that was saved and loaded, see `stage`.
        license (`str`, `list` or `dict`, *optional*):
            Licence of the subset; by default that of the source, see `stage`.
        source (`str` or `dict`, *optional*):
            The Hub dataset that the rows are from, if the cache of `datasets` does not tell, see `stage`.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            What the rows were selected towards, for a subset that was saved and loaded, see `stage`.
        include_features (`bool`, *optional*, defaults to `True`):
            Whether to publish the features too, so that others can repeat the selection without a model.
        labels (`Labels`, *optional*):
            Names of the features, by default those that ship with the SAE, see `stage`.
        report (`bool`, *optional*, defaults to `False`):
            Whether to publish the report of the subset too, see `stage`.
        metadata (`dict`, *optional*):
            Additional metadata of the card, see `stage`.

    Returns:
        `CommitInfo`: The commit.

    Raises:
        TypeError: As `stage`, before anything is sent.
        ValueError: As `stage` and `push`, before anything is sent.
        ImportError: If the extra `publish` is not installed.
        FileNotFoundError: If the branch does not exist. Nothing was written.
        PermissionError: If the Hub does not accept the token. Nothing was written.
        OSError: If the Hub is out of reach, or somebody else wrote to the repo meanwhile. Nothing was written.

    Example:

    ```python
    publish(dataset.sae_select(3000), "me/alpaca-3k")
    ```
    """
    _commits.check_push(
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        token=token,
    )
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "hf_sae_select" / "staged" / repo_id.replace("/", "--")
    stage(
        subset,
        folder,
        selection=selection,
        pool=pool,
        license=license,
        source=source,
        target=target,
        include_features=include_features,
        labels=labels,
        report=report,
        metadata=metadata,
        token=token,
    )
    options: dict[str, Any] = {"private": private, "revision": revision, "create_pr": create_pr}
    try:
        commit = push(folder, repo_id, **options, commit_message=commit_message, token=token)
    except BaseException as error:
        passed = "".join(f", {name}={value!r}" for name, value in options.items() if value)
        error.add_note(
            f"the staged folder is kept; to continue: hf_sae_select.push({str(folder)!r}, {repo_id!r}{passed})"
        )
        raise
    shutil.rmtree(folder)
    return commit


@masks_tokens
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
    """Push a folder that `stage` wrote to a dataset repo on the Hub, in one commit.

    The repo shows all files of the commit or none. After a failure, push again: files that arrived are not sent twice.
    An earlier subset in the repo is replaced. Of an existing README the text stays, and of its metadata what does not
    follow from the subset.

    Args:
        folder (`str` or `Path`):
            The staged folder.
        repo_id (`str`):
            Id of the repo, such as "me/alpaca-3k". It is created if it does not exist.
        private (`bool`, *optional*):
            Whether a new repo is private. By default as the Hub does for you.
        revision (`str`, *optional*):
            Branch to write to; by default main.
        create_pr (`bool`, *optional*, defaults to `False`):
            Whether to open a pull request instead of writing to the branch.
        commit_message (`str`, *optional*, defaults to `"Publish a subset and its provenance"`):
            Message of the commit.
        token (`str` or `bool`, *optional*):
            Token for the Hub.

    Returns:
        `CommitInfo`: The commit.

    Raises:
        ValueError: If `folder` is not a staged subset or was changed since, the repo holds other data or a README that
            cannot be parsed, or the Hub does not accept the card's metadata.
        FileNotFoundError: If the branch does not exist. Nothing was written.
        PermissionError: If the Hub does not accept the token. Nothing was written.
        OSError: If the Hub is out of reach, or somebody else wrote to the repo meanwhile. Nothing was written.

    Example:

    ```python
    push(stage(subset, "alpaca-3k"), "me/alpaca-3k")
    ```
    """
    _commits.check_push(
        repo_id,
        private=private,
        revision=revision,
        create_pr=create_pr,
        commit_message=commit_message,
        token=token,
    )
    check_text("folder", folder, (str, Path))
    folder = Path(os.path.expanduser(folder))
    if not (folder / RECORD_FILE).is_file():
        raise ValueError(f"`folder={str(folder)!r}` is not a staged subset; write one with `stage`")
    if difference := verify(folder).difference:
        raise ValueError(f"`folder={str(folder)!r}` was changed after it was staged: {difference}; stage it again")
    names = [*files_of(read(folder / RECORD_FILE)), RECORD_FILE]
    files: dict[str, str | Path | bytes] = {name: folder / name for name in names}
    card = (folder / CARD_FILE).read_text(encoding="utf-8")
    with hub_errors(repo_id):  # before a repo is created for a card that the Hub refuses
        _commits.check_card(str(parsed(card, CARD_FILE)), "dataset")
    repo, readme = prepare(repo_id, private=private, revision=revision, token=token, kind="dataset")
    present = repo.all_files()
    earlier = _earlier_files(repo, present, {name.rpartition("/")[0] for name in names if is_rows(name)})
    files[CARD_FILE] = merged(named(card, repo.name), readme, RENEWED).encode()
    # A record may list anything, and what it lists is deleted.
    deleted = [name for name in earlier if name in present and name not in files and is_listed(name)]
    return _commits.push(repo, files, message=commit_message, revision=revision, create_pr=create_pr, deleted=deleted)


def _earlier_files(repo: Repo, present: list[str], folders: Collection[str]) -> list[str]:
    """Return the files of an earlier subset in a repo; the rows of the new one will be in `folders`.

    Raises:
        ValueError: If the repo holds other data: their rows would be mixed with those of the subset.
    """
    try:
        names = [*files_of(read(repo.fetch(RECORD_FILE))), RECORD_FILE] if RECORD_FILE in present else []
    except ValueError:
        names = []
    foreign = [name for name in present if name not in names and not NO_DATA.fullmatch(name)]
    if names:  # next to an earlier subset, only files that `load_dataset` would read as its rows matter
        foreign = [name for name in foreign if name.startswith(tuple(f"{folder}/" for folder in folders))]
    if foreign:
        raise ValueError(f"{repo.name} holds other data, such as {foreign[0]}; publish the subset in another repo")
    return names
