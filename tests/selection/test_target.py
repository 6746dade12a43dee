"""What `target` and `overlap` take and refuse, what is left out for it, and what a selection says of it."""

import json
import math
import warnings

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, IterableDataset
from helpers.pools import coded, features_of

from hf_sae_select import FeatureMatrix, Selection, select, select_indices, target_distances
from hf_sae_select.encoding import language_model
from hf_sae_select.publishing.replay import replay
from hf_sae_select.selection.references import PoolEncoding
from hf_sae_select.selection.target_argument import TargetArgument
from hf_sae_select.selection.target_distance import TargetDistance

RHYME = "mary had a little lamb its fleece was white as snow"
ROWS = [{i % 5: 0.9, 5 + i % 7: 0.7, 12 + i % 3: 0.8} for i in range(24)]
TEXTS = [f"row number {i} of the pool" for i in range(24)]
RECORD = {"d_sae": 16, "threshold": 0.5, "sae_sha256": "abc", "text": {"columns": ["text"]}}


def pool(rows=ROWS, texts=TEXTS, record=RECORD):
    return coded(rows, record=record).remove_columns("text").add_column("text", texts)


def target(rows=ROWS[:8], texts=None, record=RECORD):
    return pool(rows, [f"another text {i}" for i in range(len(rows))] if texts is None else texts, record)


# ---- the rows of the target in the pool


def test_rows_of_the_target_are_left_out_by_their_text_and_by_8_grams():
    texts = [*TEXTS[:20], "Another  text 3", f"so {RHYME} and more", "", "snow"]
    wanted = target(texts=[f"another text {i}" for i in range(6)] + [RHYME, ""])
    subset = select(pool(texts=texts), 22, target=wanted)
    selection = subset.sae_selection
    assert sorted(set(range(24)) - set(selection.indices.tolist())) == [20, 21]
    assert selection.left_out == {"overlap": 2}
    assert selection.parameters["constraints"]["left_out"] == {"overlap": [20, 21]}
    assert selection.target["overlap"] == {
        "mode": "exclude", "compared": ["text"], "rows": 2, "equal": 1, "left_out": 2,
    }  # fmt: skip


def test_rows_of_the_target_stay_where_they_are_counted_alone_or_not_looked_for():
    texts = [*TEXTS[:23], "another text 3"]
    counted = select(pool(texts=texts), 24, target=target(), overlap="only_report").sae_selection
    assert len(counted) == 24 and counted.left_out == {}
    assert counted.target["overlap"] == {
        "mode": "only_report", "compared": ["text"], "rows": 1, "equal": 1, "left_out": 0,
    }  # fmt: skip
    kept = select(pool(texts=texts), 24, target=target(), overlap="keep").sae_selection
    assert len(kept) == 24 and kept.target["overlap"] == {"mode": "keep"}


def test_rows_that_are_picked_first_stay_though_they_are_in_the_target():
    texts = [*TEXTS[:22], "another text 3", "another text 4"]
    selection = select(pool(texts=texts), 23, target=target(), must_include=[22]).sae_selection
    assert selection.indices[0] == 22 and 23 not in selection.indices
    assert selection.target["overlap"]["rows"] == 2 and selection.target["overlap"]["left_out"] == 1
    earlier = select(pool(texts=texts), 2, must_include=[22]).sae_selection
    assert select(pool(texts=texts), 5, target=target(), extend=earlier).sae_selection.indices[0] == 22


def test_without_texts_rows_are_compared_by_their_features():
    codes = pool().remove_columns("text")
    selection = select(codes, 4, target=target(ROWS[:8])).sae_selection
    assert (
        selection.target["overlap"] | {"compared": ["features"], "rows": 8, "equal": 8}
        == (selection.target["overlap"])
    )
    assert not set(selection.indices.tolist()) & set(range(8))
    matrix = FeatureMatrix.from_dataset(pool(ROWS[:8], TEXTS[:8]))
    again = select(pool(), 4, target=matrix).sae_selection
    assert again.indices.tolist() == selection.indices.tolist()
    by_indices = select_indices(FeatureMatrix.from_dataset(pool()).above(0).top(256), 4, target=matrix)
    assert by_indices.indices.tolist() == selection.indices.tolist()
    assert by_indices.target["overlap"] == selection.target["overlap"]


def test_parts_of_a_target_are_compared_each_in_its_own_way():
    parts = {"texts": target(texts=[*TEXTS[:2], *(f"other {i}" for i in range(6))]), "codes": target(ROWS[8:16])}
    parts["codes"] = parts["codes"].remove_columns("text")
    selection = select(pool(), 8, target=parts).sae_selection
    assert selection.target["overlap"]["compared"] == ["text", "features"]
    assert selection.parameters["constraints"]["left_out"]["overlap"] == [0, 1, *range(8, 16)]


def test_a_target_that_is_the_pool_leaves_no_row():
    with pytest.raises(ValueError, match="`overlap='exclude'` leaves no row: all 24 are in the `target` too; pass"):
        select(pool(), 3, target=pool())
    with pytest.raises(ValueError, match=r"`budget=5` but .* 4 rows.*`overlap='exclude'` leaves out 20 rows"):
        select(pool(), 5, target=pool().select(range(20)))
    features = features_of([{0}, {1}, {2}] * 3)
    with pytest.raises(ValueError, match="`overlap='exclude'` leaves no row: all 9 are in the `target` too"):
        select_indices(features, 3, target=features)


def test_a_selection_with_rows_left_out_is_replayed_without_the_texts():
    texts = [*TEXTS[:20], *(f"another text {i}" for i in range(4))]
    selection = select(pool(texts=texts), 6, target=target()).sae_selection
    aim = TargetArgument.parse(target()).encoded(PoolEncoding(RECORD))
    again = replay(pool(texts=texts), selection, target=aim)
    assert again.indices.tolist() == selection.indices.tolist()
    assert again.target == selection.target


# ---- what a selection says of its target


def test_a_selection_says_what_it_was_made_towards(tmp_path):
    wanted = {"a": (target(), 0.75), "b": (target([*ROWS[8:16], {}]), 0.25)}
    selection = select(pool(), 6, "match", target=wanted, sharpen=2).sae_selection
    said = selection.target
    assert said["rule"] == {"method": "match", "options": {"sharpen": 2}}
    assert [(part["name"], part["rows"], part["blank"], part["share"]) for part in said["parts"]] == [
        ("a", 8, 0, 0.75),
        ("b", 9, 1, 0.25),
    ]
    assert [part["sha256"] for part in said["parts"]] == [part["sha256"] for part in selection.parameters["target"]]
    assert set(said["distances"]) == {"subset", "random", "pool"}
    selection.save(tmp_path / "selection.json")
    assert Selection.load(tmp_path / "selection.json").target == said == json.loads(json.dumps(said))
    assert select(pool(), 6).sae_selection.target == {}


def test_saved_selections_of_earlier_versions_have_no_target(tmp_path):
    path = tmp_path / "selection.json"
    select(pool(), 6).sae_selection.save(path)
    values = json.loads(path.read_text())
    del values["target"]
    path.write_text(json.dumps({**values, "format": 2}))
    assert Selection.load(path).target == {}


def dense(features, mean):
    """The shares of rows above a mean: [n, d_sae]."""
    acts = np.zeros((len(features), features.d_sae))
    for i in range(len(features)):
        acts[i, features.row(i)] = np.sqrt(features.acts[features.offsets[i] : features.offsets[i + 1]])
    shares = acts / np.maximum(acts.sum(1, keepdims=True), 1e-300)
    above = np.maximum(shares - mean, 0) * (shares > mean * (1 + 1e-6)) if mean is not None else shares
    above = np.where(above.sum(1, keepdims=True) > 0, above, shares)
    return above / np.maximum(above.sum(1, keepdims=True), 1e-300)


def test_distances_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    features = FeatureMatrix.from_dense(np.maximum(rng.normal(size=(30, 12)), 0))
    wanted = FeatureMatrix.from_dense(np.maximum(rng.normal(size=(9, 12)) - 0.3, 0))
    aim = TargetArgument.parse(wanted, "keep").of_features(12)
    rows = np.array([3, 5, 8, 20])
    distance = TargetDistance(features, np.arange(30), aim)
    mean = dense(features, None).mean(0)
    own, other = dense(features, mean), dense(wanted, mean)
    p, q, all_rows = own[rows].sum(0) / len(rows), other.mean(0), own.mean(0)
    assert distance.hellinger(rows) == pytest.approx(math.sqrt(1 - np.sqrt(p * q).sum()), abs=1e-5)

    e = 8 / np.count_nonzero(all_rows)
    weights = (q + e) / (all_rows + e)

    def kernel(x, y):
        x, y = (v * weights / np.linalg.norm(v * weights, axis=1, keepdims=True) for v in (x, y))
        least = math.exp(-1 / 0.3)
        return ((np.exp((x @ y.T - 1) / 0.3) - least) / (1 - least)).mean()

    squared = kernel(own[rows], own[rows]) + kernel(other, other) - 2 * kernel(own[rows], other)
    assert distance.kernel(rows) == pytest.approx(math.sqrt(squared), abs=1e-3)


def test_rows_that_are_the_target_have_no_distance():
    features = features_of([{0, 1}, {2, 3}, {4, 5}, {6}] * 3)
    said = select_indices(features, 12, target=features, overlap="keep").target["distances"]
    assert said["subset"] == said["pool"]
    assert said["subset"]["hellinger"] < 1e-6 and said["subset"]["kernel"] < 1e-4
    apart = select_indices(features_of([{9}] * 3), 3, target=features).target["distances"]["subset"]
    assert apart["hellinger"] == 1 and apart["kernel"] > 0.9
    blank = select_indices(features_of([{9}, set()]), 1, target=features, exclude=[0]).target["distances"]
    assert blank["subset"] == {"hellinger": 1.0, "kernel": None}


def test_missing_features_are_those_of_the_target_that_no_row_has():
    rows = [{0: 0.9, 1: 0.9}, {0: 0.9, 3: 0.2}] * 4  # 3 is below the threshold
    wanted = target([{0: 0.9, 2: 0.9}, {1: 0.9, 3: 0.9}, {4: 0.1, 1: 0.9}] * 3)
    said = select(pool(rows, TEXTS[:8]), 3, target=wanted).sae_selection.target["missing"]
    assert said["features"] == 2 and {feature for feature, _ in said["largest"]} == {2, 3}
    assert said["share"] == pytest.approx(sum(share for _, share in said["largest"])) and 0 < said["share"] < 1
    nothing = select(pool(), 3, target=target()).sae_selection.target["missing"]
    assert nothing == {"features": 0, "share": 0.0, "largest": []}


def test_the_distances_of_a_subset_stand_beside_those_of_picks_without_its_target():
    subset = select(pool(), 4, target=target(), max_share=0.9)
    table = target_distances(subset)
    assert table.index.tolist() == ["subset", "untargeted", "random", "pool"]
    assert table["rows"].tolist() == [4, 4, 4, 24]
    for name, distances in subset.sae_selection.target["distances"].items():
        assert table.loc[name, ["hellinger", "kernel"]].to_dict() == distances
    without = select(pool(), 4, max_share=0.9)
    aim = TargetArgument.parse(target()).encoded(PoolEncoding(RECORD))
    distance = TargetDistance(FeatureMatrix.from_dataset(pool()), np.arange(24), aim, 0.5)
    assert table.loc["untargeted", "hellinger"] == pytest.approx(distance.hellinger(without.sae_selection.indices))
    with pytest.raises(ValueError, match="`subset` was selected without a `target`; pass one"):
        target_distances(without)


# ---- bad input


@pytest.fixture
def no_models(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a language model was loaded")

    monkeypatch.setattr(language_model.LanguageModel, "from_pretrained", fail)


RAW = Dataset.from_dict({"text": TEXTS})


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([], ValueError, "`target` is empty; pass at least one text"),
        (["", " \n"], ValueError, "`target` holds blank texts alone"),
        (["a", None], TypeError, r"`target\[1\]` is a NoneType; pass texts"),
        (Dataset.from_dict({"text": []}), ValueError, "`target`: the dataset is empty"),
        (Dataset.from_dict({"text": ["", " "] * 8}), ValueError, "`target`: all of its 16 rows are blank"),
        (Dataset.from_dict({"id": [1, 2] * 8}), ValueError, "`target`: "),
        (DatasetDict({"train": RAW}), TypeError, "`target` is a DatasetDict; pick a split"),
        (IterableDataset.from_generator(lambda: iter(())), TypeError, "`target` is an IterableDataset"),
        ("no such place", FileNotFoundError, "`target='no such place'`: there is no such file"),
        ("I want cooking", FileNotFoundError, r"pass a list: \['I want cooking'\]$"),
        ("no/such file.jsonl", FileNotFoundError, r"pass a list: \['no/such file.jsonl'\]$"),
        ("no.jsonl", FileNotFoundError, r"`target='no.jsonl'`: .*or owner/name$"),
        (7, TypeError, "`target` is of type int; pass a Dataset, a list of texts, a FeatureMatrix, or the place"),
        ((RAW, 0.5), ValueError, r"`target=\(rows, share\)` has a share"),
        ({"a": (RAW, float("nan")), "b": (RAW, 0.5)}, ValueError, r"`target\['a'\]\[1\]=nan`"),
        ({}, ValueError, "`target={}` names no target"),
        ({"": RAW}, TypeError, "`target` has the name ''"),
        ({3: RAW}, TypeError, "`target` has the name 3"),
        ({"a": (RAW, 0.5), "b": RAW}, ValueError, r"`target\['b'\]` has no share"),
        ({"a": (RAW, 0.5), "b": (RAW, 0.6)}, ValueError, "the shares in `target` sum to 1.1"),
        ({"a": (RAW, 0), "b": (RAW, 1)}, ValueError, r"`target\['a'\]\[1\]=0` must be a finite number in \(0, 1\]"),
        ({"a": ["", ""]}, ValueError, r"`target\['a'\]` holds blank texts alone"),
        (features_of([set()] * 9), ValueError, "`target`: none of its 9 rows has a feature"),
        (features_of([{1}] * 9, d_sae=20), ValueError, "`target` is of an SAE with 20 features, and the dataset's"),
        (target(record={**RECORD, "sae_sha256": "other"}), ValueError, "`target`"),
    ],
)
def test_a_target_that_is_none_is_named_before_any_model_loads(value, error, message, no_models):
    for dataset in (pool(), RAW):
        if dataset is RAW and isinstance(value, FeatureMatrix) and value.d_sae == 16:
            continue  # the SAE of the package has more features
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            with pytest.raises(error, match=message):
                select(dataset, 3, target=value)


def test_what_makes_no_sense_with_a_target_is_refused_before_any_model_loads(no_models):
    for dataset in (pool(), RAW):
        with pytest.raises(ValueError, match="`target` makes no sense with `method='random'`; choose one of: herding"):
            select(dataset, 3, "random", target=target())
        with pytest.raises(ValueError, match="`method='towards'` selects towards a `target`; pass one"):
            select(dataset, 3, towards)
        with pytest.raises(TypeError, match="`target` needs a method that takes it; give `mine` a keyword argument"):
            select(dataset, 3, mine, target=target())
        with pytest.raises(ValueError, match="unknown `overlap='drop'`; choose one of: exclude, keep, only_report"):
            select(dataset, 3, target=target(), overlap="drop")
        with pytest.raises(ValueError, match="`overlap='keep'` is of the rows of a `target`; pass one"):
            select(dataset, 3, overlap="keep")
    same = Dataset.from_dict({"text": TEXTS})
    with pytest.raises(ValueError, match="`overlap='exclude'` leaves no row"):
        select(RAW, 3, target=same)


def mine(features, budget, rng):
    return Selection(np.arange(budget), np.zeros(budget), np.zeros(1, np.int64))


def towards(features, budget, rng, *, target):
    return mine(features, budget, rng)


def test_few_rows_are_warned_of():
    with pytest.warns(UserWarning, match="`target` has 1 row: so few say little of what is wanted; pass 8 or more"):
        select(pool(), 3, target=target(ROWS[:1]))
    with pytest.warns(UserWarning, match=r"`target\['a'\]` has 2 rows with features: so few"):
        select(pool(), 3, target={"a": target([*ROWS[:2], *[{}] * 7])})


def test_a_target_without_a_feature_after_the_cuts_is_named():
    with pytest.raises(ValueError, match=r"no row of `target` has a feature after the cuts `threshold=5\.0`"):
        select(pool(), 3, "greedy", target=target(), threshold=5)


def test_a_method_of_ones_own_may_take_a_target():
    def nearest(features, budget, rng, *, target):
        shared = [np.isin(features.row(i), np.flatnonzero(target.has())).sum() for i in range(len(features))]
        rows = np.argsort(-np.array(shared), kind="stable")[:budget]
        return Selection(rows, np.zeros(budget), np.zeros(1, np.int64))

    features, wanted = features_of([{9}, {0, 1}, {0}]), features_of([{0, 1}] * 8)
    selection = select_indices(features, 2, nearest, target=wanted, overlap="keep")
    assert selection.indices.tolist() == [1, 2]
    assert selection.target["rule"] == {"method": "nearest", "options": {}}
