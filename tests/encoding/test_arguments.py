"""The arguments of `encode`: what they change, and what is refused before a model is loaded."""

from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from helpers.encoded import codes
from transformers import BitsAndBytesConfig

from hf_sae_select import encode
from hf_sae_select.encoding.arguments import RESERVED, EncodingArguments
from hf_sae_select.encoding.encoder import Encoder
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.recorded import recorded_arguments
from hf_sae_select.encoding.text import find_text
from hf_sae_select.engines.processes import processes
from hf_sae_select.features.columns import encoding_record


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"batch_size": 0}, ValueError, "`batch_size=0` must be a positive integer"),
        ({"batch_size": True}, ValueError, "`batch_size=True`"),
        ({"tokens_per_batch": 0}, ValueError, "`tokens_per_batch=0` must be a positive integer"),
        (
            {"tokens_per_batch": 64, "batch_size": 2},
            ValueError,
            "`batch_size=2` and `tokens_per_batch=64` both say how large",
        ),
        (
            {"precision": "tf32"},
            ValueError,
            "unknown `precision='tf32'`; choose one of: float32, bfloat16x3, bfloat16",
        ),
        ({"max_length": 2.5}, ValueError, "`max_length=2.5`"),
        ({"keep": "means"}, ValueError, "unknown `keep='means'`; pass a number of features"),
        ({"keep": ["state", 3.5]}, ValueError, r"unknown `keep=\['state', 3.5\]`"),
        (
            {"keep": 0},
            ValueError,
            "unknown `keep=0`; pass a number of features of a row from 1 on, such as 256, or 'all'",
        ),
        ({"keep": -1}, ValueError, "unknown `keep=-1`"),
        ({"keep": True}, ValueError, "unknown `keep=True`"),
        ({"keep": "everything"}, ValueError, "unknown `keep='everything'`"),
        ({"keep": ("all", 256)}, ValueError, r"unknown `keep=\('all', 256\)`"),
        ({"keep": (3, 5)}, ValueError, r"unknown `keep=\(3, 5\)`"),
        ({"keep": None}, ValueError, "unknown `keep=None`"),
        ({"device": "gpu"}, ValueError, "`device='gpu'` is not available here: .*pass 'cpu', or"),
        ({"device": "meta"}, ValueError, "`device='meta'` is not available here: it holds no numbers"),
        ({"device": torch.device("meta")}, ValueError, "`device='meta'` is not available here"),
        ({"device": "cuda:99"}, ValueError, "`device='cuda:99'` is not available here"),
        ({"device": 0}, TypeError, "`device=0` must be a string such as 'cpu'"),
        ({"dtype": "int8"}, ValueError, "unknown `dtype='int8'`; choose one of: auto, float32, bfloat16"),
        ({"dtype": torch.int8}, ValueError, "unknown `dtype='int8'`"),
        ({"dtype": 32}, ValueError, "unknown `dtype=32`"),
        ({"model_kwargs": "eager"}, TypeError, "`model_kwargs='eager'` must be a dict"),
        ({"model_kwargs": {1: 2}}, TypeError, "`model_kwargs=.*` must be a dict"),
        ({"model_kwargs": {"a": object()}}, TypeError, r"`model_kwargs\['a'\]=<object.*` has no JSON form"),
        ({"model_kwargs": {"a": float("nan")}}, TypeError, r"`model_kwargs\['a'\]=nan` has no JSON form"),
        ({"show_progress_bar": 1}, ValueError, "`show_progress_bar=1` must be True or False"),
        ({"text": "words"}, ValueError, "no column `words`"),
        ({"text": "id"}, TypeError, "column `id` holds"),
        (
            {"sae": "no/such/folder"},
            FileNotFoundError,
            "'no/such/folder' is neither a local folder nor a valid Hub repo id",
        ),
    ],
)
def test_bad_arguments_are_refused_before_a_model_loads(ds, sae, loads, arguments, error, message):
    with pytest.raises(error, match=message):
        encode(ds, **({"sae": sae} | arguments))
    assert not loads


@pytest.mark.parametrize("name", RESERVED)
def test_arguments_that_contradict_ours_are_refused_by_name(ds, sae, loads, name):
    with pytest.raises(ValueError, match=f"`model_kwargs` must not have `{name}`: "):
        encode(ds, sae, model_kwargs={"attn_implementation": "eager", name: None})
    assert not loads


@pytest.mark.parametrize(
    ("model_kwargs", "message"),
    [
        ({"hidden_act": "relu"}, "must not have `hidden_act`: it would change the model .* config has 'gelu'"),
        ({"max_position_embeddings": 16}, "must not have `max_position_embeddings`"),
        ({"device_map": "meta"}, "`device_map='meta'` is not available here: it holds no numbers"),
        ({"device_map": {"": "nowhere"}}, "`device_map='nowhere'` is not available here"),
    ],
)
def test_arguments_that_change_the_model_are_refused_before_its_weights_are_read(ds, sae, model_kwargs, message):
    with pytest.raises(ValueError, match=message):
        encode(ds, sae, model_kwargs=model_kwargs)


def test_a_policy_of_precision_is_for_an_sae_in_float32(ds, sae, loads):
    with pytest.raises(
        ValueError, match="`precision='bfloat16'` is for an SAE in float32, and this one is in float64"
    ):
        encode(ds, sae.double(), precision="bfloat16")
    assert not loads


def test_a_budget_of_tokens_below_one_window_is_refused(ds, sae, loads):
    with pytest.raises(ValueError, match="`tokens_per_batch=15` is below one window of 16 tokens; pass 16 or more"):
        encode(ds, sae, tokens_per_batch=15)  # as many as the model reads
    with pytest.raises(ValueError, match="`tokens_per_batch=6` is below one window of 7 tokens"):
        encode(ds, sae, tokens_per_batch=6, max_length=5)
    loads.clear()
    sae.config = replace(sae.config, context_size=12)
    with pytest.raises(ValueError, match="`tokens_per_batch=11` is below one window of 12 tokens"):
        encode(ds, sae, tokens_per_batch=11)
    assert not loads


def test_a_gpu_has_a_budget_of_tokens_by_default_and_a_cpu_has_none(monkeypatch):
    assert EncodingArguments.parse(device="cpu").budget is None
    assert EncodingArguments.parse(device="cpu", tokens_per_batch=99).budget == 99
    monkeypatch.setattr("hf_sae_select.encoding.arguments._device", lambda _: torch.device("cuda", 0))
    assert EncodingArguments.parse().budget == 16_384
    assert EncodingArguments.parse(tokens_per_batch=99).budget == 99
    assert EncodingArguments.parse(batch_size=8).budget is None


def test_arguments_have_one_form():
    arguments = EncodingArguments.parse(max_length=np.int64(3), dtype=torch.bfloat16, keep=["state"])
    assert (arguments.max_length, type(arguments.max_length), arguments.dtype) == (3, int, "bfloat16")
    assert arguments.keep_state and not EncodingArguments.parse().keep_state
    assert EncodingArguments.parse().device == processes().device
    assert EncodingArguments.parse(device="cpu").device == torch.device("cpu")


def test_the_defaults_given_by_name_are_the_defaults(ds, sae, loads):
    plain = encode(ds, sae)
    named = encode(ds, sae, device="cpu", dtype="float32", model_kwargs={}, show_progress_bar=False, keep=())
    assert named._fingerprint == plain._fingerprint and len(loads) == 1
    assert "model_kwargs" not in encoding_record(plain)


def test_another_attention_gives_the_same_codes_under_another_key(ds, sae, loads):
    plain, eager = encode(ds, sae), encode(ds, sae, model_kwargs={"attn_implementation": "eager"})
    assert len(loads) == 2 and plain._fingerprint != eager._fingerprint
    assert encoding_record(eager) == encoding_record(plain) | {"model_kwargs": {"attn_implementation": "eager"}}
    for row, expected in zip(codes(eager), codes(plain), strict=True):
        assert row == pytest.approx(expected, abs=1e-4)
    assert encode(ds, sae, model_kwargs={"attn_implementation": "eager"})._fingerprint == eager._fingerprint
    assert len(loads) == 2
    with pytest.raises(ValueError, match="features can't be aligned"):
        datasets.concatenate_datasets([plain, eager])


def test_arguments_reach_from_pretrained(ds, sae, monkeypatch):
    arguments, load = [], LanguageModel.load_model
    monkeypatch.setattr(LanguageModel, "load_model", lambda *a, **k: arguments.append((a[2], k)) or load(*a, **k))
    encode(ds, sae, dtype=torch.bfloat16, model_kwargs={"attn_implementation": "eager"})
    assert arguments == [("bfloat16", {"attn_implementation": "eager"})]


def test_a_dtype_is_recorded_and_changes_the_codes_a_little(ds, sae):
    plain, half = encode(ds, sae), encode(ds, sae, dtype=torch.bfloat16)
    assert encoding_record(half) == encoding_record(plain) | {"dtype": ["bfloat16", "float32"]}
    assert encode(ds, sae, dtype="bfloat16")._fingerprint == half._fingerprint
    first, expected = codes(half)[0], codes(plain)[0]
    assert first != expected and len(first.keys() & expected.keys()) > len(expected) / 2


@pytest.mark.parametrize("precision", ["bfloat16x3", "bfloat16"])
def test_a_policy_of_precision_is_recorded_and_changes_the_activations_a_little(ds, sae, precision):
    plain, other = encode(ds, sae), encode(ds, sae, precision=precision)
    assert encoding_record(other) == encoding_record(plain) | {"precision": precision}
    assert other._fingerprint != plain._fingerprint
    near = {"bfloat16x3": 1e-5, "bfloat16": 0.05}[precision]
    for row, expected in zip(codes(other), codes(plain), strict=True):
        assert {i: row.get(i, 0) for i in expected} == pytest.approx(expected, abs=near)
    again = recorded_arguments(encoding_record(other))
    assert again.precision == precision


def test_the_precision_of_products_in_this_process_is_recorded_unless_it_is_the_highest(ds, sae, loads):
    plain = encode(ds, sae)
    assert encode(ds, sae, precision="float32")._fingerprint == plain._fingerprint and len(loads) == 1
    torch.set_float32_matmul_precision("high")
    try:
        other = encode(ds, sae)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert encoding_record(other) == encoding_record(plain) | {"float32_matmul_precision": "high"}
    assert other._fingerprint != plain._fingerprint


def test_what_transformers_chooses_is_recorded_and_no_key(ds, sae, loads):
    plain, auto = encode(ds, sae), encode(ds, sae, dtype="auto")
    resolved = {"dtype": "float32", "attn_implementation": "sdpa"}
    assert encoding_record(auto) == encoding_record(plain) | {"dtype": ["auto", "float32"], "resolved": resolved}
    eager = encode(ds, sae, dtype="auto", model_kwargs={"attn_implementation": "eager"})
    assert encoding_record(eager)["resolved"] == {"dtype": "float32", "attn_implementation": "eager"}
    assert codes(auto) == codes(plain) and len(loads) == 3


def test_configs_are_recorded_by_their_dict():
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.bfloat16)
    arguments = EncodingArguments.parse(model_kwargs={"quantization_config": config, "device_map": {"": 0}})
    record = arguments.model_kwargs_record
    assert arguments.model_kwargs["quantization_config"] is config and record["device_map"] == {"": 0}
    assert record["quantization_config"]["load_in_4bit"] is True
    assert record["quantization_config"]["bnb_4bit_compute_dtype"] == "bfloat16"


def test_a_device_map_places_the_model(ds, sae):
    mapped = encode(ds, sae, model_kwargs={"device_map": "cpu"})
    assert codes(mapped) == codes(encode(ds, sae)) and encoding_record(mapped)["model_kwargs"] == {"device_map": "cpu"}


def test_an_sae_on_the_same_device_is_not_copied(ds, sae):
    encoder = Encoder(sae, find_text(ds), EncodingArguments.parse(device="cpu"))
    encoder.load()
    assert encoder.sae is sae


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_index_of_a_gpu_counts(ds, sae):
    expected = codes(encode(ds, sae, device="cpu"))
    last = torch.device("cuda", torch.cuda.device_count() - 1)
    for held in ("cpu", "cuda:0"):
        datasets.disable_caching()
        coded = codes(encode(ds, sae.to(held), device=last, dtype="float32"))
        assert coded[0] == pytest.approx(expected[0], abs=1e-3) and sae.W_enc.device == torch.device(held)
