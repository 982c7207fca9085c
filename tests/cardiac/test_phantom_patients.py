"""Synthetic patients: anatomy, group differences and determinism, against closed forms and counted voxels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, label

from unia_med.cardiac.phantom.anatomy import LV, MYO, RV
from unia_med.cardiac.phantom.dataset import patient_of
from unia_med.cardiac.phantom.heart import left_ventricle
from unia_med.cardiac.phantom.patients import GROUPS, Patient, contraction_at, draw_patient
from unia_med.cardiac.phantom.render import frame_image, frame_labels, true_volumes_ml
from unia_med.errors import UserError


@cache
def patient(group: str, index: int = 0) -> Patient:
    return draw_patient(group, seed=7, index=index)


@cache
def labels(group: str, phase: str, index: int = 0) -> np.ndarray:
    drawn = patient(group, index)
    return frame_labels(drawn, 1 if phase == "ED" else drawn.es_frame)


def ring_thickness(group: str, index: int) -> float:
    """Mean wall in mm at the middle of the LV, from the areas of the labels: sqrt(outer/pi) - sqrt(inner/pi)."""
    volume = labels(group, "ED", index)
    middle = np.flatnonzero((volume == LV).any((0, 1)))
    plane = volume[..., middle[len(middle) // 2]]
    inner, outer = (plane == LV).sum(), (plane >= MYO).sum()
    return (np.sqrt(outer / np.pi) - np.sqrt(inner / np.pi)) * patient(group, index).scan.spacing_mm[0]


def test_unknown_group_is_refused() -> None:
    with pytest.raises(UserError, match="HCN"):
        draw_patient("HCN", 0)
    with pytest.raises(UserError, match="1 frames"):
        draw_patient("HCM", 0, frames=1)


def test_same_seed_same_arrays_and_other_seed_other_arrays() -> None:
    first, second, other = (draw_patient("NOR", seed) for seed in (3, 3, 4))
    assert first.scan == second.scan and first.heart == second.heart
    assert frame_image(first, 1).tobytes() == frame_image(second, 1).tobytes()
    assert first.scan != other.scan


def test_image_is_int16_on_the_scanners_scale_and_blood_is_bright() -> None:
    drawn = patient("NOR")
    image, mask = frame_image(drawn, 1), labels("NOR", "ED")
    assert image.dtype == np.int16 and image.shape == (*drawn.scan.shape, len(drawn.scan.depths)) == mask.shape
    assert 0 <= image.min() and image.max() <= drawn.scan.scale + 1
    assert np.median(image[mask == LV]) > 1.5 * np.median(image[mask == MYO])


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("phase", ["ED", "ES"])
def test_anatomy_of_every_slice(group: str, phase: str) -> None:
    volume = labels(group, phase)
    assert volume.dtype == np.uint8 and set(np.unique(volume)) == {0, RV, MYO, LV}
    found = np.flatnonzero((volume == LV).any((0, 1)))
    assert np.array_equal(found, np.arange(found[0], found[-1] + 1))
    for z in found[2:]:
        pool = volume[..., z] == LV
        around = binary_dilation(pool, np.ones((3, 3))) & ~pool
        assert np.all(volume[..., z][around] == MYO), f"slice {z} is open"
        assert label(pool)[1] == 1
    rv = np.flatnonzero((volume == RV).any((0, 1)))
    apex = np.flatnonzero((volume == MYO).any((0, 1)))[-1]
    assert rv[-1] < apex
    empty = ~volume.any((0, 1))
    assert empty[-2:].sum() < 2
    rows = [np.mean(np.nonzero(volume == value)[0]) for value in (RV, LV)]
    assert rows[0] < rows[1] - 5


@pytest.mark.parametrize("group", GROUPS)
def test_areas_shrink_towards_the_apex(group: str) -> None:
    area = (labels(group, "ED") == LV).sum((0, 1))
    area = area[area > 0]
    assert area[-1] < 0.6 * area[0]
    assert np.all(np.diff(area[1:]) <= 0.12 * area.max())


@pytest.mark.parametrize("group", GROUPS)
def test_counted_volumes_follow_the_drawn_heart(group: str) -> None:
    drawn = patient(group)
    volumes = true_volumes_ml(drawn)
    voxel = np.prod(drawn.scan.spacing_mm) / 1000
    assert volumes["ED"]["LV"] == pytest.approx((labels(group, "ED") == LV).sum() * voxel)
    assert volumes["ED"]["LV"] == pytest.approx(drawn.heart.lv_volume, rel=0.15)
    counted = 1 - volumes["ES"]["LV"] / volumes["ED"]["LV"]
    assert counted == pytest.approx(drawn.heart.lv_fraction, abs=0.1)
    assert volumes["ES"]["MYO"] == pytest.approx(volumes["ED"]["MYO"], rel=0.2)
    assert volumes["ES"]["RV"] < volumes["ED"]["RV"]


@pytest.mark.slow
def test_groups_differ_as_their_definitions_say() -> None:
    counts = {g: [true_volumes_ml(patient(g, i)) for i in range(3)] for g in GROUPS}
    lv = {g: np.mean([c["ED"]["LV"] for c in counts[g]]) for g in GROUPS}
    rv = {g: np.mean([c["ED"]["RV"] for c in counts[g]]) for g in GROUPS}
    ef = {g: np.mean([1 - c["ES"]["LV"] / c["ED"]["LV"] for c in counts[g]]) for g in GROUPS}
    wall = {g: np.mean([ring_thickness(g, i) for i in range(3)]) for g in GROUPS}
    assert lv["DCM"] == max(lv.values()) and lv["DCM"] > 1.4 * lv["NOR"]
    assert rv["RV"] == max(rv.values()) and rv["RV"] > 1.3 * rv["NOR"]
    assert ef["HCM"] > ef["NOR"] > 0.5 > 0.42 > max(ef["MINF"], ef["DCM"])
    assert wall["HCM"] == max(wall.values()) and wall["HCM"] > 1.4 * wall["NOR"]


def test_muscle_volume_is_kept_in_closed_form() -> None:
    drawn = patient("NOR").heart
    rest, systole = left_ventricle(drawn, 0.0), left_ventricle(drawn, 1.0)
    ends = []
    for lv in (rest, systole):
        depths = np.linspace(lv.base, lv.base + lv.length + lv.cap, 4000)
        radii = np.array([lv.radii(depth) for depth in depths])
        ends.append(np.pi * np.diff(radii[:, ::-1] ** 2 * [1, -1], axis=1).mean() * (lv.length + lv.cap))
        inner = np.pi * (radii[:, 0] ** 2).mean() * (lv.length + lv.cap) / 1000
        share = 1 if lv is rest else 1 - drawn.lv_fraction
        assert inner == pytest.approx(drawn.lv_volume * share, rel=0.01)
    assert systole.wall > rest.wall and systole.radius < rest.radius


def wall_by_sector(plane: np.ndarray) -> np.ndarray:
    """Muscle pixels in twelve overlapping sectors round the LV of a slice."""
    rows, columns = np.nonzero(plane == MYO)
    lv_rows, lv_columns = np.nonzero(plane == LV)
    angles = np.arctan2(columns - lv_columns.mean(), rows - lv_rows.mean())
    centres = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    return np.array([(np.abs(np.angle(np.exp(1j * (angles - centre)))) < 0.4).sum() for centre in centres])


@pytest.mark.parametrize("index", range(3))
def test_infarct_thins_one_side_of_the_wall(index: int) -> None:
    drawn = patient("MINF", index)
    healthy = replace(drawn, heart=replace(drawn.heart, scar=None))
    depth = drawn.heart.scar.level * drawn.heart.length
    z = int(np.argmin(np.abs(np.asarray(drawn.scan.depths) - depth)))
    scarred, whole = (wall_by_sector(frame_labels(p, drawn.es_frame)[..., z]) for p in (drawn, healthy))
    assert scarred.min() / scarred.max() < 0.75 * whole.min() / whole.max()
    assert frame_labels(healthy, 1).shape == labels("MINF", "ED", index).shape


def test_beat_starts_at_diastole_and_peaks_at_systole() -> None:
    drawn = draw_patient("NOR", 0, frames=12)
    curve = [contraction_at(drawn, frame) for frame in range(1, 13)]
    assert curve[0] == 0 and np.argmax(curve) == drawn.es_frame - 1 and max(curve) == pytest.approx(1)
    assert 0 < curve[-1] < 0.2
    assert np.abs(np.diff(curve)).max() < 0.5


def test_scans_differ_between_patients_within_the_stated_ranges() -> None:
    scans = [patient_of(0, index).scan for index in range(12)]
    assert len({scan.spacing_mm[0] for scan in scans}) == 12 and len({scan.shape for scan in scans}) > 9
    for scan in scans:
        assert 1.3 <= scan.spacing_mm[0] <= 1.8 and 5 <= scan.spacing_mm[2] <= 10
        assert all(146 <= side <= 256 for side in scan.shape) and scan.shape[0] != scan.shape[1]
        assert np.allclose(np.diff(scan.depths), scan.spacing_mm[2])
