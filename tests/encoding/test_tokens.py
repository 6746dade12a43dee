"""Texts become tokens: the first ones of a long text are those of the whole text, whatever tokenizer it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from hf_sae_select.encoding import tokens
from hf_sae_select.encoding.tokens import TextTokenizer

CORPUS = [
    "the cat sat on the mat, aaaa aaaaaaaa  and the   dog ran 1234 12 1 56789",
    "aa a aaa ab abab ababab\n\nthe end. the end. 猫坐在垫子上。猫和狗。 猫坐在, The END été",
    "catcat thecat 1,000,000 x==y;  if (a) { b }    else",
] * 4
MARKED = normalizers.Replace(" ", "▁")
DIGITS = pre_tokenizers.Split(Regex(r"\d{1,3}(?=(\d{3})*\b)"), "isolated")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)


def trained(model, trainer, normalizer=None, words=None):
    backend = Tokenizer(model)
    if normalizer is not None:
        backend.normalizer = normalizer
    if words is not None:
        backend.pre_tokenizer = words
    backend.train_from_iterator(CORPUS, trainer)
    names = {"unk_token": "<unk>", "bos_token": "<s>", "additional_special_tokens": ["<|im_start|>", "<turn a>"]}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def bpe(**parts):
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>", "<s>"], show_progress=False)
    return trained(models.BPE(unk_token="<unk>", fuse_unk=True), trainer, **parts)


def unigram(**parts):
    trainer = trainers.UnigramTrainer(
        vocab_size=90, special_tokens=["<unk>", "<s>"], unk_token="<unk>", show_progress=False
    )
    return trained(models.Unigram(), trainer, **parts)


def wordpiece():
    trainer = trainers.WordPieceTrainer(vocab_size=110, special_tokens=["<unk>", "<s>"], show_progress=False)
    model = models.WordPiece(unk_token="<unk>", max_input_chars_per_word=9)
    return trained(model, trainer, normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer())


TOKENIZERS = {
    "bpe of bytes": lambda: bpe(words=BYTES),
    "bpe, digits from the right": lambda: bpe(words=pre_tokenizers.Sequence([DIGITS, BYTES])),
    "bpe without words": lambda: bpe(normalizer=normalizers.Sequence([normalizers.Prepend("▁"), MARKED])),
    "bpe of spaces that are no spaces": lambda: bpe(
        normalizer=MARKED, words=pre_tokenizers.Split(" ", "merged_with_previous")
    ),
    "unigram": lambda: unigram(words=pre_tokenizers.Metaspace()),
    "unigram without words": lambda: unigram(words=pre_tokenizers.Metaspace(split=False, prepend_scheme="first")),
    "unigram, lower case": lambda: unigram(
        normalizer=normalizers.Sequence([normalizers.NFKD(), normalizers.Lowercase(), MARKED])
    ),
    "word pieces": wordpiece,
}
PIECES = [
    "a",
    "aa",
    "aaaaaaaaaa",
    "b",
    " ",
    "   ",
    "\n",
    "the cat",
    "dog",
    ",",
    ".",
    "1",
    "234",
    "é",
    "e\u0301",
    "猫",
    "坐在",
]
PIECES += ["。", "😀", "T", "<s>", "<|im_start|>", "<turn a>", "<turn", "|>", "zzzzzzzz", "\u200b", "="]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=40)


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request):
    return TextTokenizer(TOKENIZERS[request.param]())


def test_the_first_tokens_are_those_of_the_whole_text(tokenizer, monkeypatch):
    for name, value in {"CHARACTERS_PER_TOKEN": 1, "MORE_CHARACTERS": 2, "FAR": 5, "GROUP_CHARACTERS": 30}.items():
        monkeypatch.setattr(tokens, name, value)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(TEXTS, min_size=1, max_size=3), st.integers(1, 6))
    def check(texts, count):
        whole = [tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        assert tokenizer(texts, count) == [ids[:count] for ids in whole]
        assert tokenizer(texts) == whole

    check()


LONG = {
    "words": "the cat sat on the mat ",
    "no spaces": "猫坐在垫子上。猫和狗。",
    "commas": "cat,dog,",
    "lines": "the end.\n\n",
}


@pytest.mark.parametrize("kind", LONG)
def test_only_the_beginning_of_a_long_text_is_tokenised(tokenizer, kind, monkeypatch):
    text = " " * 9 + LONG[kind] * 20_000
    whole = tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"]
    read, call = [], type(tokenizer.tokenizer).__call__
    monkeypatch.setattr(
        type(tokenizer.tokenizer), "__call__", lambda self, texts, **kw: read.extend(texts) or call(self, texts, **kw)
    )
    assert tokenizer([text] * 3, 32) == [whole[:32]] * 3
    assert sum(map(len, read)) < 20_000


def test_a_text_that_has_no_place_to_cut_is_read_whole(tokenizer):
    text = "a" * 5000
    assert tokenizer([text], 2)[0] == tokenizer([text])[0][:2]


def test_white_space_that_yields_no_token_is_passed_over():
    tokenizer = TextTokenizer(wordpiece())
    assert tokenizer([" " * 50_000 + "the cat"], 1) == [tokenizer(["the"])[0][:1]]


def test_long_texts_are_tokenised_a_few_at_a_time(monkeypatch):
    tokenizer = TextTokenizer(wordpiece())
    sizes, call = [], PreTrainedTokenizerFast.__call__
    monkeypatch.setattr(tokens, "GROUP_CHARACTERS", 30)
    monkeypatch.setattr(
        PreTrainedTokenizerFast,
        "__call__",
        lambda self, texts, **kw: sizes.append(len(texts)) or call(self, texts, **kw),
    )
    assert len(tokenizer(["the cat"] * 5 + ["the mat " * 9, ""])) == 7
    assert sizes == [4, 1, 1, 1]


@pytest.mark.parametrize("lone", ["\ud800", "\udfff", "\udc9f\ud83d"])
def test_a_lone_surrogate_is_read_as_the_replacement_character(tokenizer, lone):
    assert tokenizer([f"the {lone} cat", lone]) == tokenizer(
        ["the " + "\ufffd" * len(lone) + " cat", "\ufffd" * len(lone)]
    )


@pytest.mark.parametrize(
    ("rendered", "plain"),
    [
        ("<s>the cat", "the cat"),
        ("<s> the cat", " the cat"),
        ("the cat", "the cat"),
        ("the cat</s>", "the cat"),
        ("<s>the cat</s>", "the cat"),
        ("<s>the</s> cat</s>", "the</s> cat"),
        ("<s><s>the cat", "<s>the cat"),  # the second is the text's own
        ("<|im_start|>the cat</s>\n", "<|im_start|>the cat</s>\n"),
        ("<s>", ""),
        ("<s></s>", ""),
    ],
)
def test_what_a_template_writes_around_a_text_is_left_out(tokenizer, rendered, plain):
    backend = tokenizer.tokenizer
    backend.eos_token = "</s>"
    tokenizer = TextTokenizer(backend)
    assert tokenizer.unframed(rendered) == plain
    assert (tokenizer.before, tokenizer.after) == ([], [])
