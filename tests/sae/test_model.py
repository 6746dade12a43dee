import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import tensor

from hf_sae_select import SaeConfig, SparseAutoencoder
from hf_sae_select.sae.config import ACTIVATIONS, INPUT_NORMS
from hf_sae_select.sae.model import segment_sums
from hf_sae_select.sae.serialization import CONFIG_FILE, SAELENS_FILE, WEIGHTS_FILE


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


def test_abstopk_keeps_the_largest_by_size_with_their_signs():
    assert plane("abstopk", k=1).encode(tensor([[3.0, -4.0], [0.5, 2.0]])).tolist() == [[0, -4, 0], [0, 2, 0]]
    sae = plane("abstopk", k=2)
    assert sae.encode_max(tensor([[1.0, -4.0], [1.0, 2.0]]), [2])[0, 1] == 2.0  # what fires below 0 does not count


def test_groupmax_keeps_the_largest_of_each_group_of_neighbours():
    sae = SparseAutoencoder(SaeConfig(4, 4, "groupmax", model="m", hook="h", k=2)).requires_grad_(False)
    sae.W_enc.copy_(torch.eye(4))
    assert sae.encode(tensor([[1.0, 2.0, -3.0, -4.0]])).tolist() == [[0.0, 2.0, 0.0, 0.0]]


def test_input_norms():
    sae = plane("relu", input_norm="rms")
    assert sae.encode(tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [
        pytest.approx([3 / 12.5**0.5, 4 / 12.5**0.5, 0.0]),
        [0.0, 0.0, 0.0],
    ]
    sae = plane("relu", input_norm="layer_norm")  # mean 4, standard deviation sqrt(2)
    assert sae.encode(tensor([[3.0, 5.0]])).tolist() == [pytest.approx([0.0, 0.5**0.5, 0.5**0.5], rel=1e-4)]


def test_forward_gives_the_vector_back_in_its_own_units():
    x = tensor([[30.0, 40.0]])
    for norm in ("none", "rms"):
        torch.testing.assert_close(plane("relu", input_norm=norm)(x), x)
    layer_norm = SparseAutoencoder(SaeConfig(3, 6, "relu", model="m", hook="h", input_norm="layer_norm"))
    layer_norm.requires_grad_(False)
    layer_norm.W_enc.copy_(torch.cat([torch.eye(3), -torch.eye(3)], dim=1))
    layer_norm.W_dec.copy_(layer_norm.W_enc.T)
    torch.testing.assert_close(layer_norm(tensor([[10.0, 20.0, 60.0]])), tensor([[10.0, 20.0, 60.0]]))


def test_a_transcoder_puts_out_other_vectors_and_may_add_a_map_of_its_input():
    sae = SparseAutoencoder(SaeConfig(2, 2, "relu", model="m", hook="h", d_out=1, skip=True)).requires_grad_(False)
    sae.W_enc.copy_(torch.eye(2))
    sae.W_dec.copy_(tensor([[1.0], [10.0]]))
    sae.W_skip.copy_(tensor([[100.0, 0.0]]))
    assert sae(tensor([[1.0, 2.0]])).tolist() == [[121.0]]


def test_decode():
    sae = plane("relu")
    sae.b_dec.copy_(tensor([10.0, 20.0]))
    assert sae.decode(tensor([[3.0, 4.0, 1.0]])).tolist() == [[12.0, 24.0]]


def drawn(activation, norm="none"):
    """Draw an SAE, and vectors in four segments."""
    generator = torch.Generator().manual_seed(0)
    sae = SparseAutoencoder(SaeConfig(4, 20, activation, model="m", hook="h", k=4, input_norm=norm)).requires_grad_(
        False
    )
    for parameter in sae.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    lengths = [3, 1, 7, 2]
    x = torch.randn(sum(lengths), 4, generator=generator)
    return sae, x, lengths


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
@pytest.mark.parametrize("norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_encode_max_is_the_maximum_of_encode(activation, norm, chunk, monkeypatch):
    monkeypatch.setattr("hf_sae_select.sae.model.CHUNK_FLOATS", chunk)
    sae, x, lengths = drawn(activation, norm)
    expected = torch.stack([part.amax(dim=0) for part in sae.encode(x).relu().split(lengths)])
    torch.testing.assert_close(sae.encode_max(x, lengths), expected)


@pytest.mark.parametrize("chunk", [1, 100, 10**6])
@pytest.mark.parametrize("activation", ["relu", "jumprelu", "topk", "abstopk", "groupmax"])
def test_encode_max_and_sum_are_the_maximum_and_the_sum_of_encode(activation, chunk, monkeypatch):
    monkeypatch.setattr("hf_sae_select.sae.model.CHUNK_FLOATS", chunk)
    sae, x, lengths = drawn(activation)
    largest, sums = sae.encode_max_and_sum(x, lengths)
    assert torch.equal(largest, sae.encode_max(x, lengths))
    torch.testing.assert_close(sums, torch.stack([part.sum(dim=0) for part in sae.encode(x).relu().split(lengths)]))
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


def test_half_precision_is_saved_as_it_is_and_read_as_float32(sae, tmp_path):
    sae.half().save_pretrained(tmp_path)
    assert load_file(tmp_path / WEIGHTS_FILE)["W_enc"].dtype == torch.float16
    assert json.loads((tmp_path / SAELENS_FILE).read_text())["dtype"] == "float16"
    assert SparseAutoencoder.from_pretrained(tmp_path).W_enc.dtype == torch.float32
    assert SparseAutoencoder.from_pretrained(tmp_path, dtype=torch.float16).W_enc.dtype == torch.float16


def test_beside_our_config_lies_one_in_saelens_words(sae, tmp_path):
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


def test_what_saelens_has_no_word_for_has_no_config_for_it(tmp_path):
    SparseAutoencoder(SaeConfig(2, 4, "groupmax", model="m", hook="h", k=2)).save_pretrained(tmp_path)
    assert not (tmp_path / SAELENS_FILE).exists()


def test_an_encoder_alone_encodes_and_does_nothing_else(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    encoder = SparseAutoencoder.from_pretrained(tmp_path, encoder_only=True)
    x = torch.ones(1, 16)
    assert torch.equal(encoder.encode(x), sae.encode(x)) and encoder.digest() == sae.digest()
    with pytest.raises(ValueError, match=r"no decoder: it was loaded with `encoder_only=True`"):
        encoder.decode(encoder.encode(x))
    with pytest.raises(ValueError, match=r"no decoder"):
        encoder.save_pretrained(tmp_path)


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
        (lambda t: t.update(W_enc=torch.zeros(3, 2)), r"tensor `W_enc` is \[3, 2\]; config.json says \[16, 32\]"),
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
        ("activation", "temporal", "config.json: unknown `activation='temporal'`; known: relu, jumprelu, topk"),
        ("input_norm", "whiten", "config.json: unknown `input_norm='whiten'`; known: none, layer_norm, rms"),
        ("d_in", 1.5, r"config.json: `d_in=1.5` must be a whole number from 1 on"),
        ("model", "", "config.json: `model=''` must be a name"),
        (
            "library_name",
            "other",
            "config.json is not of this library; `hf_sae_select.load_sae` reads others' layouts",
        ),
    ],
)
def test_a_config_that_says_something_we_do_not_compute_is_refused(sae, tmp_path, key, value, message):
    sae.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config | {key: value}))
    with pytest.raises(ValueError, match=message):
        SparseAutoencoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("key", ["d_in", "d_sae", "activation", "model", "hook"])
def test_a_config_that_leaves_something_out_is_refused(sae, tmp_path, key):
    sae.save_pretrained(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    del config[key]
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config.json: the config does not say `{key}`"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_a_folder_without_the_files_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no `config.json` in"):
        SparseAutoencoder.from_pretrained(tmp_path)


def test_files_that_cannot_be_read_are_named(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    (tmp_path / WEIGHTS_FILE).write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"cannot read sae_weights.safetensors"):
        SparseAutoencoder.from_pretrained(tmp_path)
    sae.save_pretrained(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("{")
    with pytest.raises(ValueError, match=r"cannot read config.json"):
        SparseAutoencoder.from_pretrained(tmp_path)


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


def test_an_option_for_pushing_is_not_taken_for_one_of_saving(sae, tmp_path):
    with pytest.raises(TypeError, match=r"`private` is for pushing; pass `push_to_hub=True` too"):
        sae.save_pretrained(tmp_path, private=True)


def test_bad_configs_are_refused():
    with pytest.raises(ValueError, match=r"unknown `activation='gelu'`; known: relu, jumprelu, topk"):
        SaeConfig(2, 3, "gelu", model="m", hook="h")
    with pytest.raises(ValueError, match=r"`side='both'`; known: output, input"):
        SaeConfig(2, 3, "relu", model="m", hook="h", side="both")
    with pytest.raises(ValueError, match=r"needs a `k` that divides d_sae=3; it is 2"):
        SaeConfig(2, 3, "groupmax", model="m", hook="h", k=2)
    with pytest.raises(ValueError, match=r"`max_norm_ratio=0.5` must be a number from 1 on"):
        SaeConfig(2, 3, "relu", model="m", hook="h", max_norm_ratio=0.5)
    with pytest.raises(ValueError, match=r"`activation='topk'` needs `k`"):
        SaeConfig(2, 3, "topk", model="m", hook="h")
    with pytest.raises(ValueError, match=r"needs `k`, the latents per token, from 1 to d_sae; it is 4"):
        SaeConfig(2, 3, "topk", model="m", hook="h", k=4)
    with pytest.raises(ValueError, match=r"`feature_threshold=nan` must be a finite number from 0 on"):
        SaeConfig(2, 3, "relu", model="m", hook="h", feature_threshold=float("nan"))
