"""Part: one subset that is staged, alone or as a split: checked first, then written with its record. No model.

All parts of a folder are parsed before the first is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import get_token

from .._hub import Token, sha256_of
from .._secrets import masked
from ..concepts.measurement import count_quotas, measures_of
from ..concepts.report import report as write_report
from ..features.columns import encoding_record
from ..sae.labels import Labels, labels_of
from ..selection.methods import METHODS
from ..selection.result import Selection
from .draft import Draft
from .hashing import Digests, digest_of, row_digests
from .layout import PLOT_FILES, REPORT_FILE, ROWS, SELECTION_FILE, TARGET_FILE
from .plot import curve_png
from .provenance import Record, versions
from .source import Source, SourceName, find_source, origins
from .tables import write_pool, write_rows, write_selection
from .target_table import closeness_columns, write_target

if TYPE_CHECKING:  # annotations only
    from huggingface_hub.repocard_data import CardData


@dataclass(frozen=True, eq=False)
class Part:
    """Hold what is known of a subset before it is written."""

    split: str
    """The name of the split; empty for a subset without splits."""
    draft: Draft
    origin: Source
    labels: Labels | None
    quotas: list[dict[str, Any]] | None

    @classmethod
    def parse(cls, split: str, draft: Draft, source: SourceName | None, labels: Labels | None, token: Token) -> Part:
        """Check what a subset is published with.

        Raises:
            TypeError, ValueError: If the labels are of another SAE, the source cannot be found, or the record would
                hold an access token.
        """
        encoding = draft.selection.parameters["encoding"]
        if labels is not None:
            labels.check(encoding)
        elif encoding:
            labels = labels_of(encoding)
        origin = find_source(draft.source_rows, source, token, split or "train")
        quotas = None if draft.columns is None else count_quotas(draft.columns, draft.selection)
        selected = {"parameters": draft.selection.parameters, "target": draft.selection.target}
        check_no_token({"source": origin.record(), **selected, "quotas": quotas})
        return cls(split, draft, origin, labels, quotas)

    def cards(self, token: Token) -> Iterable[CardData]:
        """Yield the metadata of the cards of the other datasets that the rows are from."""
        others = [other for other in origins(self.draft.source_rows) if other.dataset != self.origin.dataset]
        return (other.card(token) for other in others)

    def write(self, folder: Path, licence: Mapping[str, Any], *, include_features: bool, report: bool) -> Record:
        """Write rows, tables, plots and report, and return the fields of the record.

        Raises:
            ValueError: If the rows are not those that were picked, or Parquet cannot hold them.
        """
        draft, source_rows = self.draft, self.draft.source_rows
        folder.mkdir(exist_ok=True)
        picked = write_rows(folder / ROWS, draft.rows, self.split or "train")
        digests = None if draft.pool is None else row_digests(source_rows, "Hashing the source")
        if digests is not None:
            draft.check_rows(picked, digests)
        measured = draft.measure()
        counts = None if measured is None else measured.features.counts[draft.selection.indices]
        write_selection(folder / SELECTION_FILE, draft.selection, counts, picked)
        if include_features and draft.pool is not None and digests is not None:
            closeness = closeness_columns(draft.target)
            write_pool(folder, draft.pool, draft.selection, digests, closeness)
        if draft.target is not None:
            write_target(folder / TARGET_FILE, draft.target)
        if measured is not None:
            for measure in measures_of(draft.selection.method, "target" in draft.selection.parameters):
                (folder / PLOT_FILES[measure]).write_bytes(curve_png(measured, measure))
        if report:
            write_report(draft.attached(), folder / REPORT_FILE, labels=self.labels)
        return {
            "source": _source_record(draft, self.origin, digests),
            "license": licence,
            "encoding": _encoding_record(draft),
            "selection": _selection_record(draft.selection, picked),
            "coverage": None if measured is None else measured.figures,
            "likeness": None if measured is None else measured.likeness,
            "quotas": self.quotas,
            "target": _target_record(draft),
            "versions": versions(),
            "files": _files_record(folder),
        }


def check_no_token(parts: Mapping[str, Any]) -> None:
    """Check that nothing that the record will hold looks like an access token."""
    for name, part in parts.items():
        text = json.dumps(part, default=str)
        if masked(text, get_token()) != text:
            raise ValueError(
                f"the record's `{name}` would hold what looks like an access token, for everybody to read: remove it "
                "from the arguments, and revoke it if it is one"
            )


def _source_record(draft: Draft, origin: Source, digests: Digests | None) -> dict[str, Any]:
    return {
        **origin.record(),
        "fingerprint": draft.selection.fingerprint,
        "rows": draft.selection.pool_rows or None if digests is None else len(digests),
        "columns": draft.source_rows.features.to_dict(),
        "sha256": None if digests is None else digest_of(digests),
    }


def _selection_record(selection: Selection, picked: Digests) -> dict[str, Any]:
    return {
        "method": selection.method,
        "builtin": selection.method in METHODS,
        "parameters": {name: value for name, value in selection.parameters.items() if name != "encoding"},
        "rows": len(selection),
        "round_starts": selection.round_starts.tolist(),
        "pool_coverage": selection.pool_coverage,
        "indices_sha256": digest_of(selection.indices.astype("<i8")),
        "rows_sha256": digest_of(picked),
    }


def _target_record(draft: Draft) -> dict[str, Any] | None:
    if not draft.selection.parameters.get("target"):
        return None
    sizes = None if draft.target is None else [int(size) for size in draft.target.sizes()]
    return {"sizes": sizes, "measured": draft.selection.target, "untargeted": draft.untargeted_distances()}


def _encoding_record(draft: Draft) -> dict[str, Any] | None:
    encoding = draft.selection.parameters["encoding"]
    return {**encoding, "chat_template": _chat_template(draft)} if encoding else None


def _chat_template(draft: Draft) -> str | None:
    """Return the text of the chat template that was used, if its model can still be loaded."""
    digest, pool = draft.selection.parameters["encoding"]["chat_template_sha256"], draft.pool
    if digest is None or pool is None or pool.codes is None:
        return None
    from ..encoding.chat_template import ChatTemplate  # needs torch

    encoding = encoding_record(pool.codes)  # with the path of a model in a folder, which is not published
    try:
        template = ChatTemplate.of(encoding["model"], encoding["model_revision"])
    except OSError:
        return None
    return template.source if template is not None and template.digest == digest else None


def _files_record(folder: Path) -> dict[str, Any]:
    """Return SHA-256 and size of each file in a folder."""
    files = {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*.*"))}
    return {name: {"sha256": sha256_of(file), "bytes": file.stat().st_size} for name, file in files.items()}
