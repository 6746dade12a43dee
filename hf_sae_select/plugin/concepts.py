"""The methods on `datasets.Dataset` that say what features mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets import Dataset

if TYPE_CHECKING:
    from pathlib import Path

    from ..concepts.contrast import Contrast
    from ..concepts.evidence import Reason
    from ..concepts.reason_table import Reasons
    from ..concepts.rejection import WhyNot
    from ..encoding.text import TextSource
    from ..sae.labels import Labels
    from ..sae.loading import SaeSource
    from ..selection.references import References
    from ..selection.result import Selection
    from ..selection.target_argument import TargetSource


def sae_missing(
    self: Dataset,
    reference: References,
    *,
    sae: SaeSource | None = None,
    threshold: float | None = None,
    least_lift: float = 2.0,
    examples: int = 3,
    show_texts: bool = False,
    labels: Labels | None = None,
) -> Contrast:
    """Say which features of a reference this dataset lacks: `hf_sae_select.missing_features` of it."""
    from ..concepts.differences import missing_features

    return missing_features(
        self,
        reference,
        sae=sae,
        threshold=threshold,
        least_lift=least_lift,
        examples=examples,
        show_texts=show_texts,
        labels=labels,
    )


def sae_diff(
    self: Dataset,
    b: References,
    *,
    sae: SaeSource | None = None,
    threshold: float | None = None,
    least_lift: float = 1.0,
    examples: int = 3,
    show_texts: bool = False,
    labels: Labels | None = None,
) -> Contrast:
    """Say which features another dataset has more or less often than this one: `hf_sae_select.diff` of both."""
    from ..concepts.differences import diff

    return diff(
        self,
        b,
        sae=sae,
        threshold=threshold,
        least_lift=least_lift,
        examples=examples,
        show_texts=show_texts,
        labels=labels,
    )


def sae_find_features(
    self: Dataset,
    text_or_rows: References | Sequence[int],
    *,
    sae: SaeSource | None = None,
    threshold: float | None = None,
    examples: int = 3,
    show_texts: bool = False,
    labels: Labels | None = None,
) -> Contrast:
    """Say which features some rows have that the rest has not: `hf_sae_select.find_features` of this dataset."""
    from ..concepts.differences import find_features

    return find_features(
        self, text_or_rows, sae=sae, threshold=threshold, examples=examples, show_texts=show_texts, labels=labels
    )


def sae_explain(
    self: Dataset,
    picks: int | Sequence[int] | None = None,
    *,
    labels: Labels | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    spans: int = 50,
    most: int = 10,
    runners_up: bool = True,
    selection: Selection | None = None,
    pool: Dataset | None = None,
    target: TargetSource | None = None,
) -> Reason | Reasons:
    """Say why rows of this selected subset were picked: `hf_sae_select.explain` of it."""
    from ..concepts.explanation import explain

    return explain(
        self,
        picks,
        labels=labels,
        sae=sae,
        text=text,
        spans=spans,
        most=most,
        runners_up=runners_up,
        selection=selection,
        pool=pool,
        target=target,
    )


def sae_why_not(
    self: Dataset,
    row: int,
    *,
    labels: Labels | None = None,
    selection: Selection | None = None,
    pool: Dataset | None = None,
    target: TargetSource | None = None,
) -> WhyNot:
    """Say why a row is not in this selected subset: `hf_sae_select.why_not` of it."""
    from ..concepts.rejection import why_not

    return why_not(self, row, labels=labels, selection=selection, pool=pool, target=target)


def sae_report(
    self: Dataset,
    path: str | Path,
    *,
    pool: Dataset | None = None,
    target: TargetSource | None = None,
    labels: Labels | None = None,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    spans: int = 20,
    picks: int = 3000,
    title: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a report of this selected subset, one HTML file: `hf_sae_select.report` of it."""
    from ..concepts.report import report

    return report(
        self,
        path,
        pool=pool,
        target=target,
        labels=labels,
        sae=sae,
        text=text,
        spans=spans,
        picks=picks,
        title=title,
        overwrite=overwrite,
    )
