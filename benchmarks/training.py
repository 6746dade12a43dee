"""Compare SAE trainers on the same batches, in speed and quality: this package, SAELens and sparsify.

    python benchmarks/training.py --peers PYTHON (--data FOLDER | --states FILE --held-out FILE) [--tokens 300000]

PYTHON is the interpreter of an environment with sae-lens==6.54.12 and eai-sparsify==1.3.3. Each contender trains in
a process of its own, on the same hidden states of the default SAE's model, in the same order. All have the same
width and sparsity. `evaluate_sae_on_activations` measures the trained weights, in this package's equations, on
held-out states.

Learning rates are not comparable where the initial weights differ in size, so each contender is trained at every one
of `--lrs`. Its line shows the run with the highest explained variance, and the speed of the fastest run. Thresholds
are multiplied to reach an L0 of k, so that all are compared at the same L0. `ratio` is the speed relative to the
first contender. SAELens and sparsify use their own trainers and defaults; `training_worker.py` shows which settings
are made equal. sparsify's Trainer runs a language model; here it is a look-up of the states, whose cost is
negligible.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from default_sae import first_tokens
from torch import Tensor
from training_worker import CONTENDERS

from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.sae.config import SaeConfig
from hf_sae_select.sae.model import SparseAutoencoder
from hf_sae_select.training.evaluation import Quality, evaluate_sae_on_activations

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from train_default_sae import CONTEXT_SIZE, HOOK, MODEL, REVISION, blocks, read_documents

D_IN = 384
HELD_OUT = 50_000  # tokens


def main() -> None:
    args = arguments()
    train, held_out = from_files(args) if args.states else from_documents(args)
    task = {name: getattr(args, name) for name in ("d_sae", "k", "batch", "dead_after", "threads")}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        order = np.random.default_rng(0).permutation(len(train))[: len(train) // args.batch * args.batch]
        np.save(folder / "states.npy", train[order].astype(np.float32))
        (folder / "task.json").write_text(json.dumps(task))
        print(f"{len(order):,} tokens, d_sae {args.d_sae}, k {args.k}, batch {args.batch}, {args.threads} threads")
        head = f"{'contender':<24}{'tokens/s':>9}{'ratio':>8}{'best lr':>9}{'explained variance':>20}{'L0':>7}"
        print(f"{head}{'dead %':>8}{'dense %':>9}")
        first_speed = None
        for name in args.only or CONTENDERS:
            runs = []
            for lr in args.lrs:
                seconds = train_one(name, lr, args.peers, folder)
                runs.append((quality_of(folder, args.k, held_out), lr, seconds))
            quality, lr, _ = max(runs, key=lambda run: run[0].explained_variance)
            speed = len(order) / min(seconds for _, _, seconds in runs)
            first_speed = first_speed or speed
            figures = f"{quality.explained_variance:>20.4f}{quality.l0:>7.1f}"
            figures += f"{100 * quality.dead:>8.2f}{100 * quality.dense:>9.2f}"
            print(f"{name:<24}{speed:>9,.0f}{speed / first_speed:>7.1f}x{lr:>9}{figures}", flush=True)


def train_one(name: str, lr: float, peers: Path, folder: Path) -> float:
    """Train a contender in a process of its own, and return its training time in seconds."""
    python = sys.executable if name.startswith("ours") else peers
    worker = Path(__file__).with_name("training_worker.py")
    process = subprocess.run([python, worker, name, folder, str(lr)], capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{name} failed: {process.stderr[-2000:]}")
    seconds: float = json.loads((folder / "result.json").read_text())["seconds"]
    return seconds


def quality_of(folder: Path, k: int, held_out: Tensor) -> Quality:
    """Measure the SAE that a worker saved, at an L0 of k."""
    return evaluate_sae_on_activations(sae_of(folder, k, held_out), torch.split(held_out, 2000))


def sae_of(folder: Path, k: int, held_out: Tensor) -> SparseAutoencoder:
    """Return the SAE that a worker saved; its thresholds give an L0 of k on the held-out states."""
    tensors = torch.load(folder / "sae.pt", weights_only=True)
    activation = "jumprelu" if "threshold" in tensors else "topk"
    d_in, d_sae = tensors["W_enc"].shape
    sae = SparseAutoencoder(SaeConfig(d_in, d_sae, activation, model="-", hook="-", k=k)).requires_grad_(False)
    sae.load_state_dict(tensors)
    if sae.threshold is not None:
        pre = held_out[:10_000] @ sae.W_enc + sae.b_enc
        sae.threshold.mul_(threshold_factor(pre, sae.threshold, k))
    return sae


def threshold_factor(pre: Tensor, threshold: Tensor, k: int) -> float:
    """Find, by bisection, the factor of the thresholds that gives an L0 of k.

    The running mean of a BatchTopK threshold has not converged after so short a training.
    """
    low, high = 0.0, 1000.0
    for _ in range(30):
        middle = (low + high) / 2
        too_many = (pre > middle * threshold).sum() > k * len(pre)
        low, high = (middle, high) if too_many else (low, middle)
    return high


def from_files(args: argparse.Namespace) -> tuple[Any, Tensor]:
    """Read hidden states from float16 files, row by row."""
    train, held_out = (np.memmap(file, np.float16, "r").reshape(-1, D_IN) for file in (args.states, args.held_out))
    return train[: args.tokens], torch.from_numpy(held_out[:HELD_OUT].astype(np.float32))


def from_documents(args: argparse.Namespace) -> tuple[Any, Tensor]:
    """Compute hidden states from the documents of the default SAE."""
    training, held_out = read_documents(args.data, seed=0)
    model = LanguageModel.from_pretrained(MODEL, HOOK, revision=REVISION, window=CONTEXT_SIZE)
    train, test = ((states for _, states in blocks(model, texts)) for texts in (training, held_out))
    return first_tokens(train, args.tokens).numpy(), first_tokens(test, HELD_OUT)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="Python of an environment with SAELens and sparsify")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with the Parquet files of the default SAE")
    source.add_argument(
        "--states", type=Path, help="file of float16 hidden states of width 384 to train on, row by row"
    )
    parser.add_argument("--held-out", type=Path, help="with --states: file of hidden states to measure on")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--d-sae", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--lrs", type=float, nargs="+", default=[5e-4, 2e-3, 8e-3], metavar="LR")
    parser.add_argument("--dead-after", type=int, default=20_000, help="tokens without firing that make a latent dead")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME")
    args = parser.parse_args()
    if args.states and not args.held_out:
        parser.error("`--states` needs `--held-out`, states to measure on that were not trained on")
    return args


if __name__ == "__main__":
    main()
