"""A class that maps miss is found as the region that only the slices with its tag show."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unia_med.config.prior import ProposalsConfig
from unia_med.labels import TAG_ABSENT, TAG_PRESENT, TAG_UNKNOWN
from unia_med.priors.proposed_regions import ProposedRegions

SETTINGS = ProposalsConfig(classes=["A"], levels=[0.4], reach=0.6, contrast="bright")
TAGS = np.array([TAG_PRESENT, TAG_ABSENT, TAG_PRESENT, TAG_ABSENT, TAG_UNKNOWN, TAG_PRESENT], np.int8)
A, B = 1, 2


def volume(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Six slices: probabilities (Z, 3, H, W), tags (Z, 2), image, and where A is (Z, H, W).

    B is a bright disc in a dark wall; the maps find it, and give a third of it to A. Every slice has a round
    distractor beside it; where A is tagged, and in the slice whose tag is unknown, there is an oblong region, too.
    """
    generator = np.random.default_rng(seed)
    y, x = np.indices((64, 64))
    image = np.full((6, 64, 64), 0.1)
    wall, blood = (((y - 32) ** 2 + (x - 32) ** 2) <= radius**2 for radius in (12, 7))
    image[:, wall], image[:, blood] = 0.2, 1.0
    where = np.zeros((6, 64, 64), bool)
    for index, tag in enumerate(TAGS):
        sides = [(32, 51), (32, 13), (51, 32), (13, 32)]
        generator.shuffle(sides)
        (row, column), (other, across) = sides[:2]
        image[index][(y - row) ** 2 + (x - column) ** 2 <= 16] = 0.8
        if tag != TAG_ABSENT:
            long, short = (9, 3) if other == 32 else (3, 9)
            where[index] = (abs(y - other) <= long) & (abs(x - across) <= short)
    image[where] = 0.8
    image += generator.normal(0, 0.01, image.shape)
    probabilities = np.zeros((6, 3, 64, 64), np.float32)
    probabilities[:, A], probabilities[:, B] = 0.3 * wall, 0.6 * wall
    probabilities[:, 0] = 1 - probabilities[:, 1:].sum(1)
    return probabilities, np.stack((TAGS, np.full(6, TAG_PRESENT)), 1), image, where


def fitted(labels: tuple[int, ...] = (A,), count: int = 20) -> ProposedRegions:
    found = ProposedRegions(SETTINGS, labels, 0)
    found.fit(volume(seed)[:3] for seed in range(count))
    return found


def _scores(regions: ProposedRegions) -> np.ndarray:
    """Return the scores of the regions of another volume."""
    probabilities, _, image, _ = volume(100)
    return regions._choices[A].scores(regions._regions(probabilities, image).features)


def test_the_region_of_the_tagged_class_is_sure_and_what_it_had_elsewhere_is_the_other_classes() -> None:
    regions = fitted()
    hits = []
    for seed in range(100, 110):
        probabilities, tags, image, where = volume(seed)
        found = regions.added(probabilities, tags, image)
        np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
        assert found.dtype == np.float32 and found.min() >= 0
        for index in np.flatnonzero(TAGS == TAG_PRESENT):
            sure = found[index, A] > 0.9
            hits.append((sure & where[index]).sum() > 0.8 * where[index].sum() and not (sure & ~where[index]).any())
            np.testing.assert_allclose(found[index, A][~sure], 0, atol=1e-6)
            np.testing.assert_allclose(found[index, B][~sure], probabilities[index, 1:].sum(0)[~sure], atol=1e-5)
    assert np.mean(hits) > 0.9


@pytest.mark.parametrize("tag", [TAG_ABSENT, TAG_UNKNOWN])
def test_without_a_tag_nothing_is_added(tag: int) -> None:
    probabilities, tags, image, _ = volume(100)
    found = fitted().added(probabilities, tags, image)
    np.testing.assert_array_equal(found[TAGS == tag], probabilities[TAGS == tag])


def test_slices_of_unknown_tag_are_not_learned_from() -> None:
    """Such slices all show A: taken as slices without it, they would teach the opposite."""
    known, unknown = ProposedRegions(SETTINGS, (A,), 0), ProposedRegions(SETTINGS, (A,), 0)
    volumes = [volume(seed)[:3] for seed in range(8)]
    known.fit(tuple(part[TAGS != TAG_UNKNOWN] for part in one) for one in volumes)
    unknown.fit(volumes)
    one, other = (_scores(regions) for regions in (known, unknown))
    np.testing.assert_allclose(one, other, atol=0.2)  # the unknown slices take part in the split into bright and dark


def test_what_the_class_alone_had_elsewhere_is_background() -> None:
    regions = fitted()
    probabilities, tags, image, _ = volume(100)
    probabilities[:, :, 60, 60] = (0.6, 0.4, 0)
    found = regions.added(probabilities, tags, image)[:, :, 60, 60]
    np.testing.assert_allclose(found[TAGS == TAG_PRESENT], [[1, 0, 0]] * 3, atol=1e-6)
    np.testing.assert_allclose(found[TAGS == TAG_ABSENT], [[0.6, 0.4, 0]] * 2, atol=1e-6)


def test_each_slice_is_learned_with_its_own_tag() -> None:
    """Volumes that end with other slices than they began with; the order of slices says nothing to a region."""
    turned, plain = ProposedRegions(SETTINGS, (A,), 0), ProposedRegions(SETTINGS, (A,), 0)
    volumes = [volume(seed)[:3] for seed in range(4)]
    plain.fit(volumes)
    turned.fit(tuple(np.roll(part, seed, 0) for part in one) for seed, one in enumerate(volumes))
    one, other = (_scores(regions) for regions in (plain, turned))
    np.testing.assert_allclose(one, other, atol=0.2)


def test_two_classes_do_not_choose_the_same_region() -> None:
    """A third class, which is tagged as A is; every region is proposed at two levels."""
    also = 3

    def three(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        probabilities, tags, image, _ = volume(seed)
        return np.pad(probabilities, ((0, 0), (0, 1), (0, 0), (0, 0))), np.column_stack((tags, TAGS)), image

    regions = ProposedRegions(SETTINGS.model_copy(update={"levels": [0.3, 0.6]}), (A, also), 0)
    regions.fit(three(seed) for seed in range(20))
    found = regions.added(*three(100))
    for index in np.flatnonzero(TAGS == TAG_PRESENT):
        both = [found[index, label] > 0.9 for label in (A, also)]
        assert all(one.any() for one in both) and not (both[0] & both[1]).any()


def test_tags_that_are_all_alike_change_nothing() -> None:
    probabilities, tags, image, _ = volume(100)
    tags[:, 0] = TAG_PRESENT
    regions = ProposedRegions(SETTINGS, (A,), 0)
    regions.fit([(probabilities, tags, image)])
    np.testing.assert_array_equal(regions.added(probabilities, tags, image), probabilities)


def test_channels_are_averaged_and_the_object_is_one_piece() -> None:
    """A second, smaller object somewhere else has no regions of its own."""
    regions = fitted()
    probabilities, tags, image, _ = volume(100)
    plain = regions.added(probabilities, tags, image)
    halves = np.stack((image * 1.5, image * 0.5), 1)
    np.testing.assert_allclose(regions.added(probabilities, tags, halves), plain, atol=1e-6)
    extra = probabilities.copy()
    extra[:, 0, 2:5, 2:5], extra[:, B, 2:5, 2:5] = 0, 1
    found = regions.added(extra, tags, image)
    np.testing.assert_allclose(found[:, A], plain[:, A], atol=1e-6)


def test_a_class_that_the_maps_have_found_by_now_is_chosen_too() -> None:
    """Were it part of the object, only distractors would be left; its stray pixels inside the others change nothing.

    The map is wider than the class, and reaches the object.
    """
    regions = fitted()
    probabilities, tags, image, where = volume(100)
    later = probabilities.copy()
    where = np.stack([ndimage.binary_dilation(plane, iterations=5) for plane in where]) & (probabilities[:, 0] > 0.5)
    later[:, :, 31:33, 31:33] = np.array([0.1, 0.8, 0.1])[:, None, None]
    later = np.where(where[:, None], np.array([0.1, 0.8, 0.1])[:, None, None], later).astype(np.float32)
    plain, found = regions.added(probabilities, tags, image), regions.added(later, tags, image)
    chosen = TAGS == TAG_PRESENT
    np.testing.assert_array_equal(found[chosen, A] > 0.9, plain[chosen, A] > 0.9)
