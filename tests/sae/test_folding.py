"""The encoder alone, other types and devices, saving again, and the arithmetic of folding."""

import re

import pytest
import torch
from helpers.published import EACH, GEMMA, SAELENS, WEIGHTS, X, changed, each, refused
from hypothesis import given, settings
from hypothesis import strategies as st
from sae.test_parity import CASES, load, recorded
from safetensors.torch import save

from hf_sae_select import SaeConfig, SparseAutoencoder, load_sae
from hf_sae_select.sae.formats.layout import Layout

# The encoder alone

DECODER = re.compile(r"decoder(_linear)?\.weight|W_dec|w_dec|W_D")


@each
def test_an_encoder_alone_encodes_the_same(tmp_path, name):
    folder = EACH[name].at(tmp_path)
    alone = load_sae(folder, encoder_only=True)
    assert (alone.W_dec, alone.b_dec, alone.W_skip) == (None, None, None)
    torch.testing.assert_close(alone.encode(X), load_sae(folder).encode(X), atol=0, rtol=0)


NEEDS_DECODER = {"saelens_rescaled", "llama_scope", "llama_scope_pre_bias", "llama_scope_r1"}
NEEDS_DECODER |= {"llamascopium_jumprelu", "llamascopium_topk"}


@each
def test_an_encoder_alone_does_not_read_a_decoder_that_it_does_not_need(tmp_path, name):
    repo = EACH[name]
    decoder = next(filter(DECODER.fullmatch, repo.tensors))
    tensors = repo.tensors | {decoder: torch.full_like(repo.tensors[decoder], float("nan"))}
    folder = changed(repo, tmp_path / "nan", repo.holding(tensors))
    refused(folder, decoder, "NaN")
    if name in NEEDS_DECODER:
        refused(folder, decoder, "NaN", encoder_only=True)
    else:
        found = load_sae(folder, encoder_only=True).encode(X)
        assert torch.equal(found, load_sae(repo.at(tmp_path)).encode(X))


def test_an_encoder_alone_decodes_nothing(tmp_path):
    sae = load_sae(GEMMA.at(tmp_path), encoder_only=True)
    with pytest.raises(ValueError, match="encoder_only"):
        sae(X)
    with pytest.raises(ValueError, match="encoder_only"):
        sae.save_pretrained(tmp_path / "x")


# Types, devices, and back


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_dtype_and_device(tmp_path, name, dtype):
    sae = load_sae(EACH[name].at(tmp_path), dtype=dtype, device=torch.device("cpu"))
    assert {parameter.dtype for parameter in sae.parameters()} == {dtype}
    assert all(parameter.is_contiguous() and not parameter.requires_grad for parameter in sae.parameters())
    assert sae.encode(X.to(dtype)).dtype == dtype
    assert {parameter.device.type for parameter in load_sae(EACH[name].at(tmp_path), device="meta").parameters()} == {
        "meta"
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_weights_of_another_type_are_read_as_float32(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in SAELENS.tensors.items()}
    sae = load_sae(changed(SAELENS, tmp_path, {WEIGHTS: save(tensors)}))
    assert sae.W_enc.dtype == torch.float32
    b_enc = tensors["b_enc"].float() - tensors["b_dec"].float() @ tensors["W_enc"].float()
    torch.testing.assert_close(sae.encode(X), (X @ tensors["W_enc"].float() + b_enc).relu())


@each
def test_what_is_loaded_can_be_saved_and_is_then_our_own(tmp_path, name):
    sae = load_sae(EACH[name].at(tmp_path))
    sae.save_pretrained(tmp_path / "ours")
    for again in (SparseAutoencoder.from_pretrained(tmp_path / "ours"), load_sae(tmp_path / "ours")):
        assert torch.equal(again.encode(X), sae.encode(X))
        assert torch.equal(again(X), sae(X))
        assert again.digest() == sae.digest()
    assert SparseAutoencoder.from_pretrained(tmp_path / "ours").config == sae.config


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_what_other_libraries_saved_can_be_saved_as_our_own(tmp_path, case):
    for folder, expected in recorded(case):
        sae = load(case, folder)
        sae.save_pretrained(tmp_path / "ours" / folder)
        again = SparseAutoencoder.from_pretrained(tmp_path / "ours" / folder)
        assert again.config == sae.config
        assert torch.equal(again.encode(expected["x"]), sae.encode(expected["x"]))
        assert torch.equal(again(expected["x"]), sae(expected["x"]))


@each
def test_saelens_would_read_what_is_saved_as_we_do(tmp_path, name):
    sae = load_sae(EACH[name].at(tmp_path))
    sae.save_pretrained(tmp_path / "ours")
    as_saelens = load_sae(tmp_path / "ours", format="saelens")
    assert torch.equal(as_saelens.encode(X), sae.encode(X))
    assert torch.equal(as_saelens(X), sae(X))
    assert (as_saelens.config.hook, as_saelens.config.side) == (sae.config.hook, sae.config.side)
    assert (as_saelens.config.d_out, as_saelens.config.skip) == (sae.config.d_out, sae.config.skip)


def test_where_it_came_from_is_kept_when_it_is_saved(hub, tmp_path):
    hub.push(SAELENS.id, SAELENS.files)
    sae = load_sae(SAELENS.id)
    sae.save_pretrained(tmp_path / "ours")
    assert load_sae(tmp_path / "ours").config.source["repo"] == SAELENS.id


def test_an_sae_in_hand_is_returned(tmp_path):
    sae = load_sae(GEMMA.at(tmp_path))
    assert load_sae(sae) is sae


# Folding


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**16), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(["relu", "jumprelu", "topk", "abstopk", "groupmax"]), st.floats(0.1, 10), st.floats(0.1, 10),
)  # fmt: skip
def test_folding_is_the_arithmetic_that_it_says(seed, subtract, unit, gate, centre, logarithm, kind, s_in, s_out):
    """x -> act((s_in (x - mean) - b_dec) @ W + b) as it is said, beside the same in one matrix and one bias."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    t = {"W_enc": normal(4, 12), "b_enc": normal(12), "W_dec": normal(12, 4), "b_dec": normal(4)}
    jumps = kind == "jumprelu"
    unit, gate = unit and not (gate and jumps), gate and jumps
    if jumps:
        t["threshold"] = normal(12) if logarithm else normal(12).abs()
    if subtract:
        s_out = s_in
    config = SaeConfig(4, 12, kind, model="m", hook="h", k=None if kind in ("relu", "jumprelu") else 3)
    layout = Layout(
        config,
        {name: name for name in t},
        subtract_b_dec=subtract,
        scale={"W_enc": s_in, "W_dec": 1 / s_out, "b_dec": 1 / s_out} | ({"threshold": 1 / s_out} if gate else {}),
        unit_decoder=unit,
        norm_gate=gate,
        centre=centre,
        logarithm=jumps and logarithm,
    )
    sae = SparseAutoencoder.from_tensors(config, layout.folded(dict(t), encoder_only=False))

    x = normal(9, 4)
    centred = x - x.mean(dim=1, keepdim=True) if centre else x
    pre = (s_in * centred - (t["b_dec"] if subtract else 0)) @ t["W_enc"] + t["b_enc"]
    norm = t["W_dec"].norm(dim=1)
    seen = pre * norm / (s_out if unit else 1) if unit or gate else pre
    if jumps:
        threshold = t["threshold"].exp() if logarithm else t["threshold"]
        z = torch.where(seen > threshold, pre.relu(), 0)
    elif kind == "relu":
        z = pre.relu()
    else:
        groups = seen.unflatten(-1, (3, -1)) if kind == "groupmax" else None
        size = seen.abs() if kind == "abstopk" else seen
        kept = (
            (groups == groups.amax(dim=-1, keepdim=True)).flatten(-2)
            if groups is not None
            else size >= size.topk(3, dim=-1).values[:, -1:]
        )
        z = pre * kept if kind == "abstopk" else pre.relu() * kept
    torch.testing.assert_close(sae(x), z @ t["W_dec"] / s_out + t["b_dec"] / s_out, atol=1e-9, rtol=1e-9)
    assert torch.equal(sae.encode(x) != 0, z != 0)
    assert torch.equal(layout.folded(dict(t), encoder_only=True)["W_enc"], sae.W_enc)
