"""The store of codes: Arrow files in the cache of `datasets`, where rows are found by the digest of what was read.

A store holds what was encoded in one way, so the digest of a row decides its codes. A dataset whose rows were
shuffled, whose unread columns were changed or to which rows were added finds the rows that are stored. A file appears
when it is complete, so an interrupted encoding goes on after the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from .._arrow import damaged, gathered, open_file, write_tables, writing
from .._files import remove_leftovers
from ..features.columns import DIGEST

MOST_RUNS = 256  # a table of more pieces would be slow
BLOCK_ROWS = 4000  # rows in memory while codes are copied


class CodeStore:
    """Keep the code columns of rows. What killed processes have left in the folder is removed.

    Args:
        folder (`Path`):
            Folder of the store, named after all that decides the codes but the row.
        types (`datasets.Features`):
            Types of the columns; one of them holds the digests.
    """

    def __init__(self, folder: Path, types: datasets.Features) -> None:
        self.folder, self.types = folder, types
        self._ordered = folder / "ordered"
        for part in (folder, self._ordered):
            remove_leftovers(part)

    def missing(self, digests: pa.Array) -> NDArray[np.int64]:
        """Return, for each digest that is not stored, the first row that has it."""
        unique = digests.dictionary_encode()
        _, first = np.unique(unique.indices.to_numpy(), return_index=True)
        if (stored := self._rows()) is not None:
            is_stored = pc.is_in(unique.dictionary, value_set=_digests(stored))
            first = first[~is_stored.to_numpy(zero_copy_only=False)]
        return np.sort(first)

    def assemble(self, digests: pa.Array, *, flat: bool = False) -> Dataset:
        """Return the codes of rows, all of which are stored.

        They are views of the files, where not too many rows stand apart; otherwise the dataset looks them up through a
        mapping, or, if `flat`, they are copied into a file of their own, once.

        Raises:
            OSError: A row is not stored, or a file is damaged.
        """
        stored = self._rows()
        places = pc.index_in(digests, value_set=digests[:0] if stored is None else _digests(stored))
        if stored is None or places.null_count:
            raise OSError(f"{places.null_count:,} rows that were encoded are no longer in {self.folder}; encode again")
        places = places.to_numpy()
        runs = np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)
        if len(runs) <= MOST_RUNS:
            return datasets.concatenate_datasets([stored.select(range(run[0], run[-1] + 1)) for run in runs])
        if not flat:
            return stored.select(places)
        file = self._ordered / f"{_name(digests)}.arrow"
        if not file.is_file():
            blocks = np.split(places, range(BLOCK_ROWS, len(places), BLOCK_ROWS))
            tables = (gathered(stored.data.table, block) for block in blocks)
            write_tables(file, self.types.arrow_schema, tables, len(places))
        return self._open(file)

    def prepare(self) -> None:
        """Create the folder.

        Raises:
            OSError: It cannot be written to.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=self.folder):
                pass

    def add(self, digests: pa.Array, tables: Iterable[pa.Table], rows: int) -> None:
        """Write the codes of rows; `rows` is the number of rows that are still to be written, these included.

        Raises:
            OSError: The disk is full or the like; the message has the bytes that are needed.
        """
        write_tables(self.folder / f"codes-{_name(digests)}.arrow", self.types.arrow_schema, tables, rows)

    def _rows(self) -> Dataset | None:
        """Return all rows that are stored, None without any."""
        files = sorted(self.folder.glob("codes-*.arrow"))  # `datasets` may keep files of its own in this folder
        return datasets.concatenate_datasets([self._open(file) for file in files]) if files else None

    def _open(self, file: Path) -> Dataset:
        rows = open_file(file)
        if rows.features != self.types:
            raise damaged(file, f"it holds {', '.join(rows.column_names)}")
        return rows


def _digests(stored: Dataset) -> pa.Array:
    return stored.data.column(DIGEST).combine_chunks()


def _name(digests: pa.Array) -> str:
    """Name a file after the rows in it: then no clock and no other file decides the name."""
    return blake2b("".join(digests.to_pylist()).encode(), digest_size=16).hexdigest()
