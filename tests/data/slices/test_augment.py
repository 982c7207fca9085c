from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor

from unia_med.config.schema import AugmentConfig
from unia_med.data.slices.augment import (
    BatchAugmentation,
    affine_matrices,
    blur,
    inside,
    sampling_grid,
    step_generator,
    warp,
)
from unia_med.labels import IGNORE

REST = {
    "rotate_degrees": 0,
    "scale": (1, 1),
    "shear": 0,
    "translate": 0,
    "mirror": False,
    "gamma": (1, 1),
    "contrast": (1, 1),
    "brightness": 0,
    "noise": 0,
    "blur_px": 0,
    "bias_field": 0,
}


def images(count: int = 3, size: tuple[int, int] = (24, 30), seed: int = 0) -> Tensor:
    return torch.rand(count, 1, *size, generator=torch.Generator().manual_seed(seed))


def only(**settings: object) -> BatchAugmentation:
    return BatchAugmentation(AugmentConfig(**{**REST, **settings}))


def grid_of(
    size: tuple[int, int],
    angle: float = 0.0,
    zoom: float = 1.0,
    shear: float = 0.0,
    shift: tuple[float, float] = (0, 0),
    side: float = 1,
) -> Tensor:
    one = torch.ones(1)
    return sampling_grid(
        affine_matrices(one * angle, one * zoom, one * shear, torch.tensor([shift]).float(), one * side), size
    )


def moved(values: Tensor, **motion: object) -> tuple[Tensor, Tensor]:
    grid = grid_of(tuple(values.shape[-2:]), **motion)
    valid = inside(grid)
    return warp(values, grid, valid), valid


# ---- rest and seeds -------------------------------------------------------------------------------------------------


def test_everything_at_rest_changes_nothing() -> None:
    x = images()
    scores, labels = torch.softmax(torch.randn(3, 4, 24, 30), 1), torch.randint(0, 4, (3, 24, 30))
    out, maps = only()(x, {"scores": scores, "labels": labels}, step_generator(0, 0))
    assert torch.equal(out, x) and torch.equal(maps["scores"], scores) and torch.equal(maps["labels"], labels)
    assert maps["valid"].shape == (3, 1, 24, 30) and (maps["valid"] == 1).all()


def test_motion_by_nothing_changes_nothing() -> None:
    x = images(1)
    out, valid = moved(x)
    torch.testing.assert_close(out, x, atol=2e-5, rtol=0)
    assert (valid == 1).all()


def test_the_same_step_draws_the_same_and_others_do_not() -> None:
    augment, x = BatchAugmentation(AugmentConfig()), images()
    before = x.clone()

    def run(seed: int, step: int, rank: int = 0) -> Tensor:
        return augment(x, {}, step_generator(seed, step, rank))[0]

    assert torch.equal(run(1, 2, 3), run(1, 2, 3))
    others = [run(2, 2, 3), run(1, 3, 3), run(1, 2, 4), run(2, 1, 3)]
    assert not any(torch.equal(run(1, 2, 3), other) for other in others)
    assert torch.equal(x, before)


def test_slices_of_a_batch_move_by_their_own_amounts() -> None:
    x = images(1).expand(4, 1, 24, 30)
    out, _ = BatchAugmentation(AugmentConfig())(x, {}, step_generator(0, 0))
    assert all(not torch.equal(out[0], out[k]) for k in range(1, 4))


# ---- geometry -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quarter", [1, 2, 3])
def test_quarter_turns_equal_rot90(quarter: int) -> None:
    x, labels = images(1, (17, 17)), torch.randint(0, 4, (1, 17, 17))
    out, valid = moved(x, angle=quarter * math.pi / 2)
    torch.testing.assert_close(out, torch.rot90(x, quarter, (2, 3)), atol=1e-5, rtol=0)
    turned, _ = moved(labels, angle=quarter * math.pi / 2)
    assert torch.equal(turned, torch.rot90(labels, quarter, (1, 2))) and (valid == 1).all()


def test_half_turn_on_an_image_that_is_not_square() -> None:
    x = images(1, (12, 20))
    torch.testing.assert_close(moved(x, angle=math.pi)[0], torch.rot90(x, 2, (2, 3)), atol=1e-5, rtol=0)


def test_quarter_turn_of_a_wide_image_keeps_lengths() -> None:
    x = torch.zeros(1, 1, 21, 41)
    x[0, 0, 10, 14:27] = 1  # a bar of 13 px through the centre
    out, valid = moved(x, angle=math.pi / 2)
    assert out[0, 0, 4:17, 20].min() > 0.99 and out.sum() == pytest.approx(13, abs=1e-3)
    assert not valid[0, 0, 10, 0] and valid[0, 0, 10, 20]


def test_zoom_shift_and_mirror_by_hand() -> None:
    x = images(1, (16, 16))
    torch.testing.assert_close(moved(x, shift=(3, -2))[0][..., 2:, :-3], x[..., :-2, 3:], atol=1e-5, rtol=0)
    torch.testing.assert_close(moved(x, side=-1)[0], x.flip(3), atol=1e-5, rtol=0)
    disc = (torch.cartesian_prod(torch.arange(33.0), torch.arange(33.0)) - 16).norm(dim=1).view(1, 1, 33, 33) < 6
    area = moved(disc.float(), zoom=1.5)[0].sum() / disc.sum()
    assert area == pytest.approx(1.5**2, rel=0.03)


def test_motion_agrees_with_scipy() -> None:
    x = images(1, (20, 26))
    angle, zoom, shear, shift = 0.3, 1.2, 0.15, (1.5, -2.0)
    out, valid = moved(x, angle=angle, zoom=zoom, shear=shear, shift=shift)
    rotate = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / zoom
    matrix = rotate @ np.array([[1, shear], [0, 1]])  # source (x, y) of an output (x, y), both from the centre
    rows = matrix[::-1, ::-1]  # the same for (row, column)
    centre = np.array([9.5, 12.5])
    expected = ndimage.affine_transform(
        x[0, 0].numpy(), rows, centre + np.array(shift[::-1]) - rows @ centre, order=1, mode="nearest"
    )
    np.testing.assert_allclose(out[0, 0].numpy(), expected, atol=1e-4)
    positions = np.stack(np.meshgrid(np.arange(20), np.arange(26), indexing="ij"), -1) - centre
    source = positions @ rows.T + centre + np.array(shift[::-1])
    truth = ((source >= -0.5) & (source <= np.array([19.5, 25.5]))).all(-1)
    assert (valid[0, 0].numpy().astype(bool) == truth).all()


def test_outside_is_dark_invalid_and_ignored() -> None:
    x, labels = images() + 0.5, torch.ones(3, 24, 30, dtype=torch.int64)
    out, maps = only(rotate_degrees=60, translate=0.3)(x, {"labels": labels}, step_generator(0, 1))
    outside = maps["valid"][:, 0] == 0
    assert 0.02 < outside.float().mean() < 0.9 and maps["valid"].dtype == torch.float32
    assert (out[:, 0][outside] == 0).all() and (out[:, 0][~outside] > 0.4).all()
    assert (maps["labels"][outside] == IGNORE).all() and (maps["labels"][~outside] == 1).all()


def test_outside_stays_dark_after_intensity_changes() -> None:
    out, maps = BatchAugmentation(AugmentConfig(translate=0.3))(images(), {}, step_generator(0, 1))
    outside = maps["valid"] == 0
    assert outside.any() and (out[outside] == 0).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_labels_never_get_a_new_value(dtype: torch.dtype) -> None:
    labels = torch.tensor([0, 3, IGNORE], dtype=dtype)[torch.randint(0, 3, (3, 24, 30))]
    _, maps = BatchAugmentation(AugmentConfig())(images(), {"labels": labels}, step_generator(0, 5))
    assert maps["labels"].dtype == dtype and maps["labels"].shape == labels.shape
    assert set(maps["labels"].unique().tolist()) <= {0, 3, IGNORE}


def test_scores_stay_normalised_and_move_with_the_image() -> None:
    classes = torch.randint(0, 4, (3, 6, 6)).repeat_interleave(5, 1).repeat_interleave(5, 2)
    scores = torch.nn.functional.one_hot(classes, 4).permute(0, 3, 1, 2).float()
    x = classes[:, None] / 3.0
    out, maps = only(rotate_degrees=40, scale=(0.7, 1.4), shear=0.2)(x, {"scores": scores}, step_generator(0, 2))
    torch.testing.assert_close(maps["scores"].sum(1), torch.ones(3, 30, 30))
    expected = (maps["scores"] * torch.arange(4).view(1, 4, 1, 1) / 3).sum(1) * maps["valid"][:, 0]
    torch.testing.assert_close(out[:, 0], expected, atol=1e-5, rtol=0)


def test_ranges_are_kept() -> None:
    augment = only(rotate_degrees=20, scale=(0.8, 1.25), translate=0.1)
    matrices = augment._matrices(torch.zeros(4000, 1, 20, 40), step_generator(0, 0))
    zoom = 1 / matrices[:, :, :2].det().sqrt()
    angle = torch.atan2(matrices[:, 1, 0], matrices[:, 0, 0]).rad2deg()
    shift = matrices[:, :, 2].abs().amax(0)
    assert 0.8 <= zoom.min() < 0.81 and 1.24 < zoom.max() <= 1.2501 and abs(zoom.log().mean()) < 0.01
    assert 19.8 < angle.max() <= 20.001 and -20.001 <= angle.min() < -19.8 and abs(angle.mean()) < 0.5
    assert 3.9 < shift[0] <= 4 and 1.9 < shift[1] <= 2


def test_mirror_flips_about_half_of_the_slices_along_the_width() -> None:
    x = images(64, (8, 10))
    out, _ = only(mirror=True)(x, {}, step_generator(0, 0))
    same = [(out[k] - x[k]).abs().max() < 1e-4 for k in range(64)]
    flipped = [(out[k] - x[k].flip(2)).abs().max() < 1e-4 for k in range(64)]
    assert all(a != b for a, b in zip(same, flipped, strict=True)) and 16 < sum(flipped) < 48


# ---- intensity ------------------------------------------------------------------------------------------------------


def test_blur_agrees_with_scipy() -> None:
    x, sigma = images(3), torch.tensor([0.0, 0.6, 1.3])
    out = blur(x, sigma, 1.5)
    torch.testing.assert_close(out[0], x[0])
    for k in (1, 2):
        expected = ndimage.gaussian_filter(x[k, 0].numpy(), float(sigma[k]), mode="nearest", radius=5)
        np.testing.assert_allclose(out[k, 0].numpy(), expected, atol=1e-5)


def test_blur_of_several_channels_uses_the_width_of_their_slice() -> None:
    x = torch.rand(2, 3, 9, 11)
    out = blur(x, torch.tensor([0.3, 1.0]), 1.0)
    alone = torch.stack([blur(x[:, c : c + 1], torch.tensor([0.3, 1.0]), 1.0)[:, 0] for c in range(3)], 1)
    torch.testing.assert_close(out, alone)


def test_gamma_is_a_power_in_its_range() -> None:
    x = images(200)
    out, _ = only(gamma=(0.7, 1.5))(x, {}, step_generator(0, 0))
    powers = (out.log() / x.log()).flatten(1).median(1).values
    assert 0.7 <= powers.min() < 0.72 and 1.48 < powers.max() <= 1.501
    torch.testing.assert_close(out, x ** powers.view(-1, 1, 1, 1), atol=1e-3, rtol=0)


def test_contrast_keeps_the_mean_and_brightness_shifts_it() -> None:
    x = 0.4 + 0.2 * images(100)
    mean, spread = x.mean((1, 2, 3)), x.std((1, 2, 3))
    out, _ = only(contrast=(0.5, 1.5))(x, {}, step_generator(0, 0))
    torch.testing.assert_close(out.mean((1, 2, 3)), mean, atol=1e-4, rtol=0)
    factor = out.std((1, 2, 3)) / spread
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5001
    out, _ = only(brightness=0.2)(x, {}, step_generator(0, 0))
    shift = out.mean((1, 2, 3)) - mean
    assert -0.2001 <= shift.min() < -0.15 and 0.15 < shift.max() <= 0.2001
    torch.testing.assert_close(out - x, shift.view(-1, 1, 1, 1).expand_as(x), atol=1e-5, rtol=0)


def test_bias_field_is_smooth_positive_and_bounded() -> None:
    x = torch.full((20, 1, 64, 64), 0.5)
    out, _ = only(bias_field=0.4)(x, {}, step_generator(0, 0))
    field = (out / x).log()
    assert field.abs().max() <= 0.4001 and field.std((1, 2, 3)).min() > 0.02
    assert (field[..., 1:] - field[..., :-1]).abs().max() < 0.06  # a full swing takes a grid cell of 21 px


def test_noise_has_its_width_and_no_pattern() -> None:
    x = torch.full((50, 1, 40, 40), 0.5)
    out, _ = only(noise=0.1)(x, {}, step_generator(0, 0))
    width = (out - x).std((1, 2, 3))
    assert width.min() < 0.02 and 0.08 < width.max() <= 0.105
    a, b = (out - x)[:, 0, :, 1:], (out - x)[:, 0, :, :-1]
    assert abs((a * b).mean() / (a * a).mean()) < 0.02


def test_intensities_stay_in_range_and_maps_are_left_alone() -> None:
    x, scores = images(8), torch.softmax(torch.randn(8, 4, 24, 30), 1)
    strong = only(gamma=(0.3, 3), contrast=(0.2, 3), brightness=0.5, noise=0.3, blur_px=2, bias_field=1)
    out, maps = strong(x, {"scores": scores}, step_generator(0, 0))
    assert out.min() >= 0 and out.max() <= 1 and torch.isfinite(out).all()
    assert torch.equal(maps["scores"], scores) and (maps["valid"] == 1).all()


def test_slices_smaller_than_the_blur() -> None:
    out, _ = only(blur_px=3)(images(2, (4, 3)), {}, step_generator(0, 0))
    assert out.shape == (2, 1, 4, 3) and torch.isfinite(out).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_gives_the_same_on_the_gpu() -> None:
    augment, x = BatchAugmentation(AugmentConfig()), images()
    here, maps = augment(x, {"labels": torch.ones(3, 24, 30, dtype=torch.uint8)}, step_generator(0, 0))
    there, gpu_maps = augment(
        x.cuda(), {"labels": torch.ones(3, 24, 30, dtype=torch.uint8).cuda()}, step_generator(0, 0)
    )
    torch.testing.assert_close(there.cpu(), here, atol=1e-3, rtol=0)
    assert (gpu_maps["valid"].cpu() == maps["valid"]).float().mean() > 0.99
