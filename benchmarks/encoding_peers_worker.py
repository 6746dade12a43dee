"""Run one contender of encoding_peers.py once, in a process of its own, which may lack this package.

    python encoding_peers_worker.py "loop" FOLDER

FOLDER holds task.json and the SAE; result.json is written beside them, and the activations of all features of all rows
where the contender computes them. Memory is read from Linux's /proc.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers_worker import memory
from torch import Tensor

Task = dict[str, Any]
Runner = Callable[[list[str]], Tensor | None]
"""Maps texts to the largest activation of each feature in each text [texts, d_sae], where the contender does so."""
BATCH, FEW = 32, 8


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    task = json.loads((folder / "task.json").read_text())
    run = CONTENDERS[name](task, folder / "sae")
    run(task["texts"][:FEW])
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, wall, cpu = memory("VmRSS"), time.perf_counter(), time.process_time()
    result = run(task["texts"])
    wall, cpu, peak = time.perf_counter() - wall, time.process_time() - cpu, memory("VmHWM")
    measured = {"wall": wall, "cpu": cpu, "peak": peak, "above": peak - before}
    (folder / "result.json").write_text(json.dumps(measured))
    if name == OURS:
        result = all_activations(task["texts"])
    if result is not None:
        np.save(activations_file(folder, name), result.numpy())


def activations_file(folder: Path, name: str) -> Path:
    return folder / f"{''.join(letter if letter.isalnum() else '-' for letter in name)}.npy"


def sae_encode(task: Task, folder: Path) -> Runner:
    """Encode as users do; codes go into a new file in each call."""
    import datasets

    import hf_sae_select  # noqa: F401  # its methods on Dataset

    datasets.disable_caching()

    def run(texts: list[str]) -> None:
        datasets.Dataset.from_dict({"text": texts}).sae_encode(show_progress_bar=False)

    return run


def all_activations(texts: list[str]) -> Tensor:
    """Return every activation, of which `sae_encode` stores the strongest by default."""
    import datasets

    from hf_sae_select import FeatureMatrix, encode

    encoded = encode(datasets.Dataset.from_dict({"text": texts}), keep="all", show_progress_bar=False)
    features = FeatureMatrix.from_dataset(encoded)
    result = np.zeros((len(texts), features.d_sae), np.float32)
    rows = np.repeat(np.arange(len(texts)), np.diff(features.offsets))
    result[rows, features.ids] = features.acts
    return torch.from_numpy(result)


def loop(task: Task, folder: Path, *, by_length: bool = False, with_sae_lens: bool = False) -> Runner:
    """Hook the layer of a model of transformers, pad batches, apply the SAE to all tokens and take the maximum.

    Batches are those of the dataset's order, or of the order of the texts' lengths.
    """
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(task["model"]), AutoModel.from_pretrained(task["model"]).eval()
    states: list[Tensor] = []
    model.get_submodule(task["hook"]).register_forward_hook(
        lambda module, args, output: states.append(output[0] if isinstance(output, tuple) else output)
    )
    encode = sae_of_sae_lens(folder) if with_sae_lens else sae_by_hand(folder)

    @torch.no_grad()
    def run(texts: list[str]) -> Tensor:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i])) if by_length else list(range(len(texts)))
        maxima = []
        for start in range(0, len(texts), BATCH):
            batch = tokenizer(
                [texts[i] for i in order[start : start + BATCH]],
                padding=True,
                truncation=True,
                max_length=task["window"],
                return_special_tokens_mask=True,
                return_tensors="pt",
            )
            is_special = batch.pop("special_tokens_mask").bool()
            states.clear()
            model(**batch)
            acts = encode(states[0])
            maxima.append(acts.masked_fill_(is_special[..., None], 0).amax(dim=1))
        return torch.cat(maxima)[torch.tensor(order).argsort()]

    return run


def sae_by_hand(folder: Path) -> Callable[[Tensor], Tensor]:
    from safetensors.torch import load_file

    sae = load_file(folder / "sae_weights.safetensors")

    def encode(x: Tensor) -> Tensor:
        pre = x @ sae["W_enc"] + sae["b_enc"]
        return torch.where(pre > sae["threshold"], pre, 0).relu_()

    return encode


def sae_of_sae_lens(folder: Path) -> Callable[[Tensor], Tensor]:
    from sae_lens import SAE  # type: ignore[import-not-found]

    encode: Callable[[Tensor], Tensor] = SAE.load_from_disk(folder).encode
    return encode


def sentence_transformers(task: Task, folder: Path) -> Runner:
    """Compute sentence vectors alone, by all layers and without an SAE."""
    from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]

    model = SentenceTransformer(task["model"], device="cpu")

    def run(texts: list[str]) -> None:
        model.encode(texts, batch_size=BATCH, show_progress_bar=False)

    return run


OURS = "sae_encode"
CONTENDERS: dict[str, Callable[[Task, Path], Runner]] = {
    OURS: sae_encode,
    "transformers, hook, padding": loop,
    "the same, sorted by length": partial(loop, by_length=True),
    "the same, SAELens' SAE": partial(loop, with_sae_lens=True),
    "sentence-transformers, no SAE": sentence_transformers,
}

if __name__ == "__main__":
    main()
