import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import tensor

from hf_sae_select import SaeConfig, SparseAutoencoder
from hf_sae_select.sae import CONFIG_FILE, WEIGHTS_FILE, segment_sums


def plane(activation, **options):
    """Three latents that look along +x, +y and -x of the plane, and decode to the same directions."""
    sae = SparseAutoencoder(SaeConfig(2, 3, activation, model="m", hook="h", **options)).requires_grad_(False)
    sae.W_enc.copy_(tensor([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0]]))
    sae.W_dec.copy_(sae.W_enc.T)
    return sae


def test_relu():
    sae = plane("relu")
    sae.b_enc.copy_(tensor([0.0, -1.0, 0.0]))
    assert sae.encode(tensor([[3.0, 4.0]])).tolist() == [[3.0, 3.0, 0.0]]


def test_jumprelu_keeps_the_whole_value_above_the_threshold_and_nothing_at_it():
    sae = plane("jumprelu")
    sae.threshold.copy_(tensor([2.0, 3.0, 0.0]))
    assert sae.encode(tensor([[2.5, 3.0], [1.0, 4.0]])).tolist() == [[2.5, 0.0, 0.0], [0.0, 4.0, 0.0]]


def test_jumprelu_with_a_threshold_below_zero_is_relu():
    sae = plane("jumprelu")
    sae.threshold.fill_(-2.0)
    assert sae.encode(tensor([[1.0, -1.0]])).tolist() == [[1.0, 0.0, 0.0]]


def test_topk_keeps_the_largest_of_each_token_and_drops_negatives():
    sae = plane("topk", k=2)
    assert sae.encode(tensor([[3.0, 4.0], [2.0, -5.0]])).tolist() == [[3.0, 4.0, 0.0], [2.0, 0.0, 0.0]]


def test_decode():
    sae = plane("relu")
    sae.b_dec.copy_(tensor([10.0, 20.0]))
    assert sae.decode(tensor([[3.0, 4.0, 1.0]])).tolist() == [[12.0, 24.0]]


def drawn(activation):
    """Draw an SAE, and vectors in four segments."""
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(SaeConfig(4, 20, activation, model="m", hook="h", k=3)).requires_grad_(False)
    for parameter in sae.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    lengths = [3, 1, 7, 2]
    x = torch.randn(sum(lengths), 4, generator=generator)
    return sae, x, lengths


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
def test_encode_max_is_the_maximum_of_encode(activation, chunk, monkeypatch):
    monkeypatch.setattr("hf_sae_select.sae.CHUNK_FLOATS", chunk)
    sae, x, lengths = drawn(activation)
    expected = torch.stack([part.amax(dim=0) for part in sae.encode(x).split(lengths)])
    torch.testing.assert_close(sae.encode_max(x, lengths), expected)


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk"])
def test_encode_max_and_sum_are_the_maximum_and_the_sum_of_encode(activation, chunk, monkeypatch):
    monkeypatch.setattr("hf_sae_select.sae.CHUNK_FLOATS", chunk)
    sae, x, lengths = drawn(activation)
    largest, sums = sae.encode_max_and_sum(x, lengths)
    assert torch.equal(largest, sae.encode_max(x, lengths))
    torch.testing.assert_close(sums, torch.stack([part.sum(dim=0) for part in sae.encode(x).split(lengths)]))
    assert torch.equal(sums > 0, largest > 0)


def test_segment_sums():
    x = tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])
    assert segment_sums(x, [3, 1]).tolist() == [[6.0, 60.0], [4.0, 40.0]]


def test_segment_sums_of_half_precision_are_float32():
    assert segment_sums(torch.ones(4099, 1).half(), [4099]).tolist() == [[4099.0]]  # half counts no further than 2048


def test_neither_the_columns_nor_the_threads_change_a_bit_of_a_sum():
    x = torch.randn(37, 1000, generator=torch.Generator().manual_seed(0))
    sums = segment_sums(x, [37])
    assert torch.equal(segment_sums(x[:, 500:].contiguous(), [37]), sums[:, 500:])
    torch.set_num_threads(3)
    try:
        assert torch.equal(segment_sums(x, [37]), sums)
    finally:
        torch.set_num_threads(1)


def test_saved_and_loaded_is_the_same(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    again = SparseAutoencoder.from_pretrained(tmp_path)
    assert again.config == sae.config
    assert again.digest() == sae.digest()
    for name, parameter in sae.named_parameters():
        assert torch.equal(dict(again.named_parameters())[name], parameter)


def test_topk_survives_saving_too(tmp_path):
    plane("topk", k=2).save_pretrained(tmp_path)
    assert SparseAutoencoder.from_pretrained(tmp_path).config == plane("topk", k=2).config


def test_half_precision_is_saved_and_read_as_float32(sae, tmp_path):
    sae.save_pretrained(tmp_path, dtype=torch.float16)
    assert load_file(tmp_path / WEIGHTS_FILE)["W_enc"].dtype == torch.float16
    assert SparseAutoencoder.from_pretrained(tmp_path).W_enc.dtype == torch.float32


def test_the_config_on_disk_is_in_saelens_words(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    cfg = json.loads((tmp_path / CONFIG_FILE).read_text())
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


def test_the_digest_follows_the_encoder_and_only_the_encoder(sae):
    before = sae.digest()
    sae.W_dec.add_(1)
    assert sae.digest() == before
    sae.threshold[3] += 0.5
    assert sae.digest() != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("b_enc"), "tensor `b_enc` is missing"),
        (lambda t: t.update(W_skip=torch.zeros(1)), "tensor `W_skip` in sae_weights.safetensors is unexpected"),
        (lambda t: t.update(W_enc=torch.zeros(3, 2)), r"tensor `W_enc` is \[3, 2\]; cfg.json says \[16, 32\]"),
        (lambda t: t.update(b_dec=torch.full((16,), torch.nan)), "tensor `b_dec` .* holds NaN or infinity"),
    ],
)
def test_weights_that_are_not_what_the_config_says_are_refused(sae, tmp_path, change, message):
    sae.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_FILE)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS_FILE)
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("architecture", "temporal", "unknown `architecture='temporal'` in cfg.json; known: standard, jumprelu, topk"),
        ("apply_b_dec_to_input", True, "`apply_b_dec_to_input=True` in cfg.json is not supported"),
        ("rescale_acts_by_decoder_norm", True, "`rescale_acts_by_decoder_norm=True` in cfg.json is not supported"),
        ("normalize_activations", "layer_norm", "`normalize_activations='layer_norm'` in cfg.json is not supported"),
    ],
)
def test_a_config_that_says_something_we_do_not_compute_is_refused(sae, tmp_path, key, value, message):
    sae.save_pretrained(tmp_path)
    cfg = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(cfg | {key: value}))
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("key", ["d_in", "d_sae", "model_name", "hook_name"])
def test_a_config_that_leaves_something_out_is_refused(sae, tmp_path, key):
    sae.save_pretrained(tmp_path)
    cfg = json.loads((tmp_path / CONFIG_FILE).read_text())
    for place in (cfg, cfg["metadata"]):
        place.pop(key, None)
    cfg["metadata"].pop("hf_hook_name")
    (tmp_path / CONFIG_FILE).write_text(json.dumps(cfg))
    with pytest.raises(ValueError, match=rf"cfg.json does not say `(hf_)?{key}`; add it"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_a_folder_without_the_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no `cfg.json` in"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_files_that_cannot_be_read_are_named(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"cannot read cfg.json or sae_weights.safetensors in"):
        SparseAutoencoder.from_pretrained(tmp_path)
    sae.save_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"cannot read cfg.json"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_bad_configs_are_refused():
    with pytest.raises(ValueError, match=r"unknown `activation='gelu'`; known: relu, jumprelu, topk"):
        SaeConfig(2, 3, "gelu", model="m", hook="h")
    with pytest.raises(ValueError, match=r"`activation='topk'` needs `k`"):
        SaeConfig(2, 3, "topk", model="m", hook="h")
    with pytest.raises(ValueError, match=r"needs `k`, the latents per token, from 1 to d_sae; it is 4"):
        SaeConfig(2, 3, "topk", model="m", hook="h", k=4)
    with pytest.raises(ValueError, match=r"`feature_threshold=nan` must be a finite number from 0 on"):
        SaeConfig(2, 3, "relu", model="m", hook="h", feature_threshold=float("nan"))
