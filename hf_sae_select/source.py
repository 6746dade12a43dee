"""Source: which published dataset rows are from, at which commit, and what its card says. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.repocard_data import CardData

from .cards import is_local, parsed
from .features import code_columns
from .hub import Repo, Token

COMMIT = re.compile("[0-9a-f]{40}")
# Where `load_dataset` keeps the rows of a Hub dataset: owner___name/config/version/commit/name-split.arrow
CACHED = re.compile(r"(?P<name>[^/]+)/(?P<config>[^/]+)/\d+\.\d+\.\d+/(?P<commit>[0-9a-f]{40})/[^/]+\.arrow$")
OURS = re.compile(r"\d{5}-of-\d{5}\.arrow")  # codes, which `encode` keeps beside the rows
ANONYMOUS = re.compile("-[0-9a-f]{16}$")  # of a config that `data_files` or `data_dir` made: a name nobody can load by

Given = str | Mapping[str, str | None]


@dataclass(frozen=True)
class Source:
    """Name a dataset on the Hub at a commit, or nothing: rows from files here or from memory, which others lack."""

    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    as_published: bool = False
    """Whether the rows are those that `load_dataset` gives, in that order; if not, they were made from them."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What `load_dataset` is called with to have it again."""
        return {"path": self.dataset, "name": self.config, "split": self.split, "revision": self.revision}

    def record(self) -> dict[str, Any]:
        """Say so in JSON."""
        return asdict(self)

    def card(self, token: Token = None) -> CardData:
        """Return the metadata of the dataset's card, from the cache where it is there; empty if it has none."""
        if self.dataset is None:
            return CardData()
        try:
            readme = Repo(self.dataset, None, self.revision, token, kind="dataset").fetch("README.md")
        except FileNotFoundError as error:
            if isinstance(error.__cause__, EntryNotFoundError):  # and not a repo that this token cannot see
                return CardData()
            raise
        return parsed(readme.read_text(encoding="utf-8"), f"{self.dataset}'s README.md").data


def find_source(ds: Dataset, given: Given | None = None, token: Token = None) -> Source:
    """Say where the rows of `ds` are from: as `given`, or by the place in the cache that `load_dataset` gave them.

    Args:
        given: a Hub id, or {"dataset": id, "config": ..., "split": ..., "revision": ...}; a revision that is no commit
            is resolved to one. It states that `load_dataset` with these gives the rows of `ds`.

    Raises:
        TypeError, ValueError: `given` is neither, or the cache does not tell the name of the dataset.
    """
    return _cached(ds) if given is None else _stated(ds, given, token)


def _stated(ds: Dataset, given: Given, token: Token) -> Source:
    stated: dict[str, Any] = {"dataset": given} if isinstance(given, str) else {}
    stated |= given if isinstance(given, Mapping) else {}
    if not stated.get("dataset") or stated.keys() - {"dataset", "config", "split", "revision"}:
        raise TypeError(
            f"`source={given!r}`: pass the id of a Hub dataset, or "
            "{'dataset': id, 'config': name, 'split': name, 'revision': commit}"
        )
    if not all(value is None or isinstance(value, str) for value in stated.values()) or is_local(stated["dataset"]):
        raise ValueError(f"`source={given!r}` names no dataset on the Hub (owner/name); leave it out for files here")
    split = stated.get("split") or (str(ds.split) if ds.split else "train")
    revision = stated.get("revision")
    if not COMMIT.fullmatch(revision or ""):
        revision = Repo.at(stated["dataset"], revision, token, kind="dataset").revision
    return Source(stated["dataset"], stated.get("config"), split, revision, as_published=True)


def _cached(ds: Dataset) -> Source:
    files = [Path(entry["filename"]) for entry in ds.cache_files]
    files = [file for file in files if not OURS.fullmatch(file.name)]
    found = [CACHED.search(file.as_posix()) for file in files]
    places = {(each["name"], each["config"], each["commit"]) for each in found if each}
    if not files or not all(found) or len(places) != 1:
        return Source()  # from memory, from files, or from several datasets
    ((folder, config, commit),) = places
    split = str(ds.split) if ds.split else None
    whole = split is not None and not ANONYMOUS.search(config) and _is_whole(ds, files, split)
    return Source(_name(folder, commit), config, split, commit, whole)


def _name(folder: str, commit: str) -> str:
    """Return the id of a dataset. Its folder's name has lost the capitals, but the Hub's cache knows the commit."""
    hub = Path(constants.HF_HUB_CACHE)
    found = {place.parent.parent.name for place in hub.glob(f"datasets--*/snapshots/{commit}")}
    if len(found) == 1:
        return found.pop().removeprefix("datasets--").replace("--", "/")
    raise ValueError(f"the cache does not tell which Hub dataset `{folder}` is; say so: `source='owner/name'`")


def _is_whole(ds: Dataset, files: list[Path], split: str) -> bool:
    """Tell whether `ds` is the split as `load_dataset` gives it: its own files, all columns, all rows, in order."""
    if ds._indices is not None or any(file.name.startswith("cache-") for file in files):
        return False
    there = datasets.concatenate_datasets([Dataset.from_file(str(file)) for file in files])
    there = there.remove_columns(code_columns(there))
    sizes = {name: each.num_examples for name, each in (ds.info.splits or {}).items()}
    try:
        parts = datasets.ReadInstruction.from_spec(split).to_absolute(sizes)
    except ValueError:
        return False
    return bool(ds.features == there.features and len(ds) == sum(part.to - part.from_ for part in parts))
