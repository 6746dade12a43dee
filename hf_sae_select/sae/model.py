"""`SparseAutoencoder` and its equations.

    x^  = norm(x)                                input_norm: none, layer_norm or rms, of each vector
    pre = x^ @ W_enc + b_enc                     x [tokens, d_in], pre [tokens, d_sae]
    z   = act(pre)                               relu:      max(pre, 0)
                                                 jumprelu:  max(pre, 0) where pre > threshold, else 0
                                                 topk:      the k largest of each token, negatives set to 0
                                                 abstopk:   the k largest by absolute value, signs kept
                                                 groupmax:  the largest of each of k groups of consecutive latents,
                                                            negatives set to 0
    x'  = z @ W_dec + b_dec (+ x @ W_skip.T)     and the inverse of the norm, except for transcoders

A pre-encoder bias, an input scale or a gate is folded into these tensors when an SAE is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from .config import SaeConfig
from .hub_mixin import HubMixin
from .segments import Piece, Product, chunk_sizes, column_tiles, pieces, stable_product
from .serialization import tensor_shapes

# Floats of pre-activations computed at once: on a CPU 16 MB, which stay in the cache; on a GPU 1 GB.
CHUNK_FLOATS, GPU_CHUNK_FLOATS = 2**22, 2**28
TILE = 2**13  # latents computed at once on a CPU, where each latent is treated separately: then many tokens fit too
DIGEST_FLOATS = 2**22  # floats of a tensor that are copied and hashed at once
NORM_EPSILON = 1e-5  # as in SAELens and OpenAI's code
# Activations that treat each latent separately and never decrease as `pre` grows: they commute with a maximum.
MONOTONE = ("relu", "jumprelu")


class Strongest(NamedTuple):
    """Pre-activations of a few latents of each vector, and which latents: [..., k] each."""

    values: Tensor
    indices: Tensor


class SparseAutoencoder(nn.Module, HubMixin):
    """Encode residual-stream vectors as sparse features, and decode them.

    Parameters: `W_enc` [d_in, d_sae], `b_enc` [d_sae], `W_dec` [d_sae, d_out], `b_dec` [d_out]; for jumprelu
    `threshold` [d_sae]; for transcoders with a skip connection `W_skip` [d_out, d_in]. An SAE loaded with
    `encoder_only` has only the parameters that `encode` needs; the others are None.

    Args:
        config (`SaeConfig`):
            Shapes, activation, language model and hook. All parameters are 0 at first.

    Example:

    ```python
    sae = SparseAutoencoder(SaeConfig(2, 2, "relu", model="m", hook="h")).requires_grad_(False)
    sae.W_enc.copy_(torch.eye(2))  # two latents that detect +x and +y in the plane
    sae.encode(torch.tensor([[3.0, -1.0]]))  # [[3, 0]]
    ```
    """

    def __init__(self, config: SaeConfig) -> None:
        super().__init__()
        self.config = config
        shapes = tensor_shapes(config)
        self.W_enc: nn.Parameter = nn.Parameter(torch.zeros(shapes["W_enc"]))
        self.b_enc: nn.Parameter = nn.Parameter(torch.zeros(shapes["b_enc"]))
        self.W_dec: nn.Parameter | None = nn.Parameter(torch.zeros(shapes["W_dec"]))
        self.b_dec: nn.Parameter | None = nn.Parameter(torch.zeros(shapes["b_dec"]))
        self.W_skip: nn.Parameter | None = nn.Parameter(torch.zeros(shapes["W_skip"])) if "W_skip" in shapes else None
        self.threshold: nn.Parameter | None = (
            nn.Parameter(torch.zeros(shapes["threshold"])) if "threshold" in shapes else None
        )

    @classmethod
    def from_tensors(cls, config: SaeConfig, tensors: Mapping[str, Tensor]) -> Self:
        """Build an SAE from its tensors, without copying them.

        Args:
            config (`SaeConfig`):
                Config that the tensors fit.
            tensors (`Mapping[str, Tensor]`):
                Parameters by name. Without `W_dec`, the SAE can only encode.

        Returns:
            `SparseAutoencoder`: The SAE, without gradients.

        Raises:
            RuntimeError: If a tensor is missing, unexpected, or of another shape than the config implies.
        """
        with torch.device("meta"):  # allocate nothing: the tensors themselves become the parameters
            sae = cls(config)
        if "W_dec" not in tensors:
            sae.W_dec = sae.b_dec = sae.W_skip = None
        sae.load_state_dict(tensors, strict=True, assign=True)
        return sae.requires_grad_(False)

    def extra_repr(self) -> str:
        """Return what `print` shows: sizes, activation and what the SAE reads.

        Returns:
            `str`: The text between the parentheses.
        """
        config = self.config
        k = f", k={config.k}" if config.k is not None else ""
        d_out = f" -> {config.d_out}" if config.d_out is not None else ""
        without = "" if self.W_dec is not None else ", encoder only"
        return (
            f"{config.d_in} -> {config.d_sae}{d_out}, {config.activation}{k}, "
            f"{config.side} of {config.hook!r} in {config.model!r}{without}"
        )

    def encode(self, x: Tensor) -> Tensor:
        """Return the features of each vector.

        Args:
            x (`Tensor`):
                Vectors [..., d_in], in the type of the parameters.

        Returns:
            `Tensor`: Activations [..., d_sae], most of them 0.
        """
        return self._activate(self._normalized(x) @ self.W_enc + self.b_enc)

    def decode(self, z: Tensor) -> Tensor:
        """Return what the decoder makes of given latents, without skip connection and inverse norm.

        `rebuild` adds these two.

        Args:
            z (`Tensor`):
                Latents [..., d_sae].

        Returns:
            `Tensor`: Vectors [..., d_out].

        Raises:
            ValueError: If the SAE was loaded with `encoder_only`.
        """
        W_dec, b_dec = self.decoder()
        return z @ W_dec + b_dec

    def decoder(self) -> tuple[Tensor, Tensor]:
        """Return `W_dec` and `b_dec`.

        Returns:
            `tuple[Tensor, Tensor]`: `W_dec` [d_sae, d_out] and `b_dec` [d_out].

        Raises:
            ValueError: If the SAE was loaded with `encoder_only`.
        """
        if self.W_dec is None or self.b_dec is None:
            raise ValueError("the SAE has no decoder: it was loaded with `encoder_only=True`; load it without")
        return self.W_dec, self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Return the reconstruction of each vector, or a transcoder's output.

        Args:
            x (`Tensor`):
                Vectors [..., d_in].

        Returns:
            `Tensor`: Vectors [..., d_out].

        Raises:
            ValueError: If the SAE was loaded with `encoder_only`.
        """
        return self.rebuild(self.encode(x), x)

    def rebuild(self, z: Tensor, x: Tensor) -> Tensor:
        """Reconstruct from given latents, for interventions: `rebuild(encode(x), x)` is `forward(x)`.

        Args:
            z (`Tensor`):
                Latents [..., d_sae], such as `encode(x)` with some of them changed.
            x (`Tensor`):
                The vectors [..., d_in] themselves, for the skip connection and the inverse norm.

        Returns:
            `Tensor`: Vectors [..., d_out].

        Raises:
            ValueError: If the SAE was loaded with `encoder_only`.
        """
        output = self.decode(z)
        if self.W_skip is not None:
            output = output + x @ self.W_skip.T
        if self.config.input_norm == "none" or self.config.d_out is not None:
            return output
        mean, size = self._moments(x)
        return output * size + mean

    def encode_max(self, x: Tensor, lengths: Sequence[int], product: Product | None = None) -> Tensor:
        """Return the largest activation of each feature in each segment of consecutive vectors.

        This equals the maximum of `encode` over the segment, but at least 0: negative activations of `abstopk` are
        ignored. For `relu` and `jumprelu` the maximum of the pre-activations is taken first, so that bias and
        activation are computed once per segment instead of once per token. A segment's result does not depend on the
        other segments, to the last bit. A vector with NaN or infinity makes NaN or infinity of its segment.

        Args:
            x (`Tensor`):
                Vectors [sum(lengths), d_in]; segment `i` is the next `lengths[i]` rows.
            lengths (`Sequence[int]`):
                Lengths of the segments, each at least 1.
            product (`Callable`, *optional*):
                Maps vectors [n, d_in] and a range of latents to the products with these columns of `W_enc`, in the
                type of the parameters. By default `x @ W_enc[:, latents]`.

        Returns:
            `Tensor`: Maxima [len(lengths), d_sae].

        Raises:
            ValueError: If `lengths` are not those of segments that make up `x`.

        Example:

        ```python
        sae.encode_max(torch.tensor([[3.0, 0.0], [1.0, 2.0]]), [2])  # [[3, 2]] if W_enc is the identity
        ```
        """
        if sum(lengths) != len(x) or not all(length >= 1 for length in lengths):
            raise ValueError(
                f"`lengths` must be positive and add up to the {len(x)} vectors; they add to {sum(lengths)}"
            )
        if product is None or self.config.input_norm != "none":
            x = self._normalized(x.to(self.W_enc.dtype))
        multiply = product or (lambda rows, latents: rows @ self.W_enc[:, latents])
        monotone = self.config.activation in MONOTONE
        maxima = (torch.empty if monotone else torch.zeros)(
            len(lengths), self.config.d_sae, dtype=self.W_enc.dtype, device=x.device
        )
        floats = GPU_CHUNK_FLOATS if x.is_cuda else CHUNK_FLOATS
        is_tiled = monotone and not x.is_cuda
        for latents in column_tiles(self.config.d_sae, TILE if is_tiled else self.config.d_sae):
            sizes = chunk_sizes(len(x), floats // (latents.stop - latents.start))
            for rows, chunk in zip(x.split(sizes), pieces(lengths, sizes), strict=True):
                pre = stable_product(rows, multiply, latents)
                (self._pool if monotone else self._pool_strongest)(maxima[:, latents], pre, chunk)
        return self._activate(maxima.add_(self.b_enc)) if monotone else maxima

    def _pool(self, maxima: Tensor, pre: Tensor, chunk: list[Piece]) -> None:
        """Take the maximum of the rows of each piece, and of what `maxima` has of its segment."""
        for piece, rows in zip(chunk, pre.split([piece.rows for piece in chunk]), strict=True):
            largest = maxima[piece.segment]
            if piece.begins:
                torch.amax(rows, dim=0, out=largest)
            else:
                torch.maximum(largest, rows.amax(dim=0), out=largest)

    def _pool_strongest(self, maxima: Tensor, pre: Tensor, chunk: list[Piece]) -> None:
        """Do the same for activations that keep a few latents of each vector, without writing all the others."""
        strongest = self._strongest(pre.add_(self.b_enc))
        segments = np.repeat([piece.segment for piece in chunk], [piece.rows for piece in chunk])
        starts = torch.from_numpy(segments * self.config.d_sae).to(pre.device, non_blocking=True)
        places = strongest.indices + starts[:, None]
        maxima.view(-1).scatter_reduce_(0, places.flatten(), strongest.values.flatten(), "amax")

    def _activate(self, pre: Tensor) -> Tensor:
        if self.threshold is not None:
            return torch.where(pre <= self.threshold, 0.0, pre).relu()  # NaN stays
        if self.config.activation == "relu":
            return pre.relu()
        strongest = self._strongest(pre)
        values = strongest.values if self.config.activation == "abstopk" else strongest.values.relu()
        return torch.zeros_like(pre).scatter(-1, strongest.indices, values)

    def _strongest(self, pre: Tensor) -> Strongest:
        """Return the latents of each vector that topk, abstopk or groupmax keeps."""
        k = self.config.k or 0
        if self.config.activation == "abstopk":
            indices = pre.abs().topk(k, dim=-1).indices
            return Strongest(pre.gather(-1, indices), indices)
        if self.config.activation == "groupmax":
            values, places = pre.unflatten(-1, (k, -1)).max(dim=-1)
            return Strongest(values, places + torch.arange(0, pre.shape[-1], pre.shape[-1] // k, device=pre.device))
        return Strongest(*pre.topk(k, dim=-1))

    def _normalized(self, x: Tensor) -> Tensor:
        if self.config.input_norm == "none":
            return x
        mean, size = self._moments(x)
        # Layer norm adds an epsilon; rms leaves a vector of zeros as it is.
        return (x - mean) / (size + NORM_EPSILON if self.config.input_norm == "layer_norm" else size + (size == 0))

    def _moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `input_norm` subtracts from each vector, and what it then divides by."""
        if self.config.input_norm == "layer_norm":
            return x.mean(dim=-1, keepdim=True), x.std(dim=-1, keepdim=True)
        root_mean_square = x.square().mean(dim=-1, keepdim=True).sqrt()
        return torch.zeros_like(root_mean_square), root_mean_square

    def digest(self) -> str:
        """Return the SHA-256 of all that `encode` depends on: norm, activation and the encoder's tensors in float32.

        Returns:
            `str`: The SHA-256, in hexadecimal.
        """
        norm = "" if self.config.input_norm == "none" else f" {self.config.input_norm}"
        digest = hashlib.sha256(f"{self.config.activation} {self.config.k}{norm}".encode())
        for tensor in (self.W_enc, self.b_enc, self.threshold):
            for part in () if tensor is None else tensor.detach().flatten().split(DIGEST_FLOATS):
                digest.update(part.to("cpu", torch.float32).numpy().data)
        return digest.hexdigest()

    def _tensors(self) -> dict[str, Tensor]:
        self.decoder()  # check that it exists
        return {name: tensor.detach().to("cpu").contiguous() for name, tensor in self.named_parameters()}
