"""Predictors: terms that tell in which contexts a feature fires, and how well they do. No torch.

The terms of a feature are chosen greedily on one half of the contexts. A term counts as a hit in a context only if the
feature fires *on* it: so words that merely stand nearby are not chosen. What counts is balanced accuracy, the
mean of two shares: of the contexts in which the feature fires, and of the others, those that are predicted correctly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..features.kernels import compiled
from .contexts import BEGINNING, END, SPECIAL, Contexts, Ints
from .terms import has_sign_at_end, is_kind, key_of, keys_of, occurrences, text_of

CHUNK = 2**20  # firing tokens whose terms are in memory together
CANDIDATES = 128  # terms of a feature that the greedy choice looks at
# Contexts: a term's share of hits is drawn towards that of all contexts as if it had so many more. A kind needs more
# evidence, for any firing in a context of the kind counts as a hit.
PRIOR, KIND_PRIOR = 1.0, 30.0
SIGN_WEIGHT = 0.9  # of the gain of a span that begins or ends with a sign: the plain word wins where it says as much
LEAST_GAIN = 0.001  # of balanced accuracy, by one term
Z = 1.959963984540054  # 95 %


def choose_terms(contexts: Contexts, most: int) -> dict[int, list[str]]:
    """Return the terms of each feature, the best first, chosen on the contexts that are not held out."""
    is_made, context = ~contexts.held_out, contexts.context_of_place
    keys, terms = keys_of(contexts), dict[int, list[str]]()
    made_firing = np.flatnonzero(is_made[context[contexts.places]])
    for chunk in _chunks(contexts.features[made_firing]):
        terms.update(_chosen(contexts, context, keys, is_made, made_firing[chunk], most))
    return terms


def _chunks(features: Ints) -> Iterator[Ints]:
    """Yield firing tokens, sorted by feature; all of a feature are in one chunk."""
    order = np.argsort(features, kind="stable")
    first = np.flatnonzero(np.diff(features[order], prepend=-1))
    start = 0
    while start < len(order):
        # The last feature that begins within the chunk begins the next one, unless the chunk would be empty.
        later = first[first > start]
        near = later[later <= start + CHUNK]
        end = len(order) if len(order) <= start + CHUNK or not len(later) else int(near[-1] if len(near) else later[0])
        yield order[start:end]
        start = end


def _chosen(
    contexts: Contexts, context: Ints, keys: Sequence[Ints], is_made: NDArray[np.bool_], firing: Ints, most: int
) -> Iterator[tuple[int, list[str]]]:
    """Yield the terms of each feature of a chunk."""
    names, row = np.unique(contexts.features[firing], return_inverse=True)
    n, made = len(contexts), int(is_made.sum())
    fire_row, fire_context = np.divmod(np.unique(row * n + context[contexts.places[firing]]), n)
    positives = np.bincount(fire_row, minlength=len(names))
    parts = (*_hits(contexts, context, keys, row, firing), _kind_hits(contexts, fire_row, fire_context))
    rows, hit_keys, hit_contexts = (np.concatenate(column) for column in zip(*parts, strict=True))
    wanted, term = np.unique(hit_keys, return_inverse=True)
    pair, hit_context = np.divmod(np.unique((rows * len(wanted) + term) * n + hit_contexts), n)
    begins = np.flatnonzero(np.diff(pair, prepend=-1))
    ends = np.append(begins[1:], len(pair))
    row_of, term_of = np.divmod(pair[begins], len(wanted))
    offsets, where = _restricted(*occurrences(contexts, wanted), is_made)
    priors = np.where(is_kind(wanted), KIND_PRIOR, PRIOR)
    weights = np.where(has_sign_at_end(wanted, contexts.vocabulary), SIGN_WEIGHT, 1.0)
    hits = ends - begins
    gain = _gain(hits, np.diff(offsets)[term_of] - hits, positives[row_of], made, priors[term_of]) * weights[term_of]
    # The best of each feature; of equal ones those of fewer words, which have smaller keys.
    order = np.lexsort((wanted[term_of], -gain, row_of))
    rank = np.arange(len(order)) - np.searchsorted(row_of[order], row_of[order])
    kept = order[(rank < CANDIDATES) & (gain[order] > LEAST_GAIN)]
    chosen = _greedy(
        (_offsets(row_of[kept], len(names)), term_of[kept], begins[kept], ends[kept], hit_context),
        (offsets, where, priors, weights),
        (_offsets(fire_row, len(names)), fire_context),
        n,
        made,
        most,
    )
    for i, feature in enumerate(names.tolist()):
        yield feature, [text_of(int(wanted[t]), contexts.vocabulary) for t in chosen[i] if t >= 0]


Hits = tuple[Ints, Ints, Ints]
"""Numbers of features, keys and contexts."""


def _hits(contexts: Contexts, context: Ints, keys: Sequence[Ints], row: Ints, firing: Ints) -> Iterator[Hits]:
    """Yield the terms that firing tokens are in, some more than once."""
    places, words = contexts.places[firing], contexts.words
    hits = [contexts.fired_pieces[firing]]
    for length, starts in enumerate(keys, 1):
        for shift in range(length):
            hits.append(np.where(places >= shift, starts[np.maximum(places - shift, 0)], -1))
    for special, shift in ((BEGINNING, -1), (END, 1)):
        beside = words[np.clip(places + shift, 0, len(words) - 1)]
        hits.append(np.where(beside == SPECIAL.index(special), beside, -1))
    for key in hits:
        mask = key >= 0
        yield row[mask], key[mask], context[places[mask]]


def _kind_hits(contexts: Contexts, fire_row: Ints, fire_context: Ints) -> Hits:
    """Return the kinds of the contexts in which features fire, wherever in them."""
    kind_context, kind = contexts.kinds
    offsets = _offsets(kind_context, len(contexts))
    counts = np.diff(offsets)[fire_context]
    inner = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    kinds = kind[np.repeat(offsets[fire_context], counts) + inner]
    return np.repeat(fire_row, counts), kinds, np.repeat(fire_context, counts)


def _offsets(ids: Ints, n: int) -> Ints:
    """Return where each of `n` ids begins in a sorted array of them."""
    return np.concatenate([[0], np.cumsum(np.bincount(ids, minlength=n))])


def _restricted(offsets: Ints, where: NDArray[np.int32], mask: NDArray[np.bool_]) -> tuple[Ints, NDArray[np.int32]]:
    """Return occurrences in some contexts only."""
    term = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    inside = mask[where]
    return _offsets(term[inside], len(offsets) - 1), where[inside]


def _gain(hits: Any, misses: Any, positives: Any, contexts: int, prior: Any) -> Any:
    """Return what a term is expected to add to balanced accuracy on other text."""
    share = (hits + prior * positives / contexts) / (hits + misses + prior)
    return 0.5 * (hits + misses) * (share / positives - (1 - share) / np.maximum(contexts - positives, 1))


_compiled_gain = compiled(_gain)


@compiled
def _counts(
    hit_contexts: Ints, term_contexts: NDArray[np.int32], covered: Ints, fires: Ints, row: int
) -> tuple[int, int]:
    """Count contexts that a term would cover anew: those where the feature fires on it, and does not fire at all."""
    hits = misses = 0
    for context in hit_contexts:
        hits += covered[context] != row
    for context in term_contexts:
        misses += covered[context] != row and fires[context] != row
    return hits, misses


@compiled
def _greedy(candidates: Any, terms: Any, firing: Any, n: int, made: int, most: int) -> NDArray[np.int64]:
    """Return the terms of each feature, the one of the largest gain first; -1 after the last."""
    candidate_offsets, candidate_terms, begins, ends, hit_contexts = candidates
    offsets, where, priors, weights = terms
    fire_offsets, fire_contexts = firing
    rows = len(fire_offsets) - 1
    chosen = np.full((rows, most), -1, np.int64)
    fires, covered = np.full(n, -1, np.int64), np.full(n, -1, np.int64)  # the last feature that fires, or is covered
    for row in range(rows):
        fires[fire_contexts[fire_offsets[row] : fire_offsets[row + 1]]] = row
        positives = fire_offsets[row + 1] - fire_offsets[row]
        first, last = candidate_offsets[row], candidate_offsets[row + 1]
        gains, fresh = np.full(last - first, np.inf), np.full(last - first, -1, np.int64)
        for step in range(most):
            best, best_gain = -1, LEAST_GAIN
            for c in range(first, last):
                if gains[c - first] <= best_gain:
                    continue
                term = candidate_terms[c]
                if fresh[c - first] < step:
                    contexts = where[offsets[term] : offsets[term + 1]]
                    hits, misses = _counts(hit_contexts[begins[c] : ends[c]], contexts, covered, fires, row)
                    gains[c - first] = weights[term] * _compiled_gain(hits, misses, positives, made, priors[term])
                    fresh[c - first] = step
                if gains[c - first] > best_gain:
                    best, best_gain = c, gains[c - first]
            if best < 0:
                break
            term = candidate_terms[best]
            chosen[row, step], gains[best - first] = term, -1.0
            covered[where[offsets[term] : offsets[term + 1]]] = row
    return chosen


@dataclass(frozen=True)
class Score:
    """How well terms tell in which contexts a feature fires."""

    accuracy: float
    """The balanced accuracy; NaN if the feature fires in no context, or in all."""
    interval: tuple[float, float]
    """Its 95 % interval."""
    fires: int
    """The number of contexts in which the feature fires."""


def score(contexts: Contexts, terms: Mapping[int, Sequence[str]], mask: NDArray[np.bool_]) -> dict[int, Score]:
    """Return how well "the context has any of these terms" tells on some contexts whether each feature fires."""
    ids = {word: i for i, word in enumerate(contexts.vocabulary)}
    keys = {feature: [key for key in (key_of(t, ids) for t in words) if key >= 0] for feature, words in terms.items()}
    wanted = np.unique(np.array([key for some in keys.values() for key in some], np.int64))
    offsets, where = _restricted(*occurrences(contexts, wanted), mask)
    pairs = np.unique(contexts.features * len(contexts) + contexts.context_of_place[contexts.places])
    feature, context = np.divmod(pairs[mask[pairs % max(len(contexts), 1)]], max(len(contexts), 1))
    total, scores = int(mask.sum()), {}
    for one, some in keys.items():
        fires = context[np.searchsorted(feature, one) : np.searchsorted(feature, one, "right")]
        positions = np.searchsorted(wanted, np.array(some, np.int64))
        said = [where[offsets[i] : offsets[i + 1]] for i in positions]
        predicted = np.unique(np.concatenate(said)) if said else np.empty(0, np.int32)
        hits = int(np.isin(predicted, fires).sum())
        scores[one] = _balanced(hits, len(fires), len(predicted) - hits, total - len(fires))
    return scores


def _balanced(hits: int, positives: int, alarms: int, negatives: int) -> Score:
    """Return the balanced accuracy, with the interval of a mean of two shares (Newcombe's, from Wilson's)."""
    if not positives or not negatives:
        return Score(math.nan, (math.nan, math.nan), positives)
    shares = [(hits / positives, *_wilson(hits, positives)), _right(alarms, negatives)]
    accuracy = sum(share for share, _, _ in shares) / 2
    below, above = (math.sqrt(sum((share - bounds[i]) ** 2 for share, *bounds in shares)) / 2 for i in (0, 1))
    return Score(accuracy, (max(accuracy - below, 0.0), min(accuracy + above, 1.0)), positives)


def _right(alarms: int, negatives: int) -> tuple[float, float, float]:
    return (1 - alarms / negatives, *_wilson(negatives - alarms, negatives))


def _wilson(hits: int, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson's score."""
    share, z2 = hits / n, Z**2
    middle, half = (share + z2 / (2 * n)), Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n**2))
    return max((middle - half) / (1 + z2 / n), 0.0), min((middle + half) / (1 + z2 / n), 1.0)
