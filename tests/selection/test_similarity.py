"""Choosing by similarity, against brute force over every pair of rows."""

import tracemalloc

import numpy as np
import pytest
from helpers.naive import naive_greedy
from helpers.pools import thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.selection import similarity as vectors
from hf_sae_select.selection.constraints import Constraints

NOTHING = np.empty(0, np.int64)


class Bar:
    def __init__(self):
        self.n = 0

    def update(self, n=1):
        self.n += n


def limits(n, order=None):
    return Constraints.none(n).limits(np.arange(n) if order is None else np.array(order))


def run(engine, unit, budget, order=None, first=NOTHING):
    bar = Bar()
    indices, gains = engine(unit, limits(len(unit), order), budget, np.array(first, np.int64), bar)
    assert bar.n == len(indices)
    return indices.tolist(), gains.tolist()


def random_vectors(seed, n=40, d=8):
    rng = np.random.default_rng(seed)
    found = rng.normal(size=(n, d)).astype(np.float32)
    found[rng.integers(0, n, n // 4)] = found[rng.integers(0, n, n // 4)]  # some are equal
    found[rng.integers(0, n)] = 0
    return found


def nearer(unit):
    """Return, as naive greedy wants it, by how much a row is nearer to the rows than the picks; in whole numbers."""
    similar = unit.astype(np.int64) @ unit.astype(np.int64).T

    def gain(current, i):
        nearest = np.maximum(similar[current].max(axis=0, initial=0), 0)
        return int(np.maximum(similar[i] - nearest, 0).sum())

    return gain


def farther(unit):
    """Return, as naive greedy wants it, a row's squared distance from the picks: those of one kind, zeros or not."""
    whole = unit.astype(np.int64)
    most = 4 * vectors.length_of(unit) ** 2
    blank = ~whole.any(axis=1)
    squares = ((whole[:, None] - whole) ** 2).sum(axis=2)

    def gain(current, i):
        return min([most, *(squares[i, k] for k in current if blank[k] <= blank[i])])

    return gain


@given(st.integers(0, 99), st.booleans())
@thoroughly
def test_rounded_vectors_are_whole_short_enough_and_point_the_same_way(seed, center):
    given = random_vectors(seed)
    unit = vectors.rounded(given, center)
    assert (unit == np.rint(unit)).all() and unit.dtype == np.float32
    assert (np.sqrt((unit.astype(float) ** 2).sum(axis=1)) <= 4096).all()
    there = given.any(axis=1)
    wanted = given[there].astype(float) - (given[there].astype(float).mean(axis=0) if center else 0)
    wanted /= np.linalg.norm(wanted, axis=1, keepdims=True)
    assert unit[there] / vectors.length_of(given) == pytest.approx(wanted, abs=2e-4)
    assert not unit[~there].any()


def test_products_are_exact_in_any_order_of_summation():
    unit = vectors.rounded(np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32), False)
    exact = unit.astype(np.int64) @ unit.astype(np.int64).T
    assert (unit @ unit.T == exact).all()
    assert (unit[:, ::-1] @ unit[:, ::-1].T == exact).all()


@pytest.mark.parametrize("pairs", [1, 2**26])  # kept from the first pick on, or never until the last
@given(seed=st.integers(0, 99))
@thoroughly
def test_facility_location_equals_naive_greedy_over_all_pairs(pairs, seed):
    unit = vectors.rounded(random_vectors(seed), True)
    order = np.random.default_rng(seed).permutation(len(unit)).tolist()
    first = order[-2:] if seed % 2 else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "PAIRS", pairs)
        found = run(vectors.facility_location, unit, 20, order, first)
    expected = naive_greedy(nearer(unit), order, 20, restart=False, first=first, begun=[0])
    assert found[0] == expected[0]
    assert found[1] == pytest.approx([g / vectors.length_of(unit) ** 2 for g in expected[1]])


@given(seed=st.integers(0, 99))
@thoroughly
def test_kcenter_equals_naive_farthest_first(seed):
    unit = vectors.rounded(random_vectors(seed), False)
    order = np.random.default_rng(seed).permutation(len(unit)).tolist()
    indices, gains = run(vectors.kcenter, unit, 20, order)
    expected = naive_greedy(farther(unit), order, 20, restart=False)
    assert indices == expected[0]
    assert gains == pytest.approx([g / 2 / vectors.length_of(unit) ** 2 for g in expected[1]])
    assert gains[0] == 2


def test_a_row_of_zeros_is_no_centre():
    unit = vectors.rounded(np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, 0]], np.float32), False)
    indices, gains = run(vectors.kcenter, unit, 5, [1, 2, 3], [0, 4])
    assert indices == [0, 4, 1, 3, 2]
    assert gains == pytest.approx([2, 0, 2, 2, 1], rel=1e-3)


@pytest.mark.parametrize("batch", [4, 32])
@pytest.mark.parametrize(("engine", "gain"), [(vectors.facility_location, nearer), (vectors.kcenter, farther)])
def test_many_equal_rows_among_others(engine, gain, batch, monkeypatch):
    given = np.random.default_rng(3).normal(size=(260, 4)).astype(np.float32)
    order = np.random.default_rng(4).permutation(260).tolist()
    given[order[100:160]] = given[order[100]]
    unit = vectors.rounded(given, False)
    monkeypatch.setattr(vectors, "BATCH", batch)
    monkeypatch.setattr(vectors, "PAIRS", 0)
    assert run(engine, unit, 30, order)[0] == naive_greedy(gain(unit), order, 30, restart=False)[0]


@pytest.mark.parametrize("n", [30, 600])  # in one block, and in several
@pytest.mark.parametrize("limit", [-0.5, 0.3, 0.9])
def test_leaving_near_rows_out_equals_a_scan_over_all_pairs(n, limit):
    unit = vectors.rounded(random_vectors(1, n=n), False)
    similar = (unit.astype(np.int64) @ unit.astype(np.int64).T) / vectors.length_of(unit) ** 2
    order = np.random.default_rng(2).permutation(n)
    expected = []
    for i in order.tolist():
        if (similar[i, [7, *expected]] <= limit).all() and len(expected) < 25:
            expected.append(i)
    found = vectors.leave_near_out(unit, limits(n), 25, [7], order, limit)
    assert found == expected


def test_at_a_limit_of_1_no_row_is_refused():
    unit = vectors.rounded(np.ones((3, 384), np.float32), False)
    assert (unit @ unit.T > vectors.length_of(unit) ** 2).all()  # by rounding
    assert vectors.leave_near_out(unit, limits(3), 3, [0], np.arange(3), 1.0) == [0, 1, 2]
    assert vectors.leave_near_out(unit, limits(3), 3, [], np.arange(3), 0.99) == [0]


def test_rounding_needs_little_more_memory_than_its_result():
    given = np.ones((20_000, 64), np.float32)
    tracemalloc.start()
    vectors.rounded(given, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * given.nbytes


def test_pairs_are_estimated_well_where_every_other_row_is_blank():
    unit = vectors.rounded(np.random.default_rng(0).normal(size=(2048, 8)).astype(np.float32), False)
    unit[::2] = 0
    nearest = np.zeros(len(unit), np.float32)
    estimate = vectors._pairs_left(unit, nearest, vectors._sample(len(unit)))
    pairs = vectors._pairs(unit, nearest)
    assert len(pairs.ids) == len(pairs.amounts) == np.count_nonzero(unit @ unit.T > 0)
    assert estimate == pytest.approx(len(pairs.ids), rel=0.2)


@pytest.mark.parametrize("engine", [vectors.facility_location, vectors.kcenter])
def test_a_pool_of_no_rows_or_one(engine):
    assert run(engine, np.zeros((0, 3), np.float32), 0) == ([], [])
    indices, _ = run(engine, vectors.rounded(np.ones((1, 3), np.float32), False), 1)
    assert indices == [0]


def test_equal_rows_add_nothing_to_one_another():
    unit = vectors.rounded(np.ones((5, 384), np.float32) * 0.3, False)
    assert run(vectors.facility_location, unit, 5)[0] == run(vectors.kcenter, unit, 5)[0] == [0]


@pytest.mark.parametrize("engine", [vectors.facility_location, vectors.kcenter])
def test_more_equal_scores_than_are_looked_at_together(engine):
    unit = vectors.rounded(np.eye(100, dtype=np.float32), False)  # every row is as far from every other
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vectors, "PAIRS", 0)
        patch.setattr(vectors, "_pairs", None)  # not called: there are too many to the end
        assert run(engine, unit, 50)[0] == list(range(50))
