"""How many planted near-duplicates each comparison of rows finds, and what else it takes for one.

    python benchmarks/duplicates.py --data FOLDER

In two pools, rows of Alpaca and of Dolly, some rows get a copy that is changed by hand-written rules; sums of GSM8K
get a copy with other numbers, which is no duplicate. Compared are: the cosine of the shares of features, as `dedup`
has it; the Jaccard similarity of stretches of five words, as MinHash bounds it (exact, so without its misses); and
the cosine of the mean hidden states that the SAE reads, as they are and less their mean over the pool.

Precision counts pairs of all rows but for the sums. Pairs of the sources themselves count as wrong, though some are
near-duplicates: it is a lower bound. The bound of each comparison is chosen in the pool of Alpaca, the smallest whose
precision is 95 %, and used in both.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from datasets import Dataset
from labelled import edited, joined
from numpy.typing import NDArray
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from hf_sae_select import FeatureMatrix
from hf_sae_select.features.leaders import unit_rows
from hf_sae_select.features.shares import Shares
from hf_sae_select.selection.minhash import shingles
from hf_sae_select.selection.ngrams import normalised

ROWS, COPIES = 1500, 100  # rows of a pool, and changed copies of each kind
PRECISION = 0.95
BOUNDS = np.round(np.arange(0.3, 1.0, 0.01), 2)
SHOWN = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
PREFIX = "Please read the following carefully and answer it as well as you can. "
SYNONYMS = """big large|small little|quick fast|begin start|help assist|buy purchase|show display|create generate
important significant|use utilize|many numerous|happy glad|hard difficult|easy simple|end finish|need require
give provide|get obtain|about regarding|also additionally|but however|because since|good great|bad poor|think believe
answer reply|make produce|explain clarify|describe depict|find locate|improve enhance|method technique|people persons
often frequently|job occupation|kids children|picture image|story tale|list enumerate|choose select|keep retain
change alter|different distinct|enough sufficient|main principal|reduce decrease|increase raise|house home"""
CONTRACTIONS = """do not=don't|does not=doesn't|did not=didn't|is not=isn't|are not=aren't|was not=wasn't|cannot=can't
it is=it's|that is=that's|they are=they're|we are=we're|you are=you're|i am=i'm|will not=won't|would not=wouldn't
could not=couldn't|should not=shouldn't|i have=i've|there is=there's|what is=what's"""


def replaced(text: str, table: dict[str, str]) -> tuple[str, int]:
    """Replace words or phrases by those of a table; return the text and how many were replaced."""
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, table))})\b", re.IGNORECASE)
    return pattern.subn(lambda match: table[match[0].lower()], text)


def both_ways(table: str, separator: str) -> dict[str, str]:
    pairs = [pair.split(separator) for pair in re.split(r"[|\n]", table)]
    return {word: other for a, b in pairs for word, other in ((a, b), (b, a))}


def case(text: str, draw: random.Random) -> str | None:
    return re.sub(r"[.,;:!?]", "", text).upper()


def words(text: str, draw: random.Random) -> str | None:
    row = text.split()
    for _ in range(max(len(row) // 10, 1)):
        row = edited(row, draw.randrange(len(row)), draw.randrange(3))
    return " ".join(row)


def contractions(text: str, draw: random.Random) -> str | None:
    result, n = replaced(text, both_ways(CONTRACTIONS, "="))
    return result if n else None


def synonyms(text: str, draw: random.Random) -> str | None:
    result, n = replaced(text, both_ways(SYNONYMS, " "))
    return result if n >= 2 else None


def order(text: str, draw: random.Random) -> str | None:
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return " ".join([*sentences[len(sentences) // 2 :], *sentences[: len(sentences) // 2]]) if sentences[2:] else None


def prefix(text: str, draw: random.Random) -> str | None:
    return PREFIX + text


def truncated(text: str, draw: random.Random) -> str | None:
    row = text.split()
    return " ".join(row[: 7 * len(row) // 10]) if len(row) >= 20 else None


def paraphrase(text: str, draw: random.Random) -> str | None:
    """Change synonyms, contractions and the order of sentences, and put a sentence before all."""
    changed = synonyms(text, draw)
    moved = None if changed is None else order(changed, draw)
    return None if moved is None else prefix(contractions(moved, draw) or moved, draw)


def numbers(text: str, draw: random.Random) -> str | None:
    """Replace each number by another of as many digits: the same form, and another sum."""
    return re.sub(r"\d+", lambda match: "".join(str(draw.randint(1, 9)) for _ in match[0]), text)


KINDS: dict[str, Callable[[str, random.Random], str | None]] = {
    kind.__name__: kind for kind in (case, words, contractions, synonyms, order, prefix, truncated, paraphrase)
}


def planted(rows: pd.Series, sums: pd.Series) -> pd.DataFrame:
    """Return rows with their changed copies: `text`, `kind` and `origin`, the row that a copy is of."""
    draw, free = random.Random(0), list(range(len(rows)))
    copies: list[dict[str, Any]] = []
    for name, change in KINDS.items():
        able = [i for i in free if len(rows[i].split()) >= 10 and change(rows[i], random.Random(0)) is not None]
        chosen = draw.sample(able, min(COPIES, len(able)))
        free = sorted(set(free) - set(chosen))
        copies += [{"text": change(rows[i], draw), "kind": name, "origin": i} for i in chosen]
    first = len(rows)
    copies += [{"text": text, "kind": "sum", "origin": first + i} for i, text in enumerate(sums)]
    copies += [{"text": numbers(text, draw), "kind": "numbers", "origin": first + i} for i, text in enumerate(sums)]
    own = pd.DataFrame({"text": rows, "kind": "own", "origin": range(len(rows))})
    return pd.concat([own, pd.DataFrame(copies)], ignore_index=True)


def similarities(table: pd.DataFrame) -> dict[str, NDArray[np.float32]]:
    """Return the similarity of all pairs of rows by each comparison."""
    coded = Dataset.from_pandas(table[["text"]], preserve_index=False).sae_encode(keep="state")
    features = FeatureMatrix.from_dataset(coded, "sae_state")
    shares = Shares.of_strongest(features, np.arange(len(features)))
    offsets, ids = shares.features.offsets, shares.features.ids
    unit = csr_array((unit_rows(offsets, shares.amounts), ids.astype(np.int32), offsets)).toarray()
    state = features.vectors
    assert state is not None
    return {
        "features": unit @ unit.T,
        "MinHash": jaccard([shingles(normalised(text)) for text in table["text"]]),
        "MiniLM": cosines(state),
        "MiniLM, centred": cosines(state - state.mean(axis=0)),
    }


def cosines(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(unit @ unit.T)


def jaccard(rows: list[set[str]]) -> NDArray[np.float32]:
    number: dict[str, int] = {}
    entries = [[number.setdefault(shingle, len(number)) for shingle in sorted(row)] for row in rows]
    sizes = np.array([len(row) for row in entries])
    offsets = np.concatenate([[0], sizes.cumsum()])
    matrix = csr_array((np.ones(offsets[-1], np.float32), np.concatenate(entries), offsets))
    both = (matrix @ matrix.T).toarray()
    return np.asarray(both / (sizes[:, None] + sizes - both), np.float32)


def figures(table: pd.DataFrame, scores: NDArray[np.float32], bound: float) -> dict[str, float]:
    """Return precision, recall of all kinds and of each, and the share of sums that are taken for their copies."""
    kind, origin = table["kind"].to_numpy(), table["origin"].to_numpy()
    is_copy = np.isin(kind, list(KINDS))
    place = {row: i for i, row in enumerate(origin) if kind[i] in ("own", "sum")}
    own = np.array([scores[i, place[origin[i]]] for i in range(len(table))])
    plain = np.flatnonzero(~np.isin(kind, ["sum", "numbers"]))
    pairs = np.triu(scores[np.ix_(plain, plain)] >= bound, 1)
    right = pairs & (origin[plain][:, None] == origin[plain])
    result = {"precision": right.sum() / max(pairs.sum(), 1), "recall": (own[is_copy] >= bound).mean()}
    result |= {name: (own[kind == name] >= bound).mean() for name in KINDS}
    return result | {"numbers": (own[kind == "numbers"] >= bound).mean()}


def line(name: str, bound: float, values: dict[str, float]) -> str:
    return f"| {name} | {bound:.2f} | " + " | ".join(f"{value:.0%}" for value in values.values()) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder of alpaca_52k.parquet and others")
    data = parser.parse_args().data
    chosen: dict[str, float] = {}
    sums = pd.read_parquet(data / "gsm8k_train.parquet").sample(2 * COPIES, random_state=0)
    texts = joined(sums, "question", "answer").reset_index(drop=True)
    sources = {"alpaca_52k": ("instruction", "input", "output"), "dolly_15k": ("instruction", "context", "response")}
    for part, (file, columns) in enumerate(sources.items()):
        rows = pd.read_parquet(data / f"{file}.parquet").sample(2 * ROWS, random_state=0)
        rows = joined(rows, *columns).drop_duplicates()
        rows = rows[rows.str.split().str.len().between(5, 150)].reset_index(drop=True)[:ROWS]
        table = planted(rows, texts[part * COPIES : (part + 1) * COPIES].reset_index(drop=True))
        scores = similarities(table)
        names = ["precision", "recall", *KINDS, "numbers"]
        print(f"\n{file}: {len(rows):,} rows, {int(np.isin(table['kind'], list(KINDS)).sum()):,} copies\n")
        print(f"| comparison | bound | {' | '.join(names)} |\n|{'---|' * (len(names) + 2)}")
        for name, matrix in scores.items():
            for bound in SHOWN:
                print(line(name, bound, figures(table, matrix, bound)))
        print()
        for name, matrix in scores.items():
            if name not in chosen:
                good = [b for b in BOUNDS if figures(table, matrix, b)["precision"] >= PRECISION]
                chosen[name] = float(min(good, default=1.0))
            print(line(f"{name}, chosen", chosen[name], figures(table, matrix, chosen[name])))


if __name__ == "__main__":
    main()
