"""The phantom data set on disk: ACDC's layout, units, determinism, refusal of folders in use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unia_med.cardiac.phantom import dataset
from unia_med.cardiac.phantom.dataset import write_dataset
from unia_med.cardiac.phantom.patients import GROUPS
from unia_med.errors import UserError
from unia_med.files import _STAGING


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantom") / "set"
    write_dataset(root, patients=3, seed=5)
    return root


def info(folder: Path) -> dict[str, str]:
    return dict(line.split(": ") for line in (folder / "Info.cfg").read_text().splitlines())


def test_layout_is_that_of_the_challenge(written: Path) -> None:
    assert sorted(path.name for path in written.iterdir()) == ["patient001", "patient002", "patient003"]
    for index, folder in enumerate(sorted(written.iterdir())):
        fields = info(folder)
        assert list(fields) == ["ED", "ES", "Group", "Height", "NbFrame", "Weight"]
        assert fields["ED"] == "1" and fields["Group"] == GROUPS[index]
        assert 1 < int(fields["ES"]) <= int(fields["NbFrame"])
        stems = [f"{folder.name}_frame{int(fields[phase]):02d}" for phase in ("ED", "ES")]
        expected = {"Info.cfg"} | {stem + end for stem in stems for end in (".nii.gz", "_gt.nii.gz")}
        assert {path.name for path in folder.iterdir()} == expected


def test_files_read_back_with_units_spacing_and_types(written: Path) -> None:
    spacings = set()
    for folder in written.iterdir():
        image = nibabel.load(folder / f"{folder.name}_frame01.nii.gz")
        mask = nibabel.load(folder / f"{folder.name}_frame01_gt.nii.gz")
        assert image.get_data_dtype() == np.int16 and mask.get_data_dtype() == np.uint8
        assert image.header.get_xyzt_units() == mask.header.get_xyzt_units() == ("mm", "sec")
        assert image.shape == mask.shape and np.allclose(image.affine, mask.affine)
        assert np.allclose(np.diag(image.affine)[:3], image.header.get_zooms(), atol=1e-4)
        assert int(image.header["sform_code"]) > 0 and bytes(image.header["descrip"]).startswith(b"synthetic")
        assert set(np.unique(np.asanyarray(mask.dataobj))) == {0, 1, 2, 3}
        spacings.add(image.header.get_zooms())
    assert len(spacings) == 3


def test_a_patient_does_not_depend_on_how_many_there_are(written: Path, tmp_path: Path) -> None:
    write_dataset(tmp_path / "one", patients=1, seed=5)
    for path in (tmp_path / "one" / "patient001").glob("*.nii.gz"):
        here, there = (np.asanyarray(nibabel.load(p).dataobj) for p in (path, written / "patient001" / path.name))
        assert here.tobytes() == there.tobytes()
    assert info(tmp_path / "one" / "patient001") == info(written / "patient001")


def test_cine_holds_the_frames_that_are_also_written_alone(tmp_path: Path) -> None:
    (folder,) = write_dataset(tmp_path / "cine", patients=1, cine_frames=4)
    fields = info(folder)
    cine = nibabel.load(folder / "patient001_4d.nii.gz")
    assert fields["NbFrame"] == "4" and cine.shape[3] == 4 and cine.header.get_xyzt_units() == ("mm", "sec")
    for phase in ("ED", "ES"):
        alone = nibabel.load(folder / f"patient001_frame{int(fields[phase]):02d}.nii.gz")
        assert np.array_equal(np.asanyarray(cine.dataobj)[..., int(fields[phase]) - 1], np.asanyarray(alone.dataobj))


def test_folders_in_use_and_senseless_numbers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        write_dataset(tmp_path / "used")
    with pytest.raises(UserError, match="not a folder"):
        write_dataset(tmp_path / "used" / "notes.txt")
    for arguments in ({"patients": 0}, {"patients": 1000}, {"seed": -1}, {"cine_frames": 1}, {"cine_frames": -3}):
        with pytest.raises(UserError):
            write_dataset(tmp_path / "new", **{"patients": 1, **arguments})
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["notes.txt"]


def test_an_interrupted_call_leaves_no_patient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complete = dataset.write_patient

    def stop_at_second(patient: object, folder: Path, cine: bool = False) -> None:
        if folder.name == "patient002":
            raise KeyboardInterrupt
        complete(patient, folder, cine)

    monkeypatch.setattr(dataset, "write_patient", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(tmp_path / "set", patients=2)
    assert list((tmp_path / "set").iterdir()) == []


def test_generator_does_not_import_torch() -> None:
    code = "import sys, unia_med.cardiac.phantom.dataset; print('torch' in sys.modules or 'monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_leftovers_of_a_killed_call_are_removed_and_stop_nothing(tmp_path: Path) -> None:
    (tmp_path / f"{_STAGING}abc" / "patient001").mkdir(parents=True)
    write_dataset(tmp_path, patients=1, seed=5)
    assert [path.name for path in tmp_path.iterdir()] == ["patient001"]
