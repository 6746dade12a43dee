"""What people install: the wheel and the sdist, their metadata, and the bounds of dependencies."""

import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from itertools import chain
from pathlib import Path

import pytest
import yaml
from datasets import Dataset
from packaging.requirements import Requirement
from packaging.version import Version

import hf_sae_select
from hf_sae_select.publishing.card import TAGS

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
REQUIREMENTS = [Requirement(line) for line in [*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values())]]
MOST_BYTES = 14 * 2**20  # of the wheel: the default SAE has 12.6 MB of it
PACKAGE_FILES = {
    file.relative_to(ROOT).as_posix()
    for file in (ROOT / "hf_sae_select").rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
}
NEEDED = {
    "hf_sae_select/py.typed",
    "hf_sae_select/publishing/provenance.schema.json",
    "hf_sae_select/sae/default/cfg.json",
    "hf_sae_select/sae/default/labels.parquet",
    "hf_sae_select/sae/default/sae_weights.safetensors",
    "hf_sae_select/templates/report.html",
    "hf_sae_select/templates/sae_card.md",
    "hf_sae_select/templates/subset_card.md",
}


def build(folder, out, *arguments):
    """Build with the backend that pip uses; no environment is made, so nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(out), *arguments]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the sdist and the wheel of this tree, and the unpacked sdist with a wheel of its own in `dist`."""
    folder = tmp_path_factory.mktemp("built")
    build(ROOT, folder)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as sdist:
        sdist.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def wheel(built):
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_string(archive.read(name).decode())


@pytest.mark.slow
def test_the_wheel_has_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    about = {name for name in names if ".dist-info/" in name}
    assert names - about == PACKAGE_FILES and names >= NEEDED
    assert {Path(name).name for name in about} == {"METADATA", "WHEEL", "RECORD", "LICENSE", "entry_points.txt"}


@pytest.mark.slow
def test_the_wheel_is_small_and_for_every_platform(wheel):
    assert wheel.name == f"hf_sae_select-{hf_sae_select.__version__}-py3-none-any.whl"
    assert wheel.stat().st_size < MOST_BYTES


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(built, wheel):
    sdist = next(folder for folder in built.iterdir() if folder.is_dir())
    assert not {"tests", "docs", "benchmarks", ".github"} & {file.name for file in sdist.iterdir()}
    build(sdist, sdist / "dist", "--target", "wheel")
    assert (sdist / "dist" / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.mark.slow
def test_links_of_the_description_lead_to_the_repository(metadata):
    repository = PROJECT["urls"]["Repository"]
    description = metadata.get_payload()
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert f"]({repository}/blob/main/docs/" in description
    targets = re.findall(r"\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"", description)
    assert [link for pair in targets for link in pair if link and not link.startswith(("https://", "#"))] == []


@pytest.mark.slow
def test_the_metadata_name_the_project(metadata):
    assert metadata["Version"] == hf_sae_select.__version__ and metadata["License-Expression"] == "Apache-2.0"
    assert set(metadata.get_all("Provides-Extra")) == set(EXTRAS)
    assert {line.split(", ")[0] for line in metadata.get_all("Project-URL")} == set(PROJECT["urls"])


# Bounds


def lower_bound(requirement):
    return next((item.version for item in requirement.specifier if item.operator in (">=", "==")), None)


def test_every_dependency_has_a_lower_bound():
    assert [item.name for item in REQUIREMENTS if item.name != PROJECT["name"] and lower_bound(item) is None] == []


def test_the_minima_are_the_lower_bounds():
    lines = (ROOT / "constraints-minima.txt").read_text().splitlines()
    minima = {item.name: item for item in (Requirement(line) for line in lines if not line.startswith("#"))}
    tools = {"mypy", "ruff"}  # `make check` runs them, in one version
    expected = {item.name: Version(lower_bound(item)) for item in REQUIREMENTS if item.name != PROJECT["name"]}
    assert {name: Version(lower_bound(item)) for name, item in minima.items()} == {
        name: version for name, version in expected.items() if name not in tools
    }


def test_every_extra_of_users_is_resolved_by_make():
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^EXTRAS = (.*)$", makefile, re.MULTILINE)[1].split() == sorted(set(EXTRAS) - {"dev", "docs"})


def test_the_oldest_python_is_the_first_of_the_classifiers():
    versions = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert PROJECT["requires-python"] == f">={versions[0]}"


# What names the project elsewhere


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == hf_sae_select.__version__ and citation["license"] == PROJECT["license"]
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    assert citation["url"] == PROJECT["urls"]["Documentation"]
    assert citation["keywords"] == PROJECT["keywords"]


@pytest.mark.parametrize("name", ["README.md", "SECURITY.md", "mkdocs.yml", "hf_sae_select/templates/subset_card.md"])
def test_a_link_to_the_repository_is_that_of_the_project(name):
    file = ROOT / name
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    links = re.findall(r"https://github\.com/[\w-]+/hf-sae-select(?![\w-])", text)
    assert set(links) <= {PROJECT["urls"]["Repository"]}


@pytest.mark.parametrize("name", ["huggingface.js.patch", "hub-docs.patch"])
def test_the_listing_names_what_the_package_has(name):
    text = (ROOT / "docs" / "listing" / name).read_text(encoding="utf-8")
    added = "\n".join(line[1:] for line in text.splitlines() if line.startswith("+"))
    assert set(re.findall(r"hf_sae_select\.(\w+)\(", added)) <= set(hf_sae_select.__all__)
    assert all(hasattr(Dataset, method) for method in re.findall(r"\w+\.(sae_\w+)\(", added))
    links = set(re.findall(r"https://(?:github\.com/hf-sae-select|hf-sae-select\.github\.io)/[\w/-]*", added))
    assert links and links <= set(PROJECT["urls"].values())


def test_cards_carry_the_tag_that_the_hub_lists():
    assert PROJECT["name"] in TAGS
    card = (ROOT / "hf_sae_select/templates/sae_card.md").read_text()
    assert f"\nlibrary_name: {PROJECT['name']}\n" in card and f"\n- {PROJECT['name']}\n" in card
    patch = (ROOT / "docs/listing/huggingface.js.patch").read_text()
    assert patch.count(f'+\t"{PROJECT["name"]}": {{') == 2  # the tag is the key of both tables
