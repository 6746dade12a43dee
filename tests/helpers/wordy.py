"""An SAE whose features are words that one knows: on the word embeddings of the tiny BERT, before any context."""

import torch
from transformers import BertModel

from hf_sae_select import SaeConfig, SparseAutoencoder

from .tiny import VOCABULARY

FEATURES = [["cat"], ["dog", "bird"], ["red", "blue", "green"], ["moon"]]


def wordy_sae(bert, d_sae=6):
    """Return an SAE with a feature for each entry of `FEATURES`, at activation 1, and others that never fire."""
    embeddings = BertModel.from_pretrained(bert).embeddings.word_embeddings.weight.detach()
    config = SaeConfig(16, d_sae, "relu", model=str(bert), hook="embeddings.word_embeddings", feature_threshold=0.5)
    sae = SparseAutoencoder(config).requires_grad_(False)
    for parameter in sae.parameters():
        parameter.zero_()
    for feature, words in enumerate(FEATURES):
        vectors = embeddings[[VOCABULARY[word] for word in words]]
        sae.W_enc[:, feature] = torch.linalg.pinv(vectors) @ torch.ones(len(words))
        others = [i for word, i in VOCABULARY.items() if word not in words]
        largest = float((embeddings[others] @ sae.W_enc[:, feature]).max())
        assert largest < 0.9, largest
        sae.W_enc[:, feature] *= 1 / (1 - max(largest, 0))
        sae.b_enc[feature] = -max(largest, 0) / (1 - max(largest, 0))
    return sae
