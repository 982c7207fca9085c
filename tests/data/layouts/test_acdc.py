from __future__ import annotations

import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.schema import DataConfig
from unia_med.data.layouts.acdc import AcdcDataset
from unia_med.data.masks import relabel
from unia_med.errors import UserError


def dataset(root: Path, **settings: object) -> AcdcDataset:
    return AcdcDataset(DataConfig(root=root, **settings))


def frame(root: Path, patient: int, suffix: str = "", number: int = 1) -> Path:
    name = f"patient{patient:03d}"
    return root / "training" / name / f"{name}_frame{number:02d}{suffix}.nii.gz"


def rewrite(path: Path, array: np.ndarray) -> None:
    nib.save(nib.Nifti1Image(array, nib.load(path).affine), path)


def message(root: Path, **settings: object) -> str:
    with pytest.raises(UserError) as caught:
        dataset(root, **settings).cases()
    return str(caught.value)


def test_cases_are_listed_by_patient_and_frame(tiny_acdc: Path) -> None:
    cases = dataset(tiny_acdc).cases()
    assert [c.name for c in cases] == [f"patient{p}_frame{f}" for p in ("001", "002", "013") for f in ("01", "07")]
    first = cases[0]
    assert (first.patient, first.frame, first.phase, first.group) == ("patient001", 1, "ED", "NOR")
    assert first.image == frame(tiny_acdc, 1) and first.mask == frame(tiny_acdc, 1, "_gt")
    assert cases[1].phase == "ES"


@pytest.mark.parametrize("below", ["", "training", "testing"])
def test_patients_lie_in_root_or_training_or_testing(below: str, tiny_acdc: Path, tmp_path: Path) -> None:
    root = tmp_path / "elsewhere"
    shutil.copytree(tiny_acdc / "training", root / below if below else root)
    assert len(dataset(root).cases()) == 6


def test_whole_patients_may_lack_masks_but_single_frames_may_not(tiny_acdc: Path) -> None:
    frame(tiny_acdc, 2, "_gt", 1).unlink()
    assert "frame01_gt" in message(tiny_acdc)
    frame(tiny_acdc, 2, "_gt", 7).unlink()
    cases = dataset(tiny_acdc).cases()
    assert [c.mask is None for c in cases] == [False, False, True, True, False, False]
    with pytest.raises(UserError, match="no mask"):
        dataset(tiny_acdc).labels(cases[2])


def test_all_faults_are_told_at_once(tiny_acdc: Path) -> None:
    frame(tiny_acdc, 1, number=7).unlink()
    rewrite(frame(tiny_acdc, 2, "_gt"), np.zeros((40, 36, 3), np.int16))
    frame(tiny_acdc, 2, number=7).write_bytes(b"no image")
    (tiny_acdc / "training" / "patient013" / "Info.cfg").write_text("ED: one\nGroup: NOR\n")
    (tiny_acdc / "training" / "patient014").mkdir()
    text = message(tiny_acdc)
    assert "5 faults" in text
    for words in (
        f"{frame(tiny_acdc, 1, number=7)}: found no such file",
        "(40, 36, 3), expected (40, 36, 4)",
        f"{frame(tiny_acdc, 2, number=7)}: found cannot be read",
        "Info.cfg: found ED: 'one', no ES",
        "patient014: found an empty folder",
    ):
        assert words in text, text


def test_missing_info_and_cine_frames(tiny_acdc: Path) -> None:
    (tiny_acdc / "training" / "patient001" / "Info.cfg").unlink()
    rewrite(frame(tiny_acdc, 2), np.zeros((40, 36, 4, 3), np.int16))
    text = message(tiny_acdc)
    assert "Info.cfg: found no such file" in text and "expected 3D" in text and "2 faults" in text


def test_roots_without_patients(tmp_path: Path) -> None:
    assert "data.root" in message(tmp_path / "none")
    assert "no patientNNN" in message(tmp_path)
    with pytest.raises(UserError, match="data.root"):
        AcdcDataset(DataConfig(root=None))


def test_labels_follow_the_order_of_the_classes(tiny_acdc: Path) -> None:
    case = dataset(tiny_acdc).cases()[0]
    mask = np.asanyarray(nib.load(case.mask).dataobj)
    np.testing.assert_array_equal(dataset(tiny_acdc).labels(case), mask)
    swapped = dataset(tiny_acdc, classes=["LV", "RV"]).labels(case)
    assert swapped.dtype == np.uint8
    np.testing.assert_array_equal(swapped == 1, mask == 3)
    np.testing.assert_array_equal(swapped == 2, mask == 1)
    assert not swapped[mask == 2].any()


def test_class_values_override_the_names(tiny_acdc: Path) -> None:
    data = dataset(tiny_acdc, classes=["cavity"], class_values=[3])
    case = data.cases()[0]
    np.testing.assert_array_equal(data.labels(case) == 1, np.asanyarray(nib.load(case.mask).dataobj) == 3)
    with pytest.raises(UserError, match="Did you mean 'MYO'"):
        dataset(tiny_acdc, classes=["MYOC"])


def test_foreign_label_values_are_gathered_over_all_masks(tiny_acdc: Path) -> None:
    for patient, value in ((1, 4), (13, -1)):
        path = frame(tiny_acdc, patient, "_gt")
        mask = np.asanyarray(nib.load(path).dataobj).copy()
        mask[0, 0, 0] = value
        rewrite(path, mask)
    data = dataset(tiny_acdc)
    with pytest.raises(UserError) as caught:
        data.all_labels(data.cases())
    text = str(caught.value)
    assert "2 faults" in text and "label values 4," in text and "label values -1," in text and "[0, 1, 2, 3]" in text


def test_evaluation_case_holds_image_and_labels(tiny_acdc: Path) -> None:
    data = dataset(tiny_acdc)
    case = data.cases()[0]
    evaluation = data.evaluation_case(case)
    assert evaluation.volume.path == case.image and evaluation.labels.shape == evaluation.volume.shape == (40, 36, 4)


def test_relabel_by_hand() -> None:
    assert relabel(np.array([[0, 5, 7, 9]]), (7, 5)).tolist() == [[0, 2, 1, 0]]


def test_real_acdc_headers_are_sound(real_acdc: Path) -> None:
    cases = dataset(real_acdc).cases()
    assert len(cases) == 2 * len({c.patient for c in cases}) and {c.phase for c in cases} == {"ED", "ES"}


@pytest.mark.parametrize("suffix", [".NII.GZ", ".Nii.gz"])
def test_capital_suffixes_and_a_byte_order_mark(tiny_acdc: Path, suffix: str) -> None:
    folder = tiny_acdc / "training" / "patient013"
    before = AcdcDataset(DataConfig(root=tiny_acdc)).cases()
    for path in sorted(folder.glob("*.nii.gz")):
        path.rename(path.with_name(path.name.replace(".nii.gz", suffix)))
    info = folder / "Info.cfg"
    info.write_bytes(b"\xef\xbb\xbf" + info.read_bytes())
    after = AcdcDataset(DataConfig(root=tiny_acdc)).cases()
    assert [(case.name, case.phase, case.group) for case in after] == [(c.name, c.phase, c.group) for c in before]
    assert all(case.mask is not None and case.mask.is_file() for case in after)
