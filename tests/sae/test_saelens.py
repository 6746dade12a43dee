"""SAELens reads what we write. Runs where SAELens is installed, in an environment of its own."""

import pytest
import torch
from helpers import tiny

from hf_sae_select import SaeConfig

sae_lens = pytest.importorskip("sae_lens", reason="SAELens is no dependency")

CONFIGS = {
    "relu": {},
    "jumprelu": {},
    "topk": {"k": 3},
    "abstopk": {"k": 3},
    "layer norm": {"activation": "relu", "input_norm": "layer_norm"},
    "rms": {"activation": "jumprelu", "input_norm": "rms"},
    "transcoder": {"activation": "relu", "d_out": 6},
    "jumprelu transcoder": {"activation": "jumprelu", "d_out": 6},
    "skip transcoder": {"activation": "relu", "d_out": 6, "skip": True},
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_saelens_encodes_as_we_do(kind, tmp_path):
    options = {"activation": kind} | CONFIGS[kind]
    config = SaeConfig(8, 24, model="org/model", hook="layers.1", context_size=64, **options)
    sae = tiny.sae(config)
    sae.save_pretrained(tmp_path)
    other = sae_lens.SAE.load_from_disk(tmp_path)
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(other.encode(x), sae.encode(x), atol=1e-5, rtol=1e-5)
        if config.d_out is None:
            torch.testing.assert_close(other(x), sae(x), atol=1e-4, rtol=1e-4)
    assert other.cfg.metadata.hook_name == "layers.1"
    assert other.cfg.metadata.context_size == 64
