"""What an encoding writes when, with a clock that each forward pass moves on."""

import signal
import threading

import numpy as np
import pytest
from datasets import Dataset
from helpers import tiny
from helpers.encoded import codes

from hf_sae_select import encode
from hf_sae_select.encoding import encoder, language_model, run, stages
from hf_sae_select.encoding.arguments import EncodingArguments
from hf_sae_select.encoding.collector import RowCollector
from hf_sae_select.encoding.encoder import Encoder
from hf_sae_select.encoding.rows import RowReader
from hf_sae_select.encoding.store import CodeStore
from hf_sae_select.encoding.text import find_text
from hf_sae_select.features.columns import DIGEST

WORDS = tiny.WORDS[:9]
LONG = " ".join((tiny.WORDS * 2)[:40])  # three windows


@pytest.fixture
def ds():
    return Dataset.from_dict({"text": [f"the {word}" for word in WORDS]})


@pytest.fixture
def pieces(monkeypatch):
    """The number of rows of each piece that is written."""
    sizes, add = [], CodeStore.add
    monkeypatch.setattr(CodeStore, "add", lambda self, table, rows: sizes.append(len(table)) or add(self, table, rows))
    return sizes


@pytest.fixture
def slow(monkeypatch):
    """Each forward pass takes ten seconds, by the clock of the run."""
    now, add = [0.0], RowCollector.add
    monkeypatch.setattr(run.time, "monotonic", lambda: now[0])

    def delayed(self, result):
        now[0] += 10
        return add(self, result)

    monkeypatch.setattr(RowCollector, "add", delayed)


@pytest.mark.usefixtures("slow")
def test_complete_rows_are_written_every_thirty_seconds(ds, sae, pieces):
    encode(ds, sae, batch_size=1)
    assert pieces == [3, 3, 3]


@pytest.mark.usefixtures("slow")
def test_rows_of_several_windows_are_written_all_along(sae, pieces, monkeypatch):
    monkeypatch.setattr(encoder, "PORTION_TOKENS", 1)  # each long row on its own
    ds = Dataset.from_dict({"text": [f"{word} {LONG}" for word in WORDS[:4]]})
    encode(ds, sae, batch_size=1)
    assert pieces == [1, 1, 1, 1]


def test_complete_rows_are_written_by_size(ds, sae, pieces, monkeypatch):
    monkeypatch.setattr(run, "FILE_BYTES", 1)
    encode(ds, sae, batch_size=4)
    assert pieces == [4, 4, 1]


def test_pieces_end_in_one_file_in_the_order_of_the_rows(sae, cache, monkeypatch):
    ds = Dataset.from_dict({"text": ["the cat", f"a {LONG}", "", "the cat sat on a mat", "a dog"]})
    encode(ds, sae)
    (whole,) = cache.rglob("*.arrow")
    monkeypatch.setattr(run, "FILE_BYTES", 1)
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.version", lambda library: "other")  # another folder
    encode(ds, sae, batch_size=1)
    again = next(file for file in cache.rglob("*.arrow") if file != whole)
    assert again.name == whole.name and again.read_bytes() == whole.read_bytes()
    assert len(list(cache.rglob("*.arrow"))) == 2


STAGES = {  # a stage, and what fails in it
    "reading": (RowReader, "texts"),
    "tokenising": (Encoder, "tokenized"),
    "the model": (language_model.LanguageModel, "states"),
    "collecting": (RowCollector, "add"),
    "writing": (CodeStore, "add"),
}


@pytest.mark.parametrize("failure", [RuntimeError("broken"), KeyboardInterrupt("stop")], ids=["error", "interrupt"])
@pytest.mark.parametrize("stage", STAGES)
def test_an_error_in_any_stage_ends_the_encoding_and_the_next_one_goes_on(ds, sae, monkeypatch, stage, failure):
    monkeypatch.setattr(encoder, "GROUP_ROWS", 3)
    monkeypatch.setattr(run, "FILE_BYTES", 1)
    owner, name = STAGES[stage]
    function, calls = getattr(owner, name), []

    def second_fails(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise failure
        return function(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, second_fails)
        with pytest.raises(type(failure)) as caught:
            encode(ds, sae)
    if isinstance(failure, KeyboardInterrupt):
        assert str(caught.value).startswith("3 of 9 rows are encoded and kept in ")
    else:
        assert caught.value is failure
    read, tokenized = [], Encoder.tokenized
    monkeypatch.setattr(
        Encoder, "tokenized", lambda self, rows, texts: read.extend(rows.tolist()) or tokenized(self, rows, texts)
    )
    coded = encode(ds, sae)
    assert read == [3, 4, 5, 6, 7, 8]
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.version", lambda library: "other")
    assert codes(coded) == codes(encode(ds, sae))


def test_an_interrupt_while_the_first_pass_runs_keeps_nothing_and_ends(ds, sae, monkeypatch):
    monkeypatch.setattr(stages, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(run.EncodingRun, "_tick", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    states = language_model.LanguageModel.states

    def slowly(self, windows, *sizes):
        stages.Event().wait(0.1)
        return states(self, windows, *sizes)

    monkeypatch.setattr(language_model.LanguageModel, "states", slowly)
    with pytest.raises(KeyboardInterrupt, match="0 of 9 rows are encoded"):
        encode(ds, sae)


@pytest.fixture
def heeded():
    """Ctrl-C is heeded as in a terminal, whatever the test runner does with it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_interrupts_after_the_first_one_do_not_break_the_wait_for_the_pass(ds, sae, monkeypatch, capfd):
    monkeypatch.setattr(stages, "TICK_SECONDS", 0.001)
    states, passes = language_model.LanguageModel.states, []

    def interrupted(self, windows, *sizes):
        for result in states(self, windows, *sizes):
            for _ in range(5 * bool(passes)):  # in the second pass
                signal.raise_signal(signal.SIGINT)
                stages.Event().wait(0.02)
            passes.append(1)
            yield result

    monkeypatch.setattr(language_model.LanguageModel, "states", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"[024] of 9 rows are encoded"):
        encode(ds, sae, batch_size=2)
    assert len(passes) < 5  # of as many passes
    assert capfd.readouterr().err.count("Interrupted: stopping after the forward pass under way\n") == 1
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize("place", ["begin", "taken"])
def test_an_interrupt_ends_the_encoding_when_no_thread_can_be_lost(ds, sae, monkeypatch, place):
    call = getattr(RowCollector, place)

    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return call(self, *arguments)

    monkeypatch.setattr(RowCollector, place, interrupted)
    with pytest.raises(KeyboardInterrupt, match="of 9 rows are encoded"):
        encode(ds, sae)


@pytest.mark.usefixtures("heeded")
def test_an_interrupt_between_the_start_of_a_thread_and_the_wait_for_it_comes_later(ds, sae, monkeypatch):
    class Interrupting(threading.Thread):
        def start(self):
            super().start()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(stages, "Thread", Interrupting)
    with pytest.raises(KeyboardInterrupt, match="of 9 rows are encoded"):
        encode(ds, sae)
    assert [thread for thread in threading.enumerate() if isinstance(thread, Interrupting)] == []


@pytest.mark.usefixtures("slow")
def test_the_time_left_is_by_tokens(sae, monkeypatch):
    shown, update = [], run.tqdm.update
    monkeypatch.setattr(run.tqdm, "update", lambda self, rows: shown.append(self.bar_format) or update(self, rows))
    ds = Dataset.from_dict({"text": ["the cat sat", "a", "the moon was blue and big", "a dog"]})  # 12 tokens
    encode(ds, sae, batch_size=1, show_progress_bar=True)
    left = [form.partition("<")[2].partition(",")[0] for form in shown]
    assert left == ["?", "00:30", "00:40", "00:06", "00:00"]  # ten seconds for 3, 1, 6 and 2 tokens


def test_the_bar_moves_within_a_group_of_rows(ds, sae, monkeypatch):
    moves = []
    monkeypatch.setattr(run.tqdm, "update", lambda self, rows: moves.append(rows))
    encode(ds, sae, batch_size=2, show_progress_bar=True)
    assert [rows for rows in moves if rows] == [2, 2, 2, 2, 1]


def test_the_bar_is_drawn_although_few_rows_are_complete(ds, sae):
    shown = Encoder(sae, find_text(ds), EncodingArguments.parse(show_progress_bar=True))
    with run.progress_bar(1000, shown, "Encoding", True) as bar:
        bar.mininterval = 0  # seconds between two drawings
        for rows in (900, 1):
            bar.update(rows)
            assert bar.last_print_n == bar.n


def test_the_bar_is_drawn_while_a_pass_takes_long(ds, sae, monkeypatch):
    drawn, states = [], language_model.LanguageModel.states
    monkeypatch.setattr(stages, "TICK_SECONDS", 0.001)
    monkeypatch.setattr(run.tqdm, "refresh", lambda self, **_: drawn.append(1))

    def slowly(self, windows, *sizes):
        while not drawn:
            stages.Event().wait(0.001)
        return states(self, windows, *sizes)

    monkeypatch.setattr(language_model.LanguageModel, "states", slowly)
    encode(ds, sae)
    assert drawn


def test_the_stages_give_the_table_of_one_after_the_other(sae, monkeypatch):
    texts = [" ".join((tiny.WORDS * 3)[i : i + 1 + (7 * i) % 39]) for i in range(20)] + ["", None]
    ds = Dataset.from_dict({"text": texts})
    coded = encode(ds, sae, keep="state")

    def one_after_the_other(items, size, tick=None):
        yield from list(items)

    monkeypatch.setattr(run, "ahead", one_after_the_other)
    monkeypatch.setattr("hf_sae_select.encoding.pipeline.version", lambda library: "other")
    monkeypatch.setattr(encoder, "GROUP_ROWS", 6)
    again = encode(ds, sae, keep="state")
    assert again.with_format("arrow")[:].equals(coded.with_format("arrow")[:])
    assert np.all(np.array(coded[DIGEST][:]) == np.array(again[DIGEST][:]))
