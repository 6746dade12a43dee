"""Arithmetic on segments of consecutive rows whose results do not depend on the batch around them, to the last bit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

# With fewer rows per thread, BLAS adds the terms of a product in another order.
FEW_ROWS = 256


Product = Callable[[Tensor, slice], Tensor]
"""Maps rows and a range of columns of a matrix to the products of these rows and columns."""


def stable_product(x: Tensor, product: Product, columns: slice = slice(None)) -> Tensor:
    """Return `product(x, columns)`; each row's result is independent of the number of rows."""
    if len(x) >= FEW_ROWS:
        return product(x, columns)
    return product(nn.functional.pad(x, (0, 0, 0, FEW_ROWS - len(x))), columns)[: len(x)]


def column_tiles(columns: int, size: int) -> list[slice]:
    """Cut a number of columns into ranges of at most `size`, all of about the same size."""
    count = -(-columns // size)
    bounds = [columns * i // count for i in range(count + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def chunk_sizes(rows: int, size: int) -> list[int]:
    """Cut a number of rows into chunks of `size` rows; the last one may be longer or shorter.

    No chunk but a single one has fewer than `FEW_ROWS` rows, so that none is filled up with zeros.
    """
    size = max(size, FEW_ROWS)
    sizes = [size] * (rows // size)
    rest = rows % size
    if sizes and rest < FEW_ROWS:
        sizes[-1] += rest
    elif rest:
        sizes.append(rest)
    return sizes


class Piece(NamedTuple):
    """The rows of one segment in one chunk."""

    segment: int
    rows: int
    begins: bool
    """Whether the segment begins with these rows."""


def pieces(lengths: Sequence[int], sizes: Sequence[int]) -> Iterator[list[Piece]]:
    """Yield the pieces of consecutive segments in each of consecutive chunks of as many rows."""
    segments = iter(enumerate(lengths))
    segment = rest = 0
    for size in sizes:
        chunk = []
        while size:
            begins = not rest
            if begins:
                segment, rest = next(segments)
            rows = min(size, rest)
            chunk.append(Piece(segment, rows, begins))
            size, rest = size - rows, rest - rows
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
