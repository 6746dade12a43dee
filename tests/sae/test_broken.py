"""Files that are broken or mean harm are refused, in words that say what is wrong with what."""

import io
import json
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch
from helpers import published
from helpers.published import (
    CFG,
    CONNOR,
    D_IN,
    D_SAE,
    EACH,
    GEMMA,
    PARAMS,
    SAELENS,
    WEIGHTS,
    X_PT,
    changed,
    each,
    js,
    pt,
    refused,
)
from safetensors.torch import save

from hf_sae_select import load_sae


def test_names_in_a_config_are_names_and_no_paths(tmp_path):
    (tmp_path / "evil").mkdir()
    metadata = {"model_name": "../evil", "hook_name": "../../evil/cfg.json"}
    sae = load_sae(published.saelens(metadata=metadata).at(tmp_path))
    assert (sae.config.model, sae.config.hook) == ("../evil", "../../evil/cfg.json")


ENCODER = re.compile(r"encoder(_linear)?\.weight|W_enc|w_enc|W_E")


@each
@pytest.mark.parametrize("fault", ["unexpected", "short", "transposed", "nan", "inf", "int"])
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, name, fault):
    repo = EACH[name]
    tensors = dict(repo.tensors)
    victim = next(filter(ENCODER.fullmatch, tensors))
    weights = tensors[victim].clone()
    match fault:
        case "unexpected":
            victim, weights = "surprise", torch.zeros(3)
        case "short":
            victim = next(name for name, tensor in tensors.items() if tensor.shape == (D_SAE,))
            weights = tensors[victim][:-1].clone()
        case "transposed":
            weights = weights.T.contiguous()
        case "nan" | "inf":
            weights[1, 2] = float(fault)
        case "int":
            weights = weights.round().long()
    said = refused(changed(repo, tmp_path, repo.holding(tensors | {victim: weights})))
    if fault == "transposed":  # then its width is not what something else says it is
        assert re.search(r"`(d_in|d_model|act_size|activation_dim|" + "|".join(map(re.escape, tensors)) + ")", said)
    else:
        assert f"`{victim}`" in said


@each
def test_tensors_that_are_missing_are_missed(tmp_path, name):
    repo = EACH[name]
    may_miss = {"W_skip", "affine_skip_connection"}
    if name in ("llamascopium_jumprelu", "llamascopium_topk"):  # not scaled by it
        may_miss.add(f"dataset_average_activation_norm.{published.HOOK}")
    for victim in repo.tensors.keys() - may_miss:
        rest = {name: tensor for name, tensor in repo.tensors.items() if name != victim}
        said = refused(changed(repo, tmp_path, repo.holding(rest)))
        assert f"`{victim}` is missing" in said or "of no layout that is known; its tensors: " in said, victim


def file_of(suffix):
    return {
        ".safetensors": (SAELENS, WEIGHTS),
        ".npz": (GEMMA, PARAMS),
        ".pt": (CONNOR, X_PT),
    }[suffix]


@pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".pt"])
@pytest.mark.parametrize("damage", ["pointer", "empty", "noise", "half", "end"])
def test_damaged_weights_are_refused_by_name(tmp_path, suffix, damage):
    repo, path = file_of(suffix)
    whole = repo.files[path]
    content = {
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "empty": b"",
        "noise": np.random.default_rng(0).bytes(500),
        "half": whole[: len(whole) // 2],
        "end": whole[:-20],
    }[damage]
    said = refused(changed(repo, tmp_path, {path: content}), path.rpartition("/")[2])
    assert ("git lfs pull" in said) == (damage == "pointer")


class Bomb:
    """Opens a file for writing as it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("container", ["torch", "legacy", "pickle", "npz"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")  # torch, of what is no archive
def test_code_in_a_file_is_not_run(tmp_path, container):
    bomb, file = Bomb(tmp_path / "bang"), io.BytesIO()
    repo, path = file_of(".npz" if container == "npz" else ".pt")
    match container:
        case "torch":
            torch.save(repo.tensors | {"x": bomb}, file)
        case "legacy":
            torch.save(repo.tensors | {"x": bomb}, file, _use_new_zipfile_serialization=False)
        case "pickle":
            pickle.dump({"W_enc": bomb}, file)
        case "npz":
            arrays = {name: tensor.numpy() for name, tensor in repo.tensors.items()}
            np.savez(file, **arrays | {"W_enc": np.array([[bomb]], dtype=object)})
    said = refused(changed(repo, tmp_path, {path: file.getvalue()}), path.rpartition("/")[2])
    assert not (tmp_path / "bang").exists()
    assert "weights_only" not in said  # torch tells how to run the code all the same
    assert "\x1b" not in said


def shape_only(shape):
    """An npz member that says it is huge, and is not."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(64)


def test_arrays_larger_than_their_file_are_refused(tmp_path):
    huge, file = 2**43, io.BytesIO()
    sizes = {"W_enc": (D_IN, huge), "W_dec": (huge, D_IN), "b_enc": (huge,), "b_dec": (D_IN,), "threshold": (huge,)}
    with zipfile.ZipFile(file, "w") as archive:
        for name, shape in sizes.items():
            archive.writestr(f"{name}.npy", shape_only(shape))
    refused(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}), "W_enc")


def test_tensors_larger_than_their_file_are_refused(tmp_path):
    huge, one = 2**43, torch.zeros(1)
    tensors = {"W_enc": one.expand(D_IN, huge), "W_dec": one.expand(huge, D_IN), "b_enc": one.expand(huge)}
    about = js(act_size=D_IN, act_name="blocks.3.attn.hook_z")
    content = pt(tensors | {"b_dec": torch.zeros(D_IN)})
    refused(changed(CONNOR, tmp_path, {X_PT: content, f"{X_PT[:-3]}_cfg.json": about}), "W_enc")


@pytest.mark.parametrize(
    "kind",
    [lambda w: w.to_sparse(), lambda w: w.to("meta"), lambda w: w.to(torch.complex64)],
    ids=["sparse", "meta", "complex"],
)
def test_tensors_that_are_no_plain_numbers_are_refused(tmp_path, kind):
    tensors = CONNOR.tensors | {"W_enc": kind(CONNOR.tensors["W_enc"])}
    refused(changed(CONNOR, tmp_path, {X_PT: pt(tensors)}), "W_enc")


def test_weights_of_eight_bits_are_read_or_refused_by_name(tmp_path):
    tensors = SAELENS.tensors | {"W_enc": SAELENS.tensors["W_enc"].to(torch.float8_e4m3fn)}
    folder = changed(SAELENS, tmp_path, {WEIGHTS: save(tensors)})
    try:
        assert torch.equal(load_sae(folder).W_enc, tensors["W_enc"].float())
    except ValueError as error:
        assert "W_enc" in str(error)


@pytest.mark.parametrize("extra", [np.array("x"), np.array(1j), np.array(["x", "y"]), np.array(1.0)], ids=repr)
def test_arrays_that_nobody_asked_for_are_refused_by_name(tmp_path, extra):
    file = io.BytesIO()
    np.savez(file, surprise=extra, **{name: tensor.numpy() for name, tensor in GEMMA.tensors.items()})
    refused(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}), "surprise")


def test_arrays_of_the_other_byte_order_or_precision(tmp_path):
    def load(kind):
        file = io.BytesIO()
        np.savez(
            file, **{name: np.asfortranarray(tensor.numpy().astype(kind)) for name, tensor in GEMMA.tensors.items()}
        )
        return load_sae(changed(GEMMA, tmp_path, {PARAMS: file.getvalue()}))

    assert torch.equal(load("<f8").W_enc, GEMMA.tensors["W_enc"])
    with pytest.raises(ValueError, match=r"`W_enc`.*byte order"):
        load(">f4")


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b"null", b"", b"\xff\xfe", b"[" * 100_000, b'{"k": ' * 100_000],
    ids=["cut", "list", "null", "empty", "no text", "deep", "deeper"],
)  # fmt: skip
def test_a_config_that_is_no_json_object_is_refused_by_name(tmp_path, content):
    refused(changed(SAELENS, tmp_path, {CFG: content}), "cfg.json")


@pytest.mark.parametrize(
    "content", [b"model_name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['BANG']]",
                b"- a", b"", b"\xff\xfe", b"[" * 20_000, b"\tx: 1"],
    ids=["code", "list", "empty", "no text", "deep", "tab"],
)  # fmt: skip
def test_yaml_that_is_no_mapping_or_runs_code_is_refused_by_name(tmp_path, content):
    content = content.replace(b"BANG", str(tmp_path / "bang").encode())
    refused(changed(EACH["mwhanna"], tmp_path, {"config.yaml": content}), "config.yaml")
    assert not (tmp_path / "bang").exists()


TOPK = {"architecture": "topk"}


@pytest.mark.parametrize(
    ("cfg", "word"),
    [
        (TOPK, "`k`"),
        *((TOPK | {"k": k}, "`k`") for k in (0, -1, D_SAE + 1, 2.5, "3", True, float("nan"), 10**30)),
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
def test_a_saelens_config_that_cannot_be_is_refused_by_what_is_wrong(tmp_path, cfg, word):
    refused(published.saelens(cfg=cfg).at(tmp_path), word)


NORM = "dataset_average_activation_norm"


@pytest.mark.parametrize(
    ("config", "word"),
    [
        *(({"jump_relu_threshold": t}, "jump_relu_threshold") for t in (None, "x", [1], float("nan"), float("inf"))),
        *(({NORM: {"in": n, "out": 1.0}}, NORM) for n in (0, -1.0, float("nan"), "x")),
        *(({NORM: n}, NORM) for n in (None, 3, {})),
        *(({"act_fn": "topk", "top_k": k}, "`k`") for k in (None, 0, D_SAE + 1)),
        ({"d_model": D_IN + 1}, "d_model"),
        ({"d_sae": 10**18}, "d_sae"),
        ({"hook_point_in": None}, "hook_point_in"),
        ({"act_fn": "gelu"}, "act_fn"),
    ],
    ids=str,
)
def test_llama_scope_hyperparameters_that_cannot_be_are_refused_by_what_is_wrong(tmp_path, config, word):
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
def test_a_dictionary_learning_config_that_cannot_be_is_refused_by_what_is_wrong(tmp_path, top, trainer, word):
    repo = published.dictionary_learning(trainer or {})
    path = next(path for path in repo.files if path.endswith(".json"))
    said = refused(changed(repo, tmp_path, {path: js(**json.loads(repo.files[path]) | top)}))
    assert re.search(rf"\b{word}\b", said)


@pytest.mark.parametrize(
    ("cfg", "word"),
    [
        *(({"k": k}, "`k`") for k in (None, 0, D_SAE + 1, "4")),
        ({"num_latents": 10**18}, "num_latents"),
        ({"num_latents": 0, "expansion_factor": 10**18}, "num_latents"),
        ({"d_in": D_IN + 1}, "d_in"),
        ({"activation": "gelu"}, "activation"),
        ({"activation": "groupmax", "k": 5}, "`k`"),
    ],
    ids=str,
)
def test_a_sparsify_config_that_cannot_be_is_refused_by_what_is_wrong(tmp_path, cfg, word):
    refused(published.sparsify(cfg=cfg).at(tmp_path), word)


def test_numbers_that_overflow_as_they_are_folded_are_refused(tmp_path):
    repo = published.llama_scope_r1()
    repo.tensors["log_jumprelu_threshold"][0] = 1000.0
    path = next(path for path in repo.files if path.endswith(".safetensors"))
    refused(changed(repo, tmp_path, {path: save(repo.tensors)}), "threshold")
