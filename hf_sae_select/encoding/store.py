"""The store of codes: Arrow files in the cache of `datasets`, where rows are found by the digest of what was read.

A store holds what was encoded in one way, so the digest of a row decides its codes. A dataset whose rows were
shuffled, whose unread columns were changed or to which rows were added finds the rows that are stored. A file appears
when it is complete, so an interrupted encoding goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from .._datasets import has_row_mapping
from .._files import remove_leftovers, whole_file
from ..features.columns import DIGEST
from .digests import BATCH_ROWS

MOST_RUNS = 256  # a table of more pieces would be slow


class CodeStore:
    """Keep the code columns of rows.

    Args:
        folder (`Path`):
            Folder of the store, named after all that decides the codes but the row.
        types (`datasets.Features`):
            Types of the columns; one of them holds the digests.
    """

    def __init__(self, folder: Path, types: datasets.Features) -> None:
        self.folder, self.types = folder, types

    def missing(self, digests: pa.Array) -> NDArray[np.int64]:
        """Return, for each digest that is not stored, the first row that has it."""
        unique = digests.dictionary_encode()
        _, first = np.unique(unique.indices.to_numpy(), return_index=True)
        if (stored := self._rows()) is not None:
            is_stored = pc.is_in(unique.dictionary, value_set=_digests(stored))
            first = first[~is_stored.to_numpy(zero_copy_only=False)]
        return np.sort(first)

    def assemble(self, digests: pa.Array) -> Dataset:
        """Return the codes of rows, all of which are stored. No number is copied; a mapping may give the order.

        Raises:
            OSError: A row is not stored, or a file is damaged.
        """
        stored = self._rows()
        places = pc.index_in(digests, value_set=digests[:0] if stored is None else _digests(stored))
        if stored is None or places.null_count:
            raise OSError(f"{places.null_count:,} rows that were encoded are no longer in {self.folder}; encode again")
        places = places.to_numpy()
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        if len(runs) > MOST_RUNS:
            return stored.select(places)
        return datasets.concatenate_datasets([stored.select(range(run[0], run[-1] + 1)) for run in runs])

    def flatten(self, codes: Dataset, digests: pa.Array) -> Dataset:
        """Return assembled codes without a mapping; such ones are copied into a file of their own, once."""
        if not has_row_mapping(codes):
            return codes
        file = self.folder / "ordered" / f"{_name(digests)}.arrow"
        if not file.is_file():
            view = codes.with_format("arrow")
            self._write(file, (view[i : i + BATCH_ROWS] for i in range(0, len(codes), BATCH_ROWS)), len(codes))
        return self._open(file)

    def prepare(self) -> None:
        """Create the folder, and remove what killed processes have left in it.

        Raises:
            OSError: It cannot be written to.
        """
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass
        for folder in (self.folder, self.folder / "ordered"):
            remove_leftovers(folder)

    def add(self, digests: pa.Array, tables: Iterable[pa.Table], rows: int) -> None:
        """Write the codes of rows; `rows` is the number of rows that are still to be written, these ones included.

        Raises:
            OSError: The disk is full or the like; the message has the bytes that are needed.
        """
        self._write(self.folder / f"{_name(digests)}.arrow", tables, rows)

    def _write(self, file: Path, tables: Iterable[pa.Table], rows: int) -> None:
        """Write tables as `Dataset.map` does."""
        schema = self.types.arrow_schema
        with ExitStack() as stack:
            with _explained(file):
                file.parent.mkdir(exist_ok=True)
                part = stack.enter_context(whole_file(file))
                sink = pa.OSFile(str(part), "wb")
                writer = pa.ipc.new_stream(sink, schema)
            for table in tables:
                with _explained(file, rows * table.nbytes / max(len(table), 1)):
                    writer.write_table(table.select(schema.names).cast(schema))
                rows -= len(table)
            with _explained(file):
                writer.close()
                sink.close()

    def _rows(self) -> Dataset | None:
        """Return all rows that are stored, None without any."""
        files = sorted(self.folder.glob("*.arrow"))
        return datasets.concatenate_datasets([self._open(file) for file in files]) if files else None

    def _open(self, file: Path) -> Dataset:
        try:
            rows = Dataset.from_file(str(file))
            if rows.features != self.types:
                raise ValueError(f"it holds the columns {', '.join(rows.column_names)}")
        except (OSError, ValueError) as error:  # Arrow raises both
            raise OSError(f"the cache file {file} is damaged ({error}); delete it, and encode again") from error
        return rows


@contextmanager
def _explained(path: Path, needed: float = 0) -> Iterator[None]:
    """Say in an error of writing what to do about it; `needed` is the number of bytes still to be written."""
    try:
        yield
    except OSError as error:
        size = f" ({needed / 1e6:,.1f} MB are still to be written)" if needed else ""
        raise OSError(
            error.errno,
            f"cannot write codes to {path}: {error.strerror or error}{size}; free space there, or set the environment "
            "variable HF_DATASETS_CACHE to a folder that can be written to; codes of finished files are kept",
        ) from error


def _digests(stored: Dataset) -> pa.Array:
    return stored.data.column(DIGEST).combine_chunks()


def _name(digests: pa.Array) -> str:
    """Name a file after the rows in it: then no clock and no other file decides the name."""
    return blake2b("".join(digests.to_pylist()).encode(), digest_size=16).hexdigest()
