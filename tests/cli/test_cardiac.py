"""`unia-med cardiac`: files in, tables out."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.cardiac.cases import find_cases, parse_classes
from unia_med.cli.main import main
from unia_med.data.io.nifti import write_like
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError

SPACING = (1.5, 2.0, 8.0)


def block(count: int) -> np.ndarray:
    """LV of `count` voxels, 40 of MYO and 20 of RV, so that volumes are whole numbers of voxels of 24 mm3."""
    labels = np.zeros((20, 20, 3), np.uint8)
    labels[:, :, 1].flat[:count] = 3
    labels[:, 18, 0], labels[:, 19, 0], labels[:, 0, 2] = 2, 2, 1
    return labels


def save(path: Path, labels: np.ndarray, step: float = 0.03) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(labels, np.diag([*SPACING, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    if labels.ndim == 4:
        image.header["pixdim"][4] = step
    nib.save(image, path)


def cardiac(masks: Path, output: Path, *more: str) -> int:
    return main(["cardiac", "--masks", str(masks), "--output", str(output), *more])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_pairs_cines_and_single_frames(tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    save(masks / "p1_frame12_seg.nii.gz", block(300))
    save(masks / "p1_frame01_seg.nii.gz", block(200))
    save(masks / "p1_frame01_uncertainty.nii.gz", np.zeros((20, 20, 3), np.float32))
    save(masks / "deep" / "p2_4d_seg.nii.gz", np.stack([block(n) for n in (250, 100, 350)], -1))
    save(masks / "p3_seg.nii.gz", block(100))
    assert cardiac(masks, tmp_path / "new" / "i.csv") == 0
    voxel = 0.024
    one, two, three = rows(tmp_path / "new" / "i.csv")
    assert [row["case"] for row in (one, two, three)] == ["p1", "p2_4d", "p3"]
    assert (one["frames"], one["ed_frame"], one["es_frame"]) == ("2", "12", "1")
    assert float(one["lv_edv_ml"]) == pytest.approx(300 * voxel)
    assert float(one["lv_esv_ml"]) == pytest.approx(200 * voxel)
    assert float(one["lv_stroke_volume_ml"]) == pytest.approx(100 * voxel)
    assert float(one["lv_ef_percent"]) == pytest.approx(100 / 3, abs=1e-3)
    assert float(one["rv_ef_percent"]) == 0
    assert float(one["myo_mass_ed_g"]) == pytest.approx(40 * voxel * 1.05)
    assert one["wall_thickness_mean_ed_mm"] == ""  # cavity and wall share no slice here
    assert (two["ed_frame"], two["es_frame"]) == ("3", "2")
    assert (three["ed_frame"], three["es_frame"], three["lv_ef_percent"]) == ("1", "", "")
    frames = rows(tmp_path / "new" / "i_frames.csv")
    found = [(row["case"], row["frame"], row["time_s"], float(row["lv_ml"])) for row in frames]
    assert found == [
        ("p1", "1", "", pytest.approx(200 * voxel)),
        ("p1", "12", "", pytest.approx(300 * voxel)),
        ("p2_4d", "1", "0", pytest.approx(250 * voxel)),
        ("p2_4d", "2", "0.03", pytest.approx(100 * voxel)),
        ("p2_4d", "3", "0.06", pytest.approx(350 * voxel)),
        ("p3", "1", "", pytest.approx(100 * voxel)),
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["i.csv", "i_frames.csv"]


def test_info_names_the_phases(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, count in ((1, 200), (4, 300), (9, 100)):
        save(tmp_path / "masks" / f"p1_frame{number:02d}_seg.nii.gz", block(count))
    save(tmp_path / "masks" / "p2_frame01_seg.nii.gz", block(100))
    info = tmp_path / "data" / "training" / "p1" / "Info.cfg"
    info.parent.mkdir(parents=True)
    info.write_text("ED: 1\nES: 9\n")
    assert cardiac(tmp_path / "masks", tmp_path / "i.csv", "--info", str(tmp_path / "data")) == 1
    said = capsys.readouterr().err
    assert "1 of 2 cases" in said and "p2: no Info.cfg" in said
    (row,) = rows(tmp_path / "i.csv")
    assert (row["ed_frame"], row["es_frame"]) == ("1", "9")
    assert float(row["lv_ef_percent"]) == pytest.approx(50)
    info.write_text("ED: 1\nES: 7\n")
    assert cardiac(tmp_path / "masks", tmp_path / "j.csv", "--info", str(tmp_path / "data")) == 2
    assert "no mask of ES (frame 7) among the frames 1, 4, 9" in capsys.readouterr().err
    assert not (tmp_path / "j.csv").exists()


def test_bad_cases_are_named_and_the_others_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks = tmp_path / "masks"
    save(masks / "good.nii.gz", block(100))
    save(masks / "empty.nii.gz", np.zeros((4, 4, 2), np.uint8))
    save(masks / "foreign.nii.gz", block(100) * 2)
    (masks / "broken.nii.gz").write_bytes(b"nothing")
    assert cardiac(masks, tmp_path / "i.csv") == 1
    said = capsys.readouterr().err
    assert "3 of 4 cases" in said
    for name, reason in (("broken", "cannot be read"), ("empty", "no frame holds any LV"), ("foreign", "labels 4, 6")):
        assert f"{name}: {masks / name}.nii.gz: " in said and reason in said
    assert [row["case"] for row in rows(tmp_path / "i.csv")] == ["good"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--classes", "RV,MYO"], "no LV among"),
        (["--classes", "LV=1,MYO=1"], "LV=1,MYO=2,RV=3"),
        (["--classes", "LV=x"], "--classes"),
        (["--info", "nowhere"], "no such folder"),
        (["--output", "indices.json"], "Use .csv"),
        (["--masks", "nowhere"], "no such folder"),
    ],
)
def test_requests_that_cannot_be(
    tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path / "masks" / "a.nii.gz", block(10))
    assert cardiac(tmp_path / "masks", tmp_path / "i.csv", *more) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "i.csv").exists()


def test_which_files_are_masks(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "p1"
    for name in ("p1_frame01", "p1_frame01_gt", "p1_frame12", "p1_frame12_gt", "p1_frame12_scribble"):
        save(folder / f"{name}.nii.gz", block(10))
    (case,) = find_cases(tmp_path)
    assert [(number, path.name) for number, path in case.files.items()] == [
        (1, "p1_frame01_gt.nii.gz"),
        (12, "p1_frame12_gt.nii.gz"),
    ]
    save(tmp_path / "other" / "p1_frame01_gt.nii.gz", block(10))
    cases = {case.name: list(case.files) for case in find_cases(tmp_path)}
    assert cases == {"other/p1": [1], "training/p1/p1": [1, 12]}
    save(tmp_path / "other" / "p1_frame01_gt.nii", block(10))
    with pytest.raises(UserError, match="two masks of other/p1"):
        find_cases(tmp_path)


def test_class_names() -> None:
    assert parse_classes("LV, Myo ,rv") == {"LV": 1, "MYO": 2, "RV": 3}
    assert parse_classes("RV=3,scar=9,LV=1") == {"RV": 3, "scar": 9, "LV": 1}


@pytest.mark.slow
def test_real_acdc_by_volume_as_by_info(real_acdc: Path, tmp_path: Path) -> None:
    assert cardiac(real_acdc, tmp_path / "found.csv") == 0
    assert cardiac(real_acdc, tmp_path / "stated.csv", "--info", str(real_acdc)) == 0
    found, stated = rows(tmp_path / "found.csv"), rows(tmp_path / "stated.csv")
    assert [row["ed_frame"] for row in found] == [row["ed_frame"] for row in stated]
    assert all(0 < float(row["lv_ef_percent"]) < 90 for row in stated)


def test_names_next_to_the_masks_are_used_and_other_organs_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swapped = block(100)
    swapped[block(100) == 3], swapped[block(100) == 1] = 1, 3
    save(tmp_path / "hearts" / "deep" / "a_seg.nii.gz", swapped)
    (tmp_path / "hearts" / "classes.json").write_text('{"1": "lv", "2": "MYO", "3": "RV"}')
    assert cardiac(tmp_path / "hearts", tmp_path / "i.csv") == 0
    assert float(rows(tmp_path / "i.csv")[0]["lv_edv_ml"]) == pytest.approx(2.4)
    (tmp_path / "hearts" / "classes.json").unlink()
    write_like(
        swapped,
        Volume(swapped, np.diag([*SPACING, 1.0])),
        tmp_path / "alone" / "renamed.nii.gz",
        {1: "lv", 2: "MYO", 3: "RV"},
    )
    assert cardiac(tmp_path / "alone", tmp_path / "alone.csv") == 0
    assert float(rows(tmp_path / "alone.csv")[0]["lv_edv_ml"]) == pytest.approx(2.4)
    save(tmp_path / "brain" / "a_seg.nii.gz", block(100))
    (tmp_path / "brain" / "classes.json").write_text('{"1": "CSF", "2": "GM", "3": "WM"}')
    assert cardiac(tmp_path / "brain", tmp_path / "b.csv") == 2
    said = capsys.readouterr().err
    assert "CSF, GM, WM" in said and "classes.json" in said and "--classes" in said
    assert not (tmp_path / "b.csv").exists()
    assert cardiac(tmp_path / "brain", tmp_path / "b.csv", "--classes", "RV,MYO,LV") == 0  # said on purpose


def test_what_is_larger_than_a_heart_is_refused_and_the_unusual_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    brain = np.full((90, 100, 50), 3, np.uint8)  # 450,000 voxels of 24 mm3
    brain[:20], brain[20:40] = 1, 2
    save(tmp_path / "masks" / "brain_seg.nii.gz", brain)
    assert cardiac(tmp_path / "masks", tmp_path / "i.csv") == 2
    said = capsys.readouterr().err
    assert "a LV of 6000 ml is no ventricle" in said and "brain_seg.nii.gz" in said and "--classes" in said
    save(tmp_path / "masks" / "small_seg.nii.gz", block(100))
    assert cardiac(tmp_path / "masks", tmp_path / "i.csv") == 1
    (row,) = rows(tmp_path / "i.csv")
    assert row["case"] == "small" and "LV EDV 2.4 ml (usual 30 to 450)" in row["warnings"]
    assert "warning: small: look again: LV EDV 2.4 ml" in capsys.readouterr().err


def test_phases_are_corrected_for_all_or_for_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("p1", "p2"):
        save(tmp_path / "masks" / f"{name}_seg.nii.gz", np.stack([block(n) for n in (200, 250, 100, 150)], -1))

    def phases(*more: str) -> list[tuple[str, str]]:
        assert cardiac(tmp_path / "masks", tmp_path / "i.csv", *more) == 0
        return [(row["ed_frame"], row["es_frame"]) for row in rows(tmp_path / "i.csv")]

    assert phases() == [("2", "3"), ("2", "3")]
    assert phases("--ed", "1") == [("1", "3"), ("1", "3")]
    assert phases("--ed", "1", "--es", "p2=4", "--ed", "p1=2") == [("2", "3"), ("1", "4")]
    marks = [(row["case"], row["frame"], row["phase"]) for row in rows(tmp_path / "i_frames.csv") if row["phase"]]
    assert marks == [("p1", "2", "ED"), ("p1", "3", "ES"), ("p2", "1", "ED"), ("p2", "4", "ES")]
    for more, part in (("7", "frame 7"), ("p9=1", "no case p9"), ("p1=x", "CASE=FRAME"), ("0", "CASE=FRAME")):
        assert cardiac(tmp_path / "masks", tmp_path / "j.csv", "--ed", more) == 2
        assert part in capsys.readouterr().err
    assert cardiac(tmp_path / "masks", tmp_path / "j.csv", "--ed", "3", "--es", "1") == 2
    assert "the LV is larger at ES (5 ml) than at ED" in capsys.readouterr().err


def test_segments_and_drawings_of_phantoms(tmp_path: Path) -> None:
    assert main(["phantom", "--output", str(tmp_path / "hearts"), "--patients", "2"]) == 0
    more = ("--info", str(tmp_path / "hearts"), "--drawings", str(tmp_path / "svg"))
    assert cardiac(tmp_path / "hearts", tmp_path / "i.csv", *more) == 0
    found = rows(tmp_path / "i_segments.csv")
    assert [row["segment"] for row in found] == [str(number) for number in range(1, 18)] * 2
    assert found[1]["name"] == "basal anteroseptal"
    walls = [float(row["thickness_ed_mm"]) for row in found if row["segment"] != "17"]
    assert all(3 < wall < 30 for wall in walls)
    assert sorted(path.name for path in (tmp_path / "svg").iterdir()) == [
        f"patient00{number}_{phase}.svg" for number in (1, 2) for phase in ("ed", "es")
    ]


def test_frames_that_were_named_before_are_not_lost_in_silence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    masks = tmp_path / "masks"
    save(masks / "p_4d_seg.nii.gz", np.stack([block(n) for n in (250, 100, 120)], -1))
    assert cardiac(masks, masks / "indices.csv", "--es", "3") == 0
    said = capfd.readouterr()
    assert "ES is frame 3" in said.out and "to keep it" not in said.err
    assert cardiac(masks, tmp_path / "again" / "indices.csv") == 0
    said = capfd.readouterr()
    assert "ES is frame 2, and frame 3 in" in said.err and "add --es 3" in said.err and "ED is frame" not in said.err
    assert cardiac(masks, tmp_path / "again" / "indices.csv", "--es", "3") == 0
    assert "to keep it" not in capfd.readouterr().err
