"""How far codes differ from those of a product in float64, by policy of precision, and what this does to picks.

The gate: `bfloat16x3` may be a default on a GPU where it flips no more features than `float32` on the GPU does beside
`float32` on the CPU. A flip is a feature of a row that crosses the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from hf_sae_select import FeatureMatrix, SaeConfig, SparseAutoencoder, select_indices
from hf_sae_select.sae.products import PARTS, SplitProduct
from hf_sae_select.sae.segments import Product

from .bench import Bench, Figures
from .shapes import L0, sae_of

STRONGEST = 256
METHODS = ("herding", "greedy")


def measure(bench: Bench) -> None:
    sizes = bench.sizes
    shape, d_sae = sizes.models[sizes.main], sizes.latents[1]
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(3, 0.6, sizes.compared), 2, 200).astype(int).tolist()
    states = bench.normal(sum(lengths), shape.d_in, seed=1).bfloat16()
    sae = sae_of(SaeConfig(shape.d_in, d_sae, "relu", model="m", hook="h"), states)
    exact = of_float64(sae, states, lengths)
    threshold = exact.topk(min(L0, d_sae // 4), dim=1).values[:, -1].mean()  # no activation is equal to it
    flips: dict[str, float] = {}
    for kind, x in (("bfloat16", states), ("float32", bench.normal(*states.shape, seed=2))):
        reference = exact if kind == "bfloat16" else of_float64(sae, x, lengths)
        codes = {name: maxima(sae, x, lengths, product) for name, product in policies(sae).items()}
        codes |= {"float32, on the CPU": maxima(sae.to("cpu"), x.cpu(), lengths, None).to(bench.device)}
        sae.to(bench.device)
        for name, result in codes.items():
            figures = differences(result, reference, threshold)
            flips[f"{kind} {name}"] = figures["flips a row"]
            bench.lines.add(bench.part, "against float64", states=kind, product=name, **figures)
        between = differences(codes["float32"], codes["float32, on the CPU"], threshold)["flips a row"]
        split = flips[f"{kind} bfloat16x3"]
        gate = {"float32, device and CPU": between, "bfloat16x3, float64": split, "holds": split <= between}
        bench.lines.add(bench.part, "gate, flips a row", states=kind, **gate)
        for method in METHODS:
            call = partial(picks, codes, threshold, method)
            bench.measure("picks as with float32", call, states=kind, method=method)
    for name, product in policies(sae).items():
        bench.measure("bits", partial(bits, sae, states, lengths, product), product=name)


def policies(sae: SparseAutoencoder) -> dict[str, Product | None]:
    return {"float32": None, **{name: SplitProduct(sae.W_enc, name) for name in PARTS}}


def maxima(sae: SparseAutoencoder, x: Tensor, lengths: Sequence[int], product: Product | None) -> Tensor:
    return sae.encode_max(x.float() if product is None else x, lengths, product)


def of_float64(sae: SparseAutoencoder, x: Tensor, lengths: Sequence[int]) -> Tensor:
    tensors = {name: tensor.double() for name, tensor in sae.named_parameters()}
    return SparseAutoencoder.from_tensors(sae.config, tensors).encode_max(x.double(), lengths)


def differences(codes: Tensor, reference: Tensor, threshold: Tensor) -> Figures:
    flips = ((codes > threshold) != (reference > threshold)).sum(dim=1).double()
    count = min(STRONGEST, codes.shape[1] // 2)
    # `topk` promises no order of equal activations, so sets are compared, and orders
    top, top_reference = (tensor.topk(count, dim=1).indices for tensor in (codes, reference))
    same = (top.sort(dim=1).values == top_reference.sort(dim=1).values).all(dim=1).double().mean()
    return {
        "largest difference": (codes.double() - reference.double()).abs().max().item(),
        "flips a row": flips.mean().item(),
        "rows with a flip": f"{(flips > 0).double().mean().item():.2%}",
        f"same {count} strongest": f"{same.item():.2%}",
        "in the same order": f"{(top == top_reference).all(dim=1).double().mean().item():.2%}",
    }


def picks(codes: dict[str, Tensor], threshold: Tensor, method: str) -> Figures:
    """Return the share of picks that stay, and what they gain beside those from `float32`."""
    matrices = {name: matrix(result, threshold) for name, result in codes.items()}
    chosen = {name: select_indices(rows, len(rows) // 8, method) for name, rows in matrices.items()}
    first = chosen["float32"]
    figures: dict[str, str] = {}
    for name, selection in list(chosen.items())[1:]:
        figures[name] = f"{np.isin(selection.indices, first.indices).mean():.1%}"
        figures[f"{name}: gain"] = f"{np.sum(selection.gains) / np.sum(first.gains):.6f}"
    return figures


def matrix(codes: Tensor, threshold: Tensor) -> FeatureMatrix:
    """Return the features above the threshold of each row."""
    kept = torch.where(codes > threshold, codes, 0).cpu()
    row, ids = kept.nonzero(as_tuple=True)
    offsets = np.concatenate([[0], torch.bincount(row, minlength=len(kept)).cumsum(0).numpy()])
    tokens = np.ones(len(kept), np.int32)
    return FeatureMatrix(offsets, ids.numpy().astype(np.uint32), kept[row, ids].numpy(), kept.shape[1], tokens)


def bits(sae: SparseAutoencoder, x: Tensor, lengths: Sequence[int], product: Product | None) -> Figures:
    """Tell whether the same batch gives the same bits twice, and rows the same in batches of other sizes."""
    whole = maxima(sae, x, lengths, product)
    half = len(lengths) // 2
    parts = zip(x.split([sum(lengths[:half]), sum(lengths[half:])]), (lengths[:half], lengths[half:]), strict=True)
    halves = torch.cat([maxima(sae, rows, list(some), product) for rows, some in parts])
    return {
        "twice": torch.equal(whole, maxima(sae, x, lengths, product)),
        "in two batches": torch.equal(whole, halves),
    }
