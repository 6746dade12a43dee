"""What 0.1.0 chose, encoded and published is chosen, encoded, published and verified still; see `record.py`.

To the bit, where packages and CPU are those that it was recorded with; elsewhere floats may differ in the last digits.
"""

import json
import shutil
from hashlib import sha256

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden.inputs import (
    BYTES,
    ENCODED,
    FOLDERS,
    PUBLISHED,
    SELECTIONS,
    codes_of,
    digest_of_pool,
    few_features,
    here,
    published_subset,
    recorded_codes,
    replay,
    sources,
)

from hf_sae_select import METHODS, stage, verify

RECORDED = json.loads(SELECTIONS.read_text())
TOLD = json.loads(BYTES.read_text())
EXACT = here() == TOLD["made_with"]
PLAYED = sorted({case["method"] for case in RECORDED["cases"]})


def equal(found, expected):
    """Compare the numbers of two receipts."""
    if EXACT or isinstance(expected["gains"][0], int):
        return found == expected
    gains = [[float.fromhex(gain) for gain in each["gains"]] for each in (found, expected)]
    close = len(gains[0]) == len(gains[1]) and np.allclose(*gains, rtol=1e-6, atol=1e-9)
    return close and {**found, "gains": 0} == {**expected, "gains": 0}


def differing(folder, level, **given):
    """Name the checks that find a difference."""
    found = verify(folder, level, **given)
    assert bool(found) == (found.difference is None)
    return [each.name for each in found.checks if each.difference]


def method_of(name):
    return {"method": few_features} if PUBLISHED[name]["method"] is few_features else {}


@pytest.fixture
def copied(tmp_path):
    """A published folder to tamper with."""
    return shutil.copytree(FOLDERS / "constrained", tmp_path / "constrained")


@pytest.mark.parametrize("name", RECORDED["pools"])
def test_the_pools_are_those_that_were_chosen_from(name):
    assert digest_of_pool(name) == RECORDED["pools"][name]


def test_all_methods_of_then_are_there_still():
    assert set(PLAYED) <= set(METHODS)


@pytest.mark.parametrize("method", PLAYED)
def test_the_same_rows_are_chosen_for_the_same_gains(method):
    cases = [case for case in RECORDED["cases"] if case["method"] == method]
    assert len(cases) >= 30
    assert [case for case in cases if not equal(replay(case), case["result"])] == []


def test_a_case_that_was_recorded_otherwise_is_found():
    case = next(case for case in RECORDED["cases"] if case["method"] == "random" and case["seed"] == 0)
    assert not equal(replay({**case, "seed": 1}), case["result"])


@pytest.mark.parametrize("case", ENCODED)
def test_the_same_texts_have_the_same_codes(case):
    (found, told), (expected, told_then) = codes_of(case), recorded_codes(case)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        if EXACT or values.dtype.kind != "f":
            assert found[name].tobytes() == values.tobytes()
        else:
            np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-4)
    del told_then["version"]
    assert {name: told.get(name) for name in told_then} == told_then


def test_the_published_folders_are_as_they_were():
    files = [file for file in FOLDERS.rglob("*") if file.is_file()]
    found = {file.relative_to(FOLDERS).as_posix(): sha256(file.read_bytes()).hexdigest() for file in files}
    assert found == TOLD["files"]


@pytest.mark.parametrize("level", ["digests", "select", "encode"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_published_is_verified(name, level):
    given = {} if level == "digests" else method_of(name)
    given |= {"source": sources()["texts"]} if level == "encode" else {}
    found = verify(FOLDERS / name, level, **given)
    assert bool(found) is True, str(found)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_was_published_is_staged_again(name, tmp_path):
    staged = stage(published_subset(name), tmp_path / "staged", license="cc0-1.0")
    for file in ("data/train-00000.parquet", "pool.parquet"):
        if EXACT:
            assert (staged / file).read_bytes() == (FOLDERS / name / file).read_bytes(), file
        elif file != "pool.parquet":  # its activations are verified, up to their last digits
            assert pq.read_table(staged / file).equals(pq.read_table(FOLDERS / name / file)), file
    picks, recorded = (pq.read_table(folder / "selection.parquet") for folder in (staged, FOLDERS / name))
    assert picks.schema.equals(recorded.schema)
    if not EXACT:  # gains are sums of activations, which half precision may round to neighbours
        np.testing.assert_allclose(picks["gain"], recorded["gain"], rtol=1e-3)
        picks, recorded = picks.drop_columns("gain"), recorded.drop_columns("gain")
    assert picks.equals(recorded)
    metadata, flat = (json.loads(table.schema.metadata[b"sae_selection"]) for table in (picks, recorded))
    assert metadata.pop("pool_rows") == len(sources()["texts"])
    if not EXACT:  # the fingerprint is of `datasets`, and of the version of Python
        del metadata["fingerprint"], flat["fingerprint"]
    assert metadata | {"parameters": flattened(metadata["parameters"])} == flat
    assert differing(staged, "select", **method_of(name)) == []


def flattened(parameters):
    """Return nested parameters as 0.1.0 wrote them: one mapping, hidden options as text, and no `per_cost`."""
    options = {
        option: f"sha256:{value['sha256']}" if isinstance(value, dict) else value
        for option, value in parameters["options"].items()
        if option != "per_cost"
    }
    others = {name: parameters[name] for name in ("budget", "seed", "encoding")}
    cuts = {
        cut: value for cut, value in parameters["cuts"].items() if value is not None or cut in ("threshold", "top")
    }
    return options | parameters["constraints"] | cuts | others


@pytest.mark.parametrize("file", ["pool.parquet", "selection.parquet", "data/train-00000.parquet"])
def test_a_byte_that_was_changed_is_found(copied, file):
    content = bytearray((copied / file).read_bytes())
    content[len(content) // 3] ^= 1
    (copied / file).write_bytes(content)
    assert not verify(copied)


@pytest.mark.parametrize(("column", "check"), [("gain", "picks"), ("row", "indices"), ("features", "counts")])
def test_a_number_of_the_receipt_that_was_changed_is_found(copied, column, check):
    table = pq.read_table(copied / "selection.parquet")
    values = table[column].to_pylist()
    values[3] += 1
    place = table.column_names.index(column)
    table = table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))
    pq.write_table(table, copied / "selection.parquet")
    assert {"files", check} <= set(differing(copied, "select"))


def test_another_source_or_rule_is_found():
    rows = sources()["texts"]
    assert differing(FOLDERS / "match_tokens", "encode", source=rows.select([1, 0, *range(2, len(rows))])) != []
    assert differing(FOLDERS / "own_rule", "select", method=lambda f, b, rng, **_: few_features(f, b, rng)) != []
