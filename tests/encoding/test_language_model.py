import pytest
import torch
from helpers import tiny
from transformers import PretrainedConfig

from hf_sae_select.encoding.language_model import LanguageModel, _is_causal

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


def test_special_tokens_are_struck_out_and_unknown_ones_are_text():
    lm = language_model("bert", "encoder.layer.0")
    (window,) = lm.windows(["the zebra [SEP] sat"])
    assert window.ids == [tiny.VOCABULARY[w] for w in ("[CLS]", "the", "[UNK]", "[SEP]", "sat", "[SEP]")]
    assert window.is_text == [False, True, True, False, True, False]
    assert window.unknown == 1 and states_of(lm, ["the zebra [SEP] sat"])[0].shape == (3, 16)


def test_blank_texts_and_texts_of_special_tokens_yield_nothing():
    assert states_of(language_model("bert", "encoder.layer.0"), ["", "  \n", "[SEP] [PAD]"]) == {}


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


RENDERED = ["{}", "[CLS] {}", "[CLS]{}", "{} [SEP]", "[CLS] {} [SEP]", "[CLS]{}[SEP]"]
LONG = "the cat sat on the mat and then it was red"


@pytest.mark.parametrize("text", ["the cat", LONG, "the cat [SEP] sat", ""])
@pytest.mark.parametrize("rendered", RENDERED)
@pytest.mark.parametrize("prepend_bos", [None, True, False])
@pytest.mark.parametrize("frame", ["[CLS] $A", "[CLS] $A [SEP]", "$A", "$A [SEP]"])
def test_a_rendered_text_has_the_windows_of_the_same_text_given_plain(frame, prepend_bos, rendered, text):
    tokenizer = tiny.tokenizer(frame=frame)
    tokenizer.bos_token, tokenizer.eos_token = "[CLS]", "[SEP]"
    lm = LanguageModel(tiny.model("bert"), tokenizer, "encoder.layer.0", window=6, prepend_bos=prepend_bos)
    plain = lm.windows([text])
    assert lm.windows([rendered.format(text)], special=False) == plain
    assert lm.windows([rendered.format(text)], special=False, max_length=3) == lm.windows([text], max_length=3)
    has_bos = frame.startswith("[CLS]") if prepend_bos is None else prepend_bos
    assert all((window.ids[0] == tiny.VOCABULARY["[CLS]"]) is has_bos for window in plain)
    assert all((window.ids[-1] == tiny.VOCABULARY["[SEP]"]) is frame.endswith("[SEP]") for window in plain)


def test_turn_markers_in_a_rendered_chat_are_tokens_and_no_text():
    tokenizer = tiny.tokenizer(frame="[CLS] $A")
    tokenizer.bos_token = "[CLS]"
    lm = LanguageModel(tiny.model("bert"), tokenizer, "encoder.layer.0")
    (window,) = lm.windows(["[CLS][SEP] the cat [SEP] sat"], special=False)
    assert window.ids == [tiny.VOCABULARY[w] for w in ("[CLS]", "[SEP]", "the", "cat", "[SEP]", "sat")]
    assert window.is_text == [False, False, True, True, False, True]


def test_a_token_that_is_unk_and_eos_ends_documents():
    tokenizer = tiny.tokenizer(frame="$A")  # as in GPT-2
    tokenizer.eos_token = tokenizer.bos_token = "[UNK]"
    (window,) = LanguageModel(tiny.model("bert"), tokenizer, "encoder.layer.0").windows(["the zebra"])
    assert (window.is_text, window.unknown) == ([True, False], 0)


def test_without_any_limit_a_window_has_4096_tokens(monkeypatch):
    monkeypatch.setattr(LanguageModel, "_check", lambda *_: None)  # the configs below do not fit the model
    model, tokenizer = tiny.model("llama"), tiny.tokenizer()
    tokenizer.model_max_length = int(1e30)
    assert LanguageModel(model, tokenizer, "layers.0").window == 16  # the model's
    for name in ("max_position_embeddings", "n_ctx", "max_sequence_length", "seq_length"):
        model.config = PretrainedConfig(**{name: 12})
        assert LanguageModel(model, tokenizer, "layers.0").window == 12
    model.config = PretrainedConfig(max_position_embeddings=-1)
    assert LanguageModel(model, tokenizer, "layers.0").window == 4096
    assert LanguageModel(model, tokenizer, "layers.0", window=9000).window == 9000


def test_roberta_counts_positions_from_the_one_after_its_padding():
    tokenizer = tiny.tokenizer()
    tokenizer.model_max_length = int(1e30)
    lm = LanguageModel(tiny.model("roberta"), tokenizer, "encoder.layer.1")
    assert lm.window == 20 - 2  # pad is 1
    assert states_of(lm, ["the cat sat on the mat " * 9])[0].shape == (54, 16)


def test_an_unknown_hook_lists_what_is_there():
    with pytest.raises(
        ValueError, match=r"no module `encoder.layer.7` in BertModel; choose one of: encoder.layer.0, encoder"
    ):
        language_model("bert", "encoder.layer.7")


def test_a_hook_without_a_vector_per_token_is_refused():
    with pytest.raises(ValueError, match=r"module `pooler` of BertModel has no vector per token; .* encoder.layer.0,"):
        language_model("bert", "pooler")


def test_a_window_without_room_for_text_is_refused():
    with pytest.raises(ValueError, match=r"a window of 2 tokens \(`context_size`\) leaves no room"):
        language_model("bert", "encoder.layer.0", window=2).windows(TEXTS)


def test_a_single_window_that_does_not_fit_in_memory_is_an_error_with_a_remedy(monkeypatch):
    lm = language_model("bert", "encoder.layer.0")

    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lm, "_run", fail)
    message = (
        r"a single window of {} tokens does not fit in the memory of `device='cpu'` in .*float32`: pass a smaller"
    )
    with pytest.raises(torch.OutOfMemoryError, match=message.format(8)):
        states_of(lm, TEXTS[:1])
    with pytest.raises(torch.OutOfMemoryError, match=message.format(16)):
        lm.check_room(99)


def test_an_encoder_decoder_that_runs_out_of_memory_is_no_model_whose_encoder_has_run(monkeypatch):
    lm = language_model("bert", "encoder.layer.0")
    lm.model.config.is_encoder_decoder = True

    def fail(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(lm.model, "forward", fail)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA"):
        lm.width  # noqa: B018


@pytest.mark.parametrize(("kind", "masks"), [("llama", False), ("gpt2", False), ("bert", True), ("roberta", True)])
def test_only_a_decoder_does_without_a_mask(kind, masks):
    path = {"llama": "layers.1", "gpt2": "h.1"}.get(kind, "encoder.layer.1")
    lm = language_model(kind, path)
    assert (not _is_causal(lm.model) or lm._padding_matters(masked=False)) is masks and lm._masks
    lm._masks = masks  # as on a GPU
    for row, states in states_of(lm, TEXTS).items():
        torch.testing.assert_close(states, states_of(language_model(kind, path), TEXTS)[row], atol=1e-5, rtol=1e-5)


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
        self.dtype = torch.float32
        for name, value in attributes.items():
            setattr(self, name, value)

    def forward(self, **inputs):
        return self.base_model(**inputs)

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
