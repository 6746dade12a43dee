"""`check_l0`: does an SAE read the vectors that it was trained on?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from datasets import Dataset
from torch import Tensor

from .._validation import check_type
from ..encoding.batches import Window
from ..encoding.hooks import Hook, find_hook
from ..encoding.language_model import LanguageModel
from ..encoding.text import TextSource
from ..sae.config import SaeConfig
from ..sae.model import SparseAutoencoder
from .evaluation import evaluate_sae_on_activations
from .reading import TextReading, in_chunks

L0_FACTOR = 2.0  # another text does not explain a larger difference in L0
CLEAR = 1.25  # a place that leaves this many times as much variance unexplained is clearly a worse one

SAMPLE = """The harbour was built twice. The first pier, of oak and rubble, stood until the storm of 1824; what we
walk on today is granite, carried here by barges from a quarry that has since become a swimming pool. Ask anyone in the
market where the old customs house was and you will get three answers, all of them confident.

To solve 3x + 7 = 22, subtract 7 from both sides and divide by 3: x = 5. Check it by putting it back.

"You could have called," she said, and put the kettle on. Interest rates rose again in March, the central bank citing
rents and energy. Proteins fold because water prefers its own company. def area(r): return 3.14159 * r ** 2"""


class Reading(NamedTuple):
    """What an SAE makes of the vectors at one place of the model."""

    l0: float
    """Mean number of active latents per token."""
    explained_variance: float | None
    """None for transcoders and SAEs without a decoder, which reconstruct nothing there."""


@dataclass(frozen=True)
class L0Check:
    """Compare the measured L0 of an SAE with the reported one, and its hook with the places around it.

    `print` shows all of it, with a verdict.
    """

    l0: float
    """Mean number of active latents per token, as measured."""
    reference_l0: float | None
    """The reported L0, or k for TopK. None if neither is known."""
    tokens: int
    """Number of tokens measured."""
    hook: str = ""
    """Where the SAE reads."""
    explained_variance: float | None = None
    """1 - sum |x - x'|^2 / sum |x - mean(x)|^2 there; None for transcoders and SAEs without a decoder."""
    neighbours: Mapping[str, Reading] = field(default_factory=dict)
    """The same measures at the places around the hook, by their names."""

    @property
    def agrees(self) -> bool | None:
        """Whether the L0 is within a factor of 2 of the reference, and the SAE explains the vectors it reads.

        False where it explains nothing, or a neighbour clearly better. Otherwise None without a reference.
        """
        if self.better is not None or (self.explained_variance or 0.0) < 0:
            return False
        if self.reference_l0 is None:
            return None
        return self.reference_l0 / L0_FACTOR <= self.l0 <= self.reference_l0 * L0_FACTOR

    @property
    def better(self) -> str | None:
        """The neighbour whose vectors the SAE clearly explains better than those at its hook, or None."""
        best = self._best()
        return best if best is not None and self._ratio(best) < 1 / CLEAR else None

    @property
    def is_sure(self) -> bool:
        """Whether the neighbours tell: the SAE explains the vectors at one place clearly better than at all others.

        An L0 alone does not tell one place from the next: it is often within a factor of 2 at a wrong hook too.
        """
        best = self._best()
        return best is not None and not 1 / CLEAR <= self._ratio(best) <= CLEAR

    def _best(self) -> str | None:
        """Return the neighbour that the SAE explains best."""
        places = [place for place, reading in self.neighbours.items() if reading.explained_variance is not None]
        if self.explained_variance is None or not places:
            return None
        return max(places, key=lambda place: self.neighbours[place].explained_variance or 0.0)

    def _ratio(self, place: str) -> float:
        """Return how many times as much variance stays unexplained at a neighbour as at the hook."""
        unexplained = 1 - (self.neighbours[place].explained_variance or 0.0)
        return (unexplained + 1e-6) / (1 - (self.explained_variance or 0.0) + 1e-6)

    def __str__(self) -> str:
        verdict = {True: "agrees", False: "does not agree", None: "there is no number to compare with"}[self.agrees]
        reported = "not reported" if self.reference_l0 is None else f"reported {self.reference_l0:g}"
        lines = [f"L0 {self.l0:.1f} over {self.tokens} tokens, {reported}: {verdict}"]
        places = {self.hook: Reading(self.l0, self.explained_variance), **self.neighbours}
        for place, reading in places.items():
            variance = reading.explained_variance
            explained = "" if variance is None else f", explained variance {variance:.3f}"
            lines.append(f"  {place or 'hook'}: L0 {reading.l0:.1f}{explained}")
        if self.better is not None:
            lines.append(f"sure: the SAE fits `{self.better}` better; pass `config={{'hook': {self.better!r}}}`")
        elif self.is_sure:
            lines.append("sure: the SAE fits no neighbour as well")
        else:
            lines.append("not sure: the places around the hook cannot be told from it by this text")
        return "\n".join(lines)


@torch.no_grad()
def check_l0(
    sae: SparseAutoencoder, texts: Dataset | Sequence[str] | None = None, *, text: TextSource | None = None
) -> L0Check:
    """Measure an SAE on a short text at its hook and around it, to see whether it reads the right vectors.

    Args:
        sae (`SparseAutoencoder`):
            SAE to check. `sae.config` names the language model.
        texts (`Dataset` or `Sequence[str]`, *optional*):
            Texts to measure on, or rows of a dataset. By default, a short text of 125 words.
        text (`str`, `Sequence[str]` or `Callable`, *optional*):
            Column with the text of a row, several columns, or a function from a row to its text, as in `train_sae`.

    Returns:
        `L0Check`: The measured L0, the reported one, and whether they agree.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If `texts` has no token that the SAE reads.
        OSError: If the language model cannot be loaded.

    Example:

    ```python
    check = check_l0(sae)
    print(check)
    check.agrees, check.is_sure
    ```
    """
    check_type("sae", sae, SparseAutoencoder, "a SparseAutoencoder; `load_sae` returns one")
    reading = TextReading.of("texts", [SAMPLE] if texts is None else texts, text, "measure on")
    model = LanguageModel.of(sae.config, device=sae.W_enc.device, whole=True)  # its neighbours are read too
    windows = reading.windows(model, sae.config)
    states = _states(sae, model, windows)
    tokens = sum(map(len, states))
    if not tokens:
        raise ValueError("`texts` has no token that the SAE reads; pass other texts")
    own = _measure(sae, states)
    neighbours: dict[str, Reading] = {}
    for name, hook in _neighbours(model, sae.config):
        model.hook = hook
        states = _states(sae, model, windows)
        if states and states[0].shape[-1] == sae.config.d_in:
            neighbours[name] = _measure(sae, states)
    return L0Check(own.l0, sae.config.l0 or sae.config.k, tokens, sae.config.hook, own.explained_variance, neighbours)


def _states(sae: SparseAutoencoder, model: LanguageModel, windows: list[Window]) -> list[Tensor]:
    """Return the vectors at the model's present hook, in batches."""
    return [states.to(sae.W_enc.dtype) for _, states in model.states(windows)]


def _measure(sae: SparseAutoencoder, states: list[Tensor]) -> Reading:
    if sae.W_dec is not None and sae.config.d_out is None:
        with suppress(ValueError):  # a single token has no variance
            quality = evaluate_sae_on_activations(sae, states)
            return Reading(quality.l0, quality.explained_variance)
    fired = sum(int((sae.encode(chunk) != 0).sum()) for batch in states for chunk in in_chunks(batch, sae))
    return Reading(fired / sum(map(len, states)), None)


def _neighbours(model: LanguageModel, config: SaeConfig) -> Iterator[tuple[str, Hook]]:
    """Yield the places around an SAE's hook: the same one two layers up and down, and its layer's residual stream."""
    number = re.search(r"\d+", config.hook)
    if number is None:
        return
    layer = int(number[0])
    beside = [layer + step for step in (-1, 1, -2, 2) if layer + step >= 0]
    names = [f"{config.hook[: number.start()]}{n}{config.hook[number.end() :]}" for n in beside]
    names += [f"blocks.{layer}.hook_resid_{place}" for place in ("mid", "post")]
    known = {(model.hook.path, model.hook.side)}
    for name in names:
        with suppress(ValueError):  # the model has no such place
            hook = find_hook(model.model.base_model, name, config.side)
            if (hook.path, hook.side) not in known:
                known.add((hook.path, hook.side))
                yield name, hook
