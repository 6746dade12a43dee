"""The Hub of the tests does to the real client what the real Hub does."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import datasets
import pytest
from helpers import tiny
from hub import LFS_SIZE, File, connect, environment, go_offline, serve
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    DatasetCard,
    HfApi,
    HfFileSystem,
    ModelCard,
    constants,
    get_session,
    get_token,
    hf_hub_download,
    list_repo_files,
    resolve_revision,
    snapshot_download,
    whoami,
)
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx
from transformers import AutoModel, AutoTokenizer

# huggingface_hub 2.4 passes the body of LFS uploads to httpx by an old name
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ALICE = {"token": "hf_alice"}
BOB = {"token": "hf_bob"}
CARD = "---\nlicense: mit\ntags:\n- small\n---\n# Hello\n"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture
def alice(hub):
    return HfApi(token="hf_alice")


@pytest.fixture
def bob(hub):
    return HfApi(token="hf_bob")


@pytest.fixture
def repo(hub):
    """A public model of alice's with a card and weights."""
    hub.push("alice/m", {"README.md": CARD, "model.safetensors": WEIGHTS, "sub/a.txt": "a", "sub/deep/b.txt": "b"})
    return "alice/m"


def refused(status, call, *args, **options):
    """Check that a call is answered with `status`, and return what the Hub said."""
    with pytest.raises(HfHubHTTPError) as error:
        call(*args, **options)
    assert error.value.response.status_code == status
    return str(error.value)


def asked(hub, method, part=""):
    return [request for request in hub.requests if request.method == method and part in request.path]


# Users and repos


def test_whoami(hub, alice, monkeypatch):
    assert alice.whoami()["name"] == "alice"
    assert whoami(token="hf_bob")["name"] == "bob"
    monkeypatch.setenv("HF_TOKEN", "hf_carol")
    assert whoami()["name"] == "carol"
    assert "Invalid user token" in refused(401, whoami, token="nonsense")


def test_nobody_is_logged_in(hub):
    assert get_token() is None


def test_create_repo(hub, alice, bob):
    url = alice.create_repo("alice/m")
    assert (str(url), url.repo_id, url.repo_type) == (f"{hub.url}/alice/m", "alice/m", "model")
    refused(409, alice.create_repo, "alice/m")
    assert alice.create_repo("m", exist_ok=True).repo_id == "alice/m"
    assert "rights" in refused(403, bob.create_repo, "alice/other")
    refused(401, HfApi().create_repo, "alice/other")
    refused(401, HfApi(token="nonsense").create_repo, "alice/other")
    assert [commit.title for commit in hub.commits("alice/m")] == ["initial commit"]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_kinds_of_repos(hub, alice, kind):
    sdk = {"space_sdk": "static"} if kind == "space" else {}
    assert alice.create_repo("alice/x", repo_type=kind, **sdk).repo_type == kind
    alice.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="w.bin", repo_id="alice/x", repo_type=kind)
    assert Path(hf_hub_download("alice/x", "w.bin", repo_type=kind)).read_bytes() == WEIGHTS
    assert alice.repo_info("alice/x", repo_type=kind).sha == hub.commits("alice/x", kind)[0].oid
    assert list(hub.repos) == [(kind, "alice/x")]


def test_delete_repo(hub, alice, bob, repo):
    refused(403, bob.delete_repo, repo)
    alice.delete_repo(repo)
    assert not alice.repo_exists(repo)
    with pytest.raises(RepositoryNotFoundError):
        alice.delete_repo(repo)
    alice.delete_repo(repo, missing_ok=True)


def test_private(hub, alice, bob):
    alice.create_repo("alice/m", private=True)
    alice.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id="alice/m")
    assert alice.model_info("alice/m").private
    for api, status in ((HfApi(), 401), (bob, 404)):
        for call in (api.model_info, api.list_repo_files, lambda id, api=api: api.hf_hub_download(id, "config.json")):
            with pytest.raises(RepositoryNotFoundError) as error:
                call("alice/m")
            assert error.value.response.status_code == status
        assert not api.repo_exists("alice/m")
    assert Path(hf_hub_download("alice/m", "config.json", **ALICE)).read_bytes() == b"{}"
    alice.update_repo_settings("alice/m", private=False)
    assert not bob.model_info("alice/m").private


def test_private_repos_are_not_listed(hub, alice, bob, repo):
    hub.push("alice/secret", {"README.md": CARD}, private=True)
    hub.push("bob/m", {"README.md": "---\ntags: [big]\n---\n"})
    assert [model.id for model in alice.list_models(filter="small")] == ["alice/m", "alice/secret"]
    assert [model.id for model in bob.list_models()] == ["alice/m", "bob/m"]
    assert [model.id for model in bob.list_models(author="bob")] == ["bob/m"]


def test_only_the_owner_writes(hub, alice, bob, repo):
    upload = {"path_or_fileobj": b"x", "path_in_repo": "x.txt", "repo_id": repo}
    assert "rights" in refused(403, bob.upload_file, **upload)
    refused(401, HfApi().upload_file, **upload)
    refused(403, bob.create_branch, repo, branch="b")
    refused(403, bob.auth_check, repo, write=True)
    bob.auth_check(repo)
    alice.auth_check(repo, write=True)
    with pytest.raises(RepositoryNotFoundError):
        alice.upload_file(**upload | {"repo_id": "alice/missing"})
    assert len(hub.commits(repo)) == 2


def test_gated(hub, alice, bob, repo):
    alice.update_repo_settings(repo, gated="auto")
    assert bob.model_info(repo).gated == "auto"
    for token, status in ((False, 401), ("hf_bob", 403)):
        with pytest.raises(GatedRepoError) as error:
            hf_hub_download(repo, "README.md", token=token)
        assert error.value.response.status_code == status
    assert hf_hub_download(repo, "README.md", **ALICE)


# Uploads


def test_upload_folder(hub, alice, tmp_path):
    alice.create_repo("alice/m")
    files = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/empty.bin": b"", "sub/x.npy": b"x"}
    for path, data in files.items():
        (tmp_path / "m" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / path).write_bytes(data)
    done = alice.upload_folder(
        repo_id="alice/m", folder_path=tmp_path / "m", commit_message="All", commit_description="!"
    )
    assert hub.files("alice/m") == files
    commit = hub.commits("alice/m")[0]
    assert (commit.oid, commit.author, commit.title, commit.message) == (done.oid, "alice", "All", "!")
    assert done.commit_url == f"{hub.url}/alice/m/commit/{done.oid}"
    assert len(asked(hub, "PUT")) == 2  # an empty file never goes to LFS

    again = alice.upload_folder(repo_id="alice/m", folder_path=tmp_path / "m")
    assert again.oid == done.oid and len(hub.commits("alice/m")) == 2


def test_lfs_objects_are_sent_once(hub, alice):
    for name in ("alice/a", "alice/b"):
        alice.create_repo(name)
        alice.upload_file(path_or_fileobj=WEIGHTS, path_in_repo="model.safetensors", repo_id=name)
    assert [request.path.split("/")[1] for request in asked(hub, "PUT")] == ["lfs"]
    assert len(asked(hub, "POST", "/verify")) == 1
    assert hub.files("alice/a") == hub.files("alice/b") == {"model.safetensors": WEIGHTS}


def test_large_files_go_to_lfs(hub, alice):
    alice.create_repo("alice/m")
    for size in (LFS_SIZE, LFS_SIZE + 1):
        alice.upload_file(path_or_fileobj=bytes(size), path_in_repo=f"{size}.txt", repo_id="alice/m")
    assert [file.lfs for file in hub.commits("alice/m")[0].files.values()] == [False, False, True]


def test_parent_commit(hub, alice, repo):
    first = alice.model_info(repo).sha
    add = {"operations": [CommitOperationAdd("x.txt", b"x")], "repo_id": repo, "commit_message": "x"}
    second = alice.create_commit(**add, parent_commit=first)
    assert hub.commits(repo)[0].parent == first
    add["operations"] = [CommitOperationAdd("y.txt", b"y")]
    assert "A commit has happened since" in refused(412, alice.create_commit, **add, parent_commit=first)
    assert alice.create_commit(**add, parent_commit=second.oid[:7]).oid == alice.model_info(repo).sha


def test_delete_files(hub, alice, repo):
    alice.delete_file("README.md", repo)
    alice.delete_folder("sub/deep", repo)
    assert list(hub.files(repo)) == ["model.safetensors", "sub/a.txt"]
    with pytest.raises(RemoteEntryNotFoundError, match="doesn't exist"):
        alice.delete_file("README.md", repo)
    alice.create_commit(repo, [CommitOperationDelete("sub/")], commit_message="gone")
    assert list(hub.files(repo)) == ["model.safetensors"]


def test_pull_request_of_somebody_else(hub, alice, bob, repo):
    upload = {"repo_id": repo, "path_or_fileobj": b"not so small", "path_in_repo": "new.bin"}
    done = bob.upload_file(**upload, create_pr=True)
    assert (done.pr_url, done.pr_revision, done.pr_num) == (f"{hub.url}/alice/m/discussions/1", "refs/pr/1", 1)
    bob.upload_file(repo_id=repo, path_or_fileobj=b"b", path_in_repo="b.bin", revision="refs/pr/1")
    assert "new.bin" not in hub.files(repo)
    assert Path(hf_hub_download(repo, "new.bin", revision="refs/pr/1")).read_bytes() == b"not so small"
    alice.delete_file("README.md", repo)
    refused(403, bob.merge_pull_request, repo, 1)
    alice.merge_pull_request(repo, 1)
    assert set(hub.files(repo)) == {"b.bin", "model.safetensors", "new.bin", "sub/a.txt", "sub/deep/b.txt"}


# Files and revisions


def test_info(hub, alice, repo):
    info = alice.model_info(repo, files_metadata=True)
    assert (info.id, info.author, info.sha) == (repo, "alice", hub.commits(repo)[0].oid)
    assert (info.tags, info.card_data.license) == (["small"], "mit")
    assert info.created_at < info.last_modified
    weights = info.siblings[2]
    assert (weights.rfilename, weights.size, weights.lfs.size) == ("model.safetensors", 10240, 10240)


def test_tree(hub, alice, repo):
    everything = [".gitattributes", "README.md", "model.safetensors", "sub/a.txt", "sub/deep/b.txt"]
    assert alice.list_repo_files(repo) == everything
    assert [entry.path for entry in alice.list_repo_tree(repo)] == [*everything[:3], "sub"]
    assert [entry.path for entry in alice.list_repo_tree(repo, "sub")] == ["sub/a.txt", "sub/deep"]
    below = alice.list_repo_tree(repo, "sub", recursive=True)
    assert [entry.path for entry in below] == ["sub/a.txt", "sub/deep", "sub/deep/b.txt"]
    with pytest.raises(RemoteEntryNotFoundError):
        list(alice.list_repo_tree(repo, "missing"))
    weights, folder = alice.get_paths_info(repo, ["model.safetensors", "sub/deep", "missing"])
    assert (weights.size, weights.lfs.sha256, folder.path) == (10240, File(WEIGHTS).sha256, "sub/deep")


def test_not_found(hub, repo):
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("alice/missing", "README.md", **ALICE)
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("alice/missing", "README.md")
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(repo, "README.md", revision="missing")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(repo, "missing.txt")
    with pytest.raises(RevisionNotFoundError):
        resolve_revision(repo, revision="missing")


def test_resolve_speaks_http(hub, alice, repo):
    url = f"{hub.url}/alice/m/resolve/main/model.safetensors"
    metadata = alice.get_hf_file_metadata(url=url)
    sha = File(WEIGHTS).sha256
    assert (metadata.commit_hash, metadata.etag, metadata.size) == (hub.commits(repo)[0].oid, sha, 10240)
    head = get_session().head(url)
    assert (head.headers["X-Linked-Size"], head.headers["X-Linked-ETag"]) == ("10240", f'"{sha}"')
    assert "X-Linked-ETag" not in get_session().head(f"{hub.url}/alice/m/resolve/main/README.md").headers
    for asked_for, data, range in (
        ("bytes=256-259", WEIGHTS[256:260], "bytes 256-259/10240"),
        ("bytes=10000-", WEIGHTS[10000:], "bytes 10000-10239/10240"),
        ("bytes=-2", WEIGHTS[-2:], "bytes 10238-10239/10240"),
    ):
        response = get_session().get(url, headers={"Range": asked_for})
        assert (response.status_code, response.content) == (206, data)
        assert response.headers["Content-Range"] == range
    assert get_session().get(url, headers={"Range": "bytes=10240-"}).status_code == 416


def test_a_file_is_downloaded_once(hub, alice, repo, tmp_path):
    first = hf_hub_download(repo, "model.safetensors")
    assert first.startswith(str(tmp_path)) and Path(first).read_bytes() == WEIGHTS
    assert hf_hub_download(repo, "model.safetensors") == first
    assert hub.downloads == ["model.safetensors"]
    alice.upload_file(path_or_fileobj=b"new", path_in_repo="model.safetensors", repo_id=repo)
    assert Path(hf_hub_download(repo, "model.safetensors")).read_bytes() == b"new"
    assert hub.downloads == ["model.safetensors"] * 2


def test_snapshot_of_a_resolved_revision(hub, repo, monkeypatch):
    revision = resolve_revision(repo)
    hub.push(repo, {"sub/a.txt": "changed"})
    folder = Path(snapshot_download(repo, revision=revision, allow_patterns="sub/*"))
    assert folder.name == revision.resolved == hub.commits(repo)[1].oid
    assert sorted(hub.downloads) == ["sub/a.txt", "sub/deep/b.txt"]
    assert (folder / "sub/a.txt").read_text() == "a"
    go_offline(monkeypatch)
    asked_before = len(hub.requests)
    assert Path(snapshot_download(repo, revision=revision, allow_patterns="sub/*")) == folder
    assert len(hub.requests) == asked_before


def test_branches_and_tags(hub, alice, repo):
    old = hub.commits(repo)[0].oid
    alice.create_tag(repo, tag="v1")
    alice.create_branch(repo, branch="next/one")
    new = alice.upload_file(path_or_fileobj=b"n", path_in_repo="n.txt", repo_id=repo, revision="next/one").oid
    assert (hub.commits(repo)[0].oid, hub.commits(repo, rev="next/one")[0].oid) == (old, new)
    for revision, sha in (("v1", old), ("next/one", new), (old, old), (new[:7], new)):
        assert alice.model_info(repo, revision=revision).sha == sha
    refs = alice.list_repo_refs(repo)
    assert [(ref.name, ref.target_commit) for ref in refs.branches] == [("main", old), ("next/one", new)]
    assert [(ref.name, ref.target_commit) for ref in refs.tags] == [("v1", old)]
    assert [c.title for c in alice.list_repo_commits(repo)] == ["push", "initial commit"]
    refused(409, alice.create_tag, repo, tag="v1")
    refused(409, alice.create_branch, repo, branch="next/one")
    alice.create_branch(repo, branch="next/one", exist_ok=True)
    alice.create_branch(repo, branch="back", revision=hub.commits(repo)[1].oid)
    assert hub.files(repo, rev="back") == {}
    with pytest.raises(RevisionNotFoundError):
        alice.upload_file(path_or_fileobj=b"", path_in_repo="n.txt", repo_id=repo, revision="missing")
    with pytest.raises(RevisionNotFoundError):
        alice.upload_file(path_or_fileobj=b"x", path_in_repo="n.txt", repo_id=repo, revision="v1")
    alice.delete_tag(repo, tag="v1")
    alice.delete_branch(repo, branch="next/one")
    with pytest.raises(RevisionNotFoundError):
        alice.model_info(repo, revision="v1")


def test_file_system(hub, repo):
    files = HfFileSystem(**ALICE)
    assert files.read_text("alice/m/sub/a.txt") == "a"
    with files.open("alice/m@main/model.safetensors", block_size=100) as file:
        file.seek(1000)
        assert file.read(5) == WEIGHTS[1000:1005]
    with files.open("alice/m/w.txt", "w") as file:
        file.write("w")
    assert hub.files(repo)["w.txt"] == b"w"


def test_cards(hub, alice, repo):
    card = ModelCard.load(repo)
    card.data.tags.append("more")
    card.push_to_hub(repo, **ALICE)
    assert alice.model_info(repo).tags == ["small", "more"]
    with pytest.raises(ValueError, match="Invalid metadata"):
        alice.upload_file(path_or_fileobj=b"---\na: [\n---\n", path_in_repo="README.md", repo_id=repo)
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        alice.upload_file(path_or_fileobj=b"# No metadata", path_in_repo="README.md", repo_id=repo)


# Faults


@pytest.mark.parametrize("status", [401, 403, 404, 409, 412])
def test_an_answer_that_is_not_tried_again(hub, alice, repo, status):
    hub.fail("POST", "/commit/main", status)
    upload = {"path_or_fileobj": b"x", "path_in_repo": "x.txt", "repo_id": repo}
    refused(status, alice.upload_file, **upload)
    assert (len(asked(hub, "POST", "/commit/")), len(hub.commits(repo)), hub.waits) == (1, 2, [])
    alice.upload_file(**upload)
    assert hub.files(repo)["x.txt"] == b"x"


@pytest.mark.parametrize(("status", "headers", "waits"), [(429, {"Retry-After": "7"}, [8, 8]), (503, {}, [1, 2])])
def test_an_answer_that_is_tried_again(hub, alice, repo, status, headers, waits):
    hub.fail("PUT", "/lfs/", status, times=2, headers=headers)
    alice.upload_file(path_or_fileobj=b"x", path_in_repo="x.bin", repo_id=repo)
    assert [request.status for request in asked(hub, "PUT")] == [status, status, 200]
    assert (hub.files(repo)["x.bin"], hub.waits) == (b"x", waits)


def test_the_client_gives_up(hub, alice, repo):
    hub.fail("GET", "/tree/", 500, times=100)
    refused(500, lambda: list(alice.list_repo_tree(repo)))
    assert len(asked(hub, "GET", "/tree/")) == 6


def test_the_second_request_fails(hub, repo):
    hub.fail("GET", "/resolve/", 404, skip=1)
    hf_hub_download(repo, "README.md")
    with pytest.raises(HfHubHTTPError):
        hf_hub_download(repo, "model.safetensors")
    hf_hub_download(repo, "model.safetensors")
    assert [request.status for request in asked(hub, "GET")] == [200, 404, 200]


def test_errors_with_a_code(hub, repo):
    hub.fail("HEAD", "/resolve/", 403, headers={"X-Error-Code": "GatedRepo"})
    with pytest.raises(GatedRepoError):
        hf_hub_download(repo, "README.md")


def test_a_hub_that_is_down_is_replaced_by_the_cache(hub, repo):
    path = hf_hub_download(repo, "README.md")
    hub.fail("HEAD", "README.md", 500)
    assert hf_hub_download(repo, "README.md") == path
    hub.fail("HEAD", "config.json", 500, times=100)
    with pytest.raises(LocalEntryNotFoundError):
        hf_hub_download(repo, "config.json")


def test_a_dropped_connection(hub, alice, repo):
    hub.fail("GET", "/api/models/alice/m")
    with pytest.raises(httpx.RemoteProtocolError):
        alice.model_info(repo)
    assert asked(hub, "GET")[0].status is None
    assert alice.model_info(repo).id == repo


def test_half_a_download_goes_on(hub, repo, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1024)
    hub.fail("GET", "model.safetensors", after=True)
    assert Path(hf_hub_download(repo, "model.safetensors")).read_bytes() == WEIGHTS
    first, second = asked(hub, "GET", "model.safetensors")
    assert (first.headers["Range"], second.headers["Range"]) == (None, "bytes=5120-")


def test_a_commit_whose_answer_is_lost(hub, alice, repo):
    hub.fail("POST", "/commit/", 503, after=True)
    refused(503, alice.upload_file, path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo)
    assert hub.files(repo)["x.txt"] == b"x"


# datasets, transformers, other processes


def test_a_dataset_goes_and_comes_back(hub):
    rows = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "n": [[1], [], [2, 3]]})
    done = rows.push_to_hub("alice/d", private=True, commit_message="Rows", **ALICE)
    assert done.oid == hub.commits("alice/d", "dataset")[0].oid
    assert [commit.title for commit in hub.commits("alice/d", "dataset")] == ["Rows", "initial commit"]
    assert list(hub.files("alice/d", "dataset")) == ["README.md", "data/train-00000-of-00001.parquet"]
    with pytest.raises(datasets.exceptions.DatasetNotFoundError):  # asked first: what alice loads is cached
        datasets.load_dataset("alice/d", split="train", **BOB)
    back = datasets.load_dataset("alice/d", split="train", **ALICE)
    assert back.to_dict() == rows.to_dict() and back.features == rows.features

    rows.select([0]).push_to_hub("alice/d", **ALICE)
    assert len(datasets.load_dataset("alice/d", split="train", **ALICE)) == 1
    pinned = datasets.load_dataset("alice/d", split="train", revision=done.oid, streaming=True, **ALICE)
    assert list(pinned) == rows.to_list()


def test_splits_configurations_and_cards(hub):
    rows = datasets.Dataset.from_dict({"n": [1, 2, 3]})
    datasets.DatasetDict({"train": rows, "test": rows.select([2])}).push_to_hub("alice/d", "one", **ALICE)
    rows.push_to_hub("alice/d", "two", split="test", revision="branch", **ALICE)
    assert datasets.load_dataset("alice/d", "one", split="test").to_dict() == {"n": [3]}
    assert datasets.get_dataset_config_names("alice/d", revision="branch") == ["one", "two"]
    card = DatasetCard.load("alice/d")
    card.data.license = "mit"
    card.push_to_hub("alice/d", repo_type="dataset", **ALICE)
    rows.push_to_hub("alice/d", "one", split="more", **ALICE)
    assert DatasetCard.load("alice/d").data.license == "mit"


def test_a_language_model_goes_and_comes_back(hub):
    tiny.model("bert").push_to_hub("alice/bert", **ALICE)
    tiny.tokenizer().push_to_hub("alice/bert", **ALICE)
    revision = hub.commits("alice/bert")[0].oid
    model = AutoModel.from_pretrained("alice/bert", revision=revision)
    assert model.config.hidden_size == 16
    assert AutoTokenizer.from_pretrained("alice/bert", revision=revision)("the cat").input_ids == [2, 4, 6, 3]


def test_another_process(hub, tmp_path):
    variables = os.environ | environment(hub, tmp_path / "home") | {"HF_TOKEN": "hf_dave"}
    script = "import huggingface_hub; print(huggingface_hub.whoami()['name'])"
    run = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=True)
    assert run.stdout == "dave\n"


# The server itself


def test_everything_is_as_before_afterwards(tmp_path):
    before = set(threading.enumerate())
    with pytest.MonkeyPatch.context() as patch, serve() as hub, connect(hub, tmp_path, patch):
        hub.push("alice/m", {"a.txt": "a"})
        assert HfApi().endpoint == hub.url
        assert list_repo_files("alice/m") == [".gitattributes", "a.txt"]
    assert set(threading.enumerate()) <= before
    assert HfApi().endpoint == "https://huggingface.co"
    with pytest.raises(OfflineModeIsEnabled):
        list_repo_files("alice/m")


def test_a_client_that_stays_connected_does_not_keep_the_server(tmp_path):
    before = set(threading.enumerate())
    with httpx.Client() as client:
        with serve() as hub:
            assert client.get(f"{hub.url}/api/models").json() == []
        assert set(threading.enumerate()) <= before
        with pytest.raises(httpx.ConnectError):
            client.get(hub.url)


def test_a_mistake_in_the_server_fails_the_test():
    with pytest.raises(KeyError, match="name"), serve() as hub, httpx.Client() as client:
        headers = {"Authorization": "Bearer hf_alice"}
        assert client.post(f"{hub.url}/api/repos/create", json={}, headers=headers).status_code == 500


# The metadata of cards

MODEL = """
license: apache-2.0
license_link: LICENSE
language: [en, nds, code]
library_name: hf-sae-select
pipeline_tag: feature-extraction
base_model: org/model-1.5
datasets: [org/data, squad]
tags: [small]
model-index:
- name: m
  results:
  - {task: {type: text-generation}, dataset: {type: org/data, name: Data}, metrics: [{type: wer, value: 1.5}]}
"""
DATASET = """
license: [mit, other]
license_name: my-license-1.0
language: "no"
pretty_name: Data
size_categories: [n<1K]
task_categories: [text-generation]
source_datasets: [org/data]
configs:
- {config_name: one, data_files: data/*.parquet, default: true, sep: ","}
- {config_name: two, data_files: [a.csv, b.csv]}
- {config_name: three, data_files: [{split: train, path: [a.csv, b.csv]}, {split: test.all, path: c.csv}]}
dataset_info:
- config_name: one
  features: [{name: text, dtype: string}, {name: ids, list: int32}]
  splits: [{name: train, num_bytes: 10, num_examples: 2}]
  download_size: 5
  dataset_size: 10
"""
SPACE = """
title: Diversity
sdk: gradio
colorFrom: green
models: [org/model]
"""
GOOD = {"model": MODEL, "dataset": DATASET, "space": SPACE}


def push_card(alice, kind, metadata):
    card = CommitOperationAdd("README.md", f"---\n{metadata.strip()}\n---\n# Title\n".encode())
    alice.create_repo("alice/card", repo_type=kind, space_sdk="gradio" if kind == "space" else None)
    return alice.create_commit("alice/card", [card], commit_message="Card", repo_type=kind)


@pytest.mark.parametrize("kind", GOOD)
def test_a_good_card(hub, alice, kind):
    push_card(alice, kind, GOOD[kind])
    assert [commit.title for commit in hub.commits("alice/card", kind)] == ["Card", "initial commit"]


@pytest.mark.parametrize(
    ("kind", "metadata", "message"),
    [
        ("model", "license: apache", '"license" must be one of [apache-2.0, mit, '),
        ("model", "license: Apache-2.0", '"license" must be one of'),
        ("model", "license:", '"license" must be one of'),
        ("model", "license: {mit: 1}", '"license" must be one of'),
        ("dataset", "license: [mit, bsd-4]", '"license[1]" must be one of'),
        ("model", "license_name: 1.0", '"license_name" must be a string'),
        ("model", "language: English", '"language" with value "English" is not valid. It must be an ISO 639-1'),
        ("dataset", "language: [en, zh-CN]", '"language[1]" with value "zh-CN" is not valid'),
        ("model", "language: no", '"language" must be a string'),
        ("model", "tags: small", '"tags" must be an array'),
        ("model", "tags:", '"tags" must be an array'),
        ("space", "tags: [1]", '"tags[0]" must be a string'),
        ("model", "library_name: [peft]", '"library_name" must be a string'),
        ("model", "base_model: /home/me/model", '"base_model" with value "/home/me/model" is not valid. Use a model'),
        ("model", "base_model: [org/m, A model]", '"base_model[1]" with value "A model" is not valid'),
        ("model", "datasets: [MS Marco]", '"datasets[0]" with value "MS Marco" is not valid. If possible, use'),
        ("model", "datasets: [null]", '"datasets[0]" must be a string'),
        ("model", "widget: text", '"widget" must be an array'),
        ("model", "model-index: wrong", '"model-index" must be an array'),
        (
            "model",
            "model-index: [{results: [{task: {type: x}, dataset: {type: x, name: x, config: 1}, metrics: []}]}]",
            '"model-index[0].results[0].dataset.config" must be a string',
        ),
        ("dataset", "pretty_name: 7", '"pretty_name" must be a string'),
        ("dataset", "size_categories: n<1K", '"size_categories" must be an array'),
        ("dataset", "size_categories: [1000]", '"size_categories[0]" must be a string'),
        ("dataset", "task_categories: text-generation", '"task_categories" must be an array'),
        ("dataset", "source_datasets: [{a: b}]", '"source_datasets[0]" must be a string'),
        ("dataset", "configs: {config_name: a}", '"configs" must be an array'),
        ("dataset", "configs: [default]", '"configs[0]" must be of type object'),
        ("dataset", "configs: [{data_files: a}]", '"configs[0].config_name" is required'),
        ("dataset", "configs: [{config_name: 1}]", '"configs[0].config_name" must be a string'),
        ("dataset", "configs: [{config_name: a, default: 1}]", '"configs[0].default" must be a boolean'),
        ("dataset", "configs: [{config_name: a}, {config_name: a}]", "several with the same config_name"),
        ("dataset", "configs: [{config_name: a, default: true}, {config_name: b, default: true}]", "several defaults"),
        (
            "dataset",
            "configs: [{config_name: a, data_files: {split: train, path: a}}]",
            '"configs[0].data_files" must be an array',
        ),
        (
            "dataset",
            "configs: [{config_name: a, data_files: [{split: train}]}]",
            '"configs[0].data_files[0].path" is required',
        ),
        (
            "dataset",
            "configs: [{config_name: a, data_files: [{split: a-b, path: a}]}]",
            '"configs[0].data_files[0].split" with value "a-b"',
        ),
        ("dataset", "dataset_info: text", '"dataset_info" must be of type object'),
        ("dataset", "dataset_info: {features: {text: string}}", '"dataset_info.features" must be an array'),
        ("dataset", "dataset_info: {splits: [{num_bytes: 1}]}", '"dataset_info.splits[0].name" is required'),
        (
            "dataset",
            "dataset_info: [{splits: [{name: train, num_examples: many}]}]",
            '"dataset_info[0].splits[0].num_examples" must be a number',
        ),
        ("dataset", "dataset_info: {dataset_size: true}", '"dataset_info.dataset_size" must be a number'),
        ("space", "colorFrom: teal", '"colorFrom" must be one of [red, yellow, '),
        ("space", "sdk: flask", '"sdk" must be one of'),
        ("space", f"short_description: {'a' * 61}", "longer than 60 characters"),
        ("model", "[license, mit]", '"value" must be of type object'),
        ("model", "mit", "The YAML metadata of your README.md is invalid."),
        ("model", "license: [", "Invalid YAML in README.md: "),
    ],
)
def test_a_card_that_is_refused(hub, alice, kind, metadata, message):
    with pytest.raises(ValueError, match="Invalid metadata") as error:
        push_card(alice, kind, metadata)
    assert message in str(error.value)
    assert "README.md" not in hub.files("alice/card", kind)


@pytest.mark.parametrize(
    ("kind", "metadata", "message"),
    [
        ("model", "pipeline_tag: guessing", 'The pipeline_tag "guessing" is not in the official list: '),
        ("dataset", "task_categories: [other, guessing]", 'The task_categories "guessing" is not in the official'),
        (
            "dataset",
            "size_categories: [small]",
            'The size_categories "small" is not in the official list: unknown, n<',
        ),
        ("dataset", "{}", "empty or missing yaml metadata"),
    ],
)
def test_a_card_that_the_hub_only_warns_of(hub, alice, kind, metadata, message):
    with pytest.warns(UserWarning, match=message):
        push_card(alice, kind, metadata)
    assert "README.md" in hub.files("alice/card", kind)


def test_fields_that_the_hub_does_not_know_may_be_anything(hub, alice):
    push_card(alice, "model", "configs: 1\nsplits: {a: [b]}\n1: 2")
