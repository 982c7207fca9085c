"""Cardiac indices against cylinders with closed-form volumes and phantoms that know their own."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from unia_med.cardiac.indices import PhaseChoice, Phases, find_phases, measure
from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.render import frame_labels, true_volumes_ml
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError

SPACING = (0.9, 1.3, 8.0)
SLICES = 7


def cylinder(inner: float, outer: float, right: float = 15.0, slices: int = SLICES) -> Volume:
    """LV of radius `inner` mm in a wall up to `outer`, and an RV cylinder beside it; 1.3 x 0.9 x 8 mm, oblique."""
    x = (np.arange(150) - 75.2)[:, None] * SPACING[0]
    y = (np.arange(90) - 44.6)[None, :] * SPACING[1]
    labels = np.zeros((150, 90), np.uint8)
    labels[np.hypot(x + 40, y) < right] = 1
    labels[np.hypot(x - 15, y) < outer] = 2
    labels[np.hypot(x - 15, y) < inner] = 3
    turn = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * SPACING, (3, -50, 20)
    return Volume(np.repeat(labels[..., None], slices, 2), affine)


def ml(radius: float, slices: int = SLICES) -> float:
    return np.pi * radius**2 * SPACING[2] * slices / 1000


def test_cylinders() -> None:
    radii = [(24.0, 33.0, 15.0), (20.0, 31.0, 13.0), (16.0, 29.5, 10.0), (22.0, 32.0, 14.0)]
    found = measure([cylinder(*each) for each in radii])
    assert found.phases == Phases(0, 2)
    for name, radius in (("LV", 0), ("RV", 2)):
        expected = [ml(each[radius]) for each in radii]
        np.testing.assert_allclose(found.volumes_ml[name], expected, rtol=0.01)
        ventricle = found.ventricles[name]
        assert ventricle.edv_ml == pytest.approx(expected[0], rel=0.01)
        assert ventricle.esv_ml == pytest.approx(expected[2], rel=0.01)
        assert ventricle.stroke_volume_ml == pytest.approx(expected[0] - expected[2], rel=0.02)
        assert ventricle.ef_percent == pytest.approx(100 * (1 - (radii[2][radius] / radii[0][radius]) ** 2), abs=1)
    assert found.mass_g == pytest.approx(1.05 * (ml(33) - ml(24)), rel=0.01)
    assert found.wall.mean_mm == pytest.approx(9.0, abs=0.4)


@pytest.mark.parametrize("index", [0, 1, 2, 3, 4])
def test_phantoms(index: int) -> None:
    patient = patient_of(3, index)
    affine = np.diag([*patient.scan.spacing_mm, 1.0])
    # ES comes first here: order in time must not matter for what is largest.
    found = measure([Volume(frame_labels(patient, frame), affine) for frame in (patient.es_frame, 1)])
    truth = true_volumes_ml(patient)
    assert found.phases == Phases(1, 0)
    for name in ("LV", "RV"):
        ventricle = found.ventricles[name]
        full, empty = truth["ED"][name], truth["ES"][name]
        assert (ventricle.edv_ml, ventricle.esv_ml) == (pytest.approx(full), pytest.approx(empty))
        assert ventricle.ef_percent == pytest.approx(100 * (full - empty) / full)
    assert found.mass_g == pytest.approx(1.05 * truth["ED"]["MYO"])
    assert 4 < found.wall.mean_mm < 25 and found.wall.mean_mm < found.wall.max_mm


def test_given_phases_win() -> None:
    frames = [cylinder(24, 33), cylinder(20, 31), cylinder(16, 29.5)]
    found = measure(frames, choice=PhaseChoice(1, 2))
    assert found.ventricles["LV"].edv_ml == pytest.approx(ml(20), rel=0.01)
    assert found.mass_g == pytest.approx(1.05 * (ml(31) - ml(20)), rel=0.01)
    assert found.wall.mean_mm == pytest.approx(11.0, abs=0.4)
    with pytest.raises(UserError, match="frame 4 of 3"):
        measure(frames, choice=PhaseChoice(0, 3))


def test_one_stated_phase_leaves_the_other_to_the_volumes() -> None:
    frames = [cylinder(24, 33), cylinder(20, 31), cylinder(16, 29.5)]
    assert measure(frames, choice=PhaseChoice(diastole=1)).phases == Phases(1, 2)
    found = measure(frames, choice=PhaseChoice(systole=1))
    assert found.phases == Phases(0, 1)
    assert found.ventricles["LV"].esv_ml == pytest.approx(ml(20), rel=0.01)
    assert found.walls_mm == pytest.approx((9, 11, 13.5), abs=0.4)


def test_other_values_and_fewer_classes() -> None:
    frame = cylinder(24, 33)
    labels = np.zeros(frame.shape, np.int16)
    for old, new in ((2, 205), (3, 500)):
        labels[frame.array == old] = new
    found = measure([Volume(labels, frame.affine)], {"LV": 500, "MYO": 205})
    assert set(found.ventricles) == {"LV"}
    assert found.mass_g == pytest.approx(1.05 * (ml(33) - ml(24)), rel=0.01)
    with pytest.raises(UserError, match="labels 205"):
        measure([Volume(labels, frame.affine)], {"LV": 500})


def test_one_frame_and_one_slice() -> None:
    found = measure([cylinder(24, 33, slices=1)])
    left = found.ventricles["LV"]
    assert found.phases == Phases(0, None)
    assert left.edv_ml == pytest.approx(ml(24, 1), rel=0.01)
    assert (left.esv_ml, left.stroke_volume_ml, left.ef_percent) == (None, None, None)


def test_absent_classes_give_no_ratios() -> None:
    frames = [cylinder(24, 33, right=0.0), cylinder(16, 29, right=0.0)]
    for frame in frames:
        frame.array[frame.array == 2] = 0
    found = measure(frames)
    assert found.ventricles["RV"].edv_ml == 0 and found.ventricles["RV"].ef_percent is None
    assert found.mass_g is None and found.wall is None
    assert found.ventricles["LV"].ef_percent == pytest.approx(100 * (1 - (16 / 24) ** 2), abs=1)
    frames[0].array[:] = 0
    frames[1].array[:] = 0
    with pytest.raises(UserError, match="no frame holds any LV"):
        measure(frames)


def test_frames_without_lv_are_not_end_systole() -> None:
    assert find_phases([90.0, 0.0, 40.0, 55.0]) == Phases(0, 2)
    assert find_phases([50.0, 120.0, 60.0]) == Phases(1, 0)


def test_frames_are_taken_one_at_a_time() -> None:
    alive: list[int] = []

    def frames() -> object:
        for radius in (20.0, 24.0, 16.0):
            alive.append(1)
            yield cylinder(radius, 33)

    assert measure(frames()).phases == Phases(1, 2)
    assert len(alive) == 3


def test_no_torch() -> None:
    modules = "unia_med.cardiac.cases, unia_med.cardiac.table, unia_med.cli.cardiac"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
