"""Small mistakes of a first day, and what is said of them."""

import numpy as np
import pytest
from helpers.pools import coded

from hf_sae_select import FeatureMatrix, select_indices

ROWS = [{0: 1.0}, {1: 1.0}, {0: 1.0, 1: 2.0}, {2: 1.0}]


def test_the_rest_of_a_quota_that_has_too_few_rows_is_said():
    ds = coded(ROWS).add_column("l", ["a", "a", "a", "b"])
    with pytest.warns(UserWarning, match=r"`quota` wants 3 of the rest \('b'\), but the dataset has 1"):
        assert len(ds.sae_select(3, quota={"l": {"b": "rest"}})) == 1


@pytest.mark.parametrize("method", ["greedy", "match", "simscale"])
def test_a_threshold_above_all_activations_is_warned_of(method):
    with pytest.warns(UserWarning, match=rf"`method='{method}'` picks by features, and no row has one after the cuts"):
        coded(ROWS).sae_select(2, method, threshold=9.0)
    assert len(coded(ROWS).sae_select(2, "random", threshold=9.0)) == 2


def test_codes_are_kept_of_an_encoded_dataset_only():
    with pytest.raises(ValueError, match=r"`keep_codes=True` needs an encoded dataset"):
        coded(ROWS).select_columns(["text"]).sae_select(2, keep_codes=True)


@pytest.mark.parametrize("budget", ["20.000 tokens", "3.000 tokens", "2.500 rows"])
def test_a_point_for_thousands_is_refused(budget):
    with pytest.raises(ValueError, match=r"`budget=.*`: a point is for fractions; write '.*' for thousands"):
        coded(ROWS).sae_select(budget)


def test_two_points_are_no_amount():
    with pytest.raises(ValueError, match=r"`budget='1.000.000 tokens'` must be an amount such as '200k tokens'"):
        coded(ROWS).sae_select("1.000.000 tokens")


def test_an_array_in_the_place_of_a_column_is_refused_shortly():
    features = FeatureMatrix.from_dense(np.ones((3, 2)))
    for name in ("cost", "quality"):
        with pytest.raises(TypeError, match=rf"`{name}` is a ndarray; it must "):
            select_indices(features, 2, **{name: np.ones(3)})


def test_a_misspelled_argument_is_guessed():
    with pytest.raises(TypeError, match=r"unknown option `quata` .* did you mean `quota`\?"):
        coded(ROWS).sae_select(2, quata="x")


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_tensors_of_every_kind_become_a_matrix():
    torch = pytest.importorskip("torch")
    dense = torch.tensor([[0.5, 0.0], [0.0, 2.0]])
    expected = FeatureMatrix.from_dense(dense.numpy())
    for tensor in (dense.bfloat16(), dense.to_sparse(), dense.to_sparse_csr(), dense.requires_grad_()):
        features = FeatureMatrix.from_dense(tensor)
        assert features.ids.tolist() == expected.ids.tolist() and features.acts.tolist() == expected.acts.tolist()


def test_rows_without_codes_among_encoded_ones_are_named():
    import datasets

    ds = coded(ROWS)
    mixed = datasets.concatenate_datasets([ds, datasets.Dataset.from_dict({"n": [1]})])
    with pytest.raises(ValueError, match=r"1 rows have no SAE codes \(null\)"):
        mixed.sae_select(2)


@pytest.mark.parametrize("place", ["", "none/x.json"])
def test_a_place_where_no_selection_can_be_saved_is_named(tmp_path, place):
    selection = coded(ROWS).sae_select(2).sae_selection
    with pytest.raises(OSError, match=r"`path=.*` must be a file in a folder that exists"):
        selection.save(tmp_path / place)
