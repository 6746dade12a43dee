"""Reasons: the reasons of several picks, and a table of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, overload

from .evidence import Reason, title

if TYPE_CHECKING:
    import pandas as pd

LINES = 100  # of a table in HTML


class Reasons(Sequence[Reason]):
    """Hold the reasons of several picks.

    Args:
        reasons (`Sequence[Reason]`):
            The reasons, in any order.

    Example:

    ```python
    why = subset.sae_explain()
    why[0].parts[0].name, why.to_pandas()
    ```
    """

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self._reasons = tuple(reasons)

    def __len__(self) -> int:
        return len(self._reasons)

    @overload
    def __getitem__(self, key: int) -> Reason: ...
    @overload
    def __getitem__(self, key: slice) -> Reasons: ...
    def __getitem__(self, key: int | slice) -> Reason | Reasons:
        return Reasons(self._reasons[key]) if isinstance(key, slice) else self._reasons[key]

    def __iter__(self) -> Iterator[Reason]:
        return iter(self._reasons)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reasons) and self._reasons == other._reasons

    __hash__: ClassVar[None]  # type: ignore[assignment]  # none, beside `__eq__`

    def __str__(self) -> str:
        return "\n".join(map(str, self._reasons))

    def __repr__(self) -> str:
        return f"Reasons({len(self):,} picks)"

    def _repr_html_(self) -> str:
        return _table(self._reasons)

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the reasons as JSON values.

        Returns:
            `list`: One mapping a reason, see `Reason.to_dict`.
        """
        return [reason.to_dict() for reason in self._reasons]

    def to_pandas(self) -> pd.DataFrame:
        """Return the reasons as a table.

        Returns:
            `pandas.DataFrame`: One line a reason, with the features of its parts in one cell.
        """
        import pandas as pd

        return pd.DataFrame([_line(reason) for reason in self._reasons])


def _table(reasons: Sequence[Reason]) -> str:
    """Return reasons as an HTML table of sentences; a long table is cut, and says so."""
    lines = [f"<tr><td>{escape(str(reason))}</td></tr>" for reason in reasons[:LINES]]
    if len(reasons) > LINES:
        lines.append(f"<tr><td>and {len(reasons) - LINES:,} more</td></tr>")
    return f"<table><caption>{len(reasons):,} reasons</caption>{''.join(lines)}</table>"


def _line(reason: Reason) -> dict[str, Any]:
    """Return a reason as a line of a table."""
    other, nearest = reason.runner_up, reason.nearest
    return {
        "pick": reason.pick,
        "row": reason.row,
        "kind": reason.kind,
        "gain": reason.gain,
        "features": "; ".join(title(part) for part in reason.parts),
        "n_parts": reason.n_parts,
        "nearest": None if nearest is None else nearest.row,
        "similarity": None if nearest is None else nearest.similarity,
        "n_stands_for": reason.n_stands_for,
        "runner_up": None if other is None else other.row,
        "difference": None if other is None else other.difference,
        "tokens": reason.tokens,
        "reason": str(reason),
        "text": reason.text,
    }
