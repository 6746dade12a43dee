"""The command line: what it prints, and the exit code that CI goes by."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.forge import RECORD
from helpers.pools import coded

from hf_sae_select import __version__, stage
from hf_sae_select.cli import main
from hf_sae_select.publishing import checks, provenance
from hf_sae_select.publishing.verdict import CONCLUSIONS


@pytest.fixture
def folder(tmp_path):
    """A staged subset of three rows, of which two are picked."""
    ds = coded([{0: 0.9}, {1: 0.9, 2: 0.9}, {0: 0.6}], record=RECORD)
    return stage(ds.sae_select(2, seed=None), tmp_path / "staged", license="mit")


def run(capsys, *arguments):
    """The exit code, what was printed, and what was printed as an error."""
    code = main([str(item) for item in arguments])
    return code, *capsys.readouterr()


def test_0_if_all_is_as_recorded(folder, capsys):
    lines = [f"subset  {folder}", "source  not published", "rows    2 of 3"]
    lines += [f"ok  digests: {name}" for name in ("record", "parameters", "indices", "rows", "files", "card")]
    end = f"verified to the level `digests`: {CONCLUSIONS['digests']}\n"
    assert run(capsys, "verify", folder) == (0, "\n".join([*lines, end]), "")
    lines += [f"ok  select: {name}" for name in ("source", "encoding", "picks", "counts", "coverage", "likeness")]
    end = f"verified to the level `select`: {CONCLUSIONS['select']}\n"
    assert run(capsys, "verify", folder, "--level", "select") == (0, "\n".join([*lines, end]), "")


def test_1_if_something_differs(folder, capsys):
    (folder / "likeness.png").unlink()
    code, printed, errors = run(capsys, "verify", folder)
    assert (code, errors) == (1, "")
    assert "DIFFERS  digests: files: likeness.png is missing\n" in printed and "ok  digests: rows\n" in printed
    end = (
        "not verified to the level `digests`: what is marked DIFFERS is not what the record says; do not rely on this"
    )
    assert printed.splitlines()[-1] == f"{end} subset"
    (folder / "provenance.json").write_text("{}")
    code, printed, errors = run(capsys, "verify", folder)
    assert (code, errors) == (1, "") and "\nDIFFERS  digests: record: provenance.json: " in printed


def test_the_result_as_json(folder, capsys):
    code, printed, errors = run(capsys, "verify", folder, "--json")
    source = {"dataset": None, "config": None, "split": None, "revision": None, "rows": 3}
    expected = {"verified": True, "level": "digests", "repo": str(folder), "revision": None, "date": None}
    expected |= {"source": source, "rows": 2}
    result = json.loads(printed)
    checks = result.pop("checks")
    assert (code, errors, result) == (0, "", expected)
    assert checks[0] == {"level": "digests", "name": "record", "difference": None} and len(checks) == 6
    (folder / "likeness.png").unlink()
    code, printed, _ = run(capsys, "verify", folder, "--json")
    differ = [check for check in json.loads(printed)["checks"] if check["difference"]]
    assert (code, json.loads(printed)["verified"]) == (1, False)
    assert differ == [{"level": "digests", "name": "files", "difference": "likeness.png is missing"}]
    code, printed, errors = run(capsys, "verify", folder, "--json", "--level", "all")
    assert code == 2 and errors.startswith("cannot verify: ValueError: unknown `level='all'`")
    assert json.loads(printed) == {"verified": None, "error": errors.removeprefix("cannot verify: ").rstrip()}


def test_the_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and capsys.readouterr().out == f"hf-sae-select {__version__}\n"


def test_what_is_printed_holds_no_control_characters(folder, capsys):
    (folder / "data" / "\x1b[2Jx.parquet").write_bytes(b"")
    code, printed, _ = run(capsys, "verify", folder)
    assert code == 1 and "\x1b" not in printed and "data/\ufffd[2Jx.parquet is not in the record" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["FOLDER", "--level", "all"], "unknown `level='all'`; choose one of: digests, select, encode"),
        (
            ["FOLDER", "--level", "encode"],
            "`level='encode'` requires `source`: the dataset that the rows were selected from",
        ),
        (["FOLDER", "--revision", "main"], "`revision='main'` applies to Hub repos"),
        (["FOLDER/data"], "has no provenance.json: it was not published by `sae_publish`"),
        (["no/such/thing"], "'no/such/thing' is neither a local folder nor a valid Hub repo id"),
        (["alice/none"], "is not in the cache and the Hub is out of reach"),
    ],
)
def test_2_if_that_cannot_be_told(folder, capsys, arguments, message):
    code, printed, errors = run(capsys, "verify", *[item.replace("FOLDER", str(folder)) for item in arguments])
    assert (code, printed) == (2, "")
    assert errors.startswith("cannot verify: ") and message in errors


def test_2_if_verifying_breaks_off(folder, capsys, monkeypatch):
    def broken(repo, record):
        raise RecursionError("too deep")

    monkeypatch.setattr(checks, "of_card", broken)
    assert run(capsys, "verify", folder) == (2, "", "cannot verify: RecursionError: too deep\n")


def test_2_without_the_extra(folder, capsys, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "jsonschema"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    provenance._validator.cache_clear()
    code, _, errors = run(capsys, "verify", folder)
    assert code == 2 and 'pip install "hf-sae-select[publish]"' in errors


@pytest.mark.parametrize("stream", ["/dev/full", None])
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_2_if_the_result_cannot_be_printed(folder, monkeypatch, stream, options):
    (folder / "likeness.png").unlink()
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full if stream else None)
        assert main(["verify", str(folder), *options]) == 2


@pytest.mark.parametrize(("arguments", "code"), [(["no/such/thing"], 2), (["FOLDER"], 0)])
@pytest.mark.parametrize("stream", ["/dev/full", None])
def test_the_exit_code_where_errors_cannot_be_printed(folder, capsys, monkeypatch, stream, arguments, code):
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full if stream else None)
        assert main(["verify", *[item.replace("FOLDER", str(folder)) for item in arguments]]) == code
        sys.stderr.close()
        assert "cannot verify" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["check"], ["verify"], ["verify", "a", "b"], ["verify", "a", "--deep"]])
def test_2_if_it_is_called_wrongly(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert "usage: hf-sae-select" in capsys.readouterr().err


def test_the_hub_and_a_revision(hub, folder, capsys):
    files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    first = hub.push("alice/subset", files, kind="dataset")
    assert run(capsys, "verify", "alice/subset", "--level", "select")[0] == 0
    hub.push("alice/subset", {"likeness.png": b"other"}, kind="dataset")
    assert run(capsys, "verify", "alice/subset")[0] == 1
    assert run(capsys, "verify", "alice/subset", "--revision", first)[0] == 0
    assert run(capsys, "verify", "alice/subset", "--revision", "none")[0] == 2


SCRIPT = """
import sys
from hf_sae_select.cli import main
try:
    main([*sys.argv[1:]])
finally:
    print(sorted({"torch", "numba", "transformers"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("arguments", [["--help"], ["verify", "--help"], ["verify", "FOLDER", "--level", "select"]])
@pytest.mark.slow
def test_nothing_slow_is_imported_where_no_model_is_run_and_the_pool_is_small(folder, arguments):
    arguments = [item.replace("FOLDER", str(folder)) for item in arguments]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_the_command_is_installed():
    command = str(Path(sys.executable).with_name("hf-sae-select"))
    done = subprocess.run([command, "verify", "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "--level" in done.stdout and "owner/name" in done.stdout
