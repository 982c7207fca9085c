"""Annotations of other programs: masks in colours are numbered, files that are not read get an answer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unia_med.project.colours import MOST_COLOURS, colour_names, numbered_colours
from unia_med.project.found import look
from unia_med.project.pairs import channel_endings, pair
from unia_med.project.plan import make_plan
from unia_med.project.programs import program_of, unread_annotations

LABELS = np.zeros((40, 36), int)
LABELS[5:30, 6:28], LABELS[10:26, 9:24] = 1, 2
LABELS[5:10, 6:11] = 0
COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)


def picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("name", "text", "program"),
    [
        ("a.json", json.dumps({"version": "5", "shapes": [], "imagePath": "a.png"}), "labelme"),
        ("a.json", json.dumps({"images": [], "annotations": [], "categories": []}), "COCO"),
        ("a.json", json.dumps([{"data": {}, "annotations": []}]), "Label Studio"),
        ("a.json", json.dumps({"a.png1": {"filename": "a.png", "regions": []}}), "VGG Image Annotator"),
        ("a.csv", "filename,region_shape_attributes\n", "VGG Image Annotator"),
        ("a.csv", "index,axis-0,axis-1\n0,1,2\n", "napari"),
        ("a.geojson", json.dumps({"type": "FeatureCollection", "features": []}), "QuPath"),
        ("a.xml", "<?xml version='1.0'?><annotations><version>1.1</version><image id='0'/></annotations>", "CVAT"),
        ("a.xml", "<annotation><object><name>x</name></object></annotation>", "Pascal VOC"),
        ("a.xml", "<?xml version='1.0'?><plist><dict><key>Images</key></dict></plist>", "Horos or OsiriX"),
        ("a.mps", "<point_set_file><point_set></point_set></point_set_file>", "MITK point sets"),
        ("a.txt", "0 0.5 0.5 0.25 0.3\n2 0.1 1 0.2 0.2\n", "YOLO"),
        ("a.roi", "Iout", "ImageJ"),
        ("a.json", json.dumps({"labels": {"background": 0, "liver": 1}}), None),
        ("a.json", json.dumps({"EchoTime": 0.03}), None),
        ("a.csv", "image,class,x,y\n", None),
        ("a.txt", "1 liver\n2 spleen\n", None),
        ("a.xml", "<settings/>", None),
    ],
)
def test_a_program_is_recognised_by_its_file(tmp_path: Path, name: str, text: str, program: str | None) -> None:
    (tmp_path / name).write_text(text)
    assert program_of(tmp_path / name) == program
    notes = unread_annotations([tmp_path / name] * 2)
    assert len(notes) == (program is not None) and all(note.startswith(f"2 files of {program}") for note in notes)


def test_colours_are_numbered_and_named(tmp_path: Path) -> None:
    masks = [picture(tmp_path / f"{i}.png", COLOURS[LABELS if i else LABELS.clip(0, 1)]) for i in range(2)]
    (tmp_path / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ntumor:51,221,255::\nliver:250,50,83::\n"
    )
    names = colour_names([tmp_path / "labelmap.txt"])
    files, refused, said = numbered_colours(masks, names)
    assert said == {1: "tumor", 2: "liver"} and not refused
    assert np.array_equal(files[masks[1]].array[:, :, 0], np.array([0, 2, 1])[LABELS])
    assert numbered_colours(masks, {})[2] == {1: "colour_33ddff", 2: "colour_fa3253"}
    photo = picture(tmp_path / "p.png", np.random.default_rng(1).integers(0, 255, (MOST_COLOURS, 2, 3)))
    assert list(numbered_colours([photo], {})[1]) == [photo]


X, Y, W, H = 5, 6, 12, 10
RING = [[X, Y], [X + W, Y], [X + W, Y + H], [X, Y + H]]
FLAT = [value for point in RING for value in point]
SHARES = (100 * X / 36, 100 * Y / 40, 100 * W / 36, 100 * H / 40)
BOXES = {
    "a.json": {"shapes": [{"label": "knee", "shape_type": "rectangle", "points": RING[::2]}], "imagePath": "a.png"},
    "coco.json": {
        "images": [{"id": 3, "file_name": "a.png"}],
        "annotations": [{"image_id": 3, "category_id": 7, "bbox": [X, Y, W, H]}],
        "categories": [{"id": 7, "name": "knee"}],
    },
    "via.json": {
        "a.png1": {
            "filename": "a.png",
            "regions": [
                {
                    "shape_attributes": {"name": "rect", "x": X, "y": Y, "width": W, "height": H},
                    "region_attributes": {"class": "knee"},
                }
            ],
        }
    },
    "studio.json": [
        {
            "data": {"image": "/data/upload/1/0a1b2c3d-a.png"},
            "annotations": [
                {
                    "result": [
                        {
                            "value": {
                                **dict(zip(("x", "y", "width", "height"), SHARES, strict=True)),
                                "rectanglelabels": ["knee"],
                            }
                        }
                    ]
                }
            ],
        }
    ],
    "annotations.xml": "<annotations><version>1.1</version><image name='a.png'>"
    f"<box label='knee' xtl='{X}' ytl='{Y}' xbr='{X + W}' ybr='{Y + H}'/></image></annotations>",
    "a.xml": "<annotation><filename>a.png</filename><object><name>knee</name><bndbox>"
    f"<xmin>{X + 1}</xmin><ymin>{Y + 1}</ymin><xmax>{X + W}</xmax><ymax>{Y + H}</ymax></bndbox></object></annotation>",
    "a.txt": f"0 {(X + W / 2) / 36} {(Y + H / 2) / 40} {W / 36} {H / 40}",
}
POLYGONS = {
    "a.json": {"shapes": [{"label": "knee", "points": RING}], "imagePath": "a.png"},
    "coco.json": {
        **BOXES["coco.json"],
        "annotations": [{"image_id": 3, "category_id": 7, "segmentation": [FLAT], "bbox": [0, 0, 1, 1]}],
    },
    "a.geojson": {
        "type": "FeatureCollection",
        "features": [
            {
                "geometry": {"type": "Polygon", "coordinates": [[*RING, RING[0]]]},
                "properties": {"classification": {"name": "knee"}},
            }
        ],
    },
    "annotations.xml": "<annotations><version>1.1</version><image name='sub/a.png'><polygon label='knee' points='"
    + ";".join(f"{x},{y}" for x, y in RING)
    + "'/></image></annotations>",
}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [(name, text, "boxes") for name, text in BOXES.items()]
    + [(name, text, "masks") for name, text in POLYGONS.items()],
)
def test_shapes_of_annotation_programs_become_labels(tmp_path: Path, name: str, content: object, kind: str) -> None:
    picture(tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (40, 36)))
    picture(tmp_path / "b.png", np.random.default_rng(1).integers(0, 255, (40, 36)))
    (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    (tmp_path / "classes.txt").write_text("knee\n")
    plan = make_plan(tmp_path)
    assert plan.weak is not None and plan.weak[0].kind == kind and plan.classes == {1: "knee"} and not plan.notes
    (file,) = plan.weak[1].values()
    expected = np.zeros((40, 36), bool)
    edge = kind == "masks"  # the line of a polygon belongs to it
    expected[Y : Y + H + edge, X : X + W + edge] = True
    assert np.array_equal(plan.drawn[file].array[:, :, 0] == 1, expected)


def test_few_masks_are_all_learned_from(tmp_path: Path) -> None:
    for i in range(6):
        picture(tmp_path / f"images/im_{i}.png", np.random.default_rng(i).integers(0, 255, LABELS.shape))
        if i < 2:
            picture(tmp_path / f"masks/im_{i}.png", LABELS)
    assert not make_plan(tmp_path).validates


def test_a_white_ground_is_background(tmp_path: Path) -> None:
    white = np.full((8, 8, 3), 255)
    white[2:4, 2:4] = (0, 0, 200)
    mask = picture(tmp_path / "a.png", white)
    assert numbered_colours([mask], {})[0][mask].array.sum() == 4


def test_masks_of_cvat_are_labels_and_its_single_objects_are_not(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"JPEGImages/im_{i}.png", np.random.default_rng(i).integers(0, 255, LABELS.shape))
        for folder in ("SegmentationClass", "SegmentationObject"):
            picture(tmp_path / folder / f"im_{i}.png", COLOURS[LABELS])
    plan = make_plan(tmp_path)
    assert plan.channels == 1 and len(plan.pairs.images) == 3
    assert plan.weak is not None and plan.weak[0].validates and len(plan.weak[1]) == 3
    assert any("single objects" in note for note in plan.notes)


def test_numbers_alone_are_no_channels() -> None:
    def paths(*names: str) -> list[Path]:
        return [Path(f"{name}.nii") for name in names]

    assert channel_endings(paths("images/im_0", "images/im_1", "raw/im_0", "raw/im_1")) == []
    assert channel_endings(paths("scan_0000", "scan_0001", "scan_0002")) == []
    assert channel_endings(paths("a_0001", "b_0001")) == []
    assert channel_endings(paths("a_0000", "b_0000")) == ["_0000"]


def test_masks_that_hold_fractions_or_negative_values_are_no_images(tmp_path: Path) -> None:
    import nibabel as nib

    for folder, array in (("images", np.ones((4, 4, 2))), ("seg", np.linspace(0, 1, 32).reshape(4, 4, 2))):
        (tmp_path / folder).mkdir()
        nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), tmp_path / folder / "p1.nii.gz")
    (tmp_path / "masks").mkdir()
    nib.save(nib.Nifti1Image(np.eye(4, dtype=np.int16)[..., None] - 1, np.eye(4)), tmp_path / "masks" / "p1.nii.gz")
    found = look(tmp_path)
    assert len(pair(found, tmp_path).images) == 1
    assert "fractions" in found.unread[tmp_path / "seg" / "p1.nii.gz"]
    assert "negative" in found.unread[tmp_path / "masks" / "p1.nii.gz"]
