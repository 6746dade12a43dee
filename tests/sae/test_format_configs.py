"""Config files with impossible values are refused by the name of the value."""

import json
import re

import pytest
from helpers import published
from helpers.published import D_IN, D_SAE, changed, js, refused

TOPK = {"architecture": "topk"}


@pytest.mark.parametrize(
    ("cfg", "word"),
    [
        (TOPK, "`k=None`"),
        *((TOPK | {"k": k}, "`k=") for k in (0, -1, D_SAE + 1, 2.5, "3", True, float("nan"), 10**30)),
        ({"d_in": D_IN + 1}, "d_in"),
        ({"d_in": str(D_IN)}, "d_in"),
        ({"d_sae": 10**18}, "d_sae"),
        ({"d_sae": -1}, "d_sae"),
        ({"architecture": "transformer"}, "architecture"),
        ({"architecture": ["topk"]}, "architecture"),
        ({"normalize_activations": "batch"}, "normalize_activations"),
        ({"hook_head_index": 2}, "hook_head_index"),
        ({"metadata": "x"}, "metadata"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"model_name": 5, "hook_name": "h"}}, "model"),
        ({"metadata": {"model_name": "m"}}, "hook_name"),
        ({"metadata": {"hook_name": "h"}}, "model_name"),
        ({"activation_fn": "topk", "activation_fn_kwargs": [3]}, "activation_fn_kwargs"),
        ({"model_from_pretrained_kwargs": "x"}, "model_from_pretrained_kwargs"),
        ({"metadata": {"model_name": "m", "hook_name": "h", "context_size": "x"}}, "context_size"),
        *(
            ({"normalize_activations": "expected_average_only_in", "norm_scaling_factor": f}, "norm_scaling_factor")
            for f in (0, float("nan"), float("inf"), -1, "x")
        ),
    ],
    ids=str,
)
def test_impossible_saelens_configs(tmp_path, cfg, word):
    refused(published.saelens(cfg=cfg).at(tmp_path), word)


@pytest.mark.parametrize("architecture", ["temporal", "matching_pursuit"])
def test_saelens_architectures_of_several_passes_are_refused_by_name(tmp_path, architecture):
    refused(published.saelens(cfg={"architecture": architecture}).at(tmp_path), architecture, "feed-forward")


NORM = "dataset_average_activation_norm"


@pytest.mark.parametrize(
    ("config", "word"),
    [
        *(({"jump_relu_threshold": t}, "jump_relu_threshold") for t in (None, "x", [1], float("nan"), float("inf"))),
        *(({NORM: {"in": n, "out": 1.0}}, NORM) for n in (0, -1.0, float("nan"), "x")),
        *(({NORM: n}, NORM) for n in (None, 3, {})),
        *(({"act_fn": "topk", "top_k": k}, "`k=") for k in (None, 0, D_SAE + 1)),
        ({"d_model": D_IN + 1}, "d_model"),
        ({"d_sae": 10**18}, "d_sae"),
        ({"hook_point_in": None}, "hook_point_in"),
        ({"act_fn": "gelu"}, "act_fn"),
    ],
    ids=str,
)
def test_impossible_llama_scope_hyperparameters(tmp_path, config, word):
    refused(published.llama_scope(**config).at(tmp_path), word)


@pytest.mark.parametrize(
    ("top", "trainer", "word"),
    [
        *(({"trainer": value}, None, "trainer") for value in ("x", None, [1])),
        ({"buffer": "x"}, {}, "buffer"),
        ({"buffer": {"io": "in"}}, {}, "io"),
        ({}, {"k": "abc"}, "k"),
        ({}, {"layer": None}, "layer"),
        ({}, {"dict_class": "Foo"}, "dict_class"),
        ({}, {"activation_dim": 5}, "activation_dim"),
        ({}, {"dict_size": 10**18}, "dict_size"),
    ],
    ids=str,
)
def test_impossible_dictionary_learning_configs(tmp_path, top, trainer, word):
    repo = published.dictionary_learning(trainer or {})
    path = next(path for path in repo.files if path.endswith(".json"))
    message = refused(changed(repo, tmp_path, {path: js(**json.loads(repo.files[path]) | top)}))
    assert re.search(rf"\b{word}\b", message)


@pytest.mark.parametrize(
    ("cfg", "word"),
    [
        ({"k": None}, "`k`"),
        *(({"k": k}, "`k=") for k in (0, D_SAE + 1, "4")),
        ({"num_latents": 10**18}, "num_latents"),
        ({"num_latents": 0, "expansion_factor": 10**18}, "num_latents"),
        ({"d_in": D_IN + 1}, "d_in"),
        ({"activation": "gelu"}, "activation"),
        ({"activation": "groupmax", "k": 5}, "`k=5`"),
    ],
    ids=str,
)
def test_impossible_sparsify_configs(tmp_path, cfg, word):
    refused(published.sparsify(cfg=cfg).at(tmp_path), word)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 20_000, "nested too deeply"),
        ("a: " + "{b: " * 5_000, "nested too deeply"),
        ("- " * 5_000 + "a", "nested too deeply"),
        ("\n".join(" " * i + "a:" for i in range(300)), "nested too deeply"),
        ("a: " + ":".join(["1"] * 40_000), "80,002 characters"),
        ("a: " + "1" * 60_000, "limit"),
        ("a: &a [1]\nb: *a", "aliases"),
    ],
    ids=["brackets", "braces", "dashes", "indents", "base 60", "digits", "aliases"],
)
def test_yaml_that_takes_long_to_read_is_refused(tmp_path, text, reason):
    folder = changed(published.mntss(), tmp_path, {"config.yaml": text.encode()})
    refused(folder, "cannot read config.yaml: ", reason)
