"""The 17 segments of the left ventricle as a bull's eye, an SVG that stands alone and inside a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from unia_med.cardiac.segments import NAMES

_SIZE, _RING = 320, 38
_MIDDLE = _SIZE / 2
# First angle in degrees against the clock from the right, and width, of a ring's first sector; see Cerqueira et al.
_SIX, _FOUR = (60, 60), (45, 90)
_PALE, _DARK = (254, 240, 217), (127, 39, 4)
_EMPTY = "#d9d9d9"


def bulls_eye(values_mm: Sequence[float | None], title: str, limits_mm: tuple[float, float] | None = None) -> str:
    """Return an SVG of the segments, seen from the apex: anterior above, septum on the left; base outside.

    Args:
        values_mm: of the segments 1 to 17; None is left grey.
        title: read out to those who cannot see the drawing.
        limits_mm: values of the palest and the darkest colour; by default the smallest and the largest.
    """
    known = [value for value in values_mm if value is not None]
    low, high = limits_mm or (min(known, default=0.0), max(known, default=1.0))
    parts = [_segment(index, value, low, high) for index, value in enumerate(values_mm)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" width="{_SIZE}" role="img" '
        f'font-family="sans-serif" font-size="11"><title>{escape(title)}</title>{"".join(parts)}</svg>'
    )


def common_limits(*drawings: Sequence[float | None] | None) -> tuple[float, float]:
    """Return limits for several drawings, so that one colour is one thickness in all.

    Args:
        drawings: values of the segments; None of a phase that has none.
    """
    known = [value for values in drawings for value in values or () if value is not None]
    return min(known, default=0.0), max(known, default=1.0)


def _segment(index: int, value: float | None, low: float, high: float) -> str:
    share = 0.0 if value is None or high <= low else min(1.0, max(0.0, (value - low) / (high - low)))
    fill = _EMPTY if value is None else _colour(share)
    shape, (x, y) = _place(index)
    shown = "" if value is None else f"{value:.1f}"
    told = f"{index + 1} {NAMES[index]}: {shown or 'not shown by any slice'}{' mm' if shown else ''}"
    ink = "#fff" if share > 0.55 else "#222"
    text = f'<text x="{x:.1f}" y="{y + 4:.1f}" text-anchor="middle" fill="{ink}">{shown}</text>'
    return f'<g><title>{told}</title>{shape} fill="{fill}" stroke="#fff" stroke-width="2"/>{text}</g>'


def _place(index: int) -> tuple[str, tuple[float, float]]:
    """Open tag of the shape of a segment, and where its number stands."""
    if index == 16:
        return f'<circle cx="{_MIDDLE:g}" cy="{_MIDDLE:g}" r="{_RING}"', (_MIDDLE, _MIDDLE)
    ring, number = divmod(index, 6)
    start, width = _SIX if ring < 2 else _FOUR
    first = start + number * width
    inner, outer = (3 - ring) * _RING, (4 - ring) * _RING
    corners = [_point(outer, first), _point(outer, first + width), _point(inner, first + width), _point(inner, first)]
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
    path = (
        f"M{ax:.1f} {ay:.1f}A{outer} {outer} 0 0 0 {bx:.1f} {by:.1f}"
        f"L{cx:.1f} {cy:.1f}A{inner} {inner} 0 0 1 {dx:.1f} {dy:.1f}Z"
    )
    return f'<path d="{path}"', _point((inner + outer) / 2, first + width / 2)


def _point(radius: float, degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return _MIDDLE + radius * math.cos(angle), _MIDDLE - radius * math.sin(angle)


def _colour(share: float) -> str:
    return "#" + "".join(f"{round(a + share * (b - a)):02x}" for a, b in zip(_PALE, _DARK, strict=True))
