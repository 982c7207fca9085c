"""The data set `coco`: ids with gaps, polygons, run lengths, crowds, and all faults at once."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from unia_med.build import build_dataset
from unia_med.config.images import COCO_CLASSES
from unia_med.config.schema import DataConfig
from unia_med.data.layouts.coco import _drawn, _runs
from unia_med.data.splits import split_cases
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.errors import UserError
from unia_med.labels import IGNORE

CAT, DOG, TOOTHBRUSH = (COCO_CLASSES.index(name) + 1 for name in ("cat", "dog", "toothbrush"))


@pytest.fixture
def root(tmp_path: Path, photographs: ModuleType) -> Path:
    return photographs.make_coco(tmp_path / "coco")


def _config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(name="coco", root=root, **changes)


def _expected(photographs: ModuleType) -> np.ndarray:
    """The outlines of `coco_annotations` painted by hand; the crowd is IGNORE."""
    labels = np.zeros(photographs.SIZE, np.uint8)
    labels[4:24, 4:24] = DOG
    labels[10:14, 10:14] = TOOTHBRUSH
    labels[5:10, 30:34] = IGNORE
    return labels


def test_eighty_classes_in_the_order_of_their_ids() -> None:
    assert len(set(COCO_CLASSES)) == 80 and (CAT, DOG, TOOTHBRUSH) == (16, 17, 80)


def test_files_are_the_split_and_categories_go_by_name(root: Path) -> None:
    config = _config(root)
    dataset = build_dataset(config)
    parts = split_cases(dataset.cases(), config.split, seed=0)
    assert [case.name for case in parts["val"]] == ["COCO_val2014_000000000003"] and len(parts["train"]) == 2
    tags = load_tags(dataset, dataset.cases(), config)
    present = {case: (np.flatnonzero(rows[0]) + 1).tolist() for case, rows in tags.items()}
    assert present == {
        "COCO_train2014_000000000007": [CAT, DOG, TOOTHBRUSH],  # the cats are a crowd
        "COCO_train2014_000000000009": [],
        "COCO_val2014_000000000003": [DOG, TOOTHBRUSH],
    }


def test_outlines_become_masks(root: Path, photographs: ModuleType) -> None:
    pytest.importorskip("pycocotools")
    dataset = build_dataset(_config(root))
    found = dataset.evaluation_case(dataset.cases()[0])
    assert np.array_equal(found.labels[:, :, 0], _expected(photographs))


def test_packed_run_lengths_are_read(tmp_path: Path, photographs: ModuleType) -> None:
    drawing = pytest.importorskip("pycocotools.mask")
    mask = np.zeros(photographs.SIZE, np.uint8, order="F")
    mask[2:9, 20:40] = 1
    packed = drawing.encode(mask)
    packed["counts"] = packed["counts"].decode()
    one = [{"id": 1, "image_id": 7, "category_id": 18, "iscrowd": 0, "segmentation": packed}]
    dataset = build_dataset(_config(photographs.make_coco(tmp_path / "coco", one)))
    assert np.array_equal(dataset.labels(dataset.cases()[0])[:, :, 0], mask * DOG)


def test_mask_images_replace_the_outlines(root: Path, photographs: ModuleType) -> None:
    mask = np.zeros(photographs.SIZE, np.uint8)
    mask[:5], mask[5] = 80, 255
    photographs.write_palette_mask(root / "masks" / "COCO_val2014_000000000003.png", mask)
    dataset = build_dataset(_config(root, coco={"masks": ["masks"]}))
    *train, validation = dataset.cases()
    assert np.array_equal(dataset.labels(validation)[:, :, 0], mask)
    assert all(case.mask is None for case in train)


def test_all_faults_are_told_at_once(tmp_path: Path, photographs: ModuleType) -> None:
    annotations = photographs.coco_annotations()
    annotations += [{**annotations[0], "category_id": 55}, {**annotations[0], "image_id": 1000}]
    root = photographs.make_coco(tmp_path / "coco", annotations)
    (root / "train2014" / "COCO_train2014_000000000009.jpg").unlink()
    path = root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content["categories"].append({"id": 91, "name": "kat"})
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as told:
        build_dataset(_config(root)).cases()
    for part in ("category id 55", "images that are not listed", "000000000009.jpg", "category 'kat'", "'cat'"):
        assert part in str(told.value)
    kept = {"other_categories": ["kat"]}
    with pytest.raises(UserError, match=r"(?s)^(?!.*kat).*category id 55"):
        build_dataset(_config(root, coco=kept)).cases()


@pytest.mark.parametrize("content", ["{", "[]", '{"images": [], "annotations": []}', '{"images": [{"id": 1}]}'])
def test_files_of_another_kind_are_explained(root: Path, content: str) -> None:
    (root / "annotations" / "instances_train2014.json").write_text(content)
    with pytest.raises(UserError, match="instances_train2014.json: (cannot be read as JSON|lacks the lists)"):
        build_dataset(_config(root)).cases()


def test_a_missing_file_names_those_that_are_there(root: Path) -> None:
    with pytest.raises(UserError, match=r"no such annotation file.*instances_train2014.json"):
        build_dataset(_config(root, coco={"train": "annotations/train.json"})).cases()


def test_outlines_that_cannot_be_drawn_are_named(tmp_path: Path, photographs: ModuleType) -> None:
    pytest.importorskip("pycocotools")
    wrong = [{"id": 8, "image_id": 7, "category_id": 18, "segmentation": {"counts": [3, 4], "size": [2, 2]}}]
    dataset = build_dataset(_config(photographs.make_coco(tmp_path / "coco", wrong)))
    with pytest.raises(UserError, match="annotation 8, whose outline cannot be drawn"):
        dataset.all_labels(dataset.cases())


def test_the_real_sample_has_the_areas_that_its_file_states(coco_sample: Path) -> None:
    pytest.importorskip("pycocotools")
    config = _config(coco_sample, coco={"train": "annotations/instances_val2014.json", "val": "none.json"})
    dataset = build_dataset(config)
    content = json.loads((coco_sample / "annotations" / "instances_val2014.json").read_text())
    bus = dataset.labels(dataset.cases()[2]) == COCO_CLASSES.index("bus") + 1
    stated = sum(found["area"] for found in content["annotations"] if found["category_id"] == 6)
    assert int(bus.sum()) == pytest.approx(stated, rel=0.01)
    tags = load_tags(dataset, dataset.cases(), config)
    names = [[COCO_CLASSES[k] for k in np.flatnonzero(rows[0])] for rows in tags.values()]
    assert names == [["person", "bottle"], ["person", "chair", "couch"], ["car", "bus"]]


@pytest.mark.parametrize("odd", [None, [], {}, ["x"], True, "", 1.5, [[1]]])
@pytest.mark.parametrize(
    ("part", "key"),
    [
        *(("images", key) for key in ("id", "file_name", "height")),
        *(("annotations", key) for key in ("image_id", "category_id", "segmentation", "area", "bbox", "iscrowd")),
        *(("categories", key) for key in ("id", "name")),
    ],
)
def test_fields_of_a_wrong_type_are_faults_of_the_file(root: Path, part: str, key: str, odd: object) -> None:
    pytest.importorskip("pycocotools")
    path = root / "annotations" / "instances_val2014.json"
    content = json.loads(path.read_text())
    content[part][0][key] = odd
    path.write_text(json.dumps(content))
    try:
        dataset = build_dataset(_config(root))
        dataset.all_labels([case for case in dataset.cases() if case.mask is not None])
    except UserError as error:
        assert "instances_val2014.json" in str(error)


def test_an_area_of_null_is_that_of_the_box(root: Path) -> None:
    pytest.importorskip("pycocotools")
    path = root / "annotations" / "instances_val2014.json"
    dataset = build_dataset(_config(root))
    cases = [case for case in dataset.cases() if case.part == "val"]
    before = dataset.all_labels(cases)
    content = json.loads(path.read_text())
    for found in content["annotations"]:
        found["bbox"], found["area"] = [0, 0, found.get("area", 0), 1], None
    path.write_text(json.dumps(content))
    after = build_dataset(_config(root)).all_labels(cases)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_size_that_is_not_stated_is_that_of_the_image(root: Path, photographs: ModuleType) -> None:
    pytest.importorskip("pycocotools")
    path = root / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    for image in content["images"]:
        image["height"], image["width"] = None, None
    path.write_text(json.dumps(content))
    dataset = build_dataset(_config(root))
    assert np.array_equal(dataset.labels(dataset.cases()[0])[:, :, 0], _expected(photographs))


def test_a_size_that_cannot_be_is_a_fault_of_its_own_image(root: Path, photographs: ModuleType) -> None:
    pytest.importorskip("pycocotools")
    path = root / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    odd = next(image for image in content["images"] if image["id"] != 7)
    odd["height"] = -4
    path.write_text(json.dumps(content))
    dataset = build_dataset(_config(root))
    good, bad = dataset.cases()[:2]
    assert np.array_equal(dataset.labels(good)[:, :, 0], _expected(photographs))
    with pytest.raises(UserError, match="has the height -4"):
        dataset.labels(bad)


def test_an_object_without_an_outline_is_named(root: Path) -> None:
    pytest.importorskip("pycocotools")
    path = root / "annotations" / "instances_train2014.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["segmentation"] = None
    path.write_text(json.dumps(content))
    dataset = build_dataset(_config(root))
    with pytest.raises(UserError, match="without an outline"):
        dataset.all_labels(dataset.cases()[:2])


@pytest.mark.parametrize("seed", range(4))
def test_run_lengths_are_those_of_pycocotools(seed: int) -> None:
    drawing = pytest.importorskip("pycocotools.mask")
    generator = np.random.default_rng(seed)
    mask = np.asfortranarray(generator.random((37, 70)) < (0.02, 0.5, 0.98, 0.0)[seed], np.uint8)
    packed = drawing.encode(mask)
    packed["counts"] = packed["counts"].decode()
    assert np.array_equal(_runs(packed, 37, 70), mask)
    edges = np.flatnonzero(np.diff(mask.T.ravel(), prepend=0))  # where the value changes, column by column
    counts = np.diff([0, *edges, mask.size]).tolist()
    assert np.array_equal(_runs({"size": [37, 70], "counts": counts}, 37, 70), mask)


@pytest.mark.parametrize(
    "shape",
    [
        {"counts": [5, 5], "size": [4e9, 5]},
        {"counts": [1e9], "size": [40, 50]},
        {"counts": [-5, 2005], "size": [40, 50]},
        {"counts": ["a"], "size": [40, 50]},
        {"counts": "o" * 3000, "size": [40, 50]},
        {"counts": "\ud800", "size": [40, 50]},
        {"counts": [0.5, 3], "size": [40, 50]},
        {"counts": [[1, 2]], "size": [40, 50]},
        {"size": [40, 50]},
        [[1e300] * 6],
        [[float("nan")] * 8],
        [["a"] * 6],
        [[1, 2, 3]],
    ],
)
def test_outlines_that_would_end_the_process_are_refused(shape: Any) -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(UserError, match="annotation 3, whose outline cannot be drawn"):
        _drawn({"id": 3, "segmentation": shape}, 40, 50, Path("instances.json"))
