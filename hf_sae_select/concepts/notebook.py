"""The short form of a subset in a notebook: what was selected, and the first picks. Everything in it is escaped."""

from __future__ import annotations

from contextlib import suppress
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from .._secrets import masked
from ..features.columns import encoding_record
from ..features.kernels import Int64s
from ..features.matrix import FeatureMatrix
from ..features.shares import Shares, likeness_text
from ..sae.labels import labels_of, one_line
from ..selection.attachment import Pool, pool_of, selection_of
from ..selection.closeness import parts_of_picks
from ..selection.concept_rules import excluded_rows
from ..selection.result import Selection, facts, table
from ..selection.trace import Trace
from .texts import Texts

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

PICKS, PARTS = 5, 3  # that are shown, and features of each
CHARACTERS = 100  # of the text of a pick
MOST_BYTES = 40_000_000  # of the codes of a pool that are read within about a second


def short_form(subset: Dataset) -> str | None:
    """Return the short form as HTML; None for a dataset without a selection, which a notebook shows as text."""
    try:
        selection = selection_of(subset)
    except (AttributeError, ValueError):  # it was never selected, or changed since
        return None
    pool = pool_of(subset)
    features, values = _features(pool), facts(selection)
    if features is not None and len(selection):
        excluded = excluded_rows(selection.parameters, features, selection.indices)
        rows = np.setdiff1d(np.arange(len(features)), excluded)
        values["likeness"] = _likeness(Shares.of_strongest(features, rows), rows, selection.indices)
    return table("Selected subset", values) + _first_picks(selection, pool, features)


def _likeness(shares: Shares, pool: Int64s, picks: Int64s) -> str:
    """Return the likeness of picks to the pool, and that of as many random rows, in one draw."""
    drawn = np.random.default_rng(0).permutation(pool)[: len(picks)]
    return f"{likeness_text(shares.likeness(picks))}; as many random rows {likeness_text(shares.likeness(drawn))}"


def _features(pool: Pool | None) -> FeatureMatrix | None:
    """Return the features of a pool; None where they are not known, or too many to be read while somebody waits."""
    codes = None if pool is None else pool.codes
    if codes is None or codes.data.nbytes > MOST_BYTES:
        return None
    return FeatureMatrix.from_dataset(codes)


def _first_picks(selection: Selection, pool: Pool | None, features: FeatureMatrix | None) -> str:
    """Return a table of the first picks: row, gain, the features that the gain is mostly made of, and the text."""
    rows = selection.indices[:PICKS].tolist()
    reasons = [""] * len(rows) if pool is None or features is None else _reasons(selection, pool, features, len(rows))
    read = {} if pool is None else Texts.of(pool, None).of_rows(rows)
    texts = [one_line(masked(read.get(row) or ""), CHARACTERS) for row in rows]
    names = ["pick", "row", "gain", *(["by"] if any(reasons) else []), *(["text"] if any(texts) else [])]
    lines = []
    for pick, (row, reason, text) in enumerate(zip(rows, reasons, texts, strict=True)):
        cells = {
            "pick": f"{pick}",
            "row": f"{row:,}",
            "gain": f"{selection.gains[pick]:.4g}",
            "by": masked(reason),
            "text": text,
        }
        lines.append("".join(f"<td>{escape(cells[name])}</td>" for name in names))
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>The first picks</caption><tr>{head}</tr>{body}</table>" if lines else ""


def _reasons(selection: Selection, pool: Pool, features: FeatureMatrix, n_picks: int) -> list[str]:
    """Name the features that add most to the gain of the first picks; "" where the gain is no sum over features."""
    labels, result = labels_of(encoding_record(pool.codes)), [""] * n_picks
    with suppress(ValueError, KeyError):  # the pool lost a column, or the selection is of another version
        trace = Trace.of(features, selection, pool.columns, pool.target)
        for parts in parts_of_picks(trace, np.arange(n_picks)):
            order = np.lexsort((parts.ids, -parts.gains))[:PARTS]
            ids = [int(parts.ids[i]) for i in order if parts.gains[i] > 0]
            result[parts.pick] = "; ".join(f"#{i}" if labels is None else labels.title(i) for i in ids)
    return result
