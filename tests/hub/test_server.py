"""The Hub of the tests does to the real client what the real Hub does."""

import threading
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, resolve_revision
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from hub import connect, serve
from hub.metadata import problems

ALICE = HfApi(token="hf_alice")
BOB = HfApi(token="hf_bob")
CARD = "---\nlicense: mit\ntags:\n- small\n---\n# Hello\n"
WEIGHTS = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def endpoint(hub, monkeypatch):
    for api in (ALICE, BOB):
        monkeypatch.setattr(api, "endpoint", hub.url)


@pytest.fixture
def repo(hub):
    """A public model of alice's with a card and weights."""
    hub.push("alice/m", {"README.md": CARD, "model.safetensors": WEIGHTS, "sub/a.txt": "a", "sub/deep/b.txt": "b"})
    return "alice/m"


def add(api, repo, content=b"x", path="x.txt", **options):
    return api.create_commit(repo, [CommitOperationAdd(path, content)], commit_message="Add", **options)


def refused(status, call, *args, **options):
    """Check that a call is answered with `status`, and return what the Hub said."""
    with pytest.raises(HfHubHTTPError) as error:
        call(*args, **options)
    assert error.value.response.status_code == status
    return str(error.value)


def requests(hub, method, part=""):
    return [request for request in hub.requests if request.method == method and part in request.path]


# Who may do what


def test_create_repo(hub):
    url = ALICE.create_repo("alice/m")
    assert (str(url), url.repo_id, url.repo_type) == (f"{hub.url}/alice/m", "alice/m", "model")
    refused(409, ALICE.create_repo, "alice/m")
    assert ALICE.create_repo("m", exist_ok=True).repo_id == "alice/m"
    assert "rights" in refused(403, BOB.create_repo, "alice/other")
    refused(401, HfApi().create_repo, "alice/other")
    refused(401, HfApi(token="nonsense").create_repo, "alice/other")
    assert [commit.title for commit in hub.commits("alice/m")] == ["initial commit"]


def test_private(hub):
    ALICE.create_repo("alice/m", private=True)
    add(ALICE, "alice/m")
    assert ALICE.model_info("alice/m").private
    for api, status in ((HfApi(), 401), (BOB, 404)):
        for call in (api.model_info, api.list_repo_files, lambda id, api=api: api.hf_hub_download(id, "x.txt")):
            with pytest.raises(RepositoryNotFoundError) as error:
                call("alice/m")
            assert error.value.response.status_code == status
    assert Path(ALICE.hf_hub_download("alice/m", "x.txt")).read_bytes() == b"x"


def test_only_the_owner_writes(hub, repo):
    assert "rights" in refused(403, add, BOB, repo)
    refused(401, add, HfApi(), repo)
    refused(403, BOB.create_branch, repo, branch="b")
    with pytest.raises(RepositoryNotFoundError):
        add(ALICE, "alice/missing")
    assert len(hub.commits(repo)) == 2


def test_gated(hub, repo):
    hub.repos["model", repo].gated = "auto"
    assert BOB.model_info(repo).gated == "auto"
    for token, status in ((False, 401), ("hf_bob", 403)):
        with pytest.raises(GatedRepoError) as error:
            hf_hub_download(repo, "README.md", token=token)
        assert error.value.response.status_code == status


# Commits


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_a_commit(hub, kind):
    ALICE.create_repo("alice/x", repo_type=kind)
    files = {"config.json": b"{}", "sub/empty.bin": b"", "w.safetensors": WEIGHTS}
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    done = ALICE.create_commit("alice/x", operations, commit_message="All", commit_description="!", repo_type=kind)
    assert hub.files("alice/x", kind) == files
    commit = hub.commits("alice/x", kind)[0]
    assert (commit.oid, commit.author, commit.title, commit.message) == (done.oid, "alice", "All", "!")
    assert len(requests(hub, "PUT", "/lfs/")) == 1  # an empty file never goes to LFS
    add(ALICE, "alice/x", WEIGHTS, "again.safetensors", repo_type=kind)
    assert len(requests(hub, "PUT", "/lfs/")) == 1  # what arrived once is not sent again


def test_a_commit_on_top_of_another(hub, repo):
    first = resolve_revision(repo).resolved
    add(ALICE, repo, parent_commit=first)
    assert hub.commits(repo)[0].parent == first
    assert "A commit has happened since" in refused(412, add, ALICE, repo, b"y", parent_commit=first)
    ALICE.create_commit(repo, [CommitOperationDelete("sub/a.txt")], commit_message="Delete")
    assert "sub/a.txt" not in hub.files(repo) and "x.txt" in hub.files(repo)


def test_pull_request_of_somebody_else(hub, repo):
    done = add(BOB, repo, WEIGHTS[1:], "new.bin", create_pr=True)
    assert (done.pr_url, done.pr_revision, done.pr_num) == (f"{hub.url}/alice/m/discussions/1", "refs/pr/1", 1)
    assert "new.bin" not in hub.files(repo)
    assert Path(hf_hub_download(repo, "new.bin", revision="refs/pr/1")).read_bytes() == WEIGHTS[1:]
    assert add(BOB, repo, create_pr=True).pr_num == 2


# Files and revisions


def test_info_and_tree(hub, repo):
    info = ALICE.model_info(repo)
    assert (info.id, info.sha, info.card_data.license) == (repo, hub.commits(repo)[0].oid, "mit")
    everything = [".gitattributes", "README.md", "model.safetensors", "sub/a.txt", "sub/deep/b.txt"]
    assert ALICE.list_repo_files(repo) == [file.rfilename for file in info.siblings] == everything
    assert [entry.path for entry in ALICE.list_repo_tree(repo, "sub")] == ["sub/a.txt", "sub/deep"]


@pytest.mark.parametrize(
    ("repo_id", "path", "revision", "error"),
    [
        ("alice/missing", "README.md", "main", RepositoryNotFoundError),
        ("alice/m", "README.md", "missing", RevisionNotFoundError),
        ("alice/m", "missing", "main", RemoteEntryNotFoundError),
    ],
)
def test_not_found(hub, repo, repo_id, path, revision, error):
    for token in ("hf_alice", False):
        with pytest.raises(error):
            hf_hub_download(repo_id, path, revision=revision, token=token)


def test_branches_and_tags(hub, repo):
    old = hub.commits(repo)[0].oid
    ALICE.create_tag(repo, tag="v1")
    ALICE.create_branch(repo, branch="next/one")
    new = add(ALICE, repo, revision="next/one").oid
    assert (hub.commits(repo)[0].oid, hub.commits(repo, rev="next/one")[0].oid) == (old, new)
    for revision, sha in (("v1", old), ("next/one", new), (old, old), (new[:7], new)):
        assert ALICE.model_info(repo, revision=revision).sha == sha
    refused(409, ALICE.create_branch, repo, branch="next/one")
    for revision in ("missing", "v1"):
        with pytest.raises(RevisionNotFoundError):
            add(ALICE, repo, revision=revision)


# Faults


def test_an_answer_that_is_not_tried_again_and_one_that_is(hub, repo):
    hub.fail("POST", "/commit/main", 409)
    refused(409, add, ALICE, repo)
    assert (len(requests(hub, "POST", "/commit/")), len(hub.commits(repo)), hub.waits) == (1, 2, [])
    hub.fail("PUT", "/lfs/", 503, times=2)
    add(ALICE, repo, b"x", "x.bin")
    assert [request.status for request in requests(hub, "PUT")] == [503, 503, 200] and len(hub.waits) == 2


def test_the_second_request_fails(hub, repo):
    hub.fail("GET", "/resolve/", 404, skip=1)
    hf_hub_download(repo, "README.md")
    with pytest.raises(HfHubHTTPError):
        hf_hub_download(repo, "model.safetensors")
    assert [request.status for request in requests(hub, "GET")] == [200, 404]


def test_a_dropped_connection(hub, repo):
    hub.fail("GET", "/api/models/alice/m")
    with pytest.raises(httpx.RemoteProtocolError):
        ALICE.model_info(repo)
    assert requests(hub, "GET")[0].status is None
    assert ALICE.model_info(repo).id == repo


def test_a_commit_whose_answer_is_lost(hub, repo):
    hub.fail("POST", "/commit/", 503, after=True)
    refused(503, add, ALICE, repo)
    assert hub.files(repo)["x.txt"] == b"x"


# The server itself


def test_everything_is_as_before_afterwards(tmp_path):
    before, endpoint = set(threading.enumerate()), HfApi().endpoint
    with pytest.MonkeyPatch.context() as patch, serve() as other, connect(other, tmp_path, patch):
        client = httpx.Client()
        assert client.get(f"{other.url}/api/models/alice/m").status_code == 401  # and it stays connected
        assert HfApi().endpoint == other.url != endpoint
    client.close()
    assert HfApi().endpoint == endpoint
    assert set(threading.enumerate()) <= before


def test_a_mistake_in_the_server_fails_the_test():
    with pytest.raises(KeyError, match="name"), serve() as hub, httpx.Client() as client:
        headers = {"Authorization": "Bearer hf_alice"}
        assert client.post(f"{hub.url}/api/repos/create", json={}, headers=headers).status_code == 500


# The metadata of cards


@pytest.mark.parametrize(
    ("kind", "metadata", "message"),
    [
        ("model", {"license": "Apache-2.0"}, '"license" must be one of [apache-2.0, mit, '),
        ("dataset", {"license": ["mit", "bsd-4"]}, '"license[1]" must be one of'),
        ("model", {"language": "English"}, '"language" with value "English" is not valid'),
        ("model", {"tags": None}, '"tags" must be an array'),
        ("model", {"base_model": "/home/me/model"}, '"base_model" with value "/home/me/model" is not valid'),
        ("dataset", {"size_categories": [1000]}, '"size_categories[0]" must be a string'),
        ("dataset", {"configs": ["default"]}, '"configs[0]" must be of type object'),
        ("dataset", {"configs": [{"data_files": [{"split": "a"}]}]}, '"configs[0].data_files[0].path" is required'),
    ],
)
def test_bad_metadata(kind, metadata, message):
    assert message in "\n".join(problems(kind, metadata)[0])


def test_a_card_that_is_refused_is_not_committed(hub, repo):
    with pytest.raises(ValueError, match="Invalid metadata"):
        add(ALICE, repo, b"---\nlicense: my-own\n---\n", "README.md")
    assert hub.files(repo)["README.md"] == CARD.encode()


def test_a_card_that_the_hub_only_warns_of(hub, repo):
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        add(ALICE, repo, b"# Bare", "README.md")
    assert hub.files(repo)["README.md"] == b"# Bare"
