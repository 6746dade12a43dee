"""Labels made from texts: on an SAE whose features are known words, the names are those words."""

import itertools
import math

import pytest
from datasets import Dataset
from helpers.wordy import wordy_sae

from hf_sae_select import label_features
from hf_sae_select.concepts.naming import _label, _name
from hf_sae_select.concepts.predictors import Score
from hf_sae_select.concepts.prompts import name_of

SUBJECTS, VERBS, PLACES = ["cat", "dog", "bird", "moon"], ["sat", "ran", "flew"], ["mat", "log", "moon"]
COLOURS = ["red", "blue", "green", "big", "small"]
TEXTS = [
    f"the {colour} {subject} {verb} on the {place}"
    for subject, verb, place, colour in itertools.product(SUBJECTS, VERBS, PLACES, COLOURS)
]


@pytest.fixture
def wordy(bert):
    return wordy_sae(bert)


@pytest.fixture
def texts():
    return Dataset.from_dict({"text": TEXTS})


def test_the_names_are_the_words_that_features_fire_on(wordy, texts):
    labels = label_features(texts, wordy)
    assert [set(label.words) for label in labels] == [
        {"cat"},
        {"dog", "bird"},
        {"red", "blue", "green"},
        {"moon"},
        set(),
        set(),
    ]
    assert labels.name(0) == "cat" and set(labels.name(2).split("/")) == {"red", "blue", "green"}
    assert [label.score for label in labels][:4] == [1, 1, 1, 1] and math.isnan(labels[4].score)
    low, high = labels[0].interval
    assert 0.9 < low < high == 1
    assert labels[0].frequency == pytest.approx(1 / 4) and labels[3].frequency == pytest.approx(1 / 4 + 1 / 4)


def test_examples_are_contexts_with_the_tokens_that_fire(wordy, texts):
    example = label_features(texts, wordy, examples=2)[1].examples[0]
    assert [example.text[start:end] for start, end in example.spans] in (["dog"], ["bird"])
    assert example.activation == pytest.approx(1, abs=1e-4) and example.text in TEXTS
    assert label_features(texts, wordy, examples=0)[1].examples == ()


def test_labels_say_whose_they_are_and_how_they_were_made(wordy, texts):
    labels = label_features(texts, wordy, rows=50, max_length=8)
    assert (labels.d_sae, labels.sae_sha256) == (6, wordy.digest())
    expected = {"method": "words", "rows": 50, "contexts": 50, "max_length": 8, "fired": 4, "named": 4, "seed": 0}
    assert expected.items() <= labels.metadata.items()


@pytest.mark.parametrize("batch_size", [1, 7])
def test_labels_do_not_depend_on_the_batch_size(wordy, texts, batch_size):
    assert label_features(texts, wordy, batch_size=batch_size) == label_features(texts, wordy)


def test_rows_are_drawn_by_the_seed(wordy, texts):
    assert label_features(texts, wordy, rows=30) == label_features(texts, wordy, rows=30)
    assert label_features(texts, wordy, rows=30) != label_features(texts, wordy, rows=30, seed=1)


def test_encoded_rows_are_read_as_they_were_encoded(wordy, texts):
    encoded = texts.rename_column("text", "words").add_column("text", ["the mat"] * len(texts))
    encoded = encoded.sae_encode(wordy, text="words")
    assert label_features(encoded, wordy) == label_features(texts, wordy)
    short = texts.sae_encode(wordy, max_length=3)  # the colour and the subject
    assert [label.frequency for label in label_features(short, wordy)][:4] == [0.25, 0.5, 0.6, 0.25]


def test_a_feature_that_its_words_do_not_tell_has_no_name(wordy, texts):
    labels = label_features(texts, wordy, words=1, least_score=0.75)
    assert labels.name(0) == "cat" and labels.name(2) == "" and len(labels[2].words) == 1
    assert 0.5 < labels[2].score < 0.75 and labels.metadata["named"] == 2
    assert label_features(texts, wordy, words=1, least_score=0.5).name(2) in ("red", "blue", "green")


@pytest.mark.parametrize(
    ("score", "least_score", "name"),
    [
        (Score(0.99, (0.66, 1.0), 2), 0.75, "cat"),
        (Score(0.99, (0.6, 1.0), 1), 0.75, ""),
        (Score(0.99, (0.6, 1.0), 1), 0.5, "cat"),
        (Score(0.74, (0.7, 0.78), 500), 0.75, ""),
        (Score(math.nan, (math.nan, math.nan), 0), 0.75, ""),
    ],
)
def test_a_name_needs_a_score_and_an_interval_that_begins_near_it(score, least_score, name):
    assert _label(0, ["cat"], score, 0.01, least_score).name == name


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("magnetic", "magnet", "magnet…"), "magnetic/magnet"),
        (("(number)", "three"), "three/(number)"),
        ((">",), 'the sign ">"'),
        (('"', "quote"), "the sign '\"'/quote"),
        (("< <",), 'the signs "< <"'),
        (("just", ". only", "merely"), "just/merely"),
        ((", and", ", but"), '", and"'),
        (("(beginning) sure", "yes (end)"), "(beginning) sure/yes (end)"),
        (("ve…",), "ve…"),
    ],
)
def test_names_are_plain_words_first(words, name):
    assert _name(words) == name


def test_a_long_row_is_several_contexts(wordy):
    rows = Dataset.from_dict({"text": ["the cat sat on " + "the mat " * 2, "the dog ran on " + "the log " * 2] * 3})
    labels = label_features(rows, wordy, context_size=4)
    assert labels.metadata["contexts"] == 12 and labels[0].frequency == 0.25


def test_another_sae_than_the_one_that_encoded_is_refused(wordy, texts, sae):
    with pytest.raises(ValueError, match="`sae` is another SAE"):
        label_features(texts.sae_encode(wordy), sae)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"rows": 0}, ValueError),
        ({"max_length": 1.5}, ValueError),
        ({"context_size": -1}, ValueError),
        ({"words": 0}, ValueError),
        ({"words": 65}, ValueError),
        ({"least_score": 1.5}, ValueError),
        ({"examples": 100}, ValueError),
        ({"labeller": "gpt"}, TypeError),
        ({"seed": -1}, ValueError),
        ({"batch_size": 0}, ValueError),
        ({"show_progress_bar": "yes"}, ValueError),
    ],
    ids=str,
)
def test_arguments_are_checked_first(arguments, error, texts):
    with pytest.raises(error, match=f"`{next(iter(arguments))}="):
        label_features(texts, "no/such", **arguments)


def test_rows_without_words_are_refused(wordy):
    with pytest.raises(ValueError, match="no row that was read has a word"):
        label_features(Dataset.from_dict({"text": ["", " "]}), wordy)


# A labeller


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ('Name: "Magnets"', "Magnets"),
        ("Name: **Magnets**", "Magnets"),
        ("**Name:** Magnets.", "Magnets"),
        ("**Name: Magnets**", "Magnets"),
        ("magnets  and\tthe\xa0poles\n", "magnets and the poles"),
        ('"cat" and "dog"', '"cat" and "dog"'),
        ('the word "magnet"', 'the word "magnet"'),
        ("two\u2028lines", ""),
    ],
)
def test_answers_are_tidied(answer, name):
    assert name_of(answer) == name


def test_a_labeller_names_what_has_a_name(wordy, texts):
    prompts = []

    def labeller(prompt):
        prompts.append(prompt)
        return f' "Name {len(prompts)}" '

    labels = label_features(texts, wordy, words=1, examples=0, labeller=labeller)
    assert [labels.name(i) for i in range(6)] == ["Name 1", "", "", "Name 2", "", ""]
    assert labels[0].words == ("cat",) and labels[0].score == 1 and labels[0].examples == ()
    assert ">>cat<<" in prompts[0] and "Words that predict it: cat" in prompts[0]
    assert labels.metadata["labeller"] == {"asked": 2, "failed": 0, "no_name": 0, "not_asked": 0}


@pytest.mark.parametrize("answer", ["", None, 5, "x" * 81, "two\nlines", "a\x1b[31mb", "...", "\u202eabc"], ids=repr)
def test_nonsense_is_counted_and_the_words_remain(wordy, texts, answer):
    answers = iter(["Felines", answer, answer, "Heaven"])
    with pytest.warns(UserWarning, match="`labeller` failed for 0 and returned no name for 2 of 4 features"):
        labels = label_features(texts, wordy, labeller=lambda prompt: next(answers))
    assert labels.name(0) == "Felines" and labels.name(3) == "Heaven" and "dog" in labels.name(1)
    assert labels.metadata["labeller"]["no_name"] == 2


def test_a_labeller_that_fails_is_counted_and_given_up_after_some_failures(wordy, texts, monkeypatch):
    monkeypatch.setattr("hf_sae_select.concepts.prompts.MOST_FAILURES", 2)

    def fails(prompt):
        raise TimeoutError("key=secret")

    with pytest.warns(UserWarning, match=r"failed for 2 \(first by TimeoutError\).*not asked about 2 more") as caught:
        labels = label_features(texts, wordy, labeller=fails)
    assert labels.name(0) == "cat" and "secret" not in str(caught[0].message)
    assert labels.metadata["labeller"] == {"asked": 2, "failed": 2, "no_name": 0, "not_asked": 2}
