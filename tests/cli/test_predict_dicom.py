"""`unia-med predict` on DICOM folders and on cines: the same as on NIfTI, with DICOM SEG beside it, and discreet."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med import build
from unia_med.cli.main import main
from unia_med.config.load import dump_config, plain
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import save_checkpoint
from unia_med.methods.base import Batch, Method, Prediction


class Brightness(Method):
    """Classes 0..3 by the blurred intensity, softly, times a weight that only training could have set to 3."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = torch.nn.Parameter(torch.zeros(1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.gain.sum()}

    def predict(self, images: Tensor) -> Prediction:
        level = torch.nn.functional.avg_pool2d(images, 3, 1, 1) * self.gain
        classes = torch.arange(4).view(1, 4, 1, 1)
        return Prediction((-4 * (level - classes) ** 2).softmax(1), torch.zeros_like(images[:, 0]))


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder of `Brightness`."""
    monkeypatch.setattr(build, "build_method", lambda config: Brightness())
    config = RunConfig.model_validate(
        {"data": {"grid": {"spacing_mm": 1.3, "size": [32, 32]}}, "inference": {"batch_slices": 4}}
    )
    state = {"model": {"gain": torch.full((1,), 3.0)}, "ema": None, "classes": ["RV", "MYO", "LV"], "step": 1}
    folder = tmp_path_factory.mktemp("run")
    save_checkpoint({**state, "config": plain(config)}, folder / "checkpoints" / "last.pt")
    dump_config(config, folder / "config.yaml")
    return folder


def predict(run: Path, source: Path, output: Path, *more: str) -> int:
    arguments = ["--model", str(run), "--input", str(source), "--output", str(output), "--device", "cpu"]
    return main(["predict", *arguments, "--no-postprocess", *more])


def blobs(*shape: int) -> np.ndarray:
    """Random intensities in patches."""
    rng = np.random.default_rng(2)
    coarse = rng.random([max(2, n // 4) if i < 2 else n for i, n in enumerate(shape)])
    fine = np.kron(coarse, np.ones([5, 5] + [1] * (len(shape) - 2)))[: shape[0], : shape[1]]
    return (1000 * fine + rng.integers(0, 50, shape)).astype(np.int16)


def save_nifti(path: Path, array: np.ndarray, affine: np.ndarray, step: float = 0.03) -> Path:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm", "sec")
    if array.ndim == 4:
        image.header["pixdim"][4] = step
    nib.save(image, path)
    return path


@pytest.mark.parametrize("shape", [(30, 26, 5), (28, 24, 3, 4)])
def test_dicom_equals_nifti_voxel_by_voxel(
    run: Path, dicom_files: ModuleType, tmp_path: Path, shape: tuple[int, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    from unia_med.data.io.dicom.seg import read_segmentation
    from unia_med.data.io.dicom.series import find_series

    array = blobs(*shape)
    dicom_files.write_series(tmp_path / "scan", array)
    save_nifti(tmp_path / "plain.nii.gz", array, dicom_files.true_affine())
    assert predict(run, tmp_path / "scan", tmp_path / "out", "--uncertainty") == 0
    assert predict(run, tmp_path / "plain.nii.gz", tmp_path / "out", "--uncertainty") == 0
    for kind in ("seg", "uncertainty"):
        one, other = (nib.load(tmp_path / "out" / f"{name}_{kind}.nii.gz") for name in ("scan", "plain"))
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        np.testing.assert_allclose(one.affine, other.affine, atol=1e-4)
        assert one.shape == shape and one.get_data_dtype() == other.get_data_dtype()
        assert one.header.get_zooms() == pytest.approx(other.header.get_zooms())
        assert one.header.get_xyzt_units() == ("mm", "sec")
    mask = np.asarray(nib.load(tmp_path / "out" / "scan_seg.nii.gz").dataobj).reshape(*shape[:3], -1)
    assert len(np.unique(mask)) == 4  # the comparison is of something
    series = find_series(tmp_path / "scan")
    names = ["scan_seg.dcm"] if len(shape) == 3 else [f"scan_frame{t:02d}_seg.dcm" for t in (1, 2, 3, 4)]
    assert sorted(path.name for path in (tmp_path / "out").glob("*_seg.dcm")) == names
    for index, name in enumerate(names):
        uids = [instance.sop_uid for instance in series.stack.grid[index]]
        np.testing.assert_array_equal(read_segmentation(tmp_path / "out" / name, uids).T, mask[..., index])
    printed = capfd.readouterr()
    assert not [secret for secret in dicom_files.SECRETS if secret in printed.out + printed.err]


def test_several_series_and_other_bad_folders(
    run: Path,
    dicom_files: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "study"
    files = dicom_files.write_series(folder / dicom_files.SECRETS[0], blobs(20, 18, 2), number=4, study="1.2")
    dicom_files.write_series(folder / "b", blobs(20, 18, 3), number=7, study="1.2")
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *a, **k: pytest.fail("the weights were loaded"))
        assert predict(run, folder, tmp_path / "out") == 2
        said = capfd.readouterr().err
        assert "series 4: MR, 2 of 18 x 20 at 2 places" in said and "series 7:" in said and "--series" in said
        assert predict(run, folder, tmp_path / "out", "--series", "5") == 2
        assert predict(run, files[0, 0], tmp_path / "out") == 2
        assert "Give the folder" in capfd.readouterr().err
        assert predict(run, folder, tmp_path / "out", "--series", "7", "--split", "val") == 2
    assert not (tmp_path / "out").exists()
    assert predict(run, folder, tmp_path / "out", "--series", "7") == 0
    written = sorted(p.name for p in (tmp_path / "out").glob("*_seg.[dn]*"))
    assert written == [
        "study_series7_seg.dcm",
        "study_series7_seg.nii.gz",
    ]
    printed = capfd.readouterr()
    assert dicom_files.SECRETS[0] not in printed.out + printed.err


def test_results_in_the_folder_of_the_series_are_no_input(run: Path, dicom_files: ModuleType, tmp_path: Path) -> None:
    dicom_files.write_series(tmp_path, blobs(20, 18, 2))
    for _ in range(2):
        assert predict(run, tmp_path, tmp_path, "--uncertainty") == 0
    assert len(list(tmp_path.glob("*.nii.gz"))) == 2 and len(list(tmp_path.glob("*_seg.dcm"))) == 1


def test_a_segmentation_object_that_fails_costs_no_mask_and_says_nothing_of_the_patient(
    run: Path,
    dicom_files: ModuleType,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from unia_med.data.io.dicom import seg as dicom_seg

    def fail(*args: object, **kwargs: object) -> None:
        raise ValueError(f"bad value in {dicom_files.SECRETS}")

    dicom_files.write_series(tmp_path / "scan", blobs(20, 18, 2, 2))
    monkeypatch.setattr(dicom_seg, "read_segmentation", fail)
    assert predict(run, tmp_path / "scan", tmp_path / "out") == 0
    said = capfd.readouterr().err
    assert "scan: no DICOM SEG (and so no SR) is written, because of ValueError" in said
    assert not [secret for secret in dicom_files.SECRETS if secret in said]
    assert (tmp_path / "out" / "scan_seg.nii.gz").is_file() and not list((tmp_path / "out").glob("*.dcm"))


@pytest.mark.parametrize(
    "tags",
    [
        {"SpecificCharacterSet": ""},
        {"SpecificCharacterSet": "nonsense"},
        {"PatientSex": "U"},
        {"PatientBirthDate": "1947-02-03", "StudyDate": "0000"},
        {"StudyTime": "10:11:12"},
    ],
)
def test_attributes_as_hospitals_write_them_cost_neither_mask_nor_object(
    run: Path, dicom_files: ModuleType, tmp_path: Path, tags: dict
) -> None:
    import pydicom

    with pytest.MonkeyPatch.context() as lax:
        for mode in ("reading_validation_mode", "writing_validation_mode"):
            lax.setattr(pydicom.config.settings, mode, pydicom.config.IGNORE)
        dicom_files.write_series(tmp_path / "scan", blobs(20, 18, 2), **tags)
    assert predict(run, tmp_path / "scan", tmp_path / "out") == 0
    written = pydicom.dcmread(tmp_path / "out" / "scan_seg.dcm")
    assert (tmp_path / "out" / "scan_seg.nii.gz").is_file()
    assert written.PatientSex in ("F", "") and written.StudyTime in ("101112", "")
    assert written.PatientBirthDate in ("19470203",) and written.StudyDate in ("19991231", "")


def test_a_missing_frame_of_reference_costs_the_object_alone(
    run: Path, dicom_files: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dicom_files.write_series(tmp_path / "scan", blobs(20, 18, 2), FrameOfReferenceUID=None)
    assert predict(run, tmp_path / "scan", tmp_path / "out") == 0
    assert "the missing attribute FrameOfReferenceUID" in capfd.readouterr().err
    assert (tmp_path / "out" / "scan_seg.nii.gz").is_file() and not list((tmp_path / "out").glob("*.dcm"))


def test_a_cine_without_a_time_step_is_predicted_with_a_note(
    run: Path, dicom_files: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = save_nifti(tmp_path / "p_4d.nii.gz", blobs(20, 18, 2, 3), dicom_files.true_affine(), step=0.0)
    assert predict(run, path, tmp_path / "out") == 0
    said = capfd.readouterr().err
    assert "p_4d.nii.gz: read as frames over time" in said and "pixdim" in said
    assert nib.load(tmp_path / "out" / "p_4d_seg.nii.gz").shape == (20, 18, 2, 3)


def test_a_cine_is_predicted_frame_by_frame_with_weights_loaded_once(
    run: Path, dicom_files: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = blobs(26, 24, 3, 5)
    affine = dicom_files.true_affine()
    save_nifti(tmp_path / "p_4d.nii.gz", array, affine)
    (tmp_path / "frames").mkdir()
    for t in range(5):
        save_nifti(tmp_path / "frames" / f"p_frame{t + 1:02d}.nii.gz", array[..., t], affine)
    loads: list[int] = []
    real_load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: loads.append(1) or real_load(*a, **k))
    assert predict(run, tmp_path / "p_4d.nii.gz", tmp_path / "out", "--uncertainty") == 0
    assert len(loads) == 1
    assert predict(run, tmp_path / "frames", tmp_path / "out", "--uncertainty") == 0
    for kind in ("seg", "uncertainty"):
        whole = nib.load(tmp_path / "out" / f"p_4d_{kind}.nii.gz")
        assert whole.shape == array.shape and whole.header.get_zooms()[3] == np.float32(0.03)
        for t in range(5):
            frame = nib.load(tmp_path / "out" / f"p_frame{t + 1:02d}_{kind}.nii.gz")
            np.testing.assert_allclose(np.asarray(whole.dataobj)[..., t], np.asarray(frame.dataobj), atol=1e-5)


def test_a_series_for_a_run_of_several_channels_is_refused(
    run: Path, dicom_files: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig.model_validate({"data": {"name": "volumes", "channels": 2, "classes": ["A"]}})
    dump_config(config, run / "config.yaml")
    dicom_files.write_series(tmp_path / "scan", blobs(20, 18, 2))
    assert predict(run, tmp_path / "scan", tmp_path / "out") != 0
    said = capfd.readouterr().err
    assert "2 channels" in said and "NIfTI" in said and "Error" not in said


def test_dicom_next_to_volumes_and_several_patients_are_a_batch(
    run: Path, dicom_files: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import nibabel

    array = blobs(20, 18, 2)
    for patient in ("p1", "p2"):
        dicom_files.write_series(tmp_path / "in" / patient, array)
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.diag([1.4, 1.25, 9, 1])), tmp_path / "in" / "v.nii.gz")
    assert predict(run, tmp_path / "in", tmp_path / "out") == 0
    written = sorted(path.name for path in (tmp_path / "out").glob("*_seg.*") if path.suffix != ".json")
    names = ["in_study1_seg.dcm", "in_study1_seg.nii.gz", "in_study2_seg.dcm", "in_study2_seg.nii.gz", "v_seg.nii.gz"]
    assert written == names
    printed = capfd.readouterr()
    assert "in_study1: 20 x 18 x 2 voxels" in printed.out and "in_study2: 20 x 18 x 2 voxels" in printed.out
    assert not [secret for secret in dicom_files.SECRETS if secret in printed.out + printed.err]


@pytest.mark.slow
def test_a_whole_study_in_one_line(
    run: Path, dicom_files: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cine = blobs(20, 18, 6, 8).clip(0).astype(np.uint16)
    dicom_files.write_study(tmp_path / "s", cine)
    assert predict(run, tmp_path / "s", tmp_path / "out") == 0
    printed = capfd.readouterr()
    assert "series 10 to 15 taken as short-axis cine" in printed.err and "EF" in printed.out
    assert not [secret for secret in dicom_files.SECRETS if secret in printed.out + printed.err]
    written = {path.name for path in (tmp_path / "out").iterdir()}
    wanted = {"s_series10_seg.nii.gz", "s_series10_frame08_seg.dcm", "s_series10_sr.dcm", "indices.csv", "summary.csv"}
    assert wanted <= written
    import json

    record = json.loads((tmp_path / "out" / "s_series10_seg.json").read_text())
    assert any("taken as short-axis cine" in note for note in record["warnings"])
    assert predict(run, tmp_path / "s", tmp_path / "other", "--series", "60", "--rtstruct") == 0
    assert (tmp_path / "other" / "s_series60_frame12_rtstruct.dcm").is_file()
