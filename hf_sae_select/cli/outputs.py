"""Results out: rows, SAEs, selections and tables become files, checked before slow work and whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import check_writable, whole_file
from .._folders import whole_folder
from ..features.columns import without_codes
from .terminal import as_json

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SUFFIXES = (".parquet", ".jsonl", ".csv", "")  # of rows; "" is a folder
SAVED = re.compile(r"dataset_info\.json|state\.json|data-\d+-of-\d+\.arrow")  # what `save_to_disk` writes
BATCH_ROWS = 1000  # in memory as Python objects


def check_out(out: Path, suffixes: Iterable[str], receipts: Iterable[Path], overwrite: bool) -> None:
    """Check that a result can be written, before slow work.

    Args:
        suffixes: those of files that can hold it; "" is a folder.
        receipts: the files that are written beside it.

    Raises:
        ValueError: If the suffix is of another type, or a folder holds something else.
        FileExistsError: If a file is in the way.
        FileNotFoundError: If the folder to write to does not exist.
        PermissionError: If that folder cannot be written to.
    """
    suffixes = list(suffixes)
    if out.suffix.lower() not in suffixes:
        names = [suffix or "a folder (a name without a suffix)" for suffix in suffixes]
        kind = f"the type {out.suffix!r}" if out.suffix else "a folder (a name without a suffix)"
        raise ValueError(f"`out={str(out)!r}`: {kind} is not written here; pass {', '.join(names)}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"`out={str(out)!r}`: there is no folder {str(out.parent)!r}; make it first")
    check_writable(out.parent, f"`out={str(out)!r}`")
    for file in (out, *receipts):
        if file.exists() and not overwrite:
            raise FileExistsError(f"{str(file)!r} exists; pass another `--out`, or `--overwrite` to replace it")
    if out.suffix and out.is_dir():
        raise ValueError(f"`out={str(out)!r}` is a folder; pass a file")
    if not out.suffix and out.is_file():
        raise ValueError(f"`out={str(out)!r}` is a file; a name without a suffix is a folder")


def check_rows(out: Path, dataset: Dataset, keeps_codes: bool) -> None:
    """Check, before slow work, that a file of this type can hold the columns of a dataset, or those without codes.

    Raises:
        ValueError: If it cannot; the message names the column. Or if a folder holds something else than rows.
    """
    suffix = out.suffix.lower()
    if not suffix:
        _check_saved(out)
    if suffix in ("", ".parquet"):
        return
    if keeps_codes:
        raise ValueError(
            f"`out={str(out)!r}`: {suffix} does not keep how rows were encoded; write .parquet or a folder"
        )
    for field in without_codes(dataset).features.arrow_schema:
        if not _is_held(field.type, nested=suffix == ".jsonl"):
            others = ".parquet or a folder" if suffix == ".jsonl" or _has_bytes(field.type) else ".parquet or .jsonl"
            raise ValueError(
                f"`out={str(out)!r}`: {suffix} cannot hold column `{field.name}`, {field.type}; write {others}"
            )


def write_rows(dataset: Dataset, out: Path, beside: Callable[[], None]) -> None:
    """Write a dataset into a file or a folder, by the suffix.

    Args:
        beside: writes the files beside it, before it appears.
    """
    if not out.suffix:
        with whole_folder(out) as part:
            dataset.save_to_disk(str(part))
            beside()
        return
    with whole_file(out) as part:
        _WRITERS[out.suffix.lower()](dataset, part)
        beside()


def _check_saved(folder: Path) -> None:
    """Check that a folder that will be replaced holds a saved dataset and nothing else."""
    foreign = [file.name for file in folder.iterdir() if not SAVED.fullmatch(file.name)] if folder.is_dir() else []
    if foreign:
        raise ValueError(f"`out={str(folder)!r}` holds {foreign[0]!r}, which is not of a saved dataset; pass another")


def _write_lines(dataset: Dataset, file: Path) -> None:
    """Write a JSON object per row: `to_json` rounds numbers."""
    view = dataset.with_format("arrow")
    with file.open("w", encoding="utf-8", newline="\n") as lines:
        for start in range(0, len(view), BATCH_ROWS):
            for row in view[start : start + BATCH_ROWS].to_pylist():
                lines.write(as_json(row, ascii=False) + "\n")


_WRITERS: dict[str, Callable[[Any, Path], Any]] = {
    ".parquet": lambda dataset, file: dataset.to_parquet(str(file)),
    ".jsonl": _write_lines,
    ".csv": lambda dataset, file: dataset.to_csv(str(file), index=False),
}


def write_sae(sae: Any, folder: Path, beside: Callable[[], None]) -> None:
    """Write an SAE into a folder; its files replace those of an earlier one."""
    beside()
    sae.save_pretrained(folder)


def write_saved(value: Any, file: Path, beside: Callable[[], None]) -> None:
    """Write a selection or labels, which save themselves, into a file."""
    beside()
    value.save(file)


def _is_held(kind: pa.DataType, nested: bool) -> bool:
    """Tell whether CSV, or JSON where `nested`, holds every value of a type."""
    import pyarrow.types as types

    if isinstance(kind, _extension_type()) or _has_bytes(kind):
        return False
    return nested or not (types.is_nested(kind) or types.is_list(kind))


def _has_bytes(kind: pa.DataType) -> bool:
    """Tell whether there are bytes in a type, such as those of an image."""
    import pyarrow.types as types

    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return True
    inner = [kind.field(i).type for i in range(kind.num_fields)] if types.is_nested(kind) else []
    return any(map(_has_bytes, inner))


def _extension_type() -> Any:
    import pyarrow as pa

    return pa.BaseExtensionType
