"""The largest activations of windows -> the code columns of rows.

On a GPU, forward passes are only queued when they come here. The collector waits for them in a CUDA stream of its own.
So the GPU goes on with the next pass while codes are copied back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from ..features.columns import ACTS, FLAGS, IDS, STATE, TOKENS, column_types
from .encoder import Encoder, Pass, RowGroup

Code = tuple[NDArray[Any], NDArray[np.float32]]
"""Feature ids, ascending, and activations of a window or a row."""
BLANK: Code = np.empty(0, np.int64), np.empty(0, np.float32)
BYTES_PER_CODE = 12  # an id and an activation, before Arrow


class RowCollector:
    """Collect the codes of windows until their rows are complete, in whatever order these are.

    Args:
        encoder (`Encoder`):
            The encoder whose passes are collected.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._width = encoder, encoder.state_width or 0
        self._unfinished: dict[int, _Row] = {}
        self._complete: dict[int, _Row] = {}
        self.bytes = 0
        """What the codes of the complete rows need in memory, about."""
        device = encoder.arguments.device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def begin(self, group: RowGroup) -> int:
        """Expect the windows of rows; return how many rows have none, so that they are complete."""
        missing = np.zeros(len(group.rows), np.int64)
        for window in group.windows:
            missing[window.row] += any(window.is_text)
        for row, flags, windows in zip(group.rows.tolist(), group.flags, missing.tolist(), strict=True):
            rows = self._unfinished if windows else self._complete
            rows[row] = _Row(flags, windows, np.zeros(self._width))
        return int((missing == 0).sum())

    @torch.no_grad()
    def add(self, result: Pass) -> int:
        """Add the windows of one forward pass, and return how many rows they complete."""
        before = self.complete
        codes, sums = self._copied(result)
        for i, (number, length, code) in enumerate(zip(result.rows.tolist(), result.lengths, codes, strict=True)):
            row = self._unfinished[number]
            row.codes.append(code)
            row.tokens += length
            if sums is not None:
                row.state_sum += sums[i]
            row.missing -= 1
            if not row.missing:
                self._complete[number] = self._unfinished.pop(number)
                self.bytes += sum(len(ids) for ids, _ in row.codes) * BYTES_PER_CODE + row.state_sum.nbytes
        return self.complete - before

    def _copied(self, result: Pass) -> tuple[list[Code], NDArray[np.float32] | None]:
        """Wait for a forward pass; return the code of each window, and the sums of its states."""
        with torch.cuda.stream(self._stream):  # does nothing without a stream
            if self._stream is not None and result.event is not None:
                self._stream.wait_event(result.event)
                for tensor in (result.largest, result.state_sums):
                    if tensor is not None:
                        tensor.record_stream(self._stream)
            window, ids = result.largest.nonzero(as_tuple=True)
            ends = torch.bincount(window, minlength=len(result.lengths)).cumsum(0)[:-1].cpu().numpy()
            columns = (ids, result.largest[window, ids].float())
            codes = zip(*(np.split(column.cpu().numpy(), ends) for column in columns), strict=True)
            return list(codes), None if result.state_sums is None else result.state_sums.cpu().numpy()

    @property
    def complete(self) -> int:
        """Number of complete rows."""
        return len(self._complete)

    def taken(self) -> tuple[NDArray[np.int64], pa.Table]:
        """Return the numbers of the complete rows, ascending, and their code columns; forget them."""
        numbers = np.array(sorted(self._complete), np.int64)
        rows = [self._complete[number] for number in numbers.tolist()]
        tokens = np.array([row.tokens for row in rows], np.int32)
        flags = np.array([row.flags for row in rows], np.uint8)
        sums = np.array([row.state_sum for row in rows]).reshape(len(rows), self._width)
        means = sums / np.maximum(tokens, 1)[:, None]
        codes = [_merged(row.codes) for row in rows]
        for number, (_, acts) in zip(numbers.tolist(), codes, strict=True):
            self._encoder.check(acts, number)
        self._complete, self.bytes = {}, 0
        return numbers, self._table(codes, tokens, flags, means)

    def _table(
        self, codes: list[Code], tokens: NDArray[np.int32], flags: NDArray[np.uint8], states: NDArray[np.float64]
    ) -> pa.Table:
        """Lay out what is stored of codes, and mean states, as Arrow columns, without a Python object for each number.

        `states` [n, d_in] has width 0 if states are not kept.
        """
        kept, config = self._encoder.kept, self._encoder.sae.config
        codes = codes if kept is None else [kept.cut(*code) for code in codes]
        offsets = pa.array(np.cumsum([0, *(len(ids) for ids, _ in codes)]), pa.int32())
        ids, acts = (np.concatenate(column) for column in zip(*codes, strict=True))
        acts = acts if kept is None else kept.stored(acts, config.feature_threshold)
        width = column_types({"d_sae": config.d_sae}).arrow_schema.field(IDS).type.value_type
        columns = {
            IDS: pa.ListArray.from_arrays(offsets, pa.array(ids, width)),
            ACTS: pa.ListArray.from_arrays(offsets, pa.array(acts)),
            TOKENS: pa.array(tokens),
            FLAGS: pa.array(flags),
        }
        if d_in := states.shape[1]:
            columns[STATE] = pa.FixedSizeListArray.from_arrays(pa.array(states.astype(np.float32).ravel()), d_in)
        return pa.table(columns)


@dataclass
class _Row:
    """What is known of a row so far."""

    flags: int
    missing: int
    """Number of its windows that are still to come."""
    state_sum: NDArray[np.float64]
    tokens: int = 0
    codes: list[Code] = field(default_factory=list)


def _merged(codes: list[Code]) -> Code:
    """Merge the codes of a row's windows: each feature of any window, at its largest activation."""
    if len(codes) < 2:
        return codes[0] if codes else BLANK
    ids, acts = (np.concatenate(column) for column in zip(*codes, strict=True))
    unique, position = np.unique(ids, return_inverse=True)
    largest = np.zeros(len(unique), np.float32)
    np.maximum.at(largest, position, acts)
    return unique, largest
