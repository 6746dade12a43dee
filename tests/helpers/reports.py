"""Reports of small pools, and a browser that shows them as a reader sees them."""

import shutil
from contextlib import contextmanager

import pytest
from datasets import Dataset

from helpers.pools import RECORD, coded
from hf_sae_select.sae.labels import Label, Labels

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
D_SAE = RECORD["d_sae"]
TEXT_RECORD = RECORD | {
    "text": {"columns": ["text"], "chat": False},
    "model": "tiny",
    "dtype": ["auto", "float32"],
    "max_length": None,
}

HOSTILE = [
    "</script><script>window.pwned = 1</script>",
    "</ScRiPt ><img src=x onerror=window.pwned=1>",
    "<img src=x onerror='window.pwned=1'>",
    "<svg/onload=window.pwned=1>",
    "<!--<script>window.pwned = 1</script>-->",
    '"};window.pwned=1;//',
    "'-(window.pwned=1)-'",
    "\\u003cscript\\u003ewindow.pwned=1\\u003c/script\\u003e",
    "{{ 7 * 7 }} {% for x in y %} {# gone #}",
    "${window.pwned=1} `${window.pwned=1}`",
    "javascript:window.pwned=1",
    "<a href='javascript:window.pwned=1'>link</a>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'></iframe>",
    "<iframe src='http://example.invalid/'></iframe>",
    "<link rel=stylesheet href=//example.invalid/x.css><style>* { display: none }</style>",
    "<base href=//example.invalid/><meta http-equiv=refresh content='0;url=http://example.invalid'>",
    "line\u2028separator and\u2029paragraph",
    "nul\x00 bell\x07 escape\x1b[31m",
    "\u202egnirts desrever\u202c \u2066isolated",
    "&lt;b&gt; &amp;lt; &#60;script&#62;",
    "]]> --> */ <?xml version='1.0'?>",
    "\U0001f642 astral \U0001d4b3 letters <b>after</b> them",
    "__proto__ constructor toString",
    "a_very_long_word" * 300,
]


def pool_of(texts, *, columns=None):
    """Make an encoded dataset of texts: each has feature 0, and two others by its number."""
    rows = [{0: 1.0, 1 + i % (D_SAE - 1): 2.0, 1 + (3 * i + 1) % (D_SAE - 1): 1.5} for i in range(len(texts))]
    dataset = coded(rows, record=TEXT_RECORD).remove_columns("text").add_column("text", list(texts))
    for name, values in (columns or {}).items():
        dataset = dataset.add_column(name, values)
    return dataset


def labels_of(names):
    """Make labels whose words are those of their names; the others have no name."""
    labels = [Label(i, name, tuple(name.split()), 0.9 - i / 100) for i, name in enumerate(names) if name]
    return Labels(labels, D_SAE, RECORD["sae_sha256"])


@contextmanager
def browser():
    """Yield a Chromium without a network, where the machine has one."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on the PATH")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextmanager
def opened(chromium, file, **options):
    """Yield a report in a new page; afterwards nothing may have run, been refused, been asked for or complained."""
    context = chromium.new_context(offline=True, **options)
    page = context.new_page()
    noises, requests = [], []
    page.on("console", lambda message: noises.append(message.text))
    page.on("pageerror", lambda error: noises.append(str(error)))
    page.on("dialog", lambda dialog: noises.append(dialog.message) or dialog.dismiss())
    page.on("request", lambda request: requests.append(request.url))
    page.add_init_script("document.addEventListener('securitypolicyviolation', e => console.log(e.violatedDirective))")
    page.goto(file.as_uri())
    page.wait_for_selector("html.drawn, html.ready.plain", state="attached")
    yield page
    assert noises == []
    assert requests == [file.as_uri()]
    assert page.evaluate("window.pwned") is None
    assert len(context.pages) == 1 and page.url.partition("#")[0] == file.as_uri()
    context.close()


def made_subset(texts, budget, **options):
    """Select rows of a pool of texts."""
    subset: Dataset = pool_of(texts).sae_select(budget, **options)
    return subset
