"""Which characters of a row's text each feature fires on: rows read again, token by token."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..features.columns import encoding_record
from ..sae.loading import SaeSource
from .encoder import Encoder
from .recorded import recorded_arguments, recorded_sae
from .rows import RowReader
from .text import Text, TextSource, find_text
from .tokens import SURROGATE

if TYPE_CHECKING:
    import datasets

SLICE_FLOATS = 2**23  # activations of tokens that are dense in memory together
BATCH_ROWS = 256  # rows whose tokens are in memory together


@dataclass(frozen=True, eq=False)
class RowSpans:
    """Hold the features of each token of one row, and where in its text the token is."""

    text: str
    """The text as the model read it."""
    starts: NDArray[np.int32]
    """[tokens]: the first character of each token."""
    ends: NDArray[np.int32]
    """[tokens]: the character after the last one of each token."""
    offsets: NDArray[np.int64]
    """[tokens + 1]: where the features of each token begin in `ids` and `acts`."""
    ids: NDArray[np.int64]
    """[nnz]: feature ids, ascending within a token."""
    acts: NDArray[np.float32]
    """[nnz]: their activations. The largest of a feature over the tokens is that of the row."""

    def of(self, feature: int) -> list[tuple[int, int, float]]:
        """Return (start, end, activation) of each run of neighbouring tokens that a feature fires on.

        The activation is the largest of the run. White space at both ends is left out.
        """
        places = np.flatnonzero(self.ids == feature)
        tokens = np.searchsorted(self.offsets, places, side="right") - 1
        runs = np.split(np.arange(len(tokens)), np.flatnonzero(np.diff(tokens) > 1) + 1) if len(tokens) else []
        spans = []
        for run in runs:
            start, end = int(self.starts[tokens[run[0]]]), int(self.ends[tokens[run[-1]]])
            text = self.text[start:end]
            if words := text.strip():
                start += len(text) - len(text.lstrip())
                spans.append((start, start + len(words), float(self.acts[places[run]].max())))
        return spans


def row_spans(
    dataset: datasets.Dataset,
    rows: Sequence[int],
    sae: SaeSource | None = None,
    *,
    record: Mapping[str, Any] | None = None,
    text: TextSource | None = None,
    threshold: float = 0.0,
    batch_size: int = 32,
    show_progress_bar: bool | None = None,
) -> Iterator[RowSpans]:
    """Yield the spans of rows of a dataset, which are read again as they were when they were encoded.

    Args:
        dataset: the rows, with the columns that were encoded.
        rows: numbers of the rows.
        sae: the SAE, where the record does not say where it is.
        record: the encoding record. By default that of `dataset`, which then must be encoded.
        text: the function that wrote the text, where a function did.
        threshold: features of a token must be above this.

    Raises:
        ValueError: The rows cannot be read as they were: the record does not say how, the SAE is another one, or the
            tokenizer does not know where its tokens are in the text.
    """
    record = encoding_record(dataset) if record is None else record
    if not record:
        raise ValueError("the dataset is not encoded, so nothing says how its rows were read; pass `record`")
    columns = record["text"].get("columns")
    if text is None and columns is None:
        raise ValueError("a function wrote the text of the rows; pass it as `text`")
    rendering = find_text(dataset, columns if text is None else text)
    arguments = recorded_arguments(record, batch_size=batch_size, show_progress_bar=show_progress_bar)
    encoder = Encoder(recorded_sae(record, sae), rendering, arguments)
    reader = RowReader(dataset, rendering, encoder.template)
    return _row_spans(reader, np.asarray(rows, np.int64), encoder, threshold)


def _row_spans(reader: RowReader, rows: NDArray[np.int64], encoder: Encoder, threshold: float) -> Iterator[RowSpans]:
    from datasets.utils import are_progress_bars_disabled
    from tqdm.auto import tqdm

    show = encoder.arguments.show_progress_bar
    hidden = are_progress_bars_disabled() if show is None else not show
    with tqdm(total=len(rows), desc="Reading tokens", unit=" rows", disable=hidden) as bar:
        if len(rows):
            encoder.load()
        for start in range(0, len(rows), BATCH_ROWS):
            batch = rows[start : start + BATCH_ROWS]
            yield from text_spans(encoder, reader.texts(batch), threshold)
            bar.update(len(batch))


@torch.no_grad()
def text_spans(encoder: Encoder, texts: Sequence[Text], threshold: float = 0.0) -> list[RowSpans]:
    """Return the spans of texts, by an encoder that is loaded.

    Raises:
        ValueError: The tokenizer does not know where its tokens are in the text.
    """
    model, sae, is_plain = encoder.model, encoder.sae, encoder.template is None
    if not model.tokenizer.is_fast:
        raise ValueError(
            f"the tokenizer of {sae.config.model} does not know where its tokens are in the text: it has no fast form"
        )
    plain = [SURROGATE.sub("\ufffd", text if is_plain else model.tokens.unframed(text)) for text, _ in texts]
    parts: list[list[tuple[NDArray[Any], ...]]] = [[] for _ in texts]
    windows = model.windows(plain, max_length=encoder.arguments.max_length)
    for group, states in model.states(windows, encoder.arguments.batch_size):
        window_of, place = _places(group, len(model.tokens.before))
        size = max(SLICE_FLOATS // sae.config.d_sae, 1)
        for start in range(0, len(states), size):
            # Segments of one token: the same products as those of the row's code, so the same numbers to the bit.
            acts = encoder.maxima(states[start : start + size], [1] * len(states[start : start + size]))
            fires = (acts > threshold).nonzero(as_tuple=True)
            token, ids, amounts = (column.cpu().numpy() for column in (*fires, acts[fires].float()))
            token += start
            for window in np.unique(window_of[token]):
                mask = window_of[token] == window
                parts[group[window].row].append((place[token[mask]], ids[mask], amounts[mask]))
    encodings = model.tokenizer(plain, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    return [
        _spans(text, offsets[: encoder.arguments.max_length], codes)
        for text, offsets, codes in zip(plain, encodings["offset_mapping"], parts, strict=True)
    ]


def _places(group: Sequence[Any], before: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each vector of a forward pass, its window and the place of its token in the row."""
    places = [window.start + np.flatnonzero(window.is_text) - before for window in group]
    return np.repeat(np.arange(len(group)), [len(tokens) for tokens in places]), np.concatenate(places)


def _spans(text: str, offsets: list[tuple[int, int]], codes: list[tuple[NDArray[Any], ...]]) -> RowSpans:
    """Sort the features of a row's windows by tokens."""
    characters = np.array(offsets, np.int32).reshape(-1, 2)
    empty = (np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    places, ids, acts = (np.concatenate(column) for column in zip(*codes or [empty], strict=True))
    order = np.lexsort((ids, places))
    counts = np.bincount(places, minlength=len(characters))
    starts, ends = characters.T
    return RowSpans(text, starts, ends, np.concatenate([[0], counts.cumsum()]), ids[order], acts[order])
