"""What one dataset lacks of another, how long that takes, and how well a few rows find the features of a concept.

    python benchmarks/contrast.py --pool FOLDER/alpaca_52k.parquet --reference FOLDER/alpaca_eval_805.parquet

A concept is the rows of the pool whose instruction or input matches a pattern. Of these, a few are drawn; features are
ranked by several scores; and the best feature, or any of the best three, says of all other rows whether they have the
concept. The balanced accuracy of that is averaged over concepts and draws. The rows are encoded first where the cache
of `datasets` does not have their codes.
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_sae_select import FeatureMatrix, diff, find_features, missing_features
from hf_sae_select.concepts.contrast import Contrast, FeatureContrast
from hf_sae_select.features.columns import encoding_record

CONCEPTS = {
    "cooking": r"\b(recipe|cook|bake|ingredients?|dish)\b",
    "sql": r"\bSQL\b",
    "poems": r"\b(haiku|poem|poetry)\b",
    "translation": r"\btranslat",
    "health": r"\b(disease|diet|healthy|vitamin|symptoms?)\b",
    "sport": r"\b(football|soccer|basketball|tennis|baseball)\b",
    "music": r"\b(song|music|band|lyrics)\b",
    "email": r"\bemail\b",
    "tweets": r"\btweet\b",
    "jokes": r"\bjokes?\b",
    "code": r"\b(python|java|javascript|function that)\b",
    "climate": r"\b(climate|global warming|greenhouse)\b",
    "animals": r"\b(dog|cat|elephant|lion|tiger)s?\b",
    "travel": r"\b(travel|vacation|trip|itinerary)\b",
    "applications": r"\b(resume|job interview|cover letter)\b",
    "space": r"\b(planet|solar system|moon|astronaut|galaxy)s?\b",
    "countries": r"\b(capital (city )?of|country)\b",
    "mathematics": r"\b(calculate|equation|triangle|square root)\b",
    "films": r"\b(movie|film)s?\b",
    "cars": r"\b(car|cars|vehicle)\b",
    "web": r"\b(html|css|website)\b",
    "grammar": r"\b(grammar|grammatical|punctuation)\b",
    "stories": r"\b(short story|fairy tale)\b",
    "love": r"\b(love|romantic|wedding)\b",
    "plants": r"\b(plants?|garden|flowers?|trees?)\b",
}
SCORES: dict[str, Callable[[FeatureContrast], float]] = {
    "log-likelihood ratio (the order of the table)": lambda feature: feature.log_likelihood_ratio,
    "lower end of the interval of the lift": lambda feature: feature.low,
    "lift": lambda feature: feature.lift,
    "difference of the shares": lambda feature: feature.other.share - feature.base.share,
    "share": lambda feature: feature.other.share,
}


def main() -> None:
    args = arguments()
    pool, reference = (Dataset.from_parquet(str(file)).sae_encode() for file in (args.pool, args.reference))
    print(f"pool: {len(pool):,} rows; reference: {len(reference):,} rows\n\n{missing_features(pool, reference)}\n")
    threshold = encoding_record(pool)["threshold"]
    features = FeatureMatrix.from_dataset(pool, threshold=threshold)
    others = FeatureMatrix.from_dataset(reference, threshold=threshold)
    half = len(pool) // 2
    first, second = pool.select(range(half)), pool.select(range(half, len(pool)))
    calls: dict[str, Callable[[], Any]] = {
        "missing_features, datasets": lambda: missing_features(pool, reference),
        "missing_features, with texts": lambda: missing_features(pool, reference, show_texts=True),
        "missing_features, matrices": lambda: missing_features(features, others),
        "diff of two halves": lambda: diff(first, second),
        "find_features of three rows": lambda: find_features(pool, [0, 1, 2]),
    }
    for name, call in calls.items():
        call()  # compiles
        started, used = time.perf_counter(), time.process_time()
        call()
        print(f"{name:<30}{time.perf_counter() - started:>8.2f} s{time.process_time() - used:>8.2f} s of CPU")
    shuffled = np.random.default_rng(0).permutation(len(pool))
    chance = diff(pool.select(shuffled[:half]), pool.select(shuffled[half:]))
    print(f"\nlisted features of two random halves: {len(chance)}")
    texts = [f"{row['instruction']} {row['input']}" for row in pool.select_columns(["instruction", "input"])]
    concepts = [
        np.array([bool(re.search(pattern, text, re.IGNORECASE)) for text in texts]) for pattern in CONCEPTS.values()
    ]
    for rows in (1, 3, 10):
        accuracies = measured(features, concepts, rows, args.draws)
        print(f"\n{rows} row{'s' * (rows != 1)} of a concept; balanced accuracy of the best feature, of any of three")
        for name, (best, three) in zip(SCORES, accuracies, strict=True):
            print(f"{name:<48}{best:>6.3f}{three:>7.3f}")


def measured(features: FeatureMatrix, concepts: list[NDArray[np.bool_]], rows: int, draws: int) -> NDArray[np.float64]:
    """Return the mean balanced accuracy of each score, of the best feature and of any of three: [scores, 2]."""
    rng, results = np.random.default_rng(0), []
    for concept in concepts:
        for _ in range(draws):
            drawn = rng.choice(np.flatnonzero(concept), rows, replace=False)
            table = find_features(features, drawn, examples=0)
            results.append(
                [[accuracy(features, concept, drawn, ids) for ids in best(table, s)] for s in SCORES.values()]
            )
    return np.asarray(np.mean(results, axis=0))


def best(table: Contrast, score: Callable[[FeatureContrast], float]) -> list[list[int]]:
    """Return the best feature and the best three by a score."""
    ids = [feature.feature for feature in sorted(table, key=lambda feature: -score(feature))]
    return [ids[:1], ids[:3]]


def accuracy(features: FeatureMatrix, concept: NDArray[np.bool_], drawn: NDArray[np.int64], ids: list[int]) -> float:
    """Return the balanced accuracy, on all rows but those drawn, of saying that a row with any of `ids` has it."""
    row_of_entry = np.repeat(np.arange(len(features)), features.counts)
    has_feature = np.zeros(len(features), np.bool_)
    has_feature[row_of_entry[np.isin(features.ids, ids)]] = True
    is_tested = np.ones(len(features), np.bool_)
    is_tested[drawn] = False
    return float((has_feature[is_tested & concept].mean() + (~has_feature[is_tested & ~concept]).mean()) / 2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", type=Path, required=True, help="a Parquet file")
    parser.add_argument("--reference", type=Path, required=True, help="a Parquet file")
    parser.add_argument("--draws", type=int, default=8, help="draws of rows of each concept")
    return parser.parse_args()


if __name__ == "__main__":
    main()
