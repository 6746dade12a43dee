"""The constraints of a search, as one shard sees them: its own rows, and what the picks of all shards leave."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...features.kernels import Floats, Int64s
from ..coverage import ConstraintState
from .compact import narrowed


class Picked(NamedTuple):
    """Rows that were picked, and what they took of the constraints."""

    numbers: Int64s  # [m]: in the pool
    groups: Int64s  # [m]
    costs: Floats  # [m]

    @classmethod
    def of(cls, state: ConstraintState, rows: Int64s) -> Picked:
        return cls(rows, state.group[rows], state.cost[rows])

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle fewer bytes."""
        return _picked, tuple(map(narrowed, self))

    def take_from(self, state: ConstraintState, first: int) -> None:
        """Take the picks of all shards from what remains in one, whose first row has the number `first`."""
        own = self.numbers - first
        state.available[own[(own >= 0) & (own < len(state.available))]] = False
        for group, cost in zip(self.groups, self.costs, strict=True):
            state.remaining_per_group[group] -= 1
            state.remaining_cost_per_group[group] -= cost
            state.remaining_budget[0] -= cost


def _picked(numbers: NDArray[Any], groups: NDArray[Any], costs: NDArray[Any]) -> Picked:
    return Picked(numbers.astype(np.int64), groups.astype(np.int64), costs.astype(np.float64))


def part_of(state: ConstraintState, start: int, end: int, place: Int64s) -> ConstraintState:
    """Return the constraints of the rows from `start` to `end`; `place` [n] orders all rows, -1 for one left out."""
    own = slice(start, end)
    rows = np.flatnonzero(place[own] >= 0)
    return state._replace(
        order=rows[np.argsort(place[own][rows])],
        available=state.available[own],
        group=state.group[own],
        cost=state.cost[own],
        scale=state.scale[own],
    )


def places_of(order: Int64s, n: int) -> Int64s:
    """Return the place of each of n rows in an order, -1 for one that is not in it: [n]."""
    place = np.full(n, -1)
    place[order] = np.arange(len(order))
    return place


def writable(state: ConstraintState) -> ConstraintState:
    """Copy what changes while rows are picked."""
    changing = ("available", "remaining_per_group", "remaining_cost_per_group", "remaining_budget")
    return state._replace(**{name: getattr(state, name).copy() for name in changing})
