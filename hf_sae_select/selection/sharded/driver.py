"""Driver: a coverage search whose rows are in shards. The driver picks among the rows that the shards offer.

A round trip brings the best rows of each shard, and a bound for its others. The driver computes the gains of these
rows again after each pick, and goes on while no other row can be better: one trip yields many picks. Gains only fall,
so a bound stays one. Equal scores go by the order of all rows. So the picks, their gains and rounds are to the bit
those of one process.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

import numpy as np

from ...features.kernels import Int64s
from ..constraints import Constraints
from ..coverage import Csr, Measure, Picks, Progress, commit, fits, new_search, take_in_order
from ..coverage_kernels import begin_round, cover, row_gains
from ..coverage_state import PICKED
from .constraints import Picked, part_of, places_of
from .features import ShardedFeatures
from .messages import Offer, Rows, Task, Update
from .offered import Entries, Offered

OFFERED = 13312  # features of the rows that a shard offers in one trip, about
SCANNED = 32  # rows that it offers in one trip of a scan
FILLED = 4096  # rows without gain that are fetched together
TRUE = np.ones(1, np.bool_)


class Driver:
    """Pick rows of shards.

    Args:
        features: the shards.
        measure: what a pick gains.
        holders: the number of rows of the pool that have each feature: [d_sae].
        constraints: what the picks must obey.
        order: the rows that may win, in the order of ties, or of a scan.
        ties: all rows in the order of ties.
        budget: the most rows to pick.
        scan: the largest overlap of a scan, and whether a row is compared with single picks; None for greedy.
    """

    def __init__(
        self,
        features: ShardedFeatures,
        measure: Measure,
        holders: Int64s,
        constraints: Constraints,
        order: Int64s,
        ties: Int64s,
        budget: int,
        scan: tuple[float, bool] | None = None,
    ) -> None:
        self._features, self._constraints, self._budget, self._scan = features, constraints, budget, scan
        self.state = constraints.state(ties)
        self._objective = measure.objective()
        nothing = np.empty(0, np.int64)
        no_rows = Csr(nothing, nothing, np.empty(0, np.uint16), np.empty(0, np.float32))
        self._search = new_search(no_rows, self._objective, holders.copy(), self.state, budget)
        begin_round(self._search)
        self._round = list[Entries]()
        self._sent, self._begins = 0, False  # what the shards know: picks, and whether a new round began since
        self._unsent = list[Entries]()  # of the round, since the last trip
        self._pick_round = self._greedy_round if scan is None else self._scan_round
        self._begin(measure, holders, order)

    def _begin(self, measure: Measure, holders: Int64s, order: Int64s) -> None:
        """Give each shard its part of the search."""
        place, tasks = places_of(order, len(self.state.order)), []
        overlap, nearest = (None, False) if self._scan is None else self._scan
        for start, end in self._features.ranges():
            part = part_of(self.state, start, end, place)
            places = place[start:end][part.order]
            tasks.append(Task(start, self._objective, measure.amounts, holders, part, places, overlap, nearest))
        self._features.call_each("begin_search", [(task,) for task in tasks])

    def __call__(
        self, initial: Int64s, initial_rounds: Int64s, restart: bool, last: Int64s, progress: Progress
    ) -> Picks:
        """Pick `initial`, finish their last round, begin new rounds until one adds nothing, and fill up with `last`.

        As `coverage.greedy_cover` and `coverage.scan` do.
        """
        self._progress, starts = progress, initial_rounds.tolist()
        for n, (row, entries) in enumerate(zip(initial.tolist(), self._fetched(initial), strict=True)):
            if n in starts:
                self._begin_round()
            self._pick(row, entries)
        if len(initial) and self._picked < self._budget:
            self._pick_round()
        while self._picked < self._budget and (restart or not starts):
            start, covered = self._picked, self._round
            self._begin_round()
            self._pick_round()
            if self._picked == start:
                for entries in covered:  # what the picks of the last round cover, again
                    cover(entries.csr(), self._objective, 0)
                break
            starts.append(start)
        self._fill(last)
        self._progress(self._picked)
        self._features.call("end_search")
        return self._result(starts)

    def _result(self, starts: list[int]) -> Picks:
        picks, gains = self._search.indices[: self._picked], self._search.gains[: self._picked]
        is_count = len(self._objective.increments) > 0
        # as in one process, where amounts of no entries tell nothing of the objective
        in_features = (is_count or not self._features.counts.any()) and self._objective.unit == 1
        gains = gains.astype(np.int64) if in_features else gains * self._objective.unit
        return picks, gains, np.array(starts or [0][: len(picks)], np.int64)

    # ---- rounds

    def _greedy_round(self) -> None:
        """Pick the row with the largest score, again and again, until no row adds anything."""
        offered = Offered(self._search)
        while self._picked < self._budget:
            offers = self._trip()
            for offer in offers:
                offered.add(offer)
            if offered.is_empty():
                return
            score, negative_place = max((offer.rest_score, -offer.rest_place) for offer in offers)
            value = self._objective.marginal_value.copy()
            self._note(offered.pick(score, -negative_place).counting(value))

    def _scan_round(self) -> None:
        """Pick, in the order of the scan, each row that overlaps little enough with the picks of the round."""
        waiting: list[tuple[int, int, float, Entries, int]] = []
        while self._picked < self._budget:
            offers, known = self._trip(), len(self._round)
            next_place = min(offer.rest_place for offer in offers)
            for offer in offers:
                for row, place, total, entries in _offered(offer):
                    heappush(waiting, (place, row, total, Entries(*entries), known))
            while waiting and waiting[0][0] < next_place and self._picked < self._budget:
                _, row, total, entries, compared = heappop(waiting)
                if fits(self.state, row) and self._passes(total, entries, compared):
                    self._pick(row, entries)
            if next_place == np.iinfo(np.int64).max:
                return

    @property
    def _compares_picks(self) -> bool:
        """Whether a scan compares rows with single picks."""
        return self._scan is not None and self._scan[1]

    def _passes(self, total: float, entries: Entries, compared: int) -> bool:
        """Tell whether a row overlaps little enough with the picks of the round; its shard knows of `compared`."""
        assert self._scan is not None
        max_overlap, against_nearest = self._scan
        if not against_nearest:
            gain = self._gain(entries)
            return gain > 0 and (total - gain) / total <= max_overlap
        picks = Rows.joined([(pick.ids, pick.amounts) for pick in self._round[compared:]])
        value = np.zeros_like(self._objective.initial_value)
        value[entries.ids] = self._objective.initial_value[entries.ids]
        shared = np.bincount(np.repeat(np.arange(len(picks.counts)), picks.counts), value[picks.ids])  # whole numbers
        return bool((shared / total <= max_overlap).all())

    def _trip(self) -> list[Offer]:
        """Tell the shards what was picked, and ask which rows may be next."""
        self._progress(self._picked)
        picked = Picked.of(self.state, self._search.indices[self._sent : self._picked].copy())
        update = Update(picked, self._covering(), self._begins)
        self._sent, self._begins, self._unsent = self._picked, False, []
        most = OFFERED if self._scan is None else SCANNED
        offers: list[Offer] = self._features.call("offer", update, most)
        return offers

    def _covering(self) -> Rows:
        """Return what the picks since the last trip cover. A count does not depend on the order of features."""
        rows = Rows.joined([(entries.ids, entries.amounts) for entries in self._unsent])
        if self._compares_picks or len(rows.amounts):
            return rows
        return Rows(np.array([len(rows.ids)]), np.sort(rows.ids), rows.amounts)  # sorted, they compress better

    # ---- picks

    def _begin_round(self) -> None:
        begin_round(self._search)
        self._begins, self._round, self._unsent = True, [], []

    @property
    def _picked(self) -> int:
        """The number of rows that were picked."""
        return int(self._search.counters[PICKED])

    def _pick(self, row: int, entries: Entries) -> None:
        self._write(row, entries)
        commit(self.state, row)
        self._note(entries if self._compares_picks else entries.counting(self._objective.marginal_value))
        cover(entries.csr(), self._objective, 0)

    def _write(self, row: int, entries: Entries) -> None:
        search, n = self._search, self._picked
        search.indices[n], search.gains[n] = row, self._gain(entries)
        search.counters[PICKED] += 1

    def _note(self, entries: Entries) -> None:
        """Remember what a pick of the round has, or several together."""
        self._round.append(entries)
        self._unsent.append(entries)

    def _gain(self, entries: Entries) -> float:
        """Return the marginal gain of a row, in units."""
        gains = np.zeros(1)
        row_gains(0, 1, entries.csr(), self._objective, TRUE, gains)
        return float(gains[0])

    def _fill(self, last: Int64s) -> None:
        """Pick the rows of `last` that fit, whatever they add, until the budget is used."""
        rows = take_in_order(self.state, last, self._budget - self._picked)
        for start in range(0, len(rows), FILLED):
            block = rows[start : start + FILLED]
            for row, entries in zip(block.tolist(), self._fetched(block), strict=True):
                self._write(row, entries)
                cover(entries.csr(), self._objective, 0)

    def _fetched(self, rows: Int64s) -> list[Entries]:
        """Return the entries of rows, which no shard offered."""
        return [Entries(*part) for part in self._features.gathered("searched", rows)]


def _offered(offer: Offer) -> list[tuple[int, int, float, tuple[Any, Any]]]:
    """Return number, place, gain and entries of each row of an offer."""
    numbers, places, gains = offer.numbers.tolist(), offer.places.tolist(), offer.gains.tolist()
    return list(zip(numbers, places, gains, offer.rows.parts(), strict=True))
