"""DICOM series: found, ordered by geometry, checked; truths are the written arrays, the standard's formula and ITK."""

from __future__ import annotations

import builtins
import logging
import shutil
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from unia_med.data.io.dicom import scan
from unia_med.data.io.dicom.scan import has_dicom
from unia_med.data.io.dicom.series import DicomSeries, find_series, find_studies
from unia_med.errors import UserError


def numbers(*shape: int, dtype: type = np.int16) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 1200, shape).astype(dtype)


def voxels(series: DicomSeries) -> np.ndarray:
    frames = [series.frame(index).array for index in range(series.frames)]
    return np.stack(frames, -1) if len(frames) > 1 else frames[0]


def refusal(folder: Path, wanted: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        find_series(folder, wanted)
    assert caught.value.where == folder
    return str(caught.value)


@pytest.mark.parametrize("shape", [(13, 9, 5), (13, 9, 1), (8, 11, 4, 6), (8, 11, 1, 3)])
@pytest.mark.parametrize("seed", [0, 1])
def test_shuffled_oblique_series(dicom_files: ModuleType, tmp_path: Path, shape: tuple[int, ...], seed: int) -> None:
    array = numbers(*shape)
    dicom_files.write_series(tmp_path / "scan" / "deep" / "er", array, seed=seed, SpacingBetweenSlices=9.0)
    (tmp_path / "scan" / "notes.dcm").write_text("no DICOM in spite of its name" * 20)
    series = find_series(tmp_path / "scan")
    np.testing.assert_array_equal(voxels(series), array)
    np.testing.assert_allclose(series.affine, dicom_files.true_affine(), atol=1e-4)
    assert (series.shape, series.name, series.stack.notes) == (shape, "scan", ())
    if len(shape) == 4:
        assert series.header.get_zooms()[3] == np.float32(0.03)
    assert series.header.get_xyzt_units()[0] == "mm"


def test_same_voxels_and_geometry_as_simpleitk(dicom_files: ModuleType, tmp_path: Path) -> None:
    import SimpleITK as sitk

    dicom_files.write_series(tmp_path, numbers(13, 9, 5), slope=2.5, intercept=-100.0)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    image = reader.Execute()
    series = find_series(tmp_path)
    np.testing.assert_allclose(voxels(series), sitk.GetArrayFromImage(image).transpose(), rtol=1e-6)
    for index in [(0, 0, 0), (12, 3, 4), (2, 8, 1)]:
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose((series.affine @ [*index, 1])[:3], lps * [-1, -1, 1], atol=1e-3)


@pytest.mark.parametrize(("slope", "kind"), [(None, "i"), (1.0, "i"), (0.5, "f")])
def test_rescaling(dicom_files: ModuleType, tmp_path: Path, slope: float | None, kind: str) -> None:
    array = numbers(6, 5, 2)
    dicom_files.write_series(tmp_path, array, slope=slope)
    found = voxels(find_series(tmp_path))
    assert found.dtype.kind == kind
    np.testing.assert_array_equal(found, array * (slope or 1))


@pytest.mark.parametrize(("timing", "step"), [("trigger", 0.025), ("temporal", 0.025), ("number", None)])
def test_what_orders_phases(dicom_files: ModuleType, tmp_path: Path, timing: str, step: float | None) -> None:
    array = numbers(6, 5, 3, 4)
    more = {} if timing == "number" else {"InstanceNumber": 1}  # must not be needed
    dicom_files.write_series(tmp_path, array, timing=timing, step_ms=25.0, **more)
    series = find_series(tmp_path)
    np.testing.assert_array_equal(voxels(series), array)
    assert series.stack.time_step_s == (step and pytest.approx(step))
    if step is None:
        assert "unknown" in series.stack.notes[0] and series.header.get_xyzt_units() == ("mm", "unknown")


def test_the_heart_period_gives_the_time_step(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(
        tmp_path, numbers(6, 5, 2, 4), timing="number", NominalInterval=900, CardiacNumberOfImages=30
    )
    assert find_series(tmp_path).stack.time_step_s == pytest.approx(0.03)


def test_uneven_heart_beats_are_noted(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    files = dicom_files.write_series(tmp_path, numbers(6, 5, 2, 4), step_ms=30.0)
    for (z, t), path in files.items():
        if z == 1:
            dataset = pydicom.dcmread(path)
            dataset.TriggerTime = 40.0 * t
            dataset.save_as(path)
    stack = find_series(tmp_path).stack
    assert stack.time_step_s == pytest.approx(0.035)
    assert "30.0 to 40.0 ms" in stack.notes[0]


def test_a_slice_per_series_becomes_one_stack(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 4, 3)
    dicom_files.write_series(tmp_path / "s", array, series_per_slice=True, number=20)
    series = find_series(tmp_path / "s")
    np.testing.assert_array_equal(voxels(series), array)
    dicom_files.write_series(tmp_path / "s" / "other", numbers(6, 5, 2), number=50, description="scout")
    said = refusal(tmp_path / "s")
    assert "series 20 to 23: MR, 12 of 5 x 6 at 4 places (4 series together)" in said
    chosen = find_series(tmp_path / "s", "22")
    np.testing.assert_array_equal(voxels(chosen), array)
    assert chosen.name == "s_series20"


def test_two_series_at_one_place_are_a_choice(dicom_files: ModuleType, tmp_path: Path) -> None:
    study = {"study": "1.2.3", "frame_of_reference": "1.2.4"}
    for number in (1, 2):
        dicom_files.write_series(tmp_path / str(number), numbers(6, 5, 1, 3), number=number, **study)
    said = refusal(tmp_path)
    assert "series 1:" in said and "series 2:" in said


def test_of_a_repeated_breath_hold_the_last_counts(dicom_files: ModuleType, tmp_path: Path) -> None:
    array, again = numbers(6, 5, 3, 4), numbers(6, 5, 3, 4) + 1000
    study = {"study": "1.2.3", "frame_of_reference": "1.2.4", "series_per_slice": True}
    dicom_files.write_series(tmp_path / "a", array, number=10, **study)
    dicom_files.write_series(tmp_path / "b", again, number=30, skip=(0, 2), **study)
    series = find_series(tmp_path)
    assert np.array_equal(voxels(series), np.stack([array[:, :, 0], again[:, :, 1], array[:, :, 2]], axis=2))
    assert series.stack.notes[0] == "1 slice was taken again; the last of each counts"


def test_series_numbered_in_the_description_and_single_images(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 4, 3)
    study = {"study": "1.2.3", "frame_of_reference": "1.2.4", "series_per_slice": True}
    for z in range(4):
        others = tuple(other for other in range(4) if other != z)
        dicom_files.write_series(
            tmp_path / "a" / str(z), array, skip=others, description=f"cine_sa_{z + 1}", number=7, **study
        )
    assert np.array_equal(voxels(find_series(tmp_path / "a")), array)
    dicom_files.write_series(tmp_path / "b", array[..., 0], **study)
    assert np.array_equal(voxels(find_series(tmp_path / "b")), array[..., 0])


def test_slices_of_another_number_of_phases_get_the_usual(dicom_files: ModuleType, tmp_path: Path) -> None:
    array, long = numbers(6, 5, 3, 4), numbers(6, 5, 3, 7)
    study = {"study": "1.2.3", "frame_of_reference": "1.2.4", "series_per_slice": True}
    dicom_files.write_series(tmp_path / "a", array, number=10, skip=(1,), **study)
    dicom_files.write_series(tmp_path / "b", long, number=20, skip=(0, 2), step_ms=15.0, **study)
    series = find_series(tmp_path)
    assert series.shape == (6, 5, 3, 4) and np.array_equal(voxels(series)[:, :, 0], array[:, :, 0])
    assert np.array_equal(voxels(series)[:, :, 1], long[:, :, 1, [0, 2, 4, 6]])
    assert "4 phases at most slices, but slice 2 has 7" in series.stack.notes[0]


def test_a_list_of_series_numbers_makes_a_stack(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 4, 3)
    study = {"study": "1.2.3", "frame_of_reference": "1.2.4", "series_per_slice": True}
    dicom_files.write_series(tmp_path / "a", array, number=40, skip=(3,), **study)
    dicom_files.write_series(tmp_path / "b", array, number=57, skip=(0, 1, 2), description="again", **study)
    dicom_files.write_series(tmp_path / "c", numbers(6, 5, 3, 3), number=70, study="1.2.3")
    refusal(tmp_path)
    series = find_series(tmp_path, "40-42,60")
    assert np.array_equal(voxels(series), array) and series.name.endswith("_series40")
    assert "no series 41, 99" in refusal(tmp_path, "41,99") or "no series 99" in refusal(tmp_path, "41,99")


def test_several_studies_are_a_batch_in_which_one_may_fail(dicom_files: ModuleType, tmp_path: Path) -> None:
    one, two = numbers(6, 5, 3), numbers(7, 8, 2)
    dicom_files.write_series(tmp_path / "t" / "p1", one, study="1.1")
    for number in (1, 2):
        dicom_files.write_series(tmp_path / "t" / "p2" / str(number), one, study="1.2", number=number)
    dicom_files.write_series(tmp_path / "t" / "p3", two, study="1.3")
    found = find_studies(tmp_path / "t")
    assert list(found) == ["t_study1", "t_study2", "t_study3"]
    assert np.array_equal(voxels(found["t_study1"]), one) and np.array_equal(voxels(found["t_study3"]), two)
    assert isinstance(found["t_study2"], UserError) and "study 2 holds 2 series" in str(found["t_study2"])


def test_several_series_are_listed_until_one_is_named(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    short, long = numbers(6, 5, 3), numbers(7, 8, 2)
    dicom_files.write_series(tmp_path / "x" / "a", short, number=4, description="sax")
    files = dicom_files.write_series(tmp_path / "x" / "b", long, number=11, description="lax")
    said = refusal(tmp_path / "x")
    assert "2 series" in said and "--series NUMBER" in said
    assert "series 4: MR, 3 of 5 x 6 at 3 places" in said and "series 11: MR, 2 of 8 x 7 at 2 places" in said
    chosen = find_series(tmp_path / "x", "11")
    np.testing.assert_array_equal(voxels(chosen), long)
    assert chosen.name == "x_series11"
    uid = pydicom.dcmread(files[0, 0]).SeriesInstanceUID
    np.testing.assert_array_equal(voxels(find_series(tmp_path / "x", uid)), long)
    assert "no series 5" in refusal(tmp_path / "x", "5")
    dicom_files.write_series(tmp_path / "x" / "c", short, number=11)
    assert uid in refusal(tmp_path / "x") and "by its UID" in refusal(tmp_path / "x", "11")


def test_copies_of_a_file_count_once(dicom_files: ModuleType, tmp_path: Path) -> None:
    array = numbers(6, 5, 3)
    for path in list(dicom_files.write_series(tmp_path, array).values()):
        shutil.copy(path, path.with_name(f"copy_of_{path.name}"))
    np.testing.assert_array_equal(voxels(find_series(tmp_path)), array)


def test_a_missing_slice_is_reported(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "a", numbers(6, 5, 7), skip=(2,))
    depth = dicom_files.NORMAL @ dicom_files.ORIGIN
    said = refusal(tmp_path / "a")
    assert "1 slice is missing: slices lie 9 mm apart" in said
    assert f"between {depth + 9:.1f} and {depth + 27:.1f} mm" in said
    dicom_files.write_series(tmp_path / "b", numbers(6, 5, 9), skip=(2, 3, 6))
    assert "3 slices are missing" in refusal(tmp_path / "b")


def test_mixed_spacing_is_reported(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path / "a", numbers(6, 5, 5), depths=[0, 8, 16, 24, 29])
    said = refusal(tmp_path / "a")
    assert "mixed slice spacing: 5 to 8 mm apart (usually 8)" in said
    dicom_files.write_series(tmp_path / "b", numbers(6, 5, 5), depths=[0, 8.01, 15.99, 24.02, 32.0])  # rounding
    assert find_series(tmp_path / "b").frame(0).spacing_mm[2] == pytest.approx(8)


def test_more_pixels_than_a_file_can_hold_are_refused_by_the_header(dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path, np.zeros((6, 5, 3), np.int16), Rows=65535, Columns=65535)
    with pytest.raises(UserError, match="claims 65535 x 65535 pixels, more than its file can hold"):
        find_series(tmp_path)


def test_mixed_pixels_directions_and_sizes_are_reported(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    changes = {
        "mixed pixel spacing": {"PixelSpacing": [1.4, 1.3]},
        "different directions": {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
        "Frames of Reference": {"FrameOfReferenceUID": "1.2.3"},
        "at right angles": {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
    }
    for number, (said, tags) in enumerate(changes.items()):
        folder = tmp_path / str(number)
        path = dicom_files.write_series(folder, numbers(6, 5, 3))[1, 0]
        dataset = pydicom.dcmread(path)
        for tag, value in tags.items():
            setattr(dataset, tag, value)
        dataset.save_as(path)
        assert said in refusal(folder)


def test_incomplete_phases_are_reported(dicom_files: ModuleType, tmp_path: Path) -> None:
    files = dicom_files.write_series(tmp_path, numbers(6, 5, 3, 4))
    files[1, 2].unlink()
    assert "4 at most slice positions, but slice 2 has 3" in refusal(tmp_path)


def test_echoes_are_no_cine(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    files = dicom_files.write_series(tmp_path, numbers(6, 5, 2, 2), timing="number")
    for (_, t), path in files.items():
        dataset = pydicom.dcmread(path)
        dataset.EchoTime = 2.0 + t
        dataset.save_as(path)
    assert "differ in contrast" in refusal(tmp_path)


def test_shifted_slices_are_reported(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    path = dicom_files.write_series(tmp_path, numbers(6, 5, 3))[1, 0]
    dataset = pydicom.dcmread(path)
    dataset.ImagePositionPatient = [
        f"{v:.8g}" for v in np.array(dataset.ImagePositionPatient, float) + 4 * dicom_files.ROW
    ]
    dataset.save_as(path)
    assert "shifted" in refusal(tmp_path) and "4.0 mm" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ({"PixelData": None}, "no pixels (Pixel Data)"),
        ({"ImagePositionPatient": None}, "geometry is missing: Image Position (Patient) (2 of 2 images)"),
        ({"ImageOrientationPatient": None, "PixelSpacing": None}, "Image Orientation (Patient) (2 of 2 images), Pixel"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]}, "2 of 2 images are mosaics"),
        ({"NumberOfFrames": 12}, "multi-frame"),
        ({"SamplesPerPixel": 3}, "in colour"),
        ({"Modality": "SR"}, "2 DICOM files, none of them an image"),
    ],
)
def test_what_is_no_image_stack(dicom_files: ModuleType, tmp_path: Path, tags: dict, said: str) -> None:
    dicom_files.write_series(tmp_path, numbers(6, 5, 2), **tags)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(("tiles", "refused"), [(36, True), (1, False)])
def test_a_mosaic_is_known_by_the_private_tag_alone(
    dicom_files: ModuleType, tmp_path: Path, tiles: int, refused: bool, implicit: bool
) -> None:
    import pydicom

    for path in dicom_files.write_series(tmp_path, numbers(6, 5, 2)).values():
        dataset = pydicom.dcmread(path)
        dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True).add_new(0x0A, "US", tiles)
        syntax = pydicom.uid.ImplicitVRLittleEndian if implicit else pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=implicit, little_endian=True)
    if refused:
        assert "2 of 2 images are mosaics" in refusal(tmp_path)
    else:
        assert find_series(tmp_path).shape == (6, 5, 2)


def test_folders_without_dicom(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    (tmp_path / "a.dcm").write_bytes(b"x" * 500)
    assert not has_dicom(tmp_path)
    assert "no DICOM file" in refusal(tmp_path)
    (tmp_path / "b").write_bytes(bytes(128) + b"DICM" + b"\xff" * 50)
    assert has_dicom(tmp_path)
    assert "cannot be read" in refusal(tmp_path) or "none of them an image" in refusal(tmp_path)


def test_files_without_preamble(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    array = numbers(16, 15, 3)
    for path in dicom_files.write_series(tmp_path, array).values():
        dataset = pydicom.dcmread(path)
        bare = pydicom.Dataset({e.tag: e for e in dataset})
        bare.save_as(path, implicit_vr=True, little_endian=True)
        assert path.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(voxels(find_series(tmp_path)), array)


@pytest.mark.parametrize(
    ("uid", "name", "package"),
    [
        ("1.2.840.10008.1.2.4.70", "JPEG Lossless", "pip install pylibjpeg pylibjpeg-libjpeg"),
        ("1.2.840.10008.1.2.4.90", "JPEG 2000", "pip install pylibjpeg pylibjpeg-openjpeg"),
        ("1.2.840.10008.1.2.4.102", "MPEG-4", "gdcmconv --raw"),
    ],
)
def test_compression_without_a_decoder(
    dicom_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: str, name: str, package: str
) -> None:
    import pydicom

    for path in dicom_files.write_series(tmp_path, numbers(6, 5, 2)).values():
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(uid)
        dataset.PixelData = pydicom.encaps.encapsulate([b"\0\1\2\3"])
        dataset["PixelData"].is_undefined_length = True
        dataset.save_as(path)
    # What is installed here must not matter.
    if "MPEG" not in name:
        decoder = pydicom.pixels.get_decoder(pydicom.uid.UID(uid))
        monkeypatch.setattr(type(decoder), "is_available", property(lambda self: False))
    said = refusal(tmp_path)
    assert name in said and uid in said and package in said


def test_compressed_pixels_are_decoded(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    array = numbers(16, 15, 2)
    for path in dicom_files.write_series(tmp_path, array).values():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.save_as(path)
    np.testing.assert_array_equal(voxels(find_series(tmp_path)), array)


def test_compressed_pixels_that_no_package_decodes(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    for path in dicom_files.write_series(tmp_path, numbers(16, 15, 2)).values():
        dataset = pydicom.dcmread(path)
        dataset.compress(pydicom.uid.RLELossless)
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.JPEGExtended12Bit
        dataset.save_as(path)
    with pytest.raises(UserError, match=r"cannot be decoded: JPEG Extended .*pip install pylibjpeg pylibjpeg-libjpeg"):
        find_series(tmp_path).frame(0)


def test_a_cut_off_file_is_named_by_number(dicom_files: ModuleType, tmp_path: Path) -> None:
    path = dicom_files.write_series(tmp_path, numbers(40, 30, 3))[0, 0]
    path.write_bytes(path.read_bytes()[:-900])
    try:
        series = find_series(tmp_path)
    except UserError:
        return  # known from the header already
    with pytest.raises(UserError, match="image 3 cannot be decoded"):
        series.frame(0)


def test_nothing_of_the_patient_is_said(
    dicom_files: ModuleType, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    import pydicom

    folder = tmp_path / "scan"
    inner = folder / dicom_files.SECRETS[0]
    files = dicom_files.write_series(inner, numbers(6, 5, 3), RescaleSlope="1", RescaleIntercept="0")
    dicom_files.write_series(inner / "two", numbers(6, 5, 3), number=9)
    said = [refusal(folder), refusal(folder, "77")]
    dataset = pydicom.dcmread(files[1, 0])
    dataset.SliceThickness = "12345678901"
    dataset.save_as(files[1, 0])
    # A field that pydicom complains about, quoting it.
    files[1, 0].write_bytes(files[1, 0].read_bytes().replace(b"12345678901", dicom_files.SECRETS[1].encode()))
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        series = find_series(folder, "3")
        said += [series.name, repr(series.stack.notes)]
        files[1, 0].write_bytes(files[1, 0].read_bytes()[:-20])
        with pytest.raises(UserError) as caught:
            find_series(folder, "3").frame(0)
        said.append(str(caught.value))
        assert caught.value.__cause__ is None
    printed = capfd.readouterr()
    said += [printed.out, printed.err, caplog.text, *map(str, warned)]
    for secret in dicom_files.SECRETS:
        assert not [text for text in said if secret in text]


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *more: object) -> object:
        if name.startswith("pydicom"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert scan.INSTALL == "Run: pip install 'unia-med[dicom]'"
    assert scan.INSTALL in refusal(tmp_path)
