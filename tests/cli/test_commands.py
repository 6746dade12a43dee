"""The commands in this process: results, files, and errors of one line."""

import json
from datetime import datetime

import numpy as np
import pytest
from datasets import Dataset, DatasetDict, load_from_disk
from helpers.training import ROWS, TINY

from hf_sae_select import Labels, Selection, cli
from hf_sae_select.cli.commands import COMMANDS
from hf_sae_select.cli.wording import reworded
from hf_sae_select.encoding.store import CodeStore

WORDS = ("--sae", "sae")

NO_FILE = "no file is written; to keep the rows, pass `--out`, such as `--out rows.parquet`"


def picked(file):
    """The texts of a JSON Lines file."""
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]


@pytest.mark.usefixtures("saved_sae")
def test_encode_select_compare(rows, call):
    done = call("encode", "pool.jsonl", *WORDS, "-o", "encoded.parquet")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "8 rows; columns: text, lang, sae_ids, sae_acts, sae_tokens, sae_flags, sae_digest",
        "written: encoded.parquet, encoded.yaml",
    ]
    done = call("select", "encoded.parquet", "3", "--out", "subset.jsonl", "--method", "greedy")
    assert done.code == 0 and done.out.startswith("Selection(method='greedy', rows=3 of 8")
    assert done.out.splitlines()[-1] == "written: subset.jsonl, subset.yaml, subset.selection.json"
    expected = Dataset.from_parquet("encoded.parquet").sae_select(3, "greedy")
    assert picked(rows / "subset.jsonl") == expected["text"]
    assert Selection.load("subset.selection.json").indices.tolist() == expected.sae_selection.indices.tolist()
    done = call("compare", "encoded.parquet", "3", "--methods", "greedy,match", "--methods", "kcenter", "--json")
    assert done.code == 2 and "no column `sae_state`" in done.err  # as the function says
    done = call("compare", "encoded.parquet", "3", "--methods", "greedy,match", "--json")
    table = json.loads(done.out)["methods"]
    assert [line["method"] for line in table] == ["greedy", "match", "longest", "random", "(all rows)"]
    assert call("compare", "encoded.parquet", "3", "-o", "table.csv").code == 0
    assert (rows / "table.csv").read_text().startswith("method,rows,likeness,")


@pytest.mark.usefixtures("saved_sae")
def test_encode_files_reads_parquet_where_it_is(rows, call, monkeypatch):
    Dataset.from_json("pool.jsonl").to_parquet("pool.parquet")
    monkeypatch.setattr("hf_sae_select._places.Place.load", None)  # which makes a copy
    words = ("encode-files", "pool.parquet", "codes", *WORDS, "--shard-rows", "3", "--option", "keep=all")
    done = call(*words)
    assert done.out.splitlines() == ["codes/rows-*.parquet"] and (rows / "codes.yaml").exists()
    assert (done.code, done.err) == (0, "")
    files = {file: file.stat().st_mtime_ns for file in (rows / "codes").glob("rows-*.parquet")}
    assert len(files) == 3
    assert json.loads(call(*words, "--json").out) == {"place": "codes/rows-*.parquet"}
    assert call("encode-files", "--config", "codes.yaml").code == 0  # leaves out what is there
    assert {file: file.stat().st_mtime_ns for file in files} == files
    done = call(*words[:-2])
    assert done.code == 2 and "cannot encode into files: ValueError: `out='codes'` holds files of ano" in done.err


@pytest.mark.usefixtures("saved_sae")
def test_encode_files_reads_a_split_of_a_folder(rows, call):
    DatasetDict(train=Dataset.from_json("pool.jsonl")).save_to_disk("folder")
    assert call("encode-files", "folder", "codes", *WORDS, "--split", "train").code == 0
    assert Dataset.from_parquet("codes/rows-000000-of-000001.parquet").num_rows == 8


@pytest.mark.usefixtures("saved_sae")
@pytest.mark.parametrize("out", ["subset.parquet", "subset.jsonl", "subset.csv", "subset"])
def test_rows_are_written_in_the_type_of_the_suffix(rows, call, out):
    expected = call("select", "pool.jsonl", "0.5", *WORDS, "--json")
    assert json.loads(expected.out)["out"] is None
    done = call("select", "pool.jsonl", "50%", *WORDS, "--json", "--out", out)
    assert (done.code, json.loads(done.out) | {"out": None}) == (0, json.loads(expected.out))
    if out == "subset":
        subset = load_from_disk(out)
    else:
        reader = {"parquet": Dataset.from_parquet, "jsonl": Dataset.from_json, "csv": Dataset.from_csv}
        subset = reader[out.partition(".")[2]](out)
    pool = Dataset.from_json("pool.jsonl")
    assert subset.to_list() == pool.select(json.loads(done.out)["indices"]).to_list()


@pytest.mark.usefixtures("saved_sae")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--quota", "lang"], {"quota": "lang"}),
        (["--quota", '{"lang": {"en": 1}}'], {"quota": {"lang": [["en", 1]]}}),
        (["--must-include", "7,3", "--must-include", "1"], {"must_include": [7, 3, 1]}),
        (["--exclude", "2"], {"exclude": [2]}),
        (["--per-token", "0.5"], {"per_token": 0.5}),
        (["--avoid", "1=100", "--avoid", "2=50.5"], {"avoid": [[1, 100.0, ""], [2, 50.5, ""]]}),
        (["--boost", "3=2", "--boost", "4=0"], {"boost": [[3, 2.0, ""], [4, 0.0, ""]]}),
        (["--avoid", '{"1": 100}'], {"avoid": [[1, 100.0, ""]]}),
    ],
)
def test_constraints(call, words, expected):
    done = call("select", "pool.jsonl", "4", *WORDS, *words, "--json")
    assert json.loads(done.out)["parameters"]["constraints"] == expected


@pytest.mark.usefixtures("saved_sae")
def test_options_of_methods_and_a_seed_that_is_none(call):
    words = ["select", "pool.jsonl", "20 tokens", *WORDS, "--method", "simscale", "--seed", "none", "--json"]
    done = call(*words, "--option", "max_overlap=0.5")
    parameters = json.loads(done.out)["parameters"]
    assert parameters["options"]["max_overlap"] == 0.5 and parameters["seed"] is None
    assert parameters["constraints"] == {"cost": "tokens"} and parameters["budget"] == 20
    assert json.loads(call(*words, "--option", '{"max_overlap": 0.5}').out) == json.loads(done.out)
    done = call(*words, "--option", "max_overlap")
    assert done.code == 2 and "`option='max_overlap'` must be name=value, or a JSON object" in done.err


@pytest.mark.usefixtures("saved_sae")
def test_an_earlier_subset_is_extended(rows, call):
    call("select", "pool.jsonl", "2", *WORDS, "-o", "first.csv")
    first = picked(rows / "pool.jsonl")
    indices = Selection.load("first.selection.json").indices.tolist()
    for earlier in ("first.csv", "first.selection.json"):
        done = call("select", "pool.jsonl", "4", *WORDS, "--extend", earlier, "--json")
        assert json.loads(done.out)["indices"][:2] == indices
    (rows / "own.jsonl").write_text(json.dumps({"text": first[5]}))
    done = call("select", "pool.jsonl", "4", *WORDS, "--extend", "own.jsonl", "--json")
    assert json.loads(done.out)["indices"][0] == 5


def test_functions_are_read_from_a_file(rows, saved_sae, call):
    (rows / "mine.py").write_text("def upper(row):\n    return row['text'] + ' moon'\n")
    done = call("encode", "pool.jsonl", *WORDS, "--text", "mine.py:upper", "--json")
    assert done.code == 0 and json.loads(done.out)["rows"] == 8
    done = call("encode", "pool.jsonl", *WORDS, "--text", "mine.py:lower")
    assert done.code == 2 and "mine.py has no function lower" in done.err


def test_train_evaluate_check_load(rows, bert, call):
    fields = [f"{name}={getattr(TINY, name)}" for name in ("d_sae", "k", "train_batch_size_tokens", "buffer_tokens")]
    config = [word for field in [*fields, "training_tokens=256"] for word in ("--training-config", field)]
    words = ["train", "pool.jsonl", "--model", bert, "--hook", "encoder.layer.1", *config]
    done = call(*words)
    assert done.code == 2 and "the result would be lost: pass `--out`" in done.err
    done = call(*words, "--training-config", "topk", "--out", "own")
    assert done.code == 0 and "16 -> 32, topk, k=4" in done.out
    assert (rows / "own" / "sae_weights.safetensors").is_file() and (rows / "own.yaml").is_file()
    done = call("evaluate", "own", "pool.jsonl", "--json")
    assert done.code == 0 and json.loads(done.out)["l0"] == 4
    done = call("check-l0", "own", "pool.jsonl", "--json")
    check = json.loads(done.out)
    assert done.code == {True: 0, False: 1}[check["agrees"]] and "l0" in check["neighbours"]["encoder.layer.0"]
    done = call("load", "own", "--dtype", "bfloat16", "--sae-config", "hook=encoder.layer.2", "--json", "-o", "copy")
    loaded = json.loads(done.out)
    assert loaded["config"]["hook"] == "encoder.layer.2" and loaded["out"] == "copy"
    assert "dtype: bfloat16" in (rows / "copy.yaml").read_text()
    assert call("load", "own", "--dtype", "float99").err == (
        "cannot load: ValueError: `dtype='float99'` must be a type of torch, such as float32 or bfloat16\n"
    )


@pytest.mark.usefixtures("saved_sae")
def test_label(rows, call):
    (rows / "mine.py").write_text("def name(prompt):\n    return 'moon'\n")
    (rows / "many.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in ROWS["text"]))
    words = ["label", "many.jsonl", *WORDS, "--least-score", "0", "--labeller", "mine.py:name", "-o", "labels.parquet"]
    done = call(*words, "--json")
    labels = Labels.load("labels.parquet")
    assert done.code == 0 and json.loads(done.out)["named"] == len(labels.named) > 0
    assert set(json.loads(done.out)["names"].values()) == {"moon"}
    call("select", "pool.jsonl", "3", *WORDS, "-o", "subset.csv")
    done = call("explain", "subset.csv", "--picks", "0", "--spans", "0", "--labels", "labels.parquet")
    assert done.code == 0 and "moon" in done.out


@pytest.mark.usefixtures("saved_sae")
def test_ctrl_c_while_rows_are_encoded(rows, call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(CodeStore, "add", interrupted)
    done = call("select", "pool.jsonl", "3", *WORDS, "-o", "subset.csv", "--json")
    problem = "interrupted; subset.csv is not written; 0 of 8 rows are encoded and kept in "
    assert done.code == 130 and json.loads(done.out)["error"].startswith(problem)
    assert done.err.startswith(problem) and not (rows / "subset.csv").exists()


@pytest.mark.usefixtures("saved_sae")
def test_what_fails_leaves_no_file_and_says_so_in_one_line(rows, call, monkeypatch):
    before = sorted(rows.iterdir())
    for words, message in [
        (["select", "no.jsonl", "3"], "`dataset='no.jsonl'`: there is no such file or folder"),
        (["select", "pool.jsonl", "900"], "`budget=900` but the dataset has 8 rows"),
        (["select", "pool.jsonl", "3", "-o", "no/subset.csv"], "there is no folder 'no'"),
        (["select", "pool.jsonl", "3", "-o", "subset.xlsx"], "the type '.xlsx' is not written here"),
        (["encode", "pool.jsonl", "-o", "encoded.csv"], ".csv does not keep how rows were encoded"),
        (["select", "pool.jsonl", "3", "--quota", "{"], "`quota='{'` is not JSON"),
        (["select", "pool.jsonl", "3", "--revision", "main"], "`revision='main'` is of a Hub dataset"),
    ]:
        done = call(*words)
        assert (done.code, done.out) == (2, ""), words
        assert done.err.startswith(f"cannot {words[0]}: ") and message in done.err and done.err.count("\n") == 1
        done = call(*words, "--json")
        assert (done.code, list(json.loads(done.out))) == (2, ["error"]) and message in json.loads(done.out)["error"]
    assert "Traceback" in call("select", "no.jsonl", "3", "--debug").err
    assert sorted(rows.iterdir()) == before

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli.jobs, "write_run", full)
    done = call("select", "pool.jsonl", "3", *WORDS, "-o", "subset.jsonl")
    assert done.code == 2 and "No space left" in done.err and sorted(rows.iterdir()) == before


@pytest.mark.usefixtures("saved_sae")
def test_none_unsets_an_option(rows, call):
    (rows / "run.yaml").write_text("dataset: pool.jsonl\nbudget: 3\nsae: sae\nquota: lang\ntext: text\n")
    words = ["select", "--config", "run.yaml", "--json"]
    assert json.loads(call(*words).out)["parameters"]["constraints"] == {"quota": "lang"}
    done = call(*words, "--quota", "none", "--text", "none")
    assert json.loads(done.out)["parameters"]["constraints"] == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["select", "3", "pool.jsonl"], "the rows come first, then the budget: pool.jsonl 3"),
        (["select", "pool.jsonl", "3", "--method", "no.py:f"], "`method='no.py:f'`: there is no file 'no.py'"),
        (["label", "pool.jsonl", "--labeller", "no.py:f"], "`labeller='no.py:f'`: there is no file 'no.py'"),
        (["select", "pool.jsonl", "3", "--method", "gredy"], "weighted; did you mean 'greedy'?"),
        (["explain", "x.selection.json"], "is a selection alone; pass the file of rows that it is beside"),
        (["why-not", "pool.jsonl", "1"], "cannot tell why not: FileNotFoundError"),
        (
            ["report", "x.selection.json", "x.html", "--labels", "rows.parquet"],
            "it is no file that `Labels.save` wrote",
        ),
        (["select", "empty.jsonl", "3"], "`dataset='empty.jsonl'` has no rows"),
    ],
)
def test_errors_name_the_remedy(rows, call, words, message):
    Dataset.from_dict({"text": ["a"]}).to_parquet("rows.parquet")
    selection = Selection(np.arange(1), np.ones(1), np.zeros(1, np.int64), pool_rows=8)
    for name in ("x", "pool"):
        selection.save(f"{name}.selection.json")
    if words[0] == "why-not":
        (rows / "pool.selection.json").unlink()
    (rows / "empty.jsonl").touch()
    done = call(*words)
    assert done.code == 2 and message in done.err and "Traceback" not in done.err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("choose another name, or pass `overwrite=True` to", "choose another name, or pass `--overwrite` to"),
        (
            "needs: encode with `keep='state'`, or pass `embedding='column'`",
            "needs: encode with `--keep state`, or pass `--embedding column`",
        ),
        ("pass `token`", "pass `--token`"),
        ("pass `text=['column', 'column']` or `text=f`", "pass `--text column --text column` or `text=f`"),
        ("the encoded dataset as `pool`", "the encoded dataset as `--pool`"),
        ("`level='sel'` is shown as `longest`; pass `x`", "`level='sel'` is shown as `longest`; pass `x`"),
        (
            "to continue: hf_sae_select.push('a/b', 'me/x', create_pr=True)",
            "to continue: hf-sae-select push a/b me/x --create-pr",
        ),
        ("run `ds.sae_encode()` first", "run `hf-sae-select encode` first"),
        ("ds.map(f) and hf_sae_select.other(1)", "ds.map(f) and hf_sae_select.other(1)"),
    ],
)
def test_remedies_are_words_of_the_command_line(text, expected):
    assert reworded(text, COMMANDS["publish"]) == expected


@pytest.mark.usefixtures("saved_sae")
def test_names_of_columns_make_no_lines(rows, call):
    Dataset.from_dict({"a\nwritten: other.csv\x1b[2J": ["x"], "text": ["the cat"]}).to_parquet("rows.parquet")
    done = call("encode", "rows.parquet", *WORDS, "--text", "text")
    assert done.out.startswith("1 rows; columns: a written: other.csv\ufffd[2J, text, ")
    assert done.out.splitlines()[1:] == [NO_FILE]


def test_ctrl_c_outside_a_job(call, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.app, "make_app", interrupted)
    assert call("load") == (130, "", "interrupted\n")


@pytest.mark.usefixtures("saved_sae")
def test_types_that_a_file_cannot_hold(rows, call):
    day = datetime(2026, 1, 2, 3, 4, 5)
    values = {"text": ["the cat", "a dog"], "tags": [["a"], []], "day": [day, day], "n": [0.1, float("nan")]}
    pool = Dataset.from_dict(values)
    pool.to_parquet("lists.parquet")
    pool.add_column("raw", [b"a", b"b"]).to_parquet("bytes.parquet")
    for name, out, column in [("lists", "x.csv", "tags"), ("bytes", "x.csv", "tags"), ("bytes", "x.jsonl", "raw")]:
        done = call("select", f"{name}.parquet", "2", "--sae", "missing", "-o", out)  # before the SAE is looked for
        assert done.code == 2 and f"cannot hold column `{column}`" in done.err and not (rows / out).exists()
    assert call("select", "lists.parquet", "2", *WORDS, "--seed", "none", "-o", "x.jsonl").code == 0
    lines = sorted((rows / "x.jsonl").read_text().splitlines())
    assert json.loads(lines[0]) == {"text": "a dog", "tags": [], "day": "2026-01-02T03:04:05", "n": None}
    assert json.loads(lines[1]) == {"text": "the cat", "tags": ["a"], "day": "2026-01-02T03:04:05", "n": 0.1}


@pytest.mark.usefixtures("rows", "saved_sae")
def test_a_library_that_has_imported_pydantic_changes_nothing(call):
    pytest.importorskip("pydantic")
    assert call("select", "pool.jsonl", "3", *WORDS, "-o", "subset.jsonl").code == 0


@pytest.mark.usefixtures("saved_sae")
@pytest.mark.parametrize("out", ["subset.jsonl", "subset"])
def test_an_existing_result_is_kept(rows, call, out):
    words = ["select", "pool.jsonl", "3", *WORDS, "-o", out]
    assert call(*words).code == 0
    selection = (rows / "subset.selection.json").read_bytes()
    done = call(*words)
    assert done.code == 2 and f"'{out}' exists; pass another `--out`, or `--overwrite` to replace it" in done.err
    assert call(*words, "--seed", "3", "--overwrite").code == 0
    assert (rows / "subset.selection.json").read_bytes() != selection
    assert sorted(path.name for path in rows.iterdir() if path.name[0] == ".") == []


@pytest.mark.usefixtures("saved_sae")
def test_files_of_others_are_not_replaced(rows, call):
    (rows / "subset").mkdir()
    (rows / "subset" / "thesis.tex").write_text("all of it")
    done = call("select", "pool.jsonl", "3", *WORDS, "-o", "subset", "--overwrite")
    assert done.code == 2 and "holds 'thesis.tex', which is not of a saved dataset" in done.err
    (rows / "other.yaml").write_text("mine: 1\n")
    done = call("select", "pool.jsonl", "3", *WORDS, "-o", "other.csv", "--overwrite")
    assert done.code == 2 and "the run file 'other.yaml' would replace another file" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["selekt"], 'Did you mean "select"?'),
        (["select", "pool.jsonl", "3", "--sead", "1"], "Did you mean --seed?"),
        (["select", "pool.jsonl", "3", "--seed", "x"], "Invalid value for --seed: 'x' is no whole number"),
        (["select", "pool.jsonl", "3", "--seed", "1.5"], "Invalid value for --seed: '1.5' is no whole number"),
        (["select", "pool.jsonl", "3", "--top", "2.7"], "Invalid value for --top: '2.7' is no whole number"),
        (["select", "pool.jsonl"], "BUDGET is missing; pass it in its place, or as `--budget`"),
        (["check-l0"], "SAE is missing; pass it in its place, or as `--sae`"),
        (["compare"], "DATASET is missing; pass it"),
        (["select", "pool.jsonl", "3", "4"], "4"),
    ],
)
def test_2_with_the_usage_if_it_is_called_wrongly(call, words, message):
    done = call(*words)
    assert (done.code, done.out) == (2, "") and done.err.startswith("usage: hf-sae-select ") and message in done.err
    done = call(*words, "--json")
    assert done.code == 2 and message in json.loads(done.out)["error"]


@pytest.mark.usefixtures("saved_sae")
def test_dedup_writes_the_rows_that_stay_and_prints_what_was_removed(rows, call):
    texts = ["the cat sat on the mat", "a dog", "The cat  sat on the mat", ""]
    (rows / "twice.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    done = call("dedup", "twice.jsonl", *WORDS, "-o", "unique.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [
        "3 rows; columns: text",
        "Removals(rows=1 of 4, groups=1, steps={'text': 1}); 1 rows without text stay",
        "written: unique.jsonl, unique.yaml",
    ]
    assert picked(rows / "unique.jsonl") == ["the cat sat on the mat", "a dog", ""]
    data = json.loads(call("dedup", "twice.jsonl", *WORDS, "--threshold", "0.9", "--json").out)
    assert (data["rows"], data["counts"], data["parameters"]["threshold"]) == (3, {"text": 1}, 0.9)
    assert [(pair["row"], pair["kept"], pair["step"]) for pair in data["removed"]] == [(2, 0, "text")]


@pytest.mark.usefixtures("saved_sae")
def test_exclude_near_reads_a_file(rows, call):
    (rows / "evaluation.jsonl").write_text(json.dumps({"text": Dataset.from_json("pool.jsonl")["text"][0]}) + "\n")
    done = call("select", "pool.jsonl", "2", *WORDS, "--exclude-near", "evaluation.jsonl", "--json")
    assert done.code == 0 and 0 in json.loads(done.out)["parameters"]["constraints"]["left_out"]["exclude_near"]


@pytest.mark.usefixtures("saved_sae")
def test_missing_diff_and_find_features(rows, call):
    moons = [{"text": "the moon was blue"}] * 20
    (rows / "moons.jsonl").write_text("".join(json.dumps(line) + "\n" for line in moons))
    pool = Dataset.from_json("pool.jsonl")
    done = call("missing", "pool.jsonl", "moons.jsonl", *WORDS, "--least-lift", "1", "--json")
    expected = pool.sae_missing(Dataset.from_list(moons), sae="sae", least_lift=1.0)
    assert done.code == 0 and json.loads(done.out) == expected.to_dict() | {"out": None}
    done = call("diff", "pool.jsonl", "moons.jsonl", *WORDS, "--show-texts", "-o", "changed.parquet")
    assert (done.code, done.err) == (0, "") and " frequent in b (20 rows) than in a (8 rows)" in done.out
    assert done.out.splitlines()[-1] == "written: changed.parquet, changed.yaml"
    columns = Dataset.from_parquet("changed.parquet").column_names
    assert columns[:4] == ["feature", "name", "a_rows", "b_rows"] and columns[-1] == "b_examples"
    by_rows = pool.sae_find_features([5, 2], sae="sae")
    for words in (["5", "2"], ["5,2"], ["--text-or-rows", "5", "--text-or-rows", "2"]):
        assert (
            json.loads(call("find-features", "pool.jsonl", *words, *WORDS, "--json").out)["features"]
            == (by_rows.to_dict()["features"])
        )
    by_texts = pool.sae_find_features([line["text"] for line in moons], sae="sae").to_dict()
    for words in (["moons.jsonl"], ["the moon was blue"] * 20):
        printed = json.loads(call("find-features", "pool.jsonl", *words, *WORDS, "--json").out)
        assert printed["features"] == by_texts["features"] and printed["rows"] == [8, 20]
    done = call("find-features", "pool.jsonl", "8", *WORDS)
    assert done.code == 2 and done.err.startswith("cannot find features: ValueError: `text_or_rows` has 8; it must be")


@pytest.mark.usefixtures("saved_sae")
def test_rows_may_be_at_a_pattern_or_at_a_url_of_the_hub(rows, call, hub):
    pool = Dataset.from_json("pool.jsonl")
    expected = pool.select(range(4)).to_list(), pool.select(range(4, 8)).to_list()
    for i, part in enumerate(expected):
        Dataset.from_list(part).to_json(rows / f"part-{i}.jsonl")
    files = {f"data/{i}.jsonl": (rows / f"part-{i}.jsonl").read_bytes() for i in (0, 1)}
    commit = hub.push("alice/rows", files, kind="dataset")
    assert call("select", "pool.jsonl", "3", *WORDS, "--out", "subset.jsonl").code == 0
    for place in ("part-*.jsonl", "hf://datasets/alice/rows/data/*.jsonl"):
        assert call("select", place, "3", *WORDS, "--out", "other.jsonl", "--overwrite").code == 0
        assert picked(rows / "other.jsonl") == picked(rows / "subset.jsonl")
    assert f"revision: {commit}" in (rows / "other.yaml").read_text()  # the run file names the commit
    again = call("select", "--config", "other.yaml", "--out", "again.jsonl")
    assert again.code == 0 and picked(rows / "again.jsonl") == picked(rows / "subset.jsonl")


@pytest.mark.usefixtures("saved_sae")
@pytest.mark.parametrize("place", ["parts", "parts/*.jsonl"])
def test_a_file_of_a_folder_or_a_pattern_is_not_replaced(rows, call, place):
    (rows / "parts").mkdir()
    (rows / "pool.jsonl").rename(rows / "parts" / "a.jsonl")
    before = (rows / "parts" / "a.jsonl").read_bytes()
    done = call("select", place, "3", *WORDS, "--out", "parts/a.jsonl", "--overwrite")
    assert done.code == 2 and f"'{place}' is read by this call, and would be replaced" in done.err
    assert (rows / "parts" / "a.jsonl").read_bytes() == before


def test_rows_that_no_file_keeps_are_said_to_be(rows, saved_sae, call):
    lines = call("select", "pool.jsonl", "2", "--sae", "sae").out.splitlines()
    assert lines[1:] == [NO_FILE]


@pytest.mark.usefixtures("saved_sae")
def test_rows_do_not_get_lost_where_out_is_on_the_hub(call):
    done = call("select", "pool.jsonl", "3", *WORDS, "--out", "hf://buckets/me/subset.parquet")
    assert done.code == 2 and "no folder" in done.err, done
