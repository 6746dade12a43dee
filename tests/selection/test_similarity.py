"""Selection by similarity against brute force over all pairs of rows."""

import tracemalloc

import numpy as np
import pytest
from helpers.naive import naive_greedy
from helpers.pools import thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.selection import similarity, similarity_pairs, unit_vectors
from hf_sae_select.selection.constraints import Constraints

NOTHING = np.empty(0, np.int64)


class Bar:
    def __init__(self):
        self.n = 0

    def update(self, n=1):
        self.n += n


def constraint_state(n, order=None):
    return Constraints.none(n).state(np.arange(n) if order is None else np.array(order))


def run(method, quantized, budget, order=None, initial=NOTHING):
    bar, state = Bar(), constraint_state(len(quantized), order)
    indices, gains = method(quantized, state, budget, np.array(initial, np.int64), bar)
    assert bar.n == len(indices)
    return indices.tolist(), gains.tolist()


def random_vectors(seed, n=40, d=8, zeros=True):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, d)).astype(np.float32)
    vectors[rng.integers(0, n, n // 4)] = vectors[rng.integers(0, n, n // 4)]  # some are equal
    if zeros:
        vectors[rng.integers(0, n)] = 0
    return vectors


def facility_location_gain(quantized):
    """Return the gain function of facility location, for naive greedy; in whole numbers."""
    similarities = quantized.astype(np.int64) @ quantized.astype(np.int64).T

    def gain(current, i):
        nearest = np.maximum(similarities[current].max(axis=0, initial=0), 0)
        return int(np.maximum(similarities[i] - nearest, 0).sum())

    return gain


def kcenter_gain(quantized):
    """Return a row's squared distance from the nearest pick, for naive greedy; zeros are no center of other rows."""
    whole = quantized.astype(np.int64)
    largest = 4 * unit_vectors.quantized_length(quantized) ** 2
    zeros = ~whole.any(axis=1)
    distances = ((whole[:, None] - whole) ** 2).sum(axis=2)

    def gain(current, i):
        return min([largest, *(distances[i, k] for k in current if zeros[k] <= zeros[i])])

    return gain


@given(st.integers(0, 99), st.booleans())
@thoroughly
def test_quantized_vectors_are_whole_numbers_of_bounded_length_and_keep_their_direction(seed, center):
    vectors = random_vectors(seed)
    quantized = unit_vectors.quantize(vectors, center)
    assert (quantized == np.rint(quantized)).all() and quantized.dtype == np.float32
    assert (np.sqrt((quantized.astype(float) ** 2).sum(axis=1)) <= 4096).all()
    nonzero = vectors.any(axis=1)
    expected = vectors[nonzero].astype(float) - (vectors[nonzero].astype(float).mean(axis=0) if center else 0)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert quantized[nonzero] / unit_vectors.quantized_length(vectors) == pytest.approx(expected, abs=2e-4)
    assert not quantized[~nonzero].any()


def test_dot_products_are_exact_in_any_order_of_summation():
    quantized = unit_vectors.quantize(np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32), False)
    exact = quantized.astype(np.int64) @ quantized.astype(np.int64).T
    assert (quantized @ quantized.T == exact).all()
    assert (quantized[:, ::-1] @ quantized[:, ::-1].T == exact).all()


@pytest.mark.parametrize("pairs", [1, 2**26])  # stored late or never, and from the first pick on
@given(seed=st.integers(0, 99), zeros=st.booleans())
@thoroughly
def test_facility_location_equals_naive_greedy_over_all_pairs(pairs, seed, zeros):
    quantized = unit_vectors.quantize(random_vectors(seed, zeros=zeros), True)
    order = np.random.default_rng(seed).permutation(len(quantized)).tolist()
    initial = order[-2:] if seed % 2 else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "MAX_PAIRS", pairs)
        indices, gains = run(similarity.facility_location, quantized, 20, order, initial)
    gain = facility_location_gain(quantized)
    expected = naive_greedy(gain, order, 20, restart=False, initial=initial, initial_rounds=[0])
    assert indices == expected[0]
    assert gains == pytest.approx([g / unit_vectors.quantized_length(quantized) ** 2 for g in expected[1]])


@given(seed=st.integers(0, 99))
@thoroughly
def test_kcenter_equals_naive_farthest_first(seed):
    quantized = unit_vectors.quantize(random_vectors(seed), False)
    order = np.random.default_rng(seed).permutation(len(quantized)).tolist()
    indices, gains = run(similarity.kcenter, quantized, 20, order)
    expected = naive_greedy(kcenter_gain(quantized), order, 20, restart=False)
    assert indices == expected[0]
    assert gains == pytest.approx([g / 2 / unit_vectors.quantized_length(quantized) ** 2 for g in expected[1]])
    assert gains[0] == 2


def test_a_row_of_zeros_is_no_center():
    quantized = unit_vectors.quantize(np.array([[0, 0], [1, 0], [0, 1], [-1, 0], [0, 0]], np.float32), False)
    indices, gains = run(similarity.kcenter, quantized, 5, [1, 2, 3], [0, 4])
    assert indices == [0, 4, 1, 3, 2]
    assert gains == pytest.approx([2, 0, 2, 2, 1], rel=1e-3)


@pytest.mark.parametrize("batch", [4, 32])
@pytest.mark.parametrize(
    ("method", "gain"), [(similarity.facility_location, facility_location_gain), (similarity.kcenter, kcenter_gain)]
)
def test_lazy_greedy_equals_naive_greedy_with_many_equal_rows(method, gain, batch, monkeypatch):
    vectors = np.random.default_rng(3).normal(size=(260, 4)).astype(np.float32)
    order = np.random.default_rng(4).permutation(260).tolist()
    vectors[order[100:160]] = vectors[order[100]]
    quantized = unit_vectors.quantize(vectors, False)
    monkeypatch.setattr(similarity, "FIRST_BATCH", batch)
    monkeypatch.setattr(similarity, "MAX_PAIRS", 0)
    assert run(method, quantized, 30, order)[0] == naive_greedy(gain(quantized), order, 30, restart=False)[0]


@pytest.mark.parametrize("n", [30, 600])  # in one block, and in several
@pytest.mark.parametrize("limit", [-0.5, 0.3, 0.9])
def test_similarity_filter_equals_a_scan_over_all_pairs(n, limit):
    quantized = unit_vectors.quantize(random_vectors(1, n=n), False)
    cosines = (quantized.astype(np.int64) @ quantized.astype(np.int64).T) / unit_vectors.quantized_length(
        quantized
    ) ** 2
    order = np.random.default_rng(2).permutation(n)
    expected = []
    for i in order.tolist():
        if (cosines[i, [7, *expected]] <= limit).all() and len(expected) < 25:
            expected.append(i)
    assert similarity.similarity_filter(quantized, constraint_state(n), 25, [7], order, limit) == expected


def test_a_max_similarity_of_1_rejects_no_row():
    quantized = unit_vectors.quantize(np.ones((3, 384), np.float32), False)
    assert (quantized @ quantized.T > unit_vectors.quantized_length(quantized) ** 2).all()  # by rounding
    assert similarity.similarity_filter(quantized, constraint_state(3), 3, [0], np.arange(3), 1.0) == [0, 1, 2]
    assert similarity.similarity_filter(quantized, constraint_state(3), 3, [], np.arange(3), 0.99) == [0]


def test_quantizing_needs_little_more_memory_than_its_result():
    vectors = np.ones((20_000, 64), np.float32)
    tracemalloc.start()
    unit_vectors.quantize(vectors, True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.6 * vectors.nbytes


def test_the_number_of_pairs_is_estimated_well_when_every_other_row_is_zeros():
    quantized = unit_vectors.quantize(np.random.default_rng(0).normal(size=(2048, 8)).astype(np.float32), False)
    quantized[::2] = 0
    nearest = np.zeros(len(quantized), np.float32)
    estimate = similarity_pairs.estimate_pairs(quantized, nearest, similarity_pairs.sample_rows(len(quantized)))
    pairs = similarity_pairs.pairs_above(quantized, nearest)
    assert len(pairs.ids) == len(pairs.amounts) == np.count_nonzero(quantized @ quantized.T > 0)
    assert estimate == pytest.approx(len(pairs.ids), rel=0.2)


@pytest.mark.parametrize("method", [similarity.facility_location, similarity.kcenter])
def test_a_dataset_of_no_row_or_one(method):
    assert run(method, np.zeros((0, 3), np.float32), 0) == ([], [])
    indices, _ = run(method, unit_vectors.quantize(np.ones((1, 3), np.float32), False), 1)
    assert indices == [0]


def test_a_row_adds_nothing_to_an_equal_row():
    quantized = unit_vectors.quantize(np.ones((5, 384), np.float32) * 0.3, False)
    assert run(similarity.facility_location, quantized, 5)[0] == run(similarity.kcenter, quantized, 5)[0] == [0]


@pytest.mark.parametrize("method", [similarity.facility_location, similarity.kcenter])
def test_more_equal_scores_than_one_batch_holds(method):
    quantized = unit_vectors.quantize(
        np.eye(100, dtype=np.float32), False
    )  # every row is equally far from every other
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "MAX_PAIRS", 0)
        patch.setattr(similarity, "pairs_above", None)  # never called: until the end there are too many pairs
        assert run(method, quantized, 50)[0] == list(range(50))
