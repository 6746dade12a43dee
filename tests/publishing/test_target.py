"""A subset that was selected towards a target: what is published of the target, and what `verify` says of it."""

import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from helpers import tiny
from helpers.forge import RECORD, card_of, differences, put, reseal, reseal_figures, rewrite
from helpers.pools import coded

from hf_sae_select import FeatureMatrix, Selection, load_selection, stage, target_distances, verify

RNG = np.random.default_rng(0)
ROWS = [
    {int(i): float(act) for i, act in zip(RNG.choice(14, 4, replace=False), RNG.random(4) + 0.6, strict=True)}
    for _ in range(30)
]
METHODS = ["greedy", "herding", "match", "weighted"]
HOSTILE = "<script>alert(1)</script>|[x](http://evil.org)\x1b[31m../../etc"
TARGETS = {
    "one": coded(ROWS[:10], record=RECORD),
    "two": {HOSTILE: (coded(ROWS[:10], record=RECORD), 0.75), "code": (coded(ROWS[10:19], record=RECORD), 0.25)},
}
OTHER = {
    "one": coded(ROWS[1:11], record=RECORD),
    "two": {HOSTILE: TARGETS["one"], "code": coded(ROWS[11:20], record=RECORD)},
}


def staged(folder, method="herding", targets="one", **options):
    subset = coded(ROWS, record=RECORD).sae_select(6, method, target=TARGETS[targets], overlap="keep", **options)
    return subset, stage(subset, folder, license="mit")


@pytest.mark.parametrize("targets", sorted(TARGETS))
@pytest.mark.parametrize("method", METHODS)
def test_it_is_selected_again_without_the_target_and_with_it(tmp_path, method, targets):
    _, folder = staged(tmp_path / "f", method, targets)
    assert differences(folder, "select") == {}
    assert differences(folder, "select", target=TARGETS[targets]) == {}
    differ = differences(folder, "select", target=OTHER[targets])
    assert list(differ) == ["select: target (as passed)"]
    assert "is not the one that the rows were selected towards: its fe" in differ["select: target (as passed)"]
    record = json.loads((folder / "provenance.json").read_text())
    assert record["version"] == 4 and record["target"]["sizes"] == ([10] if targets == "one" else [10, 9])
    assert ("target_closeness_0" in pq.read_schema(folder / "pool.parquet").names) == (method == "herding")


@pytest.mark.parametrize("cuts", [{"top": 2}, {"threshold": 0.8}, {"max_share": 0.4}, {"exclude": [3, 4, 5]}])
def test_cuts_and_excluded_rows_are_those_of_the_selection(tmp_path, cuts):
    for method in METHODS:
        _, folder = staged(tmp_path / "f", method, "two", **cuts)
        assert differences(folder, "select") == {} == differences(folder, "select", target=TARGETS["two"])


@pytest.mark.filterwarnings("ignore:the rows were not read again:UserWarning")
def test_no_row_of_the_target_is_published(tmp_path):
    target = coded(ROWS[:10], record=RECORD).remove_columns("text").add_column("text", ["secret words"] * 10)
    subset = coded(ROWS, record=RECORD).sae_select(6, target=target, overlap="keep")
    folder = stage(subset, tmp_path / "f", license="mit", report=True)
    assert not any(b"secret words" in file.read_bytes() for file in folder.rglob("*.*"))
    table = pq.read_table(folder / "target.parquet").to_pydict()
    features = FeatureMatrix.from_dataset(target)
    assert table["feature"] == np.flatnonzero(features.frequency).tolist()
    assert table["rows"] == features.frequency[table["feature"]].tolist()
    assert sum(table["mass"]) == pytest.approx(10) and sum(table["activation"]) == pytest.approx(10)


ALTERED = {
    "mass": put("mass", 2, 0.123),
    "activation": put("activation", 2, 0.123),
    "rows": put("rows", 2, 10),
    "feature": put("feature", 0, 15),
}
READS = {"mass": ["herding", "match"], "activation": ["weighted"], "rows": ["greedy"], "feature": METHODS}


@pytest.mark.parametrize("column", sorted(ALTERED))
@pytest.mark.parametrize("method", METHODS)
def test_an_altered_number_of_the_target_differs(tmp_path, method, column):
    _, folder = staged(tmp_path / "f", method)
    rewrite_plain(folder / "target.parquet", ALTERED[column])
    assert "target.parquet was changed" in differences(folder)["digests: files"]
    reseal(folder)
    assert differences(folder, "digests") == {}
    if column == "rows" and method == "greedy":  # a feature counts for `greedy` if any row has it
        rewrite_plain(folder / "target.parquet", put("rows", 2, 0))
        reseal(folder)
    assert (differences(folder, "select") != {}) == (method in READS[column])
    differ = differences(folder, "select", target=TARGETS["one"])
    assert "again" in differ["select: target (as passed)"]


def test_an_altered_closeness_differs(tmp_path):
    subset, folder = staged(tmp_path / "f")
    picked, left = int(subset.sae_selection.indices[2]), int(np.setdiff1d(range(30), subset.sae_selection.indices)[0])
    closeness = pq.read_table(folder / "pool.parquet")["target_closeness_0"].to_pylist()
    for row, change in ((picked, 10**9), (left, 2**40)):
        rewrite(folder / "pool.parquet", put("target_closeness_0", row, closeness[row] + change))
        reseal(folder)
        assert "select: picks" in differences(folder, "select")
        rewrite(folder / "pool.parquet", put("target_closeness_0", row, closeness[row]))
    rewrite(folder / "pool.parquet", put("target_closeness_0", left, closeness[left] + 1000))
    reseal(folder)
    assert differences(folder, "select") == {}  # it decided nothing; only the target tells
    differ = differences(folder, "select", target=TARGETS["one"])["select: target (as passed)"]
    assert f"`closeness` of row {left} is {closeness[left] + 1000}, again {closeness[left]}" in differ


@pytest.mark.parametrize("name, value", [("sha256", "cd" * 32), ("share", 0.5), ("rows", 11), ("name", "other")])
def test_an_altered_part_differs(tmp_path, name, value):
    _, folder = staged(tmp_path / "f", targets="two")
    reseal(folder, lambda record: record["selection"]["parameters"]["target"][1].update({name: value}))
    assert "`target`" in differences(folder)["digests: parameters"]

    def alter(parameters):
        parameters["target"][1][name] = value

    rewrite(folder / "selection.parquet", lambda columns: None, lambda recorded: alter(recorded["parameters"]))
    reseal(folder)
    if name == "name":
        with pytest.raises(ValueError, match="`target` has targets named"):
            verify(folder, "select", target=TARGETS["two"])
        return
    differ = differences(folder, "select", target=TARGETS["two"])
    assert ("select: picks" in differ) if name == "share" else ("select: target (as passed)" in differ)


def test_altered_sizes_and_what_was_measured_differ(tmp_path):
    _, folder = staged(tmp_path / "f")
    reseal(folder, lambda record: record["target"].update(sizes=[9]))
    assert "select: picks" in differences(folder, "select")
    reseal(folder, lambda record: record["target"].update(sizes=[9, 1]))
    assert "does not have the `sizes` of 1 targets" in differences(folder, "select")["select: target"]
    reseal(folder, lambda record: record["target"].update(sizes=[10], measured={"distance": 0.1}))
    assert "target.`distance`" in differences(folder)["digests: parameters"]
    reseal(folder, lambda record: record.update(target=None))
    assert "`target` and the parameter `target` go together" in differences(folder)["digests: record"]


@pytest.mark.parametrize(
    "change",
    [
        put("part", 0, 7),
        put("part", 0, -1),
        put("feature", 0, 99),
        put("mass", 0, -1.0),
        put("mass", 0, float("nan")),
        put("rows", 0, -1),
        put("activation", 0, None),
        lambda columns: columns.update({name: values[:1] * 2 for name, values in columns.items()}),
        lambda columns: columns.update({name: [] for name in columns}),
    ],
)
def test_a_table_that_holds_something_else_differs(tmp_path, change):
    _, folder = staged(tmp_path / "f")
    rewrite_plain(folder / "target.parquet", change)
    reseal(folder)
    assert "is not a table of a target that this library wrote" in differences(folder, "select")["select: target"]


def rewrite_plain(file, change):
    table = pq.read_table(file)
    columns = table.to_pydict()
    change(columns)
    pq.write_table(type(table).from_pydict(columns, schema=table.schema), file)


def test_a_closeness_that_is_missing_or_negative_differs(tmp_path):
    _, folder = staged(tmp_path / "f")
    rewrite(folder / "pool.parquet", put("target_closeness_0", 3, -1))
    reseal(folder)
    assert "target_closeness_0` is missing, or" in differences(folder, "select")["select: target"]
    table = pq.read_table(folder / "pool.parquet").drop_columns("target_closeness_0")
    pq.write_table(table, folder / "pool.parquet")
    reseal(folder)
    assert "target_closeness_0` is missing, or" in differences(folder, "select")["select: target"]


def test_a_subset_that_was_saved_needs_its_target_again(tmp_path):
    ds = coded(ROWS, record=RECORD)
    subset = ds.sae_select(6, target=TARGETS["one"], overlap="keep")
    subset.sae_selection.save(tmp_path / "selection.json")
    selection, bare = Selection.load(tmp_path / "selection.json"), Dataset.from_dict(subset.to_dict())
    assert selection.target == subset.sae_selection.target
    whole = stage(subset, tmp_path / "whole", license="mit")
    again = stage(bare, tmp_path / "a", selection=selection, pool=ds, target=TARGETS["one"], license="mit")
    assert (again / "target.parquet").read_bytes() == (whole / "target.parquet").read_bytes()
    with pytest.warns(UserWarning, match="will not have what repeats the selection: pass `target=`") as warned:
        folder = stage(bare, tmp_path / "b", selection=selection, pool=ds, license="mit")
    assert len(warned) == 1 and warned[0].filename == __file__
    with pytest.warns(UserWarning, match="repeats the selection: pass `target=` and `pool=`"):
        stage(bare, tmp_path / "d", selection=selection, license="mit")
    assert not (folder / "target.parquet").exists()
    with pytest.raises(ValueError, match="requires `target`: the rows that the subset was selected towards"):
        verify(folder, "select")
    assert differences(folder, "select", target=TARGETS["one"]) == {}
    differ = differences(folder, "select", target=OTHER["one"])["select: target (as passed)"]
    assert "`target` is not the one that the rows were selected towards" in differ
    with pytest.raises(ValueError, match="`target` is not what the rows were selected towards"):
        stage(bare, tmp_path / "c", selection=selection, pool=ds, target=OTHER["one"], license="mit")
    with pytest.raises(ValueError, match="pass `pool` too"):
        stage(bare, tmp_path / "c", selection=selection, target=TARGETS["one"], license="mit")
    assert load_selection(whole).target == selection.target


def test_without_features_of_the_pool_herding_needs_the_target(tmp_path):
    ds = coded(ROWS, record=RECORD)
    for method in METHODS:
        subset = ds.sae_select(6, method, target=TARGETS["one"], overlap="keep")
        folder = stage(subset, tmp_path / "f", license="mit", include_features=False)
        if method == "herding":
            with pytest.raises(ValueError, match="requires `target`"):
                verify(folder, "select", features=ds)
        else:
            assert differences(folder, "select", features=ds) == {}
        assert differences(folder, "select", features=ds, target=TARGETS["one"]) == {}


def test_a_target_is_refused_where_there_is_none(tmp_path):
    folder = stage(coded(ROWS, record=RECORD).sae_select(3), tmp_path / "f", license="mit")
    with pytest.raises(ValueError, match="`target` is for a selection towards a target, and this one is not"):
        verify(folder, "select", target=TARGETS["one"])
    with pytest.raises(ValueError, match="`target` is compared at the levels 'select' and 'encode'"):
        verify(folder, target=TARGETS["one"])
    with pytest.raises(TypeError, match="`target`"):
        verify(folder, target=3)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Dataset.from_dict({"text": [" ", ""]}), "`target`: all of its 2 rows are blank"),
        ([" "], "`target` holds blank texts alone"),
        ({"a": TARGETS["one"]}, "`target` has targets named 'a'"),
        (coded([{}, {}], record=RECORD), "`target`: none of its 2 rows has a feature"),
        (coded(ROWS[:10], record=RECORD | {"sae_sha256": "cd" * 32}), "`target`"),
        (FeatureMatrix.from_dataset(coded(ROWS[:10], record=RECORD | {"d_sae": 20})), "`target` is of an SAE with 20"),
    ],
)
def test_a_target_that_cannot_be_read_is_an_error_and_no_difference(tmp_path, target, message):
    _, folder = staged(tmp_path / "f")
    with pytest.raises(ValueError, match=message):
        verify(folder, "select", target=target)
    with pytest.raises(TypeError, match=r"`target\[0\]` is a int"):
        verify(folder, "select", target=[3])


def test_it_is_encoded_again_with_its_target(tmp_path, sae):
    texts = [" ".join((tiny.WORDS * 2)[5 * i % 11 : 5 * i % 11 + 1 + i % 6]) for i in range(16)]
    ds, target = Dataset.from_dict({"text": texts}), {"a": texts[2:12], HOSTILE: texts[4:14]}
    folder = stage(ds.sae_select(5, target=target, overlap="keep", sae=sae), tmp_path / "f", license="mit")
    passed = {"source": ds, "sae": sae}
    verification = verify(folder, "encode", target=target, **passed)
    assert verification, str(verification)
    assert [check.name for check in verification.checks if check.level == "encode"].count("target") == 1
    verification = verify(folder, "encode", **passed)
    assert verification and "target (as recorded: it was not passed, so it was not encoded again)" in str(verification)
    assert "\x1b" not in str(verification)
    other = differences(folder, "encode", target={"a": texts[3:13], HOSTILE: texts[4:14]}, **passed)
    assert list(other) == ["encode: target", "encode: distances"]
    set_measured(folder, lambda measured: measured["missing"].update(share=0.5))
    assert list(differences(folder, "encode", target=target, **passed)) == ["encode: missing features"]
    set_part(folder, 0, "sha256", "cd" * 32)
    other = differences(folder, "encode", target=target, **passed)
    assert "and the record has cdcd" in other["encode: target"] and "digests: card" in other


def set_measured(folder, change):
    """Alter what was measured of the target, wherever it is written."""
    rewrite(folder / "selection.parquet", lambda columns: None, lambda recorded: change(recorded["target"]))
    reseal_figures(folder, lambda record: change(record["target"]["measured"]))


@pytest.mark.parametrize("rows", ["subset", "random", "pool"])
@pytest.mark.parametrize("method", ["herding", "match"])
def test_an_altered_distance_differs(tmp_path, method, rows):
    _, folder = staged(tmp_path / "f", method, "two")
    set_measured(folder, lambda measured: measured["distances"][rows].update(hellinger=0.123))
    differ = differences(folder, "select")
    assert list(differ) == ["select: distances"]
    assert f"`distances.{rows}.hellinger` of the target is 0.123" in differ["select: distances"]
    _, folder = staged(tmp_path / "g", method, "two")
    set_measured(folder, lambda measured: measured["distances"][rows].update(kernel=0.123))
    assert differences(folder, "select") == {}  # the kernel is of rows of the target
    assert list(differences(folder, "select", target=TARGETS["two"])) == ["select: distances"]


@pytest.mark.parametrize("method", METHODS)
def test_picks_without_the_target_are_measured_too(tmp_path, method):
    subset, folder = staged(tmp_path / "f", method)
    record = json.loads((folder / "provenance.json").read_text())
    table = target_distances(subset)
    assert record["target"]["untargeted"] == table.loc["untargeted", ["hellinger", "kernel"]].to_dict()
    assert "| picks without the target | 0." in (folder / "README.md").read_text()
    reseal_figures(folder, lambda record: record["target"]["untargeted"].update(hellinger=0.123))
    expected = ["select: distances"] if method in ("herding", "match") else []
    assert list(differences(folder, "select")) == expected


def test_rows_that_repeat_the_target_are_left_out_and_counted(tmp_path):
    target = coded(ROWS[:10], record=RECORD)
    for overlap in ("exclude", "only_report"):
        subset = coded(ROWS, record=RECORD).sae_select(6, target=target, overlap=overlap)
        folder = stage(subset, tmp_path / overlap, license="mit")
        assert differences(folder, "select") == {} == differences(folder, "select", target=target)
        card = (folder / "README.md").read_text()
        assert "10 rows repeat a row of the target" in card
        assert ("were left out" in card) == (overlap == "exclude")
        set_measured(folder, lambda measured: measured["overlap"].update(left_out=3))
        assert "`overlap.left_out` of the target is 3" in differences(folder)["digests: target"]


def set_part(folder, part, name, value):
    def alter(parameters):
        parameters["target"][part][name] = value

    rewrite(folder / "selection.parquet", lambda columns: None, lambda recorded: alter(recorded["parameters"]))
    reseal(folder, lambda record: alter(record["selection"]["parameters"]))


@pytest.mark.parametrize("method", METHODS)
def test_the_card_says_what_the_rows_were_selected_towards(tmp_path, method):
    ds = coded(ROWS, record=RECORD)
    subset = ds.sae_select(6, method, target=TARGETS["two"], overlap="keep")
    distances = {name: {"hellinger": 0.25, "kernel": None} for name in ("subset", "random", "pool")}
    measured = {"overlap": {"mode": "exclude", "rows": 3}, "distances": distances}
    measured |= {"missing": {"features": 1, "share": 0.01, "largest": [[3, 0.01]]}}
    selection = replace(subset.sae_selection, target=measured)
    text, _ = card_of(subset, tmp_path, selection=selection)
    section = text[text.index("## What it was selected towards") : text.index("## Length of the rows")]
    assert "| this subset | 0.250 | - |" in section and "3 rows repeat a row of the target" in section
    assert "1 feature of the target, 1.0&#37; of its distribution" in section and "test set of a benchmark" in section
    assert selection.parameters["target"][1]["sha256"] in section
    assert "<script" not in text and "](http://evil" not in text and "\x1b" not in text
    assert "likeness.png" not in text and "coverage.png" not in text and "## How like the source" not in text
    assert differences(tmp_path / "f") == {}
    reseal(tmp_path / "f", lambda record: record["target"]["measured"]["distances"]["subset"].update(hellinger=0.1))
    assert "target.`distances`" in differences(tmp_path / "f")["digests: parameters"]
    assert "table of distances" in differences(tmp_path / "f")["digests: card"]
