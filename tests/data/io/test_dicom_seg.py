"""DICOM SEG: read back with highdicom, references, codes, and nothing left behind by errors."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unia_med.data.io.dicom.seg import SegWriter, known_codes, read_segmentation, seg_names
from unia_med.data.io.dicom.series import DicomSeries, find_series

NAMES = ("RV", "MYO", "LV")


@pytest.fixture
def cine(dicom_files: ModuleType, tmp_path: Path) -> DicomSeries:
    array = np.random.default_rng(0).integers(0, 900, (10, 8, 4, 2)).astype(np.int16)
    dicom_files.write_series(tmp_path / "cine", array)
    return find_series(tmp_path / "cine")


def random_labels(seed: int = 0) -> np.ndarray:
    labels = np.random.default_rng(seed).integers(0, 4, (10, 8, 4)).astype(np.uint8)
    labels[:, :, 1] = 0  # a slice without any class: its frames are left out of the object
    return labels


def write(series: DicomSeries, frames: list[np.ndarray], folder: Path, names: tuple[str, ...] = NAMES) -> list[Path]:
    paths = [folder / name for name in seg_names(series)]
    with SegWriter(series, names) as writer:
        for index, labels in enumerate(frames):
            writer.write(index, labels, paths[index])
    return paths


def test_voxels_lie_where_they_were_put(cine: DicomSeries, dicom_files: ModuleType, tmp_path: Path) -> None:
    """Independent of the source order: each frame of the object is placed by its own position in the patient."""
    import pydicom

    labels = random_labels()
    path = write(cine, [labels, labels[::-1].copy()], tmp_path / "out")[0]
    assert path.name == "cine_frame01_seg.dcm"
    found = np.zeros_like(labels)
    dataset = pydicom.dcmread(path)
    to_voxels = np.linalg.inv(dicom_files.true_affine())
    shared = dataset.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == pytest.approx(
        [*dicom_files.ROW, *dicom_files.COLUMN]
    )
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == pytest.approx(dicom_files.SPACING[:2])
    for item, plane in zip(dataset.PerFrameFunctionalGroupsSequence, dataset.pixel_array, strict=True):
        place = np.array(item.PlanePositionSequence[0].ImagePositionPatient, float) * [-1, -1, 1]
        x, y, z = np.round(to_voxels @ [*place, 1])[:3]
        assert (x, y) == (0, 0)
        found[:, :, int(z)] += plane.T * item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
    np.testing.assert_array_equal(found, labels)


def test_each_frame_refers_to_its_own_images(cine: DicomSeries, tmp_path: Path) -> None:
    import pydicom

    frames = [random_labels(1), random_labels(2)]
    paths = write(cine, frames, tmp_path / "out")
    written = [pydicom.dcmread(path) for path in paths]
    assert len({dataset.SeriesInstanceUID for dataset in written}) == 1
    assert [dataset.InstanceNumber for dataset in written] == [1, 2]
    for index, dataset in enumerate(written):
        grid = cine.stack.grid[index]
        expected = {instance.sop_uid for instance in grid}
        (series,) = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == grid[0].series_uid
        assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == expected
        for item in dataset.PerFrameFunctionalGroupsSequence:
            (source,) = item.DerivationImageSequence[0].SourceImageSequence
            assert source.ReferencedSOPInstanceUID in expected
        assert dataset.FrameOfReferenceUID == grid[0].frame_of_reference
        assert dataset.StudyInstanceUID == grid[0].study_uid and dataset.PatientName == "DOE^JANE"
        read = read_segmentation(paths[index], [instance.sop_uid for instance in grid])
        np.testing.assert_array_equal(read, frames[index].transpose(2, 1, 0))


def test_segments_have_standard_codes(cine: DicomSeries, tmp_path: Path) -> None:
    import pydicom

    path = write(cine, [random_labels(), random_labels()], tmp_path, (*NAMES, "scar"))[0]
    segments = pydicom.dcmread(path).SegmentSequence
    found = []
    for segment in segments:
        (code,) = segment.SegmentedPropertyTypeCodeSequence
        found.append((segment.SegmentLabel, code.CodeValue, code.CodingSchemeDesignator))
    assert found == [
        ("RV", "53085002", "SCT"),
        ("MYO", "49848007", "SCT"),
        ("LV", "87878005", "SCT"),
        ("scar", "CLASS4", "99UNIAMED"),
    ]
    assert all(segment.SegmentAlgorithmType == "AUTOMATIC" for segment in segments)


def test_codes_are_those_of_pydicoms_dictionary() -> None:
    concepts = pytest.importorskip("pydicom.sr._concepts_dict").concepts["SCT"]
    known = {value for entry in concepts.values() for value in entry}
    assert {value for value, _ in known_codes().values()} <= known
    assert "53085002" in concepts["RightVentricle"] and "87878005" in concepts["LeftVentricle"]
    assert "49848007" in concepts["StructureOfMyocardiumOfLeftVentricle"]


def test_nothing_found_is_written_too(cine: DicomSeries, tmp_path: Path) -> None:
    empty = np.zeros((10, 8, 4), np.uint8)
    path = write(cine, [empty, empty], tmp_path / "out")[0]
    assert not read_segmentation(path, [instance.sop_uid for instance in cine.stack.grid[0]]).any()


def test_joined_series_keep_their_references(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    array = np.zeros((10, 8, 4, 2), np.int16)
    dicom_files.write_series(tmp_path / "s", array, series_per_slice=True)
    series = find_series(tmp_path / "s")
    path = write(series, [random_labels()] * 2, tmp_path / "out")[1]
    pairs = {
        (item.SeriesInstanceUID, entry.ReferencedSOPInstanceUID)
        for item in pydicom.dcmread(path).ReferencedSeriesSequence
        for entry in item.ReferencedInstanceSequence
    }
    assert pairs == {(instance.series_uid, instance.sop_uid) for instance in series.stack.grid[1]}
    assert len({uid for uid, _ in pairs}) == 4


@pytest.mark.parametrize("file_per_slice", [False, True])
def test_objects_of_enhanced_images_point_to_their_frames(
    dicom_files: ModuleType, tmp_path: Path, file_per_slice: bool
) -> None:
    """By the standard's attributes alone: each plane names file and frame, which is the one of its place and time."""
    import pydicom

    from unia_med.data.io.dicom.rtstruct import RtStructWriter

    array = np.random.default_rng(2).integers(0, 900, (10, 8, 4, 3)).astype(np.uint16)
    dicom_files.write_enhanced(tmp_path / "s", array, file_per_slice=file_per_slice)
    files = {str(file.SOPInstanceUID): file for file in map(pydicom.dcmread, (tmp_path / "s").iterdir())}
    series, frames = find_series(tmp_path / "s"), [random_labels(t) for t in range(3)]
    paths = write(series, frames, tmp_path / "out")

    def check(source: pydicom.Dataset, t: int) -> int:
        image = files[source.ReferencedSOPInstanceUID]
        assert source.ReferencedSOPClassUID == image.SOPClassUID
        group = image.PerFrameFunctionalGroupsSequence[int(source.ReferencedFrameNumber) - 1]
        assert group.CardiacSynchronizationSequence[0].NominalCardiacTriggerDelayTime == 25.0 * t
        place = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        return round(float((place - dicom_files.ORIGIN) @ dicom_files.NORMAL / dicom_files.SPACING[2]))

    for t, path in enumerate(paths):
        dataset, found = pydicom.dcmread(path), np.zeros((10, 8, 4), np.uint8)
        for plane, item in zip(dataset.pixel_array, dataset.PerFrameFunctionalGroupsSequence, strict=True):
            z = check(item.DerivationImageSequence[0].SourceImageSequence[0], t)
            found[:, :, z] += plane.T * item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        np.testing.assert_array_equal(found, frames[t])
        uids = {
            i.ReferencedSOPInstanceUID for s in dataset.ReferencedSeriesSequence for i in s.ReferencedInstanceSequence
        }
        assert uids == set(files) and dataset.PatientName == "DOE^JANE"
        stated = [n for item in dataset.SourceImageSequence for n in np.atleast_1d(item.ReferencedFrameNumber)]
        assert len(stated) == 4
    with RtStructWriter(series, NAMES) as writer:
        writer.write(1, frames[1], tmp_path / "r.dcm")
    contours = pydicom.dcmread(tmp_path / "r.dcm").ROIContourSequence
    for contour in (one for region in contours for one in region.ContourSequence):
        first = np.array(contour.ContourData[:3], float)
        z = check(contour.ContourImageSequence[0], 1)
        assert (first - dicom_files.ORIGIN) @ dicom_files.NORMAL / dicom_files.SPACING[2] == pytest.approx(z, abs=1e-3)


@pytest.mark.parametrize("tag", ["PatientID", "PatientBirthDate", "AccessionNumber", "StudyTime", "PatientSex"])
def test_sources_without_patient_data(dicom_files: ModuleType, tmp_path: Path, tag: str) -> None:
    dicom_files.write_series(tmp_path / "s", np.zeros((10, 8, 4), np.int16), **{tag: None})
    series = find_series(tmp_path / "s")
    (path,) = write(series, [random_labels()], tmp_path / "out")
    assert path.name == "s_seg.dcm" and path.is_file()


def test_an_error_leaves_nothing(cine: DicomSeries, tmp_path: Path) -> None:
    path = tmp_path / "out" / "a.dcm"
    with pytest.raises(KeyboardInterrupt), SegWriter(cine, NAMES) as writer:
        writer.write(0, random_labels(), path)
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []
