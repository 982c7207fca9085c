"""The slice viewer in headless Chromium; left out where Playwright or a browser is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from unia_med.cli.main import main

pytestmark = pytest.mark.slow
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def address(run_dir: Path) -> str:
    assert main(["report", str(run_dir), "--device", "cpu"]) == 0
    return (run_dir / "report.html").as_uri()


def _pixels(page: Any) -> str:
    return page.evaluate("document.querySelector('#slice-viewer canvas').toDataURL()")


def _said(page: Any) -> str:
    page.wait_for_timeout(150)
    return page.locator("#viewer-state").inner_text()


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_scroll_toggle_and_no_error(browser: Any, address: str, tmp_path: Path, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme, offline=True)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.goto(address)
    page.wait_for_function("document.querySelector('#viewer-state').textContent.length > 0")
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # nothing sticks out of a phone
    assert _said(page).startswith("patient013_frame01, ED, slice 3 of 4, frame 1 of 2. prediction at 50 %")
    first = _pixels(page)
    canvas = page.locator("#slice-viewer canvas")
    canvas.focus()
    page.keyboard.press("ArrowDown")
    assert "slice 2 of 4" in _said(page) and _pixels(page) != first
    page.keyboard.press("ArrowRight")
    assert "frame07, ES, slice 2 of 4, frame 2 of 2" in _said(page)
    page.keyboard.press("0")
    page.keyboard.press("o")
    plain = _pixels(page)
    assert "image alone; outline: prediction" in _said(page)
    page.locator("[data-control=overlay]").select_option("uncertainty (entropy)")
    assert "uncertainty (entropy) at 50 %" in _said(page) and _pixels(page) != plain
    page.locator("[data-control=opacity]").fill("100")
    assert "at 100 %" in _said(page)
    for option in page.locator("[data-control=overlay] option").all_inner_texts():
        page.locator("[data-control=overlay]").select_option(option)
        assert ("image alone" if option == "none" else option) in _said(page)
    canvas.hover()
    page.mouse.wheel(0, -100)
    assert "slice 3 of 4" in _said(page)
    assert "ground truth: " in page.locator("#viewer-voxel").inner_text()
    page.mouse.wheel(0, 100)
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.locator("a[data-case=patient013_frame07]").first.click()
    assert "patient013_frame07" in _said(page)
    assert page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
    assert complaints == []
    context.close()
