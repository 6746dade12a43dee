"""From which activation on does a row have a feature, so that `avoid="recipe"` leaves out the rows with recipes?

    python benchmarks/filters.py --data FOLDER

Each feature of the packaged SAE whose name is of plain words filters the rows of Alpaca, at shares of the SAE's
calibrated threshold. The truth is whether a row's text has one of the label's words. Features do not count if their
words are in fewer than 20 rows, or in more than a tenth of them. The labels were made from other text. The share is
chosen on features with even numbers, and confirmed on those with odd ones. FOLDER holds `alpaca_52k.parquet`.
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_sae_select import FeatureMatrix, Labels, load_labels
from hf_sae_select.features.columns import encoding_record

SHARES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # of the calibrated threshold
COLUMNS = ("instruction", "input", "output")
WORD, TERM = re.compile("[a-z]+"), re.compile("[a-z]+…?")
LEAST, MOST = 20, 0.1  # rows that have a word
Rows = NDArray[np.int64]


def rows_by_word(rows: Dataset) -> dict[str, list[int]]:
    """Return the rows that have each word."""
    index = defaultdict(list)
    for i, row in enumerate(rows.select_columns(list(COLUMNS))):
        for word in set(WORD.findall(" ".join(row[name] or "" for name in COLUMNS).lower())):
            index[word].append(i)
    return dict(index)


def true_rows(labels: Labels, index: dict[str, list[int]]) -> Iterator[tuple[int, Rows]]:
    """Yield each feature whose name consists of plain words, and the rows that have one of its words."""
    for feature in labels.named:
        terms = [term for term in labels[feature].words if TERM.fullmatch(term)]
        if not all(map(WORD.fullmatch, labels.name(feature).split("/"))) or not terms:
            continue
        beginnings = tuple(term[:-1] for term in terms if term.endswith("…"))
        words = {word for word in index if beginnings and word.startswith(beginnings)} | set(terms)
        yield feature, np.unique(np.concatenate([np.array(index.get(word, []), np.int64) for word in words]))


def figures(features: FeatureMatrix, feature: int, rows: Rows, thresholds: list[float]) -> list[tuple[float, ...]]:
    """Return precision, recall and F1 of a filter by a feature at each threshold."""
    kept = np.zeros(features.d_sae, np.bool_)
    kept[feature] = True
    own = features.of_features(kept)
    lines: list[tuple[float, ...]] = []
    for threshold in thresholds:
        filtered = np.flatnonzero(own.above(threshold).counts)
        right = len(np.intersect1d(filtered, rows))
        precision = right / len(filtered) if len(filtered) else np.nan
        lines.append((precision, right / len(rows), 2 * right / (len(filtered) + len(rows))))
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    rows = Dataset.from_parquet(str(parser.parse_args().data / "alpaca_52k.parquet")).sae_encode(keep="all")
    features, calibrated = FeatureMatrix.from_dataset(rows), encoding_record(rows)["threshold"]
    thresholds = [share * calibrated for share in SHARES]
    truth = {
        feature: own
        for feature, own in true_rows(load_labels(), rows_by_word(rows))
        if LEAST <= len(own) <= MOST * len(rows)
    }
    print("| share | threshold | features | precision | recall | F1 | recall below .1 |\n" + "|---" * 7 + "|")
    for name, odd in (("even", 0), ("odd", 1)):
        table = np.array([figures(features, j, own, thresholds) for j, own in truth.items() if j % 2 == odd])
        for k, share in enumerate(SHARES):
            medians = " | ".join(f"{value:.3f}" for value in np.nanmedian(table[:, k], axis=0))
            low = (table[:, k, 1] < 0.1).mean()
            print(f"| {share} | {thresholds[k]:.2f} | {len(table)} {name} | {medians} | {low:.1%} |")


if __name__ == "__main__":
    main()
