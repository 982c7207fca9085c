"""Figures: places by hand, well-formed, and nothing of a user's text gets out."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from unia_med.metrics.calibration import reliability
from unia_med.report.plots import HEIGHT, WIDTH, bar_cell, line_chart, reliability_diagram, ticks


def _parsed(figure: str) -> ElementTree.Element:
    return ElementTree.fromstring(figure)


def test_a_line_runs_from_corner_to_corner_of_its_axes() -> None:
    figure = _parsed(line_chart("Dice", {"LV": [(0, 0.0), (100, 1.0)]}, "iteration", (0, 1)))
    (x1, y1), (x2, y2) = (map(float, place.split(",")) for place in figure.find(".//polyline").get("points").split())
    grid = figure.findall(".//line[@class='grid']")
    assert (x1, x2) == (float(grid[0].get("x1")), float(grid[0].get("x2")))
    assert (y1, y2) == (float(grid[0].get("y1")), float(grid[-1].get("y1")))
    assert 0 < x1 < x2 < WIDTH and 0 < y2 < y1 < HEIGHT


def test_charts_say_in_words_what_they_show_and_escape_names() -> None:
    figure = line_chart('<b>"x"', {"<script>": [(1, 2.0)], "empty": []}, "&")
    root = _parsed(figure)
    assert root.find("svg").get("aria-label") == '<b>"x". <script> ends at 2'
    assert "<script" not in figure and "<b>" not in figure
    assert "empty" not in figure
    assert line_chart("nothing", {"a": []}, "x") == ""


@pytest.mark.parametrize("value", [0.0, -3.0, 1e-7, 5e5])
def test_a_single_value_can_be_drawn(value: float) -> None:
    assert _parsed(line_chart("one", {"a": [(7, value)]}, "x")).find(".//polyline") is not None


def test_ticks_are_round_and_few() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(300, 600) == [300, 400, 500, 600]
    for low, high in ((0, 3.3), (0, 1e-4), (-2, 9), (0, 123456)):
        values = ticks(low, high)
        assert 2 <= len(values) <= 7 and low <= values[0] and values[-1] <= high * 1.000001


def test_bars_of_the_reliability_diagram_are_as_high_as_the_accuracy() -> None:
    table = reliability(np.array([0.9] * 4 + [0.5] * 2), np.array([True, True, True, False, True, True]), bins=5)
    root = _parsed(reliability_diagram("Reliability", table))
    bars = root.findall(".//rect")
    diagonal = next(line for line in root.findall(".//svg/line") if line.get("stroke-dasharray") == "6 4")
    full = float(diagonal.get("y1")) - float(diagonal.get("y2"))
    heights = [float(bar.get("height")) / full for bar in bars]
    assert heights == pytest.approx([1.0, 0.75], abs=0.01)  # empty bins are not drawn
    assert "0.750 right, 4 voxels" in bars[1].find("title").text


def test_bar_cells() -> None:
    assert re.search(r"width:25\.0%.*0\.250.*<small>&lt;1</small>", bar_cell(0.25, "#000", "<1"))
    assert "–" in bar_cell(None, "#000") and "–" in bar_cell(float("nan"), "#000")


def test_words_of_marks_stay_inside() -> None:
    root = _parsed(line_chart("volume", {"LV": [(1, 9.0), (8, 5.0)]}, "frame", marks={1.0: "ED", 8.0: "ES"}))
    first, last = (next(text for text in root.iter("text") if text.text == word) for word in ("ED", "ES"))
    assert (first.get("text-anchor"), last.get("text-anchor")) == ("start", "end")
    assert 0 < float(first.get("x")) < float(last.get("x")) < WIDTH
