import datasets
import numpy as np
import pytest
from datasets import Dataset, Value
from pools import RECORD, coded

from hf_sae_select.features import Features, column_types, encoding_record, is_encoded

ROWS = [{0: 0.9, 2: 0.1, 5: 0.4}, {}, {2: 0.6, 7: 0.3}, {1: 0.2}]


def as_rows(features):
    """Undo the CSR form: one dict from feature to activation per row."""
    ends = zip(features.offsets[:-1], features.offsets[1:], strict=True)
    acts = [np.round(features.acts[start:end].astype(float), 6).tolist() for start, end in ends]
    return [dict(zip(features.row(i).tolist(), acts[i], strict=True)) for i in range(len(features))]


def test_features_of_a_dataset_are_its_code_columns():
    features = Features.from_dataset(coded(ROWS))
    assert features.offsets.tolist() == [0, 3, 3, 5, 6]
    assert features.ids.tolist() == [0, 2, 5, 2, 7, 1]
    assert features.counts.tolist() == [3, 0, 2, 1]
    assert features.tokens.tolist() == [4, 1, 3, 2]
    assert features.row(2).tolist() == [2, 7]
    assert (len(features), features.d_sae) == (4, 16)
    assert (features.offsets.dtype, features.ids.dtype, features.acts.dtype) == (np.int64, np.uint16, np.float32)
    assert as_rows(features) == ROWS


def test_ids_are_as_narrow_as_the_sae_allows():
    assert Features.from_dataset(coded(ROWS, record={**RECORD, "d_sae": 2**16})).ids.dtype == np.uint16
    assert Features.from_dataset(coded(ROWS, record={**RECORD, "d_sae": 2**16 + 1})).ids.dtype == np.uint32


def test_one_chunk_is_viewed_and_not_copied():
    ds = coded(ROWS)
    assert np.shares_memory(Features.from_dataset(ds).acts, Features.from_dataset(ds).acts)


def test_rows_come_in_the_order_of_select_shuffle_and_filter():
    ds = coded(ROWS)
    assert as_rows(Features.from_dataset(ds.select([3, 0]))) == [ROWS[3], ROWS[0]]
    assert Features.from_dataset(ds.select([3, 0])).tokens.tolist() == [2, 4]
    assert as_rows(Features.from_dataset(ds.filter(lambda row: row["text"] != "row 0"))) == ROWS[1:]


def test_a_slice_and_several_chunks_are_read_like_one():
    ds = coded(ROWS)
    assert as_rows(Features.from_dataset(ds.select(range(1, 3)))) == ROWS[1:3]
    both = datasets.concatenate_datasets([ds.select(range(2, 4)), ds])
    assert as_rows(Features.from_dataset(both)) == ROWS[2:] + ROWS
    assert as_rows(Features.from_dataset(both.select([3, 0]))) == [ROWS[1], ROWS[2]]


def test_a_dataset_without_rows_has_no_features():
    ds = coded(ROWS)
    for empty in (ds.select([]), ds.filter(lambda row: False)):
        assert as_rows(Features.from_dataset(empty)) == []
        assert len(Features.from_dataset(empty).above(0.5).top(1)) == 0


def test_the_format_a_user_has_set_does_not_matter():
    ds = coded(ROWS)
    for view in (ds.with_format("numpy"), ds.with_format("numpy", columns=["text"]), ds.with_format("arrow")):
        assert as_rows(Features.from_dataset(view)) == ROWS
        assert as_rows(Features.from_dataset(view.select([2, 0]))) == [ROWS[2], ROWS[0]]


def test_above_keeps_activations_strictly_above_the_threshold():
    features = Features.from_dataset(coded([{0: 0.25, 1: 0.5}, {}, {2: 0.75}]))
    assert as_rows(features.above(0.25)) == [{1: 0.5}, {}, {2: 0.75}]
    assert as_rows(features.above(0.75)) == [{}, {}, {}]
    assert features.above(0.75).tokens.tolist() == [3, 1, 2]
    assert features.above(0) is features


def test_top_keeps_the_strongest_and_of_equals_the_lower_id():
    features = Features.from_dataset(coded([{3: 0.5, 4: 0.9, 6: 0.5}, {}, {1: 0.1}]))
    assert as_rows(features.top(1)) == [{4: 0.9}, {}, {1: 0.1}]
    assert as_rows(features.top(2)) == [{3: 0.5, 4: 0.9}, {}, {1: 0.1}]
    assert as_rows(features.top(3)) == as_rows(features)


def test_the_record_survives_map_filter_select_and_parquet(tmp_path):
    ds = coded(ROWS)
    ds.to_parquet(tmp_path / "codes.parquet")
    read = Dataset.from_parquet(str(tmp_path / "codes.parquet"), cache_dir=str(tmp_path))
    mapped = ds.map(lambda row: {"length": len(row["text"])})
    for other in (
        read,
        mapped,
        ds.filter(lambda row: True),
        ds.select([2, 1]),
        ds.shuffle(seed=0),
        ds.rename_column("text", "t"),
    ):
        assert is_encoded(other)
        assert encoding_record(other) == RECORD
    assert as_rows(Features.from_dataset(read)) == as_rows(Features.from_dataset(mapped)) == ROWS


def test_codes_of_two_saes_cannot_be_concatenated():
    with pytest.raises(ValueError, match="features can't be aligned"):
        datasets.concatenate_datasets([coded(ROWS), coded(ROWS, record={**RECORD, "sae_sha256": "def"})])


def test_columns_without_a_record_are_no_codes():
    plain = coded(ROWS).cast_column("sae_ids", datasets.List(Value("uint16")))
    assert not is_encoded(plain)
    with pytest.raises(ValueError, match="no feature columns `sae_ids`, `sae_acts`, `sae_tokens`"):
        Features.from_dataset(plain)


def test_a_dataset_that_was_not_encoded_is_refused_with_what_to_do():
    with pytest.raises(ValueError, match=r"run `ds.sae_encode\(\)` first \(found: text\)"):
        Features.from_dataset(Dataset.from_dict({"text": ["a"]}))


def test_rows_without_codes_are_refused():
    columns = {"sae_ids": [[1], None], "sae_acts": [[1.0], None], "sae_tokens": [1, 1]}
    with pytest.raises(ValueError, match="1 rows have no SAE codes"):
        Features.from_dataset(Dataset.from_dict(columns, features=column_types(RECORD)))
