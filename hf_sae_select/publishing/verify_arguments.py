"""The arguments of `verify` that stand for what it cannot fetch, checked before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .._datasets import by_split, check_dataset
from ..features.columns import is_encoded
from ..selection.references import PoolEncoding
from .provenance import Record, parts_of, required_arguments
from .published import PublishedSubset

if TYPE_CHECKING:  # annotations only
    from .._hub import Token
    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource
    from ..selection.method import MethodFunction
    from ..selection.target_argument import TargetArgument


@dataclass(frozen=True)
class VerifyArguments:
    """The arguments of `verify` that stand for what others cannot fetch, and how to encode."""

    features: Any
    """A Dataset; of several splits a dict of them."""
    source: Any
    """The same."""
    sae: SaeSource | None
    text: TextSource | None
    method: MethodFunction | None
    target: TargetArgument | None
    token: Token
    batch_size: int

    def by_split(self, record: Record) -> dict[str, VerifyArguments]:
        """Return the arguments of each split of a record.

        Raises:
            TypeError, ValueError: If `features` or `source` is no Dataset, or of several splits no dict of them.
        """
        splits = parts_of(record)
        rows: dict[str, Mapping[str, Any]] = {"features": {"": self.features}, "source": {"": self.source}}
        if "" not in splits:
            rows = {name: by_split(name, getattr(self, name), splits) for name in rows}
        for name, parts in rows.items():
            for split, dataset in parts.items():
                if dataset is not None:
                    check_dataset(f"{name}[{split!r}]" if split else name, dataset, "compare with")
        return {
            split: replace(self, features=rows["features"].get(split), source=rows["source"].get(split))
            for split in splits
        }


def check_arguments(subset: PublishedSubset, level: str, arguments: VerifyArguments) -> VerifyArguments:
    """Check, before any work, that the arguments that a level requires were passed.

    Returns:
        The same arguments; `target` with the parts that the record has.
    """
    encoding, features = subset.record["encoding"], arguments.features
    recorded = subset.record["selection"]
    if arguments.method is not None and recorded["builtin"]:
        raise ValueError(
            f"`method` is for subsets that the author's own method selected; this one was selected by "
            f"{recorded['method']!r} of the library: leave it out"
        )
    if level == "encode" and encoding is None:
        raise ValueError(
            "`level='encode'` is for rows that an SAE encoded; these were compared by a column of vectors: use "
            "`level='select'`"
        )
    for name, meaning in required_arguments(subset.record, level).items():
        if getattr(arguments, name) is None:
            raise ValueError(f"`level={level!r}` requires `{name}`: {meaning}; pass it, or choose a lower level")
    if features is not None and encoding is not None and not is_encoded(features):
        raise ValueError("`features` is not encoded; pass what `sae_encode` returns for the source")
    if arguments.target is None:
        return arguments
    target = arguments.target.like(recorded["parameters"].get("target", ()))
    target.check_texts(PoolEncoding(encoding))
    return replace(arguments, target=target)
