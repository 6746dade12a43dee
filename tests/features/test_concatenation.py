from dataclasses import replace

import datasets
import pytest
from datasets import Dataset, concatenate_datasets

from hf_sae_select import FeatureMatrix, concatenate, encode, select
from hf_sae_select.features.columns import digested_columns, encoding_record

TURNS = [[{"role": "user", "content": "the red moon"}], [{"role": "user", "content": "a log"}]]


@pytest.fixture
def texts(sae):
    return encode(Dataset.from_dict({"text": ["the cat", "a dog", "it was red"], "id": [0, 1, 2]}), sae)


@pytest.fixture
def chats(sae):
    return encode(Dataset.from_dict({"messages": TURNS, "id": [3, 4]}), sae)


def codes(dataset):
    return dataset.with_format(None).select_columns(["sae_ids", "sae_acts", "sae_tokens", "sae_digest"])[:]


@pytest.mark.parametrize("arrange", [lambda ds: ds, lambda ds: ds.select([len(ds) - 1, 0])])
def test_codes_of_other_columns_follow_each_other(texts, chats, arrange):
    first, second = arrange(texts), arrange(chats)
    both = concatenate([first, second])
    assert both["id"][:] == first["id"][:] + second["id"][:]
    assert both["text"][:] == first["text"][:] + [None] * len(second)
    assert codes(both) == {name: cells + codes(second)[name] for name, cells in codes(first).items()}
    assert len(FeatureMatrix.from_dataset(both)) == len(both) and len(select(both, 2)) == 2
    record = encoding_record(both)
    assert [reading["text"] for reading in record["texts"]] == [
        {"columns": ["text"], "chat": False},
        {"columns": ["messages"], "chat": True},
    ]
    assert {name: record[name] for name in ("sae_sha256", "model", "hook")} == {
        name: encoding_record(texts)[name] for name in ("sae_sha256", "model", "hook")
    }
    assert not digested_columns(both)
    assert encoding_record(concatenate([both, texts]))["texts"] == record["texts"]


def test_datasets_that_were_read_alike_keep_their_record(texts, sae):
    other = encode(Dataset.from_dict({"text": ["a log"], "score": [0.5]}), sae)
    both = concatenate([texts, other])
    assert encoding_record(both) == encoding_record(texts) and both["sae_tokens"][:] == [2, 2, 3, 2]
    assert digested_columns(both) == digested_columns(texts)
    assert codes(concatenate_datasets([texts, other])) == codes(both)  # then datasets' own does it too
    with pytest.raises(ValueError, match=r"1 of 4 rows were changed"):
        select(both.map(lambda row: {"text": "new"} if row["score"] else {}), 1)


def test_the_place_of_the_sae_may_differ(texts, sae):
    sae.config = replace(sae.config, source={"repo": "alice/sae", "revision": "0" * 40, "path": "x"})
    other = encode(Dataset.from_dict({"text": ["a log"]}), sae)
    assert "sae" not in encoding_record(concatenate([texts, other]))
    assert encoding_record(concatenate([other, other])) == encoding_record(other)


def test_mean_states_stay_where_all_have_them(sae, texts):
    kept = encode(texts, sae, keep="state")
    assert "sae_state" in concatenate([kept, kept]).column_names
    with pytest.warns(UserWarning, match="not all datasets have sae_state; the result lacks it"):
        assert "sae_state" not in concatenate([kept, texts]).column_names


def test_the_concatenation_is_deterministic(texts, chats):
    assert concatenate([texts, chats])._fingerprint == concatenate([texts, chats])._fingerprint


def test_codes_that_are_not_comparable_are_refused_by_name(texts, sae):
    sae.config = replace(sae.config, hook="encoder.layer.0")
    other = encode(Dataset.from_dict({"text": ["a log"]}), sae, max_length=3)
    message = r"`dsets\[0\]` and `dsets\[1\]` are not comparable: `hook` is 'encoder.layer.1' and 'encoder.layer.0'; "
    with pytest.raises(ValueError, match=message + r"`max_length` is None and 3; encode both in the same way"):
        concatenate([texts, other])


@pytest.mark.parametrize(
    ("wrong", "kind", "message"),
    [
        (lambda ds: ds, TypeError, r"`dsets` is a Dataset; pass a list"),
        (lambda ds: [], TypeError, r"`dsets` is a list; pass a list of encoded datasets"),
        (lambda ds: [ds, ds.remove_columns("sae_ids")], ValueError, r"`dsets\[1\]` is not encoded: call its"),
        (lambda ds: [ds, 5], TypeError, r"`dsets\[1\]` is a int"),
        (lambda ds: [datasets.DatasetDict(a=ds)], TypeError, r"`dsets\[0\]` is a DatasetDict; pick a split"),
    ],
)
def test_what_is_no_list_of_encoded_datasets_is_refused(texts, wrong, kind, message):
    with pytest.raises(kind, match=message):
        concatenate(wrong(texts))
