"""Encoding from end to end, as `encode` does it, beside its stages alone and beside the least that it could take."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch._C._autograd import DeviceType

from hf_sae_select import SaeConfig, SparseAutoencoder, encode
from hf_sae_select.encoding.arguments import EncodingArguments
from hf_sae_select.encoding.batches import attention_mask, by_length, text_places, token_ids
from hf_sae_select.encoding.collector import RowCollector
from hf_sae_select.encoding.encoder import Encoder, RowGroup
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.text import find_text
from hf_sae_select.sae.loading import load_sae
from hf_sae_select.sae.model import CHUNK_FLOATS, GPU_CHUNK_FLOATS
from hf_sae_select.sae.products import PRECISIONS
from hf_sae_select.sae.segments import chunk_sizes

from .bench import Bench, Figures, process_mb
from .pieces import weights_of
from .shapes import Shape, sae_of, save, texts_of

FEW = 8  # rows that are encoded first: their time is that of loading
DEFAULT = "default"  # the model and SAE of the package


def measure(bench: Bench) -> None:
    sizes = bench.sizes
    shape, d_sae = sizes.models[sizes.main], sizes.latents[1]
    with tempfile.TemporaryDirectory() as folder:
        saved = save(shape, Path(folder, "model"), bench.device)
        config = SaeConfig(shape.d_in, d_sae, "jumprelu", model=str(saved), hook=shape.hook)
        model = LanguageModel.of(config, dtype=torch.bfloat16, device=bench.device)
        windows = model.windows(texts_of(shape, 8, next(iter(sizes.rows))))
        sae = sae_of(config, next(model.states(windows))[1])
        for mean, rows in sizes.rows.items():
            texts = texts_of(shape, rows, mean)
            for precision in PRECISIONS if mean == next(iter(sizes.rows)) else PRECISIONS[:2]:
                whole(bench, sizes.main, sae, texts, precision)
        mean, rows = next(iter(sizes.rows.items()))
        whole(bench, DEFAULT, load_sae(), words_of(shape, rows, mean), "float32")


def words_of(shape: Shape, rows: int, mean: int) -> list[str]:
    """Return texts in which the default model's tokenizer finds about a token a word."""
    words = "the water of old town is good for people who work in a house by sea and sing".split()
    draw = np.random.default_rng(0).choice
    return [" ".join(draw(words, text.count(" ") + 1)) for text in texts_of(shape, rows, mean)]


def whole(bench: Bench, name: str, sae: SparseAutoencoder, texts: list[str], precision: str) -> None:
    """Measure one encoding, and add two lines: from end to end, and stage by stage."""
    rows = Dataset.from_dict({"text": texts})
    stages: dict[str, Any] = {}
    dtype = "bfloat16" if bench.is_cuda and name != DEFAULT else "float32"

    def run(dataset: Dataset) -> Dataset:
        return encode(dataset, sae, device=bench.device, dtype=dtype, precision=precision, show_progress_bar=False)

    def ends() -> Figures:
        run(rows.select(range(FEW)))  # what is made once in a process
        loading = bench.seconds(lambda: run(rows.select(range(FEW))))
        bench.forget_peak()
        seconds = bench.seconds(lambda: run(rows)) - loading
        peak = bench.peak_mb()
        encoder = loaded(sae, rows, bench.device, dtype, precision)
        group = encoder.tokenized(np.arange(len(rows)), encoder_texts(encoder, rows))
        tokens = sum(sum(window.is_text) for window in group.windows)
        floor = bench.seconds(bare(encoder, group))
        operations = 2 * tokens * weights_of(encoder.model.model)
        best = operations / bench.roof("bfloat16, plain" if dtype == "bfloat16" else "float32")
        best += 2 * tokens * sae.config.d_in * sae.config.d_sae / bench.roof(precision)
        stages.update(alone(bench, encoder, rows))
        return {
            "tokens": tokens,
            "rows/s": len(rows) / seconds,
            "tokens/s": tokens / seconds,
            "to floor": seconds / floor,
            "of roof": f"{best / seconds:.0%}",
            "busy": busy_share(bench, lambda: run(rows.select(range(len(rows) // 4))), loading),
            "waits a pass": waits(bench, encoder, group),
            "loading, s": loading,
            "peak MB": peak,
            "RAM MB": process_mb(),
            "bytes a row": run(rows.select(range(FEW))).data.nbytes / FEW,
        }

    settings = {"model": name, "d_sae": sae.config.d_sae, "precision": precision, "rows": len(texts)}
    bench.measure("end to end", ends, **settings)
    if stages:
        bench.lines.add(bench.part, "stages alone, s", **settings, **stages)


def loaded(sae: SparseAutoencoder, rows: Dataset, device: torch.device, dtype: str, precision: str) -> Encoder:
    arguments = EncodingArguments.parse(device=device, dtype=dtype, precision=precision)
    encoder = Encoder(sae, find_text(rows), arguments)
    encoder.load()
    return encoder


def encoder_texts(encoder: Encoder, rows: Dataset) -> list[Any]:
    return list(encoder.rendering(rows[:]))


def bare(encoder: Encoder, group: RowGroup) -> Callable[[], None]:
    """Return the least that encoding takes: forward passes and products of the same batches, whose ids are there.

    No maximum is taken, and nothing is copied back.
    """
    model, arguments, sae = encoder.model, encoder.arguments, encoder.sae
    device, is_cuda = model.device, model.device.type == "cuda"
    batches: list[tuple[Tensor, Tensor | None, Tensor]] = []
    for length, windows in by_length(group.windows, model._pad_to, model.window):
        count = arguments.batch_size if arguments.budget is None else max(1, arguments.budget // length)
        for start in range(0, len(windows), count):
            batch = windows[start : start + count]
            mask = attention_mask(batch, length).to(device) if model._masks else None
            ids = token_ids(batch, length, model.tokenizer.pad_token_id or 0).to(device)
            batches.append((ids, mask, text_places(batch, length).to(device)))
    floats = GPU_CHUNK_FLOATS if is_cuda else CHUNK_FLOATS

    @torch.no_grad()
    def run() -> None:
        for ids, mask, places in batches:
            states = model._run(ids, mask).flatten(0, 1).index_select(0, places)
            states = states.to(sae.W_enc.dtype if encoder.product is None else states.dtype)
            for part in states.split(chunk_sizes(len(states), floats // sae.config.d_sae)):
                part @ sae.W_enc if encoder.product is None else encoder.product(part, slice(None))

    return run


def alone(bench: Bench, encoder: Encoder, rows: Dataset) -> Figures:
    """Time each stage alone, without another beside it: in a run they overlap."""
    texts: list[Any] = []
    kept: dict[str, Any] = {}
    numbers = np.arange(len(rows))

    def tokenise() -> None:
        kept["group"] = encoder.tokenized(numbers, texts)

    def forward() -> None:
        group, arguments = kept["group"], encoder.arguments
        for _ in encoder.model.states(group.windows, arguments.batch_size, arguments.budget):
            pass

    def passes() -> None:
        for _ in encoder.passes(kept["group"]):
            pass

    figures = {"read": bench.seconds(lambda: texts.extend(encoder_texts(encoder, rows)))}
    figures["tokenise"] = bench.seconds(tokenise)
    figures["forward passes"] = bench.seconds(forward)
    figures["passes with SAE"] = bench.seconds(passes)
    figures["collect and cut"] = collecting(bench, encoder, kept["group"])
    return figures


def collecting(bench: Bench, encoder: Encoder, group: RowGroup) -> float:
    """Time the copies back and the code columns of all passes, without the passes themselves."""
    collector, seconds = RowCollector(encoder), 0.0
    collector.begin(group)
    for result in encoder.passes(group):
        seconds += bench.seconds(partial(collector.add, result))
    return seconds + bench.seconds(collector.taken)


def waits(bench: Bench, encoder: Encoder, group: RowGroup) -> float | str:
    """Count how often the host waits for the device in a forward pass and the SAE, by torch's own warnings."""
    if not bench.is_cuda:
        return "-"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            passes = sum(1 for _ in encoder.passes(group))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught) / passes


def busy_share(bench: Bench, call: Callable[[], object], loading: float) -> str:
    """Return the share of a call's time, less that of loading, in which the GPU computes or copies."""
    if not bench.is_cuda:
        return "-"
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        took = bench.seconds(call) - loading
    events = [event for event in profile.events() if event.device_type == DeviceType.CUDA]
    microseconds = covered((event.time_range.start, event.time_range.end) for event in events)
    return f"{microseconds / 1e6 / took:.0%}"


def covered(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
