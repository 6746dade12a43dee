"""Train an SAE on a dataset or on hidden states."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
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

from .._datasets import fingerprint_of
from .._validation import check_int, check_type
from ..encoding.chat_template import ChatTemplate
from ..encoding.language_model import LanguageModel
from ..encoding.pretrained import look_up
from ..encoding.text import Rendering, TextSource, find_text
from ..engines.processes import processes
from ..sae.config import SaeConfig
from ..sae.model import SparseAutoencoder
from .activation_stream import ActivationStream
from .checkpoint import Checkpoint
from .checkpoint_schedule import CheckpointSchedule
from .config import TRAINING_PRESETS, SaeTrainingConfig
from .objectives import OBJECTIVE_CLASSES
from .reading import as_dataset, hub_ids
from .trainer import Trainer

logger = logging.getLogger(__name__)
LOGGING_STEPS = 50
MANY_EPOCHS = 2


def train_sae(
    dataset: Dataset | Sequence[str],
    *,
    model: str | Path,
    hook: str,
    config: str | SaeTrainingConfig = "batchtopk",
    side: str = "output",
    text: TextSource | None = None,
    model_revision: str | None = None,
    context_size: int | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    output_dir: str | Path | None = None,
    report_to: str | GeneralTracker | None = None,
) -> SparseAutoencoder:
    """Train an SAE on the hidden states that a language model computes from the rows of a dataset.

    Under `torchrun` or `accelerate launch`, each process reads its share of the rows, and all return the same SAE.

    Args:
        dataset (`Dataset` or `Sequence[str]`):
            Rows to train on, or strings. A small dataset is read several times, which a log message says.
        model (`str` or `Path`):
            Hub id or folder of the language model. An SAE of a model in a folder can be pushed to the Hub only after
            its config names the model's id there.
        hook (`str`):
            Module of the model whose vectors are read: a path such as `"layers.12"`, or a TransformerLens name such as
            `"blocks.12.hook_resid_post"`.
        config (`str` or `SaeTrainingConfig`, *optional*, defaults to `"batchtopk"`):
            Hyperparameters, or the name of one of `TRAINING_PRESETS`.
        side (`str`, *optional*, defaults to `"output"`):
            Side of the module that is read, `"output"` or `"input"`.
        text (`str`, `Sequence[str]` or `Callable`, *optional*):
            Column with the text, several columns, or a function from a row to its text. By default, the columns are
            recognised by common names.
        model_revision (`str`, *optional*):
            Branch, tag or commit of the language model.
        context_size (`int`, *optional*):
            Maximum number of tokens per window, with special tokens. By default, the most that the model reads.
        max_length (`int`, *optional*):
            Maximum number of tokens to read per row, without special tokens. By default, all are read, in windows.
        batch_size (`int`, *optional*, defaults to `32`):
            Number of windows per forward pass of the language model.
        output_dir (`str` or `Path`, *optional*):
            Folder for a checkpoint, written every five minutes, between two buffers, and at the end. If the folder
            holds a checkpoint of this training, the training resumes from it, and gives the same SAE as without the
            interruption.
        report_to (`str` or `GeneralTracker`, *optional*):
            Name or instance of an Accelerate tracker, such as `"trackio"` or `"wandb"`. It logs the loss, the
            explained variance, the L0 and the share of dead latents every 50 steps.

    Returns:
        `SparseAutoencoder`: The trained SAE, in the units of the model's hidden states.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If an argument is not allowed, the model has no such hook, or the checkpoint belongs to another
            training.
        OSError: If the model cannot be loaded, `output_dir` is not writable, or the checkpoint is damaged.

    Example:

    ```python
    # MiniLM's vectors have width 384; the SAE has 1,024 latents, 32 of which fire per token.
    config = SaeTrainingConfig(d_sae=1024, training_tokens=200_000)
    sae = train_sae(dataset, model="sentence-transformers/all-MiniLM-L6-v2", hook="encoder.layer.4", config=config)
    ```
    """
    config = _resolve_config(config)
    dataset = as_dataset("dataset", dataset, "train on")
    check_type("model", model, str | Path, "a Hub id or a folder")
    check_type("model_revision", model_revision, str, "a string", optional=True)
    check_type("output_dir", output_dir, str | Path, "a folder", optional=True)
    check_type(
        "report_to", report_to, str | GeneralTracker, "the name of a tracker or a GeneralTracker", optional=True
    )
    check_int("max_length", max_length, optional=True)
    check_int("batch_size", batch_size)
    source = {"model": str(model), "hook": hook, "side": side, "context_size": context_size}
    sae_config = _sae_config(config, source)  # checks `source` before the model is loaded
    accelerator = _accelerator(report_to, output_dir)
    _check_processes(accelerator.num_processes, config, len(dataset))
    rendering = find_text(dataset, text)
    _, version = look_up(str(model), model_revision)
    if Path(model).is_dir():
        logger.warning(
            "`model=%r` is a folder. To push the SAE to the Hub, first set its `config.model` to the id of the model.",
            str(model),
        )
    reading = {"max_length": max_length, "batch_size": batch_size}
    checkpoint = state = None
    if output_dir is not None:
        identity = {
            **source,
            **reading,
            "config": config.to_dict(),
            "precision": config.precision_on(accelerator.device.type),
            "model_version": version,
            "text": rendering.record(),
            "dataset": fingerprint_of(dataset),
            "processes": accelerator.num_processes,
        }
        checkpoint = Checkpoint(output_dir, identity)
        state = checkpoint.load()
    lm = _language_model(sae_config, version, accelerator)
    trainer = Trainer(config, lm.width, accelerator)
    template = ChatTemplate.of(str(model), version) if rendering.chat else None
    stream = _stream(dataset, rendering, lm, trainer, template, **reading)
    if state is not None:
        trainer.load_state_dict(state["trainer"])
        stream.load_state_dict(state["streams"][accelerator.process_index])
    _train(trainer, stream, checkpoint)
    facts = {
        "datasets": hub_ids(dataset),
        "documents": len(dataset),
        "columns": list(rendering.columns),
        "context_size": lm.window,
        "epochs": round(stream.epochs, 2),
    }
    revision = None if Path(model).is_dir() else version
    return trainer.build_sae(
        replace(sae_config, model_revision=revision, training=sae_config.training | facts),
    )


def train_sae_on_activations(
    batches: Iterable[Tensor],
    config: str | SaeTrainingConfig = "batchtopk",
    *,
    model: str,
    hook: str,
    side: str = "output",
    model_revision: str | None = None,
    context_size: int | None = None,
) -> SparseAutoencoder:
    """Train an SAE on hidden states that you computed yourself.

    Args:
        batches (`Iterable[Tensor]`):
            Hidden states [tokens, d_in], well shuffled, one tensor per step. The first one sets the input scale and
            the biases. Only as many are read as `config` has steps.
        config (`str` or `SaeTrainingConfig`, *optional*, defaults to `"batchtopk"`):
            Hyperparameters, or the name of one of `TRAINING_PRESETS`.
        model (`str`):
            Hub id or folder of the language model that computed the hidden states. This and the following arguments
            are not used in training; the config of the SAE records them.
        hook (`str`):
            Module of the model that the hidden states come from.
        side (`str`, *optional*, defaults to `"output"`):
            Side of that module, `"output"` or `"input"`.
        model_revision (`str`, *optional*):
            Commit of the language model.
        context_size (`int`, *optional*):
            Number of tokens per window, with special tokens.

    Returns:
        `SparseAutoencoder`: The trained SAE, in the units of the hidden states.

    Raises:
        ValueError: If an argument is not allowed, or `batches` ends too early.

    Example:

    ```python
    states = torch.randn(100_000, 384)
    config = SaeTrainingConfig(d_sae=1024, training_tokens=len(states))
    sae = train_sae_on_activations(states.split(config.train_batch_size_tokens), config, model="gpt2", hook="h.6")
    ```
    """
    config = _resolve_config(config)
    check_type("model_revision", model_revision, str, "a string", optional=True)
    check_type("batches", batches, Iterable, "an iterable of tensors [tokens, d_in]")
    source = {
        "model": model,
        "hook": hook,
        "side": side,
        "model_revision": model_revision,
        "context_size": context_size,
    }
    sae_config = _sae_config(config, source)
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError(f"`batches` is empty; `config` needs {config.steps} batches")
    if not isinstance(first, Tensor) or first.dim() != 2:
        raise ValueError(f"`batches` must be tensors [tokens, d_in]; the first one is {type(first).__name__}")
    trainer = Trainer(config, first.shape[1], _accelerator())
    with _progress(trainer) as bar:
        _take_steps(trainer, chain([first], batches), bar)
    if trainer.step_count < config.steps:
        raise ValueError(
            f"`batches` ended after {trainer.step_count} of {config.steps} steps; pass more batches, or reduce "
            "`training_tokens` in `config`"
        )
    return trainer.build_sae(sae_config)


def _resolve_config(config: str | SaeTrainingConfig) -> SaeTrainingConfig:
    """Return the config, or the preset of that name."""
    if isinstance(config, SaeTrainingConfig):
        return config
    if not isinstance(config, str) or config not in TRAINING_PRESETS:
        presets = ", ".join(TRAINING_PRESETS)
        raise ValueError(f"unknown `config={config!r}`; pass a SaeTrainingConfig or one of: {presets}")
    return TRAINING_PRESETS[config]


def _sae_config(config: SaeTrainingConfig, source: dict[str, Any]) -> SaeConfig:
    """Return the config of the SAE; `Trainer.build_sae` completes it."""
    activation = OBJECTIVE_CLASSES[config.objective].activation
    return SaeConfig(
        d_in=1,
        d_sae=config.d_sae,
        activation=activation,
        k=config.k if activation == "topk" else None,
        l0=float(config.k),
        max_norm_ratio=config.max_norm_ratio,
        training=config.to_dict() | {"torch": torch.__version__},
        **source,
    )


def _accelerator(report_to: str | GeneralTracker | None = None, output_dir: str | Path | None = None) -> Accelerator:
    processes()  # starts the process group that the Accelerator joins
    cpu = not torch.accelerator.is_available()
    project_dir = None if output_dir is None else str(output_dir)
    accelerator = Accelerator(cpu=cpu, log_with=report_to, project_dir=project_dir)
    if report_to is not None and not accelerator.log_with:
        raise ValueError(f"`report_to={report_to!r}` is not installed; install it, or leave `report_to` out")
    return accelerator


def _check_processes(processes: int, config: SaeTrainingConfig, rows: int) -> None:
    """Check that every process gets rows, and an equal share of each batch."""
    if config.train_batch_size_tokens % processes:
        raise ValueError(
            f"`train_batch_size_tokens={config.train_batch_size_tokens}` is not divisible by the number of processes, "
            f"{processes}"
        )
    if rows < processes:
        raise ValueError(f"`dataset` has {rows} rows for {processes} processes; start fewer processes")


def _language_model(sae_config: SaeConfig, version: str | None, accelerator: Accelerator) -> LanguageModel:
    dtype = "auto" if accelerator.device.type == "cuda" else "float32"
    return LanguageModel.of(sae_config, revision=version, device=accelerator.device, dtype=dtype)


def _stream(
    dataset: Dataset,
    rendering: Rendering,
    lm: LanguageModel,
    trainer: Trainer,
    template: ChatTemplate | None,
    **reading: Any,
) -> ActivationStream:
    """Return the stream of this process."""
    config, accelerator = trainer.config, trainer.accelerator
    return ActivationStream(
        dataset,
        rendering,
        lm,
        template,
        read_tokens=max(1, config.buffer_tokens // 2),
        seed=config.seed,
        process=accelerator.process_index,
        processes=accelerator.num_processes,
        **reading,
    )


def _train(trainer: Trainer, stream: ActivationStream, checkpoint: Checkpoint | None) -> None:
    """Take the remaining steps, buffer by buffer, with checkpoints between buffers and after the last one."""
    config, accelerator = trainer.config, trainer.accelerator
    batch_tokens = config.train_batch_size_tokens // accelerator.num_processes
    with _progress(trainer) as bar, CheckpointSchedule(checkpoint, accelerator) as schedule:
        while remaining := config.steps - trainer.step_count:
            steps = min(remaining, config.buffer_tokens // config.train_batch_size_tokens)
            batches = stream.batches(steps * batch_tokens, batch_tokens)
            _tell_epochs(trainer, stream)
            _take_steps(trainer, batches, bar, epoch=stream.epochs)
            trainer.average_objective_state()
            if schedule.is_due(trainer.step_count == config.steps):
                schedule.write({"trainer": trainer.state_dict(), "streams": gather_object([stream.state_dict()])})


def _tell_epochs(trainer: Trainer, stream: ActivationStream) -> None:
    """Log how often the dataset will be read, when its first reading shows how many tokens it has."""
    tokens, stream.tokens_of_first_epoch = stream.tokens_of_first_epoch, None
    share = trainer.config.training_tokens / trainer.accelerator.num_processes
    if not tokens or share < MANY_EPOCHS * tokens or not trainer.accelerator.is_main_process:
        return
    logger.warning(
        "The %s rows have about %s tokens: `training_tokens=%d` reads them %.1f times. Pass more rows, or fewer "
        "`training_tokens`, if the SAE should not see the same text so often.",
        f"{stream.rows:,}",
        f"{tokens * trainer.accelerator.num_processes:,}",
        trainer.config.training_tokens,
        share / tokens,
    )


def _take_steps(trainer: Trainer, batches: Iterable[Tensor], bar: tqdm, **shown: float) -> None:
    """Take a step on each batch, until the batches or the steps of the training end. The bar shows `shown` too."""
    steps = trainer.config.steps
    for batch in islice(batches, steps - trainer.step_count):
        statistics = trainer.step(batch)
        bar.update()
        if trainer.step_count % LOGGING_STEPS == 0 or trainer.step_count == steps:
            means = trainer.average(statistics)
            bar.set_postfix({name: f"{value:.3g}" for name, value in {**shown, **means}.items()})
            trainer.accelerator.log(means, step=trainer.step_count)


@contextmanager
def _progress(trainer: Trainer) -> Iterator[tqdm]:
    """Show a progress bar on the main process, and start and finish the trackers."""
    accelerator, config = trainer.accelerator, trainer.config
    values = config.to_dict()  # trackers log numbers and strings
    values = {name: value if isinstance(value, int | float | str) else str(value) for name, value in values.items()}
    accelerator.init_trackers("hf-sae-select", config=values)
    hidden = not accelerator.is_main_process
    try:
        with tqdm(
            total=config.steps, initial=trainer.step_count, desc="Training", unit=" steps", disable=hidden
        ) as bar:
            yield bar
    finally:
        for tracker in accelerator.trackers:  # `end_training` would also destroy the process group
            tracker.finish()
