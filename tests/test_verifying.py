"""What `verify` finds: every tampering by name, at the level that can see it, and nothing where nothing is wrong."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tiny
from datasets import Dataset, load_dataset
from pools import coded

from hf_sae_select import Selection, encode, encoding, push, stage, verify
from hf_sae_select.digests import digest_of
from hf_sae_select.hub import sha256_of

ALICE = {"token": "hf_alice"}
RECORD = {"version": 1, "sae_sha256": "ab" * 32, "d_sae": 16, "threshold": 0.5, "model": "org/model"}
RECORD |= {"model_revision": "a" * 40, "hook": "layers.3", "dtype": ["float32", "float32"], "window": 16}
RECORD |= {"max_length": None, "text": {"columns": ["text"], "chat": False}, "chat_template_sha256": None}
POOL = [{0: 0.9, 1: 0.4}, {2: 0.9, 3: 0.9}, {0: 0.6, 1: 0.6, 2: 0.6}, {}, {4: 0.9, 5: 0.5}, {6: 0.7}]
TEXTS = [" ".join((tiny.WORDS * 2)[7 * i % 13 : 7 * i % 13 + 2 + i % 9]) for i in range(12)]
DIGESTS = ["record", "parameters", "indices", "rows", "files", "card"]
SELECT = [*DIGESTS, "source", "encoding", "picks", "counts", "coverage"]
ENCODE = [*SELECT, "source", "sae", "encoding", "features", "picks"]


def choose_and_stage(folder, budget=3, *, features=True, rows=POOL, **options):
    return stage(
        coded(rows, record=RECORD).sae_select(budget, seed=None, **options), folder, license="mit", features=features
    )


@pytest.fixture
def folder(tmp_path):
    """A staged subset of `POOL`: the picks are rows 2, 1 and 4, with features {0 1 2}, {2 3} and {4}."""
    return choose_and_stage(tmp_path / "staged")


def publish_source(hub, folder, texts):
    Dataset.from_dict({"text": texts, "n": list(range(len(texts)))}).to_parquet(folder / "rows.parquet")
    files = {"data/train-0.parquet": (folder / "rows.parquet").read_bytes(), "README.md": "---\nlicense: mit\n---\n"}
    return hub.push("alice/rows", files, kind="dataset")


@pytest.fixture
def whole(hub, sae, bert, tmp_path):
    """A staged subset whose model, SAE and source are all on the local Hub."""
    model = hub.push("alice/bert", {file.name: file.read_bytes() for file in bert.iterdir()})
    sae.config = replace(sae.config, model="alice/bert", model_revision=model)
    sae.push_to_hub("alice/sae", **ALICE)
    publish_source(hub, tmp_path, TEXTS)
    ds = load_dataset("alice/rows", split="train")
    return stage(ds.sae_select(4, sae="alice/sae"), tmp_path / "staged")


def said(place, level="digests", **given):
    """What differs: the names of the checks and what each says."""
    found = verify(place, level, **given)
    differ = {f"{each.level}: {each.name}": each.difference for each in found.checks if each.difference}
    assert bool(found) == (not differ) == (found.difference is None)
    return differ


def edit(folder, change):
    """Edit the record, and nothing beside it."""
    record = json.loads((folder / "provenance.json").read_text())
    change(record)
    (folder / "provenance.json").write_text(json.dumps(record))


def reseal(folder, change=lambda record: None):
    """Edit the record as one does who wants to be believed: it fits all files and itself."""

    def consistently(record):
        for name in record["files"]:
            size = (folder / name).stat().st_size
            record["files"][name] = {"sha256": sha256_of(folder / name), "bytes": size}
        change(record)
        del record["sha256"]
        record["sha256"] = digest_of(record)

    edit(folder, consistently)


def rewrite(file, change, told=lambda told: None):
    """Change the columns of a Parquet file, and what the schema of the table of picks says."""
    table = pq.read_table(file)
    columns, metadata = table.to_pydict(), dict(table.schema.metadata)
    change(columns)
    if b"sae_selection" in metadata:
        receipt = json.loads(metadata[b"sae_selection"])
        told(receipt)
        metadata[b"sae_selection"] = json.dumps(receipt).encode()
    pq.write_table(pa.table(columns, schema=table.schema.with_metadata(metadata)), file)


def put(column, row, value):
    return lambda columns: columns[column].__setitem__(row, value)


def swap(i, j):
    def change(columns):
        for values in columns.values():
            values[i], values[j] = values[j], values[i]

    return change


def nothing(columns):
    pass


def set_parameter(folder, name, value):
    """Change a parameter wherever it is written."""
    rewrite(folder / "selection.parquet", nothing, lambda told: told["parameters"].update({name: value}))
    reseal(folder, lambda record: record["selection"]["parameters"].update({name: value}))


def test_what_was_not_touched_is_verified(folder):
    for level, names in (("digests", DIGESTS), ("select", SELECT)):
        found = verify(folder, level)
        assert found and found.difference is None and found.level == level
        assert [each.name for each in found.checks] == names
        assert str(found).splitlines() == [
            *(f"ok  digests: {name}" for name in DIGESTS),
            *(f"ok  select: {name}" for name in names[6:]),
            f"verified to the level `{level}`",
        ]
    assert verify(str(folder)).level == "digests"


def test_from_the_source_again_on_the_hub_and_in_a_folder(hub, whole):
    push(whole, "alice/subset", **ALICE)
    for place in (whole, "alice/subset"):
        found = verify(place, "encode")
        assert found, str(found)
        assert [each.name for each in found.checks] == ENCODE
        assert [each.level for each in found.checks] == ["digests"] * 6 + ["select"] * 5 + ["encode"] * 5
    hub.push("alice/subset", {"data/train-00000.parquet": b"other"}, kind="dataset")
    assert "digests: files" in said("alice/subset")
    first = hub.commits("alice/subset", "dataset")[1].oid
    assert verify("alice/subset", revision=first)


def test_encoding_again_reads_no_codes_that_were_cached(whole, monkeypatch):
    read, call = [], encoding._Encoder.__call__

    def spy(self, batch):
        read.extend(batch["text"])
        return call(self, batch)

    monkeypatch.setattr(encoding._Encoder, "__call__", spy)
    encode(load_dataset("alice/rows", split="train"), "alice/sae")
    assert read == []  # they were there
    assert verify(whole, "encode")
    assert sorted(read) == sorted(TEXTS)


ROWS_FILE = "data/train-00000.parquet"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("text", 1, "row 1."), "row 1 was changed: it is not row 1 of the source any more"),
        (put("text", 0, None), "row 0 was changed: it is not row 2 of the source any more"),
        (swap(0, 2), "the rows are in another order: row 0 is not the one that was picked there"),
        (lambda columns: columns["text"].pop(), "there are 2 rows, picked were 3"),
        (lambda columns: columns["text"].append("row 0"), "there are 4 rows, picked were 3"),
    ],
)
def test_rows_that_were_changed_are_named(folder, change, message):
    rewrite(folder / ROWS_FILE, change)
    assert said(folder)["digests: rows"] == message
    assert said(folder)["digests: files"].startswith("data/train-00000.parquet was changed: its SHA-256 is ")
    assert verify(folder).difference == f"rows: {message}"
    assert f"DIFFERS  digests: rows: {message}\n" in str(verify(folder))
    assert str(verify(folder)).endswith("not verified to the level `digests`")
    reseal(folder)
    assert said(folder) == {"digests: rows": message}


def test_a_column_more_or_of_another_type_is_named(folder):
    file = folder / ROWS_FILE
    original = pq.read_table(file)
    pq.write_table(pa.table({"text": original["text"], "more": [1, 2, 3]}), file)
    assert (
        said(folder)["digests: rows"]
        == f"column `more` of {ROWS_FILE} has another type than recorded, or is not in both"
    )
    pq.write_table(pa.table({"text": [b"row 2", b"row 1", b"row 4"]}), file)
    assert said(folder)["digests: rows"].startswith("column `text` of")


def test_files_that_are_missing_more_or_damaged_are_named(folder):
    shutil.copy(folder / ROWS_FILE, folder / "data" / "train-00001.parquet")
    assert said(folder) == {"digests: files": "data/train-00001.parquet is not in the record"}
    (folder / "data" / "train-00001.parquet").unlink()
    (folder / "coverage.png").write_bytes(b"other")
    assert said(folder)["digests: files"].startswith("coverage.png was changed: its SHA-256 is d9298a10d1b07358")
    (folder / "coverage.png").unlink()
    assert said(folder) == {"digests: files": "coverage.png is missing"}


@pytest.mark.parametrize("file", [ROWS_FILE, "pool.parquet", "selection.parquet", "provenance.json", "README.md"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff{", None])
def test_no_damaged_or_missing_file_is_an_error_of_ours(folder, file, content):
    place = folder / file
    place.unlink() if content is None else place.write_bytes(content)
    if file == "provenance.json" and content is None:
        with pytest.raises(
            FileNotFoundError, match=r"holds no provenance.json: it was not published by `sae_publish`"
        ):
            verify(folder)
        return
    assert not verify(folder, "select")
    names = {ROWS_FILE: "rows", "pool.parquet": "files", "selection.parquet": "picks", "provenance.json": "record"}
    name = names.get(file, "card")
    assert verify(folder, "select").difference.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda config: config.update(data_files=[{"split": "train", "path": "other/*.parquet"}]), "other/*.parquet"),
        (lambda config: config.update(config_name="mine"), "has the config `default` as None, written was"),
    ],
)
def test_a_card_that_points_elsewhere_is_named(folder, change, message):
    import yaml

    _, head, text = (folder / "README.md").read_text().split("---\n", 2)
    data = yaml.safe_load(head)
    change(data["configs"][0])
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(data)}---\n{text}")
    differ = said(folder)
    assert list(differ) == ["digests: card"] and message in differ["digests: card"]


def test_the_text_of_the_card_is_yours(folder):
    with (folder / "README.md").open("a") as card:
        card.write("\n# Mine\n")
    assert verify(folder, "select")


@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        (put("row", 1, 0), "indices", "the row numbers in the table of picks, or their order, are not those that"),
        (swap(0, 1), "indices", "the row numbers in the table of picks, or their order, are not those that"),
        (put("row_sha256", 1, "ab" * 32), "rows", "the digests of rows in the table of picks, or their order, are"),
        (put("row_sha256", 1, "no digits"), "rows", "digest"),
        (put("row_sha256", 1, None), "rows", "digest"),
        (put("row", 1, None), "indices", "row numbers"),
        (put("gain", 0, 9), "files", "selection.parquet was changed"),
        (put("covered", 0, 9), "files", "selection.parquet was changed"),
        (put("features", 0, 9), "files", "selection.parquet was changed"),
        (put("pick", 0, 9), "files", "selection.parquet was changed"),
    ],
)
def test_a_table_of_picks_that_was_edited_is_named(folder, change, check, message):
    rewrite(folder / "selection.parquet", change)
    assert message in said(folder)[f"digests: {check}"]


@pytest.mark.parametrize(
    ("column", "value", "check", "message"),
    [
        ("gain", 9, "picks", "pick 0, row 2: `gains` is 9, again 3"),
        ("covered", 9, "picks", "pick 0, row 2: `covered` is 9, again 3"),
        ("features", 9, "counts", "pick 0 has 3 features, stated are 9"),
        ("pick", 9, "picks", "pick"),
    ],
)
def test_a_table_of_picks_that_was_edited_consistently_is_named_too(folder, column, value, check, message):
    rewrite(folder / "selection.parquet", put(column, 0, value))
    reseal(folder)
    differ = said(folder, "select")
    assert list(differ) == [f"select: {check}"] and message in differ[f"select: {check}"]


def test_another_order_made_consistent_is_not_what_the_method_picks(folder):
    """Picks 1 and 2 are swapped in the rows, the table and the record; every digest fits."""
    rewrite(folder / ROWS_FILE, swap(1, 2))
    rewrite(folder / "selection.parquet", swap(1, 2))
    rewrite(folder / "selection.parquet", lambda columns: columns.update(pick=[0, 1, 2]))
    digests = pq.read_table(folder / "selection.parquet")["row_sha256"].to_pylist()
    changed = {"indices_sha256": digest_of(np.array([2, 4, 1], "<i8"))}
    changed["rows_sha256"] = digest_of(np.frombuffer(bytes.fromhex("".join(digests)), np.uint8))
    reseal(folder, lambda record: record["selection"].update(changed))
    assert verify(folder)
    assert said(folder, "select") == {"select: picks": "pick 1 is row 4, these parameters pick row 1"}


@pytest.mark.parametrize(
    ("name", "value", "told", "message"),
    [
        ("budget", 2, "3", "3 rows were picked, these parameters pick 2"),
        ("seed", 3, "None", "pick 1 is row 1, these parameters pick row 5"),
        ("threshold", 0.8, "0.5", "pick 0 is row 2, these parameters pick row 1"),
        ("top", 1, "None", "pick 0 is row 2, these parameters pick row 0"),
        ("idf", True, "False", "pick 0, row 2: `gains`"),
        ("exhausted", "never", "'restart'", "these parameters do not select: unknown `exhausted='never'`"),
        ("max_share", 0.2, "None", "pick 0"),
        ("exclude", [2], "None", "pick 0 is row 2, these parameters pick row 1"),
        ("must_include", [5], "None", "pick 0 is row 2, these parameters pick row 5"),
        ("quality", "n", "None", "these parameters do not select"),
        ("per_token", "1", "None", "these parameters do not select"),
    ],
)
def test_a_parameter_is_named_and_edited_everywhere_shows_in_the_picks(folder, name, value, told, message):
    shutil.copytree(folder, folder.with_name("naive"))
    edit(folder.with_name("naive"), lambda record: record["selection"]["parameters"].update({name: value}))
    naive = said(folder.with_name("naive"))
    assert naive["digests: record"].startswith("provenance.json was edited after it was written")
    expected = f"parameter `{name}` is {value!r} in provenance.json, {told} in the table of picks"
    assert naive["digests: parameters"] == expected
    set_parameter(folder, name, value)
    assert verify(folder)
    differ = said(folder, "select")
    assert next(iter(differ)) == "select: picks" and message in differ["select: picks"]


@pytest.mark.parametrize("method", ["instag", "kcenter", "mine"])
def test_another_method_is_named(folder, method):
    rewrite(folder / "selection.parquet", nothing, lambda told: told.update(method=method))
    assert (
        said(folder)["digests: parameters"]
        == f"`method` is 'greedy' in provenance.json, {method!r} in the table of picks"
    )
    reseal(folder, lambda record: record["selection"].update(method=method))
    assert "do not select" in said(folder, "select")["select: picks"]


@pytest.mark.parametrize("rows", ["pool", "subset", "random", "longest"])
@pytest.mark.parametrize(("figure", "value"), [("features", 99), ("share", 0.123), ("saturated_at", 1)])
def test_a_figure_of_coverage_is_named(folder, rows, figure, value):
    reseal(folder, lambda record: record["coverage"][rows].update({figure: value}))
    differ = said(folder, "select")
    assert list(differ) == ["select: coverage"]
    assert differ["select: coverage"].startswith(f"`{figure}` of {rows} is {value} in provenance.json, again ")


def test_features_in_store_that_were_edited_show_in_the_picks_or_when_encoded_again(whole):
    """A feature that row 0 does not have is written into the pool, so that the row is picked, and all else follows."""
    table = pq.read_table(whole / "pool.parquet")
    ids, acts = table["sae_ids"].to_pylist(), table["sae_acts"].to_pylist()
    (missing, *_) = sorted(set(range(32)) - {feature for row in ids for feature in row})
    ids[0], acts[0] = zip(*sorted([*zip(ids[0], acts[0], strict=True), (missing, 1.0)]), strict=True)
    rewrite(whole / "pool.parquet", lambda columns: columns.update(sae_ids=ids, sae_acts=acts))
    assert said(whole)["digests: files"].startswith("pool.parquet was changed")
    reseal(whole)
    assert said(whole, "select")["select: picks"] == "`pool_coverage` is 25, again 26"
    told = said(whole, "encode")["encode: features"]
    assert told.startswith(
        f"row 0 of the source has {len(ids[0])} features in store and {len(ids[0]) - 1} when encoded"
    )
    assert f"the first that only one has is #{missing} (" in told


@pytest.mark.parametrize(
    ("column", "change"), [("sae_acts", lambda acts: [2 * act for act in acts]), ("sae_tokens", lambda n: n + 5)]
)
def test_activations_and_tokens_in_store_that_were_edited_show_when_encoded_again(whole, column, change):
    rewrite(whole / "pool.parquet", lambda columns: columns.update({column: [*map(change, columns[column])]}))
    tokens = column == "sae_tokens"

    def follow(record):
        for figures in record["coverage"].values() if tokens else ():
            figures["tokens"] += 5
            figures["length_quantiles"] = {name: n + 5 for name, n in figures["length_quantiles"].items()}

    reseal(whole, follow)
    differ = said(whole, "encode")
    assert list(differ) == ["encode: features"]
    assert differ["encode: features"].startswith("row 0 of the source has ")


def test_a_size_of_a_file_that_was_edited_is_named(folder):
    reseal(folder, lambda record: record["files"]["pool.parquet"].update(bytes=1))
    assert "pool.parquet" in said(folder)["digests: files"]


def test_fewer_rows_in_store_than_there_were_are_named(whole):
    rewrite(whole / "pool.parquet", lambda columns: [values.pop() for values in columns.values()])
    reseal(whole)
    assert said(whole, "encode")["select: source"] == "there are 11 rows to pick from, recorded are 12"


def test_another_sae_at_the_recorded_place_is_named(hub, whole, sae):
    sae.b_enc.add_(1)
    other = sae.push_to_hub("alice/sae", **ALICE).oid
    assert verify(whole, "encode")  # the recorded commit is still there

    def point(encoding):
        encoding["sae"]["revision"] = other

    rewrite(whole / "selection.parquet", nothing, lambda told: point(told["parameters"]["encoding"]))
    reseal(whole, lambda record: point(record["encoding"]))
    assert verify(whole, "select")  # nothing is fetched
    told = said(whole, "encode")
    assert told["encode: sae"].startswith(f"alice/sae has an encoder of SHA-256 {sae.digest()}, recorded is ")
    assert "encode: features" in told


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("revision", "0" * 40, "it cannot be loaded as recorded: alice/sae has no revision '0000"),
        (
            "repo",
            "alice/none",
            "it cannot be loaded as recorded: 'alice/none' is neither a folder here nor a Hub repo",
        ),
        ("path", "none.safetensors", "it cannot be loaded as recorded: "),
        ("sha256", "0" * 64, "0000000000"),
    ],
)
def test_an_sae_that_is_not_where_the_record_says_is_named(whole, name, value, message):
    rewrite(
        whole / "selection.parquet", nothing, lambda told: told["parameters"]["encoding"]["sae"].update({name: value})
    )
    reseal(whole, lambda record: record["encoding"]["sae"].update({name: value}))
    differ = said(whole, "encode")
    assert list(differ) == ["encode: sae"] and message in differ["encode: sae"]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("hook", "encoder.layer.0", "row 0 of the source has"),
        ("max_length", 1, "row 0 of the source has"),
        ("sae_sha256", "0" * 64, "alice/sae has an encoder of SHA-256"),
        ("text", {"columns": ["n"], "chat": False}, "cannot be encoded as recorded: column `n` holds"),
        ("dtype", ["float32", "bfloat16"], ""),
        ("dtype", ["float32", "nonsense"], ""),
    ],
)
def test_how_rows_were_encoded_edited_everywhere_is_named(whole, name, value, message):
    """In the record, in the table of picks and in the pool."""
    rewrite(whole / "selection.parquet", nothing, lambda told: told["parameters"]["encoding"].update({name: value}))
    assert said(whole)["digests: parameters"].startswith(f"encoding.`{name}` is ")
    table = pq.read_table(whole / "pool.parquet")
    info = json.loads(table.schema.metadata[b"huggingface"])
    ids = info["info"]["features"]["sae_ids"]["feature"]
    ids["id"] = json.dumps(json.loads(ids["id"]) | {name: value})
    metadata = table.schema.metadata | {b"huggingface": json.dumps(info)}
    pq.write_table(table.replace_schema_metadata(metadata), whole / "pool.parquet")
    reseal(whole, lambda record: record["encoding"].update({name: value}))
    assert verify(whole, "select")
    differ = said(whole, "encode")
    assert differ and all(each.startswith("encode: ") for each in differ)
    assert any(message in each for each in differ.values())


def test_a_threshold_lower_than_the_features_in_store_were_cut_by_is_named(whole):
    ds = load_dataset("alice/rows", split="train")
    stage(ds.sae_select(4, sae="alice/sae", threshold=3.0), whole)
    assert verify(whole, "encode")
    set_parameter(whole, "threshold", 0.5)
    assert " features in store and " in said(whole, "encode")["encode: features"]


def test_a_source_that_changed_is_named(hub, whole, tmp_path):
    texts = list(TEXTS)
    picked = pq.read_table(whole / "selection.parquet")["row"].to_pylist()
    (left, *_) = sorted(set(range(12)) - set(picked))
    texts[left] = "the moon"
    cases = [
        (texts, "a row that was not picked has other content than recorded, or the rows are in another order"),
        (
            ["the moon" if i == picked[1] else text for i, text in enumerate(TEXTS)],
            f"pick 1 is not row {picked[1]} of the source: that row has other content",
        ),
        (TEXTS[::-1], f"pick 0 is not row {picked[0]} of the source: that row has other content"),
        (TEXTS[:-1], "there are 11 rows, recorded are 12"),
    ]
    for rows, message in cases:
        other = publish_source(hub, tmp_path, rows)
        assert verify(whole, "encode")  # the recorded commit is still there
        shutil.copytree(whole, tmp_path / "copy")
        reseal(tmp_path / "copy", lambda record, other=other: record["source"].update(revision=other))
        assert verify(tmp_path / "copy", "select")
        differ = said(tmp_path / "copy", "encode")
        assert next(iter(differ)) == "encode: source"
        assert differ["encode: source"] in (message, message.replace("rows,", "rows to pick from,"))
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("revision", "0" * 40, "alice/rows cannot be loaded as recorded: "),
        ("dataset", "alice/none", "alice/none cannot be loaded as recorded: "),
        ("config", "other", "alice/rows cannot be loaded as recorded: "),
        ("split", "test", "alice/rows cannot be loaded as recorded: "),
        ("split", "train[:5]", "there are 5 rows to pick from, recorded are 12"),
        ("split", None, ""),
        ("sha256", "0" * 64, "a row that was not picked has other content than recorded"),
    ],
)
def test_a_source_that_is_not_where_the_record_says_is_named(whole, name, value, message):
    reseal(whole, lambda record: record["source"].update({name: value}))
    told = said(whole, "encode")["encode: source"]
    assert told.startswith(message)


def test_a_base_model_that_is_not_there_is_named(whole):
    nowhere = {"model_revision": "0" * 40}
    rewrite(whole / "selection.parquet", nothing, lambda told: told["parameters"]["encoding"].update(nowhere))
    reseal(whole, lambda record: record["encoding"].update(nowhere))
    with pytest.raises(OSError, match=r"cannot load the base model alice/bert: 0{40} is not a valid git identifier"):
        verify(whole, "encode", features=encode(load_dataset("alice/rows", split="train"), "alice/sae"))


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


def test_without_stored_features_they_are_asked_for(tmp_path):
    folder = choose_and_stage(tmp_path / "f", features=False)
    assert verify(folder)
    with pytest.raises(ValueError, match=r"^the level `select` needs `features`: the source as `sae_encode` returns"):
        verify(folder, "select")
    assert verify(folder, "select", features=coded(POOL, record=RECORD))
    more = coded([*POOL, {7: 0.9}], record=RECORD)
    assert said(folder, "select", features=more)["select: source"] == "there are 7 rows to pick from, recorded are 6"
    other = coded([POOL[0], {2: 0.9, 5: 0.9, 6: 0.9, 7: 0.9}, *POOL[2:]], record=RECORD)
    assert said(folder, "select", features=other)["select: picks"] == "pick 0 is row 2, these parameters pick row 1"
    hook = coded(POOL, record=RECORD | {"hook": "layers.4"})
    differ = said(folder, "select", features=hook)
    assert differ == {"select: encoding": "`hook` is recorded as 'layers.3', found is 'layers.4'"}
    moved = said(folder, "select", features=coded(POOL, record=RECORD).select([0, 2, 1, 3, 4, 5]))
    assert moved["select: source"] == "pick 0 is not row 2 of the source: that row has other content"


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"level": "all"}, ValueError, "unknown `level='all'`; choose one of: digests, select, encode"),
        ({"level": "select", "features": [1]}, TypeError, "`features` is a list; pass a datasets.Dataset"),
        ({"level": "encode", "source": {"train": 1}}, TypeError, "`source` is a dict; pass a datasets.Dataset"),
        ({"features": Dataset.from_dict({"text": ["a"]})}, ValueError, "`features` is not encoded; pass what"),
        ({"features": Dataset.from_dict({"text": []})}, ValueError, "the dataset is empty"),
        ({"revision": "main"}, ValueError, "`revision='main'` is for Hub repos"),
    ],
)
def test_bad_arguments_are_refused(folder, given, error, message):
    with pytest.raises(error) as caught:
        verify(folder, **given)
    assert message in str(caught.value)


def test_what_is_no_published_subset_is_said(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no provenance.json: it was not published by `sae_publish`"):
        verify(tmp_path)
    hub.push("alice/other", {"README.md": ""}, kind="dataset")
    with pytest.raises(FileNotFoundError, match=r"^alice/other holds no provenance.json"):
        verify("alice/other")
    with pytest.raises(FileNotFoundError, match=r"'alice/none' is neither a folder here nor a Hub repo"):
        verify("alice/none")


def test_rows_from_memory_are_asked_for_to_encode_again(tmp_path, sae):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_select(4, sae=sae), tmp_path / "f", license="mit")
    assert verify(folder, "select")
    with pytest.raises(ValueError, match=r"^the level `encode` needs `source`: the rows chosen from"):
        verify(folder, "encode")
    with pytest.raises(
        ValueError, match=r"^the level `encode` needs `sae`: the SAE on its model, which others cannot"
    ):
        verify(folder, "encode", source=ds)
    assert verify(folder, "encode", source=ds, sae=sae)
    assert verify(folder, "encode", source=ds.sae_encode(sae), sae=sae)
    differ = said(folder, "encode", source=ds.select(range(11, -1, -1)), sae=sae)
    assert "that row has other content" in differ["encode: source"]
    sae.b_enc.add_(1)
    differ = said(folder, "encode", source=ds, sae=sae)
    assert differ["encode: sae"].startswith(f"the SAE given has an encoder of SHA-256 {sae.digest()}, recorded is ")


def words(row):
    return row["text"].upper().lower()


def test_a_function_that_wrote_the_text_is_asked_for(tmp_path, sae):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_select(4, sae=sae, text=words), tmp_path / "f", license="mit")
    with pytest.raises(ValueError, match=r"^the level `encode` needs `text`: the function that wrote the rows out"):
        verify(folder, "encode", source=ds, sae=sae)
    assert verify(folder, "encode", source=ds, sae=sae, text=words)
    differ = said(folder, "encode", source=ds, sae=sae, text=lambda row: "the cat")
    assert differ["encode: encoding"].startswith("`text` is recorded as {'function': 'words'")


def last_ones(features, budget, rng, *, constraints, step=1, order="down", skip=()):
    """Pick the rows from the last on."""
    rows = np.array([row for row in range(len(features)) if row not in skip][:: -step if order == "down" else step])
    return Selection(rows[:budget], np.zeros(min(budget, len(rows))), np.array([0]))


@pytest.mark.parametrize("options", [{}, {"step": 2}, {"order": "up"}, {"skip": [5, 4]}, {"quality": "good"}])
def test_a_rule_of_ones_own_is_asked_for(tmp_path, options):
    ds = coded(POOL, record=RECORD).add_column("good", [1, 2, 3, 4, 5, 6])
    folder = stage(ds.sae_select(3, method=last_ones, **options), tmp_path / "f", license="mit")
    assert verify(folder)
    with pytest.raises(ValueError, match=r"^the level `select` needs `method`: the rule, which is none of ours"):
        verify(folder, "select")
    found = verify(folder, "select", method=last_ones)
    assert found, str(found)

    def other(features, budget, rng, *, constraints, step=1, order="down", skip=()):
        return last_ones(features, budget, rng, constraints=constraints, step=step, order=order, skip=[3, 0, *skip])

    assert "these parameters pick" in said(folder, "select", method=other)["select: picks"]


@pytest.mark.parametrize("features", [True, False])
def test_rows_compared_by_vectors_alone_are_verified_from_these(tmp_path, features):
    vectors = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.2]]
    ds = Dataset.from_dict({"text": ["a", "b", "c", "d"], "vector": vectors})
    subset = ds.sae_select(2, method="kcenter", embedding="vector")
    folder = stage(subset, tmp_path / "f", license="mit", features=features)
    given = {} if features else {"features": ds}
    found = verify(folder, "select", **given)
    assert found and [each.name for each in found.checks] == [*DIGESTS, "source", "picks"]
    with pytest.raises(ValueError, match=r"the level `encode` is for rows that were encoded; these were compared by"):
        verify(folder, "encode", source=ds, **given)
    if features:
        rewrite(folder / "pool.parquet", put("vector", 0, [0.0, -1.0]))
        reseal(folder)
        assert "select: picks" in said(folder, "select")
