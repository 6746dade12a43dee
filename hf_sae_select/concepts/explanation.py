"""Explanation: the reasons of a subset's picks, from the pool that is attached to it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from .._datasets import check_dataset
from .._validation import check_flag, check_int, check_type
from ..encoding.digests import check_digests, digests_of
from ..encoding.rows import RowReader
from ..encoding.text import find_text
from ..features.columns import DIGEST, encoding_record
from ..sae.labels import Labels, labels_of
from ..selection.attachment import Pool, as_pool, is_unchanged, pool_of, selection_of, with_target
from ..selection.extension import changed_picks
from ..selection.request import request_of
from ..selection.result import Selection
from ..selection.run import read_features
from ..selection.trace import Trace
from .evidence import Reason
from .reason_table import Reasons
from .reasons import MOST_PARTS, checked_picks, reasons_of

if TYPE_CHECKING:
    from datasets import Dataset

    from ..encoding.text import TextSource
    from ..features.matrix import FeatureMatrix
    from ..sae.loading import SaeSource
    from ..selection.target_argument import TargetSource

MOST_READ = 50  # rows that are read again by default


@dataclass(frozen=True, eq=False)
class Source:
    """Hold what a subset was selected from: its selection, and the pool with its codes."""

    selection: Selection
    pool: Pool

    @classmethod
    def of(
        cls,
        subset: Dataset,
        selection: Selection | None,
        pool: Dataset | None,
        target: TargetSource | None = None,
        sae: SaeSource | None = None,
    ) -> Source:
        """Return what is attached to a subset, or was passed in its place.

        Raises:
            TypeError, ValueError: Something else was passed, or nothing is attached; the message has the remedy.
        """
        check_dataset("subset", subset, "explain")
        check_type("selection", selection, Selection, "a Selection", optional=True)
        was_passed = selection is not None
        if selection is None:
            try:
                selection = selection_of(subset)
            except AttributeError as error:
                raise ValueError(f"{error}; and pass it here as `selection`, with the `pool`") from error
        elif len(selection) != len(subset):
            raise ValueError(f"`selection` has {len(selection):,} picks, but `subset` has {len(subset):,} rows")
        own = pool_of(subset) if pool is None else as_pool(pool, selection)
        if own is None:
            raise ValueError(
                f"the pool of {selection.pool_rows:,} rows that the subset was selected from is not attached to it, "
                "and without it nobody knows what a pick was chosen over: pass the encoded dataset as `pool`; what "
                "is known of the picks is in the selection: `indices`, `gains`, `covered` and `parameters`"
            )
        if was_passed or not is_unchanged(subset):
            _check_subset(subset, selection)
        _check_pool(own, selection, is_attached=pool is None)
        return cls(selection, with_target(own, selection, target, sae))

    @property
    def record(self) -> dict[str, Any]:
        """The encoding record of the pool; empty if it is not encoded."""
        return {} if self.pool.codes is None else encoding_record(self.pool.codes)

    def labels(self, labels: Labels | None) -> Labels | None:
        """Return the labels of the features: those that were passed, or those that the SAE ships with.

        Raises:
            TypeError, ValueError: They are no labels, or those of another SAE.
        """
        check_type("labels", labels, Labels, "Labels, see `load_labels`", optional=True)
        if labels is None:
            return labels_of(self.record)
        labels.check(self.record)
        return labels

    def trace(self, features: FeatureMatrix | None = None) -> Trace:
        """Go through the selection again; `features` are those that the method read, where they are at hand."""
        columns = self.pool.columns
        if features is None:
            features = read_features(request_of(self.selection, len(columns), columns), columns)
        return Trace.of(features, self.selection, columns, self.pool.target)


def explain(
    subset: Dataset,
    picks: int | Sequence[int] | None = None,
    *,
    labels: Labels | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    spans: int = MOST_READ,
    most: int = MOST_PARTS,
    runners_up: bool = True,
    selection: Selection | None = None,
    pool: Dataset | None = None,
    target: TargetSource | None = None,
) -> Reason | Reasons:
    """Say why rows of a subset were picked, true of the method that picked them.

    Args:
        subset (`datasets.Dataset`):
            What `select` returned.
        picks (`int` or `Sequence[int]`, *optional*):
            The picks to explain, as positions in the subset. By default all.
        labels (`Labels`, *optional*):
            The names of the features. By default those that the SAE ships with, if it has any.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE that encoded the pool, to read rows again. By default the one that the codes name.
        text (`Callable`, *optional*):
            The function that wrote the text of the rows, if a function did.
        spans (`int`, *optional*, defaults to `50`):
            The number of picks whose rows the language model reads again, to say which characters a feature fires on:
            the first ones of `picks`. With 0 no model is loaded.
        most (`int`, *optional*, defaults to `10`):
            The number of features of each pick that are kept, those with the largest part of the gain.
        runners_up (`bool`, *optional*, defaults to `True`):
            Whether to look for what each pick was chosen over. For all picks it takes about as long as the selection.
        selection (`Selection`, *optional*):
            The selection, where it is not attached to the subset any more.
        pool (`datasets.Dataset`, *optional*):
            The encoded dataset that the rows were selected from, where it is not attached.
        target (`Dataset`, `list[str]`, `FeatureMatrix`, `str` or `dict`, *optional*):
            What the rows were selected towards, as it was passed to `select`, where it is not attached. Without it
            the reasons of such a selection do not say what it decided.

    Returns:
        `Reason` or `Reasons`: The reason of one pick if `picks` is an `int`, else one a pick.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If a pick does not exist, the pool is not known, the labels are those of another SAE, or
            `target` is not what the rows were selected towards.

    Example:

    ```python
    print(subset.sae_explain(0))
    subset.sae_explain().to_pandas()
    ```
    """
    source = Source.of(subset, selection, pool, target, sae)
    wanted = checked_picks(picks, source.selection)
    check_int("spans", spans, 0)
    check_int("most", most)
    check_flag("runners_up", runners_up)
    named = source.labels(labels)
    reasons = reasons_of(source.trace(), wanted, labels=named, most=most, runners_up=runners_up)
    reasons = with_spans(reasons[:spans], source, sae, text) + reasons[spans:]
    is_one = picks is not None and not hasattr(picks, "__iter__")
    return reasons[0] if is_one else Reasons(reasons)


def _check_subset(subset: Dataset, selection: Selection) -> None:
    """Check that the rows of a subset are the picks, in their order, where it still has the columns that tell."""
    if not set(selection.digest_columns) <= set(subset.column_names):
        return
    if changed := changed_picks(selection, subset, np.arange(len(subset))):
        raise ValueError(
            f"`subset` has other rows than `selection`, or another order: {len(changed):,} of {len(subset):,} differ, "
            f"row {changed[0]:,} is the first; pass the rows in the order in which they were picked"
        )


def _check_pool(pool: Pool, selection: Selection, is_attached: bool) -> None:
    """Check that the picks are in the pool as they were, and that its codes are of the texts that it has."""
    try:
        changed = changed_picks(selection, pool.columns, selection.indices)
        if not is_attached:
            check_digests(pool.source)
    except ValueError as error:
        raise ValueError(f"`pool` is not what the rows were selected from: {error}") from error
    if changed:
        raise ValueError(
            f"`pool` is not what the rows were selected from: {len(changed):,} of the {len(selection):,} picks "
            f"differ, row {selection.indices[changed[0]]:,} is the first; pass it as it was, in the same order"
        )


def _check_text(source: Source, rows: list[int], text: TextSource) -> None:
    """Check that `text` reads what the codes are of, by their digests."""
    codes = source.pool.codes
    if codes is None or DIGEST not in codes.column_names:
        return
    digests = digests_of(RowReader(source.pool.source, find_text(source.pool.source, text)), rows)
    recorded = codes.select_columns(DIGEST)[rows][DIGEST]
    differ = [row for row, own, digest in zip(rows, digests.to_pylist(), recorded, strict=True) if own != digest]
    if differ:
        raise ValueError(
            f"`text` does not read what was encoded: row {differ[0]:,} is the first of {len(differ):,} that differ; "
            "pass the function that wrote the text then, or leave it out where columns were read"
        )


def with_spans(reasons: list[Reason], source: Source, sae: SaeSource | None, text: TextSource | None) -> list[Reason]:
    """Read rows again, and add their texts and the characters that the features fire on; warn where this fails."""
    record = source.record
    if not reasons or "text" not in record:
        return reasons
    from ..encoding.spans import row_spans  # needs torch

    rows = [reason.row for reason in reasons]
    if text is not None:
        _check_text(source, rows, text)
    threshold = source.selection.parameters.get("cuts", {}).get("threshold") or 0.0
    try:
        texts = list(row_spans(source.pool.source, rows, sae, record=record, text=text, threshold=threshold))
    except (ValueError, OSError, ImportError) as error:
        if sae is not None or text is not None:
            raise
        warnings.warn(f"the rows were not read again, so no text is shown: {error}", stacklevel=3)
        return reasons
    return [
        replace(
            reason,
            text=spans.text,
            parts=tuple(
                replace(part, spans=tuple((start, end) for start, end, _ in spans.of(part.feature)))
                for part in reason.parts
            ),
        )
        for reason, spans in zip(reasons, texts, strict=True)
    ]
