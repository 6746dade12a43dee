"""The frontier: bounds of all rows, and the rows that are returned step by step, seen by eye."""

import numpy as np
import pytest
from helpers.pools import features_of

from hf_sae_select.selection import coverage, frontier
from hf_sae_select.selection.constraints import Constraints
from hf_sae_select.selection.coverage_kernels import begin_round, cover
from hf_sae_select.selection.frontier import Frontier

ROWS = [{0}, {0, 1, 2, 3}, {4, 5, 6}, {0, 1, 4}, set(), {7, 8}]


@pytest.fixture
def search():
    features = features_of(ROWS)
    csr = coverage.Csr(features.offsets[:-1], features.offsets[1:], features.ids, np.empty(0, np.float32))
    state = Constraints.none(len(ROWS)).state(np.array([3, 2, 1, 0, 4]))  # the order of ties; row 5 is not in it
    objective = coverage.count_objective(np.ones(features.d_sae), [1, 0])
    new = coverage.new_search(csr, objective, features.frequency.copy(), state, 3)
    begin_round(new)
    return new


def steps(some, search):
    """Return the rows of all steps, their scores, and the least score of each."""
    rows = []
    while len((ranking := some.step()).places):
        rows.append((search.constraints.order[ranking.places].tolist(), ranking.scores.tolist(), some.least))
    return rows


@pytest.mark.parametrize("sampled", [2**14, 2])
def test_a_step_returns_rows_that_score_at_least_the_least_score_the_largest_first(sampled, search, monkeypatch):
    monkeypatch.setattr(frontier, "FEWEST", 1)
    monkeypatch.setattr(frontier, "MOST_SAMPLED", sampled)
    some = Frontier(search, np.array([1, 4, 3, 3, 0, 2.0]))
    looked = steps(some, search)
    assert [row for rows, _, _ in looked for row in rows] == [1, 3, 2, 0]  # of rows 2 and 3, row 3 is first in order
    assert all(scores == sorted(scores, reverse=True) and scores[-1] >= least for _, scores, least in looked)
    assert (some.least, some.bound) == (0, 0)


def test_a_row_whose_score_fell_waits_for_a_later_step(search, monkeypatch):
    monkeypatch.setattr(frontier, "FEWEST", 1)
    some = Frontier(search, np.array([1, 4, 3, 3, 0, 2.0]))
    assert some.step().scores.tolist() == [4]
    assert 3 < some.bound < 4  # all others
    cover(search.csr, search.objective, 1)  # features 0 to 3: row 3 gains 1, row 0 nothing
    assert steps(some, search) == [([2], [3], 3), ([3], [1], 1)]


def test_a_row_may_be_given_back(search, monkeypatch):
    monkeypatch.setattr(frontier, "FEWEST", 1)
    some = Frontier(search, np.array([1, 4, 3, 3, 0, 2.0]))
    places = some.step().places
    cover(search.csr, search.objective, 3)  # features 0, 1 and 4
    some.give_back(places, np.array([2.0]))
    assert steps(some, search)[0] == ([2, 1], [2, 2], 2)


def test_a_round_begins_with_the_first_bounds(search):
    some = Frontier(search, np.array([1, 4, 3, 3, 0, 2.0]))
    first = steps(some, search)
    assert steps(some, search) == []
    some.begin_round(search.csr)
    assert steps(some, search) == first
