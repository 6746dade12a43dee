"""Which published dataset rows are from: found by the place in the cache, or stated."""

import json
import shutil
from pathlib import Path

import pytest
from datasets import Dataset, Value, concatenate_datasets, load_dataset, load_from_disk
from helpers.forge import ALICE, TEXTS, publish_source
from hub import go_offline
from huggingface_hub import HfApi, constants

from hf_sae_select import stage
from hf_sae_select.publishing.source import Source, find_source, origins
from hf_sae_select.selection.attachment import pool_of

ID = "alice/OpenOrca"  # datasets keeps it as alice___open_orca
CARD = "---\nlicense: mit\nlanguage: en\n---\n# Hi\n"
NOTHING = Source()


def words(row):
    """Return words that the tiny model knows."""
    return "the cat"


def lines(n, **more):
    return "".join(json.dumps({"prompt": f"p{i}", "response": f"r{i}"} | more) + "\n" for i in range(n))


@pytest.fixture
def commit(hub):
    """The commit of a dataset on the Hub: six rows to train, three to test."""
    return hub.push(ID, {"train.jsonl": lines(6), "test.jsonl": lines(3), "README.md": CARD}, kind="dataset")


@pytest.fixture
def ds(commit):
    return load_dataset(ID, split="train")


def test_rows_of_the_hub_are_found_with_their_commit_and_the_capitals_of_their_name(hub, ds, commit):
    assert "/alice___open_orca/" in ds.cache_files[0]["filename"]
    hub.push(ID, {"train.jsonl": lines(7)}, kind="dataset")
    hub.requests.clear()
    source = find_source(ds)
    assert source == Source(ID, "default", "train", commit, as_published=True)
    assert hub.requests == []
    arguments = {"path": ID, "name": "default", "split": "train", "revision": commit}
    assert source.arguments == arguments
    assert load_dataset(**arguments)[:] == ds[:]
    assert source.record() == {"dataset": ID, "config": "default", "split": "train", "revision": commit} | {
        "as_published": True
    }


def test_a_config_is_found(hub):
    configs = (
        "---\nconfigs:\n- config_name: Small\n  data_files: a.jsonl\n- config_name: big\n  data_files: b.jsonl\n---\n"
    )
    commit = hub.push("alice/two", {"a.jsonl": lines(2), "b.jsonl": lines(4), "README.md": configs}, kind="dataset")
    ds = load_dataset("alice/two", "Small", split="train")
    assert find_source(ds) == Source("alice/two", "Small", "train", commit, as_published=True)


def test_an_older_commit_and_a_branch_are_found_as_commits(hub, commit):
    newer = hub.push(ID, {"train.jsonl": lines(7)}, kind="dataset")
    for revision, expected in ((commit, commit), ("main", newer), (None, newer)):
        assert find_source(load_dataset(ID, split="train", revision=revision)).revision == expected


@pytest.mark.parametrize(
    ("split", "n"), [("train[:3]", 3), ("train[50%:]", 3), ("train+test", 9), ("test[-1:]+train[:1]", 2)]
)
def test_a_part_of_a_split_is_as_published(commit, split, n):
    ds = load_dataset(ID, split=split)
    source = find_source(ds)
    assert (len(ds), source.split, source.as_published) == (n, split, True)
    assert load_dataset(**source.arguments)[:] == ds[:]


CHANGES = {
    "shuffle": lambda ds: ds.shuffle(seed=0),
    "shuffle, flattened": lambda ds: ds.shuffle(seed=0).flatten_indices(),
    "filter": lambda ds: ds.filter(lambda row: row["prompt"] != "p1"),
    "map": lambda ds: ds.map(lambda row: {"prompt": row["prompt"] + "!"}),
    "select": lambda ds: ds.select([0, 2, 4]),
    "select, without a gap": lambda ds: ds.select(range(3)),
    "sort": lambda ds: ds.sort("prompt", reverse=True),
    "rename_column": lambda ds: ds.rename_column("prompt", "text"),
    "swapped names": lambda ds: ds.rename_columns({"prompt": "response", "response": "prompt"}),
    "add_column": lambda ds: ds.add_column("more", list(range(6))),
    "remove_columns": lambda ds: ds.remove_columns("response"),
    "select_columns": lambda ds: ds.select_columns("prompt"),
    "train_test_split": lambda ds: ds.train_test_split(0.5, seed=0)["train"],
    "put together anew": lambda ds: concatenate_datasets([ds.select(range(3, 6)), ds.select(range(3))], split="train"),
}


def test_what_was_made_from_published_rows_is_not_as_published(ds, commit):
    for name, change in CHANGES.items():
        source = find_source(change(ds))
        assert (source.dataset, source.config, source.revision) == (ID, "default", commit), name
        assert source.as_published is False, name


def test_rows_that_are_the_same_after_all_are_as_published(ds):
    for same in (ds.select(range(6)), ds.with_format("numpy"), ds.add_column("x", [0] * 6).remove_columns("x")):
        assert find_source(same).as_published is True


def test_rows_are_compared_by_what_is_in_them(hub):
    table = "".join(json.dumps({"text": f"t{i}", "x": None if i else 0.5}) + "\n" for i in range(3))
    hub.push("alice/x", {"train.jsonl": table}, kind="dataset")
    ds = load_dataset("alice/x", split="train").select(range(3))
    assert find_source(ds.map(lambda row: row)).as_published is True  # another file, the same rows
    assert find_source(ds.map(lambda row: {"x": row["x"] or 0.0})).as_published is False
    assert find_source(ds.cast_column("x", Value("float32"))).as_published is False
    assert find_source(concatenate_datasets([ds.select([0]), ds.select([1, 2])], split="train")).as_published is True


def test_numbers_that_are_none_are_equal(hub, tmp_path):
    Dataset.from_dict({"x": [float("nan"), 1.0]}).to_parquet(tmp_path / "x.parquet")
    hub.push("alice/x", {"train.parquet": (tmp_path / "x.parquet").read_bytes()}, kind="dataset")
    assert find_source(load_dataset("alice/x", split="train")).as_published is True


def test_encoded_rows_are_as_published(ds, commit, sae):
    expected = Source(ID, "default", "train", commit, as_published=True)
    assert find_source(pool_of(ds.sae_select(2, sae=sae, text=words)).rows) == expected
    assert find_source(pool_of(ds.sae_encode(sae, text=words).sae_select(2)).rows) == expected


def test_rows_of_data_files_that_the_caller_named_are_not_as_published(commit):
    source = find_source(load_dataset(ID, data_files="test.jsonl", split="train"))
    assert (source.dataset, source.revision, source.as_published) == (ID, commit, False)


def local(how, tmp_path, ds):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "rows.jsonl").write_text(lines(4))
    match how:
        case "json":
            return load_dataset("json", data_files=str(tmp_path / "mine" / "rows.jsonl"), split="train")
        case "folder":
            return load_dataset(str(tmp_path / "mine"), split="train")
        case "memory":
            return Dataset.from_dict({"prompt": ["a"]})
        case "pickled map":
            return Dataset.from_dict({"prompt": ["a"]}).map(lambda row: {"more": 1})
        case "with other rows":
            return concatenate_datasets([ds, Dataset.from_json(str(tmp_path / "mine" / "rows.jsonl"))])
        case "saved":
            ds.save_to_disk(tmp_path / "saved")
            return load_from_disk(tmp_path / "saved")


@pytest.mark.parametrize("how", ["json", "folder", "memory", "pickled map", "with other rows", "saved"])
def test_rows_that_are_not_of_one_published_dataset_have_no_source(hub, ds, tmp_path, how):
    rows = local(how, tmp_path, ds)
    hub.requests.clear()
    assert find_source(rows) == NOTHING
    assert hub.requests == []
    assert NOTHING.card().to_dict() == {}


def test_rows_of_two_published_datasets_have_no_source_and_two_origins(hub, ds, commit):
    other = hub.push("alice/other", {"train.jsonl": lines(2)}, kind="dataset")
    rows = concatenate_datasets([ds, load_dataset("alice/other", split="train")])
    assert find_source(rows) == NOTHING
    actual = [Source(ID, revision=commit), Source("alice/other", revision=other)]
    assert origins(rows) == origins(rows.shuffle(seed=0)) == actual
    assert origins(concatenate_datasets([ds, Dataset.from_dict({"prompt": ["a"]})])) == actual[:1]
    assert origins(Dataset.from_dict({"prompt": ["a"]})) == []
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert origins(ds) == []  # a single one is stated, or asked for
    with pytest.raises(ValueError, match="the cache does not tell which Hub dataset `alice___open_orca` is"):
        origins(rows)


def test_where_the_cache_does_not_tell_the_name_it_is_asked_for(hub, ds, commit):
    shutil.rmtree(constants.HF_HUB_CACHE)
    with pytest.raises(
        ValueError, match=r"which Hub dataset `alice___open_orca` is; pass its id: `source='owner/name'`"
    ):
        find_source(ds)
    source = find_source(ds, {"dataset": ID, "revision": commit})
    assert source == Source(ID, None, "train", commit, as_published=True)


def test_a_stated_source_is_taken_at_its_word(hub, commit, ds):
    rows = Dataset.from_dict({"prompt": ["a"]})
    assert find_source(rows, ID) == Source(ID, None, "train", commit, as_published=True)
    assert find_source(load_dataset(ID, split="test"), ID).split == "test"
    passed = {"dataset": ID, "config": "default", "split": "test", "revision": commit}
    assert find_source(rows, passed) == Source(ID, "default", "test", commit, as_published=True)
    assert find_source(rows, {"dataset": ID, "config": None, "split": None, "revision": None}).split == "train"
    made = find_source(rows, {"dataset": ID, "split": "test", "as_published": False})
    assert made == Source(ID, None, "test", commit, as_published=False)


def test_the_revision_of_a_stated_source_is_resolved_to_a_commit(hub, commit):
    HfApi(**ALICE).create_branch(ID, branch="next", repo_type="dataset")
    HfApi(**ALICE).create_tag(ID, tag="v1", repo_type="dataset")
    newer = hub.push(ID, {"train.jsonl": lines(7)}, kind="dataset")
    rows = Dataset.from_dict({"prompt": ["a"]})
    for revision, expected in (("next", commit), ("v1", commit), ("main", newer), (None, newer)):
        assert find_source(rows, {"dataset": ID, "revision": revision}).revision == expected
    hub.requests.clear()
    assert find_source(rows, {"dataset": ID, "revision": commit}).revision == commit
    assert hub.requests == []
    with pytest.raises(FileNotFoundError, match="alice/OpenOrca has no revision 'v2'"):
        find_source(rows, {"dataset": ID, "revision": "v2"})


WHOLE = [{"dataset": ID, "as_published": whole} for whole in ("yes", None, [], 1, 0)]  # a truth value is asked for


@pytest.mark.parametrize(
    "passed", ["", {}, {"split": "train"}, {"dataset": ID, "name": "x"}, 3, [ID], {"dataset": None}, *WHOLE]
)
def test_a_source_of_another_form_is_refused(passed):
    with pytest.raises(TypeError, match=r"pass the id of a Hub dataset, or \{'dataset': id, 'config': name, 'split'"):
        find_source(Dataset.from_dict({"a": ["a"]}), passed)


@pytest.mark.parametrize("passed", ["/data/mine", "a/b/c", {"dataset": ID, "split": 3}, {"dataset": ("a", "b")}])
def test_a_source_that_is_not_on_the_hub_is_refused(passed):
    with pytest.raises(ValueError, match=r"does not name a dataset on the Hub \(owner/name\); omit it"):
        find_source(Dataset.from_dict({"a": ["a"]}), passed)


def test_a_dataset_that_is_not_there_or_not_for_everybody(hub):
    rows = Dataset.from_dict({"prompt": ["a"]})
    with pytest.raises(FileNotFoundError, match="'alice/none' is neither a local folder nor a Hub repo"):
        find_source(rows, "alice/none")
    commit = hub.push("alice/secret", {"README.md": CARD}, kind="dataset", private=True)
    with pytest.raises(FileNotFoundError, match="if it is private, pass `token`"):
        find_source(rows, "alice/secret", "hf_bob")
    source = find_source(rows, "alice/secret", "hf_alice")
    assert source.revision == commit and "hf_alice" not in repr(source)
    assert source.card("hf_alice").to_dict()["license"] == "mit"


def test_the_card_is_that_of_the_commit_and_comes_out_of_the_cache(hub, ds, monkeypatch):
    hub.push(ID, {"README.md": CARD.replace("mit", "gpl")}, kind="dataset")
    hub.requests.clear()
    source = find_source(ds)
    assert source.card().to_dict() == {"license": "mit", "language": "en"}
    go_offline(monkeypatch)
    assert source.card().to_dict() == {"license": "mit", "language": "en"}
    assert hub.requests == []


def test_a_dataset_without_a_card_is_staged_without_a_network(hub, tmp_path, sae, monkeypatch):
    hub.push("alice/bare", {"train.jsonl": lines(3)}, kind="dataset")
    subset = load_dataset("alice/bare", split="train").sae_select(2, sae=sae, text=words)
    assert find_source(pool_of(subset).rows).card().to_dict() == {}
    go_offline(monkeypatch)
    folder = stage(subset, tmp_path / "f", license="mit")
    assert json.loads((folder / "provenance.json").read_text())["source"]["dataset"] == "alice/bare"


def test_a_cache_that_lost_its_account_of_the_rows_does_not_tell_whether_they_are_whole(ds, commit):
    Path(ds.cache_files[0]["filename"]).with_name("dataset_info.json").unlink()
    assert find_source(ds) == Source(ID, "default", "train", commit, as_published=False)


def test_arguments_of_load_dataset_that_make_a_config_are_not_taken_for_one(hub):
    revision = hub.push("alice/csv", {"train.csv": "text;n\nthe cat;1\na dog;2\n"}, kind="dataset")
    ds = load_dataset("alice/csv", sep=";", split="train")
    assert find_source(ds) == Source("alice/csv", None, "train", revision, False)


def test_a_name_alone_adds_to_what_the_cache_tells(hub, tmp_path):
    revision = publish_source(hub, tmp_path, TEXTS)
    ds = load_dataset("alice/rows", split="train")
    hub.push("alice/rows", {"more.txt": "x"}, kind="dataset")  # today's head is another
    shutil.rmtree(constants.HF_HUB_CACHE)
    assert find_source(ds, "alice/rows") == Source("alice/rows", "default", "train", revision, True)
    assert find_source(ds.select([2, 1]), "alice/rows").as_published is False
    with pytest.raises(
        ValueError, match="`source='alice/other'`, but in the cache the rows are those of `alice___rows`"
    ):
        find_source(ds, "alice/other")
