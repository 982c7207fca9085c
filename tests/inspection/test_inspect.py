"""Inspection: numbers against brute force, every fault at once, advice, and both report files."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from unia_med.cli.main import main
from unia_med.config.load import parse_config
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.inspection.advice import advise
from unia_med.inspection.faults import walk
from unia_med.inspection.statistics import describe, tag_statistics

AFFINE = np.diag([1.5, 1.5, 8.0, 1.0])


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(np.int16), affine), path)


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 300, (20, 18, 3))


def config(root: Path, **settings: Any) -> Any:
    values = {"name": "volumes", "root": root, "classes": ["A", "B"], "tags": {"source": "none"}, **settings}
    return parse_config({"data": values})


def inspected(root: Path, **settings: Any) -> tuple[Any, dict[str, Any], list[str]]:
    run = config(root, **settings)
    found = walk(VolumesDataset(run.data), run)
    statistics = describe(found, run.data)
    return found, statistics, advise(statistics, run)


def test_tag_statistics_against_counting_slice_by_slice() -> None:
    names = ["A", "B", "C"]
    tags = [np.random.default_rng(seed).integers(-1, 2, (7, 3)).astype(np.int8) for seed in range(9)]
    found = tag_statistics(tags, names)
    rows = [row for volume in tags for row in volume.tolist()]
    for a, b in itertools.product(range(3), range(3)):
        assert found["together"][a][b] == sum(row[a] == 1 and row[b] == 1 for row in rows)
    for t, name in enumerate(names):
        others = [[row[o] for o in range(3) if o != t] for row in rows]
        assert found["absent"][name] == sum(row[t] == 0 for row in rows)
        assert found["effective_negatives"][name] == sum(
            row[t] == 0 and 1 in other for row, other in zip(rows, others, strict=True)
        )
    for pair, (a, b) in zip(found["pairs"], [(0, 1), (0, 2), (1, 2)], strict=True):
        apart = sum({row[a], row[b]} == {0, 1} for row in rows)
        both = sum(row[a] == row[b] == 1 for row in rows)
        assert pair["only_first"] + pair["only_second"] == apart and pair["both"] == both
        assert pair["apart"] == pytest.approx(apart / (apart + both))
    assert found["untagged_slices"] == sum(row == [-1, -1, -1] for row in rows)
    assert found["empty_slices"] == sum(row == [0, 0, 0] for row in rows)


def test_classes_that_always_occur_together_are_named_with_what_helps(tmp_path: Path) -> None:
    for number in range(8):
        save(tmp_path / f"p{number}.nii.gz", image(number))
    lines = [f"p{n},{z},{int(z > 0)},{int(z > 0)}" for n in range(8) for z in range(3)]
    (tmp_path / "tags.csv").write_text("image,slice,A,B\n" + "\n".join(lines))
    _, statistics, advice = inspected(tmp_path, tags={"source": "csv", "path": "tags.csv"})
    assert not statistics["tags"]["pairs"][0]["separable"]
    text = next(text for text in advice if "cannot separate A and B" in text)
    assert "data.groups: {A_B: [A, B]}" in text and "scribbles" in text and "prior" not in text
    merged = {"tags": {"source": "csv", "path": "tags.csv"}, "groups": {"AB": ["A", "B"]}}
    assert not any("cannot separate" in text for text in inspected(tmp_path, **merged)[2])


def test_tags_of_whole_volumes_are_answered_with_the_rows_that_teach_more(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"p{number}.nii.gz", image(number))
    settings = {"tags": {"source": "csv", "path": "tags.csv"}, "split": {"fractions": [1.0, 0.0, 0.0]}}
    rows = [f"p{n},{n % 2},1" for n in range(6)]
    (tmp_path / "tags.csv").write_text("image,A,B\n" + "\n".join(rows))
    _, statistics, advice = inspected(tmp_path, **settings)
    assert statistics["tags"]["whole_volumes"] == [f"p{n}" for n in range(6)]
    text = next(text for text in advice if "names no slice of 6 training volumes" in text)
    assert "image,slice,A,B" in text and "p0,0,1,0" in text
    head, row = "image,slice,A,B", "p0,0,1,0"  # what the advice says can be typed as it is
    (tmp_path / "tags.csv").write_text("\n".join([head, row, *(f"p{n},,0,1" for n in range(1, 6))]))
    found, statistics, advice = inspected(tmp_path, **settings)
    assert not found.faults and statistics["tags"]["whole_volumes"] == [f"p{n}" for n in range(1, 6)]
    assert statistics["tags"]["present"]["A"] == 1
    lines = [f"p{n},{z},0,1" for n in range(6) for z in range(3)]
    (tmp_path / "tags.csv").write_text("\n".join([head, *lines]))
    assert not any("names no slice" in text for text in inspected(tmp_path, **settings)[2])


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"p{number}.nii.gz", image(number))
    shifted = AFFINE.copy()
    shifted[0, 3] += 300
    save(tmp_path / "p0_gt.nii.gz", np.ones((20, 18, 3)), shifted)
    save(tmp_path / "p1_gt.nii.gz", np.full((20, 18, 3), 9))
    save(tmp_path / "p2.nii.gz", np.full((20, 18, 3), 5))
    whole = (tmp_path / "p3.nii.gz").read_bytes()
    (tmp_path / "p3.nii.gz").write_bytes(whole[: len(whole) // 2])
    save(tmp_path / "p4_points.nii.gz", np.full((20, 18, 3), 8))
    (tmp_path / "tags.csv").write_text("image,slice,A,B\np0,0,1,0\np1,7,1,0\np9,0,1,0\np2,0,perhaps,0\n")
    found, _, _ = inspected(
        tmp_path,
        tags={"source": "csv", "path": "tags.csv", "missing": "unknown"},
        labels=[{"kind": "points"}],
        split={"fractions": [1.0, 0.0, 0.0]},
    )
    text = "\n".join(str(fault) for fault in found.faults)
    expected = (
        "p0_gt.nii.gz: found the labels (shape (20, 18, 3)) do not overlap",
        "p1_gt.nii.gz: found label values 9",
        "p2.nii.gz: found the value 5",
        "p3.nii.gz: found the voxels cannot be read",
        "p4_points.nii.gz: found values 8",
        "slice '7'",
        "image 'p9'",
        "'perhaps' for A",
    )
    for words in expected:
        assert words in text, text
    assert len(found.faults) == 8


def test_leaks_between_the_parts(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", image(1))
    save(tmp_path / "b.nii.gz", image(1))
    save(tmp_path / "c.nii.gz", image(2))
    table = "image,patient,split\na.nii.gz,P1,train\nb.nii.gz,{},val\nc.nii.gz,P3,train\n"
    settings = {"volumes": {"table": "t.csv"}, "split": {"kind": "given"}}
    (tmp_path / "t.csv").write_text(table.format("P2"))
    found, statistics, _ = inspected(tmp_path, **settings)
    assert [str(fault.file.name) for fault in found.faults] == ["b.nii.gz"]
    assert "same voxels as a, this one in val, that one in train" in found.faults[0].found
    assert statistics["copies"] == [["a", "b"]]
    (tmp_path / "t.csv").write_text(table.format("P1"))
    assert "patients in both train and val: P1" in str(inspected(tmp_path, **settings)[0].faults[0])


@pytest.mark.parametrize("source", ["annotations", "onehot"])
def test_faults_of_annotations_and_of_lists_of_tags_are_told(
    tmp_path: Path, photographs: ModuleType, source: str
) -> None:
    from unia_med.data.layouts.voc import VocDataset

    year = photographs.make_voc(tmp_path)
    names = photographs.VOC_PARTS["train"]
    (year / "tags.json").write_text(json.dumps({name: [1, 0] for name in names}))
    tags = {"source": source} | ({"path": "tags.json"} if source == "onehot" else {})
    values = {"name": "voc", "root": year, "classes": ["cat", "dog"], "tags": tags}
    run = parse_config({"data": values})
    found = walk(VocDataset(run.data), run)
    assert not found.faults and list(found.tags) == list(names)
    if source == "onehot":
        assert all(tags.tolist() == [[1, 0]] for tags in found.tags.values())
        (year / "tags.json").write_text(json.dumps({name: [[1], [0, 1]] for name in names}))
    else:
        broken = year / "Annotations" / f"{names[0]}.xml"
        broken.write_text(f'<?xml version="1.0" encoding="klingon"?>{broken.read_text()}')
    found = walk(VocDataset(run.data), run)
    assert [Path(fault.file).suffix for fault in found.faults] == (
        [".xml"] if source == "annotations" else [".json"] * len(names)
    )


def test_sparse_labels_are_counted(tmp_path: Path) -> None:
    for number in range(2):
        save(tmp_path / f"p{number}.nii.gz", image(number))
    scribbles = np.full((20, 18, 3), 3)
    scribbles[2:6, 4, 1] = 1
    scribbles[9, 9, 2] = 1
    save(tmp_path / "p0_scribbles.nii.gz", scribbles)
    settings = {"labels": [{"kind": "scribbles"}], "split": {"fractions": [1.0, 0.0, 0.0]}}
    _, statistics, advice = inspected(tmp_path, **settings)
    entry = statistics["labels"][0]
    assert entry["pixels"] == {"A": 5, "B": 0} and entry["background_pixels"] == 0
    assert (entry["cases"], entry["slices"], entry["slices_without_label"]) == (1, 6, 4)
    text = " ".join(advice)
    assert "B is never marked" in text and "Background is never marked" in text and "4 of 6 training slices" in text


def test_orientation_and_spacing_that_differ_are_advised_on(tmp_path: Path) -> None:
    save(tmp_path / "a.nii.gz", image(1))
    save(tmp_path / "b.nii.gz", image(2), np.diag([-3.0, 3.0, 8.0, 1.0]))
    _, statistics, advice = inspected(tmp_path, grid={"spacing_mm": None})
    assert statistics["images"]["orientations"] == {"RAS": 1, "LAS": 1}
    assert statistics["images"]["spacing_mm"][0] == {"min": 1.5, "median": 2.25, "max": 3.0}
    text = " ".join(advice)
    assert "several orientations: RAS (1), LAS (1)" in text and "differ 2.0-fold" in text


def test_exit_codes_and_report_files(tmp_path: Path, tiny_acdc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["inspect", "--config", "acdc", "--set", f"data.root={tiny_acdc}", "--set", "prior={}", "--output"]
    assert main([*command, str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr().out
    assert "Slice tags cannot separate MYO and LV" in shown and "No fault was found" in shown
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["tags"]["together"] == [[8, 8, 8], [8, 12, 12], [8, 12, 12]] and report["faults"] == []
    (tiny_acdc / "training/patient001/patient001_frame01.nii.gz").write_bytes(b"<b>no image</b>")
    assert main([*command, str(tmp_path / "r.html")]) == 1
    page = (tmp_path / "r.html").read_text()
    assert "1 fault<" in page and "patient001_frame01.nii.gz" in page and "http" not in page and "<script" not in page
    assert main([*command, str(tmp_path / "r.pdf")]) == 2
    assert main(["inspect", "--config", "acdc", "--set", f"data.root={tmp_path / 'none'}"]) == 2


def test_it_starts_without_torch(tiny_acdc: Path) -> None:
    code = (
        "import sys\nfrom unia_med.cli.main import main\n"
        f"code = main(['inspect', '--config', 'acdc', '--set', 'data.root={tiny_acdc}'])\n"
        "sys.exit(code or 'torch' in sys.modules or 'monai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_real_acdc(real_acdc: Path, tmp_path: Path) -> None:
    settings = ["--set", f"data.root={real_acdc}", "--set", "prior={}"]
    assert main(["inspect", "--config", "acdc", *settings, "--output", str(tmp_path / "r.json")]) == 0
    report = json.loads((tmp_path / "r.json").read_text())
    pair = next(pair for pair in report["tags"]["pairs"] if pair["classes"] == ["MYO", "LV"])
    assert not pair["separable"]
    first = report["advice"][0]
    assert "MYO and LV" in first and "data.groups" in first and "prior.names" in first and "scribbles" in first


def test_a_viewers_label_map_is_refused_and_its_coverage_told(tmp_path: Path) -> None:
    for number in range(5):
        save(tmp_path / f"p{number}.nii.gz", image(number))
        drawn = np.zeros((20, 18, 3))
        drawn[4, 3:5, :2] = 1
        drawn[4, 7, 1], drawn[12, 12, 1] = 2, 2
        save(tmp_path / f"p{number}_scribbles.nii.gz", drawn if number else np.where(drawn == 2, 0, drawn))
    settings = {"tags": {"source": "none"}, "split": {"fractions": [1.0, 0.0, 0.0]}}
    found, _, _ = inspected(tmp_path, labels=[{"kind": "scribbles"}], **settings)
    assert [str(fault.file).split(" ")[0] for fault in found.faults] == ["data.labels[0]"]
    assert "0 in 99.2 % of the pixels" in found.faults[0].found
    said = [{"kind": "scribbles", "background_value": None}]
    found, statistics, advice = inspected(tmp_path, labels=said, **settings)
    assert not found.faults
    entry = statistics["labels"][0]
    assert entry["pieces"] == {"A": 10, "B": 8} and entry["cases_without_class"] == {"A": 0, "B": 1}
    far = np.hypot(*np.meshgrid(np.arange(20) - 4, np.arange(18) - 3.5, indexing="ij"))
    assert 0.6 < entry["far_share"] < (far > 1.8).mean()
    assert any("B is drawn in 4 of 5 annotated cases" in text for text in advice)
    assert any("lie far" in text and "more than 2.7 mm" in text and "fill: rule" in text for text in advice)


def test_validation_cases_without_masks_are_said(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / f"s{number}.nii.gz", image(number))
    _, _, advice = inspected(tmp_path)
    assert any(text.startswith("No validation case has a mask") and "[1, 0, 0]" in text for text in advice)
    for number in range(6):
        save(tmp_path / f"s{number}_gt.nii.gz", image(number) % 3)
    _, _, advice = inspected(tmp_path)
    assert not any("has a mask" in text for text in advice)
