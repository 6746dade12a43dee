from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from datasets import Dataset, Features, Image, Value
from helpers.tiny import WORDS
from helpers.training import TINY, location

from hf_sae_select import train_sae
from hf_sae_select.encoding.language_model import LanguageModel
from hf_sae_select.encoding.text import find_text
from hf_sae_select.training.activation_stream import ActivationStream, shuffled_batches
from hf_sae_select.training.trainer import Trainer


def test_shuffled_batches_hold_every_token_once_but_for_the_last_shorter_batch():
    batches = list(shuffled_batches(torch.arange(70.0)[:, None], 8, (0,)))
    assert [len(batch) for batch in batches] == [8] * 8
    tokens = torch.cat(batches).flatten().tolist()
    assert len(set(tokens)) == 64 and tokens != sorted(tokens)


def test_a_book_is_read_in_parts(bert):
    book = Dataset.from_dict({"text": [" ".join(WORDS * 40), "a dog ran", "the cat sat"]})
    config = replace(TINY, training_tokens=2048, buffer_tokens=64)
    lm = LanguageModel.from_pretrained(str(bert), "encoder.layer.1")
    rendering = find_text(book, None)
    stream = ActivationStream(book, rendering, lm, None, max_length=None, batch_size=4, read_tokens=32, seed=0)
    pending, total = 0, 0
    for _ in range(60):
        total += sum(map(len, stream.batches(64, 32)))
        pending = max(pending, sum(map(len, stream.pending)))
    assert pending < 64 + 32  # at most a chunk and a window
    assert stream.epoch >= 3 and total == 60 * 64
    assert train_sae(book, **location(bert), config=config).W_enc.isfinite().all()


def test_the_order_of_an_epoch_is_drawn_once_and_again_after_a_resume(bert, monkeypatch):
    rows = Dataset.from_dict({"text": [f"the cat {word} on the mat" for word in WORDS * 3]})
    lm, rendering = LanguageModel.from_pretrained(str(bert), "encoder.layer.1"), find_text(rows, None)

    def stream():
        return ActivationStream(rows, rendering, lm, None, max_length=None, batch_size=4, read_tokens=8, seed=0)

    draw, seeds = np.random.default_rng, []
    monkeypatch.setattr(np.random, "default_rng", lambda seed: seeds.append(seed) or draw(seed))
    first = stream()
    while first.epoch < 1:
        first.batches(8, 8)
    first.batches(8, 8)
    orders = [seed for seed in seeds if len(seed) == 2]  # a chunk is shuffled by three numbers
    assert orders == [(0, 0), (0, 1)]
    resumed = stream()
    resumed.load_state_dict(first.state_dict())
    for ours, theirs in zip(resumed.batches(16, 8), first.batches(16, 8), strict=True):
        assert ours.equal(theirs)


def test_only_the_column_with_the_text_comes_from_disk(bert):
    rows = Dataset.from_dict({"text": ["the cat sat on the mat"] * 8, "other": ["a dog"] * 8})
    lm, rendering = LanguageModel.from_pretrained(str(bert), "encoder.layer.1"), find_text(rows, "text")
    stream = ActivationStream(rows, rendering, lm, None, max_length=None, batch_size=4, read_tokens=8, seed=0)
    stream.batches(16, 8)
    assert {name: table.column_names for name, table in stream.reader._tables.items()} == {"text": ["text"]}


@pytest.mark.usefixtures("after_every_buffer")
def test_a_training_on_books_resumes_in_the_middle_of_one(bert, tmp_path, monkeypatch):
    book = Dataset.from_dict({"text": [" ".join(WORDS * 20), "", "a dog ran", " ".join(WORDS[::-1] * 9)]})
    config = replace(TINY, training_tokens=640, buffer_tokens=64)
    whole, steps, step = train_sae(book, **location(bert), config=config), [], Trainer.step

    def interrupted(trainer, batch):
        steps.append(trainer.step_count)
        if len(steps) == 8:
            raise KeyboardInterrupt
        return step(trainer, batch)

    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_sae(book, **location(bert), config=config, output_dir=tmp_path)
    resumed = train_sae(book, **location(bert), config=config, output_dir=tmp_path)
    assert resumed.digest() == whole.digest()
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_dataset_without_text_is_an_error_and_no_endless_loop(bert):
    blank = Dataset.from_dict({"text": ["", " "]})
    with pytest.raises(ValueError, match="`dataset`: no row has any text"):
        train_sae(blank, **location(bert), config=TINY)


@pytest.mark.parametrize("text", ["text", lambda row: row["text"]])
def test_only_what_is_read_of_a_row_is_decoded(bert, text):
    texts = ["the cat sat on the mat"] * 8
    columns = {"text": texts, "image": [{"bytes": b"no image", "path": None}] * 8, "made": [1_700_000_000_000] * 8}
    types = Features({"text": Value("string"), "image": Image(), "made": Value("timestamp[s]")})
    table = pa.table(columns).cast(types.arrow_schema)
    sae = train_sae(Dataset(table).with_format("numpy"), **location(bert), config=TINY, text=text)
    plain = train_sae(Dataset.from_dict({"text": texts}), **location(bert), config=TINY)
    assert sae.W_enc.equal(plain.W_enc)
