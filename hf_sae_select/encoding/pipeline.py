"""Dataset -> Dataset with the features of each row, through a store of codes in the cache of `datasets`.

What is read of each row gives a digest. Rows whose digests the store lacks are encoded; several processes (`torchrun`)
share them. A call that finds all rows in the store loads no model.
"""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Collection, Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from datasets.fingerprint import get_temporary_cache_files_directory, is_caching_enabled, update_fingerprint
from numpy.typing import NDArray

from .._arrow import open_file, write_tables
from .._datasets import add_columns, check_dataset, fingerprint_of, set_fingerprint
from .._places import rows_at
from ..engines.cluster import Cluster
from ..engines.engine import Ray, device_of, engine_of
from ..engines.process_shards import ProcessGroup
from ..engines.processes import processes
from ..engines.session import opened
from ..features.columns import (
    ACTS,
    DIGEST,
    FLAGS,
    IDS,
    STATE,
    TOKENS,
    code_columns,
    column_types,
    flagged_rows,
    read_columns,
    with_record,
)
from ..sae.loading import SaeSource, load_sae
from .arguments import EncodingArguments
from .claims import Claims
from .digests import agreed_digests, digested, digests_of
from .distributed import shared_claims
from .encoder import Encoder
from .recorded import recorded_arguments, recorded_sae
from .remote import RemoteRun
from .rows import RowReader
from .run import READ_ROWS, EncodingRun, names_of_text, progress_bar
from .store import CodeStore
from .text import TextSource, columns_as_recorded, find_text

LIBRARIES = ("torch", "transformers", "tokenizers")  # whose versions may change the last bits of codes


def encode(
    dataset: Dataset | str | Path,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    tokens_per_batch: int | None = None,
    keep: int | str | Collection[int | str] = 256,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    precision: str | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    show_progress_bar: bool | None = None,
    engine: str | Ray | None = None,
) -> Dataset:
    """Add the SAE features of each row to a dataset, in the columns `sae_ids`, `sae_acts` and `sae_tokens`.

    A row has the features that fire on any of its tokens, each at its largest activation over the tokens. A blank row
    has none. A row longer than the model's window is read window by window; the row gets the maximum over the windows.
    Two columns more say how a row was read: `sae_flags` marks rows that were not read as usual, and `sae_digest` tells
    later whether the text of a row was changed.

    The codes of a row depend neither on `batch_size`, nor on the other rows, nor on the number of processes: bit for
    bit on a CPU in float32, elsewhere up to the last digits. They are kept in the cache of `datasets`, where rows are
    found by what is read of them. Format and transform of the dataset stay.

    Args:
        dataset (`datasets.Dataset`, `str` or `Path`):
            Rows to encode, or their place: a file, a pattern of files, a folder or a Hub dataset, see
            `docs/big-data.md`. Columns that an earlier `encode` made are replaced.
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
        tokens_per_batch (`int`, *optional*):
            Number of tokens per forward pass, padding included, in place of `batch_size`. By default 16,384 on CUDA,
            unless `batch_size` is set, and none elsewhere. A pass that runs out of memory is halved.
        keep (`int`, `str` or `Collection`, *optional*, defaults to `256`):
            What is stored. A number: so many of the strongest features of each row, and all above 0.6 times the SAE's
            threshold, activations in half precision; `"float32"` beside it: in float32. `"all"`: every activation, in
            float32. `"state"` adds the mean of the hidden states that the SAE reads, in the column `sae_state`:
            float32 [d_in], zeros for a blank row. Several: `("all", "state")`.
        device (`str` or `torch.device`, *optional*):
            Where the language model and the SAE run. By default Accelerate's device of this process.
        dtype (`str` or `torch.dtype`, *optional*):
            Type of the language model's weights: `"auto"` (as they were saved), `"float32"`, `"bfloat16"`,
            `"float16"` or `"float64"`. By default `"auto"` on CUDA and `"float32"` elsewhere.
        precision (`str`, *optional*):
            How the SAE multiplies: `"float32"`, `"bfloat16x3"` (in three parts, nearly as exact, for GPUs) or
            `"bfloat16"` (fast, features at the threshold differ). By default `"float32"`. It becomes part of the
            encoding record and of the cache key.
        model_kwargs (`dict`, *optional*):
            Further arguments of transformers' `from_pretrained` for the language model, such as
            `attn_implementation`, `quantization_config` or `device_map`. They become part of the encoding record and
            of the cache key, so each value must be JSON or have a method `to_dict`.
        chat_template_kwargs (`dict`, *optional*):
            Variables of the tokenizer's chat template, such as `enable_thinking`: JSON values. A column
            `chat_template_kwargs` adds to them for its row.
        show_progress_bar (`bool`, *optional*):
            Whether to show a progress bar. By default as progress bars of `datasets` are set.
        engine (`str` or `Ray`, *optional*):
            Where rows are encoded: `"ray"`, or a `Ray` with its arguments, by workers of a Ray cluster; "processes" by
            the processes that torchrun or accelerate launch have started. By default in this process, or in those of
            torchrun. It changes no code on the same device. See `docs/engines.md`.

    Returns:
        `datasets.Dataset`: The dataset with the code columns added, rows in the same order.

    Raises:
        TypeError: If an argument has the wrong type, or the text columns do not hold text.
        ValueError: If an argument has a value that is not allowed, a column is missing or in the way, or SAE and
            language model do not fit. All of these are found before the language model is loaded, where possible.
        OSError: If the language model is neither on the Hub nor in an installed package, or the cache cannot be
            written to.
        ImportError: If Ray is not installed.
        ConnectionError: If no Ray cluster is at the address.
        RuntimeError: If workers have other versions than this process, or end again and again.

    Example:

    ```python
    encoded = encode(load_dataset("tatsu-lab/alpaca", split="train"))
    # feature 7 fires on two tokens, at 0.9 and 1.4, and feature 2 on one, at 0.6:
    # {"sae_ids": [2, 7], "sae_acts": [0.6, 1.4], "sae_tokens": 12, ...}
    ```
    """
    dataset = rows_at("dataset", dataset)
    check_dataset("dataset", dataset, "encode")
    chosen = engine_of(engine)
    arguments = EncodingArguments.parse(
        of_workers=device_of(chosen),
        text=text,
        max_length=max_length,
        batch_size=batch_size,
        tokens_per_batch=tokens_per_batch,
        keep=keep,
        device=device,
        dtype=dtype,
        precision=precision,
        model_kwargs=model_kwargs,
        chat_template_kwargs=chat_template_kwargs,
        show_progress_bar=show_progress_bar,
    )
    with opened(chosen) as running:
        return _encode(dataset, sae, arguments, running=running)


def encode_apart(dataset: Dataset, sae: SaeSource | None, purpose: str, **arguments: Any) -> Dataset:
    """Encode without reading any codes that were encoded for another `purpose`; arguments as in `encode`."""
    return _encode(dataset, sae, EncodingArguments.parse(**arguments), purpose)


def _encode(
    dataset: Dataset,
    sae: SaeSource | None,
    arguments: EncodingArguments,
    purpose: str = "",
    running: Cluster | ProcessGroup | None = None,
) -> Dataset:
    replaced = check_free_columns(dataset, arguments)
    with shared_claims(shared_folder()) as claims:
        coded = _encode_codes(dataset, sae, arguments, claims, flat=True, purpose=purpose, running=running)
        return claims.first("columns", lambda: add_columns(dataset, coded, replaced))  # it may write a file


def codes(
    dataset: Dataset, sae: SaeSource | None = None, *, running: Cluster | ProcessGroup | None = None, **arguments: Any
) -> Dataset:
    """Return the code columns alone, without a copy of the rows; arguments as in `encode`.

    Args:
        running: the engine that encodes; None for this process.
    """
    check_dataset("dataset", dataset, "encode")
    parsed = EncodingArguments.parse(of_workers=running.device if isinstance(running, Cluster) else None, **arguments)
    with shared_claims(shared_folder()) as claims:
        return _encode_codes(dataset, sae, parsed, claims, running=running)


def codes_by(encoder: Encoder, dataset: Dataset, purpose: str) -> Dataset:
    """Return the code columns of rows that have the columns of those that the encoder was made for."""
    with shared_claims(shared_folder()) as claims:
        return _encode_codes(dataset, None, encoder.arguments, claims, purpose=purpose, encoder=encoder)


def codes_like(dataset: Dataset, record: Mapping[str, Any], sae: SaeSource | None = None, **arguments: Any) -> Dataset:
    """Return the code columns of rows, encoded as an encoding record says; `sae` where it does not say where it is.

    Texts are read from the columns of the record where the dataset has them, or else by a common schema.

    Raises:
        ValueError: The SAE is not the one of the record, or nobody knows where it is.
    """
    parsed = recorded_arguments(record, text=columns_as_recorded(dataset, record), **arguments)
    with shared_claims(shared_folder()) as claims:
        return _encode_codes(dataset, recorded_sae(record, sae), parsed, claims)


def _encode_codes(
    dataset: Dataset,
    sae: SaeSource | None,
    arguments: EncodingArguments,
    claims: Claims,
    *,
    flat: bool = False,
    purpose: str = "",
    encoder: Encoder | None = None,
    running: Cluster | ProcessGroup | None = None,
) -> Dataset:
    """Return the code columns; `flat` ones have no row mapping. An `encoder` of earlier rows keeps its model."""
    if encoder is None:
        encoder = Encoder(load_sae(sae, encoder_only=True), find_text(dataset, arguments.text), arguments)
    rendering = encoder.rendering
    reader = RowReader(dataset, rendering, encoder.template)
    _check_agreement(encoder)
    # The first process decides for all: the hash of a function may differ from process to process.
    decisions = [encoder.record(), encoder.resolved()] if processes().is_main_process else [None, None]
    record, resolved = broadcast_object_list(decisions)
    # Whether states are kept decides the content of the files, but not the codes: it is not in the record.
    key = {**record, "keep": [record.get("keep"), "state"]} if arguments.keep_state else {**record}
    if arguments.keep_state and "keep" not in record:
        key["keep"] = ["state"]  # as earlier versions named it, which kept every activation
    versions = {name: version(name) for name in LIBRARIES}
    name = sha256(json.dumps([key, versions, purpose], sort_keys=True).encode()).hexdigest()[:32]
    store = CodeStore(_cache_folder(claims) / name, column_types(record, encoder.state_width, digested={}))
    digests = agreed_digests(reader, gather_object) if processes().num_processes > 1 else digests_of(reader)
    rows = claims.first("plan", lambda: _planned(reader, digests, encoder, store, claims))
    if len(rows) and isinstance(running, Cluster):
        RemoteRun(store, encoder, record, dataset, digests, rows, running)()
    elif len(rows):
        EncodingRun(store, encoder, reader, digests, rows, claims)()
    coded = claims.first("assembly", lambda: store.assemble(digests, flat=flat))  # it may write files
    _warn_of_unusual_rows(coded, encoder)
    if flat:  # a selection warns of blank rows itself
        _warn_of_blank_rows(coded, encoder)
    coded = with_record(coded, resolved_record(encoder, record, resolved), digested(dataset, rendering))
    set_fingerprint(coded, update_fingerprint(fingerprint_of(dataset), "hf_sae_select.encode", key))
    return coded


def _check_agreement(encoder: Encoder) -> None:
    """Check that all processes encode in the same way, since they share the rows of one store.

    Raises:
        RuntimeError: They do not; the message says what differs.
    """
    own = encoder.record()
    if callable(encoder.arguments.text):  # its hash may differ from process to process
        own["text"] = "a function"
    own["keep"] = [own.get("keep"), encoder.arguments.keep_state]  # states decide which store the codes go to
    records = gather_object([own])
    names = dict.fromkeys(name for record in records for name in record)  # all of them, so that all processes raise
    if different := [name for name in names if any(record.get(name) != own.get(name) for record in records)]:
        raise RuntimeError(
            f"the processes do not encode in the same way: {', '.join(different)} differ; pass the same arguments "
            "in all"
        )


def check_free_columns(dataset: Dataset, arguments: EncodingArguments) -> list[str]:
    """Return the code columns of an earlier encoding, which will be replaced.

    Raises:
        ValueError: A column of somebody else has the name of a code column.
    """
    replaced = code_columns(dataset)
    for name in [IDS, ACTS, TOKENS, FLAGS, DIGEST, *([STATE] if arguments.keep_state else [])]:
        if name in dataset.column_names and name not in replaced:
            raise ValueError(f"column `{name}` is in the way: `sae_encode` did not make it; rename or remove it")
    return replaced


def resolved_record(
    encoder: Encoder, record: Mapping[str, Any], resolved: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return an encoding record with what decides no code.

    Where the SAE came from decides nothing, and the versions and the record decide what is resolved, so neither the
    key nor the files of a store have them.
    """
    facts = {"sae": encoder.sae.config.source, "resolved": resolved or encoder.resolved()}
    return {**record, **{name: fact for name, fact in facts.items() if fact}}


def _planned(
    reader: RowReader, digests: pa.Array, encoder: Encoder, store: CodeStore, claims: Claims
) -> NDArray[np.int64]:
    """Return the numbers of the rows to encode. One process decides for all.

    Rows of chats that are to be encoded are read once: one that cannot be read is an error before the slow work.
    """
    file = None if claims.folder is None else claims.folder / "plan.arrow"
    if file is not None and file.is_file():
        return np.flatnonzero(open_file(file).data.column("is_missing"))
    rows = store.missing(digests)
    if len(rows) and reader.rendering.chat:
        with progress_bar(len(rows), encoder, "Reading", encoder.arguments.show_progress_bar) as bar:
            for start in range(0, len(rows), READ_ROWS):
                reader.check(batch := rows[start : start + READ_ROWS])
                bar.update(len(batch))
    if file is not None:
        is_missing = np.zeros(len(digests), bool)
        is_missing[rows] = True
        plan = pa.table({"is_missing": is_missing})
        write_tables(file, plan.schema, [plan], len(plan))
    return rows


def _warn_of_unusual_rows(coded: Dataset, encoder: Encoder) -> None:
    """Warn once of each kind of rows that were not read as usual."""
    counts, model = flagged_rows(coded), encoder.sae.config.model
    refusal = encoder.template.refusal if encoder.template else None
    reason = f" (for example: {refusal})" if refusal else ""
    for kind, words in {
        "refused": f"the chat template of {model} refused them{reason}, so they were rendered in another way",
        "left_out": f"the chat template of {model} left out words of their turns",
        "unknown": f"the tokenizer of {model} knows less than half of their tokens; an SAE of a model that reads such "
        "text would tell more of them",
    }.items():
        if count := counts.get(kind):
            warnings.warn(f"{count:,} of {len(coded):,} rows: {words}; see docs/text.md", stacklevel=2)


def _warn_of_blank_rows(coded: Dataset, encoder: Encoder) -> None:
    """Warn if most rows have no text."""
    blank = int((read_columns(coded, [TOKENS]).column(TOKENS).to_numpy() == 0).sum())
    if 2 * blank > len(coded):
        warnings.warn(
            f"{blank:,} of {len(coded):,} rows are blank: {names_of_text(encoder.rendering)} has no text there; pass "
            "another `text`",
            stacklevel=2,
        )


def shared_folder() -> Path:
    return Path(datasets.config.HF_DATASETS_CACHE) / "hf_sae_select"


def _cache_folder(claims: Claims) -> Path:
    # Processes share their work through the cache, so they use it even if caching is disabled.
    if is_caching_enabled() or claims.folder is not None:
        return shared_folder()
    return Path(tempfile.mkdtemp(dir=get_temporary_cache_files_directory()))  # datasets removes it at exit
