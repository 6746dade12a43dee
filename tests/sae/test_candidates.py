"""Which SAE of a repo, a folder or a file is meant."""

import pytest
import torch
from helpers import published
from helpers.published import CFG, D_SAE, GEMMA_FILES, REPOS, SAELENS, WEIGHTS, X, changed, pt, refused, written
from safetensors.torch import save

from hf_sae_select import load_sae


def test_a_repo_of_many_lists_them(tmp_path):
    folder = written(tmp_path / "gemma-scope-2b-pt-res", GEMMA_FILES)
    message = refused(folder, "contains 4 SAEs", "`subfolder`")
    for path in GEMMA_FILES:
        assert path.removesuffix("/params.npz") in message
    assert "params.npz" not in message


def test_a_long_list_is_cut(tmp_path):
    folder = written(tmp_path / "r", {f"layer{n}.sae.pt": b"" for n in range(30)})
    assert "and 10 more" in refused(folder, "contains 30 SAEs")


def test_a_misspelt_subfolder_gives_the_nearest_names_first(tmp_path):
    folder = written(tmp_path / "gemma-scope-2b-pt-res", GEMMA_FILES)
    message = refused(folder, error=FileNotFoundError, subfolder="layer_12/width_16k/average_l0_17")
    assert message.partition("nearest names: ")[2].startswith("layer_12/width_16k/average_l0_71")


@pytest.mark.parametrize("subfolder", ["layer_12/width_16k/average_l0_9", "layer_1", "/layer_1/", "layer_1/width_16k"])
def test_a_subfolder_is_enough_if_one_sae_remains(tmp_path, subfolder):
    files = {path: content for path, content in GEMMA_FILES.items() if "layer_1/width_16k/average_l0_9/" not in path}
    sae = load_sae(written(tmp_path / "gemma-scope-2b-pt-res", files), subfolder=subfolder)
    assert sae.config.hook == f"blocks.{subfolder.strip('/').split('/')[0].removeprefix('layer_')}.hook_resid_post"


def test_a_subfolder_with_several_saes_lists_only_those(tmp_path):
    folder = written(tmp_path / "gemma-scope-2b-pt-res", GEMMA_FILES)
    assert "layer_1/" not in refused(folder, "contains 2 SAEs", subfolder="layer_12")


def test_an_sae_at_the_root_is_listed_by_its_file(tmp_path):
    top = {path.removeprefix("blocks.3/"): content for path, content in SAELENS.files.items()}
    folder = changed(SAELENS, tmp_path, top)
    message = refused(folder, error=FileNotFoundError, subfolder="blocks.4")
    assert set(message.partition("nearest names: ")[2].split(", ")) == {"blocks.3", "sae_weights.safetensors"}
    assert load_sae(folder, filename="sae_weights.safetensors").config.d_sae == D_SAE


def test_without_a_subfolder_the_sae_at_the_root_is_meant(tmp_path):
    root = published.saelens(metadata={"hook_name": "blocks.5.hook_resid_post"})
    files = {path.removeprefix("blocks.3/"): content for path, content in root.files.items()}
    folder = changed(SAELENS, tmp_path, files)
    assert load_sae(folder).config.hook == "blocks.5.hook_resid_post"
    assert load_sae(folder, subfolder="blocks.3").config.hook == published.HOOK


@pytest.mark.parametrize("subfolder", ["a/b", "a/b/", "/a//b", "./a/b"])
def test_a_subfolder_may_be_written_in_several_ways(tmp_path, subfolder):
    one, two = published.sparsify("a/b"), published.sparsify("a/c")
    folder = written(tmp_path, one.files | two.files)
    assert load_sae(folder, subfolder=subfolder, config={"hook": "h"}).config.hook == "h"


def test_a_missing_config_file_is_named(tmp_path):
    folder = written(tmp_path / "r", {WEIGHTS: SAELENS.files[WEIGHTS]})
    refused(folder, f"`{WEIGHTS}` lacks", "`blocks.3/config.json`", f"`{CFG}`", error=FileNotFoundError)
    refused(folder, f"`{WEIGHTS}` lacks `{CFG}`", error=FileNotFoundError, format="saelens")


def test_a_name_that_begins_other_names_is_still_a_name(tmp_path):
    one, two = published.sparsify("layers.3"), published.sparsify("layers.3/mlp/layers.4")
    assert load_sae(written(tmp_path, one.files | two.files), subfolder="layers.3").config.hook == "layers.3"


def test_a_file_by_its_name(tmp_path):
    repo = REPOS["qwen_scope"]
    folder = changed(repo, tmp_path, {"layer12.sae.pt": repo.files["layer3.sae.pt"]})
    assert load_sae(folder, filename="layer12.sae.pt").config.hook == "blocks.12.hook_resid_post"
    refused(folder, "nearest names: ", "layer12.sae.pt", error=FileNotFoundError, filename="layer13.sae.pt")
    refused(folder, "contains 2 SAEs", "`filename`", "layer3.sae.pt")


def test_a_file_in_a_subfolder(tmp_path):
    folder = changed(SAELENS, tmp_path, {"blocks.3/sae_weights.pt": pt(SAELENS.tensors)})
    for filename in ("sae_weights.safetensors", "sae_weights.pt"):
        assert load_sae(folder, subfolder="blocks.3", filename=filename).config.d_sae == D_SAE


def test_two_files_of_one_sae_are_listed_by_path(tmp_path):
    folder = changed(SAELENS, tmp_path, {"blocks.3/sae_weights.pt": pt(SAELENS.tensors)})
    message = refused(folder, "contains 2 SAEs")
    assert "sae_weights.pt" in message


@pytest.mark.parametrize("name", ["qwen_scope", "goodfire", "qresearch", "connor_rob", "mwhanna"])
def test_a_local_file(tmp_path, name):
    folder = REPOS[name].at(tmp_path)
    (path,) = [path for path in REPOS[name].files if path.endswith((".pt", ".pth", ".safetensors"))]
    assert torch.equal(load_sae(folder / path).encode(X), load_sae(folder).encode(X))


def test_other_files_beside_a_local_file_do_not_matter(tmp_path):
    goodfire = REPOS["goodfire"]
    (path,) = goodfire.files
    folder = written(tmp_path / "downloads", goodfire.files | SAELENS.files)
    assert load_sae(folder / path).config.activation == "relu"


def test_odd_names_beside_a_local_file_do_not_matter(tmp_path):
    folder = REPOS["goodfire"].at(tmp_path)
    (folder / "a\\b").touch()
    assert load_sae(next(folder.glob("*.pth"))).config.activation == "relu"


def test_the_state_of_a_training_run_is_no_sae(tmp_path):
    repo = REPOS["sparsify"]
    state = pt({"state": {0: {"exp_avg": torch.zeros(3)}}})
    more = {f"{name}_{rank}.pt": state for name in ("optimizer", "lr_scheduler") for rank in (0, 1)}
    folder = changed(repo, tmp_path, more | {"state.pt": state, "0.pt": state})
    assert load_sae(folder).config.hook == "layers.3"
    refused(written(tmp_path / "only", {"optimizer_0.pt": state}), "optimizer_0.pt", "known format")


@pytest.mark.parametrize("files", [{}, {"README.md": b""}, {"pytorch_model.bin": b"", "config.json": b"{}"}])
def test_a_folder_without_an_sae_lists_its_content(tmp_path, files):
    folder = written(tmp_path / "r", files) if files else tmp_path
    refused(folder, "no SAE", *(files or ["nothing"]), error=FileNotFoundError)


def test_a_language_model_is_no_sae(tmp_path):
    tensors = {"model.embed_tokens.weight": torch.zeros(3, 2), "lm_head.weight": torch.zeros(3, 2)}
    folder = written(tmp_path / "r", {"model.safetensors": save(tensors), "config.json": b"{}"})
    refused(folder, "`model.safetensors`", "not an SAE of a known format", "lm_head.weight")


def test_several_files_that_may_be_saes_are_called_so(tmp_path):
    one = published.other().files["weights.safetensors"]
    folder = written(tmp_path / "r", {"a.safetensors": one, "b.safetensors": one})
    refused(folder, "contains 2 files that may be SAEs", "`filename`: a.safetensors, b.safetensors")


@pytest.mark.parametrize(
    ("files", "what"),
    [
        (
            {"llama/layer_15/temporal/latest_ckpt.safetensors": b"", "llama/layer_15/temporal/conf.yaml": b""},
            "temporal",
        ),
        ({"crosscoder/layer_7_13/params_layer_0.safetensors": b""}, "crosscoders"),
    ],
)
def test_unsupported_formats_are_refused_by_name(tmp_path, files, what):
    refused(written(tmp_path / "r", files), what)
