"""The record of a published subset: its schema, what it holds, what it never holds, and that it is enough."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from helpers import tiny
from helpers.forge import ALICE, POOL, RECORD, SELECT, reseal
from helpers.pools import coded
from jsonschema import Draft202012Validator

from hf_sae_select import METHODS, stage, verify
from hf_sae_select.publishing import tables
from hf_sae_select.publishing.hashing import digest_of
from hf_sae_select.publishing.provenance import (
    RECORD_VERSION,
    SCHEMA_FILES,
    is_edited,
    nested,
    problem_of,
    read,
    sealed,
    upgraded,
)

SCHEMA = json.loads(SCHEMA_FILES[RECORD_VERSION].read_text())
SAE = {"repo": "alice/sae", "path": "sae.safetensors", "sha256": "ab" * 32, "format": "native"}


@pytest.fixture
def record(folder):
    return json.loads((folder / "provenance.json").read_text())


@pytest.fixture
def complete(record):
    """A record with all fields, also those that another method or a quota brings."""
    record["likeness"] = {"subset": 0.9, "random": 0.8, "longest": None}
    values = [{"value": "en", "pool": 4, "subset": 2}, {"value": None, "pool": 1, "subset": 1}]
    record["quotas"] = [{"column": "lang", "values": values, "others": {"values": 1, "pool": 1, "subset": 0}}]
    part = {"name": "", "rows": 9, "share": 1.0, "sha256": "ab" * 32}
    record["selection"]["parameters"]["target"] = [part]
    record["target"] = {"sizes": [8], "measured": {}, "untargeted": {"hellinger": 0.5, "kernel": None}}
    return record


def places(schema, path=()):
    """Each property that the schema describes, with the path that it has in a record."""
    for item in [schema, *schema.get("oneOf", [])]:
        for name, inner in item.get("properties", {}).items():
            reference = inner.get("$ref", "").rpartition("/")[2]
            yield (*path, name), inner
            yield from places(SCHEMA["$defs"].get(reference, {}) | inner, (*path, name))


def required(schema, path=()):
    for item in [schema, *schema.get("oneOf", [])]:
        for name in item.get("required", []) if "properties" in item else ():  # else it is one of several ways
            inner = item["properties"][name]
            yield (*path, name)
            yield from required(
                SCHEMA["$defs"].get(inner.get("$ref", "").rpartition("/")[2], {}) | inner, (*path, name)
            )


REQUIRED = sorted(required(SCHEMA))
OBVIOUS = {"columns", "chat", "pool", "subset", "random", "longest"}


def at(record, path):
    for name in path:
        record = record[name]
    return record


def test_the_schema_is_one_and_describes_every_field():
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    actual = dict(places(SCHEMA))
    assert {("source", "revision"), ("encoding", "sae", "sha256"), ("coverage", "random", "share")} <= actual.keys()
    bare = [path for path, inner in actual.items() if "description" not in inner and path[-1] not in OBVIOUS]
    assert bare == []


def test_a_staged_record_keeps_to_it(record):
    Draft202012Validator(SCHEMA).validate(record)
    assert problem_of(record) is None and not is_edited(record)
    assert record["version"] == 4


def test_most_fields_are_required():
    assert len(REQUIRED) > 70 and ("source", "sha256") in REQUIRED and ("coverage", "pool", "tokens") in REQUIRED


@pytest.mark.parametrize("path", REQUIRED, ids=".".join)
def test_a_field_that_is_missing_is_named(complete, path):
    assert problem_of(complete) is None
    del at(complete, path[:-1])[path[-1]]
    place = f" at {'.'.join(path[:-1])}" if path[1:] else ""
    assert problem_of(complete) == f"provenance.json{place}: {path[-1]!r} is a required property"


PLACES = [(), ("source",), ("selection",), ("coverage",), ("coverage", "pool"), ("likeness",), ("quotas", 0)]
PLACES += [("quotas", 0, "values", 1), ("quotas", 0, "others"), ("target",), ("selection", "parameters", "target", 0)]


@pytest.mark.parametrize("path", PLACES)
def test_a_field_that_is_unknown_is_named(complete, path):
    at(complete, path)["host"] = "x"
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    place = f" at {place[1:]}" if path else ""
    expected = f"provenance.json{place}: Additional properties are not allowed ('host' was unexpected)"
    assert problem_of(complete) == expected


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("source", "revision"), "main", "at source.revision: 'main' does not match"),
        (("source", "dataset"), "/home/me/rows", "at source.dataset: '/home/me/rows' does not match"),
        (("source", "rows"), 0, "at source.rows: 0 is less than the minimum of 1"),
        (("source", "rows"), "6", "at source.rows: '6' is not of type 'integer'"),
        (("encoding", "model"), "../bert", "at encoding.model: '../bert' does not match"),
        (("encoding", "sae_sha256"), "ab", "at encoding.sae_sha256: 'ab' does not match"),
        (("selection", "round_starts"), ["0"], "at selection.round_starts[0]: '0' is not of type 'integer'"),
        (("source", "as_published"), True, "at source."),
        (("encoding", "dtype"), ["float32", "nonsense"], "at encoding.dtype[1]: 'nonsense' is not one of ['float64'"),
        (("encoding", "dtype"), ["float32"], "at encoding.dtype: ['float32'] is too short"),
        (("encoding", "window"), 0, "at encoding.window: 0 is less than the minimum of 1"),
        (("encoding", "max_length"), 0, "at encoding.max_length: 0 is less than the minimum of 1"),
        (("encoding", "d_sae"), 2**33, "at encoding.d_sae: 8589934592 is greater than the maximum of 134217728"),
        (("encoding", "model_revision"), "main", "at encoding.model_revision: 'main' does not match"),
        (("encoding", "sae"), {"repo": "../sae"}, "at encoding.sae"),
        (("encoding", "sae"), {"repo": "alice/sae"}, "at encoding: {"),
        (("encoding", "sae"), SAE | {"revision": "main"}, "at encoding.sae.revision: 'main' does not match"),
        (("encoding", "text"), {}, "at encoding.text: {} is not valid under any of the given schemas"),
        (("encoding", "text"), {"columns": ["a"]}, "at encoding.text: {'columns': ['a']} is not valid under any"),
        (("encoding", "text"), {"function": "f"}, "at encoding.text: {'function': 'f'} is not valid under any"),
        (("encoding", "text", "columns"), [], "at encoding.text.columns: [] "),
        (("license", "stated_by"), "me", "at license.stated_by: 'me' is not one of ['source', 'publisher']"),
        (("license", "license"), 3, "at license.license: 3 is not valid under any of the given schemas"),
        (
            ("selection", "parameters", "cuts", "top"),
            1.5,
            "at selection.parameters.cuts.top: 1.5 is not of type 'integer', 'null'",
        ),
        (("encoding",), None, ": `coverage` needs `encoding`"),
        (("version",), 0, "at version: 4 was expected"),
        (("version",), "2", "at version: 4 was expected"),
    ],
)
def test_a_value_that_is_not_allowed_is_named(record, path, value, message):
    at(record, path[:-1])[path[-1]] = value
    assert problem_of(record).startswith(f"provenance.json{message if message[0] == ':' else ' ' + message}")


def test_a_newer_version_asks_for_a_newer_library(record, tmp_path):
    record["version"], record["unheard of"] = 6, True
    expected = "provenance.json has version 6, but this library reads up to 5: upgrade hf-sae-select"
    assert problem_of(record) == expected
    (tmp_path / "staged" / "provenance.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=expected):  # what it says cannot be told, so nothing differs
        verify(tmp_path / "staged")


@pytest.mark.parametrize("text", ["", "[", "\xff", "[]", "3", "null", '"version"', "[" * 100_000, '{"a": ' * 100_000])
def test_what_is_no_record_is_refused(tmp_path, text):
    (tmp_path / "provenance.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"^provenance.json"):
        read(tmp_path / "provenance.json")


@pytest.mark.parametrize("name", ["version", "sha256", "budget"])
def test_a_name_that_is_there_twice_is_refused(record, tmp_path, name):
    file = tmp_path / "staged" / "provenance.json"
    text = file.read_text()
    place = text.index(f'"{name}": ')
    file.write_text(f'{text[:place]}"{name}": 1, {text[place:]}')
    assert json.loads(file.read_text()) == record  # Python's own way: the last one counts
    expected = "provenance.json is not valid JSON: an object has the same name twice"
    assert verify(tmp_path / "staged").difference == f"record: {expected}"


@pytest.mark.parametrize("who", ["source", "publisher"])
def test_a_licence_is_recorded_with_who_states_it(hub, sae, tmp_path, who):
    Dataset.from_dict({"text": ["the cat", "a dog", "the moon"]}).to_parquet(tmp_path / "rows.parquet")
    files = {"data/train-0.parquet": (tmp_path / "rows.parquet").read_bytes()}
    card = "---\nlicense: other\nlicense_name: mine\nlicense_link: https://x.org\n---\n"
    hub.push("alice/rows", files | ({"README.md": card} if who == "source" else {}), kind="dataset")
    subset = load_dataset("alice/rows", split="train").sae_select(2, sae=sae)
    folder = stage(subset, tmp_path / "f", license=None if who == "source" else "mit")
    expected = {"license": "other", "license_name": "mine", "license_link": "https://x.org", "stated_by": "source"}
    expected = expected if who == "source" else {"license": "mit", "stated_by": "publisher"}
    assert json.loads((folder / "provenance.json").read_text())["license"] == expected
    assert verify(folder, "select")


def test_an_edited_record_shows(record):
    assert record["sha256"] == digest_of({name: value for name, value in record.items() if name != "sha256"})
    backwards = dict(reversed(record.items()))
    assert not is_edited(backwards)  # the order of keys says nothing
    assert is_edited(record | {"versions": {}})
    with pytest.raises(AssertionError, match="violates its own schema"):
        sealed({"source": {}})


def test_coverage_by_hand(record):
    """Above 0.5 rows have {0} {2 3} {0 1 2} {} {4} {6}, and a token more each than features below it too."""
    pool, subset = record["coverage"]["pool"], record["coverage"]["subset"]
    assert record["selection"]["pool_coverage"] == 6
    # picked are rows 2, 1, 4: {0 1 2}, {2 3}, {4}; of tokens 4, 3, 3
    assert (subset["rows"], subset["features"], subset["share"]) == (3, 5, pytest.approx(5 / 6))
    assert (subset["richness"], subset["tokens"], subset["saturated_at"]) == (2, pytest.approx(10 / 3), None)
    assert subset["redundancy"] == pytest.approx((1 / 4 + 0 + 0) / 3)
    assert subset["length_quantiles"] == {"least": 3, "10 %": 3, "median": 3, "90 %": 4, "most": 4}
    assert subset["length_correlation"] == pytest.approx(np.corrcoef([4, 3, 3], [3, 2, 1])[0, 1])
    assert (pool["rows"], pool["features"], pool["share"]) == (6, 6, 1)
    assert (pool["richness"], pool["tokens"]) == (pytest.approx(8 / 6), pytest.approx(16 / 6))
    assert pool["length_quantiles"] == {"least": 1, "10 %": 1, "median": 3, "90 %": 4, "most": 4}
    longest = record["coverage"]["longest"]
    assert longest["rows"] == 3 and longest["length_quantiles"]["most"] == 4
    # of the rows of three tokens without a seed the first two: {0 1 2}, {0}, {2 3}
    assert (longest["features"], longest["tokens"]) == (4, pytest.approx(10 / 3))


TEMPLATE = "[CLS] {% for turn in messages %}{{ turn.content }} [SEP]{% endfor %}"


def test_everything_that_decides_the_result_is_in_it(hub, sae, bert, tmp_path):
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(shutil.copytree(bert, tmp_path / "bert"))
    model = hub.push("alice/bert", {file.name: file.read_bytes() for file in (tmp_path / "bert").iterdir()})
    sae.config = replace(sae.config, model="alice/bert", model_revision=model, context_size=12)
    commit = sae.push_to_hub("alice/sae", **ALICE).oid
    chats = [[{"role": "user", "content": " ".join(tiny.WORDS[i : i + 3])}] for i in range(8)]
    Dataset.from_dict({"messages": chats}).to_parquet(tmp_path / "rows.parquet")
    card = (
        "---\nlicense: mit\nconfigs:\n- {config_name: chats, data_files: [{split: test, path: rows.parquet}]}\n---\n"
    )
    files = {"rows.parquet": (tmp_path / "rows.parquet").read_bytes(), "README.md": card}
    revision = hub.push("alice/rows", files, kind="dataset")
    ds = load_dataset("alice/rows", "chats", split="test")
    subset = ds.sae_select(3, "concave", sae="alice/sae", max_length=9, top=6, seed=5, exclude=[7])
    folder = stage(subset, tmp_path / "staged")
    record = json.loads((folder / "provenance.json").read_text())

    source = record["source"]
    assert (source["dataset"], source["config"], source["split"]) == ("alice/rows", "chats", "test")
    assert (source["revision"], source["as_published"], source["rows"]) == (revision, True, 8)
    assert source["fingerprint"] == ds._fingerprint == subset.sae_selection.fingerprint
    digests = [
        hashlib.sha256(
            json.dumps({"messages": [{"content": c[0]["content"], "role": "user"}]}, separators=(",", ":")).encode()
        )
        for c in chats
    ]
    assert source["sha256"] == hashlib.sha256(b"".join(item.digest() for item in digests)).hexdigest()
    assert source["columns"] == ds.features.to_dict()

    encoding = record["encoding"]
    weights = hub.files("alice/sae")["sae_weights.safetensors"]
    assert encoding["sae"] == {
        "repo": "alice/sae",
        "revision": commit,
        "path": "sae_weights.safetensors",
        "sha256": hashlib.sha256(weights).hexdigest(),
        "format": "native",
    }
    assert (encoding["sae_sha256"], encoding["d_sae"], encoding["threshold"]) == (sae.digest(), 32, 0.5)
    assert (encoding["model"], encoding["model_revision"], encoding["hook"]) == (
        "alice/bert",
        model,
        "encoder.layer.1",
    )
    assert (encoding["window"], encoding["max_length"]) == (12, 9)
    assert encoding["text"] == {"columns": ["messages"], "chat": True}
    assert encoding["chat_template"] == TEMPLATE
    assert encoding["chat_template_sha256"] == hashlib.sha256(TEMPLATE.encode()).hexdigest()

    recorded, rows = record["selection"], subset.sae_selection.indices.tolist()
    assert (recorded["method"], recorded["builtin"], recorded["rows"]) == ("concave", True, 3)
    assert recorded["parameters"] == {
        "budget": 3,
        "seed": 5,
        "options": METHODS["concave"].options,
        "constraints": {"exclude": [7]},
        "cuts": {"threshold": 0.5, "top": 6, "max_share": None, "embedding": None},
    }
    assert recorded["indices_sha256"] == hashlib.sha256(np.array(rows, "<i8").tobytes()).hexdigest()
    assert recorded["rows_sha256"] == hashlib.sha256(b"".join(digests[row].digest() for row in rows)).hexdigest()
    assert sorted(record["coverage"]) == ["longest", "pool", "random", "subset"]
    assert {"python", "hf-sae-select", "torch", "transformers", "datasets", "numpy"} <= record["versions"].keys()
    for name, about in record["files"].items():
        assert about["sha256"] == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    verification = verify(folder, "encode")
    assert verification, str(verification)

    for template, same in (("false", False), (None, True)):  # None: it was not to be had; its digest is there
        edited = record | {"encoding": encoding | {"chat_template": template}}
        edited["sha256"] = digest_of({name: value for name, value in edited.items() if name != "sha256"})
        (folder / "provenance.json").write_text(json.dumps(edited))
        assert bool(verify(folder, "encode")) == same


PLANTED = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import datasets, numpy as np, torch
from hf_sae_select import Selection, SparseAutoencoder, stage
torch.set_num_threads(1)

def mine(features, budget, rng, *, place="", places=(), where=None, quick=True):
    return Selection(np.arange(budget), np.zeros(budget), np.array([0]))

home = os.environ["HOME"]
ds = datasets.load_dataset("json", data_files=home + "/rows.json", split="train")
sae = SparseAutoencoder.from_pretrained(home + "/sae")
given = {"place": home, "places": [home, {"x": home}], "where": {"path": home}}
chosen = {"greedy": {}, "kcenter": {}, "mine": {"method": mine, **given}}
for name, options in chosen.items():
    subset = ds.sae_select(3, **({"method": name, "sae": sae} | options))
    stage(subset, sys.argv[1] + "/" + name, license="mit", report=True)
mapped = ds.map(lambda row: {"text": row["text"] + home[:0]}).shuffle(seed=1)
stage(mapped.sae_select(3, sae=sae, text=lambda row: row["text"]), sys.argv[1] + "/function", license="mit")
"""
SECRETS = ["hf_plantedtoken", "plantedhome", "planteduser", "plantedhost", "plantedtmp", "plantedcwd"]


def contents(file):
    """The bytes of a file; of a Parquet file also those of its values and of what its schema says."""
    yield file.read_bytes()
    if file.suffix == ".parquet":
        table = pq.read_table(file)
        yield str([table.to_pydict(), table.schema.metadata, table.schema, pq.read_metadata(file)]).encode()
        yield pq.read_metadata(file).metadata and str(pq.read_metadata(file).metadata).encode()
        sink = pa.BufferOutputStream()
        pa.ipc.new_stream(sink, table.schema).close()
        yield sink.getvalue().to_pybytes()


@pytest.mark.slow
def test_no_secret_name_or_path_of_the_machine_is_in_any_file(bert, sae, tmp_path):
    home = tmp_path / "plantedhome"
    for name in ("tmp", "plantedtmp", "plantedcwd"):
        (home / name).mkdir(parents=True)
    model = shutil.copytree(bert, home / "model")
    sae.config = replace(sae.config, model=str(model))
    sae.save_pretrained(home / "sae")
    rows = [{"text": " ".join(tiny.WORDS[i : i + 1 + i % 4]), "n": i} for i in range(9)]
    (home / "rows.json").write_text("\n".join(map(json.dumps, rows)))
    secret = {"HF_TOKEN": "hf_plantedtoken", "HUGGING_FACE_HUB_TOKEN": "hf_plantedtoken", "HOME": str(home)}
    secret |= {"USER": "planteduser", "LOGNAME": "planteduser", "USERNAME": "planteduser", "HOSTNAME": "plantedhost"}
    secret |= {"TMPDIR": str(home / "plantedtmp"), "PWD": str(home / "plantedcwd"), "HF_HOME": str(home / "hf")}
    secret |= {"NUMBA_CACHE_DIR": str(home / "numba"), "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    env = {name: value for name, value in os.environ.items() if name != "HF_DATASETS_CACHE"} | secret
    script = "import socket; socket.gethostname = lambda: 'plantedhost'\n" + PLANTED
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "out")],
        env=env,
        cwd=home / "plantedcwd",
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    assert len(files) == 4 * 6 - 1 + 3  # vectors have no curve, and three have a report
    actual = [
        (file.relative_to(tmp_path / "out").as_posix(), word)
        for file in files
        for content in contents(file)
        for word in [*SECRETS, str(tmp_path)]
        if content and word.encode() in content
    ]
    assert actual == []
    recorded = json.loads((tmp_path / "out" / "greedy" / "provenance.json").read_text())
    assert (recorded["encoding"]["model"], recorded["encoding"]["model_revision"], recorded["source"]["dataset"]) == (
        None,
    ) * 3


def with_columns(rows=POOL):
    ds = coded(rows, record=RECORD)
    columns = {"kind": ["a", "a", "b", "b", "b", None], "number": [1, 1, 2, 2, 2, 3], "good": [1.0, 2, 0, 1, 1, 1]}
    columns |= {"price": [3.0, 1, 1, 2, 1.5, 1], "vector": np.eye(6)[:, :4].tolist()}
    for name, values in columns.items():
        ds = ds.add_column(name, values)
    return ds


ASKED = {
    "a share": (0.5, {}),
    "a quota": (3, {"quota": {"kind": {"a": 1, None: 0}}}),
    "a quota of numbers": (3, {"quota": {"number": {1: 1, 2: 2}}}),
    "a balanced quota": (4, {"quota": "kind"}),
    "tokens": ("8 tokens", {}),
    "few tokens": (0.2, {"cost": "tokens"}),
    "a cost": ("1 price", {"cost": "price", "exclude": []}),
    "more cost": ("5.5 price", {}),
    "quality": (3, {"quality": "good"}),
    "rows to include": (3, {"must_include": [5, 0]}),
    "rows to exclude": (3, {"exclude": [2, 4]}),
    "top": (3, {"top": 1}),
    "rare features": (3, {"max_share": 0.3}),
    "length": (3, {"per_token": 0.5}),
    "no features cut": (3, {"threshold": 0.0}),
    "another cut": (3, {"threshold": 0.65}),
    "a seed": (3, {"seed": 12345678901234567890}),
    "the number of the seed": (3, {"seed": None}),
    "all": (4, {"quota": {"kind": {"b": 2}}, "quality": "good", "must_include": [4], "exclude": [0], "top": 2}),
    "vectors": (3, {"method": "kcenter", "embedding": "vector"}),
    "vectors and quality": (3, {"method": "repr_filter", "embedding": "vector", "quality": "good", "center": True}),
}


@pytest.mark.filterwarnings("ignore:`method=")
@pytest.mark.parametrize("name", ASKED)
def test_what_was_asked_is_staged_and_selected_again(tmp_path, name):
    budget, options = ASKED[name]
    folder = stage(with_columns().sae_select(budget, **options), tmp_path / "f", license="mit")
    verification = verify(folder, "select")
    names = [check.name for check in verification.checks if check.name not in SELECT]
    expected = (["quotas"] if "quota" in options else []) + (["likeness"] if "method" not in options else [])
    assert verification and names == expected and len(verification.checks) == 11 + len(names), str(verification)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, None])
def test_every_method_is_staged_and_selected_again(tmp_path, sae, method, seed):
    texts = [" ".join((tiny.WORDS * 2)[5 * i % 11 : 5 * i % 11 + i % 6]) for i in range(14)]
    seed = 7 if method == "random" and seed is None else seed
    ds = Dataset.from_dict({"text": texts})
    folder = stage(ds.sae_select(9, method, sae=sae, seed=seed), tmp_path / "f", license="mit")
    for passed in ({"level": "select"}, {"level": "encode", "source": ds, "sae": sae}):
        verification = verify(folder, **passed)
        assert verification, str(verification)
    assert json.loads((folder / "provenance.json").read_text())["selection"]["method"] == method


@pytest.mark.parametrize("method", ["greedy", "simscale", "random", "kcenter"])
def test_a_selection_that_grew_is_staged_and_selected_again(tmp_path, method):
    ds = with_columns()
    options = {"embedding": "vector"} if method == "kcenter" else {}
    first = ds.sae_select(2, method, **options)
    grown = ds.sae_select(5, method, extend=first, **options)
    verification = verify(stage(grown, tmp_path / "f", license="mit"), "select")
    assert verification, str(verification)
    other = ds.sae_select(5, "longest", extend=first)
    assert verify(stage(other, tmp_path / "f", license="mit"), "select")


# ---- version 1

PUBLISHED = Path(__file__).parent.parent / "golden" / "published_0.1.0"
HIDDEN = "6bc723e92f32bd9584c1f651440f455414a6cbc00486f74d41a339b41291d4a9"
CUTS = {"max_share": None, "embedding": None}
UPGRADED = {
    "constrained": {
        "budget": 12,
        "seed": 0,
        "options": {"idf": False, "exhausted": "restart"},
        "constraints": {
            "must_include": [30, 3],
            "exclude": [0, 39],
            "quota": {"lang": [["en", 5], ["de", 4]]},
            "quality": "score",
        },
        "cuts": {"threshold": 6.697704315185547, "top": None, **CUTS},
    },
    "match_tokens": {
        "budget": 150.0,
        "seed": 7,
        "options": {},
        "constraints": {"cost": "tokens"},
        "cuts": {"threshold": 0.0, "top": 256, **CUTS},
    },
    "own_rule": {
        "budget": 10,
        "seed": 0,
        "options": {"order": {"sha256": HIDDEN}, "least": 2.5},
        "constraints": {},
        "cuts": {"threshold": 7.0, "top": None, **CUTS},
    },
}


@pytest.mark.parametrize("name", UPGRADED)
def test_a_record_of_version_1_is_upgraded(name):
    record = read(PUBLISHED / name / "provenance.json")
    assert record["version"] == 1 and not is_edited(record)
    now = upgraded(record)
    assert now["selection"]["parameters"] == UPGRADED[name]
    added = {"likeness": None, "quotas": None, "target": None}
    assert now == record | {"version": 4, "selection": now["selection"]} | added  # nothing else changes
    assert problem_of(now) is None and upgraded(now) is now


def test_a_record_of_version_1_with_the_parameters_of_version_2_is_refused():
    record = read(PUBLISHED / "constrained" / "provenance.json")
    record["selection"]["parameters"] = UPGRADED["constrained"]
    assert problem_of(record) == "provenance.json at selection.parameters: 'threshold' is a required property"


def downgrade(folder):
    """Make a record of version 2 of a staged folder."""

    def without_additions(record):
        record["version"] = 2
        del record["likeness"], record["quotas"], record["target"]
        if record["files"].pop("likeness.png", None):
            (folder / "likeness.png").unlink()

    reseal(folder, without_additions)


@pytest.mark.parametrize("method", ["match", "random"])
def test_a_record_of_version_2_has_no_likeness_and_no_quotas_and_verifies(tmp_path, method):
    folder = stage(with_columns().sae_select(3, method, quota="kind"), tmp_path / "f", license="mit")
    downgrade(folder)
    record = read(folder / "provenance.json")
    assert upgraded(record) == record | {"version": 4, "likeness": None, "quotas": None, "target": None}
    assert [check.name for check in verify(folder, "select").checks] == SELECT and verify(folder, "select")
    assert problem_of(record | {"version": 4}) == "provenance.json: 'likeness' is a required property"


@pytest.mark.parametrize("method", ["match", "random"])
def test_a_record_of_version_3_has_no_target_and_verifies(tmp_path, method):
    folder = stage(with_columns().sae_select(3, method, quota="kind"), tmp_path / "f", license="mit")
    names = [check.name for check in verify(folder, "select").checks]

    def without_target(record):
        record["version"] = 3
        del record["target"]

    reseal(folder, without_target)
    record = read(folder / "provenance.json")
    assert upgraded(record) == record | {"version": 4, "target": None}
    verification = verify(folder, "select")
    assert verification and [check.name for check in verification.checks] == names and "likeness" in names
    reseal(folder, lambda record: record["likeness"].update(subset=0.5))
    assert "likeness" in verify(folder, "select").difference or "card" in verify(folder, "select").difference


def test_a_baseline_of_version_2_has_the_features_above_the_threshold_alone(tmp_path, sae, monkeypatch):
    ds = Dataset.from_dict({"text": [" ".join((tiny.WORDS * 2)[i : i + 1 + i % 6]) for i in range(12)]})
    subset = ds.sae_select(4, "random", sae=sae)
    folder = stage(subset, tmp_path / "new", license="mit")
    assert verify(folder, "encode", source=ds, sae=sae)
    cut = partial(tables.stored, is_upgraded=True)
    monkeypatch.setattr(tables, "stored", cut)
    old = stage(subset, tmp_path / "old", license="mit")
    assert (old / "pool.parquet").stat().st_size < (folder / "pool.parquet").stat().st_size
    downgrade(old)
    assert verify(old, "encode", source=ds, sae=sae)


def test_the_only_way_of_weighted_is_no_option_any_more():
    flat = {"budget": 3, "seed": 0, "threshold": 0.5, "top": None, "weights": "idf", "mass": "max"}
    assert nested(flat, "weighted")["options"] == {"weights": "idf"}
    assert nested(flat | {"mass": "mean"}, "weighted")["options"] == {"weights": "idf", "mass": "mean"}
