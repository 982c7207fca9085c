"""The data set `voc`: lists, masks with borders, annotations, and all faults at once."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from unia_med.build import build_dataset
from unia_med.config.schema import DataConfig, RunConfig
from unia_med.data.dataset import AnnotatedDataset, CaseDataset
from unia_med.data.slices.dataset import build_slices
from unia_med.data.splits import split_cases
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.errors import UserError
from unia_med.labels import IGNORE


@pytest.fixture
def year(tmp_path: Path, photographs: ModuleType) -> Path:
    return photographs.make_voc(tmp_path)


def _config(root: Path, **changes: Any) -> DataConfig:
    return DataConfig(name="voc", root=root, **{"grid": {"size": [32, 32]}, **changes})


def _present(config: DataConfig) -> dict[str, list[str]]:
    dataset = build_dataset(config)
    tags = load_tags(dataset, dataset.cases(), config)
    return {case: [config.classes[k] for k in np.flatnonzero(rows[0])] for case, rows in tags.items()}


def test_lists_are_the_split_from_any_root(year: Path) -> None:
    for root in (year, year.parent, year.parent.parent):
        dataset = build_dataset(_config(root))
        assert isinstance(dataset, CaseDataset) and isinstance(dataset, AnnotatedDataset)
        parts = split_cases(dataset.cases(), _config(root).split, seed=0)
        assert {part: [case.name for case in cases] for part, cases in parts.items()} == {
            "train": ["2007_000001", "2007_000002"],
            "val": ["2007_000003"],
            "test": [],
        }


def test_masks_become_labels_and_borders_stay_ignored(year: Path, photographs: ModuleType) -> None:
    dataset = build_dataset(_config(year))
    for case in dataset.cases():
        found = dataset.evaluation_case(case)
        mask = photographs.mask_of(case.name)  # cat is 8 and dog 12, in VOC's order as in its masks
        assert np.array_equal(found.labels[:, :, 0], mask) and (mask == IGNORE).any()
        assert found.volume.shape == (30, 44, 1, 3)


def test_a_subset_of_the_classes_keeps_its_values(year: Path, photographs: ModuleType) -> None:
    config = _config(year, classes=["dog"])
    labels = build_dataset(config).labels(build_dataset(config).cases()[0])[:, :, 0]
    mask = photographs.mask_of("2007_000001")
    assert np.array_equal(labels == 1, mask == 12) and np.array_equal(labels == IGNORE, mask == IGNORE)
    assert _present(config) == {"2007_000001": ["dog"], "2007_000002": ["dog"], "2007_000003": []}
    with pytest.raises(UserError, match=r"label values 8.*class_values"):
        build_dataset(_config(year, classes=["dog"], class_values=[12])).all_labels(build_dataset(config).cases())


def test_tags_from_masks_annotations_and_onehot_agree(year: Path) -> None:
    expected = {"2007_000001": ["cat", "dog"], "2007_000002": ["dog"], "2007_000003": ["cat"]}
    assert _present(_config(year)) == expected
    assert _present(_config(year, tags={"source": "annotations"})) == expected
    classes = _config(year).classes
    vectors = {case: np.array([name in names for name in classes], np.float32) for case, names in expected.items()}
    np.save(year / "cls_labels_onehot.npy", vectors, allow_pickle=True)
    assert _present(_config(year, tags={"source": "onehot", "path": "cls_labels_onehot.npy"})) == expected


def test_the_augmented_list_and_its_masks(year: Path, photographs: ModuleType) -> None:
    lines = "/JPEGImages/2007_000001.jpg /SegmentationClassAug/2007_000001.png\n\n2007_000002 1\n"
    (year / "ImageSets" / "Segmentation" / "train_aug.txt").write_text(lines)
    other = np.zeros(photographs.SIZE, np.uint8)
    other[3:9, 3:9] = 20
    photographs.write_palette_mask(year / "SegmentationClassAug" / "2007_000001.png", other)
    voc = {"train": "train_aug", "masks": ["SegmentationClassAug", "SegmentationClass"]}
    assert _present(_config(year, voc=voc)) == {
        "2007_000001": ["tvmonitor"],
        "2007_000002": ["dog"],
        "2007_000003": ["cat"],
    }


def test_all_faults_are_told_at_once(year: Path, photographs: ModuleType) -> None:
    lists = year / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("2007_000001\n2007_000002\n2007_000099\n2007_000003\n")
    (year / "SegmentationClass" / "2007_000001.png").unlink()
    photographs.write_palette_mask(year / "SegmentationClass" / "2007_000002.png", np.zeros((7, 7), np.uint8))
    (year / "JPEGImages" / "2007_000003.jpg").write_text("no image")
    with pytest.raises(UserError) as told:
        build_dataset(_config(year)).cases()
    for part in (
        "2007_000099",
        "no mask",
        "shape (7, 7, 1), expected (30, 44, 1)",
        "be decoded",
        "in train.txt already",
    ):
        assert part in str(told.value)


def test_wrong_folders_and_lists_are_explained(year: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder JPEGImages"):
        build_dataset(_config(year / "Annotations")).cases()
    with pytest.raises(UserError, match=r"train_aug.txt: no such list.*\['train', 'val'\]"):
        build_dataset(_config(year, voc={"train": "train_aug"})).cases()
    shutil.copytree(year, year.parent / "VOC2007")
    with pytest.raises(UserError, match="several years: VOC2007, VOC2012"):
        build_dataset(_config(tmp_path))


def test_annotation_faults_are_told_at_once(year: Path) -> None:
    (year / "Annotations" / "2007_000001.xml").write_text("<annotation><object><name>kat</name></object></annotation>")
    (year / "Annotations" / "2007_000002.xml").write_text('<?xml version="1.0" encoding="x-odd"?><annotation/>')
    with pytest.raises(UserError, match=r"(?s)object 'kat'.*Did you mean 'cat'.*no readable annotation"):
        _present(_config(year, tags={"source": "annotations"}))


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_every_cache_gives_the_same_slices_and_names_damaged_images(year: Path, tmp_path: Path, cache: str) -> None:
    config = _config(year, cache=cache, cache_dir=tmp_path / "cache")
    dataset = build_dataset(config)
    slices = build_slices(dataset, dataset.cases(), config)
    assert len(slices) == 3 and slices[2]["image"].shape == (3, 32, 32)
    plain = _config(year)
    torch.testing.assert_close(slices[2]["image"], build_slices(dataset, dataset.cases(), plain)[2]["image"])
    assert 0 < float(slices[0]["image"].min()) < float(slices[0]["image"].max()) <= 1
    for case in dataset.cases()[:2]:
        whole = case.image.read_bytes()
        case.image.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"(?s)2 faults.*2007_000001.jpg.*2007_000002.jpg"):
        build_slices(dataset, dataset.cases(), config)


def test_what_suits_hearts_is_off_for_photographs() -> None:
    config = RunConfig(data={"name": "voc"})
    assert not any(config.inference.postprocess.model_dump().values()) and config.network.channels == 3
    assert len(config.data.classes) == 20 and config.data.grid.spacing_mm is None
    kept = RunConfig(data={"name": "voc"}, inference={"postprocess": {"fill_holes": True}})
    assert kept.inference.postprocess.model_dump() == {
        "largest_component": False,
        "fill_holes": True,
        "slice_gaps": False,
        "by_length": False,
    }
    with pytest.raises(ValueError, match="no millimetres"):
        RunConfig(data={"name": "voc", "grid": {"spacing_mm": 1.0, "resize": "none"}})


def test_the_real_sample(voc_sample: Path) -> None:
    """Tags of the three images as one sees them, and pixel counts as another program (numpy on the PNGs) gives them."""
    assert _present(_config(voc_sample)) == {
        "2011_000003": ["bottle", "person"],
        "2011_000006": ["chair", "person", "sofa"],
        "2011_000025": ["bus", "car"],
    }
    dataset = build_dataset(_config(voc_sample.parent))
    labels = dataset.labels(dataset.cases()[0])
    assert labels.shape == (338, 500, 1)
    assert int((labels == IGNORE).sum()) == 9460 and int((labels == 15).sum()) == 32900
