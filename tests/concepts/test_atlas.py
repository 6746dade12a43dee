"""The map: columns that Embedding Atlas takes, places that follow from the features, and rows that stay text."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.pools import coded, features_of

from hf_sae_select import export_atlas
from hf_sae_select.concepts.projection import projection
from hf_sae_select.features.shares import Shares
from hf_sae_select.sae.labels import Label, Labels

RECORD = {"d_sae": 16, "threshold": 0.5, "sae_sha256": "abc", "text": {"columns": ["text"]}}
ROWS = [{0: 0.9, 1: 0.9}, {0: 0.9, 1: 0.9}, {0: 0.9, 2: 0.9}, {}]


def places(rows):
    features = features_of(rows)
    return projection(Shares.of_strongest(features, np.arange(len(rows))))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "atlas.parquet"


def test_a_subset_is_on_the_map_of_its_pool(file):
    subset = coded(ROWS, record=RECORD).sae_select(2, "match", seed=None)
    assert export_atlas(subset, file) == file
    table = pq.read_table(file).to_pydict()
    assert table["text"] == ["row 0", "row 1", "row 2", "row 3"]
    assert table["picked"] == ["yes", "no", "yes", "no"] and table["pick"] == [0, None, 1, None]
    assert table["gain"][1] is None and table["gain"][0] == pytest.approx(2**0.5)
    assert table["features"] == ["#1", "#1", "#2", ""] and table["strongest_feature"] == table["features"]
    assert table["tokens"] == [3, 3, 3, 1]
    assert table["neighbors"][0] == {"ids": [1], "distances": [0.0]} == table["neighbors"][0]
    assert table["neighbors"][1] == {"ids": [0], "distances": [0.0]}
    assert table["neighbors"][2] == table["neighbors"][3] == {"ids": [], "distances": []}


def test_an_encoded_dataset_is_a_map_without_picks(file):
    labels = Labels([Label(1, "<b>cats</b>")], d_sae=16)
    export_atlas(coded(ROWS, record=RECORD), str(file), labels=labels)
    table = pq.read_table(file)
    assert table.column_names == ["text", "projection_x", "projection_y", "features", "strongest_feature", "tokens"]
    assert table["features"].to_pylist() == ["#1 <b>cats</b>", "#1 <b>cats</b>", "#2", ""]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    dataset = coded(ROWS, record=RECORD)
    files = [export_atlas(dataset.sae_select(2), tmp_path / name) for name in ("a.parquet", "b.parquet")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_like_rows_lie_near_each_other():
    xy = places([{1, 2}, {1, 2}, {1, 3}, {4, 5}, {4, 5}, {4, 6}])
    assert xy.shape == (6, 2) and xy[0] == pytest.approx(xy[1], abs=1e-6)
    apart = np.linalg.norm(xy[:, None] - xy[None], axis=2)
    assert apart[:3, :3].max() < apart[:3, 3:].min()


def test_the_plane_holds_as_much_as_two_components_can():
    rng = np.random.default_rng(0)
    rows = [set(np.flatnonzero(rng.random(16) < 0.3).tolist()) for _ in range(60)]
    shares = Shares.of_strongest(features_of(rows), np.arange(60))
    dense = np.zeros((60, 16))
    for i in range(60):
        entries = slice(*shares.features.offsets[i : i + 2])
        dense[i, shares.features.ids[entries]] = np.sqrt(shares.amounts[entries])
    exact = np.linalg.svd(dense - dense.mean(axis=0), compute_uv=False)[:2] ** 2
    assert places(rows).var(axis=0) * 60 == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("rows", [[], [set()], [{1}], [{1}, {1}], [{1}, {2}]])
def test_few_rows_have_places_too(rows):
    xy = places(rows)
    assert xy.shape == (len(rows), 2) and np.isfinite(xy).all()


def test_a_function_that_wrote_the_text_must_be_passed(file):
    dataset = coded(ROWS, record={**RECORD, "text": {"function": "f"}})
    with pytest.raises(ValueError, match="a function wrote the text of the rows; pass it, or a column, as `text`"):
        export_atlas(dataset, file)
    export_atlas(dataset, file, text=lambda row: row["text"].upper())
    assert pq.read_table(file)["text"][0].as_py() == "ROW 0"


def test_what_cannot_be_drawn_is_refused_and_leaves_no_file(file, tmp_path):
    dataset = coded(ROWS, record=RECORD)
    plain = dataset.select_columns(["text"])
    with pytest.raises(
        ValueError, match=r"`dataset` has no features to draw a map of: .* run `ds.sae_encode\(\)` first"
    ):
        export_atlas(plain, file)
    with pytest.raises(ValueError, match="`labels` are of an SAE with d_sae=8"):
        export_atlas(dataset, file, labels=Labels([], d_sae=8))
    with pytest.raises(TypeError, match="`labels="):
        export_atlas(dataset, file, labels={1: "cats"})
    with pytest.raises(OSError, match="must be a file in a folder that exists"):
        export_atlas(dataset, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_map_is_replaced_and_any_other_file_is_not(file, tmp_path, monkeypatch):
    dataset = coded(ROWS, record=RECORD)
    export_atlas(dataset, file)
    export_atlas(dataset, file)
    for other in ("own.parquet", "own.txt"):
        pq.write_table(pa.table({"a": [1]}), tmp_path / other) if "parquet" in other else (
            tmp_path / other
        ).write_text("")
        before = (tmp_path / other).read_bytes()
        with pytest.raises(FileExistsError, match=r"`export_atlas` did not write: .*overwrite=True"):
            export_atlas(dataset, tmp_path / other)
        assert (tmp_path / other).read_bytes() == before
        export_atlas(dataset, tmp_path / other, overwrite=True)
        assert "projection_x" in pq.read_schema(tmp_path / other).names


def test_neighbours_are_those_of_reasons_and_tokens_are_masked(file):
    subset = coded(ROWS, record=RECORD).sae_select(2, "greedy", seed=None)
    export_atlas(subset, file, text=lambda row: "hf_" + "a" * 34)
    table = pq.read_table(file).to_pylist()
    for reason in subset.sae_explain(spans=0):
        ids = table[reason.row]["neighbors"]["ids"]
        assert ids[:5] == [near.row for near in reason.stands_for]
    assert table[0]["text"] == "***"
