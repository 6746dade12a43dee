"""How well an SAE does on text it has not seen, and whether it does what its makers say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..encoding.language_model import LanguageModel, Window
from ..sae.model import SparseAutoencoder
from .predictor import Predictor

DENSE = 0.1  # a latent that fires on more than this share of the tokens says little about any of them
FACTOR = 2.0  # an L0 further off than this is not explained by another text

SAMPLE = """The harbour was built twice. The first pier, of oak and rubble, stood until the storm of 1824; what we
walk on today is granite, carried here by barges from a quarry that has since become a swimming pool. Ask anyone in the
market where the old customs house was and you will get three answers, all of them confident.

To solve 3x + 7 = 22, subtract 7 from both sides and divide by 3: x = 5. Check it by putting it back.

"You could have called," she said, and put the kettle on. Interest rates rose again in March, the central bank citing
rents and energy. Proteins fold because water prefers its own company. def area(r): return 3.14159 * r ** 2"""


@dataclass(frozen=True)
class Quality:
    """Say how well an SAE does on text it has not seen."""

    explained_variance: float
    """1 - sum |x - x'|^2 / sum |x - mean|^2."""
    l0: float
    """Mean number of features per token."""
    dead: float
    """Share of latents that fired on no token."""
    dense: float
    """Share of latents that fired on more than a tenth of the tokens."""
    tokens: int
    cross_entropy_recovered: float | None = None
    """Of the loss that zeros in place of the vectors cost the language model, the share that x' does not cost."""

    def facts(self) -> dict[str, float]:
        """Return the figures under the names that an SAE's card looks for in `SaeConfig.training`."""
        found = {**asdict(self), "tokens_held_out": self.tokens}
        return {name: value for name, value in found.items() if name != "tokens" and value is not None}


@dataclass(frozen=True)
class L0Check:
    """Set the L0 that was measured beside the one that an SAE's makers state."""

    measured: float
    stated: float | None
    """None where nothing is stated."""
    tokens: int

    @property
    def agrees(self) -> bool | None:
        """Whether the two are within a factor of 2, or None where nothing is stated; a wrong hook is further off."""
        return None if self.stated is None else self.stated / FACTOR <= self.measured <= self.stated * FACTOR


@torch.no_grad()
def evaluate(sae: SparseAutoencoder, batches: Iterable[Tensor]) -> Quality:
    """Measure an SAE on batches [tokens, d_in] of hidden states from texts that it was not trained on.

    Raises:
        ValueError: there is no token, or the SAE is a transcoder, which does not rebuild what it reads.
    """
    _check_rebuilds(sae)
    tokens, error = 0, 0.0
    total = square = torch.zeros(sae.config.d_in, dtype=torch.float64)
    fired = torch.zeros(sae.config.d_sae, dtype=torch.long)
    for batch in batches:
        x = batch.to(sae.W_enc.device, sae.W_enc.dtype)
        z = sae.encode(x)
        fired += (z != 0).sum(dim=0).cpu()
        error += ((sae.rebuild(z, x) - x).double() ** 2).sum().item()
        total = total + x.double().sum(dim=0).cpu()
        square = square + (x.double() ** 2).sum(dim=0).cpu()
        tokens += len(x)
    if not tokens:
        raise ValueError("`batches` holds no token: there is nothing to measure on")
    variance = (square - total**2 / tokens).sum().item()
    if not 1e-12 * square.sum().item() < variance < math.inf:  # what rounding leaves of nothing
        raise ValueError(f"the variance of `batches` is {variance}: there is nothing to explain; pass more text")
    return Quality(
        explained_variance=1 - error / variance,
        l0=fired.sum().item() / tokens,
        dead=(fired == 0).double().mean().item(),
        dense=(fired > DENSE * tokens).double().mean().item(),
        tokens=tokens,
    )


def evaluate_on_text(sae: SparseAutoencoder, texts: Sequence[str], *, cross_entropy: bool = False) -> Quality:
    """Load the language model that an SAE reads and measure the SAE on texts that it was not trained on.

    Args:
        cross_entropy: also measure what the SAE's reconstructions cost the model, which must be a decoder.

    Raises:
        ValueError: no text, or a transcoder.
        OSError: the model cannot be had.
    """
    _check_rebuilds(sae)
    _check_texts(texts)
    model = (Predictor if cross_entropy else LanguageModel).of(sae.config, device=sae.W_enc.device)
    windows = model.windows(list(texts))
    quality = evaluate(sae, (states for _, states in model.states(windows)))
    if isinstance(model, Predictor):
        quality = replace(quality, cross_entropy_recovered=cross_entropy_recovered(sae, model, windows))
    return quality


def cross_entropy_recovered(sae: SparseAutoencoder, model: Predictor, windows: Sequence[Window]) -> float:
    """Return (zeros - rebuilt) / (zeros - clean), the model's losses with its vectors at the hook changed or not.

    1 is no harm done, 0 as bad as zeros.
    """
    clean = model.cross_entropy(windows)
    rebuilt = model.cross_entropy(windows, lambda x: sae(x.to(sae.W_enc.dtype)))
    zeros = model.cross_entropy(windows, torch.zeros_like)
    if zeros == clean:
        raise ValueError("the model's loss is the same with zeros at the hook: there is nothing to recover")
    return (zeros - rebuilt) / (zeros - clean)


@torch.no_grad()
def check_l0(sae: SparseAutoencoder, texts: Sequence[str] = (SAMPLE,)) -> L0Check:
    """Measure the L0 of an SAE on a short text, by default one in here, beside what its makers state.

    Raises:
        OSError: the language model cannot be had.

    Example: of vectors with 16 features each, ``L0Check(measured=16.0, stated=20.0, tokens=6)`` agrees, stated=71.0
    does not.
    """
    _check_texts(texts)
    model = LanguageModel.of(sae.config, device=sae.W_enc.device)
    tokens = fired = 0
    for _, states in model.states(model.windows(list(texts))):
        fired += int((sae.encode(states.to(sae.W_enc.dtype)) != 0).sum())
        tokens += len(states)
    if not tokens:
        raise ValueError("`texts` holds no token that is read: there is nothing to measure on")
    return L0Check(fired / tokens, sae.config.l0 or sae.config.k, tokens)


def _check_rebuilds(sae: SparseAutoencoder) -> None:
    if sae.config.d_out is not None:
        raise ValueError(
            "this SAE is a transcoder: it puts out other vectors than it reads, and cannot be measured so"
        )
    sae.decoder()  # must be there


def _check_texts(texts: Any) -> None:
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise TypeError("`texts` must be a list of strings")
    if not any(text.strip() for text in texts):
        raise ValueError("`texts` holds no text: there is nothing to measure on")
