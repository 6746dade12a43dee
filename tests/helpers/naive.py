"""Naive greedy, scans and herding, with every gain at every step; chance by counting. The code must equal them."""

import math
from math import comb

import numpy as np


def naive_greedy(
    gain,
    order,
    budget,
    *,
    restart=True,
    scale=None,
    fits=lambda picks, i: True,
    initial=(),
    initial_rounds=(),
    last=(),
):
    """Pick the fitting row with the largest gain(picks of the round, row) * scale, again and again."""
    picks, gains, round_starts, current, previous = [], [], [], [], []
    for n, i in enumerate(initial):
        current = current if n not in initial_rounds else []
        round_starts += [n] if n in initial_rounds else []
        gains.append(gain(current, i))
        picks, current = [*picks, i], [*current, i]
    while len(picks) < budget:
        remaining = [i for i in order if i not in picks and fits(picks, i)]
        scores = {i: gain(current, i) * (1 if scale is None else scale[i]) for i in remaining}
        best = max(scores, key=scores.get, default=None)  # of equal scores the first
        if best is None or scores[best] <= 0:
            if round_starts and round_starts[-1] == len(picks):  # a new round adds nothing either
                round_starts.pop()
                current = previous
                break
            if round_starts and not restart:
                break
            round_starts.append(len(picks))
            previous, current = current, []
            continue
        round_starts = round_starts or [0]
        gains.append(gain(current, best))
        picks, current = [*picks, best], [*current, best]
    for i in last:
        if len(picks) < budget and i not in picks and fits(picks, i):
            gains.append(gain(current, i))
            picks, current = [*picks, i], [*current, i]
    return picks, gains, round_starts or [0][: len(picks)]


def count_gain(rows, weight, increments):
    """Return the gain function of a count objective; values are whole numbers of a unit, so that sums are exact."""
    is_whole = set(weight) | set(increments) <= {0, 1}
    unit = 1 if is_whole else float((np.array(weight) * increments[0]).sum()) / 2**52 or 1

    def gain(current, i):
        total = 0
        for j in rows[i]:
            count = sum(j in rows[k] for k in current)
            total += round(weight[j] / unit * increments[min(count, len(increments) - 1)])
        return total * unit

    return gain


def mass_gain(rows, weight, curve):
    """Return the gain function of a mass objective; `rows` map features to amounts."""

    def gain(current, i):
        total = 0.0
        for j, amount in sorted(rows[i].items()):
            mass = 0.0
            for k in current:
                mass += rows[k].get(j, 0.0)
            if curve == "log":
                total += weight[j] * math.log1p(amount / (1 + mass))
            else:
                total += weight[j] * (amount / (math.sqrt(mass + amount) + math.sqrt(mass)))
        return total

    return gain


def naive_scan(rows, order, budget, max_overlap, restart, nearest=False):
    """Pick the rows of `order` that overlap at most a share `max_overlap` with the picks, or with the nearest pick."""
    remaining, picks, gains, round_starts = [i for i in order if rows[i]], [], [], []
    while remaining and len(picks) < budget and (restart or not picks):
        current = []
        round_starts.append(len(picks))
        for i in list(remaining):
            covered = set().union(*(rows[k] for k in current))
            if nearest:
                overlap = max((len(rows[i] & rows[k]) for k in current), default=0)
            else:
                overlap = len(rows[i] & covered)
            adds = nearest or rows[i] - covered
            if adds and overlap / len(rows[i]) <= max_overlap and len(picks) < budget:
                picks.append(i)
                gains.append(len(rows[i] - covered))
                current.append(i)
                remaining.remove(i)
    return picks, gains, round_starts


def whole_vectors(shares, weights, strongest):
    """Weigh rows of shares, keep the strongest of each, scale to length 4096 and round: [n, d_sae], dense."""
    vectors = np.zeros((len(shares), len(weights)), np.int64)
    for i, row in enumerate(shares):
        weighted = {j: share * weights[j] for j, share in sorted(row.items())}
        kept = sorted(weighted, key=lambda j: (-np.float32(weighted[j]), j))[:strongest]
        square = 0.0
        for j in sorted(kept):
            square += weighted[j] * weighted[j]
        for j in kept:
            vectors[i, j] = round(weighted[j] * 4096 / math.sqrt(square))
    return vectors


def kernel_of(vectors, others, width):
    """Return the kernel of all pairs of rows in units of 2^-32: whole numbers, [n, m]."""
    kernel, least = np.zeros((len(vectors), len(others)), np.int64), math.exp(-1 / width)
    for i, j in np.ndindex(*kernel.shape):
        step = min(int(vectors[i] @ others[j]) // 1024, 16384)
        kernel[i, j] = round((math.exp((step / 16384 - 1) / width) - least) / (1 - least) * 2**32)
    return kernel


def naive_herding(  # noqa: C901
    pool,
    targets,
    order,
    budget,
    *,
    width,
    redundancy,
    shares,
    sizes,
    scale,
    fits,
    stand=(),
    of=0,
    candidates=None,
    first=128,
    initial=(),
    last=(),
):
    """Herd rows of `pool` towards `targets`, which take turns; then pick the rows `last`. All are whole vectors.

    The first target may be rows of the pool, `stand`, that stand for `of` rows: a row itself counts as one of these.
    With `candidates`, so many rows are compared, those of the largest estimates, `first` of them and later two for
    each pick, chosen again after a twelfth more picks, and where none is left.
    """
    near = [[int(sum(row)) for row in kernel_of(pool, target, width)] for target in targets]
    kernel = kernel_of(pool, pool, width)
    near = [leave_out(near[0], kernel, stand, of)] if len(stand) < of else near
    picks, gains, of_turn = [], [], [[] for _ in targets]

    def turns():
        done = sum(map(len, of_turn))
        behind = [share * (done + 1) - len(rows) for share, rows in zip(shares, of_turn, strict=True)]
        return sorted(range(len(targets)), key=lambda turn: -behind[turn])

    def gain(turn, i):
        redundant = int(sum(kernel[i, k] for k in of_turn[turn])) / ((len(of_turn[turn]) + 1) * 2**32)
        return near[turn][i] / (sizes[turn] * 2**32) + redundancy * (1 - redundant) if near[turn][i] else 0.0

    least = math.exp(-1 / width)
    slope = least / (1 - least) / width / 4096**2
    compared, at = list(order), [1]

    def live(rows):
        return [i for i in rows if i not in picks and fits(picks, i) and any(sums[i] for sums in near)]

    def estimate(i):
        near_target = int((targets[0] @ pool[i]).sum()) / max(len(targets[0]), 1)
        near_picks = int(sum(pool[k] @ pool[i] for k in picks)) / (len(picks) + 1)
        return (slope * (near_target - redundancy * near_picks) + redundancy) * scale[i]

    def choose():
        if candidates:
            rows = [i for i in live(order) if scale[i] > 0]
            size = candidates if len(rows) <= candidates else min(max(2 * len(picks), first), candidates)
            compared[:] = sorted(rows, key=lambda i: -estimate(i))[:size]

    def take(turn, i):
        gains.append(gain(turn, i))
        picks.append(i)
        of_turn[turn].append(i)
        if candidates and (len(picks) >= at[-1] or not live(compared)):
            at.append(len(picks) + max(min(len(picks), candidates) // 12, 1))
            choose()

    choose()
    for i in initial:
        take(next((turn for turn in turns() if near[turn][i]), turns()[0]), i)
    while len(picks) < budget:
        for turn in turns():
            scores = {i: gain(turn, i) * scale[i] for i in order if i in live(compared)}
            best = max(scores, key=scores.get, default=None)  # of equal scores the first
            if best is not None and scores[best] > 0:
                break
        else:
            break
        take(turn, best)
    for i in last:
        if len(picks) < budget and i not in picks and fits(picks, i):
            gains.append(0.0)
            picks.append(i)
    return picks, gains


def leave_out(near, kernel, stand, of):
    """Count the kernel of each row with itself by its share of `of` rows, where `stand` stands for them."""
    m = len(stand)
    own = [int(kernel[i, i]) for i in range(len(near))]
    others = [(near[i] - own[i]) * m // max(m - 1, 1) if i in stand else near[i] for i in range(len(near))]
    return [total + itself * m // of for total, itself in zip(others, own, strict=True)]


def exact_tail(n, k, holders, count):
    """Return twice the smaller tail of a hypergeometric number."""
    chances = {x: comb(holders, x) * comb(n - holders, k - x) / comb(n, k) for x in range(k + 1)}
    is_more = count > k * holders / n
    return min(1, 2 * sum(chance for x, chance in chances.items() if (x >= count if is_more else x <= count)))
