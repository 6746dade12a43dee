"""A subset in a file finds its selection and its pool again, and says what is not as it was."""

import json
from pathlib import Path

import pytest
import yaml
from datasets import Dataset

from hf_sae_select import Selection, explain, load_selection, verify
from hf_sae_select.cli.receipts import DiffersFromReceipt, reopened
from hf_sae_select.selection.attachment import pool_of


@pytest.fixture
def subset(saved_sae, call):
    """The file of a subset of three rows."""
    assert call("select", "pool.jsonl", "3", "--sae", "sae", "-o", "subset.parquet").code == 0
    return saved_sae.with_name("subset.parquet")


def test_a_subset_is_what_select_returned(subset):
    expected = Dataset.from_json("pool.jsonl").sae_select(3, sae="sae")
    found = reopened("subset", "subset.parquet")
    assert found.to_list() == expected.to_list()
    assert found.sae_selection.indices.tolist() == expected.sae_selection.indices.tolist()
    codes = [pool_of(each).codes.to_list() for each in (found, expected)]
    assert codes[0] == codes[1]
    assert len(found.sae_select(2)) == 2


@pytest.mark.usefixtures("saved_sae")
def test_a_subset_of_an_encoded_file(call):
    call("encode", "pool.jsonl", "--sae", "sae", "--keep", "state", "-o", "encoded.parquet")
    done = call("select", "encoded.parquet", "3", "--method", "kcenter", "-o", "subset.csv")
    assert done.code == 0, done.err
    found = reopened("subset", "subset.csv")
    assert pool_of(found).codes.num_columns == 6 and "sae_ids" not in found.column_names
    done = call("explain", "subset.csv", "--picks", "0", "--json")  # with the SAE that `encoded.yaml` names
    assert json.loads(done.out)["reasons"][0]["text"], done.err


def test_stage_publish_and_push(hub, subset, call):
    assert call("stage", "subset.parquet", "staged", "--license", "mit").code == 0
    assert verify("staged", "select")
    assert (subset.parent / "staged.yaml").is_file()
    done = call("push", "staged", "alice/pushed", "--token", "hf_alice", "--json")
    assert done.code == 0 and json.loads(done.out)["commit"] == hub.commits("alice/pushed", "dataset")[0].oid
    words = ["publish", "subset.parquet", "alice/published", "--token", "hf_alice"]
    done = call(*words, "--license", "mit", "--metadata", "language=en")
    assert done.code == 0 and done.out.startswith(f"{hub.url}/datasets/alice/published/commit/")
    assert verify("alice/published", "select")
    done = call("load-selection", "alice/published", "--out", "copy.json")
    assert done.code == 0 and (subset.parent / "copy.json").is_file()
    assert (
        load_selection("alice/published").indices.tolist()
        == reopened("subset", "subset.parquet").sae_selection.indices.tolist()
    )
    done = call("publish", "subset.parquet", "alice/other", "--token", "hf_alice")
    assert done.code == 2 and "pass `--license`" in done.err and ("dataset", "alice/other") not in hub.repos


def test_explain_and_why_not(subset, call):
    done = call("explain", "subset.parquet", "--picks", "1", "--spans", "0")
    expected = reopened("subset", "subset.parquet")
    assert (done.code, done.out) == (0, f"{explain(expected, 1, spans=0)}\n")
    done = call("explain", "subset.parquet", "--picks", "0,1")
    assert [line for line in done.out.splitlines() if line[0] == "“"] == [f"“{text}”" for text in expected["text"][:2]]
    done = call("explain", "subset.parquet", "--picks", "0,2", "--json")
    reasons = json.loads(done.out)["reasons"]
    assert [reason["row"] for reason in reasons] == expected.sae_selection.indices[[0, 2]].tolist()
    assert reasons[0]["parts"][0]["spans"]
    row = next(row for row in range(8) if row not in expected.sae_selection.indices)
    done = call("why-not", "subset.parquet", row)
    assert done.code == 0 and done.out.startswith(f"Row {row} was not picked by `herding`")
    done = call("explain", "subset.parquet", "--picks", "x")
    assert done.code == 2 and "`picks='x'` must be numbers of rows" in done.err


def test_report_and_atlas(subset, call):
    done = call("report", "subset.parquet", "report.html", "--spans", "0", "--title", "Eight rows")
    assert (done.code, done.out) == (0, "report.html\n") and "Eight rows" in Path("report.html").read_text()
    run = yaml.safe_load(Path("report.html.yaml").read_text())
    assert (run["subset"], run["path"], run["title"]) == ("subset.parquet", "report.html", "Eight rows")
    before = Path("report.html").read_bytes()
    assert call("report", "--config", "report.html.yaml", "--json").out == '{"file": "report.html"}\n'
    assert Path("report.html").read_bytes() == before
    Path("mine.html").write_text("all of it")
    done = call("report", "subset.parquet", "mine.html")
    assert done.code == 2 and "mine.html" in done.err and Path("mine.html").read_text() == "all of it"
    assert call("atlas", "subset.parquet", "atlas.parquet").code == 0
    assert Dataset.from_parquet("atlas.parquet")["picked"][:].count("yes") == 3


@pytest.mark.filterwarnings("always:the rows that")
def test_a_short_report_where_the_pool_is_gone(subset, call):
    subset.with_name("pool.jsonl").unlink()
    assert call("report", "subset.selection.json", "report.html").code == 0
    report = Path("report.html").read_text()
    done = call("report", "subset.parquet", "report.html")
    assert done.code == 0 and done.err.startswith("warning: the rows that subset.parquet was selected from are gone: ")
    assert Path("report.html").read_text() == report
    done = call("explain", "subset.parquet")
    assert done.code == 2 and "the pool of 8 rows that the subset was selected from is not attached to it" in done.err


def test_a_pool_that_was_changed(subset, call):
    pool = subset.with_name("pool.jsonl")
    lines = pool.read_text().splitlines()
    row = reopened("subset", "subset.parquet").sae_selection.indices[1]
    lines[row] = lines[row].replace("the", "another").replace("a ", "no ")
    pool.write_text("\n".join(lines) + "\n")
    done = call("publish", "subset.parquet", "me/x", "--license", "mit")
    assert done.code == 1
    problem = f"the pool 'pool.jsonl' has changed since: its row {row} is another (1 of 3 selected rows differ)"
    assert done.err == f"cannot publish: {problem}\n"
    pool.write_text(lines[0] + "\n")
    assert "has changed since: it has 1 rows, and the subset was selected from 8" in call("compare", subset).err


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "subset.parquet"],
        ["why-not", "subset.parquet", "0"],
        ["report", "subset.parquet", "report.html"],
        ["atlas", "subset.parquet", "atlas.parquet"],
        ["stage", "subset.parquet", "staged", "--license", "mit"],
        ["publish", "subset.parquet", "me/x", "--license", "mit"],
        ["compare", "subset.parquet"],
    ],
)
def test_rows_of_the_pool_that_were_not_picked(subset, call, words):
    pool = subset.with_name("pool.jsonl")
    lines = pool.read_text().splitlines()
    first, second, *_ = sorted(set(range(8)) - set(Selection.load("subset.selection.json").indices.tolist()))
    lines[first], lines[second] = lines[second], lines[first]
    pool.write_text("\n".join(lines) + "\n")
    done = call(*words)
    assert done.code == 1 and "the pool 'pool.jsonl' has changed since: the rows that were picked" in done.err
    assert not any(subset.with_name(name).exists() for name in ("report.html", "atlas.parquet", "staged"))


def test_a_receipt_of_an_older_version_has_no_digest_of_the_pool(subset):
    run = subset.with_name("subset.yaml")
    run.write_text("".join(line for line in run.read_text().splitlines(True) if "pool_sha256" not in line))
    assert len(reopened("subset", "subset.parquet")) == 3


@pytest.mark.filterwarnings("always:with a budget")
def test_compare_on_the_pool_of_a_subset(subset, call):
    done = call("compare", "subset.parquet", "2")
    assert done.code == 0 and "warning: with a budget, methods select among the rows of subset.parquet" in done.err
    Dataset.from_parquet(str(subset)).select([1, 0, 2]).to_parquet(subset)
    done = call("compare", "subset.parquet")
    assert done.code == 1 and "`dataset='subset.parquet'` has changed since: its row 0 is another" in done.err


def test_compare_where_the_pool_is_gone(subset, call):
    subset.with_name("pool.jsonl").unlink()
    done = call("compare", "subset.parquet")
    assert done.code == 2
    assert done.err.startswith("cannot compare: the rows that subset.parquet was selected from are gone: `dataset=")


def test_a_subset_that_was_changed(subset):
    rows = Dataset.from_parquet(str(subset))
    rows.select([0, 2]).to_parquet(subset)
    with pytest.raises(DiffersFromReceipt, match="has changed since: it has 2 rows, and its selection others"):
        reopened("subset", "subset.parquet")
    rows.select([1, 0, 2]).to_parquet(subset)
    with pytest.raises(DiffersFromReceipt, match=r"its row 0 is another \(2 of 3 selected rows differ\)"):
        reopened("subset", "subset.parquet")
    rows.remove_columns("text").to_parquet(subset)
    with pytest.raises(DiffersFromReceipt, match="has no column `text`, by which the selected rows are known"):
        reopened("subset", "subset.parquet")


def test_another_sae(subset, sae):
    sae.b_enc += 1
    sae.save_pretrained("sae")
    with pytest.raises(DiffersFromReceipt, match=r"the SAE is not the one by which subset\.parquet was selected"):
        reopened("subset", "subset.parquet")


def test_a_pool_that_is_gone(subset):
    subset.with_name("pool.jsonl").unlink()
    with pytest.warns(UserWarning, match="the rows that subset.parquet was selected from are gone: .*pool.jsonl"):
        found = reopened("subset", "subset.parquet")
    assert pool_of(found) is None and len(found.sae_selection) == len(found) == 3
    subset.with_name("subset.yaml").unlink()
    with pytest.warns(UserWarning, match="are gone"):
        assert len(reopened("subset", "subset.parquet")) == 3


def test_rows_without_a_receipt(rows, call):
    done = call("publish", "pool.jsonl", "me/x")
    assert done.code == 2 and "has no pool.selection.json beside it" in done.err


def test_a_receipt_runs_no_code(subset, call):
    run = subset.with_name("subset.yaml")
    subset.with_name("evil.py").write_text("raise SystemExit('it ran')\n")
    run.write_text(run.read_text() + "text: evil.py:f\n")
    problem = "the `text` of the receipt is a function, evil.py:f, which is not run from there"
    for words in (["publish", "subset.parquet", "me/x", "--license", "mit"], ["compare", "subset.parquet"]):
        done = call(*words)
        assert done.code == 2 and problem in done.err
    run.write_text(run.read_text().replace("text: ", "method: "))
    done = call("compare", "subset.parquet")
    assert done.code == 2 and "the `methods` of the receipt is a function" in done.err


@pytest.mark.parametrize("line", ["method: evil.py:f,match", "methods: ['match,evil.py:f']"])
def test_a_receipt_runs_no_code_of_several_methods(subset, call, line):
    subset.with_name("evil.py").write_text("raise SystemExit('it ran')\n")
    run = subset.with_name("subset.yaml")
    run.write_text(run.read_text().replace("command: select", f"command: {'compare' if 's:' in line else 'select'}"))
    run.write_text(f"{run.read_text()}{line}\n")
    done = call("compare", "subset.parquet")
    assert done.code == 2 and "it ran" not in done.err
    assert ("the `methods` of the receipt is a function, evil.py:f" in done.err) == line.startswith("method:")
    run.write_text(f"{run.read_text()}out: other.csv\n")
    call("compare", "subset.parquet")
    assert not subset.with_name("other.csv").exists()


def test_what_a_call_reads_is_not_replaced(subset, call):
    before = {name: Path(name).read_bytes() for name in ("subset.parquet", "subset.selection.json", "pool.jsonl")}
    call("encode", "pool.jsonl", "--sae", "sae", "-o", "encoded.parquet")
    before["encoded.parquet"] = Path("encoded.parquet").read_bytes()
    call("select", "encoded.parquet", "3", "-o", "second.csv")
    for words, name in [
        (["atlas", "subset.parquet", "./subset.parquet"], "subset.parquet"),
        (["atlas", "second.csv", "encoded.parquet", "--overwrite"], "encoded.parquet"),
        (["report", "subset.parquet", "pool.jsonl", "--overwrite"], "pool.jsonl"),
        (["encode", "encoded.parquet", "-o", "encoded.parquet", "--overwrite"], "encoded.parquet"),
        (
            ["select", "pool.jsonl", "4", "--extend", "subset.parquet", "-o", "subset.parquet", "--overwrite"],
            "subset.parquet",
        ),
        (
            ["select", "pool.jsonl", "4", "--extend", "subset.selection.json", "-o", "subset.csv", "--overwrite"],
            "subset.selection.json",
        ),
    ]:
        done = call(*words)
        assert done.code == 2 and f"{name}' is read by this call, and would be replaced" in done.err, words
    assert {name: Path(name).read_bytes() for name in before} == before


def test_a_map_replaces_a_map_alone(subset, call):
    for _ in range(2):
        assert call("atlas", "subset.parquet", "atlas.parquet").code == 0
    Path("mine.parquet").write_bytes(b"all of it")
    done = call("atlas", "subset.parquet", "mine.parquet")
    assert done.code == 2 and "pass `--overwrite`" in done.err and Path("mine.parquet").read_bytes() == b"all of it"
    assert call("atlas", "subset.parquet", "mine.parquet", "--overwrite").code == 0
    assert "overwrite" not in Path("mine.parquet.yaml").read_text()
