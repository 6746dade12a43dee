"""Subsets to the Hub and back, by the real clients against a Hub on localhost, and every fault on the way."""

import os
from datetime import date, time, timedelta
from decimal import Decimal

import pytest
import yaml
from datasets import (
    Array2D,
    ClassLabel,
    Dataset,
    Features,
    Image,
    List,
    Value,
    concatenate_datasets,
    load_dataset,
)
from helpers.forge import ALICE, POOL, RECORD
from helpers.pools import coded
from hub import go_offline
from huggingface_hub import HfApi
from PIL import Image as Picture

from hf_sae_select import _commits, publish, push, stage, verify
from hf_sae_select.publishing import pushing as publishing
from hf_sae_select.publishing import tables

MIT = {"license": "mit", **ALICE}
ID, FILES = "alice/three", ["README.md", "coverage.png", "data/train-00000.parquet", "pool.parquet"]
FILES += ["provenance.json", "selection.parquet"]
LFS = ["data/train-00000.parquet", "pool.parquet", "selection.parquet"]


def picked(budget=3, **columns):
    """Of five rows, those with one feature each but the last, which has two and is picked first."""
    ds = coded([{0: 0.9}, {1: 0.9}, {2: 0.9}, {3: 0.9}, {14: 0.9, 15: 0.9}], record=RECORD)
    for name, (values, type) in columns.items():
        more = Dataset.from_dict({name: values}, Features({name: type}))
        ds = concatenate_datasets([ds, more], axis=1)
    return ds.sae_select(budget, "greedy", seed=None)


@pytest.fixture
def staged(tmp_path):
    return stage(picked(), tmp_path / "staged", license="mit")


def head(hub, id=ID, rev="main"):
    return hub.commits(id, "dataset", rev)[0]


def files_of(hub, id=ID, rev="main"):
    return hub.files(id, "dataset", rev)


def card_of(hub, id=ID):
    return files_of(hub, id)["README.md"].decode()


def metadata(text):
    return yaml.safe_load(text.split("---")[1])


def uploads(hub):
    return [request.path for request in hub.requests if request.method == "PUT" and request.path.startswith("/lfs/")]


def test_published_it_is_one_commit_that_loads_and_verifies(hub, cache):
    subset = picked()
    commit = publish(subset, ID, commit_message="Three rows", **MIT)
    assert sorted(files_of(hub)) == FILES
    titles = [(item.title, item.author) for item in hub.commits(ID, "dataset")]
    assert titles == [("Three rows", "alice"), ("initial commit", "alice")]
    assert commit.oid == head(hub).oid
    assert load_dataset(ID, split="train")["text"][:] == subset["text"][:] == ["row 4", "row 0", "row 1"]
    assert load_dataset(ID, "selection", split="train")["row"][:] == [4, 0, 1]
    assert verify(ID, "select")
    assert not list(cache.rglob("alice--three")) and not list(cache.rglob("*.unfinished"))


def test_the_method_is_a_door_to_the_function(hub):
    subset = picked()
    subset.sae_publish(ID, **MIT)
    publish(subset, "alice/other", **MIT)
    present, other = files_of(hub), files_of(hub, "alice/other")
    assert present["README.md"].replace(b"alice/three", b"alice/other") == other["README.md"]
    assert b"alice/three" in present["README.md"]
    assert {name: present[name] for name in FILES[1:]} == {name: other[name] for name in FILES[1:]}


def test_rows_of_all_types_come_back_as_they_were(hub):
    chat = [[{"role": "user", "content": f"Hi {i}"}, {"role": "assistant", "content": None}] for i in range(5)]
    nested = [{"a": [i, None], "b": {"c": "é", "d": None if i else 1.5}} for i in range(5)]
    columns = {
        "label": ([1, 0, 1, 0, 1], ClassLabel(names=["no", "yes"])),
        "messages": (chat, List({"role": Value("string"), "content": Value("string")})),
        "nested": (nested, {"a": List(Value("int32")), "b": {"c": Value("string"), "d": Value("float64")}}),
        "large": ([2**63 - 1, -(2**63), 2**53 + 1, 0, None], Value("int64")),
        "empty": (["", None, "\n", "😀\u2028", '"'], Value("string")),
        "raw": ([b"\x00\xff", None, b"", b"a", b"b"], Value("binary")),
        "when": ([0, 1, 2, 3, None], Value("timestamp[ms]")),
    }
    subset = picked(5, **columns)
    publish(subset, ID, **MIT)
    again = load_dataset(ID, split="train")
    assert again.features == subset.features
    assert set(again.column_names) == {"text", *columns}
    for name in again.column_names:
        assert again[name][:] == subset[name][:]
    assert again.features["label"].names == ["no", "yes"]
    assert verify(ID, "select")


MATRICES = [[[i, 2], [3, 4]] for i in range(5)]
TYPES = {  # of five rows; of some types Parquet has no word for, and they come back as a near one
    "timestamp[s]": ([0, 1, 2, None, 1709210096], "timestamp[ms]"),
    "timestamp[us, tz=UTC]": [0, 1, 2, None, 1709210096],
    "date64": ([date(2024, 2, n + 1) for n in range(5)], "date32"),
    "time32[s]": ([time(1, 2, n) for n in range(5)], "time32[ms]"),
    "time64[ns]": [time(1, 2, 3, n) for n in range(5)],
    "duration[ms]": [timedelta(seconds=n) for n in range(5)],
    "decimal128(10, 2)": [Decimal("1.25") * n for n in range(5)],
    "large_string": ["a", None, "ü", "", "x"],
    "large_binary": [b"a", None, b"", b"\xff", b"x"],
    "float16": [0.5, -0.0, 1.5, 2.0, None],
    "null": [None] * 5,
}


@pytest.mark.parametrize("type", [*TYPES, Array2D((2, 2), "int32"), Array2D((None, 2), "int32")], ids=str)
def test_columns_of_rare_types_come_back_and_verify(hub, type):
    values, near = MATRICES, type
    if isinstance(type, str):
        values, near = TYPES[type] if isinstance(TYPES[type], tuple) else (TYPES[type], type)
        type, near = Value(type), Value(near)
    subset = picked(5, v=(values, type))
    publish(subset, ID, **MIT)
    again = load_dataset(ID, split="train")
    assert again.features["v"] == near and again["v"][:] == subset["v"][:]
    assert verify(ID, "select")


def test_images_by_reference_come_back_as_the_same_pictures(hub, tmp_path):
    paths = []
    for i in range(5):
        Picture.new("RGB", (4, 3), (i * 40, 10, 200)).save(tmp_path / f"secret-{i}.png")
        paths.append(str(tmp_path / f"secret-{i}.png"))
    publish(picked(image=(paths, Image())), ID, **MIT)
    pictures = {i: (tmp_path / f"secret-{i}.png").read_bytes() for i in range(5)}
    assert all(str(tmp_path).encode() not in data for data in files_of(hub).values())
    for path in paths:
        os.remove(path)
    again = load_dataset(ID, split="train")
    assert again.features["image"] == Image()
    assert [image.getpixel((0, 0)) for image in again["image"]] == [(160, 10, 200), (0, 10, 200), (40, 10, 200)]
    raw = again.cast_column("image", Image(decode=False))["image"][:]
    assert [row["bytes"] for row in raw] == [pictures[4], pictures[0], pictures[1]]
    assert verify(ID)


def test_a_pinned_revision_stays(hub):
    first = publish(picked(2), ID, **MIT).oid
    publish(picked(4), ID, **MIT)
    assert load_dataset(ID, split="train", revision=first)["text"][:] == ["row 4", "row 0"]
    assert len(load_dataset(ID, split="train")) == 4
    assert verify(ID, revision=first) and verify(ID)


def test_a_private_repo_is_not_seen_by_others(hub):
    publish(picked(), ID, private=True, **MIT)
    assert hub.repos["dataset", ID].private
    assert len(load_dataset(ID, split="train", token="hf_alice")) == 3
    assert verify(ID, token="hf_alice")
    with pytest.raises(FileNotFoundError, match="'alice/three' is neither a local folder nor a Hub repo"):
        verify(ID, token="hf_bob")
    assert all(b"hf_alice" not in data for data in files_of(hub).values())
    publish(picked(2), ID, private=True, **MIT)  # as it is
    assert hub.repos["dataset", ID].private and len(hub.commits(ID, "dataset")) == 3


def test_a_public_repo_is_not_written_to_where_a_private_one_is_asked_for(hub, staged):
    before = hub.push(ID, {"notes.md": "mine"}, kind="dataset")
    with pytest.raises(ValueError, match=r"`private=True`, but alice/three exists and is public"):
        push(staged, ID, private=True, **ALICE)
    assert head(hub).oid == before and uploads(hub) == [] and not hub.repos["dataset", ID].private


def test_a_pull_request_by_somebody_else(hub):
    publish(picked(2), ID, **MIT)
    before = head(hub).oid
    pull = publish(picked(3), ID, create_pr=True, license="mit", token="hf_bob")
    assert pull.pr_num == 1 and head(hub).oid == before
    assert head(hub, rev="refs/pr/1").author == "bob"
    assert len(load_dataset(ID, split="train", revision="refs/pr/1")) == 3


def test_a_branch(hub):
    publish(picked(2), ID, **MIT)
    before = head(hub).oid
    HfApi(**ALICE).create_branch(ID, branch="next", repo_type="dataset")
    publish(picked(3), ID, revision="next", **MIT)
    assert head(hub).oid == before and head(hub, rev="next").parent == before
    assert len(load_dataset(ID, split="train", revision="next")) == 3
    with pytest.raises(FileNotFoundError, match="alice/three has no branch 'none'"):
        publish(picked(3), ID, revision="none", **MIT)


def test_a_second_subset_takes_the_place_of_the_first_in_one_commit(hub, monkeypatch):
    monkeypatch.setattr(tables, "SHARD_BYTES", 1)
    monkeypatch.setattr("hf_sae_select.publishing.hashing.BATCH_ROWS", 1)
    publish(picked(4), ID, **MIT)
    assert sum(name.startswith("data/") for name in files_of(hub)) == 4
    hub.push(ID, {"notes.md": "mine", "more/a.csv": "a\n1\n"}, kind="dataset")
    publish(picked(2), ID, include_features=False, **MIT)
    expected = {*FILES, "data/train-00001.parquet", "notes.md", "more/a.csv"} - {"pool.parquet"}
    assert set(files_of(hub)) == expected
    assert len(hub.commits(ID, "dataset")) == 4
    assert load_dataset(ID, split="train")["text"][:] == ["row 4", "row 0"]
    assert verify(ID)


def test_a_second_push_keeps_what_the_user_wrote_in_the_card(hub):
    publish(picked(4), ID, **MIT)
    other = {"config_name": "more", "data_files": "more/*.parquet"}
    text = card_of(hub)
    data = metadata(text) | {"pretty_name": "Mine", "license": "odbl", "dataset_info": {"config_name": "default"}}
    data |= {"tags": ["mine", *data["tags"]], "configs": [other, *data["configs"]], "viewer": False}
    body = text.split("---\n", 2)[2]
    edited = f"---\n{yaml.safe_dump(data)}---\n# My words\n\n{body}\n## After\n\nmore --- words\n"
    rows = files_of(hub)["data/train-00000.parquet"]
    hub.push(ID, {"README.md": edited, "more/a.parquet": rows}, kind="dataset")
    publish(picked(2), ID, metadata={"language": "en"}, **MIT)
    again = card_of(hub)
    assert "# My words\n\n<!-- hf-sae-select: subset" in again
    assert again.endswith("<!-- end of hf-sae-select: subset -->\n\n## After\n\nmore --- words\n")
    assert again.count("# 2 rows of a dataset") == 1 and "# 4 rows" not in again
    now = metadata(again)
    assert (now["pretty_name"], now["viewer"], now["language"], now["license"]) == ("Mine", False, "en", "mit")
    assert now["tags"] == ["mine", "hf-sae-select", "data-selection", "sparse-autoencoder", "diversity"]
    assert [item["config_name"] for item in now["configs"]] == ["more", "default", "selection"]
    assert "dataset_info" not in now and now["size_categories"] == ["n<1K"]
    assert len(load_dataset(ID, "more", split="train")) == 4
    assert len(load_dataset(ID, split="train")) == 2
    assert verify(ID)


def test_a_readme_with_our_section_twice_is_refused_and_not_touched(hub):
    publish(picked(4), ID, **MIT)
    before = hub.push(ID, {"README.md": card_of(hub) + card_of(hub).split("---\n", 2)[2]}, kind="dataset")
    with pytest.raises(ValueError, match=r"the repo's README\.md has our section twice; remove one"):
        publish(picked(2), ID, **MIT)
    assert head(hub).oid == before


def test_a_repo_with_words_alone_is_written_to_and_the_words_are_kept(hub):
    readme = "---\nlanguage: de\nlicense: cc0-1.0\n---\n# Mine\n\nRead this.\n"
    words = [".gitignore", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "LICENSE.txt", "NOTICE", "licence.md"]
    hub.push(ID, dict.fromkeys(words, "mine") | {"README.md": readme}, kind="dataset")
    publish(picked(), ID, **MIT)
    text = card_of(hub)
    assert "---\n# Mine\n\nRead this.\n\n<!-- hf-sae-select: subset, written anew at each push -->\n" in text
    assert (metadata(text)["language"], metadata(text)["license"]) == ("de", "mit")
    assert sorted(files_of(hub)) == sorted([*FILES, *words]) and verify(ID)


OTHERS = ["train.csv", "data/train-00000-of-00001.parquet", "deep/er/rows.jsonl"]
OTHERS += ["TRAIN.CSV", "train.jsonl.gz", "rows.json.zst", "shards/0.tar", "notes.txt", "load.py", "coverage.png"]
OTHERS += ["dataset_infos.json", ".huggingface.yaml", "deep/README.md", "selection.parquet"]


@pytest.mark.parametrize("name", OTHERS)
def test_a_repo_with_other_data_is_refused_and_not_touched(hub, name):
    before = hub.push(ID, {name: b"a\n1\n"}, kind="dataset")
    with pytest.raises(ValueError, match=f"alice/three holds other data, such as {name}; publish the subset in anoth"):
        publish(picked(), ID, **MIT)
    assert head(hub).oid == before and uploads(hub) == []


def test_a_record_that_is_none_of_ours_and_rows_beside_ours_are_not_touched(hub):
    before = hub.push(ID, {"provenance.json": '{"by": "me"}', "train.csv": "a\n1\n"}, kind="dataset")
    publish(picked(), "alice/other", **MIT)
    beside = hub.push("alice/other", {"data/theirs.parquet": b"x"}, kind="dataset")
    for id, name, commit in ((ID, "provenance.json", before), ("alice/other", "data/theirs.parquet", beside)):
        with pytest.raises(ValueError, match=f"holds other data, such as {name}; publish the subset in another repo"):
            publish(picked(2), id, **MIT)
        assert head(hub, id).oid == commit


def test_what_is_no_staged_folder_or_no_id_is_refused_before_anything_is_sent(hub, tmp_path, staged):
    with pytest.raises(ValueError, match=r"is not a staged subset; write one with `stage`"):
        push(tmp_path / "none", ID, **ALICE)
    for id in ("a/b/c", "alice/", "", None, "alice/a b", "alice/a--b", "alice/x.git", "alice/" + "x" * 100):
        with pytest.raises(ValueError, match=r"is not a valid id of a Hub repo; pass owner/name"):
            push(staged, id, **ALICE)
        with pytest.raises(ValueError, match=r"is not a valid id of a Hub repo; pass owner/name"):
            publish(picked(), id, **MIT)
    assert hub.requests == []


def test_a_staged_card_that_was_edited_is_pushed_as_edited_and_files_beside_it_are_not(hub, staged):
    text = (staged / "README.md").read_text().replace("<!-- hf", "# Mine\n\n<!-- hf", 1) + "\nMine.\n"
    (staged / "README.md").write_text(text)
    (staged / "notes.md").write_text("mine")
    push(staged, ID, **ALICE)
    assert card_of(hub) == text.replace("OWNER/NAME", ID) and "OWNER/NAME" in text
    assert sorted(files_of(hub)) == FILES


WRONG = [
    ({"license": "my-own"}, r"license.+ must be one of"),
    ({"metadata": {"language": "X"}}, r"language.+X.+ is not"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_metadata_that_the_hub_does_not_accept_leave_no_repo(hub, wrong, message):
    with pytest.raises(ValueError, match=message):
        publish(picked(), ID, **MIT | wrong)
    assert hub.repos == {} and uploads(hub) == []


def test_an_upload_that_the_client_gives_up_is_explained(hub, staged, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("Error while uploading 'data/train-00000.parquet' to the Hub.")

    monkeypatch.setattr(HfApi, "create_commit", fails)
    with pytest.raises(OSError, match="alice/three: the transfer was interrupted"):
        push(staged, ID, **ALICE)


FAULTS = [
    ("POST", "/commit/", 401, PermissionError, "HTTP 401; the Hub does not accept the token"),
    ("POST", "/commit/", 403, PermissionError, "HTTP 403; the token lacks permission"),
    ("POST", "/commit/", 409, OSError, "HTTP 409; another commit"),
    ("POST", "/commit/", 412, OSError, "HTTP 412; the repo has a newer commit"),
    ("POST", "/commit/", 429, OSError, "HTTP 429; too many requests"),
    ("POST", "/commit/", 500, OSError, "HTTP 500; the Hub has a problem"),
    ("POST", "/commit/", 503, OSError, "HTTP 503; the Hub has a problem"),
    ("POST", "/commit/", None, OSError, "alice/three: the Hub does not answer ("),
    ("POST", "/preupload/", 429, OSError, "HTTP 429; too many requests"),
    ("POST", "objects/batch", 503, OSError, "HTTP 503; the Hub has a problem"),
    ("PUT", "/lfs/", 500, OSError, "HTTP 500; the Hub has a problem"),
    ("PUT", "/lfs/", None, OSError, "alice/three: the Hub does not answer ("),
    ("POST", "/verify", 403, PermissionError, "HTTP 403; the token lacks permission"),
    ("POST", "/validate-yaml", 503, OSError, "HTTP 503; the Hub has a problem"),
    ("POST", "/repos/create", 429, OSError, "HTTP 429; too many requests"),
    ("POST", "/repos/create", None, OSError, "alice/three: the Hub does not answer ("),
    ("GET", "/tree/|/revision/", 503, OSError, "HTTP 503; the Hub has a problem"),
]


@pytest.mark.parametrize(("method", "path", "status", "error", "message"), FAULTS)
def test_every_fault_leaves_the_repo_as_it_was_and_push_goes_on(hub, cache, method, path, status, error, message):
    before = hub.push(ID, {"notes.md": "mine"}, kind="dataset")
    hub.fail(method, path, status, times=1000)
    with pytest.raises(error) as caught:
        publish(picked(), ID, **MIT)
    assert message in str(caught.value)
    assert head(hub).oid == before and list(files_of(hub)) == ["notes.md"]
    folder = cache / "hf_sae_select" / "staged" / "alice--three"
    assert (
        f"the staged folder is kept; to continue: hf_sae_select.push({str(folder)!r}, 'alice/three')"
        in caught.value.__notes__[0]
    )
    assert "hf_alice" not in str(caught.value) + caught.value.__notes__[0]
    hub.faults.clear()
    push(folder, ID, **ALICE)
    assert head(hub).parent == before and sorted(files_of(hub)) == sorted([*FILES, "notes.md"])
    assert verify(ID)


@pytest.mark.parametrize(
    ("method", "path", "status", "skip"), [("POST", "/commit/", 503, 0), ("PUT", "/lfs/", None, 1)]
)
def test_a_push_that_broke_off_goes_on_with_what_is_missing(hub, staged, method, path, status, skip):
    hub.fail(method, path, status, skip=skip, times=1000)
    with pytest.raises(OSError, match="HTTP 503" if status else "the Hub does not answer"):
        push(staged, ID, **ALICE)
    arrived = set(hub.objects)
    if path == "/commit/":
        assert len(uploads(hub)) == len(set(uploads(hub))) == len(arrived) == len(LFS)
    assert len(arrived) < len(LFS) or path == "/commit/"
    hub.faults.clear()
    hub.requests.clear()
    push(staged, ID, **ALICE)
    assert len(uploads(hub)) == len(LFS) - len(arrived) and arrived.isdisjoint(path[5:] for path in uploads(hub))
    assert sorted(files_of(hub)) == FILES and verify(ID)


def test_a_short_fault_is_ridden_out(hub, staged):
    hub.fail("PUT", "/lfs/", None, times=1)
    hub.fail("PUT", "/lfs/", 503, times=1)
    push(staged, ID, **ALICE)
    assert verify(ID)


@pytest.mark.parametrize("status", [None, 500, 502, 503, 504])
def test_a_commit_whose_answer_is_lost_is_looked_up(hub, staged, status):
    hub.fail("POST", "/commit/", status, times=1, after=True)
    commit = push(staged, ID, **ALICE)
    assert commit.oid == head(hub).oid and commit.commit_url == f"{hub.url}/datasets/{ID}/commit/{commit.oid}"
    assert len(hub.commits(ID, "dataset")) == 2 and sorted(files_of(hub)) == FILES and verify(ID)


@pytest.mark.parametrize("path", [f"/api/datasets/{ID}$", "/tree/"])
def test_a_lost_answer_that_cannot_be_looked_up_says_where_to_look(hub, staged, path):
    hub.fail("POST", "/commit/", 503, times=1, after=True)
    hub.fail("GET", path, 403, skip=1, times=100)
    with pytest.raises(OSError) as caught:
        push(staged, ID, **ALICE)
    assert f"it cannot be told whether the commit was made: see {hub.url}/datasets/{ID}/commits/main; " in str(
        caught.value
    )
    hub.faults.clear()
    assert push(staged, ID, **ALICE).oid == head(hub).oid and len(hub.commits(ID, "dataset")) == 2


def test_a_lost_answer_to_a_pull_request_says_where_to_look(hub, staged):
    hub.push(ID, {"notes.md": "mine"}, kind="dataset")
    hub.fail("POST", "/commit/", 503, times=1, after=True)
    with pytest.raises(
        OSError, match=rf"cannot be told whether the commit was made: see .*/datasets/{ID}/discussions; "
    ):
        push(staged, ID, create_pr=True, **ALICE)


def test_a_commit_of_somebody_else_is_not_taken_for_a_lost_one(hub, staged, monkeypatch):
    hub.fail("POST", "/commit/", 503, times=1)
    make = HfApi.create_commit

    def late(*arguments, **options):
        try:
            return make(*arguments, **options)
        finally:
            hub.push(ID, {"theirs.md": "other"}, kind="dataset")

    monkeypatch.setattr(HfApi, "create_commit", late)
    with pytest.raises(OSError, match="cannot be told whether the commit was made"):
        push(staged, ID, **ALICE)


def test_the_same_subset_again_makes_no_commit(hub, staged):
    first = push(staged, ID, **ALICE)
    assert push(staged, ID, **ALICE).oid == first.oid
    assert publish(picked(), ID, **MIT).oid == first.oid
    assert len(hub.commits(ID, "dataset")) == 2


def test_the_same_subset_again_in_a_repo_with_words_makes_no_commit(hub, staged):
    readme = "---\nviewer: false\nlicense: cc0-1.0\npretty_name: 'Mine'\ntags: [mine]\n---\n# Mine\n"
    hub.push(ID, {"README.md": readme}, kind="dataset")
    first = push(staged, ID, **ALICE)
    text = card_of(hub)
    assert list(metadata(text))[:4] == ["viewer", "license", "pretty_name", "tags"]
    assert push(staged, ID, **ALICE).oid == first.oid and len(hub.commits(ID, "dataset")) == 3
    hub.push(ID, {"README.md": text.replace("viewer: false", "viewer: False  # as it is")}, kind="dataset")
    before = head(hub).oid
    assert push(staged, ID, **ALICE).oid == before and "viewer: False  # as it is" in card_of(hub)


def test_a_commit_in_between_is_not_overwritten(hub, staged, monkeypatch):
    def late(*arguments, **options):
        prepared = _commits.prepare(*arguments, **options)
        hub.push(ID, {"theirs.txt": "other"}, kind="dataset")
        return prepared

    monkeypatch.setattr(publishing, "prepare", late)
    with pytest.raises(OSError, match=r"HTTP 412; the repo has a newer commit"):
        push(staged, ID, **ALICE)
    assert list(files_of(hub)) == ["theirs.txt"]


def test_another_s_repo_and_a_bad_token_and_nobody(hub, staged):
    for token, id, error, message in (
        ("hf_alice", "bob/three", PermissionError, "bob/three: HTTP 403; the token lacks permission"),
        ("bad-secret", ID, PermissionError, "alice/three: HTTP 401; the Hub does not accept the token"),
        (None, ID, PermissionError, "alice/three: HTTP 401; the Hub does not accept the token"),
    ):
        with pytest.raises(error) as caught:
            push(staged, id, token=token)
        assert message in str(caught.value) and "bad-secret" not in str(caught.value)
    assert hub.repos == {}


def test_without_a_network_it_says_so_and_keeps_the_folder(hub, monkeypatch, cache):
    go_offline(monkeypatch)
    with pytest.raises(OSError, match=r"the Hub is out of reach") as caught:
        publish(picked(), ID, **MIT)
    assert "the staged folder is kept; to continue: hf_sae_select.push(" in caught.value.__notes__[0]
    assert (cache / "hf_sae_select" / "staged" / "alice--three" / "README.md").is_file()
    assert hub.requests == []


def test_what_was_changed_after_it_was_picked_is_refused_before_anything_is_sent(hub, cache):
    with pytest.raises(TypeError, match=r"`subset` has no `sae_selection`: .* so do those before you select"):
        publish(picked().shuffle(seed=0), ID, **MIT)
    with pytest.raises(ValueError, match=r"column `words` was added, removed or changed after the rows were picked"):
        publish(picked().rename_column("text", "words"), ID, **MIT)
    assert hub.requests == [] and not list(cache.rglob("alice--three"))


def test_a_note_says_how_to_go_on_in_private(hub, tmp_path):
    hub.fail("POST", "/repos/create", 429, times=10)
    with pytest.raises(OSError) as error:
        publish(coded(POOL, record=RECORD).sae_select(2), "alice/secret", private=True, **MIT)
    assert "to continue: hf_sae_select.push(" in error.value.__notes__[0]
    assert "'alice/secret', private=True)" in error.value.__notes__[0]


def test_a_branch_that_is_not_there_leaves_no_repo(hub):
    with pytest.raises(FileNotFoundError, match="alice/new has no branch 'next': create it first"):
        publish(coded(POOL, record=RECORD).sae_select(2), "alice/new", revision="next", **MIT)
    assert ("dataset", "alice/new") not in hub.repos
