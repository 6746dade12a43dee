"""Where another device encodes the rows again, codes may differ a little, and picks are judged by what they gain."""

from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from hf_sae_select import FeatureMatrix, select, stage, verify
from hf_sae_select.publishing import devices
from hf_sae_select.sae.model import SparseAutoencoder

ALL, TOP = {"threshold": 1.0, "top": None}, {"threshold": 0.0, "top": 2}
WORDS = "the a cat dog mat hat sat ran on under big small red blue".split()


def matrix(*rows, tokens=1):
    """Make the matrix of rows of activations by feature, ids ascending."""
    offsets = np.cumsum([0, *map(len, rows)])
    ids, acts = (np.array([pair[n] for row in rows for pair in row.items()]) for n in (0, 1))
    return FeatureMatrix(offsets, ids, acts.astype(np.float32), 10, np.full(len(rows), tokens))


@pytest.mark.parametrize(
    ("again", "cuts", "says"),
    [
        ({0: 4.0, 1: 2.0}, ALL, None),
        ({0: 4.03, 1: 1.99}, ALL, None),  # by less than one in a hundred
        ({0: 4.0, 1: 2.0, 2: 1.03}, ALL, None),  # at the threshold
        ({0: 4.0, 1: 2.5}, ALL, "feature #1 of row 0 of the source has the activation 2 published and 2.5 when"),
        ({0: 4.0, 1: 2.0, 2: 1.5}, ALL, "the first that only one has is #2 (at 1.5"),
        ({0: 4.0}, ALL, "row 0 of the source has 2 published features and 1 when encoded again"),
        ({0: 4.0, 2: 2.02}, TOP, None),  # the second strongest of one is the third strongest of the other
        ({0: 4.0, 2: 2.1}, TOP, "the first that only one has is #2 (at 2.1"),
    ],
)
def test_codes_of_another_device_may_differ_in_features_that_the_cuts_nearly_left_out(again, cuts, says):
    published = matrix({0: 4.0, 1: 2.0}, {5: 3.0})
    difference = devices.of_codes(published, matrix(again, {5: 3.0}), cuts)
    assert difference is None if says is None else says in difference


def test_rows_and_tokens_are_no_matter_of_devices():
    one = matrix({0: 4.0})
    assert "features of 1 rows are published, but the source has 2 rows" in devices.of_codes(
        one, matrix({0: 4.0}, {1: 1.0}), ALL
    )
    assert "row 0 of the source has 1 tokens published and 2 again" in devices.of_codes(
        one, matrix({0: 4.0}, tokens=2), ALL
    )


def texts(n=60):
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, rng.integers(2, 9))) for _ in range(n)]


def noisy(monkeypatch, scale):
    """Let the SAE have relative noise from now on."""
    exact, rng = SparseAutoencoder.encode_max, np.random.default_rng(1)

    def encode_max(self, *arguments):
        codes = exact(self, *arguments)
        return codes * (1 + scale * codes.new_tensor(rng.standard_normal(codes.shape)))

    monkeypatch.setattr(SparseAutoencoder, "encode_max", encode_max)


@pytest.mark.parametrize("method", ["herding", "match", "greedy"])
@pytest.mark.parametrize(("scale", "has_pool"), [(1e-4, True), (1e-4, False), (0.3, True)])
def test_a_subset_is_verified_where_activations_have_noise_and_not_where_they_are_others(
    method, scale, has_pool, sae, tmp_path, monkeypatch
):
    ds = Dataset.from_dict({"text": texts()})
    folder = stage(ds.sae_select(20, method, sae=sae), tmp_path / "f", license="mit", include_features=has_pool)
    noisy(monkeypatch, scale)
    verification = verify(folder, "encode", source=ds, sae=sae)
    differ = [check.name for check in verification.checks if check.difference and check.level == "encode"]
    assert bool(verification) == (scale == 1e-4), str(verification)
    assert ("features" in differ) == (scale == 0.3)


def test_picks_that_gain_as_much_are_as_good_and_random_ones_are_not(sae):
    pool = Dataset.from_dict({"text": texts(300)}).sae_encode(sae)
    again, other = (select(pool, 20, "match", seed=seed).sae_selection for seed in (0, 1))
    recorded = replace(other, parameters=again.parameters)
    name, difference = devices.judged("picks", "pick 0 is row 1", recorded, again, pool, None)
    assert difference is None and name.startswith("picks (this device picks ") and "; the recorded rows gain " in name
    drawn = replace(again, indices=np.arange(20))
    _, difference = devices.judged("picks", "pick 0 is row 1", drawn, again, pool, None)
    assert "pick 0 is row 1; the recorded rows gain " in difference and "at least 95% is expected" in difference


def test_the_rows_that_a_scan_picks_are_all_that_it_promises(sae):
    pool = Dataset.from_dict({"text": texts(20)}).sae_encode(sae)
    selection = select(pool, 5, "simscale").sae_selection
    other = replace(selection, indices=selection.indices[::-1].copy())
    assert devices.judged("picks", "another", other, selection, pool, None) == ("picks", "another")
