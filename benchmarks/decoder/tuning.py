"""Tune the last layers of a decoder on rows, by the loss of their responses, and measure that loss on others.

    from tuning import Decoder  # in the scripts beside this one

The layers below do not change, so what they make of a row is computed once and serves all arms. Rows lie one after
another in a batch without padding; none sees another one.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from pairs import Pairs, Rows
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import AutoModelForCausalLM, LlamaForCausalLM

CHUNK = 1024  # tokens whose logits are in memory at once
EVALUATED = 512  # tokens of a batch when nothing is trained; attention grows with its square


class Loss(NamedTuple):
    """Hold the loss of one row's response: the sum in nats, and its tokens."""

    nats: float
    tokens: int


class Batch(NamedTuple):
    """Hold rows one after another: what the lower layers make of them, and what follows each token of a response."""

    states: Tensor  # [1, tokens, d]
    positions: Tensor  # [1, tokens], from 0 on in each row
    predicting: Tensor  # places whose next token is of a response
    targets: Tensor  # these next tokens
    rows: Tensor  # which row of the batch each is of


class Decoder:
    """Hold a language model, cut below its last `layers` layers."""

    def __init__(self, folder: Path, known: Pairs, layers: int, device: str) -> None:
        self.known, self.device = known, torch.device(device)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(self.device).eval()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.head = model.lm_head
        self.upper = copy.deepcopy(model.model).float()
        self.lower, cut = model.model, len(model.model.layers) - layers
        self.lower.layers, self.lower.norm = self.lower.layers[:cut], nn.Identity()
        self.upper.layers = self.upper.layers[cut:]
        for half in (self.lower, self.upper):
            half.config = copy.deepcopy(half.config)
            half.config.num_hidden_layers, half.config.use_cache = len(half.layers), False
        self.upper.embed_tokens = None
        self._states = dict[int, Tensor]()

    # What the lower layers make of rows

    def batch(self, rows: list[int]) -> Batch:
        """Return rows one after another, as the lower layers make them; that is computed once a row."""
        self.remember(rows)
        lengths = [len(self.known.ids[row]) for row in rows]
        starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
        places, targets, owners = list[int](), list[int](), list[int]()
        for number, (row, start) in enumerate(zip(rows, starts.tolist(), strict=True)):
            ids, prompt = self.known.ids[row], int(self.known.prompts[row])
            places += range(start + prompt - 1, start + len(ids) - 1)
            targets += ids[prompt:].tolist()
            owners += [number] * (len(ids) - prompt)
        states = torch.cat([self._states[row] for row in rows]).to(self.device)[None]
        numbers = (torch.tensor(column, device=self.device) for column in (places, targets, owners))
        return Batch(states, self.positions(lengths), *numbers)

    def positions(self, lengths: list[int]) -> Tensor:
        """Return [1, tokens]; transformers lets no row see another one where positions begin anew."""
        return torch.cat([torch.arange(length) for length in lengths])[None].to(self.device)

    @torch.no_grad()
    def remember(self, rows: list[int]) -> None:
        """Compute what the lower layers make of rows, as far as that is not known yet."""
        for group in grouped([row for row in dict.fromkeys(rows) if row not in self._states], self.known, EVALUATED):
            ids = [torch.from_numpy(self.known.ids[row]).long() for row in group]
            lengths = [len(row) for row in ids]
            embedded = self.lower.embed_tokens(torch.cat(ids).to(self.device))[None].float()
            with self.autocast():
                states = run(self.lower, embedded, self.positions(lengths))
            for row, part in zip(group, states[0].bfloat16().cpu().split(lengths), strict=True):
                self._states[row] = part.clone()

    # Training and loss

    def tuned(self, rows: Rows, lr: float, seed: int, tokens: int, batch: int) -> Any:
        """Tune a copy of the last layers on `tokens` tokens of the rows, about `batch` at a step, and return it."""
        upper = copy.deepcopy(self.upper)
        for parameter in upper.parameters():
            parameter.requires_grad_(True)
        optimizer = torch.optim.AdamW(upper.parameters(), lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
        steps = tokens // batch
        warm = max(steps / 10, 1)
        for step, group in enumerate(stream(rows, self.known, steps, batch, seed)):
            for settings in optimizer.param_groups:
                settings["lr"] = lr * min((step + 1) / warm, (steps - step) / max(steps - warm, 1), 1)
            self.losses(upper, self.batch(group)).mean().backward()
            torch.nn.utils.clip_grad_norm_(upper.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return upper

    def losses(self, upper: Any, batch: Batch) -> Tensor:
        """Return the loss of each token of the responses, in nats; logits are in memory for `CHUNK` tokens at once."""
        with self.autocast():
            hidden = run(upper, batch.states.float(), batch.positions)[0, batch.predicting]
            pieces = list(zip(hidden.split(CHUNK), batch.targets.split(CHUNK), strict=True))
            if len(pieces) == 1 or not hidden.requires_grad:
                return torch.cat([self.entropy(*piece) for piece in pieces])
            return torch.cat([checkpoint(self.entropy, *piece, use_reentrant=False) for piece in pieces])

    def entropy(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the cross-entropy of each target."""
        return F.cross_entropy(self.head(hidden).float(), targets, reduction="none")

    @torch.no_grad()
    def measure(self, upper: Any, rows: Rows) -> list[Loss]:
        """Return the loss of each row's response."""
        measured = list[Loss]()
        for group in grouped(rows.tolist(), self.known, EVALUATED):
            batch = self.batch(group)
            nats = torch.zeros(len(group), device=self.device).index_add(0, batch.rows, self.losses(upper, batch))
            counts = torch.bincount(batch.rows, minlength=len(group))
            measured += [Loss(*pair) for pair in zip(nats.tolist(), counts.tolist(), strict=True)]
        return measured

    def whole(self, folder: Path, upper: Any) -> LlamaForCausalLM:
        """Return the whole model with tuned last layers, to generate with."""
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(self.device).eval()
        cut = len(model.model.layers) - len(upper.layers)
        for layer, tuned in zip(model.model.layers[cut:], upper.layers, strict=True):
            layer.load_state_dict(tuned.state_dict())
        model.model.norm.load_state_dict(upper.norm.state_dict())
        return model.to(torch.bfloat16)

    def autocast(self) -> torch.autocast:
        """Multiply matrices in bfloat16; weights, sums and losses stay in float32."""
        return torch.autocast(self.device.type, torch.bfloat16)


def run(layers: Any, states: Tensor, positions: Tensor) -> Tensor:
    hidden: Tensor = layers(inputs_embeds=states, position_ids=positions).last_hidden_state
    return hidden


def grouped(rows: list[int], known: Pairs, tokens: int) -> Iterator[list[int]]:
    """Yield rows in their order, about `tokens` tokens at a time."""
    group, size = list[int](), 0
    for row in rows:
        group.append(row)
        size += len(known.ids[row])
        if size >= tokens:
            yield group
            group, size = [], 0
    if group:
        yield group


def stream(rows: Rows, known: Pairs, steps: int, batch: int, seed: int) -> Iterator[list[int]]:
    """Yield the rows of each step, shuffled anew each time that all have been used.

    After s steps, s * `batch` tokens have been read and less than a row more: whatever the rows, equal steps and equal
    tokens of training.
    """
    rng, read, waiting = np.random.default_rng(seed), 0, list[int]()
    for step in range(1, steps + 1):
        group = list[int]()
        while read < step * batch or not group:
            waiting = waiting or rng.permutation(rows).tolist()
            group.append(waiting.pop())
            read += len(known.ids[group[-1]])
        yield group
