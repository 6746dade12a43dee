"""What the golden files are made from, and how a case of them is replayed: `record.py` and `test_golden.py` share it.

All that is called of the library is imported here and in these two files: where a name changes, change it there, and
leave the recorded files alone.
"""

import json
import warnings
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from hf_sae_select import Selection, encode, select, select_indices
from hf_sae_select.encoding import encoder
from hf_sae_select.features.columns import ACTS, IDS, STATE, TOKENS, column_types, encoding_record
from hf_sae_select.features.matrix import FeatureMatrix

GOLDEN = Path(__file__).parent
CODES, SELECTIONS, BYTES = GOLDEN / "codes.npz", GOLDEN / "selections.json", GOLDEN / "published_bytes.json"
FOLDERS = GOLDEN / "published_0.1.0"
PACKAGES = ["datasets", "numba", "numpy", "pyarrow", "tokenizers", "torch", "transformers"]

TEXTS = """How do I boil an egg?
How do I boil two eggs?
How long does an egg take to boil until it is hard?
Write a haiku about autumn leaves.
Write a short poem about the first snow.
Prove that the square root of two is irrational.
Is the square root of 2 irrational? Prove it.
What is the capital of Mongolia?
What is the capital of Peru, and how high does it lie?
def add(a, b): return a + b
Write a function in Python that adds two numbers.
The train to Lisbon leaves at six.
The train to Lisbon leaves at six.
The train to Lisbon leaves at six.

Translate 'good morning' into French.
Translate 'good night' into German.
Wie spät ist es in Tokio?
SELECT name FROM users WHERE age > 30 ORDER BY name;
Explain the difference between TCP and UDP.
Why is the sky blue?
Why is the sea salty, and lakes mostly not?
Summarise the plot of Hamlet in one sentence.
Two onions, a spoon of salt, and whatever the net brings up.
List three causes of the First World War.
Who painted the ceiling of the Sistine Chapel?
My printer says it is out of paper, but the tray is full. What now?
Convert 70 degrees Fahrenheit to Celsius.
If 3x + 7 = 22, what is x?
Differentiate x^3 * sin(x).
Is it safe to take ibuprofen and aspirin together?
Dear Ms Lopez, thank you for your letter of the ninth of March.
Give me a name for a cat who sleeps all day.
lol ok see u there!!!
The mitochondrion is the powerhouse of the cell.
Photosynthesis turns light, water and carbon dioxide into sugar and oxygen.
A bank lends money at four percent a year; how much is owed after ten years?
Goal! In the ninetieth minute the captain heads it in from a corner.
The court held that the contract was void for want of consideration.
Yes.""".split("\n")
CHATS = [
    [("user", "How do I boil an egg?"), ("assistant", "Seven minutes in boiling water, then cold water.")],
    [("system", "Answer in one word."), ("user", "What is the capital of Peru?"), ("assistant", "Lima.")],
    [("user", "Write a haiku about autumn leaves.")],
    [("user", "Hi"), ("assistant", "  "), ("user", "Are you there?")],
    [],
    [("user", "Hi"), ("assistant", "Hello! What can I do for you?")],
]
INSTRUCTIONS = [
    ("Add the numbers.", "3, 4", "7"),
    ("Translate into French.", "Good morning", "Bonjour"),
    ("Name a colour.", "", "Red"),
    ("Name a colour.", None, "Red"),
    ("", None, " "),
    ("Say it all again.", " ".join(TEXTS), " ".join(reversed(TEXTS))),  # longer than the model's window
]


def few_features(features, budget, rng, *, order="rising", least=1.0):
    """Pick the rows with the fewest features, or the most, of those with at least `least`: a rule of one's own."""
    counts = features.counts
    rows = np.argsort(counts if order == "rising" else -counts, kind="stable")
    rows = rows[counts[rows] >= least][:budget]
    return Selection(rows, counts[rows] / 2, np.zeros(1, np.int64))


# ---- datasets and their codes


def columns_of(n, rng):
    """Draw columns for constraints: languages, None among them, scores from 0 on and prices."""
    languages = [["en", "de", "fr", None][i] for i in rng.choice(4, n, p=[0.5, 0.25, 0.15, 0.1])]
    return {
        "lang": languages,
        "score": (rng.integers(0, 9, n) / 4).tolist(),
        "price": (rng.integers(1, 40, n) / 8).tolist(),
    }


def sources():
    """Return the datasets that are encoded, by name."""
    chats = [[{"role": role, "content": words} for role, words in chat] for chat in CHATS]
    columns = zip(*INSTRUCTIONS, strict=True)
    return {
        "texts": Dataset.from_dict({"text": TEXTS, **columns_of(len(TEXTS), np.random.default_rng(3))}),
        "chat": Dataset.from_dict({"messages": chats}),
        "instructions": Dataset.from_dict(dict(zip(("instruction", "input", "output"), columns, strict=True))),
    }


ENCODED = {f"{name}/{length}": (name, length) for name in ("texts", "chat", "instructions") for length in (None, 16)}


def codes_of(case):
    """Encode a dataset; return the arrays of its codes, and what the codes say of how they were made."""
    name, length = ENCODED[case]
    coded = encode(sources()[name], max_length=length, keep=("all", "state"))
    features = FeatureMatrix.from_dataset(coded, vectors=STATE)
    arrays = {each: getattr(features, each) for each in ("offsets", "ids", "acts", "tokens", "vectors")}
    return arrays, encoding_record(coded)


def recorded_codes(case):
    """Return what `codes_of` returned when it was recorded."""
    with np.load(CODES) as file:
        arrays = {name: file[f"{case}/{name}"] for name in ("offsets", "ids", "acts", "tokens", "vectors")}
        return arrays, json.loads(str(file[f"{case}/record"]))


# ---- pools to choose from


@cache
def pool(name):
    """Return the features of a pool, its columns, and how its rows were encoded."""
    if name == "texts":  # from the recorded codes: what is chosen here hangs on no model
        arrays, record = recorded_codes("texts/None")
        return FeatureMatrix(d_sae=record["d_sae"], **arrays), sources()["texts"].to_dict(), record
    n, d_sae, mean = {"plain": (60, 40, 4), "heavy": (300, 500, 12)}[name]
    rng = np.random.default_rng(n)
    share = rng.permutation(1 / np.arange(1, d_sae + 1))
    fires = rng.random((n, d_sae)) < mean * share / share.sum() * rng.integers(1, 5, (n, 1)) / 2
    tail = np.ceil(16 / (1 - rng.random((n, d_sae)))) / 64 if name == "heavy" else rng.integers(1, 5, (n, d_sae)) / 2
    vectors = (rng.integers(-8, 9, (n, 8)) / 8).astype(np.float32)
    tokens = (fires.sum(axis=1) + rng.integers(1, 30, n)).astype(np.int32)
    for values in (fires, tail, vectors, tokens):
        values[n // 2 : n // 2 + n // 10] = values[: n // 10]  # equal rows
        values[5::19] = 0  # blank ones
    rows, ids = np.nonzero(fires)
    offsets = np.searchsorted(rows, np.arange(n + 1))
    acts = tail[rows, ids].astype(np.float32)
    features = FeatureMatrix(offsets, ids.astype(np.uint16), acts, d_sae, tokens, vectors=vectors)
    record = {"version": 1, "sae_sha256": "ab" * 32, "d_sae": d_sae, "threshold": 0.5}
    return features, columns_of(n, rng), record


def digest_of_pool(name):
    """Return the SHA-256 of a pool: whether these are the rows that were chosen from when it was recorded."""
    features, columns, _ = pool(name)
    arrays = (features.offsets, features.ids, features.acts, features.tokens, features.vectors)
    return sha256(b"".join(each.tobytes() for each in arrays) + json.dumps(columns).encode()).hexdigest()


@cache
def dataset(name):
    """Return a pool as an encoded Dataset, with a column of vectors too."""
    features, columns, record = pool(name)
    codes = {
        each: np.split(getattr(features, array), features.offsets[1:-1])
        for each, array in ((IDS, "ids"), (ACTS, "acts"))
    }
    codes |= {TOKENS: features.tokens, STATE: list(features.vectors)}
    coded = Dataset.from_dict(codes, features=column_types(record, features.vectors.shape[1]))
    given = Dataset.from_dict({**columns, "vector": list(features.vectors[:, ::-1])})
    return concatenate_datasets([given, coded], axis=1)


# ---- cases


def replay(case):
    """Choose rows as a case says, and return the numbers of the receipt."""
    found = {"choose": _chosen, "select": _selected}[case["call"]](case)
    return numbers(getattr(found, "sae_selection", found))


def numbers(receipt):
    """Return the numbers of a receipt for JSON; a float by its digits in base 16, so that none is lost."""
    gains = [gain.hex() if isinstance(gain, float) else gain for gain in receipt.gains.tolist()]
    return {
        "indices": receipt.indices.tolist(),
        "gains": gains,
        "round_starts": receipt.round_starts.tolist(),
        "covered": receipt.covered.tolist(),
        "pool_coverage": int(receipt.pool_coverage),
        "saturated_at": receipt.saturated_at,
    }


def _chosen(case):
    features, columns, _ = pool(case["pool"])
    cuts, given = case.get("cuts", {}), _given(case, _chosen)
    features = features.above(cuts.get("threshold", 0))
    features = features.rare(cuts["max_share"], given.get("exclude", ())) if "max_share" in cuts else features
    features = features.top(cuts["top"]) if "top" in cuts else features
    return _quietly(
        select_indices, features, case["budget"], case["method"], seed=case["seed"], columns=columns, **given
    )


def _selected(case):
    given = _given(case, _selected) | case.get("cuts", {})
    return _quietly(select, dataset(case["pool"]), case["budget"], case["method"], seed=case["seed"], **given)


def _given(case, chosen):
    given = case.get("options", {}) | case.get("constraints", {})
    return given | ({"extend": chosen({**case, "constraints": {}, **given["extend"]})} if "extend" in given else {})


def _quietly(call, *arguments, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no row left to pick", UserWarning)
        return call(*arguments, **options)


# ---- published folders

PUBLISHED = {
    "constrained": {
        "budget": 12,
        "method": "greedy",
        "quota": {"lang": {"en": 5, "de": 4}},
        "must_include": [30, 3],
        "exclude": [0, 39],
        "quality": "score",
    },
    "match_tokens": {"budget": "150 tokens", "method": "match", "seed": 7, "per_cost": True},  # 0.1.0 knew no other
    "own_rule": {"budget": 10, "method": few_features, "least": 2.5, "threshold": 7.0},
}


def published_subset(name):
    """Select anew, from rows that are encoded anew, what was published."""
    with patch.object(encoder, "ENCODING_VERSION", 1):  # as 0.1.0 wrote it in the record; the codes are the same
        return select(encode(sources()["texts"], keep="all"), **PUBLISHED[name])


def here():
    """Return what the last digit of a float may hang on, and the bytes of a Parquet file."""
    return {name: version(name) for name in PACKAGES} | {"cpu": torch.backends.cpu.get_cpu_capability()}
