"""`unia-med init`: tables of points, boxes and findings, and 16-bit X-rays, as people have them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unia_med.cli.main import main
from unia_med.config.data import DataConfig
from unia_med.config.load import load_config
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.data.weak_labels.load import load_label_tags
from unia_med.data.weak_labels.read import find_files, read_boxes, read_labels
from unia_med.errors import UserError
from unia_med.labels import IGNORE
from unia_med.project.plan import Plan, make_plan

SHAPE = (40, 32, 3)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for number in range(5):
        image = np.random.default_rng(number).integers(0, 500, SHAPE).astype(np.int16)
        nib.save(nib.Nifti1Image(image, np.diag([-1.5, 1.5, 5, 1])), tmp_path / f"scan{number}.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def planned(config: str = "project.yaml") -> tuple[DataConfig, VolumesDataset]:
    data = load_config(config).data
    return data, VolumesDataset(data)


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("image,class,slice,x_min,y_min,x_max,y_max", "{image},{name},{z},{x0},{y0},{x1},{y1}"),
        ("File Name;Label;Z;X1;Y1;X2;Y2", "{image}.nii.gz;{name};{z};{x0};{y0};{x1};{y1}"),
        ("finding,x,y,width,height,image,z", "{name},{x0},{y0},{w},{h},{image},{z}"),
        (
            "image,class,x_min,x_max,y_min,y_max,z_min,z_max",
            "{image},{name},{x0},{x1},{y0},{y1},{z},{z}",
        ),
    ],
)
def test_boxes_of_a_table_are_read_voxel_by_voxel(here: Path, head: str, row: str) -> None:
    truth = {f"scan{n}": np.zeros((2, *SHAPE), bool) for n in range(5)}
    lines = [head]
    for n in range(5):
        for name, (x0, x1, y0, y1) in (("Liver", (4 + n, 20, 5, 25)), ("Cyst", (10, 18 + n, 8, 12))):  # they overlap
            for z in (1, 2):
                places = {"x0": x0, "x1": x1, "y0": y0, "y1": y1, "w": x1 - x0 + 1, "h": y1 - y0 + 1}
                lines.append(row.format(image=f"scan{n}", name=name, z=z, **places))
                truth[f"scan{n}"][int(name == "Liver"), x0 : x1 + 1, y0 : y1 + 1, z] = True
    (here / "boxes.csv").write_text("\n".join(lines))
    assert main(["init", ".", "--output", "out/project.yaml"]) == 0
    data, dataset = planned("out/project.yaml")
    (source,) = data.labels
    assert list(dataset.classes) == ["Cyst", "Liver"]
    assert source.kind == "boxes" and source.fill == "ellipse"
    files = find_files(source, dataset.cases(), data)
    for case in dataset.cases():
        assert np.array_equal(read_boxes(files[case.name], case, dataset, source), truth[case.name])


def test_points_of_a_table_with_background(here: Path) -> None:
    rows = ["case,x,y,slice,structure"]
    rows += [f"scan{n},{x},{10 + n},1,{name}" for n in range(5) for x, name in ((3, "bone"), (30, "Background"))]
    (here / "clicks.csv").write_text("\n".join(rows))
    assert main(["init", "."]) == 0
    data, dataset = planned()
    (source,) = data.labels
    assert source.kind == "points" and list(dataset.classes) == ["bone"]
    files = find_files(source, dataset.cases(), data)
    for n, case in enumerate(dataset.cases()):
        expected = np.full(SHAPE, IGNORE)
        expected[3, 10 + n, 1], expected[30, 10 + n, 1] = 1, 0
        assert np.array_equal(read_labels(files[case.name], case, source, dataset), expected)
    assert (load_label_tags(dataset, dataset.cases(), data, 0)["scan0"][:, 0] == [-1, 1, -1]).all()


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("image,x,y,class\nscan0,3,3,a\n", "no column for the slice"),
        ("image,x,y,slice,class\nscan0,3,3,1,a\nscan1,3,77,1,a\n", "line 3: y = 77 lies outside scan1.nii.gz"),
        ("image,x,y,slice,class\nscan0,3,three,1,a\n", "'three' in column y"),
    ],
)
def test_a_row_that_cannot_be_placed_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], table: str, words: str
) -> None:
    (here / "points.csv").write_text(table)
    assert main(["init", "."]) == 2
    shown = capsys.readouterr().err
    assert words in shown and "points.csv" in shown
    assert not (here / "project.yaml").exists()


def plan_of(here: Path, table: str) -> Plan:
    (here / "findings.csv").write_text(table)
    return make_plan(here)


def test_no_finding_is_no_class_and_a_patients_sex_no_finding(here: Path) -> None:
    said = ["No Finding", "nodule|effusion", "nodule", "", "effusion"]
    rows = [f"scan{n}.nii.gz,{'FM'[n % 2]},{50 + n % 3},{words}" for n, words in enumerate(said)]
    tags = plan_of(here, "\n".join(["image,sex,age,Finding Labels", *rows])).tags
    assert tags is not None and tags.classes == ["effusion", "nodule"]
    assert [row[1:] for row in tags.rows[1:]] == [["0", "0"], ["1", "1"], ["0", "1"], ["", ""], ["1", "0"]]


def test_rows_of_other_images_are_left_out_and_said(here: Path) -> None:
    plan = plan_of(here, "\n".join(["image,tumour", *(f"scan{n},{n % 2}" for n in range(7))]))
    assert plan.tags is not None and len(plan.tags.rows) == 6 and not plan.tags.as_it_is
    assert any("2 rows of images that are not here, such as scan5" in note for note in plan.notes)


def test_xrays_of_16_bits_with_a_table_of_boxes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        pixels = np.random.default_rng(n).integers(0, 60000, (24, 50)).astype(np.uint16)  # 24 rows, 50 columns
        Image.fromarray(pixels).save(tmp_path / f"x{n}.png")
    rows = [f"x{n}.png,{30 + n},4,12,6,nodule" for n in range(5)]
    (tmp_path / "boxes.csv").write_text("\n".join(["image,x,y,width,height,label", *rows]))
    monkeypatch.chdir(tmp_path)
    assert main(["init", "."]) == 0
    data, dataset = planned()
    (source,) = data.labels
    files = find_files(source, dataset.cases(), data)
    for n, case in enumerate(dataset.cases()):
        expected = np.zeros((1, 24, 50, 1), bool)
        expected[0, 4:10, 30 + n : 42 + n] = True
        assert np.array_equal(read_boxes(files[case.name], case, dataset, source), expected)


def test_a_table_of_sizes_next_to_masks_is_no_table_of_points(here: Path) -> None:
    for n in range(5):
        mask = np.zeros(SHAPE, np.uint8)
        mask[8:20, 6:20] = 1
        nib.save(nib.Nifti1Image(mask, np.diag([-1.5, 1.5, 5, 1])), here / f"scan{n}_mask.nii.gz")
    plan = plan_of(here, "\n".join(["image,x,y,z", *(f"scan{n},20,16,2" for n in range(5))]))
    assert plan.method == "masks" and plan.tags is None
    plan = plan_of(here, "\n".join(["image,x,y,z,class", *(f"scan{n},512,16,2,liver" for n in range(5))]))
    assert plan.method == "masks" and any("x = 512 lies outside scan0.nii.gz" in note for note in plan.notes)
    plan = plan_of(here, "\n".join(["image,x,y,z,class", *(f"scan{n},10,16,2,liver" for n in range(5))]))
    assert plan.method == "points" and plan.masks is not None  # the masks validate


def test_masks_in_colours_are_no_images_and_said(tmp_path: Path) -> None:
    for n in range(3):
        for folder, shape in (("images", (20, 24)), ("masks", (20, 24, 3))):
            (tmp_path / folder).mkdir(exist_ok=True)
            pixels = np.random.default_rng(n).integers(0, 255, shape).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"i{n}.png")
    plan = make_plan(tmp_path)
    assert [image.parent.name for image in plan.pairs.images] == ["images"] * 3
    assert any("masks/i0.png and 2 more: a mask in more than" in note and "grey values" in note for note in plan.notes)


def test_masks_with_a_palette_are_masks_by_their_numbers(tmp_path: Path) -> None:
    numbers = np.zeros((20, 24), np.uint8)
    numbers[4:12, 5:15], numbers[6:9, 7:10] = 1, 2
    for n in range(3):
        for folder in ("images", "masks"):
            (tmp_path / folder).mkdir(exist_ok=True)
        grey = np.random.default_rng(n).integers(0, 255, (20, 24)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "images" / f"i{n}.png")
        mask = Image.fromarray(numbers)
        mask.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
        mask.save(tmp_path / "masks" / f"i{n}.png")
    (tmp_path / "labels.txt").write_text("1 KIDNEY\n2 ÖDEM\n", encoding="utf-8")
    plan = make_plan(tmp_path)
    assert plan.method == "masks" and plan.classes == {1: "KIDNEY", 2: "ÖDEM"} and len(plan.pairs.labels) == 3
    assert not plan.notes and all(np.array_equal(plan.drawn[p].array[:, :, 0], numbers) for p in plan.drawn)


def test_stacks_of_pages_are_refused_with_the_way_out(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((8, 9), value, np.uint8)) for value in (3, 5)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match=r"stack\.tif: a file of 2 pages.*the stack as NIfTI with its spacing.*as said"):
        make_plan(tmp_path)
