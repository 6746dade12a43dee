"""Pools of rows small enough to choose from by eye: each row is the set of its features."""

from dataclasses import replace

import numpy as np
from datasets import Dataset
from hypothesis import settings
from hypothesis import strategies as st

from hf_sae_select.features.columns import ACTS, IDS, TOKENS, column_types
from hf_sae_select.features.matrix import FeatureMatrix

RECORD = {"d_sae": 16, "threshold": 0.5, "sae_sha256": "abc"}

# Few features and many rows: empty rows, equal rows and ties in nearly every pool.
pools = st.lists(st.sets(st.integers(0, 9), max_size=6), max_size=9)
thoroughly = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def features_of(rows, *, tokens=None, d_sae=16, dtype=np.uint16):
    """Make the FeatureMatrix of `rows`, all activations 1; by default as many tokens as features, and one more."""
    ids = np.array([feature for row in rows for feature in sorted(row)], dtype)
    offsets = np.cumsum([0, *map(len, rows)])
    tokens = np.array([len(row) + 1 for row in rows] if tokens is None else tokens, np.int32)
    return FeatureMatrix(offsets, ids, np.ones(len(ids), np.float32), d_sae, tokens)


def with_all(features):
    """Add what some methods need beside the codes: for a vector of each row, which features it has."""
    vectors = np.zeros((len(features), features.d_sae), np.float32)
    for i in range(len(features)):
        vectors[i, features.row(i)] = 1
    return replace(features, vectors=vectors)


def coded(rows, *, record=RECORD):
    """Make an encoded Dataset, no model asked: `rows` map features to activations, `text` is "row 0", "row 1", ..."""
    columns = {IDS: [sorted(row) for row in rows], ACTS: [[row[i] for i in sorted(row)] for row in rows]}
    columns[TOKENS] = [len(row) + 1 for row in rows]
    ds = Dataset.from_dict(columns, features=column_types(record))
    return ds.add_column("text", [f"row {i}" for i in range(len(rows))])
