"""Any format becomes a config and our tensors: recognition, overrides, checks, the encoder alone, other types."""

import ast
import re
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from helpers import published
from helpers.published import CFG, D_SAE, GEMMA, REPOS, SAELENS, WEIGHTS, X, changed, every_repo, refused, written
from safetensors.torch import save

from hf_sae_select import load_sae
from hf_sae_select.sae.formats import FORMATS


@every_repo
def test_a_format_is_recognised_and_can_be_forced(tmp_path, name):
    folder = REPOS[name].at(tmp_path)
    sae = load_sae(folder)
    format = sae.config.source["format"]
    assert format in {known.name for known in FORMATS} and name.startswith(format)
    assert torch.equal(load_sae(folder, format=format).encode(X), sae.encode(X))


def test_formats_that_are_unknown_or_do_not_fit(tmp_path):
    folder = SAELENS.at(tmp_path)
    refused(folder, "`format='saelense'`", "saelens, ", format="saelense")
    refused(folder, "no SAE", "blocks.3/cfg.json", error=FileNotFoundError, format="goodfire")
    refused(REPOS["goodfire"].at(tmp_path), "encoder_linear.weight", format="qresearch")


def test_names_in_a_config_are_never_paths(tmp_path):
    (tmp_path / "evil").mkdir()
    metadata = {"model_name": "../evil", "hook_name": "../../evil/cfg.json"}
    sae = load_sae(published.saelens(metadata=metadata).at(tmp_path))
    assert (sae.config.model, sae.config.hook) == ("../evil", "../../evil/cfg.json")


ENCODER = re.compile(r"encoder(_linear)?\.weight|W_enc|w_enc|W_E")


@every_repo
@pytest.mark.parametrize("fault", ["unexpected", "short", "transposed", "nan", "inf", "int"])
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path, name, fault):
    repo = REPOS[name]
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
    message = refused(changed(repo, tmp_path, repo.with_tensors(tensors | {victim: weights})))
    if fault == "transposed":  # the error may name the config's width or another tensor
        assert re.search(r"`(d_in|d_model|act_size|activation_dim|" + "|".join(map(re.escape, tensors)) + ")", message)
    else:
        assert f"`{victim}`" in message


@every_repo
def test_missing_tensors_are_named(tmp_path, name):
    repo = REPOS[name]
    may_miss = {"W_skip", "affine_skip_connection"}
    if name in ("llamascopium_jumprelu", "llamascopium_topk"):  # not scaled by it
        may_miss.add(f"dataset_average_activation_norm.{published.HOOK}")
    for victim in repo.tensors.keys() - may_miss:
        rest = {name: tensor for name, tensor in repo.tensors.items() if name != victim}
        message = refused(changed(repo, tmp_path, repo.with_tensors(rest)))
        assert f"`{victim}` is missing" in message or "not an SAE of a known format" in message, victim


@pytest.mark.parametrize(
    "content", [b"{", b"[1]", b"null", b"", b"\xff\xfe", b"[" * 100_000, b'{"k": ' * 100_000],
    ids=["cut", "list", "null", "empty", "no text", "deep", "deeper"],
)  # fmt: skip
def test_a_config_must_be_a_json_object(tmp_path, content):
    refused(changed(SAELENS, tmp_path, {CFG: content}), "cfg.json")


@pytest.mark.parametrize(
    "content", [b"model_name: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['BANG']]",
                b"- a", b"", b"\xff\xfe", b"[" * 20_000, b"\tx: 1"],
    ids=["code", "list", "empty", "no text", "deep", "tab"],
)  # fmt: skip
def test_yaml_must_be_a_mapping_and_runs_no_code(tmp_path, content):
    content = content.replace(b"BANG", str(tmp_path / "bang").encode())
    refused(changed(REPOS["mwhanna"], tmp_path, {"config.yaml": content}), "config.yaml")
    assert not (tmp_path / "bang").exists()


def test_numbers_that_overflow_as_they_are_folded_are_refused(tmp_path):
    repo = published.llama_scope_r1()
    repo.tensors["log_jumprelu_threshold"][0] = 1000.0
    path = next(path for path in repo.files if path.endswith(".safetensors"))
    refused(changed(repo, tmp_path, {path: save(repo.tensors)}), "threshold")


DECODER = re.compile(r"decoder(_linear)?\.weight|W_dec|w_dec|W_D")


@every_repo
def test_an_encoder_alone_encodes_the_same(tmp_path, name):
    folder = REPOS[name].at(tmp_path)
    alone = load_sae(folder, encoder_only=True)
    assert (alone.W_dec, alone.b_dec, alone.W_skip) == (None, None, None)
    torch.testing.assert_close(alone.encode(X), load_sae(folder).encode(X), atol=0, rtol=0)


NEEDS_DECODER = {"saelens_rescaled", "llama_scope", "llama_scope_pre_bias", "llama_scope_r1"}
NEEDS_DECODER |= {"llamascopium_jumprelu", "llamascopium_topk"}


@every_repo
def test_an_encoder_alone_does_not_read_a_decoder_that_it_does_not_need(tmp_path, name):
    repo = REPOS[name]
    decoder = next(filter(DECODER.fullmatch, repo.tensors))
    tensors = repo.tensors | {decoder: torch.full_like(repo.tensors[decoder], float("nan"))}
    folder = changed(repo, tmp_path / "nan", repo.with_tensors(tensors))
    refused(folder, decoder, "NaN")
    if name in NEEDS_DECODER:
        refused(folder, decoder, "NaN", encoder_only=True)
    else:
        alone = load_sae(folder, encoder_only=True)
        assert torch.equal(alone.encode(X), load_sae(repo.at(tmp_path)).encode(X))


def test_an_encoder_alone_decodes_nothing(tmp_path):
    sae = load_sae(GEMMA.at(tmp_path), encoder_only=True)
    with pytest.raises(ValueError, match="encoder_only"):
        sae(X)
    with pytest.raises(ValueError, match="encoder_only"):
        sae.save_pretrained(tmp_path / "x")


@every_repo
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_dtype_and_device(tmp_path, name, dtype):
    sae = load_sae(REPOS[name].at(tmp_path), dtype=dtype, device=torch.device("cpu"))
    assert {parameter.dtype for parameter in sae.parameters()} == {dtype}
    assert all(parameter.is_contiguous() and not parameter.requires_grad for parameter in sae.parameters())
    assert sae.encode(X.to(dtype)).dtype == dtype
    assert {parameter.device.type for parameter in load_sae(REPOS[name].at(tmp_path), device="meta").parameters()} == {
        "meta"
    }


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_weights_of_another_type_are_read_as_float32(tmp_path, dtype):
    tensors = {name: tensor.to(dtype) for name, tensor in SAELENS.tensors.items()}
    sae = load_sae(changed(SAELENS, tmp_path, {WEIGHTS: save(tensors)}))
    assert sae.W_enc.dtype == torch.float32
    b_enc = tensors["b_enc"].float() - tensors["b_dec"].float() @ tensors["W_enc"].float()
    torch.testing.assert_close(sae.encode(X), (X @ tensors["W_enc"].float() + b_enc).relu())


def test_overrides_take_precedence(tmp_path):
    overrides = {"model": "alice/model", "hook": "layers.9", "l0": 5.0, "feature_threshold": 0.5, "prepend_bos": False}
    sae = load_sae(GEMMA.at(tmp_path), config=overrides)
    assert {name: getattr(sae.config, name) for name in overrides} == overrides


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("goodfire", {"model": "m", "hook": "layers.19"}),
        ("qresearch", {"model": "m", "hook": "layers.19"}),
        ("qwen_scope", {"model": "m", "hook": "layers.3", "k": 4}),
        ("gemma_scope_1", {"model": "m", "hook": "layers.3"}),
        ("gemma_scope_2", {"model": "m", "hook": "layers.3"}),
        ("openai", {"model": "m", "hook": "layers.3"}),
        ("mwhanna", {"model": "m", "hook": "layers.3"}),
    ],
)
def test_overrides_replace_what_names_lack(tmp_path, name, overrides):
    """Errors about names propose `config={...}`, which must then help."""
    path = next(path for path in REPOS[name].files if not path.endswith((".json", ".yaml")))
    renamed = {"qwen_scope": "layer3.sae.pt", "openai": "3.pt", "mwhanna": "layer_3.safetensors"}.get(name)
    renamed = renamed or (path.rpartition("/")[2] if name.startswith("gemma") else "x.pt")
    sae = load_sae(written(tmp_path / "copy", {renamed: REPOS[name].files[path]}), config=overrides, format=name)
    assert (sae.config.model, sae.config.hook) == (overrides["model"], overrides["hook"])


@pytest.mark.parametrize("name", ["goodfire", "qresearch", "qwen_scope", "gemma_scope_1", "gemma_scope_2", "sparsify"])
def test_the_config_in_an_error_about_names_is_enough(tmp_path, name):
    """One error names all that is missing, and its `config={...}` loads as it stands."""
    repo = REPOS[name]
    files = {path.replace("layer_3", "x").replace("layers.3", "x"): content for path, content in repo.files.items()}
    files.pop("config.json", None)
    if name in ("goodfire", "qresearch"):
        files = {"x.pt": next(iter(files.values()))}
    folder = written(tmp_path / "renamed", files)
    config = ast.literal_eval(refused(folder).partition("`config=")[2].rstrip("`"))
    sae = load_sae(folder, config=config)
    assert config["model"] == sae.config.model == "owner/name"


def test_gemma_scope_2_takes_the_keys_of_its_config(tmp_path):
    repo = published.gemma_scope_2(folder="x")
    folder = written(tmp_path / "renamed", repo.files)
    config = {"model_name": "gemma-3-1b-pt", "hf_hook_point_in": "model.layers.3.output"}
    sae = load_sae(folder, config=config)
    assert (sae.config.model, sae.config.hook) == ("google/gemma-3-1b-pt", "model.layers.3")
    assert load_sae(folder, config=config | {"model_name": "alice/own"}).config.model == "alice/own"


@pytest.mark.parametrize("hook", ["hook_embed", "blocks.3.hook_resid_mid"])
def test_a_renamed_gemma_scope_1_is_scaled_as_its_hook_says(tmp_path, hook):
    repo = REPOS["gemma_scope_1_embedding" if hook == "hook_embed" else "gemma_scope_1_transcoder"]
    folder = written(tmp_path / "renamed", {"params.npz": next(iter(repo.files.values()))})
    sae = load_sae(folder, config={"model": "google/gemma-2-2b", "hook": hook})
    assert torch.equal(sae.encode(X), load_sae(repo.at(tmp_path)).encode(X))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("subfolder", 5, TypeError),
        ("filename", ["a"], TypeError),
        ("revision", 1.5, TypeError),
        ("revision", "", ValueError),
        ("format", None, ValueError),
        ("format", ["saelens"], ValueError),
        ("config", "k=3", TypeError),
        ("config", [("k", 3)], TypeError),
        ("device", "nosuch", ValueError),
        ("device", 5, TypeError),
        ("device", None, TypeError),
        ("dtype", "float32", TypeError),
        ("dtype", None, TypeError),
        ("dtype", torch.int64, ValueError),
        ("cache_dir", 5, TypeError),
        ("local_files_only", "yes", ValueError),
        ("encoder_only", 1, ValueError),
    ],
    ids=str,
)
def test_wrong_arguments_are_refused_by_name_before_anything_is_read(tmp_path, monkeypatch, name, value, error):
    monkeypatch.setattr("hf_sae_select._hub.Repo.at", None)
    refused(tmp_path, f"`{name}=", error=error, **{name: value})


def test_a_device_that_this_machine_lacks_is_refused(tmp_path):
    if not torch.cuda.is_available():
        refused(tmp_path, "`device='cuda'` is not available here", device="cuda")


@pytest.mark.parametrize(
    "source", ["./nowhere", "../x", "/no/such", "~/sae", "a/b/c", "C:\\saes", "file:///x", "a\0b"]
)
def test_a_path_that_does_not_exist_is_called_so(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # what is beside the folder of a clone is nobody's business
    error = ValueError if "\0" in source else FileNotFoundError
    message = refused(source, "`sae", repr(source), error=error)
    assert "Repo id must" not in message


NAMES_THAT_ARE_PATHS = ["../../x", "/etc", "~", "./x", "C:\\x", "file:///etc", "..", ".", "x/..", "a/b/c", "-> x"]


@pytest.mark.parametrize("name", NAMES_THAT_ARE_PATHS)
def test_a_model_that_a_hub_repo_names_is_no_path(hub, name):
    repo = published.saelens(metadata={"model_name": name})
    hub.push(repo.id, repo.files)
    refused(repo.id, repr(name), "no Hub id", "config={'model': ...}")
    assert load_sae(repo.id, config={"model": "./mine"}).config.model == "./mine"


@pytest.mark.parametrize("name", ["saelens", "sparsify", "dictionary_learning", "gemma_scope_2", "other", "native"])
def test_a_folder_here_is_not_read_as_the_model_of_a_hub_repo(hub, tmp_path, monkeypatch, sae, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alice/data").mkdir(parents=True)
    model = {"model_name": "alice/data"}
    if name == "native":
        sae.config = replace(sae.config, model="alice/data")
        sae.save_pretrained(tmp_path / "sae")
        files = {file.name: file.read_bytes() for file in (tmp_path / "sae").iterdir()}
        repo = published.Published("alice/saes", files, {})
    else:
        repo = {
            "saelens": lambda: published.saelens(metadata=model),
            "sparsify": lambda: published.sparsify(top={"model": "alice/data"}),
            "dictionary_learning": lambda: published.dictionary_learning({"lm_name": "alice/data"}),
            "gemma_scope_2": lambda: replace(published.gemma_scope_2(config=model), id="bob/saes"),
            "other": lambda: published.other(model),
        }[name]()
    hub.push(repo.id, repo.files)
    refused(repo.id, "'alice/data'", "the folder", "config={'model': ...}")
    assert load_sae(repo.at(tmp_path / "local")).config.model == "alice/data"  # a folder of one's own may name folders


def test_a_config_of_any_size_is_not_read(tmp_path):
    refused(changed(SAELENS, tmp_path, {CFG: b'{"x": "' + b" " * 2**20 + b'"}'}), "cfg.json has 1,048,585 bytes")
    yaml = {"config.yaml": b"# " + b" " * 2**20}
    refused(changed(REPOS["mwhanna"], tmp_path, yaml), "config.yaml has 1,048,578 bytes")


def test_yaml_aliases_are_refused(tmp_path):
    lines = ["a: &a [x, x]"] + [f"{b}: &{b} [*{a}, *{a}]" for a, b in pairwise("abcdefgh")] + ["model_name: *h"]
    refused(changed(REPOS["mwhanna"], tmp_path, {"config.yaml": "\n".join(lines).encode()}), "config.yaml", "aliases")


@pytest.mark.parametrize(
    ("repo", "key"),
    [
        (published.saelens(cfg={"apply_b_dec_to_input": "false"}), "apply_b_dec_to_input"),
        (published.saelens(cfg={"architecture": "topk", "k": 2, "rescale_acts_by_decoder_norm": 1}), "rescale_acts"),
        (published.sparsify(cfg={"transcode": "no"}), "transcode"),
        (published.sparsify(cfg={"signed": 0}), "signed"),
        (published.llama_scope(sparsity_include_decoder_norm="no"), "sparsity_include_decoder_norm"),
        (published.llamascopium(use_decoder_bias=0), "use_decoder_bias"),
        (published.dictionary_learning(buffer={"remove_bos": "no"}), "remove_bos"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_truth_values_that_are_words_are_refused(tmp_path, repo, key):
    refused(repo.at(tmp_path), f"`{key}", "true or false")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"hook_name": "blocks.9.hook_resid_post"}, {"hook": "blocks.9.hook_resid_post"}),
        ({"model_name": "pythia-70m"}, {"model": "EleutherAI/pythia-70m"}),
        ({"context_size": 7}, {"context_size": 7}),
        ({"architecture": "topk", "k": 3}, {"activation": "topk", "k": 3}),
    ],
)
def test_overrides_may_use_the_publishers_keys(tmp_path, overrides, expected):
    sae = load_sae(SAELENS.at(tmp_path), config=overrides)
    assert {name: getattr(sae.config, name) for name in expected} == expected


def test_an_override_can_undo_that_a_model_was_centered(tmp_path):
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    sae = load_sae(published.saelens(metadata=metadata).at(tmp_path), config={"model_from_pretrained_kwargs": {}})
    assert torch.equal(sae.encode(X), load_sae(SAELENS.at(tmp_path / "plain")).encode(X))


@pytest.mark.parametrize(
    ("repo", "key", "value"),
    [
        (published.dictionary_learning({"layer": None}), "layer", 3),
        (published.dictionary_learning({"lm_name": None}), "lm_name", "m"),
        (published.dictionary_learning({"dict_class": None}), "dict_class", "JumpReluAutoEncoder"),
        (published.saelens(metadata={"hook_name": None}), "hook_name", "blocks.3.hook_resid_post"),
        (published.saelens(metadata={"model_name": None}), "model_name", "m"),
        (published.saelens(cfg={"architecture": "topk"}), "k", 3),
        (published.sparsify(cfg={"k": None}), "k", 3),
        (published.llama_scope(jump_relu_threshold=None), "jump_relu_threshold", 0.4),
        (published.llama_scope(hook_point_in=None), "hook_point_in", "blocks.3.hook_resid_post"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_override_that_an_error_proposes_helps(tmp_path, repo, key, value):
    assert re.search(rf"`{key}[`=]", refused(repo.at(tmp_path)))
    assert load_sae(repo.at(tmp_path), config={key: value}).config.d_sae == D_SAE


def test_a_revision_applies_to_the_hub(tmp_path):
    refused(SAELENS.at(tmp_path), "`revision='v1'`", "folder", revision="v1")


@pytest.mark.parametrize(
    "overrides",
    [
        {"activation": "relu"},
        {"d_sae": 3},
        {"d_in": 3},
        {"d_out": 3},
        {"skip": True},
        {"source": {}},
        {"k": 0, "activation": "topk"},
        {"side": "up"},
        {"context_size": "long"},
        {"prepend_bos": "yes"},
    ],
    ids=str,
)
def test_impossible_overrides_are_refused(tmp_path, overrides):
    refused(GEMMA.at(tmp_path), next(iter(overrides)), config=overrides)
