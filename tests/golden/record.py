"""Record what the library encodes and selects, so that `test_golden.py` can replay it.

    python tests/golden/record.py

writes `codes.npz` and `selections.json`, the same bytes each time. Run it only where a change of the results is
intended, and say so in the change log. `published_0.1.0/` and `published_bytes.json` were written by version 0.1.0 and
stay as they are: they show that published subsets verify for ever.
"""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # read by huggingface_hub when it is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import json
import tempfile
from pathlib import Path

import datasets
import numpy as np
import torch
from inputs import (
    CODES,
    ENCODED,
    SELECTIONS,
    codes_of,
    digest_of_pool,
    pool,
    replay,
)

from hf_sae_select import METHODS

POOLS = ("plain", "heavy", "texts")
OPTIONS = {
    "greedy": [{"idf": True}, {"exhausted": "stop"}],
    "weighted": [{"idf": True}, {"exhausted": "stop"}],
    "concave": [
        {"curve": "log"},
        {"by": "mass"},
        {"idf": True},
        {"curve": "log", "by": "mass", "idf": True},
    ],
    "simscale": [
        {"max_overlap": 0.3},
        {"against": "nearest"},
        {"against": "nearest", "max_overlap": 0.4, "order": "given"},
        {"order": "shuffled"},
        {"max_overlap": 0, "exhausted": "stop"},
    ],
    "instag": [{"exhausted": "stop"}],
    "facility_location": [{"center": False}],
    "kcenter": [{"center": False}],
    "repr_filter": [
        {"max_similarity": 0.3},
        {"max_similarity": 0.0, "center": True},
        {"max_similarity": -0.1, "exhausted": "stop"},
    ],
}
CUTS = [{"threshold": 1.5}, {"top": 3}, {"max_share": 0.1}, {"threshold": 0.75, "top": 4, "max_share": 0.2}]
CONSTRAINTS = [
    {"must_include": [7, 3, 30]},
    {"exclude": [0, 1, 11, 12, 13, 20]},
    {"quota": {"lang": {"en": 4, "de": 1}}},
    {"quota": "lang"},
    {"quality": "score"},
    {"per_token": 0.5},
    {"extend": {"budget": 4}},
    {"extend": {"budget": 3, "method": "longest"}},
]
COSTS = [
    ("300 tokens", {}),
    ("20 price", {}),
    (0.1, {"cost": "tokens"}),
    (9.5, {"cost": "price"}),
    ("25 price", {"quota": {"lang": {"en": 3}}, "must_include": [2], "exclude": [9, 10]}),
]
COMBINED = [
    {"quota": "lang", "quality": "score", "must_include": [21], "exclude": [3, 4]},
    {"extend": {"budget": 4, "seed": 7}, "per_token": 1, "quota": {"lang": {"en": 5}}},
]


def cases():
    """List what is chosen: a pool, a method, a budget, and the rest."""
    for method, selector in METHODS.items():
        yield from of_options(method)
        for cut in CUTS:
            yield "heavy", method, 8, {"cuts": cut}
        for name in ("plain", "heavy"):
            asked = [(10, each) for each in CONSTRAINTS] + COSTS
            asked += [(12, each) for each in COMBINED] if name == "heavy" else []
            for budget, constraints in asked:
                if not constraints.keys() & selector.refuses:
                    yield name, method, budget, {"constraints": constraints}
            for budget, constraints in COSTS if "per_cost" in selector.for_costs else []:
                yield name, method, budget, {"options": {"per_cost": True}, "constraints": constraints}
    for method in ("match", "greedy", "weighted", "concave", "simscale"):  # beyond one block of picks, and one round
        yield "heavy", method, 0.5, {"seed": 7}


def of_options(method):
    """List a method at its defaults and with other options, as `select` would cut the features for it."""
    for name in POOLS:
        cuts = {"top": 256} if method == "match" else {"threshold": pool(name)[2]["threshold"]}
        for seed in (0, 7) if method == "random" else (0, 7, None):
            yield name, method, 14, {"seed": seed, "cuts": cuts}
        for options in OPTIONS.get(method, []):
            yield name, method, 14, {"options": options, "cuts": cuts}
    yield "plain", method, 60, {}  # all of them, equal and blank ones too


SELECTED = [
    *((name, "match", 0.3, {}) for name in POOLS),
    ("texts", "greedy", 12, {"seed": 7}),
    ("heavy", "greedy", 12, {"cuts": {"threshold": 2.0, "max_share": 0.1}}),
    ("heavy", "weighted", 12, {"cuts": {"top": 3}, "seed": None}),
    ("heavy", "match", 12, {"cuts": {"top": 300, "threshold": 0.5}, "constraints": {"exclude": [1, 2, 3]}}),
    ("plain", "simscale", 12, {"options": {"max_overlap": 0.5}, "constraints": {"quota": "lang"}}),
    ("texts", "concave", "150 tokens", {"options": {"by": "mass"}}),
    ("texts", "kcenter", 12, {}),
    ("plain", "facility_location", 12, {"cuts": {"embedding": "vector"}}),
    ("heavy", "repr_filter", 12, {"options": {"max_similarity": 0.4}, "constraints": {"quality": "score"}}),
    ("texts", "greedy", 9, {"constraints": {"extend": {"budget": 4}, "must_include": [5]}}),
    ("heavy", "instag", 0.05, {"constraints": {"cost": "price"}}),
    ("heavy", "longest", 9, {"constraints": {"quota": {"lang": {"fr": 0}}}}),
    ("heavy", "random", 9, {"seed": 3, "constraints": {"quality": "score"}}),
]


def record_codes():
    arrays = {}
    for case in ENCODED:
        values_of_case, metadata = codes_of(case)
        arrays |= {f"{case}/{name}": values for name, values in values_of_case.items()}
        arrays[f"{case}/record"] = np.array(json.dumps(metadata, sort_keys=True))
    np.savez_compressed(CODES, **arrays)


def record_selections():
    listed = [("choose", *case) for case in cases()] + [("select", *case) for case in SELECTED]
    lines = []
    for call, name, method, budget, more in listed:
        case = {"call": call, "pool": name, "method": method, "budget": budget, "seed": 0, **more}
        lines.append(json.dumps({**case, "result": replay(case)}, separators=(",", ":")))
    digests = json.dumps({name: digest_of_pool(name) for name in POOLS})
    SELECTIONS.write_text(f'{{"pools":{digests},"cases":[\n' + ",\n".join(lines) + "\n]}\n")


def main():
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with tempfile.TemporaryDirectory() as folder:
        datasets.config.HF_DATASETS_CACHE = Path(folder)
        record_codes()
        record_selections()


if __name__ == "__main__":
    main()
