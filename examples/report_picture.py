"""Make the picture of a report in README.md: the quickstart's rows, the report of a selection, and a browser.

    python examples/report_picture.py docs/report.png

It needs the extras `report` and `dev` (playwright), and a Chromium on the PATH.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from quickstart import docstrings

import hf_sae_select  # noqa: F401  # its methods on Dataset

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTH, HEIGHT = 760, 780  # of each half of the picture
BOTH = """<style>body { margin: 0; display: flex } img + img { border-left: 1px solid #e2ded6 }</style>
<img src="data:image/png;base64,%s"><img src="data:image/png;base64,%s">"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="the file to write: .png or .jpg")
    parser.add_argument("--rows", type=int, default=4000, help="docstrings to select from, at most (4000)")
    parser.add_argument("--budget", type=int, default=300, help="rows to select (300)")
    args = parser.parse_args()
    subset = docstrings(args.rows).sae_encode().sae_select(args.budget)
    with tempfile.TemporaryDirectory() as folder:
        report = subset.sae_report(Path(folder) / "report.html")
        take_picture(report, args.picture)


def take_picture(report: Path, picture: Path) -> None:
    """Take a picture of the top of a report, and beside it of its first picks."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        raise SystemExit(f"none of these is on the PATH: {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(report.resolve().as_uri())
        page.wait_for_selector("html.drawn", state="attached")
        halves = [page.screenshot()]
        page.evaluate("document.getElementById('picks').scrollIntoView({ behavior: 'instant' })")
        page.wait_for_timeout(500)  # until it stands still
        halves.append(page.screenshot())
        both = browser.new_page(viewport={"width": 2 * WIDTH + 1, "height": HEIGHT})
        both.set_content(BOTH % tuple(base64.b64encode(half).decode() for half in halves))
        both.screenshot(path=picture)
        browser.close()


if __name__ == "__main__":
    main()
