"""Cardiac indices as DICOM SR, read back with highdicom and with pydicom alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel
import numpy as np
import pytest

from unia_med.cardiac.results import measure_results
from unia_med.data.io.dicom.seg import SegWriter, seg_names
from unia_med.data.io.dicom.series import DicomSeries, find_series

CLASSES = ("RV", "MYO", "LV")
VOXEL_ML = 1.4 * 1.25 * 9.0 / 1000


def heart(pool: int) -> np.ndarray:
    """Labels (30, 26, 5) of a square heart: a pool of `pool` x `pool` pixels in a wall of 3, and another pool."""
    labels = np.zeros((30, 26, 5), np.uint8)
    for z in range(1, 4):
        labels[2:6, 8:18, z] = 1
        labels[7 : 13 + pool, 5 : 11 + pool, z] = 2
        labels[10 : 10 + pool, 8 : 8 + pool, z] = 3
    return labels


@pytest.fixture
def masks(dicom_files: ModuleType, tmp_path: Path) -> tuple[DicomSeries, Path, list[np.ndarray]]:
    """A cine of three frames, its masks and SEG objects as `predict` writes them."""
    image = np.random.default_rng(0).integers(0, 900, (30, 26, 5, 3)).astype(np.int16)
    dicom_files.write_series(tmp_path / "p", image, plane=dicom_files.plane_of(dicom_files.SHORT_AXIS))
    series, folder = find_series(tmp_path / "p"), tmp_path / "out"
    frames = [heart(10), heart(6), heart(8)]
    with SegWriter(series, CLASSES) as writer:
        for index, name in enumerate(seg_names(series)):
            writer.write(index, frames[index], folder / name)
    save(series, frames, folder / "p_seg.nii.gz")
    return series, folder, frames


def save(series: DicomSeries, frames: list[np.ndarray], path: Path) -> None:
    header = series.header
    header.set_data_dtype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(np.stack(frames, -1), series.affine, header), path)


def numbers(items: Any) -> Iterator[tuple[str, float, str]]:
    """Code, value and unit of all numbers below a content item, by the standard's attributes alone."""
    for item in items:
        if item.ValueType == "NUM":
            value = item.MeasuredValueSequence[0]
            unit = value.MeasurementUnitsCodeSequence[0]
            assert unit.CodingSchemeDesignator == "UCUM"
            yield item.ConceptNameCodeSequence[0].CodeValue, float(value.NumericValue), unit.CodeValue
        yield from numbers(item.get("ContentSequence", ()))


def test_numbers_and_what_they_point_to(masks: tuple, dicom_files: ModuleType) -> None:
    import highdicom
    import pydicom

    series, folder, _ = masks
    said = list(measure_results(folder, CLASSES))
    assert any("EF 64 %" in line for line in said) and (folder / "indices.csv").is_file()
    dataset = pydicom.dcmread(folder / "p_sr.dcm")
    full, empty = 3 * 100 * VOXEL_ML, 3 * 36 * VOXEL_ML
    right, wall = 3 * 40 * VOXEL_ML, 3 * (16 * 16 - 100) * VOXEL_ML
    found = {
        (code, unit): value
        for code, value, unit in numbers(dataset.ContentSequence)
        if code not in ("118565006", "122445")
    }
    assert found == pytest.approx(
        {
            ("8821-1", "mL"): full,
            ("8823-7", "mL"): empty,
            ("8822-9", "mL"): right,
            ("8824-5", "mL"): right,
            ("90096001", "mL"): full - empty,
            ("429483009", "mL"): 0.0,
            ("18087-7", "g"): wall * 1.05,
            ("70822001", "%"): 0.0,  # of the RV, the last of the two
        },
        abs=1e-3,
    )
    fractions = [value for code, value, _ in numbers(dataset.ContentSequence) if code == "70822001"]
    assert fractions == pytest.approx([64.0, 0.0])
    assert dataset.PatientName == dicom_files.SECRETS[0] and dataset.Modality == "SR"
    source = pydicom.dcmread(series.stack.grid[0][0].path, stop_before_pixels=True)
    assert dataset.StudyInstanceUID == source.StudyInstanceUID

    report = highdicom.sr.srread(folder / "p_sr.dcm")
    groups = report.content.get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == [
        f"{name} at {phase}" for phase in ("ED", "ES") for name in ("LV", "RV", "MYO")
    ]
    objects = {phase: pydicom.dcmread(folder / f"p_frame0{frame}_seg.dcm") for phase, frame in (("ED", 1), ("ES", 2))}
    for group in groups:
        name, _, phase = group.tracking_identifier.split()
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == objects[phase].SOPInstanceUID
        assert CLASSES[segment.referenced_segment_numbers[0] - 1] == name
        frame = 0 if phase == "ED" else 1
        images = {image.referenced_sop_instance_uid for image in segment.source_images_for_segmentation}
        assert images == {item.sop_uid for item in series.stack.grid[frame]}
    evidence = {
        str(item.ReferencedSOPInstanceUID)
        for name in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(name, ())
        for one in study.ReferencedSeriesSequence
        for item in one.ReferencedSOPSequence
    }
    images = {item.sop_uid for frame in series.stack.grid[:2] for item in frame}
    assert evidence == images | {str(seg.SOPInstanceUID) for seg in objects.values()}


@pytest.mark.slow
def test_the_wall_by_segment(masks: tuple) -> None:
    """Codes are those of pydicom's dictionary of CID 3717; numbers those of the table next to the masks."""
    import csv

    import highdicom
    from pydicom.sr.codedict import codes

    from unia_med.cardiac.segments import NAMES

    series, folder, _ = masks
    list(measure_results(folder, CLASSES))
    rows = list(csv.DictReader((folder / "indices_segments.csv").open()))
    table = {(row["segment"], phase): row[f"thickness_{phase.lower()}_mm"] for row in rows for phase in ("ED", "ES")}
    known = {code.value: code.meaning for code in codes.cid3717.concepts.values()}
    report = highdicom.sr.srread(folder / "p_sr.dcm")
    found = {}
    for group in report.content.get_image_measurement_groups():
        if "AHA segment" not in group.tracking_identifier:
            continue
        _, _, number, *_, phase = group.tracking_identifier.split()
        (site,), (measurement,) = group.finding_sites, group.get_measurements()
        words, meaning = NAMES[int(number) - 1].split(), known[site.value.value].lower()
        assert site.value.scheme_designator == "SCT" and words[-1] in meaning and words[0] in meaning
        assert (measurement.name.value, measurement.unit.value) == ("122445", "mm")
        found[number, phase] = measurement.value
        images = {item.referenced_sop_instance_uid for item in group.source_images}
        assert images == {item.sop_uid for item in series.stack.grid[0 if phase == "ED" else 1]}
    assert len(found) == len({key for key, value in table.items() if value}) >= 30
    for key, value in found.items():
        assert value == pytest.approx(float(table[key]), abs=1e-3)
    groups = report.content.get_volumetric_roi_measurement_groups()
    muscle = next(group for group in groups if group.tracking_identifier == "MYO at ED")
    means = [m.value for m in muscle.get_measurements() if m.name.value == "122445"]
    (row,) = csv.DictReader((folder / "indices.csv").open())
    assert means == pytest.approx([float(row[f"wall_thickness_{name}_ed_mm"]) for name in ("mean", "max")], abs=1e-3)


def test_a_corrected_mask_gets_no_report_that_points_to_the_old_object(masks: tuple) -> None:
    series, folder, frames = masks
    frames[0][10, 8, 2] = 2
    save(series, frames, folder / "p_seg.nii.gz")
    said = list(measure_results(folder, CLASSES))
    assert any("no DICOM SR: its voxels differ" in line for line in said)
    assert not (folder / "p_sr.dcm").exists() and (folder / "indices.csv").is_file()


def test_a_header_that_makes_no_report_costs_nothing_else(
    masks: tuple, dicom_files: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import highdicom

    def fail(**values: object) -> None:
        raise ValueError(f"PatientSex is bad in {dicom_files.SECRETS}")

    monkeypatch.setattr(highdicom.sr, "Comprehensive3DSR", fail)
    _, folder, _ = masks
    said = "\n".join(measure_results(folder, CLASSES))
    assert "no valid SR can be made, because of the attribute PatientSex" in said
    assert not [secret for secret in dicom_files.SECRETS if secret in said] and (folder / "indices.csv").is_file()


def test_masks_of_other_organs_are_left_alone(masks: tuple) -> None:
    _, folder, _ = masks
    assert list(measure_results(folder, ("liver", "spleen", "kidney"))) == []
    assert not (folder / "indices.csv").exists()


def test_many_unusual_masks_are_counted_and_all_are_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unia_med.cardiac.results._SHOWN", 2)
    for name in "abcde":
        image = nibabel.Nifti1Image(heart(2), np.diag([1.0, 1.0, 1.0, 1.0]))  # a pool of 12 voxels
        nibabel.save(image, tmp_path / f"{name}_seg.nii.gz")
    said = [line for line in measure_results(tmp_path, CLASSES) if line.startswith("note: ")]
    assert [line.split(": ")[1:3] for line in said[:2]] == [["a", "look again"], ["b", "look again"]]
    assert len(said) == 3 and said[2].startswith("note: look again at 3 more") and "indices.csv" in said[2]
    assert (tmp_path / "indices.csv").read_text().count("LV EDV 0.012 ml") == 5


def test_corrected_masks_get_objects_of_their_own(masks: tuple, tmp_path: Path) -> None:
    import pydicom

    from unia_med.cli.main import main
    from unia_med.data.io.dicom.seg import read_segmentation

    series, folder, frames = masks
    frames[2][...] = 0
    frames[2][10:15, 8:12, 1:4], frames[1][10, 8, 2] = 3, 2
    save(series, frames, folder / "p_seg.nii.gz")
    arguments = ["--masks", str(folder), "--classes", "RV,MYO,LV", "--output", str(tmp_path / "i.csv")]
    assert main(["cardiac", *arguments, "--sr", str(tmp_path / "new")]) == 1
    assert not (tmp_path / "new").exists()
    more = ["--sr", str(tmp_path / "new"), "--images", str(series.path), "--es", "2"]
    assert main(["cardiac", *arguments, *more]) == 0
    report = pydicom.dcmread(tmp_path / "new" / "p_sr.dcm")
    found = {code: value for code, value, _ in numbers(report.ContentSequence)}
    assert found["8823-7"] == pytest.approx((3 * 36 - 1) * VOXEL_ML, abs=1e-3)  # of frame 2, as stated
    for index, path in enumerate(sorted((tmp_path / "new").glob("*_seg.dcm"))):
        labels = read_segmentation(path, [item.sop_uid for item in series.stack.grid[index]])
        np.testing.assert_array_equal(labels.transpose(2, 1, 0), frames[index])
    evidence = str(report.CurrentRequestedProcedureEvidenceSequence)
    uids = [str(pydicom.dcmread(p).SOPInstanceUID) for p in sorted((tmp_path / "new").glob("*_seg.dcm"))]
    assert [uid in evidence for uid in uids] == [True, True, False]
