"""What is measured of a selection: by its method, beside the baselines; and the rows of each value of a quota."""

import datetime

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from helpers.forge import RECORD
from helpers.pools import coded

from hf_sae_select import METHODS, FeatureMatrix, Selection, metrics
from hf_sae_select.concepts.measurement import (
    MOST_VALUES,
    count_quotas,
    likens_what_it_read,
    measure,
    measures_of,
)
from hf_sae_select.selection.methods import BASELINES

ROWS = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}, {4: 0.9, 0: 0.3}, {6: 0.7}]
VECTORS = {"facility_location", "kcenter", "repr_filter"}
LIKENED = {"match", "herding"}  # by the features that they read
EXPECTED = (
    dict.fromkeys(LIKENED, ("likeness",))
    | dict.fromkeys(VECTORS, ())
    | dict.fromkeys(BASELINES, ("likeness", "coverage"))
)


@pytest.mark.parametrize("method", [*METHODS, "my own"])
def test_each_method_has_the_measures_of_what_it_does(method):
    assert measures_of(method) == EXPECTED.get(method, ("coverage",))


def test_towards_a_target_the_distance_is_evidence_and_not_the_likeness():
    assert [measures_of(method, has_target=True) for method in ("match", "herding", "greedy")] == [()] * 3


@pytest.mark.parametrize("method", [*METHODS, "my own"])
def test_likeness_is_by_the_features_that_a_method_read_where_it_decides_by_shares(method):
    assert likens_what_it_read(method) == (method in LIKENED)


def measured(method, **options):
    ds = coded(ROWS, record=RECORD)
    subset = ds.sae_select(3, method, **options)
    return subset.sae_selection.indices, FeatureMatrix.from_dataset(ds), measure(ds, subset.sae_selection)


@pytest.mark.parametrize("method", ["match", "herding", "random", "longest"])
def test_likeness_is_measured_as_match_reads_the_features(method):
    rows, features, figures = measured(method)
    assert figures.likeness["subset"] == pytest.approx(metrics.likeness(features, rows))
    assert figures.curves["likeness"]["subset"] == pytest.approx(metrics.likeness_curve(features, rows))
    assert list(figures.likeness) == list(figures.curves["likeness"]) == ["subset", "random", "longest"]
    if method in BASELINES:
        assert figures.likeness[method] == figures.likeness["subset"]


@pytest.mark.parametrize("method", sorted(LIKENED))
def test_likeness_of_what_decides_by_shares_is_by_the_features_that_it_read(method):
    rows, features, figures = measured(method, threshold=0.5, top=1, exclude=[2])
    pool = [0, 1, 3, 4, 5]
    assert figures.likeness["subset"] == pytest.approx(metrics.likeness(features.above(0.5).top(1), rows, pool))


def test_a_method_that_is_no_baseline_has_no_likeness():
    figures = measured("greedy")[2]
    assert figures.likeness is None and list(figures.curves) == ["coverage"] and figures.random_rows == {}


def test_random_rows_are_counted_for_the_picks_the_baselines_and_all_rows():
    ds = coded([{0: 0.9}, {1: 0.9}] * 50, record=RECORD)
    figures = measure(ds, ds.sae_select(2, "match").sae_selection)
    assert list(figures.random_rows) == ["pool", "subset", "random", "longest"]
    assert figures.random_rows["pool"] == 100 and figures.random_rows["subset"] > 50


def test_rows_without_features_are_like_nothing():
    ds = coded([{0: 0.1}, {1: 0.9}], record=RECORD)
    with pytest.warns(UserWarning, match="no row has one after the cuts"):
        subset = ds.sae_select(1, "match", threshold=5.0)
    assert measure(ds, subset.sae_selection).likeness == {"subset": None, "random": None, "longest": None}


def counts(columns, features=None, picks=(0, 1), exclude=(), quota=None):
    ds = Dataset.from_dict(columns, features=features)
    constraints = {"quota": next(iter(columns)) if quota is None else quota, "exclude": list(exclude)}
    parameters = {"constraints": constraints}
    rows = np.array(picks)
    return count_quotas(ds, Selection(rows, rows, np.array([0]), parameters=parameters))


def test_the_rows_of_each_value_are_counted_in_the_pool_and_in_the_subset():
    values = ["b", "a", None, "a", "a", "b", "c"]
    expected = [("a", 3, 1), ("b", 2, 1), (None, 1, 1), ("c", 1, 0)]
    columns = [dict(zip(("value", "pool", "subset"), item, strict=True)) for item in expected]
    for quota in ("lang", {"lang": [["a", 1]]}, {"lang": {"a": 0.5}}):
        result = counts({"lang": values}, picks=(0, 1, 2), quota=quota)
        assert result == [{"column": "lang", "values": columns, "others": None}]


def test_rows_that_were_excluded_do_not_count():
    values = counts({"lang": ["a", "b", "b", "c"]}, picks=(1,), exclude=(2, 3))[0]["values"]
    assert values == [{"value": "a", "pool": 1, "subset": 0}, {"value": "b", "pool": 1, "subset": 1}]


def test_values_beyond_a_bound_are_summed_up():
    result = counts({"lang": [*range(MOST_VALUES + 5), 0, 1]}, picks=(0, 33, 34))[0]
    assert len(result["values"]) == MOST_VALUES
    assert result["values"][0] == {"value": 0, "pool": 2, "subset": 1}
    assert result["others"] == {"values": 5, "pool": 5, "subset": 2}


@pytest.mark.parametrize(
    ("values", "type", "expected"),
    [
        ([0, 1], ClassLabel(names=["no", "yes", "never"]), ["no", "yes"]),
        ([0, -1], ClassLabel(names=["no"]), ["no", -1]),
        ([True, False], Value("bool"), [True, False]),
        ([1.5, float("nan")], Value("float64"), [1.5, None]),
        ([float("inf"), 2.0], Value("float64"), ["inf", 2.0]),
        ([datetime.date(2024, 5, 1), None], Value("date32"), ["2024-05-01", None]),
    ],
)
def test_values_are_json(values, type, expected):
    result = counts({"x": values}, Features({"x": type}))[0]["values"]
    assert [item["value"] for item in result] == expected


def test_without_a_quota_nothing_is_counted():
    ds = coded(ROWS, record=RECORD)
    assert count_quotas(ds, ds.sae_select(2).sae_selection) == []
