"""The stack of a whole exported study, found among localisers, long axes and other sequences by geometry."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from unia_med.data.io.dicom.kind import Geometry, StackKind, expected_stack
from unia_med.data.io.dicom.label_objects import read_dicom_labels
from unia_med.data.io.dicom.seg import SegWriter
from unia_med.data.io.dicom.series import DicomSeries, find_named, find_series, find_studies
from unia_med.data.io.regrid import nearest_on_grid
from unia_med.errors import UserError

KIND = expected_stack(["RV", "MYO", "LV"])
CINE = np.random.default_rng(1).integers(0, 900, (20, 18, 8, 10)).astype(np.uint16)


def taken(series: DicomSeries) -> set[int | None]:
    return {item.series_number for row in series.stack.grid for item in row}


def kind() -> StackKind:
    assert KIND is not None
    return KIND


def test_only_a_model_of_hearts_expects_a_stack() -> None:
    assert expected_stack(["liver", "spleen"]) is None
    assert expected_stack(["lv", "wall"]) == KIND


@pytest.mark.parametrize("per_series", [1, 3, None])
def test_a_whole_study(dicom_files: ModuleType, tmp_path: Path, per_series: int | None) -> None:
    dicom_files.write_study(tmp_path / "s", CINE, per_series=per_series)
    series = find_series(tmp_path / "s", kind=KIND)
    assert series.shape == CINE.shape
    assert taken(series) == set(range(10, 10 + {1: 8, 3: 3, None: 1}[per_series]))
    np.testing.assert_array_equal(np.stack([series.frame(t).array for t in range(10)], -1), CINE)
    why = series.stack.notes[0]
    assert "8 parallel slices 9 mm apart, 10 phases" in why and "short-axis cine" in why
    for said in ("another plane (2, 3", "no parallel slices with a place (1)", "too few slices (80)", "CT images (90)"):
        assert said in why
    assert "inversion recovery (70)" in why and "less complete or earlier (60)" in why
    assert not [secret for secret in dicom_files.SECRETS if secret in why]


def test_the_number_of_a_series_overrules(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_study(tmp_path / "s", CINE)
    assert taken(find_series(tmp_path / "s", "60", KIND)) == {60}
    long_axis = find_series(tmp_path / "s", "2", KIND)
    assert taken(long_axis) == {2}
    assert any("another plane" in note and "may be wrong" in note for note in long_axis.stack.notes)


def test_breath_holds_without_a_common_description(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_study(tmp_path / "s", CINE)
    import pydicom

    for path in (tmp_path / "s" / "a").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.SeriesDescription = f"run {'abcdefgh'[dataset.SeriesNumber - 10]}"
        dataset.save_as(path)
    assert taken(find_series(tmp_path / "s", kind=KIND)) == set(range(10, 18))


def test_several_patients_are_a_batch(dicom_files: ModuleType, tmp_path: Path) -> None:
    for name in ("p", "q"):
        dicom_files.write_study(tmp_path / "t" / name, CINE)
    found = find_studies(tmp_path / "t", kind=KIND)
    assert [(name, series.shape) for name, series in found.items()] == [
        ("t_study1_series10", CINE.shape),
        ("t_study2_series10", CINE.shape),
    ]


def test_a_stack_taken_again_is_the_later_one(dicom_files: ModuleType, tmp_path: Path) -> None:
    axis = {"plane": dicom_files.plane_of(dicom_files.SHORT_AXIS), "study": "1.2", "frame_of_reference": "1.3"}
    for number in (5, 9):
        dicom_files.write_series(tmp_path / str(number), CINE + number, number=number, **axis)
    assert taken(find_series(tmp_path, kind=KIND)) == {9}


def test_a_stack_that_cannot_be_used_is_passed_over(dicom_files: ModuleType, tmp_path: Path) -> None:
    axis = {"plane": dicom_files.plane_of(dicom_files.SHORT_AXIS), "study": "1.2", "frame_of_reference": "1.3"}
    dicom_files.write_series(tmp_path / "a", CINE[:, :, :6], number=5, **axis)
    dicom_files.write_series(tmp_path / "b", CINE, number=9, skip=(4,), description="again", **axis)
    series = find_series(tmp_path, kind=KIND)
    assert taken(series) == {5} and "1 slice is missing" in series.stack.notes[1]


def test_no_stack_is_said_with_what_is_there(dicom_files: ModuleType, tmp_path: Path) -> None:
    across = np.cross(dicom_files.SHORT_AXIS, (0, 0, 1))
    for number in (2, 3):
        plane = {"plane": dicom_files.plane_of(across), "number": number, "study": "1.2"}
        dicom_files.write_series(tmp_path / str(number), CINE, **plane)
    with pytest.raises(UserError, match=r"no short-axis cine: another plane \(2, 3\)") as caught:
        find_series(tmp_path, kind=KIND)
    assert "--series NUMBER" in str(caught.value) and "series 2: MR, 80 of" in str(caught.value)


@pytest.mark.parametrize("degrees", [0.0, 17.0, 63.0, 90.0])
def test_the_angle_to_the_axis(dicom_files: ModuleType, tmp_path: Path, degrees: float) -> None:
    axis = np.asarray(kind().axis_lps) / np.linalg.norm(kind().axis_lps)
    aside = np.cross(axis, (0, 0, 1)) / np.linalg.norm(np.cross(axis, (0, 0, 1)))
    normal = np.cos(np.radians(degrees)) * axis - np.sin(np.radians(degrees)) * aside
    dicom_files.write_series(tmp_path, CINE, plane=dicom_files.plane_of(-normal))
    shape = Geometry.of(find_series(tmp_path).stack.grid[0])
    assert shape is not None and shape.degrees_from(axis) == pytest.approx(degrees, abs=1e-3)
    assert (shape.slices, shape.phases, shape.gap_mm) == (8, 1, pytest.approx(9.0, abs=1e-4))


def breath_holds(dicom_files: ModuleType, folder: Path, array: np.ndarray = CINE, **options: Any) -> None:
    shared = {"plane": dicom_files.plane_of(dicom_files.SHORT_AXIS), "study": "1.2", "frame_of_reference": "1.3"}
    dicom_files.write_series(folder, array, **{"number": 20, "series_per_slice": True, **shared, **options})


def test_breath_holds_taken_again_elsewhere(dicom_files: ModuleType, tmp_path: Path) -> None:
    """Half-way between two slices, 2 % off its place, and moved in plane: the first and the last are left out."""
    one = {"series_per_slice": False, "skip": tuple(range(1, 8))}
    breath_holds(dicom_files, tmp_path / "a")
    for number, depth in ((40, 4.5 * 9), (41, 6 * 9 + 0.2)):
        breath_holds(dicom_files, tmp_path / str(number), **{**one, "number": number, "depths": [depth] * 8})
    moved = dicom_files.ORIGIN + 5 * dicom_files.plane_of(dicom_files.SHORT_AXIS)[0]
    breath_holds(dicom_files, tmp_path / "42", **{**one, "number": 42, "depths": [18.0] * 8, "origin": moved})
    series = find_series(tmp_path, kind=KIND)
    assert series.shape == CINE.shape and taken(series) == {*range(20, 26), 27, 41}
    assert series.stack.notes[1:] == (
        "2 slices were taken again; the last of each counts",
        "series 40 lie between the slices of the stack and are left out",
    )
    for wanted in ("20-27", "22-25"):  # also those that the choice had left out
        assert len(taken(find_series(tmp_path, wanted, KIND))) == (8 if wanted == "20-27" else 4)
    labels = np.random.default_rng(0).integers(0, 2, CINE.shape[:3]).astype(np.uint8)
    with SegWriter(series, ["LV"]) as writer:
        writer.write(0, labels, tmp_path / "seg.dcm")
    stored = read_dicom_labels(tmp_path / "seg.dcm", None)  # though a little uneven
    found = nearest_on_grid(stored.array, stored.affine, labels.shape, series.affine)
    np.testing.assert_array_equal(found, labels)


def test_numbers_all_over_the_descriptions_next_to_another_stack(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    for number, folder in ((20, "rest"), (60, "stress")):
        breath_holds(dicom_files, tmp_path / folder, number=number, description=folder)
    for path in (tmp_path / "rest").iterdir():
        dataset = pydicom.dcmread(path)
        slice_number = int(dataset.SeriesNumber) - 19
        dataset.SeriesDescription = f"{slice_number}. cine {slice_number}/8"
        dataset.save_as(path)
    series = find_series(tmp_path, kind=KIND)
    assert taken(series) == set(range(60, 68)) and series.shape == CINE.shape
    assert "fits too, but is less complete or earlier (20 to 27)" in series.stack.notes[0]


def test_directions_and_echo_times_that_differ_a_little(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    breath_holds(dicom_files, tmp_path)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        slice_number = int(dataset.SeriesNumber) - 20
        turned = [float(v) for v in dataset.ImageOrientationPatient]
        turned[0] += 3e-5 * (-1) ** slice_number
        dataset.ImageOrientationPatient = [f"{v:.9g}" for v in turned]
        dataset.EchoTime, dataset.SeriesDescription = 1.2 + 0.01 * (slice_number % 3), "abcdefgh"[slice_number]
        dataset.save_as(path)
    series = find_series(tmp_path, kind=KIND)
    assert series.shape == CINE.shape
    with SegWriter(series, ["LV"]) as writer:
        writer.write(0, np.ones(CINE.shape[:3], np.uint8), tmp_path / "out" / "seg.dcm")
    assert writer.failed is None and (tmp_path / "out" / "seg.dcm").is_file()


def test_a_mosaic_in_a_study_is_called_so(dicom_files: ModuleType, tmp_path: Path) -> None:
    breath_holds(dicom_files, tmp_path / "m", CINE[:, :, :1], ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"])
    breath_holds(dicom_files, tmp_path / "l", CINE[:, :, :1], number=40)
    with pytest.raises(UserError, match=r"mosaics, which dcm2niix takes apart \(20\)"):
        find_series(tmp_path, kind=KIND)


def test_a_series_that_mixes_planes(dicom_files: ModuleType, tmp_path: Path) -> None:
    breath_holds(dicom_files, tmp_path / "a", series_per_slice=False, SeriesInstanceUID="1.5")
    across = dicom_files.plane_of(np.cross(dicom_files.SHORT_AXIS, (0, 0, 1)))
    breath_holds(dicom_files, tmp_path / "b", series_per_slice=False, SeriesInstanceUID="1.5", plane=across)
    for wanted in (None, "20"):
        series = find_series(tmp_path, wanted, KIND)
        np.testing.assert_array_equal(np.stack([series.frame(t).array for t in range(10)], -1), CINE)
    assert "another plane (20)" in find_series(tmp_path, kind=KIND).stack.notes[0]


def test_images_sent_twice_and_a_slice_with_fewer_phases(dicom_files: ModuleType, tmp_path: Path) -> None:
    for name in ("a", "b"):  # all UIDs of the images differ
        breath_holds(dicom_files, tmp_path / name, series_per_slice=False, SeriesInstanceUID="1.5")
    assert find_series(tmp_path, kind=KIND).shape == CINE.shape
    for path in (tmp_path / "b").iterdir():
        path.unlink()
    import pydicom

    for path in (tmp_path / "a").iterdir():
        dataset = pydicom.dcmread(path)
        if dataset.InstanceNumber in (75, 80):  # phases 5 and 10 of the first slice
            path.unlink()
    series = find_series(tmp_path, kind=KIND)
    assert series.shape == CINE.shape and "slice 1 has 8" in series.stack.notes[0]
    assert series.no_segmentation == ""  # an image that stands for two phases is no shared identity


def test_patients_who_share_a_study_are_apart(dicom_files: ModuleType, tmp_path: Path) -> None:
    for patient in ("one", "two"):
        breath_holds(dicom_files, tmp_path / patient, PatientID=patient)
    found = find_studies(tmp_path, kind=KIND)
    assert [series.shape for series in found.values()] == [CINE.shape, CINE.shape]


@pytest.mark.parametrize("kinds", [("M", "P"), ("M_FFE", "P_FFE")])
def test_of_flow_the_magnitudes_are_taken(dicom_files: ModuleType, tmp_path: Path, kinds: tuple[str, str]) -> None:
    for kind, array in zip(kinds, (CINE, CINE + 7), strict=True):
        image_type = ["ORIGINAL", "PRIMARY", kind, "ND"]
        same = {"series_per_slice": False, "SeriesInstanceUID": "1.5", "ImageType": image_type}
        breath_holds(dicom_files, tmp_path / kind, array, **same)
    series = find_series(tmp_path, kind=KIND)
    np.testing.assert_array_equal(series.frame(0).array, CINE[..., 0])
    assert "no magnitudes (20)" in series.stack.notes[0]


@pytest.mark.slow
def test_results_are_found_again_by_their_name(dicom_files: ModuleType, tmp_path: Path) -> None:
    for patient in ("p", "q"):
        dicom_files.write_study(tmp_path / "t" / patient, CINE)
    found = find_studies(tmp_path / "t", kind=KIND)
    for name, series in found.items():
        again = find_named(tmp_path / "t", name, series.series_numbers, KIND)
        assert again is not None and again.name == name and again.stack.grid == series.stack.grid
    part = find_series(tmp_path / "t" / "p", "10-16", KIND)
    assert part.shape[2] == 7
    again = find_named(tmp_path / "t" / "p", part.name, part.series_numbers, KIND)
    assert again is not None and again.stack.grid == part.stack.grid
    assert find_named(tmp_path / "t", "other_series10", [10], KIND) is None


@pytest.mark.parametrize("timing", ["trigger", "number"])
def test_every_image_of_a_cine_is_a_series(dicom_files: ModuleType, tmp_path: Path, timing: str) -> None:
    import pydicom

    breath_holds(dicom_files, tmp_path, timing=timing)
    for path in tmp_path.iterdir():
        dataset = pydicom.dcmread(path)
        phase = (dataset.InstanceNumber - 1) % 10
        dataset.SeriesNumber, dataset.InstanceNumber = 10 * int(dataset.SeriesNumber) + phase, 1
        dataset.SeriesInstanceUID = f"1.6.{dataset.SeriesNumber}"
        dataset.save_as(path)
    series = find_series(tmp_path, kind=KIND)
    np.testing.assert_array_equal(np.stack([series.frame(t).array for t in range(10)], -1), CINE)
