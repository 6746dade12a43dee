"""Places of rows: files, patterns of files, folders and datasets of the Hub, named by a text, become a Dataset."""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any

from ._hub import Repo, hub_errors
from ._validation import is_hub_id

if TYPE_CHECKING:
    from datasets import Dataset

READERS = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv", ".txt": "text"}
# hf://datasets/owner/name, at a revision, and files in it.
DATASET_URL = re.compile(r"hf://datasets/(?P<name>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<files>.*))?")
BUCKET_URL = "hf://buckets/"


def rows_at(argument: str, dataset: Any) -> Any:
    """Return the rows at a place, where the argument names one by a text or a path; anything else as it is.

    Raises:
        FileNotFoundError, PermissionError, OSError, ValueError: As `Place.parse`, `Place.resolved` and `Place.load`.
    """
    if not isinstance(dataset, str | Path):
        return dataset
    return Place.parse(argument, str(dataset)).resolved(argument).load(argument)


@dataclass(frozen=True)
class Place:
    """Say where rows are: a file, files of a pattern, a folder, or a dataset on the Hub."""

    name: str
    """A path, a pattern of paths, the URL of a bucket, or the id of a Hub dataset."""
    split: str | None = None
    config_name: str | None = None
    revision: str | None = None
    files: str | None = None
    """Of a Hub dataset or a pattern: which files are read, such as `data/*.parquet`; None for all."""

    @classmethod
    def parse(cls, argument: str, text: str, **hub: str | None) -> Place:
        """Parse a path, a pattern of paths, `owner/name` or `hf://datasets/owner/name`, or these with `:split`.

        A revision that is an option of its own takes precedence over that of a URL.

        Args:
            argument: what an error calls it.
            **hub: split, config_name and revision, where they are options of their own.

        Raises:
            FileNotFoundError: If the text looks like a path, and nothing is there.
            ValueError: If it is no path, and cannot be the id of a Hub dataset.
        """
        if not text.strip():
            raise ValueError(f"`{argument}={text!r}` names no rows; pass a file, a pattern, a folder, or owner/name")
        if Path(text).expanduser().exists():
            if Path(text).resolve() == Path(text).resolve().parent:  # where datasets ends with an IndexError
                raise FileNotFoundError(f"`{argument}={text!r}` is the root of the disk; pass a folder of rows in it")
            return cls(str(Path(text).expanduser()), **hub)._local(argument)
        if text.startswith("hf://"):
            return cls._parse_url(argument, text, hub)
        if glob.has_magic(text):
            return cls._parse_pattern(argument, str(Path(text).expanduser()), hub)
        folder, _, split = text.rpartition(":")
        if split and Path(folder).expanduser().is_dir() and folder:
            return cls(str(Path(folder).expanduser()), **hub)._local(argument)._with_split(argument, text, split)
        name, _, split = text.partition(":")
        if Path(text).suffix.lower() in READERS or not is_hub_id(name):
            raise FileNotFoundError(
                f"`{argument}={text!r}`: there is no such file or folder, and it cannot be the id of a Hub dataset; "
                f"pass a file ({', '.join(READERS)}), a pattern such as 'data/*.parquet', a folder, or owner/name"
            )
        return cls(name, **hub)._with_split(argument, text, split)

    @classmethod
    def _parse_url(cls, argument: str, url: str, hub: dict[str, str | None]) -> Place:
        """Parse the URL of a dataset, of files in it, or of files in a bucket."""
        if url.startswith(BUCKET_URL):
            return cls(url, **hub, files=url)._local(argument)
        url_of_rows, _, split = url.partition(":")[2].partition(":")
        match = DATASET_URL.fullmatch(f"hf:{url_of_rows}")
        if match is None or not is_hub_id(match["name"]) or ".." in (match["files"] or "").split("/"):
            raise ValueError(
                f"`{argument}={url!r}` is no URL of rows; pass 'hf://datasets/owner/name', with '@revision', "
                "'/folder/*.parquet' or ':split' after it, or 'hf://buckets/owner/name/*.parquet'"
            )
        revision = hub.get("revision") or match["revision"]
        place = cls(match["name"], **hub | {"revision": revision}, files=(match["files"] or "").strip("/") or None)
        return place._with_split(argument, url, split)

    @classmethod
    def _parse_pattern(cls, argument: str, pattern: str, hub: dict[str, str | None]) -> Place:
        """Parse a pattern of files on this disk."""
        files = [file for file in glob.glob(pattern, recursive=True) if Path(file).is_file()]
        if not files:
            raise FileNotFoundError(f"`{argument}={pattern!r}`: there is no such file, and no file of this pattern")
        if len(kinds := sorted({Path(file).suffix.lower() for file in files})) > 1:
            raise ValueError(
                f"`{argument}={pattern!r}`: files are of several types ({', '.join(kinds)}); name one in the pattern"
            )
        return cls(pattern, **hub, files=pattern)._local(argument)

    def _with_split(self, argument: str, text: str, split: str) -> Place:
        """Return the same place with the split that its text names; an empty one is none."""
        if not split:
            return self
        if self.split not in (None, split):
            raise ValueError(f"`{argument}={text!r}` names a split, and `split={self.split!r}` another; pass one")
        return replace(self, split=split)

    def _local(self, argument: str) -> Place:
        """Check that nothing is passed that is of the Hub alone."""
        for name in ("config_name", "revision"):
            if (value := getattr(self, name)) is not None:
                raise ValueError(f"`{name}={value!r}` is of a Hub dataset, but `{argument}={self.name!r}` is none")
        if self.split is not None and (self.is_pattern or Path(self.name).is_file()):
            raise ValueError(f"`split={self.split!r}`: the file {self.name!r} has no splits; leave it out")
        return self

    @property
    def is_pattern(self) -> bool:
        """Tell whether the rows are in files of a pattern, on this disk or in a bucket."""
        return self.files == self.name

    def resolved(self, argument: str) -> Place:
        """Return the same place at the commit that its revision is now.

        Args:
            argument: what an error calls it.

        Raises:
            FileNotFoundError, PermissionError, OSError: As `Repo.at`.
        """
        if self.is_pattern or Path(self.name).exists():  # which have no commits
            return self
        try:
            return replace(self, revision=Repo.at(self.name, self.revision, kind="dataset").revision)
        except OSError as error:
            notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
            raise type(error)(f"`{argument}={self.name!r}`: {error}{notes}") from error

    def parquet_files(self) -> list[str]:
        """Return the paths or URLs of the Parquet files that this place names by themselves, in order; else none."""
        if Path(self.name).is_file() and Path(self.name).suffix.lower() == ".parquet":
            return [self.name]
        if not (self.files or "").lower().endswith(".parquet"):
            return []
        if self.is_pattern and not self.name.startswith(BUCKET_URL):
            return sorted(glob.glob(self.name, recursive=True))
        from huggingface_hub import HfFileSystem

        where = self.name.removeprefix("hf://") if self.is_pattern else self._hub_pattern
        with hub_errors(self.name, self.revision):
            return [f"hf://{file}" for file in sorted(HfFileSystem().glob(where))]

    @property
    def _hub_pattern(self) -> str:
        """The files of a Hub dataset as a path of its file system."""
        revision = f"@{self.revision}" if self.revision else ""
        return f"datasets/{self.name}{revision}/{self.files}"

    def load(self, argument: str) -> Dataset:
        """Load the rows.

        Raises:
            ValueError: If the file is damaged or of another type, or the dataset has several splits and none is named.
            OSError: If the Hub is out of reach, or has no such dataset.
        """
        from datasets import DatasetDict, load_dataset

        path = Path(self.name)
        if path.is_file():
            return _read_file(argument, path)
        if self.is_pattern:
            return _read_pattern(argument, self.name)
        if path.is_dir() and any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
            rows = self._saved(argument)
        elif path.is_dir():
            rows = _read_folder(argument, path)
        else:
            is_folder = self.files is not None and not glob.has_magic(self.files) and not Path(self.files).suffix
            data = {} if self.files is None else {"data_dir" if is_folder else "data_files": self.files}
            with _reading(argument, self.name), hub_errors(self.name, self.revision):
                rows = load_dataset(self.name, self.config_name, split=self.split, revision=self.revision, **data)
        return self._split_of(argument, rows) if isinstance(rows, DatasetDict) else rows

    def _saved(self, argument: str) -> Any:
        """Read a folder of `save_to_disk`.

        Raises:
            ValueError: It is damaged, or has no splits, and one is named.
        """
        from datasets import Dataset, load_from_disk

        try:
            rows = load_from_disk(self.name)
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"`{argument}={self.name!r}` is a folder of `save_to_disk`, and cannot be read: "
                f"{' '.join(str(error).split())}; save the rows again"
            ) from error
        if self.split is not None and isinstance(rows, Dataset):
            raise ValueError(
                f"`{argument}={self.name!r}` has no splits, and {self.split!r} is named; leave ':{self.split}' out"
            )
        return rows

    def _split_of(self, argument: str, splits: Any) -> Dataset:
        """Return the split that is named, or the only one."""
        if self.split is None and len(splits) == 1:
            return next(iter(splits.values()))
        if self.split not in splits:
            problem = "has several splits" if self.split is None else f"has no split {self.split!r}"
            example = f"{self.name}:{next(iter(splits))}"
            raise ValueError(
                f"`{argument}={self.name!r}` {problem}; name one of: {', '.join(splits)}, such as {example!r}"
            )
        return splits[self.split]


# What we and others write about rows.
NO_ROWS = {"provenance.json", "sae_encoding.json", "dataset_infos.json", "dataset_info.json", "config.json"}


def _read_folder(argument: str, folder: Path) -> Any:
    """Read the files of a folder, and warn of those that `datasets` leaves out.

    It reads files of one type, and of these some alone where a name says a split, such as `train.parquet`.
    """
    from datasets import load_dataset, load_dataset_builder

    path = str(folder.resolve())
    if glob.has_magic(path) or "::" in path:
        raise ValueError(
            f"`{argument}={str(folder)!r}`: datasets does not read a folder whose name has '*', '?', '[' or '::'; "
            "rename it"
        )
    with _reading(argument, str(folder)):
        rows, config = load_dataset(path), load_dataset_builder(path).config
    taken = {Path(str(file)) for files in config.data_files.values() for file in files}
    # A card that names configs says which files are of others.
    others = _left_out(Path(path), taken) if config.name.startswith("default") else []
    if others:
        warnings.warn(
            f"`{argument}={str(folder)!r}`: {len(others)} files were left out, such as {str(others[0])!r}: of a "
            "folder, datasets reads files of one type, and by names such as train and test; name all files by a "
            f"pattern such as '{folder}/**/*{min(taken).suffix}'",
            stacklevel=2,
        )
    return rows


def _left_out(folder: Path, taken: set[Path]) -> list[Path]:
    """Return the files of a folder that may hold rows, beside those that were taken; hidden ones do not."""
    others, has_texts = [], min(taken).suffix.lower() == ".txt"
    for file in folder.rglob("*"):
        name, kind = file.relative_to(folder), file.suffix.lower()
        is_note = kind == ".txt" and not has_texts  # such as a licence
        is_hidden = any(part.startswith((".", "__")) for part in name.parts)
        if kind in READERS and file.name not in NO_ROWS and file not in taken and not is_note and not is_hidden:
            others += [name] if file.is_file() else []
    return sorted(others)


@contextmanager
def _reading(argument: str, name: str) -> Iterator[None]:
    """Say in an error of `datasets` which place cannot be read, and why.

    Raises:
        FileNotFoundError: There are no files of rows.
        ValueError: Files are damaged, or do not have one schema.
    """
    from datasets.exceptions import DataFilesNotFoundError, DatasetGenerationError
    from datasets.load import EmptyDatasetError
    from pyarrow import ArrowInvalid

    try:
        yield
    except StopIteration:
        raise ValueError(f"`{argument}={name!r}` has no rows") from None
    except DatasetGenerationError as error:
        reason, file = " ".join(str(error.__cause__ or error).split()), _file_in(error.__cause__)
        if "Couldn't cast" in reason or "column names don't match" in reason:
            raise ValueError(
                f"`{argument}={name!r}`: the files do not have one schema{file} ({reason}); name those of one schema, "
                "by a pattern such as 'data/train-*.parquet'"
            ) from error
        raise ValueError(f"`{argument}={name!r}` cannot be read{file}: {reason}") from error
    except (OSError, ValueError) as error:
        missing = (DataFilesNotFoundError, EmptyDatasetError)
        is_missing = any(isinstance(one, missing) for one in (error, error.__cause__))
        if is_missing or "find cache for" in str(error):  # where `datasets` looks for what the Hub does not have
            reason = str(error).partition("\n")[0]
            raise FileNotFoundError(f"`{argument}={name!r}`: no files of rows are there ({reason})") from error
        if isinstance(error, OSError) and name.startswith(BUCKET_URL):
            raise OSError(
                f"`{argument}={name!r}`: the bucket does not exist, or your token may not read it ({error}); log in "
                "with one that may: `hf auth login`"
            ) from error
        if "corresponds to no data" in str(error):
            raise ValueError(f"`{argument}={name!r}` has no rows") from error
        if isinstance(error, ArrowInvalid):
            raise ValueError(f"`{argument}={name!r}` cannot be read: {error}") from error
        raise


def _file_in(error: BaseException | None) -> str:
    """Name the file that `datasets` was reading, which its errors do not tell: only its function knows."""
    frames = [] if error is None else [frame for frame, _ in walk_tb(error.__traceback__)]
    files = [frame.f_locals.get("file") for frame in frames if frame.f_code.co_name == "_generate_tables"]
    return f" in {files[-1]}" if files and files[-1] else ""


def _read_pattern(argument: str, pattern: str) -> Dataset:
    """Read all files of a pattern, which `load_dataset` takes as it is, as one split."""
    from datasets import load_dataset

    suffix = next((end for end in READERS if pattern.lower().endswith(end)), None)
    if suffix is None:
        local = [file for file in glob.glob(pattern, recursive=True) if Path(file).is_file()]
        suffix = Path(local[0]).suffix.lower() if local else ""
    if suffix not in READERS:
        raise ValueError(f"`{argument}={pattern!r}`: end the pattern with the type of the files: {', '.join(READERS)}")
    with _reading(argument, pattern), hub_errors(pattern):
        return load_dataset(READERS[suffix], data_files={"train": [pattern]}, split="train")


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
