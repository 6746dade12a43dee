"""Streams encoded: an IterableDataset gets the code columns batch by batch, while it is read."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from datasets import Dataset, Features, IterableDataset
from tqdm.auto import tqdm

from .._streams import digest_of, schema_of, table_of
from ..engines.processes import processes
from ..features.columns import ACTS, DIGEST, FLAGS, IDS, STATE, TOKENS
from ..sae.loading import SaeSource, load_sae
from .arguments import EncodingArguments
from .cells import PEEK_ROWS
from .encoder import Encoder
from .pipeline import codes_by
from .run import progress_bar
from .text import find_text

STREAM_ROWS = 1000  # rows that are in memory and encoded at once
STORE_ROWS = 2**15  # of a store: each batch looks through all rows of its store
CODES = {IDS, ACTS, TOKENS, FLAGS, DIGEST, STATE}


def encode_stream(stream: IterableDataset, sae: SaeSource | None = None, **arguments: Any) -> IterableDataset:
    """Return a stream with the code columns, which are computed while it is read; arguments as in `encode`.

    The first rows are read, and one of them encoded, at once: they tell how the text is found, and the types of the
    columns. All codes go through the cache, so reading the stream again loads no model. Rows are encoded without the
    format of the stream, such as "torch", and returned in it.

    Raises:
        TypeError, ValueError: An argument is not allowed, the stream is empty or cannot be read twice, or a column is
            in the way.
        RuntimeError: Several processes share the work, whose streams may differ.
    """
    if (engine := arguments.pop("engine", None)) is not None:
        raise ValueError(
            f"`engine={engine!r}`: a stream is encoded in this process, while it is read; encode a Dataset, or call "
            "`sae_select`, which stores the rows first"
        )
    parsed = EncodingArguments.parse(**arguments)
    if processes().num_processes > 1:
        raise RuntimeError(
            "a stream is encoded in one process, and this job has several: each would wait for the rows of another; "
            "encode a Dataset, or start one process for each part of the stream"
        )
    formatting, stream = stream._formatting, stream.with_format(None)
    head = list(stream.take(PEEK_ROWS))
    schema = schema_of(stream, head, "dataset")
    if taken := sorted(CODES.intersection(schema)):
        raise ValueError(f"column `{taken[0]}` is in the way: remove it by `stream.remove_columns({taken})`")
    again = list(stream.take(1))
    if not again or _digest(again, schema) != _digest(head[:1], schema):
        raise ValueError(
            "`dataset`: the stream cannot be read twice, so its first rows would be lost; make it of a function that "
            "opens the source anew: `IterableDataset.from_generator(function)`; or call `sae_select`, which reads it "
            "once"
        )
    batches = BatchEncoder(sae, parsed, Dataset(table_of(head, schema, "dataset", 0)), schema)
    types = batches.codes(Dataset(table_of(head[:1], schema, "dataset", 0)), 0).features
    batches.types = types
    encoded = stream.map(
        batches,
        with_indices=True,
        batched=True,
        batch_size=STREAM_ROWS,
        features=Features({**schema, **types}),
    )
    return encoded if formatting is None else encoded.with_format(formatting.format_type)


def _digest(rows: list[Any], schema: Features) -> str:
    return digest_of([table_of(rows, schema, "dataset", 0)], schema)


class BatchEncoder:
    """Encode batches of a stream, all by one encoder, with one progress bar, whose end nobody knows.

    A copy for another process loads its own model.
    """

    def __init__(self, sae: SaeSource | None, arguments: EncodingArguments, head: Dataset, schema: Features) -> None:
        self.sae, self.arguments, self.head, self.schema = sae, arguments, head, schema
        self.types: Features | None = None
        self._encoder: Encoder | None = None
        self._bar: tqdm | None = None
        self._tokens, self._begin = 0, 0.0

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_encoder": None, "_bar": None}

    def __call__(self, batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        """Return the code columns of a batch, beside its own.

        Raises:
            ValueError: The schema changes, or the batch was encoded in another way than the first row.
        """
        rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        begin = time.monotonic()
        coded = self.codes(Dataset(table_of(rows, self.schema, "dataset", indices[0])), indices[0])
        if coded.features != self.types:
            raise ValueError("the rows of this stream are encoded in another way than its first row; encode it again")
        columns = coded.to_dict()
        self._show(indices[0], columns[TOKENS], begin)
        return {**batch, **columns}

    def codes(self, rows: Dataset, start: int) -> Dataset:
        """Return the code columns of rows, the first of which is the row `start` of the stream."""
        if self._encoder is None:
            rendering = find_text(self.head, self.arguments.text)
            hidden = replace(self.arguments, show_progress_bar=False)  # of each batch
            self._encoder = Encoder(load_sae(self.sae, encoder_only=True), rendering, hidden)
        return codes_by(self._encoder, rows, f"rows {start // STORE_ROWS} of a stream")

    def _show(self, start: int, tokens: list[int], begin: float) -> None:
        """Show how many rows were encoded, and rows and tokens a second, since the stream was read from its start."""
        if self._bar is None or start == 0:
            if self._bar is not None:
                self._bar.close()
            assert self._encoder is not None
            self._bar = progress_bar(None, self._encoder, "Encoding", self.arguments.show_progress_bar)
            self._tokens, self._begin = 0, begin
        self._tokens += sum(tokens)
        speed = self._tokens / max(time.monotonic() - self._begin, 1e-9)
        self._bar.set_postfix_str(f"{speed:,.0f} tokens/s", refresh=False)
        self._bar.update(len(tokens))
        self._bar.refresh()  # nobody says when the stream ends, so each batch may be the last one
