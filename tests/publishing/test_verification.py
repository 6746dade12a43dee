"""What `verify` finds: every change by name, at the level that can see it, and nothing where nothing is wrong."""

import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value, load_dataset
from helpers.forge import (
    ALICE,
    DIGESTS,
    ENCODE,
    POOL,
    RECORD,
    ROWS_FILE,
    SELECT,
    TEXTS,
    choose_and_stage,
    differences,
    publish_source,
    put,
    reseal,
    rewrite,
    set_card,
    set_parameter,
    stage_whole,
    swap,
    tell,
)
from helpers.pools import coded

from hf_sae_select import Selection, encode, push, stage, verify
from hf_sae_select.encoding.encoder import Encoder
from hf_sae_select.publishing import checks, devices
from hf_sae_select.publishing.verdict import CONCLUSIONS


def test_what_was_not_touched_is_verified(folder):
    for level, names in (("digests", DIGESTS), ("select", SELECT)):
        verification = verify(folder, level)
        assert verification and verification.difference is None and verification.level == level
        assert [item.name for item in verification.checks] == names
        assert str(verification).splitlines() == [
            f"subset  {folder}",
            "source  not published",
            "rows    3 of 6",
            *(f"ok  digests: {name}" for name in DIGESTS),
            *(f"ok  select: {name}" for name in names[6:]),
            f"verified to the level `{level}`: {CONCLUSIONS[level]}",
        ]
    assert verify(str(folder)).level == "digests"


def test_from_the_source_again_on_the_hub_and_in_a_folder(hub, whole):
    push(whole, "alice/subset", **ALICE)
    for place in (whole, "alice/subset"):
        verification = verify(place, "encode")
        assert verification, str(verification)
        assert [item.name for item in verification.checks] == ENCODE
        assert [item.level for item in verification.checks] == ["digests"] * 6 + ["select"] * 5 + ["encode"] * 7
    hub.push("alice/subset", {"data/train-00000.parquet": b"other"}, kind="dataset")
    assert "digests: files" in differences("alice/subset")
    first = hub.commits("alice/subset", "dataset")[1].oid
    assert verify("alice/subset", revision=first)


def test_encoding_again_reads_no_codes_that_were_cached(whole, monkeypatch):
    read, call = [], Encoder.tokenized

    def spy(self, rows, batch):
        read.extend(text for text, _ in batch)
        return call(self, rows, batch)

    monkeypatch.setattr(Encoder, "tokenized", spy)
    encode(load_dataset("alice/rows", split="train"), "alice/sae")
    assert read == []  # they were there
    assert verify(whole, "encode")
    assert sorted(read) == sorted(TEXTS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("text", 1, "row 1."), "row 1 was changed: it is no longer row 1 of the source"),
        (put("text", 0, None), "row 0 was changed: it is no longer row 2 of the source"),
        (swap(0, 2), "the rows are in another order: row 0 is not the one that was picked there"),
        (lambda columns: columns["text"].pop(), "there are 2 rows, but 3 were picked"),
        (lambda columns: columns["text"].append("row 0"), "there are 4 rows, but 3 were picked"),
    ],
)
def test_rows_that_were_changed_are_named(folder, change, message):
    rewrite(folder / ROWS_FILE, change)
    assert differences(folder)["digests: rows"] == message
    assert differences(folder)["digests: files"].startswith("data/train-00000.parquet was changed: its SHA-256 is ")
    assert verify(folder).difference == f"rows: {message}"
    assert f"DIFFERS  digests: rows: {message}\n" in str(verify(folder))
    assert str(verify(folder)).splitlines()[-1].startswith("not verified to the level `digests`: ")
    reseal(folder)
    assert differences(folder) == {"digests: rows": message}


def test_a_column_more_or_of_another_type_is_named(folder):
    file = folder / ROWS_FILE
    texts = pq.read_table(file)["text"].to_pylist()
    Dataset.from_dict({"text": texts, "more": [1, 2, 3]}).to_parquet(file)
    expected = (
        f"the rows cannot be read: {ROWS_FILE}: column `{{}}` is missing, new, or has another type than recorded"
    )
    assert differences(folder)["digests: rows"] == expected.format("more")
    Dataset.from_dict({"text": [text.encode() for text in texts]}).to_parquet(file)
    assert differences(folder)["digests: rows"] == expected.format("text")
    pq.write_table(pa.table({"text": texts}), file)
    assert differences(folder)["digests: rows"].startswith("the rows cannot be read: ")


def test_files_that_are_missing_more_or_damaged_are_named(folder):
    shutil.copy(folder / ROWS_FILE, folder / "data" / "train-00001.parquet")
    expected = "data/train-00001.parquet is not in the record, but `load_dataset` reads it"
    assert differences(folder) == {"digests: files": expected}
    (folder / "data" / "train-00001.parquet").unlink()
    (folder / "coverage.png").write_bytes(b"other")
    assert differences(folder)["digests: files"].startswith(
        "coverage.png was changed: its SHA-256 is d9298a10d1b07358"
    )
    (folder / "coverage.png").unlink()
    assert differences(folder) == {"digests: files": "coverage.png is missing"}


@pytest.mark.parametrize("file", [ROWS_FILE, "pool.parquet", "selection.parquet", "provenance.json", "README.md"])
@pytest.mark.parametrize("content", [b"", b"PAR1", b"\xff{", None])
def test_no_damaged_or_missing_file_is_an_error_of_ours(folder, file, content):
    place = folder / file
    place.unlink() if content is None else place.write_bytes(content)
    if file == "provenance.json" and content is None:
        with pytest.raises(FileNotFoundError, match=r"has no provenance.json: it was not published by `sae_publish`"):
            verify(folder)
        return
    assert not verify(folder, "select")
    names = {ROWS_FILE: "rows", "pool.parquet": "files", "selection.parquet": "picks", "provenance.json": "record"}
    name = names.get(file, "card")
    assert verify(folder, "select").difference.startswith(f"{name}: ")


@pytest.mark.parametrize("file", [".huggingface.yaml", "dataset_infos.json"])
def test_a_file_that_load_dataset_goes_by_is_named(folder, file):
    (folder / file).write_text("{}")
    expected = {"digests: files": f"{file} is not in the record, but `load_dataset` reads it"}
    assert differences(folder) == expected
    reseal(folder, lambda record: record["files"].update({file: record["files"]["pool.parquet"]}))
    assert f"provenance.json at files: '{file}' does not match" in differences(folder)["digests: record"]


OTHER = [{"split": "train", "path": "other/*.parquet"}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda card: card["configs"][0].update(data_files=OTHER), "other/*.parquet"),
        (lambda card: card["configs"][0].update(config_name="mine"), "has the config `default` as [], written was"),
        (lambda card: card["configs"].append(card["configs"][0] | {"data_files": OTHER}), "other/*.parquet"),
        (lambda card: card["configs"].insert(0, {"config_name": "a", "data_files": OTHER, "default": True}), "`a`"),
        (lambda card: card["configs"].pop(1), "has the config `selection` as [], written was"),
        (lambda card: card.update(configs={"default": 1}), "has the config `default` as [], written was"),
        (lambda card: card.pop("configs"), "has the config `default` as [], written was"),
        (
            lambda card: card.update(dataset_info={"features": []}),
            "README.md has `dataset_info`, which `load_dataset`",
        ),
        (lambda card: card.update(license="apache-2.0"), "has `license` as 'apache-2.0', the record as 'mit'"),
        (lambda card: card.pop("license"), "has `license` as None, the record as 'mit'"),
        (lambda card: card.update(license_link="https://x"), "has `license_link` as 'https://x', the record as None"),
        (lambda card: card.update(source_datasets=["evil/x"]), "`source_datasets` as ['evil/x'], but None follows"),
        (
            lambda card: card.update(size_categories="1M<n<10M"),
            "`size_categories` as '1M<n<10M', but ['n<1K'] follows",
        ),
        (lambda card: card.update({1: 2}), "README.md"),
        (lambda card: card.update(tags=3), "README.md"),
    ],
)
def test_a_card_that_says_something_else_is_named(folder, change, message):
    set_card(folder, change)
    differ = differences(folder)
    assert list(differ) == ["digests: card"] and message in differ["digests: card"]


def test_a_card_too_deep_to_be_read_is_named(folder):
    (folder / "README.md").write_text(f"---\na: {'[' * 10**5}{']' * 10**5}\n---\n")
    assert list(differences(folder)) == ["digests: card"]


@pytest.mark.parametrize("licence", ["x" * 10**5, ["x" * 9] * 10**4, {"a": "x" * 10**5}])
def test_what_a_difference_quotes_is_shortened(folder, licence):
    set_card(folder, lambda card: card.update(license=licence))
    assert 100 < len(differences(folder)["digests: card"]) < 700


def test_the_text_of_the_card_is_yours(folder):
    with (folder / "README.md").open("a") as card:
        card.write("\n# Mine\n")
    assert verify(folder, "select")


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("| this subset | 3 |", "| this subset | 4 |"),
        ("| all rows | 6 |", "| all rows | 6 | 7 |"),
        ("| `budget` | 3 |\n", ""),
        ("| method | `greedy`", "| method | `match`"),
        ("# 3 rows of", "# 9,999 rows of"),
        ("## What it covers\n", "## What it covers\n\n<table><tr><td>all rows</td><td>9</td></tr></table>\n"),
        ("## What it covers\n", "## What it covers\n\nrows | features\n---|---\n3 | 99\n"),
        ("## What it covers\n", "## What it covers\n\n> | rows |\n> |---|\n> | 99 |\n"),
        ("## What it covers\n", "<!--\n## What it covers\n"),
        ("- **Coverage is not quality.**", "- **Coverage is quality.**"),
        ('verify("OWNER/NAME")', 'verify("evil/other")'),
        ("<!-- end of hf-sae-select: subset -->", ""),
        ("<!-- end of hf-sae-select: subset -->", "Mine.\n<!-- end of hf-sae-select: subset -->"),
    ],
)
def test_a_section_of_the_card_that_was_changed_is_noticed(folder, written, instead):
    card = (folder / "README.md").read_text()
    assert written in card
    (folder / "README.md").write_text(card.replace(written, instead))
    message = (
        "the card lacks the comment"
        if not instead.endswith("-->") and "<!--" in written
        else "README.md has another section between the comm"
    )
    assert list(differences(folder)) == ["digests: card"] and message in differences(folder)["digests: card"]


@pytest.mark.parametrize("name", ["subset", "other"])
def test_a_second_section_of_the_card_is_noticed(folder, name):
    card = (folder / "README.md").read_text()
    second = (
        f"<!-- hf-sae-select: {name}, written anew at each push -->\n# 99 rows\n<!-- end of hf-sae-select: {name} -->"
    )
    for text in (f"{card}\n{second}\n", card.replace("<!-- hf", f"{second}\n<!-- hf", 1)):
        (folder / "README.md").write_text(text)
        assert "the card has 2 sections of ours; remove all but one" in differences(folder)["digests: card"]


def test_words_and_tables_before_and_after_our_section_are_yours(folder):
    card = (folder / "README.md").read_text()
    card = card.replace("<!-- hf", "# Mine\n\n<!-- hf", 1) + "\n| a |\n|---|\n| 1 |\n"
    (folder / "README.md").write_text(card.replace("OWNER/NAME", "alice/three"))
    assert verify(folder)


@pytest.mark.parametrize(
    ("change", "check", "message"),
    [
        (
            put("row", 1, 0),
            "indices",
            "the row numbers in the table of picks, or their order, are not the recorded ones",
        ),
        (
            put("row_sha256", 1, "ab" * 32),
            "rows",
            "the digests of rows in the table of picks, or their order, are not the recorded ones",
        ),
        (put("gain", 0, 9), "files", "selection.parquet was changed"),
        (put("covered", 0, 9), "files", "selection.parquet was changed"),
        (put("features", 0, 9), "files", "selection.parquet was changed"),
        (put("row_sha256", 1, "no digits"), "picks", "'no digits' is not a SHA-256"),
        (put("row_sha256", 1, "AB" * 32), "picks", "'ABAB"),
        (put("row_sha256", 1, None), "picks", "its column `row_sha256` holds string or nulls"),
        (put("row", 1, None), "picks", "its column `row` holds int64 or nulls"),
        (put("pick", 0, 9), "picks", "its column `pick` does not count up from 0"),
        (swap(0, 1), "picks", "its column `pick` does not count up from 0"),
    ],
)
def test_a_table_of_picks_that_was_edited_is_named(folder, change, check, message):
    rewrite(folder / "selection.parquet", change)
    assert message in differences(folder)[f"digests: {check}"]


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
        (TEXTS[:-1], "the source has 11 rows, recorded are 12"),
    ]
    for rows, message in cases:
        other = publish_source(hub, tmp_path, rows)
        assert verify(whole, "encode")  # the recorded commit is still there
        shutil.copytree(whole, tmp_path / "copy")
        reseal(tmp_path / "copy", lambda record, other=other: record["source"].update(revision=other))
        assert verify(tmp_path / "copy", "select")
        differ = differences(tmp_path / "copy", "encode")
        assert next(iter(differ)) == "encode: source"
        assert differ["encode: source"] == message
        shutil.rmtree(tmp_path / "copy")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("revision", "0" * 40, "alice/rows has no revision '0000"),
        ("config", "other", "alice/rows cannot be loaded as recorded: "),
        ("split", "test", "alice/rows cannot be loaded as recorded: "),
        ("split", "train[:5]", "the source has 5 rows, recorded are 12"),
        ("sha256", "0" * 64, "a row that was not picked has other content than recorded"),
    ],
)
def test_a_source_that_is_not_where_the_record_says_is_named_and_ends_it(whole, name, value, message):
    reseal(whole, lambda record: record["source"].update({name: value}))
    check = verify(whole, "encode").checks[-1]
    assert (check.level, check.name) == ("encode", "source") and message in check.difference


def test_a_repo_that_is_not_seen_is_no_difference(hub, whole, cache, tmp_path):
    hub.repos["dataset", "alice/rows"].private = True
    for folder in (cache, tmp_path / "home"):
        shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="alice/rows"):
        verify(whole, "encode")
    assert verify(whole, "encode", **ALICE)
    reseal(whole, lambda record: record["source"].update(dataset="alice/none"))
    with pytest.raises(FileNotFoundError, match="alice/none"):
        verify(whole, "encode", **ALICE)


@pytest.mark.parametrize("name", ["alice/rows", "alice/sae", "alice/bert"])
def test_a_folder_here_is_not_read_in_place_of_a_repo(whole, tmp_path, monkeypatch, name):
    (tmp_path / "here" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    assert verify(whole, "select")
    with pytest.raises(
        ValueError, match=f"^the folder `{name}` has the name of a repo in the record, and would be read instead"
    ):
        verify(whole, "encode")


@pytest.mark.parametrize("file", [ROWS_FILE, "pool.parquet", "selection.parquet", "provenance.json", "README.md"])
def test_a_link_that_leads_out_of_the_folder_is_not_followed(folder, file):
    (folder / file).rename(folder.parent / "outside")
    (folder / file).symlink_to(folder.parent / "outside")
    if file == "provenance.json":
        with pytest.raises(FileNotFoundError, match=r"has no provenance\.json"):
            verify(folder)
        return
    assert f"no `{file}` in " in str(verify(folder)) or f"{file} is missing" in str(verify(folder))
    (folder / file).unlink()
    (folder.parent / "outside").rename(folder / "inside")
    (folder / file).symlink_to(folder / "inside")
    assert verify(folder, "select")


def test_names_of_labels_that_were_swapped_show_when_encoded_again(hub, whole, tmp_path):
    """In the rows and in the record: the numbers, by which rows have digests, stay."""
    types = Features({"text": Value("string"), "label": ClassLabel(names=["bad", "good"])})
    Dataset.from_dict({"text": TEXTS, "label": [0, 1] * 6}, features=types).to_parquet(tmp_path / "rows.parquet")
    hub.push("alice/rows", {"data/train-0.parquet": (tmp_path / "rows.parquet").read_bytes()}, kind="dataset")
    stage(load_dataset("alice/rows", split="train").sae_select(4, sae="alice/sae"), whole)
    assert verify(whole, "encode")
    recorded = pq.read_table(whole / ROWS_FILE).schema.metadata[b"huggingface"].decode()
    tell(whole / ROWS_FILE, recorded.replace('["bad", "good"]', '["good", "bad"]'))
    reseal(whole)
    assert "column `label` is missing, new, or has another type than recorded" in differences(whole)["digests: rows"]
    reseal(whole, lambda record: record["source"]["columns"]["label"].update(names=["good", "bad"]))
    assert verify(whole, "select")
    expected = "column `label` is missing, new, or has another type than recorded"
    assert differences(whole, "encode") == {"encode: source": expected}


@pytest.mark.parametrize(("first", "rows"), [(2, 5), (3, 3)])
def test_rows_of_an_earlier_selection_are_said_to_be_taken_as_given(tmp_path, first, rows):
    ds = coded(POOL, record=RECORD)
    grown = ds.sae_select(rows, extend=ds.sae_select(first, "longest"))
    verification = verify(stage(grown, tmp_path / "f", license="mit"), "select")
    name = f"picks (the first {first} of {rows} are taken from an earlier selection)"
    assert verification and verification.checks[8].name == name
    assert f"ok  select: {name}\n" in str(verification)


def test_without_stored_features_they_are_asked_for(tmp_path):
    folder = choose_and_stage(tmp_path / "f", include_features=False)
    assert verify(folder)
    with pytest.raises(
        ValueError, match=r"^`level='select'` requires `features`: the source, encoded by `sae_encode`"
    ):
        verify(folder, "select")
    assert verify(folder, "select", features=coded(POOL, record=RECORD))
    more = coded([*POOL, {7: 0.9}], record=RECORD)
    assert differences(folder, "select", features=more)["select: source"] == "the source has 7 rows, recorded are 6"
    other = coded([POOL[0], {2: 0.9, 5: 0.9, 6: 0.9, 7: 0.9}, *POOL[2:]], record=RECORD)
    assert (
        differences(folder, "select", features=other)["select: picks"]
        == "pick 0 is row 2, these parameters pick row 1"
    )
    hook = coded(POOL, record=RECORD | {"hook": "layers.4"})
    differ = differences(folder, "select", features=hook)
    assert differ == {"select: encoding": "`hook` is recorded as 'layers.3', now it is 'layers.4'"}
    moved = differences(folder, "select", features=coded(POOL, record=RECORD).select([0, 2, 1, 3, 4, 5]))
    assert moved["select: source"] == "pick 0 is not row 2 of the source: that row has other content"


@pytest.mark.parametrize(
    ("passed", "error", "message"),
    [
        ({"level": "all"}, ValueError, "unknown `level='all'`; choose one of: digests, select, encode"),
        ({"level": "select", "features": [1]}, TypeError, "`features` is a list; it must be a datasets.Dataset"),
        ({"level": "encode", "source": {"train": 1}}, TypeError, "`source` is a dict; it must be a datasets.Dataset"),
        ({"features": Dataset.from_dict({"text": ["a"]})}, ValueError, "`features` is not encoded; pass what"),
        ({"features": Dataset.from_dict({"text": []})}, ValueError, "the dataset is empty"),
        ({"revision": "main"}, ValueError, "`revision='main'` applies to Hub repos"),
    ],
)
def test_bad_arguments_are_refused(folder, passed, error, message):
    with pytest.raises(error) as caught:
        verify(folder, **passed)
    assert message in str(caught.value)


def test_what_is_no_published_subset_is_said(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no provenance.json: it was not published by `sae_publish`"):
        verify(tmp_path)
    hub.push("alice/other", {"README.md": ""}, kind="dataset")
    with pytest.raises(FileNotFoundError, match=r"^alice/other has no provenance.json"):
        verify("alice/other")
    with pytest.raises(FileNotFoundError, match=r"'alice/none' is neither a local folder nor a Hub repo"):
        verify("alice/none")


def test_rows_from_memory_are_asked_for_to_encode_again(tmp_path, sae):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_select(4, sae=sae), tmp_path / "f", license="mit")
    assert verify(folder, "select")
    with pytest.raises(
        ValueError, match=r"^`level='encode'` requires `source`: the dataset that the rows were selected from"
    ):
        verify(folder, "encode")
    with pytest.raises(ValueError, match=r"^`level='encode'` requires `sae`: the SAE with its language model"):
        verify(folder, "encode", source=ds)
    assert verify(folder, "encode", source=ds, sae=sae)
    assert verify(folder, "encode", source=ds.sae_encode(sae), sae=sae)
    differ = differences(folder, "encode", source=ds.select(range(11, -1, -1)), sae=sae)
    assert list(differ) == ["encode: source (as passed)"]
    assert "that row has other content" in differ["encode: source (as passed)"]
    sae.b_enc.add_(1)
    differ = differences(folder, "encode", source=ds, sae=sae)
    assert differ["encode: sae"].startswith(
        f"the SAE that was passed has an encoder of SHA-256 {sae.digest()}, recorded is "
    )


@pytest.mark.parametrize("options", [{}, {"top": 3}, {"top": 3, "max_share": 0.5}])
def test_a_picture_of_the_pool_is_verified_down_to_the_model(hub, sae, bert, tmp_path, options):
    folder = stage_whole(hub, sae, bert, tmp_path, "match", **options)
    for level in ("select", "encode"):
        verification = verify(folder, level)
        assert verification, str(verification)
    counts = [len(ids) for ids in pq.read_table(folder / "pool.parquet")["sae_ids"].to_pylist()]
    assert (max(counts) == 3) == (options == {"top": 3})


@pytest.mark.parametrize("top", [2, 10**30, None])
def test_another_top_than_features_in_store_were_cut_by_is_named(hub, sae, bert, tmp_path, top):
    folder = stage_whole(hub, sae, bert, tmp_path, "match", top=3)
    set_parameter(folder, "top", top)
    assert verify(folder)
    assert " published features and " in differences(folder, "encode")["encode: features"]


@pytest.mark.parametrize(("name", "value"), [("top", 0), ("top", -1), ("threshold", 10**400)])
def test_a_cut_that_is_nonsense_is_named_when_encoded_again(whole, name, value):
    set_parameter(whole, name, value)
    differ = differences(whole, "encode")
    assert differ["encode: features"] and "these parameters do not select: " in differ["encode: picks"]


def test_activations_in_store_that_were_edited_show_in_what_match_picks(hub, sae, bert, tmp_path):
    folder = stage_whole(hub, sae, bert, tmp_path, "match")
    acts = pq.read_table(folder / "pool.parquet")["sae_acts"].to_pylist()
    rewrite(folder / "pool.parquet", put("sae_acts", 0, [2 * acts[0][0], *acts[0][1:]]))
    reseal(folder)
    assert "select: picks" in differences(folder, "select")


def words(row):
    return row["text"].upper().lower()


def test_a_function_that_wrote_the_text_is_asked_for(tmp_path, sae):
    ds = Dataset.from_dict({"text": TEXTS})
    folder = stage(ds.sae_select(4, "greedy", sae=sae, text=words), tmp_path / "f", license="mit")
    with pytest.raises(
        ValueError, match=r"^`level='encode'` requires `text`: the function that wrote the text of a row"
    ):
        verify(folder, "encode", source=ds, sae=sae)
    assert verify(folder, "encode", source=ds, sae=sae, text=words)
    differ = differences(folder, "encode", source=ds, sae=sae, text=lambda row: "the cat")
    assert differ["encode: features"].startswith("row 1 of the source has")


def last_ones(features, budget, rng, *, constraints, step=1, order="down", skip=()):
    """Pick the rows from the last on."""
    rows = np.array([row for row in range(len(features)) if row not in skip][:: -step if order == "down" else step])
    return Selection(rows[:budget], np.zeros(min(budget, len(rows))), np.array([0]))


@pytest.mark.parametrize("options", [{}, {"step": 2}, {"order": "up"}, {"skip": [5, 4]}, {"quality": "good"}])
def test_a_rule_of_ones_own_is_asked_for_with_what_numbers_do_not_say_bound(tmp_path, options):
    ds = coded(POOL, record=RECORD).add_column("good", [1, 2, 3, 4, 5, 6])
    folder = stage(ds.sae_select(3, method=last_ones, **options), tmp_path / "f", license="mit")
    assert verify(folder)
    with pytest.raises(
        ValueError, match=r"^`level='select'` requires `method`: the function of the author's own method"
    ):
        verify(folder, "select")
    rule = partial(last_ones, order=options.get("order", "down"))
    verification = verify(folder, "select", method=rule)
    assert verification, str(verification)
    other = partial(last_ones, order="down" if "order" in options else "up")
    recorded = differences(folder, "select", method=other)["select: picks"]
    assert recorded.endswith("`order` of the method is not as recorded; bind it: partial(method, order=...)")

    def skips(features, budget, rng, *, constraints, step=1, order=rule.keywords["order"], skip=()):
        return last_ones(features, budget, rng, constraints=constraints, step=step, order=order, skip=[3, 0, *skip])

    assert "these parameters pick" in differences(folder, "select", method=skips)["select: picks"]


@pytest.mark.parametrize("features", [True, False])
def test_rows_compared_by_vectors_alone_are_verified_from_these(tmp_path, features):
    vectors = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [-1.0, 0.2]]
    ds = Dataset.from_dict({"text": ["a", "b", "c", "d"], "vector": vectors})
    subset = ds.sae_select(2, method="kcenter", embedding="vector")
    folder = stage(subset, tmp_path / "f", license="mit", include_features=features)
    passed = {} if features else {"features": ds}
    verification = verify(folder, "select", **passed)
    assert verification and [item.name for item in verification.checks] == [*DIGESTS, "source", "picks"]
    with pytest.raises(ValueError, match=r"`level='encode'` is for rows that an SAE encoded"):
        verify(folder, "encode", source=ds, **passed)
    if features:
        rewrite(folder / "pool.parquet", put("vector", 0, [0.0, -1.0]))
        reseal(folder)
        assert "select: picks" in differences(folder, "select")


@pytest.mark.parametrize(
    "off, close, says",
    [
        (1e-3, devices.DEVICE_TOLERANCE, None),
        (1e-3, checks.SUM_TOLERANCE, "gains"),
        (0.1, devices.DEVICE_TOLERANCE, "gains"),
    ],
)
def test_gains_that_are_sums_of_activations_may_differ_a_little_where_rows_are_encoded_again(off, close, says):
    gains = np.array([200.0, 100.0])
    receipt = Selection(np.array([3, 1]), gains, np.array([0]), covered=np.array([2, 3]), pool_coverage=3)
    actual = checks.of_picks(receipt, replace(receipt, gains=gains * (1 + off)), close)
    assert actual is None if says is None else f"`{says}` is 200.0" in actual
    counts = replace(receipt, gains=gains.astype(np.int64))  # a count is right or wrong
    assert "`gains` is 200, again 201" in checks.of_picks(
        counts, replace(counts, gains=counts.gains + 1), devices.DEVICE_TOLERANCE
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"method": 5}, TypeError, "`method=5` must be a function"),
        ({"method": "greedy"}, TypeError, "`method='greedy'` must be a function"),
        ({"text": 5}, TypeError, "`text=5` must be a function"),
        ({"batch_size": 0}, ValueError, "`batch_size=0` must be a positive integer"),
        ({"method": lambda features, budget, rng: None}, ValueError, "`method` is for subsets .* 'greedy'"),
    ],
)
def test_what_the_caller_got_wrong_is_an_error_and_not_a_difference(folder, arguments, error, message):
    for level in ("digests", "select"):
        with pytest.raises(error, match=message):
            verify(folder, level, **arguments)
