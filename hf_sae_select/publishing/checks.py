"""Checks of a published subset against its record: each returns the first difference in words, or None. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features as Schema
from numpy.typing import NDArray

from .._cards import parsed
from .._hub import Repo, sha256_of
from ..features.matrix import FeatureMatrix
from ..selection.result import Selection
from .hashing import BATCH_ROWS, Digests, digest_of, digests_of
from .layout import CARD_FILE, CONFIGS, LICENCE_FIELDS, RECORD_FILE, ROWS
from .provenance import Record, is_edited

STEERING = (".huggingface.yaml", "dataset_infos.json")  # files that `load_dataset` would go by
NEAR = 1e-2  # activations may differ a little from device to device
CLOSE = 1e-9  # figures are sums, whose order may differ from machine to machine


def of_record(record: Record) -> str | None:
    """Look whether the record says what it said when it was written."""
    if is_edited(record):
        return f"{RECORD_FILE} was edited after it was written: its content does not have the SHA-256 that it states"
    return None


def of_files(repo: Repo, record: Record) -> str | None:
    """Look whether all files are there, as they were written, and none beside them that would be read as rows."""
    for name, told in record["files"].items():
        try:
            file = repo.fetch(name)
        except FileNotFoundError:
            return f"{name} is missing"
        if (found := sha256_of(file)) != told["sha256"]:
            return f"{name} was changed: its SHA-256 is {found}, recorded is {told['sha256']}"
        if (size := file.stat().st_size) != told["bytes"]:
            return f"{name} has {size:,} bytes, recorded are {told['bytes']:,}"
    more = [name for name in repo.files() if name.startswith(f"{ROWS}/") and name not in record["files"]]
    more += [name for name in repo.files() if name in STEERING]
    return f"{more[0]} is not in the record, but `load_dataset` goes by it" if more else None


def of_card(repo: Repo, record: Record) -> str | None:
    """Look whether the card says that the rows are to be read from our files, and has the licence of the record."""
    try:
        data = parsed(repo.fetch(CARD_FILE).read_text(encoding="utf-8"), CARD_FILE).data.to_dict()
    except (FileNotFoundError, ValueError) as error:
        return str(error)
    if "dataset_info" in data:
        return f"{CARD_FILE} has `dataset_info`, by which `load_dataset` would go rather than by the files"
    configs = data.get("configs")
    configs = [each for each in configs if isinstance(each, Mapping)] if isinstance(configs, list) else []
    for config in CONFIGS:
        name = config["config_name"]
        found = [each for each in configs if each.get("config_name") == name]
        if found != [config]:
            return f"{CARD_FILE} has the config `{name}` as {found}, written was {config}"
    if more := [each.get("config_name") for each in configs if each.get("default") and each not in CONFIGS]:
        return f"{CARD_FILE} has the config `{more[0]}` for a default, which would be read in place of ours"
    for name in LICENCE_FIELDS:
        if data.get(name) != record["license"].get(name):
            return f"{CARD_FILE} has `{name}` as {data.get(name)!r}, the record as {record['license'].get(name)!r}"
    return None


def of_parameters(record: Record, receipt: Selection) -> str | None:
    """Compare the record with the receipt that the table of picks holds, parameter by parameter."""
    told = record["selection"]
    encoding = dict(record["encoding"] or {})
    template = encoding.pop("chat_template", None)
    if template is not None and sha256(template.encode()).hexdigest() != encoding["chat_template_sha256"]:
        return "encoding.`chat_template` does not have the SHA-256 that is recorded beside it"
    parameters = dict(receipt.parameters)
    pairs: list[tuple[str, Mapping[str, Any], Mapping[str, Any]]] = [
        ("encoding.", encoding, parameters.pop("encoding", {})),
        *((f"{part}.", told["parameters"][part], parameters.pop(part)) for part in ("options", "constraints", "cuts")),
        ("parameter ", _without_parts(told["parameters"]), parameters),
        (
            "",
            {"method": told["method"], "rows": told["rows"], "round_starts": told["round_starts"]}
            | {"pool_coverage": told["pool_coverage"], "fingerprint": record["source"]["fingerprint"]},
            {"method": receipt.method, "rows": len(receipt), "round_starts": receipt.round_starts.tolist()}
            | {"pool_coverage": receipt.pool_coverage, "fingerprint": receipt.fingerprint},
        ),
    ]
    for what, ours, theirs in pairs:
        if name := unequal(ours, theirs):
            return f"{what}`{name}` is {ours.get(name)!r} in {RECORD_FILE}, {theirs.get(name)!r} in the table of picks"
    return None


def _without_parts(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if not isinstance(value, Mapping)}


def of_indices(record: Record, receipt: Selection) -> str | None:
    """Look whether the picked row numbers, in order, are those recorded."""
    if digest_of(receipt.indices.astype("<i8")) == record["selection"]["indices_sha256"]:
        return None
    return "the row numbers in the table of picks, or their order, are not those that were recorded"


def of_rows(repo: Repo, record: Record, receipt: Selection, digests: Sequence[str]) -> str | None:
    """Compare the rows with their digests, one by one."""
    if digest_of(_bytes(digests)) != record["selection"]["rows_sha256"]:
        return "the digests of rows in the table of picks, or their order, are not those that were recorded"
    names = sorted(name for name in record["files"] if name.startswith(f"{ROWS}/"))
    try:
        parts = [_digests(repo, name, record) for name in names]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException) as error:
        return f"the rows cannot be read: {error}"
    found = [bytes(digest).hex() for part in parts for digest in part]
    if len(found) != len(digests):
        return f"there are {len(found):,} rows, picked were {len(digests):,}"
    differ = [i for i, (ours, theirs) in enumerate(zip(digests, found, strict=True)) if ours != theirs]
    if not differ:
        return None
    if sorted(found) == sorted(digests):
        return f"the rows are in another order: row {differ[0]} is not the one that was picked there"
    return f"row {differ[0]} was changed: it is not row {receipt.indices[differ[0]]} of the source any more"


def of_columns(record: Record, types: Mapping[str, Any]) -> str | None:
    """Compare the types of columns, as `datasets.Features.to_dict` writes them, with the record."""
    name = unequal(record["source"]["columns"], json.loads(json.dumps(types)))
    return f"column `{name}` has another type than recorded, or is not in both" if name else None


def of_pool(record: Record, receipt: Selection, picked: Sequence[str], found: Digests) -> str | None:
    """Compare the digests of the rows that there were to pick with the record and with the picks."""
    if record["source"]["rows"] not in (None, len(found)):
        return f"there are {len(found):,} rows to pick from, recorded are {record['source']['rows']:,}"
    for pick, (row, digest) in enumerate(zip(receipt.indices.tolist(), picked, strict=True)):
        if not 0 <= row < len(found):
            return f"pick {pick} is row {row}, but there are {len(found):,} rows"
        if bytes(found[row]).hex() != digest:
            return f"pick {pick} is not row {row} of the source: that row has other content"
    if record["source"]["sha256"] not in (None, digest_of(found)):
        return "a row that was not picked has other content than recorded, or the rows are in another order"
    return None


def of_picks(receipt: Selection, again: Selection, close: float = CLOSE) -> str | None:
    """Compare the picks, and what each brought, with those made again; gains that are no counts up to `close`."""
    if len(receipt) != len(again):
        return f"{len(receipt):,} rows were picked, these parameters pick {len(again):,}"
    differ = np.flatnonzero(receipt.indices != again.indices)
    if len(differ):
        pick = differ[0]
        return f"pick {pick} is row {receipt.indices[pick]}, these parameters pick row {again.indices[pick]}"
    for name in ("gains", "covered", "rounds"):
        ours, theirs = getattr(receipt, name), getattr(again, name)
        rtol = close if name == "gains" and ours.dtype.kind == "f" else CLOSE
        differ = np.flatnonzero(~np.isclose(ours, theirs, rtol=rtol, atol=0))
        if len(differ):
            pick = differ[0]
            return f"pick {pick}, row {receipt.indices[pick]}: `{name}` is {ours[pick]}, again {theirs[pick]}"
    if receipt.pool_coverage != again.pool_coverage:
        return f"`pool_coverage` is {receipt.pool_coverage}, again {again.pool_coverage}"
    return None


def of_counts(counts: NDArray[np.int64], again: NDArray[np.int64]) -> str | None:
    """Compare how many features the picked rows have."""
    differ = np.flatnonzero(counts != again)
    return f"pick {differ[0]} has {again[differ[0]]} features, stated are {counts[differ[0]]}" if len(differ) else None


def of_coverage(told: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """Compare what the record says that rows cover with what they do."""
    for name, figures in again.items():
        for each, value in figures.items():
            stated = told[name][each]
            close = (
                isinstance(value, float) and isinstance(stated, float) and math.isclose(value, stated, rel_tol=CLOSE)
            )
            if value != stated and not close:
                return f"`{each}` of {name} is {stated} in {RECORD_FILE}, again {value}"
    return None


def of_sae(told: Mapping[str, Any], digest: str, file: str | None) -> str | None:
    """Look whether an SAE encodes by the same numbers as the one recorded, and is from the same file where fetched."""
    where = told.get("sae", {})
    if file is not None and file != where.get("sha256"):
        return f"{where.get('path')} of {where.get('repo')} has SHA-256 {file}, recorded is {where.get('sha256')}"
    if digest == told["sae_sha256"]:
        return None
    remedy = "; install the version of it that the record names" if "package" in where else ""
    name = where.get("repo") or where.get("package") or "the SAE given"
    return f"{name} has an encoder of SHA-256 {digest}, recorded is {told['sae_sha256']}{remedy}"


def of_encoding(told: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """Compare how rows were encoded with how they are encoded now."""
    # Where SAE and model lie decides nothing; which SAE it is, its digest says, and it may have been given.
    # A GPU holds models in the type they were saved in, a CPU in float32: what that changes, the features tell.
    told, again = ({**each, "dtype": each["dtype"][1:]} for each in (told, again))
    left_out = {"chat_template", "sae"} | ({"model", "model_revision"} if told["model"] is None else set())
    ours, theirs = ({k: v for k, v in each.items() if k not in left_out} for each in (told, again))
    name = unequal(ours, theirs)
    return f"`{name}` is recorded as {ours.get(name)!r}, found is {theirs.get(name)!r}" if name else None


def of_codes(stored: FeatureMatrix, again: FeatureMatrix) -> str | None:
    """Compare the features of each row with those it is given now."""
    if len(stored) != len(again):
        return f"there are {len(stored):,} rows in store, the source has {len(again):,}"
    differ = np.flatnonzero(stored.counts != again.counts)
    if not len(differ):
        places = np.flatnonzero(stored.ids != again.ids)
        differ = np.searchsorted(stored.offsets, places[:1], side="right") - 1
    if not len(differ):
        return _of_numbers(stored, again)
    row = differ[0]
    only = np.setxor1d(stored.row(row), again.row(row))
    return (
        f"row {row} of the source has {stored.counts[row]} features in store and {again.counts[row]} when encoded "
        f"again; the first that only one has is #{only[0]} (another device may differ in features at the threshold)"
    )


def _of_numbers(stored: FeatureMatrix, again: FeatureMatrix) -> str | None:
    """Compare tokens and activations, those of the same features."""
    for row in np.flatnonzero(stored.tokens != again.tokens)[:1]:
        return f"row {row} of the source has {stored.tokens[row]} tokens in store and {again.tokens[row]} again"
    for place in np.flatnonzero(~np.isclose(stored.acts, again.acts, rtol=NEAR))[:1]:
        row = np.searchsorted(stored.offsets, place, side="right") - 1
        return (
            f"feature #{stored.ids[place]} of row {row} of the source has the activation {stored.acts[place]:g} in "
            f"store and {again.acts[place]:g} when encoded again"
        )
    return None


def unequal(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str | None:
    """Return the first name under which two mappings differ; None if they do not."""
    return next((name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name)), None)


def _digests(repo: Repo, name: str, record: Record) -> Digests:
    """Return the digests of the rows in a file, some rows in memory at once."""
    opened = pq.ParquetFile(repo.fetch(name))
    written = json.loads((opened.schema_arrow.metadata or {})[b"huggingface"])["info"]["features"]
    if column := of_columns(record, written):
        raise ValueError(f"{name}: {column}")
    types = Schema.from_dict(written)  # those of Arrow may be others: Parquet knows no seconds, for one
    tables = (pa.Table.from_batches([batch]).cast(types.arrow_schema) for batch in opened.iter_batches(BATCH_ROWS))
    return np.concatenate([np.empty((0, 32), np.uint8), *(digests_of(table, types) for table in tables)])


def _bytes(digests: Sequence[str]) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8)
