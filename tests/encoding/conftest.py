import pytest
from datasets import Dataset
from helpers.encoded import TEXTS

from hf_sae_select.encoding.language_model import LanguageModel


@pytest.fixture
def ds():
    return Dataset.from_dict({"text": TEXTS, "id": list(range(6))})


@pytest.fixture
def loads(monkeypatch):
    """Count how often a language model is loaded."""
    seen = []
    load = LanguageModel.from_pretrained
    monkeypatch.setattr(LanguageModel, "from_pretrained", lambda *a, **k: seen.append(1) or load(*a, **k))
    return seen
