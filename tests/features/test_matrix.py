from dataclasses import replace
from functools import partial

import datasets
import numpy as np
import pytest
from datasets import Array2D, Dataset, LargeList, List, Value
from helpers.pools import RECORD, coded, features_of, thoroughly
from hypothesis import given
from hypothesis import strategies as st

from hf_sae_select.features.columns import column_types
from hf_sae_select.features.matrix import FeatureMatrix

ROWS = [{0: 0.9, 2: 0.1, 5: 0.4}, {}, {2: 0.6, 7: 0.3}, {1: 0.2}]
VECTORS = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [-7.0, 0.5]]
FLOATS = List(Value("float32"))


def with_state():
    """`coded(ROWS)` with mean hidden states."""
    return coded(ROWS).add_column("sae_state", VECTORS, feature=List(Value("float32"), length=2))


def vectors(rows, feature=FLOATS):
    """A dataset that is not encoded, with the vectors `rows`."""
    return Dataset.from_dict({"vector": rows}, features=datasets.Features({"vector": feature}))


def as_rows(features):
    """Undo the CSR form: one dict from feature to activation per row."""
    ends = zip(features.offsets[:-1], features.offsets[1:], strict=True)
    acts = [np.round(features.acts[start:end].astype(float), 6).tolist() for start, end in ends]
    return [dict(zip(features.row(i).tolist(), acts[i], strict=True)) for i in range(len(features))]


def test_features_of_a_dataset_are_its_code_columns():
    features = FeatureMatrix.from_dataset(coded(ROWS))
    assert features.offsets.tolist() == [0, 3, 3, 5, 6]
    assert features.ids.tolist() == [0, 2, 5, 2, 7, 1]
    assert features.counts.tolist() == [3, 0, 2, 1]
    assert features.tokens.tolist() == [4, 1, 3, 2]
    assert features.row(2).tolist() == [2, 7]
    assert (len(features), features.d_sae) == (4, 16)
    assert (features.offsets.dtype, features.ids.dtype, features.acts.dtype) == (np.int64, np.uint16, np.float32)
    assert as_rows(features) == ROWS


def test_ids_are_as_narrow_as_the_sae_allows():
    assert FeatureMatrix.from_dataset(coded(ROWS, record={**RECORD, "d_sae": 2**16})).ids.dtype == np.uint16
    assert FeatureMatrix.from_dataset(coded(ROWS, record={**RECORD, "d_sae": 2**16 + 1})).ids.dtype == np.uint32


def test_one_chunk_is_viewed_and_not_copied():
    ds = coded(ROWS)
    assert np.shares_memory(FeatureMatrix.from_dataset(ds).acts, FeatureMatrix.from_dataset(ds).acts)


def test_rows_come_in_the_order_of_select_shuffle_and_filter():
    ds = coded(ROWS)
    assert as_rows(FeatureMatrix.from_dataset(ds.select([3, 0]))) == [ROWS[3], ROWS[0]]
    assert FeatureMatrix.from_dataset(ds.select([3, 0])).tokens.tolist() == [2, 4]
    assert as_rows(FeatureMatrix.from_dataset(ds.filter(lambda row: row["text"] != "row 0"))) == ROWS[1:]


def test_a_slice_and_several_chunks_are_read_like_one():
    ds = coded(ROWS)
    assert as_rows(FeatureMatrix.from_dataset(ds.select(range(1, 3)))) == ROWS[1:3]
    both = datasets.concatenate_datasets([ds.select(range(2, 4)), ds])
    assert as_rows(FeatureMatrix.from_dataset(both)) == ROWS[2:] + ROWS
    assert as_rows(FeatureMatrix.from_dataset(both.select([3, 0]))) == [ROWS[1], ROWS[2]]


def test_a_dataset_without_rows_has_no_features():
    ds = coded(ROWS)
    for empty in (ds.select([]), ds.filter(lambda row: False)):
        assert as_rows(FeatureMatrix.from_dataset(empty)) == []
        assert len(FeatureMatrix.from_dataset(empty).above(0.5).top(1)) == 0


def test_the_format_a_user_has_set_does_not_matter():
    ds = coded(ROWS)
    for view in (ds.with_format("numpy"), ds.with_format("numpy", columns=["text"]), ds.with_format("arrow")):
        assert as_rows(FeatureMatrix.from_dataset(view)) == ROWS
        assert as_rows(FeatureMatrix.from_dataset(view.select([2, 0]))) == [ROWS[2], ROWS[0]]


def test_above_keeps_activations_strictly_above_the_threshold():
    features = FeatureMatrix.from_dataset(coded([{0: 0.25, 1: 0.5}, {}, {2: 0.75}]))
    assert as_rows(features.above(0.25)) == [{1: 0.5}, {}, {2: 0.75}]
    assert as_rows(features.above(0.75)) == [{}, {}, {}]
    assert features.above(0.75).tokens.tolist() == [3, 1, 2]
    assert features.above(0) is features


def test_top_keeps_the_strongest_and_of_equals_the_lower_id():
    features = FeatureMatrix.from_dataset(coded([{3: 0.5, 4: 0.9, 6: 0.5}, {}, {1: 0.1}]))
    assert as_rows(features.top(1)) == [{4: 0.9}, {}, {1: 0.1}]
    assert as_rows(features.top(2)) == [{3: 0.5, 4: 0.9}, {}, {1: 0.1}]
    assert as_rows(features.top(3)) == as_rows(features)


@thoroughly
@given(st.lists(st.dictionaries(st.integers(0, 15), st.sampled_from([0.25, 0.5, 0.75, 1.0]))), st.integers(1, 5))
def test_top_is_what_sorting_every_row_gives(rows, m):
    features = features_of(rows)
    acts = np.array([row[i] for row in rows for i in sorted(row)], np.float32)
    top = replace(features, acts=acts).top(m)
    assert as_rows(top) == [dict(sorted(row.items(), key=lambda pair: (-pair[1], pair[0]))[:m]) for row in rows]
    assert all((np.diff(top.row(i).astype(int)) > 0).all() for i in range(len(rows)))


def test_frequency_counts_the_rows_that_have_each_feature():
    features = features_of([{0, 1}, {0, 2}, {0}, {}], d_sae=4)
    assert features.frequency.tolist() == [3, 1, 1, 0] and features.frequency.dtype == np.int64
    assert features.frequency is features.frequency


def test_rare_drops_the_features_of_more_than_that_share_of_the_rows():
    features = features_of([{0, 1}, {0, 2}, {0}, {1}])
    assert [set(features.rare(0.5).row(i).tolist()) for i in range(4)] == [{1}, {2}, set(), {1}]
    assert features.rare(0.49).counts.tolist() == [0, 1, 0, 0]
    assert features.rare(0.75) is features
    assert features.rare(0.5).frequency.tolist()[:3] == [0, 2, 1]
    assert len(features_of([]).rare(0.5)) == 0


def test_a_share_is_compared_as_it_is_written():
    features = features_of([{0}] * 29 + [set()] * 71)
    assert features.rare(0.29) is features  # 0.29 * 100 is below 29


def test_vectors_are_read_in_the_order_of_the_rows():
    assert FeatureMatrix.from_dataset(with_state(), vectors="sae_state").vectors.tolist() == VECTORS
    shuffled = FeatureMatrix.from_dataset(with_state().select([3, 1, 0]), vectors="sae_state")
    assert shuffled.vectors.tolist() == [VECTORS[3], VECTORS[1], VECTORS[0]]
    assert FeatureMatrix.from_dataset(with_state()).vectors is None


@pytest.mark.parametrize(
    "cut",
    [
        lambda features: features.above(0.35),
        lambda features: features.top(1),
        lambda features: features.rare(0.25),
    ],
    ids=["above", "top", "rare"],
)
def test_cuts_pass_vectors_on(cut):
    features = cut(FeatureMatrix.from_dataset(with_state(), vectors="sae_state"))
    assert features.vectors.tolist() == VECTORS and len(features.ids) == len(features.acts) < 6


@pytest.mark.parametrize("kind", [List, LargeList, partial(List, length=2)], ids=["list", "large", "fixed"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_vectors_may_be_lists_of_any_floats(kind, dtype):
    ds = vectors(VECTORS, kind(Value(dtype)))
    for view, rows in (
        (ds, VECTORS),
        (ds.with_format("numpy"), VECTORS),
        (ds.select([3, 0]), [VECTORS[3], VECTORS[0]]),
        (ds.select(range(1, 3)), VECTORS[1:3]),
        (datasets.concatenate_datasets([ds.select(range(2, 4)), ds]), VECTORS[2:] + VECTORS),
        (ds.shuffle(seed=0), ds.shuffle(seed=0)["vector"][:]),
    ):
        matrix = FeatureMatrix.from_vectors(view, "vector").vectors
        assert matrix.tolist() == rows
        assert matrix.dtype == np.float32 and matrix.flags.c_contiguous


def test_one_chunk_of_vectors_is_viewed_and_not_copied():
    ds = vectors(VECTORS)
    views = [FeatureMatrix.from_vectors(ds, "vector").vectors for _ in range(2)]
    assert np.shares_memory(*views)


def test_features_of_vectors_alone_have_rows_of_one_token_without_features():
    features = FeatureMatrix.from_vectors(vectors(VECTORS), "vector")
    assert (len(features), features.d_sae) == (4, 1)
    assert features.counts.tolist() == [0, 0, 0, 0] and features.tokens.tolist() == [1, 1, 1, 1]
    assert (features.offsets.dtype, features.ids.dtype, features.acts.dtype, features.tokens.dtype) == (
        np.int64,
        np.uint16,
        np.float32,
        np.int32,
    )
    assert features.above(0.5).top(1).rare(0.5).vectors.tolist() == VECTORS


def test_a_dataset_without_rows_has_no_vectors():
    ds = vectors(VECTORS)
    assert FeatureMatrix.from_vectors(ds.filter(lambda row: False), "vector").vectors.size == 0
    assert FeatureMatrix.from_vectors(ds.select([]), "vector").vectors.shape[0] == 0


@pytest.mark.parametrize(
    ("rows", "feature", "message"),
    [
        ([[1.0], [2.0, 3.0]], FLOATS, "column `vector` holds lists of 1 to 2 numbers; give all one length"),
        ([[], []], FLOATS, "column `vector` holds lists of 0 to 0 numbers"),
        ([[1.0], None], FLOATS, "column `vector` holds nulls"),
        ([[1.0, None], [2.0, 3.0]], FLOATS, "column `vector` holds nulls"),
        ([[1.0, 2.0], None], List(Value("float32"), length=2), "column `vector` holds nulls"),
        ([[1.0], [np.nan]], FLOATS, r"column `vector` holds NaN or infinity \(as float32\)"),
        ([[1.0], [-np.inf]], FLOATS, "column `vector` holds NaN or infinity"),
        ([[1.0], [1e39]], List(Value("float64")), "column `vector` holds NaN or infinity"),
        ([[1], [2]], List(Value("int64")), "column `vector` holds list<.*int64>; vectors are lists of floats"),
        ([1.0, 2.0], Value("float32"), "column `vector` holds float; vectors are lists of floats"),
        (["a", "b"], Value("string"), "column `vector` holds string"),
        ([[[1.0]], [[2.0]]], List(FLOATS), "column `vector` holds list<"),
        ([[[1.0]], [[2.0]]], Array2D((1, 1), "float32"), "column `vector` holds extension<"),
    ],
)
def test_what_is_no_vector_is_refused(rows, feature, message):
    with pytest.raises(ValueError, match=message):
        FeatureMatrix.from_vectors(vectors(rows, feature), "vector")


def test_a_missing_column_of_vectors_is_named_beside_those_there_are():
    with pytest.raises(ValueError, match="no column `v` of vectors in this dataset; it has: vector"):
        FeatureMatrix.from_vectors(vectors(VECTORS), "v")
    with pytest.raises(ValueError, match=r"no column `v` of .* sae_ids, sae_acts, sae_tokens, text"):
        FeatureMatrix.from_dataset(coded(ROWS), vectors="v")


def test_a_dataset_that_was_not_encoded_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"run `ds.sae_encode\(\)` first \(its columns: text\)"):
        FeatureMatrix.from_dataset(Dataset.from_dict({"text": ["a"]}))


def test_rows_without_codes_are_refused():
    columns = {"sae_ids": [[1], None], "sae_acts": [[1.0], None], "sae_tokens": [1, 1]}
    with pytest.raises(ValueError, match="1 rows have no SAE codes"):
        FeatureMatrix.from_dataset(Dataset.from_dict(columns, features=column_types(RECORD)))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 9.0])
@pytest.mark.parametrize("order", [slice(None), [4, 0, 3, 1], []])
def test_reading_by_blocks_above_a_threshold_gives_the_same(monkeypatch, threshold, order):
    ds = coded([{1: 0.4, 3: 0.9}, {}, {0: 0.6}, {2: 0.5, 5: 0.7, 7: 0.1}, {1: 2.0}])
    ds = ds.add_column("sae_state", [[float(i), 1.0] for i in range(5)], feature=List(Value("float32"), length=2))
    ds = ds if isinstance(order, slice) else ds.select(order)
    monkeypatch.setattr("hf_sae_select.features.codes.BLOCK_ENTRIES", 4)
    features = FeatureMatrix.from_dataset(ds, threshold=threshold, vectors="sae_state")
    expected = FeatureMatrix.from_dataset(ds, vectors="sae_state").above(threshold)
    assert features.d_sae == expected.d_sae and features.offsets.dtype == np.int64
    for name in ("offsets", "ids", "acts", "tokens", "vectors"):
        assert getattr(features, name).tolist() == getattr(expected, name).tolist()


def test_rows_are_taken_in_any_order_with_tokens_and_vectors():
    features = FeatureMatrix.from_dataset(with_state(), vectors="sae_state")
    assert features.frequency.tolist()[:3] == [1, 1, 2]  # counted before
    taken = features.take(np.array([2, 1, 0, 2]))
    assert as_rows(taken) == [ROWS[2], {}, ROWS[0], ROWS[2]]
    assert taken.tokens.tolist() == features.tokens[[2, 1, 0, 2]].tolist()
    assert taken.vectors.tolist() == [VECTORS[2], VECTORS[1], VECTORS[0], VECTORS[2]]
    assert taken.frequency.tolist()[:3] == [1, 0, 3]
    assert as_rows(features.take(np.empty(0, np.int64))) == []
