"""The page in a real browser, from the disk: sorting, filtering, keyboard, colours, width; no error and no request elsewhere."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medembed.leaderboard import charts, page
from medembed.leaderboard.results import Facts, Found
from medembed.leaderboard.tasks import TASKS
from tests.leaderboard.test_board import all_tasks, of
from tests.leaderboard.test_build import HOSTILE

pytestmark = pytest.mark.slow
SMALL, LARGE = (
    Facts(parameters=30_000_000, dimensions=384, trained_on=()),
    Facts(parameters=8_000_000_000, dimensions=4096),
)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four models, one of which has a hostile name."""
    results = [
        *all_tasks("org/small", 0.5),
        *all_tasks("org/large", 0.8),
        *all_tasks("org/tuned", 0.6),
        *all_tasks(HOSTILE, 0.4),
    ]
    tuned = SMALL.model_copy(update={"base": "org/small", "trained_on": ("NFCorpus",)})
    board = of(results, small=SMALL, large=LARGE, tuned=tuned)
    folder = tmp_path_factory.mktemp("page") / "space"
    page.write(board, charts.charts(board), Found(), folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("no browser here: apt-get install chromium chromium-driver")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for option in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.implicitly_wait(20)
    yield browser
    browser.quit()


@pytest.fixture
def index(browser: Any, space: Path) -> Any:
    """The browser with the page opened anew, and its logs emptied."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get((space / "index.html").as_uri())
    browser.find_element("css selector", "[data-chart=dimensions] svg")  # the last thing that the script does
    return browser


def models(browser: Any) -> list[str]:
    return [cell.text for cell in browser.find_elements("css selector", "table.board tbody tr > .model")]


def shows(browser: Any, expected: list[str]) -> bool:
    """Whether the table comes to show these models: it sorts when the browser has a moment."""
    from selenium.webdriver.support.wait import WebDriverWait

    return bool(WebDriverWait(browser, 20).until(lambda _: models(browser) == expected))


def header(browser: Any, text: str) -> Any:
    return browser.find_element("xpath", f"//table//thead//th[contains(., '{text}')]")


def choose(browser: Any, size: str) -> None:
    browser.find_element("xpath", f"//select[@data-filter='size']/option[.='{size}']").click()


def test_nothing_is_loaded_from_elsewhere_and_nothing_goes_wrong(index: Any) -> None:
    messages = [json.loads(entry["message"])["message"] for entry in index.get_log("performance")]
    requests = [it["params"]["request"]["url"] for it in messages if it["method"] == "Network.requestWillBeSent"]
    assert len(requests) > 4 and all(url.startswith(("file://", "data:")) for url in requests)
    assert index.get_log("browser") == []


def test_the_best_stand_first_and_a_header_sorts(index: Any) -> None:
    assert models(index) == ["org/large", "org/tuned", "org/small", HOSTILE]
    header(index, "mean of five").click()
    assert shows(index, [HOSTILE, "org/small", "org/tuned", "org/large"])
    assert header(index, "mean of five").get_attribute("aria-sort") == "ascending"


def test_the_keyboard_alone_sorts(index: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    focus = index.find_element("css selector", "body")
    focus.send_keys(Keys.TAB)
    assert index.switch_to.active_element.text == "To the table"
    at = "const head = document.activeElement.closest('thead th'); return head ? head.textContent.trim() : ''"
    for _ in range(60):
        index.switch_to.active_element.send_keys(Keys.TAB)
        if index.execute_script(at) == "model":
            break
    index.switch_to.active_element.send_keys(Keys.ENTER)
    assert shows(index, sorted(models(index), key=str.casefold))
    assert header(index, "model").get_attribute("aria-sort") == "ascending"


def test_the_table_is_filtered_by_words_by_size_and_by_what_was_trained_on(index: Any) -> None:
    choose(index, "≤ 50M")
    assert shows(index, ["org/tuned", "org/small"])
    index.find_element("css selector", "[data-filter=zero-shot]").click()
    assert shows(index, ["org/small"])
    index.find_element("css selector", "[data-filter=zero-shot]").click()
    choose(index, "all")
    index.find_element("css selector", "input[type=search]").send_keys("tuned")
    assert shows(index, ["org/tuned"])
    assert index.find_element("css selector", ".dt-info").text == "1 models of 4"


def test_a_task_is_opened_and_leads_to_the_files_of_its_results(index: Any) -> None:
    index.find_element("link text", "NFCorpus").click()
    assert index.find_element("css selector", "h1").text == "NFCorpus"
    choose(index, "≤ 50M")
    assert shows(index, ["org/tuned", "org/small"])
    assert [cell.text for cell in index.find_elements("xpath", "//tbody/tr/td[3]")] == ["trained on", "zero-shot"]
    link = index.find_element("partial link text", "file").get_attribute("href")
    assert link.startswith("https://example.org/results/blob/c0ffee/results/org__tuned/")
    assert index.get_log("browser") == []


def test_a_hostile_name_is_shown_as_it_is_and_runs_nothing(index: Any) -> None:
    assert HOSTILE in models(index)
    assert index.execute_script("return document.images.length") == 0


def test_charts_follow_the_readers_colours_and_tell_what_they_show(index: Any) -> None:
    def ink() -> str:
        return str(index.find_element("css selector", "[data-chart=dimensions] svg text").get_attribute("fill"))

    assert ink() == charts.THEMES["light"]["text"]
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    index.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
    index.get(index.current_url)
    assert ink() == charts.THEMES["dark"]["text"]
    index.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    told = index.find_elements(
        "css selector", "[data-chart=sizes] svg [aria-label*='org/tuned: 60.0, +10.0 from org/small']"
    )
    assert told


def test_on_a_phone_only_the_table_scrolls_sideways(index: Any) -> None:
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True}
    index.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    widths = "const frame = document.querySelector('[role=region]'); return [document.documentElement, frame, frame]"
    page, table, frame = index.execute_script(widths + ".map((it, i) => i < 2 ? it.scrollWidth : it.clientWidth)")
    index.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert page <= 390 and frame < table


def test_every_task_has_its_page(space: Path) -> None:
    assert {path.stem for path in (space / "tasks").iterdir()} == set(TASKS)
