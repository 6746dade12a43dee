"""Quotas: rows and shares of each value of a column, of any type that holds plain values."""

import warnings
from datetime import date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from helpers.pools import coded, features_of, thoroughly, with_all
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select import METHODS, Selection, select, select_indices
from hf_sae_select.selection.quota import Quotas, balanced, rounded

LANG = ["en"] * 8 + ["de"] * 6 + ["fr"] * 4 + [None] * 2
ROWS = [{i % 7, 7 + i % 3} for i in range(20)]


def pick(budget, quota, method="greedy", columns=None, **arguments):
    features = with_all(features_of(ROWS))
    arguments |= {"columns": columns or {"lang": LANG}}
    return select_indices(features, budget, method, quota=quota, **arguments)


def counts(selection, values=LANG):
    picked = [values[i] for i in selection.indices]
    return {value: picked.count(value) for value in dict.fromkeys(values) if value in picked}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("budget", "shares", "expected"),
    [
        (10, {"en": 0.6, "de": "rest"}, {"en": 6, "de": 4}),
        (10, {"en": 0.6, "de": 0.4}, {"en": 6, "de": 4}),
        (10, {"en": 0.5, "de": "rest", "fr": "rest"}, {"en": 5, "de": 3, "fr": 2}),
        (10, {"en": "rest", "de": "rest"}, {"en": 5, "de": 5}),
        (10, {None: 0.2, "de": "rest"}, {"de": 6, None: 2}),  # and there are no more: 8 rows
        (10, {"en": 1 / 3, "de": 1 / 3, "fr": 1 / 3}, {"en": 4, "de": 3, "fr": 3}),
        (7, {"en": 0.5, "de": 0.5}, {"en": 4, "de": 3}),
        (1, {"en": 0.4, "de": 0.6}, {"de": 1}),
        (5, {"fr": 1.0}, {"fr": 4}),
        (0.5, {"en": np.float32(0.5), "de": "rest"}, {"en": 5, "de": 5}),
    ],
)
def test_a_share_is_exactly_that_of_the_rows(method, budget, shares, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert counts(pick(budget, {"lang": shares}, method)) == expected


@pytest.mark.parametrize("method", METHODS)
def test_values_without_a_share_have_the_rest_in_any_proportion(method):
    found = counts(pick(10, {"lang": {"en": 0.3}}, method))
    assert found["en"] == 3 and sum(found.values()) == 10


def test_what_the_pool_lacks_goes_to_the_rest_and_is_said():
    with pytest.warns(UserWarning, match="`quota` wants 6 of 'fr', 0.6 of the budget, but the dataset has 4"):
        assert counts(pick(10, {"lang": {"fr": 0.6, "en": "rest"}})) == {"en": 6, "fr": 4}
    with pytest.warns(
        UserWarning, match="`quota` wants 5 of 'fr', 0.5 of the budget, but the dataset has 4"
    ) as caught:
        assert counts(pick(10, {"lang": {"fr": 0.5, "en": 0.5}})) == {"en": 5, "fr": 4}  # no more than its share
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="`quota` wants 5 of 'fr'.*has 3"):
        pick(10, {"lang": {"fr": 0.5, "en": 0.5}}, exclude=[14])


def test_a_share_of_a_budget_in_costs_is_one_of_the_amount():
    tokens = {"lang": LANG, "price": [2.0] * 20}
    for method in METHODS:
        found = counts(pick("20 price", {"lang": {"en": 0.6, "de": "rest"}}, method, tokens))
        assert found == {"en": 6, "de": 4}
        assert counts(pick("18 price", "lang", method, tokens)) == {"en": 2, "de": 2, "fr": 2, None: 2}
    found = counts(pick("20 price", {"lang": {"en": 0.33}}, columns=tokens))
    assert found["en"] == 3  # 6 of 6.6
    with pytest.warns(UserWarning, match="`quota` wants 12 of 'fr', 0.6 of the budget, but the dataset has 8"):
        assert counts(pick("20 price", {"lang": {"fr": 0.6, "en": "rest"}}, columns=tokens)) == {"en": 6, "fr": 4}
    by_tokens = coded([{i: 1.0} for i in range(8)]).add_column("lang", list("aaaabbbb"))  # two tokens each
    subset = select(by_tokens, "8 tokens", quota={"lang": {"a": 0.75, "b": "rest"}})
    assert sorted(subset["lang"]) == ["a", "a", "a", "b"]


def test_initial_rows_are_part_of_the_share():
    assert counts(pick(4, {"lang": {"en": 0.5, "de": "rest"}}, must_include=[0, 8])) == {"en": 2, "de": 2}
    with pytest.raises(ValueError, match="`must_include` and `extend` have more rows of 'en' than `quota` allows"):
        pick(4, {"lang": {"en": 0.5, "de": "rest"}}, must_include=[0, 1, 2])
    with pytest.raises(
        ValueError, match="`must_include` and `extend` cost 3 price in rows of 'en', but `quota` allows 2"
    ):
        columns = {"lang": LANG, "price": [1] * 20}
        pick("4 price", {"lang": {"en": 0.5, "de": "rest"}}, must_include=[0, 1, 2], columns=columns)
    with pytest.raises(ValueError, match="have more rows of other values than `quota` allows"):
        pick(4, {"lang": {"en": 0.5, "de": "rest"}}, must_include=[18])


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"en": 0.6, "de": 0.5}, "`quota` gives shares of 1.1 in all; they must be at most 1"),
        ({"en": 0.6, "de": 3}, "`quota` gives 'de' 3 rows, but other values a share"),
        ({"en": "rest", "de": 3}, "`quota` gives 'de' 3 rows, but other values a share"),
        ({"en": 0.0}, "`quota` gives 'en' 0.0; it must be a non-negative integer"),
        ({"en": 1.5}, "`quota` gives 'en' 1.5; it must be"),
        ({"en": -0.5}, "`quota` gives 'en' -0.5; it must be"),
        ({"en": float("nan")}, "`quota` gives 'en' nan; it must be"),
        ({"en": True}, "`quota` gives 'en' True; it must be"),
        ({"en": "REST"}, "`quota` gives 'en' 'REST'; it must be"),
        ({"en": None}, "`quota` gives 'en' None; it must be"),
        ({"xx": 0.5}, "`quota` has 'xx', which is not in column `lang`; it has: 'en', 'de', 'fr', None"),
        (
            {"en": 0.3, "de": 0.3, "fr": 0.1, None: 0.1},
            "`quota` gives shares of 0.8 in all, and column `lang` has no rows",
        ),
        ({"en": 0, "de": 0, "fr": 0, None: 0}, "`quota` allows no row"),
    ],
)
def test_shares_that_make_no_sense_are_refused(shares, message):
    with pytest.raises((TypeError, ValueError)) as error:
        pick(10, {"lang": shares})
    assert message in str(error.value)


def test_shares_are_recorded_and_repeat_the_selection():
    from hf_sae_select.selection.request import SelectionRequest, arguments_of

    ds = coded([{i % 7: 1.0, 7 + i % 3: 0.9} for i in range(20)]).add_column("lang", LANG)
    selection = select(ds, 10, quota={"lang": {"en": 0.6, "de": "rest"}}).sae_selection
    assert selection.parameters["constraints"]["quota"] == {"lang": [["en", 0.6], ["de", "rest"]]}
    request = SelectionRequest.parse(20, ds, method=selection.method, **arguments_of(selection))
    assert request.constraints.max_per_group.tolist() == [6, 4, 0]


@thoroughly
@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 60), st.data())
def test_shares_sum_to_the_budget_where_there_are_enough_rows(sizes, budget, data):
    weights = data.draw(st.lists(st.integers(1, 9), min_size=len(sizes), max_size=len(sizes)))
    wanted = rounded(np.array(weights) / sum(weights), budget)
    assert wanted.sum() == budget
    assert (abs(wanted - np.array(weights) / sum(weights) * budget) < 1).all()
    even = balanced(np.array(sizes, float), budget, whole=False)
    assert even.sum() == pytest.approx(min(budget, sum(sizes))) and (even <= sizes).all()
    hungry = even[even < np.array(sizes) - 1e-9]
    assert len(hungry) == 0 or even.max() <= hungry.min() + 1e-9


# ---- values of any type


def with_column(values, type=None):
    """Eight rows with eight features, and a column."""
    column = (
        Dataset(pa.table({"x": values}))
        if isinstance(values, pa.Array)
        else Dataset.from_dict({"x": values}, features=None if type is None else Features({"x": type}))
    )
    rows = coded([{i: 1.0} for i in range(len(values))])
    return rows.add_column("x", column["x"][:], feature=column.features["x"])


@pytest.mark.parametrize(
    ("values", "key", "recorded"),
    [
        (pa.array([True, False, False, False]), True, True),
        (pa.array([None, "b", "b", "b"]), None, None),
        (pa.array(["a", "b", "b", "b"], pa.large_string()), "a", "a"),
        (pa.array(["a", "b", "b", "b"], pa.string_view()), "a", "a"),
        (pa.array(["a", "b", "b", "b"]).dictionary_encode(), "a", "a"),
        (pa.array([7, 8, 8, 8], pa.uint64()), np.int8(7), 7),
        (pa.array([1.5, 2, 2, 2], pa.float32()), 1.5, 1.5),
        (pa.array([Decimal("1.5"), *[Decimal("2.5")] * 3]), Decimal("1.5"), "1.5"),
        (pa.array([Decimal("1.5"), *[Decimal("2.5")] * 3]), "1.5", "1.5"),
        (pa.array([date(2024, 2, 1), *[date(2024, 2, 2)] * 3]), date(2024, 2, 1), "2024-02-01"),
        (pa.array([date(2024, 2, 1), *[date(2024, 2, 2)] * 3]), "2024-02-01", "2024-02-01"),
        (
            pa.array([datetime(2024, 2, 1, 3), *[datetime(2024, 2, 2)] * 3]),
            "2024-02-01T03:00:00",
            "2024-02-01T03:00:00",
        ),
        (pa.array([timedelta(days=1), *[timedelta(days=2)] * 3]), timedelta(days=1), "1 day, 0:00:00"),
    ],
)
def test_a_quota_takes_plain_values_of_every_type(values, key, recorded):
    ds = with_column(values)
    subset = select(ds, 2, quota={"x": {key: 0}}, seed=None)
    assert 0 not in subset.sae_selection.indices
    assert subset.sae_selection.parameters["constraints"]["quota"] == {"x": [[recorded, 0]]}
    again = select(ds, 2, quota={"x": {recorded: 0}}, seed=None)
    assert again.sae_selection.indices.tolist() == subset.sae_selection.indices.tolist()
    assert len(select(ds, 2, quota="x")) == 2


def test_classes_are_named_by_their_names_or_numbers():
    ds = with_column([0, 1, 1, 1, -1], ClassLabel(names=["neg", "pos", "none"]))
    for key in ("neg", 0, np.int64(0)):
        assert 0 not in select(ds, 2, quota={"x": {key: 0}}).sae_selection.indices
    assert select(ds, 2, quota={"x": {"neg": 0}}).sae_selection.parameters["constraints"]["quota"] == {
        "x": [["neg", 0]]
    }
    assert sorted(select(ds, 2, quota={"x": {"neg": 0.5, "pos": "rest"}})["x"]) == [0, 1]
    assert len(select(ds, 2, quota={"x": {"none": 0}})) == 2  # a class without rows
    with pytest.raises(
        ValueError, match="`quota` has 'good', which is not in column `x`; it has: 'neg', 'pos', -1, 'none'"
    ):
        select(ds, 2, quota={"x": {"good": 1}})
    with pytest.raises(ValueError, match="`quota` has 'neg' twice, the second time as 0"):
        select(ds, 2, quota={"x": {"neg": 1, 0: 1}})
    with pytest.raises(ValueError, match="more rows of 'neg' than `quota` allows"):
        select(ds, 2, quota={"x": {"neg": 0}}, must_include=[0])
    for argument in ("quality", "cost"):
        with pytest.raises(TypeError, match=rf"column `x` \(from `{argument}`\) holds classes"):
            select(ds, 2, **{argument: "x"})


@pytest.mark.parametrize("argument", ["quality", "cost"])
def test_numbers_may_be_decimals_or_of_any_width(argument):
    for values in (
        pa.array([Decimal("1.5"), Decimal("2.5")]),
        pa.array([1, 2], pa.uint8()),
        pa.array([1, 2], pa.float16()),
        np.array([1.5, 2.5]),
    ):
        ds = with_column(values if isinstance(values, pa.Array) else pa.array(values))
        assert len(select(ds, 2 if argument == "quality" else "50% x", **{argument: "x"})) >= 1


@pytest.mark.parametrize("argument", ["quota", "quality", "cost"])
@pytest.mark.parametrize(
    ("values", "type"),
    [
        ([[1], [2]], List(Value("int64"))),
        ([{"a": 1}, {"a": 2}], {"a": Value("int64")}),
        ([b"a", b"b"], Value("binary")),
        ([None, None], Image()),
    ],
)
def test_columns_that_hold_no_plain_values_are_refused_by_name(argument, values, type):
    ds = with_column(values, type)
    with pytest.raises(TypeError, match=rf"column `x` \(from `{argument}`\) holds .*; it needs plain values"):
        select(ds, 1, **{argument: "x"})


@pytest.mark.parametrize("argument", ["quality", "cost"])
@pytest.mark.parametrize(
    "values",
    [
        pa.array([date(2024, 2, 1)] * 2),
        pa.array(["1", "2"]),
        pa.array([True, False]),
        pa.array([None, None]),
        pa.array([1, None]),
    ],
)
def test_values_that_are_no_numbers_are_refused_by_row(argument, values):
    with pytest.raises(
        ValueError, match=rf"column `x` \(from `{argument}`\) is .* in row [01]; it must be a non-negative"
    ):
        select(with_column(values), 1, **{argument: "x"})


def test_dates_that_python_cannot_hold_are_refused_by_name():
    rows = coded([{0: 1.0}, {1: 1.0}]).data.table
    far = pa.array([2**45, 1], pa.timestamp("s"))
    ds = coded([{0: 1.0}, {1: 1.0}])
    ds = Dataset(
        rows.append_column(pa.field("x", far.type), far).cast(
            Features({**ds.features, "x": Value("timestamp[s]")}).arrow_schema
        )
    )
    with pytest.raises(ValueError, match=r"column `x` \(from `quota`\) holds .*timestamp.*cast it to text first"):
        select(ds, 1, quota="x")


def test_a_method_of_ones_own_gets_the_costs_of_groups():
    def own(features, budget, rng, *, constraints):
        own.most = constraints.max_cost_per_group.tolist()
        return Selection(np.array([0]), np.zeros(1), np.zeros(1, np.int64))

    columns = {"lang": LANG, "price": [1] * 20}
    with pytest.warns(UserWarning, match="no row left to pick after 1, with 9 of 10 unspent"):
        pick("10 price", {"lang": {"en": 0.6, "de": "rest"}}, own, columns)
    assert own.most == [6, 4, 0]
    with (
        pytest.warns(UserWarning, match="`quota` wants 9.5 of the rest"),
        pytest.raises(ValueError, match="returned rows that its `constraints` do not allow"),
    ):
        pick("10 price", {"lang": {"en": 0.05, "de": "rest"}}, own, columns)


def test_quotas_of_rows_have_no_limit_in_costs():
    quotas = Quotas.parse({"lang": {"en": 2}}, {"lang": LANG}, 20)
    assert quotas.rows(np.array([8, 6, 4, 2]), None).tolist() == [2, 6, 4, 2]
    assert quotas.costs(np.ones(4), 3.0).tolist() == [np.inf] * 4
