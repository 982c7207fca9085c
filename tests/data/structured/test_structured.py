"""Structured volumes: the same for a seed, tags that say what the masks hold, shares of classes as documented."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import label

from unia_med.config.load import parse_config
from unia_med.data.layouts.volumes import VolumesDataset
from unia_med.data.structured import lesions, objects
from unia_med.data.structured.body import SHAPE, SLICES, Blob, Body
from unia_med.data.structured.dataset import KINDS, draw_volume, write_dataset
from unia_med.data.weak_labels.tags import read_tags_csv
from unia_med.errors import UserError


def room() -> Body:
    """A body that is free everywhere but at its rim, so that drawing many is quick."""
    depth = np.pad(np.full((SHAPE[0] - 8, SHAPE[1] - 8), 60.0), 4, constant_values=-1.0)
    stack = np.stack([depth] * SLICES)
    return Body(np.full(stack.shape, 0.35, np.float32), stack, stack)


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_what_the_layout_reads_and_tags_what_masks_hold(kind: str, tmp_path: Path) -> None:
    tags = write_dataset(tmp_path / "set", kind, patients=2, seed=3)
    classes = KINDS[kind].classes
    settings = {"data": {"name": "volumes", "root": str(tmp_path / "set"), "classes": list(classes)}}
    cases = VolumesDataset(parse_config(settings).data).cases()
    assert [case.name for case in cases] == [f"{kind}001", f"{kind}002"] and all(case.mask for case in cases)
    read = read_tags_csv(tmp_path / "set" / "tags.csv", classes, {case.name: SLICES for case in cases})
    for case in cases:
        image, mask = nibabel.load(case.image), np.asanyarray(nibabel.load(case.mask).dataobj)
        assert image.shape == mask.shape == (*SHAPE, SLICES) and image.header.get_zooms() == (1.5, 1.5, 6.0)
        assert b"synthetic" in bytes(image.header["descrip"])
        held = [[value in mask[:, :, z] for value in range(1, len(classes) + 1)] for z in range(SLICES)]
        assert np.array_equal(read[case.name], np.array(held)) and np.array_equal(read[case.name], tags[case.name])


@pytest.mark.parametrize("kind", KINDS)
def test_a_volume_depends_on_seed_and_number_alone(kind: str) -> None:
    first, again = draw_volume(kind, 1, 4), draw_volume(kind, 1, 4)
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert not np.array_equal(first[0], draw_volume(kind, 1, 5)[0])
    assert not np.array_equal(first[0], draw_volume(kind, 2, 4)[0])


@pytest.mark.slow
def test_classes_occur_together_as_often_as_the_table_says() -> None:
    rng = np.random.default_rng(0)
    masks = np.concatenate([objects.draw_objects(rng, room())[1][1::3] for _ in range(90)])
    present = {name: (masks == value).any((1, 2)) for value, name in enumerate(objects.CLASSES, start=1)}
    margin = 4 * np.sqrt(0.25 / len(masks))
    for names in [*combinations(objects.CLASSES, 1), *combinations(objects.CLASSES, 2)]:
        expected = sum(share for scene, share in objects.SCENES.items() if set(names) <= set(scene))
        found = np.all([present[name] for name in names], 0).mean()
        assert found == pytest.approx(expected, abs=0 if expected == 0 else margin), names
    assert sum(objects.SCENES.values()) == pytest.approx(1)
    assert not (present["stripes"] & present["dots"]).any()
    for name in objects.CLASSES:  # slices that hold nothing else
        assert (present[name] & ~np.any([present[other] for other in objects.CLASSES if other != name], 0)).any()


def test_objects_have_the_documented_sizes_and_do_not_touch() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        for mask in objects.draw_objects(rng, room())[1][1::3]:
            pieces, count = label(mask > 0, np.ones((3, 3)))
            areas = np.bincount(pieces.ravel())[1:]
            low, high = (np.pi * radius**2 for radius in objects.RADIUS)
            # The modes of an outline change its area by at most (1 + sum of amplitudes) squared.
            assert all(0.6 * low < area < 1.6 * high for area in areas)
            assert all(len(np.unique(mask[pieces == piece])) == 1 for piece in range(1, count + 1))


def test_textures_differ_in_form_and_not_in_strength() -> None:
    rng = np.random.default_rng(2)
    for name in objects.CLASSES:
        patterns = np.stack([objects.texture(rng, name) for _ in range(20)])
        assert abs(patterns.mean()) < 0.15 and patterns.std() == pytest.approx(1, abs=0.15), name
    one = objects.texture(rng, "stripes")
    spectrum = np.sort(np.abs(np.fft.fft2(one)).ravel())[::-1] ** 2
    assert spectrum[:8].sum() > 0.6 * spectrum.sum()  # one wave; spots and blotches spread over many


def test_lesions_vary_in_number_and_size_and_stay_in_their_organ() -> None:
    rng = np.random.default_rng(3)
    body = room()
    counts, largest = [], []
    for _ in range(40):
        mask = lesions.draw_lesions(rng, body)[1]
        pieces, count = label(mask)
        counts.append(count)
        largest += [max((pieces == piece).sum((1, 2))) for piece in range(1, count + 1)]
        assert not mask[body.host <= 0].any()
    assert 0.1 < np.mean(np.array(counts) == 0) < 0.45 and max(counts) >= 3
    radii = np.sqrt(np.array(largest) / np.pi)
    low, high = lesions.RADIUS
    assert 0.8 * low < radii.min() < 1.2 * low and 0.8 * high < radii.max() < 1.3 * high


def test_blobs_without_waves_are_ellipses() -> None:
    depth = Blob((40.0, 50.0), 12.0, 1.44, 0.3, ()).depth()
    assert (depth > 0).sum() == pytest.approx(np.pi * 144, rel=0.02)
    rows, columns = np.nonzero(depth > 0)
    covariance = np.cov(rows, columns)
    values, vectors = np.linalg.eigh(covariance)
    assert np.sqrt(values[1] / values[0]) == pytest.approx(1.44, rel=0.03)
    assert abs(np.arctan(vectors[1, 1] / vectors[0, 1])) == pytest.approx(0.3, abs=0.03)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="lesions"):
        write_dataset(tmp_path / "x", "lesion")
    with pytest.raises(UserError, match="1 to 999"):
        write_dataset(tmp_path / "x", "lesions", patients=0)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="not empty"):
        write_dataset(tmp_path, "lesions", patients=1)
    assert not (tmp_path / "x").exists() and len(list(tmp_path.iterdir())) == 1
