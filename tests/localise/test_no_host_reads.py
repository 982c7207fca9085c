"""No rule of localisation reads a value back to the host on a GPU: that would stall it once per batch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from unia_med.localise.affinity_refine import normalise_affinity, pixel_and_affinity_labels, radius_mask
from unia_med.localise.cam import multi_scale_maps
from unia_med.localise.complement import complement
from unia_med.localise.normalise import normalise_maps
from unia_med.localise.pixel_refine import neighbour_index, pixel_kernel, position_weights
from unia_med.localise.thresholds import three_valued, token_labels
from unia_med.localise.token_grid import foreground_share, majority_labels, nearest_labels


@pytest.fixture
def valueless(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors without values: reading one raises. The caches must not keep any."""
    cached = (radius_mask, position_weights, neighbour_index)
    for function in cached:
        function.cache_clear()
    monkeypatch.setattr("unia_med.localise.pixel_refine._on_host", lambda scores: False)
    with FakeTensorMode():
        yield
    for function in cached:
        function.cache_clear()


@pytest.mark.usefixtures("valueless")
def test_from_maps_to_the_fused_label() -> None:
    images, tags, grid = torch.rand(2, 1, 32, 48), torch.ones(2, 3, dtype=torch.int8), (4, 6)
    (maps,) = multi_scale_maps(images, lambda x: [x[:, :, ::8, ::8].repeat(1, 3, 1, 1)], (1.0, 0.5), flip=True)
    cam = normalise_maps(maps, from_minimum=True)
    matrix = normalise_affinity(torch.rand(2, 24, 24), radius_mask(4, 6, 2, images.device), steps=2)
    second, third = pixel_and_affinity_labels(pixel_kernel(images), cam, tags, matrix, grid, 0.7, 0.25)
    first = three_valued(cam, tags, 0.7, 0.25, valid=torch.ones(2, 1, 32, 48))
    fused = complement(first, second, third, trust_cam=True, agreement=True)
    on_tokens = majority_labels(fused, grid, 4, purity=0.6), nearest_labels(fused, grid), foreground_share(fused, grid)
    assert all(one.shape == (2, *grid) for one in (*on_tokens, token_labels(cam, tags, grid, 0.7, 0.25)))
