"""Stream: the hidden states of a dataset's documents, in a seeded order, in shuffled batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from ..encoding.language_model import LanguageModel, Window
from ..encoding.pretrained import ChatTemplate
from ..encoding.text import Rendering

DOCUMENTS = 512  # tokenised and sorted by length together, unless they are more than a chunk
EMPTY_ROUNDS = 20


class Stream:
    """Read one process's share of the documents, in another order every time round.

    All that a later batch depends on is `state()`: the time round, the next document and its next window, the chunk,
    and the states that were computed and not yet handed out, never much more than a chunk.
    """

    def __init__(
        self,
        ds: Dataset,
        rendering: Rendering,
        model: LanguageModel,
        template: ChatTemplate | None,
        *,
        max_length: int | None,
        batch_size: int,
        most: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.ds, self.rendering, self.model, self.template = ds, rendering, model, template
        self.max_length, self.batch_size, self.seed = max_length, batch_size, seed
        self.most, self.process, self.processes = most, process, processes
        self.epoch = self.document = self.window = self.chunk = 0
        self.carry: list[Tensor] = []
        self._seen = self._empty = 0  # tokens of this time round, times round without any: is there text at all?

    def batches(self, tokens: int, batch: int) -> Iterator[Tensor]:
        """Gather a chunk of `tokens` tokens and yield it in batches [batch, d_in], shuffled as a whole."""
        while sum(map(len, self.carry)) < tokens:
            self._read()
        gathered = torch.cat(self.carry)
        chunk, rest = gathered[:tokens], gathered[tokens:].clone()
        self.carry = [rest] if len(rest) else []
        seed = (self.seed, self.process, self.chunk)
        self.chunk += 1
        return cut(chunk, batch, seed)

    @torch.no_grad()
    def _read(self) -> None:
        """Run the model over the next documents, as far as they have `most` tokens; a book may be read in parts."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.ds))[
            self.process :: self.processes
        ]
        windows, documents = self._windows(order[self.document : self.document + DOCUMENTS])
        sizes = np.cumsum([sum(each.is_text) for each in windows])
        taken = int(np.searchsorted(sizes, self.most)) + 1
        for _, states in self.model.states(windows[:taken], self.batch_size):
            self.carry.append(states)
            self._seen += len(states)
        if taken < len(windows):
            row = windows[taken].row
            done = sum(each.row == row for each in windows[:taken]) + (self.window if row == 0 else 0)
            self.document, self.window = self.document + row, done
            return
        self.document, self.window = self.document + documents, 0
        if self.document >= len(order):
            self._end_round()

    def _windows(self, rows: NDArray[np.int64]) -> tuple[list[Window], int]:
        """Tokenise documents until they have `most` tokens: at most twice as many each time, for they may be books."""
        windows: list[Window] = []
        documents = size = 0
        while size < self.most and documents < len(rows):
            some = rows[documents : documents + max(1, documents)]
            texts = self.rendering(self.ds[some], self.template)
            found = self.model.windows(texts, max_length=self.max_length, special=self.template is None)
            if not documents:
                found = found[self.window :]
            windows += [replace(each, row=each.row + documents) for each in found]
            size += sum(sum(each.is_text) for each in found)
            documents += len(some)
        return windows, documents

    def _end_round(self) -> None:
        # With several processes one may have drawn blank rows alone, this time round.
        self._empty = 0 if self._seen else self._empty + 1
        if self._empty == EMPTY_ROUNDS:
            raise ValueError("no row of the dataset has any text: there is nothing to train on")
        self.epoch, self.document, self._seen = self.epoch + 1, 0, 0

    def state(self) -> dict[str, Any]:
        """Return where the stream is."""
        carry = [states.cpu() for states in self.carry]
        place = {"epoch": self.epoch, "document": self.document, "window": self.window, "chunk": self.chunk}
        return place | {"carry": carry}

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a `state`."""
        self.epoch, self.document, self.window, self.chunk = (
            state[name] for name in ("epoch", "document", "window", "chunk")
        )
        self.carry = [states.to(self.model.device) for states in state["carry"]]
        self._seen = 1


def cut(chunk: Tensor, batch: int, seed: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield [tokens, d_in] in batches [batch, d_in] drawn at random, the last, short one left out.

    Neighbouring tokens of a text are alike; a batch should not be.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(chunk))).to(chunk.device)
    for start in range(0, len(chunk) - batch + 1, batch):
        yield chunk[order[start : start + batch]]
