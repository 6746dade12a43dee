"""Arithmetic on segments of consecutive rows whose results do not depend on the batch around them, to the last bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

# With fewer rows per thread, BLAS adds the terms of a product in another order.
FEW_ROWS = 256


def stable_product(x: Tensor, weights: Tensor) -> Tensor:
    """Return `x @ weights`; each row's result is independent of the number of rows."""
    if len(x) >= FEW_ROWS:
        return x @ weights
    return (nn.functional.pad(x, (0, 0, 0, FEW_ROWS - len(x))) @ weights)[: len(x)]


def chunks(lengths: Sequence[int], size: int) -> Iterator[list[int]]:
    """Group consecutive segments into chunks of at most `size` rows. A longer segment is a chunk of its own."""
    chunk: list[int] = []
    rows = 0
    for length in lengths:
        if chunk and rows + length > size:
            yield chunk
            chunk, rows = [], 0
        chunk.append(length)
        rows += length
    if chunk:
        yield chunk


def segment_sums(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """Return the float32 sum of each segment of consecutive rows: [sum(lengths), d] -> [len(lengths), d].

    `Tensor.sum` adds in an order that depends on the column and on the number of threads. Here the second half of the
    rows is added to the first half until one row remains, so that the number of rows alone decides the order.
    """
    return torch.stack([_pairwise_sum(segment) for segment in torch.split(x.float(), list(lengths))])


def _pairwise_sum(rows: Tensor) -> Tensor:
    while len(rows) > 1:
        half, odd = divmod(len(rows), 2)
        sums = rows[:half] + rows[half + odd :]
        if odd:
            sums[0] += rows[half]
        rows = sums
    return rows[0]
