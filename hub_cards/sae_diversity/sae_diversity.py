"""SAE diversity for Evaluate: a thin face over `hf_sae_select.encode` and `hf_sae_select.features.metrics`.

Evaluate copies this file away from its folder, reads its imports by pattern (one module a line, nothing behind it) and
takes the first class in it that is an evaluation module: hence `import evaluate`, and no helper files.
"""

import math
from collections.abc import Collection, Mapping, Sequence, Set
from numbers import Integral, Real
from typing import Any

import datasets
import evaluate

from hf_sae_select import FeatureMatrix, SparseAutoencoder, encode, load_sae
from hf_sae_select.features import metrics
from hf_sae_select.sae.loading import SaeSource

DESCRIPTION = """\
How diverse a set of texts is, counted in the features of a sparse autoencoder (SAE): how many distinct features the \
texts cover, how rich and how alike they are, and what they cover of a reference.
"""

INPUTS = """
Args:
    data (list of str): the texts to measure.
    reference (list of str): texts to compare with, any number of them; by default none.
    sae (str, Path or SparseAutoencoder): a folder, a Hub repo, or an SAE; by default the SAE inside hf-sae-select.
    threshold (float): only activations above it count as features; by default the SAE's calibrated value.
    top (int): only the `top` strongest features of each text count, so that long texts weigh less; by default all.
    max_length (int): read only the first `max_length` tokens of each text; by default all.
    batch_size (int): windows per forward pass, 32 by default; memory and speed, never the result.

Returns:
    coverage (int): the distinct features of `data`.
    richness (float): the mean number of features of a text.
    redundancy (float): the mean Jaccard similarity of two texts, from 0 to 1; nan for a single text.
    length_correlation (float): Pearson's r of a text's number of tokens and its number of features; nan if undefined.
    With `reference` also:
    reference_coverage (int): the distinct features of `reference`.
    reference_share (float): the share of those that `data` covers too; nan if there are none.
    reference_missing (int): the number of those that `data` lacks.
    overlap (float): the Jaccard similarity of what the two cover, from 0 to 1.
"""

CITATION = """\
@article{yang2025diversity,
  title  = {Diversity-driven Data Selection for Language Model Tuning through Sparse Autoencoder},
  author = {Yang, Xianjun and Nie, Shaoliang and Liu, Lijuan and Gururangan, Suchin and Karn, Ujjwal and
            Hou, Rui and Khabsa, Madian and Mao, Yuning},
  journal = {arXiv preprint arXiv:2502.14050},
  year   = {2025}
}
"""


class SaeDiversity(evaluate.Measurement):
    """Measure how many features of a sparse autoencoder a set of texts covers."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            # The columns listed here must be equally long: `reference`, which need not be, stays a plain argument.
            features=datasets.Features({"data": datasets.Value("string")}),
            license="apache-2.0",
            reference_urls=["https://arxiv.org/abs/2502.14050"],
        )

    def compute(
        self,
        *,
        data: Sequence[str] | None = None,
        reference: Sequence[str] | None = None,
        sae: SaeSource | None = None,
        threshold: float | None = None,
        top: int | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
    ) -> dict[str, float] | None:
        """Measure `data` and compare it with `reference`; without `data`, measure the texts passed to `add`."""
        # Evaluate itself would take a string for a list of letters, and drop arguments that it does not know.
        if data is None and self.writer is None:  # `add` opens the writer
            raise ValueError("`data` is missing; pass a list of strings, or `add` them first")
        data = None if data is None else _texts("data", data)
        reference = None if reference is None else _texts("reference", reference)
        _check_cut(threshold, top)
        cut = {"threshold": threshold, "top": top}
        options = {"max_length": max_length, "batch_size": batch_size}
        return super().compute(data=data, reference=reference, sae=load_sae(sae), **cut, **options)

    def _compute(
        self,
        data: Sequence[str],
        reference: Sequence[str] | None,
        sae: SparseAutoencoder,
        threshold: float | None,
        top: int | None,
        **options: Any,
    ) -> dict[str, float]:
        sets = [data] if reference is None else [data, reference]
        tables = [datasets.Dataset.from_dict({"text": list(texts)}) for texts in sets]
        # Encode each set alone, so that the cache serves a reference whatever it is compared with.
        coded = [encode(table, sae, text="text", **options) for table in tables]
        features = FeatureMatrix.from_dataset(datasets.concatenate_datasets(coded))
        features = features.above(sae.config.feature_threshold if threshold is None else threshold)
        features = features if top is None else features.top(top)
        numbers = _diversity(features, range(len(data)))
        return numbers if reference is None else numbers | _comparison(features, len(data))


def _texts(name: str, texts: Any) -> list[str]:
    """Check that `texts` is a collection of strings, and return it as a list: Evaluate reads lists by position."""
    # Iterating a dict gives its keys, a table its column names, and a set has no order.
    other = isinstance(texts, str | Mapping | Set) or getattr(texts, "ndim", 1) != 1
    if other or not isinstance(texts, Collection):
        kind = type(texts).__name__
        raise TypeError(f"`{name}` is a {kind}; it must be a list of strings: pass [text] for one text, or one column")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str):
            raise TypeError(f"`{name}` has {text!r}; it must be a list of strings: pass '' for a missing one")
    if not listed:
        raise ValueError(f"`{name}` is empty; pass at least one text")
    return listed


def _check_cut(threshold: Any, top: Any) -> None:
    if threshold is not None and not (_is_number(threshold, Real) and 0 <= threshold < math.inf):
        raise ValueError(f"`threshold={threshold!r}` must be a number >= 0, or None for the SAE's calibrated value")
    if top is not None and not (_is_number(top, Integral) and top >= 1):
        raise ValueError(f"`top={top!r}` must be a whole number >= 1, or None to count every feature")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _diversity(features: FeatureMatrix, rows: range) -> dict[str, float]:
    return {
        "coverage": metrics.coverage(features, rows),
        "richness": metrics.richness(features, rows),
        "redundancy": metrics.redundancy(features, rows),
        "length_correlation": metrics.length_correlation(features, rows),
    }


def _comparison(features: FeatureMatrix, n: int) -> dict[str, float]:
    """Compare the first `n` rows, the data, with the rest, the reference."""
    data, reference = range(n), range(n, len(features))
    covered = metrics.coverage(features, reference)
    missing = metrics.coverage(features) - metrics.coverage(features, data)
    return {
        "reference_coverage": covered,
        "reference_share": (covered - missing) / covered if covered else math.nan,
        "reference_missing": missing,
        "overlap": metrics.overlap(features, data, reference),
    }
