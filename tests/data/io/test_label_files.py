"""Labels as viewers write them: names, layers, crops and contours, and their way to the image's grid."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from unia_med.data.io.label_file import LabelFile, by_class_values, onto_image
from unia_med.data.io.read import read_header
from unia_med.data.io.read_labels import check_label_header, read_label_file, read_mask_on
from unia_med.data.io.regrid import nearest_on_grid
from unia_med.data.io.volume import VolumeInfo
from unia_med.errors import UserError

OBLIQUE = np.array([[1.2, 0.3, 0.0, -20.0], [-0.3, 1.2, 0.1, 5.0], [0.0, -0.2, 3.0, 40.0], [0, 0, 0, 1]])


def blob(shape: tuple[int, int, int], affine: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Whether each voxel's centre lies within `radius` mm of a point: the truth on any grid."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
    return np.linalg.norm(index @ affine[:3, :3].T + affine[:3, 3] - centre, axis=-1) < radius


def turned(array: np.ndarray, affine: np.ndarray, codes: str) -> tuple[np.ndarray, np.ndarray]:
    """The same labels stored in another orientation, by nibabel."""
    image = nib.Nifti1Image(array, affine)
    start = nib.io_orientation(affine)
    ornt = nib.orientations.ornt_transform(start, nib.orientations.axcodes2ornt(codes))
    moved = image.as_reoriented(ornt)
    return np.asarray(moved.dataobj), moved.affine


@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SAL"])
def test_other_orientation_and_a_crop_give_back_the_same_voxels(codes: str) -> None:
    labels = np.random.default_rng(0).integers(1, 5, (9, 8, 6)).astype(np.uint8)
    crop = labels[2:8, 1:6, 3:5]
    corner = OBLIQUE.copy()
    corner[:3, 3] = OBLIQUE[:3, :3] @ [2, 1, 3] + OBLIQUE[:3, 3]
    stored, affine = turned(crop, corner, codes)
    expected = np.full(labels.shape, 9, np.uint8)
    expected[2:8, 1:6, 3:5] = crop
    assert np.array_equal(nearest_on_grid(stored, affine, labels.shape, OBLIQUE, outside=9), expected)


def test_nearest_follows_millimetres_between_different_spacings() -> None:
    coarse, fine = np.diag([2.0, 2, 5, 1]), np.diag([0.7, 0.7, 1.5, 1])
    fine[:3, 3] = (-3, -2, -4)
    centre = np.array([20.0, 22, 25])
    found = nearest_on_grid(blob((70, 70, 40), fine, centre, 14.0).astype(int), fine, (20, 20, 10), coarse)
    truth = blob((20, 20, 10), coarse, centre, 14.0)
    wrong = (found > 0) != truth
    edge = blob((20, 20, 10), coarse, centre, 15.0) & ~blob((20, 20, 10), coarse, centre, 13.0)
    assert truth.sum() > 100 and not (wrong & ~edge).any()


def test_thin_strokes_survive_a_coarser_grid_and_masks_do_not_grow() -> None:
    fine = np.diag([1.0, 1, 1, 1])
    coarse = np.diag([4.0, 4, 1, 1])
    stroke = np.full((40, 40, 1), 255, np.uint8)
    stroke[3:37, 18, 0] = 2
    lost = nearest_on_grid(stroke, fine, (10, 10, 1), coarse, outside=255)
    kept = nearest_on_grid(stroke, fine, (10, 10, 1), coarse, outside=255, nothing=255)
    assert not (lost == 2).any() and (kept == 2).sum() >= 9


def write_slicer(path: Path, layers: list[np.ndarray], segments: list[tuple[str, int, int]], origin: tuple) -> None:
    """A `.seg.nrrd` as 3D Slicer writes it: (layers, x, y, z), LPS."""
    stacked = np.stack(layers).astype(np.uint8)
    kinds, sizes, directions = "domain domain domain", stacked.shape[1:], "(1,0,0) (0,2,0) (0,0,3)"
    if len(layers) > 1:
        kinds, sizes, directions = f"list {kinds}", stacked.shape, f"none {directions}"
    lines = [f"Segment{n}_Name:={name}\nSegment{n}_LabelValue:={value}\nSegment{n}_Layer:={layer}"
             for n, (name, value, layer) in enumerate(segments)]  # fmt: skip
    head = (
        f"NRRD0004\ntype: unsigned char\ndimension: {len(sizes)}\nspace: left-posterior-superior\n"
        f"sizes: {' '.join(map(str, sizes))}\nspace directions: {directions}\nkinds: {kinds}\nencoding: raw\n"
        f"space origin: ({','.join(map(str, origin))})\n" + "\n".join(lines) + "\n\n"
    )
    axes = (3, 2, 1, 0) if len(layers) > 1 else (2, 1, 0)
    body = (stacked if len(layers) > 1 else stacked[0]).transpose(axes)
    path.write_bytes(head.encode() + body.tobytes())


def image_of(path: Path, shape: tuple[int, int, int]) -> VolumeInfo:
    image = sitk.GetImageFromArray(np.zeros(shape[::-1], np.int16))
    image.SetSpacing((1, 2, 3))
    image.SetOrigin((10, 20, 30))
    sitk.WriteImage(image, str(path))
    return read_header(path)


def test_slicer_segments_are_told_by_name_and_placed_by_their_extent(tmp_path: Path) -> None:
    info = image_of(tmp_path / "scan.nii.gz", (12, 10, 6))
    crop = np.zeros((3, 2, 2), np.uint8)
    crop[0], crop[2, 1, 1] = 1, 2
    write_slicer(tmp_path / "x.seg.nrrd", [crop], [("Tumour core", 1, 0), ("Oedema", 2, 0)], (14, 24, 36))
    found = read_mask_on(tmp_path / "x.seg.nrrd", info, ["OEDEMA", "tumour_core"])
    expected = np.zeros((12, 10, 6), int)
    expected[4, 2:4, 2:4], expected[6, 3, 3] = 2, 1
    assert np.array_equal(found, expected)


def test_layers_of_a_slicer_file_are_told_apart(tmp_path: Path) -> None:
    info = image_of(tmp_path / "scan.nrrd", (5, 4, 3))
    one, two = np.zeros((5, 4, 3)), np.zeros((5, 4, 3))
    one[1:4], two[2:5] = 1, 1
    write_slicer(tmp_path / "x.seg.nrrd", [one, two], [("organ", 1, 0), ("lesion", 1, 1)], (10, 20, 30))
    file = read_label_file(tmp_path / "x.seg.nrrd")
    assert file.names == {1: "organ", 2: "lesion"} and file.cropped
    found = read_mask_on(tmp_path / "x.seg.nrrd", info, ["lesion", "organ"])
    assert found[:, 0, 0].tolist() == [0, 2, 1, 1, 1]


def test_labels_beside_the_image_or_without_geometry_are_refused(tmp_path: Path) -> None:
    info = VolumeInfo((10, 10, 5), OBLIQUE, Path("scan.nii.gz"))
    far = OBLIQUE.copy()
    far[0, 3] += 500
    labels = np.ones((10, 10, 5), np.uint8)
    with pytest.raises(UserError, match="do not overlap the image scan.nii.gz"):
        onto_image(labels, LabelFile(labels, far, Path("x.nii.gz")), info)
    with pytest.raises(UserError, match="without a geometry"):
        onto_image(labels, LabelFile(labels, np.eye(4), Path("x.nii.gz")), info)
    near = OBLIQUE.copy()
    near[:3, 3] += OBLIQUE[:3, 0] * 7  # the grids overlap, what is drawn does not
    drawn = np.zeros((10, 10, 5), np.uint8)
    drawn[6:] = 1
    with pytest.raises(UserError, match="do not overlap"):
        onto_image(drawn, LabelFile(drawn, near, Path("x.nii.gz")), info)
    nib.save(nib.Nifti1Image(labels, far), tmp_path / "x.nii.gz")
    with pytest.raises(UserError, match=r"x.nii.gz: the labels \(shape \(10, 10, 5\)\) do not overlap"):
        check_label_header(tmp_path / "x.nii.gz", info)


def test_names_win_over_values_and_strangers_never_become_a_class() -> None:
    file = LabelFile(np.array([[[0, 1, 2, 3]]]), np.eye(4), Path("x"), {1: "liver", 2: "bone", 3: "kidney left"})
    found = by_class_values(file, ["Kidney-Left", "Liver"], [1, 2])[0, 0]
    assert found.tolist()[:2] == [0, 2] and found[3] == 1 and found[2] not in (0, 1, 2)
    assert by_class_values(file, ["spleen"], [1]) is file.array


def test_dicom_seg_is_read_on_the_grid_of_its_image(tmp_path: Path, dicom_files: ModuleType) -> None:
    from unia_med.data.io.dicom.seg import SegWriter
    from unia_med.data.io.dicom.series import find_series

    dicom_files.write_series(tmp_path / "scan", np.random.default_rng(0).integers(0, 900, (14, 12, 4)))
    series = find_series(tmp_path / "scan")
    labels = np.zeros((14, 12, 4), np.uint8)
    labels[2:7, 3:9, 1:3], labels[9:12, 2:5, 2] = 1, 2
    with SegWriter(series, ["LIVER", "LESION"]) as writer:
        writer.write(0, labels, tmp_path / "seg.dcm")
    info = VolumeInfo(series.shape, series.affine, Path("scan"))
    found = read_mask_on(tmp_path / "seg.dcm", info, ["lesion", "liver"])
    assert np.array_equal(found, np.array([0, 2, 1])[labels])


def test_contours_of_an_rtstruct_are_filled_with_their_holes(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    info = VolumeInfo((30, 26, 4), np.diag([-1.5, -1.5, 4.0, 1.0]), Path("scan.nii.gz"))

    def contour(x0: float, x1: float, y0: float, y1: float, z: int) -> Dataset:
        corners = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        item = Dataset()
        item.ContourGeometricType = "CLOSED_PLANAR"
        item.ContourData = [f"{v:.3f}" for x, y in corners for v in (1.5 * x, 1.5 * y, 4.0 * z)]  # LPS
        item.NumberOfContourPoints = 4
        return item

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.481.3"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset = FileDataset(str(tmp_path / "rt.dcm"), {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.Modality, dataset.SOPClassUID, dataset.SOPInstanceUID = "RTSTRUCT", meta.MediaStorageSOPClassUID, "1.2.3"
    roi = Dataset()
    roi.ROINumber, roi.ROIName = 7, "GTV"
    dataset.StructureSetROISequence = [roi]
    entry = Dataset()
    entry.ReferencedROINumber = 7
    entry.ContourSequence = [contour(4.5, 20.5, 3.5, 18.5, 2), contour(9.5, 12.5, 8.5, 11.5, 2)]
    dataset.ROIContourSequence = [entry]
    dataset.save_as(tmp_path / "rt.dcm")
    assert pydicom.dcmread(tmp_path / "rt.dcm").Modality == "RTSTRUCT"
    expected = np.zeros((30, 26, 4), int)
    expected[5:21, 4:19, 2] = 1
    expected[10:13, 9:12, 2] = 0
    assert np.array_equal(read_mask_on(tmp_path / "rt.dcm", info, ["gtv"]), expected)


def test_labels_that_rounding_broke_are_whole(tmp_path: Path) -> None:
    broken = np.float32([[[0, 0.9999999, 2.0004], [3.0, 0.0001, 1.9996]]])
    nib.save(nib.Nifti1Image(broken, np.eye(4)), tmp_path / "a.nii.gz")
    assert read_label_file(tmp_path / "a.nii.gz").array.tolist() == [[[0, 1, 2], [3, 0, 2]]]
    nib.save(nib.Nifti1Image(np.float32([[[0.5, 1, 2]]]), np.eye(4)), tmp_path / "b.nii.gz")
    assert read_label_file(tmp_path / "b.nii.gz").array.tolist() == [[[0.5, 1, 2]]]
