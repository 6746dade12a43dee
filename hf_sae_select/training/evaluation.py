"""Evaluation: how well an SAE reconstructs new text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from datasets import Dataset
from torch import Tensor

from .._validation import check_flag, check_type, is_number
from ..encoding.language_model import LanguageModel
from ..encoding.text import TextSource
from ..sae.model import SparseAutoencoder
from .cross_entropy import CausalLanguageModel, cross_entropy_recovered
from .reading import TextReading, in_chunks

DENSE_FREQUENCY = 0.1  # a latent that fires on a larger share of the tokens says little about any of them


@dataclass(frozen=True)
class Quality:
    """Hold the metrics of an SAE on text that it was not trained on."""

    explained_variance: float
    """1 - sum |x - x'|^2 / sum |x - mean(x)|^2, over the hidden states x and their reconstructions x'."""
    l0: float
    """Mean number of active latents per token."""
    dead: float
    """Share of latents that fired on no token."""
    dense: float
    """Share of latents that fired on more than 10 % of the tokens."""
    tokens: int
    """Number of tokens measured."""
    cross_entropy_recovered: float | None = None
    """(zeros - reconstructed) / (zeros - original): the language model's losses with zeros, reconstructions or its own
    hidden states at the hook. None if it was not measured."""

    def facts(self) -> dict[str, float]:
        """Return the metrics under the names that the card of an SAE looks up in `SaeConfig.training`.

        Returns:
            `dict[str, float]`: The metrics, without those that were not measured or are not finite.

        Example:

        ```python
        sae.config = replace(sae.config, training=sae.config.training | quality.facts())
        sae.push_to_hub("me/my-sae")  # its card shows the metrics
        ```
        """
        metrics = {**asdict(self), "tokens_held_out": self.tokens}
        return {name: value for name, value in metrics.items() if name != "tokens" and is_number(value)}


@torch.no_grad()
def evaluate_sae_on_activations(sae: SparseAutoencoder, batches: Iterable[Tensor]) -> Quality:
    """Measure an SAE on hidden states of texts that it was not trained on.

    Args:
        sae (`SparseAutoencoder`):
            SAE to measure.
        batches (`Iterable[Tensor]`):
            Hidden states [tokens, d_in].

    Returns:
        `Quality`: The metrics, without the cross-entropy.

    Raises:
        ValueError: If there are no tokens, if the hidden states do not vary, or if `sae` cannot reconstruct its input:
            it is a transcoder, or was loaded without its decoder.

    Example:

    ```python
    quality = evaluate_sae_on_activations(sae, states.split(1024))
    quality.explained_variance
    ```
    """
    _check_reconstructs(sae)
    check_type("batches", batches, Iterable, "an iterable of tensors [tokens, d_in]")
    tokens, error = 0, 0.0
    total = square = torch.zeros(sae.config.d_in, dtype=torch.float64)
    fired = torch.zeros(sae.config.d_sae, dtype=torch.long)
    for x in _chunks(sae, batches):
        z = sae.encode(x)
        fired += (z != 0).sum(dim=0).cpu()
        error += ((sae.rebuild(z, x) - x).double() ** 2).sum().item()
        total = total + x.double().sum(dim=0).cpu()
        square = square + (x.double() ** 2).sum(dim=0).cpu()
        tokens += len(x)
    if not tokens:
        raise ValueError("`batches` has no tokens to measure on")
    variance = (square - total**2 / tokens).sum().item()
    if not 1e-12 * square.sum().item() < variance < math.inf:  # rounding makes the variance of a constant about 1e-16
        raise ValueError(f"`batches` has a variance of {variance}; pass finite hidden states of more text")
    return Quality(
        explained_variance=1 - error / variance,
        l0=fired.sum().item() / tokens,
        dead=(fired == 0).double().mean().item(),
        dense=(fired > DENSE_FREQUENCY * tokens).double().mean().item(),
        tokens=tokens,
    )


def evaluate_sae(
    sae: SparseAutoencoder,
    texts: Dataset | Sequence[str],
    *,
    text: TextSource | None = None,
    cross_entropy: bool = False,
) -> Quality:
    """Measure an SAE on texts that it was not trained on, with the language model that it reads.

    Args:
        sae (`SparseAutoencoder`):
            SAE to measure. `sae.config` names the language model.
        texts (`Dataset` or `Sequence[str]`):
            Texts to measure on: rows of a dataset, read as `train_sae` reads them, or strings.
        text (`str`, `Sequence[str]` or `Callable`, *optional*):
            Column with the text of a row, several columns, or a function from a row to its text, as in `train_sae`.
        cross_entropy (`bool`, *optional*, defaults to `False`):
            Whether to also measure the loss of the language model with reconstructions in place of its hidden states.
            The model must be a decoder.

    Returns:
        `Quality`: The metrics.

    Raises:
        TypeError: If an argument has a wrong type.
        ValueError: If there is no text, the SAE cannot reconstruct its input, or the model has no cross-entropy.
        OSError: If the language model cannot be loaded.

    Example:

    ```python
    quality = evaluate_sae(sae, ["The harbour was built twice."], cross_entropy=True)
    quality.cross_entropy_recovered
    ```
    """
    _check_reconstructs(sae)
    check_flag("cross_entropy", cross_entropy)
    reading = TextReading.of("texts", texts, text, "measure on")
    model = (CausalLanguageModel if cross_entropy else LanguageModel).of(sae.config, device=sae.W_enc.device)
    windows = reading.windows(model, sae.config)
    quality = evaluate_sae_on_activations(sae, (states for _, states in model.states(windows)))
    if isinstance(model, CausalLanguageModel):
        quality = replace(quality, cross_entropy_recovered=cross_entropy_recovered(sae, model, windows))
    return quality


def calibrate_feature_threshold(row_maxima: Tensor, features_per_row: float) -> float:
    """Return the threshold that leaves `features_per_row` features per row on average, for `SaeConfig`.

    Args:
        row_maxima: Largest activation of each latent over the tokens of a row, [rows, d_sae], from
            `SparseAutoencoder.encode_max`.
        features_per_row: Mean number of features per row. If the rows have fewer, the threshold is 0.
    """
    values = row_maxima[row_maxima > 0]
    count = round(features_per_row * len(row_maxima))
    return values.kthvalue(len(values) - count).values.item() if len(values) > count else 0.0


def _chunks(sae: SparseAutoencoder, batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """Check batches of hidden states, and yield them in chunks, in the type of the SAE."""
    for batch in batches:
        if not isinstance(batch, Tensor) or batch.shape[1:] != (sae.config.d_in,):
            shape = list(batch.shape) if isinstance(batch, Tensor) else type(batch).__name__
            raise ValueError(f"`batches` must be tensors [tokens, {sae.config.d_in}]; one is {shape}")
        for chunk in in_chunks(batch, sae):
            yield chunk.to(sae.W_enc.device, sae.W_enc.dtype)


def _check_reconstructs(sae: SparseAutoencoder) -> None:
    """Check that an SAE reconstructs its own input."""
    check_type("sae", sae, SparseAutoencoder, "a SparseAutoencoder; `load_sae` returns one")
    if sae.config.d_out is not None:
        raise ValueError("`sae` is a transcoder, which does not reconstruct its input; pass an SAE")
    sae.decoder()  # raises ValueError if the decoder was not loaded
