"""`unia-med init` on 3D Slicer's markups: SimpleITK says where a voxel is, in mm LPS."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unia_med.cli.main import main
from unia_med.config.load import load_config
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.data.weak_labels.read import find_files, read_boxes, read_labels
from unia_med.labels import IGNORE
from unia_med.project.markups import read_markups

SIZE = (24, 20, 6)
TILTED = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, -1.0)
MARKS = {"Niere": [(3, 4, 1), (5, 15, 2)], "TUMÖR": [(20, 11, 2)], "Hintergrund": [(1, 18, 1), (22, 1, 2)]}


def write_image(path: Path) -> sitk.Image:
    image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 900, SIZE[::-1]).astype(np.int16))
    image.SetSpacing((0.7, 0.9, 4.0))
    image.SetOrigin((31.5, -12.25, 8.0))
    image.SetDirection(TILTED)
    sitk.WriteImage(image, str(path))
    return image


def positions(image: sitk.Image) -> list[tuple[str, tuple[float, float, float]]]:
    return [
        (f"{name}-{n}", image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index]))
        for name, places in MARKS.items()
        for n, index in enumerate(places, start=1)
    ]


def as_json(image: sitk.Image, system: str) -> str:
    sign = 1 if system == "LPS" else -1
    points = [
        {"id": str(n), "label": label, "position": [sign * x, sign * y, z], "positionStatus": "defined"}
        for n, (label, (x, y, z)) in enumerate(positions(image))
    ]
    points.append({"id": "u", "label": "Niere-9", "position": [0, 0, 0], "positionStatus": "undefined"})
    return json.dumps({"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": points}]})


def as_fcsv(image: sitk.Image, system: str) -> str:
    sign = -1 if system in ("RAS", "0") else 1
    head = f"# Markups fiducial file version = 4.11\n# CoordinateSystem = {system}\n"
    head += "# columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID\n"
    rows = [
        f"{n},{sign * x},{sign * y},{z},0,0,0,1,1,1,0,{label},,"
        for n, (label, (x, y, z)) in enumerate(positions(image))
    ]
    return head + "\n".join(rows) + "\n"


@pytest.mark.parametrize(
    ("ending", "system", "text"),
    [
        (".mrk.json", "LPS", as_json),
        ("_F.mrk.json", "RAS", as_json),
        (".fcsv", "LPS", as_fcsv),
        (".fcsv", "RAS", as_fcsv),
        (".fcsv", "0", as_fcsv),
    ],
)
def test_points_lie_where_the_viewer_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str, system: str, text: object
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("case 1", "case 2"):
        image = write_image(tmp_path / f"{name}.nrrd")
        (tmp_path / f"{name}{ending}").write_text(text(image, system))  # type: ignore[operator]
    assert main(["init", "."]) == 0
    data = load_config("project.yaml").data
    dataset = VolumesDataset(data)
    source = data.labels[0]
    assert source.kind == "points" and data.classes == ["Niere", "TUMÖR"]
    expected = np.full(SIZE, IGNORE, np.uint8)
    for label, name in enumerate(("Hintergrund", "Niere", "TUMÖR")):
        for index in MARKS[name]:
            expected[index] = label
    files = find_files(source, dataset.cases(), data)
    assert len(files) == 2
    for case in dataset.cases():
        assert np.array_equal(read_labels(files[case.name], case, source, dataset), expected)


def test_boxes_and_classes_by_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    image = write_image(tmp_path / "a.nrrd")
    low, high = np.array([4.0, 5.0, 1.0]), np.array([10.0, 12.0, 3.0])
    middle = image.TransformContinuousIndexToPhysicalPoint(((low + high) / 2).tolist())
    size = (high - low) * image.GetSpacing()
    for name in ("Zyste", "LEB"):
        roi = {"type": "ROI", "coordinateSystem": "LPS", "center": middle, "size": size.tolist(),
               "orientation": list(TILTED), "controlPoints": []}  # fmt: skip
        (tmp_path / f"a_{name}.mrk.json").write_text(json.dumps({"markups": [roi]}))
    assert main(["init", "."]) == 0
    data = load_config("project.yaml").data
    dataset = VolumesDataset(data)
    (case,) = dataset.cases()
    file = find_files(data.labels[0], [case], data)[case.name]
    boxes = read_boxes(file, case, dataset, data.labels[0])
    assert data.classes == ["LEB", "Zyste"]
    expected = np.zeros(SIZE, bool)
    expected[4:11, 5:13, 1:4] = True
    assert all(np.array_equal(box, expected) for box in boxes)


def test_a_point_outside_and_a_damaged_file_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "a.nrrd")
    point = {"label": "Niere-1", "position": [500, 0, 0]}
    markup = {"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [point]}
    (tmp_path / "a.mrk.json").write_text(json.dumps({"markups": [markup]}))
    assert main(["init", "."]) == 2
    assert "Niere at (-500.0, 0.0, 0.0) mm RAS lies outside a.nrrd" in capsys.readouterr().err
    for text in ("{", "[]", '{"markups": [{"type": "Fiducial", "controlPoints": [{"position": [1, 2]}]}]}',
                 '{"markups": [{"type": "Fiducial", "coordinateSystem": "IJK"}]}'):  # fmt: skip
        (tmp_path / "a.mrk.json").write_text(text)
        assert main(["init", "."]) == 2
        assert "cannot be read as markups of 3D Slicer" in capsys.readouterr().err


def test_names_that_the_viewer_gave_are_no_classes(tmp_path: Path) -> None:
    path = tmp_path / "x.fcsv"
    path.write_text("vtkMRMLMarkupsFiducialNode_0,1,2,3,0,0,0,1,1,1,0,F-1,,\nb,1,2,3,0,0,0,1,1,1,0,T2-3,,\n")
    assert [mark.name for mark in read_markups(path)] == ["F", "T2"]
