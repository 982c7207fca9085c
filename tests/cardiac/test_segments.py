"""The 17 segments against a wall whose thickness is known at every angle, in every way of storing it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from unia_med.cardiac.bulls_eye import bulls_eye
from unia_med.cardiac.segments import NAMES, segment_thickness
from unia_med.data.io.volume import Volume

VALUES = {"RV": 1, "MYO": 2, "LV": 3}
SPACING = (0.8, 1.0, 8.0)
SLICES, CAP = 9, 2


def thickness(degrees: np.ndarray) -> np.ndarray:
    """Thickness in mm at an angle from the middle of the septum, counted against the clock as seen from the apex."""
    return 10 + 3 * np.cos(np.radians(degrees - 75))


def heart(septum: float = 200.0, apex_last: bool = True) -> Volume:
    """A ventricle that narrows to its apex; the right one lies at `septum` degrees from the first axis on."""
    x = (np.arange(160) - 80)[:, None] * SPACING[0]
    y = (np.arange(130) - 65)[None, :] * SPACING[1]
    radius, theta = np.hypot(x, y), np.degrees(np.arctan2(y, x))
    # With the apex at the end, the way against the clock as seen from it goes from the first axis to the second.
    angle = (theta - septum) if apex_last else (septum - theta)
    outside = np.abs((angle + 180) % 360 - 180)
    planes = []
    for z in range(SLICES + CAP):
        inner = 26 - 1.2 * z if z < SLICES else 0.0
        outer = inner + thickness(angle) if z < SLICES else np.full(angle.shape, 9.0)
        plane = np.where(radius < outer, 2, np.where((outside < 55) & (radius < outer + 15) & (z < 7), 1, 0))
        plane[radius < inner] = 3
        planes.append(plane)
    stack = np.stack(planes if apex_last else planes[::-1], -1).astype(np.uint8)
    return Volume(stack, np.diag([*SPACING, 1.0]))


def expected() -> list[float]:
    around = np.arange(-180, 180, 0.5)
    six = [thickness(around[((around + 120) // 60) % 6 == number]).mean() for number in range(6)]
    four = [thickness(around[((around + 135) // 90) % 4 == number]).mean() for number in range(4)]
    return [*six, *six, *four]


@pytest.mark.parametrize("septum", [0.0, 90.0, 200.0, -75.0])
@pytest.mark.parametrize("apex_last", [True, False])
def test_thickness_of_each_segment(septum: float, apex_last: bool) -> None:
    found = segment_thickness(heart(septum, apex_last), VALUES)
    assert found is not None and len(found) == len(NAMES) == 17
    np.testing.assert_allclose(found[:16], expected(), atol=0.35)
    assert found[16] == CAP * SPACING[2]


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2), (0, 1, 2)])
def test_the_way_of_storing_changes_nothing(axes: tuple[int, ...]) -> None:
    volume = heart()
    flip = np.diag([-1.0 if axis in axes else 1.0 for axis in range(3)] + [1.0])
    stored = Volume(np.flip(volume.array, axes), volume.affine @ flip)
    np.testing.assert_allclose(segment_thickness(stored, VALUES), segment_thickness(volume, VALUES), atol=0.05)


def test_transposed_slices_are_the_same_heart() -> None:
    volume = heart()
    stored = Volume(volume.array.transpose(1, 0, 2), volume.affine[:, [1, 0, 2, 3]])
    np.testing.assert_allclose(segment_thickness(stored, VALUES), segment_thickness(volume, VALUES), atol=0.05)


def test_a_mirrored_heart_has_its_anterior_wall_where_the_inferior_was() -> None:
    volume = heart(septum=180.0)
    mirrored = Volume(volume.array[:, ::-1], volume.affine)
    one, other = (segment_thickness(each, VALUES) for each in (volume, mirrored))
    assert one is not None and other is not None
    # 1 anterior and 4 inferior, 2 and 3 septal, 5 and 6 lateral change places.
    np.testing.assert_allclose([other[i] for i in (3, 2, 1, 0, 5, 4)], one[:6], atol=0.3)


def test_what_cannot_be_divided_has_no_segments() -> None:
    volume = heart()
    without = Volume(np.where(volume.array == 1, 0, volume.array), volume.affine)
    assert segment_thickness(without, VALUES) is None
    assert segment_thickness(Volume(volume.array[..., :2], volume.affine), VALUES) is None
    assert segment_thickness(volume, {"LV": 3, "MYO": 2}) is None


def test_the_drawing_shows_each_value_in_its_place() -> None:
    values = [float(number) for number in range(1, 17)] + [None]
    root = ElementTree.fromstring(bulls_eye(values, "one <heart>"))
    space = "{http://www.w3.org/2000/svg}"
    places = {}
    for group in root.findall(f"{space}g"):
        title, text = group.find(f"{space}title"), group.find(f"{space}text")
        assert title is not None and title.text is not None and text is not None
        number = int(title.text.split()[0])
        places[number] = (float(text.get("x", "")) - 160, 160 - float(text.get("y", "")) + 4)
        assert (text.text or "") == (f"{number:.1f}" if number < 17 else "")
    assert len(places) == 17
    up, left, down, right = (places[number] for number in (13, 14, 15, 16))
    assert up[1] > 30 and abs(up[0]) < 1 and down[1] < -30 and left[0] < -30 and right[0] > 30
    assert places[1][1] > 100 and places[2][0] < 0 < places[2][1] and places[3][0] < 0 > places[3][1]
    assert places[5][0] > 0 > places[5][1] and places[6][0] > 0 < places[6][1]
    assert np.hypot(*places[1]) > np.hypot(*places[7]) > np.hypot(*places[13]) > np.hypot(*places[17])
