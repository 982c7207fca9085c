"""Doubt and difference against hand-made cases and a brute-force count."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.config.load import parse_config
from unia_med.errors import UserError
from unia_med.selection.annotate import Pool, find_pool
from unia_med.selection.choose import choose_cases, choose_slices, distances
from unia_med.selection.doubt import Look, look, slice_doubts
from unia_med.selection.write import next_config


def test_doubt_is_the_mean_in_and_near_the_structures_of_a_slice_and_its_neighbours() -> None:
    generator = np.random.default_rng(0)
    labels = np.zeros((12, 10, 5), np.uint8)
    labels[4:6, 5, 1] = 2
    labels[8, 2, 4] = 1
    uncertainty = generator.random(labels.shape).astype(np.float32)
    found = slice_doubts(labels, uncertainty, (2.5, 3.0))  # 5 mm are two pixels
    for z in range(5):
        near = []
        for x, y in np.ndindex(12, 10):
            seeds = np.argwhere(labels[:, :, max(0, z - 1) : z + 2].any(2))
            if len(seeds) and np.abs(seeds - (x, y)).sum(1).min() <= 2:
                near.append(uncertainty[x, y, z])
        assert found[z] == pytest.approx(np.mean(near) if near else 0.0, rel=1e-5)


def test_a_volume_in_which_nothing_is_found_is_doubted_by_its_worst_voxels() -> None:
    uncertainty = np.zeros((20, 10, 2), np.float32)
    uncertainty[:2, :5, 1] = 0.8  # 10 of 200 voxels are 5 %
    assert slice_doubts(np.zeros((20, 10, 2), np.uint8), uncertainty, (1.0, 1.0)) == pytest.approx([0.0, 0.8])


def test_cases_stand_for_doubted_ones_that_nothing_labelled_or_chosen_is_like() -> None:
    place = np.array([0.0, 0.1, 5.0, 5.1, 5.2, 20.0])
    between = np.abs(place[:, None] - place[None])
    names = list("abcdef")
    # Case 0 is labelled. 3 stands for itself and both its neighbours; 5 is far from all, and an outlier.
    doubts = [0.9, 0.9, 0.4, 0.4, 0.4, 0.3]
    assert choose_cases(doubts, between, [0], names, 1) == [(3, pytest.approx(5.1))]
    assert [index for index, _ in choose_cases(doubts, between, [0], names, 3)] == [3, 5, 1]
    # Doubt decides between two groups of one size, and without anything labelled, too.
    assert choose_cases([0, 0, 0.4, 0.4, 0.4, 0.9], between, [0], names, 1)[0][0] == 5
    assert choose_cases([0.9, 0.9, 0.1, 0.1, 0.1, 0.1], between, [], names, 1) == [(1, np.inf)]
    # Two frames of a patient: the second waits for the others.
    twice = choose_cases([0.1, 0.1, 0.3, 0.9, 0.8, 0.1], between, [0], list("abcddf"), 5)
    assert [index for index, _ in twice] == [3, 5, 2, 1, 4]
    assert len(choose_cases(doubts, between, [0], names, 99)) == 5


def test_each_choice_leaves_the_least_doubt_far_from_labels() -> None:
    generator = np.random.default_rng(0)
    points, doubts = generator.random((14, 3)), generator.random(14)
    between = np.linalg.norm(points[:, None] - points[None], axis=2)
    known = [2, 7]
    for index, distance in choose_cases(doubts.tolist(), between, [2, 7], [str(i) for i in range(14)], 6):
        left = {
            case: sum(doubts[j] * min(between[j, k] for k in [*known, case]) for j in range(14))
            for case in range(14)
            if case not in known
        }
        assert index == min(left, key=lambda case: left[case])
        assert distance == pytest.approx(min(between[index, k] for k in known))
        known.append(index)


def test_slices_keep_apart_while_the_volume_is_long_enough() -> None:
    doubt = np.array([0.1, 0.9, 0.89, 0.88, 0.2, 0.5, 0.4])
    assert choose_slices(doubt, 2) == [1, 3]  # 0.88 * 2 / 3 beats 0.89 / 3 and 0.5
    assert choose_slices(doubt, 1) == [1]
    assert choose_slices(np.array([0.3, 0.0]), 5) == [0, 1]


def test_images_and_masks_weigh_alike_in_a_distance() -> None:
    image = np.zeros((3, 64), np.float32)
    image[1] = 1000.0
    mask = np.zeros((3, 64), np.float32)
    mask[2] = 0.001
    looks = [Look(np.zeros(1), image[i], mask[i]) for i in range(3)]
    between = distances(looks)
    assert between[0, 1] == pytest.approx(between[0, 2])
    assert between[1, 2] == pytest.approx(2 * between[0, 1])


def test_a_look_scales_intensities_and_counts_classes() -> None:
    array = np.linspace(0, 4000, 16 * 16 * 2).reshape(16, 16, 2)
    labels = np.zeros((16, 16, 2), np.uint8)
    labels[:8, :, 0] = 1
    found = look(array, labels, np.zeros(labels.shape, np.float32), (1.0, 1.0), 2)
    again = look(array * 7 + 3, labels, np.zeros(labels.shape, np.float32), (1.0, 1.0), 2)
    np.testing.assert_allclose(found.image, again.image, atol=1e-5)
    mask = found.mask.reshape(2, 8, 8)
    assert (mask[0, :4] == 0.5).all() and (mask[0, 4:] == 0).all() and (mask[1] == 0).all()


def test_a_folder_of_the_data_set_without_its_cases_is_a_folder_of_its_own(tmp_path: Path) -> None:
    for place in ("imagesTr/a_0000", "imagesTr/b_0000", "imagesTr/c_0000", "imagesTs/d_0000", "imagesTs/e_0000"):
        path = tmp_path / f"{place}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(np.zeros((8, 8, 2), np.int16), np.eye(4)), path)
    volumes = {"images": "imagesTr/*", "channel_endings": ["_0000"]}
    split = {"kind": "lists", "train": ["imagesTr/a", "imagesTr/b"], "val": ["imagesTr/c"]}
    data = {"name": "volumes", "root": str(tmp_path), "classes": ["X"], "volumes": volumes, "split": split,
            "tags": {"source": "none"}, "labels": [{"kind": "points"}]}  # fmt: skip
    config = parse_config({"data": data, "method": {"name": "partial"}})
    assert [case.name for case in find_pool(config, tmp_path, ["imagesTr/a"]).cases] == ["imagesTr/b"]
    assert [case.name for case in find_pool(config, tmp_path / "imagesTr", []).cases] == ["imagesTr/a", "imagesTr/b"]
    pool = find_pool(config, tmp_path / "imagesTs", ["imagesTr/a"])
    assert [case.name for case in pool.cases] == ["d", "e"] and [case.name for case in pool.labelled] == ["imagesTr/a"]
    assert pool.data.root == (tmp_path / "imagesTs").resolve()
    (tmp_path / "validation").mkdir()
    volumes["images"] = "**/*"
    (tmp_path / "imagesTr" / "c_0000.nii.gz").rename(tmp_path / "validation" / "c_0000.nii.gz")
    split["val"] = ["validation/c"]
    with pytest.raises(UserError, match="no training case without labels"):
        find_pool(parse_config({"data": data, "method": {"name": "partial"}}), tmp_path / "validation", [])


def test_the_next_training_fits_a_temperature_of_its_own(tmp_path: Path) -> None:
    values = {"data": {"name": "volumes", "root": str(tmp_path), "classes": ["A"]}, "method": {"name": "partial"}}
    config = parse_config({**values, "inference": {"temperature": 0.55, "samples": 3}})
    following = next_config([], Pool(config.data, [], []), config, "RUN", tmp_path)
    assert following.inference.temperature is None and following.inference.samples == 3
    assert following.training.start_from == "RUN" and following.data.labels[0].kind == "masks"


def test_a_class_of_the_value_255_gets_another_in_prefilled_volumes() -> None:
    """255 is "not annotated" there."""
    from unia_med.config.data import DataConfig
    from unia_med.selection.annotate import label_values

    data = DataConfig(name="volumes", classes=["A", "B"], class_values=[1, 255])
    assert label_values(data) == {"A": 1, "B": 2}
    assert label_values(data.model_copy(update={"class_values": [7, 3]})) == {"A": 7, "B": 3}
