"""Contexts, terms and the choice among them, on texts whose answers one sees by eye."""

import re

import numpy as np
import pytest

from hf_sae_select.concepts.contexts import END, read_contexts
from hf_sae_select.concepts.predictors import choose_terms, score
from hf_sae_select.concepts.terms import has_sign_at_end, key_of, keys_of, occurrences, text_of
from hf_sae_select.encoding.spans import RowSpans


def row(text, fires, tokens=r"\w+|[^\w\s]"):
    """Return the spans of a text; `fires` are (feature, part of the text): its tokens fire at activation 1."""
    spans = [match.span() for match in re.finditer(tokens, text)]
    starts, ends = np.array(spans, np.int32).reshape(-1, 2).T
    ids = [sorted(f for f, part in fires if re.search(part, text[a:b])) for a, b in spans]
    offsets = np.cumsum([0, *map(len, ids)])
    features = np.array([f for some in ids for f in some], np.int64)
    return RowSpans(text, starts, ends, offsets, features, np.ones(len(features), np.float32))


def terms_of(contexts, context):
    wanted = np.unique(np.concatenate([keys[keys >= 0] for keys in keys_of(contexts)]))
    offsets, where = occurrences(contexts, wanted)
    return {
        text_of(int(key), contexts.vocabulary)
        for i, key in enumerate(wanted)
        if context in where[offsets[i] : offsets[i + 1]]
    }


def test_terms_are_words_and_spans_of_one_context():
    contexts = read_contexts([row("A cat sat.", []), row("Dogs", [])], 64)
    assert terms_of(contexts, 1) == {
        "(beginning)",
        "(beginning) dogs",
        "(beginning) dogs (end)",
        "dogs",
        "dogs (end)",
        "(end)",
    }
    ids = {word: i for i, word in enumerate(contexts.vocabulary)}
    for term in terms_of(contexts, 0):
        assert text_of(key_of(term, ids), contexts.vocabulary) == term
    assert key_of("a cow", ids) == key_of("a cat sat .", ids) == -1


def test_a_row_is_cut_into_contexts():
    contexts = read_contexts([row("a b c d e", [(3, "e")])], 2)
    assert contexts.texts == ["a b", "c d", "e"] and contexts.context_of_place[contexts.places].tolist() == [2]
    assert "(beginning)" in terms_of(contexts, 0) and "(end)" not in terms_of(contexts, 0)
    assert terms_of(contexts, 2) == {"e", "e (end)", END}


def test_parts_of_words_are_terms_of_their_tokens():
    contexts = read_contexts([row("unbelievable", [(1, "bel")], tokens="un|believ|able")], 64)
    names = {contexts.vocabulary[i] for i in contexts.pieces[1]}
    assert names == {"un…", "…believ…", "…able"}
    assert [contexts.vocabulary[i] for i in contexts.fired_pieces] == ["…believ…"]
    assert contexts.starts.tolist() == [2] and contexts.ends.tolist() == [8]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("It was 1999.", {"(number)", "(year)", "(short text)"}),
        ("2 + 3", {"(number)", "(arithmetic)", "(short text)"}),
        ("def f(x):", {"(code)", "(short text)"}),
        ("NASA says", {"(capitals)", "(short text)"}),
        ("- one\n- two", {"(list)", "(short text)"}),
        ("see www.example.org", {"(web address)", "(short text)"}),
        ("Привет", {"(non-Latin script)", "(short text)"}),
        ("plain words " * 20, set()),
    ],
)
def test_kinds_of_text(text, kinds):
    contexts = read_contexts([row(text, [])], 64)
    assert {contexts.vocabulary[i] for i in contexts.kinds[1]} == kinds


FILLER = [f"w{i} x{i % 7} y{i % 11} and more of it" for i in range(200)]


def corpus(change, fires):
    """Return contexts of 200 different texts, changed by a function of their number."""
    return read_contexts([row(change(i, text), fires) for i, text in enumerate(FILLER)], 64)


def test_the_word_under_the_token_is_chosen_and_not_its_neighbour():
    # "red" stands before "cat" always, and alone sometimes; the feature fires on "cat" alone
    contexts = corpus(lambda i, t: f"{t} red cat" if i % 4 == 0 else f"{t} red" if i % 4 == 1 else t, [(5, "^cat$")])
    assert choose_terms(contexts, 24) == {5: ["cat"]}
    result = score(contexts, {5: ["cat"]}, contexts.held_out)[5]
    assert result.accuracy == 1 and result.fires == sum(
        t.endswith("cat") for t in np.array(contexts.texts)[contexts.held_out]
    )


def test_several_words_and_spans_are_chosen():
    def change(i, text):
        return f"{text} {['cat', 'dog', 'new york', 'new', 'york'][i % 5]} end"

    contexts = read_contexts(
        [row(change(i, text), [(5, "^(cat|dog)$")] + [(6, "^york$")] * (i % 5 == 2)) for i, text in enumerate(FILLER)],
        64,
    )
    chosen = choose_terms(contexts, 24)
    assert set(chosen[5]) == {"cat", "dog"} and chosen[6] == ["new york"]
    assert choose_terms(contexts, 1)[5] in (["cat"], ["dog"])


def test_the_place_in_the_text_is_a_term():
    contexts = read_contexts([row(f"{t} {t}", [(1, f"^w{i}$")]) for i, t in enumerate(FILLER)], 8)
    (first,) = {tuple(terms) for terms in choose_terms(contexts, 24).values()}
    assert first[0] == "(beginning)"


def test_shares_of_right_answers_make_the_score():
    contexts = corpus(lambda i, t: t + " cat" * (i % 2 == 0) + " dog" * (i % 4 == 0), [(1, "cat")])
    everywhere = np.ones(len(contexts), np.bool_)
    scores = score(contexts, {1: ["dog"], 2: ["dog"]}, everywhere)
    assert scores[1].accuracy == 0.75  # half of the contexts where it fires, and all others
    low, high = scores[1].interval
    assert 0.69 < low < 0.75 < high < 0.81
    assert np.isnan(scores[2].accuracy) and scores[2].fires == 0
    assert score(contexts, {1: []}, everywhere)[1].accuracy == 0.5


def test_equal_texts_are_in_the_same_half():
    contexts = read_contexts([row("a b c d", []), row("a b c d", []), *(row(t, []) for t in FILLER)], 2)
    assert len(set(contexts.held_out[:4].tolist())) == 1
    assert 0.4 < contexts.held_out.mean() < 0.6


def test_features_in_several_chunks_get_the_same_terms(monkeypatch):
    contexts = corpus(lambda i, t: t + " cat dog", [(i, f"^{w}") for i, w in enumerate(["cat", "dog", "w", "x", "y"])])
    whole = choose_terms(contexts, 8)
    monkeypatch.setattr("hf_sae_select.concepts.predictors.CHUNK", 150)
    assert choose_terms(contexts, 8) == whole and len(whole) == 5


def test_words_that_no_name_can_hold_are_in_no_term():
    contexts = read_contexts([row("x" * 40 + " \x07 cat", [])], 64)
    assert contexts.words.tolist().count(-1) == 2 and "cat" in terms_of(contexts, 0)


def test_the_plain_word_wins_where_a_sign_beside_it_says_little_more():
    rows = [row(f"{i} . only {i} .", [(1, "only")]) for i in range(40)] + [row(f"just {i} !", []) for i in range(40)]
    assert choose_terms(read_contexts(rows, 64), 3)[1] == ["only"]


def test_spans_with_a_sign_at_an_end():
    contexts = read_contexts([row("a , and b ! ? (end)", [])], 64)
    ids = {word: i for i, word in enumerate(contexts.vocabulary)}
    spans = ["a", ",", ", and", "a ,", ", and b", "a , and", "! ?", "b ! ?", "and b", "(beginning) a"]
    keys = np.array([key_of(span, ids) for span in spans])
    with_sign = [
        span for span, is_one in zip(spans, has_sign_at_end(keys, contexts.vocabulary), strict=True) if is_one
    ]
    assert with_sign == [", and", "a ,", ", and b", "b ! ?"]
