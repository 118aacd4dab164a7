"""The page of `lbr report` in headless Chromium. Skipped if Chromium is not installed."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.paths import ROOT
from support.program import Program
from support.texts import EVIL

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not here")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SAMPLES = ROOT / "samples"
ARABIC = "ما هي عاصمة البرتغال"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium not found on PATH"),
    pytest.mark.xdist_group("browser"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        # without a sandbox: the tests may run as root, and the page is our own
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """A page that was opened, and its errors and requests."""

    def __init__(self, browser: Any, file: Path, *, width: int = 1440, scheme: str = "light") -> None:
        self.complaints: list[str] = []
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page.on("console", lambda message: self.complaints.append(f"console: {message.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.page.on("request", self._asked)
        self.page.goto(file.as_uri())

    def _asked(self, request: Any) -> None:
        if request.resource_type != "document":
            self.complaints.append(f"request: {request.url}")

    def rows(self) -> list[str]:
        """Return the ids of the queries in the order of the table."""
        ids: list[str] = self.page.locator("#queries tbody tr:not([hidden]) a").all_inner_texts()
        return ids

    def changes(self) -> list[float]:
        """Return the gains of the queries in the order of the table, with a minus sign for losses."""
        texts = self.page.locator("#queries td:nth-child(4)").all_inner_texts()
        return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]

    def column(self, name: str) -> None:
        self.page.locator(f'#queries thead th[data-key="{name}"] button').click()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for pages that all tests share."""
    return tmp_path_factory.mktemp("pages")


@pytest.fixture
def samples(pages: Path, lbr: Program) -> Path:
    """Write the page of the samples: BM25, overlap, and an interpolation of the two."""
    made = pages / "samples.html"
    if not made.exists():
        run, corpus = str(SAMPLES / "run.trec"), str(SAMPLES / "docs.jsonl")
        command = ["rerank", run, "-c", corpus, "--engine", "overlap"]
        assert lbr(*command, "-o", str(pages / "words.trec")).code == 0
        assert lbr(*command, "--interpolate", "0.5", "-o", str(pages / "both.trec")).code == 0
        others = [str(pages / "words.trec"), str(pages / "both.trec")]
        ended = lbr("report", run, *others, "--qrels", str(SAMPLES / "qrels.txt"), "-c", corpus, "-o", str(made))
        assert ended.code == 0, ended.err
    return made


@pytest.fixture
def strange(pages: Path, lbr: Program) -> Path:
    """Write a page without judgments, whose texts contain markup and special characters."""
    made = pages / "strange.html"
    if not made.exists():
        texts = [f"😀{EVIL}", f"{ARABIC} لشبونة عاصمة البرتغال", "x" * 3000, "七時に起きる"]
        digits = {"digits": [0.0, 0.1, 0.0, 0.2, 0.3, 0.3, 0.1], "mass": 1.0}
        passage = {"passage": {"start": 3, "text": EVIL[2:22], "number": 1, "of": 2}}
        for name, order in (("before", 1), ("after", -1)):
            lines = [
                {
                    "query_id": EVIL,
                    "query": f"{ARABIC} alert quotes",
                    "doc_id": f"{EVIL}{number}",
                    "score": order * number,
                }
                | {"text": text, "title": f"T{number} {EVIL}"}
                | (digits | passage if number == 0 and name == "after" else {})
                for number, text in enumerate(texts)
            ]
            (pages / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
        ended = lbr("report", str(pages / "before.jsonl"), str(pages / "after.jsonl"), "-o", str(made))
        assert ended.code == 0, ended.err
    return made


@pytest.fixture
def matching(pages: Path, lbr: Program) -> Path:
    """Return a page with matched tokens of a query, in one run of two."""
    made = pages / "matching.html"
    if not made.exists():
        title, text = "Figs", f"😀 Ripe figs\n{EVIL} late figs"
        contents = f"{title} {text}"
        spans = [("[CLS]", "[CLS]", 0.3), ("when", " late", 0.5), ("ripe", "Ripe", 0.9), ("figs", "Figs", 0.7)]
        spans += [("figs", " figs", 0.8), ("[MASK]", " figs", 0.75), ("[MASK]", " figs", 0.6), ("<b>", EVIL, 0.4)]
        matches: list[dict[str, Any]] = [
            {"query_token": query_token, "document_token": token, "similarity": similarity}
            | ({} if token == "[CLS]" else {"start": (at := contents.index(token)), "end": at + len(token)})
            for query_token, token, similarity in spans
        ]
        pair = {"query_id": "1", "query": "when ripe figs", "doc_id": "d1", "title": title, "text": text, "score": 2}
        other = pair | {"doc_id": "d2", "title": "", "text": "other figs", "score": 1}
        (pages / "plain.jsonl").write_text(f"{json.dumps(pair)}\n{json.dumps(other)}\n", encoding="utf-8")
        lines = [one | {"matches": matches} for one in (pair, other)]
        (pages / "matches.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in lines), encoding="utf-8")
        ended = lbr("report", str(pages / "plain.jsonl"), str(pages / "matches.jsonl"), "-o", str(made))
        assert ended.code == 0, ended.err
    return made


def test_the_page_opens_without_errors_or_requests(browser: Any, samples: Path, strange: Path, matching: Path) -> None:
    for file in (samples, strange, matching):
        visit = Visit(browser, file)
        visit.page.locator("#queries tbody a").first.click()
        visit.page.locator("#query h2").wait_for()
        assert visit.complaints == []


def test_the_table_is_sorted_by_any_column(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    by_gain = visit.rows()
    assert len(by_gain) == 12
    assert visit.page.locator('th[data-key="change"]').get_attribute("aria-sort") == "descending"
    changes = visit.changes()
    assert changes == sorted(changes, reverse=True)
    visit.column("change")
    assert visit.changes() == sorted(changes)
    assert visit.rows()[-1] == by_gain[0]
    assert visit.page.locator('th[data-key="change"]').get_attribute("aria-sort") == "ascending"
    visit.column("query")
    assert visit.rows() == sorted(by_gain)
    assert visit.page.locator('th[data-key="change"]').get_attribute("aria-sort") is None


def test_the_table_is_searched_by_id_and_words(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    visit.page.locator("#search").fill("kettle CRUST")
    assert visit.rows() == ["kettle-scale"]
    assert visit.page.locator("#count").inner_text() == "1 of 12"
    visit.page.locator("#search").fill("")
    assert len(visit.rows()) == 12


def test_the_query_with_the_largest_gain_is_one_click_away(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    first = visit.rows()[0]
    visit.page.locator(".extremes a").first.click()
    assert visit.page.locator("#query-title").inner_text() == f"Query {first}"
    lists = visit.page.locator(".list")
    assert lists.count() == 2
    shown = lists.nth(1).locator("li").first
    assert shown.locator("mark").count() > 0
    more = shown.get_by_role("button", name="read on")
    if more.is_visible():
        more.click()
        assert shown.get_by_role("button", name="less").get_attribute("aria-expanded") == "true"
    box = shown.locator(".text").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1440


def test_lines_connect_the_ranks_of_a_document(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    visit.page.goto(samples.as_uri() + "#query=kettle-scale")
    visit.page.locator(".links path").first.wait_for(state="attached")
    joined = visit.page.evaluate(
        """[...document.querySelectorAll('.links path')].map((path) => {
            const [from, to] = [path.getPointAtLength(0), path.getPointAtLength(path.getTotalLength())];
            const top = path.ownerSVGElement.getBoundingClientRect().top;
            const items = document.querySelectorAll(`li[data-document="${path.dataset.document}"]`);
            const tops = [...items].map((item) => item.getBoundingClientRect().top - top);
            return [from.y - tops[0], to.y - tops[1], from.x];
        })"""
    )
    assert len(joined) == visit.page.locator(".list").nth(1).locator("li").count()
    assert all(abs(start - 16) < 1 and abs(end - 16) < 1 and x == 0 for start, end, x in joined)


def test_the_page_is_usable_by_keyboard(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    keyboard = visit.page.keyboard
    rows = visit.rows()
    visit.page.locator("#search").focus()
    for _ in range(40):
        keyboard.press("Tab")
        if visit.page.evaluate("document.activeElement.closest('#queries tbody') !== null"):
            break
    keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "query-title"
    assert visit.page.locator("#query-title").inner_text() == f"Query {rows[0]}"
    keyboard.press("ArrowRight")
    visit.page.get_by_role("heading", name=f"Query {rows[1]}").wait_for()
    keyboard.press("ArrowLeft")
    visit.page.get_by_role("heading", name=f"Query {rows[0]}").wait_for()
    keyboard.press("Escape")
    visit.page.locator("#all").wait_for()
    assert visit.page.evaluate("document.activeElement.textContent") == rows[0]
    visit.page.go_back()
    visit.page.get_by_role("heading", name=f"Query {rows[0]}").wait_for()


def test_runs_are_chosen_by_tab(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    tabs = visit.page.get_by_role("tab")
    assert tabs.count() == 2
    first = visit.page.locator("#measures td").all_inner_texts()
    tabs.first.focus()
    visit.page.keyboard.press("ArrowRight")
    assert tabs.nth(1).get_attribute("aria-selected") == "true"
    assert visit.page.evaluate("document.activeElement.textContent") == tabs.nth(1).inner_text()
    assert visit.page.locator("#measures td").all_inner_texts() != first


def test_another_measure_changes_the_table(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    before = visit.page.locator("#queries td").all_inner_texts()
    visit.page.locator("#measure").select_option(label="AP")
    assert visit.page.locator("#queries td").all_inner_texts() != before


def test_markup_in_texts_is_shown_as_text(browser: Any, strange: Path) -> None:
    visit = Visit(browser, strange)
    assert "There are no judgments" in visit.page.locator("#measures").inner_text()
    visit.page.locator("#queries tbody a").click()
    texts = visit.page.locator(".list:last-child .text").evaluate_all("texts => texts.map((text) => text.textContent)")
    assert f"😀{EVIL}" in [text.removesuffix(" …") for text in texts]
    assert visit.page.locator(".list:last-child .passage").first.evaluate("span => span.textContent") == EVIL[2:22]
    marks = visit.page.locator(".list:last-child mark").all_inner_texts()
    assert [mark.lower() for mark in marks[:2]] == ["alert", "quotes"]
    bars = visit.page.get_by_role("img", name="probabilities of the digits, 1: 0.0 %, 2: 10.0 %")
    assert bars.locator("i").count() == 7
    arabic = visit.page.locator(".list:last-child .text", has_text="لشبونة")
    assert arabic.evaluate("text => getComputedStyle(text).direction") == "rtl"
    assert visit.complaints == []


@pytest.mark.parametrize("seed", range(5))
def test_marks_and_passages_do_not_change_texts(browser: Any, samples: Path, seed: int) -> None:
    source = random.Random(seed)
    visit = Visit(browser, samples)
    for _ in range(40):
        text = "".join(source.choices("ab c'.é😀東京に 行く\n", k=source.randint(0, 30)))
        words = "".join(source.choices("ab c'東京", k=6))
        ends = sorted(source.choices(range(len(text) + 1), k=2))
        shown, inside = visit.page.evaluate(
            """([text, words, ends]) => {
                const wanted = new Set([...wordsOf(words)].map((word) => word[2]));
                const whole = make("p", {}, marked(text, wordSpans(text, wanted), ends));
                return [whole.textContent, whole.querySelector(".passage")?.textContent ?? ""];
            }""",
            [text, words, ends],
        )
        assert shown == text
        assert inside == text[ends[0] : ends[1]]
    assert visit.complaints == []


def test_matched_tokens_are_marked_in_the_run_that_has_them(browser: Any, matching: Path) -> None:
    visit = Visit(browser, matching)
    visit.page.goto(matching.as_uri() + "#query=1")
    first, second = (visit.page.locator(f".list:{position}-child li[data-document]") for position in ("first", "last"))
    assert first.locator("mark").first.get_attribute("class") is None  # the words of the query
    assert first.locator("mark.match, .matches").count() == 0
    marks = second.first.locator("mark").evaluate_all("all => all.map((one) => [one.textContent, one.title])")
    assert marks == [
        ["Figs", "figs 0.70"],
        ["Ripe", "ripe 0.90"],
        ["figs", "figs 0.80, [MASK] 0.75 (2 times)"],
        [EVIL.strip(), "<b> 0.40"],
        ["late", "when 0.50"],
    ]
    classes = second.first.locator("mark").evaluate_all("all => all.map((one) => one.className)")
    assert classes == [f"match strength-{level}" for level in (3, 4, 4, 1, 1)]
    assert second.nth(1).locator("mark.match, .matches").count() == 0
    assert "the text differs from the one that was scored" in second.nth(1).inner_text()
    assert "Marked in matches.jsonl" in visit.page.locator("#query").inner_text()
    assert visit.complaints == []


def test_matched_tokens_are_listed_by_the_keyboard(browser: Any, matching: Path) -> None:
    visit = Visit(browser, matching)
    visit.page.goto(matching.as_uri() + "#query=1")
    listed = visit.page.locator(".matches li")
    assert not listed.first.is_visible()
    visit.page.locator(".matches summary").focus()
    visit.page.keyboard.press("Enter")
    listed.first.wait_for()
    texts = listed.all_inner_texts()
    assert texts[0] == "Figs ← figs 0.70"
    assert texts[-1] == "[CLS] ← [CLS] 0.30"
    assert len(texts) == 6


def test_marks_beyond_a_truncated_text_are_counted(browser: Any, matching: Path) -> None:
    visit = Visit(browser, matching)
    listed = visit.page.evaluate(
        """() => {
            const rows = { text: [[0, 2, 0, 0.5], [3, 4, 0, 0.25], [9, 1, 0, 0.75]] };
            const matches = new MatchedTokens({ tokens: ["a"], rows: [rows] });
            const list = matches.list(rows, "", "ab cd", true, () => {});
            return [...list.querySelectorAll("li")].map((one) => one.textContent);
        }"""
    )
    assert listed == ["ab ← a 0.50", "cd ← a 0.25", "1 more after the end of the text on this page"]


def test_rank_changes_are_shown_on_a_narrow_screen(browser: Any, strange: Path) -> None:
    visit = Visit(browser, strange, width=390)
    assert visit.page.locator("#queries td").last.is_visible()


def test_open_texts_stay_open_in_another_run(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    visit.page.goto(samples.as_uri() + "#query=kettle-scale")
    visit.page.locator(".list:first-child .more:visible").first.click()
    visit.page.get_by_role("tab").nth(1).click()
    assert visit.page.locator(".list:first-child li.open").count() == 1
    visit.page.get_by_role("button", name="next").click()
    assert visit.page.locator("li.open").count() == 0


def test_a_search_without_results_does_not_block_queries(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    visit.page.locator("#search").fill("no such words")
    visit.page.locator(".extremes a").first.click()
    before = visit.page.locator("#query-title").inner_text()
    visit.page.get_by_role("button", name="next").click()
    assert visit.page.locator("#query-title").inner_text() != before


@pytest.mark.parametrize("width", [1440, 700, 390, 320])
def test_nothing_is_wider_than_the_screen(
    browser: Any, samples: Path, strange: Path, matching: Path, width: int
) -> None:
    for file in (samples, strange, matching):
        visit = Visit(browser, file, width=width)
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert visit.page.evaluate(wide) <= 0
        visit.page.locator("#queries tbody a").first.click()
        visit.page.locator("#query h2").wait_for()
        assert visit.page.evaluate(wide) <= 0


def test_contrast_is_sufficient_in_dark_and_light(browser: Any, samples: Path, matching: Path) -> None:
    for scheme, file in itertools.product(("light", "dark"), (samples, matching)):
        visit = Visit(browser, file, scheme=scheme)
        # WCAG 2.2, 1.4.3: the luminances of text and background differ by a factor of 4.5
        assert visit.page.evaluate(CONTRAST) == []
        visit.page.locator("#queries tbody a").first.click()
        visit.page.locator("#query h2").wait_for()
        assert visit.page.evaluate(CONTRAST) == []


CONTRAST = """() => {
  const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  const parsed = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const colour = parsed(getComputedStyle(one).backgroundColor);
      if (colour[3] !== 0) return colour;
    }
    return [255, 255, 255];
  };
  const poor = new Set();
  for (const element of document.querySelectorAll('body *')) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    if (!hasText || !element.checkVisibility()) continue;
    const pair = [parsed(getComputedStyle(element).color), ground(element)].map(light).sort((a, b) => b - a);
    if ((pair[0] + 0.05) / (pair[1] + 0.05) < 4.5) poor.add(`${element.tagName}.${element.className}`);
  }
  return [...poor];
}"""


def test_every_control_has_a_name(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    nameless = """[...document.querySelectorAll('button, input, select, a, [role=img], [role=region]')]
        .filter((one) => !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length))
        .map((one) => one.outerHTML)"""
    assert visit.page.evaluate(nameless) == []
    visit.page.locator("#queries tbody a").first.click()
    assert visit.page.evaluate(nameless) == []


def test_the_page_can_be_printed(browser: Any, samples: Path) -> None:
    visit = Visit(browser, samples)
    visit.page.emulate_media(media="print")
    assert not visit.page.locator("#search").is_visible()
    assert visit.page.locator("#measures table").is_visible()
    assert len(visit.page.pdf()) > 10_000
