"""Places of rows: files, folders and datasets of the Hub, named by a text, become a Dataset."""

from __future__ import annotations

import glob
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._hub import Repo, hub_errors
from ._validation import is_hub_id

if TYPE_CHECKING:
    from datasets import Dataset

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}


@dataclass(frozen=True)
class Place:
    """Say where rows are: a file, a folder, or a dataset on the Hub."""

    name: str
    """A path, or the id of a Hub dataset."""
    split: str | None = None
    config_name: str | None = None
    revision: str | None = None

    @classmethod
    def parse(cls, argument: str, text: str, **hub: str | None) -> Place:
        """Parse `path`, or `owner/name` with or without `:split`.

        Args:
            argument: what an error calls it.
            **hub: split, config_name and revision, where they are options of their own.

        Raises:
            FileNotFoundError: If the text looks like a path, and nothing is there.
            ValueError: If it is no path, and cannot be the id of a Hub dataset.
        """
        if Path(text).expanduser().exists():
            return cls(str(Path(text).expanduser()), **hub)._local(argument)
        name, _, split = text.partition(":")
        if Path(text).suffix.lower() in READERS or not is_hub_id(name):
            raise FileNotFoundError(
                f"`{argument}={text!r}`: there is no such file or folder, and it cannot be the id of a Hub dataset; "
                f"pass a file ({', '.join(READERS)}), a folder of `save_to_disk`, or owner/name"
            )
        place = cls(name, **hub)
        if not split:
            return place
        if place.split not in (None, split):
            raise ValueError(f"`{argument}={text!r}` names a split, and `split={place.split!r}` another; pass one")
        return replace(place, split=split)

    def _local(self, argument: str) -> Place:
        """Check that nothing is passed that is of the Hub alone."""
        for name in ("config_name", "revision"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(f"`{name}={value!r}` is of a Hub dataset, but `{argument}={self.name!r}` is on disk")
        if self.split is not None and Path(self.name).is_file():
            raise ValueError(f"`split={self.split!r}`: the file {self.name!r} has no splits; leave it out")
        return self

    @property
    def is_local(self) -> bool:
        """Tell whether the rows are on this disk."""
        return Path(self.name).exists()

    def resolved(self) -> Place:
        """Return the same place at the commit that its revision is now.

        Raises:
            FileNotFoundError, PermissionError, OSError: As `Repo.at`.
        """
        if self.is_local:
            return self
        return replace(self, revision=Repo.at(self.name, self.revision, kind="dataset").revision)

    def load(self, argument: str) -> Dataset:
        """Load the rows.

        Raises:
            ValueError: If the file is damaged or of another type, or the dataset has several splits and none is named.
            OSError: If the Hub is out of reach, or has no such dataset.
        """
        from datasets import DatasetDict, load_dataset, load_from_disk

        path = Path(self.name)
        if path.is_file():
            return _read_file(argument, path)
        if path.is_dir() and any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            rows = load_from_disk(str(path))
        elif path.is_dir():
            rows = load_dataset(str(path))
        else:
            with hub_errors(self.name, self.revision):
                rows = load_dataset(self.name, self.config_name, split=self.split, revision=self.revision)
        return self._split_of(argument, rows) if isinstance(rows, DatasetDict) else rows

    def _split_of(self, argument: str, splits: Any) -> Dataset:
        """Return the split that is named, or the only one."""
        if self.split is None and len(splits) == 1:
            return next(iter(splits.values()))
        if self.split not in splits:
            problem = "has several splits" if self.split is None else f"has no split {self.split!r}"
            raise ValueError(f"`{argument}={self.name!r}` {problem}; pass `--split` with one of: {', '.join(splits)}")
        return splits[self.split]


def _read_file(argument: str, path: Path) -> Dataset:
    from datasets import load_dataset
    from datasets.exceptions import DatasetGenerationError
    from pyarrow.parquet import read_schema

    kind = READERS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(
            f"`{argument}={str(path)!r}`: the type {path.suffix!r} is not read; pass {', '.join(READERS)}"
        )
    if "::" in str(path):  # datasets takes it for a chain of file systems
        raise ValueError(f"`{argument}={str(path)!r}`: datasets does not read paths with '::'; rename the file")
    if path.stat().st_size == 0:
        raise ValueError(f"`{argument}={str(path)!r}` has no rows: the file is empty")
    try:
        if kind == "parquet":  # datasets would log an error too
            read_schema(path)
        # A name such as a[1].csv is no pattern.
        return load_dataset(kind, data_files={"train": [glob.escape(str(path))]}, split="train")
    except StopIteration:
        raise ValueError(f"`{argument}={str(path)!r}` has no rows") from None
    except (DatasetGenerationError, ValueError) as error:
        if "corresponds to no data" in str(error):
            raise ValueError(f"`{argument}={str(path)!r}` has no rows") from error
        cause = error.__cause__ or error
        raise ValueError(f"`{argument}={str(path)!r}` cannot be read as {kind}: {cause}") from error
