"""The encoding of the rows that a store lacks: stages in threads, files all along, and the progress bar.

Reading and tokenising is the first stage, language model and SAE are the second. The main thread collects and writes
the codes. So a GPU waits for neither tokenizer nor disk, and Ctrl-C reaches a thread that can stop the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from datasets.fingerprint import is_caching_enabled
from datasets.utils import are_progress_bars_disabled
from numpy.typing import NDArray
from tqdm.auto import tqdm

from .._cards import UNSEEN
from ..engines.processes import processes
from ..features.columns import DIGEST
from .claims import POLL_SECONDS, Claims
from .collector import RowCollector
from .encoder import Encoder, Pass, RowGroup
from .interrupts import Interrupts
from .libraries import import_libraries
from .rows import RowReader
from .stages import ahead
from .store import CodeStore
from .text import Rendering, Text

# Rows are written when they are complete, after so many seconds or bytes: an interruption loses the work since then.
FILE_SECONDS, FILE_BYTES = 30.0, 2**26
TASK_ROWS = 4000  # rows that a process claims at once
TASKS_PER_PROCESS = 8  # at least, so that processes end at about the same time
READ_ROWS = 1000  # rows that are read at once
GROUP_CHARACTERS = 2**24  # of texts that are tokenised together
GROUPS_AHEAD, PASSES_AHEAD = 1, 3
BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"  # as tqdm has it


class EncodingRun:
    """Encode rows of a dataset into a store, together with the other processes of a job.

    Args:
        store (`CodeStore`):
            Where the codes go.
        encoder (`Encoder`):
            Makes them.
        reader (`RowReader`):
            Reads the rows.
        digests (`pa.Array`):
            The digests of all rows of the dataset.
        rows (`NDArray`):
            Numbers of the rows to encode, ascending.
        claims (`Claims`):
            Which process encodes which of them.
    """

    def __init__(
        self,
        store: CodeStore,
        encoder: Encoder,
        reader: RowReader,
        digests: pa.Array,
        rows: NDArray[np.int64],
        claims: Claims,
    ) -> None:
        self.store, self.encoder, self.reader = store, encoder, reader
        self.digests, self.rows, self.claims = digests, rows, claims
        self._task_rows = max(TASK_ROWS, encoder.group_rows)
        if (count := processes().num_processes) > 1:
            self._task_rows = min(self._task_rows, -(-len(rows) // (TASKS_PER_PROCESS * count)))
        starts = range(0, len(rows), self._task_rows)
        self._tasks = {str(i): rows[start : start + self._task_rows] for i, start in enumerate(starts)}
        self._unwritten = {task: len(rows) for task, rows in self._tasks.items()}  # rows of each task

    def __call__(self) -> None:
        """Encode all rows.

        Raises:
            KeyboardInterrupt: The message says how many rows are kept.
            OSError: The store cannot be written to.
        """
        self.store.prepare()
        show = self.encoder.arguments.show_progress_bar
        import_libraries(show)  # before the bar, which would stand still
        with progress_bar(len(self.rows), self.encoder, "Encoding", show) as self._bar:
            try:
                self.encoder.load()
                self._collector = RowCollector(self.encoder)
                self._begun_rows = self._begun_tokens = 0  # of the groups that have come
                self._tokens, self._begin = 0, time.monotonic()
                self._written = self._begin
                self._bar.unpause()  # loading is no part of rows/s
                with Interrupts(self._say_stopping) as self._interrupts:
                    while self._encode_free_tasks():
                        time.sleep(POLL_SECONDS)
            except KeyboardInterrupt:
                raise interruption(len(self.rows) - self._left(), len(self.rows), self.store.folder) from None

    def _encode_free_tasks(self) -> bool:
        """Encode the tasks that no other process has, and tell whether others are not done yet."""
        self._interrupts.check()
        results = ahead(self._results(ahead(self._groups(), GROUPS_AHEAD)), PASSES_AHEAD, self._tick)
        with closing(results):
            try:
                for result in results:
                    self._collect(result)
                    self._interrupts.check()
            except BaseException:
                self._interrupts.ignore()
                self._write()  # nothing, if writing failed
                raise
        self._write()
        return self._left() > 0

    def _groups(self) -> Generator[RowGroup]:
        """Read and tokenise the rows of tasks that no other process has."""
        for task in self.claims.free(self._tasks):
            rows = self._tasks[task]
            while len(rows):
                texts: list[Text] = []
                while len(texts) < min(len(rows), self.encoder.group_rows) and _characters(texts) < GROUP_CHARACTERS:
                    texts += self.reader.texts(rows[len(texts) : self.encoder.group_rows][:READ_ROWS])
                group, rows = rows[: len(texts)], rows[len(texts) :]
                yield self.encoder.tokenized(group, texts)

    def _results(self, groups: Generator[RowGroup]) -> Generator[RowGroup | Pass]:
        """Run the language model and the SAE over groups of rows; before the passes of a group comes the group."""
        torch.get_num_threads()  # which also makes `torch.set_num_threads` count in this thread
        with closing(groups):
            for group in groups:
                yield group
                yield from self.encoder.passes(group)

    def _collect(self, result: RowGroup | Pass) -> None:
        if isinstance(result, RowGroup):
            rows = self._collector.begin(result)
            if not self._begun_rows:
                self._begin = time.monotonic()  # later groups are tokenised while the model runs
            self._begun_rows += len(result.rows)
            self._begun_tokens += sum(sum(window.is_text) for window in result.windows)
        else:
            rows = self._collector.add(result)
            self._tokens += sum(result.lengths)
        self._show_speed()
        self._bar.update(rows)
        if self._collector.bytes >= FILE_BYTES:
            self._write()
        self._write_in_time()

    def _show_speed(self) -> None:
        """Show tokens/s, and the time left by tokens: the longest rows come first, so rows/s would say far too much.

        The rows that are not tokenised yet are taken to be as long as the others. Several processes share the rows of
        the bar, and none knows the tokens of the others: there the time left is by rows.
        """
        speed = self._tokens / max(time.monotonic() - self._begin, 1e-9)
        self._bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
        if processes().num_processes == 1:
            left = "?"
            if speed:
                tokens = self._begun_tokens * len(self.rows) / self._begun_rows
                left = self._bar.format_interval(max(tokens - self._tokens, 0) / speed)
            self._bar.bar_format = BAR.replace("{remaining}", left)

    def _tick(self) -> None:
        """Show that time passes, while a forward pass takes long."""
        self._interrupts.check()
        self._show_speed()
        self._bar.refresh()
        self._write_in_time()

    def _say_stopping(self) -> None:
        if sys.stderr is not None and processes().is_local_main_process:
            self._bar.write("Interrupted: stopping after the forward pass under way", file=sys.stderr)

    def _write_in_time(self) -> None:
        if time.monotonic() - self._written >= FILE_SECONDS:
            self._write()

    def _write(self) -> None:
        """Write the complete rows, and finish the tasks that they complete."""
        self._written = time.monotonic()
        if self._collector.complete:
            rows, table = self._collector.taken()
            self.store.add(table.append_column(DIGEST, self.digests.take(pa.array(rows))), self._left())
            tasks = np.searchsorted(self.rows, rows) // self._task_rows
            for task, count in zip(*np.unique(tasks, return_counts=True), strict=True):
                # Another process may have done it too, and sooner.
                self._unwritten[str(task)] = max(self._unwritten[str(task)] - int(count), 0)
                if not self._unwritten[str(task)]:
                    self.claims.finish(str(task))
        for task in self._tasks.keys() & self.claims.done():
            if rows_of_others := self._unwritten[task]:
                self._bar.update(rows_of_others)
                self._unwritten[task] = 0

    def _left(self) -> int:
        """Return how many rows are in no file yet."""
        return sum(self._unwritten.values())


def interruption(kept: int, rows: int, folder: Path) -> KeyboardInterrupt:
    """Return the error of an encoding that the user has stopped, without the traceback from within torch."""
    place = f"in {folder}" if is_caching_enabled() else "nowhere, since caching is disabled"
    return KeyboardInterrupt(
        f"{kept:,} of {rows:,} rows are encoded and kept {place}; the same call encodes the others"
    )


def progress_bar(rows: int | None, encoder: Encoder, action: str, show: bool | None) -> tqdm:
    """Return a progress bar over rows, None for nobody knows how many; of several processes, the first shows it.

    Args:
        show: whether to show it; None for as progress bars of `datasets` are set.
    """
    hidden = are_progress_bars_disabled() if show is None else not show
    hidden |= not processes().is_local_main_process
    # The longest rows of a group come first, so only the mean speed says when the end comes. Without `miniters`, tqdm
    # would wait for as many rows as it has seen at once.
    description = f"{action} {names_of_text(encoder.rendering)}"
    return tqdm(total=rows, desc=description, unit=" rows", smoothing=0, miniters=0, disable=hidden)


def names_of_text(rendering: Rendering) -> str:
    """Say which columns are read."""
    names = ", ".join(f"`{'.'.join(path)}`" for path in rendering.paths)
    return UNSEEN.sub("\ufffd", names) or "what `text` returns"  # a terminal would obey


def _characters(texts: Iterable[Text]) -> int:
    return sum(len(text) for text, _ in texts)
