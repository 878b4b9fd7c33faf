"""The page in a browser: what a reader does with mouse and keyboard, and what an eye can read."""

import shutil

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
             "--disable-sync"]  # fmt: skip

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed on this machine")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield found
        found.close()


@pytest.fixture
def open_page(browser, page_path):
    """Open the page; any message of the console, error or failed request fails the test."""
    contexts, complaints = [], []

    def opened(width=1400, scheme="light", **settings):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, **settings)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("request", lambda one: None if one.url.startswith(("file:", "data:")) else complaints.append(one.url))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.goto(page_path.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def column(page, table, number):
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def test_a_click_on_a_heading_sorts_and_another_turns_it_round(open_page):
    page = open_page()
    heading = page.locator("#leaderboard thead th").nth(2)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    values = [float(text) for text in column(page, "leaderboard", 3) if text]
    assert len(values) > 5 and values == sorted(values)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert [float(text) for text in column(page, "leaderboard", 3) if text] == values[::-1]
    page.locator("#leaderboard thead button").first.click()
    assert heading.get_attribute("aria-sort") == "none"
    names = [name.lower() for name in column(page, "leaderboard", 1)]
    assert names == sorted(names)


def test_keys_alone_reach_and_sort_a_table(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the verdict"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "verdict"
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('#use th') !== null"):
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("#use th[aria-sort=ascending]").count() == 1


def test_another_metric_shows_its_own_rows(open_page):
    page = open_page()
    first = column(page, "leaderboard", 3)
    page.locator("[data-for=leaderboard] select").first.select_option("pearson_delta")
    assert column(page, "leaderboard", 3) != first
    assert set(column(page, "leaderboard", 10)) == {""}  # a secondary metric has no verdict


def test_search_finds_words_in_any_order_and_counts(open_page):
    page = open_page()
    tools = page.locator("[data-for=predictions].tools")
    tools.locator("select").first.select_option("")
    count = tools.locator(".count")
    assert count.get_attribute("aria-live") == "polite"
    total = int(count.inner_text().split(" of ")[1].split()[0])
    tools.locator("input").fill("matchingmean <script>")
    shown = column(page, "predictions", 1)
    assert shown and all("<script>alert(1)</script>" in name for name in shown)
    assert set(column(page, "predictions", 2)) == {"MatchingMean"}
    assert count.inner_text() == f"{len(shown)} of {total} rows"
    tools.locator("input").fill("there is no such gene")
    assert count.inner_text() == f"0 of {total} rows" and column(page, "predictions", 1) == []


def test_pages_turn_and_every_row_is_on_one(open_page):
    page = open_page()
    tools, pager = page.locator("[data-for=predictions].tools"), page.locator("[data-for=predictions].pager")
    assert pager.is_hidden()  # the recommended predictors' rows fit on one page
    tools.locator("select").first.select_option("")
    total = int(tools.locator(".count").inner_text().split()[0])
    before, after = pager.get_by_role("button").all()
    assert before.is_disabled()
    n = len(column(page, "predictions", 1))
    while after.is_enabled():
        after.click()
        n += len(column(page, "predictions", 1))
    assert n == total > 50
    assert pager.locator(".where").inner_text() == f"Page {-(-total // 25)} of {-(-total // 25)}"
    tools.locator("input").fill("NoChange")
    assert pager.locator(".where").inner_text().startswith("Page 1 of")


def test_the_theme_follows_the_system_and_the_button(open_page):
    page = open_page(scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    button = page.locator("#theme")
    assert button.inner_text() == "Light colours"
    button.click()
    light = page.evaluate(paper)
    assert light != dark and button.inner_text() == "Dark colours"
    button.click()
    assert page.evaluate(paper) == dark


def test_without_scripts_all_rows_are_there(open_page):
    page = open_page(java_script_enabled=False)
    assert page.locator("#predictions tbody tr").count() > 50
    assert page.locator(".tools").first.is_hidden() and page.locator("#theme").is_hidden()


CONTRAST = """() => {
  const numbers = (color) => color.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(one).backgroundColor);
      if (a === 1) return [r, g, b];
      if (a > 0) throw new Error("half transparent: " + one.className);
    }
    return [255, 255, 255];
  };
  const light = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const low = [];
  let n = 0;
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || ["SCRIPT", "OPTION"].includes(element.tagName) || !element.checkVisibility()) continue;
    n += 1;
    const pair = [light(numbers(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName}.${element.className} ${ratio.toFixed(2)}`);
  }
  return [n, [...new Set(low)]];
}"""


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_runs_over_the_edge_and_every_text_can_be_read(open_page, width, scheme):
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    n, low = page.evaluate(CONTRAST)
    assert n > 300 and low == []


def test_print_leaves_the_controls_out(open_page):
    page = open_page(scheme="dark")
    page.emulate_media(media="print")
    assert page.locator("nav").is_hidden() and page.locator(".tools").first.is_hidden()
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(28, 33, 38)"
