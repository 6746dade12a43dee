"""Links to other sites: which there are, and that one that fails is named. What they lead to, the tests cannot see."""

import re
import sys
from pathlib import Path

import pytest
from hub import serve

ROOT = Path(__file__).parent.parent
FORM = re.compile(r"https://([\w-]+\.)+[a-z]+/[\w./-]*")


@pytest.fixture
def links(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import external_links

    return external_links


def test_the_addresses_of_documents_and_of_the_package_are_asked_for(links, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "page.md").write_text("[one](https://a.org/x#part) <http://b.org> [near](other.md)\n")
    (tmp_path / "README.md").write_text("```\n[code](https://no.org)\n```\n[two](https://a.org/x)\n")
    (tmp_path / "pyproject.toml").write_text('[project]\nurls = {Homepage = "https://c.org"}\n')
    assert links.addresses(tmp_path) == ["http://b.org", "https://a.org/x", "https://c.org"]
    own = links.addresses(ROOT)
    assert "https://arxiv.org/abs/2502.14050" in own and [link for link in own if not FORM.fullmatch(link)] == []


def test_an_address_that_fails_is_named(links):
    with serve() as hub:
        hub.push("alice/model", {"config.json": b"{}"})
        good, bad = f"{hub.url}/api/models/alice/model", f"{hub.url}/api/models/alice/none"
        problems = links.broken([good, bad])
    assert problems == [f"{bad}: HTTP 401"] or problems == [f"{bad}: HTTP 404"]
    assert "refused" in links.broken([good])[0]  # the server is gone
