"""The store of codes: Arrow files in the cache of `datasets`, where rows are found by the digest of what was read.

A store holds what was encoded in one way, so the digest of a row decides its codes. A dataset whose rows were
shuffled, whose unread columns were changed or to which rows were added finds the rows that are stored.

While rows are encoded, they go into pieces, many of them small, with rows in any order. A piece appears when it is
complete, so an interrupted encoding goes on after the last one. Before rows are read, pieces are merged into files, in
the order of the dataset. So no dataset is a view of a piece.
"""

from __future__ import annotations

from contextlib import suppress
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

MOST_RUNS = 256  # a table of more stretches of files would be slow
BLOCK_ROWS = 4000  # rows in memory while codes are copied
FILE_ROWS = 2**20  # into which pieces are merged at most: the number of open files is limited
PIECES, FILES = "piece-*.arrow", "codes-*.arrow"  # `datasets` may keep files of its own in the folder


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
        # Pieces come first: one that another process merges meanwhile is then in a file.
        for stored in (self._rows(PIECES), self._rows(FILES)):
            first = first[~_is_in(digests.take(pa.array(first)), stored)]
        return np.sort(first)

    def assemble(self, digests: pa.Array, *, flat: bool = False) -> Dataset:
        """Return the codes of rows, all of which are stored.

        They are views of the files, where not too many rows stand apart; otherwise the dataset looks them up through a
        mapping, or, if `flat`, they are copied into a file of their own, once.

        Raises:
            OSError: A row is not stored, or a file is damaged.
        """
        self._merge(digests)
        stored = self._rows(FILES)
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
            self._copy(stored, places, file)
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

    def add(self, table: pa.Table, rows: int) -> None:
        """Write the codes of rows; `rows` is the number of rows that are still to be written, these included.

        Raises:
            OSError: The disk is full or the like; the message has the bytes that are needed.
        """
        piece = self.folder / f"piece-{_name(table.column(DIGEST))}.arrow"
        write_tables(piece, self.types.arrow_schema, [table], rows)

    def _merge(self, digests: pa.Array) -> None:
        """Copy rows from pieces to files, in this order, and remove pieces all of whose rows are in files."""
        pieces = self._opened(PIECES)
        if not pieces:
            return
        stored = datasets.concatenate_datasets([rows for _, rows in pieces])
        files, unique = self._rows(FILES), digests.unique()
        places = pc.index_in(unique.filter(pa.array(~_is_in(unique, files))), value_set=_digests(stored))
        places = places.drop_null().to_numpy()
        copies = pc.index_in(_digests(stored), value_set=_digests(stored)).to_numpy() != np.arange(len(stored))
        is_elsewhere = _is_in(_digests(stored), files) | copies
        starts = np.cumsum([0, *(len(rows) for _, rows in pieces[:-1])])
        for part in np.split(places, range(FILE_ROWS, len(places), FILE_ROWS)):
            if len(part):
                name = _name(_digests(stored).take(pa.array(part)))
                self._copy(stored, part, self.folder / f"codes-{name}.arrow")
            is_elsewhere[part] = True
            for i in np.flatnonzero(np.logical_and.reduceat(is_elsewhere, starts)):
                with suppress(OSError):  # Windows does not remove an open file
                    pieces[i][0].unlink(missing_ok=True)

    def _copy(self, stored: Dataset, places: NDArray[np.int64], file: Path) -> None:
        """Copy rows into a file."""
        blocks = np.split(places, range(BLOCK_ROWS, len(places), BLOCK_ROWS))
        tables = (gathered(stored.data.table, block) for block in blocks)
        write_tables(file, self.types.arrow_schema, tables, len(places))

    def _rows(self, pattern: str) -> Dataset | None:
        """Return all rows of the files of a kind, None without any."""
        opened = self._opened(pattern)
        return datasets.concatenate_datasets([rows for _, rows in opened]) if opened else None

    def _opened(self, pattern: str) -> list[tuple[Path, Dataset]]:
        """Open the files of a kind. Another process may remove pieces meanwhile, which it has merged."""
        while True:
            files = sorted(self.folder.glob(pattern))
            try:
                return [(file, self._open(file)) for file in files]
            except OSError:
                if all(file.exists() for file in files):
                    raise

    def _open(self, file: Path) -> Dataset:
        rows = open_file(file)
        if rows.features != self.types:
            raise damaged(file, f"it holds {', '.join(rows.column_names)}")
        return rows


def _digests(stored: Dataset) -> pa.Array:
    return stored.data.column(DIGEST).combine_chunks()


def _is_in(digests: pa.Array, stored: Dataset | None) -> NDArray[np.bool_]:
    """Tell which digests are among those of stored rows."""
    if stored is None:
        return np.zeros(len(digests), bool)
    is_stored: NDArray[np.bool_] = pc.is_in(digests, value_set=_digests(stored)).to_numpy(zero_copy_only=False)
    return is_stored


def _name(digests: pa.Array) -> str:
    """Name a file after the rows in it: then no clock and no other file decides the name."""
    return blake2b("".join(digests.to_pylist()).encode(), digest_size=16).hexdigest()
