"""Select rows by the features of the decoder's SAE, and count the labels that the picks cover: a first look.

    python benchmarks/decoder/picks.py --data FOLDER --out FOLDER [--max-length 64]

The pool is one of `benchmarks/labelled.py`: 25 rows of each of the templates of T0 that are in half "a". Rows are
encoded by the SAE of autoencoder.py, and by the SAE of the package, which reads MiniLM. Each method picks as many rows
as there are labels, and twice as many, from several random parts of the pool. What as many rows at random cover, on
average, is subtracted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch
from autoencoder import device_name
from datasets import Dataset
from numpy.typing import NDArray

from hf_sae_select import load_sae

sys.path.append(str(Path(__file__).parent.parent))
from labelled import Pool, pools, universe

POOL, HALF = "t0-a, balanced", "a"
METHODS = ("greedy", "simscale", "match", "random", "longest")
PART, PARTS = 0.8, 6  # share of the pool that is selected from, and how many such parts
CHANCE = 500  # draws of random rows that chance is the mean of


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    rows = universe(args.data)
    pool = next(pool for pool in pools(rows, HALF, 1) if pool.name == POOL)
    texts = rows.select(pool.rows.tolist()).select_columns(["text", "label"])
    saes = {"decoder": args.out / "sae", "packaged, MiniLM": None}
    print(f"device {device_name(args.device)}; {POOL}: {len(texts):,} rows, {len(set(pool.labels))} labels")
    table = {name: lifts(encoded(texts, sae, args), pool) for name, sae in saes.items()}
    print("\n| labels covered beyond chance, points | " + " | ".join(table) + " |")
    print("|---" * (len(table) + 1) + "|")
    for method in METHODS:
        cells = [f"{column[method].mean():+.1f} ± {column[method].std():.1f}" for column in table.values()]
        print(f"| `{method}` | " + " | ".join(cells) + " |")


def encoded(texts: Dataset, sae: Path | None, args: argparse.Namespace) -> Dataset:
    """Encode, the decoder in bfloat16, and tell how long it took and how many features a row has."""
    started = time.perf_counter()
    dtype = "float32" if sae is None else "bfloat16"
    rows = texts.sae_encode(sae, text="text", max_length=args.max_length, dtype=dtype, device=args.device)
    seconds, threshold = time.perf_counter() - started, load_sae(sae).config.feature_threshold
    features = np.mean([np.sum(np.array(acts) > threshold) for acts in rows["sae_acts"]])
    tokens = sum(rows["sae_tokens"])
    print(f"{sae or 'packaged SAE'}: {tokens:,} tokens in {seconds:.0f} s; {features:.0f} features a row", flush=True)
    return rows


def lifts(rows: Dataset, pool: Pool) -> dict[str, NDArray[np.float64]]:
    """Return of each method the share of labels covered beyond chance, in points, in each part of the pool."""
    points: dict[str, list[float]] = {method: [] for method in METHODS}
    for part in range(PARTS):
        rng = np.random.default_rng(part)
        places = rng.permutation(len(rows))[: round(PART * len(rows))]
        labels, subset = pool.labels[places], rows.select(places.tolist())
        number = len(set(labels))
        for method in METHODS:
            picks = subset.sae_select(2 * number, method, seed=part).sae_selection.indices
            covered = [covered_share(labels, picks[:budget]) for budget in (number, 2 * number)]
            chance = [by_chance(labels, budget, rng) for budget in (number, 2 * number)]
            points[method].append(100 * float(np.mean(covered) - np.mean(chance)))
    return {method: np.array(values) for method, values in points.items()}


def covered_share(labels: NDArray[np.str_], picks: NDArray[np.int64]) -> float:
    return len(set(labels[picks])) / len(set(labels))


def by_chance(labels: NDArray[np.str_], budget: int, rng: np.random.Generator) -> float:
    """Return the mean share of labels that so many random rows cover."""
    draws = [rng.permutation(len(labels))[:budget] for _ in range(CHANCE)]
    return float(np.mean([covered_share(labels, draw) for draw in draws]))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench, with the SAE")
    parser.add_argument("--max-length", type=int, default=64, help="tokens of a row (default: %(default)s)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
