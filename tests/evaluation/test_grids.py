"""Labels on another grid than their predictions, and labels whose segments have names."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest

from unia_med.errors import UserError
from unia_med.evaluation.evaluate import Evaluation, evaluate

AFFINE = np.array([[-1.5, 0, 0, 30], [0, 1.5, 0, -20], [0, 0, 4, 10], [0, 0, 0, 1.0]])


def save(array: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.uint8), affine), path)
    return path


def organs(rows: slice = slice(4, 12)) -> np.ndarray:
    """(24, 20, 6): class 1 in some rows, class 2 below."""
    array = np.zeros((24, 20, 6), np.uint8)
    array[rows, 3:9, 1:5] = 1
    array[14:20, 5:12, 2:4] = 2
    return array


def moved(affine: np.ndarray, start: tuple[int, int, int]) -> np.ndarray:
    """The affine of a crop that starts at some voxel."""
    found = affine.copy()
    found[:3, 3] += affine[:3, :3] @ start
    return found


def write_slicer(path: Path, array: np.ndarray, affine: np.ndarray, names: dict[int, str]) -> None:
    """A `.seg.nrrd` as 3D Slicer writes it, in LPS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    vectors = " ".join(f"({','.join(map(str, lps[:3, axis]))})" for axis in range(3))
    head = [
        "NRRD0004\ntype: unsigned char\ndimension: 3\nspace: left-posterior-superior",
        f"sizes: {' '.join(map(str, array.shape))}\nspace directions: {vectors}",
        f"kinds: domain domain domain\nencoding: raw\nspace origin: ({','.join(map(str, lps[:3, 3]))})",
    ]
    for number, (value, name) in enumerate(names.items()):
        head.append(f"Segment{number}_Name:={name}\nSegment{number}_LabelValue:={value}\nSegment{number}_Layer:=0")
    path.write_bytes(("\n".join(head) + "\n\n").encode() + array.astype(np.uint8).transpose(2, 1, 0).tobytes())


def scored(predicted: np.ndarray, folder: Path, **more: object) -> Evaluation:
    save(predicted, folder / "p" / "a_seg.nii.gz")
    return evaluate(folder / "p", folder / "t", **more)  # type: ignore[arg-type]


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_turned_and_cropped_labels_are_scored_as_on_the_grid_of_the_image(tmp_path: Path) -> None:
    predicted, true = organs(slice(5, 13)), organs()
    save(true, tmp_path / "same" / "t" / "a.nii.gz")
    expected = scored(predicted, tmp_path / "same")
    assert expected.notes == []
    crop = true[2:22, 1:15, 1:5]
    image = nib.Nifti1Image(crop, moved(AFFINE, (2, 1, 1))).as_reoriented(np.array([[2, 1], [0, -1], [1, 1]]))
    save(np.asarray(image.dataobj), tmp_path / "t" / "a.nii.gz", image.affine)
    found = scored(predicted, tmp_path)
    assert found.table == expected.table
    assert len(found.notes) == 1 and "another grid" in found.notes[0]


def test_labels_of_another_spacing_are_brought_to_the_grid_by_nearest_neighbour(tmp_path: Path) -> None:
    fine = AFFINE @ np.diag([0.5, 0.5, 0.25, 1])
    fine[:3, 3] = AFFINE[:3, 3] - AFFINE[:3, :3] @ (0.25, 0.25, 0.375)  # every voxel divided into 2 x 2 x 4
    save(np.kron(organs(), np.ones((2, 2, 4), np.uint8)), tmp_path / "t" / "a.nii.gz", fine)
    predicted = organs(slice(5, 13))
    found = scored(predicted, tmp_path)
    assert found["mean"]["dice"]["class 1"] == pytest.approx(dice(predicted == 1, organs() == 1))
    assert found["mean"]["dice"]["class 2"] == 1.0 and found["mean"]["hd95_mm"]["class 1"] == pytest.approx(1.5)


def test_what_is_drawn_beyond_the_prediction_counts_as_missed(tmp_path: Path) -> None:
    """The prediction covers the upper rows alone: nothing of the truth may vanish with the rest."""
    save(organs(), tmp_path / "t" / "a.nii.gz")
    save(organs()[:10], tmp_path / "p" / "a_seg.nii.gz")
    found = evaluate(tmp_path / "p", tmp_path / "t")
    cut = organs()
    cut[10:] = 0
    assert found["mean"]["dice"]["class 1"] == pytest.approx(dice(cut == 1, organs() == 1))
    assert found["mean"]["dice"]["class 2"] == 0.0 and found["failures"]["class 2"] == 1


def test_coarser_labels_reach_half_a_voxel_beyond_their_centres(tmp_path: Path) -> None:
    """A label voxel of 3 mm covers 1.5 mm on each side of its centre, also where the prediction ends before."""
    truth = np.zeros((3, 5, 5), np.uint8)
    truth[1:, 1:4, 1:4] = 1  # rows centred at 3 and 6 mm: from 1.5 to 7.5 mm
    predicted = np.zeros((5, 13, 5), np.uint8)  # ends at 4.5 mm: of the six rows 2..7 the last three are outside
    predicted[2:, 2:11, 1:4] = 1
    save(truth, tmp_path / "t" / "a.nii.gz", np.diag([3.0, 3.0, 3.0, 1.0]))
    save(predicted, tmp_path / "p" / "a_seg.nii.gz", np.diag([1.0, 1.0, 3.0, 1.0]))
    found = evaluate(tmp_path / "p", tmp_path / "t")
    overlap, drawn = 3 * 9 * 3, 6 * 9 * 3
    assert found["mean"]["dice"]["class 1"] == pytest.approx(2 * overlap / (drawn + overlap))


def test_labels_elsewhere_or_without_a_place_are_refused(tmp_path: Path) -> None:
    far = AFFINE.copy()
    far[:3, 3] += 500
    save(organs(), tmp_path / "t" / "a.nii.gz", far)
    with pytest.raises(UserError, match="do not overlap"):
        scored(organs(), tmp_path)
    save(organs()[:20], tmp_path / "t" / "a.nii.gz", np.eye(4))
    with pytest.raises(UserError, match="without a geometry"):
        scored(organs(), tmp_path)
    beside = organs()
    beside[:14] = 0
    save(beside[14:], tmp_path / "t" / "a.nii.gz", moved(AFFINE, (14, 0, 0)))
    save(organs()[:13], tmp_path / "p" / "a_seg.nii.gz", AFFINE)
    with pytest.raises(UserError, match="overlap"):
        evaluate(tmp_path / "p", tmp_path / "t")


def test_segments_count_by_their_names_and_name_the_classes(tmp_path: Path) -> None:
    """The viewer numbered the spleen first, and cropped."""
    swapped = np.array([0, 7, 3], np.uint8)[organs()]
    write_slicer(tmp_path / "t" / "a.seg.nrrd", swapped[2:22], moved(AFFINE, (2, 0, 0)), {3: "Spleen", 7: "Liver"})
    predicted = organs(slice(5, 13))
    found = scored(predicted, tmp_path, classes=["LIVER", "SPLEEN"])
    assert found["mean"]["dice"] == {
        "LIVER": pytest.approx(dice(predicted == 1, organs() == 1)),
        "SPLEEN": 1.0,
        "mean": pytest.approx((1 + dice(predicted == 1, organs() == 1)) / 2),
    }
    own = scored(np.array([0, 7, 3], np.uint8)[predicted], tmp_path)
    assert own.classes == ("Spleen", "Liver") and own["mean"]["dice"]["Spleen"] == 1.0
    with pytest.raises(UserError, match="the segments Liver, which are no class"):
        scored((organs() == 2).astype(np.uint8), tmp_path, classes=["SPLEEN"])


def test_segments_numbered_differently_from_file_to_file(tmp_path: Path) -> None:
    write_slicer(tmp_path / "t" / "a.seg.nrrd", organs(), AFFINE, {1: "Liver", 2: "Spleen"})
    write_slicer(tmp_path / "t" / "b.seg.nrrd", np.array([0, 2, 1])[organs()], AFFINE, {2: "Liver", 1: "Spleen"})
    save(organs(), tmp_path / "p" / "b_seg.nii.gz")
    with pytest.raises(UserError, match=r"b.seg.nrrd.*another in other label files.*--classes"):
        scored(organs(), tmp_path)
    found = scored(organs(), tmp_path, classes=["Liver", "Spleen"])
    assert [case.dice for case in found.cases] == [{"Liver": 1.0, "Spleen": 1.0}] * 2


def test_dicom_segmentations_are_labels_and_predictions(tmp_path: Path, dicom_files: ModuleType) -> None:
    """Each object by itself in its folder; segments count by their names, whatever their numbers."""
    from unia_med.data.io.dicom.seg import SegWriter
    from unia_med.data.io.dicom.series import find_series

    dicom_files.write_series(tmp_path / "scan", np.random.default_rng(0).integers(0, 900, (14, 12, 4)))
    series = find_series(tmp_path / "scan")
    labels = np.zeros((14, 12, 4), np.uint8)
    labels[2:7, 3:9, 1:3], labels[9:12, 2:5, 2] = 1, 2
    (tmp_path / "t").mkdir()
    with SegWriter(series, ["LIVER", "LESION"]) as writer:
        writer.write(0, labels, tmp_path / "t" / "a.dcm")
    save(np.array([0, 2, 1], np.uint8)[labels], tmp_path / "p" / "a_seg.nii.gz", series.affine)
    found = evaluate(tmp_path / "p", tmp_path / "t", classes=["LESION", "LIVER"])
    assert found["mean"]["dice"] == {"LESION": 1.0, "LIVER": 1.0, "mean": 1.0}
    again = evaluate(tmp_path / "t", tmp_path / "p", classes=["LESION", "LIVER"])
    assert again["mean"]["dice"]["LIVER"] == 1.0
