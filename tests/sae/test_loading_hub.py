"""SAEs of every format from a Hub on localhost: downloads, revisions, the cache and faults."""

import hashlib
import re
from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from helpers import published, tiny
from helpers.published import CFG, D_SAE, REPOS, SAELENS, WEIGHTS, X, every_repo, refused
from hub import go_offline
from safetensors.torch import save

from hf_sae_select import SaeConfig, load_sae
from hf_sae_select.features.columns import encoding_record


def test_only_what_is_needed_is_downloaded(hub):
    files = {f"{n}/{path}": content for n in range(3) for path, content in SAELENS.files.items()}
    hub.push("alice/saes", files | {"README.md": "x", "1/blocks.3/sparsity.safetensors": b"x", "config.json": "{}"})
    load_sae("alice/saes", subfolder="1/blocks.3")
    assert sorted(hub.downloads) == [f"1/{CFG}", f"1/{WEIGHTS}"]


@pytest.mark.parametrize("name", REPOS)
def test_every_format_from_the_hub(hub, tmp_path, name):
    commit = hub.push(REPOS[name].id, REPOS[name].files)
    sae = load_sae(REPOS[name].id)
    assert torch.equal(sae.encode(X), load_sae(REPOS[name].at(tmp_path)).encode(X))
    source = dict(sae.config.source)
    assert source.pop("format") in name
    digest = hashlib.sha256(REPOS[name].files[source["path"]]).hexdigest()
    assert source == {"repo": REPOS[name].id, "revision": commit, "path": source["path"], "sha256": digest}
    assert source["path"] in REPOS[name].files


def test_a_second_load_downloads_nothing(hub):
    hub.push(SAELENS.id, SAELENS.files)
    first = load_sae(SAELENS.id)
    hub.downloads.clear()
    assert torch.equal(load_sae(SAELENS.id).encode(X), first.encode(X))
    assert hub.downloads == []


def test_a_revision_is_resolved_once_and_kept(hub):
    old = hub.push("alice/saes", SAELENS.files)
    repo = hub.repos["model", "alice/saes"]
    repo.refs |= {"refs/tags/v1": old, "refs/heads/dev": old}
    new = hub.push("alice/saes", {CFG: published.saelens(metadata={"model_name": "pythia-70m"}).files[CFG]})
    for revision, commit in (("v1", old), ("dev", old), (old, old), (None, new), ("main", new)):
        sae = load_sae("alice/saes", revision=revision)
        assert sae.config.source["revision"] == commit
        assert sae.config.model == ("openai-community/gpt2" if commit == old else "EleutherAI/pythia-70m")


def test_a_commit_meanwhile_does_not_mix_files(hub, monkeypatch):
    old = hub.push("alice/saes", SAELENS.files)
    carry_out = type(hub).carry_out

    def push_after_the_config(self, request, raw):
        answer = carry_out(self, request, raw)
        if request.method == "GET" and raw.endswith("cfg.json"):
            self.push("alice/saes", {WEIGHTS: save({name: tensor + 1 for name, tensor in SAELENS.tensors.items()})})
        return answer

    monkeypatch.setattr(type(hub), "carry_out", push_after_the_config)
    sae = load_sae("alice/saes")
    assert (hub.commits("alice/saes")[0].oid != old, sae.config.source["revision"]) == (True, old)
    assert torch.equal(sae.W_enc, SAELENS.tensors["W_enc"])


def test_private_repos(hub):
    hub.push("alice/secret", SAELENS.files, private=True)
    for token in (None, "hf_bob"):
        message = refused("alice/secret", "alice/secret", "`token`", error=FileNotFoundError, token=token)
        assert "hf_bob" not in message
    assert load_sae("alice/secret", token="hf_alice").config.d_sae == D_SAE
    refused("alice/secret", "token", error=PermissionError, token="nonsense")


def test_gated_repos(hub):
    hub.push("alice/gated", SAELENS.files)
    hub.repos["model", "alice/gated"].gated = "auto"
    for token in (None, "hf_bob"):
        refused("alice/gated", "alice/gated is gated", error=PermissionError, token=token)
    assert load_sae("alice/gated", token="hf_alice").config.d_sae == D_SAE


def test_what_is_not_there(hub):
    hub.push("alice/saes", SAELENS.files)
    refused("alice/other", "'alice/other'", error=FileNotFoundError)
    refused("alice/saes", "alice/saes", "'v9'", error=FileNotFoundError, revision="v9")
    refused("alice/saes", "'blocks.4'", "blocks.3", error=FileNotFoundError, subfolder="blocks.4")
    refused("no such/folder/here", "folder", error=FileNotFoundError)


@pytest.mark.parametrize(
    ("status", "words"), [(429, "too many requests"), (500, "later|out of reach"), (503, "later|out of reach")]
)
@pytest.mark.parametrize("part", ["/api/models/alice/saes", "/tree/", "cfg.json"])
def test_a_hub_in_trouble(hub, status, words, part):
    hub.push("alice/saes", SAELENS.files)
    for method in ("GET", "HEAD"):
        hub.fail(method, part, status, times=99)
    assert re.search(words, refused("alice/saes", "alice/saes", error=OSError))


@pytest.mark.parametrize("options", [{}, {"local_files_only": True}], ids=["HF_HUB_OFFLINE", "local_files_only"])
@every_repo
def test_without_a_network_the_cache_is_enough(hub, monkeypatch, options, name):
    repo = REPOS[name]
    commit = hub.push(repo.id, repo.files)
    online = load_sae(repo.id)
    if not options:
        go_offline(monkeypatch)
    hub.requests.clear()
    sae = load_sae(repo.id, **options)
    assert hub.requests == []
    assert torch.equal(sae.encode(X), online.encode(X))
    assert sae.config == online.config
    assert sae.config.source["revision"] == commit


@pytest.mark.parametrize("options", [{}, {"local_files_only": True}], ids=["HF_HUB_OFFLINE", "local_files_only"])
def test_settings_of_saelens_releases_apply_without_a_network(hub, monkeypatch, options):
    repo = published.saelens("jbloom/GPT2-Small-SAEs-Reformatted")
    hub.push(repo.id, repo.files)
    online = load_sae(repo.id)
    if not options:
        go_offline(monkeypatch)
    assert torch.equal(load_sae(repo.id, **options).encode(X), online.encode(X))


def test_a_hub_that_does_not_answer_is_replaced_by_the_cache(hub, monkeypatch):
    hub.push("alice/saes", SAELENS.files)
    online = load_sae("alice/saes")
    for method in ("GET", "HEAD"):
        hub.fail(method, ".", times=99)
    assert torch.equal(load_sae("alice/saes").encode(X), online.encode(X))


@pytest.mark.parametrize("options", [{}, {"local_files_only": True}], ids=["HF_HUB_OFFLINE", "local_files_only"])
def test_without_network_and_cache(hub, monkeypatch, options):
    hub.push("alice/saes", SAELENS.files)
    if not options:
        go_offline(monkeypatch)
    refused("alice/saes", "alice/saes", "cache", error=OSError, **options)


def test_a_cache_of_its_own(hub, tmp_path):
    hub.push("alice/saes", SAELENS.files)
    load_sae("alice/saes", cache_dir=tmp_path / "own")
    assert list((tmp_path / "own").rglob("cfg.json"))
    hub.downloads.clear()
    load_sae("alice/saes", cache_dir=tmp_path / "own", local_files_only=True)
    assert hub.downloads == []


@pytest.mark.parametrize("path", ["../evil.json", "/etc/evil.json", "a/../../evil.json", "a\\..\\evil.json"])
def test_a_list_of_files_that_leads_out_of_the_repo_is_refused(hub, path):
    hub.push("alice/saes", SAELENS.files | {path: b"x"})
    refused("alice/saes", repr(path), "outside the repo")
    assert hub.downloads == []


def test_rows_are_selected_by_an_sae_and_a_model_from_the_hub(hub, tmp_path):
    tiny.save("llama", tmp_path / "model")
    commit = hub.push("alice/llama", {file.name: file.read_bytes() for file in (tmp_path / "model").iterdir()})
    sae = tiny.sae(SaeConfig(16, 32, "topk", model="alice/llama", hook="blocks.1.hook_resid_post", k=4))
    sae.push_to_hub("alice/sae", token="hf_alice")
    ds = Dataset.from_dict({"text": ["the cat sat", "a dog ran", "the moon", ""]})
    coded = ds.sae_encode("alice/sae")
    record = encoding_record(coded)
    assert (record["model_revision"], record["sae_sha256"]) == (commit, sae.digest())
    assert len(ds.sae_select(2, sae="alice/sae")) == 2
    downloads = len(hub.downloads)
    tiny.save("gpt2", tmp_path / "other")
    hub.push("alice/llama", {file.name: file.read_bytes() for file in (tmp_path / "other").iterdir()})
    sae.config = replace(sae.config, model_revision=commit)
    assert ds.sae_encode(sae)["sae_ids"][:] == coded["sae_ids"][:]  # the model is pinned, and in the cache
    assert len(hub.downloads) == downloads
