"""Measure what encoding computes beside the least that it could: chunks of the SAE, policies of precision, the model.

    python benchmarks/encoding.py --data FOLDER/alpaca_52k.parquet

All is measured on the forward passes of Alpaca's first rows, in one process, in seconds of CPU. The floor of an SAE is
one product of all tokens of a pass and the encoder's weights. Flips are features of rows that another arithmetic moves
across the SAE's threshold; of the SAE's product, against a product in float64 of the same states.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from datasets import Dataset
from torch import Tensor

from hf_sae_select import SaeConfig, SparseAutoencoder, load_sae
from hf_sae_select.encoding.batches import Window
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.text import find_text
from hf_sae_select.sae.model import CHUNK_FLOATS, TILE
from hf_sae_select.sae.products import PARTS, ReusedProduct, SplitProduct
from hf_sae_select.sae.segments import FEW_ROWS, Product, chunk_sizes

TINY = [" ".join(["the harbour was built twice"] * (1 + i % 7)) for i in range(16)]


class Pass(NamedTuple):
    """The hidden states of one forward pass, and how many each window has."""

    states: Tensor
    lengths: list[int]


def main() -> None:
    args = arguments()
    torch.manual_seed(0)
    rows = Dataset.from_dict({"text": TINY}) if args.tiny else Dataset.from_parquet(str(args.data))
    rows = rows.select(range(min(args.rows, len(rows))))
    sae = load_sae()
    models = {dtype: LanguageModel.of(sae.config, dtype=dtype) for dtype in ("float32", "bfloat16")}
    windows = models["float32"].windows([text for text, _ in find_text(rows)(rows[:])])
    passes = {dtype: passes_of(model, windows) for dtype, model in models.items()}
    tokens = sum(len(states) for states, _ in passes["float32"])
    print(f"{len(rows):,} rows, {tokens:,} tokens, {len(passes['float32'])} forward passes, ", end="")
    print(f"{torch.get_num_threads()} threads")
    print_chunks(passes["float32"], args.latents, args.repeats)
    print_policies(sae, {dtype: whole[:: args.share] for dtype, whole in passes.items()}, args.repeats)
    print_models(models, windows, args.repeats)


def passes_of(model: LanguageModel, windows: Sequence[Window]) -> list[Pass]:
    return [Pass(states, [sum(window.is_text) for window in group]) for group, states in model.states(windows)]


def print_chunks(passes: list[Pass], sizes: Sequence[int], repeats: int) -> None:
    """Print what `encode_max` of random SAEs computes and takes, beside the floor."""
    print("\n| latents | relu, rows / tokens | time | topk, rows / tokens | time |\n|---|---|---|---|---|")
    tokens, d_in = sum(len(states) for states, _ in passes), passes[0].states.shape[1]
    for d_sae in sizes:
        some = passes[:: max(1, d_sae // 8192)]  # of all lengths, since the longest come first
        cells = [f"{d_sae:,}"]
        for activation, latents in (("relu", min(d_sae, TILE)), ("topk", d_sae)):
            chunks = [chunk_sizes(len(states), CHUNK_FLOATS // latents) for states, _ in passes]
            computed = sum(max(size, FEW_ROWS) for of_pass in chunks for size in of_pass)
            times = ratio_to_floor(some, d_in, d_sae, activation, repeats)
            cells += [f"{computed / tokens:.2f}", f"{times:.2f}x"]
        print(f"| {' | '.join(cells)} |", flush=True)


def ratio_to_floor(passes: list[Pass], d_in: int, d_sae: int, activation: str, repeats: int) -> float:
    config = SaeConfig(d_in, d_sae, activation, model="m", hook="h", k=32 if activation == "topk" else None)
    sae = SparseAutoencoder(config).requires_grad_(False)
    sae.W_enc.normal_()
    product = ReusedProduct(sae.W_enc)  # as `encode` has it on a CPU
    out = torch.empty(max(len(states) for states, _ in passes), d_sae)

    def floor() -> None:
        for states, _ in passes:
            torch.mm(states, sae.W_enc, out=out[: len(states)])

    def pooled() -> None:
        for states, lengths in passes:
            sae.encode_max(states, lengths, product)

    return ratio(pooled, floor, repeats)


def print_policies(sae: SparseAutoencoder, passes: dict[str, list[Pass]], repeats: int) -> None:
    """Print time and flips of each policy of precision, on the states of models in float32 and in bfloat16."""
    print("\n| states | product | time | flips a row | rows with a flip |\n|---|---|---|---|---|")
    order = torch.randperm(sae.config.d_in)
    reordered = sae.W_enc[order].contiguous()
    double = SparseAutoencoder.from_tensors(sae.config, {n: p.double() for n, p in sae.named_parameters()})
    exact = fired(double, passes["float32"], lambda x, latents: x.double() @ double.W_enc[:, latents])

    def line(dtype: str, name: str, product: Product, reference: Tensor) -> None:
        flips = (fired(sae, passes[dtype], product) != reference).sum(dim=1)
        times = ratio(
            lambda: [product(states, slice(None)) for states, _ in passes[dtype]],
            lambda: [states @ sae.W_enc for states, _ in passes["float32"]],
            repeats,
        )
        share = (flips > 0).double().mean()
        print(f"| {dtype} | {name} | {times:.2f}x | {flips.double().mean():.4f} | {share:.2%} |", flush=True)

    line("float32", "float32", lambda x, latents: x @ sae.W_enc[:, latents], exact)
    line("float32", "float32, terms in another order", lambda x, latents: x[:, order] @ reordered[:, latents], exact)
    for precision in PARTS:
        line("float32", precision, SplitProduct(sae.W_enc, precision), exact)
    of_half = fired(double, passes["bfloat16"], lambda x, latents: x.double() @ double.W_enc[:, latents])
    line("bfloat16", "float32", lambda x, latents: x.float() @ sae.W_enc[:, latents], of_half)
    for precision in PARTS:
        line("bfloat16", precision, SplitProduct(sae.W_enc, precision), of_half)
    flips, active = ((of_half != exact).sum(dim=1).double().mean(), exact.sum(dim=1).double().mean())
    print(f"\nThe model in bfloat16 itself flips {flips:.2f} features a row, of {active:.1f}.")


def fired(sae: SparseAutoencoder, passes: list[Pass], product: Product) -> Tensor:
    """Return which features of each window are above the SAE's threshold."""
    maxima = [sae.encode_max(states, lengths, product) for states, lengths in passes]
    return torch.cat(maxima) > sae.config.feature_threshold


def print_models(models: dict[str, LanguageModel], windows: Sequence[Window], repeats: int) -> None:
    """Print what the model takes in bfloat16 beside float32."""

    def run(model: LanguageModel) -> None:
        for _ in model.states(windows):
            pass

    times = ratio(lambda: run(models["bfloat16"]), lambda: run(models["float32"]), repeats)
    print(f"The model in bfloat16 takes {times:.2f} of what it takes in float32.")


def ratio(call: Callable[[], object], floor: Callable[[], object], repeats: int) -> float:
    """Return the median ratio of seconds of CPU; the two are measured in turn, since other work slows both."""
    return statistics.median(seconds(call) / seconds(floor) for _ in range(repeats))


def seconds(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return time.process_time() - started


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="alpaca_52k.parquet")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--latents", type=int, nargs="+", default=[8192, 65536, 131072], help="of random SAEs")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--share", type=int, default=1, help="policies are measured on every SHARE-th forward pass")
    parser.add_argument("--tiny", action="store_true", help="a few short rows and small SAEs, for the tests")
    args = parser.parse_args()
    if args.tiny:
        args.latents, args.repeats, args.share = [64, 256], 1, 3
    elif args.data is None:
        parser.error("--data is needed without --tiny")
    return args


if __name__ == "__main__":
    main()
