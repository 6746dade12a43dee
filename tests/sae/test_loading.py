"""Which SAE of a folder is meant, and what the caller says of it."""

import pytest
import torch
from helpers import published
from helpers.published import D_SAE, EACH, GEMMA, GEMMA_FILES, SAELENS, X, changed, each, pt, refused, written

from hf_sae_select import load_sae
from hf_sae_select.sae.formats import FORMATS


def test_a_repo_of_many_lists_them(tmp_path):
    folder = written(tmp_path / "gemma-scope-2b-pt-res", GEMMA_FILES)
    said = refused(folder, "holds 4 SAEs", "`subfolder`")
    for path in GEMMA_FILES:
        assert path.removesuffix("/params.npz") in said
    assert "params.npz" not in said


def test_a_long_list_is_cut(tmp_path):
    folder = written(tmp_path / "r", {f"layer{n}.sae.pt": b"" for n in range(30)})
    assert "and 10 more" in refused(folder, "holds 30 SAEs")


def test_a_misspelt_subfolder_gives_the_nearest_names_first(tmp_path):
    folder = written(tmp_path / "gemma-scope-2b-pt-res", GEMMA_FILES)
    said = refused(folder, error=FileNotFoundError, subfolder="layer_12/width_16k/average_l0_17")
    assert said.partition("first: ")[2].startswith("layer_12/width_16k/average_l0_71")


@pytest.mark.parametrize("subfolder", ["layer_12/width_16k/average_l0_9", "layer_1", "/layer_1/", "layer_1/width_16k"])
def test_a_subfolder_is_enough_as_soon_as_one_is_left(tmp_path, subfolder):
    files = {path: content for path, content in GEMMA_FILES.items() if "layer_1/width_16k/average_l0_9/" not in path}
    sae = load_sae(written(tmp_path / "gemma-scope-2b-pt-res", files), subfolder=subfolder)
    assert sae.config.hook == f"blocks.{subfolder.strip('/').split('/')[0].removeprefix('layer_')}.hook_resid_post"


def test_a_subfolder_that_leaves_several_lists_only_those(tmp_path):
    folder = written(tmp_path / "gemma-scope-2b-pt-res", GEMMA_FILES)
    assert "layer_1/" not in refused(folder, "holds 2 SAEs", subfolder="layer_12")


def test_one_at_the_top_has_the_name_of_its_file(tmp_path):
    top = {path.removeprefix("blocks.3/"): content for path, content in SAELENS.files.items()}
    folder = changed(SAELENS, tmp_path, top)
    said = refused(folder, "holds 2 SAEs")
    assert set(said.partition("`filename`: ")[2].split(", ")) == {"blocks.3", "sae_weights.safetensors"}
    assert load_sae(folder, filename="sae_weights.safetensors").config.d_sae == D_SAE


def test_a_name_that_begins_others_is_itself(tmp_path):
    one, two = published.sparsify("layers.3"), published.sparsify("layers.3/mlp/layers.4")
    assert load_sae(written(tmp_path, one.files | two.files), subfolder="layers.3").config.hook == "layers.3"


def test_a_file_by_its_name(tmp_path):
    repo = EACH["qwen_scope"]
    folder = changed(repo, tmp_path, {"layer12.sae.pt": repo.files["layer3.sae.pt"]})
    assert load_sae(folder, filename="layer12.sae.pt").config.hook == "blocks.12.hook_resid_post"
    refused(folder, "nearest first: ", "layer12.sae.pt", error=FileNotFoundError, filename="layer13.sae.pt")
    refused(folder, "holds 2 SAEs", "`filename`", "layer3.sae.pt")


def test_a_file_in_a_subfolder(tmp_path):
    folder = changed(SAELENS, tmp_path, {"blocks.3/sae_weights.pt": pt(SAELENS.tensors)})
    for filename in ("sae_weights.safetensors", "sae_weights.pt"):
        assert load_sae(folder, subfolder="blocks.3", filename=filename).config.d_sae == D_SAE


def test_what_can_be_chosen_has_names_that_differ(tmp_path):
    folder = changed(SAELENS, tmp_path, {"blocks.3/sae_weights.pt": pt(SAELENS.tensors)})
    said = refused(folder, "holds 2 SAEs")
    assert "sae_weights.pt" in said


@pytest.mark.parametrize("name", ["qwen_scope", "goodfire", "qresearch", "connor_rob", "mwhanna"])
def test_a_lone_local_file(tmp_path, name):
    folder = EACH[name].at(tmp_path)
    (path,) = [path for path in EACH[name].files if path.endswith((".pt", ".pth", ".safetensors"))]
    assert torch.equal(load_sae(folder / path).encode(X), load_sae(folder).encode(X))


def test_a_lone_local_file_is_read_whatever_lies_beside_it(tmp_path):
    goodfire = EACH["goodfire"]
    (path,) = goodfire.files
    folder = written(tmp_path / "downloads", goodfire.files | SAELENS.files)
    assert load_sae(folder / path).config.activation == "relu"


def test_a_lone_local_file_does_not_care_for_the_names_beside_it(tmp_path):
    folder = EACH["goodfire"].at(tmp_path)
    (folder / "a\\b").touch()
    assert load_sae(next(folder.glob("*.pth"))).config.activation == "relu"


@each
def test_a_format_is_recognised_and_can_be_forced(tmp_path, name):
    folder = EACH[name].at(tmp_path)
    found = load_sae(folder)
    (format,) = [
        each.name for each in FORMATS if name.startswith(each.name) and each.name == found.config.source["format"]
    ]
    assert torch.equal(load_sae(folder, format=format).encode(X), found.encode(X))


def test_formats_that_are_unknown_or_do_not_fit(tmp_path):
    folder = SAELENS.at(tmp_path)
    refused(folder, "`format='saelense'`", "saelens, ", format="saelense")
    refused(folder, "no SAE", "blocks.3/cfg.json", format="goodfire")
    refused(EACH["goodfire"].at(tmp_path), "encoder_linear.weight", format="qresearch")


def test_the_state_of_a_training_run_is_no_sae(tmp_path):
    repo = EACH["sparsify"]
    state = pt({"state": {0: {"exp_avg": torch.zeros(3)}}})
    more = {f"{name}_{rank}.pt": state for name in ("optimizer", "lr_scheduler") for rank in (0, 1)}
    folder = changed(repo, tmp_path, more | {"state.pt": state, "0.pt": state})
    assert load_sae(folder).config.hook == "layers.3"
    refused(written(tmp_path / "only", {"optimizer_0.pt": state}), "optimizer_0.pt", "no layout that is known")


@pytest.mark.parametrize("files", [{}, {"README.md": b""}, {"model.safetensors": b"", "config.json": b"{}"}])
def test_a_folder_without_an_sae_says_what_it_has(tmp_path, files):
    refused(written(tmp_path / "r", files) if files else tmp_path, "no SAE", *(files or ["nothing"]))


def test_an_empty_name_is_not_the_packaged_sae():
    with pytest.raises((ValueError, FileNotFoundError)):
        load_sae("")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"W_enc_0.safetensors": b"", "W_dec_0.safetensors": b"", "config.yaml": b""}, "cross-layer"),
        (
            {"llama/layer_15/temporal/latest_ckpt.safetensors": b"", "llama/layer_15/temporal/conf.yaml": b""},
            "temporal",
        ),
        ({"crosscoder/layer_7_13/params_layer_0.safetensors": b""}, "crosscoders"),
    ],
)
def test_what_is_no_encoder_of_one_layer_is_refused_by_name(tmp_path, files, what):
    refused(written(tmp_path / "r", files), what)


@pytest.mark.parametrize("architecture", ["temporal", "matching_pursuit"])
def test_saelens_architectures_that_need_more_than_one_pass_are_refused_by_name(tmp_path, architecture):
    refused(published.saelens(cfg={"architecture": architecture}).at(tmp_path), architecture, "feed-forward")


# What the caller says


def test_what_the_caller_says_wins(tmp_path):
    said = {"model": "alice/model", "hook": "layers.9", "l0": 5.0, "feature_threshold": 0.5, "prepend_bos": False}
    sae = load_sae(GEMMA.at(tmp_path), config=said)
    assert {name: getattr(sae.config, name) for name in said} == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("goodfire", {"model": "m", "hook": "layers.19"}),
        ("qresearch", {"model": "m", "hook": "layers.19"}),
        ("qwen_scope", {"model": "m", "hook": "layers.3", "k": 4}),
        ("gemma_scope_2", {"model": "m", "hook": "layers.3"}),
        ("openai", {"model": "m", "hook": "layers.3"}),
        ("mwhanna", {"model": "m", "hook": "layers.3"}),
    ],
)
def test_what_a_name_does_not_say_can_be_said(tmp_path, name, said):
    """Errors about names end in "or say it with `config={...}`": then that must help."""
    path = next(path for path in EACH[name].files if not path.endswith((".json", ".yaml")))
    renamed = {"qwen_scope": "layer3.sae.pt", "openai": "3.pt", "mwhanna": "layer_3.safetensors"}.get(name)
    renamed = renamed or (path.rpartition("/")[2] if name.startswith("gemma") else "x.pt")
    sae = load_sae(written(tmp_path / "copy", {renamed: EACH[name].files[path]}), config=said, format=name)
    assert (sae.config.model, sae.config.hook) == (said["model"], said["hook"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"hook_name": "blocks.9.hook_resid_post"}, {"hook": "blocks.9.hook_resid_post"}),
        ({"model_name": "pythia-70m"}, {"model": "EleutherAI/pythia-70m"}),
        ({"context_size": 7}, {"context_size": 7}),
        ({"architecture": "topk", "k": 3}, {"activation": "topk", "k": 3}),
    ],
)
def test_what_the_caller_says_in_the_publishers_words_wins(tmp_path, said, expected):
    sae = load_sae(SAELENS.at(tmp_path), config=said)
    assert {name: getattr(sae.config, name) for name in expected} == expected


def test_a_caller_can_take_back_that_a_model_was_centred(tmp_path):
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
def test_what_an_error_says_to_say_helps(tmp_path, repo, key, value):
    refused(repo.at(tmp_path), f"`{key}`")
    assert load_sae(repo.at(tmp_path), config={key: value}).config.d_sae == D_SAE


def test_a_revision_is_for_the_hub(tmp_path):
    refused(SAELENS.at(tmp_path), "`revision='v1'`", "folder", revision="v1")


@pytest.mark.parametrize(
    "said",
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
def test_what_the_caller_says_and_cannot_be_is_refused(tmp_path, said):
    refused(GEMMA.at(tmp_path), next(iter(said)), config=said)
