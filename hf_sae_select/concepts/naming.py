"""`label_features`: what the features of an SAE fire on, from texts, without a language model. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._datasets import check_dataset
from .._validation import check_flag, check_int, check_number
from ..sae.labels import MOST_EXAMPLES, MOST_NAME, MOST_WORDS, Example, Label, Labels, one_line
from .contexts import KINDS, Contexts, contexts_of
from .predictors import Score, choose_terms, score
from .prompts import Labeller, check_labeller, names_by

if TYPE_CHECKING:  # annotations only: this file costs no import of torch
    import datasets

    from ..encoding.text import TextSource
    from ..sae.model import SparseAutoencoder

SHOWN, LEADING = 3, 5  # words in a name, chosen from the best ones
DECIMALS = 3  # of the activations of examples
# How far below `least_score` the 95 % interval of a named feature may begin. At 0.75, a name so needs two held-out
# contexts in which the feature fires, and no error in them. benchmarks/README.md has what other margins cost.
MARGIN = 0.1
PLACE = r"\((?:beginning|end)\)"
PLAIN = re.compile(rf"\([\w -]+\)|(?:{PLACE} )?[\w…](?:.*[\w…])?(?: {PLACE})?")  # a kind, or words and a place
SIGNS = re.compile(r"[^\w…()]+|[()]")  # no word among them


def label_features(
    dataset: datasets.Dataset,
    sae: str | Path | SparseAutoencoder | None = None,
    *,
    text: TextSource | None = None,
    rows: int = 20_000,
    max_length: int = 256,
    context_size: int = 64,
    words: int = 24,
    least_score: float = 0.75,
    examples: int = 3,
    labeller: Labeller | None = None,
    seed: int = 0,
    batch_size: int = 32,
    show_progress_bar: bool | None = None,
) -> Labels:
    """Label the features of an SAE by the words that they fire on, each label with a score on held-out text.

    The model reads the rows once, token by token. A *context* is a stretch of up to `context_size` tokens of a row.
    Half of the rows, chosen by a digest of their text, are held out. On the others, a greedy choice finds for each
    feature the words, parts of words, spans of two or three words and kinds of text for which "the context has any of
    them" tells best whether the feature fires in the context. The score is the balanced accuracy of that sentence on
    the held-out rows. `docs/labels.md` says more.

    Args:
        dataset (`datasets.Dataset`):
            Texts. Rows that are encoded are read again as they were encoded, up to `max_length` tokens.
        sae (`str`, `Path` or `SparseAutoencoder`, *optional*):
            The SAE, or what `load_sae` takes. By default the one that encoded the rows, or else the packaged one.
        text (`str`, `list[str]` or `Callable`, *optional*):
            What the text of a row is, as in `encode`. By default the columns that were encoded, or those of a common
            schema.
        rows (`int`, *optional*, defaults to `20000`):
            The number of rows to read at most. Of a larger dataset, as many are drawn.
        max_length (`int`, *optional*, defaults to `256`):
            The number of tokens to read of a row at most.
        context_size (`int`, *optional*, defaults to `64`):
            The number of tokens of a context at most.
        words (`int`, *optional*, defaults to `24`):
            The number of words of a label at most. Its name shows the first three.
        least_score (`float`, *optional*, defaults to `0.75`):
            Features whose score is lower have no name, nor those whose interval begins more than 0.1 below it:
            by default, those that fire in fewer than two held-out contexts.
        examples (`int`, *optional*, defaults to `3`):
            The number of contexts, the strongest ones, to keep of each feature. They are text of the dataset: use 0
            for labels that others will get if the dataset must not be copied.
        labeller (`Callable`, *optional*):
            A function from a prompt to a name, such as a call of a language model. It is asked for each feature that
            has a name, and its answer replaces the name. The score remains that of the words. Where it fails or
            returns no name, the words remain the name; `metadata` and a warning count these cases.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the draw of rows.
        batch_size (`int`, *optional*, defaults to `32`):
            Number of windows per forward pass. It changes memory and speed, never the labels.
        show_progress_bar (`bool`, *optional*):
            Whether to show a progress bar. By default as progress bars of `datasets` are set.

    Returns:
        `Labels`: The labels. `metadata` says how they were made.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument has a value that is not allowed, the rows have no text, or they were encoded by
            another SAE.
        OSError: If the language model is neither on the Hub nor in an installed package.

    Example:

    ```python
    labels = label_features(load_dataset("tatsu-lab/alpaca", split="train"))
    labels.title(4940), labels[4940].score  # ("#4940 magnetic/magnet/magnets", 0.99)
    ```
    """
    check_dataset("dataset", dataset, "read")
    for name, value in (("rows", rows), ("max_length", max_length), ("context_size", context_size)):
        check_int(name, value)
    check_int("batch_size", batch_size)
    _check_count("words", words, 1, MOST_WORDS)
    _check_count("examples", examples, 0, MOST_EXAMPLES)
    check_number("least_score", least_score, "[0, 1]")
    check_int("seed", seed, 0)
    check_labeller(labeller)
    if show_progress_bar is not None:
        check_flag("show_progress_bar", show_progress_bar)
    chosen = sorted(np.random.default_rng(seed).permutation(len(dataset))[:rows].tolist())
    contexts, record = contexts_of(
        dataset,
        chosen,
        sae,
        text=text,
        max_length=max_length,
        context_size=context_size,
        batch_size=batch_size,
        show_progress_bar=show_progress_bar,
    )
    if not len(contexts):
        raise ValueError("`dataset`: no row that was read has a word in it; pass the columns of its text as `text`")
    terms = choose_terms(contexts, words)
    scores = score(contexts, terms, contexts.held_out)
    shown = _examples(contexts, max(examples, 0 if labeller is None else SHOWN))
    fires = np.unique(contexts.features * len(contexts) + contexts.context_of_place[contexts.places]) // len(contexts)
    counts = dict(zip(*(column.tolist() for column in np.unique(fires, return_counts=True)), strict=True))
    made = {
        feature: _label(feature, terms.get(feature, []), scores.get(feature), count / len(contexts), least_score)
        for feature, count in counts.items()
    }
    metadata = {
        "method": "words",
        "model": record["model"],
        "hook": record["hook"],
        "threshold": record["threshold"],
        "rows": len(chosen),
        "contexts": len(contexts),
        "max_length": max_length,
        "context_size": context_size,
        "words": words,
        "least_score": least_score,
        "seed": seed,
        "fired": len(made),
        "named": sum(bool(label.name) for label in made.values()),
    }
    names, counted = names_by(labeller, made, shown)
    for feature, label in made.items():
        kept = tuple(shown.get(feature, ())[:examples])
        made[feature] = replace(label, name=names.get(feature, label.name), examples=kept)
    return Labels(made.values(), record["d_sae"], record["sae_sha256"], metadata | counted)


def _check_count(name: str, value: Any, least: int, most: int) -> None:
    check_int(name, value, least)
    check_number(name, value, f"[{least}, {most}]")


def _label(feature: int, words: list[str], result: Score | None, frequency: float, least_score: float) -> Label:
    """Return the label of a feature; without a name where its words tell too little."""
    accuracy, interval = (math.nan, (math.nan, math.nan)) if result is None else (result.accuracy, result.interval)
    name = _name(words) if accuracy >= least_score and interval[0] >= least_score - MARGIN else ""
    return Label(feature, name, tuple(words), accuracy, interval, frequency)


def _name(words: Sequence[str]) -> str:
    """Return a name of the best words: whole ones first, and no part of a word that is shown.

    Of spans that begin or end with a sign, a name shows only the very best word.
    """
    leading = [w for i, w in enumerate(words[:LEADING]) if i == 0 or PLAIN.fullmatch(w) or SIGNS.fullmatch(w)]
    shown: list[str] = []
    for word in sorted(leading, key=lambda word: "…" in word or word in KINDS):
        if word.strip("…") not in shown and len(shown) < SHOWN:
            shown.append(word)
    return one_line("/".join(map(_readable, shown)), MOST_NAME)


def _readable(word: str) -> str:
    """Return a term as a part of a name: anything but plain words in quotes."""
    if PLAIN.fullmatch(word):
        return word
    quoted = f"'{word}'" if '"' in word else f'"{word}"'
    if not SIGNS.fullmatch(word):
        return quoted
    return f"the sign{'s' * (' ' in word)} {quoted}"


def _examples(contexts: Contexts, most: int) -> dict[int, list[Example]]:
    """Return the contexts in which each feature fires most strongly; of equal ones, those that were read first."""
    if not most:
        return {}
    place_context = contexts.context_of_place[contexts.places]
    order = np.lexsort((np.arange(len(place_context)), place_context, contexts.features))
    feature, context = contexts.features[order], place_context[order]
    # Rounded, so that the last digits of a sum do not decide which examples come first.
    acts = np.round(contexts.acts[order].astype(np.float64), DECIMALS)
    begins = np.flatnonzero(np.diff(feature * len(contexts) + context, prepend=-1))
    ends = np.append(begins[1:], len(order))
    largest = np.maximum.reduceat(acts, begins) if len(begins) else acts
    strongest = np.lexsort((context[begins], -largest, feature[begins]))
    rank = np.arange(len(strongest)) - np.searchsorted(feature[begins][strongest], feature[begins][strongest])
    examples: dict[int, list[Example]] = {}
    for i in strongest[rank < most].tolist():
        tokens = order[begins[i] : ends[i]]
        text = contexts.texts[int(context[begins[i]])]
        spans = _merged(text, contexts.starts[tokens].tolist(), contexts.ends[tokens].tolist())
        examples.setdefault(int(feature[begins[i]]), []).append(Example(text, spans, float(largest[i])))
    return examples


def _merged(text: str, starts: list[int], ends: list[int]) -> tuple[tuple[int, int], ...]:
    """Return spans of tokens; those with nothing but white space between them are one."""
    spans: list[tuple[int, int]] = []
    for start, end in zip(starts, ends, strict=True):
        start += len(text[start:end]) - len(text[start:end].lstrip())
        if spans and not text[spans[-1][1] : start].strip():
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        elif start < end:
            spans.append((start, end))
    return tuple(spans)
