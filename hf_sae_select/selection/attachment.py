"""What `select` attaches to the Dataset that it returns: the result, and the pool that the rows were selected from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._datasets import check_dataset, fingerprint_of, select_rows
from ..features.columns import code_columns, encoding_record, is_encoded, without_codes
from .references import PoolEncoding
from .result import Selection
from .target_argument import same_target

if TYPE_CHECKING:  # annotations only: this file costs no import of datasets
    from datasets import Dataset

    from ..sae.loading import SaeSource
    from .targets import Target

ATTRIBUTE = "_sae_attachment"  # of a Dataset; `filter` and `with_format` copy it, `map` and `select` drop it


@dataclass(frozen=True, eq=False)
class Pool:
    """Hold the rows that a selection was made from. Both datasets share their tables with the source and the cache."""

    source: Dataset
    """The dataset, with its code columns where it was encoded."""
    encoded: Dataset | None = None
    """The code columns, where `select` made them."""
    target: Target | None = None
    """What was selected towards, as features, before the cuts; None without a target, or where it is not at hand."""

    @property
    def rows(self) -> Dataset:
        """The dataset without code columns."""
        return without_codes(self.source)

    @property
    def codes(self) -> Dataset | None:
        """The code columns alone; None where rows were compared by a column of vectors and never encoded."""
        encoded = self.encoded
        if encoded is None and is_encoded(self.source):
            encoded = self.source
        return None if encoded is None else encoded.select_columns(code_columns(encoded))

    @property
    def columns(self) -> Dataset:
        """All columns that constraints may name: those of the rows, and the code columns."""
        if self.encoded is None or self.codes is None:
            return self.source
        from datasets import concatenate_datasets

        return concatenate_datasets([self.source, self.codes], axis=1)


@dataclass(frozen=True, eq=False)
class _Attachment:
    selection: Selection
    pool: Pool | None
    fingerprint: str
    """The fingerprint of the subset: another one if it was changed since."""
    was_encoded: bool
    """Whether the dataset had its codes before `select`."""


def attach(subset: Dataset, selection: Selection, pool: Pool | None = None, was_encoded: bool = False) -> None:
    """Attach to a subset the selection that picked its rows, and the pool."""
    setattr(subset, ATTRIBUTE, _Attachment(selection, pool, fingerprint_of(subset), was_encoded))


def codes_in_pool(subset: Dataset) -> Dataset | None:
    """Return the codes that the rows of a subset of an encoded dataset have in the pool; None for other datasets.

    Raises:
        ValueError: The subset was changed since, so that the codes may be of other rows or texts.
    """
    attachment = getattr(subset, ATTRIBUTE, None)
    if is_encoded(subset) or attachment is None or not attachment.was_encoded:
        return None
    if fingerprint_of(subset) != attachment.fingerprint:
        raise ValueError(
            "this subset of an encoded dataset has no codes, and was changed since it was selected: pass `sae`, or "
            "select it with `keep_codes=True`"
        )
    return select_rows(attachment.pool.codes, attachment.selection.indices)


def selection_of(subset: Dataset) -> Selection:
    """Return the selection that picked the rows of `subset`: the attribute `sae_selection`.

    Raises:
        AttributeError: No selection is attached.
        ValueError: The rows were filtered since, so that the selection describes other rows.
    """
    attachment = getattr(subset, ATTRIBUTE, None)
    if attachment is None:
        raise AttributeError(
            "this dataset has no `sae_selection`: `sae_select` attaches it, and `map`, `select`, `shuffle`, saving "
            "and loading drop it; keep it apart with `subset.sae_selection.save(path)`"
        )
    selection: Selection = attachment.selection
    if len(selection) != len(subset):
        raise ValueError(
            f"`sae_selection` describes {len(selection):,} rows, but this dataset has {len(subset):,}: rows were "
            "filtered out after they were selected; filter first, then select"
        )
    return selection


def pool_of(subset: Dataset) -> Pool | None:
    """Return the pool that the rows of `subset` were selected from; None if it is not attached."""
    attachment = getattr(subset, ATTRIBUTE, None)
    return None if attachment is None else attachment.pool


def is_unchanged(subset: Dataset) -> bool:
    """Tell whether a subset is as `select` returned it."""
    attachment = getattr(subset, ATTRIBUTE, None)
    return attachment is not None and fingerprint_of(subset) == attachment.fingerprint


def with_target(pool: Pool, selection: Selection, target: Any, sae: SaeSource | None = None) -> Pool:
    """Return a pool with the target that the argument `target` names; it keeps its own without one.

    Args:
        sae: the SAE, to encode the target, where the codes do not say where it is.

    Raises:
        TypeError, ValueError: The selection is towards none, or towards another one.
        OSError: A place cannot be read.
    """
    if target is None:
        return pool
    if pool.codes is None:
        raise ValueError("`target` needs the codes of the rows that were selected from; pass them encoded as `pool`")
    return replace(pool, target=same_target(selection, target, PoolEncoding(encoding_record(pool.codes), sae)))


def as_pool(pool: Any, selection: Selection) -> Pool:
    """Check that a dataset can be the one that the rows were selected from."""
    check_dataset("pool", pool, "select from")
    n_rows = selection.pool_rows or len(pool)
    if len(pool) != n_rows or (len(selection) and selection.indices.max() >= n_rows):
        raise ValueError(
            f"`pool` has {len(pool):,} rows, but the rows were selected from "
            f"{selection.pool_rows or selection.indices.max() + 1:,}; pass the dataset that they were selected from"
        )
    encoding = {name: value for name, value in selection.parameters["encoding"].items() if name != "rows"}
    if encoding and (not is_encoded(pool) or encoding_record(pool) != encoding):
        raise ValueError(
            "`pool` does not have the codes that the rows were selected by; pass what `sae_encode` returns for the "
            "same SAE and text"
        )
    return Pool(pool)
