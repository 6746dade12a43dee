"""Train small versions of the default SAE at several layers, widths and sparsities, and print one table.

    python benchmarks/default_sae.py --data FOLDER

The same text, trainer and seed as `examples/train_default_sae.py`, a few of its tokens, twice its step size. The
last column is what layers differ in most for selection: how far a row's number of features, at the threshold that
leaves k a row, is its length.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.training.activation_stream import cut
from hf_sae_select.training.evaluation import evaluate
from hf_sae_select.training.train import calibrate, fit

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from train_default_sae import MODEL, RECIPE, REVISION, WINDOW, blocks, documents

# (layers run, d_sae, k)
TRIALS = ((3, 8192, 32), (4, 8192, 32), (5, 8192, 32), (5, 4096, 32), (5, 8192, 16), (5, 8192, 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--tokens", type=int, default=300_000)
    args = parser.parse_args()
    training, held_out = documents(args.data, seed=0)
    print(f"{'layers':>6}{'d_sae':>8}{'k':>5}{'explained variance':>20}{'L0':>7}{'dead %':>8}{'r with length':>15}")
    states = torch.empty(0)
    unseen: list[tuple[list[int], Tensor]] = []
    for i, (layers, d_sae, k) in enumerate(TRIALS):
        hook = f"encoder.layer.{layers - 1}"
        if not i or layers != TRIALS[i - 1][0]:
            model = LanguageModel.from_pretrained(MODEL, hook, revision=REVISION, window=WINDOW)
            states = enough((states for _, states in blocks(model, training)), args.tokens)
            unseen = list(blocks(model, held_out[:512]))
        config = replace(RECIPE, d_sae=d_sae, k=k, tokens=args.tokens, lr=2 * RECIPE.peak_lr, dead_after=50_000)
        sae = fit(cut(states, config.batch, (config.seed,)), config, model=MODEL, hook=hook)
        quality = evaluate(sae, (x for _, x in unseen))
        maxima = torch.cat([sae.encode_max(x, lengths) for lengths, x in unseen])
        counts = (maxima > calibrate(sae, maxima, k).config.feature_threshold).sum(dim=1)
        tokens = torch.tensor([length for lengths, _ in unseen for length in lengths])
        r = torch.corrcoef(torch.stack([tokens, counts]).float())[0, 1]
        figures = f"{quality.explained_variance:>20.3f}{quality.l0:>7.1f}{100 * quality.dead:>8.2f}{r:>15.2f}"
        print(f"{layers:>6}{d_sae:>8}{k:>5}{figures}", flush=True)


def enough(blocks: Iterable[Tensor], tokens: int) -> Tensor:
    """Return the first `tokens` hidden states."""
    taken: list[Tensor] = []
    for block in blocks:
        taken.append(block)
        if sum(map(len, taken)) >= tokens:
            break
    return torch.cat(taken)[:tokens]


if __name__ == "__main__":
    main()
