"""A DatasetDict in one repo: splits stay splits, one record and one card are of all, and each has a verdict."""

import json
import shutil
import warnings

import pytest
from datasets import Dataset, DatasetDict, IterableDatasetDict, load_dataset
from helpers.forge import ALICE, POOL, RECORD, TEXTS, put, rewrite, set_card
from helpers.pools import coded
from hub.metadata import problems
from huggingface_hub import DatasetCard

from hf_sae_select import cli, load_selection, publish, push, stage, verify
from hf_sae_select._hub import sha256_of
from hf_sae_select.publishing.hashing import digest_of
from hf_sae_select.publishing.layout import problem_of_splits

ID = "alice/splits"
FILES = [f"{split}/{name}" for split in ("test", "train") for name in ("coverage.png", f"data/{split}-00000.parquet")]
FILES += [f"{split}/{name}" for split in ("test", "train") for name in ("pool.parquet", "selection.parquet")]
FILES = sorted([*FILES, "README.md", "provenance.json"])
RECEIPTS = {"train": [2, 1, 4], "test": [2, 1]}


def pools():
    return DatasetDict(train=coded(POOL, record=RECORD), test=coded(POOL[:4], record=RECORD))


def picked(method="greedy", **options):
    return pools().sae_select({"train": 3, "test": 2}, method, seed=None, **options)


@pytest.fixture(scope="module")
def staged_splits(tmp_path_factory):
    import datasets

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        return stage(picked(), tmp_path_factory.mktemp("subset") / "staged", license="mit")


@pytest.fixture
def splits(staged_splits, tmp_path):
    return shutil.copytree(staged_splits, tmp_path / "staged")


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def verdicts(place, level="digests", **passed):
    """What differs: in what all splits share, and in each split."""
    verification = verify(place, level, **passed)
    found = {
        name: [check.name for check in one.checks if check.difference] for name, one in verification.splits.items()
    }
    found[""] = [check.name for check in verification.checks if check.difference]
    assert bool(verification) == (not any(found.values())) == (verification.difference is None)
    return {name: names for name, names in found.items() if names}


def reseal(folder, change):
    """Edit the record of a split so that all seems to fit."""
    record = json.loads((folder / "provenance.json").read_text())
    for split, part in record["splits"].items():
        change(split, part)
        for name in part["files"]:
            file = folder / split / name
            part["files"][name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
        part["sha256"] = digest_of({name: value for name, value in part.items() if name != "sha256"})
    record["sha256"] = digest_of({name: value for name, value in record.items() if name != "sha256"})
    (folder / "provenance.json").write_text(json.dumps(record))


def test_splits_stay_splits_with_one_record_and_one_card(splits):
    assert sorted(contents(splits)) == FILES
    rows, picks = load_dataset(str(splits)), load_dataset(str(splits), "selection")
    assert {split: rows[split]["text"][:] for split in rows} == {
        "train": ["row 2", "row 1", "row 4"],
        "test": ["row 2", "row 1"],
    }
    assert {split: picks[split]["row"][:] for split in picks} == RECEIPTS
    record = json.loads((splits / "provenance.json").read_text())
    assert record["version"] == 5 and list(record["splits"]) == ["train", "test"]
    assert [part["selection"]["rows"] for part in record["splits"].values()] == [3, 2]
    assert [part["source"]["rows"] for part in record["splits"].values()] == [6, 4]
    assert sorted(record["splits"]["test"]["files"]) == [
        "coverage.png",
        "data/test-00000.parquet",
        "pool.parquet",
        "selection.parquet",
    ]


def test_the_card_has_the_figures_of_each_split(splits):
    text = (splits / "README.md").read_text()
    data = DatasetCard(text).data.to_dict()
    assert problems("dataset", data) == ([], [])
    for word in ("None", "Undefined", "{{", "{%", " nan ", "\n\n\n\n"):
        assert word not in text
    assert text.count("<!-- hf-sae-select: subset") == 1 and text.count("# 5 rows of a dataset in 2 splits") == 1
    assert "\n| `train` | 3 | 6 | `greedy` |" in text and "\n| `test` | 2 | 4 | `greedy` |" in text
    for split in RECEIPTS:
        section = text.partition(f"## Split `{split}`\n")[2].partition("\n## ")[0]
        assert f"({split}/coverage.png)" in section and "### What it covers" in section


@pytest.mark.parametrize("level", ["digests", "select"])
def test_the_whole_is_verified_with_a_verdict_for_each_split(splits, level):
    verification = verify(splits, level)
    assert verification and verification.rows == 5
    assert [check.name for check in verification.checks] == ["record", "files", "card"]
    assert {name: (bool(one), one.rows) for name, one in verification.splits.items()} == {
        "train": (True, 3),
        "test": (True, 2),
    }
    data = verification.to_dict()
    assert data["verified"] and data["splits"]["test"]["rows"] == 2
    assert "split   train\n  source  not published\n  rows    3 of 6\n" in str(verification)


def test_what_differs_is_named_with_its_split(splits):
    file = splits / "test" / "data" / "test-00000.parquet"
    rewrite(file, put("text", 0, "another"))
    assert verdicts(splits) == {"test": ["rows", "files"]}
    assert verify(splits).difference.startswith("split test: rows: row 0 was changed")
    reseal(splits, lambda split, part: None)
    assert verdicts(splits) == {"test": ["rows"]}


def test_another_selection_is_found_by_selecting_again(splits):
    rewrite(splits / "train" / "selection.parquet", put("gain", 0, 7))
    reseal(splits, lambda split, part: None)
    assert verdicts(splits, "select") == {"train": ["picks"]}


def test_parts_that_are_missing_moved_or_added_are_found(splits):
    (splits / "train" / "data" / "more.parquet").write_bytes(b"")
    (splits / "test" / "selection.parquet").unlink()
    assert verdicts(splits) == {"train": ["files"], "test": ["picks"]}
    shutil.copy(splits / "train" / "selection.parquet", splits / "test" / "selection.parquet")
    (splits / "dataset_infos.json").write_text("{}")
    assert verdicts(splits)[""] == ["files"]
    assert "indices" in verdicts(splits)["test"]


def test_a_card_that_reads_other_files_or_says_another_thing_is_found(splits):
    set_card(splits, lambda data: data["configs"][0]["data_files"][0].update(path="test/data/*.parquet"))
    assert verdicts(splits) == {"": ["card"]}


def test_figures_that_were_changed_in_the_card_are_found(splits):
    card = (splits / "README.md").read_text()
    (splits / "README.md").write_text(card.replace("| `test` | 2 | 4 |", "| `test` | 2 | 9 |"))
    assert verdicts(splits) == {"": ["card"]}


def edited(change):
    def edit(record):
        change(record["splits"])

    return edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edited(lambda splits: splits.update({"../up": splits.pop("test")})), "does not match"),
        (edited(lambda splits: splits.update(data=splits.pop("test"))), "means something else in a repo"),
        (edited(lambda splits: splits.update(Train=splits.pop("test"))), "some file systems take for one"),
        (
            edited(lambda splits: splits["test"].pop("source")),
            r"'source' is a required property \(in the split 'test'\)",
        ),
        (edited(lambda splits: splits["test"].update(version=5, splits={})), "at splits.test.version: 4 was expected"),
        (edited(dict.clear), "non-empty"),
    ],
)
def test_a_record_of_splits_that_is_none_is_refused(splits, change, message):
    record = json.loads((splits / "provenance.json").read_text())
    change(record)
    (splits / "provenance.json").write_text(json.dumps(record))
    [check] = verify(splits).checks
    assert check.name == "record"
    with pytest.raises(ValueError, match=message):
        load_selection(splits)


def test_the_selections_grow(splits):
    selections = load_selection(splits)
    assert {split: selection.indices.tolist() for split, selection in selections.items()} == RECEIPTS
    larger = pools().sae_select({"train": 4, "test": 3}, "greedy", seed=None, extend=selections)
    assert larger["test"].sae_selection.indices.tolist()[:2] == [2, 1]
    assert load_selection(splits, split="test").indices.tolist() == [2, 1]
    with pytest.raises(ValueError, match=r"`split='dev'`: .* has the splits train, test; pass one of them"):
        load_selection(splits, split="dev")


def test_a_subset_without_splits_has_no_split(folder):
    with pytest.raises(ValueError, match=r"`split='train'`: .* has one subset, without splits; leave it out"):
        load_selection(folder, split="train")


def test_rows_that_others_lack_are_passed_by_split(tmp_path):
    folder = stage(picked(), tmp_path / "f", license="mit", include_features=False)
    with pytest.raises(ValueError, match=r"`level='select'` requires `features`") as error:
        verify(folder, "select", features={"train": pools()["train"]})
    assert error.value.__notes__ == ["in the split 'test'"]
    assert verify(folder, "select", features=pools())
    changed = DatasetDict(train=pools()["train"], test=coded([*POOL[:3], {1: 0.9}], record=RECORD))
    assert list(verdicts(folder, "select", features=changed)) == ["test"]
    with pytest.raises(TypeError, match="`features` is about rows of one split, so for several splits it must be a"):
        verify(folder, "select", features=pools()["train"])


def test_selections_and_pools_of_loaded_splits_are_passed_by_split(splits, tmp_path):
    subsets = picked()
    selections = {split: rows.sae_selection for split, rows in subsets.items()}
    subsets.save_to_disk(tmp_path / "saved")
    saved = DatasetDict.load_from_disk(tmp_path / "saved")
    again = stage(saved, tmp_path / "again", license="mit", selection=selections, pool=pools())
    names = [name for name in FILES if name.endswith(".parquet")]
    assert [name for name in names if contents(again)[name] != contents(splits)[name]] == []
    with pytest.raises(TypeError, match="`subset` has no `sae_selection`") as error:
        stage(saved, tmp_path / "f", license="mit", selection={"train": selections["train"]})
    assert error.value.__notes__ == ["in the split 'test'"] and not (tmp_path / "f").exists()


def test_one_repo_is_published_pushed_again_and_replaced(hub, splits, tmp_path):
    first = picked().sae_publish(ID, license="mit", **ALICE)
    assert hub.files(ID, "dataset").keys() - {".gitattributes"} == set(FILES)
    rows = load_dataset(ID)
    assert {split: rows[split].num_rows for split in rows} == {"train": 3, "test": 2}
    assert verify(ID, "select") and verdicts(ID) == {}
    assert load_selection(ID, split="train").indices.tolist() == [2, 1, 4]
    assert push(splits, ID, **ALICE).oid == first.oid
    one = publish(pools()["train"].sae_select(3, "greedy", seed=None), ID, license="mit", **ALICE)
    assert one.oid != first.oid and verify(ID) and not verify(ID).splits
    assert not any(name.startswith(("test/", "train/")) for name in hub.files(ID, "dataset"))
    assert load_dataset(ID, download_mode="force_redownload").keys() == {"train"}
    push(splits, ID, **ALICE)
    assert hub.files(ID, "dataset").keys() - {".gitattributes"} == set(FILES) and verify(ID)


def test_rows_of_others_in_the_folder_of_a_split_are_not_mixed(hub, splits):
    push(stage(pools()["train"].sae_select(3, "greedy", seed=None), splits.parent / "one", license="mit"), ID, **ALICE)
    hub.push(ID, {"test/data/mine.parquet": b"x", "elsewhere/mine.parquet": b"x"}, kind="dataset")
    with pytest.raises(ValueError, match=r"holds other data, such as test/data/mine\.parquet"):
        push(splits, ID, **ALICE)


def test_splits_of_a_published_dataset_are_verified_by_encoding_them_again(hub, sae, bert, tmp_path):
    from dataclasses import replace

    model = hub.push("alice/bert", {file.name: file.read_bytes() for file in bert.iterdir()})
    sae.config = replace(sae.config, model="alice/bert", model_revision=model)
    sae.push_to_hub("alice/sae", **ALICE)
    lines = ["".join(json.dumps({"text": text}) + "\n" for text in texts) for texts in (TEXTS, TEXTS[:5])]
    files = {"train.jsonl": lines[0], "test.jsonl": lines[1], "README.md": "---\nlicense: mit\n---\n"}
    hub.push("alice/rows", files, kind="dataset")
    subsets = load_dataset("alice/rows").sae_select({"train": 4, "test": 2}, "greedy", sae="alice/sae")
    folder = stage(subsets, tmp_path / "staged")
    record = json.loads((folder / "provenance.json").read_text())
    sources = {split: part["source"] for split, part in record["splits"].items()}
    assert {split: (source["dataset"], source["split"]) for split, source in sources.items()} == {
        "train": ("alice/rows", "train"),
        "test": ("alice/rows", "test"),
    }
    verification = verify(folder, "encode")
    assert verification, str(verification)
    assert [one.checks[-1].level for one in verification.splits.values()] == ["encode", "encode"]


def test_splits_of_several_sources_are_refused(hub, tmp_path):
    for name in ("rows", "others"):
        hub.push(f"alice/{name}", {"README.md": "---\nlicense: mit\n---\n"}, kind="dataset")
    sources = {"train": "alice/rows", "test": "alice/others"}
    with pytest.raises(
        ValueError, match=r"the split 'train' is from alice/rows at .*, and the split 'test' from alice/o"
    ):
        stage(picked(), tmp_path / "f", source=sources)
    with pytest.raises(ValueError, match=r"the split 'train' is from alice/rows at .* from no dataset of the Hub"):
        stage(picked(), tmp_path / "f", source={"train": "alice/rows"})
    assert not (tmp_path / "f").exists()
    folder = stage(picked(), tmp_path / "f", source="alice/rows")
    record = json.loads((folder / "provenance.json").read_text())
    assert [part["source"]["split"] for part in record["splits"].values()] == ["train", "test"]


@pytest.mark.parametrize(
    "name", ["a/b", "..", "", "a b", "ä", "all", "data", "README.md", "x" * 101, ".hidden", "a-b"]
)
def test_names_that_cannot_be_folders_are_refused(name, tmp_path):
    assert problem_of_splits(["train", name]) is not None
    with pytest.raises(ValueError, match=r"`subset`: the split .* must have a name|means something else"):
        stage(DatasetDict({name: picked()["train"]}), tmp_path / "f", license="mit")
    assert not (tmp_path / "f").exists()


def test_names_of_splits_that_datasets_uses():
    assert problem_of_splits(["train", "validation", "test", "train.clean.100", "test_2", "0"]) is None
    assert problem_of_splits(["train", "Train"]) is not None


def test_a_dict_without_splits_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the DatasetDict has no splits"):
        stage(DatasetDict(), tmp_path / "f", license="mit")
    streams = IterableDatasetDict(train=Dataset.from_dict({"text": ["a"]}).to_iterable_dataset())
    with pytest.raises(TypeError, match="`subset` is a IterableDatasetDict"):
        stage(streams, tmp_path / "f", license="mit")


def test_a_folder_of_other_splits_is_replaced_and_a_foreign_one_is_not(splits):
    stage(DatasetDict(dev=picked()["test"]), splits, license="mit")
    assert sorted(file.name for file in splits.iterdir()) == ["README.md", "dev", "provenance.json"]
    (splits / "mine").mkdir()
    with pytest.raises(ValueError, match="is not a staged subset"):
        stage(picked(), splits, license="mit")


def test_a_link_to_a_folder_elsewhere_is_not_read(splits, tmp_path):
    shutil.move(splits / "test", tmp_path / "elsewhere")
    (splits / "test").symlink_to(tmp_path / "elsewhere")
    assert verdicts(splits) == {"test": ["picks"]}


def test_a_target_that_is_gone_is_warned_of_with_its_split(tmp_path):
    aimed = pools().sae_select({"train": 2, "test": 1}, target=coded(POOL[:2] * 4, record=RECORD), overlap="keep")
    folder = stage(aimed, tmp_path / "f", license="mit")
    assert verify(folder, "select") and (folder / "test" / "target.parquet").is_file()
    selections = {split: rows.sae_selection for split, rows in aimed.items()}
    lost = DatasetDict({split: Dataset.from_list(rows.to_list()) for split, rows in aimed.items()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        stage(lost, tmp_path / "g", license="mit", selection=selections)
    assert [str(warning.message)[:34] for warning in caught] == [
        "what the rows of the split 'train'",
        "what the rows of the split 'test' ",
    ]
    assert {warning.filename for warning in caught} == {__file__}


def test_the_command_line(splits, capsys, tmp_path):
    assert cli.main(["verify", str(splits), "--level", "select", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["verified"]
    assert cli.main(["load-selection", str(splits), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["splits"]["test"]["indices"] == [2, 1]
    out = str(tmp_path / "one.json")
    assert cli.main(["load-selection", str(splits), "--out", out]) == 2
    assert "pass `--split`, one of: train, test" in capsys.readouterr().err
    assert cli.main(["load-selection", str(splits), "--split", "test", "--out", out]) == 0
    rewrite(splits / "test" / "data" / "test-00000.parquet", put("text", 0, "another"))
    assert cli.main(["verify", str(splits)]) == 1
