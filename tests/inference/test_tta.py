"""Views: each must come back to the slice's own grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from unia_med.inference.tta import predict_views


def softened(images: Tensor) -> Tensor:
    """Two classes by intensity, at each pixel on its own."""
    return torch.cat([1 - images, images], dim=1)


@pytest.mark.parametrize("shape", [(2, 1, 32, 48), (1, 1, 33, 47), (3, 1, 5, 7)])
def test_mirrored_views_return_to_their_place(shape: tuple[int, ...]) -> None:
    images = torch.rand(shape)
    torch.testing.assert_close(predict_views(softened, images, flips=True), softened(images))


def test_a_network_with_a_side_is_averaged() -> None:
    def left_is_foreground(images: Tensor) -> Tensor:
        ramp = torch.linspace(0, 1, images.shape[-1]).expand_as(images)
        return torch.cat([ramp, 1 - ramp], dim=1)

    views = predict_views(left_is_foreground, torch.rand(1, 1, 8, 9), flips=True)
    torch.testing.assert_close(views, torch.full_like(views, 0.5))


def test_scales_keep_smooth_images_and_sum_to_one() -> None:
    rows = torch.linspace(0, 1, 64)[:, None].expand(64, 96)
    images = rows[None, None].contiguous()
    views = predict_views(softened, images, flips=True, scales=(0.5, 1.0, 1.5))
    assert views.shape == (1, 2, 64, 96)
    torch.testing.assert_close(views.sum(1), torch.ones(1, 64, 96))
    torch.testing.assert_close(views, softened(images), atol=0.02, rtol=0)


def test_sides_are_multiples_of_the_stride() -> None:
    seen = []

    def remember(images: Tensor) -> Tensor:
        seen.append(tuple(images.shape[-2:]))
        return softened(images)

    predict_views(remember, torch.rand(1, 1, 100, 60), scales=(1.0, 1.25, 0.1))
    assert seen == [(100, 60), (128, 80), (16, 16)]


def test_no_scale_is_an_error() -> None:
    with pytest.raises(ValueError, match="scales"):
        predict_views(softened, torch.rand(1, 1, 16, 16), scales=())
