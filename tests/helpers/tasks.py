"""Tasks: random rows and arguments of `select_indices`, with what they mean from the definitions. Nothing compiled."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
from hypothesis import strategies as st

from .naive import count_gain, mass_gain, naive_greedy
from .pools import features_of

D_SAE = 10
GREEDY = [
    ("greedy", {}),
    ("greedy", {"exhausted": "stop"}),
    ("greedy", {"idf": True}),
    ("weighted", {}),
    ("weighted", {"idf": True}),
    ("concave", {}),
    ("concave", {"curve": "log", "idf": True}),
    ("concave", {"by": "mass"}),
    ("concave", {"by": "mass", "curve": "log"}),
    ("match", {}),
]


@st.composite
def tasks(draw):
    """Draw the rows of a dataset, and arguments of `select_indices` with constraints that they can satisfy."""
    acts = st.dictionaries(st.integers(0, D_SAE - 1), st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0]), max_size=6)
    rows = draw(st.lists(acts, min_size=1, max_size=9))
    n = len(rows)
    order = draw(st.permutations(range(n)))
    excluded, included = order[: draw(st.integers(0, n // 3))], order[n - draw(st.integers(0, n // 3)) :]
    arguments = {"exclude": excluded, "must_include": included}
    arguments |= {"seed": draw(st.sampled_from([None, 3])), "per_token": draw(st.sampled_from([0, 0.5, 1]))}
    columns = {"group": [draw(st.integers(0, 2)) for _ in rows], "good": [draw(st.integers(0, 3)) for _ in rows]}
    prices = columns["price"] = [draw(st.integers(1, 4)) for _ in rows]
    arguments["columns"] = columns
    if draw(st.booleans()):
        arguments["quality"] = "good"
    if draw(st.booleans()):
        smallest = {group: sum(columns["group"][i] == group for i in included) for group in columns["group"]}
        quota = {group: size + draw(st.integers(0, 3)) for group, size in smallest.items()}
        shares = st.sampled_from([0.125, 0.25, 0.3, "rest"])
        if not included and draw(st.booleans()):
            quota = {group: draw(shares) for group in draw(st.sets(st.sampled_from(columns["group"]), min_size=1))}
        arguments["quota"] = {"group": quota}
    if draw(st.booleans()):
        smallest = max(1, sum(prices[i] for i in included))
        total = sum(prices[i] for i in range(n) if i not in excluded)
        arguments |= {"cost": "price", "budget": draw(st.integers(smallest, total))}
    else:
        arguments["budget"] = draw(st.integers(max(1, len(included)), n))
    return rows, arguments


def features_with_acts(rows):
    features = features_of([set(row) for row in rows], d_sae=D_SAE)
    acts = np.array([row[j] for row in rows for j in sorted(row)], np.float32)
    return replace(features, acts=acts)


def float32(rows):
    """Round amounts to float32, as the kernels store them."""
    return [{j: float(np.float32(amount)) for j, amount in row.items()} for row in rows]


def shares_of(rows):
    """Divide the amounts of each row by their sum."""
    shares = []
    for row in rows:
        total = 0.0  # in the order of ids; `sum` would be more accurate than the kernels, from Python 3.12 on
        for _, amount in sorted(row.items()):
            total += amount
        shares.append({j: amount / total for j, amount in row.items()})
    return shares


def mass_of(rows, pool):
    """[d_sae]: the total amount of each feature in the rows of the pool."""
    mass = np.zeros(D_SAE)
    for i in pool:
        for j, amount in rows[i].items():
            mass[j] += amount
    return mass


def roots_of(rows):
    """Return the share of each feature in the roots of a row's activations."""
    return shares_of(float32([{j: math.sqrt(act) for j, act in row.items()} for row in rows]))


def mean_of(rows, pool):
    """[d_sae]: the mean share of each feature in the rows of the pool that have features."""
    mean = mass_of(roots_of(rows), pool)
    return mean / max(mean.sum(), 1)  # number of rows with features


def shares_above(mean, rows):
    """Return the shares of rows above a mean, as `match` has them."""
    roots = roots_of(rows)
    # a difference of the size of rounding errors does not count
    above = float32([{j: x - mean[j] for j, x in row.items() if x - mean[j] > 1e-6 * mean[j]} for row in roots])
    # rounded before and after the division, as in the kernel: rows often tie but for rounding
    return float32([some or row for some, row in zip(shares_of(above), roots, strict=True)])


def gain_of(method, options, rows, pool, boost=()):
    """Return the gain function of a method, from the definitions in `methods`; `boost` has features and factors."""
    factors = np.array([dict(boost).get(j, 1.0) for j in range(D_SAE)])
    holders = [sum(j in rows[i] for i in pool) for j in range(D_SAE)]
    idf = np.log(max(1, len(pool)) / np.maximum(holders, 1)) if options.get("idf") else np.ones(D_SAE)
    idf[np.array(holders) == 0] *= not options.get("idf")  # or else the unit of rounding would be another
    idf *= factors
    if method == "greedy":
        return count_gain(rows, idf.tolist(), [1, 0])
    if method == "weighted":
        mass = mass_of(shares_of(rows), pool)
        return count_gain(rows, (mass / max(mass.sum(), 1e-300) * idf).tolist(), [1, 0])
    if method == "match":
        shares = shares_above(mean_of(rows, pool), rows)
        return mass_gain(shares, np.sqrt(mass_of(shares_of(shares), pool) * factors).tolist(), "sqrt")
    curve = options.get("curve", "sqrt")
    if options.get("by") == "mass":
        acts = np.array([act for i in pool for _, act in sorted(rows[i].items())], np.float32)
        mean = np.float32(acts.mean(dtype=np.float64) if len(acts) else 1)
        amounts = [{j: float(np.float32(act) / mean) for j, act in row.items()} for row in rows]
        return mass_gain(amounts, idf.tolist(), curve)
    values = np.sqrt(np.arange(20)) if curve == "sqrt" else np.log1p(np.arange(20))
    return count_gain(rows, idf.tolist(), np.diff(values).tolist())


def scale_of(rows, arguments):
    """[n]: what the gain of each row is multiplied by, without its cost."""
    quality = np.array(arguments["columns"]["good"] if "quality" in arguments else [1] * len(rows), float)
    tokens = np.array([len(row) + 1 for row in rows], float)
    return quality / tokens ** arguments["per_token"]


def fits_of(rows, arguments):
    """Return the function that tells whether a row may be picked after others, from the definitions of constraints."""
    pool = [i for i in range(len(rows)) if i not in arguments["exclude"]]
    price = np.array(arguments["columns"]["price"], float)
    group, limit, in_costs = naive_quota(rows, arguments, pool)

    def fits(picks, i):
        same_group = [k for k in picks if group[k] == group[i]]
        cost, cost_of_group = (sum(price[k] for k in [*rows, i]) for rows in (picks, same_group))
        spent = cost_of_group if in_costs else len(same_group) + 1
        is_full = spent > limit.get(group[i], math.inf) * (1 + 1e-9)
        is_affordable = "cost" not in arguments or cost <= arguments["budget"]
        return i not in arguments["exclude"] and not is_full and is_affordable

    return fits


def naive(method, options, rows, arguments, order, per_cost):
    """Select as `select_indices` should."""
    n, columns, initial = len(rows), arguments["columns"], arguments["must_include"]
    price = np.array(columns["price"], float)
    scale = scale_of(rows, arguments)
    pool = [i for i in range(n) if i not in arguments["exclude"]]
    no_fill = options.get("exhausted") == "stop" or "cost" in arguments
    return naive_greedy(
        gain_of(method, options, rows, pool, arguments.get("boost", {}).items()),
        order,
        n if "cost" in arguments else arguments["budget"],
        restart=method in ("greedy", "weighted") and options.get("exhausted") != "stop",
        scale=scale / price if per_cost else scale,
        fits=fits_of(rows, arguments),
        initial=initial,
        initial_rounds=[0][: len(initial)],
        last=() if no_fill else sorted(order, key=lambda i: scale[i] == 0),
    )


def naive_quota(rows, arguments, pool):
    """Return the group of each row, the most rows or costs of each group, and whether it is costs."""
    group, quota = list(arguments["columns"]["group"]), arguments.get("quota", {"group": {}})["group"]
    if not any(isinstance(amount, float | str) for amount in quota.values()):
        return group, quota, False
    group = [g if g in quota else "others" for g in group]
    quota = {**quota, "others": 0 if "rest" in quota.values() else "rest"}
    in_costs, budget = "cost" in arguments, arguments["budget"]
    size = [arguments["columns"]["price"][i] if in_costs else 1 for i in range(len(rows))]
    supply = {g: sum(size[i] for i in pool if group[i] == g) for g in quota}
    exact = {g: Fraction(str(share)) * budget for g, share in quota.items() if share != "rest"}
    exact["rest"] = budget - sum(exact.values())
    limit = exact if in_costs else {g: math.floor(part) for g, part in exact.items()}
    if not in_costs:  # the rows that rounding leaves go to those that it cut off most
        for g in sorted(exact, key=lambda g: limit[g] - exact[g])[: budget - sum(limit.values())]:
            limit[g] += 1
    limit = {g: min(limit[g], supply[g]) for g in quota if quota[g] != "rest"}
    left = budget - sum(limit.values())
    rest = sorted((g for g in quota if quota[g] == "rest"), key=lambda g: supply[g])
    if in_costs:
        for n, g in enumerate(rest):
            limit[g] = min(supply[g], Fraction(left) / (len(rest) - n))
            left -= limit[g]
        return group, limit, True
    limit |= dict.fromkeys(rest, 0)
    largest_first = sorted(rest, key=lambda g: (-supply[g], list(quota).index(g)))
    while left > 0 and (hungry := [g for g in largest_first if limit[g] < supply[g]]):
        limit[min(hungry, key=lambda g: limit[g])] += 1
        left -= 1
    return group, limit, False


def has_shares(arguments):
    return any(isinstance(amount, float | str) for amount in arguments.get("quota", {"group": {}})["group"].values())


def is_possible(arguments, rows):
    """Tell whether enough rows may be picked for the budget."""
    if "cost" not in arguments and arguments["budget"] > len(rows) - len(arguments["exclude"]):
        return False
    if has_shares(arguments):
        quota = arguments["quota"]["group"]
        groups = {g for i, g in enumerate(arguments["columns"]["group"]) if i not in arguments["exclude"]}
        return ("rest" in quota.values() and groups & {g for g in quota if quota[g] == "rest"}) or groups - set(quota)
    if "cost" in arguments:
        return True
    groups = [group for i, group in enumerate(arguments["columns"]["group"]) if i not in arguments["exclude"]]
    quota = arguments.get("quota", {"group": dict.fromkeys(groups, len(rows))})["group"]
    return sum(min(size, groups.count(group)) for group, size in quota.items()) >= arguments["budget"]
