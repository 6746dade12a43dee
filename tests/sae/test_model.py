"""The equations of an SAE on hand-written weights."""

import pytest
import torch
from torch import tensor

from hf_sae_select import SaeConfig, SparseAutoencoder
from hf_sae_select.sae.config import ACTIVATIONS, INPUT_NORMS


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
    monkeypatch.setattr("hf_sae_select.sae.model.TILE", 7)
    monkeypatch.setattr("hf_sae_select.sae.segments.FEW_ROWS", 1)
    sae, x, lengths = drawn(activation, norm)
    expected = torch.stack([part.amax(dim=0) for part in sae.encode(x).relu().split(lengths)])
    torch.testing.assert_close(sae.encode_max(x, lengths), expected)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_segment_has_the_same_bits_whatever_is_around_it(activation, monkeypatch):
    monkeypatch.setattr("hf_sae_select.sae.model.CHUNK_FLOATS", 20 * 300)
    sae, _, _ = drawn(activation)
    lengths = [3, 700, 1, 290, 6, 400]  # chunks of 300 rows end within the long ones
    parts = torch.randn(sum(lengths), 4, generator=torch.Generator().manual_seed(1)).split(lengths)
    together = sae.encode_max(torch.cat(parts), lengths)
    backwards = sae.encode_max(torch.cat(parts[::-1]), lengths[::-1]).flip(0)
    alone = torch.cat([sae.encode_max(part, [len(part)]) for part in parts])
    assert torch.equal(backwards, together) and torch.equal(alone, together)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_vector_that_is_not_finite_shows_in_its_segment_alone(activation, value):
    sae, x, lengths = drawn(activation)
    x[5, 2] = value
    is_finite = sae.encode_max(x, lengths).isfinite().all(dim=1)
    assert is_finite.tolist() == [True, True, False, True]


def test_the_digest_follows_the_encoder_and_only_the_encoder(sae):
    before = sae.digest()
    sae.W_dec.add_(1)
    assert sae.digest() == before
    sae.threshold[3] += 0.5
    assert sae.digest() != before


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        ({"activation": "topk", "k": 2}, "2 -> 3, topk, k=2, output of 'h.1' in 'm'"),
        ({"activation": "relu", "side": "input", "d_out": 4}, "2 -> 3 -> 4, relu, input of 'h.1' in 'm'"),
    ],
)
def test_print_shows_sizes_activation_hook_and_model(more, shown):
    assert repr(SparseAutoencoder(SaeConfig(2, 3, model="m", hook="h.1", **more))) == f"SparseAutoencoder({shown})"


def test_print_shows_that_the_decoder_is_left_out(sae, tmp_path):
    sae.save_pretrained(tmp_path)
    assert repr(SparseAutoencoder.from_pretrained(tmp_path, encoder_only=True)).endswith(", encoder only)")


@pytest.mark.parametrize("lengths", [[], [1], [3], [2, 0], [3, -1]])
def test_lengths_must_be_those_of_segments(lengths):
    with pytest.raises(ValueError, match="`lengths` must be positive and add up to the 2 vectors"):
        plane("relu").encode_max(torch.ones(2, 2), lengths)
