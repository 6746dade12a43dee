"""The rows of a bench in all ways that its rules may see them: encoded, as words, and as the model's own states."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from control import random_saes
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from hf_sae_select import FeatureMatrix, load_sae
from hf_sae_select.encoding.batches import Window
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.features.columns import STATE

MAX_LENGTH = 64  # tokens of a row that are read
SEEDS = (0, 1, 2)  # of random weights


class Codes(NamedTuple):
    """Hold the rows of the universe in all ways that a rule may see them."""

    features: dict[str, FeatureMatrix]
    """By the default SAE (""), and by random weights ("random weights 0")."""
    words: FeatureMatrix
    vectors: dict[str, NDArray[np.float32]]
    """Mean states where the SAE reads ("dense"), and after the last layer ("last layer")."""


def rows_of(file: Path, make: Callable[[], Dataset]) -> Dataset:
    """Return rows from a file, made where it is missing, so that `datasets` knows their codes again."""
    if not file.exists():
        make().to_parquet(f"{file}.part")
        Path(f"{file}.part").rename(file)
    return Dataset.from_parquet(str(file))


def all_codes(rows: Dataset, out: Path) -> Codes:
    features = {"": default_codes(rows)}
    random = rows.sae_encode(random_saes(SEEDS, token_states(rows)), text="text", max_length=MAX_LENGTH, keep="all")
    for seed, part in zip(SEEDS, parts(FeatureMatrix.from_dataset(random), len(SEEDS)), strict=True):
        features[f"random weights {seed}"] = part
    vectors = {"dense": np.asarray(features[""].vectors), "last layer": last_states(rows, out / "last_states.npy")}
    return Codes(features, word_counts(rows), vectors)


def default_codes(rows: Dataset) -> FeatureMatrix:
    """Encode by the default SAE, and keep the mean state of each row."""
    return FeatureMatrix.from_dataset(
        rows.sae_encode(text="text", keep=("all", "state"), max_length=MAX_LENGTH), vectors=STATE
    )


def word_counts(rows: Dataset) -> FeatureMatrix:
    """Count the word pieces of each row: the bag of words that any SAE has to beat."""
    model = language_model(load_sae().config.hook)
    how = {"add_special_tokens": False, "truncation": True, "max_length": MAX_LENGTH - 2}
    pieces = model.tokenizer(rows["text"][:], **how)["input_ids"]
    counted = [np.unique(np.array(ids, np.uint16), return_counts=True) for ids in pieces]
    offsets = np.cumsum([0, *(len(ids) for ids, _ in counted)])
    ids, counts = (np.concatenate(columns) for columns in zip(*counted, strict=True))
    tokens = np.array(list(map(len, pieces)), np.int32)
    return FeatureMatrix(offsets, ids, counts.astype(np.float32), len(model.tokenizer), tokens)


def parts(features: FeatureMatrix, count: int) -> list[FeatureMatrix]:
    """Take apart the features of SAEs that were encoded side by side."""
    d_sae, matrices = features.d_sae // count, []
    for part in range(count):
        mask = features.ids // d_sae == part
        offsets = np.concatenate([[0], mask.cumsum()])[features.offsets]
        arrays = offsets, features.ids[mask] % d_sae, features.acts[mask]
        matrices.append(FeatureMatrix(*arrays, d_sae, features.tokens))
    return matrices


def token_states(rows: Dataset) -> Tensor:
    """Return the states of the tokens of some rows where the default SAE reads."""
    model = language_model(load_sae().config.hook)
    texts = [rows["text"][int(row)] for row in np.random.default_rng(0).choice(len(rows), 128, replace=False)]
    return torch.cat([states for _, states in model.states(windows(model, texts), 32)])


def last_states(rows: Dataset, file: Path) -> NDArray[np.float32]:
    """Return the mean state of each row after the last layer, from a file where there is one."""
    if not file.exists():
        model = language_model("encoder.layer.5")
        sums, tokens = np.zeros((len(rows), model.width), np.float32), np.zeros(len(rows))
        for group, states in model.states(windows(model, rows["text"][:]), 32):
            lengths = [sum(window.is_text) for window in group]
            for window, of_window in zip(group, states.split(lengths), strict=True):
                sums[window.row] += of_window.sum(dim=0).numpy()
                tokens[window.row] += len(of_window)
        np.save(file, sums / np.maximum(tokens, 1)[:, None])
    return np.asarray(np.load(file))


def language_model(hook: str) -> LanguageModel:
    config = load_sae().config
    return LanguageModel.from_pretrained(config.model, hook, revision=config.model_revision)


def windows(model: LanguageModel, texts: list[str]) -> list[Window]:
    return model.windows(texts, max_length=MAX_LENGTH, special=True)
