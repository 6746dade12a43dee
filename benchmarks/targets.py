"""Measure how well rules pick rows towards a target, on pools whose kinds are known.

    python benchmarks/targets.py --data FOLDER --out RESULTS [--draws 8] [--halves a b] [--quick]

A target is a mix of 1 to 5 kinds of rows. A rule sees 8, 24 or 80 rows drawn by that mix, which are not in the pool,
and picks 60 rows, or 200 or 1,000 where the pool has as many of these kinds. What counts is the total variation
between the kinds of the picks and the mix, from 0 to 1: lower is better. The rule behind `target=` was chosen on the
pools of half "a" (target_pools.py), and half "b" was looked at once, afterwards.

Rows are encoded at 64 tokens: by the default SAE, and by SAEs of random weights of three seeds. `datasets` keeps the
codes. A line for each rule, pool and target goes to RESULTS/targets.jsonl; a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import datasets
import numpy as np
import pandas as pd
from encoded import SEEDS, Codes, all_codes, rows_of
from numpy.typing import NDArray
from results import append, read
from target_pools import REFERENCES, Case, cases, universe
from target_rivals import centred, dsir, herding, log_ratio, matrix, mona, nearest_to_mean, round_robin

from hf_sae_select import METHODS, FeatureMatrix, select_indices
from hf_sae_select.selection import targets as library_targets

OURS = "herding"
RANDOM_WEIGHTS = f"{OURS}, random weights, mean of {len(SEEDS)}"
KEY = ("half", "pool", "draw", "rows", "rule")  # of a line; `rows` are those of the reference
Picks = NDArray[np.int64]
Rule = Callable[[Case, int], Picks]
Line = dict[str, Any]


def main() -> None:
    args = arguments()
    datasets.disable_progress_bars()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = rows_of(args.out / "universe.parquet", partial(universe, args.data))
    known = rules(all_codes(rows, args.out))
    file, draws = args.out / "targets.jsonl", 2 if args.quick else args.draws
    done = {tuple(line[name] for name in KEY) for line in read(file)}
    for half in args.halves:
        for case in cases(rows, half, draws):
            for label, rule in known.items():
                key = (half, case.pool, case.draw, len(case.reference), label)
                if key not in done:
                    append(
                        file, dict(zip(("half", "pool", "draw", "rows", "rule"), key, strict=True)) | worth(case, rule)
                    )
    lines = [line for line in read(file) if line["rule"] in known and line["draw"] < draws]
    for half in args.halves:
        print(f"\n### Half {half}\n")
        print_tables([line for line in lines if line["half"] == half])


def worth(case: Case, rule: Rule) -> Line:
    """Return the total variation and the share in target of a rule's picks, for each budget."""
    picks = rule(case, max(case.budgets))
    measures = {"distance": case.distance, "share": case.share}
    found = {name: {str(k): measure(picks[:k]) for k in case.budgets} for name, measure in measures.items()}
    return {"budget": [str(k) for k in case.budgets], **found}


# Rules


def rules(codes: Codes) -> dict[str, Rule]:
    """Return all rules by label."""
    by_features = partial(library, codes.features[""])
    found: dict[str, Rule] = {OURS: partial(by_features, "herding")}
    for sharpen in (1.0, 1.5):
        found[f"match, sharpen={sharpen:g}"] = partial(by_features, "match", sharpen=sharpen)
    for option, value in (("width", 0.2), ("width", 0.5), ("redundancy", 0.25), ("redundancy", 0.75)):
        found[f"herding, {option}={value}"] = partial(by_features, "herding", **{option: value})
    found["herding, features of equal weight"] = partial(of_equal_weight, codes.features[""])
    for label, features in codes.features.items():
        if label:
            found[f"herding, {label}"] = partial(library, features, "herding")
    for label, vectors in codes.vectors.items():
        kind = "vectors" if label == "dense" else label
        for width in (0.2, 0.3):
            found[f"herding, {kind}, width {width}"] = partial(by_vectors, vectors, partial(herding, width=width))
        found[f"round robin by cosine, {kind}"] = partial(by_vectors, vectors, round_robin)
        found[f"cosine to the mean, {kind}"] = partial(by_vectors, vectors, nearest_to_mean)
    for label, features, rule in (
        ("DSIR, words", codes.words, partial(dsir, seed=0)),
        ("log ratio of features (DSIR)", codes.features[""], log_ratio),
        ("generalised Jaccard of features (MONA)", codes.features[""], mona),
    ):
        found[label] = partial(by_counts, features, rule)
    return found | {"random": lambda case, k: np.random.default_rng(case.draw).permutation(len(case.rows))[:k]}


def library(features: FeatureMatrix, method: str, case: Case, budget: int, **options: Any) -> Picks:
    """Pick as `select` does, which passes a row's strongest features."""
    pool, target = (
        features.take(rows).above(0.0).top(METHODS[method].top or features.d_sae)
        for rows in (case.rows, case.reference)
    )
    return select_indices(pool, budget, method, target=target, overlap="keep", **options).indices


def of_equal_weight(features: FeatureMatrix, case: Case, budget: int) -> Picks:
    """Pick by herding without what weighs features: smoothed by so much, each weight is 1."""
    with patch.object(library_targets, "SMOOTHING", 1e12):
        return library(features, "herding", case, budget)


def by_vectors(vectors: NDArray[np.float32], rule: Callable[..., Picks], case: Case, budget: int) -> Picks:
    return rule(*centred(vectors[case.rows], vectors[case.reference]), budget)


def by_counts(features: FeatureMatrix, rule: Callable[..., Picks], case: Case, budget: int) -> Picks:
    return rule(*(matrix(features.take(rows)) for rows in (case.rows, case.reference)), budget)


# Tables


def print_tables(lines: list[Line]) -> None:
    """Print how far each rule is from the mixes, and by how much ours is nearer than others."""
    found = pd.DataFrame(lines).explode("budget")
    for name in ("distance", "share"):
        found[name] = [values[budget] for values, budget in zip(found[name], found["budget"], strict=True)]
    found["budget"] = found["budget"].astype(int)
    seeds = found[found["rule"].str.contains("random weights")]
    case = ["pool", "rows", "draw", "budget"]
    mean = seeds.groupby(case)[["distance", "share"]].mean().reset_index().assign(rule=RANDOM_WEIGHTS)
    found = pd.concat([found, mean], ignore_index=True)
    order = distance_table(found)
    distance = found.groupby(["pool", "rows", "draw", "rule"])["distance"].mean().unstack("rule")
    difference_table(distance[order])


def distance_table(found: pd.DataFrame) -> list[str]:
    """Print the total variation by rows of the reference, budget and pool; return the rules, the nearest first."""
    distance = found.groupby(["rule", "pool", "rows", "draw"])["distance"].mean()
    parts = [
        distance.groupby(["rule", "rows", "pool"]).mean().groupby(["rule", "rows"]).mean().unstack(),
        distance.groupby(["rule", "pool"]).mean().groupby("rule").mean().rename("mean"),
        found.groupby(["rule", "budget", "pool"])["distance"].mean().groupby(["rule", "budget"]).mean().unstack(),
        distance.groupby(["rule", "pool"]).mean().unstack(),
        found.groupby(["rule", "pool"])["share"].mean().groupby("rule").mean().rename("in target"),
    ]
    table = pd.concat(parts, axis=1).sort_values("mean")
    budgets = [f"k = {budget:,}" for budget in parts[2]]
    heads = ["rule", *(f"{rows} rows" for rows in parts[0]), "mean", *budgets, *parts[3], "in target"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for rule, values in table.iterrows():
        print(f"| {rule} | " + " | ".join(f"{value:.3f}" for value in values) + " |")
    return list(table.index)


def difference_table(distance: pd.DataFrame) -> None:
    """Print the total variation of our rule less that of others: by rows of the reference, and over pools."""
    heads = [*(f"{rows} rows" for rows in REFERENCES), "all", "pools drawn anew too", "without verbs"]
    heads += ["median pool", "worst pool"]
    print(f"\n| `{OURS}` less | {' | '.join(heads)} |\n|---|{'---|' * len(heads)}")
    for rule in distance.drop(columns=OURS):
        less = distance[OURS] - distance[rule]
        pools = less.groupby("pool").mean()
        cells = [spread(less.xs(rows, level="rows")) for rows in REFERENCES]
        cells += [spread(less), spread(less, other_pools=True)]
        cells += [f"{value:+.3f}" for value in (pools.drop("verbs").mean(), pools.median(), pools.max())]
        print(f"| {rule} | {' | '.join(cells)} |")


def spread(values: pd.Series, other_pools: bool = False) -> str:
    """Return the mean over pools, and where 95 % of means lie if targets, and pools if so asked, are drawn anew."""
    rng, pools = np.random.default_rng(0), [of_pool.to_numpy() for _, of_pool in values.groupby("pool")]
    means = []
    for _ in range(2000):
        drawn = rng.choice(len(pools), len(pools)) if other_pools else range(len(pools))
        means.append(np.mean([rng.choice(pools[pool], len(pools[pool])).mean() for pool in drawn]))
    low, high = np.quantile(means, (0.025, 0.975))
    return f"{np.mean([of_pool.mean() for of_pool in pools]):+.3f} [{low:+.3f}, {high:+.3f}]"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the Parquet files that labelled.py names")
    parser.add_argument("--out", type=Path, required=True, help="folder for codes and what is measured")
    parser.add_argument("--halves", nargs="+", default=["a", "b"], choices=["a", "b"])
    parser.add_argument("--draws", type=int, default=8, help="targets of each pool and size of the reference")
    parser.add_argument("--quick", action="store_true", help="two targets of each")
    return parser.parse_args()


if __name__ == "__main__":
    main()
