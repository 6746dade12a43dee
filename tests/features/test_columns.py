import datasets
import pytest
from datasets import Dataset, List, Value, concatenate_datasets
from helpers.pools import RECORD, coded

from hf_sae_select.features.columns import (
    code_columns,
    column_types,
    encoding_record,
    feature_counts,
    is_code_column,
    is_encoded,
    read_columns,
    state_width,
    with_record,
    without_codes,
)
from hf_sae_select.features.matrix import FeatureMatrix

ROWS = [{0: 0.9, 2: 0.1, 5: 0.4}, {}, {2: 0.6, 7: 0.3}, {1: 0.2}]
STATE = List(Value("float32"), length=2)


def with_state():
    """`coded(ROWS)` with mean hidden states."""
    return coded(ROWS).add_column("sae_state", [[1.0, 2.0]] * 4, feature=STATE)


def test_code_columns_are_those_that_encoding_made():
    assert code_columns(with_state()) == ["sae_ids", "sae_acts", "sae_tokens", "sae_state"]
    assert code_columns(coded(ROWS)) == ["sae_ids", "sae_acts", "sae_tokens"]
    assert code_columns(Dataset.from_dict({"sae_state": [1]})) == []
    assert without_codes(with_state()).column_names == ["text"]


def test_column_types_have_the_state_at_its_width():
    assert list(column_types(RECORD)) == ["sae_ids", "sae_acts", "sae_tokens"]
    assert column_types(RECORD, 2)["sae_state"] == STATE
    assert (state_width(with_state()), state_width(coded(ROWS))) == (2, None)


@pytest.mark.parametrize(
    "nested",
    [lambda ids: ids, lambda ids: {"a": ids}, lambda ids: List(ids), lambda ids: List({"a": Value("int8"), "b": ids})],
)
def test_the_type_of_a_column_tells_whether_it_holds_codes(nested):
    assert is_code_column(nested(column_types(RECORD)["sae_ids"]))
    assert not is_code_column(nested(List(Value("uint16"))))
    assert not is_code_column(nested(List(Value("uint16", id="[1]"))))
    assert not is_code_column(nested(List(Value("uint16", id="no JSON"))))


def test_another_record_is_written_without_touching_the_numbers():
    codes = with_state().remove_columns("text")
    renamed = with_record(codes, {**RECORD, "sae": {"repo": "alice/sae"}})
    assert encoding_record(renamed) == {**RECORD, "sae": {"repo": "alice/sae"}}
    assert renamed[:] == codes[:] and renamed._fingerprint == codes._fingerprint
    assert renamed.features["sae_state"] == STATE


def test_a_record_that_is_no_object_is_refused():
    ids = List(Value("uint16", id="[1]"))
    with pytest.raises(ValueError, match="`sae_ids` carries no encoding record"):
        encoding_record(coded(ROWS).cast_column("sae_ids", ids))
    assert encoding_record(Dataset.from_dict({"text": ["a"]})) == {}


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
    for other in (read, mapped):
        assert FeatureMatrix.from_dataset(other).ids.tolist() == [0, 2, 5, 2, 7, 1]


def test_codes_of_two_saes_cannot_be_concatenated():
    with pytest.raises(ValueError, match="features can't be aligned"):
        datasets.concatenate_datasets([coded(ROWS), coded(ROWS, record={**RECORD, "sae_sha256": "def"})])


def test_columns_without_a_record_are_no_codes():
    plain = coded(ROWS).cast_column("sae_ids", List(Value("uint16")))
    assert not is_encoded(plain)
    with pytest.raises(ValueError, match="no feature columns `sae_ids`, `sae_acts`, `sae_tokens`"):
        FeatureMatrix.from_dataset(plain)


@pytest.mark.parametrize("order", [[2, 0, 3, 1], [3, 3, 0], [1], []])
def test_rows_that_were_chosen_or_shuffled_are_gathered_from_all_chunks(monkeypatch, order):
    monkeypatch.setattr("hf_sae_select._arrow.GATHERED_ROWS", 2)
    ds = concatenate_datasets([with_state().select([0, 1]), with_state().select([2]), with_state().select([3])])
    columns = ["sae_ids", "sae_acts", "sae_tokens", "sae_state"]
    table, chosen = read_columns(ds, columns), read_columns(ds.select(order), columns)
    assert chosen.schema == table.schema
    assert chosen.to_pylist() == [table.to_pylist()[row] for row in order]
    assert feature_counts(ds.select(order)).tolist() == [[3, 0, 2, 1][row] for row in order]
