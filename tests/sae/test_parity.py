"""Our `encode` and `decode` beside those of the libraries that wrote the files, as `make_golden.py` recorded them."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from hf_sae_select import load_sae

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(GOLDEN.glob("*.safetensors"))


def recorded(case):
    """Yield (folder of one SAE, what its library gives)."""
    with safe_open(case, framework="pt") as file:
        oracle = json.loads(file.metadata()["oracle"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    for folder in oracle["folders"]:
        prefix = f"{folder}/" if len(oracle["folders"]) > 1 else ""
        own = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        yield folder, own


def load(case, folder, **options):
    hook = {"hook": "layers.1"} if case.stem == "sparsify_old" else {}  # it is at the root: no folder names its hook
    options.setdefault("config", {"model": "tiny"} | hook if case.stem.startswith("sparsify") else {})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*was trained on scaled inputs")
        return load_sae(case.with_suffix(""), subfolder=folder or None, **options)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_encode_and_decode_are_those_of_the_library(case):
    for folder, expected in recorded(case):
        sae = load(case, folder)
        x, z = expected["x"], sae.encode(expected["x"])
        close(z, expected["z"])
        assert torch.equal(z != 0, expected["z"] != 0)
        if "forward" in expected:
            close(sae(x), expected["forward"])
        elif "x_hat" in expected:
            close(sae(x), expected["x_hat"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_an_encoder_alone_encodes_the_same(case):
    for folder, expected in recorded(case):
        sae = load(case, folder, encoder_only=True)
        assert sae.W_dec is None
        close(sae.encode(expected["x"]), expected["z"])
