"""Completion of points, scribbles and boxes by intensity, against simulated volumes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.build import build_dataset
from unia_med.config.schema import DataConfig, RunConfig
from unia_med.config.weak_labels import LabelSource
from unia_med.data.weak_labels.by_intensity import boxes_by_intensity, complete_by_intensity
from unia_med.data.weak_labels.load import intensity_samples, load_weak_labels
from unia_med.errors import UserError
from unia_med.inspection.inspect import inspect_data
from unia_med.labels import IGNORE

SHAPE = (4, 60, 60)
Z, Y, X = np.indices(SHAPE)
RADIUS = np.hypot(Y - 28, X - 28)
TRUTH = np.select([RADIUS < 8, RADIUS < 16], [2, 1], 0)
FIELD = 0.75 + 0.5 * X / 60


def scan(levels: tuple[float, float, float], noise: float = 0.03) -> np.ndarray:
    """Image (Z, 1, H, W): a disc in a ring, under a field that grows to the right."""
    image = FIELD * np.array(levels)[TRUTH] + np.random.default_rng(3).normal(0, noise, SHAPE)
    return image.clip(0, 1)[:, None].astype(np.float32)


def points() -> np.ndarray:
    """Five points of each class, and background far from them."""
    labels = np.full(SHAPE, IGNORE, np.uint8)
    for dy, dx in ((0, 0), (3, 0), (0, 3), (-3, 0), (0, -3)):
        labels[:, 28 + dy, 28 + dx] = 2
        labels[:, 28 + 4 * dy, 28 + 4 * dx] = np.where(TRUTH[:, 28 + 4 * dy, 28 + 4 * dx] == 1, 1, 2)
    labels[RADIUS > 22] = 0
    return labels


def test_points_become_the_classes_under_a_field() -> None:
    found = complete_by_intensity(scan((0.1, 0.4, 0.7)), points(), 2, 4.0)
    said = found.labels != IGNORE
    assert (found.labels == TRUTH)[said].mean() > 0.99 and said.mean() > 0.95
    assert found.alike == () and found.open_share < 0.1
    drawn = points()
    assert (found.labels[drawn != IGNORE] == drawn[drawn != IGNORE]).all()


def test_classes_of_one_intensity_stay_open_and_are_named() -> None:
    found = complete_by_intensity(scan((0.1, 0.5, 0.5)), points(), 2, 4.0)
    assert found.alike == ((1, 2),)
    unknown = (points() == IGNORE) & (TRUTH > 0)
    assert (found.labels[unknown] == IGNORE).mean() > 0.9
    edge = (RADIUS > 17) & (RADIUS < 21)  # the background is another matter
    assert (found.labels[edge] == 0).mean() > 0.9


def test_another_organ_far_away_with_the_same_intensity_stays_open() -> None:
    image, labels = scan((0.1, 0.4, 0.7)), points()
    image[:, 0, 50:58, 50:58], labels[:, 46:, 46:] = 0.7, IGNORE
    found = complete_by_intensity(image, labels, 2, 4.0).labels[:, 51:57, 51:57]
    assert (found == IGNORE).all()


def test_a_class_without_a_mark_is_not_invented() -> None:
    labels = points()
    labels[labels == 2] = IGNORE
    found = complete_by_intensity(scan((0.1, 0.4, 0.7)), labels, 2, 4.0)
    assert (found.labels != 2).all()
    assert (found.labels[RADIUS < 7] == IGNORE).mean() > 0.9  # the disc looks like nothing that was drawn


def test_boxes_with_an_order_of_brightness() -> None:
    boxes = np.stack([(np.abs(Y - 28) <= half) & (np.abs(X - 28) <= half) for half in (16, 8)])
    for levels, order in (((0.1, 0.4, 0.7), [1, 2]), ((0.1, 0.7, 0.4), [2, 1])):
        found = boxes_by_intensity(scan(levels), boxes, order, 4.0)
        said = found.labels != IGNORE
        assert (found.labels == TRUTH)[said].mean() > 0.98 and said.mean() > 0.95
        assert (found.labels[~boxes.any(0)] == 0).all() and not (found.labels == 2)[~boxes[1]].any()


@pytest.mark.parametrize("level", [0.1, 0.8])
def test_a_box_of_a_dark_or_a_bright_lesion(level: float) -> None:
    lesion = RADIUS < 8
    image = np.where(lesion, level, 0.45) + np.random.default_rng(1).normal(0, 0.03, SHAPE)
    box = ((np.abs(Y - 28) <= 8) & (np.abs(X - 28) <= 8))[None]
    found = boxes_by_intensity(image[:, None].astype(np.float32), box, [1], 1.0).labels
    assert (found == lesion).mean() > 0.99


def test_empty_labels_stay_empty() -> None:
    nothing = np.full(SHAPE, IGNORE, np.uint8)
    found = complete_by_intensity(scan((0.1, 0.4, 0.7)), nothing, 2, 4.0)
    assert (found.labels == IGNORE).all() and found.open_share == 1
    empty = boxes_by_intensity(scan((0.1, 0.4, 0.7)), np.zeros((2, *SHAPE), bool), [1, 2], 4.0)
    assert (empty.labels == 0).all()


def write_case(root: Path) -> None:
    volume = np.moveaxis(scan((0.1, 0.4, 0.7))[:, 0], 0, 2)
    drawn = np.where(points() == IGNORE, 4, points())
    for name, array in (
        ("a", 1000 * volume),
        ("a_points", np.moveaxis(drawn, 0, 2)),
        ("a_gt", np.moveaxis(TRUTH, 0, 2)),
    ):
        nib.save(nib.Nifti1Image(array.astype(np.int16), np.diag([2.0, 2, 8, 1])), root / f"{name}.nii.gz")


def settings(root: Path, **source: object) -> DataConfig:
    return DataConfig(
        name="volumes", root=root, classes=["ÄUSSEN", "INNEN"], labels=[{"fill": "intensity", **source}],
        grid={"spacing_mm": None, "size": (60, 60), "percentiles": (1, 99)},
        split={"kind": "fractions", "fractions": [1.0, 0.0, 0.0]},
    )  # fmt: skip


def test_a_config_asks_for_it(tmp_path: Path) -> None:
    write_case(tmp_path)
    config = settings(tmp_path, kind="points", ignore_value=4)
    dataset = build_dataset(config)
    cases = [case for case in dataset.cases() if case.name == "a"]
    found = load_weak_labels(dataset, cases, config, 0)
    assert found is not None and (found["a"] == TRUTH)[found["a"] != IGNORE].mean() > 0.98
    ((name, sample),) = intensity_samples(dataset, cases, config, config.labels[0], 0, 3)
    assert name == "a" and np.array_equal(sample.labels, found["a"])


def test_boxes_without_an_order_are_refused_with_the_line_to_type(tmp_path: Path) -> None:
    write_case(tmp_path)
    config = settings(tmp_path, kind="boxes", source="masks")
    dataset = build_dataset(config)
    cases = [case for case in dataset.cases() if case.name == "a"]
    with pytest.raises(UserError, match=r"brightness: \[ÄUSSEN, INNEN\]"):
        load_weak_labels(dataset, cases, config, 0)
    ordered = settings(tmp_path, kind="boxes", source="masks", complete={"brightness": ["ÄUSSEN", "INNEN"]})
    found = load_weak_labels(dataset, cases, ordered, 0)
    assert found is not None and (found["a"] == TRUTH)[found["a"] != IGNORE].mean() > 0.97


def test_an_order_belongs_to_boxes() -> None:
    with pytest.raises(ValueError, match="brightness"):
        LabelSource(kind="points", fill="intensity", complete={"brightness": ["A"]})
    with pytest.raises(ValueError, match="does not go with masks"):
        LabelSource(kind="masks", fill="intensity")


def test_inspect_says_what_is_left_open(tmp_path: Path) -> None:
    write_case(tmp_path)
    alike = np.moveaxis(scan((0.1, 0.5, 0.5))[:, 0], 0, 2)
    nib.save(nib.Nifti1Image((1000 * alike).astype(np.int16), np.diag([2.0, 2, 8, 1])), tmp_path / "a.nii.gz")
    config = RunConfig(data=settings(tmp_path, kind="points", ignore_value=4), method={"name": "partial"})
    advice = "\n".join(inspect_data(build_dataset(config.data), config).advice)
    assert "cannot separate ÄUSSEN and INNEN in 1 of 1 case tried" in advice and "of the open pixels of a;" in advice
