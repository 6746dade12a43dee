from dataclasses import replace

import pytest
import torch
from datasets import Dataset
from helpers import tiny
from helpers.training import identity
from torch import tensor
from transformers import BertLMHeadModel, GPT2LMHeadModel

from hf_sae_select import (
    Quality,
    SaeConfig,
    SparseAutoencoder,
    check_l0,
    evaluate_sae,
    evaluate_sae_on_activations,
)
from hf_sae_select.training.evaluation import calibrate_feature_threshold


def axis():
    """One latent that reads and writes the first axis."""
    sae = SparseAutoencoder(SaeConfig(2, 2, "jumprelu", model="m", hook="h")).requires_grad_(False)
    sae.W_enc.copy_(tensor([[1.0, 0.0], [0.0, 0.0]]))
    sae.W_dec.copy_(tensor([[1.0, 0.0], [0.0, 0.0]]))
    return sae


def test_evaluate_by_hand():
    # mean (1, 0); variance 1 + 1 + 4 + 4 = 10; the second axis, of square 8, is lost
    quality = evaluate_sae_on_activations(
        axis(), [tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([[1.0, 2.0], [1.0, -2.0]])]
    )
    assert quality.explained_variance == pytest.approx(1 - 8 / 10)
    assert (quality.l0, quality.dead, quality.dense, quality.tokens) == (0.75, 0.5, 0.5, 4)


def test_the_metrics_of_chunks_are_those_of_the_whole(monkeypatch, llama):
    batches = [tensor([[2.0, 0.0], [0.0, 0.0]]), tensor([[1.0, 2.0], [1.0, -2.0]])]
    sae, texts = identity(llama, "layers.1"), ["the cat sat on the mat", "a dog ran"]

    def measured():
        return evaluate_sae_on_activations(axis(), batches), evaluate_sae(sae, texts, cross_entropy=True)

    sizes, whole, encode = [], measured(), SparseAutoencoder.encode
    monkeypatch.setattr("hf_sae_select.training.reading.CHUNK_FLOATS", 3 * 32 - 1)  # two tokens of 32 latents
    monkeypatch.setattr(SparseAutoencoder, "encode", lambda sae, x: sizes.append(x.numel()) or encode(sae, x))
    for chunked, quality in zip(measured(), whole, strict=True):
        assert chunked.facts() == pytest.approx(quality.facts(), rel=1e-5)
    assert max(sizes) == 2 * 16


def test_a_latent_is_dense_above_a_tenth_of_the_tokens():
    tenth = tensor([[1.0, 0.0]] + [[-1.0, 0.0]] * 9)
    assert evaluate_sae_on_activations(axis(), [tenth]).dense == 0
    assert evaluate_sae_on_activations(axis(), [tenth, tenth[:1]]).dense == 0.5


def test_no_tokens_are_an_error():
    with pytest.raises(ValueError, match="`batches` has no tokens"):
        evaluate_sae_on_activations(axis(), [])


def test_an_sae_with_an_input_norm_is_measured_in_its_inputs_units():
    sae = axis()
    sae.config = replace(sae.config, input_norm="rms")
    assert evaluate_sae_on_activations(sae, [tensor([[3.0, 0.0], [5.0, 0.0]])]).explained_variance == pytest.approx(
        1.0
    )


def test_a_transcoder_cannot_be_measured_so(sae):
    sae.config = replace(sae.config, d_out=16)
    for measure in (
        lambda: evaluate_sae_on_activations(sae, [torch.zeros(2, 16)]),
        lambda: evaluate_sae(sae, ["the cat"]),
    ):
        with pytest.raises(ValueError, match="`sae` is a transcoder"):
            measure()


def test_cross_entropy_recovered(llama):
    sae, texts = identity(llama, "layers.1"), ["the cat sat on the mat", "a dog ran"]
    quality = evaluate_sae(sae, texts, cross_entropy=True)
    assert quality.cross_entropy_recovered == pytest.approx(1.0, abs=1e-4)
    assert quality.explained_variance == pytest.approx(1.0, abs=1e-4) and quality.tokens == 9
    sae.W_dec.zero_()
    assert evaluate_sae(sae, texts, cross_entropy=True).cross_entropy_recovered == pytest.approx(0.0, abs=1e-4)
    assert evaluate_sae(sae, texts).cross_entropy_recovered is None


def test_texts_are_a_list_of_texts(sae):
    for measure in (check_l0, evaluate_sae):
        with pytest.raises(TypeError, match="`texts` must be a list of strings"):
            measure(sae, "the cat")
        with pytest.raises(ValueError, match="`texts` has no text"):
            measure(sae, ["", " "])


def test_texts_need_a_token_that_the_sae_reads(llama):
    with pytest.raises(ValueError, match="`texts` has no token that the SAE reads"):
        check_l0(identity(llama, "layers.1"), ["[CLS] [SEP]"])


def test_half_precision_is_measured_too(llama):
    sae = identity(llama, "layers.1").to(torch.bfloat16)
    assert evaluate_sae(sae, ["the cat sat"], cross_entropy=True).cross_entropy_recovered > 0.9


def test_constant_vectors_are_an_error():
    with pytest.raises(ValueError, match=r"`batches` has a variance of 0\.0"):
        evaluate_sae_on_activations(axis(), [tensor([[1.0, 0.0]])])
    with pytest.raises(ValueError, match="`batches` has a variance of"):
        evaluate_sae_on_activations(axis(), [tensor([[0.1, 0.3]]).expand(7, 2)])


def test_an_encoder_alone_cannot_be_measured(llama, tmp_path):
    sae = identity(llama, "layers.1")
    sae.save_pretrained(tmp_path / "sae")
    with pytest.raises(ValueError, match="SAE has no decoder"):
        evaluate_sae(SparseAutoencoder.from_pretrained(tmp_path / "sae", encoder_only=True), ["the cat"])


def test_a_model_without_a_trained_head_or_that_is_no_decoder_has_no_cross_entropy(llama, bert, tmp_path):
    headless = tiny.save("llama", tmp_path / "headless")
    with pytest.raises(ValueError, match=r"`cross_entropy=True` .*was saved without `lm_head\.weight`"):
        evaluate_sae(identity(headless, "layers.1"), ["the cat sat"], cross_entropy=True)
    torch.manual_seed(0)
    BertLMHeadModel(tiny.MODELS["bert"][1]).save_pretrained(tmp_path / "bert")
    tiny.tokenizer().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="`cross_entropy=True` needs a decoder; BertLMHeadModel is not one"):
        evaluate_sae(identity(tmp_path / "bert", "encoder.layer.1"), ["the cat sat"], cross_entropy=True)


def test_a_tied_head_is_a_head(tmp_path):
    torch.manual_seed(0)
    GPT2LMHeadModel(tiny.MODELS["gpt2"][1]).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    quality = evaluate_sae(identity(tmp_path, "h.1"), ["the cat sat on the mat"], cross_entropy=True)
    assert quality.cross_entropy_recovered == pytest.approx(1.0, abs=1e-3)


def test_the_calibrated_threshold_leaves_that_many_features_per_row():
    maxima = tensor([[5.0, 4.0, 3.0, 0.0], [2.0, 1.0, 0.0, 0.0]])
    assert calibrate_feature_threshold(maxima, features_per_row=1.5) == 2.0
    assert (maxima > 2.0).sum() / 2 == 1.5
    assert calibrate_feature_threshold(maxima, features_per_row=9) == 0.0


def test_facts_are_the_names_that_the_card_reads(tmp_path):
    quality = Quality(explained_variance=0.9, l0=31.9, dead=0.01, dense=0.02, tokens=1000)
    sae = axis()
    sae.config = replace(sae.config, training=quality.facts())
    assert quality.facts() == {
        "explained_variance": 0.9,
        "l0": 31.9,
        "dead": 0.01,
        "dense": 0.02,
        "tokens_held_out": 1000,
    }
    sae.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert all(metric in card for metric in ("0.900", "31.9", "1.00 %", "2.00 %", "1,000 tokens"))


def test_rows_of_a_dataset_are_read_as_in_training(llama):
    sae, texts = identity(llama, "layers.1"), ["the cat sat on the mat", "a dog ran"]
    rows = Dataset.from_dict({"text": texts, "id": [1, 2]})
    assert evaluate_sae(sae, rows) == evaluate_sae(sae, texts) == evaluate_sae(sae, tuple(texts))
    assert evaluate_sae(sae, rows.rename_column("text", "body"), text="body") == evaluate_sae(sae, texts)


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("sae", "gpt2", TypeError),
        ("texts", 5, TypeError),
        ("texts", ["a", 5], TypeError),
        ("texts", [], ValueError),
        ("texts", {"text": ["a"]}, TypeError),
        ("text", 5, TypeError),
        ("cross_entropy", "yes", ValueError),
    ],
)
def test_every_argument_of_an_evaluation_is_refused_by_name(monkeypatch, name, value, error):
    monkeypatch.setattr("hf_sae_select.training.evaluation.LanguageModel", None)
    with pytest.raises(error, match=f"`{name}"):
        evaluate_sae(**{"sae": axis(), "texts": ["the cat"]} | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("sae", "gpt2", TypeError),
        ("batches", 5, TypeError),
        ("batches", ["a"], ValueError),
        ("batches", [torch.zeros(2, 3)], ValueError),
        ("batches", [torch.zeros(2)], ValueError),
    ],
    ids=str,
)
def test_every_argument_of_an_evaluation_on_hidden_states_is_refused_by_name(name, value, error):
    with pytest.raises(error, match=f"`{name}"):
        evaluate_sae_on_activations(**{"sae": axis(), "batches": [tensor([[1.0, 0.0]])]} | {name: value})
