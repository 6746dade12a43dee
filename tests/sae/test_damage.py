"""Every layout with one thing wrong: it loads right, or the error names the file and the key."""

import pytest
import torch
from helpers.damage import FEW_VALUES, HARMLESS, damaged_configs, damaged_file, damaged_weights, outcome
from helpers.published import REPOS, X, every_repo

from hf_sae_select import load_sae

# Tensors that an SAE does not need, or needs only in some layouts.
OPTIONAL = ("W_skip", "affine_skip_connection", "dataset_average_activation_norm")


@every_repo
def test_damaged_tensors(tmp_path, name):
    repo = REPOS[name]
    right = load_sae(repo.at(tmp_path / "right"))
    for kind, tensor, files in damaged_weights(repo):
        end, result = outcome(tmp_path, repo, files, tensor)
        if end == "refused" or tensor.startswith(OPTIONAL):
            continue
        if kind == "transposed":  # the orientation is read from the shapes
            assert torch.equal(result(X), right(X)), (kind, tensor)
        elif kind in HARMLESS:
            assert (result.encode(X) - right.encode(X)).abs().max() < 0.1 * right.encode(X).abs().max(), (kind, tensor)
        else:
            is_log = tensor.endswith("log_jumprelu_threshold")  # of a threshold of 0 it is -inf
            assert tensor.endswith("threshold") and (kind == "scalar" or (is_log and kind == "-inf")), (kind, tensor)


@every_repo
def test_damaged_configs(tmp_path, name):
    for key, _, files in damaged_configs(REPOS[name], FEW_VALUES):
        outcome(tmp_path, REPOS[name], files, key)


@pytest.mark.parametrize("name", ["saelens", "gemma_scope_1", "connor_rob"])  # one of each kind of file
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_files(tmp_path, name):
    repo = REPOS[name]
    path = next(path for path in repo.files if not path.endswith((".json", ".yaml")))
    for _, content in damaged_file(repo.files[path]):
        outcome(tmp_path, repo, {path: content}, path)


def test_the_damages_are_many():
    assert sum(1 for repo in REPOS.values() for _ in damaged_weights(repo)) > 1000
    assert sum(1 for repo in REPOS.values() for _ in damaged_configs(repo, FEW_VALUES)) > 500
