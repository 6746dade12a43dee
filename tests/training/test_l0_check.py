"""`check_l0`: the L0 beside the reported one, and the hook beside its neighbours."""

from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from helpers import tiny
from helpers.training import identity

from hf_sae_select import L0Check, SparseAutoencoder, check_l0, train_sae_on_activations
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.training.config import SaeTrainingConfig
from hf_sae_select.training.l0_check import Reading

TEXTS = [" ".join(tiny.WORDS[i % 9 :: 1 + i % 5]) for i in range(20)]


def test_the_measured_l0_beside_the_reported_one(llama):
    sae = identity(llama, "layers.1")  # each vector has 16 signs
    check = check_l0(sae, ["the cat sat on the mat"])
    assert (check.l0, check.reference_l0, check.tokens, check.agrees) == (16.0, None, 6, None)
    sae.config = replace(sae.config, l0=20.0)
    assert check_l0(sae, ["the cat"]).agrees
    sae.config = replace(sae.config, l0=71.0)
    assert not check_l0(sae, ["the cat"]).agrees


@pytest.fixture(scope="module")
def trained(bert):
    """An SAE that was trained on the second layer of `bert`."""
    model = LanguageModel.from_pretrained(str(bert), "encoder.layer.1")
    states = torch.cat([states for _, states in model.states(model.windows(TEXTS))])
    config = SaeTrainingConfig(
        "topk", d_sae=32, k=4, training_tokens=64 * 300, train_batch_size_tokens=64, learning_rate=1e-2
    )
    batches = (states[torch.randint(len(states), (64,))] for _ in range(300))
    torch.manual_seed(0)
    return train_sae_on_activations(batches, config, model=str(bert), hook="encoder.layer.1")


def test_the_right_hook_is_told_from_its_neighbours(trained):
    check = check_l0(trained, TEXTS)
    assert (check.l0, check.reference_l0, check.agrees, check.is_sure, check.better) == (4.0, 4.0, True, True, None)
    assert {"encoder.layer.0", "encoder.layer.2"} < set(check.neighbours)
    assert all(reading.explained_variance < check.explained_variance for reading in check.neighbours.values())


@pytest.mark.parametrize("wrong", ["encoder.layer.0", "encoder.layer.2", "blocks.0.hook_resid_post"])
def test_a_wrong_hook_does_not_agree_although_its_l0_does(trained, wrong):
    sae = SparseAutoencoder.from_tensors(replace(trained.config, hook=wrong), dict(trained.named_parameters()))
    check = check_l0(sae, TEXTS)
    assert (check.l0, check.agrees, check.is_sure) == (4.0, False, True)
    right = "blocks.1.hook_resid_post" if wrong.startswith("blocks") else "encoder.layer.1"
    assert check.better == right and f"pass `config={{'hook': {right!r}}}`" in str(check)


def test_without_a_decoder_the_check_is_not_sure(trained, tmp_path):
    trained.save_pretrained(tmp_path)
    check = check_l0(SparseAutoencoder.from_pretrained(tmp_path, encoder_only=True), TEXTS)
    assert (check.l0, check.agrees, check.is_sure, check.explained_variance) == (4.0, True, False, None)
    assert str(check).endswith("not sure: the places around the hook cannot be told from it by this text")


def test_chunks_change_nothing(trained, monkeypatch):
    whole = check_l0(trained, TEXTS)
    monkeypatch.setattr("hf_sae_select.training.reading.CHUNK_FLOATS", 32 * 5)  # five tokens
    chunked = check_l0(trained, TEXTS)
    assert (chunked.l0, chunked.tokens, chunked.better) == (whole.l0, whole.tokens, whole.better)
    assert chunked.explained_variance == pytest.approx(whole.explained_variance, rel=1e-5)


def test_places_that_cannot_be_told_apart_leave_the_check_unsure(llama):
    check = check_l0(replace_l0(identity(llama, "layers.1"), 16.0), ["the cat sat on the mat"])
    assert check.agrees and not check.is_sure  # it rebuilds any vector


def replace_l0(sae, l0):
    sae.config = replace(sae.config, l0=l0)
    return sae


def test_it_prints_what_it_means():
    neighbours = {"layers.2": Reading(98.3, 0.487), "layers.4": Reading(16.2, -0.2)}
    assert str(L0Check(27.4, 32, 156, "layers.3", 0.897, neighbours)) == (
        "L0 27.4 over 156 tokens, reported 32: agrees\n"
        "  layers.3: L0 27.4, explained variance 0.897\n"
        "  layers.2: L0 98.3, explained variance 0.487\n"
        "  layers.4: L0 16.2, explained variance -0.200\n"
        "sure: the SAE fits no neighbour as well"
    )
    assert str(L0Check(27.4, None, 156, "layers.3")).startswith(
        "L0 27.4 over 156 tokens, not reported: there is no number to compare with\n"
    )


def test_an_sae_that_explains_nothing_does_not_agree():
    assert L0Check(30.0, 32, 156, "layers.3", -0.1).agrees is False


def test_rows_of_a_dataset_are_read_as_in_training(trained):
    rows = Dataset.from_dict({"id": list(range(len(TEXTS))), "text": TEXTS})
    assert check_l0(trained, rows) == check_l0(trained, TEXTS)
    chats = Dataset.from_dict({"body": TEXTS, "title": ["the"] * len(TEXTS)})
    assert check_l0(trained, chats, text="body") == check_l0(trained, TEXTS)


def test_other_things_are_no_sae():
    with pytest.raises(TypeError, match=r"`sae='gpt2'` must be a SparseAutoencoder; `load_sae` returns one"):
        check_l0("gpt2")
