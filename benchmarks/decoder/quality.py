"""Compare SAEs that this package, SAELens and sparsify train on the same hidden states of the decoder.

    python benchmarks/decoder/quality.py --data FOLDER --out FOLDER --peers PYTHON [--tokens 200000]

PYTHON is the interpreter of an environment with sae-lens==6.54.12 and eai-sparsify==1.3.3. Each contender trains in a
process of its own on the states of states.py, in the same order, at the same width, sparsity and batch, as in
`benchmarks/training.py`. All are measured on the same held-out states and texts, those with a threshold at an L0 of k.
The first line is the SAE of autoencoder.py, which has read more tokens. Its states are at its own threshold.

`CE recovered` is (zeros - reconstructed) / (zeros - original): losses of the decoder on held-out text whose vectors at
the hook are replaced, but for those left out in training. A line is kept when it is measured; a second run goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from autoencoder import BATCH, CONFIG, device_name
from folder import results_folder, write
from model import decoder
from states import HELD_OUT_TOKENS, HOOK, MAX_NORM_RATIO, WINDOW, read
from texts import documents
from torch import Tensor

from hf_sae_select import SparseAutoencoder, load_sae
from hf_sae_select.encoding.batches import Window
from hf_sae_select.training.cross_entropy import CausalLanguageModel
from hf_sae_select.training.evaluation import evaluate_sae_on_activations

sys.path.append(str(Path(__file__).parent.parent))
from training import sae_of, train_one
from training_worker import CONTENDERS

SHOWN = ("ours batchtopk", "ours topk", "sae-lens batchtopk", "sae-lens topk", "sparsify topk, adam")
PREDICTED = 32  # held-out texts whose tokens the decoder predicts


class Loss:
    """Measure the decoder's loss on held-out texts, its own and with other vectors at the hook."""

    def __init__(self, model: Path, texts: list[str], device: str) -> None:
        options: dict[str, Any] = {"window": WINDOW, "max_norm_ratio": MAX_NORM_RATIO, "device": device}
        self.lm = CausalLanguageModel.from_pretrained(str(model), HOOK, dtype=torch.bfloat16, **options)
        self.windows: list[Window] = self.lm.windows(texts[:PREDICTED], max_length=WINDOW)
        self.windows = [window for window in self.windows if len(window.ids) > 1]
        self.original = self.lm.cross_entropy(self.windows)
        self.zeros = self.lm.cross_entropy(self.windows, torch.zeros_like)

    def recovered(self, sae: SparseAutoencoder) -> tuple[float, float]:
        """Return the loss with reconstructions, and the share of what zeros cost that they win back."""
        loss = self.lm.cross_entropy(self.windows, sae)
        return loss, (self.zeros - loss) / (self.zeros - self.original)


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    model = decoder(args.out)
    task = {"d_sae": CONFIG.d_sae, "k": CONFIG.k, "batch": CONFIG.train_batch_size_tokens}
    task |= {"dead_after": CONFIG.tokens_until_dead, "threads": args.threads}
    settings = {**task, "tokens": args.tokens, "lrs": args.lrs, "device": args.device}
    folder = results_folder(args.out / "quality", settings, [Path(__file__), Path(__file__).with_name("states.py")])
    held_out, _ = read(args.out / "states" / "held_out", HELD_OUT_TOKENS)
    x = torch.from_numpy(held_out.astype(np.float32))
    loss = Loss(model, documents(args.data)[1], args.device)
    print(f"device {device_name(args.device)}, {args.threads} threads; d_sae {CONFIG.d_sae}, k {CONFIG.k}; ", end="")
    print(f"loss {loss.original:.3f} nats a token, {loss.zeros:.3f} with zeros at {HOOK}\n")
    print("| SAE | tokens | best lr | tokens/s | FVU | L0 | dead % | dense % | loss | CE recovered |")
    print("|" + "---|" * 10)
    show(folder / "saved.json", "autoencoder.py", lambda: of_saved(args.out / "sae", x, loss))
    for name in args.only or SHOWN:
        file = folder / f"{name.replace(' ', '-').replace(',', '')}.json"
        show(file, name, lambda name=name: of_contender(name, args, task, folder, x, loss))  # type: ignore[misc]


def show(file: Path, name: str, measure: Any) -> None:
    """Print the line of a contender, measured now or before."""
    if not file.exists():
        write(file, json.dumps(measure()))
    line = json.loads(file.read_text())
    speed = f"{line['speed']:,.0f}" if "speed" in line else ""
    cells = [name, f"{line['tokens_trained']:,}", f"{line['lr']:.2g}", speed, f"{1 - line['explained_variance']:.3f}"]
    cells += [f"{line['l0']:.1f}", f"{100 * line['dead']:.1f}", f"{100 * line['dense']:.1f}"]
    cells += [f"{line['loss']:.3f}", f"{100 * line['recovered']:.1f} %"]
    print("| " + " | ".join(cells) + " |", flush=True)


def of_saved(folder: Path, x: Tensor, loss: Loss) -> dict[str, Any]:
    """Measure the SAE that autoencoder.py saved."""
    sae = load_sae(folder)
    trained = sae.config.training
    return {**figures(sae, x, loss), "tokens_trained": trained["training_tokens"], "lr": trained["learning_rate"]}


def of_contender(
    name: str, args: argparse.Namespace, task: dict[str, Any], folder: Path, x: Tensor, loss: Loss
) -> dict[str, Any]:
    """Train a contender at each learning rate, and measure the run that explains most variance."""
    write_states(args, task, folder)
    runs = []
    for lr in args.lrs:
        seconds = train_one(name, lr, args.peers, folder)
        sae = sae_of(folder, CONFIG.k, x)
        runs.append((evaluate_sae_on_activations(sae, x.split(BATCH)).explained_variance, lr, seconds, sae))
    _, lr, _, sae = max(runs, key=lambda run: run[0])
    tokens = args.tokens // task["batch"] * task["batch"]
    speed = tokens / min(seconds for _, _, seconds, _ in runs)
    return {**figures(sae, x, loss), "tokens_trained": tokens, "lr": lr, "speed": speed}


def write_states(args: argparse.Namespace, task: dict[str, Any], folder: Path) -> None:
    """Write what training_worker.py reads: the task, and the states in the order in which all train on them."""
    if (folder / "states.npy").exists():
        return
    states, _ = read(args.out / "states" / "training", args.tokens)
    order = np.random.default_rng(0).permutation(args.tokens)[: args.tokens // task["batch"] * task["batch"]]
    write(folder / "task.json", json.dumps(task))
    np.save(folder / "part.npy", states[order].astype(np.float32))
    (folder / "part.npy").rename(folder / "states.npy")


def figures(sae: SparseAutoencoder, x: Tensor, loss: Loss) -> dict[str, Any]:
    value, recovered = loss.recovered(sae)
    return asdict(evaluate_sae_on_activations(sae, x.split(BATCH))) | {"loss": value, "recovered": recovered}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files of texts.py")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench, with states and SAE")
    parser.add_argument("--peers", type=Path, required=True, help="Python of an environment with SAELens and sparsify")
    parser.add_argument("--tokens", type=int, default=200_000, help="that contenders train on (default: %(default)s)")
    parser.add_argument("--lrs", type=float, nargs="+", default=[1e-3, 4e-3], metavar="LR")
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--device", default="cpu", help="of the decoder; the contenders train on the CPU")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
