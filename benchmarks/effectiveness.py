"""Measure what the rows that each method picks are worth, on pools whose labels are known.

    python benchmarks/effectiveness.py --data FOLDER --out RESULTS [--draws 6] [--halves a b] [--learn]

Every pool (see labelled.py) is drawn several times; on each draw every method picks, and a line goes to
RESULTS/picks.jsonl: labels covered, entropy of their shares, near-duplicates, junk, length, and the accuracy of
a linear probe trained on the picked rows alone. With `--learn` a small decoder is tuned on rows picked from the
mixtures, at equal rows and at equal tokens (RESULTS/learnt.jsonl). A run that was interrupted goes on; at the end the
tables are printed, with intervals over the draws, and `--figures FOLDER` draws them.

Encoding takes longest, twice: by the default SAE and by one with random weights. `datasets` keeps it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import torch
from control import random_sae
from datasets import Dataset
from effects import draw_figures, print_tables
from labelled import MIXTURES, Pool, other_passages, pools, universe
from learners import Base, cut_to_tokens, pretrained, probe_accuracy, tuned_loss
from numpy.typing import NDArray

from hf_sae_select import METHODS, FeatureMatrix, load_sae, select_indices
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.features.columns import STATE
from hf_sae_select.features.metrics import length_correlation
from hf_sae_select.selection.cuts import Cuts

MAX_LENGTH = 256  # tokens of a row that are read: one window
RULES = ("match", "greedy", "simscale", "weighted", "concave")
PROBED = 3  # draws on which the probe is fitted
HELD_OUT = 2000  # rows at most that a probe is tried on
LEARNT = (
    *("match", "match, random weights", "greedy", "simscale"),
    *("facility_location", "random", "length-matched", "longest"),
)
ROWS, TUNED = 300, 65_536  # rows picked to tune on, and tokens of training
SEEDS = 6


class Codes(NamedTuple):
    """Hold one way of turning rows into features, and the threshold of those of its rules that want one."""

    features: FeatureMatrix
    threshold: float


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = all_rows(args)
    known = all_codes(rows)
    measure_picks(args, rows, known)
    if args.learn:
        measure_learning(args, rows, known)
    lines = {name: read(args.out / f"{name}.jsonl") for name in ("picks", "learnt")}
    print_lengths(known)
    print_tables(lines, args.halves)
    if args.figures:
        draw_figures(lines, args.figures)


def print_lengths(known: dict[str, Codes]) -> None:
    """Print how closely the number of a row's features follows its length."""
    print("| Pearson's r of a row's tokens and features | above the threshold | all |\n|---|---|---|")
    for label, (features, threshold) in known.items():
        found = [length_correlation(each) for each in (features.above(threshold), features)]
        print(f"| {label or 'default SAE'} | " + " | ".join(f"{r:.2f}" for r in found) + " |")


# Rows and their features


def all_rows(args: argparse.Namespace) -> Dataset:
    """Return the universe from a file, so that `datasets` knows its codes again."""
    file = args.out / "universe.parquet"
    if not file.exists():
        universe(args.data).to_parquet(f"{file}.part")
        Path(f"{file}.part").rename(file)
    return Dataset.from_parquet(str(file))


def all_codes(rows: Dataset) -> dict[str, Codes]:
    """Encode by the default SAE (label ""), by the same with random weights, and by counting word pieces."""
    ours = default_codes(rows)
    coded = rows.sae_encode(random_sae(), text="text", max_length=MAX_LENGTH)
    features = FeatureMatrix.from_dataset(coded)
    # so high that a row has as many features as by the default SAE at its threshold
    share = (ours.features.acts > ours.threshold).sum() / len(features.acts)
    random = Codes(features, float(np.quantile(features.acts, 1 - share)))
    return {"": ours, "random weights": random, "words": word_counts(rows)}


def default_codes(rows: Dataset) -> Codes:
    """Encode by the default SAE, and keep the vectors of the methods that compare them."""
    coded = rows.sae_encode(text="text", keep="state", max_length=MAX_LENGTH)
    return Codes(FeatureMatrix.from_dataset(coded, vectors=STATE), load_sae().config.feature_threshold)


def word_counts(rows: Dataset, max_length: int = MAX_LENGTH) -> Codes:
    """Count the word pieces of each row: the bag of words that any SAE has to beat."""
    config = load_sae().config
    model = LanguageModel.of(config, revision=config.model_revision, device=torch.device("cpu"), dtype="float32")
    how = {"add_special_tokens": False, "truncation": True, "max_length": max_length - 2}
    pieces = model.tokenizer(rows["text"][:], **how)["input_ids"]
    found = [np.unique(np.array(ids, np.uint16), return_counts=True) for ids in pieces]
    offsets = np.cumsum([0, *(len(ids) for ids, _ in found)])
    ids, counts = (np.concatenate(parts) for parts in zip(*found, strict=True))
    tokens = np.array(list(map(len, pieces)), np.int32)
    return Codes(FeatureMatrix(offsets, ids, counts.astype(np.float32), len(model.tokenizer), tokens), 0.0)


# Methods


def methods() -> dict[str, tuple[str, str]]:
    """Return the methods by label, each with its rule and the codes that it goes by."""
    found = {rule: (rule, "") for rule in RULES}
    found |= {f"{rule}, {label}": (rule, label) for label in ("random weights", "words") for rule in RULES}
    others = ("facility_location", "kcenter", "kmeans", "random", "length-matched", "longest")
    return found | {rule: (rule, "") for rule in others}


def picked(pool: Pool, label: str, known: dict[str, Codes], budget: int) -> NDArray[np.int64]:
    """Pick `budget` places in the pool, by the options that the method has by default."""
    rule, codes_label = methods()[label]
    features = known[codes_label].features.take(pool.rows)
    if rule == "kmeans":
        return kmeans(features.vectors, budget, pool.draw)
    if rule == "length-matched":
        return length_matched(features.tokens, budget, pool.draw)
    selector = METHODS[rule]
    threshold = known[codes_label].threshold if selector.threshold is None else selector.threshold
    return select_indices(Cuts(threshold, selector.top).apply(features), budget, rule, seed=pool.draw).indices


def kmeans(vectors: Any, budget: int, seed: int) -> NDArray[np.int64]:
    """Pick the row nearest to each centre of k-means over the centred unit vectors; other rows where two share one."""
    unit = vectors - vectors.mean(axis=0)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-9)
    rng = np.random.default_rng(seed)
    centers = unit[rng.choice(len(unit), budget, replace=False)]
    for _ in range(20):
        nearest = (unit @ centers.T - (centers**2).sum(axis=1) / 2).argmax(axis=1)
        sums = np.zeros_like(centers)
        np.add.at(sums, nearest, unit)
        counts = np.bincount(nearest, minlength=budget)[:, None]
        centers = np.where(counts > 0, sums / np.maximum(counts, 1), centers)
    best = (unit @ centers.T - (centers**2).sum(axis=1) / 2).argmax(axis=0)
    return np.array(list(dict.fromkeys([*best.tolist(), *rng.permutation(len(unit)).tolist()]))[:budget])


def length_matched(tokens: NDArray[np.int32], budget: int, seed: int) -> NDArray[np.int64]:
    """Draw at random one row from each of `budget` stretches of the rows in order of length."""
    rng = np.random.default_rng(seed)
    parts = np.array_split(np.argsort(tokens, kind="stable"), budget)
    return rng.permutation([rng.choice(part) for part in parts])  # its first rows are no shorter than its last


# What the picks are worth


def measure_picks(args: argparse.Namespace, rows: Dataset, known: dict[str, Codes]) -> None:
    file, probe = args.out / "picks.jsonl", Probe(rows, known[""].features.vectors)
    done = {(line["pool"], line["draw"], line["method"]) for line in read(file)}
    for half in args.halves:
        for pool in pools(rows, half, args.draws):
            for label in methods():
                if (pool.name, pool.draw, label) in done:
                    continue
                line = {"half": half, "pool": pool.name, "draw": pool.draw, "method": label}
                append(file, line | {"found": dict(worth(pool, label, known, probe))})


def worth(pool: Pool, label: str, known: dict[str, Codes], probe: Probe) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what the picks of each budget are worth; but for two methods, a smaller one's are a larger one's first."""
    largest = max(pool.budgets.values())
    first = None if label in ("kmeans", "length-matched") else picked(pool, label, known, largest)
    for name, budget in pool.budgets.items():
        picks = picked(pool, label, known, budget) if first is None else first[:budget]
        found = counted(pool, picks, known[""].features.tokens)
        if pool.draw < PROBED and "x" in name:
            found["probe"] = probe(pool, picks)
        yield name, found


def counted(pool: Pool, picks: NDArray[np.int64], tokens: NDArray[np.int32]) -> dict[str, float]:
    labels = pool.labels[~pool.junk]
    _, there = np.unique(pool.labels[picks][~pool.junk[picks]], return_counts=True)
    shares = there / there.sum()
    origins = pool.origin[picks]
    return {
        "coverage": len(there) / len(set(labels)),
        "by chance": by_chance(labels, len(pool.rows), len(picks)),
        "entropy": float(-(shares * np.log(shares)).sum() / np.log(len(set(labels)))),
        "duplicates": 1 - len(set(origins)) / len(origins),
        "junk": float(pool.junk[picks].mean()),
        "length": float(tokens[pool.rows[picks]].mean() / tokens[pool.rows].mean()),
    }


def by_chance(labels: NDArray[np.str_], rows: int, budget: int) -> float:
    """Return the coverage to expect of `budget` rows at random: the mean over all draws that there are."""
    _, counts = np.unique(labels, return_counts=True)
    logs = np.concatenate([[0.0], np.log(np.arange(1, rows + 1)).cumsum()])  # of factorials
    left = rows - counts
    none = logs[left] + logs[rows - budget] - logs[np.maximum(left - budget, 0)] - logs[rows]
    return float(1 - np.where(left >= budget, np.exp(none), 0).mean())


class Probe:
    """Fit a probe to picks, junk left out, and try it on rows that are not in the pool, the same for all methods."""

    def __init__(self, rows: Dataset, vectors: Any) -> None:
        self.vectors, self.labels = vectors, np.array(rows["label"][:])
        self.plain = np.flatnonzero(~np.isin(np.array(rows["source"][:]), ("copy", "junk")))

    def __call__(self, pool: Pool, picks: NDArray[np.int64]) -> float:
        free = np.setdiff1d(self.plain, np.concatenate([pool.rows, pool.origin]))
        free = free[np.isin(self.labels[free], pool.labels)]
        held_out = np.random.default_rng(pool.draw).permutation(free)[:HELD_OUT]
        return probe_accuracy(self.vectors, self.labels, pool.rows[picks[~pool.junk[picks]]], held_out)


# What a language model learns from them


def measure_learning(args: argparse.Namespace, rows: Dataset, known: dict[str, Codes]) -> None:
    file, base = args.out / "learnt.jsonl", pretrained(other_passages(args.data), args.out / "base")
    done = {(line["pool"], line["draw"], line["method"], line["equal"]) for line in read(file)}
    mixtures = [pool for half in args.halves for pool in pools(rows, half, SEEDS) if "mixture" in pool.name]
    for pool in mixtures:
        unseen, there = held_out_texts(rows, pool), [rows["text"][int(row)] for row in pool.rows]
        for label in LEARNT:
            for equal in ("rows", "tokens"):
                if (pool.name, pool.draw, label, equal) in done:
                    continue
                texts = [there[i] for i in picked(pool, label, known, ROWS if equal == "rows" else 3 * ROWS)]
                texts = texts if equal == "rows" else cut_to_tokens(base, texts, usual_tokens(base, there))
                loss = tuned_loss(base, texts, unseen, pool.draw, TUNED)
                line = {"half": pool.name[-1], "pool": pool.name, "draw": pool.draw, "method": label, "equal": equal}
                append(file, line | {"rows": len(texts), "loss": loss})


def held_out_texts(rows: Dataset, pool: Pool) -> dict[str, list[str]]:
    """Return rows of each source of a mixture that are not in the pool, and no copies of one that is."""
    sources, origins = np.array(rows["source"][:]), set(pool.origin.tolist())
    found = {}
    for source in MIXTURES[pool.name[-1]]:
        free = [row for row in np.flatnonzero(sources == source) if row not in origins]
        found[source] = [rows["text"][int(row)] for row in np.random.default_rng(0).permutation(free)[:100]]
    return {source: texts for source, texts in found.items() if len(texts) >= 20}


def usual_tokens(base: Base, texts: list[str]) -> int:
    """Return the tokens, cut as in training, of as many rows as are picked, of the mean length in the pool."""
    return round(ROWS * np.mean([len(row) for row in base.rows(texts)]))


# Files


def read(file: Path) -> list[dict[str, Any]]:
    """Read what was measured; a line that was cut off is taken out, to be measured again."""
    text = file.read_text() if file.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        file.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


def append(file: Path, line: dict[str, Any]) -> None:
    with file.open("a") as lines:
        lines.write(json.dumps(line) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder for what is measured; a second run goes on there"
    )
    parser.add_argument("--halves", nargs="+", default=["a", "b"], choices=["a", "b"])
    parser.add_argument("--draws", type=int, default=6)
    parser.add_argument("--learn", action="store_true", help="tune the decoder too: an hour")
    parser.add_argument("--figures", type=Path, help="folder for the figures of docs/methods.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
