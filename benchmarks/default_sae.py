"""Train small versions of the default SAE at several layers, widths and sparsities, and print one table.

    python benchmarks/default_sae.py --data FOLDER

They have the text, trainer and seed of `examples/train_default_sae.py`, fewer tokens and twice its learning rate.
The last column matters most for selection, and differs most between layers: the correlation of a row's number of
features with its length, at the threshold that leaves k features per row.
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
from hf_sae_select.training.activation_stream import shuffled_batches
from hf_sae_select.training.evaluation import calibrate_feature_threshold, evaluate_sae_on_activations
from hf_sae_select.training.train import train_sae_on_activations

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from train_default_sae import CONFIG, CONTEXT_SIZE, MODEL, REVISION, blocks, read_documents

# (layers before the SAE, d_sae, k)
TRIALS = ((3, 8192, 32), (4, 8192, 32), (5, 8192, 32), (5, 4096, 32), (5, 8192, 16), (5, 8192, 64))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--tokens", type=int, default=300_000)
    args = parser.parse_args()
    training, held_out = read_documents(args.data, seed=0)
    print(f"{'layers':>6}{'d_sae':>8}{'k':>5}{'explained variance':>20}{'L0':>7}{'dead %':>8}{'r with length':>15}")
    states = torch.empty(0)
    held_out_blocks: list[tuple[list[int], Tensor]] = []
    for i, (layers, d_sae, k) in enumerate(TRIALS):
        hook = f"encoder.layer.{layers - 1}"
        if not i or layers != TRIALS[i - 1][0]:
            model = LanguageModel.from_pretrained(MODEL, hook, revision=REVISION, window=CONTEXT_SIZE)
            states = first_tokens((states for _, states in blocks(model, training)), args.tokens)
            held_out_blocks = list(blocks(model, held_out[:512]))
        config = replace(
            CONFIG,
            d_sae=d_sae,
            k=k,
            training_tokens=args.tokens,
            learning_rate=2 * CONFIG.peak_learning_rate,
            dead_feature_threshold=50_000,
        )
        batches = shuffled_batches(states, config.train_batch_size_tokens, (config.seed,))
        sae = train_sae_on_activations(batches, config, model=MODEL, hook=hook)
        quality = evaluate_sae_on_activations(sae, (x for _, x in held_out_blocks))
        maxima = torch.cat([sae.encode_max(x, lengths) for lengths, x in held_out_blocks])
        counts = (maxima > calibrate_feature_threshold(maxima, k)).sum(dim=1)
        tokens = torch.tensor([length for lengths, _ in held_out_blocks for length in lengths])
        r = torch.corrcoef(torch.stack([tokens, counts]).float())[0, 1]
        figures = f"{quality.explained_variance:>20.3f}{quality.l0:>7.1f}{100 * quality.dead:>8.2f}{r:>15.2f}"
        print(f"{layers:>6}{d_sae:>8}{k:>5}{figures}", flush=True)


def first_tokens(blocks: Iterable[Tensor], tokens: int) -> Tensor:
    """Return the first `tokens` hidden states."""
    states: list[Tensor] = []
    for block in blocks:
        states.append(block)
        if sum(map(len, states)) >= tokens:
            break
    return torch.cat(states)[:tokens]


if __name__ == "__main__":
    main()
