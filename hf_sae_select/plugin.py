"""The methods on `datasets.Dataset`: doors to the functions, no logic.

`datasets` has no registry for extensions and its own methods return plain Datasets, so a subclass would not survive
the first `map`: the methods are set on the class, once, and never over somebody else's. The functions are imported
when a method is called: torch and numba cost seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasets import Dataset

if TYPE_CHECKING:
    from .formats import SaeSource
    from .selection import Rule
    from .text import TextSource


def sae_select(
    self: Dataset,
    budget: int | float,
    method: str | Rule = "greedy",
    *,
    sae: SaeSource | None = None,
    text: TextSource | None = None,
    threshold: float | None = None,
    top: int | None = None,
    seed: int | None = 0,
    max_length: int | None = None,
    batch_size: int = 32,
    **options: Any,
) -> Dataset:
    """Return the `budget` rows that carry the most distinct SAE features; see `hf_sae_select.select`."""
    from .selection import select

    coding: dict[str, Any] = {"sae": sae, "text": text, "max_length": max_length, "batch_size": batch_size}
    return select(self, budget, method, threshold=threshold, top=top, seed=seed, **coding, **options)


def sae_encode(
    self: Dataset,
    sae: SaeSource | None = None,
    *,
    text: TextSource | None = None,
    max_length: int | None = None,
    batch_size: int = 32,
) -> Dataset:
    """Return the dataset with the SAE features of each row in three columns more; see `hf_sae_select.encode`."""
    from .encoding import encode

    return encode(self, sae, text=text, max_length=max_length, batch_size=batch_size)


def attach() -> None:
    """Set the methods on `Dataset`; again is no change, and a foreign attribute of the same name is an error."""
    for method in (sae_select, sae_encode):
        present = getattr(Dataset, method.__name__, method)
        if getattr(present, "__module__", None) != __name__:
            raise AttributeError(
                f"datasets.Dataset already has an attribute `{method.__name__}` that is not ours; "
                "use the functions hf_sae_select.select and hf_sae_select.encode in a process of their own"
            )
        setattr(Dataset, method.__name__, method)
