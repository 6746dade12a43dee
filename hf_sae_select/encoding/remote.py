"""The encoding of the rows that a store lacks by workers. The process that asks sends rows and writes codes.

A worker reads rows, runs language model and SAE over them, and sends their codes back. So workers need no folder that
they share with the process that asks, which holds the rows and codes of a few tasks in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray

from .._datasets import in_memory
from ..features.columns import DIGEST
from ..sae.model import SparseAutoencoder
from .arguments import EncodingArguments
from .collector import RowCollector
from .encoder import Encoder
from .rows import RowReader
from .run import TASKS_PER_PROCESS, interruption, progress_bar
from .store import CodeStore
from .text import Rendering

if TYPE_CHECKING:
    from ..engines.cluster import Cluster


@dataclass(frozen=True)
class MakeRowEncoder:
    """Make a `RowEncoder` in a worker, like the encoder of the process that asks."""

    sae: SparseAutoencoder
    rendering: Rendering
    arguments: EncodingArguments
    record: dict[str, Any]
    """The encoding record."""
    matmul_precision: str
    """What `torch.set_float32_matmul_precision` has set."""

    @classmethod
    def of(cls, encoder: Encoder, record: dict[str, Any]) -> MakeRowEncoder:
        # The commit, since a branch may be at another one when a worker looks.
        config = replace(encoder.sae.config, model_revision=encoder.revision)
        sae = SparseAutoencoder.from_tensors(config, dict(encoder.sae.named_parameters()))
        return cls(sae, encoder.rendering, encoder.arguments, record, torch.get_float32_matmul_precision())

    def __call__(self) -> RowEncoder:
        """Return a `RowEncoder` whose model is loaded.

        Raises:
            RuntimeError: The worker would encode in another way, or has no device to encode on.
        """
        torch.set_float32_matmul_precision(self.matmul_precision)
        device = self.arguments.device
        try:
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise RuntimeError(
                f"a worker has no device '{device}' that torch can use ({str(error).partition(chr(10))[0]}); pass "
                "engine=Ray(gpus=0) to encode on CPUs"
            ) from error
        encoder = Encoder(self.sae, self.rendering, self.arguments)
        own = encoder.record()
        own["text"] = self.record["text"]  # the hash of a function may differ from process to process
        if different := [name for name in {**own, **self.record} if own.get(name) != self.record.get(name)]:
            raise RuntimeError(
                f"a worker would encode in another way than the process that asks: `{different[0]}` is "
                f"{own.get(different[0])!r} there, and {self.record.get(different[0])!r} here; give both the "
                "same files"
            )
        encoder.load()
        return RowEncoder(encoder)


class RowEncoder:
    """Encode rows. Two threads may: one reads and tokenises while the other runs the model."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder, self._model = encoder, Lock()

    def encode(self, numbers: NDArray[np.int64], rows: Dataset) -> tuple[NDArray[np.int64], pa.Table]:
        """Return the numbers of rows, ascending, and their code columns.

        Args:
            numbers: of the rows in their dataset, for errors.
        """
        torch.get_num_threads()  # which also makes `torch.set_num_threads` count in this thread
        encoder = self.encoder
        reader = RowReader(rows, encoder.rendering, encoder.template)
        try:
            texts = reader.texts(range(len(rows)))
        except Exception as error:
            error.add_note(f"a worker counts rows from row {numbers[0]:,} of the dataset on")
            raise
        group = encoder.tokenized(numbers, texts)
        collector = RowCollector(encoder)
        with self._model:
            collector.begin(group)
            for result in encoder.passes(group):
                collector.add(result)
        return collector.taken()


class RemoteRun:
    """Encode rows of a dataset into a store by workers.

    Args:
        store (`CodeStore`):
            Where the codes go.
        encoder (`Encoder`):
            Says how rows are encoded; its model is not loaded.
        record (`dict`):
            The encoding record.
        dataset (`Dataset`):
            The rows.
        digests (`pa.Array`):
            The digests of all rows of the dataset.
        rows (`NDArray`):
            Numbers of the rows to encode, ascending.
        cluster (`Cluster`):
            Has the workers.
    """

    def __init__(
        self,
        store: CodeStore,
        encoder: Encoder,
        record: dict[str, Any],
        dataset: Dataset,
        digests: pa.Array,
        rows: NDArray[np.int64],
        cluster: Cluster,
    ) -> None:
        self.store, self.encoder, self.digests, self.rows, self.cluster = store, encoder, digests, rows, cluster
        self._make = MakeRowEncoder.of(encoder, record)
        self._rows_of = rows_of(dataset, encoder.rendering)

    def __call__(self) -> None:
        """Encode all rows.

        Raises:
            KeyboardInterrupt: The message says how many rows are kept.
            OSError: The store cannot be written to.
            RuntimeError: Workers end again and again, have other versions, or would encode in another way.
        """
        self.store.prepare()
        task_rows = min(self.encoder.group_rows, -(-len(self.rows) // (TASKS_PER_PROCESS * self.cluster.workers)))
        tasks = [self.rows[start : start + task_rows] for start in range(0, len(self.rows), task_rows)]
        results = self.cluster.results(
            self._make, "encode", len(tasks), lambda task: (tasks[task], self._rows_of(tasks[task]))
        )
        left = len(self.rows)
        with (
            progress_bar(left, self.encoder, "Encoding", self.encoder.arguments.show_progress_bar) as bar,
            closing(results),
        ):
            try:
                for _, (numbers, table) in results:
                    digests = self.digests.take(pa.array(numbers))
                    self.store.add(table.append_column(DIGEST, digests), left)
                    left -= len(numbers)
                    bar.update(len(numbers))
            except KeyboardInterrupt:
                raise interruption(len(self.rows) - left, len(self.rows), self.store.folder) from None


def rows_of(dataset: Dataset, rendering: Rendering) -> Callable[[NDArray[np.int64]], Dataset]:
    """Return a function that copies rows, with the columns that are read, into memory."""
    if rendering.function is None:
        dataset = dataset.select_columns(list(rendering.columns))
    arrow = dataset.with_format("arrow")
    return lambda rows: in_memory(arrow[rows], dataset.features)
