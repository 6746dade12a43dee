"""Ask for every address that README, the documents and the package name, and print those that fail.

    python tools/external_links.py

It needs the network, so the tests of the documents, which run offline, check only the links between pages.
"""

import re
import sys
import tomllib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"(?:\]\(|<)(https?://[^)\s>]+)[)>]")
FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
BROWSER = {"User-Agent": "Mozilla/5.0 (checks the links of hf-sae-select)"}


def addresses(root: Path) -> list[str]:
    """Return the addresses of other sites, without the parts behind `#`."""
    documents = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("hub_cards/**/*.md")]
    texts = [FENCED.sub("", file.read_text(encoding="utf-8")) for file in documents]
    links = {link.partition("#")[0] for text in texts for link in LINK.findall(text)}
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return sorted(links | set(project["urls"].values()))


def problem_of(address: str) -> str | None:
    """Return why an address cannot be read, None where it can."""
    try:
        with urlopen(Request(address, headers=BROWSER), timeout=30):
            return None
    except HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except OSError as error:
        return str(error)


def broken(links: Sequence[str]) -> list[str]:
    """Return the addresses that cannot be read, with the reason."""
    with ThreadPoolExecutor(8) as threads:
        problems = zip(links, threads.map(problem_of, links), strict=True)
        return [f"{link}: {problem}" for link, problem in problems if problem]


if __name__ == "__main__":
    links = addresses(ROOT)
    problems = broken(links)
    print("\n".join([*problems, f"{len(links)} addresses, {len(problems)} fail"]))
    sys.exit(bool(problems))
