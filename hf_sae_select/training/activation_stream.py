"""ActivationStream: the hidden states of a dataset's documents, in a seeded order, in shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from ..encoding.batches import Window
from ..encoding.chat_template import ChatTemplate
from ..encoding.language_model import LanguageModel
from ..encoding.rows import RowReader
from ..encoding.text import Rendering

MAX_DOCUMENTS = 512  # to tokenise and sort by length together
MAX_EMPTY_EPOCHS = 20
POSITION = ("epoch", "document", "window", "chunk")  # attributes of the stream that a checkpoint keeps


class ActivationStream:
    """Read one process's share of the documents, in a new order each epoch.

    All later batches depend on `state_dict()` alone: the epoch, the next document and its next window, the number of
    the next chunk, and the hidden states that were computed and not yet returned, about one chunk at most.

    Args:
        max_length: Maximum number of tokens per document.
        batch_size: Number of windows per forward pass.
        read_tokens: Number of tokens to compute at a time; the last window may exceed it.
        process: Number of this process, out of `processes`.
    """

    def __init__(
        self,
        dataset: Dataset,
        rendering: Rendering,
        model: LanguageModel,
        template: ChatTemplate | None,
        *,
        max_length: int | None,
        batch_size: int,
        read_tokens: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.reader, self.rows = RowReader(dataset, rendering, template), len(dataset)
        self.model, self.template = model, template
        self.max_length, self.batch_size, self.seed = max_length, batch_size, seed
        self.read_tokens, self.process, self.processes = read_tokens, process, processes
        self.epoch = self.document = self.window = self.chunk = 0
        self.pending: list[Tensor] = []
        self._order: tuple[int, NDArray[np.int64]] = -1, np.empty(0, np.int64)
        self._epoch_tokens = self._empty_epochs = 0
        self.tokens_of_first_epoch: int | None = None
        """Tokens of the first epoch, when it has ended in this process."""

    @property
    def epochs(self) -> float:
        """How often the share of this process has been read so far."""
        rows = len(range(self.process, self.rows, self.processes))
        return self.epoch + self.document / rows

    def batches(self, tokens: int, batch_tokens: int) -> Iterator[Tensor]:
        """Collect a chunk of `tokens` tokens, shuffle it, and yield it in batches [batch_tokens, d_in]."""
        while sum(map(len, self.pending)) < tokens:
            self._read()
        states = torch.cat(self.pending)
        chunk, rest = states[:tokens], states[tokens:].clone()
        self.pending = [rest] if len(rest) else []
        seed = (self.seed, self.process, self.chunk)
        self.chunk += 1
        return shuffled_batches(chunk, batch_tokens, seed)

    @torch.no_grad()
    def _read(self) -> None:
        """Run the model over about `read_tokens` tokens of the next documents; a long document is read in parts."""
        order = self._rows_of_epoch()
        windows, documents = self._tokenize(order[self.document : self.document + MAX_DOCUMENTS])
        ends = np.cumsum([sum(window.is_text) for window in windows])
        count = int(np.searchsorted(ends, self.read_tokens)) + 1
        for _, states in self.model.states(windows[:count], self.batch_size):
            self.pending.append(states)
            self._epoch_tokens += len(states)
        if count < len(windows):
            row = windows[count].row  # of the next document, counted from self.document
            done = sum(window.row == row for window in windows[:count])
            self.window = done + (self.window if row == 0 else 0)
            self.document += row
            return
        self.document, self.window = self.document + documents, 0
        if self.document >= len(order):
            self._end_epoch()

    def _rows_of_epoch(self) -> NDArray[np.int64]:
        """Return the rows of this process in their order, drawn once per epoch: for 10 million it takes a second."""
        if self._order[0] != self.epoch:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.rows)
            self._order = self.epoch, order[self.process :: self.processes].copy()
        return self._order[1]

    def _tokenize(self, rows: NDArray[np.int64]) -> tuple[list[Window], int]:
        """Return windows of about `read_tokens` tokens, and the number of their documents.

        Documents may be books, so tokenise one, then one more, then two, four, ...
        """
        windows: list[Window] = []
        documents = tokens = 0
        while tokens < self.read_tokens and documents < len(rows):
            some = rows[documents : documents + max(1, documents)]
            texts = [text for text, _ in self.reader.texts(some)]
            new = self.model.windows(texts, max_length=self.max_length, special=self.template is None)
            if not documents:
                new = new[self.window :]
            windows += [replace(window, row=window.row + documents) for window in new]
            tokens += sum(sum(window.is_text) for window in new)
            documents += len(some)
        return windows, documents

    def _end_epoch(self) -> None:
        # Of several processes, one may draw only blank rows in an epoch: give up after many such epochs.
        if not self.epoch:
            self.tokens_of_first_epoch = self._epoch_tokens
        self._empty_epochs = 0 if self._epoch_tokens else self._empty_epochs + 1
        if self._empty_epochs == MAX_EMPTY_EPOCHS:
            raise ValueError("`dataset`: no row has any text to train on; pass rows with text, or another `text`")
        self.epoch, self.document, self._epoch_tokens = self.epoch + 1, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the stream, and the hidden states not yet returned."""
        position = {name: getattr(self, name) for name in POSITION}
        return position | {"pending": [states.cpu() for states in self.pending]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`."""
        for name in POSITION:
            setattr(self, name, state[name])
        self.pending = [states.to(self.model.device) for states in state["pending"]]
        self._epoch_tokens = 1  # a checkpoint shows that the dataset has text


def shuffled_batches(states: Tensor, batch_tokens: int, seed: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield hidden states [tokens, d_in] in random batches [batch_tokens, d_in], without the last, shorter one.

    Neighbouring tokens of a text are similar; the tokens of a batch should not be.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(states))).to(states.device)
    for start in range(0, len(states) - batch_tokens + 1, batch_tokens):
        yield states[order[start : start + batch_tokens]]
