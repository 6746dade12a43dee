"""Layout of a published subset: its files, how `load_dataset` reads them, and the form of names and digests."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

RECORD_FILE, CARD_FILE = "provenance.json", "README.md"
ROWS, SELECTION_FILE, POOL_FILE, REPORT_FILE = "data", "selection.parquet", "pool.parquet", "report.html"
TARGET_FILE = "target.parquet"
POOL_PARTS = re.compile(r"pool(-\d{5}-of-\d{5})?\.parquet")  # `POOL_FILE`, or the parts of a large pool
PLOT_FILES = {"likeness": "likeness.png", "coverage": "coverage.png"}  # of each measure
# Single files that the record lists.
SINGLE_FILES = frozenset({SELECTION_FILE, POOL_FILE, TARGET_FILE, REPORT_FILE, *PLOT_FILES.values()})
FILES = frozenset({ROWS, *SINGLE_FILES, RECORD_FILE, CARD_FILE})

SECTION = "card_section_sha256"  # of the record: digest of our section of the card
DIGEST = "row_sha256"  # column of both side tables
CLOSENESS = "target_closeness_"  # and a number: columns of the pool, one for each part of a target
LICENCE_FIELDS = ("license", "license_name", "license_link")

COMMIT = re.compile("[0-9a-f]{40}")
REPO_ID = re.compile(r"(?!\.)[\w.-]+/(?!\.)[\w.-]+")
SHA256 = re.compile("[0-9a-f]{64}")
# Names of splits that `load_dataset` takes, and every file system.
SPLIT = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
NO_SPLITS = {"all", *(name.casefold() for name in FILES)}  # `load_dataset` means all splits by "all"


def folder_of(split: str) -> str:
    """Return the folder of a split, with a slash at its end; empty for a subset without splits, named by ""."""
    return f"{split}/" if split else ""


def problem_of_splits(names: Iterable[str]) -> str | None:
    """Return why names of splits cannot be folders of a repo and names for `load_dataset`; None if they can."""
    seen: dict[str, str] = {}
    for name in names:
        if not isinstance(name, str) or not SPLIT.fullmatch(name) or len(name) > 100:
            return f"the split {name!r} must have a name of letters, digits, underscores and dots between them"
        if name.casefold() in NO_SPLITS:
            return f"the split {name!r} has a name that means something else in a repo"
        if other := seen.get(name.casefold()):
            return f"the splits {other!r} and {name!r} have names that some file systems take for one"
        seen[name.casefold()] = name
    return None


def configs_of(splits: Iterable[str]) -> list[dict[str, Any]]:
    """Return the card's metadata for `load_dataset`: the rows by default, the picks by the name "selection"."""
    splits = list(splits)

    def data_files(pattern: str) -> list[dict[str, str]]:
        return [{"split": split or "train", "path": f"{folder_of(split)}{pattern}"} for split in splits]

    return [
        {"config_name": "default", "data_files": data_files(f"{ROWS}/*.parquet"), "default": True},
        {"config_name": "selection", "data_files": data_files(SELECTION_FILE)},
    ]


def pool_files(parts: int) -> list[str]:
    """Return the names of the files of a pool in so many parts."""
    return [POOL_FILE] if parts == 1 else [f"pool-{part:05d}-of-{parts:05d}.parquet" for part in range(parts)]


def pool_files_in(names: Iterable[str]) -> list[str]:
    """Return the files of a pool among names of files, in the order of their rows; none without a pool."""
    return sorted(filter(POOL_PARTS.fullmatch, names))


def is_listed(name: str) -> bool:
    """Tell whether a record lists files of this name: those that `stage` writes, but for the record and the card."""
    split, _, inner = name.partition("/")
    name = inner if split not in FILES and SPLIT.fullmatch(split) else name
    return name in SINGLE_FILES or name.startswith(f"{ROWS}/") or POOL_PARTS.fullmatch(name) is not None


def is_rows(name: str) -> bool:
    """Tell whether a file of this name, which a record lists, has rows of the subset."""
    return ROWS in name.split("/")[:-1]
