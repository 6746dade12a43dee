import math
from itertools import combinations

import numpy as np
import pytest
from helpers.pools import features_of, pools, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.features import metrics
from hf_sae_select.features.metrics import coverage, frequency, length_correlation, overlap, redundancy, richness

ROWS = [{0, 1}, {1, 2}, {5}, set()]


def union(rows):
    return set().union(*rows)


def jaccard(a, b):
    return len(a & b) / len(a | b) if a | b else 1.0


def mean(numbers):
    return pytest.approx(sum(numbers) / len(numbers) if numbers else math.nan, nan_ok=True)


def test_frequency_counts_the_rows_that_have_each_feature():
    assert frequency(features_of(ROWS, d_sae=6)).tolist() == [1, 2, 1, 0, 0, 1]
    assert frequency(features_of(ROWS, d_sae=6), [2, 1, 2]).tolist() == [0, 1, 1, 0, 0, 2]


def test_frequency_is_the_caller_s_own():
    features = features_of(ROWS)
    frequency(features)[:] = 0
    assert coverage(features) == 4


def test_coverage_counts_distinct_features():
    features = features_of(ROWS)
    assert coverage(features) == 4
    assert coverage(features, [0, 1]) == 3
    assert coverage(features, [3]) == 0
    assert coverage(features, []) == 0


def test_richness_is_the_mean_number_of_features():
    features = features_of(ROWS)
    assert richness(features) == 5 / 4
    assert richness(features, [0, 2]) == 3 / 2
    assert richness(features, [3]) == 0
    assert math.isnan(richness(features, []))


def test_redundancy_is_the_mean_similarity_of_two_rows():
    features = features_of(ROWS)
    assert redundancy(features, [0, 1, 2]) == pytest.approx(1 / 9)  # 1/3, 0, 0
    assert redundancy(features, [0, 2]) == 0
    assert redundancy(features, [1, 1]) == 1


def test_blank_rows_are_like_each_other_and_like_no_other():
    features = features_of([set(), set(), {0}])
    assert redundancy(features, [0, 1]) == 1
    assert redundancy(features) == pytest.approx(1 / 3)


def test_redundancy_of_fewer_than_two_rows_is_nan():
    assert math.isnan(redundancy(features_of([])))
    assert math.isnan(redundancy(features_of(ROWS), [0]))


def test_redundancy_of_many_rows_is_that_of_a_seeded_sample():
    features = features_of([{0, i % 8 + 1} for i in range(200)])  # alike by 1/3, an eighth of them by 1
    exact = redundancy(features, pairs=19_900)
    assert exact == pytest.approx((1 / 3 * 175 + 24) / 199)
    sampled = redundancy(features, pairs=2000)
    assert sampled != exact and sampled == pytest.approx(exact, abs=0.02)
    assert sampled == redundancy(features, pairs=2000) != redundancy(features, pairs=2000, seed=1)


def test_a_sampled_pair_is_never_a_row_with_itself():
    assert redundancy(features_of([{0}, {1}, {2}]), pairs=2) == 0


def test_overlap_compares_what_two_subsets_cover():
    features = features_of(ROWS)
    assert overlap(features, [0], [1, 2]) == 1 / 4  # {0, 1} and {1, 2, 5}
    assert overlap(features, [0, 1], [1, 0]) == 1
    assert overlap(features, [0], [3]) == 0
    assert overlap(features, [3], []) == 1


@given(rows=pools, data=st.data(), block=st.sampled_from([1, 2, 2**12]), dtype=st.sampled_from([np.uint16, np.uint32]))
@thoroughly
def test_metrics_are_what_sets_say(rows, data, block, dtype):
    subsets = st.lists(st.integers(0, len(rows) - 1), max_size=9) if rows else st.just([])
    first, second = data.draw(subsets), data.draw(subsets)
    features, chosen = features_of(rows, dtype=dtype), [rows[i] for i in first]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "BLOCK_ROWS", block)
        assert frequency(features).tolist() == [sum(i in row for row in rows) for i in range(16)]
        assert frequency(features, first).tolist() == [sum(i in row for row in chosen) for i in range(16)]
        assert coverage(features, first) == len(union(chosen))
        assert richness(features, first) == mean([len(row) for row in chosen])
        assert redundancy(features, first) == mean([jaccard(a, b) for a, b in combinations(chosen, 2)])
        assert overlap(features, first, second) == jaccard(union(chosen), union(rows[i] for i in second))


def test_rows_may_come_as_any_integers():
    features = features_of(ROWS)
    for indices in ([0, 1], (0, 1), range(2), iter([0, 1]), np.array([0, 1], np.uint8)):
        assert coverage(features, indices) == 3


@pytest.mark.parametrize("indices", [[4], [-1], [0, 99]])
def test_rows_that_are_not_there_are_refused(indices):
    with pytest.raises(ValueError, match=r"`indices` names rows .* but there are 4; pass numbers >= 0 and below 4"):
        coverage(features_of(ROWS), indices)


@pytest.mark.parametrize("indices", [[True, False, True, True], [0.0], [[0, 1]]])
def test_what_is_no_row_number_is_refused(indices):
    with pytest.raises(TypeError, match=r"`indices` holds .*; pass row numbers .*np.flatnonzero"):
        richness(features_of(ROWS), indices)


def test_overlap_names_the_subset_that_is_wrong():
    with pytest.raises(ValueError, match="`second` names rows 9 to 9"):
        overlap(features_of(ROWS), [0], [9])


@pytest.mark.parametrize("options", [{"pairs": 0}, {"pairs": 1.5}, {"pairs": True}, {"seed": -1}, {"seed": None}])
def test_redundancy_refuses_other_than_whole_numbers(options):
    with pytest.raises(ValueError, match=rf"`{next(iter(options))}=.*` must be a (positive|non-negative) integer"):
        redundancy(features_of(ROWS), **options)


def test_length_correlation_is_1_when_features_grow_with_tokens():
    assert length_correlation(features_of([{0}, {0, 1}, {0, 1, 2}], tokens=[10, 20, 30])) == pytest.approx(1)


def test_length_correlation_is_minus_1_when_features_shrink_with_tokens():
    assert length_correlation(features_of([{0}, {0, 1}, {0, 1, 2}], tokens=[30, 20, 10])) == pytest.approx(-1)


def test_length_correlation_leaves_blank_rows_out():
    # read rows alone fall on a line; the blank one would bend it
    assert length_correlation(features_of([set(), {0, 1, 2}, {0}], tokens=[0, 4, 8])) == pytest.approx(-1)


def test_length_correlation_is_of_the_rows_asked_for():
    features = features_of([{0}, {0, 1}, {0, 1, 2}], tokens=[1, 2, 1])
    assert length_correlation(features, [0, 1]) == pytest.approx(1)
    assert length_correlation(features, [1, 2]) == pytest.approx(-1)


@pytest.mark.parametrize("rows, tokens", [([], []), ([{0}], [3]), ([{0}, {1}], [3, 4]), ([{0}, {0, 1}], [3, 3])])
def test_length_correlation_is_nan_where_there_is_nothing_to_correlate(rows, tokens):
    assert math.isnan(length_correlation(features_of(rows, tokens=tokens)))
