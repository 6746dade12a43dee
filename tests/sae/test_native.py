"""The native format: what is saved is loaded again, and files that contradict each other are refused."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_sae_select import SaeConfig, SparseAutoencoder
from hf_sae_select.sae.serialization import CONFIG_FILE, SAELENS_FILE, WEIGHTS_FILE


def test_saved_and_loaded_is_the_same(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    again = SparseAutoencoder.from_pretrained(tmp_path)
    assert again.config == sae.config
    assert again.digest() == sae.digest()
    for name, parameter in sae.named_parameters():
        assert torch.equal(dict(again.named_parameters())[name], parameter)


def test_topk_survives_saving_too(tmp_path):
    config = SaeConfig(2, 3, "topk", model="m", hook="h", k=2)
    SparseAutoencoder(config).save_pretrained(tmp_path)
    assert SparseAutoencoder.from_pretrained(tmp_path).config == config


def test_an_encoder_alone_encodes_and_does_nothing_else(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    encoder = SparseAutoencoder.from_pretrained(tmp_path, encoder_only=True)
    x = torch.ones(1, 16)
    assert torch.equal(encoder.encode(x), sae.encode(x)) and encoder.digest() == sae.digest()
    with pytest.raises(ValueError, match=r"no decoder: it was loaded with `encoder_only=True`"):
        encoder.decode(encoder.encode(x))
    with pytest.raises(ValueError, match=r"no decoder"):
        encoder.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("b_enc"), "tensor `b_enc` is missing from sae_weights.safetensors"),
        (lambda t: t.update(W_skip=torch.zeros(1)), "tensor `W_skip` in sae_weights.safetensors is unexpected"),
        (lambda t: t.update(W_enc=torch.zeros(3, 2)), r"tensor `W_enc` .* has shape \[3, 2\]; expected \[16, 32\]"),
        (lambda t: t.update(b_dec=torch.full((16,), torch.nan)), "tensor `b_dec` .* contains NaN"),
    ],
)
def test_weights_that_contradict_the_config_are_refused(sae, tmp_path, change, message):
    sae.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"), [("activation", "temporal"), ("input_norm", "whiten"), ("d_in", 1.5), ("model", "")]
)
def test_impossible_values_are_refused_by_file_and_name(sae, tmp_path, key, value):
    sae.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {key: value}))
    with pytest.raises(ValueError, match=rf"config.json .*`{key}={value!r}`"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_the_config_of_another_library_is_not_native(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    (tmp_path / SAELENS_FILE).unlink()
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {"library_name": "other"}))
    with pytest.raises(ValueError, match=r"`sae_weights.safetensors` .* not an SAE of a known format .*native"):
        SparseAutoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("key", ["d_in", "d_sae", "activation", "model", "hook"])
def test_a_config_without_a_required_value_is_refused(sae, tmp_path, key):
    sae.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    del config[key]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config.json .* lacks `{key}`"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_a_folder_without_the_files_is_refused(sae, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no SAE of a known format in .* contains: nothing"):
        SparseAutoencoder.from_pretrained(tmp_path)
    sae.save_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).unlink()
    (tmp_path / SAELENS_FILE).unlink()
    with pytest.raises(FileNotFoundError, match=r"`sae_weights.safetensors` lacks `config.json` or `cfg.json`"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_unreadable_files_are_named(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"sae_weights.safetensors is a git-lfs pointer"):
        SparseAutoencoder.from_pretrained(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"noise")
    with pytest.raises(ValueError, match=r"cannot read sae_weights.safetensors"):
        SparseAutoencoder.from_pretrained(tmp_path)
    sae.save_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"cannot read config.json"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_double_precision_is_kept(sae, tmp_path):
    third = torch.tensor(1 / 3, dtype=torch.float64)
    sae.double().W_enc.copy_(third.expand(16, 32))
    sae.save_pretrained(tmp_path)
    again = SparseAutoencoder.from_pretrained(tmp_path, dtype=torch.float64)
    assert torch.equal(again.W_enc, sae.W_enc) and again.W_enc.dtype == torch.float64


def test_an_option_of_pushing_is_not_an_option_of_saving(sae, tmp_path):
    with pytest.raises(TypeError, match=r"`private` is an option of pushing; pass `push_to_hub=True` too"):
        sae.save_pretrained(tmp_path, private=True)
