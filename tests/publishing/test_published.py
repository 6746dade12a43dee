"""Published subsets that were made to do harm: records and tables that the library would not write."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.forge import (
    POOL,
    RECORD,
    ROWS_FILE,
    differences,
    edit,
    put,
    reseal,
    rewrite,
    set_parameter,
    store,
    tell,
)
from helpers.pools import coded

from hf_sae_select import Selection, _parquet, load_selection, verify
from hf_sae_select._parquet import read_batches, read_table
from hf_sae_select.publishing.hashing import digest_of
from hf_sae_select.publishing.tables import read_selection


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "data/../../secret", "data\\..\\..\\secret"])
def test_a_record_that_names_a_file_elsewhere_is_refused_and_the_file_not_read(folder, name, monkeypatch):
    (folder.parent / "secret").write_text("secret")
    read, open_ = [], type(folder).open
    monkeypatch.setattr(type(folder), "open", lambda self, *a, **k: read.append(self.name) or open_(self, *a, **k))
    assert verify(folder) and "train-00000.parquet" in read

    def name_it(record):
        record["files"][name] = record["files"]["pool.parquet"]

    reseal(folder, name_it)
    assert verify(folder).difference.startswith("record: provenance.json at files: ")
    assert not {"secret", "passwd"} & set(read)


@pytest.mark.parametrize(
    ("file", "key", "check"),
    [
        ("selection.parquet", "sae_selection", "digests: picks"),
        ("pool.parquet", "huggingface", "select: source"),
        (ROWS_FILE, "huggingface", "digests: rows"),
    ],
)
def test_a_table_that_pandas_wrote_again_is_named(folder, file, key, check):
    pd.read_parquet(folder / file).to_parquet(folder / file)
    message = f"its schema's metadata lack `{key}`: another program, such as pandas, wrote it again; restore the file"
    assert message in differences(folder, "select")[check]


def test_a_table_of_no_picks_is_named(folder):
    pq.write_table(pq.read_table(folder / "selection.parquet").slice(0, 0), folder / "selection.parquet")
    message = "selection.parquet is not a table of picks that this library wrote: it has no rows"
    assert differences(folder) == {"digests: picks": message}


UINT16, INT64 = pa.list_(pa.uint16()), pa.list_(pa.int64())
IDS = [[0], [2, 3], [0, 1, 2], [], [4], [6]]
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"sae_ids": pa.array([[-1], *IDS[1:]], INT64)}, "hold int64, float, int32"),
        ({"sae_ids": pa.array(IDS, INT64)}, "hold int64, float, int32"),
        ({"sae_ids": pa.array(IDS, pa.list_(pa.uint32()))}, "hold uint32, float, int32"),
        ({"sae_ids": pa.array([[16], *IDS[1:]], UINT16)}, "do not go together, or not with 16 features"),
        ({"sae_ids": pa.array([[0, 1], *IDS[1:]], UINT16)}, "do not go together, or not with 16 features"),
        ({"sae_ids": pa.array([[0, 2], [3], *IDS[2:]], UINT16)}, "do not go together, or not with 16 features"),
        ({"sae_ids": pa.array([[0, 1]] * 6, pa.list_(pa.uint16(), 2))}, "which has no offsets"),
        ({"sae_ids": pa.array([[None], *IDS[1:]], UINT16)}, ""),
        ({"sae_ids": pa.array([None, *IDS[1:]], UINT16)}, "1 rows have no SAE codes (null)"),
        (
            {"sae_acts": pa.array([[1.0] * len(row) for row in IDS], pa.list_(pa.float64()))},
            "hold uint16, double, int",
        ),
        ({"sae_acts": pa.array([[1, 1]] * 6, pa.list_(pa.float32(), 2))}, "which has no offsets"),
        ({"sae_tokens": pa.array([1, 2, 3, 4, 5, None], pa.int32())}, "column `sae_tokens` holds nulls"),
        ({"sae_tokens": pa.array([1] * 6, pa.int64())}, "hold uint16, float, int64"),
        ({"row_sha256": pa.array([b"x" * 31] * 6)}, "its column `row_sha256` does not hold SHA-256 digests"),
        ({"row_sha256": pa.array([None] * 6, pa.binary())}, "its column `row_sha256` does not hold SHA-256 digests"),
        ({"row_sha256": pa.array(["ab" * 16] * 6)}, "its column `row_sha256` does not hold SHA-256 digests"),
        ({"recorded": "[1]"}, "the type of `sae_ids` carries no encoding record"),
        ({"recorded": "no JSON"}, "Expecting value"),
        ({"recorded": DEEP}, "recursion"),
        ({"recorded": "{}"}, "its codes are of None features, the record says 16"),
        ({"recorded": '{"d_sae": 8589934592}'}, "its codes are of 8589934592 features, the record says 16"),
    ],
)
def test_a_pool_that_the_library_would_not_write_is_refused(folder, columns, message):
    store(folder, **columns)
    assert verify(folder)
    recorded = differences(folder, "select")["select: source"]
    assert recorded.startswith("pool.parquet is not a pool that this library wrote: ") and message in recorded


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("row", 0, -1), "pick 0 is row -1, but the source has 6 rows"),
        (put("row", 0, 6), "pick 0 is row 6, but the source has 6 rows"),
        (put("row", 2, 2**62), f"pick 2 is row {2**62}, but the source has 6 rows"),
    ],
)
def test_a_row_number_that_there_is_not_is_named(folder, change, message):
    rewrite(folder / "selection.parquet", change)
    rows = pq.read_table(folder / "selection.parquet")["row"].to_numpy().astype("<i8")
    reseal(folder, lambda record: record["selection"].update(indices_sha256=digest_of(rows)))
    assert verify(folder)
    differ = differences(folder, "select")
    assert differ["select: source"] == message and differ["select: picks"]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("row", pa.array([2, 1, 4], pa.int32()), "its column `row` holds int32 or nulls"),
        ("row", pa.array([2.0, 1.0, 4.0]), "its column `row` holds double or nulls"),
        ("row", pa.array(["2", "1", "4"]), "its column `row` holds string or nulls"),
        ("gain", pa.array(["3", "2", "1"]), "its column `gain` holds string or nulls"),
        ("features", pa.array([[3], [2], [1]]), "its column `features` holds list<"),
        ("row_sha256", pa.array([b"a" * 64] * 3), "its column `row_sha256` holds binary or nulls"),
        ("pick", pa.array([1, 2, 3]), "its column `pick` does not count up from 0"),
        ("more", pa.array([1, 2, 3]), "its columns are row, pick, gain, round, features, covered, row_sha256, more"),
        ("covered", None, "covered"),
    ],
)
def test_a_table_of_picks_that_the_library_would_not_write_is_refused(folder, column, values, message):
    table = pq.read_table(folder / "selection.parquet")
    names = table.column_names
    if column not in names:
        table = table.append_column(column, values)
    elif values is None:
        table = table.drop_columns(column)
    else:
        table = table.set_column(names.index(column), column, values)
    pq.write_table(table, folder / "selection.parquet")
    reseal(folder)
    recorded = differences(folder)["digests: picks"]
    assert (
        recorded.startswith("selection.parquet is not a table of picks that this library wrote: ")
        and message in recorded
    )


@pytest.mark.parametrize("rounds", [[7, 7, 7], [-1, -1, -1], [0, 0, 1], [0, 1, 0]])
def test_rounds_that_were_edited_are_named(folder, rounds):
    rewrite(folder / "selection.parquet", lambda columns: columns.update(round=rounds))
    starts = np.flatnonzero(np.diff(rounds, prepend=-1)).tolist()
    reseal(folder, lambda record: record["selection"].update(round_starts=starts))
    assert not verify(folder, "select")


@pytest.mark.parametrize(
    ("recorded", "check", "message"),
    [
        (b"[]", "picks", "its schema's metadata do not hold fingerprint, method, parameters"),
        (DEEP.encode(), "picks", "recursion"),
        ({"parameters": []}, "picks", "its schema's metadata do not hold fingerprint, method, parameters"),
        ({"pool_coverage": True}, "picks", "its schema's metadata do not hold fingerprint, method, parameters"),
        ({"indices": [0]}, "picks", "its schema's metadata do not hold fingerprint, method, parameters"),
        ({"parameters": {"encoding": None}}, "picks", "its schema's metadata do not say how the rows were encoded"),
        ({"parameters": {"encoding": [1]}}, "picks", "its schema's metadata do not say how the rows were encoded"),
        ({"parameters": {"encoding": "x"}}, "picks", "its schema's metadata do not say how the rows were encoded"),
    ],
)
def test_a_receipt_that_the_library_would_not_write_is_refused(folder, recorded, check, message):
    table = pq.read_table(folder / "selection.parquet")
    if isinstance(recorded, dict):
        recorded = json.dumps(json.loads(table.schema.metadata[b"sae_selection"]) | recorded)
    table = table.replace_schema_metadata(table.schema.metadata | {b"sae_selection": recorded})
    pq.write_table(table, folder / "selection.parquet")
    reseal(folder)
    assert message in differences(folder)[f"digests: {check}"]


@pytest.mark.parametrize("file", [ROWS_FILE, "pool.parquet"])
@pytest.mark.parametrize(
    "recorded", ["", "[1]", '{"info": 3}', '{"info": {"features": [1]}}', '{"info": {"features": "x"}}', DEEP]
)
def test_types_of_columns_that_nobody_would_write_are_refused(folder, file, recorded):
    tell(folder / file, recorded)
    reseal(folder)
    differ = differences(folder, "select")
    assert ("digests: rows" if file == ROWS_FILE else "select: source") in differ


@pytest.mark.parametrize("place", ["data/sub/train.parquet", "data/train.txt", "data/train.PARQUET"])
def test_rows_where_load_dataset_does_not_look_are_named(folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / ROWS_FILE).rename(folder / place)
    edit(folder, lambda record: record["files"].update({place: record["files"].pop(ROWS_FILE)}))
    reseal(folder)
    assert not verify(folder)


@pytest.mark.parametrize("name", ["sae", "text", "batch_size", "method", "columns", "dataset", "budget_", "features"])
def test_a_parameter_reaches_no_argument_that_is_none(folder, name):
    set_parameter(folder, name, "alice/sae")
    assert verify(folder)
    expected = f"these parameters do not select: unknown option `{name}` for `method='greedy'`"
    assert list(differences(folder, "select")) == ["select: picks"]
    assert differences(folder, "select")["select: picks"].startswith(expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        pytest.param("threshold", 10**400, id="threshold-huge"),
        ("top", -1),
        ("budget", 10**30),
        ("seed", -1),
        ("quota", 3),
        ("quota", {"text": [[1]]}),
    ]
    + [("quota", {"text": [[[1], 2]]}), ("must_include", {}), ("exclude", [10**30]), ("cost", 3), ("idf", "x")]
    + [("extend", value) for value in ("x", [1], {}, -1, 4, 10**30, 1.5, True)],
)
def test_a_parameter_that_is_nonsense_is_named(folder, name, value):
    set_parameter(folder, name, value)
    differ = differences(folder, "select")
    assert len(differ) == 1 and next(iter(differ)).startswith("select: picks")
    assert "these parameters do not select: " in next(iter(differ.values()))


def test_the_selection_of_a_published_subset_is_loaded_and_extended(hub, folder):
    dataset = coded(POOL, record=RECORD)
    first = dataset.sae_select(3, "greedy", seed=None).sae_selection
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    hub.push("alice/three", files, kind="dataset")
    for place in (folder, str(folder), "alice/three"):
        selection = load_selection(place)
        assert isinstance(selection, Selection) and selection.indices.tolist() == [2, 1, 4]
        assert selection.method == "greedy" and selection.parameters == first.parameters
        more, expected = (
            dataset.sae_select(4, "greedy", seed=None, extend=earlier).sae_selection for earlier in (selection, first)
        )
        assert more.indices.tolist() == expected.indices.tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"repo_or_folder": 3}, TypeError, "`repo_or_folder=3` must be of type str or Path"),
        ({"repo_or_folder": " "}, ValueError, "`repo_or_folder=' '` is empty"),
        ({"revision": 3}, TypeError, "`revision=3` must be of type str, or None"),
        ({"cache_dir": 3}, TypeError, "`cache_dir=3` must be of type str or Path, or None"),
        ({"local_files_only": 1}, ValueError, "`local_files_only=1` must be True or False"),
        ({"token": 3}, TypeError, "`token` is of type int; pass the token as text, True, False or None"),
        ({"token": "hf secret"}, ValueError, "`token` is empty or has spaces"),
    ],
)
def test_where_a_subset_is_is_checked_by_name(arguments, error, message):
    for function in (load_selection, verify):
        with pytest.raises(error, match=message):
            function(**{"repo_or_folder": "alice/three"} | arguments)


def test_bombs_are_refused_by_the_sizes_that_they_declare(folder, monkeypatch):
    assert _parquet.LEAST_BYTES == 2**31
    monkeypatch.setattr(_parquet, "LEAST_BYTES", 2**20)  # so that small ones will do
    picks = folder / "selection.parquet"
    table = pq.read_table(picks)
    numbers = pa.table({"row": pa.repeat(table["row"][0], 2**20)})
    pq.write_table(numbers, picks)
    assert picks.stat().st_size < 10**5
    with pytest.raises(
        ValueError, match=r"selection.parquet is not a table of picks .* would take 8,388,608 in memory"
    ):
        read_selection(picks)
    texts = pa.table({"text": pa.repeat("x" * 1000, 3000), "chat": pa.repeat(pa.scalar([{"a": "y" * 100}]), 3000)})
    pq.write_table(texts, folder / ROWS_FILE)
    assert (folder / ROWS_FILE).stat().st_size < 10**5
    for read in (read_table, lambda file: list(read_batches(file, 3000))):
        with pytest.raises(ValueError, match=r"bytes and would take 3,3.* in memory; at most 1,048,576 are read"):
            read(folder / ROWS_FILE)
    assert sum(len(table) for table in read_batches(folder / ROWS_FILE, 100)) == 3000  # few rows are in memory at once
    (folder / "provenance.json").write_bytes(b" " * (2**26 + 1))
    assert "provenance.json is not valid JSON: it has 67,108,865 bytes" in verify(folder).difference


def test_the_machine_s_own_errors_are_no_difference(folder, monkeypatch):
    for error in (MemoryError(), OSError(28, "No space left on device"), PermissionError(13, "Permission denied")):

        def fails(*_, error=error, **__):
            raise error

        monkeypatch.setattr(_parquet.pq, "ParquetFile", fails)
        with pytest.raises(type(error)):
            verify(folder)
