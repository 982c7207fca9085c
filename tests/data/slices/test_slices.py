from __future__ import annotations

import pickle
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from unia_med.config.schema import DataConfig
from unia_med.data.layouts.acdc import AcdcDataset
from unia_med.data.sample import Sample
from unia_med.data.slices.batches import batch_indices, discordant, shared_batches
from unia_med.data.slices.dataset import SliceDataset, build_slices
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.data.weak_labels.tags import write_tags_csv
from unia_med.errors import UserError
from unia_med.labels import IGNORE

GRID = {"spacing_mm": None, "size": (32, 24)}
HEART = [[1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 0]]


def config(root: Path, **settings: object) -> DataConfig:
    return DataConfig(root=root, grid=GRID, **settings)


def build(root: Path, labels: dict | None = None, **settings: object) -> SliceDataset:
    data = config(root, **settings)
    dataset = AcdcDataset(data)
    return build_slices(dataset, dataset.cases(), data, labels=labels)


def test_items_carry_the_slice_its_tags_and_no_mask(tiny_acdc: Path) -> None:
    slices = build(tiny_acdc)
    assert len(slices) == 24
    item = slices[6]
    assert set(item) == {"image", "tags", "index"} and item["index"] == 6
    assert item["image"].shape == (1, 32, 24) and item["image"].dtype == torch.float32
    assert 0 <= item["image"].min() and item["image"].max() <= 1
    assert item["tags"].dtype == torch.int8 and item["tags"].tolist() == HEART[2]
    origin = slices.cases[6]
    assert (origin.case.name, origin.z, origin.slices_in_volume) == ("patient001_frame07", 2, 4)
    assert "mask" not in Sample.__annotations__
    assert all(word not in "".join(Sample.__annotations__) for word in ("mask", "truth", "dense"))


def test_every_slice_is_the_one_its_origin_says(tiny_acdc: Path) -> None:
    slices = build(tiny_acdc)
    volumes = dict((case.name, tensor) for case, tensor in slices.volumes())
    for index, origin in enumerate(slices.cases):
        assert torch.equal(slices[index]["image"], volumes[origin.case.name][origin.z])
    assert slices.rows("patient002_frame01") == slice(8, 12)
    assert volumes["patient002_frame01"].shape == (4, 1, 32, 24)
    assert volumes["patient002_frame01"].dtype == torch.float32


def test_disk_and_memory_give_the_same_items(tiny_acdc: Path, tmp_path: Path) -> None:
    memory, disk = build(tiny_acdc), build(tiny_acdc, cache="disk", cache_dir=tmp_path / "cache")
    for index in range(len(memory)):
        assert torch.equal(memory[index]["image"], disk[index]["image"])
    with pytest.raises(UserError, match="data.cache_dir"):
        build(tiny_acdc, cache="disk")


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_loader_processes_give_the_same_batches(cache: str, tiny_acdc: Path, tmp_path: Path) -> None:
    slices = build(tiny_acdc, cache=cache, cache_dir=tmp_path / "cache")
    slices = pickle.loads(pickle.dumps(slices))  # as a spawned loader process receives it
    alone = list(DataLoader(slices, batch_size=5))
    helped = list(DataLoader(slices, batch_size=5, num_workers=1))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(alone, helped, strict=True))
    assert alone[0]["tags"].shape == (5, 3) and alone[0]["index"].tolist() == [0, 1, 2, 3, 4]


def test_scores_come_back_as_probabilities(tiny_acdc: Path, tmp_path: Path) -> None:
    slices = build(tiny_acdc)
    scores = np.lib.format.open_memmap(tmp_path / "s.npy", "w+", np.uint8, (24, 4, 32, 24))
    scores[7] = 51
    slices.set_scores(scores)
    assert slices[7]["scores"].dtype == torch.float32
    torch.testing.assert_close(slices[7]["scores"], torch.full((4, 32, 24), 0.2))
    slices.set_scores(None)
    assert "scores" not in slices[7]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((23, 4, 32, 24), np.uint8), ((24, 4, 24, 32), np.uint8), ((24, 4, 32, 24), np.float32)]
)
def test_scores_that_do_not_fit_are_refused(shape: tuple[int, ...], dtype: type, tiny_acdc: Path) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        build(tiny_acdc).set_scores(np.zeros(shape, dtype))


def test_weak_labels_of_some_cases(tiny_acdc: Path) -> None:
    given = np.random.default_rng(0).integers(0, 4, (4, 32, 24)).astype(np.uint8)
    slices = build(tiny_acdc, labels={"patient001_frame07": given})
    assert np.array_equal(slices[5]["labels"], given[1]) and slices[5]["labels"].dtype == torch.uint8
    assert (slices[0]["labels"] == IGNORE).all()


def test_tags_from_masks_groups_and_csv(tiny_acdc: Path, tmp_path: Path) -> None:
    data = config(tiny_acdc)
    dataset = AcdcDataset(data)
    cases = dataset.cases()
    tags = load_tags(dataset, cases, data)
    assert tags["patient013_frame07"].tolist() == HEART

    write_tags_csv(tmp_path / "t.csv", tags, data.classes)
    by_table = load_tags(dataset, cases[:2], config(tiny_acdc, tags={"source": "csv", "path": tmp_path / "t.csv"}))
    assert set(by_table) == {"patient001_frame01", "patient001_frame07"}
    assert by_table["patient001_frame07"].tolist() == HEART

    merged = load_tags(dataset, cases[:1], config(tiny_acdc, groups={"HEART": ["RV", "LV"], "MYO": ["MYO"]}))
    assert merged["patient001_frame01"].tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]


def test_tags_by_table_need_no_mask(tiny_acdc: Path, tmp_path: Path) -> None:
    for mask in tiny_acdc.rglob("*_gt.nii.gz"):
        mask.unlink()
    (tmp_path / "t.csv").write_text("image,RV,MYO,LV\npatient001_frame01,0,1,1\n")
    slices = build(tiny_acdc, tags={"source": "csv", "path": tmp_path / "t.csv"})
    assert slices.tags[:4].tolist() == [[0, -1, -1]] * 4 and (slices.tags[4:] == -1).all()


def test_tags_of_other_images_are_refused(tiny_acdc: Path) -> None:
    data = config(tiny_acdc)
    dataset = AcdcDataset(data)
    cases = dataset.cases()[:3]
    tags = {cases[0].name: np.zeros((4, 3)), cases[1].name: np.zeros((5, 3))}
    with pytest.raises(UserError) as caught:
        SliceDataset(cases, tags, data.grid)
    assert "tags of 5 slices, expected tags of its 4" in str(caught.value) and "no tags" in str(caught.value)
    with pytest.raises(UserError, match="no case"):
        SliceDataset([], {}, data.grid)


def test_volumes_of_one_slice(tiny_acdc: Path) -> None:
    path = next(tiny_acdc.rglob("patient001_frame01.nii.gz"))
    for file in (path, path.with_name("patient001_frame01_gt.nii.gz")):
        image = nib.load(file)
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj)[:, :, 2:3], image.affine), file)
    slices = build(tiny_acdc)
    assert len(slices) == 21 and slices.cases[0].slices_in_volume == 1 and slices[0]["tags"].tolist() == HEART[2]


# ---- order ----------------------------------------------------------------------------------------------------------

TAGS = np.array(HEART * 25, np.int8)


def test_batches_are_full_and_repeat_no_slice() -> None:
    batches = batch_indices(0, 0, TAGS, 12)
    assert len(batches) == 8 and all(len(batch) == 12 for batch in batches)
    assert len(np.unique(np.concatenate(batches))) == 96


def test_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return np.concatenate(batch_indices(seed, epoch, TAGS, 10)).tolist()

    assert order(3, 4) == order(3, 4)
    assert order(3, 4) != order(3, 5) and order(3, 4) != order(4, 4) and order(3, 4) != order(4, 3)
    assert sorted(order(3, 4)) == list(range(100))


def test_small_sets_are_repeated_to_fill_a_batch() -> None:
    (batch,) = batch_indices(0, 0, TAGS[:4], 10)
    assert len(batch) == 10 and np.bincount(batch).tolist() in ([3, 3, 2, 2], *_turns([3, 3, 2, 2]))


def _turns(counts: list[int]) -> list[list[int]]:
    from itertools import permutations

    return [list(p) for p in permutations(counts)]


def test_discordant_slices_are_drawn_more_often() -> None:
    tags = np.array([[1, 1, 1]] * 90 + [[0, 1, 1]] * 10, np.int8)
    drawn = np.concatenate([np.concatenate(batch_indices(0, e, tags, 10, discordant_weight=9.0)) for e in range(50)])
    assert abs((drawn >= 90).mean() - 0.5) < 0.03  # 10 slices of weight 9 against 90 of weight 1


def test_unknown_tags_are_no_disagreement() -> None:
    assert discordant(np.array([[-1, 1], [-1, -1], [-1, 0]])).tolist() == [False, False, True]


def test_real_acdc_gives_the_known_tag_counts(real_acdc: Path) -> None:
    data = config(real_acdc)
    dataset = AcdcDataset(data)
    cases = dataset.cases()
    tags = np.concatenate(list(load_tags(dataset, cases, data).values()))
    masks = [np.asanyarray(nib.load(case.mask).dataobj) for case in cases[:6]]
    expected = [[int((mask[:, :, z] == k).any()) for k in (1, 2, 3)] for mask in masks for z in range(mask.shape[2])]
    assert tags[: len(expected)].tolist() == expected


def test_a_share_of_labelled_slices_is_in_every_batch() -> None:
    labelled = np.arange(40) < 3
    batches = shared_batches(5, 2, np.ones((40, 3), np.int8), 8, labelled, 0.5)
    again = shared_batches(5, 2, np.ones((40, 3), np.int8), 8, labelled, 0.5)
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]
    assert all(len(batch) == 8 and labelled[batch].sum() == 4 for batch in batches)
    others = [index for batch in batches for index in batch if not labelled[index]]
    assert len(others) == len(set(others)) == 36
    counts = np.bincount([index for batch in batches for index in batch if labelled[index]])
    assert counts.sum() == 36 and counts.max() - counts.min() <= 1


@pytest.mark.parametrize("labelled", [np.zeros(40, bool), np.ones(40, bool)])
def test_without_two_sorts_of_slices_the_share_changes_nothing(labelled: np.ndarray) -> None:
    tags = np.ones((40, 3), np.int8)
    plain = batch_indices(5, 2, tags, 8)
    assert [b.tolist() for b in shared_batches(5, 2, tags, 8, labelled, 0.5)] == [b.tolist() for b in plain]


def test_labels_can_be_exchanged_and_decide_the_share(tiny_acdc: Path) -> None:
    slices = build(tiny_acdc)
    drawn = np.full((4, 32, 24), IGNORE, np.uint8)
    drawn[1, 5, 5] = 2
    slices.set_labels({"patient001_frame07": drawn})
    slices.labelled_share = 0.25
    assert slices[5]["labels"][5, 5] == 2 and (slices[4]["labels"] == IGNORE).all()
    assert all(batch.tolist().count(5) == 2 for batch in slices.batch_order(0, 0, 8))
    slices.set_labels(None)
    assert "labels" not in slices[5]
