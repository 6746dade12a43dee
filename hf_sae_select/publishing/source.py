"""Source: which published dataset rows are from, at which commit, and what its card says. No torch."""

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
OURS = re.compile(r"\d{5}-of-\d{5}\.arrow")  # codes, which `encode` keeps beside the rows
ANONYMOUS = re.compile("-[0-9a-f]{16}$|[=%]")  # of a config that arguments made: a name that nobody can load by

SourceName = str | Mapping[str, Any]


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
        """Return the metadata of the dataset's card, from the cache where it is there; empty where there is none."""
        if self.dataset is None:
            return CardData()
        known = try_to_load_from_cache(self.dataset, CARD, revision=self.revision, repo_type="dataset")
        if known is _CACHED_NO_EXIST:
            return CardData()
        try:
            readme = Repo(self.dataset, None, self.revision, token, kind="dataset").fetch(CARD)
            return self._linked(parsed(readme.read_text(encoding="utf-8")).data)
        except FileNotFoundError as error:
            if isinstance(error.__cause__, EntryNotFoundError):  # and not a repo that this token cannot see
                return CardData()
            raise
        except ValueError:  # metadata that nobody can read, the Hub no more than we
            return CardData()

    def _linked(self, card: CardData) -> CardData:
        """Return a card whose link to the licence leads to the source's own file, where it led to one beside it."""
        link = card.get("license_link")
        if isinstance(link, str) and "://" not in link:
            card["license_link"] = f"https://huggingface.co/datasets/{self.dataset}/blob/{self.revision}/{link}"
        return card


def find_source(ds: Dataset, given: SourceName | None = None, token: Token = None) -> Source:
    """Say where the rows of `ds` are from: as `given`, or by the place in the cache that `load_dataset` gave them.

    Args:
        given: a Hub id, or {"dataset": id, "config": ..., "split": ..., "revision": ..., "as_published": ...}; a
            revision that is no commit is resolved to one. It states that `load_dataset` with these gives the rows of
            `ds`, or, with "as_published" False, that they were made from those.

    Raises:
        TypeError, ValueError: `given` is neither, or the cache does not tell the name of the dataset.
    """
    if isinstance(given, str) and len({place[:3] for place in _places(ds)}) == 1:
        return _cached(ds, given)  # of which the name alone may not be known
    return _cached(ds) if given is None else _stated(ds, given, token)


def _stated(ds: Dataset, given: SourceName, token: Token) -> Source:
    stated: dict[str, Any] = {"dataset": given} if isinstance(given, str) else {}
    stated |= given if isinstance(given, Mapping) else {}
    whole = stated.pop("as_published", True)
    if (
        not stated.get("dataset")
        or stated.keys() - {"dataset", "config", "split", "revision"}
        or not isinstance(whole, bool)
    ):
        raise TypeError(
            f"`source={given!r}`: pass the id of a Hub dataset, or "
            "{'dataset': id, 'config': name, 'split': name, 'revision': commit, 'as_published': True}"
        )
    if not all(value is None or isinstance(value, str) for value in stated.values()) or not REPO_ID.fullmatch(
        stated["dataset"]
    ):
        raise ValueError(f"`source={given!r}` names no dataset on the Hub (owner/name); leave it out for files here")
    split = stated.get("split") or (str(ds.split) if ds.split else "train")
    revision = stated.get("revision")
    if not COMMIT.fullmatch(revision or ""):
        revision = Repo.at(stated["dataset"], revision, token, kind="dataset").revision
    return Source(stated["dataset"], stated.get("config"), split, revision, whole)


def origins(ds: Dataset) -> list[Source]:
    """Return the Hub datasets that rows of `ds` are from, as far as the cache tells: each has a licence to heed.

    Raises:
        ValueError: there are several, and the cache does not tell the name of one.
    """
    places = list(dict.fromkeys((folder, commit) for folder, _, commit, _ in _places(ds)))
    try:
        return [Source(_name(folder, commit), revision=commit) for folder, commit in places]
    except ValueError:
        if len(places) > 1:
            raise
        return []  # of a single one, the name has been stated


def _places(ds: Dataset) -> list[tuple[str, str, str, Path]]:
    """Return where in the cache of Hub datasets the rows lie: name, config, commit and folder; "" elsewhere."""
    files = [Path(entry["filename"]) for entry in ds.cache_files]
    found = [(file, CACHED.search(file.as_posix())) for file in files if not OURS.fullmatch(file.name)]
    return [(each["name"], each["config"], each["commit"], file.parent) for file, each in found if each]


def _cached(ds: Dataset, name: str | None = None) -> Source:
    files = [entry for entry in ds.cache_files if not OURS.fullmatch(Path(entry["filename"]).name)]
    places = _places(ds)
    if not files or len(places) < len(files) or len({place[:3] for place in places}) > 1:
        return Source()  # from memory, from files, or from several datasets
    folder, config, commit, path = places[0]
    if name is not None and folder != "___".join([*name.split("/")[:-1], camelcase_to_snakecase(name.split("/")[-1])]):
        raise ValueError(f"`source={name!r}`, but the cache has the rows as those of `{folder}`; leave `source` out")
    name = name or _name(folder, commit)
    split = str(ds.split) if ds.split else None
    if ANONYMOUS.search(config):
        return Source(name, None, split, commit)
    return Source(name, config, split, commit, split is not None and _is_whole(ds, path, split))


def _name(folder: str, commit: str) -> str:
    """Return the id of a dataset. Its folder's name has lost the capitals, but the Hub's cache knows the commit."""
    hub = Path(constants.HF_HUB_CACHE)
    found = {place.parent.parent.name for place in hub.glob(f"datasets--*--*/snapshots/{commit}")}
    if len(found) == 1:
        return found.pop().removeprefix("datasets--").replace("--", "/")
    raise ValueError(f"the cache does not tell which Hub dataset `{folder}` is; say so: `source='owner/name'`")


def _is_whole(ds: Dataset, folder: Path, split: str) -> bool:
    """Tell whether `ds` is the split as `load_dataset` reads it from `folder`: the same columns and rows, in order."""
    if has_row_mapping(ds):
        return False
    try:
        info = datasets.DatasetInfo.from_directory(str(folder))
        read = ArrowReader(str(folder), info).read(info.dataset_name, split, list((info.splits or {}).values()))
    except (ValueError, OSError):
        return False
    there = without_codes(Dataset(**read))
    if list(ds.features.items()) != list(there.features.items()) or len(ds) != len(there):
        return False
    # Arrow compares bytes, but takes no NaN for equal to another.
    return ds.data.table.equals(there.data.table) or np.array_equal(row_digests(ds), row_digests(there))
