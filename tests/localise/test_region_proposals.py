"""Candidate regions beside an object, against drawings whose pieces, distances and areas are known."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.localise.region_proposals import FEATURES, propose

DARK, BRIGHT, AROUND = 0.2, 1.0, 0.1


def disc(row: int, column: int, radius: float, side: int = 96) -> np.ndarray:
    y, x = np.indices((side, side))
    found: np.ndarray = (y - row) ** 2 + (x - column) ** 2 <= radius**2
    return found


def drawn(near: float = 0.8, far: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """A wall around bright blood, a near piece 4 pixels from the wall, a far one 28 pixels: image, object (2, H, W).

    The second slice shows nothing.
    """
    image, wall = np.full((2, 96, 96), AROUND), disc(48, 36, 20)
    image[0][wall], image[0][disc(48, 36, 12)] = DARK, BRIGHT
    image[0, 40:58, 60:72], image[0, 40:58, 84:92] = near, far
    return image, np.stack((wall, np.zeros_like(wall)))


def test_the_pieces_within_reach_are_proposed_once_per_level() -> None:
    image, found = drawn()
    near = propose(image, found, (0.3, 0.6), 0.45, "bright")
    assert list(near.slices) == [0, 0] and near.features.shape == (2, FEATURES)
    for mask in near.masks:
        assert mask[44:54, 62:70].all() and not mask[:, 76:].any() and not (mask & found[0]).any()
    both = propose(image, found, (0.3, 0.6), 2.0, "bright")
    assert len(both.masks) == 4 and both.masks[:, 44:54, 86:90].all((1, 2)).sum() == 2


@pytest.mark.parametrize("contrast", ["bright", "dark", "both"])
def test_pieces_are_brighter_or_darker_than_a_level(contrast: str) -> None:
    """A bright and a dark piece in surroundings between the levels, which are too large to be a region."""
    image, found = drawn(near=-0.2)
    image[image == AROUND] = 0.6
    image[0, 20:36, 62:74] = 1.0
    regions = propose(image, found, (0.3, 0.7), 0.6, contrast)
    shown = [name for name, at in (("bright", (28, 68)), ("dark", (49, 66))) if regions.masks[:, at[0], at[1]].any()]
    assert shown == (["bright", "dark"] if contrast == "both" else [contrast])
    assert len(regions.masks) == len(shown)


def test_a_region_is_described_by_brightness_area_distance_and_shape() -> None:
    image, found = drawn()
    (mask,), _, (features,) = propose(image, found, (0.4,), 0.45, "bright")
    area = found[0].sum()
    radius = np.sqrt(area / np.pi)
    rows, columns = np.nonzero(mask)
    inner = np.argwhere(found[0])
    apart = np.array([np.sqrt(((inner - one) ** 2).sum(1).min()) for one in np.argwhere(mask)]) / radius
    padded = np.pad(mask, 1)
    around = np.stack([np.roll(padded, step, axis) for axis in (0, 1) for step in (-1, 1)])[:, 1:-1, 1:-1]
    border = ~around.all(0)[mask]
    assert features[2] == pytest.approx(np.log(mask.sum() / area))
    assert features[3] == pytest.approx((apart[border] < 0.2).mean()) and 0 < features[3] < 1
    assert features[4] == pytest.approx(apart.min()) and features[5] == pytest.approx(apart.mean())
    assert features[6] == pytest.approx(1, abs=0.05)  # nearly a rectangle
    long, short = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert features[7] == pytest.approx(np.sqrt(1 - (short / long) ** 2), abs=0.03)
    middle = (0.8 - DARK) / (BRIGHT - DARK)  # the object's parts are blurred a little
    assert features[0] == pytest.approx(middle, abs=0.08) and 0 < features[1] < 0.2 and features[8] == 0


def test_a_region_is_no_larger_than_the_object_in_its_own_slice() -> None:
    """The piece has 216 pixels: less than the object's largest section, more than its smallest."""
    image, found = drawn()
    image, found = np.stack([image[0]] * 2), np.stack([found[0]] * 2)
    small = disc(48, 36, 6)
    image[1, found[1] & ~small] = AROUND
    image[1, disc(48, 36, 4)] = BRIGHT
    image[1, 40:58, 60:72] = AROUND
    image[1, 40:58, 46:58] = 0.8
    found[1] &= small
    assert found[1].sum() < 18 * 12 < found[0].sum()
    assert list(propose(image, found, (0.4,), 0.45, "bright").slices) == [0]
    image[1, 40:47, 46:58] = AROUND
    image[1, 53:58, 46:58] = AROUND
    assert list(propose(image, found, (0.4,), 0.45, "bright").slices) == [0, 1]


def test_a_region_at_the_images_border_says_so() -> None:
    image, found = drawn()
    shifted, moved = np.roll(image, 24, 2), np.roll(found, 24, 2)
    assert propose(shifted, moved, (0.4,), 0.45, "bright").features[:, 8].tolist() == [1.0]


def test_the_unit_of_brightness_and_the_size_of_a_pixel_do_not_matter() -> None:
    image, found = drawn()
    one = propose(image, found, (0.4,), 0.45, "bright")
    other = propose(image * 900 - 70, found, (0.4,), 0.45, "bright")
    np.testing.assert_array_equal(one.masks, other.masks)
    np.testing.assert_allclose(one.features, other.features, atol=1e-9)
    finer = propose(image.repeat(2, 1).repeat(2, 2), found.repeat(2, 1).repeat(2, 2), (0.4,), 0.45, "bright")
    np.testing.assert_allclose(finer.features, one.features, atol=0.12)


def test_specks_and_surroundings_far_larger_than_the_object_are_no_regions() -> None:
    image, found = drawn()
    image[0, 20:23, 60:63] = 1.0
    assert len(propose(image, found, (0.4,), 0.45, "bright").masks) == 1
    image[image == AROUND] = 0.7
    assert len(propose(image, found, (0.4,), 0.45, "bright").masks) == 0


@pytest.mark.parametrize("case", ["nothing found", "no contrast"])
def test_without_an_object_or_its_contrast_nothing_is_proposed(case: str) -> None:
    image, found = drawn()
    image, found = (image, found & False) if case == "nothing found" else (np.full_like(image, 0.3), found)
    regions = propose(image, found, (0.4,), 0.45, "both")
    assert regions.masks.shape == (0, 96, 96) and regions.features.shape == (0, FEATURES)
