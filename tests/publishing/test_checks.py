"""What `verify` finds of one who wants to be believed: all that was edited fits the record, and the record itself."""

import hashlib
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from helpers.forge import (
    ALICE,
    ROWS_FILE,
    differences,
    edit,
    nothing,
    put,
    put_parameter,
    reseal,
    reseal_figures,
    rewrite,
    set_encoding,
    set_parameter,
    swap,
)

from hf_sae_select import encode, stage, verify
from hf_sae_select.publishing.hashing import digest_of


@pytest.mark.parametrize(
    ("column", "value", "check", "message"),
    [
        ("gain", 9, "picks", "pick 0, row 2: `gains` is 9, again 3"),
        ("covered", 9, "picks", "pick 0, row 2: `covered` is 9, again 3"),
        ("features", 9, "counts", "pick 0 has 3 features, recorded are 9"),
    ],
)
def test_a_table_of_picks_that_was_edited_consistently_is_named_too(folder, column, value, check, message):
    rewrite(folder / "selection.parquet", put(column, 0, value))
    reseal(folder)
    assert verify(folder)
    differ = differences(folder, "select")
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
    assert differences(folder, "select") == {"select: picks": "pick 1 is row 4, these parameters pick row 1"}


@pytest.mark.parametrize(
    ("part", "name", "value", "recorded", "message"),
    [
        ("parameter ", "budget", 2, "3", "3 rows were picked, these parameters pick 2"),
        ("parameter ", "seed", 3, "None", "pick 1 is row 1, these parameters pick row 5"),
        ("cuts.", "threshold", 0.8, "0.5", "pick 0 is row 2, these parameters pick row 1"),
        ("cuts.", "top", 1, "None", "pick 0 is row 2, these parameters pick row 0"),
        ("options.", "idf", True, "False", "pick 0, row 2: `gains`"),
        ("options.", "exhausted", "never", "'restart'", "these parameters do not select: unknown `exhausted='never'`"),
        ("cuts.", "max_share", 0.2, "None", "pick 0"),
        ("constraints.", "exclude", [2], "None", "pick 0 is row 2, these parameters pick row 1"),
        ("constraints.", "must_include", [5], "None", "pick 0 is row 2, these parameters pick row 5"),
        ("constraints.", "quality", "n", "None", "these parameters do not select"),
        ("constraints.", "per_token", "1", "None", "these parameters do not select"),
    ],
)
def test_a_parameter_is_named_and_edited_everywhere_shows_in_the_picks(folder, part, name, value, recorded, message):
    shutil.copytree(folder, folder.with_name("naive"))
    edit(folder.with_name("naive"), lambda record: put_parameter(record["selection"]["parameters"], name, value))
    naive = differences(folder.with_name("naive"))
    assert naive["digests: record"].startswith("provenance.json was edited after it was written")
    expected = f"{part}`{name}` is {value!r} in provenance.json, {recorded} in the table of picks"
    assert naive["digests: parameters"] == expected
    set_parameter(folder, name, value)
    assert verify(folder)
    differ = differences(folder, "select")
    assert next(iter(differ)) == "select: picks" and message in differ["select: picks"]


@pytest.mark.parametrize("method", ["instag", "kcenter", "mine"])
def test_another_method_is_named(folder, method):
    rewrite(folder / "selection.parquet", nothing, lambda recorded: recorded.update(method=method))
    assert (
        differences(folder)["digests: parameters"]
        == f"`method` is 'greedy' in provenance.json, {method!r} in the table of picks"
    )
    reseal(folder, lambda record: record["selection"].update(method=method))
    assert "do not select" in differences(folder, "select")["select: picks"]


@pytest.mark.parametrize("rows", ["pool", "subset", "random", "longest"])
@pytest.mark.parametrize(("figure", "value"), [("features", 99), ("share", 0.123), ("saturated_at", 1)])
def test_a_figure_of_coverage_is_named(folder, rows, figure, value):
    reseal_figures(folder, lambda record: record["coverage"][rows].update({figure: value}))
    differ = differences(folder, "select")
    assert list(differ) == ["select: coverage"]
    assert differ["select: coverage"].startswith(f"`{figure}` of {rows} is {value} in provenance.json, again ")


def test_features_in_store_that_were_edited_show_in_the_picks_or_when_encoded_again(whole):
    """A feature that row 0 does not have is written into the pool, so that the row is picked, and all else follows."""
    table = pq.read_table(whole / "pool.parquet")
    ids, acts = table["sae_ids"].to_pylist(), table["sae_acts"].to_pylist()
    (missing, *_) = sorted(set(range(32)) - {feature for row in ids for feature in row})
    ids[0], acts[0] = zip(*sorted([*zip(ids[0], acts[0], strict=True), (missing, 1.0)]), strict=True)
    rewrite(whole / "pool.parquet", lambda columns: columns.update(sae_ids=ids, sae_acts=acts))
    assert differences(whole)["digests: files"].startswith("pool.parquet was changed")
    reseal(whole)
    assert differences(whole, "select")["select: picks"] == "`pool_coverage` is 25, again 26"
    recorded = differences(whole, "encode")["encode: features"]
    assert recorded.startswith(
        f"row 0 of the source has {len(ids[0])} published features and {len(ids[0]) - 1} when encoded"
    )
    assert f"the first that only one has is #{missing} (" in recorded


@pytest.mark.parametrize(
    ("column", "change", "message"),
    [
        ("sae_acts", lambda acts: [1.02 * act for act in acts], "of row 0 of the source has the activation "),
        ("sae_tokens", lambda n: n + 1, "row 0 of the source has "),
    ],
)
def test_activations_and_tokens_in_store_that_were_edited_show_when_encoded_again(whole, column, change, message):
    rewrite(whole / "pool.parquet", lambda columns: columns.update({column: [*map(change, columns[column])]}))

    def follow(record):
        for figures in record["coverage"].values() if column == "sae_tokens" else ():
            figures["tokens"] += 1
            figures["length_quantiles"] = {name: n + 1 for name, n in figures["length_quantiles"].items()}

    reseal_figures(whole, follow)
    assert verify(whole, "select")
    differ = differences(whole, "encode")
    assert next(iter(differ)) == "encode: features" and message in differ["encode: features"]


def test_activations_within_a_hundredth_are_those_of_another_device(whole):
    acts = pq.read_table(whole / "pool.parquet")["sae_acts"].to_pylist()
    nearly = [[1.005 * act for act in row] for row in acts]
    rewrite(whole / "pool.parquet", lambda columns: columns.update(sae_acts=nearly))
    reseal(whole)
    assert verify(whole, "encode")


def test_a_size_of_a_file_that_was_edited_is_named(folder):
    reseal(folder, lambda record: record["files"]["pool.parquet"].update(bytes=1))
    assert "pool.parquet" in differences(folder)["digests: files"]


def test_fewer_rows_in_store_than_there_were_are_named(whole):
    rewrite(whole / "pool.parquet", lambda columns: [values.pop() for values in columns.values()])
    reseal(whole)
    assert differences(whole, "encode")["select: source"] == "the source has 11 rows, recorded are 12"


def test_another_sae_at_the_recorded_place_is_named(hub, whole, sae):
    digest = sae.digest()
    sae.b_enc.add_(1)
    other = sae.push_to_hub("alice/sae", **ALICE).oid
    assert verify(whole, "encode")  # the recorded commit is still there
    set_encoding(whole, lambda encoding: encoding["sae"].update(revision=other))
    assert verify(whole, "select")  # nothing is fetched
    recorded = differences(whole, "encode")
    file = hub.files("alice/sae")["sae_weights.safetensors"]
    actual = hashlib.sha256(file).hexdigest()
    assert recorded["encode: sae"].startswith(
        f"sae_weights.safetensors of alice/sae has SHA-256 {actual}, recorded is "
    )
    assert "encode: features" in recorded
    set_encoding(whole, lambda encoding: encoding["sae"].update(sha256=actual))
    expected = f"alice/sae has an encoder of SHA-256 {sae.digest()}, recorded is {digest}"
    assert differences(whole, "encode")["encode: sae"] == expected


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("revision", "0" * 40, "alice/sae has no revision '0000"),
        (
            "path",
            "none.safetensors",
            "the SAE cannot be loaded as recorded: no SAE at 'none.safetensors' in alice/sae",
        ),
        ("path", "../../secret", "the SAE cannot be loaded as recorded: no SAE at '../../secret' in alice/sae"),
        ("format", "nonsense", "the SAE cannot be loaded as recorded: unknown `format='nonsense'`"),
        ("config", {"more": 1}, "the SAE cannot be loaded as recorded: unknown `config` key 'more'"),
        ("sha256", "0" * 64, f"recorded is {'0' * 64}"),
    ],
)
def test_an_sae_that_is_not_where_the_record_says_is_named(whole, name, value, message):
    set_encoding(whole, lambda encoding: encoding["sae"].update({name: value}))
    assert verify(whole, "select")
    differ = differences(whole, "encode")
    assert list(differ) == ["encode: sae"] and message in differ["encode: sae"]


def test_an_sae_whose_repo_is_not_seen_is_no_difference(whole):
    set_encoding(whole, lambda encoding: encoding["sae"].update(repo="alice/none"))
    with pytest.raises(FileNotFoundError, match="'alice/none' is neither a local folder nor a Hub repo"):
        verify(whole, "encode")


@pytest.mark.parametrize(
    ("name", "value", "check", "message"),
    [
        ("hook", "encoder.layer.0", "features", "row 0 of the source has"),
        ("hook", "nonsense", "encoding", "the rows cannot be encoded as recorded: no module `nonsense`"),
        ("hook", "", "sae", "`hook=''` must be"),
        ("threshold", -5, "sae", "`feature_threshold=-5` must be"),
        ("max_norm_ratio", 0.5, "sae", "`max_norm_ratio=0.5` must be"),
        ("max_length", 1, "features", "row 0 of the source has"),
        ("side", "input", "features", "row 0 of the source has"),
        ("sae_sha256", "0" * 64, "sae", "alice/sae has an encoder of SHA-256"),
        ("text", {"columns": ["n"], "chat": False}, "encoding", "cannot be encoded as recorded: column `n` holds"),
        ("text", {"columns": ["no"], "chat": False}, "encoding", "cannot be encoded as recorded: no column `no`"),
        ("text", {"columns": ["text"], "chat": True}, "encoding", "`text` is recorded as {"),
        ("dtype", ["float32", "bfloat16"], "sae", "alice/sae has an encoder of SHA-256"),
        ("dtype", ["float32", "auto"], "", "auto"),
        ("version", 0, "encoding", "`version` is recorded as 0, now it is 2"),
        ("version", 99, "encoding", "`version` is recorded as 99, now it is 2"),
        ("more", 1, "encoding", "`more` is recorded as 1, now it is None"),
    ],
)
def test_how_rows_were_encoded_edited_everywhere_is_named(whole, name, value, check, message):
    """In the record, in the table of picks and in the pool."""
    shutil.copytree(whole, whole.with_name("naive"))
    edit(whole.with_name("naive"), lambda record: record["encoding"].update({name: value}))
    assert not verify(whole.with_name("naive"))
    set_encoding(whole, lambda encoding: encoding.update({name: value}))
    differ = differences(whole, "encode")
    assert differ and message in next((text for name, text in differ.items() if name.endswith(check)), "")
    assert not check or (verify(whole, "select") and all(item.startswith("encode: ") for item in differ))


def test_a_base_model_that_is_not_there_is_no_difference(whole):
    features = encode(load_dataset("alice/rows", split="train"), "alice/sae")
    set_encoding(whole, lambda encoding: encoding.update(model_revision="0" * 40))
    with pytest.raises(OSError, match=r"cannot load the base model alice/bert: alice/bert has no revision '0{40}'"):
        verify(whole, "encode", features=features)


def test_a_chat_template_that_was_edited_is_named(folder):
    template = "{{ messages[0].content }}"
    recorded = {"chat_template_sha256": hashlib.sha256(template.encode()).hexdigest()}
    set_encoding(folder, lambda encoding: encoding.update(recorded))
    reseal(folder, lambda record: record["encoding"].update(chat_template=template))
    assert verify(folder, "select")
    for item in (template + " ", ""):
        reseal(folder, lambda record, item=item: record["encoding"].update(chat_template=item))
        expected = "encoding.`chat_template` does not have the recorded `chat_template_sha256`"
        assert differences(folder) == {"digests: parameters": expected}


def test_a_threshold_lower_than_the_features_in_store_were_cut_by_is_named(whole):
    ds = load_dataset("alice/rows", split="train")
    stage(ds.sae_select(4, sae="alice/sae", threshold=3.0), whole)
    assert verify(whole, "encode")
    set_parameter(whole, "threshold", 0.5)
    assert " published features and " in differences(whole, "encode")["encode: features"]
