"""Dataset -> Dataset with the features of each row: text, model up to the SAE's layer, SAE, maximum over the tokens.

Work is cut into shards of rows, each its own `Dataset.map` with its own cache file under a name that depends on
everything that decides the result. An interrupted encoding goes on where it stopped, several processes take turns
(`torchrun`), and a second call reads the files without loading a model.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from datasets.fingerprint import get_temporary_cache_files_directory, is_caching_enabled, update_fingerprint
from datasets.utils import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars, tqdm
from numpy.typing import NDArray
from torch import Tensor

from .._datasets import check_dataset
from ..features.columns import ACTS, IDS, KEPT, MEANS, STATE, TOKENS, code_columns, column_types, with_record
from ..sae.loading import SaeSource, load_sae
from ..sae.model import SparseAutoencoder
from ..sae.segments import segment_sums
from .distributed import processes
from .hooks import reads_residual
from .language_model import READING, LanguageModel, check_reading
from .pretrained import ChatTemplate, look_up
from .text import Rendering, TextSource, find_text

ENCODING_VERSION = 1  # raise it when the same input would give other features: old cache files are then left alone
SHARD_ROWS = 4000  # rows lost at most to an interruption
MAP_ROWS = 1000  # rows tokenised and sorted by length together

# What a window or a row has: ids and acts, and where means are kept each feature's sum over the tokens.
Code = tuple[NDArray[Any], ...]
NOTHING: Code = np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.float32)


def encode(
    ds: Dataset,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    keep: str | Collection[str] = (),
) -> Dataset:
    """Return `ds` with the SAE features of each row in the columns `sae_ids`, `sae_acts` and `sae_tokens`.

    A row's features are those that fire on any of its tokens; its activations are the largest over the tokens. Blank
    rows have none. A row longer than the model's window is read in windows and merged by maximum. The result does not
    depend on `batch_size`, on the other rows or on the number of processes (bit for bit on a CPU in float32; other
    devices may differ in the last digits), and is kept in datasets' cache.

    Args:
        sae: an SAE in hand, or what `load_sae` takes: a folder, a Hub repo; by default the one in the package.
        text: a column, a list of columns, or a callable from a row to its text; by default the common schemas.
        max_length: read only the first `max_length` tokens of each row; by default all.
        batch_size: windows per forward pass; memory and speed, never the result.
        keep: what to keep beside the codes, by name: "means", the mean activation of each feature over the row's
            tokens, in the column `sae_means`; "state", the mean of the hidden state that the SAE reads, in the column
            `sae_state`, zeros for blank rows.

    Raises:
        TypeError, ValueError: bad input, before any model is loaded.
        OSError: the base model can be had neither from the Hub nor from an installed package.

    Example: a row in which feature 7 fires on two tokens, at 0.9 and 1.4, and feature 2 on one, at 0.6, becomes
    ``sae_ids [2, 7], sae_acts [0.6, 1.4], sae_tokens 12``.
    """
    _check(ds, max_length, batch_size, keep)
    ours = code_columns(ds)
    added = [IDS, ACTS, TOKENS, *(KEPT[name] for name in _named(keep))]
    if taken := [name for name in added if name in ds.column_names and name not in ours]:
        raise ValueError(f"column `{taken[0]}` is in the way: it was not made by `sae_encode`; rename or remove it")
    coded = codes(ds, sae, text=text, max_length=max_length, batch_size=batch_size, keep=keep)
    both = datasets.concatenate_datasets([ds.remove_columns(ours), coded], axis=1, split=ds.split)
    both._fingerprint = coded._fingerprint  # datasets would draw one from file times; ours says what is in it
    return both


def codes(
    ds: Dataset,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    keep: str | Collection[str] = (),
) -> Dataset:
    """Return the code columns alone, arguments as in `encode`; the rows of `ds` are read but not copied."""
    _check(ds, max_length, batch_size, keep)
    rendering = find_text(ds, text)
    max_length = None if max_length is None else int(max_length)
    encoder = _Encoder(load_sae(sae, encoder_only=True), rendering, max_length, int(batch_size), _named(keep))
    record = _agreed(encoder.record())
    # What is kept beside the codes is no part of how they were made, but of what the files hold.
    key = {**record, "keep": encoder.keep} if encoder.keep else record
    fingerprint = update_fingerprint(ds._fingerprint, "hf_sae_select.encode", key)
    coded = _encode_shards(ds.with_format(None), encoder, record, fingerprint)
    coded._fingerprint = fingerprint
    # Where the SAE is from decides nothing, so that it is no part of the key, nor of what the files say.
    source = encoder.sae.config.source
    return with_record(coded, record | {"sae": source}) if source else coded


def _check(ds: Any, max_length: Any, batch_size: Any, keep: Any) -> None:
    check_dataset("ds", ds, "encode")
    check_reading(max_length, batch_size)
    _named(keep)


def _named(keep: Any) -> list[str]:
    """Return the names in `keep`, each once and in the order of their columns."""
    names = [keep] if isinstance(keep, str) else list(keep) if isinstance(keep, Collection) else [keep]
    if any(name not in list(KEPT) for name in names):
        raise ValueError(f"unknown `keep={keep!r}`; choose one or several of: {', '.join(KEPT)}")
    return [name for name in KEPT if name in names]


def _agreed(record: dict[str, Any]) -> dict[str, Any]:
    """Return the first process's record: the hash of a callable may differ from process to process."""
    if processes().num_processes > 1:
        (record,) = broadcast_object_list([record])
    return record


def _encode_shards(ds: Dataset, encoder: _Encoder, record: dict[str, Any], fingerprint: str) -> Dataset:
    """Encode the shards that no file holds yet, and open them all."""
    state = processes()
    starts = range(0, len(ds), SHARD_ROWS)
    folder = _cache_folder(shared=state.num_processes > 1) / fingerprint
    files = [folder / f"{i:05d}-of-{len(starts):05d}.arrow" for i in range(len(starts))]
    mine = range(state.process_index, len(starts), state.num_processes)
    if missing := [i for i in mine if not files[i].is_file()]:
        folder.mkdir(parents=True, exist_ok=True)
        shards = {i: ds.select(range(starts[i], min(starts[i] + SHARD_ROWS, len(ds)))) for i in missing}
        encoder.load()
        with _one_bar(sum(len(shard) for shard in shards.values())) as encoder.bar:
            for i, shard in shards.items():
                shard.map(
                    encoder,
                    batched=True,
                    batch_size=MAP_ROWS,
                    remove_columns=shard.column_names,
                    features=column_types(record, encoder.keep, encoder.sae.config.d_in),
                    cache_file_name=str(files[i]),
                    new_fingerprint=f"{fingerprint}-{i:05d}",
                )
    state.wait_for_everyone()
    return datasets.concatenate_datasets([_opened(file) for file in files])


def _opened(file: Path) -> Dataset:
    try:
        return Dataset.from_file(str(file))
    except pa.ArrowInvalid as error:
        raise OSError(
            f"the cache file {file} is damaged ({error}); delete it, and its rows are encoded again"
        ) from error


def _cache_folder(shared: bool) -> Path:
    # Processes that share the work meet in the cache: there it is used even where caching is disabled.
    if is_caching_enabled() or shared:
        return Path(datasets.config.HF_DATASETS_CACHE) / "hf_sae_select"
    return Path(tempfile.mkdtemp(dir=get_temporary_cache_files_directory()))  # datasets removes it at exit


@contextmanager
def _one_bar(rows: int) -> Iterator[tqdm]:
    """Show one bar over all shards in place of one per `map`, if bars are on."""
    with tqdm(total=rows, desc="Encoding", unit=" rows") as bar:
        if are_progress_bars_disabled():
            yield bar
            return
        disable_progress_bars()
        try:
            yield bar
        finally:
            enable_progress_bars()


class _Encoder:
    """Turn batches of rows into their code columns; the function that `Dataset.map` calls."""

    def __init__(
        self, sae: SparseAutoencoder, rendering: Rendering, max_length: int | None, batch_size: int, keep: list[str]
    ) -> None:
        self.sae, self.rendering, self.max_length, self.batch_size = sae, rendering, max_length, batch_size
        self.keep = keep
        config = sae.config
        width, self.revision = look_up(config.model, config.model_revision)
        if width != config.d_in and reads_residual(config.hook):
            raise ValueError(
                f"this SAE reads vectors of d_in={config.d_in}, but {config.model} has width {width}; "
                "it was trained on another model, or its config names the wrong one"
            )
        self.template = ChatTemplate.of(config.model, self.revision) if rendering.chat else None
        self.device = processes().device
        # A GPU holds large models in the type they were saved in; a CPU has no fast half precision.
        self.dtype = "auto" if self.device.type == "cuda" else "float32"
        self.bar: tqdm | None = None

    def record(self) -> dict[str, Any]:
        """Say in JSON what decides the codes: the key of the cache, and the record that the columns carry."""
        config = self.sae.config
        return {
            "version": ENCODING_VERSION,
            "sae_sha256": self.sae.digest(),
            "d_sae": config.d_sae,
            "threshold": config.feature_threshold,
            "model": config.model,
            "model_revision": self.revision,
            "hook": config.hook,
            # What most SAEs say is left out, so that it does not change the name of their files in the cache.
            **{name: getattr(config, name) for name in READING if getattr(config, name) != READING[name]},
            "dtype": [self.dtype, str(self.sae.W_enc.dtype).removeprefix("torch.")],
            "window": config.context_size,
            "max_length": self.max_length,
            "text": self.rendering.record(),
            "chat_template_sha256": self.template.digest if self.template else None,
        }

    def load(self) -> None:
        """Load the language model onto the device; only now does the work begin."""
        config = self.sae.config
        self.model = LanguageModel.of(config, revision=self.revision, device=self.device, dtype=self.dtype)
        if (width := self.model.width) != config.d_in:
            raise ValueError(
                f"this SAE reads vectors of d_in={config.d_in}, but those at `{self.model.hook.path}` have width "
                f"{width}; its config names the wrong `model` or `hook`"
            )
        if self.sae.W_enc.device.type != self.device.type:
            self.sae = copy.deepcopy(self.sae).to(self.device)  # the caller's own stays where it is

    @torch.no_grad()
    def __call__(self, batch: dict[str, list[Any]]) -> pa.Table:
        texts = self.rendering(batch, self.template)
        windows = self.model.windows(texts, max_length=self.max_length, special=self.template is None)
        found: list[list[Code]] = [[] for _ in texts]
        tokens = np.zeros(len(texts), np.int32)
        totals = np.zeros((len(texts), self.sae.config.d_in if "state" in self.keep else 0))  # of hidden states
        for group, states in self.model.states(windows, self.batch_size):
            lengths = [sum(window.is_text) for window in group]
            for window, length, code in zip(group, lengths, self._codes(states, lengths), strict=True):
                found[window.row].append(code)
                tokens[window.row] += length
            if "state" in self.keep:
                np.add.at(totals, [window.row for window in group], segment_sums(states, lengths).cpu().numpy())
        if self.bar is not None:
            self.bar.update(len(texts))
        nothing = NOTHING[: 3 if "means" in self.keep else 2]
        rows = [_merged(parts or [nothing]) for parts in found]
        return _table(rows, tokens, totals / np.maximum(tokens, 1)[:, None], self.sae.config.d_sae)

    def _codes(self, states: Tensor, lengths: list[int]) -> list[Code]:
        """Return the code of each window, the windows being the segments of `states`."""
        x = states.to(self.sae.W_enc.dtype)
        pooled = self.sae.encode_max_and_sum(x, lengths) if "means" in self.keep else [self.sae.encode_max(x, lengths)]
        segment, ids = pooled[0].nonzero(as_tuple=True)
        cuts = torch.bincount(segment, minlength=len(lengths)).cumsum(0)[:-1].cpu().numpy()
        columns = [ids, *(values[segment, ids].float() for values in pooled)]
        return list(zip(*(np.split(column.cpu().numpy(), cuts) for column in columns), strict=True))


def _merged(parts: list[Code]) -> Code:
    """Merge the codes of a row's windows: every feature of any, each at its largest activation, sums added up."""
    if len(parts) == 1:
        return parts[0]
    ids, acts, *sums = (np.concatenate(column) for column in zip(*parts, strict=True))
    unique, where = np.unique(ids, return_inverse=True)
    largest = np.zeros(len(unique), np.float32)
    np.maximum.at(largest, where, acts)
    return unique, largest, *(np.bincount(where, weights=each) for each in sums)


def _table(rows: list[Code], tokens: NDArray[np.int32], states: NDArray[np.float64], d_sae: int) -> pa.Table:
    """Lay the rows' codes and mean states, of width 0 if not kept, out as Arrow columns, no Python object per number.

    The sums of activations become means.
    """
    schema = column_types({"d_sae": d_sae}).arrow_schema
    counts = [len(row[0]) for row in rows]
    offsets = pa.array(np.cumsum([0, *counts]), pa.int32())
    ids, acts, *sums = (np.concatenate(column) for column in zip(*rows, strict=True))
    columns = {
        IDS: pa.ListArray.from_arrays(offsets, pa.array(ids, schema.field(IDS).type.value_type)),
        ACTS: pa.ListArray.from_arrays(offsets, pa.array(acts, pa.float32())),
        TOKENS: pa.array(tokens),
    }
    if sums:
        means = (sums[0] / np.repeat(tokens, counts)).astype(np.float32)
        columns[MEANS] = pa.ListArray.from_arrays(offsets, pa.array(means))
    if width := states.shape[1]:
        columns[STATE] = pa.FixedSizeListArray.from_arrays(pa.array(states.astype(np.float32).ravel()), width)
    return pa.table(columns)
