"""Do the labels of features hold on other text, and are they more than any words would be?

    python benchmarks/labels.py --data FOLDER [--share 0.5] [--tiny]

Labels are made by `label_features` for the packaged SAE and for one with random weights, from the same documents, and
judged on three kinds of text: the half of the documents that is held out, and rows of other datasets. Shuffled labels
give each feature the words of another one. A feature counts if it fires in 0.1 to 20 % of the contexts of the
documents, and in at least five of those that judge. FOLDER holds the Parquet files of `examples/label_default_sae.py`
and of `OTHERS`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset

from hf_sae_select import Labels, SparseAutoencoder, label_features, load_labels, load_sae
from hf_sae_select.concepts.contexts import Contexts, contexts_of
from hf_sae_select.concepts.predictors import Score, score

sys.path.append(str(Path(__file__).parent.parent / "examples"))
from control import random_sae
from label_default_sae import TOKENS, documents
from train_default_sae import lines

OTHERS = {  # rows of each, and their text
    "alpaca_52k": (3000, ("instruction", "input", "output")),
    "evol_codealpaca_4k": (800, ("instruction", "output")),
    "alpaca_eval_805": (805, ("instruction", "output")),
    "ultrachat_200": (200, ("prompt",)),
    "selfinstruct_seed_175": (175, ("instruction",)),
}
LEAST, MOST, FIRES = 0.001, 0.2, 5
GOOD = 0.75
BEGINS = (0.0, 0.6, 0.65, 0.7, 0.75, 1.0)  # of intervals


def others(folder: Path, share: float) -> Iterator[str]:
    """Yield rows of datasets that no label was made from, drawn by a seed."""
    for name, (number, columns) in OTHERS.items():
        rows: Dataset = load_dataset("parquet", data_files=str(folder / f"{name}.parquet"), split="train")
        order = list(range(len(rows)))
        random.Random(1).shuffle(order)
        yield from map(lines(*columns), rows.select(order[: round(share * number)]))


def shuffled(labels: Labels) -> dict[int, tuple[str, ...]]:
    """Return the words of each feature that counts, exchanged among these features."""
    features = counted(labels)
    order = np.random.default_rng(0).permutation(len(features))
    return {feature: labels[features[i]].words for feature, i in zip(features, order.tolist(), strict=True)}


def counted(labels: Labels) -> list[int]:
    return [label.feature for label in labels if LEAST <= label.frequency <= MOST]


def line(name: str, scores: Mapping[int, Score]) -> str:
    """Return a row of the table."""
    values = np.array([result.accuracy for result in scores.values() if result.fires >= FIRES])
    good = np.mean(values >= GOOD) if len(values) else np.nan
    return f"| {name} | {len(values):,} | {np.median(values):.3f} | {100 * good:.1f} % |"


def report(name: str, labels: Labels, contexts: Mapping[str, Contexts]) -> None:
    for text, some in contexts.items():
        mask = some.held_out if text == "held out" else np.ones(len(some), np.bool_)
        words = {feature: labels[feature].words for feature in counted(labels)}
        print(line(f"{name}, {text}", score(some, words, mask)), flush=True)
        print(line(f"{name}, shuffled, {text}", score(some, shuffled(labels), mask)), flush=True)


def failures(labels: Labels, contexts: Contexts) -> None:
    """Print how many of the labels with a good score are below it on other text, by where their intervals begin."""
    good = [label for label in labels if label.score >= GOOD]
    scores = score(contexts, {label.feature: label.words for label in good}, np.ones(len(contexts), np.bool_))
    print("| interval begins in | labels | judged | below 0.75 |\n|---|---|---|---|")
    for low, high in pairwise(BEGINS):
        inside = [label.feature for label in good if low <= label.interval[0] < high]
        values = [scores[feature].accuracy for feature in inside if scores[feature].fires >= FIRES]
        print(f"| {low} to {high} | {len(inside):,} | {len(values):,} | {sum(value < GOOD for value in values):,} |")


def main() -> None:
    args = arguments()
    share = 0.01 if args.tiny else args.share
    own, other = (Dataset.from_dict({"text": list(texts(args.data, share))}) for texts in (documents, others))
    saes: dict[str, SparseAutoencoder] = {"packaged SAE": load_sae(), "random weights": random_sae()}
    options: dict[str, Any] = {"max_length": TOKENS, "context_size": TOKENS}
    print("| labels | features | median | at 0.75 or more |\n|---|---|---|---|")
    for name, sae in saes.items():
        contexts = {
            "held out": contexts_of(own, range(len(own)), sae, **options)[0],
            "other sources": contexts_of(other, range(len(other)), sae, **options)[0],
        }
        start = time.perf_counter()
        labels = label_features(own, sae, rows=len(own), examples=0, **options)
        seconds = time.perf_counter() - start
        report(name, labels, contexts)
        print(f"{name}: {len(own):,} rows labelled in {seconds:.0f} s", file=sys.stderr)
        if name == "packaged SAE" and not args.tiny:
            report("shipped labels", load_labels(), {"other sources": contexts["other sources"]})
            failures(load_labels(), contexts["other sources"])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the Parquet files")
    parser.add_argument("--share", type=float, default=1.0, help="of the documents and rows to read (default: all)")
    parser.add_argument("--tiny", action="store_true", help="a hundredth of them, to see that it runs")
    return parser.parse_args()


if __name__ == "__main__":
    main()
