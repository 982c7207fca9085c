"""Loading of weak labels: files and masks, values, patients, mixes, groups, tags, and the way to the grid."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from unia_med.build import build_dataset
from unia_med.config.schema import DataConfig, GridConfig
from unia_med.data.grid.transforms import load_label_slices
from unia_med.data.layouts.acdc import AcdcDataset
from unia_med.data.slices.dataset import build_slices
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.data.weak_labels.load import choose_patients, load_weak_labels
from unia_med.data.weak_labels.place import GridMap, grid_map
from unia_med.errors import UserError
from unia_med.labels import IGNORE

GRID = {"spacing_mm": None, "size": (40, 36)}
SCRIBBLES = {"kind": "scribbles", "source": "files"}


def load(root: Path, *sources: dict, seed: int = 0, **settings: object) -> dict[str, np.ndarray] | None:
    config = DataConfig(root=root, labels=list(sources), **{"grid": GRID, **settings})
    dataset = AcdcDataset(config)
    return load_weak_labels(dataset, dataset.cases(), config, seed)


def masks(root: Path) -> dict[str, np.ndarray]:
    return load(root, {"kind": "masks", "source": "masks"})


def write_beside(root: Path, ending: str, labels: np.ndarray, patients: tuple[str, ...] = ("patient001",)) -> None:
    for path in sorted(root.rglob("*_gt.nii.gz")):
        if path.parent.name in patients:
            gt = nib.load(path)
            target = path.with_name(path.name.replace("_gt", ending))
            nib.save(nib.Nifti1Image(labels.astype(np.uint8), gt.affine, gt.header), target)


def acdc_scribble() -> np.ndarray:
    """Values as ACDC publishes them: 4 not annotated, 0 background."""
    volume = np.full((40, 36, 4), 4)
    volume[5, 5:30, :3], volume[18:20, 20, :3], volume[11, 19:22, :3], volume[8, 20, :2] = 0, 3, 2, 1
    return volume


def test_no_source_gives_none(tiny_acdc: Path) -> None:
    assert load(tiny_acdc) is None


def test_acdc_scribbles_are_found_and_decoded_without_any_setting(tiny_acdc: Path) -> None:
    write_beside(tiny_acdc, "_scribble", acdc_scribble())
    found = load(tiny_acdc, SCRIBBLES)
    assert sorted(found) == ["patient001_frame01", "patient001_frame07"]
    expected = np.where(acdc_scribble() == 4, IGNORE, acdc_scribble()).transpose(2, 0, 1)
    for labels in found.values():
        assert labels.dtype == np.uint8 and np.array_equal(labels, expected)


def test_own_values(tiny_acdc: Path) -> None:
    own = np.select([acdc_scribble() == value for value in range(5)], [9, 30, 20, 10, 0])
    write_beside(tiny_acdc, "_strokes", own)
    source = {**SCRIBBLES, "suffix": "_strokes", "background_value": 9, "ignore_value": 0}
    found = load(tiny_acdc, {**source, "values": {"RV": 30, "MYO": 20, "LV": 10}})
    assert np.array_equal(found["patient001_frame01"][0] == 3, acdc_scribble()[:, :, 0] == 3)
    assert set(np.unique(found["patient001_frame01"])) == {0, 1, 2, 3, IGNORE}
    with pytest.raises(UserError, match=r"values 9, 10, 20, 30.*values, background_value"):
        load(tiny_acdc, {**SCRIBBLES, "suffix": "_strokes"})
    with pytest.raises(UserError, match=r"values are given for \['LV'\]"):
        load(tiny_acdc, {**source, "values": {"LV": 1}})


def test_a_class_or_background_of_the_value_255_is_read(tiny_acdc: Path) -> None:
    own = np.select([acdc_scribble() == value for value in range(5)], [9, 1, 2, 255, 0])
    write_beside(tiny_acdc, "_strokes", own)
    source = {**SCRIBBLES, "suffix": "_strokes", "ignore_value": 0, "values": {"RV": 1, "MYO": 2, "LV": 255}}
    expected = np.where(acdc_scribble() == 4, IGNORE, acdc_scribble()).transpose(2, 0, 1)
    found = load(tiny_acdc, {**source, "background_value": 9})
    assert np.array_equal(found["patient001_frame01"], expected)
    write_beside(tiny_acdc, "_strokes", np.select([own == 255, own == 9], [3, 255], own))
    found = load(tiny_acdc, {**source, "background_value": 255, "values": {"RV": 1, "MYO": 2, "LV": 3}})
    assert np.array_equal(found["patient001_frame01"], expected)


def test_a_class_that_nobody_asked_for_is_background(tiny_acdc: Path) -> None:
    write_beside(tiny_acdc, "_scribble", acdc_scribble())
    found = load(tiny_acdc, SCRIBBLES, classes=["LV"])["patient001_frame01"]
    drawn = acdc_scribble().transpose(2, 0, 1)
    assert np.array_equal(found, np.select([drawn == 4, drawn == 3], [IGNORE, 1], 0))


def test_faults_are_told_together_and_name_the_files(tiny_acdc: Path) -> None:
    write_beside(tiny_acdc, "_scribble", np.full((40, 36, 4, 2), 4))
    write_beside(tiny_acdc, "_scribble", np.full((40, 36, 4), 7), ("patient002",))
    with pytest.raises(UserError) as error:
        load(tiny_acdc, SCRIBBLES)
    text = str(error.value)
    for words in ("4 faults", "patient001_frame07_scribble", "(40, 36, 4, 2)", "values 7"):
        assert words in text


def test_background_with_a_value_of_its_own_leaves_0_as_not_drawn(tiny_acdc: Path) -> None:
    drawn = np.zeros((40, 36, 4))
    drawn[5, 5:30, :3], drawn[18:20, 20, :3] = 4, 3  # 4 is also what "not annotated" is when nothing is said
    write_beside(tiny_acdc, "_scribble", drawn)
    expected = np.where(drawn == 4, 0, np.where(drawn == 3, 3, IGNORE)).transpose(2, 0, 1)
    for labels in load(tiny_acdc, {**SCRIBBLES, "background_value": 4}).values():
        assert np.array_equal(labels, expected)


def test_a_segment_called_background_marks_it_in_a_file_of_bytes(tiny_acdc: Path) -> None:
    drawn = np.zeros((40, 36, 4), np.uint8)
    drawn[5, 5:30, :3], drawn[18:20, 20, :3] = 2, 1
    lines = [f"Segment{n}_Name:={name}\nSegment{n}_LabelValue:={n + 1}\nSegment{n}_Layer:=0"
             for n, name in enumerate(("LV", "Hintergrund"))]  # fmt: skip
    for path in sorted(tiny_acdc.rglob("patient001_frame*_gt.nii.gz")):
        affine = np.diag([-1, -1, 1, 1]) @ nib.load(path).affine  # a viewer's file counts to the left and to the back
        vectors = ["({},{},{})".format(*affine[:3, axis]) for axis in range(4)]
        head = ["NRRD0004", "type: unsigned char", "dimension: 3", "space: left-posterior-superior", "sizes: 40 36 4",
                f"space directions: {' '.join(vectors[:3])}", "kinds: domain domain domain", "encoding: raw",
                f"space origin: {vectors[3]}", *lines]  # fmt: skip
        target = path.with_name(path.name.replace("_gt.nii.gz", "_scribbles.seg.nrrd"))
        target.write_bytes(("\n".join(head) + "\n\n").encode() + drawn.tobytes("F"))
    expected = np.select([drawn == 1, drawn == 2], [3, 0], IGNORE).transpose(2, 0, 1)
    for labels in load(tiny_acdc, SCRIBBLES).values():
        assert np.array_equal(labels, expected)


def test_boxes_of_a_viewer_hold_one_value_per_class(tiny_acdc: Path) -> None:
    drawn = np.zeros((40, 36, 4))
    drawn[4:20, 6:20, 1], drawn[21:30, 8:14, 1] = 3, 1  # as bits, 3 would be both RV and MYO
    write_beside(tiny_acdc, "_boxes", drawn)
    boxes = {"kind": "boxes", "values": {"RV": 1, "MYO": 2, "LV": 3}}
    config = DataConfig(root=tiny_acdc, labels=[boxes], tags={"source": "labels"}, grid=GRID)
    dataset = AcdcDataset(config)
    tags = load_tags(dataset, dataset.cases(), config)["patient001_frame01"]
    assert tags[1].tolist() == [1, -1, 1]  # the wall is drawn nowhere


def test_missing_files_and_folders_are_told(tiny_acdc: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no points for any of 6 cases.*patient001_frame01_points.nii.gz"):
        load(tiny_acdc, {"kind": "points"})
    with pytest.raises(UserError, match="no such folder"):
        load(tiny_acdc, {"kind": "points", "folder": tmp_path / "nowhere"})


@pytest.mark.parametrize("kind", ["points", "scribbles", "blocks"])
def test_made_labels_agree_with_the_masks(tiny_acdc: Path, kind: str) -> None:
    truth = masks(tiny_acdc)
    for case, labels in load(tiny_acdc, {"kind": kind, "source": "masks"}).items():
        known = labels != IGNORE
        assert known.any((1, 2)).all() and (labels[known] == truth[case][known]).all()
        assert kind == "blocks" or known.mean() < 0.3


def test_a_later_source_fills_what_an_earlier_one_left(tiny_acdc: Path) -> None:
    write_beside(tiny_acdc, "_scribble", acdc_scribble())
    both = load(tiny_acdc, SCRIBBLES, {"kind": "masks", "source": "masks", "patients": ["patient001", "patient013"]})
    first, truth = load(tiny_acdc, SCRIBBLES), masks(tiny_acdc)
    assert {case.split("_")[0] for case in both} == {"patient001", "patient013"}
    for case, labels in both.items():
        drawn = first.get(case, np.full_like(labels, IGNORE))
        assert np.array_equal(labels, np.where(drawn == IGNORE, truth[case], drawn))


def test_groups_are_merged(tiny_acdc: Path) -> None:
    groups = {"heart": ["RV", "MYO"], "pool": ["LV"]}
    found = load(tiny_acdc, {"kind": "masks", "source": "masks"}, groups=groups)
    for case, truth in masks(tiny_acdc).items():
        assert np.array_equal(found[case], np.array([0, 1, 1, 2])[truth])


def test_patients_are_nested_and_do_not_depend_on_the_others() -> None:
    patients = [f"patient{number:03d}" for number in range(40)]
    drawn = [choose_patients(count, patients, 5) for count in (1, 5, 20, 40)]
    assert [len(d) for d in drawn] == [1, 5, 20, 40] and drawn[0] < drawn[1] < drawn[2] < drawn[3]
    assert choose_patients(5, patients, 6) != drawn[1]
    fewer = [name for name in patients if name in drawn[1] or int(name[-3:]) % 2]
    assert choose_patients(5, fewer, 5) == drawn[1]
    with pytest.raises(UserError, match="41 patients asked for, 40"):
        choose_patients(41, patients, 0)
    with pytest.raises(UserError, match="'patient03' is no training patient.*Did you mean"):
        choose_patients(["patient03"], patients, 0)


def test_walker_and_ellipse_label_every_pixel(tiny_acdc: Path) -> None:
    """The tiny heart has sharp edges, so that both completions come close to it."""
    truth = masks(tiny_acdc)
    make = {"background_distance_px": 3}
    ways = {"scribbles": "walker", "boxes": "ellipse"}
    for kind, fill in ways.items():
        found = load(tiny_acdc, {"kind": kind, "source": "masks", "fill": fill, "make": make})
        for case, labels in found.items():
            assert IGNORE not in labels
            assert (labels == truth[case]).mean() > 0.9


def test_the_rule_adds_background_only(tiny_acdc: Path) -> None:
    source = {"kind": "scribbles", "source": "masks", "make": {"background_distance_px": 3}}
    drawn, truth = load(tiny_acdc, source), masks(tiny_acdc)
    for case, labels in load(tiny_acdc, {**source, "fill": "rule"}).items():
        added = (drawn[case] == IGNORE) & (labels != IGNORE)
        assert added.any() and (labels[added] == 0).all() and (truth[case][added] == 0).all()
        assert (labels[~added] == drawn[case][~added]).all()


@pytest.mark.parametrize("kind", ["scribbles", "points", "boxes"])
def test_tags_of_labels_are_those_of_the_masks(tiny_acdc: Path, kind: str) -> None:
    common = {"root": tiny_acdc, "grid": GRID, "labels": [{"kind": kind, "source": "masks", "patients": 2}]}
    data = DataConfig(**common, tags={"source": "labels"})
    dataset = AcdcDataset(data)
    told, true = load_tags(dataset, dataset.cases(), data), load_tags(dataset, dataset.cases(), DataConfig(**common))
    known = {case for case, tags in told.items() if (tags >= 0).all()}
    assert len(known) == 4 and all(np.array_equal(told[case], true[case]) for case in known)
    assert all((tags == -1).all() for case, tags in told.items() if case not in known)


def test_without_the_promise_nothing_is_absent(tiny_acdc: Path) -> None:
    write_beside(tiny_acdc, "_scribble", acdc_scribble())
    data = DataConfig(
        root=tiny_acdc, grid=GRID, labels=[{**SCRIBBLES, "marks_every_class": False}], tags={"source": "labels"}
    )
    dataset = AcdcDataset(data)
    tags = load_tags(dataset, dataset.cases()[:1], data)["patient001_frame01"]
    assert tags.tolist() == [[1, 1, 1], [1, 1, 1], [-1, 1, 1], [-1, -1, -1]]


def test_no_tags_and_the_labels_reach_the_samples(tiny_acdc: Path) -> None:
    write_beside(tiny_acdc, "_scribble", acdc_scribble())
    data = DataConfig(root=tiny_acdc, grid=GRID, labels=[SCRIBBLES], tags={"source": "none"})
    dataset = AcdcDataset(data)
    labels = load_weak_labels(dataset, dataset.cases(), data, 0)
    slices = build_slices(dataset, dataset.cases(), data, labels=labels)
    assert (slices.tags == -1).all()
    assert np.array_equal(slices[1]["labels"].numpy(), labels["patient001_frame01"][1])
    assert (slices[8]["labels"] == IGNORE).all()


def test_no_annotated_pixel_is_lost_on_a_coarser_grid() -> None:
    """Every drawn pixel lies in a grid pixel that carries a label drawn within it."""
    generator = np.random.default_rng(0)
    labels = np.where(generator.random((50, 60, 3)) < 0.05, generator.integers(0, 4, (50, 60, 3)), IGNORE).astype(
        np.uint8
    )
    affine = np.diag([1.5, 1.5, 10.0, 1.0])
    grid = GridConfig(spacing_mm=4.0, size=(32, 32))
    placing = grid_map(labels.shape, affine, grid)
    placed = placing.place(labels)
    for x, y, z in np.argwhere(labels != IGNORE):
        i, j = np.rint(np.array([x, y]) * placing.scale + placing.offset).astype(int)
        assert placed[z, i, j] != IGNORE
    for z, i, j in np.argwhere(placed != IGNORE):
        exact = [
            np.abs(np.arange(n) * s + o - at) <= 0.5 + 1e-6
            for n, s, o, at in zip((50, 60), placing.scale, placing.offset, (i, j), strict=True)
        ]
        assert placed[z, i, j] in labels[exact[0]][:, exact[1]][:, :, z]


@pytest.mark.parametrize("spacing", [None, 1.0, 1.9, 3.1])
def test_dense_labels_come_to_the_grid_as_by_nearest_neighbour(tiny_acdc: Path, spacing: float | None) -> None:
    grid = GridConfig(spacing_mm=spacing, size=(24, 40))
    path = next(tiny_acdc.rglob("*_gt.nii.gz"))
    gt = nib.load(path)
    expected = load_label_slices(path, grid, {0: 0, 1: 1, 2: 2, 3: 3})
    placed = grid_map(gt.shape, gt.affine, grid).place(np.asarray(gt.dataobj).astype(np.uint8))
    assert placed.shape == expected.shape
    inside = (placed != IGNORE) & (expected != IGNORE)
    assert np.array_equal(placed[inside], expected[inside])
    assert (placed[expected == IGNORE] == IGNORE).all() and inside.sum() >= 0.9 * (expected != IGNORE).sum()


def test_of_two_labels_in_a_grid_pixel_the_one_next_to_its_centre_counts() -> None:
    labels = np.full((4, 4, 1), IGNORE, np.uint8)
    labels[0, 0], labels[1, 0] = 1, 2
    placing = GridMap((0.4, 0.4), (0.05, 0.05), (4, 4), (2, 2))
    assert placing.place(labels)[0, 0, 0] == 1
    labels[0, 0] = IGNORE
    assert placing.place(labels)[0, 0, 0] == 2


@pytest.mark.slow
def test_walker_on_real_scribbles_is_close_to_the_masks(real_acdc: Path) -> None:
    config = DataConfig(
        root=real_acdc, labels=[{"kind": "scribbles", "fill": "walker", "complete": {"shape": "heart"}}]
    )
    dataset = AcdcDataset(config)
    cases = [case for case in dataset.cases() if case.patient in ("patient001", "patient043", "patient065")]
    found = load_weak_labels(dataset, cases, config, 0)
    plain = config.model_copy(update={"labels": DataConfig(labels=[{"kind": "masks", "source": "masks"}]).labels})
    truth = load_weak_labels(dataset, cases, plain, 0)
    dice = [
        2 * ((found[c] == k) & (truth[c] == k)).sum() / ((found[c] == k).sum() + (truth[c] == k).sum())
        for c in found
        for k in (1, 2, 3)
    ]
    assert np.mean(dice) > 0.84


def test_files_without_a_labelled_pixel_are_named_and_refused_where_that_is_all_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a", "b"):
        nib.save(nib.Nifti1Image(np.ones((8, 8, 2), np.int16), np.eye(4)), tmp_path / f"{name}.nii.gz")
        empty = np.full((8, 8, 2), 255, np.uint8)
        nib.save(nib.Nifti1Image(empty, np.eye(4)), tmp_path / f"{name}_scribbles.nii.gz")
    data = DataConfig(name="volumes", root=tmp_path, classes=["x"], labels=[{"kind": "scribbles"}])
    dataset = build_dataset(data)
    with pytest.raises(UserError, match="none of the scribbles of 2 volumes has a pixel of a class"):
        load_weak_labels(dataset, dataset.cases(), data, 0)
    drawn = np.full((8, 8, 2), 255, np.uint8)
    drawn[2:4, 2:4, 0] = 1
    nib.save(nib.Nifti1Image(drawn, np.eye(4)), tmp_path / "b_scribbles.nii.gz")
    with caplog.at_level("WARNING", "unia_med"):
        assert set(load_weak_labels(dataset, dataset.cases(), data, 0)) == {"a", "b"}
    assert "the scribbles of 1 of 2 volumes hold no pixel of a class (a)" in caplog.text
