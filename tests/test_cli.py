"""The command line: what it prints, and the exit code that CI goes by."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.forge import RECORD
from helpers.pools import coded

from hf_sae_select import stage
from hf_sae_select.cli import main
from hf_sae_select.publishing import checks, provenance


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
    lines = [f"ok  digests: {name}" for name in ("record", "parameters", "indices", "rows", "files", "card")]
    assert run(capsys, "verify", folder) == (0, "\n".join([*lines, "verified to the level `digests`\n"]), "")
    lines += [f"ok  select: {name}" for name in ("source", "encoding", "picks", "counts", "coverage")]
    expected = "\n".join([*lines, "verified to the level `select`\n"])
    assert run(capsys, "verify", folder, "--level", "select") == (0, expected, "")


def test_1_if_something_differs(folder, capsys):
    (folder / "coverage.png").unlink()
    code, printed, errors = run(capsys, "verify", folder)
    assert (code, errors) == (1, "")
    assert "DIFFERS  digests: files: coverage.png is missing\n" in printed and "ok  digests: rows\n" in printed
    assert printed.endswith("\nnot verified to the level `digests`\n")
    (folder / "provenance.json").write_text("{}")
    code, printed, errors = run(capsys, "verify", folder)
    assert (code, errors) == (1, "") and printed.startswith("DIFFERS  digests: record: provenance.json: ")


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
    hub.push("alice/subset", {"coverage.png": b"other"}, kind="dataset")
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


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [(["--help"], "[]"), (["verify", "--help"], "[]"), (["verify", "FOLDER", "--level", "select"], "['numba']")],
)
@pytest.mark.slow
def test_no_torch_is_imported_where_no_model_is_run(folder, arguments, imported):
    arguments = [item.replace("FOLDER", str(folder)) for item in arguments]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout
    assert done.stderr.splitlines()[-1] == imported


def test_the_command_is_installed():
    command = str(Path(sys.executable).with_name("hf-sae-select"))
    done = subprocess.run([command, "verify", "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    assert "--level" in done.stdout and "owner/name" in done.stdout
