"""Own data: what is found where, and that every fault is reported, all together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.schema import DataConfig
from unia_med.data.dataset import CaseDataset
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.data.slices.dataset import build_slices
from unia_med.data.splits import split_cases
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.errors import UserError

AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def save(path: Path, shape: tuple[int, ...] = (20, 18, 3), affine: np.ndarray = AFFINE, value: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(len(str(path))).integers(0, 200, shape) if value is None else np.full(shape, value)
    if path.name.endswith((".nrrd", ".mha")):
        sitk = pytest.importorskip("SimpleITK")
        sitk.WriteImage(sitk.GetImageFromArray(array.T.astype(np.int16)), str(path))
    else:
        nib.save(nib.Nifti1Image(array.astype(np.int16), affine), path)
    return path


def data(root: Path, classes: list[str] | None = None, **settings: Any) -> DataConfig:
    values = {"name": "volumes", "root": root, "classes": classes or ["A", "B"], **settings}
    return DataConfig.model_validate({"grid": {"spacing_mm": None, "size": [16, 16]}, **values})


def found(root: Path, **settings: Any) -> dict[str, Any]:
    return {case.name: case for case in VolumesDataset(data(root, **settings)).cases()}


def refused(root: Path, *words: str, **settings: Any) -> str:
    with pytest.raises(UserError) as caught:
        found(root, **settings)
    text = str(caught.value)
    assert all(word in text for word in words), text
    return text


def test_a_folder_of_every_format_with_labels_beside_the_images(tmp_path: Path) -> None:
    save(tmp_path / "scan 1.nii.gz")
    save(tmp_path / "scan 1_gt.nii.gz", value=1)
    save(tmp_path / "scan 1_scribbles.nii.gz", value=3)
    save(tmp_path / "site B/ü.2.nrrd")
    save(tmp_path / "site B/flat.mha", (20, 18, 1))
    save(tmp_path / "site B/flat_seg.nii.gz")  # a result of an earlier prediction
    (tmp_path / "notes.txt").write_text("no volume")
    cases = found(tmp_path)
    assert list(cases) == ["scan 1", "site B/flat", "site B/ü.2"]
    first = cases["scan 1"]
    assert first.mask == tmp_path / "scan 1_gt.nii.gz" and first.patient == "scan 1"
    assert first.labels == {"masks": first.mask, "scribbles": tmp_path / "scan 1_scribbles.nii.gz"}
    assert cases["site B/flat"].mask is None and cases["site B/flat"].labels == {}
    dataset = VolumesDataset(data(tmp_path))
    assert dataset.slice_counts(dataset.cases()) == {"scan 1": 3, "site B/flat": 1, "site B/ü.2": 3}
    assert isinstance(dataset, CaseDataset)


def test_the_folders_of_nnu_net(tmp_path: Path) -> None:
    for name in ("p1", "p2"):
        for channel in ("0000", "0001"):
            save(tmp_path / f"imagesTr/{name}_{channel}.nii.gz")
        save(tmp_path / f"labelsTr/{name}.nii.gz", value=2)
    volumes = {"images": "imagesTr/*", "masks": "labelsTr/{name}", "channel_endings": ["_0000", "_0001"]}
    cases = found(tmp_path, volumes=volumes, channels=2)
    assert list(cases) == ["imagesTr/p1", "imagesTr/p2"]
    assert cases["imagesTr/p2"].mask == tmp_path / "labelsTr/p2.nii.gz"
    (tmp_path / "imagesTr/p1_0001.nii.gz").unlink()
    refused(tmp_path, "p1_0001.nii.gz", "no such file", volumes=volumes, channels=2)


def test_a_table_names_files_patients_and_parts(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(tmp_path / f"x/{name}.nii.gz")
    save(tmp_path / "m/1.nii.gz", value=1)
    save(tmp_path / "m/2.nii.gz", value=1)
    (tmp_path / "cases.csv").write_text(
        "\ufeffimage,patient,split,mask,scribbles,remark\n"
        "x/a.nii.gz,P1,train,m/1.nii.gz,,first\nx/b.nii.gz,P1,train,,m/2.nii.gz,\nx/c.nii.gz,P2,val,,,\nx/d.nii.gz,P3,,,,\n",
        encoding="utf-8",
    )
    config = data(tmp_path, volumes={"table": "cases.csv"}, split={"kind": "given"})
    cases = VolumesDataset(config).cases()
    assert [(case.name, case.patient, case.part) for case in cases] == [
        ("x/a", "P1", "train"),
        ("x/b", "P1", "train"),
        ("x/c", "P2", "val"),
        ("x/d", "P3", None),
    ]
    assert cases[0].mask == tmp_path / "m/1.nii.gz" and cases[1].labels == {"scribbles": tmp_path / "m/2.nii.gz"}
    parts = split_cases(cases, config.split, seed=0)
    assert {part: [case.name for case in some] for part, some in parts.items()} == {
        "train": ["x/a", "x/b"],
        "val": ["x/c"],
        "test": [],
    }


def test_all_faults_of_a_table_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a", "b", "stray"):
        save(tmp_path / f"{name}.nii.gz")
    rows = ["image,split,mask", "a.nii.gz,train,", "a.nii.gz,train,", "b.nii.gz,tset,", "gone.nii.gz,val,m.nii", ""]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    text = refused(
        tmp_path,
        "second row of image 'a.nii.gz' (the first is 2)",
        "'tset'",
        "Did you mean 'test'?",
        "'gone.nii.gz', which is no file",
        "'m.nii', which is no file",
        "stray.nii.gz: found no row",
        "5 faults",
        volumes={"table": "t.csv"},
    )
    assert text.count("\n  - ") == 5
    (tmp_path / "t.csv").write_text("Image,split\na.nii.gz,train\n")
    refused(tmp_path, "no column 'image'", "Rename 'Image'", volumes={"table": "t.csv", "unlisted": "ignore"})
    refused(tmp_path, "no such file", "below data.root", volumes={"table": "none.csv"})


def test_a_path_that_a_spreadsheet_shortened_is_guessed(tmp_path: Path) -> None:
    for name in ("001", "2", "c"):
        save(tmp_path / f"{name}.nii.gz")
    (tmp_path / "t.csv").write_text("image\n1\n2.0\nC.nii.gz\n9\n")
    text = refused(
        tmp_path,
        "image '1', which is no file, expected a volume. Did you mean '001.nii.gz'?",
        "image '2.0', which is no file, expected a volume. Did you mean '2.nii.gz'?",
        "image 'C.nii.gz', which is no file, expected a volume. Did you mean 'c.nii.gz'?",
        volumes={"table": "t.csv", "unlisted": "ignore"},
    )
    assert "image '9', which is no file, expected a volume. Add the file" in text


def test_all_faults_of_files_are_told_at_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(tmp_path / f"{name}.nii.gz")
    save(tmp_path / "a.nrrd")
    save(tmp_path / "b_gt.nii.gz", (20, 18, 3, 2), value=1)
    moved = AFFINE.copy()
    moved[1, 3] += 250
    save(tmp_path / "c_gt.nii.gz", affine=moved, value=1)
    save(tmp_path / "d_points.nii.gz").write_bytes(b"cut off")
    save(tmp_path / "e_gt.nii.gz")
    text = refused(
        tmp_path,
        "second image of case 'a'",
        "shape (20, 18, 3, 2), expected 3D labels",
        "do not overlap the image c.nii.gz",
        "d_points.nii.gz",
        "e_gt.nii.gz: found no image of that name next to it",
    )
    assert text.count("\n  - ") == 5


def test_masks_with_classes_that_the_config_does_not_name(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.nii.gz")
        save(tmp_path / f"{name}_gt.nii.gz", value=7)
    dataset = VolumesDataset(data(tmp_path))
    with pytest.raises(UserError) as caught:
        load_tags(dataset, dataset.cases(), data(tmp_path))
    assert str(caught.value).count("label values 7, expected only [0, 1, 2]") == 2
    other = data(tmp_path, volumes={"other_values": [7]})
    assert not VolumesDataset(other).labels(dataset.cases()[0]).any()
    named = data(tmp_path, class_values=[3, 7])
    assert (VolumesDataset(named).labels(dataset.cases()[0]) == 2).all()


def test_patients_by_an_expression(tmp_path: Path) -> None:
    for name in ("P1_first", "P1_second", "P2_first"):
        save(tmp_path / f"{name}.nii.gz")
    cases = found(tmp_path, volumes={"patient": "^(P[0-9]+)_"})
    assert [case.patient for case in cases.values()] == ["P1", "P1", "P2"]
    refused(tmp_path, "case 'P1_first'", "fits 'Q'", volumes={"patient": "Q"})


def test_mixed_orientation_size_and_spacing_train_alike(tmp_path: Path) -> None:
    """A volume and the same volume stored sagittally give the same slices and tags."""
    array = np.random.default_rng(0).integers(0, 200, (20, 18, 3)).astype(np.int16)
    mask = np.zeros(array.shape, np.int16)
    mask[4:9, 4:9, 1] = 2
    for name, voxels in (("a", array), ("a_gt", mask)):
        image = nib.Nifti1Image(voxels, AFFINE)
        nib.save(image, tmp_path / f"{name}.nii.gz")
        turn = nib.orientations.ornt_transform(
            nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt("SPL")
        )
        nib.save(image.as_reoriented(turn), tmp_path / f"{name.replace('a', 'b', 1)}.nii.gz")
    grid = {"spacing_mm": None, "size": [16, 16], "slice_axis": "axial"}
    config = data(tmp_path, grid=grid)
    dataset = VolumesDataset(config)
    cases = dataset.cases()
    assert dataset.slice_counts(cases) == {"a": 3, "b": 3}
    slices = build_slices(dataset, cases, config)
    assert slices.tags.tolist() == [[0, 0], [0, 1], [0, 0]] * 2
    for z in range(3):
        assert np.array_equal(slices[z]["image"], slices[3 + z]["image"])


def test_a_case_without_tags_is_refused_unless_asked_for(tmp_path: Path) -> None:
    for name in ("sub/a", "sub/b"):
        save(tmp_path / f"{name}.nii.gz")
    (tmp_path / "tags.csv").write_text("image,slice,A,B\nsub/a.nii.gz,1,1,0\n")
    config = data(tmp_path, tags={"source": "csv", "path": "tags.csv"})
    dataset = VolumesDataset(config)
    with pytest.raises(UserError, match="b.nii.gz: found no tag in tags.csv"):
        load_tags(dataset, dataset.cases(), config)
    config = data(tmp_path, tags={"source": "csv", "path": "tags.csv", "missing": "unknown"})
    assert load_tags(dataset, dataset.cases(), config)["sub/a"].tolist() == [[-1, -1], [1, 0], [-1, -1]]


def test_classes_have_to_be_named_and_splits_are_by_fractions(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="classes are missing"):
        DataConfig.model_validate({"name": "volumes"})
    assert data(tmp_path).split.kind == "fractions"
    with pytest.raises(ValueError, match="no regular expression"):
        data(tmp_path, volumes={"patient": "("})
    with pytest.raises(ValueError, match="lacks {name}"):
        data(tmp_path, volumes={"masks": "mask"})
    refused(tmp_path, "no image fits '**/*'")
