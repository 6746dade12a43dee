"""What is published belongs together: rows, selection and pool; also after saving, loading, pickling and copying."""

import copy
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Value, load_from_disk
from helpers.forge import POOL, RECORD, TEXTS, differences, edit, reseal, rewrite, store
from helpers.pools import coded

from hf_sae_select import Selection, select_indices, stage, verify
from hf_sae_select.features.matrix import FeatureMatrix
from hf_sae_select.selection.attachment import attach, pool_of

MIT = {"license": "mit"}


def saved(subset, tmp_path):
    """Save a subset and its selection, and return both as they are loaded again."""
    subset.save_to_disk(tmp_path / "subset")
    subset.sae_selection.save(tmp_path / "selection.json")
    return load_from_disk(tmp_path / "subset"), Selection.load(tmp_path / "selection.json")


def contents(folder):
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# ---- saved and loaded


@pytest.mark.parametrize("is_encoded", [False, True])
def test_a_saved_subset_is_staged_with_its_selection_and_pool_as_it_was(tmp_path, sae, is_encoded):
    rows = Dataset.from_dict({"text": TEXTS})
    encoded = rows.sae_encode(sae)
    subset = (encoded if is_encoded else rows).sae_select(4, **({} if is_encoded else {"sae": sae}))
    loaded, selection = saved(subset, tmp_path)
    before = contents(stage(subset, tmp_path / "a", **MIT))
    after = contents(stage(loaded, tmp_path / "b", selection=selection, pool=encoded, **MIT))
    assert after == before


@pytest.mark.parametrize("is_encoded", [False, True])
def test_without_the_pool_others_need_the_encoded_source(tmp_path, sae, is_encoded):
    rows = Dataset.from_dict({"text": TEXTS})
    encoded = rows.sae_encode(sae)
    subset = (encoded if is_encoded else rows).sae_select(4, **({} if is_encoded else {"sae": sae}))
    loaded, selection = saved(subset, tmp_path)
    folder = stage(loaded, tmp_path / "f", selection=selection, **MIT)
    assert sorted(contents(folder)) == [
        "README.md",
        "data/train-00000.parquet",
        "provenance.json",
        "selection.parquet",
    ]
    record = json.loads((folder / "provenance.json").read_text())
    assert (record["source"]["sha256"], record["source"]["rows"]) == (None, len(TEXTS))
    assert (record["coverage"], record["likeness"], record["quotas"]) == (None, None, None)
    assert pq.read_table(folder / "selection.parquet")["features"].to_pylist() == [None] * 4
    card = (folder / "README.md").read_text()
    assert "The author published the subset without the digest of their content." in card
    assert "without the features of the source, so nothing is measured." in card and ".png" not in card
    assert 'verify("OWNER/NAME", "select", features=features)' in card

    assert verify(folder)
    with pytest.raises(ValueError, match=r"^`level='select'` requires `features`: the source, encoded"):
        verify(folder, "select")
    verification = verify(folder, "select", features=encoded)
    assert verification, str(verification)
    assert [check.name for check in verification.checks][6:] == ["source", "encoding", "picks"]
    verification = verify(folder, "encode", source=rows, sae=sae)
    assert verification, str(verification)
    assert [check.name for check in verification.checks][6:] == ["source (as passed)", "sae", "encoding", "picks"]
    moved = differences(folder, "select", features=encoded.select(range(len(TEXTS) - 1, -1, -1)))
    assert "that row has other content" in moved["select: source"]


def test_numbers_of_features_that_were_taken_out_are_named(folder):
    rewrite(folder / "selection.parquet", lambda columns: columns.update(features=[None] * 3))
    reseal(folder)
    assert differences(folder, "select") == {
        "select: counts": "the table of picks does not have the numbers of features"
    }


def test_some_numbers_of_features_that_were_taken_out_are_named(folder):
    rewrite(folder / "selection.parquet", lambda columns: columns.update(features=[3, None, 1]))
    reseal(folder)
    assert "its column `features` holds int64 or nulls" in differences(folder)["digests: picks"]


# ---- what does not belong together


@pytest.fixture
def pool():
    return coded(POOL, record=RECORD)


@pytest.fixture
def loaded(pool, tmp_path):
    return saved(pool.sae_select(3, "greedy", seed=None), tmp_path)


def refused(tmp_path, message, subset, error=ValueError, **arguments):
    with pytest.raises(error, match=message):
        stage(subset, tmp_path / "f", **arguments, **MIT)
    assert not (tmp_path / "f").exists() and not list(tmp_path.glob(".*"))


def test_a_selection_of_other_rows_is_refused(tmp_path, pool, loaded):
    other = pool.sae_select(3, "longest", seed=None).sae_selection
    assert other.indices.tolist() != loaded[1].indices.tolist()
    refused(tmp_path, r"row 1 of `subset` is not row \d of the source", loaded[0], selection=other, pool=pool)


def test_a_selection_of_another_length_is_refused(tmp_path, pool, loaded):
    other = pool.sae_select(2, "greedy", seed=None).sae_selection
    for arguments in ({"pool": pool}, {}):
        refused(tmp_path, "`subset` has 3 rows, but 2 were picked", loaded[0], selection=other, **arguments)


def test_a_pool_of_another_length_is_refused(tmp_path, pool, loaded):
    subset, selection = loaded
    message = "`pool` has 5 rows, but the rows were selected from 6"
    refused(tmp_path, message, subset, selection=selection, pool=pool.select(range(5)))
    selection = replace(selection, pool_rows=0)  # not recorded
    message = "`pool` has 4 rows, but the rows were selected from 5"
    refused(tmp_path, message, subset, selection=selection, pool=pool.select(range(4)))


def test_a_pool_with_other_rows_is_refused(tmp_path, pool, loaded):
    message = "row 0 of `subset` is not row 2 of the source"
    refused(tmp_path, message, loaded[0], selection=loaded[1], pool=pool.select([5, 4, 3, 2, 1, 0]))


@pytest.mark.parametrize("change", [{"sae_sha256": "cd" * 32}, {"hook": "layers.4"}, {"max_length": 5}])
def test_a_pool_with_codes_of_another_encoding_is_refused(tmp_path, loaded, change):
    message = "`pool` does not have the codes that the rows were selected by"
    refused(tmp_path, message, loaded[0], selection=loaded[1], pool=coded(POOL, record=RECORD | change))
    refused(tmp_path, message, loaded[0], selection=loaded[1], pool=coded(POOL, record=RECORD).select_columns("text"))


def test_a_pool_with_other_codes_of_the_same_record_is_refused(tmp_path, loaded):
    other = coded([*POOL[:2], {0: 0.9}, *POOL[3:]], record=RECORD)
    message = "`pool` has other codes than those that the rows were selected by"
    refused(tmp_path, message, loaded[0], selection=loaded[1], pool=other)


def test_what_is_not_a_selection_or_a_dataset_is_refused(tmp_path, pool, loaded):
    subset, selection = loaded
    refused(tmp_path, "`selection` is a list; pass a Selection", subset, TypeError, selection=[2, 1, 4])
    refused(tmp_path, "`pool` is a list; it must be a", subset, TypeError, selection=selection, pool=[1])
    refused(tmp_path, "`subset` has no `sae_selection`", subset, TypeError, pool=pool)
    indices = select_indices(FeatureMatrix.from_dataset(pool), 3)
    refused(tmp_path, "`selection` is a result of `select_indices`", subset, selection=indices, pool=pool)


def test_a_selection_on_filtered_rows_is_refused_with_the_remedy(tmp_path, pool):
    subset = pool.sae_select(3, "greedy", seed=None)
    filtered = subset.filter(lambda row: row["text"] != "row 1")
    refused(tmp_path, "describes 3 rows, but this dataset has 2: .*filter first, then select", filtered)


def test_a_selection_that_is_passed_counts_and_not_the_attached_one(tmp_path, pool):
    subset, other = pool.sae_select(3, "greedy", seed=None), pool.sae_select(3, "longest", seed=None)
    attach(subset, other.sae_selection, pool_of(subset))
    refused(tmp_path, "row 1 of `subset` is not row", subset)
    first = pool.sae_select(3, "greedy", seed=None).sae_selection
    assert verify(stage(subset, tmp_path / "f", selection=first, **MIT), "select")


def test_codes_in_a_published_pool_need_a_complete_record(folder):
    store(folder, recorded='{"d_sae": 16}')
    assert "the codes do not have a complete record" in differences(folder, "select")["select: encoding"]


def test_a_record_of_an_unknown_source_that_was_edited_is_named(tmp_path, loaded):
    folder = stage(loaded[0], tmp_path / "f", selection=loaded[1], **MIT)
    edit(folder, lambda record: record["source"].update(sha256="0" * 64))
    assert "digests: record" in differences(folder)


# ---- pickled and copied

LONG = [{"text": f"{text} {'the cat sat on the mat and then ' * 40}{i}", "n": i} for i, text in enumerate(TEXTS * 60)]
VECTORS = np.random.default_rng(0).normal(size=(len(LONG), 8)).tolist()


def selected(kind, sae=None):
    """Return a subset of many long rows in memory, and the dataset that it was selected from."""
    if kind == "encoded":
        codes = coded([{i % 16: 0.9, (i * i) % 16: 0.8} for i in range(len(LONG))], record=RECORD)
        dataset = codes.remove_columns("text").add_column("text", [row["text"] for row in LONG])
        return dataset.sae_select(50, "greedy"), dataset
    dataset = Dataset.from_list(LONG)
    if kind == "raw":
        return dataset.sae_select(50, sae=sae, max_length=4), dataset
    dataset = dataset.add_column("vector", VECTORS)
    return dataset.sae_select(50, "kcenter", embedding="vector"), dataset


@pytest.mark.parametrize("kind", ["raw", "vectors", "encoded"])
def test_a_pickled_subset_holds_its_source_once(tmp_path, sae, kind):
    subset, dataset = selected(kind, sae)
    alone = len(pickle.dumps(dataset.select(subset.sae_selection.indices)))
    pickled = pickle.dumps(subset)
    assert len(pickled) <= 1.2 * alone
    again = pickle.loads(pickled)
    assert again.sae_selection.indices.tolist() == subset.sae_selection.indices.tolist()
    staged = [contents(stage(rows, tmp_path / name, **MIT)) for rows, name in ((subset, "a"), (again, "b"))]
    assert staged[0] == staged[1]


def test_a_subset_of_contiguous_rows_holds_its_source_once():
    dataset = coded([{i % 16: 0.9} for i in range(len(LONG))], record=RECORD)
    dataset = dataset.remove_columns("text").add_column("text", [row["text"] for row in LONG])
    subset = dataset.sae_select(50, "greedy", must_include=list(range(50)))
    assert subset.sae_selection.indices.tolist() == list(range(50))
    assert len(pickle.dumps(subset)) <= 1.2 * len(pickle.dumps(dataset))
    assert subset["text"][:] == dataset["text"][:50]


def test_a_copied_subset_is_staged_like_the_subset(tmp_path, pool):
    subset = pool.sae_select(3, "greedy", seed=None)
    again = copy.deepcopy(subset)
    assert pool_of(again).source.data.table is pool_of(subset).source.data.table  # no row is copied
    staged = [contents(stage(rows, tmp_path / name, **MIT)) for rows, name in ((subset, "a"), (again, "b"))]
    assert staged[0] == staged[1]


def picks_of(subset):
    """Run in another process."""
    return subset.sae_selection.indices.tolist(), subset["text"][:], len(pool_of(subset).rows)


@pytest.mark.slow
def test_subsets_go_through_a_pool_of_processes(pool, sae):
    raw = Dataset.from_dict({"text": TEXTS}).sae_select(3, sae=sae)
    subsets = [pool.sae_select(3, "greedy", seed=None), raw]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        assert list(executor.map(picks_of, subsets)) == [picks_of(subset) for subset in subsets]


@pytest.mark.parametrize("nested", [False, True])
def test_codes_under_another_name_are_no_column_to_publish(sae, tmp_path, nested):
    ds = Dataset.from_dict({"text": TEXTS}).sae_encode(sae).rename_column("sae_ids", "kept").remove_columns("sae_acts")
    if nested:
        types = Features({"text": Value("string"), "kept": {"codes": ds.features["kept"]}})
        rows = [{"text": row["text"], "kept": {"codes": row["kept"]}} for row in ds]
        ds = Dataset.from_list(rows, features=types)
    with pytest.raises(ValueError, match="column `kept` holds renamed SAE codes: remove it"):
        stage(ds.sae_select(3, sae=sae), tmp_path / "f", **MIT)
