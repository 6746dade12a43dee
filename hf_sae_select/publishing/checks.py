"""Checks of a published subset against its record: each returns the first difference in words, or None. No torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from datasets import Features as Schema
from numpy.typing import NDArray

from .._cards import parsed, section_of
from .._files import read_text
from .._hub import NoSuchFile, Repo, sha256_of
from .._parquet import content_errors, count_rows, read_batches, written_types
from .._validation import is_number
from ..features.columns import encoding_record
from ..selection.result import Selection
from .card import derived_metadata
from .devices import DEVICE_TOLERANCE
from .figures import splits_table, tables
from .hashing import Digests, batch_rows, cast, digest_of, digests_of
from .layout import CARD_FILE, LICENCE_FIELDS, RECORD_FILE, ROWS, SECTION, configs_of
from .licence import as_list
from .provenance import Record, is_edited, parts_of, public

OVERRIDES = (".huggingface.yaml", "dataset_infos.json")  # files that change what `load_dataset` reads
TABLES_SINCE = 3  # version of the record
CORRELATION_TOLERANCE = 0.1  # of a correlation on another device, whose picks differ
SUM_TOLERANCE = 1e-9  # relative; the order of a sum may differ from machine to machine


def of_record(record: Record) -> str | None:
    """Check that the record, as it was written, has its own digest."""
    if is_edited(record):
        return f"{RECORD_FILE} was edited after it was written: its content does not have the SHA-256 that it states"
    return None


def of_files(repo: Repo, record: Record) -> str | None:
    """Check that all files have the recorded content, and that `load_dataset` reads no other file."""
    for name, recorded in record["files"].items():
        try:
            file = repo.fetch(name)
        except NoSuchFile:
            return f"{name} is missing"
        if (digest := sha256_of(file)) != recorded["sha256"]:
            return f"{name} was changed: its SHA-256 is {digest}, recorded is {recorded['sha256']}"
        if (size := file.stat().st_size) != recorded["bytes"]:
            return f"{name} has {size:,} bytes, recorded are {recorded['bytes']:,}"
    names = repo.all_files()
    unknown = [name for name in names if name.startswith(f"{ROWS}/") and name not in record["files"]]
    return _unknown(unknown[0]) if unknown else of_overrides(repo)


def of_overrides(repo: Repo) -> str | None:
    """Check that no file in the root of a repo changes what `load_dataset` reads."""
    unknown = [name for name in repo.all_files() if name in OVERRIDES]
    return _unknown(unknown[0]) if unknown else None


def _unknown(name: str) -> str:
    return f"{name} is not in the record, but `load_dataset` reads it"


def of_card(repo: Repo, record: Record) -> str | None:
    """Check that the card makes `load_dataset` read the published files, and says what the record says.

    Args:
        record: the record as it was written.
    """
    try:
        text = read_text(repo.fetch(CARD_FILE))
        metadata = parsed(text, CARD_FILE).data.to_dict()
    except (NoSuchFile, ValueError) as error:
        return str(error)
    if "dataset_info" in metadata:
        return f"{CARD_FILE} has `dataset_info`, which `load_dataset` prefers to the files' own types"
    configs = metadata.get("configs")
    configs = [config for config in configs if isinstance(config, Mapping)] if isinstance(configs, list) else []
    records = parts_of(record)
    for written in (all_written := configs_of(records)):
        name = written["config_name"]
        present = [config for config in configs if config.get("config_name") == name]
        if present != [written]:
            return f"{CARD_FILE} has the config `{name}` as {present}, written was {written}"
    if others := [c.get("config_name") for c in configs if c.get("default") and c not in all_written]:
        return f"{CARD_FILE} has the config `{others[0]}` as a default, which `load_dataset` would read instead"
    for licence, field in product((one["license"] for one in records.values()), LICENCE_FIELDS):
        if metadata.get(field) != licence.get(field):
            return f"{CARD_FILE} has `{field}` as {metadata.get(field)!r}, the record as {licence.get(field)!r}"
    for field, value in derived_metadata(records).items():
        if as_list(metadata.get(field)) != as_list(value):
            return f"{CARD_FILE} has `{field}` as {metadata.get(field)!r}, but {value!r} follows from the record"
    differences = (
        _of_section(text, one, {"splits": splits_table(records)} if split else {}) for split, one in records.items()
    )
    return next(filter(None, differences), None)


def _of_section(card: str, record: Record, more: Mapping[str, str]) -> str | None:
    """Check that our section of the card is the one that was written, and that its tables are those of the record.

    `more` are tables that follow from the records of all splits.

    Records of drafts of 0.1.0 do not say which section was written, and cards of earlier versions had other tables.
    """
    try:
        section = section_of(card) if SECTION in record else ""
    except ValueError as error:
        return str(error)
    if SECTION in record and digest_of(section) != record[SECTION]:
        return (
            f"{CARD_FILE} has another section between the comments `hf-sae-select: subset` than the one that was "
            "written: its figures and sentences may be wrong; a publisher's own words belong before or after it"
        )
    if record["version"] >= TABLES_SINCE:
        for name, table in {**tables(record), **more}.items():
            if f"\n\n{table}\n" not in section:
                return f"{CARD_FILE} does not have the table of {name} that follows from {RECORD_FILE}"
    return None


def of_parameters(record: Record, selection: Selection) -> str | None:
    """Compare the record with the selection in the table of picks, parameter by parameter."""
    recorded, parameters = record["selection"], dict(selection.parameters)
    encoding = dict(record["encoding"] or {})
    template = encoding.pop("chat_template", None)
    if template is not None and sha256(template.encode()).hexdigest() != encoding["chat_template_sha256"]:
        return "encoding.`chat_template` does not have the recorded `chat_template_sha256`"
    if name := unequal(encoding, parameters.pop("encoding", {})):
        return _contradiction("encoding.", name, encoding, selection.parameters["encoding"])
    for part in ("options", "constraints", "cuts"):
        one, other = recorded["parameters"][part], parameters.pop(part)
        if name := unequal(one, other):
            return _contradiction(f"{part}.", name, one, other)
    top_level = {name: value for name, value in recorded["parameters"].items() if not isinstance(value, Mapping)}
    if name := unequal(top_level, parameters):
        return _contradiction("parameter ", name, top_level, parameters)
    measured = {} if record["target"] is None else record["target"]["measured"]
    if name := unequal(measured, selection.target):
        return _contradiction("target.", name, measured, selection.target)
    summary = {name: recorded[name] for name in ("method", "rows", "round_starts", "pool_coverage")}
    summary["fingerprint"] = record["source"]["fingerprint"]
    own = {"method": selection.method, "rows": len(selection), "round_starts": selection.round_starts.tolist()}
    own |= {"pool_coverage": selection.pool_coverage, "fingerprint": selection.fingerprint}
    if name := unequal(summary, own):
        return _contradiction("", name, summary, own)
    return None


def _contradiction(prefix: str, name: str, recorded: Mapping[str, Any], own: Mapping[str, Any]) -> str:
    return f"{prefix}`{name}` is {recorded.get(name)!r} in {RECORD_FILE}, {own.get(name)!r} in the table of picks"


def of_indices(record: Record, selection: Selection) -> str | None:
    """Check that the row numbers of the picks, in order, are the recorded ones."""
    if digest_of(selection.indices.astype("<i8")) == record["selection"]["indices_sha256"]:
        return None
    return "the row numbers in the table of picks, or their order, are not the recorded ones"


def of_rows(repo: Repo, record: Record, selection: Selection, digests: Sequence[str]) -> str | None:
    """Compare the rows with their SHA-256 in the table of picks, one by one."""
    if digest_of(np.frombuffer(bytes.fromhex("".join(digests)), np.uint8)) != record["selection"]["rows_sha256"]:
        return "the digests of rows in the table of picks, or their order, are not the recorded ones"
    names = sorted(name for name in record["files"] if name.startswith(f"{ROWS}/"))
    try:
        files = {name: repo.fetch(name) for name in names}
        if (n_rows := sum(map(count_rows, files.values()))) != len(digests):
            return f"there are {n_rows:,} rows, but {len(digests):,} were picked"
        parts = [_row_digests(name, file, record) for name, file in files.items()]
    except (NoSuchFile, ValueError) as error:
        return f"the rows cannot be read: {error}"
    actual = [bytes(digest).hex() for part in parts for digest in part]
    if len(actual) != len(digests):
        return f"there are {len(actual):,} rows, but {len(digests):,} were picked"
    differ = [i for i, (one, other) in enumerate(zip(digests, actual, strict=True)) if one != other]
    if not differ:
        return None
    if sorted(actual) == sorted(digests):
        return f"the rows are in another order: row {differ[0]} is not the one that was picked there"
    return f"row {differ[0]} was changed: it is no longer row {selection.indices[differ[0]]} of the source"


def of_columns(record: Record, types: Mapping[str, Any]) -> str | None:
    """Compare the types of columns, as `datasets.Features.to_dict` writes them, with the record."""
    name = unequal(record["source"]["columns"], json.loads(json.dumps(types)))
    return f"column `{name}` is missing, new, or has another type than recorded" if name else None


def of_source(record: Record, selection: Selection, picked: Sequence[str], digests: Digests) -> str | None:
    """Compare the SHA-256 of the source's rows with the record and with those of the picks."""
    if record["source"]["rows"] not in (None, len(digests)):
        return f"the source has {len(digests):,} rows, recorded are {record['source']['rows']:,}"
    for pick, (row, digest) in enumerate(zip(selection.indices.tolist(), picked, strict=True)):
        if not 0 <= row < len(digests):
            return f"pick {pick} is row {row}, but the source has {len(digests):,} rows"
        if bytes(digests[row]).hex() != digest:
            return f"pick {pick} is not row {row} of the source: that row has other content"
    if record["source"]["sha256"] not in (None, digest_of(digests)):
        return "a row that was not picked has other content than recorded, or the rows are in another order"
    return None


def of_picks(selection: Selection, again: Selection, tolerance: float = SUM_TOLERANCE) -> str | None:
    """Compare picks and gains with those of selecting again; `tolerance` is for gains that are not counts."""
    if len(selection) != len(again):
        return f"{len(selection):,} rows were picked, these parameters pick {len(again):,}"
    differ = np.flatnonzero(selection.indices != again.indices)
    if len(differ):
        pick = differ[0]
        return f"pick {pick} is row {selection.indices[pick]}, these parameters pick row {again.indices[pick]}"
    for name in ("gains", "covered", "rounds"):
        recorded, repeated = getattr(selection, name), getattr(again, name)
        rtol = tolerance if name == "gains" and recorded.dtype.kind == "f" else SUM_TOLERANCE
        differ = np.flatnonzero(~np.isclose(recorded, repeated, rtol=rtol, atol=0))
        if len(differ):
            pick = differ[0]
            return f"pick {pick}, row {selection.indices[pick]}: `{name}` is {recorded[pick]}, again {repeated[pick]}"
    if selection.pool_coverage != again.pool_coverage:
        return f"`pool_coverage` is {selection.pool_coverage}, again {again.pool_coverage}"
    return None


def of_counts(counts: NDArray[np.int64] | None, again: NDArray[np.int64], tolerance: float) -> str | None:
    """Compare the number of features of each picked row; `tolerance` is for the sum over the picks."""
    if counts is None:
        return "the table of picks does not have the numbers of features"
    is_near = abs(int(counts.sum()) - int(again.sum())) <= tolerance * int(counts.sum())
    differ = np.flatnonzero((counts != again) & (tolerance < DEVICE_TOLERANCE or not is_near))
    return (
        f"pick {differ[0]} has {again[differ[0]]} features, recorded are {counts[differ[0]]}" if len(differ) else None
    )


def of_coverage(recorded: Mapping[str, Any], again: Mapping[str, Any], tolerance: float) -> str | None:
    """Compare the recorded figures of coverage with those measured again."""
    for rows, figures in again.items():
        for name, value in figures.items():
            one = recorded[rows][name]
            if tolerance >= DEVICE_TOLERANCE and is_number(one) and is_number(value):
                absolute = CORRELATION_TOLERANCE if name == "length_correlation" else 0.0
                same = math.isclose(one, value, rel_tol=tolerance, abs_tol=absolute)
            else:
                same = is_close(one, value, tolerance)
            if not same:
                return f"`{name}` of {rows} is {recorded[rows][name]} in {RECORD_FILE}, again {value}"
    return None


def of_likeness(
    recorded: Mapping[str, Any] | None, again: Mapping[str, Any] | None, tolerance: float = SUM_TOLERANCE
) -> str | None:
    """Compare the recorded likeness with the one measured again."""
    if recorded is None or again is None:
        return None if recorded is again else f"`likeness` is {recorded} in {RECORD_FILE}, again {again}"
    for rows, value in again.items():
        if not is_close(recorded[rows], value, tolerance):
            return f"`likeness` of {rows} is {recorded[rows]} in {RECORD_FILE}, again {value}"
    return None


def of_quotas(recorded: Sequence[Mapping[str, Any]], again: Sequence[Mapping[str, Any]]) -> str | None:
    """Compare the recorded rows of each value of a quota with those counted again."""
    if recorded == again:
        return None
    for one, other in zip(recorded, again, strict=False):
        for item, repeated in zip(one["values"], other["values"], strict=False):
            if item != repeated:
                return f"column `{other['column']}` has {item} in {RECORD_FILE}, again {repeated}"
    return "the columns of quotas, or the number of their values, are not as recorded"


def is_close(one: Any, other: Any, tolerance: float) -> bool:
    """Tell whether two figures are equal, or two floats almost."""
    both_floats = isinstance(one, float) and isinstance(other, float)
    return bool(one == other or (both_floats and math.isclose(one, other, rel_tol=tolerance)))


def of_sae(recorded: Mapping[str, Any], digest: str, file_digest: str | None) -> str | None:
    """Check that an SAE has the recorded encoder, and, if it was fetched, that it is from the recorded file."""
    place = recorded.get("sae", {})
    if file_digest is not None and file_digest != place.get("sha256"):
        return (
            f"{place.get('path')} of {place.get('repo')} has SHA-256 {file_digest}, recorded is {place.get('sha256')}"
        )
    if digest == recorded["sae_sha256"]:
        return None
    remedy = "; install the version of it that the record names" if "package" in place else ""
    name = place.get("repo") or place.get("package") or "the SAE that was passed"
    return f"{name} has an encoder of SHA-256 {digest}, recorded is {recorded['sae_sha256']}{remedy}"


def of_pool(recorded: Mapping[str, Any], pool: Dataset) -> str | None:
    """Compare how the codes of a pool were made with the record."""
    try:
        return of_encoding(recorded, public(encoding_record(pool)))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        return f"the codes do not have a complete record of how they were made: {error!r}"


def of_encoding(recorded: Mapping[str, Any], again: Mapping[str, Any]) -> str | None:
    """Compare how the rows were encoded with how they are encoded now."""
    # The places of SAE and model decide nothing: `sae_sha256` identifies the SAE, and it may have been passed.
    # Of the types, only the SAE's is compared. The model's depends on the device; the features show what it changes.
    ignored = {"chat_template", "sae", "rows", "resolved"} | (
        {"model", "model_revision"} if recorded["model"] is None else set()
    )
    if recorded.get("version") in range(1, again["version"]):  # the features show whether an older one differs
        ignored.add("version")
    one, other = (
        {name: value for name, value in encoding.items() if name not in ignored} | {"dtype": encoding["dtype"][1:]}
        for encoding in (recorded, again)
    )
    name = unequal(one, other)
    return f"`{name}` is recorded as {one.get(name)!r}, now it is {other.get(name)!r}" if name else None


def unequal(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Return the first name under which two mappings differ; None if they do not."""
    return next((name for name in [*one, *other] if one.get(name) != other.get(name)), None)


def _row_digests(name: str, file: Path, record: Record) -> Digests:
    """Return the SHA-256 of the rows in a file, with some rows in memory at once."""
    try:
        with content_errors():
            written = written_types(file)
            if difference := of_columns(record, written):
                raise ValueError(difference)
            types = Schema.from_dict(written)  # Arrow's may differ: Parquet has no timestamps in seconds, for example
            tables = read_batches(file, batch_rows(types))
            parts = [digests_of(cast(table, types.arrow_schema), types) for table in tables]
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return np.concatenate([np.empty((0, 32), np.uint8), *parts])
