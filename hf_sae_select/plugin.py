"""The methods on `datasets.Dataset`: doors to the functions, no logic.

`datasets` has no registry for extensions and its own methods return plain Datasets, so a subclass would not survive
the first `map`: the methods are set on the class, once, and never over somebody else's. The functions are imported
when a method is called: torch and numba cost seconds.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from datasets import Dataset

if TYPE_CHECKING:
    import pandas as pd
    import torch
    from huggingface_hub import CommitInfo

    from .encoding.text import TextSource
    from .sae.loading import SaeSource
    from .selection.comparison import Methods
    from .selection.methods import Rule


def sae_select(self: Dataset, budget: float | str, method: str | Rule = "match", **options: Any) -> Dataset:
    """Return `budget` rows that stand for all, by their SAE features; arguments as of `hf_sae_select.select`."""
    from .selection.api import select

    return select(self, budget, method, **options)


def sae_compare(self: Dataset, budget: float | str, methods: Methods = ("match",), **options: Any) -> pd.DataFrame:
    """Return a table of what several methods cover with `budget`; arguments as of `hf_sae_select.compare`."""
    from .selection.comparison import compare

    return compare(self, budget, methods, **options)


def sae_encode(
    self: Dataset,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
    keep: str | Collection[str] = (),
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
    model_kwargs: Mapping[str, Any] | None = None,
    show_progress_bar: bool | None = None,
) -> Dataset:
    """Add the SAE features of each row to this dataset; arguments and result as of `hf_sae_select.encode`.

    Args:
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            An SAE, or what `load_sae` takes: a folder or a Hub repo. By default the SAE inside the package.
        text (`str`, `list[str]` or `Callable`, *optional*):
            A column, a list of columns, or a function from a row (a dict) to its text. By default the columns of a
            common schema.
        max_length (`int`, *optional*):
            Number of tokens to read of each row. By default all.
        batch_size (`int`, *optional*, defaults to `32`):
            Number of windows per forward pass. It changes memory and speed, never the codes.
        keep (`str` or `Collection[str]`, *optional*, defaults to `()`):
            `"state"` adds the mean of the hidden states that the SAE reads, in the column `sae_state`.
        device (`str` or `torch.device`, *optional*):
            Where the language model and the SAE run. By default Accelerate's device of this process.
        dtype (`str` or `torch.dtype`, *optional*):
            Type of the language model's weights. By default `"auto"` on CUDA and `"float32"` elsewhere.
        model_kwargs (`dict`, *optional*):
            Further arguments of transformers' `from_pretrained` for the language model.
        show_progress_bar (`bool`, *optional*):
            Whether to show a progress bar. By default as progress bars of `datasets` are set.

    Returns:
        `datasets.Dataset`: The dataset with the columns `sae_ids`, `sae_acts` and `sae_tokens` added.
    """
    from .encoding.pipeline import encode

    return encode(
        self,
        sae,
        text=text,
        max_length=max_length,
        batch_size=batch_size,
        keep=keep,
        device=device,
        dtype=dtype,
        model_kwargs=model_kwargs,
        show_progress_bar=show_progress_bar,
    )


def sae_publish(self: Dataset, repo_id: str, **options: Any) -> CommitInfo:
    """Write this selected subset to a Hub repo, with proof of how it was chosen; see `hf_sae_select.publish`."""
    from .publishing.pushing import publish

    return publish(self, repo_id, **options)


def attach() -> None:
    """Set the methods on `Dataset`; again is no change, and a foreign attribute of the same name is an error."""
    for method in (sae_select, sae_encode, sae_compare, sae_publish):
        present = getattr(Dataset, method.__name__, method)
        if getattr(present, "__module__", None) != __name__:
            raise AttributeError(
                f"datasets.Dataset already has an attribute `{method.__name__}` that is not ours; "
                "use the functions hf_sae_select.select, encode, compare and publish in a process of their own"
            )
        setattr(Dataset, method.__name__, method)
