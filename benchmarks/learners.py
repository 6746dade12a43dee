"""Learn from picked rows, to see what they are worth: a probe of labels, and a small language model.

    from learners import pretrained, probe_accuracy, tuned_loss  # in the scripts beside this one

Settings are fixed, whatever was picked; the same arguments give the same figures, with the same number of threads.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_model, save_model
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from transformers import LlamaConfig, LlamaForCausalLM

L2 = 3.0
"""Of the probe, against the sum of the losses, so that more rows count for more. It hardly matters: over random picks
of 20 to 300 rows of half "a", the mean accuracy moves by 0.2 points from 0.1 to 30. From 100 on it falls."""

CONTEXT = 128  # tokens
BATCH = 8  # windows of CONTEXT tokens
LR = {"pretrain": 4e-3, "tune": 1e-3}
"""Peak step sizes. To tune: the best on a check split, over 40 to 300 random rows and 65,536 tokens; a larger one is
better for 300 rows and worse for 40, which a model sees 16 times each."""
START = 0  # the token that begins a text; it pads, too, for it is never a target
CONFIG = LlamaConfig(
    vocab_size=2048,
    hidden_size=128,
    intermediate_size=320,
    num_hidden_layers=4,
    num_attention_heads=4,
    max_position_embeddings=CONTEXT,
    tie_word_embeddings=True,
    use_cache=False,
)


def probe_accuracy(
    vectors: NDArray[np.float32], labels: NDArray[np.str_], picked: NDArray[np.int64], held_out: NDArray[np.int64]
) -> float:
    """Fit a logistic regression to the picked rows of `vectors` [rows, dims]; return its accuracy on those held out.

    The accuracy is the mean over the labels of the rows held out. Columns are standardised by the same rows, hence
    alike for all picks. There is no intercept: how often a label was picked is not to be learnt.
    """
    unseen = vectors[held_out]
    mean, scale = unseen.mean(axis=0), unseen.std(axis=0) + 1e-6
    x, x_unseen = (torch.from_numpy((rows - mean) / scale) for rows in (vectors[picked], unseen))
    known, y = np.unique(labels[picked], return_inverse=True)
    weights = logistic_regression(x, torch.from_numpy(y), len(known))
    right = known[(x_unseen @ weights).argmax(dim=1).numpy()] == labels[held_out]
    _, group = np.unique(labels[held_out], return_inverse=True)
    return float(np.mean(np.bincount(group, right) / np.bincount(group)))


def logistic_regression(x: Tensor, y: Tensor, labels: int) -> Tensor:
    """Return weights [dims, labels]."""
    weights = torch.zeros(x.shape[1], labels, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, history_size=10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(x @ weights, y) + L2 / 2 / len(x) * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weights.detach()


class Base(NamedTuple):
    """Hold a pretrained model of a million parameters."""

    tokenizer: Tokenizer
    model: LlamaForCausalLM

    def rows(self, texts: list[str]) -> list[list[int]]:
        """Return the first CONTEXT tokens of each text, START among them, so that no row is most of the training."""
        found = self.tokenizer.encode_batch(texts)
        return [[START, *encoding.ids[: CONTEXT - 1]] for encoding in found]


def pretrained(passages: list[str], folder: Path, steps: int = 4000) -> Base:
    """Pretrain on passages of general text, or load what an earlier call left in `folder`, whatever its passages."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LlamaForCausalLM(CONFIG)
    if not folder.exists():
        base = Base(byte_pairs(passages), model)
        train(model, windows(base.rows(passages), steps * BATCH, seed=0), LR["pretrain"])
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            unfinished = Path(temporary, "base")
            unfinished.mkdir()
            base.tokenizer.save(str(unfinished / "tokenizer.json"))
            save_model(model, str(unfinished / "model.safetensors"))
            unfinished.rename(folder)
    load_model(model, folder / "model.safetensors")
    return Base(Tokenizer.from_file(str(folder / "tokenizer.json")), model)


def byte_pairs(passages: list[str]) -> Tokenizer:
    """Train a tokenizer that knows every byte, so that code and other languages are no unknown tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=CONFIG.vocab_size, special_tokens=["<start>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(passages, trainer)
    return tokenizer


def tuned_loss(
    base: Base, texts: list[str], held_out: dict[str, list[str]], seed: int, tokens: int
) -> dict[str, float]:
    """Tune a copy of the model on `tokens` tokens of the texts and return nats a token of each held-out source.

    For 40 texts or more, 65,536 tokens; fewer texts are learnt by heart unless `tokens` is lowered with them.
    """
    model = copy.deepcopy(base.model)
    train(model, windows(base.rows(texts), tokens // CONTEXT, seed), LR["tune"])
    return {source: mean_loss(model, base.rows(unseen)) for source, unseen in held_out.items()}


def cut_to_tokens(base: Base, texts: list[str], tokens: int) -> list[str]:
    """Keep the first texts that make at most `tokens` tokens together."""
    ends = np.cumsum([len(row) for row in base.rows(texts)])
    return texts[: int(np.searchsorted(ends, tokens, side="right"))]


def windows(rows: list[list[int]], count: int, seed: int) -> Tensor:
    """Pack rows, shuffled anew each time that all have been used, into windows [count, CONTEXT]."""
    rng = np.random.default_rng(seed)
    times = -(-count * CONTEXT // sum(map(len, rows)))
    stream = [token for _ in range(times) for i in rng.permutation(len(rows)) for token in rows[i]]
    return torch.tensor(stream[: count * CONTEXT]).view(count, CONTEXT)


def train(model: LlamaForCausalLM, ids: Tensor, lr: float) -> None:
    """Train on each window once, the step size warmed up over a tenth of the steps and then lowered to 0."""
    optimizer = torch.optim.AdamW(model.parameters(), lr, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    batches = ids.split(BATCH)
    warm = len(batches) / 10
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = lr * min((step + 1) / warm, (len(batches) - step) / (len(batches) - warm))
        losses(model, batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def mean_loss(model: LlamaForCausalLM, rows: list[list[int]]) -> float:
    """Return nats a token, each row on its own."""
    ordered = [torch.tensor(row) for row in sorted(rows, key=len)]  # so that little is padding
    found = [losses(model, pad_sequence(ordered[i : i + 64], True, START)) for i in range(0, len(rows), 64)]
    return torch.cat(found).mean().item()


def losses(model: LlamaForCausalLM, ids: Tensor) -> Tensor:
    """Return the loss of each token of [rows, CONTEXT] that another comes before and that is not START, in nats."""
    logits, targets = model(input_ids=ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    return F.cross_entropy(logits, targets, reduction="none")[targets != START]
