"""The arithmetic of folding, on random layouts."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_sae_select import SaeConfig, SparseAutoencoder
from hf_sae_select.sae.formats.layout import Layout, same_names


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**16), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.booleans(),
    st.sampled_from(["relu", "jumprelu", "topk", "abstopk", "groupmax"]), st.floats(0.1, 10), st.floats(0.1, 10),
)  # fmt: skip
def test_folding_is_the_arithmetic_that_it_says(seed, subtract, unit, gate, center, logarithm, kind, s_in, s_out):
    """Compare act((s_in (x - mean) - b_dec) @ W + b), computed literally, with one matrix and one bias."""
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
        same_names(*t),
        subtract_b_dec=subtract,
        scale={"W_enc": s_in, "W_dec": 1 / s_out, "b_dec": 1 / s_out} | ({"threshold": 1 / s_out} if gate else {}),
        unit_decoder=unit,
        norm_gate=gate,
        center_input=center,
        log_threshold=jumps and logarithm,
    )
    sae = SparseAutoencoder.from_tensors(config, layout.fold(t, encoder_only=False))

    x = normal(9, 4)
    centerd = x - x.mean(dim=1, keepdim=True) if center else x
    pre = (s_in * centerd - (t["b_dec"] if subtract else 0)) @ t["W_enc"] + t["b_enc"]
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
    assert torch.equal(layout.fold(t, encoder_only=True)["W_enc"], sae.W_enc)
