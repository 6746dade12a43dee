"""A program of a typed user, which `mypy --strict` accepts and knows the results of. It is checked, and never run."""

from pathlib import Path
from typing import assert_type

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

import hf_sae_select
from hf_sae_select import (
    Constraints,
    Contrast,
    Environment,
    FeatureMatrix,
    Label,
    Labels,
    Quality,
    Ray,
    Reason,
    Reasons,
    Removals,
    SaeConfig,
    SaeTrainingConfig,
    Selection,
    SparseAutoencoder,
    Verification,
    WhyNot,
    metrics,
)

features = FeatureMatrix.from_dense([[0.5, 0.0], [0.0, 0.7]])
selection = hf_sae_select.select_indices(features, 1, "greedy", must_include=[0], quality=None, seed=None)
assert_type(selection, Selection)
assert_type(selection.indices, NDArray[np.int64])
assert_type(selection.gain, float)
assert_type(Selection.load("selection.json"), Selection)
assert_type(features.top(1), FeatureMatrix)
assert_type(len(features), int)
coverage: object = metrics.coverage(features, selection.indices)

rows = Dataset.from_dict({"text": ["a", "b"]})
engine = Ray(workers=2, gpus=1)
encoded: Dataset = hf_sae_select.encode(rows, engine=engine)
subset = hf_sae_select.select(rows, 0.5, "simscale", max_overlap=0.7, quota={"lang": {"en": 0.6, "de": "rest"}})
attached: Selection | None = subset.sae_selection
method: Dataset = rows.sae_select("200k tokens", target=["a task"], avoid={"recipe": 1.0}, boost={3: 2.0})
table = hf_sae_select.compare(rows, 3, ["herding", "greedy"])

why: Reason | Reasons = hf_sae_select.explain(subset, 0)
why_not: WhyNot = hf_sae_select.why_not(subset, 7)
missing: Contrast = hf_sae_select.missing_features(rows, ["a question"])
unique: Dataset = hf_sae_select.dedup(rows, 0.9)
removals: Removals = unique.sae_removals
page: Path = hf_sae_select.report(subset, "report.html")

sae = hf_sae_select.load_sae("me/my-sae", subfolder="layer_12")
assert_type(sae, SparseAutoencoder)
assert_type(sae.config, SaeConfig)
labels: Labels = hf_sae_select.load_labels(sae)
label: Label = labels[3]
quality: Quality = hf_sae_select.evaluate_sae(sae, ["a text"])
trained = hf_sae_select.train_sae(rows, model="gpt2", hook="h.6", config=SaeTrainingConfig())
assert_type(trained, SparseAutoencoder)

verification = hf_sae_select.verify("me/a-3k", "select")
assert_type(verification, Verification)
assert_type(bool(verification), bool)
assert_type(hf_sae_select.environment(), Environment)
assert_type(hf_sae_select.__version__, str)
constraints: type[Constraints] = Constraints
