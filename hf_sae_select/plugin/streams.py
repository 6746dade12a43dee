"""The methods on `IterableDataset`: encoded while it is read, or read once into files and selected from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasets import Dataset, IterableDataset

if TYPE_CHECKING:
    from ..sae.loading import SaeSource
    from ..selection.lines import Methods
    from ..selection.method import MethodFunction
    from ..selection.table import Comparison


def sae_select(
    self: IterableDataset, budget: float | str, method: str | MethodFunction = "herding", **arguments: Any
) -> Dataset:
    """Select a small subset of a stream, and return it as a Dataset; arguments as in `hf_sae_select.select`.

    The stream is read once, to its end, into files in the cache of `datasets`, in bounded memory. Then rows are
    encoded and selected as those of a Dataset, so the picks are the same. A call that was interrupted while it
    encoded reads the stream again, and encodes only the rows that are missing.
    """
    from .._streams import stored_rows
    from ..selection.api import select
    from ..selection.early import EarlyChecks

    checks = EarlyChecks.of_select(self.features, budget, method, **arguments)
    return select(stored_rows(self, check=checks.check_head), budget, method, **arguments)


def sae_compare(
    self: IterableDataset, budget: float | str, methods: Methods | None = None, **arguments: Any
) -> Comparison:
    """Compare methods on the rows of a stream, which is read once; arguments as in `hf_sae_select.compare`."""
    from .._streams import stored_rows
    from ..selection.comparison import compare
    from ..selection.early import EarlyChecks

    checks = EarlyChecks.of_compare(self.features, budget, methods, **arguments)
    return compare(stored_rows(self, check=checks.check_head), budget, methods, **arguments)


def sae_encode(self: IterableDataset, sae: SaeSource | None = None, **arguments: Any) -> IterableDataset:
    """Add the SAE features of each row while the stream is read; arguments as in `hf_sae_select.encode`.

    The stream must be one that can be read twice: its first rows are read at once, to find the text.
    """
    from ..encoding.streams import encode_stream

    return encode_stream(self, sae, **arguments)


METHODS = (sae_select, sae_compare, sae_encode)
