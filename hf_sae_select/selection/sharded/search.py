"""CoverSearch and ScanSearch: a shard's part of a coverage search. Picks come from the driver."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ...features import kernels
from ...features.codes import append, stretches
from ...features.kernels import Floats, Int64s
from ...features.matrix import FeatureMatrix
from .. import coverage
from ..coverage import Csr
from ..coverage_kernels import begin_round, cover, row_gains
from ..frontier import Frontier
from .constraints import writable
from .messages import Offer, Rows, Task, Update
from .ranked import Ranked

BLOCK = 1024  # rows that a scan looks at first; then twice as many, until enough pass
MOST_BLOCK = 2**16
MOST_ROWS = 256  # that a search offers in one trip


class _Search:
    """Hold what both kinds of search share: the rows, the objective and the constraints."""

    def __init__(self, blocks: Iterable[FeatureMatrix], task: Task) -> None:
        csr = _entries(blocks, task)
        holders, n = task.holders.copy(), len(csr.starts)
        objective = task.objective._replace(
            **{name: getattr(task.objective, name).copy() for name in ("marginal_value", "count_or_mass", "sqrt_mass")}
        )
        self._search = coverage.new_search(csr, objective, holders, writable(task.state), 0)
        self._task, self._n, self._now = task, n, 0
        self._csr = csr  # what gains are computed from
        begin_round(self._search)

    def rows(self, rows: Int64s) -> Rows:
        """Return the entries of rows; but for a scan against single picks without those that add nothing to a gain."""
        csr, objective = self._csr, self._search.objective
        starts, ends = csr.starts[rows], csr.ends[rows]
        ids = stretches(csr.ids, starts, ends)
        amounts = stretches(csr.amounts, starts, ends) if len(csr.amounts) else csr.amounts
        if self._task.against_nearest:
            return Rows(ends - starts, ids, amounts)
        counts = amounts > 0 if len(amounts) else objective.marginal_value[ids] > 0
        row = np.repeat(np.arange(len(rows)), ends - starts)
        amounts = amounts[counts] if len(amounts) else amounts
        return Rows(np.bincount(row[counts], minlength=len(rows)), ids[counts], amounts)

    def _gains(self, rows: Int64s) -> Floats:
        """Return the gains of rows that fit, in units; 0 for others."""
        csr, state, gains = self._csr, self._search.constraints, np.zeros(len(rows))
        some = Csr(csr.starts[rows], csr.ends[rows], csr.ids, csr.amounts)
        row_gains(0, len(rows), some, self._search.objective, coverage.fitting(state, rows), gains)
        return gains

    def _apply(self, update: Update) -> None:
        """Count the picks of all shards since the last answer."""
        update.picked.take_from(self._search.constraints, self._task.first)
        if update.begins_round:
            begin_round(self._search)
        ids, amounts = update.rows.ids, update.rows.amounts
        if len(ids):  # of all rows as if they were one: nothing depends on where a row ends
            cover(Csr(np.zeros(1, np.int64), np.full(1, len(ids)), ids, amounts), self._search.objective, 0)
        self._now += len(update.picked.numbers)


class CoverSearch(_Search):
    """Find the rows with the largest gains."""

    def __init__(self, blocks: Iterable[FeatureMatrix], task: Task) -> None:
        super().__init__(blocks, task)
        csr = self._search.csr
        self._parts = coverage.parts_of(csr)
        self._frequency = kernels.frequency(np.append(csr.starts, len(csr.ids)), csr.ids, len(task.holders))
        starts, ends, ids, amounts = csr
        self._spare = Csr(np.empty_like(starts), np.empty_like(ends), np.empty_like(ids), amounts)
        self._frontier = Frontier(self._search, coverage.all_gains(self._search, csr, self._parts))
        self._begin_round()

    def _begin_round(self) -> None:
        search, state = self._search, self._search.constraints
        self._csr, self._size = search.csr, len(search.csr.ids)  # the number of entries that may still count
        self._frontier.begin_round(self._csr)
        self._ranked = Ranked(self._read, state.scale[state.order], self._frontier)

    def offer(self, update: Update, most: int) -> Offer:
        """Offer rows that were not offered in this round, with about `most` features that still count."""
        self._apply(update)
        if update.begins_round:
            self._begin_round()
        self._compact()
        top = self._ranked.best(1, self._now)
        if len(top):
            size = self.rows(self._search.constraints.order[self._ranked.places[top]]).counts[0]
            top = self._ranked.best(int(np.clip(most // size, 1, MOST_ROWS)), self._now)
        score, place = self._ranked.rest(top)
        places = self._ranked.places[top]
        numbers, global_places = self._search.constraints.order[places], self._task.places[places]
        gains = self._ranked.gains[top]
        self._ranked.drop(top)
        rest_place = int(self._task.places[place]) if place >= 0 else -1
        return Offer(numbers + self._task.first, global_places, gains, self.rows(numbers), score, rest_place)

    def _compact(self) -> None:
        """Leave out entries that no longer count, where enough were read and this drops many."""
        search, frontier = self._search, self._frontier
        if len(self._csr.amounts) or frontier.ids_read <= coverage.most_read(self._csr, self._size):
            return
        live = int(self._frequency[search.objective.marginal_value > 0].sum())
        if live <= coverage.FIRST_COMPACTION_SHARE * self._size:
            gains = coverage.compact(search, self._csr, self._spare, self._parts)
            self._csr, self._size = self._spare, live
            frontier.refresh(self._csr, gains)

    def _read(self, places: Int64s) -> Floats:
        rows = self._search.constraints.order[places]
        csr = self._csr
        self._frontier.ids_read += int((csr.ends[rows] - csr.starts[rows]).sum())
        return self._gains(rows)


class ScanSearch(_Search):
    """Find the next rows, in the order of a scan, that overlap little enough with the picks of the round."""

    def __init__(self, blocks: Iterable[FeatureMatrix], task: Task) -> None:
        super().__init__(blocks, task)
        self._totals = coverage.all_gains(self._search, self._search.csr, coverage.parts_of(self._search.csr))
        assert task.max_overlap is not None
        self._next, self._most = 0, task.max_overlap
        self._nearest: NDArray[np.int64] = np.zeros(self._n, np.int64)  # what the pick nearest to a row shares with it

    def offer(self, update: Update, most: int) -> Offer:
        """Offer the next `most` rows."""
        self._apply(update)
        if update.begins_round:
            self._next = 0
            self._nearest[:] = 0
        if self._task.against_nearest:
            self._compare(update.rows)
        order, numbers, size = self._search.constraints.order, np.empty(0, np.int64), BLOCK
        places = np.empty(0, np.int64)
        while len(numbers) < most and self._next < len(order):
            looked = np.arange(self._next, min(self._next + size, len(order)))
            passing = looked[self._passes(order[looked])][: most - len(numbers)]
            numbers, places = np.append(numbers, order[passing]), np.append(places, passing)
            is_full = len(numbers) == most
            self._next = int(passing[-1]) + 1 if is_full else int(looked[-1]) + 1
            size = min(2 * size, MOST_BLOCK)
        is_done = self._next == len(order)
        return Offer(
            numbers + self._task.first,
            self._task.places[places],
            self._totals[numbers],
            self.rows(numbers),
            0.0,
            np.iinfo(np.int64).max if is_done else int(self._task.places[self._next]),
        )

    def _passes(self, rows: Int64s) -> NDArray[np.bool_]:
        """Tell which rows may be picked now."""
        if self._task.against_nearest:
            return coverage.fitting(self._search.constraints, rows) & self._are_far(rows)
        totals, gains = self._totals[rows], self._gains(rows)
        with np.errstate(divide="ignore", invalid="ignore"):  # of rows without features
            return np.asarray((gains > 0) & ((totals - gains) / totals <= self._most))

    def _are_far(self, rows: Int64s) -> NDArray[np.bool_]:
        """Tell which rows share little enough with the nearest pick of the round."""
        totals = self._totals[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((totals > 0) & (self._nearest[rows] / totals <= self._most))

    def _compare(self, picks: Rows) -> None:
        """Compare the rows that may still be offered with new picks of the round."""
        search, initial, shared = self._search, self._search.objective.initial_value, np.zeros(self._n)
        rows = search.constraints.order[self._next :]
        may_pass = np.zeros(self._n, np.bool_)
        may_pass[rows[self._are_far(rows)]] = True
        for ids, _ in picks.parts():
            value = np.zeros_like(initial)
            value[ids] = initial[ids]
            row_gains(0, self._n, search.csr, search.objective._replace(marginal_value=value), may_pass, shared)
            np.maximum(self._nearest, shared.astype(np.int64), out=self._nearest)


def _entries(blocks: Iterable[FeatureMatrix], task: Task) -> Csr:
    """Return the entries of rows that may add to a gain: those of no weight or no amount never do."""
    counts, ids, amounts = [], np.empty(0, np.uint16), np.empty(0, np.float32)
    all_count = task.amounts is None and bool((task.objective.weight > 0).all())
    for block in blocks:
        of_block = np.empty(0, np.float32) if task.amounts is None else task.amounts(block)
        offsets, of_rows = block.offsets, block.ids
        if not all_count:
            counts_some = task.objective.weight[of_rows] > 0
            counts_some &= of_block > 0 if task.amounts is not None else True
            offsets, of_rows = kernels.offsets_of(offsets, counts_some), of_rows[counts_some]
            of_block = of_block[counts_some] if len(of_block) else of_block
        counts.append(np.diff(offsets))
        if len(counts) == 1:  # a matrix is one block, and need not be copied
            ids, amounts = of_rows, of_block
            continue
        if len(counts) == 2:
            ids, amounts = ids.copy(), amounts.copy()
        append(ids, of_rows)
        append(amounts, of_block)
    ends = np.concatenate(counts).cumsum()
    return Csr(np.concatenate([[0], ends[:-1]])[: len(ends)], ends, ids, amounts)
