"""A selection is repeated from its record, whatever the options of the method are called."""

import json
from functools import partial

import numpy as np
import pytest
from datasets import Dataset
from helpers.forge import POOL, RECORD, TEXTS, differences
from helpers.pools import coded

from hf_sae_select import Selection, stage, verify

MIT = {"license": "mit"}


def own(features, n, rng, *, threshold=0.75, top=2, seed=3, budget=1, label="x"):
    """Pick rows from `seed` on, every `top`-th; all options have names of arguments of `select`."""
    own.ran = {"threshold": threshold, "top": top, "seed": seed, "budget": budget, "label": label}
    rows = np.arange(len(features))[(seed + top * np.arange(len(features))) % len(features)][:n]
    _, first = np.unique(rows, return_index=True)
    rows = rows[np.sort(first)]
    return Selection(rows, np.full(len(rows), threshold * budget), np.array([0]))


@pytest.mark.parametrize("bound", [{}, {"threshold": 0.25, "top": 1, "seed": 5, "budget": 4}])
def test_options_called_like_arguments_of_select_are_recorded_as_they_ran(tmp_path, bound):
    method = partial(own, **bound) if bound else own
    subset = coded(POOL, record=RECORD).sae_select(3, method, threshold=0.55, top=9, seed=1)
    folder = stage(subset, tmp_path / "f", license="mit")
    parameters = json.loads((folder / "provenance.json").read_text())["selection"]["parameters"]
    label = parameters["options"].pop("label")
    assert parameters["options"] == {name: value for name, value in own.ran.items() if name != "label"}
    assert parameters["options"] == {"threshold": 0.75, "top": 2, "seed": 3, "budget": 1} | bound
    assert list(label) == ["sha256"] and len(label["sha256"]) == 64
    assert (parameters["budget"], parameters["seed"], parameters["constraints"]) == (3, 1, {})
    assert parameters["cuts"] == {"threshold": 0.55, "top": 9, "max_share": None, "embedding": None}
    card = (folder / "README.md").read_text()
    assert "| `options.budget` |" in card and "| `cuts.threshold` | 0.55 |" in card and "| `budget` | 3 |" in card

    verification = verify(folder, "select", method=method)
    assert verification, str(verification)
    verification = verify(folder, "select", method=own)  # numbers are passed as recorded
    assert verification, str(verification)
    differ = differences(folder, "select", method=partial(own, label="y"))
    assert "`label` of the method is not as recorded; bind it: partial(method, label=...)" in differ["select: picks"]


def strongest(features, budget, rng):
    """Pick the rows with the largest sum of activations; gains in the type of activations."""
    sums = np.array([features.acts[i:j].sum() for i, j in zip(features.offsets, features.offsets[1:], strict=False)])
    rows = np.argsort(-sums, kind="stable")[:budget]
    return Selection(rows, sums[rows].astype(np.float32), np.array([0]))


def test_a_rule_of_ones_own_is_given_again_what_it_was_given(sae, tmp_path):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_encode(sae).sae_select(4, strongest), tmp_path / "f", **MIT)
    verification = verify(folder, "encode", source=ds, sae=sae, method=strongest)
    assert verification, str(verification)


@pytest.mark.parametrize(
    ("gains", "starts", "message"),
    [
        ([1.0, np.nan], [0], "returned `gains` that are not numbers"),
        (["a", "b"], [0], "returned `gains` that are not numbers"),
        ([1.0, 1.0], [1], "returned `round_starts="),
        ([1.0, 1.0], [0, 0], "returned `round_starts="),
        ([1.0, 1.0], [0, 2], "returned `round_starts="),
    ],
)
def test_what_a_rule_of_ones_own_cannot_say_is_refused_when_it_selects(gains, starts, message):
    with pytest.raises(ValueError, match=message):
        coded(POOL).sae_select(2, lambda f, budget, rng: Selection(np.arange(2), np.array(gains), np.array(starts)))


@pytest.mark.parametrize("budget", [0.3, 3e-5, 7e-13])
def test_costs_may_be_tiny(tmp_path, budget):
    ds = coded(POOL, record=RECORD).add_column("usd", [budget / 3] * len(POOL))
    folder = stage(ds.sae_select(f"{budget:.20f} usd"), tmp_path / "f", **MIT)
    assert differences(folder, "select") == {}
