"""The files of an SAE: what is written, and that every format can be saved and read again."""

import json
from pathlib import Path

import pytest
import torch
from helpers.published import REPOS, SAELENS, X, every_repo
from sae.test_parity import CASES, load, recorded
from safetensors.torch import load_file

from hf_sae_select import SaeConfig, SparseAutoencoder, load_sae
from hf_sae_select.sae.serialization import CONFIG_FILE, SAELENS_FILE, WEIGHTS_FILE


def test_half_precision_is_saved_as_it_is_and_read_as_float32(sae, tmp_path):
    sae.half().save_pretrained(tmp_path)
    assert load_file(tmp_path / WEIGHTS_FILE)["W_enc"].dtype == torch.float16
    assert json.loads((tmp_path / SAELENS_FILE).read_text())["dtype"] == "float16"
    assert SparseAutoencoder.from_pretrained(tmp_path).W_enc.dtype == torch.float32
    assert SparseAutoencoder.from_pretrained(tmp_path, dtype=torch.float16).W_enc.dtype == torch.float16


def test_a_config_for_saelens_is_written_too(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    cfg = json.loads((tmp_path / SAELENS_FILE).read_text())
    assert {key: cfg[key] for key in cfg if key != "metadata"} == {
        "architecture": "jumprelu",
        "apply_b_dec_to_input": False,
        "d_in": 16,
        "d_sae": 32,
        "device": "cpu",
        "dtype": "float32",
        "normalize_activations": "none",
        "reshape_activations": "none",
    }
    assert cfg["metadata"]["hook_name"] == "encoder.layer.1"
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(
        ["README.md", CONFIG_FILE, SAELENS_FILE, WEIGHTS_FILE]
    )


def test_an_activation_that_saelens_lacks_has_no_config_for_it(tmp_path):
    SparseAutoencoder(SaeConfig(2, 4, "groupmax", model="m", hook="h", k=2)).save_pretrained(tmp_path)
    assert not (tmp_path / SAELENS_FILE).exists()


def test_a_failed_write_leaves_what_was_there(sae, tmp_path, monkeypatch):
    sae.save_pretrained(tmp_path)
    before = (tmp_path / WEIGHTS_FILE).read_bytes()

    def full(tensors, file, metadata):
        Path(file).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("hf_sae_select.sae.serialization.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        sae.save_pretrained(tmp_path)
    assert (tmp_path / WEIGHTS_FILE).read_bytes() == before
    assert not list(tmp_path.glob("*.part")) and not list(tmp_path.glob(".*.part"))


def test_all_files_have_the_same_permissions(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


@every_repo
def test_every_format_can_be_saved_as_native(tmp_path, name):
    sae = load_sae(REPOS[name].at(tmp_path))
    sae.save_pretrained(tmp_path / "native")
    for again in (SparseAutoencoder.from_pretrained(tmp_path / "native"), load_sae(tmp_path / "native")):
        assert torch.equal(again.encode(X), sae.encode(X))
        assert torch.equal(again(X), sae(X))
        assert again.digest() == sae.digest()
    assert SparseAutoencoder.from_pretrained(tmp_path / "native").config == sae.config


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_files_of_other_libraries_can_be_saved_as_native(tmp_path, case):
    for folder, expected in recorded(case):
        sae = load(case, folder)
        sae.save_pretrained(tmp_path / "native" / folder)
        again = SparseAutoencoder.from_pretrained(tmp_path / "native" / folder)
        assert again.config == sae.config
        assert torch.equal(again.encode(expected["x"]), sae.encode(expected["x"]))
        assert torch.equal(again(expected["x"]), sae(expected["x"]))


@every_repo
def test_the_config_for_saelens_means_the_same(tmp_path, name):
    sae = load_sae(REPOS[name].at(tmp_path))
    sae.save_pretrained(tmp_path / "native")
    as_saelens = load_sae(tmp_path / "native", format="saelens")
    assert torch.equal(as_saelens.encode(X), sae.encode(X))
    assert torch.equal(as_saelens(X), sae(X))
    assert (as_saelens.config.hook, as_saelens.config.side) == (sae.config.hook, sae.config.side)
    assert (as_saelens.config.d_out, as_saelens.config.skip) == (sae.config.d_out, sae.config.skip)


def test_the_source_survives_saving(hub, tmp_path):
    hub.push(SAELENS.id, SAELENS.files)
    sae = load_sae(SAELENS.id)
    sae.save_pretrained(tmp_path / "native")
    assert load_sae(tmp_path / "native").config.source["repo"] == SAELENS.id
