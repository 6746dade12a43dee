"""Train an SAE on the decoder's residual stream with this package's trainer, measure it on held-out text, save it.

    python benchmarks/decoder/states.py --data FOLDER --out FOLDER
    python benchmarks/decoder/autoencoder.py --out FOLDER [--tokens 800000] [--epochs 3] [--device cuda]

It reads the hidden states that states.py computed. FOLDER/sae is an SAE in the package's layout: `load_sae` reads it,
and `sae_encode` finds the decoder in FOLDER/model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from folder import results_folder
from model import INSTALL, SHA256, decoder
from numpy.typing import NDArray
from states import HELD_OUT_TOKENS, HOOK, MAX_NORM_RATIO, WINDOW, read
from torch import Tensor

from hf_sae_select import SaeTrainingConfig, SparseAutoencoder
from hf_sae_select.training.evaluation import calibrate_feature_threshold, evaluate_sae_on_activations
from hf_sae_select.training.train import train_sae_on_activations

CONFIG = SaeTrainingConfig("batchtopk", d_sae=4608, k=32, max_norm_ratio=MAX_NORM_RATIO)  # 8 latents a dimension
TINY = {"tokens": 20_000, "epochs": 1, "d_sae": 576}
BATCH = 1024  # held-out tokens that are measured at once


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    model = decoder(args.out)
    states, lengths = read(args.out / "states" / "training", args.tokens)
    held_out, held_out_lengths = read(args.out / "states" / "held_out", min(HELD_OUT_TOKENS, args.tokens))
    settings = {"tokens": args.tokens, "epochs": args.epochs, "device": args.device, **config_of(args).to_dict()}
    folder = results_folder(args.out / "sae", settings, [Path(__file__), Path(__file__).with_name("states.py")])
    sae = trained(args, states[: args.tokens], str(model))
    x = torch.from_numpy(held_out.astype(np.float32)).to(sae.W_enc.device)
    quality = evaluate_sae_on_activations(sae, x.split(BATCH))
    maxima = sae.encode_max(x, held_out_lengths).cpu()
    facts = {
        "documents": len(lengths),
        "distinct_tokens": args.tokens,
        "weights": f"{INSTALL}, SHA-256 {SHA256}",
        "language": "en",
    }
    sae.config = replace(
        sae.config,
        feature_threshold=calibrate_feature_threshold(maxima, CONFIG.k),
        training=sae.config.training | quality.facts() | facts,
    )
    sae.cpu().save_pretrained(folder)
    print(f"device {device_name(args.device)}, {args.tokens:,} tokens read {args.epochs} times: {folder}")
    print(quality)


def config_of(args: argparse.Namespace) -> SaeTrainingConfig:
    return replace(CONFIG, d_sae=args.d_sae, training_tokens=args.tokens * args.epochs)


def trained(args: argparse.Namespace, states: NDArray[np.float16], model: str) -> SparseAutoencoder:
    """Train on all states, in a new order each time."""
    config = config_of(args)

    def batches() -> Iterator[Tensor]:
        size, rest = config.train_batch_size_tokens, np.empty(0, np.int64)
        for epoch in range(args.epochs):
            order = np.concatenate([rest, np.random.default_rng((config.seed, epoch)).permutation(len(states))])
            whole = len(order) // size * size
            for places in np.split(order[:whole], whole // size):
                yield torch.from_numpy(states[places].astype(np.float32)).to(args.device)
            rest = order[whole:]

    sae = train_sae_on_activations(batches(), config, model=model, hook=HOOK, context_size=WINDOW)
    return sae.requires_grad_(False)


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench")
    parser.add_argument("--tokens", type=int, default=800_000, help="tokens to train on (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="how often they are read (default: %(default)s)")
    parser.add_argument("--d-sae", type=int, default=CONFIG.d_sae, help="latents (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="a small SAE on few tokens, in a minute")
    args = parser.parse_args()
    if args.tiny:
        parser.set_defaults(**TINY)
        args = parser.parse_args()
    return args


if __name__ == "__main__":
    main()
