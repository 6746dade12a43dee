"""Write the pages of the site into a folder: `python docs/pages.py build/pages`.

The pages of docs/ are read on GitHub too, where a link may lead to any file of the repository. A site has its own
pages alone. So some files of the repository become pages, each from its one source, and a link to any other file leads
to a page that shows it.
"""

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # files outside docs/ that are pages
    "benchmarks/README.md": "benchmarks.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "hf_sae_select/sae/default/README.md": "default-sae.md",
    "hub_cards/sae_diversity/README.md": "sae-diversity.md",
    "hub_cards/space/README.md": "space.md",
}
ASSETS = {".css", ".png", ".svg"}
LANGUAGES = {".json": "json", ".py": "python", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}

UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n\n"

LINK = re.compile(r"\]\((?P<path>(?!https?:)[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")
METADATA = re.compile(r"\A---\n.*?^---\n", re.DOTALL | re.MULTILINE)  # of the Hub, in cards
NETWORK = re.compile(r"^<!-- needs a network -->\n+```python$", re.MULTILINE)
OUTPUT = re.compile(r"^```\n\n```$", re.MULTILINE)  # a plain block right below another block
BADGE = re.compile(r"\[!\[(?P<text>[^\]]*)\]\(https?:[^)]*\)\]")  # a picture from elsewhere


def place(file: Path) -> Path:
    """Return the place of a file of the repository among the pages."""
    name = file.relative_to(ROOT).as_posix()
    if name in PAGES:
        return Path(PAGES[name])
    if file.is_relative_to(ROOT / "docs"):
        return file.relative_to(ROOT / "docs")
    if file.suffix == ".ipynb":
        return Path("notebooks", f"{file.stem}.md")
    return Path("files", f"{name}.md")


def notebook_text(notebook: dict[str, Any]) -> str:
    """Return the cells of a notebook, and what they print, as Markdown."""
    parts = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"````python\n{source}\n````")
        outputs = [output.get("text") or output["data"]["text/plain"] for output in cell.get("outputs", [])]
        if printed := "\n".join("".join(output).rstrip("\n") for output in outputs):
            parts.append(f'````text title="Output"\n{printed}\n````')
    return "\n\n".join(parts) + "\n"


def page_text(file: Path) -> tuple[str, set[Path]]:
    """Return the text of the page of a file, and the files that it links to."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        text = notebook_text(json.loads(text))
    elif file.suffix != ".md":
        language = LANGUAGES.get(file.suffix, "text")
        return f"{UNSEARCHED}# {file.name}\n\nA file of the repository.\n\n````{language}\n{text}````\n", set()
    targets = set()

    def moved(link: re.Match[str]) -> str:
        target = (file.parent / link["path"]).resolve()
        if not target.is_file():  # code or output that looks like a link
            return link[0]
        targets.add(target)
        path = os.path.relpath(place(target), place(file).parent)
        return f"]({Path(path).as_posix()}{link['anchor'] or ''})"

    text = LINK.sub(moved, BADGE.sub(r"[\g<text>]", METADATA.sub("", text)))
    text = NETWORK.sub('```python title="needs a network"', text)
    return OUTPUT.sub('```\n\n```text title="Output"', text), targets


def write_pages(folder: Path) -> None:
    """Write all pages, and what they show, into a folder that is made anew."""
    shutil.rmtree(folder, ignore_errors=True)
    docs = ROOT / "docs"
    files = [*docs.rglob("*.md"), *(file for file in docs.iterdir() if file.suffix in ASSETS)]
    files += [*(ROOT / name for name in PAGES), *(ROOT / "examples/notebooks").glob("*.ipynb")]
    written = set()
    while files:
        file = files.pop()
        if file in written:
            continue
        written.add(file)
        path = folder / place(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix in ASSETS:
            shutil.copyfile(file, path)
        else:
            text, targets = page_text(file)
            path.write_text(text, encoding="utf-8")
            files += targets


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
