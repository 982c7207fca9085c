"""DICOM objects that hold labels: SEG as a label volume, RTSTRUCT contours filled on the grid of an image."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.data.io.dicom.scan import import_pydicom, quiet
from unia_med.data.io.dicom.seg import import_highdicom
from unia_med.data.io.dicom.stack import SPACING_TOLERANCE
from unia_med.data.io.label_file import LabelFile
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_OFF_PLANE = 0.3  # of a slice: contours of a plane that is not the image's spread over more


def read_dicom_labels(path: Path, image: VolumeInfo | None) -> LabelFile:
    """Return the labels of a SEG on its own grid, or of an RTSTRUCT on the grid of its image.

    Args:
        path: the `.dcm` file.
        image: header of the image; needed for an RTSTRUCT.

    Raises:
        UserError: another kind of object, or one that cannot be decoded.
    """
    pydicom = import_pydicom(path)
    try:
        with quiet():
            dataset = pydicom.dcmread(path)
    except Exception as error:  # the message of pydicom may quote the patient's data
        raise _unreadable(path, error) from None
    kind = str(dataset.get("Modality", ""))
    if kind == "SEG":
        return _read_seg(path)
    if kind != "RTSTRUCT":
        what = f"a DICOM object of modality {kind or 'unknown'}, expected labels (SEG or RTSTRUCT)"
        raise UserError(what, where=path, remedy="Name the file of the segmentation")
    if image is None:
        raise UserError("contours (RTSTRUCT) need their image to be filled on", where=path, remedy="Name the image too")
    return _fill_contours(dataset, path, image)


def _read_seg(path: Path) -> LabelFile:
    highdicom = import_highdicom(path)
    try:
        with quiet():
            segmentation = highdicom.seg.segread(path)
            volume = segmentation.get_volume(combine_segments=False, rtol=SPACING_TOLERANCE)
            names = {n: str(segmentation.get_segment_description(n).SegmentLabel) for n in segmentation.segment_numbers}
    except Exception as error:
        raise _unreadable(path, error) from None
    planes = np.asarray(volume.array)  # (slices, rows, columns, segments)
    labels = np.zeros(planes.shape[:3], np.uint16)
    for position, number in enumerate(names):
        labels[planes[..., position] > 0.5] = number
    order = [2, 1, 0]
    affine = np.array(volume.affine, np.float64)
    affine = _LPS_TO_RAS @ affine[:, [*order, 3]]
    return LabelFile(np.ascontiguousarray(labels.transpose(order)), affine, path, names, cropped=True)


def _fill_contours(dataset: Any, path: Path, image: VolumeInfo) -> LabelFile:
    """Return the regions of interest of an RTSTRUCT, numbered in their order, on the image's grid."""
    names = {int(roi.ROINumber): str(roi.ROIName) for roi in dataset.get("StructureSetROISequence", ())}
    shape = tuple(image.shape[:3])
    to_voxels = np.linalg.inv(image.affine) @ _LPS_TO_RAS
    labels = np.zeros(shape, np.uint16)
    found: dict[int, str] = {}
    for entry in dataset.get("ROIContourSequence", ()):
        value = len(found) + 1
        found[value] = names.get(int(entry.ReferencedROINumber), f"ROI {value}")
        for z, plane in _planes(entry.get("ContourSequence", ()), to_voxels, shape, path).items():
            labels[:, :, z][plane] = value
    return LabelFile(labels, np.asarray(image.affine, np.float64), path, found)


def _planes(contours: Any, to_voxels: np.ndarray, shape: tuple[int, ...], path: Path) -> dict[int, np.ndarray]:
    """Return the filled region bool (X, Y) by slice; a contour inside another cuts a hole."""
    by_plane: dict[float, np.ndarray] = {}
    for contour in contours:
        points = np.asarray(contour.ContourData, np.float64).reshape(-1, 3)
        voxels = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
        if np.ptp(voxels[:, 2]) > 2 * _OFF_PLANE:
            what = "contours that do not lie in the slices of the image"
            raise UserError(what, where=path, remedy="Export contours of the planes of this image, or a label volume")
        depth = round(float(voxels[:, 2].mean()), 3)
        plane = _filled(voxels[:, :2], str(contour.get("ContourGeometricType", "CLOSED_PLANAR")), shape)
        by_plane[depth] = by_plane[depth] ^ plane if depth in by_plane else plane
    merged: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(shape[:2], bool))
    for depth, plane in by_plane.items():
        z = int(np.floor(depth + 0.5))
        if 0 <= z < shape[2]:
            merged[z] = merged[z] | plane
    return merged


def _filled(points: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return bool (X, Y) of one contour: closed ones filled, open ones drawn as a line, points marked."""
    from skimage.draw import line, polygon

    plane = np.zeros(shape[:2], bool)
    if kind == "CLOSED_PLANAR" and len(points) > 2:
        plane[polygon(points[:, 0], points[:, 1], shape[:2])] = True
        return plane
    cells = np.floor(points + 0.5).astype(int)
    lines = [line(*a, *b) for a, b in zip(cells[:-1], cells[1:], strict=True)] if kind != "POINT" else []
    for x, y in [*lines, (cells[:, 0], cells[:, 1])]:
        inside = (x >= 0) & (y >= 0) & (x < shape[0]) & (y < shape[1])
        plane[x[inside], y[inside]] = True
    return plane


def _unreadable(path: Path, error: Exception) -> UserError:
    what = f"cannot be read as DICOM labels ({type(error).__name__})"
    return UserError(what, where=path, remedy="The file is damaged or of an unknown kind; export it again")
