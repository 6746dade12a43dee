"""`encode_files`: rows in, Parquet files with codes out. Whoever encodes a shard reads and writes it.

A file appears whole or not at all, and its name says which shard it is, so the same call goes on where one stopped.
"""

from __future__ import annotations

import glob
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, concatenate_datasets
from fsspec.core import url_to_fs
from tqdm.auto import tqdm

from .._datasets import in_memory
from .._files import whole_file
from .._hub import hub_errors
from .._validation import check_int, check_text
from ..engines.cluster import Cluster
from ..engines.engine import Ray, device_of, engine_of
from ..engines.process_shards import ProcessGroup
from ..engines.session import opened
from ..features.columns import DIGEST, code_columns, column_types
from ..sae.loading import SaeSource, load_sae
from .arguments import EncodingArguments
from .claims import POLL_SECONDS
from .digests import digested, digests_of
from .distributed import shared_claims
from .encoder import Encoder
from .pipeline import check_free_columns, resolved_record, shared_folder
from .remote import MakeRowEncoder, RowEncoder
from .row_sources import Shard, source_of
from .rows import RowReader
from .run import progress_bar
from .text import find_text

SHARD_ROWS, SHARD_ROWS_CUDA = 4000, 2**16  # of a file: minutes of work
ABOUT = "sae_encoding.json"


def encode_files(
    dataset: Dataset | str | Path,
    out: str | Path,
    sae: SaeSource | None = None,
    *,
    shard_rows: int | None = None,
    engine: str | Ray | None = None,
    **arguments: Any,
) -> str:
    """Encode rows into Parquet files, so that no machine holds all of them.

    Shards of rows are encoded one by one, by this process or by all workers of an engine, and whoever encodes a shard
    writes its file. Files of a pattern that ends with `.parquet` are read by them too: then nothing goes through this
    process. Shards whose files exist are left out, so the same call goes on after an interruption. The file
    `sae_encoding.json` says how the rows were encoded.

    Args:
        dataset (`datasets.Dataset`, `str` or `Path`):
            Rows to encode, or their place, see `docs/big-data.md`, such as `"hf://datasets/owner/name/data/*.parquet"`.
        out (`str` or `Path`):
            Folder for the files, on a disk that all workers see, or on the Hub: `"hf://buckets/owner/name/folder"` or
            `"hf://datasets/owner/name/folder"`, where each file is a commit.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE, see `encode`.
        shard_rows (`int`, *optional*):
            The most rows of a file. By default 4,000 on a CPU and 65,536 on a GPU.
        engine (`str` or `Ray`, *optional*):
            Where rows are encoded, see `encode`.
        **arguments (`Any`):
            Other arguments of `encode`, such as `text` and `keep`.

    Returns:
        `str`: The place of the files, as `select`, `encode` and `load_dataset` take it.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed, or other rows or codes are in the folder.
        OSError: If the folder cannot be written to.

    Example:

    ```python
    place = encode_files("hf://datasets/me/pool/data/*.parquet", "hf://buckets/me/pool-codes", engine=Ray(gpus=1))
    subset = select(place, 100_000, "match")
    ```
    """
    check_text("out", out, (str, Path))
    check_int("shard_rows", shard_rows, optional=True)
    if unknown := arguments.keys() - signature(EncodingArguments.parse).parameters.keys():
        raise TypeError(f"`encode_files` has no argument `{min(unknown)}`; it takes those of `encode`")
    chosen, folder = engine_of(engine), OutputFolder(str(out))
    parsed = EncodingArguments.parse(of_workers=device_of(chosen), **arguments)
    source = source_of(dataset, folder.place)
    check_free_columns(source.head, parsed)
    encoder = Encoder(load_sae(sae, encoder_only=True), find_text(source.head, parsed.text), parsed)
    record = encoder.record()
    rows = shard_rows or (SHARD_ROWS_CUDA if parsed.device.type == "cuda" else SHARD_ROWS)
    shards = source.shards(rows)
    names = [f"rows-{i:06}-of-{len(shards):06}.parquet" for i in range(len(shards))]
    with opened(chosen) as running:
        about = {"encoding": record, "rows": source.identity(), "shard_rows": rows}
        is_new = folder.is_new(about, names)
        if isinstance(running, Cluster) and folder.whole(names) < set(names):
            running.workers  # noqa: B018, which refuses a cluster that is too small
        if is_new:
            folder.begin(about)
        make = MakeFileEncoder(MakeRowEncoder.of(encoder, record), resolved_record(encoder, record), folder.place)
        with progress_bar(len(source), encoder, "Encoding", encoder.arguments.show_progress_bar) as bar:
            _encode_missing(dict(zip(names, shards, strict=True)), folder, make, running, bar)
    folder.check_whole(names)
    return folder.pattern


def _encode_missing(
    shards: Mapping[str, Callable[[], Shard]],
    folder: OutputFolder,
    make: MakeFileEncoder,
    running: Cluster | ProcessGroup | None,
    bar: tqdm,
) -> None:
    """Encode the shards that have no file yet. Several processes share them by claims."""
    present = folder.whole(shards)
    missing = [name for name in shards if name not in present]
    if isinstance(running, Cluster):
        for _, rows in running.results(make, "write", len(missing), lambda i: (missing[i], shards[missing[i]]())):
            bar.update(rows)
        return
    worker: FileEncoder | None = None
    with shared_claims(shared_folder()) as claims:
        while set(missing) - claims.done():
            for name in claims.free(missing):
                worker = worker or make()  # loads the model
                bar.update(worker.write(name, shards[name]()))
                claims.finish(name)
            if set(missing) - claims.done():
                time.sleep(POLL_SECONDS)


class OutputFolder:
    """A folder of files on a disk or the Hub, where files appear whole.

    Raises:
        ValueError: `out` is no such place.
    """

    def __init__(self, out: str) -> None:
        self.out = out = out.removeprefix("file://")
        """The place as it was passed."""
        self.place = out.rstrip("/") if "://" in out else str(Path(out).expanduser().absolute())
        """An absolute path, which is the same for all workers, or a URL."""
        try:
            if "\0" in out:
                raise ValueError("no name has a null byte")
            self._system, self._path = url_to_fs(self.place)
        except (ValueError, ImportError) as error:
            raise ValueError(
                f"`out={out!r}` is no place for files: {error}; pass a folder, or a URL such as "
                "'hf://buckets/owner/name/folder'"
            ) from error

    @property
    def pattern(self) -> str:
        folder = self.out.rstrip("/")
        folder = folder if "://" in folder else glob.escape(str(Path(folder).expanduser()))
        return f"{folder}/rows-*.parquet"

    def names(self) -> set[str]:
        """Return the names of the files."""
        self._system.invalidate_cache()
        with self._using("reached"), self._hub_errors(), suppress(FileNotFoundError):
            return {path.rpartition("/")[2] for path in self._system.ls(self._path, detail=False)}
        return set()

    def whole(self, names: Iterable[str]) -> set[str]:
        """Return which files are there; one on this disk that was damaged meanwhile is not."""
        present = self.names() & set(names)
        return present if "://" in self.place else {name for name in present if _has_footer(f"{self._path}/{name}")}

    def is_new(self, about: dict[str, Any], names: list[str]) -> bool:
        """Tell whether no earlier call has written here; what one has written must be what this one would write.

        Args:
            about: what the files will hold.
            names: their names.

        Raises:
            ValueError: Other files are there.
        """
        present = self.names()
        if ABOUT in present:
            earlier, own = self._about(), json.loads(_text(about))
            if different := [name for name in about if earlier.get(name) != own[name]]:
                raise ValueError(
                    f"`out={self.out!r}` holds files of another call, with other {' and '.join(different)}: pass "
                    "the same arguments to go on with it, or another folder"
                )
        known = set(names) if ABOUT in present else set()  # it is written before any other file
        if foreign := sorted(name for name in present - known if name.endswith(".parquet")):
            raise ValueError(
                f"`out={self.out!r}` holds Parquet files of somebody else, or of a call whose {ABOUT} is gone, such "
                f"as {foreign[0]!r}; pass another folder, or remove them"
            )
        return ABOUT not in present

    def begin(self, about: dict[str, Any]) -> None:
        """Write what the files will hold.

        Raises:
            OSError: The folder cannot be written to.
        """
        self.write(ABOUT, lambda file: file.write_text(_text(about), encoding="utf-8"))

    def check_whole(self, names: Iterable[str]) -> None:
        """Check that all files are there.

        Raises:
            RuntimeError: Some are not: who wrote them sees another folder at this path.
        """
        if missing := sorted(set(names) - self.names()):
            raise RuntimeError(
                f"`out={self.out!r}`: {len(missing)} files are not there, such as {missing[0]}; workers and "
                "processes have written them elsewhere: pass the same folder in all, one that all machines see"
            )

    def _about(self) -> dict[str, Any]:
        """Return what an earlier call has written.

        Raises:
            ValueError: The file is damaged.
        """
        with self._using("reached"), self._hub_errors():
            text = self._system.cat_file(f"{self._path}/{ABOUT}")
        try:
            about: dict[str, Any] = dict(json.loads(text))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"`out={self.out!r}`: {ABOUT} is damaged ({error}), so nobody knows what the files hold; pass "
                "another folder, or remove them"
            ) from error
        return about

    def write(self, name: str, write: Callable[[Path], Any]) -> None:
        """Write a file by a function that writes to a path on this disk.

        Raises:
            OSError: It cannot be written.
        """
        with self._using("written to"):
            if "://" not in self.place:
                Path(self.place).mkdir(parents=True, exist_ok=True)
                with whole_file(Path(self.place) / name) as part:
                    write(part)
                return
            with tempfile.TemporaryDirectory() as scratch:
                write(Path(scratch) / name)
                with self._hub_errors():
                    self._system.put_file(str(Path(scratch) / name), f"{self._path}/{name}")

    def _hub_errors(self) -> AbstractContextManager[None]:
        return hub_errors(self.place) if self.place.startswith("hf://") else nullcontext()

    @contextmanager
    def _using(self, verb: str) -> Iterator[None]:
        of_hub = (OSError, ValueError) if self.place.startswith("hf://") else OSError  # a ValueError of the URL
        try:
            yield
        except of_hub as error:
            is_remote, reason = "://" in self.place, " ".join(str(error).split())
            remedy = (
                "create it first, and log in with a token that may write there"
                if is_remote
                else ("free space there, or pass a folder that can be written to")
            )
            raise OSError(
                f"`out={self.out!r}` cannot be {verb}: {reason}; {remedy}. Files that are there are kept"
            ) from error


def _text(about: dict[str, Any]) -> str:
    return json.dumps(about, indent=1, sort_keys=True)


def _has_footer(file: str) -> bool:
    try:
        pq.read_metadata(file)
    except (OSError, pa.ArrowInvalid):
        return False
    return True


@dataclass(frozen=True)
class MakeFileEncoder:
    """Make a `FileEncoder`, here or in a worker."""

    make: MakeRowEncoder
    record: dict[str, Any]
    """The encoding record of the files."""
    out: str

    def __call__(self) -> FileEncoder:
        return FileEncoder(self.make(), self.record, OutputFolder(self.out))


class FileEncoder:
    """Encode shards, and write each to a file."""

    def __init__(self, encoder: RowEncoder, record: dict[str, Any], folder: OutputFolder) -> None:
        self._encoder, self._record, self._folder = encoder, record, folder

    def write(self, name: str, shard: Shard) -> int:
        """Encode a shard, write it with its codes, and return the number of its rows."""
        rows, encoder, tables = shard.read(), self._encoder.encoder, []
        for start in range(0, shard.rows, encoder.group_rows):
            part = np.arange(start, min(start + encoder.group_rows, shard.rows))
            tables.append(self._encoder.encode(shard.first + part, rows.select(part))[1])
        reader = RowReader(rows, encoder.rendering, encoder.template)
        table = pa.concat_tables(tables).append_column(DIGEST, digests_of(reader))
        types = column_types(self._record, encoder.state_width, digested(rows, encoder.rendering))
        codes = in_memory(table.select(list(types)).cast(types.arrow_schema), types)
        coded = concatenate_datasets([rows.remove_columns(code_columns(rows)), codes], axis=1)
        self._folder.write(name, lambda file: coded.to_parquet(file, write_page_checksum=True))
        return shard.rows
