"""Dataset -> Dataset with the features of each row, shard by shard, through datasets' cache.

Each shard of rows has its own cache file, named after everything that decides its content. So an interrupted encoding
goes on where it stopped, several processes (`torchrun`) share the shards, and a second call reads the files without
loading a model.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import torch
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from datasets.fingerprint import get_temporary_cache_files_directory, is_caching_enabled, update_fingerprint
from datasets.utils import are_progress_bars_disabled
from tqdm.auto import tqdm

from .._datasets import check_dataset, fingerprint_of, set_fingerprint
from .._files import whole_file
from ..features.columns import ACTS, IDS, STATE, TOKENS, code_columns, column_types, with_record
from ..sae.loading import SaeSource, load_sae
from .arguments import EncodingArguments
from .distributed import processes
from .encoder import Encoder
from .text import TextSource, find_text

SHARD_ROWS = 4000  # an interruption loses at most the work on so many rows
BATCH_ROWS = 1000  # rows that are tokenised and sorted by length together


def encode(
    dataset: Dataset,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    keep: str | Collection[str] = (),
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    show_progress_bar: bool | None = None,
) -> Dataset:
    """Add the SAE features of each row to a dataset, in the columns `sae_ids`, `sae_acts` and `sae_tokens`.

    A row has the features that fire on any of its tokens, each at its largest activation over the tokens. A blank row
    has none. A row longer than the model's window is read window by window; the row gets the maximum over the windows.

    The codes of a row depend neither on `batch_size`, nor on the other rows, nor on the number of processes: bit for
    bit on a CPU in float32, elsewhere up to the last digits. They are kept in the cache of `datasets`.

    Args:
        dataset (`datasets.Dataset`):
            Rows to encode. Columns that an earlier `encode` made are replaced.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            An SAE, or what `load_sae` takes: a folder or a Hub repo. By default the SAE inside the package.
        text (`str`, `list[str]` or `Callable`, *optional*):
            A column, a field of a struct (`"data.messages"`), a list of these, or a function from a row (a dict) to
            its text. By default the columns of a common schema, such as `text`, `messages`, or `instruction`, `input`
            and `output`: see `docs/text.md`.
        max_length (`int`, *optional*):
            Number of tokens to read of each row. By default all.
        batch_size (`int`, *optional*, defaults to `32`):
            Number of windows per forward pass. It changes memory and speed, never the codes.
        keep (`str` or `Collection[str]`, *optional*, defaults to `()`):
            `"state"` adds the mean of the hidden states that the SAE reads, in the column `sae_state`: float32
            [d_in], zeros for a blank row. The methods that compare vectors use it.
        device (`str` or `torch.device`, *optional*):
            Where the language model and the SAE run. By default Accelerate's device of this process.
        dtype (`str` or `torch.dtype`, *optional*):
            Type of the language model's weights: `"auto"` (as they were saved), `"float32"`, `"bfloat16"`,
            `"float16"` or `"float64"`. By default `"auto"` on CUDA and `"float32"` elsewhere.
        model_kwargs (`dict`, *optional*):
            Further arguments of transformers' `from_pretrained` for the language model, such as
            `attn_implementation`, `quantization_config` or `device_map`. They become part of the encoding record and
            of the cache key, so each value must be JSON or have a method `to_dict`.
        chat_template_kwargs (`dict`, *optional*):
            Variables of the tokenizer's chat template, such as `enable_thinking`: JSON values. A column
            `chat_template_kwargs` adds to them for its row.
        show_progress_bar (`bool`, *optional*):
            Whether to show a progress bar. By default as progress bars of `datasets` are set.

    Returns:
        `datasets.Dataset`: The dataset with the code columns added, rows in the same order.

    Raises:
        TypeError: If an argument has the wrong type, or the text columns do not hold text.
        ValueError: If an argument has a value that is not allowed, a column is missing or in the way, or SAE and
            language model do not fit. All of these are found before the language model is loaded, where possible.
        OSError: If the language model is neither on the Hub nor in an installed package.

    Example:

    ```python
    encoded = encode(load_dataset("tatsu-lab/alpaca", split="train"))
    # feature 7 fires on two tokens, at 0.9 and 1.4, and feature 2 on one, at 0.6:
    # {"sae_ids": [2, 7], "sae_acts": [0.6, 1.4], "sae_tokens": 12, ...}
    ```
    """
    check_dataset("dataset", dataset, "encode")
    arguments = EncodingArguments.parse(
        text=text,
        max_length=max_length,
        batch_size=batch_size,
        keep=keep,
        device=device,
        dtype=dtype,
        model_kwargs=model_kwargs,
        chat_template_kwargs=chat_template_kwargs,
        show_progress_bar=show_progress_bar,
    )
    replaced = code_columns(dataset)
    for name in [IDS, ACTS, TOKENS, *([STATE] if arguments.keep_state else [])]:
        if name in dataset.column_names and name not in replaced:
            raise ValueError(f"column `{name}` is in the way: `sae_encode` did not make it; rename or remove it")
    coded = _encode_codes(dataset, sae, arguments)
    encoded = datasets.concatenate_datasets([dataset.remove_columns(replaced), coded], axis=1, split=dataset.split)
    # datasets would make a fingerprint from the times of files; this one depends on the content.
    set_fingerprint(encoded, fingerprint_of(coded))
    return encoded


def codes(dataset: Dataset, sae: SaeSource | None = None, **arguments: Any) -> Dataset:
    """Return the code columns alone, without a copy of the rows; arguments as in `encode`."""
    check_dataset("dataset", dataset, "encode")
    return _encode_codes(dataset, sae, EncodingArguments.parse(**arguments))


def _encode_codes(dataset: Dataset, sae: SaeSource | None, arguments: EncodingArguments) -> Dataset:
    rendering = find_text(dataset, arguments.text)
    encoder = Encoder(load_sae(sae, encoder_only=True), rendering, arguments)
    record = _record_of_first_process(encoder)
    # What is kept beside the codes decides the content of the files, but not the codes: it is not in the record.
    key = {**record, "keep": ["state"]} if arguments.keep_state else record
    fingerprint = update_fingerprint(fingerprint_of(dataset), "hf_sae_select.encode", key)
    rows = dataset.with_format(None)
    if rendering.columns:  # other columns, such as images, are not decoded
        rows = rows.select_columns(list(rendering.columns))
    coded = _encode_shards(rows, encoder, record, fingerprint)
    set_fingerprint(coded, fingerprint)
    # Where the SAE came from decides nothing, so neither the key nor the files have it.
    source = encoder.sae.config.source
    return with_record(coded, record | {"sae": source}) if source else coded


def _record_of_first_process(encoder: Encoder) -> dict[str, Any]:
    """Return the first process's record: the hash of a function may differ from process to process."""
    record = encoder.record()
    if processes().num_processes > 1:
        (record,) = broadcast_object_list([record])
    return record


def _encode_shards(rows: Dataset, encoder: Encoder, record: dict[str, Any], fingerprint: str) -> Dataset:
    """Encode the shards that have no cache file yet, and open the files of all shards."""
    state = processes()
    starts = range(0, len(rows), SHARD_ROWS)
    folder = _cache_folder(shared=state.num_processes > 1) / fingerprint
    files = [folder / f"{i:05d}-of-{len(starts):05d}.arrow" for i in range(len(starts))]
    own = range(state.process_index, len(starts), state.num_processes)
    if missing := [i for i in own if not files[i].is_file()]:
        folder.mkdir(parents=True, exist_ok=True)
        shards = {i: rows.select(range(starts[i], min(starts[i] + SHARD_ROWS, len(rows)))) for i in missing}
        schema = column_types(record, encoder.state_width).arrow_schema
        encoder.load()
        with _progress_bar(sum(map(len, shards.values())), encoder.arguments.show_progress_bar) as bar:
            for i, shard in shards.items():
                _write_shard(files[i], shard, encoder, schema, bar)
    state.wait_for_everyone()
    return datasets.concatenate_datasets([_open_shard(file) for file in files])


def _write_shard(file: Path, rows: Dataset, encoder: Encoder, schema: pa.Schema, bar: tqdm) -> None:
    """Encode rows into an Arrow file as `Dataset.map` writes it; it appears when it is complete."""
    with whole_file(file) as part, pa.OSFile(str(part), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            writer.write_table(encoder(batch).cast(schema))
            bar.update(min(BATCH_ROWS, len(rows) - start))


def _open_shard(file: Path) -> Dataset:
    try:
        return Dataset.from_file(str(file))
    except pa.ArrowInvalid as error:
        raise OSError(f"the cache file {file} is damaged ({error}); delete it, and encode again") from error


def _cache_folder(shared: bool) -> Path:
    # Processes share their shards through the cache, so they use it even if caching is disabled.
    if is_caching_enabled() or shared:
        return Path(datasets.config.HF_DATASETS_CACHE) / "hf_sae_select"
    return Path(tempfile.mkdtemp(dir=get_temporary_cache_files_directory()))  # datasets removes it at exit


def _progress_bar(rows: int, show: bool | None) -> tqdm:
    hidden = are_progress_bars_disabled() if show is None else not show
    return tqdm(total=rows, desc="Encoding", unit=" rows", disable=hidden)
