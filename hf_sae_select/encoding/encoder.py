"""Texts -> the largest activations of windows of their tokens: language model up to the SAE's layer, SAE, maximum.

`Encoder.tokenized` and `Encoder.passes` are the first two stages of a pipeline; `RowCollector` is the third.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..features.columns import RowFlags
from ..features.kept import LARGEST, Kept
from ..sae.model import SparseAutoencoder
from ..sae.products import ReusedProduct, SplitProduct
from ..sae.segments import Product, segment_sums
from .arguments import EncodingArguments
from .batches import Window
from .chat_template import ChatTemplate
from .hooks import reads_residual
from .language_model import READING_DEFAULTS, LanguageModel
from .pretrained import look_up, resolve
from .text import Rendering, Text

ENCODING_VERSION = 2  # raise it when the same input gives other codes: then no older cache file is read

# Rows that are tokenised and sorted by length together. A GPU wants full batches; a CPU is as fast with small ones.
GROUP_ROWS, GROUP_ROWS_CUDA = 1000, 16_000
# Tokens of rows of several windows that are encoded before such rows are complete: seconds of work.
PORTION_TOKENS, PORTION_TOKENS_CUDA = 2**14, 2**20


@dataclass(frozen=True)
class RowGroup:
    """Rows that are sorted by length and encoded together."""

    rows: NDArray[np.int64]
    """Their numbers in the dataset."""
    windows: list[Window]
    """Their windows; `Window.row` is a place in `rows`."""
    flags: NDArray[np.uint8]


@dataclass(frozen=True)
class Pass:
    """What one forward pass gave, on the device, where it may not be computed yet."""

    rows: NDArray[np.int64]
    """[windows]: the numbers of their rows."""
    lengths: list[int]
    """[windows]: their numbers of text tokens."""
    largest: Tensor
    """[windows, d_sae]: the largest activations."""
    state_sums: Tensor | None
    """[windows, d_in]: the sums of their states, where these are kept."""
    event: torch.cuda.Event | None
    """Happens when all this is computed."""


class Encoder:
    """Turn the texts of rows into their code columns.

    Building one reads the config of the language model, and its tokenizer for chats; `load` loads the model.

    Raises:
        ValueError: the SAE was trained on vectors of another width than the language model's.
        OSError: the language model is neither on the Hub nor in an installed package.
    """

    def __init__(self, sae: SparseAutoencoder, rendering: Rendering, arguments: EncodingArguments) -> None:
        self.sae, self.rendering, self.arguments = sae, rendering, arguments
        config = sae.config
        width, self.revision = look_up(config.model, config.model_revision)
        if width != config.d_in and reads_residual(config.hook):
            raise ValueError(
                f"this SAE reads vectors of d_in={config.d_in}, but {config.model} has width {width}; "
                "it was trained on another model, or its config names the wrong one"
            )
        if arguments.precision != "float32" and sae.W_enc.dtype != torch.float32:
            dtype = str(sae.W_enc.dtype).removeprefix("torch.")
            raise ValueError(
                f"`precision={arguments.precision!r}` is for an SAE in float32, and this one is in {dtype}; load it "
                "with dtype=torch.float32, or leave `precision` out"
            )
        if config.context_size is not None:
            self._check_budget(config.context_size)
        self._is_loaded = False
        self.product: Product | None = None
        self.template = None
        if rendering.chat:
            self.template = ChatTemplate.of(config.model, self.revision, arguments.chat_template_kwargs)

    @property
    def state_width(self) -> int | None:
        """Width of the mean hidden states; None if they are not kept."""
        return self.sae.config.d_in if self.arguments.keep_state else None

    @property
    def kept(self) -> Kept | None:
        """What is stored of each row; None for all activations, in float32."""
        strongest, threshold = self.arguments.strongest, self.sae.config.feature_threshold
        return None if strongest is None else Kept.of(strongest, threshold, self.arguments.acts_type)

    def record(self) -> dict[str, Any]:
        """Return the encoding record: all that decides the codes, in JSON. It is the key of the cache too."""
        config = self.sae.config
        # Fields at their usual values are left out, which keeps the names of cache files.
        reading = {name: getattr(config, name) for name in READING_DEFAULTS}
        record = {
            "version": ENCODING_VERSION,
            "sae_sha256": self.sae.digest(),
            "d_sae": config.d_sae,
            "threshold": config.feature_threshold,
            "model": config.model,
            "model_revision": self.revision,
            "hook": config.hook,
            **{name: value for name, value in reading.items() if value != READING_DEFAULTS[name]},
            "dtype": [self.arguments.dtype, str(self.sae.W_enc.dtype).removeprefix("torch.")],
            "window": config.context_size,
            "max_length": self.arguments.max_length,
            "text": self.rendering.record(),
            "chat_template_sha256": self.template.digest if self.template else None,
        }
        if self.template is not None and self.template.options:
            record["chat_template_kwargs"] = dict(self.template.options)
        if self.arguments.precision != "float32":
            record["precision"] = self.arguments.precision
        if (matmul := torch.get_float32_matmul_precision()) != "highest":
            record["float32_matmul_precision"] = matmul
        if self.kept is not None:
            record["keep"] = self.kept.record()
        model_kwargs = self.arguments.model_kwargs_record
        return record | {"model_kwargs": model_kwargs} if model_kwargs else record

    def resolved(self) -> dict[str, str] | None:
        """Return dtype and attention of the model, where transformers or the device chooses; they are no key."""
        if self.arguments.dtype != "auto" and self.arguments.device.type == "cpu":
            return None
        model = self.sae.config.model
        return resolve(
            LanguageModel.auto_class, model, self.revision, self.arguments.dtype, self.arguments.model_kwargs
        )

    def load(self) -> None:
        """Load the language model, unless it is loaded, and copy the SAE to the device if it is on another one.

        Raises:
            ValueError: the vectors at the hook have another width than those that the SAE reads.
        """
        if self._is_loaded:
            return
        config = self.sae.config
        device = torch.empty(0, device=self.arguments.device).device  # with its index: 'cuda' is 'cuda:0'
        self.model = LanguageModel.of(
            config,
            revision=self.revision,
            device=device,
            dtype=self.arguments.dtype,
            model_kwargs=self.arguments.model_kwargs,
        )
        if (width := self.model.width) != config.d_in:
            raise ValueError(
                f"this SAE reads vectors of d_in={config.d_in}, but those at `{self.model.hook.path}` have width "
                f"{width}; its config names the wrong `model` or `hook`"
            )
        if self.sae.W_enc.device != device:  # the caller's SAE stays where it is
            tensors = {name: tensor.detach().to(device) for name, tensor in self.sae.named_parameters()}
            self.sae = SparseAutoencoder.from_tensors(config, tensors)
        if self.arguments.precision != "float32":
            self.product = SplitProduct(self.sae.W_enc, self.arguments.precision)
        elif device.type == "cpu":  # torch itself uses the memory of a GPU again
            self.product = ReusedProduct(self.sae.W_enc)
        longest = self._check_budget(self.model.window, len(self.model.tokens.before + self.model.tokens.after))
        if self.model.device.type == "cuda":  # a GPU without room for a window is found before the work
            self.model.check_room(min(longest, self.arguments.budget or longest))
        self._is_loaded = True

    def _check_budget(self, window: int, special: int = 0) -> int:
        """Return the number of tokens of the longest window, with `special` ones beside its text.

        Raises:
            ValueError: `tokens_per_batch` is smaller.
        """
        length, budget = self.arguments.max_length, self.arguments.tokens_per_batch
        longest = window if length is None else min(window, length + special)
        if budget is not None and budget < longest:
            raise ValueError(
                f"`tokens_per_batch={budget}` is below one window of {longest} tokens; pass {longest} or more, or a "
                "smaller `max_length`"
            )
        return longest

    def check(self, acts: NDArray[np.float32], row: int) -> None:
        """Check that the activations of a row of the dataset are finite, and that their stored type can hold them.

        Raises:
            ValueError: they are not, or it cannot; the row is named.
        """
        largest = acts.max(initial=0)
        if np.isfinite(largest):  # NaN is the largest too
            if self.kept is not None and not self.kept.holds(largest):
                raise ValueError(
                    f"row {row} of `dataset` has the activation {largest:g}, beyond half precision (at most "
                    f"{LARGEST:g}): encode with `keep=({self.kept.strongest}, 'float32')`, or `keep='all'`"
                )
            return
        config, dtype = self.sae.config, str(self.model.model.dtype).removeprefix("torch.")
        remedy = "leave the row out, or look at the weights of the model and of the SAE"
        if dtype not in ("float32", "float64"):
            remedy = "pass dtype='float32'" + (" or dtype='bfloat16'" if dtype == "float16" else "")
        raise ValueError(
            f"row {row} of `dataset` has activations that are NaN or infinite: at `{config.hook}` of {config.model} "
            f"in dtype={dtype!r}; {remedy}"
        )

    def maxima(self, states: Tensor, lengths: list[int]) -> Tensor:
        """Return the largest activations of windows [windows, d_sae]; window i has the next `lengths[i]` vectors."""
        device, dtype = self.sae.W_enc.device, self.sae.W_enc.dtype
        states = states.to(device, dtype if self.product is None else states.dtype)
        return self.sae.encode_max(states, lengths, self.product)

    def tokenized(self, rows: NDArray[np.int64], texts: Sequence[Text]) -> RowGroup:
        """Tokenise the texts of rows, which have these numbers."""
        is_plain, length = self.template is None, self.arguments.max_length
        windows = self.model.windows([text for text, _ in texts], max_length=length, special=is_plain)
        flags = np.array([flags for _, flags in texts], np.uint8)
        flags |= np.where(_mostly_unknown(windows, len(texts)), RowFlags.UNKNOWN, 0).astype(np.uint8)
        return RowGroup(rows, windows, flags)

    @torch.no_grad()
    def passes(self, group: RowGroup) -> Iterator[Pass]:
        """Yield what each forward pass over the windows of rows gave, the longest windows first."""
        for windows in _portions(group.windows, self._portion_tokens):
            for batch, states in self.model.states(windows, self.arguments.batch_size, self.arguments.budget):
                yield from self._passes_of(group, batch, states.to(self.sae.W_enc.device))

    def _passes_of(self, group: RowGroup, batch: list[Window], states: Tensor) -> Iterator[Pass]:
        """Yield what the states of windows give: at once, or by halves where their activations do not fit in memory.

        Raises:
            torch.OutOfMemoryError: Those of a single window do not fit.
        """
        lengths = [sum(window.is_text) for window in batch]
        try:
            largest = self.maxima(states, lengths)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            largest = None
        if largest is None:
            if states.is_cuda:
                torch.cuda.empty_cache()
            self.model.limit(sum(len(window.ids) for window in batch) // 2)
            half = len(batch) // 2
            first, second = states.split([sum(lengths[:half]), sum(lengths[half:])])
            yield from self._passes_of(group, batch[:half], first)
            yield from self._passes_of(group, batch[half:], second)
            return
        sums = None if self.state_width is None else segment_sums(states, lengths)
        rows = group.rows[[window.row for window in batch]]
        yield Pass(rows, lengths, largest, sums, _recorded_event(largest.device))

    @property
    def group_rows(self) -> int:
        """Number of rows that are tokenised and sorted by length together."""
        return GROUP_ROWS_CUDA if self.arguments.device.type == "cuda" else GROUP_ROWS

    @property
    def _portion_tokens(self) -> int:
        return PORTION_TOKENS_CUDA if self.arguments.device.type == "cuda" else PORTION_TOKENS


def _portions(windows: list[Window], tokens: int) -> Iterator[list[Window]]:
    """Split windows so that rows are completed all along, and not all of them with the last pass.

    A row of one window is complete when that is. Rows of several windows come first, in portions of about so many
    tokens.
    """
    counts: dict[int, int] = {}
    for window in windows:
        counts[window.row] = counts.get(window.row, 0) + 1
    portion: list[Window] = []
    size = 0
    for i, window in enumerate(windows):
        if counts[window.row] == 1:
            continue
        portion.append(window)
        size += len(window.ids)
        is_last = i + 1 == len(windows) or windows[i + 1].row != window.row
        if size >= tokens and is_last:
            yield portion
            portion, size = [], 0
    yield portion + [window for window in windows if counts[window.row] == 1]


def _recorded_event(device: torch.device) -> torch.cuda.Event | None:
    """Return an event that happens when the work queued so far is done; None where work is not queued."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event


def _mostly_unknown(windows: list[Window], rows: int) -> NDArray[np.bool_]:
    """Tell of which rows the tokenizer knows less than half of the tokens."""
    excess = np.zeros(rows, np.int64)
    for window in windows:
        excess[window.row] += 2 * window.unknown - sum(window.is_text)
    return excess > 0
