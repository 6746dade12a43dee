"""Tune a decoder of 135 million parameters on the rows that each method picks, and see what it has learnt.

    python benchmarks/decoder/learning.py --data FOLDER --out RESULTS [--size small] [--device cpu] [--sae FOLDER]
    python benchmarks/decoder/learning.py --data FOLDER --out RESULTS --tiny      # every step, in about a minute

An arm is one tuning: the rows of a method, from one draw of a pool (pairs.py), at equal rows or at equal tokens, with
one learning rate. Training is as long for all arms of a budget. It tunes the last layers, by the loss of responses
alone; the outcome is that loss on rows held out of each source, of the pool and outside it. Each arm is a file of
RESULTS, written when the arm ends; a second run goes on with the missing ones, and those whose rows have changed. The
tables (outcomes.py) are made of the arms that are there, and say how many.

The primary outcome, fixed before any arm was run: the micro loss on the sources of the pool, at equal tokens, each
method at the best of the three learning rates. Micro: each source counts by its tokens of responses in the pool. The
rate is chosen on one half of the rows held out, by the mean over the draws on which all rates were tried (the first
ones, `--rate-draws`), and the loss is reported on the other half.

The small size is for two cores: 100 rows of 1,500. The full one is for a GPU: 1,000 and 3,000 rows of 30,000, and all
layers but the embedding are tuned.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import pairs as pairs_module
import rankings as rankings_module
import tuning as tuning_module
from folder import results_folder, write
from model import decoder
from outcomes import Arms, print_tables, read
from pairs import POOLS, SIZES, TARGETS, Draw, Rows, draw, pairs
from rankings import METHODS, RANDOM, ranked, ranked_by, ranked_towards
from transformers import AutoTokenizer
from tuning import Decoder

RATES = (3e-4, 1e-4, 1e-3)
"""Learning rates, in the order in which arms are run."""
EQUAL = ("tokens", "rows")
SPARE = 4  # rows are ranked for budgets so many times as large, for methods that pick short rows


class Arm(NamedTuple):
    """Name one tuning."""

    budget: int
    equal: str
    method: str
    rate: float

    def file(self, folder: Path, pool: Draw) -> Path:
        """Return the file of what was measured."""
        method = "".join(letter for letter in self.method.replace(" ", "-") if letter not in ",:'")
        return folder / f"{pool.name}.{self.budget}-{self.equal}.{method}.{self.rate:g}.json"


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    bench = Bench(args)
    bench.run(args)
    print_tables(bench.folder)


class Bench:
    """Hold the rows, the decoder and the folder of one size."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.model = decoder(args.out)
        self.sizes, self.sae = SIZES[args.size], args.sae
        code, sizes = [pairs_module.__file__, tuning_module.__file__], {"sizes": self.sizes._asdict()}
        self.folder = results_folder(args.out / f"arms-{args.size}", {**sizes, "device": args.device}, code)
        code = [pairs_module.__file__, rankings_module.__file__]
        self.rankings = results_folder(args.out / f"rankings-{args.size}", sizes, code)
        self.known = pairs(args.data, AutoTokenizer.from_pretrained(self.model), self.sizes)
        self.decoder = Decoder(self.model, self.known, self.sizes.layers, args.device)

    def run(self, args: argparse.Namespace) -> None:
        """Run the missing arms: with all rates on the first draws, and with each method's best rate on the others."""
        for budget, kind, equal in product(args.budgets or self.sizes.budgets, args.pools, args.equal):
            draws = [draw(self.known, kind, number, self.sizes) for number in range(args.draws)]
            tried = draws[: args.rate_draws]
            for rate, pool in product(args.rates, tried):
                for method, rows in self.picked(pool, budget, equal, args).items():
                    self.measure(pool, Arm(budget, equal, method, rate), rows)
            for pool in draws[len(tried) :]:
                arms = Arms(read(self.folder), kind, budget, equal)
                for method, rows in self.picked(pool, budget, equal, args).items():
                    best = arms.best("random" if method in RANDOM else method)
                    self.measure(pool, Arm(budget, equal, method, best), rows)
            for pool in draws:
                self.untuned(pool)

    def picked(self, pool: Draw, budget: int, equal: str, args: argparse.Namespace) -> dict[str, Rows]:
        """Return the rows of all methods that are asked for, and of those towards each target."""
        rankings = self.ranked(pool, budget, args.targets)
        return {
            method: self.cut(pool, ranking, budget, equal)
            for method, ranking in rankings.items()
            if method in args.methods or method not in METHODS
        }

    def ranked(self, pool: Draw, budget: int, targets: list[str]) -> dict[str, list[int]]:
        """Return the rankings of a draw, from files where an earlier run wrote them."""
        name, count = f"{pool.name}.{budget}", min(SPARE * budget, len(pool.rows))
        rankings = self.saved(name, lambda: ranked(self.known, pool, budget, count))
        if (sae := self.sae) is not None:
            file = f"{name}.{hash_of(sae)}"
            rankings |= self.saved(file, lambda: ranked_by(sae, self.known, pool, count))
        for target in targets:
            make = partial(ranked_towards, self.known, pool, target, count)
            rankings |= self.saved(f"{name}.to-{target}", make)
        return rankings

    def saved(self, name: str, make: Callable[[], dict[str, list[int]]]) -> dict[str, list[int]]:
        """Return what a file holds; it is made where there is none."""
        file = self.rankings / f"{name}.json"
        if not file.exists():
            write(file, json.dumps(make()))
        return dict(json.loads(file.read_text()))

    def cut(self, pool: Draw, ranking: list[int], budget: int, equal: str) -> Rows:
        """Return the first rows: `budget` of them, or those that have as many tokens as `budget` usual rows."""
        rows = np.array(ranking)
        if equal == "rows":
            return rows[:budget]
        tokens = self.known.tokens
        most = budget * tokens[pool.rows].mean()
        return rows[: np.searchsorted(tokens[rows].cumsum(), most, side="right")]

    def untuned(self, pool: Draw) -> None:
        """Measure the model as it is."""
        arm = Arm(0, "rows", "untuned", 0.0)
        if not arm.file(self.folder, pool).exists():
            self.write(pool, arm, np.array([], np.int64), self.decoder.upper, time.time())

    def measure(self, pool: Draw, arm: Arm, rows: Rows) -> None:
        """Run an arm, unless it has been run on these rows."""
        file = arm.file(self.folder, pool)
        if file.exists() and json.loads(file.read_text())["rows"] == rows.tolist():
            return
        if file.exists():
            print(f"{file.name}: other rows than before; run again", flush=True)
        start, training = time.time(), arm.budget * self.sizes.training
        tuned = self.decoder.tuned(rows, arm.rate, pool.number, training, self.sizes.batch)
        self.write(pool, arm, rows, tuned, start)

    def write(self, pool: Draw, arm: Arm, rows: Rows, upper: Any, start: float) -> None:
        """Measure the losses on all rows held out, and write the arm's file whole."""
        losses = {source: self.decoder.measure(upper, held_out) for source, held_out in pool.held_out.items()}
        responses = self.known.tokens - self.known.prompts
        of_pool = {source: pool.rows[self.known.sources[pool.rows] == source] for source in POOLS[pool.pool]}
        line = {
            "pool": pool.pool,
            "draw": pool.number,
            **arm._asdict(),
            "device": str(self.decoder.device),
            "seconds": round(time.time() - start, 1),
            "tokens": int(self.known.tokens[rows].sum()),
            "rows": rows.tolist(),
            "sources": {source: int((self.known.sources[rows] == source).sum()) for source in of_pool},
            "mix": {source: int(responses[rows].sum()) for source, rows in of_pool.items()},
            "losses": losses,
        }
        file = arm.file(self.folder, pool)
        write(file, json.dumps(line))
        print(f"{file.name}: {line['seconds']} s on {line['device']}", flush=True)


def hash_of(sae: str) -> str:
    """Return the first digits of the SHA-256 of an SAE's weights."""
    with open(Path(sae) / "sae_weights.safetensors", "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()[:12]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the arguments that name rows and arms."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that pairs.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bench; a second run goes on there")
    parser.add_argument("--size", default="small", choices=list(SIZES))
    parser.add_argument("--tiny", dest="size", action="store_const", const="tiny", help="the same as `--size tiny`")
    parser.add_argument("--device", default="cpu", help="such as `cuda`")
    parser.add_argument("--sae", help="an SAE of the decoder: some methods go by its features, too")
    parser.add_argument("--pools", nargs="+", default=["mixture"], choices=list(POOLS))
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--rate-draws", type=int, default=3, help="draws on which all rates are tried")
    parser.add_argument("--budgets", nargs="+", type=int, help="rows; by default those of the size")
    parser.add_argument("--equal", nargs="+", default=list(EQUAL), choices=EQUAL)
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), help="learning rates")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS, metavar="METHOD")
    parser.add_argument("--targets", nargs="*", default=[], choices=TARGETS, help="arms towards these targets, too")
    return parser


def arguments() -> argparse.Namespace:
    args = parser(__doc__).parse_args()
    if args.size == "tiny":
        args.draws, args.rates, args.equal = 1, RATES[:1], EQUAL[:1]
    return args


if __name__ == "__main__":
    main()
