"""The public face is typed: `mypy --strict` accepts a program that uses it, and sees what is wrong in another."""

import re
from pathlib import Path

import pytest

import hf_sae_select

USER = Path(__file__).parent / "typed" / "user.py"
PACKAGE = Path(hf_sae_select.__file__).parent
WRONG = """
import hf_sae_select
from hf_sae_select import FeatureMatrix
features = FeatureMatrix.from_dense([[0.5]])
hf_sae_select.select_indices(features, [1])
hf_sae_select.select_indices(features, 1, quota=3.5)
hf_sae_select.verify("me/a-3k", levle="select")
hf_sae_select.select_index(features, 1)
features.acts.append(1.0)
"""
# What users have whose libraries have no types of their own. torch has, and takes a minute to read.
CONFIG = """
[mypy]
strict = true
[mypy-datasets.*,pandas.*,pyarrow.*,numba.*,accelerate.*,tqdm.*,yaml.*]
ignore_missing_imports = true
follow_imports = skip
[mypy-torch.*,transformers.*,safetensors.*,huggingface_hub.*]
follow_imports = skip
"""


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """Run mypy on a program outside of the repository, and return the lines of its errors."""
    from mypy import api

    folder = tmp_path_factory.mktemp("typed")
    config = folder / "mypy.ini"
    config.write_text(CONFIG)

    def check(code):
        (folder / "program.py").write_text(code)
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            patch.setenv("MYPYPATH", str(folder))
            out, err, _ = api.run(["--config-file", str(config), "--cache-dir", str(folder / "cache"), "program.py"])
        assert err == ""
        return [line for line in out.splitlines() if ": error: " in line]

    return check


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


@pytest.mark.slow
def test_a_typed_program_is_accepted(check):
    assert check(USER.read_text()) == []


@pytest.mark.slow
def test_a_wrong_call_is_seen(check):
    lines = [int(re.match(r"program\.py:(\d+): error", line)[1]) for line in check(WRONG)]
    assert sorted(set(lines)) == [5, 6, 7, 8, 9]


def test_the_program_uses_every_class_of_the_public_face():
    classes = {name for name in hf_sae_select.__all__ if name[0].isupper() and not name.isupper()}
    assert classes - set(re.findall(r"\w+", USER.read_text())) == {"L0Check"}
