"""The SAE inside the package, on the real model."""

import pytest
from datasets import Dataset

from hf_sae_select import SparseAutoencoder, load_labels, load_sae
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.pretrained import PACKAGED
from hf_sae_select.sae.card import sae_card
from hf_sae_select.sae.labels_beside import LABELS_FILE, count_names
from hf_sae_select.sae.loading import DEFAULT_SAE
from hf_sae_select.sae.serialization import WEIGHTS_FILE
from hf_sae_select.training.evaluation import evaluate_sae_on_activations

PAGE = """The ferry left the harbour at six, an hour late, with nine passengers and a crate of lemons. Nobody on
deck spoke until the lighthouse was out of sight; then the engineer, who had repaired the pump with a
bicycle tube, began to explain how pressure depends on temperature and volume. A child asked whether fish
get thirsty. The cook answered that they drink all day, and wrote the recipe for a soup on the back of a
timetable: two onions, a spoon of salt, whatever the net brings up. By noon the wind had turned, the
radio repeated the exchange rates, and the island lay ahead like a loaf."""


def test_it_is_small():
    assert (DEFAULT_SAE / WEIGHTS_FILE).stat().st_size <= 16 * 2**20


def test_it_is_what_its_bar_asks_for():
    config = load_sae().config
    assert (config.d_in, config.d_sae, config.activation) == (384, 8192, "jumprelu")
    assert config.training["explained_variance"] >= 0.85
    assert config.training["l0"] == pytest.approx(32, abs=1)
    assert config.training["dead"] <= 0.01
    assert config.feature_threshold > 0


def test_its_card_states_its_facts():
    config = load_sae().config
    card = (DEFAULT_SAE / "README.md").read_text(encoding="utf-8")
    for fact in (
        config.model,
        config.model_revision,
        config.hook,
        PACKAGED[config.model].sha256,
        "python examples/train",
    ):
        assert fact in card
    facts = config.training
    for figure in (
        f"| {facts['explained_variance']:.3f} |",
        f"| {facts['l0']:.1f} |",
        f"| {100 * facts['dead']:.2f} % |",
    ):
        assert figure in card


def test_its_card_is_what_the_template_makes_of_its_config_and_labels():
    config, names = SparseAutoencoder.from_pretrained(DEFAULT_SAE).config, count_names(DEFAULT_SAE / LABELS_FILE)
    assert (DEFAULT_SAE / "README.md").read_text(encoding="utf-8") == sae_card(config, names=names)
    assert names.features == config.d_sae > names.fired > names.named > 2000


def test_its_labels_are_small_and_hold_no_text():
    labels = load_labels()
    assert (DEFAULT_SAE / LABELS_FILE).stat().st_size < 2**20
    assert labels.sae_sha256 == load_sae().digest() and labels == load_labels(DEFAULT_SAE)
    assert not any(label.examples for label in labels)
    assert max(len(word.split(" ")) for label in labels for word in label.words) <= 3
    assert "magnet" in labels.name(4940) and labels.name(551) == "concentration"


def test_its_figures_hold_on_text_written_here():
    sae = load_sae()
    config = sae.config
    model = LanguageModel.from_pretrained(config.model, config.hook, revision=config.model_revision, window=256)
    quality = evaluate_sae_on_activations(sae, (states for _, states in model.states(model.windows([PAGE]))))
    assert quality.explained_variance > 0.8  # 0.90 on its held-out documents
    assert 24 < quality.l0 < 40  # 31.9 on its held-out documents


def test_paraphrases_share_more_features_than_strangers():
    egg, eggs, prime = Dataset.from_dict(
        {"text": ["How do I boil an egg?", "How should you boil eggs?", "Is seventeen a prime number?"]}
    ).sae_encode()["sae_ids"]
    egg, eggs, prime = set(egg), set(eggs), set(prime)
    assert len(egg & eggs) / len(egg | eggs) > 2 * len(egg & prime) / len(egg | prime)
