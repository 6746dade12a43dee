import pytest
import torch
from helpers import tiny

from hf_sae_select.encoding.language_model import LanguageModel

TEXTS = ["the cat sat on the mat", "a dog ran", "the big red bird flew over the moon and then it was small"]


def language_model(kind, hook, **options):
    return LanguageModel(tiny.model(kind), tiny.tokenizer(), hook, **options)


def states_of(lm, texts, **options):
    """Row -> its states, whatever the order they came in."""
    windows = lm.windows(texts)
    found = {}
    for group, states in lm.states(windows, **options):
        for window, part in zip(group, states.split([sum(w.is_text) for w in group]), strict=True):
            found.setdefault(window.row, []).append(part)
    return {row: torch.cat(parts) for row, parts in found.items()}


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", tiny.MODELS)
def test_the_stopped_forward_equals_hidden_states(kind, layer):
    _, _, path, norm = tiny.MODELS[kind]
    lm = language_model(kind, path.format(layer))
    ids = lm.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    with torch.no_grad():
        expected = lm.model(input_ids=ids, output_hidden_states=True).hidden_states[layer + 1][0, 1:-1]
        found = states_of(lm, TEXTS[:1])[0]
        if layer == 2 and norm:  # the last of hidden_states has been through the final norm; the hook's has not
            found = getattr(lm.model, norm)(found)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_layers_after_the_hook_do_not_run():
    lm = language_model("bert", "encoder.layer.1")
    ran = []
    for i, layer in enumerate(lm.model.encoder.layer):
        layer.register_forward_pre_hook(lambda *_, i=i: ran.append(i))
    states_of(lm, TEXTS[:1])
    assert ran == [0, 1]


@pytest.mark.parametrize("kind", tiny.MODELS)
def test_a_row_alone_equals_the_row_in_a_padded_batch(kind):
    lm = language_model(kind, tiny.MODELS[kind][2].format(1))
    together = states_of(lm, TEXTS)
    for row, text in enumerate(TEXTS):
        assert torch.equal(states_of(lm, [text])[0], together[row])


@pytest.mark.parametrize("kind", tiny.MODELS)
def test_padding_changes_nothing(kind):
    lm = language_model(kind, tiny.MODELS[kind][2].format(1))
    ids = lm.tokenizer(TEXTS[0], return_tensors="pt")["input_ids"]
    bare = lm._run(ids, torch.ones_like(ids))[0, 1:-1]
    torch.testing.assert_close(states_of(lm, TEXTS)[0], bare, atol=1e-5, rtol=1e-5)


def test_special_and_unknown_tokens_are_struck_out():
    lm = language_model("bert", "encoder.layer.0")
    (window,) = lm.windows(["the zebra [SEP] sat"])
    assert window.ids == [tiny.VOCABULARY[w] for w in ("[CLS]", "the", "[UNK]", "[SEP]", "sat", "[SEP]")]
    assert window.is_text == [False, True, False, False, True, False]
    assert states_of(lm, ["the zebra [SEP] sat"])[0].shape == (2, 16)


def test_blank_texts_and_texts_of_special_tokens_yield_nothing():
    assert states_of(language_model("bert", "encoder.layer.0"), ["", "  \n", "zebra"]) == {}


def test_a_long_text_is_read_in_windows_and_none_of_it_is_lost():
    lm = language_model("bert", "encoder.layer.0", window=6)  # four words and the two special tokens
    windows = lm.windows(["the cat sat on the mat and then it was", "a dog"])
    assert [(w.row, sum(w.is_text)) for w in windows] == [(0, 4), (0, 4), (0, 2), (1, 2)]


def test_max_length_keeps_the_first_tokens():
    lm = language_model("bert", "encoder.layer.0", window=6)
    assert [sum(w.is_text) for w in lm.windows(["the cat sat on the mat and then it was"], max_length=5)] == [4, 1]


def test_the_window_is_the_least_of_what_is_asked_and_what_the_model_reads():
    assert language_model("bert", "encoder.layer.0").window == 16
    assert language_model("bert", "encoder.layer.0", window=99).window == 16
    assert language_model("bert", "encoder.layer.0", window=8).window == 8


def test_an_unknown_hook_lists_what_is_there():
    with pytest.raises(
        ValueError, match=r"no module `encoder.layer.7` in BertModel; choose one of: encoder.layer.0, encoder"
    ):
        language_model("bert", "encoder.layer.7")


def test_a_hook_without_a_vector_per_token_is_refused():
    lm = language_model("bert", "pooler")
    with pytest.raises(ValueError, match=r"module `pooler` has no vector per token"):
        states_of(lm, TEXTS[:1])


def test_a_window_without_room_for_text_is_refused():
    with pytest.raises(ValueError, match=r"a window of 2 tokens \(`context_size`\) leaves no room"):
        language_model("bert", "encoder.layer.0", window=2).windows(TEXTS)


def test_outliers_are_left_out_window_by_window():
    lm = language_model("bert", "encoder.layer.0")
    lm.max_norm_ratio = 2.0
    window = lm.windows(["the cat sat"])[0]
    states = torch.tensor([[1.0, 0.0], [0.0, 1.5], [9.0, 0.0]])
    (kept,), left = lm._without_outliers([window], states)
    assert left.tolist() == [[1.0, 0.0], [0.0, 1.5]]
    assert kept.is_text == [False, True, True, False, False]


def test_the_first_token_can_be_left_out_and_bos_be_put_or_taken():
    assert language_model("bert", "encoder.layer.0", prepend_bos=False).windows(["the cat"])[0].ids == [4, 6, 3]
    bare = LanguageModel(tiny.model("bert"), tiny.tokenizer(frame="$A"), "encoder.layer.0", prepend_bos=True)
    assert bare.windows(["the cat"])[0].ids == [4, 6]  # it has neither BOS nor EOS
    bare.tokenizer.eos_token = "[SEP]"
    put = LanguageModel(bare.model, bare.tokenizer, "encoder.layer.0", prepend_bos=True, skip_first=True)
    assert put.windows(["the cat"])[0].is_text == [False, True, True]
    skips = LanguageModel(bare.model, bare.tokenizer, "encoder.layer.0", skip_first=True)
    assert skips.windows(["the cat"])[0].is_text == [False, True]


class Placed(torch.nn.Module):
    """A model that transformers has placed: moving it is an error."""

    def __init__(self, model, **attributes):
        super().__init__()
        self.model = self.base_model = model
        self.config, self.device = model.config, torch.device("cpu")
        for name, value in attributes.items():
            setattr(self, name, value)

    def to(self, *arguments):
        raise ValueError("`.to` is not supported")


@pytest.mark.parametrize("attributes", [{"hf_device_map": {"": "cpu"}}, {"hf_quantizer": "any"}])
def test_a_placed_or_quantised_model_is_not_moved(attributes):
    model = Placed(tiny.model("bert"), **attributes)
    lm = LanguageModel(model, tiny.tokenizer(), "encoder.layer.0", device="meta")
    assert lm.device == torch.device("cpu")
    with pytest.raises(ValueError, match="not supported"):
        LanguageModel(Placed(tiny.model("bert")), tiny.tokenizer(), "encoder.layer.0")


def test_a_quantised_model_is_loaded_onto_the_device(bert, monkeypatch):
    arguments = []
    monkeypatch.setattr(LanguageModel, "load_model", lambda *a, **k: arguments.append(k) or tiny.model("bert"))
    for model_kwargs in ({"quantization_config": {"any": 1}}, {"quantization_config": {}, "device_map": "auto"}, {}):
        LanguageModel.from_pretrained(str(bert), "encoder.layer.0", device="cpu", model_kwargs=model_kwargs)
    assert [each.get("device_map") for each in arguments] == [{"": "cpu"}, "auto", None]
