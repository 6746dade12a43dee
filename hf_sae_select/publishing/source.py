"""Source: the Hub dataset that rows are from, its commit, and its card. No torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import Dataset
from datasets.arrow_reader import ArrowReader
from datasets.naming import camelcase_to_snakecase
from huggingface_hub import _CACHED_NO_EXIST, constants, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from huggingface_hub.repocard_data import CardData

from .._cards import parsed
from .._datasets import has_row_mapping
from .._hub import Repo, Token
from ..features.columns import without_codes
from .hashing import row_digests
from .layout import COMMIT, REPO_ID

CARD = "README.md"
# Where `load_dataset` keeps the rows of a Hub dataset: owner___name/config/version/commit/name-split.arrow
CACHED = re.compile(r"(?P<name>[^/]+)/(?P<config>[^/]+)/\d+\.\d+\.\d+/(?P<commit>[0-9a-f]{40})/[^/]+\.arrow$")
CODES = re.compile(r"/hf_sae_select/[0-9a-f]+/(ordered/)?[^/]+\.arrow$")  # files of `encode`, in the same cache
ANONYMOUS = re.compile("-[0-9a-f]{16}$|[=%]")  # a config that `load_dataset` named after its arguments: not loadable

SourceName = str | Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Name a dataset on the Hub at a commit; without `dataset`, rows from local files or memory, which others lack."""

    dataset: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    as_published: bool = False
    """Whether the rows are those that `load_dataset` returns, in that order; if not, they were made from them."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of `load_dataset` that load it again."""
        return {"path": self.dataset, "name": self.config, "split": self.split, "revision": self.revision}

    def record(self) -> dict[str, Any]:
        """Return the fields as JSON."""
        return asdict(self)

    def card(self, token: Token = None) -> CardData:
        """Return the metadata of the dataset's card, from the cache if possible; empty without a card."""
        if self.dataset is None:
            return CardData()
        cached = try_to_load_from_cache(self.dataset, CARD, revision=self.revision, repo_type="dataset")
        if cached is _CACHED_NO_EXIST:
            return CardData()
        try:
            readme = Repo(self.dataset, None, self.revision, token, kind="dataset").fetch(CARD)
            return self._linked(parsed(readme.read_text(encoding="utf-8")).data)
        except FileNotFoundError as error:
            if isinstance(
                error.__cause__, EntryNotFoundError
            ):  # no card; a repo that this token cannot access is an error
                return CardData()
            raise
        except ValueError:  # invalid metadata, which the Hub ignores too
            return CardData()

    def _linked(self, card: CardData) -> CardData:
        """Make the card's link to the licence absolute: a relative one names a file of the source's repo."""
        link = card.get("license_link")
        if isinstance(link, str) and "://" not in link:
            card["license_link"] = f"https://huggingface.co/datasets/{self.dataset}/blob/{self.revision}/{link}"
        return card


def find_source(
    dataset: Dataset, source: SourceName | None = None, token: Token = None, split: str = "train"
) -> Source:
    """Return the Hub dataset that rows are from: the one passed, or the one whose cache files the dataset reads.

    Args:
        source: a Hub id, or {"dataset": id, "config": ..., "split": ..., "revision": ..., "as_published": ...}. It
            states that `load_dataset` with these returns the rows of `dataset`, or, with "as_published" False, that
            they were made from those. A revision that is not a commit is resolved to one.
        split: the split of `source`, where neither it nor `dataset` says which.

    Raises:
        TypeError, ValueError: If `source` has another form, or the cache does not tell the name of the dataset.
    """
    if isinstance(source, str) and len({place[:3] for place in _places(dataset)}) == 1:
        return _cached(dataset, source)  # the cache has all but, perhaps, the name
    return _cached(dataset) if source is None else _passed(dataset, source, token, split)


def _passed(dataset: Dataset, source: SourceName, token: Token, split: str) -> Source:
    """Return the source that the user passed."""
    fields: dict[str, Any] = {"dataset": source} if isinstance(source, str) else {}
    fields |= source if isinstance(source, Mapping) else {}
    as_published = fields.pop("as_published", True)
    name = fields.get("dataset")
    if not name or fields.keys() - {"dataset", "config", "split", "revision"} or not isinstance(as_published, bool):
        raise TypeError(
            f"`source={source!r}`: pass the id of a Hub dataset, or "
            "{'dataset': id, 'config': name, 'split': name, 'revision': commit, 'as_published': True}"
        )
    if not all(value is None or isinstance(value, str) for value in fields.values()) or not REPO_ID.fullmatch(name):
        raise ValueError(
            f"`source={source!r}` does not name a dataset on the Hub (owner/name); omit it for rows from local files"
        )
    split = fields.get("split") or (str(dataset.split) if dataset.split else split)
    revision = fields.get("revision")
    if not COMMIT.fullmatch(revision or ""):
        revision = Repo.at(name, revision, token, kind="dataset").revision
    return Source(name, fields.get("config"), split, revision, as_published)


def origins(dataset: Dataset) -> list[Source]:
    """Return all Hub datasets whose cache files a dataset reads: the licence of each applies to its rows.

    Raises:
        ValueError: If there are several, and the cache does not tell the name of one.
    """
    places = list(dict.fromkeys((folder, commit) for folder, _, commit, _ in _places(dataset)))
    try:
        return [Source(_name(folder, commit), revision=commit) for folder, commit in places]
    except ValueError:
        if len(places) > 1:
            raise
        return []  # the name of a single one has been passed as `source`


def _files(dataset: Dataset) -> list[Path]:
    """Return the files that a dataset reads, without those of its codes."""
    files = [Path(entry["filename"]) for entry in dataset.cache_files]
    return [file for file in files if not CODES.search(file.as_posix())]


def _places(dataset: Dataset) -> list[tuple[str, str, str, Path]]:
    """Return name, config, commit and folder of the files in the cache of Hub datasets that a dataset reads."""
    matches = [(file, CACHED.search(file.as_posix())) for file in _files(dataset)]
    return [(match["name"], match["config"], match["commit"], file.parent) for file, match in matches if match]


def _cached(dataset: Dataset, name: str | None = None) -> Source:
    """Return the source that the place of the files in the cache tells."""
    files, places = _files(dataset), _places(dataset)
    if not files or len(places) < len(files) or len({place[:3] for place in places}) > 1:
        return Source()  # from memory, from files, or from several datasets
    folder, config, commit, path = places[0]
    if name is not None and folder != "___".join([*name.split("/")[:-1], camelcase_to_snakecase(name.split("/")[-1])]):
        raise ValueError(f"`source={name!r}`, but in the cache the rows are those of `{folder}`; omit `source`")
    name = name or _name(folder, commit)
    split = str(dataset.split) if dataset.split else None
    if ANONYMOUS.search(config):
        return Source(name, None, split, commit)
    return Source(name, config, split, commit, split is not None and _is_whole_split(dataset, path, split))


def _name(folder: str, commit: str) -> str:
    """Return the id of a dataset: its folder's name lacks the capitals, but the Hub's cache has the same commit."""
    hub = Path(constants.HF_HUB_CACHE)
    names = {snapshot.parent.parent.name for snapshot in hub.glob(f"datasets--*--*/snapshots/{commit}")}
    if len(names) == 1:
        return names.pop().removeprefix("datasets--").replace("--", "/")
    raise ValueError(f"the cache does not tell which Hub dataset `{folder}` is; pass its id: `source='owner/name'`")


def _is_whole_split(dataset: Dataset, folder: Path, split: str) -> bool:
    """Tell whether a dataset is a split as `load_dataset` reads it from `folder`: columns, rows and order."""
    if has_row_mapping(dataset):
        return False
    try:
        info = datasets.DatasetInfo.from_directory(str(folder))
        table = ArrowReader(str(folder), info).read(info.dataset_name, split, list((info.splits or {}).values()))
    except (ValueError, OSError):
        return False
    cached = without_codes(Dataset(**table))
    if list(dataset.features.items()) != list(cached.features.items()) or len(dataset) != len(cached):
        return False
    # Arrow compares bytes, but no NaN equals another.
    return dataset.data.table.equals(cached.data.table) or np.array_equal(row_digests(dataset), row_digests(cached))
