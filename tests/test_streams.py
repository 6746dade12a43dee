"""IterableDataset: encoded while it is read, or read once into files and selected from."""

import pickle
import re
from datetime import datetime

import datasets
import numpy as np
import pandas
import pyarrow as pa
import pytest
import torch
from datasets import Array2D, ClassLabel, Dataset, Features, IterableDataset, Json, LargeList, List, Value
from helpers.pools import coded

from hf_sae_select import _streams
from hf_sae_select.encoding import run
from hf_sae_select.encoding.encoder import Encoder

TEXTS = ["the cat", "a dog ran", "", "a big red bird flew over the moon", "the cat", "it was blue"]


@pytest.fixture
def rows():
    return Dataset.from_dict({"text": TEXTS, "n": list(range(6))})


def flipped(content):
    place = content.index(b"moon")
    return content[:place] + b"n" + content[place + 1 :]


def receipt(subset):
    selection = subset.sae_selection
    return [selection.indices.tolist(), selection.gains.tolist(), selection.row_digests, selection.parameters]


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_a_stream_gives_the_picks_of_the_same_rows_in_memory(rows, sae, batch, monkeypatch):
    monkeypatch.setattr(_streams, "BATCH_ROWS", batch)
    monkeypatch.setattr(_streams, "FILE_BYTES", 60)
    for budget in (3, "50%", "9 tokens"):
        subset, expected = rows.to_iterable_dataset().sae_select(budget, sae=sae), rows.sae_select(budget, sae=sae)
        assert type(subset) is Dataset and subset.to_list() == expected.to_list()
        assert receipt(subset) == receipt(expected)


def test_a_source_that_can_be_read_once_is_read_once(rows, sae):
    source = iter(rows.to_list())
    stream = IterableDataset.from_generator(lambda: source, features=rows.features)
    assert stream.sae_select(3, sae=sae).to_list() == rows.sae_select(3, sae=sae).to_list()


def test_rows_that_are_read_again_are_stored_once(rows, cache):
    for _ in range(2):
        stored = _streams.stored_rows(rows.to_iterable_dataset())
    assert len(list((cache / "hf_sae_select" / "streams").glob("*.arrow"))) == 1
    assert stored.to_list() == rows.to_list() and stored.features == rows.features
    assert stored._fingerprint == _streams.stored_rows(rows.to_iterable_dataset())._fingerprint


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], flipped, lambda content: b""])
def test_a_file_that_was_damaged_is_written_again(rows, cache, damage):
    _streams.stored_rows(rows.to_iterable_dataset())
    [file] = (cache / "hf_sae_select" / "streams").glob("*.arrow")
    content = file.read_bytes()
    file.write_bytes(damage(content))
    assert _streams.stored_rows(rows.to_iterable_dataset()).to_list() == rows.to_list()
    assert file.read_bytes() == content


def test_a_stream_of_codes_needs_no_model(monkeypatch):
    encoded = coded([{0: 0.9}, {1: 0.9, 2: 0.9}])
    assert encoded.to_iterable_dataset().sae_select(1, "greedy").sae_selection.indices.tolist() == [1]
    assert encoded.to_iterable_dataset().sae_compare(1, ["greedy"]).columns[0] == "rows"


@pytest.mark.parametrize("batch", [1, 4, 1000])
def test_a_stream_has_the_codes_of_a_dataset(rows, sae, batch, monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.streams.STREAM_ROWS", batch)
    monkeypatch.setattr("hf_sae_select.encoding.streams.STORE_ROWS", 4)
    expected = rows.sae_encode(sae)
    encoded = rows.to_iterable_dataset().sae_encode(sae)
    assert type(encoded) is IterableDataset and encoded.features == expected.features
    assert list(encoded) == list(encoded) == expected.to_list()
    assert list(pickle.loads(pickle.dumps(encoded))) == expected.to_list()


def test_one_model_is_loaded_for_all_batches(rows, sae, monkeypatch):
    from hf_sae_select.encoding.language_model import LanguageModel

    loads, of = [], LanguageModel.of
    monkeypatch.setattr(LanguageModel, "of", lambda *args, **named: loads.append(args) or of(*args, **named))
    monkeypatch.setattr("hf_sae_select.encoding.streams.STREAM_ROWS", 2)
    encoded = rows.to_iterable_dataset().sae_encode(sae)
    assert len(list(encoded)) == len(list(encoded)) == 6
    assert len(loads) == 1


def test_an_encoded_stream_is_selected_from(rows, sae):
    subset = rows.to_iterable_dataset().sae_encode(sae).sae_select(3)
    assert receipt(subset) == receipt(rows.sae_encode(sae).sae_select(3))


def test_types_that_a_stream_does_not_say_are_those_of_its_first_rows(rows, sae):
    stream = rows.to_iterable_dataset().map(lambda row: row)
    assert stream.features is None
    assert stream.sae_select(3, sae=sae).to_list() == rows.sae_select(3, sae=sae).to_list()
    assert list(stream.sae_encode(sae)) == rows.sae_encode(sae).to_list()


def test_a_schema_that_changes_midway_is_named(monkeypatch):
    monkeypatch.setattr(_streams, "BATCH_ROWS", 2)

    def another_type():
        yield from [{"n": 1}, {"n": 2}, {"n": "three"}]

    def another_column():
        yield from [{"n": 1}, {"n": 2}, {"m": 3}]

    def no_text():
        yield from [{"n": {"a": ["one"]}}, {"n": {"a": []}}, {"n": {"a": [3]}}]

    def a_column_less():
        yield from [{"n": 1, "m": 1}, {"n": 2, "m": 2}, {"n": 3}]

    def no_row():
        yield from [{"n": 1}, {"n": 2}, 5]

    problems = [(another_type, "a str where int64"), (another_column, r"columns \['m', 'n'\] are not in all rows")]
    problems += [(no_text, "column `n` holds an int where string")]
    problems += [(a_column_less, r"columns \['m'\] are not in all rows"), (no_row, "5 is no row")]
    for source, problem in problems:
        message = rf"`dataset`: the schema of the stream changes in rows 2 to 2.*{problem}.*one schema"
        with pytest.raises(ValueError, match=message):
            _streams.stored_rows(IterableDataset.from_generator(source))


@pytest.mark.parametrize(
    ("first", "late", "problem"),
    [
        (1, 2.7, "a float where int64"),
        (1, True, "a bool where int64"),
        (1, "12", "a str where int64"),
        (1.5, "1", "a str where float64"),
        (1.5, True, "a bool where float64"),
        (True, 1, "an int where bool"),
        (None, 1, "an int where null"),
        ("x", b"x", "a bytes where string"),
        ({"a": 1}, {"a": 1, "b": "lost?"}, "a dict with the key 'b'"),
        ({"a": 1}, {"a": 2.7}, "a float where int64"),
        ({"a": 1}, "x", "a str where a dict"),
        ([1], [1, None, 2.7], "a float where int64"),
        ([1], 1, "an int where a list"),
        ([1], np.array([2.7]), "a float64 where int64"),
        ([[1]], np.array([[2.7]]), "a float64 where int64"),
        ([{"a": 1}], [{"a": 1, "b": 2}], "a dict with the key 'b'"),
    ],
)
def test_a_late_value_of_another_type_is_named(first, late, problem, monkeypatch):
    monkeypatch.setattr(_streams, "BATCH_ROWS", 2)
    stream = IterableDataset.from_generator(lambda: iter([{"n": first}, {"n": first}, {"n": late}]))
    with pytest.raises(ValueError, match=rf"changes in rows 2 to 2 \(column `n` holds {problem}.*one schema"):
        _streams.stored_rows(stream)


@pytest.mark.parametrize(
    ("first", "late", "stored"),
    [
        (1, np.int32(2), 2),
        (1, None, None),
        (1.5, 2, 2.0),
        (1.5, np.float32(2), 2.0),
        (True, np.bool_(False), False),
        ("x", np.str_("y"), "y"),
        ([1], np.array([2, 3]), [2, 3]),
        ([1.5], (2, None), [2.0, None]),
        ([[1.5]], np.ones((2, 1)), [[1.0], [1.0]]),
        ([{"role": "user", "name": "x"}], [{"role": "user"}], [{"role": "user", "name": None}]),
    ],
)
def test_a_late_value_of_the_same_type_is_stored(first, late, stored, monkeypatch):
    monkeypatch.setattr(_streams, "BATCH_ROWS", 2)
    stream = IterableDataset.from_generator(lambda: iter([{"n": first}, {"n": first}, {"n": late}]))
    assert _streams.stored_rows(stream)[2]["n"] == stored


def test_rows_of_known_types_are_stored_as_they_are(tmp_path):
    types = Features(
        {
            "label": ClassLabel(names=["no", "yes"]),
            "any": Json(),
            "text": Value("large_string"),
            "chats": List(List({"role": Value("string"), "name": Value("string")})),
            "columns": {"a": List(Value("int8"))},
            "vector": LargeList(Value("float16")),
            "grid": Array2D((2, 1), "int32"),
            "time": Value("timestamp[ms]"),
            "bytes": Value("binary"),
        }
    )
    row = {"label": 1, "any": {"x": [1, "a"]}, "text": "x", "chats": [[{"role": "user", "name": None}]]}
    row |= {"columns": {"a": [1]}, "vector": [0.5], "grid": [[1], [2]], "time": datetime(2024, 1, 1), "bytes": b"x"}
    rows = Dataset.from_list([row, dict.fromkeys(row)], features=types)
    rows.to_parquet(tmp_path / "rows.parquet")
    for stream in (rows.to_iterable_dataset(), IterableDataset.from_parquet(str(tmp_path / "rows.parquet"))):
        assert stream.features == types
        stored = _streams.stored_rows(stream)
        assert stored.features == types and stored.to_list() == rows.to_list()


@pytest.mark.parametrize("form", ["numpy", "pandas", "arrow", "torch"])
def test_a_stream_in_a_format_is_read_without_it(rows, sae, form):
    stream = rows.to_iterable_dataset().with_format(form)
    assert stream.sae_select(3, sae=sae).to_list() == rows.sae_select(3, sae=sae).to_list()
    encoded = stream.sae_encode(sae)
    assert list(encoded.with_format(None)) == rows.sae_encode(sae).to_list()
    kinds = {"numpy": dict, "pandas": pandas.DataFrame, "arrow": pa.Table, "torch": dict}
    assert type(next(iter(encoded))) is kinds[form]
    assert form != "torch" or isinstance(next(iter(encoded))["n"], torch.Tensor)


def test_a_schema_that_changes_while_a_stream_is_encoded_is_named(sae, monkeypatch):
    monkeypatch.setattr("hf_sae_select.encoding.streams.STREAM_ROWS", 2)
    monkeypatch.setattr("hf_sae_select.encoding.streams.PEEK_ROWS", 2)

    def source():
        yield from [{"text": "the cat"}, {"text": "a dog"}, {"text": ["x"]}]

    encoded = iter(IterableDataset.from_generator(source).sae_encode(sae))
    assert next(encoded)["text"] == "the cat" and next(encoded)["text"] == "a dog"
    with pytest.raises(ValueError, match=r"`dataset`: the schema of the stream changes in rows 2 to 2"):
        next(encoded)


def test_what_cannot_be_a_stream_to_select_from_is_refused_before_it_is_read(rows):
    with pytest.raises(ValueError, match="`dataset`: the stream is empty"):
        IterableDataset.from_generator(lambda: iter([]), features=rows.features).sae_select(1)


BAD = [
    ({"budget": "many"}, "`budget='many'`"),
    ({"budget": 0}, "`budget=0` must be 1 row or more"),
    ({"budget": -1}, "`budget=-1` must be 1 row or more"),
    ({"seed": -1}, "`seed=-1`"),
    ({"threshold": -1}, "`threshold=-1`"),
    ({"embedding": "v"}, "`embedding='v'` is for the methods that compare vectors"),
    ({"must_include": [-1]}, "`must_include` has -1; it must be a row index from 0 on"),
    ({"must_include": [1], "exclude": [1]}, "row 1 is in `exclude` and in `must_include`"),
    ({"quota": {"lang": 1}}, "`quota="),
    ({"per_token": "x"}, "`per_token='x'`"),
    ({"extend": 3}, "`extend` is a int"),
    ({"target": 3}, "`target`"),
    ({"overlap": "keep"}, "`overlap='keep'` is of the rows of a `target`"),
    ({"exclude_near": 3}, "`exclude_near`"),
    ({"batch_size": 0}, "`batch_size=0`"),
    ({"max_length": 0}, "`max_length=0`"),
    ({"labels": 3}, "`labels=3`"),
    ({"avoid": 10**9}, "`avoid"),
    ({"sae": "no/such/sae"}, "no/such/sae"),
    ({"no_such_option": 1}, "unknown option `no_such_option`"),
]


OF_SELECT = [({"method": "none"}, "`method='none'`"), ({"engine": "rai"}, "`engine='rai'`")]
OF_SELECT += [({"engine": 3}, "`engine=3`"), ({"engine": "processes"}, "`engine='processes'` shares")]


@pytest.mark.parametrize(("arguments", "message"), [*BAD, *OF_SELECT])
def test_arguments_of_select_are_checked_before_a_stream_is_read(rows, arguments, message):
    unread = IterableDataset.from_generator(lambda: pytest.fail("it was read"), features=rows.features)
    with pytest.raises((TypeError, ValueError, OSError), match=message):
        unread.sae_select(**{"budget": 1} | arguments)


MORE = [({"methods": ["greedy", "none"]}, "`method='none'`"), ({"methods": 3}, "`methods=3`")]


@pytest.mark.parametrize(("arguments", "message"), [*BAD, *MORE])
def test_arguments_of_compare_are_checked_before_a_stream_is_read(rows, arguments, message):
    unread = IterableDataset.from_generator(lambda: pytest.fail("it was read"), features=rows.features)
    with pytest.raises((TypeError, ValueError, OSError), match=message):
        unread.sae_compare(**{"budget": 1} | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": "words"}, "words"),
        ({"quality": "n2"}, r"no column 'n2' \(from `quality`\)"),
        ({"quality": "text"}, "column `text` .* non-negative number"),
        ({"quota": "lang"}, r"no column 'lang' \(from `quota`\)"),
        ({"budget": "3 price"}, r"no column 'price' \(from `cost`\)"),
        ({"embedding": "v", "method": "kcenter"}, "no column `v` of vectors"),
    ],
)
def test_columns_are_checked_by_the_first_rows(rows, sae, arguments, message, monkeypatch):
    monkeypatch.setattr(_streams, "BATCH_ROWS", 2)
    read = []

    def source():
        for row in rows.to_list():
            read.append(row)
            yield row

    stream = IterableDataset.from_generator(source, features=rows.features)
    with pytest.raises((TypeError, ValueError), match=message):
        stream.sae_select(**{"budget": 1, "sae": sae} | arguments)
    assert len(read) <= 2


def test_an_extension_by_a_column_that_the_stream_lacks_is_named_by_the_first_rows(rows, sae, monkeypatch):
    earlier = rows.rename_column("text", "words").sae_select(1, sae=sae)
    with pytest.raises(ValueError, match="`extend` knows its rows by column `words`"):
        rows.to_iterable_dataset().sae_select(2, sae=sae, extend=earlier)


def test_a_stream_that_cannot_be_read_twice_is_not_encoded_lazily(rows, sae):
    source = iter(rows.to_list())
    stream = IterableDataset.from_generator(lambda: source, features=rows.features)
    with pytest.raises(ValueError, match=r"cannot be read twice.*from_generator"):
        stream.sae_encode(sae)


def test_a_stream_whose_rows_equal_nothing_can_be_read_twice(sae):
    rows = Dataset.from_dict({"text": ["the cat", "a dog"], "x": [float("nan"), 1.0], "v": [[1.0], [2.0]]})
    encoded = rows.to_iterable_dataset().with_format("numpy").sae_encode(sae)
    assert len(list(encoded)) == 2


def test_bars_show_rows_and_tokens_a_second_without_a_known_end(rows, sae, monkeypatch, capsys):
    monkeypatch.setattr("hf_sae_select.encoding.streams.STREAM_ROWS", 4)
    datasets.enable_progress_bars()
    try:
        encoded = rows.to_iterable_dataset().sae_encode(sae)
        encoded.sae_select(2)
    finally:
        datasets.disable_progress_bars()
    shown = capsys.readouterr().err
    assert re.search(r"Reading the stream: 6 rows \[.*rows/s\]", shown)
    assert re.search(r"Encoding `text`: 6 rows \[.*rows/s, [\d,]+ tokens/s\]", shown)
    assert "Encoding `text`:   0%" not in shown


def test_the_files_of_other_streams_are_removed_as_other_cache_files_are(rows, sae, cache):
    other = rows.select([1, 3]).to_iterable_dataset().sae_select(1, sae=sae)
    subset = rows.to_iterable_dataset().sae_select(3, sae=sae)
    folder = cache / "hf_sae_select" / "streams"
    assert len(list(folder.iterdir())) == 2
    assert subset.cleanup_cache_files() == 1 and len(list(folder.iterdir())) == 1
    assert len(subset["text"][:]) == 3 and len(other["text"][:]) == 1  # a file that is mapped stays until it is closed


def test_columns_in_the_way_are_named(rows, sae):
    stream = rows.to_iterable_dataset().cast_column("n", Value("int32")).rename_column("n", "sae_tokens")
    with pytest.raises(ValueError, match="column `sae_tokens` is in the way"):
        stream.sae_encode(sae)


def test_an_interrupted_selection_goes_on_with_the_rows_that_are_missing(rows, sae, monkeypatch):
    groups, tokenized = [], Encoder.tokenized

    def stopped(self, numbers, texts):
        if groups:
            raise KeyboardInterrupt
        groups.append(numbers.tolist())
        return tokenized(self, numbers, texts)

    monkeypatch.setattr(run, "READ_ROWS", 2)
    monkeypatch.setattr(Encoder, "group_rows", 2)
    monkeypatch.setattr(Encoder, "tokenized", stopped)
    with pytest.raises(KeyboardInterrupt):
        rows.to_iterable_dataset().sae_select(3, sae=sae)
    kept, again = groups[0], []
    monkeypatch.setattr(
        Encoder, "tokenized", lambda self, ns, texts: again.extend(ns.tolist()) or tokenized(self, ns, texts)
    )
    subset = rows.to_iterable_dataset().sae_select(3, sae=sae)
    assert kept == [0, 1] and sorted(again) == [2, 3, 5]  # row 4 has the text of row 0
    assert subset.to_list() == rows.sae_select(3, sae=sae).to_list()


def test_several_processes_do_not_share_a_stream(rows, sae, monkeypatch):
    several = type("State", (), {"num_processes": 2})
    monkeypatch.setattr("hf_sae_select.encoding.streams.processes", several)
    with pytest.raises(RuntimeError, match="a stream is encoded in one process, and this job has several"):
        rows.to_iterable_dataset().sae_encode(sae)


def test_what_a_killed_process_left_of_a_file_is_removed(rows, cache):
    part = cache / "hf_sae_select" / "streams" / ".rows-00.arrow.0123456789ab.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"half of it")
    _streams.stored_rows(rows.to_iterable_dataset())
    assert not part.exists()


def test_tensors_in_a_list_are_of_the_type_that_their_numbers_are():
    types = Features({"n": List(Value("int64"))})
    table = _streams.table_of([{"n": [torch.tensor(1), torch.tensor(2)]}], types, "dataset", 0)
    assert table.to_pylist() == [{"n": [1, 2]}]
    with pytest.raises(ValueError, match="column `n` holds a float32 where int64 is expected"):
        _streams.table_of([{"n": [torch.tensor(2.7)]}], types, "dataset", 0)
