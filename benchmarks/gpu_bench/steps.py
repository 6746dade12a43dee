"""A training step by its parts, and the loss by precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from torch import Tensor

from hf_sae_select import SaeTrainingConfig
from hf_sae_select.training import trainer as trainer_module
from hf_sae_select.training.trainer import Trainer

from .bench import Bench, Figures

PRECISIONS = ("bfloat16", "float32")
# The parts of `Trainer.step` as functions that it calls.
PARTS: dict[str, tuple[Any, str]] = {
    "pre-activations": (Trainer, "_pre_activations"),
    "gradients": (trainer_module, "compute_gradients"),
    "clip, Adam, norms": (Trainer, "_update"),
    "counts": (Trainer, "_count"),
    "statistics": (Trainer, "_statistics"),
}
NEVER, LONG_AGO = 2**40, 2**41  # tokens without firing that make a latent dead; those of dead ones


def measure(bench: Bench) -> None:
    smallest = bench.sizes.training[0]
    for precision in PRECISIONS:
        bench.measure("explained variance", partial(losses, bench, *smallest, precision), precision=precision)
    for d_in, d_sae, k in bench.sizes.training:
        for batch in bench.sizes.batches:
            for precision in PRECISIONS:
                for dead in (0.0, 0.25):
                    settings: dict[str, Any] = {"d_in": d_in, "d_sae": d_sae, "k": k, "batch": batch}
                    settings |= {"precision": precision, "dead": dead}
                    bench.measure("step", partial(step, bench, **settings), **settings)


def trainer_of(bench: Bench, d_in: int, d_sae: int, k: int, batch: int, precision: str) -> Trainer:
    config = SaeTrainingConfig(
        "batchtopk",
        d_sae=d_sae,
        k=k,
        training_tokens=batch * bench.sizes.steps,
        train_batch_size_tokens=batch,
        dead_feature_threshold=NEVER,
        precision=precision,
    )
    return Trainer(config, d_in, Accelerator(cpu=not bench.is_cuda))


def step(bench: Bench, d_in: int, d_sae: int, k: int, batch: int, precision: str, dead: float) -> Figures:
    """Time a step with a share of dead latents: all of it, then each part with a wait before and after."""
    trainer = trainer_of(bench, d_in, d_sae, k, batch, precision)
    states = mixture(bench, batch, d_in, seed=0)

    def once() -> None:
        trainer.tokens_since_firing[: int(dead * d_sae)] = LONG_AGO
        trainer.step(states)

    once()
    took = bench.median(once)
    peak = bench.peak_mb()
    parts = dict.fromkeys(PARTS, 0.0)
    with ExitStack() as stack:
        for name, (owner, function) in PARTS.items():
            stack.enter_context(patch.object(owner, function, timed(bench, parts, name, getattr(owner, function))))
        once()
    figures = {"ms": 1000 * took} | {f"{name}, ms": 1000 * seconds for name, seconds in parts.items()}
    roof = bench.roof("float32" if precision == "float32" else "bfloat16, plain")
    share = 2 * d_in * d_sae * batch / took / roof
    return {**figures, "tokens/s": batch / took, "of roof": f"{share:.0%}", "peak MB": peak}


def timed(bench: Bench, parts: dict[str, float], name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        results: list[Any] = []
        parts[name] += bench.seconds(lambda: results.append(function(*args, **kwargs)))
        return results[0]

    return run


def losses(bench: Bench, d_in: int, d_sae: int, k: int, precision: str) -> Figures:
    """Train on the same states in the same order; return the explained variance on the way."""
    batch, steps = bench.sizes.batches[0], bench.sizes.steps
    trainer = trainer_of(bench, d_in, d_sae, k, batch, precision)
    figures = {}
    for i in range(1, steps + 1):
        statistics = trainer.step(mixture(bench, batch, d_in, seed=i))
        if i % (steps // 4) == 0:
            figures[f"step {i}"] = trainer.average(statistics)["explained_variance"]
    return figures


def mixture(bench: Bench, tokens: int, d_in: int, seed: int) -> Tensor:
    """Return states that are sums of a few of many fixed directions, and a little noise."""
    directions = torch.nn.functional.normalize(bench.normal(4 * d_in, d_in, seed=12), dim=1)
    generator = torch.Generator(bench.device).manual_seed(seed)
    chosen = torch.randint(len(directions), (tokens, 8), device=bench.device, generator=generator)
    sizes = 1 + torch.rand(tokens, 8, device=bench.device, generator=generator)
    sums = torch.nn.functional.embedding_bag(chosen, directions, per_sample_weights=sizes, mode="sum")
    return sums + 0.02 * bench.normal(tokens, d_in, seed=seed)
