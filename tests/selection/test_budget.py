"""Budgets: what is understood, what is told to be written otherwise, and what buys nothing."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from datasets import Dataset
from helpers.pools import coded, features_of, with_all

from hf_sae_select import METHODS, Constraints, select, select_indices
from hf_sae_select.selection.budget import Budget

ROWS = [{0, 1, 2}, {0, 1}, {3}, {4, 5}, {6}, set()]  # 4, 3, 2, 3, 2 and 1 tokens
PRICES = {"price": [30, 10, 12, 20, 15.5, 1], "kind": list("aabbcc"), "good": [1, 1, 1, 1, 1, 0]}


@pytest.mark.parametrize(
    ("text", "amount", "unit", "is_fraction"),
    [
        ("200k tokens", 200_000, "tokens", False),
        ("200K Tokens", 200_000, "tokens", False),
        ("20k token", 20_000, "tokens", False),
        ("20ktokens", 20_000, "tokens", False),
        ("20kTOKENS", 20_000, "tokens", False),
        ("20 k tokens", 20_000, "tokens", False),
        ("10tokens", 10, "tokens", False),
        ("1e9 tokens", 10**9, "tokens", False),
        ("2.5e3tokens", 2500, "tokens", False),
        ("1,000 tokens", 1000, "tokens", False),
        ("1,234,567.5 chars", 1_234_567.5, "chars", False),
        ("1_000 tokens", 1000, "tokens", False),
        ("2M tokens", 2_000_000, "tokens", False),
        ("1.5b tokens", 1_500_000_000, "tokens", False),
        ("0.5 dollars", 0.5, "dollars", False),
        (".5 dollars", 0.5, "dollars", False),
        ("20 min", 20, "min", False),
        ("20 Min", 20, "Min", False),
        ("  3000 rows ", 3000, None, False),
        ("3_000 Rows", 3000, None, False),
        ("1 row", 1, None, False),
        ("10%", 0.1, None, True),
        ("10 %", 0.1, None, True),
        ("2.5 % of the rows", 0.025, None, True),
        ("100%", 1.0, None, True),
        ("10% tokens", 0.1, "tokens", True),
        ("10 % of all Tokens", 0.1, "tokens", True),
        ("5% chars", 0.05, "chars", True),
    ],
)
def test_an_amount_is_understood(text, amount, unit, is_fraction):
    assert Budget.parse(text, None) == Budget(amount, unit, is_fraction)


@pytest.mark.parametrize(
    ("text", "cost", "budget"),
    [
        ("200k", "tokens", Budget(200_000.0, "tokens", is_fraction=False)),
        ("10%", "tokens", Budget(0.1, "tokens", is_fraction=True)),
        ("30", "dollars", Budget(30.0, "dollars", is_fraction=False)),
        ("5 token", "token", Budget(5.0, "token", is_fraction=False)),  # a column of this name
    ],
)
def test_an_amount_without_a_unit_is_one_of_cost(text, cost, budget):
    assert Budget.parse(text, cost) == budget


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("1_000", "does not say of what; write '1_000 rows' or '1_000 tokens'"),
        ("2M", "does not say of what; write '2M rows' or '2M tokens'"),
        ("3000", "does not say of what; write '3000 rows' or '3000 tokens'"),
        ("0.5 tokens", "is less than a token; for a share of all tokens write '50% tokens'"),
        ("20min", "with a space before the name of a column"),
        ("150%", "is more than all; pass at most '100%'"),
        ("0%", "above 0"),
        ("0 tokens", "above 0"),
        ("1e400 tokens", "above 0 and at most 1e+50"),
        ("1e9999999999999999999999 tokens", "above 0 and at most 1e+50"),
        ("1.5 rows", "must be a whole number of rows"),
        ("", "must be an amount such as '200k tokens', '3000 rows' or '10%'"),
        ("  ", "must be an amount"),
        ("half", "must be an amount"),
        ("-3 tokens", "must be an amount"),
        ("nan tokens", "must be an amount"),
        ("inf tokens", "must be an amount"),
        ("1,5 tokens", "must be an amount"),
        ("12,34 tokens", "must be an amount"),
        ("1__0 tokens", "must be an amount"),
        ("tokens", "must be an amount"),
        (
            1.0,
            "`budget=1.0` must be a fraction between 0 and 1, both excluded, or an integer; for all rows pass '100%'",
        ),
        (2.5, "`budget=2.5` must be a fraction"),
        (0.0, "`budget=0.0` must be a fraction"),
        (-0.5, "`budget=-0.5` must be a fraction"),
        (float("nan"), "`budget=nan` must be"),
        (float("inf"), "`budget=inf` must be"),
        (1e300, "`budget` is above 1e+50"),
        (10**400, "`budget` is above 1e+50"),
        (0, "`budget=0` but the dataset has 6 rows"),
        (-1, "`budget=-1` but"),
        (True, "`budget=True` must be a number of rows"),
        (np.True_, "must be a number of rows"),
        (None, "`budget=None` must be a number of rows"),
        ([3], "`budget=[3]` must be a number of rows"),
        (Decimal("0.1"), "must be a number of rows"),
        (0.0001, "`budget=0.0001` of 6 rows is no row; pass at least 0.167, or the number 1"),
    ],
)
def test_what_is_no_amount_is_refused_by_name_before_anything_is_encoded(budget, message):
    for run in (
        lambda: select_indices(features_of(ROWS), budget),
        lambda: select(Dataset.from_dict({"no text": [1] * 6}), budget, sae="/no/such/folder"),
    ):
        with pytest.raises((TypeError, ValueError)) as error:
            run()
        assert message in str(error.value) and "`budget" in str(error.value)


@pytest.mark.parametrize("cost", [True, float("nan"), 0, -1, 1e300, 10**400, "x", None])
def test_a_number_beside_cost_is_checked_too(cost):
    with pytest.raises((TypeError, ValueError), match="`budget"):
        select_indices(features_of(ROWS), cost, cost="price", columns=PRICES)


@pytest.mark.parametrize(
    "budget", [np.int64(3), np.uint8(3), 3, 0.5, np.float32(0.5), Fraction(1, 2), "50%", "3 rows"]
)
def test_numbers_of_any_type_are_taken(budget):
    assert len(select_indices(features_of(ROWS), budget)) == 3


# ---- a budget that buys nothing


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": "1 tokens"}, "`budget=1` buys no row: the cheapest, row 2, costs 2 tokens; pass at least 2"),
        (
            {"budget": 0.1, "cost": "tokens"},
            "`budget=0.1`, 1.5 tokens, buys no row: the cheapest, row 2, costs 2 tokens",
        ),
        ({"budget": "2 tokens", "exclude": [2, 4]}, "the cheapest, row 1, costs 3 tokens; pass at least 3"),
        ({"budget": "2 tokens", "quota": {"kind": {"b": 0, "c": 0}}}, "the cheapest, row 1, costs 3 tokens"),
        ({"budget": "0.5 price"}, "the cheapest, row 5, costs 1 price; pass at least 1"),
        (
            {"budget": 0.01, "cost": "price"},
            "`budget=0.01`, 0.885 price, buys no row: the cheapest, row 5, costs 1 price",
        ),
        ({"budget": "9 price", "exclude": [5]}, "the cheapest, row 1, costs 10 price; pass at least 10"),
        (
            {"budget": "11 price", "quota": {"kind": {"b": 1.0}}},
            "the cheapest, row 2, costs 12 price; pass at least 12",
        ),
        (
            {"budget": "11 price", "quota": {"kind": {"a": 0.5, "b": "rest"}}},
            "row 1, costs 10 price; pass at least 20",
        ),
    ],
)
def test_a_budget_that_buys_nothing_names_the_cheapest_row(method, arguments, message):
    budget = {"seed": 0, "columns": PRICES, **arguments}
    with pytest.raises(ValueError) as error:
        select_indices(with_all(features_of(ROWS, tokens=[4, 3, 2, 3, 2, 0])), method=method, **budget)
    assert message in str(error.value)


def test_the_smallest_budget_that_is_named_buys_a_row():
    for budget in (0.1, "1 tokens"):
        with pytest.raises(ValueError, match="pass at least") as error:
            select_indices(features_of(ROWS), budget, "greedy", cost="tokens")
        least = str(error.value).rpartition(" ")[2]
        assert len(select_indices(features_of(ROWS), float(least), "greedy", cost="tokens")) == 1


def test_a_budget_in_a_column_is_refused_before_anything_is_encoded():
    ds = Dataset.from_dict({"text": ["a", "b"], "price": [5.0, 7.0]})
    with pytest.raises(ValueError, match="the cheapest, row 0, costs 5 price"):
        select(ds, "4 price", sae="/no/such/folder")


def test_a_row_of_no_quality_is_not_the_cheapest():
    with pytest.raises(ValueError, match="the cheapest, row 1, costs 10 price"):
        select_indices(features_of(ROWS), "2 price", "greedy", quality="good", columns=PRICES)


def test_initial_rows_that_take_the_whole_budget_are_a_result():
    assert select_indices(features_of(ROWS), "4 tokens", "greedy", must_include=[0]).indices.tolist() == [0]
    with pytest.warns(UserWarning, match="the 1 left by `must_include` and `extend` buy no row; returning 1 rows"):
        select_indices(features_of(ROWS), "5 tokens", "greedy", must_include=[0])


# ---- numbers that overflow


@pytest.mark.parametrize("argument", ["quality", "cost"])
@pytest.mark.parametrize(
    "value", [1e308, 1e51, 1e-51, 1e-320, 10**400, float("inf"), float("nan"), -1, None, "1", True]
)
def test_a_column_of_numbers_that_overflow_or_are_none_is_refused(argument, value):
    columns = {"x": [1.0, 2.0, 3.0, 1.0, 2.0, value]}
    with pytest.raises(ValueError, match=rf"column `x` \(from `{argument}`\) is .* in row 5; it must be"):
        select_indices(features_of(ROWS), 3, "greedy", columns=columns, **{argument: "x"})


@pytest.mark.parametrize("argument", ["quality", "cost"])
def test_numbers_up_to_the_bounds_neither_overflow_nor_vanish(argument):
    for scale in (1e50, 1e-49):
        columns = {"x": [scale / 2, scale / 4, scale / 4, scale, scale / 10, scale]}
        ones = {"x": [0.5, 0.25, 0.25, 1.0, 0.1, 1.0]}
        for method in ("greedy", "match", "concave", "simscale"):
            budgets = (scale, 1.0) if argument == "cost" else (3, 3)
            arguments = {argument: "x", "seed": None, "per_token": 10 if argument == "quality" else 0}
            budgets = (f"{scale} x", "1 x") if argument == "cost" else (3, 3)
            large, small = (
                select_indices(features_of(ROWS), budget, method, columns=each, **arguments)
                for budget, each in zip(budgets, (columns, ones), strict=True)
            )
            assert large.indices.tolist() == small.indices.tolist()


@pytest.mark.parametrize("per_token", [1e6, 10.5, float("inf"), float("nan"), -1, "1", True])
def test_a_power_of_tokens_that_overflows_is_refused(per_token):
    with pytest.raises(ValueError, match=r"`per_token=.*` must be a finite number in \[0, 10\]"):
        select(coded([{0: 1.0}]), 1, per_token=per_token)


def test_the_redundancy_of_herding_is_another_by_default_with_a_budget_in_costs_and_with_a_target():
    features = with_all(features_of([{0, 1}, {0, 2}, {1, 2}, {0}]))
    cases = {1.25: {"budget": 2}, 1.0: {"budget": "4 price", "columns": {"price": [2, 2, 2, 2]}}}
    cases[0.5] = {"budget": 2, "target": features_of([{0, 1}] * 8), "overlap": "keep"}
    for redundancy, arguments in cases.items():
        assert select_indices(features, **arguments).parameters["options"]["redundancy"] == redundancy
    assert select_indices(features, **cases[1.0], redundancy=2).parameters["options"]["redundancy"] == 2


@pytest.mark.parametrize("method", METHODS)
def test_a_method_runs_by_cost_as_it_says(method, monkeypatch):
    runs, per_cost = [], Constraints.per_cost
    monkeypatch.setattr(Constraints, "per_cost", lambda self: runs.append(method) or per_cost(self))
    features = with_all(features_of([{0, 1}, {0, 2}, {1, 2}, {0}]))
    for options in ({}, {"per_cost": True}) if method == "match" else ({},):
        runs.clear()
        selection = select_indices(features, "4 price", method, columns={"price": [2] * 4}, **options)
        assert bool(runs) == METHODS[method].runs_by_cost(selection.parameters["options"])
