"""Dataset or activations -> SparseAutoencoder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from accelerate.utils import gather_object
from datasets import Dataset
from datasets.utils import tqdm
from torch import Tensor

from .._datasets import check_dataset
from .._validation import check_int
from ..encoding.distributed import processes
from ..encoding.language_model import LanguageModel
from ..encoding.pretrained import ChatTemplate, look_up
from ..encoding.text import TextSource, find_text
from ..sae.config import SaeConfig
from ..sae.model import SparseAutoencoder
from .activation_stream import Stream
from .config import PRESETS, SaeTrainingConfig
from .objectives import RULES
from .trainer import Trainer

LOG_EVERY = 50  # steps
CHECKPOINT = "checkpoint.pt"


def train_sae(
    dataset: Dataset,
    *,
    model: str | Path,
    hook: str,
    config: str | SaeTrainingConfig = "batchtopk",
    side: str = "output",
    text: TextSource | None = None,
    model_revision: str | None = None,
    window: int | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    checkpoints: str | Path | None = None,
    tracker: str | GeneralTracker | None = None,
) -> SparseAutoencoder:
    """Train an SAE on what a language model makes of the rows of a dataset, and return it in the model's own units.

    Under `torchrun` or `accelerate launch` every process reads a share of the rows, and all return the same SAE.

    Args:
        model: Hub id or folder of the language model.
        hook, side: the place in it that is read, as in `SaeConfig`.
        config: a SaeTrainingConfig or the name of one of PRESETS; change one with `dataclasses.replace`.
        text: a column, a list of columns, or a callable from a row to its text; by default the common schemas.
        window: most tokens of a window, special ones counted; by default as many as the model reads.
        max_length: read only the first `max_length` tokens of each row; by default all, window by window.
        batch_size: windows per forward pass.
        checkpoints: folder for a checkpoint every `config.buffer` tokens; a call that finds one there goes on from it,
            to the same SAE as without the interruption.
        tracker: name or instance of an Accelerate tracker (trackio, wandb, ...), which is given the loss, explained
            variance, L0 and share of dead latents.

    Raises:
        TypeError, ValueError: bad input, or a checkpoint of another training; before any model is loaded.
        OSError: the model cannot be had, or a checkpoint is damaged.

    Example: ``train_sae(ds, model="sentence-transformers/all-MiniLM-L6-v2", hook="encoder.layer.4",
    config=SaeTrainingConfig(d_sae=1024, tokens=200_000))`` reads vectors of width 384 into 1,024 latents, 32 a token.
    """
    config, model = _named(config), str(model)
    check_dataset("dataset", dataset, "train on")
    check_int("max_length", max_length, optional=True)
    check_int("batch_size", batch_size)
    reads = {"model": model, "hook": hook, "side": side, "context_size": window}
    sae_config = _sae_config(config, reads)  # what cannot be said of the SAE shows now, not when it is trained
    accelerator = _accelerator(tracker, checkpoints)
    share = _share(config, accelerator.num_processes)
    if len(dataset) < accelerator.num_processes:
        raise ValueError(f"the dataset has {len(dataset)} rows for {accelerator.num_processes} processes; start fewer")
    rendering = find_text(dataset, text)
    _, version = look_up(model, model_revision)
    identity = reads | {
        "config": asdict(config),
        "model_version": version,
        "max_length": max_length,
        "batch_size": batch_size,
        "text": rendering.record(),
        "dataset": dataset._fingerprint,
        "processes": accelerator.num_processes,
    }
    saved = None if checkpoints is None else _opened(Path(checkpoints), _json(identity))
    dtype = "auto" if accelerator.device.type == "cuda" else "float32"
    lm = LanguageModel.of(sae_config, revision=version, device=accelerator.device, dtype=dtype)
    trainer = Trainer(config, lm.width, accelerator)
    stream = Stream(
        dataset.with_format(None),
        rendering,
        lm,
        ChatTemplate.of(model, version) if rendering.chat else None,
        max_length=max_length,
        batch_size=batch_size,
        most=max(1, config.buffer // 2),
        seed=config.seed,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    if saved is not None:
        trainer.load(saved["trainer"])
        stream.load(saved["streams"][accelerator.process_index])
    with _watched(trainer) as bar:
        while left := config.steps - trainer.taken:
            chunk = min(left, config.buffer // config.batch) * share
            _run(trainer, stream.batches(chunk, share), bar)
            trainer.agree()
            if checkpoints is not None:
                _save(Path(checkpoints), identity, trainer, stream)
    return trainer.finish(replace(sae_config, model_revision=None if Path(model).is_dir() else version))


def fit(
    batches: Iterable[Tensor],
    config: str | SaeTrainingConfig = "batchtopk",
    *,
    model: str,
    hook: str,
    side: str = "output",
    model_revision: str | None = None,
    window: int | None = None,
) -> SparseAutoencoder:
    """Train an SAE on hidden states in hand and return it in their units.

    Args:
        batches: [tokens, d_in] each, well shuffled; the first one sets the input scale and the biases.
        config: a SaeTrainingConfig or the name of one of PRESETS; as many batches are read as it has steps.
        model, hook, side, model_revision, window: where the hidden states are from, for the SAE to say.

    Raises:
        ValueError: no such preset, or the batches end before the steps do.

    Example: from sums of two of 48 directions in 32 dimensions, ``SaeTrainingConfig(d_sae=64, k=2, tokens=512 * 800,
    batch=512, lr=1e-2)`` finds the directions: over 95 % of them are the direction of some latent.
    """
    config = _named(config)
    reads = {"model": model, "hook": hook, "side": side, "model_revision": model_revision, "context_size": window}
    sae_config = _sae_config(config, reads)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError(f"`batches` is empty; {config.steps} are needed")
    if not isinstance(first, Tensor) or first.dim() != 2:
        raise ValueError(f"`batches` must be tensors [tokens, d_in]; the first one is {type(first).__name__}")
    trainer = Trainer(config, first.shape[1], _accelerator(None, None))
    with _watched(trainer) as bar:
        _run(trainer, chain([first], batches), bar)
    if trainer.taken < config.steps:
        raise ValueError(
            f"`batches` ended after {trainer.taken} of {config.steps} steps; pass more, or fewer `tokens` in `config`"
        )
    return trainer.finish(sae_config)


def calibrate(sae: SparseAutoencoder, row_maxima: Tensor, features_per_row: float) -> SparseAutoencoder:
    """Set `feature_threshold` so that the rows [rows, d_sae] of maxima keep `features_per_row` features on average."""
    values = row_maxima[row_maxima > 0]
    wanted = round(features_per_row * len(row_maxima))
    threshold = values.kthvalue(len(values) - wanted).values.item() if len(values) > wanted else 0.0
    sae.config = replace(sae.config, feature_threshold=threshold)
    return sae


def _named(config: str | SaeTrainingConfig) -> SaeTrainingConfig:
    if isinstance(config, SaeTrainingConfig):
        return config
    if not isinstance(config, str) or config not in PRESETS:
        raise ValueError(f"unknown `config={config!r}`; pass a SaeTrainingConfig or one of: {', '.join(PRESETS)}")
    return PRESETS[config]


def _accelerator(tracker: str | GeneralTracker | None, folder: str | Path | None) -> Accelerator:
    processes()  # begins their group, which the Accelerator then joins
    cpu = not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=cpu, log_with=tracker, project_dir=None if folder is None else str(folder))
    if tracker is not None and not accelerator.log_with:
        raise ValueError(f"`tracker={tracker!r}` is not installed; install it, or leave `tracker` out")
    return accelerator


def _share(config: SaeTrainingConfig, processes: int) -> int:
    """Return the tokens of a batch that fall to one process."""
    if config.batch % processes:
        raise ValueError(f"`batch={config.batch}` tokens cannot be shared equally by {processes} processes")
    return config.batch // processes


def _sae_config(config: SaeTrainingConfig, reads: dict[str, Any]) -> SaeConfig:
    """Say what the SAE will be; its d_in and the tokens it saw are known when it is finished."""
    activation = RULES[config.objective].activation
    return SaeConfig(
        d_in=1,
        d_sae=config.d_sae,
        activation=activation,
        k=config.k if activation == "topk" else None,
        l0=float(config.k),
        max_norm_ratio=config.max_norm_ratio,
        training=_json(asdict(config) | {"lr": config.peak_lr, "torch": torch.__version__}),
        **reads,
    )


@contextmanager
def _watched(trainer: Trainer) -> Iterator[tqdm]:
    """Show a bar, and open and close the trackers."""
    accelerator, config = trainer.accelerator, trainer.config
    plain = {
        name: value if isinstance(value, int | float | str) else str(value) for name, value in asdict(config).items()
    }
    accelerator.init_trackers("hf-sae-select", config=plain)
    hidden = not accelerator.is_main_process
    try:
        with tqdm(total=config.steps, initial=trainer.taken, desc="Training", unit=" steps", disable=hidden) as bar:
            yield bar
    finally:
        for tracker in accelerator.trackers:  # `end_training` would also end the group of processes
            tracker.finish()


def _run(trainer: Trainer, batches: Iterable[Tensor], bar: tqdm) -> None:
    """Take a step on each batch, as far as there are steps left."""
    for batch in islice(batches, trainer.config.steps - trainer.taken):
        trainer.step(batch)
        bar.update()
        if trainer.taken % LOG_EVERY == 0 or trainer.taken == trainer.config.steps:
            figures = trainer.figures()
            bar.set_postfix({name: f"{value:.3g}" for name, value in figures.items()})
            trainer.accelerator.log(figures, step=trainer.taken)


def _save(folder: Path, identity: dict[str, Any], trainer: Trainer, stream: Stream) -> None:
    """Write all that the rest depends on, as a whole or not at all."""
    saved = {"identity": _json(identity), "trainer": trainer.state(), "streams": gather_object([stream.state()])}
    if trainer.accelerator.is_main_process:
        unfinished = folder / f"{CHECKPOINT}.unfinished"
        torch.save(saved, unfinished)
        os.replace(unfinished, folder / CHECKPOINT)


def _opened(folder: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Make sure that a folder can hold checkpoints, and return the one in it, if it is of this very training."""
    file = folder / CHECKPOINT
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{CHECKPOINT}.unfinished").touch()
        (folder / f"{CHECKPOINT}.unfinished").unlink(missing_ok=True)  # other processes try the same
    except OSError as error:
        raise OSError(f"`checkpoints={str(folder)!r}` is no folder that can be written to: {error}") from error
    if not file.exists():
        return None
    try:
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        found, _, _ = dict(saved["identity"]), saved["trainer"], saved["streams"]
    except Exception as error:  # torch.load raises what it likes
        raise OSError(f"the checkpoint {file} is damaged; delete it to begin anew") from error
    for name in identity:
        if found.get(name) != identity[name]:
            raise ValueError(
                f"`checkpoints={str(folder)!r}` holds another training, of another `{name}`: "
                f"{_difference(found.get(name), identity[name])}; pass another folder, or delete it to begin anew"
            )
    return saved


def _difference(was: Any, now: Any) -> str:
    """Say what differs between two values, name by name where they are mappings."""
    if isinstance(was, dict) and isinstance(now, dict):
        changed = [name for name in now if was.get(name) != now[name]]
        return ", ".join(f"{name} was {was.get(name)!r}, is {now[name]!r}" for name in changed)
    return f"it was {was!r}, is {now!r}"


def _json(value: dict[str, Any]) -> dict[str, Any]:
    """Return what JSON makes of a value, so that it compares equal after having been kept."""
    plain: dict[str, Any] = json.loads(json.dumps(value))
    return plain
