"""Train one contender of training.py once, in a process of its own, which may lack this package.

    python training_worker.py "sae-lens topk" FOLDER LR

FOLDER holds task.json and states.npy [tokens, d_in], in training order. The worker writes sae.pt, the tensors of the
SAE in this package's equations, and result.json, the training time in seconds. That time does not include imports
and loading: each contender first trains on a few batches.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]  # W_enc, b_enc, W_dec, b_dec and, except for TopK, threshold
Runner = Callable[[Tensor, dict[str, Any]], Tensors]


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    task = json.loads((folder / "task.json").read_text()) | {"lr": float(sys.argv[3])}
    torch.set_num_threads(task["threads"])
    states = torch.from_numpy(np.load(folder / "states.npy"))
    run = CONTENDERS[name]
    few = 4 * task["batch"]
    run(states[:few], task)
    started = time.perf_counter()
    tensors = run(states, task)
    seconds = time.perf_counter() - started
    torch.save({key: value.detach().float().contiguous() for key, value in tensors.items()}, folder / "sae.pt")
    (folder / "result.json").write_text(json.dumps({"seconds": seconds}))


def this_package(objective: str, precision: str, states: Tensor, task: dict[str, Any]) -> Tensors:
    """Train by `train_sae_on_activations`, with sparsify's weight of AuxK."""
    from dataclasses import replace

    from hf_sae_select import TRAINING_PRESETS, train_sae_on_activations

    config = replace(
        TRAINING_PRESETS[objective],
        d_sae=task["d_sae"],
        k=task["k"],
        training_tokens=len(states),
        train_batch_size_tokens=task["batch"],
        learning_rate=task["lr"],
        dead_feature_threshold=task["dead_after"],
        auxk_alpha=1 / 32,
        precision=precision,
    )
    sae = train_sae_on_activations(torch.split(states, task["batch"]), config, model="-", hook="-")
    return dict(sae.named_parameters())


def sae_lens(objective: str, states: Tensor, task: dict[str, Any]) -> Tensors:
    """Train by SAELens' SAETrainer, with this package's schedule, input scale and threshold for dead latents."""
    import sae_lens as lens  # type: ignore[import-not-found]
    from sae_lens.config import SAETrainerConfig  # type: ignore[import-not-found]
    from sae_lens.training.sae_trainer import SAETrainer  # type: ignore[import-not-found]
    from safetensors.torch import load_file

    class_name, options = SAE_LENS[objective]
    sizes = {"d_in": states.shape[1], "d_sae": task["d_sae"], "normalize_activations": "expected_average_only_in"}
    if objective != "jumprelu":
        sizes["k"] = task["k"]
    if objective == "matryoshka":
        options = {"matryoshka_widths": [round(share * task["d_sae"]) for share in (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1)]}
    if objective == "jumprelu":
        options = options | {"target_l0": task["k"]}
    config = getattr(lens, f"{class_name}TrainingSAEConfig")(**sizes, **options)
    torch.manual_seed(0)
    sae = getattr(lens, f"{class_name}TrainingSAE")(config)
    steps = len(states) // task["batch"]
    settings = SAETrainerConfig(
        total_training_samples=len(states),
        train_batch_size_samples=task["batch"],
        lr=task["lr"],
        lr_end=task["lr"] / 10,
        lr_warm_up_steps=steps // 20,
        lr_decay_steps=steps // 5,
        dead_feature_window=task["dead_after"] // task["batch"],
        n_batches_for_norm_estimate=1,
    )
    trained = SAETrainer(settings, sae, scale_then_train(states, task["batch"])).fit()
    with tempfile.TemporaryDirectory() as folder:
        trained.save_inference_model(folder)
        config = json.loads(Path(folder, "cfg.json").read_text())
        tensors = load_file(Path(folder, "sae_weights.safetensors"))
    if config.get("rescale_acts_by_decoder_norm"):
        norm = tensors["W_dec"].norm(dim=1)
        tensors |= {"W_enc": tensors["W_enc"] * norm, "b_enc": tensors["b_enc"] * norm}
        tensors["W_dec"] = tensors["W_dec"] / norm[:, None]
    if config["apply_b_dec_to_input"]:
        tensors["b_enc"] = tensors["b_enc"] - tensors["b_dec"] @ tensors["W_enc"]
    return tensors


def scale_then_train(states: Tensor, batch: int) -> Iterator[Tensor]:
    """Yield the first batch, for the input scale, then all batches."""
    yield states[:batch]
    yield from torch.split(states, batch)


class Lookup(nn.Module):
    """A language model for sparsify's Trainer: the hidden state of token i is row i of the states."""

    def __init__(self, states: Tensor) -> None:
        super().__init__()
        self.embed = nn.Embedding(len(states), states.shape[1], _weight=states, _freeze=True)
        self.layers = nn.ModuleList([nn.Identity()])
        self.config = type("Config", (), {"num_hidden_layers": 1})()
        self.device = states.device
        self.base_model = self
        self.dummy_inputs = {"input_ids": torch.zeros(1, 1, dtype=torch.long)}

    def forward(self, input_ids: Tensor) -> Tensor:
        states: Tensor = self.layers[0](self.embed(input_ids))
        return states


def sparsify(optimizer: str, states: Tensor, task: dict[str, Any]) -> Tensors:
    """Train by sparsify's Trainer, with AuxK and, for Adam, this package's warm-up."""
    from datasets import Dataset
    from sparsify import SparseCoderConfig, TrainConfig, Trainer  # type: ignore[import-not-found]

    context = 32
    tokens = torch.arange(len(states)).view(-1, context)
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainConfig(
            SparseCoderConfig(num_latents=task["d_sae"], k=task["k"]),
            batch_size=task["batch"] // context,
            optimizer=optimizer,
            lr=task["lr"],
            lr_warmup_steps=len(states) // task["batch"] // 20,
            auxk_alpha=1 / 32,
            dead_feature_threshold=task["dead_after"],
            layers=[0],
            log_to_wandb=False,
            save_every=10**9,
            save_dir=folder,
        )
        rows = Dataset.from_dict({"input_ids": tokens.numpy()}).with_format("torch")
        trainer = Trainer(settings, rows, Lookup(states))
        trainer.fit()
    (sae,) = trainer.saes.values()
    W_enc = sae.encoder.weight.T
    return {"W_enc": W_enc, "b_enc": sae.encoder.bias - sae.b_dec @ W_enc, "W_dec": sae.W_dec, "b_dec": sae.b_dec}


SAE_LENS: dict[str, tuple[str, dict[str, Any]]] = {
    "topk": ("TopK", {}),
    "batchtopk": ("BatchTopK", {}),
    "matryoshka": ("MatryoshkaBatchTopK", {}),
    "jumprelu": ("JumpReLU", {"jumprelu_sparsity_loss_mode": "quadratic"}),
}
CONTENDERS: dict[str, Runner] = {
    **{f"sae-lens {objective}": partial(sae_lens, objective) for objective in SAE_LENS},
    **{f"sparsify topk, {optimizer}": partial(sparsify, optimizer) for optimizer in ("adam", "signum")},
    **{f"ours {objective}": partial(this_package, objective, "float32") for objective in SAE_LENS},
    **{f"ours {objective}, bfloat16": partial(this_package, objective, "bfloat16") for objective in SAE_LENS},
}

if __name__ == "__main__":
    main()
