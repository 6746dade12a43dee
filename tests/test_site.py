"""The site: it builds in strict mode, has every page and public name, and a browser shows it without a network."""

import itertools
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import griffe
import pytest
from datasets import Dataset
from helpers.reports import browser

import hf_sae_select

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
API = {page.stem: page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.md") if page.stem != "index"}
NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").split("\nnav:\n")[1].split("\nnot_in_nav")[0]


def names_on(page):
    """Return the names that a page of the API reference documents."""
    return re.findall(r"^::: hf_sae_select\.(\S+)$", API[page], re.MULTILINE)


# What it has


def test_every_public_name_is_in_the_api_reference_once():
    names = [name for page in API if page != "dataset" for name in names_on(page)]
    assert sorted(names) == sorted(hf_sae_select.__all__)


def test_every_method_of_dataset_is_in_the_api_reference():
    methods = {name for name in vars(Dataset) if name.startswith("sae_")}
    assert {name.removeprefix("plugin.") for name in names_on("dataset")} >= methods


def test_the_index_of_the_api_has_the_first_line_of_each_docstring():
    package = griffe.load("hf_sae_select")
    lines = [
        f"| [`{name}`]({page}.md#hf_sae_select.{name}) | {package[name].docstring.value.splitlines()[0]} |"
        for page in API
        if page != "dataset"
        for name in names_on(page)
    ]
    index = (DOCS / "api/index.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line not in index] == []


def test_every_page_is_in_the_navigation():
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert pages - set(re.findall(r"[\w/-]+\.md", NAVIGATION)) == set()


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_a_page_says_first_whom_it_is_for(page):
    _, first, _ = page.read_text(encoding="utf-8").split("\n\n", 2)
    assert re.match(r"For (new )?(users|readers|people)\b", first)


# What it looks like


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built from the sources in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "hf_sae_select"):  # what mkdocs.yml names
        (folder / name).symlink_to(ROOT / name)
    shutil.copyfile(ROOT / "mkdocs.yml", folder / "mkdocs.yml")
    for command in (["docs/pages.py", "build/pages"], ["-m", "zensical", "build", "--strict"]):
        done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build/site"


class Quiet(SimpleHTTPRequestHandler):
    """Answers, and prints nothing."""

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(site):
    """The address at which the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


ELSEWHERE = re.compile(
    r"<(?:script|img|iframe|source|link(?! rel=\"?canonical))\b[^>]*? (?:src|href)=\"?((?:https?:)?//[^\" >]*)"
)
SHOWN = {"index": "Select training data", "constraints": "Constraints and budgets", "api/selection": "Selecting rows"}


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site):
    pages = {page.relative_to(site).as_posix(): ELSEWHERE.findall(page.read_text()) for page in site.rglob("*.html")}
    assert len(pages) > 30 and {page: loaded for page, loaded in pages.items() if loaded} == {}


@pytest.mark.slow
def test_links_of_built_pages_lead_to_pages_and_anchors(site):
    """The builder checks the links of Markdown; these are also those of docstrings and of the theme."""
    pages = {page: page.read_text() for page in site.rglob("*.html") if page.name != "404.html"}
    anchors = {page: set(re.findall(r"\b(?:id|name)=\"?([^\" >]+)", text)) for page, text in pages.items()}
    dead = []
    for page, text in pages.items():
        for path, anchor in re.findall(r"<a\b[^>]*? href=\"?(?!\w+:)([^\"# >]*)(?:#([^\" >]*))?", text):
            target = (page.parent / unquote(path)).resolve() if path else page
            if not target.exists() or (anchor and target in anchors and unquote(anchor) not in anchors[target]):
                dead.append((page.name, path, anchor))
    assert dead == []


@pytest.mark.slow
def test_a_browser_shows_pages_without_errors_and_requests_to_elsewhere(address):
    requests, errors = [], []
    with browser() as chromium:
        for scheme, width in itertools.product(("light", "dark"), (1280, 390)):
            context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
            context.on("request", lambda request: requests.append(request.url))
            context.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            context.on("weberror", lambda error: errors.append(str(error.error)))
            page = context.new_page()
            for name, title in SHOWN.items():
                page.goto(f"{address}/{name}.html", wait_until="networkidle")
                assert page.locator("h1").inner_text().startswith(title)
                assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert page.locator("[id='hf_sae_select.select']").count() == 1
            page.keyboard.press("Control+k")
            page.keyboard.type("quota")
            page.get_by_text(re.compile(r"^\d+ results$")).wait_for()
            context.close()
    assert errors == [] and len(requests) > len(SHOWN)
    assert [url for url in requests if not url.startswith((address, "data:", "blob:"))] == []
