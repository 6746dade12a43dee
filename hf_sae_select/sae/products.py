"""The product of vectors and encoder weights: in memory that is used again, or in bfloat16.

Accelerators multiply bfloat16 many times faster than float32.
A float32 has 24 bits and a bfloat16 8, so a float32 is the sum of three of them, exactly. With the weights in three
parts, the sum of the parts' products has the errors of float32 alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

PARTS = {"bfloat16x3": 3, "bfloat16": 1}
"""Policies -> numbers of parts; `float32` is the plain product."""
PRECISIONS = ("float32", *PARTS)


def split(x: Tensor, count: int) -> list[Tensor]:
    """Split float32 into `count` parts in bfloat16, the largest first; three of them add up to `x`."""
    parts, rest = [], x
    for _ in range(count):
        parts.append(rest.bfloat16())
        rest = rest - parts[-1].float()
    return parts


class ReusedProduct:
    """Multiply vectors [n, d_in] by weights [d_in, d_sae], in the type of the weights.

    Each product overwrites the one before: with many latents, new memory would take a fifth of the product's time.

    Args:
        weights (`Tensor`):
            The weights.
    """

    def __init__(self, weights: Tensor) -> None:
        self._weights, self._room = weights.detach(), weights.new_empty(0)

    def __call__(self, x: Tensor, columns: slice = slice(None)) -> Tensor:
        weights = self._weights[:, columns]
        size = len(x) * weights.shape[1]
        if len(self._room) < size:
            self._room = weights.new_empty(size)
        return torch.mm(x.to(weights.dtype), weights, out=self._room[:size].view(len(x), -1))


class SplitProduct:
    """Multiply vectors [n, d_in] by float32 weights [d_in, d_sae] in parts; the result is in float32.

    Vectors in bfloat16 are one part. Others are split as the weights are, and the parts' products that a float32
    cannot hold beside the largest are left out.

    Args:
        weights (`Tensor`):
            The weights.
        precision (`str`):
            One of `PARTS`.
    """

    def __init__(self, weights: Tensor, precision: str) -> None:
        self.count, self.d_in = PARTS[precision], len(weights)
        self.weights = torch.cat(split(weights.detach().float(), self.count))
        # Only CUDA multiplies bfloat16 into float32. A CPU multiplies the parts as float32, which is exact, and slow;
        # a single part it multiplies into bfloat16.
        if not weights.is_cuda and self.count > 1:
            self.weights = self.weights.float()

    def __call__(self, x: Tensor, columns: slice = slice(None)) -> Tensor:
        parts = [x] if x.dtype == torch.bfloat16 else split(x, self.count)
        products = [
            self._product(part.repeat(1, self.count - i), self.weights[: (self.count - i) * self.d_in, columns])
            for i, part in enumerate(parts)
        ]
        total = products.pop()
        while products:  # the smallest first
            total += products.pop()
        return total

    def _product(self, x: Tensor, weights: Tensor) -> Tensor:
        if x.is_cuda:
            product: Tensor = torch.mm(x, weights, out_dtype=torch.float32)
            return product
        return (x.to(weights.dtype) @ weights).float()
