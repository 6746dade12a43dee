"""The report as a reader sees it, in a headless Chromium: nothing runs, nothing leaves, and everything works."""

import re
from itertools import pairwise

import pytest
from datasets import Dataset
from helpers.reports import HOSTILE, browser, labels_of, opened, pool_of
from playwright.sync_api import expect

import hf_sae_select

pytestmark = pytest.mark.slow

# The number of controls without a name.
UNNAMED = """[...document.querySelectorAll('button, input, a')]
  .filter((element) => !(element.textContent.trim() || element.labels?.length)).length"""

TEXTS = [f"Row number {i} is about {'cats' if i % 2 else 'dogs and a list'}." for i in range(130)]


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A report of 120 picks of 130 rows; features 0 to 5 have names."""
    subset = pool_of(TEXTS).sae_select(120)
    labels = labels_of(["row", "cats", "dogs", "list", "about", "number"])
    return subset.sae_report(tmp_path_factory.mktemp("plain") / "report.html", labels=labels, spans=0)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A report in which everything that may come from outside is hostile."""

    def method(features, budget, rng, *, constraints):
        from hf_sae_select.selection.methods import greedy

        return greedy(features, budget, rng, constraints=constraints)

    method.__name__ = HOSTILE[0]
    column = "<img src=x onerror=window.pwned=1>"
    pool = pool_of(HOSTILE, columns={column: [HOSTILE[i % 4] for i in range(len(HOSTILE))]})
    subset = pool.sae_select(len(HOSTILE), method, quota=column)
    names = [" ".join(text.split())[:150] for text in HOSTILE[:12]]
    file = tmp_path_factory.mktemp("hostile") / "report.html"
    return subset.sae_report(file, labels=labels_of(names), spans=0, title=f"\ud800 {HOSTILE[1]}")


def test_nothing_in_rows_labels_or_names_runs_or_loads(chromium, hostile):
    with opened(chromium, hostile) as page:
        assert page.locator("#pick-list article").count() == len(HOSTILE)
        assert page.locator("main img, main iframe, main svg[onload], base, link").count() == 0
        texts = page.locator("#pick-list .text").all_text_contents()
        assert any(HOSTILE[0] in text for text in texts)
        assert any(HOSTILE[8] in text for text in texts)
        for details in page.locator("main details").all():
            details.evaluate("element => { element.open = true }")
        for chip in page.locator("article:first-of-type .chip").all()[:2]:
            chip.hover()
        page.locator("#feature-rows button").first.click()
        page.get_by_role("button", name="Show all picks").click()
        page.fill("#pick-search", HOSTILE[12])
        expect(page.locator("#pick-count")).to_have_text("1 pick")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_features_are_sorted_by_clicks_and_by_keys(chromium, plain):
    def lifts(page):
        cells = page.locator("#feature-rows tr td:nth-child(4)").all_inner_texts()
        return [float(cell.split()[1]) for cell in cells]

    with opened(chromium, plain) as page:
        header = page.locator("#feature-table th", has_text="Lift")
        assert header.get_attribute("aria-sort") == "none"
        header.locator("button").click()
        assert header.get_attribute("aria-sort") == "descending" and lifts(page) == sorted(lifts(page), reverse=True)
        page.keyboard.press("Enter")
        assert header.get_attribute("aria-sort") == "ascending" and lifts(page) == sorted(lifts(page))
        by_name = page.locator("#feature-table th", has_text="Feature")
        by_name.locator("button").focus()
        page.keyboard.press("Space")
        assert by_name.get_attribute("aria-sort") == "ascending" and header.get_attribute("aria-sort") == "none"
        assert page.locator("#feature-rows th").first.inner_text() == "#4 about"
        assert page.locator("#feature-rows th").last.inner_text() == "#15"  # without a name: last


def test_the_features_are_searched_and_divided_into_parts(chromium, plain):
    with opened(chromium, plain) as page:
        page.fill("#feature-search", "DOG")
        expect(page.locator("#feature-count")).to_have_text("1 feature")
        assert page.locator("#feature-rows th").all_inner_texts() == ["#2 dogs"]
        page.fill("#feature-search", "")
        page.get_by_label(re.compile("Missing")).check()
        expect(page.locator("#feature-count")).to_have_text("0 features")


def test_picks_are_paged_searched_and_filtered(chromium, plain):
    with opened(chromium, plain) as page:
        picks = page.locator("#pick-list article")
        assert picks.count() == 50 and page.locator("#pick-count").inner_text() == "120 picks"
        page.locator("#pick-pages").get_by_text("Next").click()
        assert page.locator("#pick-list h3").first.inner_text().split() == ["50", "Row", page_row(page, 0)]
        assert page.evaluate("document.activeElement.id") == "picks-heading"
        page.fill("#pick-search", "NUMBER 7")
        expect(page.locator("#pick-count")).not_to_have_text("120 picks")
        assert all("number 7" in text for text in page.locator("#pick-list .text").all_inner_texts())
        page.locator("#pick-list .chip", has_text="#1 cats").first.click()
        count = page.locator("#pick-count").inner_text()
        assert count.endswith("picks with #1 cats") and int(count.split()[0]) < 50
        assert page.locator("#pick-search").input_value() == ""
        page.get_by_role("button", name="Show all picks").click()
        assert page.locator("#pick-count").inner_text() == "120 picks"
        page.fill("#pick-number", "77")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "pick-77"


def page_row(page, index):
    return page.locator("#pick-list h3 .where").nth(index).inner_text().split()[1]


def test_a_reader_without_a_mouse_reaches_everything(chromium, plain):
    with opened(chromium, plain) as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("location.hash") == "#main"
        assert (
            page.evaluate(
                'document.querySelectorAll(\'[onclick], [tabindex]:not([tabindex="0"], [tabindex="-1"])\').length'
            )
            == 0
        )
        assert page.evaluate(UNNAMED) == 0
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("main, nav[aria-label], header.head").count() >= 3
        for chart in page.locator(".chart").all():
            assert len(chart.get_attribute("aria-label")) > 20
            assert chart.locator("svg").count() == 1
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(h => +h.tagName[1])")
        assert levels[0] == 1 and all(b - a <= 1 for a, b in pairwise(levels))


# The least contrast of texts, over all elements that have one: 4.5 is AA.
CONTRAST = """() => {
  const rgb = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (rgb(colour)[3] !== 0) return colour;
    }
  };
  let least = 21;
  for (const element of document.querySelectorAll("body *:not(script, style, svg *, button:disabled)")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !element.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(element).color), light(behind(element))].sort((x, y) => y - x);
    least = Math.min(least, (a + 0.05) / (b + 0.05));
  }
  return least;
}"""


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_texts_stand_out_in_both_modes(chromium, plain, scheme):
    with opened(chromium, plain, color_scheme=scheme) as page:
        assert page.evaluate(CONTRAST) >= 4.5
        red = page.evaluate("Number(getComputedStyle(document.body).backgroundColor.match(/\\d+/)[0])")
        assert (red < 50) == (scheme == "dark")


@pytest.mark.parametrize("kind", ["hostile", "plain"])
def test_a_phone_shows_the_page_without_scrolling_sideways(chromium, kind, request):
    file = request.getfixturevalue(kind)
    with opened(chromium, file, viewport={"width": 360, "height": 740}) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_tokens_that_fired_and_words_of_names_look_different(chromium, plain, sae, tmp_path):
    with opened(chromium, plain) as page:
        assert {"cats", "Row", "about"} <= set(page.locator("mark.word").all_inner_texts())
        assert page.locator("#picks mark.fires").count() == 0
        assert page.locator(".legend li").count() == 1
    texts = ["the cat sat on the mat", "a dog", "the big red bird flew over the moon"]
    subset = Dataset.from_dict({"text": texts}).sae_encode(sae).sae_select(2)
    file = subset.sae_report(tmp_path / "report.html", sae=sae)
    with opened(chromium, file) as page:
        chip = page.locator("article").first.locator(".chip").first
        chip.hover()
        number = chip.locator(".name").inner_text().removeprefix("#")
        lit = page.locator("article mark.lit")
        assert lit.count() and all(f" {number} " in mark.get_attribute("data-features") for mark in lit.all())
        assert page.locator(".legend mark.fires").count() == 1 and page.locator("mark.word").count() == 0


def test_the_receipt_alone_gives_a_short_report(chromium, tmp_path):
    selection = pool_of(TEXTS).sae_select(7).sae_selection
    file = hf_sae_select.report(selection, tmp_path / "short.html")
    with opened(chromium, file) as page:
        assert page.locator("h1").inner_text() == "7 of 130 rows"
        assert "this report is short" in page.locator("main").inner_text()
        assert page.locator("#features, #charts").count() == 0
        expect(page.locator("#picks tbody tr")).to_have_count(7)


def test_a_row_is_searched_by_its_whole_number(chromium, plain):
    with opened(chromium, plain) as page:
        page.fill("#pick-search", "row 8")
        expect(page.locator("#pick-count")).to_have_text("1 pick")
        expect(page.locator("#pick-list h3 .where")).to_have_text("Row 8")


def test_the_sections_are_named_in_the_navigation_as_in_their_headings(chromium, plain):
    with opened(chromium, plain) as page:
        for link in page.locator("nav.sections a").all():
            assert link.text_content() == page.locator(f"{link.get_attribute('href')}-heading").text_content()


def test_a_filter_counts_the_picks_of_the_table(chromium, plain):
    with opened(chromium, plain) as page:
        share = float(page.locator("#feature-rows tr:nth-child(2) .value").nth(1).text_content().rstrip("%"))
        page.locator("#feature-rows tr:nth-child(2) button").click()
        count = int(page.locator("#pick-count").text_content().split()[0])
        assert round(100 * count / 120, 0 if share >= 10 else 1) == share
