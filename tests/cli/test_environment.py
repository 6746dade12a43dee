"""`env`: the versions that a report of a fault needs, nothing private, also where torch is broken."""

import getpass
import json
import platform
import sys
from importlib.metadata import version
from types import SimpleNamespace

import pytest

import hf_sae_select
from hf_sae_select import _environment, environment

BROKEN = 'raise OSError("/home/me/lib/libtorch.so: cannot open shared object file")'


def test_the_versions_are_those_installed(call):
    done = call("env")
    lines = dict(line.split(": ", 1) for line in done.out.splitlines())
    assert (done.code, done.err) == (0, "")
    assert lines["hf-sae-select"] == hf_sae_select.__version__
    assert lines["python"].startswith(platform.python_version())
    assert lines["torch"] == version("torch") and lines["pyarrow"] == version("pyarrow")
    assert set(_environment.LIBRARIES) | {"platform", "cuda", "mps", "extras"} <= lines.keys()
    assert json.loads(call("env", "--json").out) == environment().to_dict()


def test_nothing_is_private(call, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_thesecretofthisuser")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    printed = call("env").out + call("env", "--json").out
    words = [platform.node(), platform.release(), getpass.getuser(), "hf_thesecret", str(tmp_path), sys.prefix, "/"]
    assert [word for word in words if word in printed] == []


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_broken_torch_is_told_without_its_paths(words, process, tmp_path):
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(BROKEN)
    done = process("env", *words, PYTHONPATH=str(tmp_path))
    assert done.code == 0, done.err
    assert "OSError" in done.out and "/home/me" not in done.out + done.err


def test_a_missing_torch_is_no_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(_environment, "version", lambda name: "1.0" if name != "torch" else _missing(name))
    lines = str(environment()).splitlines()
    assert "torch: not installed" in lines and "cuda: not available" in lines and "numpy: 1.0" in lines


def test_devices_are_counted(monkeypatch):
    torch = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: True, device_count=lambda: 2),
        version=SimpleNamespace(cuda="12.8", hip=None),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert environment().cuda == "12.8, devices: 2" and "mps: not available" in str(environment())


def test_an_extra_is_installed_with_all_its_libraries(monkeypatch):
    lines = [
        "torch<3,>=2.6",
        'altair<7,>=6; extra == "report"',
        "vl-convert-python>=1.9; extra == 'report'",
        'hf-sae-select[report]; extra == "publish"',
        'jsonschema>=4; extra == "publish"',
        'datasketch>=1.6; extra == "dedup"',
        'pytest; extra == "dev"',
    ]
    monkeypatch.setattr(_environment, "requires", lambda name: lines)
    monkeypatch.setattr(_environment, "version", lambda name: "1.0" if name != "jsonschema" else _missing(name))
    found = environment()
    report = {"altair": "1.0", "vl-convert-python": "1.0"}
    assert found.extras == {"dedup": {"datasketch": "1.0"}, "publish": report | {"jsonschema": None}, "report": report}
    assert found.installed_extras == ["dedup", "report"]
    assert "extras: dedup, report" in str(found).splitlines() and "jsonschema" not in str(found)


def test_a_package_that_was_not_installed_has_no_extras(monkeypatch):
    monkeypatch.setattr(_environment, "requires", _missing)
    assert environment().extras == {} and "extras: none" in str(environment())


def _missing(name):
    raise _environment.PackageNotFoundError(name)
