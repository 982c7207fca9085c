"""Multi-scale flip maps against the formula written out, and their normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.localise.cam import multi_scale_maps
from unia_med.localise.normalise import mean_peak, normalise_maps

WEIGHT = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))


class Maps:
    """Stride 4 maps of an image, and their negative; counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        maps = F.conv2d(images, WEIGHT, stride=4)
        return maps, -maps


def resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=False)


def test_scales_and_mirrors_as_written() -> None:
    images, maps = torch.rand(3, 1, 16, 24), Maps()
    expected = torch.zeros(3, 2, 16, 24)
    for scale in (1.0, 0.5, 1.25):
        small = resized(images, (int(scale * 16), int(scale * 24)))
        plain, mirrored = resized(maps(small)[1], (16, 24)), resized(maps(small.flip(-1))[1], (16, 24)).flip(-1)
        expected += torch.maximum(plain, mirrored).clamp(min=0)
    found = multi_scale_maps(images, maps, scales=(1.0, 0.5, 1.25), flip=True)
    assert torch.allclose(found[1], expected, atol=1e-6)


def test_scaled_sides_are_cut_off_as_torch_does_it() -> None:
    sizes: list[torch.Size] = []
    images = torch.rand(1, 1, 33, 47)
    multi_scale_maps(images, lambda view: sizes.append(view.shape[-2:]) or (view,), (0.5, 1.75))
    assert sizes == [F.interpolate(images, scale_factor=scale).shape[-2:] for scale in (0.5, 1.75)]


def test_known_maps_save_the_pass_at_scale_one() -> None:
    images, maps = torch.rand(2, 1, 16, 16), Maps()
    known = maps(images)
    fresh = multi_scale_maps(images, maps, scales=(1.0, 0.5))
    maps.calls = 0
    reused = multi_scale_maps(images, maps, scales=(1.0, 0.5), unscaled=known)
    assert maps.calls == 1
    assert all(torch.equal(a, b) for a, b in zip(fresh, reused, strict=True))
    assert not reused[0].requires_grad


def test_normalisation_by_hand() -> None:
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 4.0]], [[3.0, 3.0], [3.0, 3.0]], [[0.0, 0.01], [0.02, 0.03]]]])
    plain = normalise_maps(maps, from_minimum=True)
    assert torch.allclose(plain[0, 0], torch.tensor([[0, 0.25], [0.5, 1]]), atol=1e-4)
    assert plain[0, 1].abs().max() == 0  # a constant map says nothing
    assert plain[0, 2].max() > 0.99
    by_peak = normalise_maps(maps, torch.tensor([[True, True, False]]))
    assert torch.allclose(by_peak[0, :2], torch.tensor([[[0, 0.25], [0.5, 1]], [[1.0, 1], [1, 1]]]), atol=1e-4)
    assert by_peak[0, 2].abs().max() == 0


def test_normalised_together_classes_keep_their_order_and_absent_ones_do_not_count() -> None:
    maps = torch.tensor([[[[-1.0, 2.0]], [[4.0, 1.0]], [[8.0, 8.0]]]])
    tags = torch.tensor([[1, -1, 0]])
    expected = torch.tensor([[[[0.0, 0.5]], [[1.0, 0.25]], [[0.0, 0.0]]]])
    assert torch.allclose(normalise_maps(maps, tags != 0, "slice"), expected, atol=1e-4)
    assert normalise_maps(maps, torch.zeros(1, 3), "slice").abs().max() == 0


def test_a_given_peak_keeps_the_order_of_slices() -> None:
    maps = torch.tensor([[[[1.0, 2.0]]], [[[8.0, 4.0]]]])
    found = normalise_maps(maps, scope="slice", peak=torch.tensor(4.0))
    assert torch.allclose(found, torch.tensor([[[[0.25, 0.5]]], [[[1.0, 1.0]]]]), atol=1e-4)
    unknown = normalise_maps(maps, scope="slice", peak=torch.tensor(0.0))
    assert torch.equal(unknown, normalise_maps(maps, scope="slice"))


def test_mean_peak_is_over_slices_that_show_something() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[9.0, 0.0]]], [[[6.0, 4.0]], [[-1.0, 0.0]]], [[[50.0, 50.0]], [[50.0, 0.0]]]])
    tags = torch.tensor([[1, 0], [1, -1], [0, 0]])
    assert float(mean_peak(maps, tags)) == 4.0
    assert float(mean_peak(maps, torch.zeros(3, 2))) == 0.0


def test_normalisation_gives_no_gradient_and_single_precision() -> None:
    maps = torch.rand(1, 1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
    result = normalise_maps(maps)
    assert result.dtype == torch.float32 and not result.requires_grad
