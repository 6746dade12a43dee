"""Terms: words, their parts, spans of up to three words and kinds of contexts, and where each occurs. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .contexts import BEGINNING, END, SPECIAL, Contexts, Ints

# The key of a term has the ids of its words, 20 bits each, those before the last raised by one.
BITS, MASK = 20, 2**20 - 1
LONGEST = 3  # words of a span


def keys_of(contexts: Contexts) -> list[Ints]:
    """Return the keys of the terms of one, two and three words that begin at each place; -1 where there is none."""
    words, context = contexts.words, contexts.context_of_place
    keys: list[Ints] = [words]
    for length in range(2, LONGEST + 1):
        longer = np.full(len(words), -1, np.int64)
        last = words[length - 1 :]
        shorter = keys[-1][: len(last)]
        inside = (context[: len(last)] == context[length - 1 :]) & (shorter >= 0) & (last >= 0)
        longer[: len(last)][inside] = (((shorter + 1) << BITS) | last)[inside]
        keys.append(longer)
    return keys


def text_of(key: int, vocabulary: Sequence[str]) -> str:
    """Return a term as text, its words with spaces between them."""
    words = [vocabulary[key & MASK]]
    while key := key >> BITS:
        key -= 1
        words.append(vocabulary[key & MASK])
    return " ".join(reversed(words))


def key_of(term: str, ids: dict[str, int]) -> int:
    """Return the key of a term; -1 if no context can have it."""
    key = -1
    for i, word in enumerate(term.split(" ")):
        if word not in ids or i == LONGEST:
            return -1
        key = ids[word] if i == 0 else ((key + 1) << BITS) | ids[word]
    return key


def occurrences(contexts: Contexts, wanted: Ints) -> tuple[Ints, NDArray[np.int32]]:
    """Return in which contexts terms occur, in CSR form: offsets [terms + 1], and contexts, ascending.

    `wanted` are keys, ascending.
    """
    if not len(wanted):
        return np.zeros(1, np.int64), np.empty(0, np.int32)
    pairs = []
    spans = [(contexts.context_of_place, keys) for keys in keys_of(contexts)]
    for context, key in (*spans, contexts.kinds, contexts.pieces):
        term = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
        hits = wanted[term] == key
        pairs.append(term[hits] * len(contexts) + context[hits])
    term, context = np.divmod(np.unique(np.concatenate(pairs)), len(contexts))
    offsets = np.zeros(len(wanted) + 1, np.int64)
    np.cumsum(np.bincount(term, minlength=len(wanted)), out=offsets[1:])
    return offsets, context.astype(np.int32)


def has_sign_at_end(keys: Ints, vocabulary: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which keys are spans of words and signs that begin or end with a sign, such as `, and`."""
    is_sign = np.array([re.search(r"\w", word) is None for word in vocabulary], np.bool_)
    is_word = ~is_sign
    is_word[: len(SPECIAL)] = False
    first, has_word = keys, is_word[keys & MASK]
    for _ in range(LONGEST - 1):
        first = np.where(first > MASK, (first >> BITS) - 1, first)
        has_word = has_word | is_word[first & MASK]
    mask: NDArray[np.bool_] = has_word & (is_sign[first] | is_sign[keys & MASK])
    return mask


def is_kind(key: Ints) -> NDArray[np.bool_]:
    """Tell which keys are kinds of whole contexts: neither words, nor the places at the ends of a text."""
    mask: NDArray[np.bool_] = (key < len(SPECIAL)) & (key != SPECIAL.index(BEGINNING)) & (key != SPECIAL.index(END))
    return mask
