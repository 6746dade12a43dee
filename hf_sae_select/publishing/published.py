"""PublishedSubset: the record and the tables of a published subset, as `verify` reads them. They may be anybody's."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from .._hub import NoSuchFile, Repo, Token, check_token
from .._secrets import masks_tokens
from .._validation import check_flag, check_text
from ..selection.result import Selection
from ..selection.targets import Target
from .hashing import Digests
from .layout import DIGEST, RECORD_FILE, SELECTION_FILE, TARGET_FILE, folder_of, pool_files, pool_files_in
from .provenance import NewerRecord, Record, has_target, parts_of, read, reads_kernel, upgraded
from .tables import read_closeness, read_pool, read_selection
from .target_table import read_target

LIKENESS_SINCE = 3  # version of the record


@masks_tokens
def load_selection(
    repo_or_folder: str | Path,
    *,
    split: str | None = None,
    revision: str | None = None,
    token: Token = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Selection | dict[str, Selection]:
    """Load the selection of a published subset, for example to extend it.

    It has the picked rows of the source, in the order they were picked. It is read and not verified: see `verify`.

    Args:
        repo_or_folder (`str` or `Path`):
            A dataset repo on the Hub, or a folder that `stage` wrote or that was downloaded.
        split (`str`, *optional*):
            Of a published DatasetDict, the split whose selection is loaded; by default those of all.
        revision (`str`, *optional*):
            Branch, tag or commit of the repo.
        token (`str` or `bool`, *optional*):
            Token for the Hub.
        cache_dir (`str` or `Path`, *optional*):
            Cache folder for the repo.
        local_files_only (`bool`, *optional*, defaults to `False`):
            Whether to read the repo from the cache alone.

    Returns:
        `Selection` or `dict`: The selection that `stage` wrote; of a DatasetDict those of all splits by name, as
        `extend` of a DatasetDict takes them, unless `split` names one.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If the record or the table of picks cannot be read, or there is no such split.
        FileNotFoundError: If the repo or its record does not exist, or is private.
        PermissionError: If the repo is gated, or the Hub does not accept the token.
        OSError: If the Hub is out of reach.
        ImportError: If the extra `publish` is not installed.

    Example:

    ```python
    dataset.sae_select(6000, extend=load_selection("me/alpaca-3k"))
    ```
    """
    check_text("split", split, optional=True)
    repo = open_published(repo_or_folder, revision, token, cache_dir, local_files_only)
    records = parts_of(read_record(repo))
    if "" in records and split is not None:
        raise ValueError(f"`split={split!r}`: {repo.name} has one subset, without splits; leave it out")
    if split is not None and split not in records:
        raise ValueError(f"`split={split!r}`: {repo.name} has the splits {', '.join(records)}; pass one of them")
    names = records if split is None else [split]
    selections = {name: PublishedSubset.read(repo, name, records[name]).selection for name in names}
    return selections if "" not in records and split is None else next(iter(selections.values()))


def open_published(repo_or_folder: Any, revision: Any, token: Any, cache_dir: Any, local_files_only: Any) -> Repo:
    """Check the arguments that say where a published subset is, and return the repo at its commit.

    Raises:
        TypeError, ValueError: If an argument is wrong.
        FileNotFoundError, PermissionError, OSError: As `Repo.at`.
    """
    check_text("repo_or_folder", repo_or_folder, (str, Path))
    check_text("revision", revision, optional=True)
    check_text("cache_dir", cache_dir, (str, Path), optional=True)
    check_flag("local_files_only", local_files_only)
    check_token(token)
    place = os.path.expanduser(repo_or_folder)
    return Repo.at(place, revision, token, cache_dir, local_files_only, kind="dataset", newest=True).listed()


def read_record(repo: Repo) -> Record:
    """Read the record of a published subset, or of several splits, as it was written.

    Raises:
        FileNotFoundError: If the repo has no record.
        Unreadable: If the record is invalid.
        NewerRecord: If a later version of this library wrote the record.
        OSError: If the Hub does not send it.
    """
    try:
        return read(repo.fetch(RECORD_FILE))
    except NoSuchFile as error:
        raise FileNotFoundError(f"{repo.name} has no {RECORD_FILE}: it was not published by `sae_publish`") from error
    except NewerRecord:  # what it says cannot be told
        raise
    except ValueError as error:
        raise Unreadable("record", str(error)) from error


class Unreadable(ValueError):
    """The record or the table of picks cannot be read; `part` is "record" or "picks"."""

    def __init__(self, part: str, problem: str) -> None:
        super().__init__(problem)
        self.part = part


@dataclass(frozen=True, eq=False)
class PublishedSubset:
    """Hold what is read of a published subset, or of one of several splits."""

    repo: Repo
    """The repo, seen from the folder of the split."""
    split: str
    """The name of the split; empty for a subset without splits."""
    original: Record
    """The record as it was written."""
    record: Record
    """The record in the form of the current version."""
    selection: Selection
    """The selection of the table of picks."""
    row_digests: list[str]
    """SHA-256 of each picked row, from the table of picks."""
    feature_counts: NDArray[np.int64] | None
    """Number of features of each picked row, from the table of picks; None where it has none."""

    @classmethod
    def read(cls, repo: Repo, split: str, original: Record) -> PublishedSubset:
        """Read the table of picks.

        Args:
            repo: the whole repo, whose files are listed.
            split: the name of the split, one that a record of splits may have.
            original: the record of the split.

        Raises:
            Unreadable: If the table is missing or invalid.
            OSError: If the Hub does not send it.
        """
        repo = replace(repo, within=folder_of(split))
        try:
            return cls(repo, split, original, upgraded(original), *read_selection(repo.fetch(SELECTION_FILE)))
        except (ValueError, NoSuchFile) as error:
            raise Unreadable("picks", str(error)) from error

    @property
    def has_pool(self) -> bool:
        """Tell whether the features that the rows were selected by are published too."""
        return bool(pool_files_in(self.record["files"]))

    @property
    def lacks_likeness(self) -> bool:
        """Tell whether an early version wrote the record: then it has neither likeness nor quotas."""
        return bool(self.original["version"] < LIKENESS_SINCE)

    @property
    def recorded_selection(self) -> Selection:
        """The selection with the method and the parameters of the record."""
        recorded = self.record["selection"]
        return replace(self.selection, method=recorded["method"], parameters=recorded["parameters"])

    def read_pool(self) -> tuple[Dataset, Digests]:
        """Return the published pool, and the SHA-256 of each row of the source.

        Raises:
            ValueError, NoSuchFile: If the pool is missing or invalid.
            OSError: If the Hub does not send it.
        """
        encoding = self.record["encoding"]
        names = pool_files_in(self.record["files"])
        if names != pool_files(len(names)):
            raise ValueError(f"{RECORD_FILE} does not list all parts of the pool, but {', '.join(names) or 'none'}")
        files = [self.repo.fetch(name) for name in names]
        pool = read_pool(files, None if encoding is None else encoding["d_sae"])
        digests = b"".join(pool.with_format("arrow")[:][DIGEST].to_pylist())
        return pool, np.frombuffer(digests, np.uint8).reshape(-1, 32)

    def read_target(self) -> Target | None:
        """Return what was recorded of the target; None without one, or where it is not published.

        Raises:
            ValueError, NoSuchFile: If a table is missing or invalid.
            OSError: If the Hub does not send it.
        """
        if not has_target(self.record):
            return None
        parts, encoding = self.record["selection"]["parameters"]["target"], self.record["encoding"]
        sizes = self.record["target"]["sizes"]
        if sizes is None or len(sizes) != len(parts):
            raise ValueError(f"{RECORD_FILE} does not have the `sizes` of {len(parts)} targets, but {sizes}")
        sums = read_closeness(self.read_pool()[0], len(parts)) if reads_kernel(self.record) else []
        return read_target(self.repo.fetch(TARGET_FILE), parts, sizes, encoding["d_sae"], sums)
