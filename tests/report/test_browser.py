"""The page in headless Chromium, on a desktop and on a phone; left out where the browser or its driver is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from unia_med.cli.main import main

sys.path.insert(0, str(Path(__file__).parent))
from chromium import Chromium, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing() or "-")]

UP, DOWN, RIGHT = "\ue013", "\ue015", "\ue014"
SCREENS = {"desktop": (1280, 900, False, True), "phone": (390, 844, True, False)}
"""Width, height, touch, dark."""


@pytest.fixture(params=SCREENS)
def page(request: pytest.FixtureRequest, run_dir: Path) -> Iterator[Chromium]:
    assert main(["report", str(run_dir), "--device", "cpu"]) == 0
    width, height, touch, dark = SCREENS[request.param]
    with Chromium(width, height, touch=touch, dark=dark) as browser:
        browser.open((run_dir / "report.html").as_uri())
        browser.wait("document.querySelector('#viewer-state').textContent.length > 0")
        yield browser
        assert browser.log() == []  # neither errors nor requests


def _said(page: Chromium) -> str:
    page.run("return new Promise((done) => setTimeout(done, 100))")
    return str(page.run("return document.querySelector('#viewer-state').textContent"))


def _pixels(page: Chromium) -> str:
    return str(page.run("return document.querySelector('#slice-viewer canvas').toDataURL()"))


def _set(page: Chromium, control: str, value: str) -> None:
    """Set a control as its user would, with the event that follows."""
    page.run(
        'const it = document.querySelector(`[data-control="${arguments[0]}"]`); it.value = arguments[1];'
        "it.dispatchEvent(new Event('input', {bubbles: true}))",
        control,
        value,
    )


def _number(page: Chromium, name: str) -> str:
    return str(page.run(f"return document.querySelector('[data-number=\"{name}\"]').textContent"))


def _middle(page: Chromium) -> tuple[float, float]:
    """Scroll the canvas into the middle of the window and return its own middle."""
    x, y = page.run(
        "const canvas = document.querySelector('#slice-viewer canvas');"
        "canvas.scrollIntoView({block: 'center', behavior: 'instant'}); const box = canvas.getBoundingClientRect();"
        "return [box.left + box.width / 2, box.top + box.height / 2]"
    )
    return x, y


def test_nothing_sticks_out_and_every_control_works(page: Chromium, tmp_path: Path) -> None:
    assert page.run("return document.documentElement.scrollWidth") <= page.width
    assert page.run("return document.title") == "RV, MYO, LV in acdc"
    assert _said(page).startswith("patient013_frame01, ED, slice 3 of 4, frame 1 of 2. prediction at 50 %")
    assert (_number(page, "slice"), _number(page, "opacity")) == ("3 of 4", "50 %")
    first = _pixels(page)
    canvas = "#slice-viewer canvas"
    page.keys(canvas, DOWN)
    assert "slice 2 of 4" in _said(page) and _number(page, "slice") == "2 of 4" and _pixels(page) != first
    page.keys(canvas, RIGHT)
    assert "frame07, ES, slice 2 of 4, frame 2 of 2" in _said(page)
    page.keys(canvas, "0")
    page.keys(canvas, "o")
    plain = _pixels(page)
    assert "image alone; outline: prediction" in _said(page)
    for option in page.run("return [...document.querySelector('[data-control=overlay]').options].map((o) => o.text)"):
        _set(page, "overlay", option)
        assert ("image alone" if option == "none" else option) in _said(page)
    assert "uncertainty (UniA's U) at 50 %" in _said(page) and _pixels(page) != plain
    legend = page.run("return document.querySelector('#viewer-legend').textContent")
    assert "this patient's range" in legend and "uncertainty (UniA's U): 0" in legend
    _set(page, "overlay", "none")
    _said(page)
    assert _pixels(page) == plain
    for name, value in (("level", "90"), ("width", "60"), ("zoom", "2")):
        before = _pixels(page)
        _set(page, name, value)
        _said(page)
        assert _pixels(page) != before, name
    assert _number(page, "zoom") == "2 x"
    page.run("document.querySelector('[data-control=reset]').click()")
    _said(page)
    assert _pixels(page) == plain and _number(page, "zoom") == "1 x"
    page.run("document.querySelector('a[data-case=patient013_frame07]').click()")
    assert "patient013_frame07" in _said(page)
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000


def test_the_wheel_turns_slices_and_lets_the_page_go_at_the_ends(page: Chromium) -> None:
    x, y = _middle(page)
    start = page.run("return window.scrollY")
    page.wheel(x, y, -100)
    assert "slice 4 of 4" in _said(page)
    assert page.run("return window.scrollY") == start  # still in the stack
    page.wheel(x, y, -100)
    assert "slice 4 of 4" in _said(page)
    page.wait(f"window.scrollY < {start}")  # at its upper end the page scrolls on
    x, y = _middle(page)
    for expected in ("3", "2", "1", "1"):
        here = page.run("return window.scrollY")
        page.wheel(x, y, 100)
        assert f"slice {expected} of 4" in _said(page)
    page.wait(f"window.scrollY > {here}")


def test_zoom_stays_under_the_pointer_and_a_drag_moves(page: Chromium) -> None:
    x, y = _middle(page)
    _set(page, "overlay", "none")
    whole, bar = _said(page), page.run("return document.querySelector('canvas').dataset.scaleBar")
    page.wheel(x, y, -100, ctrl=True)
    page.wheel(x, y, -100, ctrl=True)
    assert "slice 3" in whole and "slice 3" in _said(page) and "zoom 2" in _said(page)
    assert _number(page, "zoom") == "2 x"
    shorter = page.run("return document.querySelector('canvas').dataset.scaleBar")
    assert float(shorter.removesuffix(" mm")) < float(bar.removesuffix(" mm"))
    before = _pixels(page)
    if page.touch:
        page.fingers([[(x, y)], [(x - 20, y)], [(x - 40, y - 20)]])
    else:
        page.drag([(x, y), (x - 20, y), (x - 40, y - 20)])
    _said(page)
    assert _pixels(page) != before
    if page.touch:
        page.run("document.querySelector('[data-control=reset]').click()")
        page.fingers([[(x - 20, y), (x + 20, y)], [(x - 40, y), (x + 40, y)], [(x - 60, y), (x + 60, y)]])
        assert "zoom 3" in _said(page)


def test_letters_and_scale_bar_are_those_of_the_geometry(page: Chromium) -> None:
    """The tiny set has 1.5 mm voxels along RAS: the patient's right is on the left of the picture, the front above."""
    said = page.run("return document.querySelector('#slice-viewer canvas').getAttribute('aria-label')")
    assert "left of the picture: R, above: A" in said
    length = float(page.run("return document.querySelector('canvas').dataset.scaleBar").removesuffix(" mm"))
    width = page.run("return JSON.parse(document.getElementById('viewer-data').textContent).patients[0].width") * 1.5
    assert width / 9 < length <= width / 3
