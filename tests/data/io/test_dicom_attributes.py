"""Headers that lack attributes or hold odd values: images are read; objects are valid, or a message names the cause."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from unia_med.data.io.dicom.label_objects import read_dicom_labels
from unia_med.data.io.dicom.rtstruct import RtStructWriter
from unia_med.data.io.dicom.seg import SegWriter
from unia_med.data.io.dicom.series import find_series, find_studies
from unia_med.errors import UserError

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

from pydicom.datadict import dictionary_VR  # noqa: E402
from pydicom.dataelem import RawDataElement  # noqa: E402
from pydicom.tag import Tag  # noqa: E402
from pydicom.uid import generate_uid  # noqa: E402

ARRAY = np.random.default_rng(0).integers(0, 4000, (8, 7, 3)).astype(np.uint16)
LABELS = np.ones(ARRAY.shape, np.uint8)


@pytest.fixture(autouse=True)
def lax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are written as hospitals write them."""
    monkeypatch.setattr(pydicom.config.settings, "writing_validation_mode", pydicom.config.IGNORE)


def changed(folder: Path, change: Any) -> None:
    """Write the files again without what their meta information says of them, each changed by a function."""
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        change(dataset)
        for name in ("MediaStorageSOPClassUID", "MediaStorageSOPInstanceUID"):
            delattr(dataset.file_meta, name)
        dataset.save_as(path)


def as_stored(name: str, value: str) -> RawDataElement:
    """An element of a value that pydicom would refuse to make."""
    raw = value.encode() + b" " * (len(value) % 2)
    return RawDataElement(Tag(name), dictionary_VR(name), len(raw), raw, 0, False, True)


@pytest.mark.parametrize(
    "name", ["BitsStored", "HighBit", "SamplesPerPixel", "PhotometricInterpretation", "PixelRepresentation"]
)
def test_pixels_without_a_description(dicom_files: ModuleType, tmp_path: Path, name: str) -> None:
    dicom_files.write_series(tmp_path, ARRAY, **{name: None})
    series = find_series(tmp_path)
    np.testing.assert_array_equal(series.frame(0).array, ARRAY)
    assert series.stack.notes == (f"the headers lack {name}: the usual values are taken",)


def test_pixels_that_cannot_be_decoded_name_the_attribute(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path, ARRAY, BitsAllocated=None)
    with pytest.raises(UserError, match="because of the attribute BitsAllocated"):
        find_series(tmp_path).frame(0)


@pytest.mark.parametrize("value", [None, ""])
@pytest.mark.parametrize(
    "name", ["SOPInstanceUID", "SOPClassUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID"]
)
def test_images_without_an_identity(dicom_files: ModuleType, tmp_path: Path, name: str, value: str | None) -> None:
    """They are read; objects that would point to nothing are not written, and a message names the attribute."""
    dicom_files.write_series(tmp_path / "s", ARRAY)
    changed(tmp_path / "s", lambda d: delattr(d, name) if value is None else setattr(d, name, value))
    series = find_series(tmp_path / "s")
    np.testing.assert_array_equal(series.frame(0).array, ARRAY)
    for kind in (SegWriter, RtStructWriter):
        with kind(series, ["LV"]) as writer:
            writer.write(0, LABELS, tmp_path / "out" / "object.dcm")
        assert writer.failed == f"the missing attribute {name}"
        assert not list(tmp_path.glob("out/*"))


def test_what_the_meta_information_says_is_enough(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "s", ARRAY)
    for path in (tmp_path / "s").iterdir():
        dataset = pydicom.dcmread(path)
        uid = dataset.SOPInstanceUID
        del dataset.SOPInstanceUID, dataset.SOPClassUID
        dataset.save_as(path)
    series = find_series(tmp_path / "s")
    with SegWriter(series, ["LV"]) as writer:
        writer.write(0, LABELS, tmp_path / "seg.dcm")
    (referred,) = pydicom.dcmread(tmp_path / "seg.dcm").ReferencedSeriesSequence
    items = referred.ReferencedInstanceSequence
    pointed = {item.ReferencedSOPInstanceUID: item.ReferencedSOPClassUID for item in items}
    assert len(pointed) == 3 and pointed[uid] == dicom_files.MR


@pytest.mark.parametrize(
    ("name", "value"),
    [("PatientAge", "fifty"), ("PatientSize", "1,70"), ("PatientWeight", "70kg"), ("AccessionNumber", "A" * 30)],
)
def test_odd_values_of_the_patient(dicom_files: ModuleType, tmp_path: Path, name: str, value: str) -> None:
    """What makes the object invalid is left out; numbers by which an archive finds the patient stay, without a word."""
    dicom_files.write_series(tmp_path / "s", ARRAY)
    changed(tmp_path / "s", lambda d: d.__setitem__(name, as_stored(name, value)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with SegWriter(find_series(tmp_path / "s"), ["LV"]) as writer:
            writer.write(0, LABELS, tmp_path / "seg.dcm")
    assert writer.failed is None
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (name in written) is (name == "AccessionNumber")


def stored_as(folder: Path, name: str, kind: str, raw: bytes) -> None:
    """Put bytes into the files as the value of an attribute, which pydicom would not write."""
    tag, mark = Tag(name), b"\xde\xad\xbe\xef\xca\xfe"
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        if tag in dataset:
            del dataset[tag]
        dataset.add_new(tag, "OB", mark)
        dataset.save_as(path)
        place = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
        old = place + b"OB\0\0" + len(mark).to_bytes(4, "little") + mark
        content = path.read_bytes()
        assert content.count(old) == 1
        path.write_bytes(content.replace(old, place + kind.encode() + len(raw).to_bytes(2, "little") + raw))


def segmented(folder: Path, path: Path) -> pydicom.Dataset:
    """The SEG of a series, written without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with SegWriter(find_series(folder), ["LV"]) as writer:
            writer.write(0, LABELS, path)
    assert writer.failed is None
    return pydicom.dcmread(path)


@pytest.mark.parametrize(("name", "raw"), [("DiffusionBValue", b"\0" * 4), ("AcquisitionDuration", b"\0" * 2)])
def test_numbers_of_another_length(dicom_files: ModuleType, tmp_path: Path, name: str, raw: bytes) -> None:
    dicom_files.write_series(tmp_path / "s", ARRAY)
    stored_as(tmp_path / "s", name, "FD", raw)
    np.testing.assert_array_equal(find_series(tmp_path / "s").frame(0).array, ARRAY)
    assert name not in segmented(tmp_path / "s", tmp_path / "seg.dcm")


@pytest.mark.parametrize("name", ["PixelSpacing", "ImagerPixelSpacing"])
def test_pixels_with_decimal_commas_or_another_attribute(dicom_files: ModuleType, tmp_path: Path, name: str) -> None:
    dicom_files.write_series(tmp_path, ARRAY, PixelSpacing=None)
    stored_as(tmp_path, name, "DS", b"1,4\\1,25")
    series = find_series(tmp_path)
    assert np.linalg.norm(series.affine[:3, :2], axis=0) == pytest.approx([1.25, 1.4])
    noted = ("the headers lack PixelSpacing: ImagerPixelSpacing is taken for it",)
    assert series.stack.notes == (() if name == "PixelSpacing" else noted)


@pytest.mark.parametrize(
    ("name", "kind", "raw", "kept"),
    [
        ("PatientBirthDate", "DA", b"19600231", ""),
        ("StudyDate", "DA", b"20210229", ""),
        ("PatientBirthDate", "DA", b"1960-02-29", "19600229"),
        ("PatientName", "PN", b"Doe^A\\Doe^B ", "Doe^A"),
        ("PatientID", "LO", b"12\\34 ", "12"),
        ("PatientName", "PN", b"Do\r\ne^A\0", "Doe^A"),
        ("SeriesNumber", "IS", b"99999999999 ", 1000),
    ],
)
def test_values_that_are_not_allowed(
    dicom_files: ModuleType, tmp_path: Path, name: str, kind: str, raw: bytes, kept: str | int
) -> None:
    dicom_files.write_series(tmp_path / "s", ARRAY)
    stored_as(tmp_path / "s", name, kind, raw)
    assert segmented(tmp_path / "s", tmp_path / "seg.dcm")[name].value == kept


@pytest.mark.parametrize("digits", [2, 3, 4])
def test_directions_that_were_rounded(dicom_files: ModuleType, tmp_path: Path, digits: int) -> None:
    turn = np.array([[0.8138, 0.4698, -0.342], [-0.4410, 0.8826, 0.1632]])  # nothing of it ends in zeros
    row = turn[0] / np.linalg.norm(turn[0])
    column = turn[1] - (turn[1] @ row) * row
    column /= np.linalg.norm(column)
    rounded = [f"{value:.{digits}f}" for value in (*row, *column)]
    dicom_files.write_series(tmp_path / "s", ARRAY, plane=(row, column), ImageOrientationPatient=rounded)
    found = find_series(tmp_path / "s").stack.grid[0][0].directions
    np.testing.assert_allclose(found @ found.T, np.eye(2), atol=1e-9)
    np.testing.assert_allclose(found, [row, column], atol=10**-digits)
    segmented(tmp_path / "s", tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read_dicom_labels(tmp_path / "seg.dcm", None).array, LABELS)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("SOPInstanceUID", "the attribute SOPInstanceUID, which several images share"),
        ("FrameOfReferenceUID", "the attribute FrameOfReferenceUID, which should be one for all images"),
    ],
)
def test_careless_anonymisation(dicom_files: ModuleType, tmp_path: Path, name: str, why: str) -> None:
    """One UID for all images where each should have its own, or the other way round: they are read all the same."""
    dicom_files.write_series(tmp_path / "s", ARRAY)
    fresh = generate_uid() if name == "SOPInstanceUID" else None
    changed(tmp_path / "s", lambda d: setattr(d, name, fresh or generate_uid()))
    series = find_series(tmp_path / "s")
    np.testing.assert_array_equal(series.frame(0).array, ARRAY)
    with SegWriter(series, ["LV"]) as writer:
        writer.write(0, LABELS, tmp_path / "seg.dcm")
    assert writer.failed == why and not (tmp_path / "seg.dcm").exists()


@pytest.mark.parametrize(
    "names", [["StudyInstanceUID"], ["SeriesInstanceUID"], ["PatientID"], ["StudyInstanceUID", "SeriesInstanceUID"]]
)
def test_each_image_has_its_own(dicom_files: ModuleType, tmp_path: Path, names: list[str]) -> None:
    """As where a program makes identities per file: one cine all the same, called by its folder."""
    cine = np.random.default_rng(1).integers(0, 4000, (8, 7, 3, 2)).astype(np.uint16)
    dicom_files.write_series(tmp_path / "s", cine)
    changed(tmp_path / "s", lambda d: [setattr(d, name, generate_uid()) for name in names])
    ((name, series),) = find_studies(tmp_path / "s").items()
    assert name == "s"
    np.testing.assert_array_equal(np.stack([series.frame(t).array for t in range(2)], -1), cine)
    missing = [name for name in ("StudyInstanceUID", "SeriesInstanceUID") if name in names]
    assert all(name in series.no_segmentation for name in missing)
    assert bool(series.no_segmentation) is bool(missing)


def test_single_images_of_several_patients_stay_apart(dicom_files: ModuleType, tmp_path: Path) -> None:
    for number in range(4):
        dicom_files.write_series(tmp_path / str(number), ARRAY[..., :1], PatientID=f"P{number}")
    found = find_studies(tmp_path)
    assert len(found) == 4 and not any(series.no_segmentation for series in found.values())


@pytest.mark.parametrize(
    ("name", "uid", "odd"),
    [
        ("StudyInstanceUID", "ANON-STUDY-0001", True),
        ("FrameOfReferenceUID", "1.2.03.4", True),
        ("SeriesInstanceUID", "1." + "2" * 70, True),
        ("StudyInstanceUID", "2.25.0.17", False),
    ],
)
def test_identities_that_are_no_uids(dicom_files: ModuleType, tmp_path: Path, name: str, uid: str, odd: bool) -> None:
    dicom_files.write_series(tmp_path / "s", ARRAY)
    changed(tmp_path / "s", lambda d: setattr(d, name, uid))
    noted = (f"no valid UID in {name}: DICOM objects repeat it as it is",)
    series = find_series(tmp_path / "s")
    assert series.stack.notes == (noted if odd else ()) and series.no_segmentation == ""
