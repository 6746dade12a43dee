"""What the tests of the command line share: rows in files, a tiny SAE in a folder, and the command as a process."""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from hf_sae_select.cli import main

TEXTS = [
    "the cat sat on the mat",
    "a dog ran",
    "the big red bird flew over the moon",
    "then it was small",
    "a cat and a dog",
    "the moon was blue",
    "the green bird sat under the log",
    "a small dog ran over the mat",
]


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def rows(tmp_path, monkeypatch):
    """A folder with rows of eight texts in `pool.jsonl`; it is the working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    lines = [{"text": text, "lang": "en" if i % 2 else "de"} for i, text in enumerate(TEXTS)]
    (folder / "pool.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def saved_sae(rows, sae):
    """The tiny SAE in the folder `sae` of the working directory."""
    sae.save_pretrained(rows / "sae")
    return rows / "sae"


@pytest.fixture
def call(capsys):
    """Run a command in this process."""

    def call(*words):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stopped:
            code = stopped.code
        return Done(code, *capsys.readouterr())

    return call


SEVERAL = """
import json, sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from hf_sae_select.cli import main
results = []
for words in json.loads(sys.argv[1]):
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stopped:
            code = stopped.code
    results.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(results))
"""


@pytest.fixture
def processes(process):
    """Run several commands one after another, in one process, whose start takes longer than they do."""

    def processes(*calls, **environment):
        words = json.dumps([[str(word) for word in words] for words in calls])
        done = process(words, program=["-c", SEVERAL], **environment)
        assert done.code == 0, done.err
        return [Done(*result) for result in json.loads(done.out)]

    return processes


@pytest.fixture
def process(tmp_path):
    """Run a command in a process of its own; keyword arguments are of its environment."""

    def process(*words, program=("-m", "hf_sae_select"), **environment):
        variables = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", **environment}
        command = [sys.executable, *program, *map(str, words)]
        options = {"capture_output": True, "text": True, "timeout": 300, "stdin": subprocess.DEVNULL}
        done = subprocess.run(command, env=os.environ | variables, **options)
        return Done(done.returncode, done.stdout, done.stderr)

    return process
