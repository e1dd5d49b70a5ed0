"""The page in headless Chromium: what a person sees and does, and that the browser asks nobody else.

Runs as `make test-app`. Chromium is the system's (Debian: `apt-get install chromium`), `CHROMIUM` names another one; of
Playwright only the Python package is needed. `SCREENSHOTS=FOLDER` keeps pictures of what was seen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")

SECONDS = 300
"""Longest wait for anything on a busy machine; nothing waits longer than it takes."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or CHROMIUM=PATH")
    options = [
        "--no-sandbox",
        "--use-angle=swiftshader",
        "--enable-unsafe-swiftshader",
    ]  # WebGL without a graphics card
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=path, args=options)
        yield chromium
        chromium.close()


class Visit:
    """An open page with what its browser said and asked for."""

    def __init__(self, browser: Any, url: str, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        self.context.set_default_timeout(1000 * SECONDS)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).hostname or "none"))
        self.page.goto(url)
        self.page.get_by_label("Example").wait_for()

    def choose(self, name: str) -> None:
        self.page.get_by_label("Example").click()
        self.page.get_by_role("option", name=name).click()

    def answered(self, text: str) -> None:
        """Wait until the page shows a crystal of this formula."""
        self.page.locator("#summary h2", has_text=text).wait_for()
        self.page.locator("#properties table").wait_for()

    def close(self) -> None:
        folder = os.environ.get("SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            name = os.environ["PYTEST_CURRENT_TEST"].split("::")[-1].split(" ")[0]
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)
        self.context.close()


@pytest.fixture
def visit(browser: Any, served: Any) -> Iterator[Visit]:
    opened = Visit(browser, served.url)
    yield opened
    opened.close()
    assert opened.errors == []
    assert opened.hosts <= {"127.0.0.1", "none"}


def test_a_good_file(visit: Visit, root: Path) -> None:
    visit.page.set_input_files("input[type=file]", root / "examples" / "SrTiO3.cif")
    visit.answered("SrTiO3")
    assert "SrTiO3.cif" in visit.page.locator("#summary").inner_text()
    words = visit.page.locator("#words .cloud-word").all_inner_texts()
    assert " ".join(words) == visit.page.locator("#words code").inner_text()
    for figure in ("#picture", "#heat-capacity", "#dos"):
        visit.page.locator(f"{figure} .js-plotly-plot").wait_for()
    assert not visit.page.locator("#failure [role=alert]").is_visible()
    assert not visit.page.locator("#neighbours table").is_visible()
    with visit.page.expect_download() as download:
        visit.page.get_by_role("link", name="Download this row").click()
    assert download.value.suggested_filename == "SrTiO3.csv"
    lines = Path(download.value.path()).read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("source,formula")
    assert lines[1].startswith("SrTiO3.cif,SrTiO3,221")


def test_a_bad_file_then_a_good_one(visit: Visit, root: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.cif"
    bad.write_text("data_bad\n_cell_length_a nonsense\n", encoding="utf-8")
    visit.page.set_input_files("input[type=file]", bad)
    alert = visit.page.get_by_role("alert").filter(has_text="bad.cif")
    alert.wait_for()
    assert "Traceback" not in visit.page.content()
    assert not visit.page.locator("#results").is_visible()
    visit.page.set_input_files("input[type=file]", root / "examples" / "MgO.cif")
    visit.answered("MgO")
    assert not alert.is_visible()


def test_a_file_over_the_limit(browser: Any, served: Any, tmp_path: Path) -> None:
    """Chromium logs the refusal of the server (413) as an error, which it is."""
    opened = Visit(browser, served.url)
    large = tmp_path / "large.cif"
    large.write_bytes(b"x" * 3_000_000)
    opened.page.set_input_files("input[type=file]", large)
    opened.page.get_by_text("maximum allowed size").first.wait_for()
    assert not opened.page.locator("#results").is_visible()
    opened.close()
    assert opened.hosts <= {"127.0.0.1", "none"}


def test_the_slider_with_the_keyboard(visit: Visit) -> None:
    visit.choose("NaCl")
    visit.answered("NaCl")
    before = visit.page.locator("#properties").inner_text()
    slider = visit.page.locator("#temperature input[type=range]")
    slider.focus()
    for _ in range(4):
        slider.press("ArrowRight")
    visit.page.locator("#properties h3", has_text="320 K").wait_for()
    visit.page.locator("#heat-capacity", has_text="320 K").wait_for()
    after = visit.page.locator("#properties").inner_text()
    assert [line for line in before.splitlines() if "apacity" in line] != [
        line for line in after.splitlines() if "apacity" in line
    ]


def test_a_string_with_the_keyboard_alone(visit: Visit) -> None:
    box = visit.page.get_by_label("SCOPE string")
    for _ in range(40):
        if box.evaluate("box => box === document.activeElement"):
            break
        visit.page.keyboard.press("Tab")
    visit.page.keyboard.type("1 0 0 | Cu 2i")
    visit.page.keyboard.press("Enter")
    visit.answered("Cu")
    visit.page.get_by_text("no coordinates").wait_for()
    assert not visit.page.locator("#picture").is_visible()


def test_a_wrong_string_names_the_word(visit: Visit) -> None:
    visit.page.get_by_label("SCOPE string").fill("1 0 0 | Cu 9z")
    visit.page.get_by_role("button", name="Predict the string").click()
    visit.page.get_by_role("alert").filter(has_text="9z").wait_for()


def test_nothing_given_after_a_good_one(visit: Visit) -> None:
    visit.choose("NaCl")
    visit.answered("NaCl")
    visit.page.get_by_role("button", name="Predict the string").click()
    visit.page.get_by_role("alert").filter(has_text="Nothing was given").wait_for()
    visit.page.locator("#results").wait_for(state="hidden")


def test_on_a_phone_nothing_is_cut_off(browser: Any, served: Any) -> None:
    opened = Visit(browser, served.url, width=360)
    opened.choose("SiO2_quartz")
    opened.answered("SiO2")
    opened.page.locator("#heat-capacity .js-plotly-plot").wait_for()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    names = ("#properties table", "#words table", "#heat-capacity .js-plotly-plot", "#heat-capacity .gtitle")
    for name in (*names, "#dos .gtitle", "#dos .gtitle-subtitle"):
        box = opened.page.locator(name).first.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 360
    opened.close()
    assert opened.errors == []


def test_the_nearest_known_crystals(browser: Any, served_bundled: Any) -> None:
    opened = Visit(browser, served_bundled.url, width=360)
    opened.choose("NaCl")
    opened.answered("NaCl")
    rows = opened.page.locator("#neighbours tbody tr")
    first = rows.first
    first.get_by_text("this crystal").wait_for()
    assert first.locator("th").inner_text().startswith("NaCl")
    assert first.get_by_role("link").get_attribute("href") == "https://materialsproject.org/materials/mp-22862"
    assert rows.count() == 6
    assert rows.get_by_text("this crystal").count() == 1
    width = opened.page.evaluate("document.documentElement.scrollWidth")
    opened.close()
    assert width <= 360
    assert opened.errors == []
    assert opened.hosts <= {"127.0.0.1", "none"}
