"""Greedy selection as one would write it down: every row's gain, every time. What the engine must equal."""

import math

import numpy as np


def naive_greedy(
    gain, order, budget, *, restart=True, scale=None, fits=lambda picks, i: True, first=(), begun=(), last=()
):
    """Pick again and again the fitting row of the largest gain(round's picks, row) * scale, the first of equals."""
    picks, gains, starts, current, before = [], [], [], [], []
    for n, i in enumerate(first):
        current = current if n not in begun else []
        starts += [n] if n in begun else []
        gains.append(gain(current, i))
        picks, current = [*picks, i], [*current, i]
    while len(picks) < budget:
        left = [i for i in order if i not in picks and fits(picks, i)]
        score = {i: gain(current, i) * (1 if scale is None else scale[i]) for i in left}
        best = max(score, key=score.get, default=None)  # of equal scores the first
        if best is None or score[best] <= 0:
            if starts and starts[-1] == len(picks):  # a new round adds nothing either
                starts.pop()
                current = before
                break
            if starts and not restart:
                break
            starts.append(len(picks))
            before, current = current, []
            continue
        starts = starts or [0]
        gains.append(gain(current, best))
        picks, current = [*picks, best], [*current, best]
    for i in last:
        if len(picks) < budget and i not in picks and fits(picks, i):
            gains.append(gain(current, i))
            picks, current = [*picks, i], [*current, i]
    return picks, gains, starts or [0][: len(picks)]


def counted(rows, weight, steps):
    """The gain where the rows with a feature are counted; in units, so that sums are exact."""
    unit = 1 if set(weight) | set(steps) <= {0, 1} else float((np.array(weight) * steps[0]).sum()) / 2**52 or 1

    def gain(current, i):
        counts = [sum(j in rows[k] for k in current) for j in rows[i]]
        worth = [weight[j] / unit * steps[min(c, len(steps) - 1)] for j, c in zip(rows[i], counts, strict=True)]
        return sum(map(round, worth)) * unit

    return gain


def massed(rows, weight, curve):
    """The gain where amounts are added up; `rows` map features to amounts."""

    def gain(current, i):
        total = 0.0
        for j, amount in sorted(rows[i].items()):
            had = 0.0
            for k in current:
                had += rows[k].get(j, 0.0)
            if curve == "log":
                total += weight[j] * math.log1p(amount / (1 + had))
            else:
                total += weight[j] * (amount / (math.sqrt(had + amount) + math.sqrt(had)))
        return total

    return gain


def naive_scan(rows, order, budget, max_overlap, restart, nearest=False):
    left, picks, gains, starts = [i for i in order if rows[i]], [], [], []
    while left and len(picks) < budget and (restart or not picks):
        current = []
        starts.append(len(picks))
        for i in list(left):
            union = set().union(*(rows[k] for k in current))
            most = max((len(rows[i] & rows[k]) for k in current), default=0) if nearest else len(rows[i] & union)
            if (nearest or rows[i] - union) and most / len(rows[i]) <= max_overlap and len(picks) < budget:
                picks.append(i)
                gains.append(len(rows[i] - union))
                current.append(i)
                left.remove(i)
    return picks, gains, starts
