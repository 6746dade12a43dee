"""Replay: repeating a selection from its parameters."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..selection.method import Method, MethodFunction
from ..selection.methods import METHODS
from ..selection.request import SelectionRequest, arguments_of
from ..selection.result import Selection
from ..selection.run import read_features, run_on_dataset
from ..selection.target_distance import target_record_again
from ..selection.targets import Target
from .hashing import digest_of

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset


def replay(
    dataset: Dataset, selection: Selection, method: MethodFunction | None = None, target: Target | None = None
) -> Selection:
    """Select again among encoded rows by the parameters of `selection`, and return the new selection.

    Rows that an earlier selection brought (`extend`) are taken from `selection`.

    Args:
        method: the method's function, where it is not the library's; by default the method of that name.
        target: what it was selected towards, where it was.

    Raises:
        ValueError: If the parameters do not select.
    """
    if method is None and selection.method not in METHODS:
        raise ValueError(f"unknown `method={selection.method!r}`")
    arguments = arguments_of(selection)
    if method is not None:
        arguments["options"] = _without_digests(arguments["options"], Method(method).options)
    with without_warnings():
        request = SelectionRequest.parse(len(dataset), dataset, method=method or selection.method, **arguments)
        features = None if target is None else read_features(request, dataset)
        again = run_on_dataset(request, dataset, target, features)
    if target is None or features is None:
        return again
    return replace(again, target=target_record_again(selection, again, features, target))


def digest_tag(value: Any) -> dict[str, str]:
    """Return the digest of an option that cannot be published, such as a path on this machine."""
    return {"sha256": digest_of(value)}


def is_digest_tag(value: Any) -> bool:
    """Tell whether an option is recorded by its digest."""
    return isinstance(value, Mapping) and value.keys() == {"sha256"}


def _without_digests(recorded: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the recorded options of the user's own method, without those that are recorded by their digest.

    Raises:
        ValueError: If the method's default of such an option has another digest.
    """
    for name, value in recorded.items():
        if is_digest_tag(value) and value != digest_tag(defaults.get(name)):
            raise ValueError(f"`{name}` of the method is not as recorded; bind it: partial(method, {name}=...)")
    return {name: value for name, value in recorded.items() if not is_digest_tag(value)}


@contextmanager
def without_warnings() -> Iterator[None]:
    """Suppress the warnings of a selection, such as that it returns fewer rows than its budget: it was warned of."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield
