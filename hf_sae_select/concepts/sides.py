"""Sides: two sets of rows as features of one SAE, and the features that one has more often than the other."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validation import check_number, check_type
from ..encoding.digests import SAMPLED_ROWS, check_digests
from ..features.columns import encoding_record, is_encoded
from ..features.concatenation import check_comparable
from ..features.kept import check_kept
from ..features.kernels import Int64s, holders
from ..features.matrix import FeatureMatrix
from ..features.peaks import Peaks
from ..sae.labels import Labels, labels_of
from ..selection.attachment import Pool
from ..selection.references import PoolEncoding, reference_rows
from .chance import CHANCE, adjusted, lift_intervals, lifts, log_likelihood_ratios, tails
from .contrast import Contrast, ExampleRow, FeatureContrast, Presence
from .texts import Texts

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from ..sae.loading import SaeSource


@dataclass(frozen=True, eq=False)
class Side:
    """Hold one set of rows."""

    name: str
    features: FeatureMatrix
    """The features of the rows, above the threshold."""
    rows: Int64s
    """Which rows of the matrix belong to it."""
    texts: Texts | None = None
    """The texts of the rows, where they may be shown."""

    @cached_property
    def counts(self) -> Int64s:
        """The number of rows that have each feature: [d_sae]."""
        features = self.features
        if len(self.rows) == len(features):
            return features.frequency
        return holders(features.offsets, features.ids, self.rows, features.d_sae)

    def presences(self, features: Int64s, most: int) -> list[Presence]:
        """Return how many rows have each of some features, with the `most` strongest rows as examples."""
        peaks, counts, size = Peaks.of(self.features, features, self.rows, most), self.counts[features], len(self.rows)
        texts = self._texts(peaks.rows[peaks.rows >= 0].tolist())
        lines = zip(counts.tolist(), peaks.rows.tolist(), peaks.activations.tolist(), strict=True)
        presences = []
        for count, rows, activations in lines:
            strongest = [(row, act) for row, act in zip(rows, activations, strict=True) if row >= 0]
            examples = tuple(ExampleRow(row, act, texts.get(row, "")) for row, act in strongest)
            presences.append(Presence(count, count / size, examples))
        return presences

    def _texts(self, rows: Iterable[int]) -> dict[int, str]:
        """Return the texts of rows; a warning says where they cannot be read."""
        if self.texts is None:
            return {}
        texts = self.texts.of_rows(sorted(set(rows)))
        for problem in self.texts.problems:
            warnings.warn(f"rows of `{self.name}`: {problem}", stacklevel=4)
        return texts

    def called(self, name: str) -> Side:
        """Return the same rows by another name."""
        return replace(self, name=name)

    def split(self, rows: Int64s) -> tuple[Side, Side]:
        """Return the other rows, and those that are named."""
        return replace(self, rows=np.setdiff1d(self.rows, rows)), replace(self, rows=np.sort(rows))

    def check(self, argument: str, threshold: float) -> None:
        """Check that a row has a feature.

        Raises:
            ValueError: None has.
        """
        if not self.counts.any():
            raise ValueError(
                f"`{argument}`: none of its {len(self.rows):,} rows has a feature above `threshold={threshold:g}`; "
                "are they blank? pass a lower `threshold`, or other rows"
            )


@dataclass(frozen=True, eq=False)
class Sides:
    """Hold sets of rows as features of one SAE."""

    parts: list[Side]
    threshold: float
    labels: Labels | None

    @classmethod
    def of(
        cls,
        arguments: Mapping[str, Any],
        sae: SaeSource | None = None,
        threshold: float | None = None,
        show_texts: bool = False,
        labels: Labels | None = None,
    ) -> Sides:
        """Return the rows that arguments name, encoded alike where they are not encoded. All is checked before that.

        Raises:
            TypeError, ValueError: Rows are not allowed, have no feature, or are of another SAE than others.
            OSError: A place cannot be read.
        """
        check_number("threshold", threshold, "[0, inf)", optional=True)
        check_type("labels", labels, Labels, "Labels, see `load_labels`", optional=True)
        rows = {name: reference_rows(name, value) for name, value in arguments.items()}
        encoding = _common_encoding(rows, sae)
        if labels is not None and encoding.record is not None:
            labels.check(encoding.record)
        codes: dict[str, Dataset] = {}
        for name, dataset in _datasets(rows).items():
            codes[name] = encoding.codes(name, dataset)
            encoding = PoolEncoding(encoding_record(codes[name]), sae)
        record = encoding.record or {}
        labels = labels_of(record) if labels is None else labels
        if labels is not None:
            labels.check(record)
        least = float(record.get("threshold", 0.0)) if threshold is None else float(threshold)
        parts = []
        for name, value in rows.items():
            if isinstance(value, FeatureMatrix):
                check_kept(value, least)
                side = Side(name, value.above(least), np.arange(len(value)))
            else:
                features = FeatureMatrix.from_dataset(codes[name], threshold=least)
                side = Side(
                    name, features, np.arange(len(value)), _texts(name, value, codes[name]) if show_texts else None
                )
            side.check(name, least)
            parts.append(side)
        return cls(parts, least, labels)

    def contrast(self, base: Side, other: Side, **how: Any) -> Contrast:
        """Compare two sets, see `contrast`."""
        return contrast(base, other, threshold=self.threshold, labels=self.labels, **how)


def _texts(name: str, dataset: Dataset, codes: Dataset) -> Texts | None:
    """Return the texts of a dataset; None, with a warning, where nothing says which columns they are."""
    if not encoding_record(codes).get("text", {}).get("columns"):
        warnings.warn(f"no texts of `{name}` are shown: nothing says which of its columns they are", stacklevel=4)
        return None
    return Texts.of(Pool(dataset, codes), None)


def _datasets(rows: Mapping[str, Dataset | FeatureMatrix]) -> dict[str, Dataset]:
    return {name: value for name, value in rows.items() if not isinstance(value, FeatureMatrix)}


def _common_encoding(rows: Mapping[str, Dataset | FeatureMatrix], sae: SaeSource | None) -> PoolEncoding:
    """Return how all rows are encoded: as those that are encoded already, or else by `sae`.

    Raises:
        ValueError: They are encoded in several ways, or were changed since.
    """
    datasets = _datasets(rows)
    encoded = {name: dataset for name, dataset in datasets.items() if is_encoded(dataset)}
    records = {name: encoding_record(dataset) for name, dataset in encoded.items()}
    if sae is not None and len(encoded) == len(datasets):
        raise ValueError("`sae` would encode rows, but there are none to encode; leave it out")
    first = next(iter(records), None)
    for name, record in records.items():
        check_comparable(str(first), records[str(first)], name, record)
    encoding = PoolEncoding(None if first is None else records[first], sae)
    matrices = {name: value for name, value in rows.items() if isinstance(value, FeatureMatrix)}
    if matrices and not datasets:
        encoding = PoolEncoding({"d_sae": next(iter(matrices.values())).d_sae})
    for name, matrix in matrices.items():
        encoding.check_width(name, matrix)
    for name, dataset in datasets.items():
        encoding.check_texts(name, dataset)
        check_digests(dataset, SAMPLED_ROWS)
    return encoding


def contrast(
    base: Side,
    other: Side,
    *,
    threshold: float = 0.0,
    least_lift: float = 1.0,
    with_less: bool = False,
    most_chance: float = CHANCE,
    labels: Labels | None = None,
    examples: int = 3,
) -> Contrast:
    """Compare how often two sets of rows have each feature.

    Args:
        least_lift: features with a smaller lift are left out.
        with_less: whether those are kept that `other` has less often, with a lift of at most `1 / least_lift`.
        most_chance: features with a larger q-value are left out.
    """
    n, other_n = len(base.rows), len(other.rows)
    features = np.flatnonzero(base.counts + other.counts)
    counts, other_counts = base.counts[features], other.counts[features]
    lift = lifts(other_counts, other_n, counts, n)
    q_values = adjusted(tails(n + other_n, other_n, counts + other_counts, other_counts))
    is_kept = (lift >= least_lift) & (lift > 1)
    if with_less:
        is_kept |= (lift <= 1 / least_lift) & (lift < 1)
    kept = np.flatnonzero(is_kept & (q_values <= most_chance))
    ratios = log_likelihood_ratios(other_counts[kept], other_n, counts[kept], n)
    order = np.argsort(-ratios, kind="stable")
    kept, ratios = kept[order], ratios[order]
    lows, highs = lift_intervals(other_counts[kept], other_n, counts[kept], n)
    numbers = np.stack([lift[kept], lows, highs, q_values[kept], ratios], axis=1).tolist()
    ids = features[kept]
    sides = zip(ids.tolist(), base.presences(ids, examples), other.presences(ids, examples), numbers, strict=True)
    result = tuple(
        FeatureContrast(feature, "" if labels is None else labels.name(feature), own, others, *values)
        for feature, own, others, values in sides
    )
    return Contrast((base.name, other.name), (n, other_n), threshold, result)
