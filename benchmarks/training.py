"""Train SAEs of one width and sparsity on the same batches: ours, SAELens' and sparsify's, speed and quality.

    python benchmarks/training.py --peers PYTHON (--data FOLDER | --states FILE --held-out FILE) [--tokens 300000]

PYTHON is that of an environment with sae-lens==6.54.12 and eai-sparsify==1.3.3. Every contender trains in a process of
its own, on the same hidden states of the default SAE's model in the same order; the held-out figures are measured by
`evaluate` on each SAE's weights in this package's equations. Each is trained at every step size of `--lrs`, because
they mean another thing where weights begin smaller; its line is the one of the highest explained variance, its speed
the highest of its runs. Thresholds are multiplied to an L0 of k, so that all are compared at the same. `ratio` is the
speed as a multiple of the first contender's. Peers train by their own trainers with their own defaults; what is set
alike is in `training_worker.py`. sparsify's Trainer runs a language model, which here is a look-up of the states: it
costs nothing next to the training.
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
from default_sae import enough
from torch import Tensor
from training_worker import CONTENDERS

from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.sae.config import SaeConfig
from hf_sae_select.sae.model import SparseAutoencoder
from hf_sae_select.training.evaluation import Quality, evaluate

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from train_default_sae import HOOK, MODEL, REVISION, WINDOW, blocks, documents

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
        measure = None
        for name in args.only or CONTENDERS:
            runs = []
            for lr in args.lrs:
                seconds = train_one(name, lr, args.peers, folder)
                runs.append((measured(folder, args.k, held_out), lr, seconds))
            quality, lr, _ = max(runs, key=lambda run: run[0].explained_variance)
            speed = len(order) / min(seconds for _, _, seconds in runs)
            measure = measure or speed
            figures = f"{quality.explained_variance:>20.4f}{quality.l0:>7.1f}"
            figures += f"{100 * quality.dead:>8.2f}{100 * quality.dense:>9.2f}"
            print(f"{name:<24}{speed:>9,.0f}{speed / measure:>7.1f}x{lr:>9}{figures}", flush=True)


def train_one(name: str, lr: float, peers: Path, folder: Path) -> float:
    """Train a contender in a process of its own and return its seconds."""
    python = sys.executable if name.startswith("ours") else peers
    worker = Path(__file__).with_name("training_worker.py")
    done = subprocess.run([python, worker, name, folder, str(lr)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    seconds: float = json.loads((folder / "result.json").read_text())["seconds"]
    return seconds


def measured(folder: Path, k: int, held_out: Tensor) -> Quality:
    """Measure the SAE that a worker left behind."""
    tensors = torch.load(folder / "sae.pt", weights_only=True)
    activation = "jumprelu" if "threshold" in tensors else "topk"
    d_in, d_sae = tensors["W_enc"].shape
    sae = SparseAutoencoder(SaeConfig(d_in, d_sae, activation, model="-", hook="-", k=k)).requires_grad_(False)
    sae.load_state_dict(tensors)
    if sae.threshold is not None:
        pre = held_out[:10_000] @ sae.W_enc + sae.b_enc
        sae.threshold.mul_(factor(pre, sae.threshold, k))
    return evaluate(sae, torch.split(held_out, 2000))


def factor(pre: Tensor, threshold: Tensor, k: int) -> float:
    """Find what thresholds must be multiplied by for an L0 of k; a running mean needs more steps than there are."""
    low, high = 0.0, 1000.0
    for _ in range(30):
        middle = (low + high) / 2
        more = (pre > middle * threshold).sum() > k * len(pre)
        low, high = (middle, high) if more else (low, middle)
    return high


def from_files(args: argparse.Namespace) -> tuple[Any, Tensor]:
    """Read hidden states kept as float16, row by row."""
    train, held_out = (np.memmap(file, np.float16, "r").reshape(-1, D_IN) for file in (args.states, args.held_out))
    return train[: args.tokens], torch.from_numpy(held_out[:HELD_OUT].astype(np.float32))


def from_documents(args: argparse.Namespace) -> tuple[Any, Tensor]:
    """Run the language model over the default SAE's documents."""
    training, held_out = documents(args.data, seed=0)
    model = LanguageModel.from_pretrained(MODEL, HOOK, revision=REVISION, window=WINDOW)
    train, unseen = ((states for _, states in blocks(model, texts)) for texts in (training, held_out))
    return enough(train, args.tokens).numpy(), enough(unseen, HELD_OUT)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True, help="Python of an environment with the peers")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder with the Parquet files of the default SAE")
    source.add_argument("--states", type=Path, help="float16 hidden states of width 384 to train on, row by row")
    parser.add_argument("--held-out", type=Path, help="with --states: the same, to measure on")
    parser.add_argument("--tokens", type=int, default=300_000)
    parser.add_argument("--d-sae", type=int, default=8192)
    parser.add_argument("--k", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--lrs", type=float, nargs="+", default=[5e-4, 2e-3, 8e-3], metavar="LR")
    parser.add_argument("--dead-after", type=int, default=20_000, help="tokens without firing")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, metavar="NAME")
    args = parser.parse_args()
    if args.states and not args.held_out:
        parser.error("--states needs --held-out: quality is measured on states that were not trained on")
    return args


if __name__ == "__main__":
    main()
