"""Headers that lack attributes or hold odd values: images are read; objects are valid, or a message names the cause."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from unia_med.data.io.dicom.rtstruct import RtStructWriter
from unia_med.data.io.dicom.seg import SegWriter
from unia_med.data.io.dicom.series import find_series
from unia_med.errors import UserError

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
