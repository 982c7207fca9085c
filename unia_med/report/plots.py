"""Figures as inline SVG: no library, no script, and readable in light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from unia_med.metrics.calibration import Reliability

COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2", "#8a7a00", "#7a7a7a")
"""Okabe and Ito's colour-blind-safe colours; the first three as in the README's picture."""

NEUTRAL = "#7a7a7a"
_BARS, _IDEAL = COLOURS[5], COLOURS[3]

WIDTH, HEIGHT = 420, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 18, 10, 36
_WORD = 60  # room of a word to the right of its mark
_HEADROOM = 1.15  # above the data, for the words of marks
_DASHES = ("", "7 3", "2 3", "9 3 2 3")

Points = Sequence[tuple[float, float]]


def colour_of(index: int) -> str:
    """Colour of a class or series; they repeat after eight.

    Args:
        index: from 0.
    """
    return COLOURS[index % len(COLOURS)]


def line_chart(
    title: str,
    series: Mapping[str, Points],
    x_label: str,
    limits: tuple[float, float] | None = None,
    marks: Mapping[float, str] | None = None,
    colours: Mapping[str, str] | None = None,
) -> str:
    """Return a figure with one line per series, and their legend below.

    Args:
        title: caption, also the text for those who cannot see it.
        series: points (x, y) in order of x, by name; empty ones are left out.
        x_label: below the axis.
        limits: of y; those of the data by default.
        marks: words at places of x, each with a line across the height.
        colours: by name, where a series has a colour elsewhere on the page, too.
    """
    drawn = {name: points for name, points in series.items() if points}
    if not drawn:
        return ""
    xs, ys = ([point[axis] for points in drawn.values() for point in points] for axis in (0, 1))
    low, high = limits or (min(0.0, *ys), max(ys) * (_HEADROOM if marks else 1.0))
    axes = _Axes((min(xs), max(xs)), (low, high if high > low else low + 1))
    shown = [(colours or {}).get(name) or colour_of(index) for index, name in enumerate(drawn)]
    lines = [_line(axes, points, index, shown[index]) for index, points in enumerate(drawn.values())]
    ends = "; ".join(f"{name} ends at {points[-1][1]:.3g}" for name, points in drawn.items())
    body = axes.grid(x_label) + axes.marks(marks or {}) + "".join(lines)
    keys = "".join(_sample(name, shown[index], dash=_DASHES[index % len(_DASHES)]) for index, name in enumerate(drawn))
    return _figure(title, ends, body, f'<ul class="legend">{keys}</ul>')


def reliability_diagram(title: str, table: Reliability) -> str:
    """Accuracy against confidence, with the diagonal that an honest network would follow.

    Args:
        title: caption.
        table: voxels by confidence; empty bins are not drawn.
    """
    axes = _Axes((0, 1), (0, 1))
    bins, largest = len(table.count), max(1, int(table.count.max()))
    bars, said = [], []
    for index, (count, accuracy) in enumerate(zip(table.count, table.accuracy(), strict=True)):
        if not count:
            continue
        left, right = axes.x(index / bins), axes.x((index + 1) / bins)
        top, opacity = axes.y(float(accuracy)), 0.35 + 0.65 * math.sqrt(count / largest)
        hint = f"confidence {index / bins:.2f} to {(index + 1) / bins:.2f}: {accuracy:.3f} right, {count} voxels"
        bars.append(
            f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left - 1:.1f}" height="{axes.y(0) - top:.1f}" '
            f'fill="{_BARS}" fill-opacity="{opacity:.2f}"><title>{hint}</title></rect>'
        )
        said.append(hint)
    diagonal = (
        f'<line x1="{axes.x(0)}" y1="{axes.y(0)}" x2="{axes.x(1)}" y2="{axes.y(1)}" stroke="{_IDEAL}" '
        'stroke-width="2" stroke-dasharray="6 4"/>'
    )
    legend = (
        f'<ul class="legend">{_sample("share of right voxels; fuller bars hold more of them", _BARS, 8)}'
        f"{_sample('as it should be', _IDEAL, 3, '6 4')}</ul>"
    )
    return _figure(title, "; ".join(said), axes.grid("confidence") + "".join(bars) + diagonal, legend)


class _Axes:
    """From values to places in the picture."""

    def __init__(self, x_limits: tuple[float, float], y_limits: tuple[float, float]) -> None:
        self.x_limits = x_limits if x_limits[1] > x_limits[0] else (x_limits[0] - 1, x_limits[0] + 1)
        self.y_limits = y_limits

    def x(self, value: float) -> float:
        low, high = self.x_limits
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_limits
        share = (min(max(value, low), high) - low) / (high - low)
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def grid(self, x_label: str) -> str:
        """Lines and numbers."""
        parts = []
        for value in ticks(*self.y_limits):
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
        for value in ticks(*self.x_limits):
            x = self.x(value)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">{value:g}</text>')
        middle = (_LEFT + WIDTH - _RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 3}" text-anchor="middle">{escape(x_label)}</text>')
        return "".join(parts)

    def marks(self, words: Mapping[float, str]) -> str:
        """Lines from top to bottom, with a word at the top."""
        return "".join(self._mark(self.x(place), word) for place, word in words.items())

    def _mark(self, x: float, word: str) -> str:
        ends = x > WIDTH - _WORD
        anchor, gap = ("end", -4) if ends else ("start", 4)
        return (
            f'<path class="mark" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>'
            f'<text x="{x + gap:.1f}" y="{_TOP + 11}" text-anchor="{anchor}">{escape(word)}</text>'
        )


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers from low to high, at most so many.

    Args:
        low: of the axis.
        high: above low.
        most: numbers that have room.

    Example:
        >>> ticks(0, 1)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    span = (high - low) / (most - 1)
    size = 10 ** math.floor(math.log10(span))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= span * 0.999999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 10) for index in range(first, last + 1)]


def _line(axes: _Axes, points: Points, index: int, colour: str) -> str:
    places = " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in points)
    dots = "".join(
        f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5" fill="{colour}"/>'
        for x, y in (points if len(points) <= 12 else ())
    )
    dash = _DASHES[index % len(_DASHES)]
    return (
        f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"/>{dots}'
    )


def _sample(name: str, colour: str, thickness: int = 3, dash: str = "") -> str:
    """Return an entry of a legend."""
    return (
        f'<li><svg width="26" height="8" aria-hidden="true"><line x1="0" x2="26" y1="4" y2="4" '
        f'stroke-width="{thickness}" stroke="{colour}" stroke-dasharray="{dash}"/></svg> {escape(name)}</li>'
    )


def _figure(title: str, description: str, body: str, legend: str) -> str:
    return (
        f'<figure><svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(f"{title}. {description}", quote=True)}">{body}</svg>'
        f"<figcaption>{escape(title)}</figcaption>{legend}</figure>"
    )


def bar_cell(value: float | None, colour: str, note: str = "") -> str:
    """Return a table cell with a number in [0, 1], a bar of that length behind it, and a small note.

    Args:
        value: None gives a dash.
        colour: of the bar.
        note: after the number.
    """
    if value is None or np.isnan(value):
        return '<td class="bar none">–</td>'
    small = f" <small>{escape(note)}</small>" if note else ""
    return (
        f'<td class="bar"><span class="track"><span style="width:{100 * value:.1f}%;background:{colour}"></span></span>'
        f"{value:.3f}{small}</td>"
    )
