"""The argument `target`, parsed before any slow work, and as a Target once its rows are encoded."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isclose
from typing import TYPE_CHECKING, Any

import numpy as np

from .._validation import check_choice, check_number
from ..features.matrix import FeatureMatrix
from .references import PoolEncoding, reference_features, reference_rows
from .targets import Target, TargetPart, digest_of

if TYPE_CHECKING:  # annotations only
    from datasets import Dataset

    from .references import References
    from .result import Selection

    TargetSource = References | Mapping[str, References | tuple[References, float]]

FEW_ROWS = 8  # a target of fewer rows says little of what is wanted
OVERLAPS = ("exclude", "keep", "only_report")


@dataclass(frozen=True, eq=False)
class TargetArgument:
    """Hold what `target` and `overlap` were passed as: rows by name, and how they share the budget."""

    rows: Mapping[str, Dataset | FeatureMatrix]
    """The rows of each part; the name is empty where there is only one."""
    shares: Mapping[str, float]
    overlap: str
    is_again: bool = False
    """Whether the rows were selected towards already, and warned of."""

    @classmethod
    def parse(cls, target: Any, overlap: Any = "exclude", is_again: bool = False) -> TargetArgument | None:
        """Parse the arguments; None without a target. Rows that are passed again are not warned of.

        Raises:
            TypeError, ValueError: If one is not allowed; the message names it.
            OSError: If a place cannot be read.
        """
        check_choice("overlap", overlap, OVERLAPS)
        if target is None:
            if overlap != "exclude":
                raise ValueError(f"`overlap={overlap!r}` is of the rows of a `target`; pass one, or leave it out")
            return None
        is_named = isinstance(target, Mapping) and not hasattr(target, "column_names")  # a DatasetDict is a dict too
        if not is_named and _has_share(target):
            raise ValueError(
                "`target=(rows, share)` has a share; pass {'name': (rows, share), ...}, or the rows alone"
            )
        sources = target if is_named else {"": target}
        shares = _shares(target) if is_named else {"": 1.0}
        rows = {name: reference_rows(argument_name(name), _source(value)) for name, value in sources.items()}
        for name, part in rows.items() if not is_again else ():
            _warn_of_few(argument_name(name), len(part), "rows")
        return cls(rows, shares, overlap, is_again)

    def like(self, recorded: Sequence[Mapping[str, Any]]) -> TargetArgument:
        """Return the argument in the order and with the shares of recorded targets, see `Target.record`.

        Raises:
            ValueError: They have other names, or there are none.
        """
        shares = {part["name"]: float(part["share"]) for part in recorded}
        if not shares:
            raise ValueError("`target` is for a selection towards a target, and this one is not; leave it out")
        if self.rows.keys() != shares.keys():
            raise ValueError(
                f"`target` has {_names(self.rows)}, but the rows were selected towards {_names(shares)}: pass these"
            )
        return replace(self, rows={name: self.rows[name] for name in shares}, shares=shares)

    def check_texts(self, pool: PoolEncoding) -> None:
        """Check that each target has a row with text, before a model loads.

        Raises:
            TypeError, ValueError: All rows of one are blank, or nothing says what the text of a row is.
        """
        for name, rows in self.rows.items():
            if not isinstance(rows, FeatureMatrix):
                pool.check_texts(argument_name(name), rows)

    def encoded(self, pool: PoolEncoding) -> Target:
        """Encode the rows as the pool is, where they are not encoded.

        Raises:
            ValueError: They are encoded in another way than the pool, or no row has a feature.
        """
        parts = []
        for name, rows in self.rows.items():
            features = reference_features(argument_name(name), rows, pool)
            if len(features) >= FEW_ROWS and not self.is_again:  # fewer have been warned of
                _warn_of_few(argument_name(name), int(np.count_nonzero(features.counts)), "rows with features")
            parts.append(TargetPart(features, digest_of(features), self.shares[name], name))
        return Target(tuple(parts))

    def of_features(self, d_sae: int) -> Target:
        """Return the target where all rows are features already.

        Raises:
            TypeError: Rows are something else.
            ValueError: They are of another number of features than the pool, or no row has one.
        """
        for name, rows in self.rows.items():
            if not isinstance(rows, FeatureMatrix):
                raise TypeError(
                    f"`{argument_name(name)}` holds no features; pass a FeatureMatrix, as `features` is one"
                )
        return self.encoded(PoolEncoding({"d_sae": d_sae}))


def same_target(selection: Selection, target: Any, pool: PoolEncoding) -> Target | None:
    """Encode again what a selection was made towards; None where it was not passed.

    Raises:
        TypeError, ValueError: The selection is towards none, or towards another one.
        OSError: A place cannot be read.
    """
    argument = TargetArgument.parse(target, is_again=True)
    if argument is None:
        return None
    recorded = selection.parameters.get("target", ())
    again = argument.like(recorded).encoded(pool)
    for part, own in zip(again.parts, recorded, strict=True):
        if part.sha256 != own["sha256"]:
            raise ValueError(
                f"`{argument_name(part.name)}` is not what the rows were selected towards: its features have the "
                f"SHA-256 {part.sha256[:12]}, and those of the selection {str(own['sha256'])[:12]}; pass the same "
                "rows in the same order"
            )
    return again


def argument_name(name: str) -> str:
    """Return what an error calls the target of a name."""
    return f"target[{name!r}]" if name else "target"


def _names(parts: Mapping[str, Any]) -> str:
    return "targets named " + ", ".join(map(repr, parts)) if any(parts) else "one target without a name"


def _source(value: Any) -> Any:
    return value[0] if _has_share(value) else value


def _has_share(value: Any) -> bool:
    """Tell whether a value is a pair of rows and a share, and not of two texts."""
    return isinstance(value, tuple) and len(value) == 2 and not all(isinstance(part, str) for part in value)


def _shares(target: Mapping[Any, Any]) -> dict[str, float]:
    """Return the share of the budget of each target: as passed, or equal ones."""
    if not target:
        raise ValueError("`target={}` names no target; pass rows, or {'name': rows}")
    for name in target:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"`target` has the name {name!r}; names must be texts: {{'maths': rows, 'code': rows}}")
    with_share = [name for name, value in target.items() if _has_share(value)]
    if not with_share:
        return dict.fromkeys(target, 1 / len(target))
    if len(with_share) < len(target):
        without = next(name for name in target if name not in with_share)
        raise ValueError(
            f"`target[{without!r}]` has no share, but others have one; pass (rows, share) for all or none"
        )
    shares = {name: target[name][1] for name in target}
    for name, share in shares.items():
        check_number(f"target[{name!r}][1]", share, "(0, 1]")
    if not isclose(total := sum(shares.values()), 1, abs_tol=1e-6):
        raise ValueError(f"the shares in `target` sum to {total:g}; they must sum to 1")
    return {name: float(share) for name, share in shares.items()}


def _warn_of_few(name: str, count: int, kind: str) -> None:
    if count < FEW_ROWS:
        counted = f"1 {kind.replace('rows', 'row')}" if count == 1 else f"{count} {kind}"
        warnings.warn(
            f"`{name}` has {counted}: so few say little of what is wanted; pass {FEW_ROWS} or more", stacklevel=4
        )
