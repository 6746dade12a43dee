import math

import pytest
from pools import features_of

from hf_sae_select.metrics import coverage, length_correlation


def test_coverage_counts_distinct_features():
    features = features_of([{0, 1}, {1, 2}, {5}, set()])
    assert coverage(features) == 4
    assert coverage(features, [0, 1]) == 3
    assert coverage(features, [3]) == 0
    assert coverage(features, []) == 0


def test_length_correlation_is_1_when_features_grow_with_tokens():
    assert length_correlation(features_of([{0}, {0, 1}, {0, 1, 2}], tokens=[10, 20, 30])) == pytest.approx(1)


def test_length_correlation_is_minus_1_when_features_shrink_with_tokens():
    assert length_correlation(features_of([{0}, {0, 1}, {0, 1, 2}], tokens=[30, 20, 10])) == pytest.approx(-1)


def test_length_correlation_leaves_blank_rows_out():
    # read rows alone fall on a line; the blank one would bend it
    assert length_correlation(features_of([set(), {0, 1, 2}, {0}], tokens=[0, 4, 8])) == pytest.approx(-1)


@pytest.mark.parametrize("rows, tokens", [([], []), ([{0}], [3]), ([{0}, {1}], [3, 4]), ([{0}, {0, 1}], [3, 3])])
def test_length_correlation_is_nan_where_there_is_nothing_to_correlate(rows, tokens):
    assert math.isnan(length_correlation(features_of(rows, tokens=tokens)))
