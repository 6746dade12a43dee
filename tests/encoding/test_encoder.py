from dataclasses import replace

import datasets
import numpy as np
import pytest
import torch
from datasets import Dataset, List, Value
from helpers import tiny
from helpers.encoded import CODES, TEXTS, codes

from hf_sae_select import FeatureMatrix, SaeConfig, SparseAutoencoder, encode
from hf_sae_select.encoding.encoder import _mostly_unknown
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.pretrained import look_up
from hf_sae_select.features.columns import encoding_record


def hidden_states(bert, text):
    """The hidden states [tokens, 16] of a text that fits one window."""
    lm = LanguageModel.from_pretrained(str(bert), "encoder.layer.1")
    ids = lm.tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return lm.model(input_ids=ids, output_hidden_states=True).hidden_states[2][0, 1:-1]


def by_formula(bert, sae, text):
    """The features of a text that fits one window, from the plain equations."""
    pooled = sae.encode(hidden_states(bert, text)).amax(dim=0)
    return {i: act for i, act in enumerate(pooled.tolist()) if act > 0}


def test_features_are_the_maximum_over_the_tokens(ds, sae, bert):
    coded = encode(ds, sae, keep="all")
    assert coded.column_names == [*ds.column_names, *CODES]
    assert coded["text"][:] == TEXTS and coded["sae_tokens"][:] == [6, 0, 2, 0, 13, 0]
    for row in (0, 2, 4):
        expected = by_formula(bert, sae, TEXTS[row])
        assert codes(coded)[row] == pytest.approx(expected, abs=1e-4) and len(expected) > 5


def test_the_mean_state_is_kept_when_asked_for(ds, sae, bert):
    coded = encode(ds, sae, keep="state")
    assert coded.column_names == ["text", "id", *CODES, "sae_state"]
    assert coded.features["sae_state"] == List(Value("float32"), length=16)
    for row in (0, 2, 4):
        mean = hidden_states(bert, TEXTS[row]).mean(dim=0).tolist()
        assert coded["sae_state"][row] == pytest.approx(mean, abs=1e-4)
    for row in (1, 3, 5):
        assert coded["sae_state"][row] == [0.0] * 16


def test_the_strongest_features_and_all_above_a_threshold_are_stored_in_half_precision(ds, sae):
    every, coded = codes(encode(ds, sae, keep="all")), encode(ds, sae, keep=2)
    assert coded.features["sae_acts"] == List(Value("float16"))
    assert encoding_record(coded)["keep"] == {"strongest": 2, "above": 0.3, "type": "float16"}
    for row, stored in zip(every, codes(coded), strict=True):
        strongest = sorted(row, key=lambda i: (-row[i], i))[:2]
        assert stored.keys() == {*strongest, *(i for i in row if row[i] > 0.3)}
        assert stored == pytest.approx({i: row[i] for i in stored}, rel=2**-10)
    assert any(len(row) > len(stored) for row, stored in zip(every, codes(coded), strict=True))


def test_full_precision_of_the_strongest_features_can_be_asked_for(ds, sae):
    every, coded = codes(encode(ds, sae, keep="all")), encode(ds, sae, keep=(2, "float32"))
    assert coded.features["sae_acts"] == List(Value("float32"))
    stored = codes(coded)
    assert stored == [{i: row[i] for i in own} for row, own in zip(every, stored, strict=True)]


@pytest.mark.parametrize("keep", ["state", ("state",), {"state"}])
def test_what_is_kept_changes_neither_codes_nor_record(ds, sae, keep):
    plain, coded = encode(ds, sae), encode(ds, sae, keep=keep)
    assert coded.column_names == [*plain.column_names, "sae_state"]
    assert codes(coded) == codes(plain) and encoding_record(coded) == encoding_record(plain)


def test_features_read_what_was_kept(ds, sae):
    coded = encode(ds, sae, keep="state").select([4, 1, 0])
    features = FeatureMatrix.from_dataset(coded, vectors="sae_state")
    assert features.vectors.tolist() == coded["sae_state"][:] and features.vectors.shape == (3, 16)


def test_blank_rows_have_no_features(ds, sae):
    assert [codes(encode(ds, sae))[row] for row in (1, 3, 5)] == [{}, {}, {}]


def test_a_dataset_of_blank_rows_encodes(sae):
    with pytest.warns(UserWarning, match="2 of 2 rows are blank"):
        coded = encode(Dataset.from_dict({"text": ["", None]}), sae, keep="state")
    assert coded["sae_ids"][:] == coded["sae_acts"][:] == [[], []]
    assert coded["sae_state"][:] == [[0.0] * 16] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_row_whose_activations_are_not_finite_is_named(ds, sae, monkeypatch, dtype):
    load = LanguageModel.load_model

    def broken(*arguments, **options):
        model = load(*arguments, **options)
        model.embeddings.word_embeddings.weight.data[tiny.VOCABULARY["moon"]] = torch.inf
        return model

    monkeypatch.setattr(LanguageModel, "load_model", broken)
    ds = Dataset.from_dict({"text": ["the cat", "", "a dog ran", "the moon and it", "a moon"]})
    remedy = "dtype='float16'; pass dtype='float32' or dtype='bfloat16'" if dtype == torch.float16 else "leave the row"
    with pytest.raises(
        ValueError, match=rf"row 3 of `dataset` has .* NaN or infinite: at `encoder.layer.1` .*{remedy}"
    ):
        encode(ds, sae, dtype=dtype)


def test_neither_a_budget_of_tokens_nor_memory_changes_a_bit(sae, monkeypatch):
    words = tiny.WORDS
    texts = [
        " ".join(words[(i + j * (1 + i // len(words))) % len(words)] for j in range(1 + i % 13)) for i in range(300)
    ]
    ds = Dataset.from_dict({"text": texts})
    plain = codes(encode(ds, sae))
    run, sizes = LanguageModel._run, []

    def of_little_memory(self, ids, mask):
        sizes.append(ids.numel())
        if ids.numel() > 256 + 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, ids, mask)

    monkeypatch.setattr(LanguageModel, "_run", of_little_memory)
    datasets.disable_caching()
    for arguments in ({"batch_size": 500}, {"tokens_per_batch": 999}):
        assert codes(encode(ds, sae, **arguments)) == plain
        assert 1 <= sum(size > 256 + 16 for size in sizes) <= 5  # halvings: no batch is tried in vain again
        sizes.clear()


def test_activations_that_do_not_fit_in_memory_are_computed_by_halves(sae, monkeypatch):
    ds = Dataset.from_dict({"text": [" ".join(tiny.WORDS[: 1 + i % 11]) for i in range(40)]})
    plain = codes(encode(ds, sae, keep="state", batch_size=8))
    exact, sizes = SparseAutoencoder.encode_max, []

    def of_little_memory(self, x, lengths, product=None):
        sizes.append(len(lengths))
        if len(lengths) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return exact(self, x, lengths, product)

    monkeypatch.setattr(SparseAutoencoder, "encode_max", of_little_memory)
    datasets.disable_caching()
    assert codes(encode(ds, sae, keep="state", batch_size=8)) == plain
    assert [size for size in sizes if size > 3] == [5]  # later passes are smaller from the beginning


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_neither_order_nor_batch_size_changes_a_bit(sae, batch_size):
    texts = [" ".join((tiny.WORDS * 2)[i : i + 1 + i % 13 + i // 15 * 14]) for i in range(20)]  # the last in windows
    forth = encode(Dataset.from_dict({"text": texts}), sae, keep="state")
    datasets.disable_caching()
    ds = Dataset.from_dict({"text": [*texts[::-1], "the cat"]})
    back = encode(ds, sae, batch_size=batch_size, keep="state")
    for column in ("sae_ids", "sae_acts", "sae_state"):
        assert back[column][-2::-1] == forth[column][:]


def test_a_long_row_is_the_maximum_over_its_windows(sae):
    words = (tiny.WORDS * 2)[:40]  # windows of 16 tokens hold 14 words
    parts = [" ".join(words[start : start + 14]) for start in (0, 14, 28)]
    whole, *pieces = codes(encode(Dataset.from_dict({"text": [" ".join(words), *parts]}), sae))
    merged = {}
    for piece in pieces:
        for i, act in piece.items():
            merged[i] = max(act, merged.get(i, 0))
    assert whole == merged


def test_the_mean_state_of_a_long_row_is_over_all_its_tokens(sae):
    words = (tiny.WORDS * 2)[:40]
    parts = [" ".join(words[start : start + 14]) for start in (0, 14, 28)]
    coded = encode(Dataset.from_dict({"text": [" ".join(words), *parts]}), sae, keep="state")
    tokens, *lengths = coded["sae_tokens"][:]
    assert (tokens, lengths) == (40, [14, 14, 12])
    state, *states = np.array(coded["sae_state"][:])
    assert state == pytest.approx(np.average(states, axis=0, weights=lengths), abs=1e-6)


def test_max_length_reads_the_first_tokens_and_is_recorded(sae):
    ds = Dataset.from_dict({"text": ["the cat sat on the mat"], "short": ["the cat"]})
    cut = encode(ds, sae, text="text", max_length=2)
    assert codes(cut) == codes(encode(ds, sae, text="short")) and cut["sae_tokens"][:] == [2]
    assert encoding_record(cut)["max_length"] == 2


def test_the_record_says_how_the_codes_were_made(ds, sae, bert):
    record = encoding_record(encode(ds, sae))
    assert record.pop("keep") == {"strongest": 256, "above": 0.3, "type": "float16"}
    assert record == encoding_record(encode(ds, sae, keep="all"))
    assert record == {
        "version": 2,
        "sae_sha256": sae.digest(),
        "d_sae": 32,
        "threshold": 0.5,
        "model": str(bert),
        "model_revision": look_up(str(bert), None)[1],
        "hook": "encoder.layer.1",
        "dtype": ["float32", "float32"],
        "window": None,
        "max_length": None,
        "text": {"columns": ["text"], "chat": False},
        "chat_template_sha256": None,
    }


def test_a_wide_sae_takes_32_bit_ids(bert):
    wide = SparseAutoencoder(SaeConfig(16, 2**16 + 1, "relu", model=str(bert), hook="encoder.layer.1"))
    wide.requires_grad_(False).b_enc[-1] = 1.0
    coded = encode(Dataset.from_dict({"text": ["the cat"]}), wide)
    assert coded["sae_ids"][:] == [[2**16]] and FeatureMatrix.from_dataset(coded).ids.dtype == np.uint32


def test_a_chat_template_is_used_without_adding_special_tokens_again(sae, bert, tmp_path):
    folder = tiny.save("bert", tmp_path)
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "[CLS] {% for turn in messages %}{{ turn.content }} [SEP]{% endfor %}"
    tokenizer.save_pretrained(folder)
    sae.config = replace(sae.config, model=str(folder))
    ds = Dataset.from_dict({"messages": [[{"role": "user", "content": "the cat"}]], "plain": ["the cat"]})
    chat = encode(ds, sae)
    assert codes(chat) == codes(encode(ds, sae, text="plain"))
    assert encoding_record(chat)["chat_template_sha256"]


BOS, EOS = "{{ bos_token }}", "{{ eos_token }}"
WORDS = "{% for turn in messages %} {{ turn.content }}{% endfor %}"
LONG = "the cat sat on the mat and then it was red blue green big small a dog ran"


@pytest.mark.parametrize("text", ["the cat", LONG])
@pytest.mark.parametrize("template", [BOS + WORDS, WORDS, BOS + WORDS + " " + EOS])
@pytest.mark.parametrize("frame", ["[CLS] $A", "[CLS] $A [SEP]", "$A"])
@pytest.mark.parametrize("prepend_bos", [None, True, False])
def test_a_rendered_chat_has_the_codes_of_the_same_text(sae, tmp_path, prepend_bos, frame, template, text):
    folder = tiny.save("bert", tmp_path)
    tokenizer = tiny.tokenizer(frame=frame)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.chat_template = "[CLS]", "[SEP]", template
    tokenizer.save_pretrained(folder)
    sae.config = replace(sae.config, model=str(folder), context_size=8, prepend_bos=prepend_bos)
    ds = Dataset.from_dict({"messages": [[{"role": "user", "content": text}]], "plain": [text]})
    chat, plain = encode(ds, sae), encode(ds, sae, text="plain")
    assert codes(chat) == codes(plain) and chat["sae_tokens"][:] == plain["sae_tokens"][:] == [len(text.split())]


UNKNOWN = ["the cat sat", "猫 狗 鳥", "the 猫 狗", "the 猫", "", "zebra " * 40]


def test_rows_that_the_tokenizer_does_not_know_are_text_and_are_counted(sae):
    with pytest.warns(UserWarning, match=r"3 of 6 rows: the tokenizer of .* knows less than half of") as caught:
        coded = encode(Dataset.from_dict({"text": UNKNOWN}), sae)
    assert len(caught) == 1 and coded["sae_tokens"][:] == [3, 3, 3, 2, 0, 40]
    assert coded["sae_flags"][:] == [0, 4, 4, 0, 0, 4]
    assert all(coded["sae_ids"][row] for row in (1, 2, 5))


@pytest.mark.parametrize("rows", [1, 2, 6])
def test_whether_a_row_is_mostly_unknown_depends_on_it_alone(sae, rows):
    lm = LanguageModel.of(replace(sae.config, context_size=4))
    batches = [UNKNOWN[start : start + rows] for start in range(0, 6, rows)]
    unknown = [flag for batch in batches for flag in _mostly_unknown(lm.windows(batch), rows).tolist()]
    assert unknown == [False, True, True, False, False, True]


def test_a_wrong_hook_is_found_before_the_weights_are_loaded(ds, sae, monkeypatch):
    monkeypatch.delattr(LanguageModel, "load_model")
    for hook, message in {
        "encoder.layer.9": "no module `encoder.layer.9` in BertModel; choose one of: encoder.layer.0",
        "blocks.9.hook_resid_post": "no layer 9 in BertModel; it has 3, from 0 to 2",
        "blocks.1.hook_nonsense": "no place `hook_nonsense` in the layers of BertModel; choose one of: hook_resid_pre",
    }.items():
        sae.config = replace(sae.config, hook=hook)
        with pytest.raises(ValueError, match=message):
            encode(ds, sae)


def test_an_sae_of_another_width_is_refused_before_the_model_loads(ds, bert, loads):
    narrow = SparseAutoencoder(SaeConfig(8, 32, "relu", model=str(bert), hook="encoder.layer.1"))
    with pytest.raises(ValueError, match=r"this SAE reads vectors of d_in=8, but .* has width 16"):
        encode(ds, narrow)
    assert not loads
