"""`unia-med weaken`: volumes in the images' geometry, tables, seeds, and cases that fail."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.cli.main import main
from unia_med.config.schema import DataConfig
from unia_med.data.layouts.acdc import AcdcDataset
from unia_med.data.weak_labels.load import load_weak_labels
from unia_med.data.weak_labels.tags import read_tags_csv

KINDS = ("scribbles", "points", "blocks", "boxes")


def weaken(root: Path, output: Path, kind: str, *more: str) -> int:
    make = f"data.labels=[{{kind: {kind if kind != 'tags' else 'points'}, make: {{background_distance_px: 3}}}}]"
    common = ["weaken", "--config", "acdc.yaml", "--set", f"data.root={root}", "--set", make]
    return main([*common, "--kind", kind, "--output", str(output), *more])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", KINDS)
def test_volumes_lie_on_the_image_and_a_run_reads_what_was_made(
    tiny_acdc: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert weaken(tiny_acdc, tmp_path / "weak", kind, "--seed", "4") == 0
    assert f"{kind} of 4 of 4 cases" in capsys.readouterr().out
    volumes = sorted((tmp_path / "weak").glob("*.nii.gz"))
    assert [path.name for path in volumes][:2] == [f"patient001_frame{n}_{kind}.nii.gz" for n in ("01", "07")]
    image = nib.load(next(tiny_acdc.rglob("patient001_frame01.nii.gz")))
    written = nib.load(volumes[0])
    assert written.get_data_dtype() == np.uint8 and written.shape == image.shape
    assert np.array_equal(written.affine, image.affine)
    assert not list((tmp_path / "weak").glob(".writing*"))
    make = {"background_distance_px": 3}
    found = []
    for source in ({"source": "files", "folder": tmp_path / "weak"}, {"source": "masks", "make": make}):
        config = DataConfig(root=tiny_acdc, labels=[{"kind": kind, **source}])
        dataset = AcdcDataset(config)
        found.append(load_weak_labels(dataset, dataset.cases()[:4], config, 4))
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][case], found[1][case]) for case in found[0])


def test_a_folder_that_is_removed_meanwhile_is_told(
    tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unia_med.data.weak_labels import write

    made = []

    def removing(*arguments: object) -> object:
        if len(made) == 2:
            shutil.rmtree(tmp_path / "weak")
        made.append(write_case(*arguments))
        return made[-1]

    write_case = write.weaken_case
    monkeypatch.setattr(write, "weaken_case", removing)
    assert weaken(tiny_acdc, tmp_path / "weak", "points") == 1
    said = capsys.readouterr()
    assert "points of 2 of 4 cases" in said.out and "2 of 4 cases failed" in said.err
    assert f"{tmp_path / 'weak' / 'patient001_frame01_points.nii.gz'}: was written, and is gone" in said.err


def test_tags_and_their_table(tiny_acdc: Path, tmp_path: Path) -> None:
    assert weaken(tiny_acdc, tmp_path / "weak", "tags") == 0
    assert [path.name for path in (tmp_path / "weak").iterdir()] == ["tags.csv"]
    counts = {f"patient{p}_frame{f}": 4 for p in ("001", "002") for f in ("01", "07")}
    tags = read_tags_csv(tmp_path / "weak" / "tags.csv", ["RV", "MYO", "LV"], counts)
    assert tags["patient002_frame07"].tolist() == [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0]]


def test_coordinates_point_at_their_class(tiny_acdc: Path, tmp_path: Path) -> None:
    assert weaken(tiny_acdc, tmp_path / "points", "points") == 0 and weaken(tiny_acdc, tmp_path / "boxes", "boxes") == 0
    mask = np.asarray(nib.load(next(tiny_acdc.rglob("patient001_frame07_gt.nii.gz"))).dataobj)
    values = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
    points = [row for row in rows(tmp_path / "points" / "points.csv") if row["image"] == "patient001_frame07"]
    assert {row["class"] for row in points} == set(values)
    for row in points:
        assert mask[int(row["x"]), int(row["y"]), int(row["z"])] == values[row["class"]]
    boxes = [row for row in rows(tmp_path / "boxes" / "boxes.csv") if row["image"] == "patient001_frame07"]
    assert len(boxes) == 2 + 3 + 3
    for row in boxes:
        inside = np.argwhere(mask[:, :, int(row["z_min"])] == values[row["class"]])
        low, high = inside.min(0), inside.max(0)
        assert [int(row[f"{axis}_min"]) for axis in "xy"] == low.tolist()
        assert [int(row[f"{axis}_max"]) for axis in "xy"] == high.tolist()


def test_box_volume_adds_powers_of_two(tiny_acdc: Path, tmp_path: Path) -> None:
    assert weaken(tiny_acdc, tmp_path / "weak", "boxes") == 0
    volume = np.asarray(nib.load(tmp_path / "weak" / "patient001_frame01_boxes.nii.gz").dataobj)
    assert volume[19, 20, 2] == 2 + 4 and volume[0, 0, 2] == 0
    assert volume[11, 20, 0] == 1 + 2 and volume[5, 20, 0] == 1


def test_seed_and_split(tiny_acdc: Path, tmp_path: Path) -> None:
    for name, more in {"a": ["--seed", "1"], "b": ["--seed", "1"], "c": ["--seed", "2"]}.items():
        assert weaken(tiny_acdc, tmp_path / name, "points", *more) == 0
    one, same, other = ((tmp_path / name / "points.csv").read_text() for name in "abc")
    assert one == same != other
    assert weaken(tiny_acdc, tmp_path / "val", "points", "--split", "val") == 0
    assert {row["image"][:10] for row in rows(tmp_path / "val" / "points.csv")} == {"patient013"}


def test_a_bad_case_is_named_and_the_others_are_written(
    tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(tiny_acdc.rglob("patient001_frame07_gt.nii.gz"))
    gt = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(gt.shape, 9, np.int16), gt.affine, gt.header), path)
    assert weaken(tiny_acdc, tmp_path / "weak", "points") == 1
    caught = capsys.readouterr()
    assert "3 of 4" in caught.out and "1 of 4 cases failed" in caught.err and path.name in caught.err
    assert len(list((tmp_path / "weak").glob("*.nii.gz"))) == 3
    assert {row["image"] for row in rows(tmp_path / "weak" / "tags.csv")} == {
        "patient001_frame01",
        "patient002_frame01",
        "patient002_frame07",
    }


def test_wrong_arguments_end_with_2(tiny_acdc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert weaken(tiny_acdc, tmp_path / "file", "points") == 2
    assert weaken(tiny_acdc, tmp_path / "weak", "points", "--seed", "-1") == 2
    assert weaken(tiny_acdc, tmp_path / "weak", "points", "--split", "test") == 2
    assert "no test case" in capsys.readouterr().err and not (tmp_path / "weak").exists()
