"""Preprocessing of a bundle a few slices at a time, so that memory does not grow with copies of a large image."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor

from unia_med.bundle.meta import plain_tensor
from unia_med.data.grid.percentiles import percentiles_of
from unia_med.data.grid.transforms import scaled


class InSlabsd(MapTransform):
    """Images with intensities in [0, 1] on the network's grid.

    The percentiles are of the whole image. Everything else concerns slices, and is done for some of them at a time; the
    image remembers what was done to the first ones.

    Args:
        keys: images (C, X, Y, Z), whose third axis goes from slice to slice.
        lower: percentile of each channel that becomes 0.
        upper: percentile of each channel that becomes 1.
        transforms: MONAI's, of the same keys, which leave the number and the order of slices as they are.
        slices: how many at a time.
        allow_missing_keys: see MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        lower: float,
        upper: float,
        transforms: Sequence[MapTransform],
        slices: int = 16,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.percentiles = (lower, upper)
        self.transform = Compose(transforms)
        self.slices = slices

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its images scaled and on the network's grid.

        Args:
            data: item with the images.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            image: MetaTensor = item[key]
            channels = plain_tensor(image).cpu()
            ranges = [percentiles_of(one.numpy(), self.percentiles) for one in channels]
            slabs = (scaled(slab.float(), ranges) for slab in channels.split(self.slices, dim=-1))
            item[key] = _joined((self.transform({key: _like(image, slab)})[key] for slab in slabs), image.shape[-1])
        return item


def _joined(slabs: Iterable[MetaTensor], slices: int) -> MetaTensor:
    """Return slabs in one image, which remembers what the first one does.

    Each is copied into its place when it comes: small arrays that stay between large ones that go would split memory.

    Args:
        slabs: (C, H, W, z), one after another.
        slices: of all of them.
    """
    whole: MetaTensor | None = None
    first = 0
    for slab in slabs:
        if whole is None:
            whole = _like(slab, torch.empty((*slab.shape[:-1], slices)))
        plain_tensor(whole)[..., first : first + slab.shape[-1]] = plain_tensor(slab)
        first += slab.shape[-1]
    assert whole is not None
    return whole


def _like(image: MetaTensor, voxels: Tensor) -> MetaTensor:
    """Return other voxels with an image's geometry and what it remembers; both have copies of their own."""
    return MetaTensor(voxels, meta=dict(image.meta), applied_operations=list(image.applied_operations))
