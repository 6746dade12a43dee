"""Differences: which features a dataset lacks, which changed, and which some rows have that the rest has not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validation import check_flag, check_int, check_number, is_number
from ..features.matrix import FeatureMatrix
from ..selection.constraints import row_indices
from ..selection.references import reference_rows
from .contrast import Contrast
from .sides import Sides

if TYPE_CHECKING:  # annotations only
    from ..sae.labels import Labels
    from ..sae.loading import SaeSource
    from ..selection.references import References


def missing_features(
    pool: References,
    reference: References,
    *,
    sae: SaeSource | None = None,
    threshold: float | None = None,
    least_lift: float = 2.0,
    examples: int = 3,
    show_texts: bool = False,
    labels: Labels | None = None,
) -> Contrast:
    """Say what a dataset lacks: the features that a reference has, and the pool has in no row or far less often.

    A row has a feature that fires on any of its tokens above the threshold. A lift is the share of the reference
    divided by the share of the pool, and its interval is the score interval of Koopman (1984), which needs no
    correction of zeros. Thousands of features are compared at once: only those are listed whose difference Fisher's
    exact test tells from chance, so that at most 5 % of them are expected to be chance (Benjamini & Hochberg 1995).
    They are sorted by their log-likelihood ratio (Dunning 1993), which grows with the lift and with the share.

    Args:
        pool (`Dataset`, `Sequence[str]`, `FeatureMatrix`, `str` or `Path`):
            The rows that may lack something: a dataset, encoded or not, texts, the place of a dataset (a file, a
            folder, or a Hub id), or features.
        reference (`Dataset`, `Sequence[str]`, `FeatureMatrix`, `str` or `Path`):
            The rows that it is compared with, in any of these forms. Rows that are not encoded are encoded as those
            of the other argument are.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE that encodes rows, see `encode`. By default the one that encoded the other rows, or else the SAE
            inside the package.
        threshold (`float`, *optional*):
            Only activations above it count. By default the SAE's calibrated value; of features alone, 0.
        least_lift (`float`, *optional*, defaults to `2.0`):
            Only features are listed whose share in the reference is at least so many times that in the pool.
        examples (`int`, *optional*, defaults to `3`):
            The number of rows of each side that are named for each feature: those in which it is strongest.
        show_texts (`bool`, *optional*, defaults to `False`):
            Whether the texts of these rows are read too.
        labels (`Labels`, *optional*):
            The names of the features. By default those that the SAE ships with, if it has any.

    Returns:
        `Contrast`: The features, the clearest difference first. It prints as a table.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If one side is empty, blank, or encoded by another SAE than the other, or a number is not allowed.
        OSError: If a place cannot be read.

    Example:

    ```python
    print(missing_features(dataset, ["How long do I boil an egg?", "Which pan for pancakes?"]))
    ```
    """
    check_number("least_lift", least_lift, "[1, inf)")
    _check_examples(examples, show_texts)
    sides = Sides.of({"pool": pool, "reference": reference}, sae, threshold, show_texts, labels)
    return sides.contrast(*sides.parts, least_lift=least_lift, examples=examples)


def diff(
    a: References,
    b: References,
    *,
    sae: SaeSource | None = None,
    threshold: float | None = None,
    least_lift: float = 1.0,
    examples: int = 3,
    show_texts: bool = False,
    labels: Labels | None = None,
) -> Contrast:
    """Say what changed between two datasets: the features that the second has more or less often than the first.

    Lifts, intervals, the bound on chance and the order are those of `missing_features`. `diff(b, a)` lists the same
    features in the same order, with the inverse lifts.

    Args:
        a (`Dataset`, `Sequence[str]`, `FeatureMatrix`, `str` or `Path`):
            The first dataset, such as version 1, see `missing_features`.
        b (`Dataset`, `Sequence[str]`, `FeatureMatrix`, `str` or `Path`):
            The second dataset, such as version 2.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE that encodes rows, see `missing_features`.
        threshold (`float`, *optional*):
            Only activations above it count. By default the SAE's calibrated value; of features alone, 0.
        least_lift (`float`, *optional*, defaults to `1.0`):
            Only features are listed whose lift is at least this, or at most 1 divided by this.
        examples (`int`, *optional*, defaults to `3`):
            The number of rows of each side that are named for each feature: those in which it is strongest.
        show_texts (`bool`, *optional*, defaults to `False`):
            Whether the texts of these rows are read too.
        labels (`Labels`, *optional*):
            The names of the features. By default those that the SAE ships with, if it has any.

    Returns:
        `Contrast`: The features, the clearest difference first; `more` and `less` tell the directions apart.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If one side is empty, blank, or encoded by another SAE than the other, or a number is not allowed.
        OSError: If a place cannot be read.

    Example:

    ```python
    changed = diff(version_1, version_2)
    changed.more[0].title, changed.less[0].title
    ```
    """
    check_number("least_lift", least_lift, "[1, inf)")
    _check_examples(examples, show_texts)
    sides = Sides.of({"a": a, "b": b}, sae, threshold, show_texts, labels)
    return sides.contrast(*sides.parts, least_lift=least_lift, with_less=True, examples=examples)


def find_features(
    dataset: References,
    text_or_rows: References | Sequence[int],
    *,
    sae: SaeSource | None = None,
    threshold: float | None = None,
    examples: int = 3,
    show_texts: bool = False,
    labels: Labels | None = None,
) -> Contrast:
    """Say which features some rows have that the rest of a dataset has not.

    So a concept can be named by pointing at a few rows that have it. All features are listed that these rows have more
    often than the rest, sorted by their log-likelihood ratio (Dunning 1993): first come those that most of these rows
    have, and few others. Three rows are enough for a good order, but prove little of any one feature: `q_value` says
    how much of what is listed up to there may be chance.

    Args:
        dataset (`Dataset`, `Sequence[str]`, `FeatureMatrix`, `str` or `Path`):
            The rows that are compared with, see `missing_features`.
        text_or_rows (`Sequence[int]`, `str`, `Sequence[str]`, `Dataset` or `FeatureMatrix`):
            Numbers of rows of the dataset; or a text, texts, a dataset or features. Texts are encoded as the dataset
            is.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE that encodes rows, see `missing_features`.
        threshold (`float`, *optional*):
            Only activations above it count. By default the SAE's calibrated value; of features alone, 0.
        examples (`int`, *optional*, defaults to `3`):
            The number of rows of each side that are named for each feature: those in which it is strongest.
        show_texts (`bool`, *optional*, defaults to `False`):
            Whether the texts of these rows are read too.
        labels (`Labels`, *optional*):
            The names of the features. By default those that the SAE ships with, if it has any.

    Returns:
        `Contrast`: The features, the one that tells the rows best from the rest first.

    Raises:
        TypeError: If an argument has another type than above.
        ValueError: If a row does not exist, no row is left to compare with, or the rows have no feature.
        OSError: If a place cannot be read.

    Example:

    ```python
    cooking = find_features(dataset, [3, 17, 90])
    cooking.ids[:3]  # [551, 4023, 78]
    ```
    """
    _check_examples(examples, show_texts)
    rows = None if isinstance(text_or_rows, str) else _row_numbers(text_or_rows)
    if rows is None:
        # A text alone is no place here: nobody points at rows by the name of a dataset.
        others = [text_or_rows] if isinstance(text_or_rows, str) else text_or_rows
        sides = Sides.of({"dataset": dataset, "text_or_rows": others}, sae, threshold, show_texts, labels)
        base, other = sides.parts
    else:
        source = reference_rows("dataset", dataset)
        numbers = row_indices("text_or_rows", rows, len(source))
        if len(numbers) == len(source):
            raise ValueError(
                f"`text_or_rows` has all {len(source):,} rows of `dataset`, which leaves none to compare with; "
                "pass fewer"
            )
        sides = Sides.of({"dataset": source}, sae, threshold, show_texts, labels)
        base, other = sides.parts[0].split(numbers)
        other.check("text_or_rows", sides.threshold)
    return sides.contrast(base.called("rest"), other.called("these"), most_chance=1.0, examples=examples)


def _row_numbers(value: Any) -> Sequence[int] | None:
    """Return what was passed where it is numbers of rows; None for rows of their own, such as texts."""
    if isinstance(value, FeatureMatrix) or hasattr(value, "column_names") or not isinstance(value, Iterable):
        return None
    rows = value.tolist() if isinstance(value, np.ndarray) else list(value)
    return rows if any(is_number(row, Integral) for row in rows) else None


def _check_examples(examples: Any, show_texts: Any) -> None:
    """Check the arguments that say which rows are shown.

    Raises:
        ValueError: One is not allowed.
    """
    check_int("examples", examples, 0)
    check_flag("show_texts", show_texts)
