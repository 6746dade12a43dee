"""Texts -> the ids of their tokens, and the special tokens around each window of them."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from typing import Any

GROUP_CHARACTERS = 2**20  # texts are tokenised in groups of this length: encodings need far more memory than ids
# A text that is cut to n tokens is tokenised up to this many characters, then four times as many, and so on.
CHARACTERS_PER_TOKEN, MORE_CHARACTERS = 8, 64
FAR = 256  # characters in which to look for a place to cut
SURROGATE = re.compile("[\ud800-\udfff]")
Words = Callable[[], list[int | None]]
NAMES = ("bos", "eos", "pad", "cls", "sep", "mask")


class TextTokenizer:
    """Tokenise texts without special tokens, and know the special tokens that belong around them.

    Args:
        tokenizer (`PreTrainedTokenizerBase`):
            A tokenizer of transformers.
        prepend_bos (`bool`, *optional*):
            Whether a window begins with BOS. By default as the tokenizer does it.
    """

    def __init__(self, tokenizer: Any, prepend_bos: bool | None = None) -> None:
        self.tokenizer = tokenizer
        own, self.after = _special_tokens_around(tokenizer)
        self.before = _leading(tokenizer, own, prepend_bos)
        self._openings = self._spellings(own, self.before, ["bos", "cls"])
        self._closings = self._spellings(self.after, [], ["eos", "sep"])
        added = tokenizer.added_tokens_decoder.items()
        self.special = set(tokenizer.all_special_ids) | {i for i, token in added if token.special}
        named = {getattr(tokenizer, f"{name}_token_id", None) for name in NAMES}
        # [UNK] stands for text that the tokenizer does not know. GPT-2's has another use too: it ends documents.
        self.unknown: int | None = None if tokenizer.unk_token_id in named else tokenizer.unk_token_id
        self.special.discard(self.unknown)
        self._pairs: dict[str, bool] = {}

    def _spellings(self, own: list[int], now: list[int], names: list[str]) -> list[str]:
        """Return how special tokens look in a text, the longest first."""
        texts = {"".join(self.tokenizer.convert_ids_to_tokens(ids)) for ids in (own, now)}
        texts |= {getattr(self.tokenizer, f"{name}_token", None) or "" for name in names}
        return sorted(texts - {""}, key=len, reverse=True)

    def unframed(self, text: str) -> str:
        """Return a text without the special tokens that a chat template wrote at its beginning and at its end."""
        opening = next((token for token in self._openings if text.startswith(token)), "")
        text = text.removeprefix(opening)
        return text.removesuffix(next((token for token in self._closings if text.endswith(token)), ""))

    def __call__(self, texts: Sequence[str], max_length: int | None = None) -> list[list[int]]:
        """Return the token ids of each text, at most its first `max_length`.

        A lone surrogate, which no encoding of Unicode has, is read as U+FFFD.
        """
        texts = [SURROGATE.sub("\ufffd", text) for text in texts]
        ids: dict[int, list[int]] = {}
        size = None if max_length is None else CHARACTERS_PER_TOKEN * max_length + MORE_CHARACTERS
        while rows := [row for row in range(len(texts)) if row not in ids]:
            prefixes = [self._prefix(texts[row], size) for row in rows]
            for row, prefix, (tokens, words) in zip(rows, prefixes, self._encodings(prefixes), strict=True):
                if max_length is None or self._settled(texts[row], prefix, words) >= max_length:
                    ids[row] = tokens[:max_length]
            size = size and 4 * size
        return [ids[row] for row in range(len(texts))]

    def _encodings(self, texts: list[str]) -> Iterator[tuple[list[int], Words]]:
        """Yield the ids of each text, and a function that returns which words they are from."""
        start = 0
        while start < len(texts):
            end = start + 1
            characters = len(texts[start])
            while end < len(texts) and (characters := characters + len(texts[end])) <= GROUP_CHARACTERS:
                end += 1
            # `verbose=False`: the tokenizer would warn that a text is long; here it is cut on purpose.
            batch = self.tokenizer(texts[start:end], add_special_tokens=False, verbose=False)
            for i, ids in enumerate(batch["input_ids"]):
                yield ids, partial(batch.word_ids, i)
            start = end

    # ---- the first tokens of a long text
    #
    # They must be those of the whole text. A tokenizer splits a text into words, from left to right, and each word
    # into tokens. Two facts make a prefix enough:
    #
    # - The rest of a text changes only the last word of a prefix, and the one before where that is white space. An
    #   exception are tokenizers that group digits from the right, so no prefix ends with a digit.
    # - Some tokenizers (Llama, Gemma, XLM-R) have long words: the whole text, or all between two spaces. If no token
    #   of the vocabulary has the two characters on both sides of the cut, then one token of the text ends there. Up to
    #   the end of a token, BPE gives a prefix the same tokens: merges on one side never use the other side. Unigram
    #   does so too: the best way to a place does not depend on what follows.
    #
    # Where neither helps, as in a long run of one character, the whole text is tokenised.

    def _prefix(self, text: str, size: int | None) -> str:
        """Return the first `size` characters of a text or a few more, up to a place where it may be cut."""
        if size is None or not self.tokenizer.is_fast:
            return text
        for end in range(size, min(size + FAR, len(text))):
            if self._may_cut(text, end):
                return text[:end]
        return text if size + FAR >= len(text) else text[: size + FAR]

    def _may_cut(self, text: str, end: int) -> bool:
        """Tell whether what follows this place cannot reach far before it."""
        last, pair = text[end - 1], text[end - 1 : end + 1]
        if last.isspace() or last.isnumeric():
            return False
        if any(text.find(token, max(end - len(token) + 1, 0), end + len(token) - 1) >= 0 for token in self._added):
            return False
        if not self._splits_at_spaces:
            return True
        if pair not in self._pairs:
            self._pairs[pair] = self._is_in_no_token(pair)
        return self._pairs[pair]

    def _settled(self, text: str, prefix: str, words: Words) -> float:
        """Return how many tokens of a prefix are tokens of the text too."""
        if len(prefix) == len(text):
            return math.inf  # all that there are
        if not self._may_cut(text, len(prefix)):
            return 0
        word_ids = words()
        if self._splits_at_spaces:
            return len(word_ids)
        last = max((word for word in word_ids if word is not None), default=0)
        return next((i for i, word in enumerate(word_ids) if word is not None and word >= last - 1), 0)

    @cached_property
    def _added(self) -> list[str]:
        return [token.content for token in self.tokenizer.added_tokens_decoder.values()]

    @cached_property
    def _splits_at_spaces(self) -> bool:
        """Whether the words of this tokenizer end at white space alone, and its tokens are written as text."""
        backend = self.tokenizer.backend_tokenizer
        if type(backend.model).__name__ not in ("BPE", "Unigram"):
            return False
        if "ByteLevel" in f"{backend.normalizer!r} {backend.pre_tokenizer!r}":
            return False
        text = "a1 b."
        text = text if backend.normalizer is None else backend.normalizer.normalize_str(text)
        return backend.pre_tokenizer is None or len(backend.pre_tokenizer.pre_tokenize_str(text)) <= 2

    @cached_property
    def _vocabulary(self) -> str:
        return "\0".join(self.tokenizer.get_vocab())

    def _is_in_no_token(self, pair: str) -> bool:
        """Tell whether no token has these two characters side by side."""
        if unicodedata.category(pair[1]) in (
            "Mn",
            "Mc",
            "Me",
            "Cf",
        ):  # it may be of one character with what stands before
            return False
        normalizer = self.tokenizer.backend_tokenizer.normalizer
        marked = pair.replace(" ", "▁")
        normal = pair if normalizer is None else normalizer.normalize_str(pair)
        return normal.endswith((pair, marked)) and pair not in self._vocabulary and marked not in self._vocabulary


def _special_tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the special tokens that a tokenizer puts before and after a text."""
    bare, framed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    kind = type(tokenizer).__name__
    raise ValueError(f"cannot tell the special tokens of {kind} from the text: 'a' gives {framed}")


def _leading(tokenizer: Any, own: list[int], prepend_bos: bool | None) -> list[int]:
    """Return the special tokens that a window begins with."""
    if prepend_bos is False:
        return []
    if prepend_bos and not own:
        # A model without a BOS begins with the token that ends a document, as in TransformerLens.
        bos = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        return [] if bos is None else [bos]
    return own
