"""The page about predicted masks: measured, flagged, and the masks that were written in the viewer."""

from __future__ import annotations

import base64
import json
import re
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unia_med.cli.main import main
from unia_med.inference.records import write_case_record, write_folder_records
from unia_med.report.masks import report_masks

CLASSES = ("RV", "MYO", "LV")
AFFINE = np.diag([-1.5, -1.5, 9.0, 1.0])


def heart(pool: int) -> np.ndarray:
    labels = np.zeros((30, 26, 5), np.uint8)
    labels[2:6, 8:18, 1:4], labels[7 : 13 + pool, 5 : 11 + pool, 1:4] = 1, 2
    labels[10 : 10 + pool, 8 : 8 + pool, 1:4] = 3
    return labels


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, pool, review in (("p_frame01", 10, 0), ("p_frame07", 6, 0), ("q", 9, 1)):
        mask = heart(pool)
        nibabel.save(nibabel.Nifti1Image((mask * 50).astype(np.int16), AFFINE), tmp_path / f"{name}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(mask, AFFINE), tmp_path / f"{name}_seg.nii.gz")
        facts = {"model": "some<model>", "sources": [f"{name}.nii.gz"], "warnings": ["look & see"]}
        write_case_record(tmp_path / f"{name}_seg.nii.gz", facts)
        write_folder_records(tmp_path, CLASSES, [{"case": name, "review": review}])
    return tmp_path


def test_page(folder: Path) -> None:
    images = {name: folder / f"{name}.nii.gz" for name in ("p_frame01", "p_frame07", "q", "absent")}
    assert report_masks(folder, images, CLASSES, folder / "report.html")
    page = (folder / "report.html").read_text()
    assert "64.0" in page  # EF of p: pools of 100 and of 36 pixels
    assert "some&lt;model&gt;" in page and "look &amp; see" in page and "<model>" not in page
    assert re.findall(r"<strong>(\w+)</strong>: q: the network is unsure", page) == ["q"]
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page)[1])
    assert [patient["title"] for patient in data["patients"]] == ["q", "p"]
    patient = data["patients"][1]
    assert patient["labels"] == ["prediction"] and [f["title"] for f in patient["frames"]] == [
        "frame 1, ED",
        "frame 7, ES",
    ]
    assert [one["marked"] for one in data["patients"]] == [[0], [0, 1]]
    for frame, pool in zip(patient["frames"], (10, 6), strict=True):
        layers = np.frombuffer(zlib.decompress(base64.b64decode(frame["data"])), np.uint8)
        prediction = layers.reshape(2, len(patient["slices"]), patient["height"], patient["width"])[1]
        assert (prediction == 3).sum() == 3 * pool**2


def test_nothing_to_show(folder: Path) -> None:
    assert not report_masks(folder, {"absent": folder / "q.nii.gz"}, CLASSES, folder / "report.html")
    assert not (folder / "report.html").exists()


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 2
    assert "--data" in capsys.readouterr().err
    assert main(["report", str(folder), "--data", str(folder), "--output", str(folder / "page.html")]) == 0
    assert "64.0" in (folder / "page.html").read_text()


def test_stated_phases_count(folder: Path) -> None:
    for ending in ("", "_seg"):
        nibabel.save(nibabel.Nifti1Image(heart(9), AFFINE), folder / f"p_frame03{ending}.nii.gz")
    arguments = ["cardiac", "--masks", str(folder), "--output", str(folder / "indices.csv")]
    assert main([*arguments, "--ed", "p=3"]) == 0
    images = {name: folder / f"{name}.nii.gz" for name in ("p_frame01", "p_frame03", "p_frame07")}
    assert report_masks(folder, images, CLASSES, folder / "report.html")
    page = (folder / "report.html").read_text()
    assert "<dt>ED</dt><dd>frame 3</dd>" in page and "<dt>ES</dt><dd>frame 7</dd>" in page


def test_phases_stated_on_the_page_win(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for ending in ("", "_seg"):
        nibabel.save(nibabel.Nifti1Image(heart(7), AFFINE), folder / f"p_frame03{ending}.nii.gz")
    arguments = ["report", str(folder), "--data", str(folder), "--es"]
    assert main([*arguments, "p=3"]) == 0 and "no case" not in capsys.readouterr().err
    assert "<dt>ES</dt><dd>frame 3</dd>" in (folder / "report.html").read_text()
    assert main([*arguments, "nobody=3"]) == 0
    assert "there is no case nobody" in capsys.readouterr().err
    assert main([*arguments, "p=5"]) == 0
    page = (folder / "report.html").read_text()
    assert "ES is said to be frame 5, which is not here" in page and "<dt>ES</dt><dd>frame 7</dd>" in page


def test_ed_and_es_are_shown_of_a_long_cine(folder: Path) -> None:
    """The viewer has room for some frames; those of both phases are among them."""
    pools = [9] * 40
    pools[1], pools[18] = 10, 6
    cine = np.stack([heart(pool) for pool in pools], axis=-1)
    for name, array in (("c", (cine * 50).astype(np.int16)), ("c_seg", cine)):
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), folder / f"{name}.nii.gz")
    assert report_masks(folder, {"c": folder / "c.nii.gz"}, CLASSES, folder / "c.html", title="Mine <1>") == ["c"]
    page = (folder / "c.html").read_text()
    (patient,) = json.loads(re.search(r'id="viewer-data">(.*?)</script>', page)[1])["patients"]
    titles = [frame["title"] for frame in patient["frames"]]
    assert {"frame 2, ED", "frame 19, ES", "frame 1", "frame 40"} <= set(titles) and len(titles) < 16
    assert "<title>Mine &lt;1&gt;</title>" in page


def test_masks_of_pictures_are_shown(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("a", "b"):
        Image.fromarray(np.full((12, 10, 3), 90, np.uint8)).save(tmp_path / f"{name}.png")
        Image.fromarray(np.eye(12, 10, dtype=np.uint8)).save(tmp_path / f"{name}_seg.png")
    write_folder_records(tmp_path, ["BONE"], [{"case": "a", "review": 0}, {"case": "b", "review": 1}])
    assert main(["report", str(tmp_path), "--data", str(tmp_path), "--output", str(tmp_path / "r.html")]) == 0
    page = (tmp_path / "r.html").read_text()
    assert "b: the network is unsure" in page and '"px"' in page
