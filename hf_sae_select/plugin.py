"""The methods on `datasets.Dataset`: doors to the functions, no logic.

`datasets` has no registry for extensions and its own methods return plain Datasets, so a subclass would not survive
the first `map`: the methods are set on the class, once, and never over somebody else's. The functions are imported
when a method is called: torch and numba cost seconds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from datasets import Dataset

if TYPE_CHECKING:
    import pandas as pd
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
) -> Dataset:
    """Return the dataset with the SAE features of each row in three columns more; see `hf_sae_select.encode`."""
    from .encoding.encoder import encode

    return encode(self, sae, text=text, max_length=max_length, batch_size=batch_size, keep=keep)


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
