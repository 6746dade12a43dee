"""Texts -> the code columns of their rows: language model up to the SAE's layer, SAE, maximum over the tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..features.columns import ACTS, FLAGS, IDS, STATE, TOKENS, RowFlags, column_types
from ..features.kept import Kept
from ..sae.model import SparseAutoencoder
from ..sae.products import SplitProduct
from ..sae.segments import segment_sums
from .arguments import EncodingArguments
from .batches import Window
from .chat_template import ChatTemplate
from .hooks import reads_residual
from .language_model import READING_DEFAULTS, LanguageModel
from .pretrained import look_up, resolve
from .text import Rendering, Text

ENCODING_VERSION = 2  # raise it when the same input gives other codes: then no older cache file is read

Code = tuple[NDArray[Any], NDArray[np.float32]]
"""Feature ids, ascending, and activations of a window or a row."""
BLANK: Code = np.empty(0, np.int64), np.empty(0, np.float32)


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
        self.product: SplitProduct | None = None
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
        """Load the language model, and copy the SAE to the device if it is on another one.

        Raises:
            ValueError: the vectors at the hook have another width than those that the SAE reads.
        """
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
        longest = self._check_budget(self.model.window, len(self.model.tokens.before + self.model.tokens.after))
        if self.model.device.type == "cuda":  # a GPU without room for a window is found before the work
            self.model.check_room(min(longest, self.arguments.budget or longest))

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

    def check_finite(self, codes: pa.Table, rows: NDArray[np.int64]) -> None:
        """Check that the codes of rows of the dataset, by their numbers, are finite.

        Raises:
            ValueError: they are not; the first such row is named.
        """
        acts = codes.column(ACTS).combine_chunks()
        overflows = np.flatnonzero(~np.isfinite(acts.flatten().to_numpy()))
        if not len(overflows):
            return
        row = int(rows[np.searchsorted(acts.offsets.to_numpy(), overflows[0], side="right") - 1])
        config, dtype = self.sae.config, str(self.model.model.dtype).removeprefix("torch.")
        remedy = "leave the row out, or look at the weights of the model"
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

    @torch.no_grad()
    def __call__(self, texts: list[Text]) -> pa.Table:
        """Encode the texts of a batch of rows."""
        is_plain, length = self.template is None, self.arguments.max_length
        windows = self.model.windows([text for text, _ in texts], max_length=length, special=is_plain)
        flags = np.array([flags for _, flags in texts], np.uint8)
        flags |= np.where(_mostly_unknown(windows, len(texts)), RowFlags.UNKNOWN, 0).astype(np.uint8)
        codes: list[list[Code]] = [[] for _ in texts]  # of the windows of each row
        tokens = np.zeros(len(texts), np.int32)
        state_sums = np.zeros((len(texts), self.state_width or 0))
        for group, states in self.model.states(windows, self.arguments.batch_size, self.arguments.budget):
            states = states.to(self.sae.W_enc.device)
            lengths = [sum(window.is_text) for window in group]
            for window, length, code in zip(group, lengths, self._codes(states, lengths), strict=True):
                codes[window.row].append(code)
                tokens[window.row] += length
            if self.state_width is not None:
                rows = [window.row for window in group]
                np.add.at(state_sums, rows, segment_sums(states, lengths).cpu().numpy())
        means = state_sums / np.maximum(tokens, 1)[:, None]
        return self._table([_merged(parts) for parts in codes], tokens, flags, means)

    def _table(
        self, codes: list[Code], tokens: NDArray[np.int32], flags: NDArray[np.uint8], states: NDArray[np.float64]
    ) -> pa.Table:
        """Lay out what is stored of codes, and mean states, as Arrow columns, without a Python object for each number.

        `states` [n, d_in] has width 0 if states are not kept.
        """
        kept, config = self.kept, self.sae.config
        codes = codes if kept is None else [kept.cut(*code) for code in codes]
        offsets = pa.array(np.cumsum([0, *(len(ids) for ids, _ in codes)]), pa.int32())
        ids, acts = (np.concatenate(column) for column in zip(*codes, strict=True))
        acts = acts if kept is None else kept.stored(acts, config.feature_threshold)
        width = column_types({"d_sae": config.d_sae}).arrow_schema.field(IDS).type.value_type
        columns = {
            IDS: pa.ListArray.from_arrays(offsets, pa.array(ids, width)),
            ACTS: pa.ListArray.from_arrays(offsets, pa.array(acts)),
            TOKENS: pa.array(tokens),
            FLAGS: pa.array(flags),
        }
        if d_in := states.shape[1]:
            columns[STATE] = pa.FixedSizeListArray.from_arrays(pa.array(states.astype(np.float32).ravel()), d_in)
        return pa.table(columns)

    def _codes(self, states: Tensor, lengths: list[int]) -> list[Code]:
        """Return the code of each window; window i has the next `lengths[i]` vectors of `states`."""
        largest = self.maxima(states, lengths)
        window, ids = largest.nonzero(as_tuple=True)
        ends = torch.bincount(window, minlength=len(lengths)).cumsum(0)[:-1].cpu().numpy()
        columns = (ids, largest[window, ids].float())
        return list(zip(*(np.split(column.cpu().numpy(), ends) for column in columns), strict=True))


def _mostly_unknown(windows: list[Window], rows: int) -> NDArray[np.bool_]:
    """Tell of which rows the tokenizer knows less than half of the tokens."""
    excess = np.zeros(rows, np.int64)
    for window in windows:
        excess[window.row] += 2 * window.unknown - sum(window.is_text)
    return excess > 0


def _merged(codes: list[Code]) -> Code:
    """Merge the codes of a row's windows: each feature of any window, at its largest activation."""
    if len(codes) < 2:
        return codes[0] if codes else BLANK
    ids, acts = (np.concatenate(column) for column in zip(*codes, strict=True))
    unique, position = np.unique(ids, return_inverse=True)
    largest = np.zeros(len(unique), np.float32)
    np.maximum.at(largest, position, acts)
    return unique, largest
