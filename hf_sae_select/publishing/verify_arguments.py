"""The arguments of `verify` that stand for what it cannot fetch, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..features.columns import is_encoded
from .provenance import required_arguments
from .published import PublishedSubset

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from .._hub import Token
    from ..encoding.text import TextSource
    from ..sae.loading import SaeSource
    from ..selection.method import MethodFunction
    from ..selection.target_argument import TargetArgument


@dataclass(frozen=True)
class VerifyArguments:
    """The arguments of `verify` that stand for what others cannot fetch, and how to encode."""

    features: Dataset | None
    source: Dataset | None
    sae: SaeSource | None
    text: TextSource | None
    method: MethodFunction | None
    target: TargetArgument | None
    token: Token
    batch_size: int


def check_arguments(subset: PublishedSubset, level: str, arguments: VerifyArguments) -> None:
    """Check, before any work, that the arguments that a level requires were passed."""
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
