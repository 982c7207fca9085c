"""DICOM RTSTRUCT: contours filled again by an independent rule give the mask, and refer to the images they lie on."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import ndimage

from unia_med.data.io.dicom.contours import contours
from unia_med.data.io.dicom.objects import object_names
from unia_med.data.io.dicom.rtstruct import RtStructWriter
from unia_med.data.io.dicom.series import find_series

NAMES = ("RV", "MYO", "LV", "tumour")


def winding(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Winding number of a closed polygon round every pixel centre, by the sum of the angles it is seen under."""
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 1, 2)
    seen = points[None] - centres
    angle = np.arctan2(seen[..., 1], seen[..., 0])
    turn = np.diff(np.concatenate((angle, angle[:, :1]), 1), axis=1)
    return np.round(((turn + np.pi) % (2 * np.pi) - np.pi).sum(1) / (2 * np.pi)).astype(int).reshape(shape)


def crossings(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether a ray from every pixel centre crosses a closed polygon an odd number of times."""
    x, y = np.meshgrid(*map(np.arange, shape), indexing="ij")
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


@pytest.mark.parametrize("seed", range(12))
def test_contours_hold_the_pixels_of_the_mask(seed: int) -> None:
    """Random blobs with holes, islands in holes, pieces that touch at corners and at the border."""
    rng = np.random.default_rng(seed)
    mask = ndimage.gaussian_filter(rng.random((24, 31)), 0.5 + seed / 6) > 0.5
    wound, crossed = np.zeros(mask.shape, bool), np.zeros(mask.shape, bool)
    for outline in contours(mask):
        wound |= winding(outline, mask.shape) != 0
        crossed |= crossings(outline, mask.shape)
    np.testing.assert_array_equal(crossed, mask)
    np.testing.assert_array_equal(wound, mask)


def ring_labels(shape: tuple[int, int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    radius = np.hypot(x - 14.3, y - 12.1)
    labels = np.zeros(shape, np.uint8)
    for z in range(shape[2] - 1):
        labels[radius < 9, z], labels[radius < 5, z] = 2, 3
        labels[2:5, 3 : 9 + z, z] = 1
    return labels


def test_an_object_per_frame(dicom_files: ModuleType, tmp_path: Path) -> None:
    import pydicom

    image = np.random.default_rng(0).integers(0, 900, (28, 25, 4, 2)).astype(np.int16)
    dicom_files.write_series(tmp_path / "p", image, series_per_slice=True)
    series, labels = find_series(tmp_path / "p"), ring_labels((28, 25, 4))
    paths = [tmp_path / name for name in object_names(series, "rtstruct")]
    with RtStructWriter(series, NAMES) as writer:
        for index, path in enumerate(paths):
            writer.write(index, labels, path)
    assert writer.failed is None and [path.name for path in paths] == [f"p_frame0{t}_rtstruct.dcm" for t in (1, 2)]
    for index, path in enumerate(paths):
        dataset = pydicom.dcmread(path)
        to_voxels = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ dicom_files.true_affine())
        place = {item.sop_uid: z for z, item in enumerate(series.stack.grid[index])}
        found = np.zeros_like(labels)
        for roi in dataset.ROIContourSequence:
            for contour in roi.get("ContourSequence", ()):
                points = np.array(contour.ContourData, float).reshape(-1, 3)
                assert contour.NumberOfContourPoints == len(points)
                voxels = np.column_stack((points, np.ones(len(points)))) @ to_voxels.T
                z = place[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
                assert np.abs(voxels[:, 2] - z).max() < 1e-3
                found[crossings(voxels[:, :2], labels.shape[:2]), z] = roi.ReferencedROINumber
        assert (found == labels).mean() == 1.0
        assert [roi.ROIName for roi in dataset.StructureSetROISequence] == list(NAMES)
        assert "ContourSequence" not in dataset.ROIContourSequence[3]  # the mask holds no tumour
        (frame,) = dataset.ReferencedFrameOfReferenceSequence
        referred = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence
        assert {one.SeriesInstanceUID for one in referred} == {item.series_uid for item in series.stack.grid[index]}
        images = [i.ReferencedSOPInstanceUID for one in referred for i in one.ContourImageSequence]
        assert sorted(images) == sorted(place)
        codes = [item.get("RTROIIdentificationCodeSequence") for item in dataset.RTROIObservationsSequence]
        assert [code and code[0].CodeValue for code in codes] == ["53085002", "49848007", "87878005", None]


def test_contours_that_are_wrong_are_not_written(
    dicom_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from unia_med.data.io.dicom import rtstruct

    dicom_files.write_series(tmp_path / "p", np.zeros((28, 25, 4), np.int16))
    monkeypatch.setattr(rtstruct, "contours", lambda plane: (one + 2 for one in contours(plane)))
    with RtStructWriter(find_series(tmp_path / "p"), NAMES) as writer:
        writer.write(0, ring_labels((28, 25, 4)), tmp_path / "out.dcm")
    assert "no DICOM RTSTRUCT is written" in caplog.text and not (tmp_path / "out.dcm").exists()
