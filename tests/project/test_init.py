"""`unia-med init`: folders as people have them become configs that read what was meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unia_med.cli.main import main
from unia_med.config.load import load_config
from unia_med.config.schema import RunConfig
from unia_med.config.volumes import holds_pictures_alone
from unia_med.data.io.label_file import LabelFile
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.data.weak_labels.load import load_weak_labels
from unia_med.errors import UserError
from unia_med.evaluation.pairs import find_labels
from unia_med.labels import IGNORE
from unia_med.project.found import look
from unia_med.project.merge import are_cut_off
from unia_med.project.pairs import channel_endings
from unia_med.project.plan import images_to_predict, make_plan

AFFINE = np.diag([1.2, 1.2, 6.0, 1.0])
AFFINE[:3, 3] = (-40, -50, 20)
CASES = 5


def organ(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image and its mask: a disc (1) with a core (2) in all slices but the first."""
    x, y, _ = np.meshgrid(np.arange(72), np.arange(64), np.arange(6), indexing="ij")
    mask = np.zeros((72, 64, 6), np.uint8)
    mask[np.hypot(x - 30 - seed, y - 30) < 14] = 1
    mask[np.hypot(x - 30 - seed, y - 28) < 6] = 2
    mask[..., 0] = 0
    noise = np.random.default_rng(seed).normal(0, 10, mask.shape)
    return (np.array([60, 130, 220])[mask] + noise).astype(np.int16), mask


def strokes(seed: int, background: int) -> np.ndarray:
    drawn = np.zeros((72, 64, 6), np.uint8)
    x = 30 + seed
    drawn[x - 3 : x + 3, 28, 1:], drawn[x - 9 : x + 9, 39, 1:] = 2, 1
    if background:
        for rows, columns in ((slice(x - 20, x + 22), [8, 50]), ([x - 20, x + 22], slice(8, 51))):
            drawn[rows, columns, 1:] = background
    return drawn


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)


def pairs(root: Path) -> None:
    for i in range(CASES):
        image, mask = organ(i)
        save(root / f"images/pat{i}.nii.gz", image)
        save(root / f"labels/pat{i}.nii.gz", mask)


def nnunet(root: Path) -> None:
    for i in range(CASES):
        image, mask = organ(i)
        save(root / f"imagesTr/x_{i:03d}_0000.nii.gz", image)
        save(root / f"imagesTr/x_{i:03d}_0001.nii.gz", image)
        save(root / f"imagesTs/x_{i + 50:03d}_0000.nii.gz", image)
        save(root / f"labelsTr/x_{i:03d}.nii.gz", mask)
    labels = {"background": 0, "kidney": 1, "cyst": 2}
    (root / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "T1", "1": "T2"}}))


def folders(root: Path) -> None:
    for i in range(CASES):
        save(root / f"case_{i}/image.nii.gz", organ(i)[0])
        save(root / f"case_{i}/label.nii.gz", strokes(i, 3))
    lines = ["# ITK-SnAP", '0 0 0 0 0 0 0 "Clear Label"']
    lines += [f'{v} 255 0 0 1 1 1 "{name}"' for v, name in ((1, "Kidney"), (2, "Cyst"), (3, "Background"))]
    (root / "labels.txt").write_text("\n".join(lines))


def viewer(root: Path) -> None:
    for i in range(CASES):
        save(root / f"S{i}.nii.gz", organ(i)[0])
        save(root / f"S{i}-label.nii.gz", strokes(i, 0))


def published(root: Path) -> None:
    for i in range(CASES):
        image, mask = organ(i)
        drawn = strokes(i, 3)
        save(root / f"S{i}.nii.gz", image)
        save(root / f"S{i}_scribble.nii.gz", np.where(drawn == 0, 4, np.where(drawn == 3, 0, drawn)).astype(np.uint8))
        save(root / f"S{i}_gt.nii.gz", mask)


def boxes(root: Path) -> None:
    for i in range(CASES):
        drawn = np.zeros((72, 64, 6), np.uint8)
        drawn[16 + i : 45 + i, 16:45, 1:] = 1
        drawn[24 + i : 36 + i, 22:34, 1:] = 2
        save(root / f"S{i}.nii.gz", organ(i)[0])
        save(root / f"annotations/S{i}.nii.gz", drawn)


def pictures(root: Path) -> None:
    for i in range(CASES):
        image, mask = organ(i)
        for folder, name, array in (("images", f"x{i}", image.clip(0, 255)), ("masks", f"x{i}_mask", mask)):
            (root / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array[..., 3].astype(np.uint8)).save(root / folder / f"{name}.png")


def made(tmp_path: Path, build: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    build(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["init", "data"]) == 0
    config = load_config("project.yaml")
    assert len(VolumesDataset(config.data).cases()) == CASES
    return config


@pytest.mark.parametrize(
    ("build", "classes", "kind", "method"),
    [
        (pairs, ["class_1", "class_2"], "masks", "partial"),
        (nnunet, ["kidney", "cyst"], "masks", "partial"),
        (folders, ["Kidney", "Cyst"], "scribbles", "agmm"),
        (viewer, ["class_1", "class_2"], "scribbles", "agmm"),
        (published, ["class_1", "class_2"], "scribbles", "agmm"),
        (boxes, ["class_1", "class_2"], "boxes", "partial"),
        (pictures, ["class_1", "class_2"], "masks", "partial"),
    ],
)
def test_a_folder_as_it_is_becomes_a_config_that_inspect_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Callable, classes: list[str], kind: str, method: str
) -> None:
    config = made(tmp_path, build, monkeypatch)
    assert config.data.classes == classes and config.data.labels[0].kind == kind and config.method.name == method
    assert main(["inspect", "--config", "project.yaml"]) == 0


def test_what_0_means_is_read_from_the_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {"folders": {3: 0, 0: IGNORE}, "viewer": {0: IGNORE}, "published": {0: IGNORE, 3: 0}}
    for build in (folders, viewer, published):
        root = tmp_path / build.__name__
        root.mkdir()
        config = made(root, build, monkeypatch)
        source = config.data.labels[0].model_copy(update={"fill": "none"})
        grid = config.data.grid.model_copy(update={"spacing_mm": None, "size": (72, 64)})
        data = config.data.model_copy(update={"labels": [source], "grid": grid})
        dataset = VolumesDataset(data)
        case = dataset.cases()[2]
        drawn = strokes(2, 0 if build is viewer else 3).transpose(2, 0, 1)
        found = load_weak_labels(dataset, [case], data, 0)[case.name]
        for value, label in {1: 1, 2: 2, **expected[build.__name__]}.items():
            assert (found[drawn == value] == label).all(), (build.__name__, value)


def test_channels_test_images_and_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = made(tmp_path, nnunet, monkeypatch).data
    assert data.channels == 2 and data.volumes.channel_endings == ["_0000", "_0001"]
    assert data.grid.spacing_mm == 1.2 and data.grid.size == (80, 80)
    assert made(tmp_path / "p", pictures, monkeypatch).data.grid.units == "pixels" if (tmp_path / "p").mkdir() else True


def test_twice_is_once_and_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made(tmp_path, folders, monkeypatch)
    before = {path: path.read_bytes() for path in tmp_path.glob("project*")}
    assert main(["init", "data"]) == 0
    (tmp_path / "project.yaml").write_text("seed: 1\n")
    assert main(["init", "data"]) == 2
    assert "nothing was overwritten" in capsys.readouterr().err
    assert (tmp_path / "project.yaml").read_text() == "seed: 1\n"
    assert all(path.read_bytes() == text for path, text in before.items() if path.suffix == ".csv")


def test_a_table_of_tags_under_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tagged(root: Path) -> None:
        for i in range(CASES):
            save(root / f"scans/S{i}.nii.gz", organ(i)[0])
        rows = [f"S{i}.nii.gz,{z},{'yes' if z else 'no'},{int(z > 2)}" for i in range(CASES) for z in range(6)]
        (root / "findings.csv").write_text("\n".join(["filename,slice,tumour,cyst", *rows]))

    config = made(tmp_path, tagged, monkeypatch)
    assert config.method.name == "unia" and config.data.classes == ["tumour", "cyst"]
    assert main(["inspect", "--config", "project.yaml"]) == 0


def test_dicom_series_with_segmentations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dicom_files: ModuleType
) -> None:
    from unia_med.data.io.dicom.seg import SegWriter
    from unia_med.data.io.dicom.series import find_series

    def scanned(root: Path) -> None:
        for i in range(CASES):
            image, mask = organ(i)
            dicom_files.write_series(root / f"P{i}" / "scan", image.clip(0))
            series = find_series(root / f"P{i}" / "scan")
            with SegWriter(series, ["LIVER", "LESION"]) as writer:
                writer.write(0, mask, root / f"P{i}" / "seg" / "seg.dcm")

    data = made(tmp_path, scanned, monkeypatch).data
    assert data.classes == ["LIVER", "LESION"]
    dataset = VolumesDataset(data)
    for i, case in enumerate(dataset.cases()):
        assert np.array_equal(dataset.labels(case), organ(i)[1])
    # Results by the names of the cases, which say whose labels they are; studies alone have numbers.
    assert images_to_predict(make_plan(tmp_path / "data")) == f"{tmp_path / 'data'} --split val"
    assert sorted(find_labels(tmp_path / "data", quiet=True)) == [f"P{i}/seg/seg" for i in range(CASES)]


def test_derivatives_of_bids_belong_to_their_subject_and_session(tmp_path: Path) -> None:
    for i, session in ((1, "a"), (1, "b"), (2, "a")):
        image, mask = organ(i)
        place = f"sub-0{i}/ses-{session}/anat"
        save(tmp_path / f"{place}/sub-0{i}_ses-{session}_T1w.nii.gz", image)
        name = f"sub-0{i}_ses-{session}_space-orig_desc-manual_dseg.nii.gz"
        save(tmp_path / f"derivatives/manual/{place}/{name}", mask)
    (tmp_path / "derivatives/manual/dseg.tsv").write_text("index\tname\n0\tBackground\n1\tliver\n2\tcyst\n")
    plan = make_plan(tmp_path)
    assert plan.classes == {1: "liver", 2: "cyst"} and plan.method == "masks" and plan.weak is not None
    found = {image.name[:12]: label.name[:12] for image, label in plan.weak[1].items()}
    assert found == {name: name for name in ("sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a")}
    assert images_to_predict(plan) == str(tmp_path)
    for path in list(tmp_path.rglob("*_dseg.nii.gz")):
        save(path.with_name(path.name.replace("dseg", "label-lesion_mask")), (organ(1)[1] == 2).astype(np.uint8))
        path.unlink()
    (tmp_path / "derivatives/manual/dseg.tsv").unlink()
    assert make_plan(tmp_path).classes == {1: "lesion"}


def test_a_table_as_a_german_spreadsheet_writes_it(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"p{i}.nii.gz", organ(i)[0])
    rows = ["Datei;Leber;Zyste;Bemerkung", "p0.nii.gz;ja;nein;a", "p1.nii.gz;nein;ja;b", "p2.nii.gz;ja;;c"]
    (tmp_path / "befund.csv").write_text("\ufeff" + "\r\n".join(rows), encoding="utf-8")
    tags = make_plan(tmp_path).tags
    assert tags is not None and tags.classes == ["Leber", "Zyste"] and not tags.as_it_is
    assert tags.rows[1:] == [["p0", "1", "0"], ["p1", "0", "1"], ["p2", "1", ""]]


@pytest.mark.parametrize(
    ("encoding", "separator", "start"),
    [("cp1252", ";", ""), ("utf-16", "\t", ""), ("utf-8", "|", ""), ("utf-8-sig", ";", "sep=;\r\n")],
)
def test_a_table_in_other_encodings(tmp_path: Path, encoding: str, separator: str, start: str) -> None:
    for name in ("Müller 1", "=p2", "P3"):
        save(tmp_path / f"{name}.nii.gz", organ(len(name))[0])
    rows = [["Fall", "Leber", "Zyste", "Notiz"], ["Mu\u0308ller 1", "WAHR", "FALSCH", ""], ["'=p2", "0", "NA", ""]]
    text = "\r\n".join(separator.join(row) for row in [*rows, ["p3.nii.gz", "1", "1", ""]])
    text = text if encoding != "cp1252" else text.replace("u\u0308", "ü")
    (tmp_path / "befund.csv").write_bytes((start + text + "\r\n\r\n").encode(encoding))
    tags = make_plan(tmp_path).tags
    assert tags is not None and tags.classes == ["Leber", "Zyste"] and not tags.as_it_is
    assert tags.rows[1:] == [["Müller 1", "1", "0"], ["=p2", "0", ""], ["P3", "1", "1"]]


def test_a_table_with_a_column_twice_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "p0.nii.gz", organ(0)[0])
    (tmp_path / "tags.csv").write_text("image,liver,liver\np0,1,0\n")
    with pytest.raises(UserError, match="has several columns 'liver'"):
        make_plan(tmp_path)


def test_masks_of_some_slices_leave_the_others_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(CASES):
        image, mask = organ(i)
        mask[..., [0, 1, 3, 5]] = 0  # two slices are drawn, at the full size of the organ
        save(tmp_path / f"data/p{i}.nii.gz", image)
        save(tmp_path / f"data/p{i}_seg.nii.gz", mask)
    monkeypatch.chdir(tmp_path)
    assert main(["init", "data"]) == 0
    config = load_config(tmp_path / "project.yaml")
    (entry,) = config.data.labels
    assert (entry.kind, entry.source, entry.background_value, entry.ignore_value) == ("masks", "files", 0, 255)
    dataset = VolumesDataset(config.data)
    cases = dataset.cases()
    assert all(case.mask is None for case in cases)  # half a mask validates nothing
    labels = load_weak_labels(dataset, cases, config.data, 0)
    assert labels is not None
    assert [bool((plane == IGNORE).all()) for plane in labels["p0"]] == [True, True, False, True, False, True]
    thin = organ(0)[1]
    thin[..., [0, 1, 3, 5]] = 0
    thin[:, :, :] *= (np.arange(72) == 30)[:, None, None].astype(np.uint8)  # small: a lesion of one slice
    assert not are_cut_off([LabelFile(thin, AFFINE, tmp_path)])
    assert not are_cut_off([LabelFile(organ(0)[1], AFFINE, tmp_path)])


def test_an_ignore_label_of_nnunet_is_not_annotated_in_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(root: Path) -> None:
        for i in range(CASES):
            image, mask = organ(i)
            mask[:10] = 3
            save(root / f"imagesTr/x_{i:03d}_0000.nii.gz", image)
            save(root / f"labelsTr/x_{i:03d}.nii.gz", mask)
        labels = {"background": 0, "kidney": 1, "cyst": 2, "ignore": 3}
        (root / "dataset.json").write_text(json.dumps({"labels": labels, "channel_names": {"0": "CT"}}))

    config = made(tmp_path, build, monkeypatch)
    (entry,) = config.data.labels
    assert (entry.kind, entry.ignore_value, config.method.name) == ("masks", 3, "partial")
    assert config.data.volumes.labels == {"masks": "labelsTr/{name}"} and config.data.classes == ["kidney", "cyst"]
    assert main(["inspect", "--config", "project.yaml"]) == 0


def test_a_segment_that_is_called_background_in_another_language(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"images/p{i}.nii.gz", organ(i)[0])
        save(tmp_path / f"drawn/p{i}.nii.gz", strokes(i, 7))
    (tmp_path / "labels.txt").write_text("1 Niere\n2 Zyste\n7 Hintergrund\n", encoding="utf-8")
    plan = make_plan(tmp_path)
    assert plan.classes == {1: "Niere", 2: "Zyste"} and plan.weak is not None and plan.weak[0].background == 7
    assert images_to_predict(plan) == str(tmp_path / "images")
    (tmp_path / "labels.txt").write_text("1 Niere\n2 Zyste\n7 Rand\n", encoding="utf-8")
    weak = make_plan(tmp_path).weak
    assert weak is not None and "lies around all others" in weak[0].why[7]


def test_labels_among_the_images_are_not_predicted(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path / f"p{i}.nii.gz", organ(i)[0])
        for value, name in ((1, "kidney"), (2, "cyst")):
            save(tmp_path / f"p{i}_{name}.nii.gz", (organ(i)[1] == value).astype(np.uint8) * 255)
    assert images_to_predict(make_plan(tmp_path)) == f"{tmp_path} --split train"  # too few to keep some for validation


def test_a_folder_without_labels_teaches_nothing_and_no_run_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(root: Path) -> None:
        for i in range(CASES):
            save(root / f"p{i}.nii.gz", organ(i)[0])

    made(tmp_path, build, monkeypatch)
    assert main(["inspect", "--config", "project.yaml"]) == 0
    assert "There is nothing to learn from" in " ".join(capsys.readouterr().out.split())
    assert main(["train", "--config", "project.yaml", "--output", "run"]) == 2
    assert "nothing to learn from" in capsys.readouterr().err and not Path("run").exists()


def test_links_are_followed_once_and_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs(tmp_path / "a")
    (tmp_path / "far").mkdir()
    (tmp_path / "a/images/pat0.nii.gz").rename(tmp_path / "far/pat0.nii.gz")
    (tmp_path / "a/images/site").symlink_to(tmp_path / "far")
    for loop in ("one", "two"):  # two of them: without a guard their ways are counted in thousands
        (tmp_path / "a/images" / loop).symlink_to(tmp_path / "a")
    (tmp_path / "a/images/gone.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    (tmp_path / "a/images/lonely.img").write_bytes(b"x")
    with caplog.at_level("INFO"):
        found = look(tmp_path / "a")
    assert len(found.images) == len(found.labels) == CASES and not found.unread
    (said,) = [record.getMessage() for record in caplog.records if "found 5 images" in record.getMessage()]
    assert "1 linked to nothing" in said and "1 without its .hdr" in said
    (tmp_path / "pictures").mkdir()
    Image.new("L", (4, 4)).save(tmp_path / "pictures/a.png")
    for loop in ("one", "two"):
        (tmp_path / "pictures" / loop).symlink_to(tmp_path / "pictures")
    assert holds_pictures_alone(tmp_path / "pictures")


def test_endings_of_channels_are_no_frames() -> None:
    assert channel_endings([Path(f"p{i}_frame{f:02d}.nii") for i in range(3) for f in (1, 9)]) == []


@pytest.mark.parametrize("drawn", [True, False])
def test_pictures_among_scans_are_learned_from_where_they_have_labels(tmp_path: Path, drawn: bool) -> None:
    folder = tmp_path / "scans"
    for case in range(3):
        image, mask = organ(case)
        save(folder / f"case{case}.nii.gz", image)
        save(folder / f"case{case}_gt.nii.gz", mask)
    image, mask = organ(9)
    Image.fromarray(np.clip(image[..., 3], 0, 255).astype(np.uint8)).save(folder / "screen.png")
    if drawn:
        Image.fromarray(mask[..., 3]).save(folder / "screen_gt.png")
    assert main(["init", str(folder), "--output", str(tmp_path / "project.yaml")]) == 0
    config = load_config(tmp_path / "project.yaml")
    names = {case.name for case in VolumesDataset(config.data).cases()}
    assert names == {"case0", "case1", "case2", *(["screen"] if drawn else [])}
    assert config.data.grid.units == ("pixels" if drawn else "mm")
    assert main(["inspect", "--config", str(tmp_path / "project.yaml")]) == 0
