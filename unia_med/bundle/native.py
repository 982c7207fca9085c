"""Steps of a bundle after the network: labels and uncertainty on the image's own grid, and their post-processing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import Compose, MapTransform
from torch import Tensor

from unia_med.bundle.meta import native_affine, on_native_grid, placement_of, plain_tensor
from unia_med.data.grid.transforms import to_slices
from unia_med.data.io.orientation import orient, orient_array, orient_back
from unia_med.data.io.volume import Volume
from unia_med.inference.native import Slab, brought_back, sliced
from unia_med.inference.postprocess import clean
from unia_med.inference.reassemble import plane_map
from unia_med.inference.uncertainty import normalised_entropy

if TYPE_CHECKING:
    from unia_med.config.data import SliceAxis

_SLICES = 16
"""Slices of the network's grid that are copied at once."""


class _OnNativeGrid(MapTransform):
    """What is computed of probabilities on the image's own grid, a few slices at a time.

    Args:
        keys: entries of the item.
        preprocessing: what brought the image to the network's grid.
        classes: K, with background.
        slice_axis: `stored`, or the body axis along which the preprocessing turned the slices.
        image_key: the preprocessed image, which remembers what was done to it.
        allow_missing_keys: see MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        preprocessing: Compose,
        classes: int,
        slice_axis: SliceAxis = "stored",
        image_key: str = "image",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.preprocessing = preprocessing
        self.classes = classes
        self.slice_axis = slice_axis
        self.image_key = image_key

    def _frames(
        self, probabilities: Tensor, image: MetaTensor, of_slab: Callable[[Tensor], Tensor], kind: type
    ) -> MetaTensor:
        """Return (F, X, Y, Z) of a function of probabilities (F * K, H, W, Z).

        Args:
            probabilities: on the network's grid.
            image: preprocessed.
            of_slab: (z, K, X, Y) to (z, X, Y).
            kind: numpy's type of the result.
        """
        affine = native_affine(image).numpy()
        turned = self._turned(image)
        found = []
        for frame in plain_tensor(probabilities).split(self.classes):
            whole: np.ndarray = np.empty(turned.shape, kind, order="F")
            for first, slab, _ in self._native_slabs(frame, image):
                whole[..., first : first + len(slab)] = sliced(of_slab(slab).cpu())
            found.append(orient_back(whole, affine, self.slice_axis))
        return on_native_grid(torch.from_numpy(_frames_first(found)), image)

    def _native_slabs(self, probabilities: Tensor, image: MetaTensor) -> Iterator[Slab]:
        """Slices of (K, H, W, Z) on the image's own grid."""
        turned = self._turned(image)
        back = plane_map(placement_of(image, turned.affine, turned.shape))
        for first in range(0, probabilities.shape[-1], _SLICES):
            slices = to_slices(probabilities[..., first : first + _SLICES])
            yield from brought_back(back, slices, slices[:, :0], first)

    def _turned(self, image: MetaTensor) -> Volume:
        """Return the image's volume without voxels, turned so that its third axis counts slices."""
        shape = tuple(int(side) for side in image.meta["spatial_shape"])
        return orient(Volume(np.broadcast_to(np.uint8(0), shape), native_affine(image).numpy()), self.slice_axis)


class NativeLabelsd(_OnNativeGrid):
    """Labels on the image's own grid, from probabilities on the network's grid.

    Probabilities, not labels, are resampled; voxels that the network did not see are background with certainty. The
    item gets labels, uint8 (F, X, Y, Z), in place of the probabilities, which move to `network_key`.

    Args:
        keys: the probabilities (F * K, H, W, Z).
        network_key: where the probabilities on the network's grid are put.
        probabilities_key: where the probabilities (F * K, X, Y, Z) on the image's own grid are put; None: nowhere.
        options: of `_OnNativeGrid`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        network_key: str = "probabilities_of_network",
        probabilities_key: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(keys, **options)
        self.network_key = network_key
        self.probabilities_key = probabilities_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with labels.

        Args:
            data: item with image and probabilities.
        """
        item = dict(data)
        image: MetaTensor = item[self.image_key].cpu()
        for key in self.key_iterator(item):
            found = item[self.network_key] = item[key]
            if self.probabilities_key is not None:
                native = [self._native_probabilities(frame, image) for frame in plain_tensor(found).split(self.classes)]
                item[self.probabilities_key] = on_native_grid(torch.from_numpy(np.concatenate(native)), image)
            item[key] = self._frames(found, image, _likeliest, np.uint8)
        return item

    def _native_probabilities(self, probabilities: Tensor, image: MetaTensor) -> np.ndarray:
        """Probabilities (K, X, Y, Z) of one frame's (K, H, W, Z)."""
        slabs = [slab.probabilities.cpu() for slab in self._native_slabs(probabilities, image)]
        last = torch.cat(slabs).permute(2, 3, 0, 1).contiguous().numpy()
        return np.moveaxis(orient_back(last, native_affine(image).numpy(), self.slice_axis), 3, 0)


class NativeUncertaintyd(_OnNativeGrid):
    """Uncertainty on the image's own grid: the entropy of the probabilities divided by log K, float32 (F, X, Y, Z).

    It is the largest array of all, so it is made after the labels were cleaned, which takes memory, too.

    Args:
        keys: where it is put.
        network_key: the probabilities (F * K, H, W, Z) on the network's grid.
        options: of `_OnNativeGrid`.
    """

    def __init__(self, keys: KeysCollection, *, network_key: str = "probabilities_of_network", **options: Any) -> None:
        super().__init__(keys, **options)
        self.network_key = network_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with its uncertainty, without the probabilities on the network's grid.

        Args:
            data: item with image and probabilities.
        """
        item = dict(data)
        image: MetaTensor = item[self.image_key].cpu()
        probabilities = item.pop(self.network_key)
        for key in self.keys:
            item[key] = self._frames(probabilities, image, normalised_entropy, np.float32)
        return item


class CleanLabelsd(MapTransform):
    """Labels with slice gaps filled, stray parts removed and holes filled, frame by frame.

    Args:
        keys: labels (F, X, Y, Z).
        largest_component: keep the largest 3D component of each class, of the listed labels, or of the
            ``"foreground"`` as a whole.
        fill_holes: fill background holes enclosed by the mask, slice by slice.
        slice_gaps: fill a class missing in a single slice between two that hold it.
        by_length: the largest component is the one whose diameters have the largest sum over slices.
        slice_axis: `stored`, or the body axis along which slices lie.
        allow_missing_keys: see MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        largest_component: bool | Literal["foreground"] | list[int] = False,
        fill_holes: bool = True,
        slice_gaps: bool = True,
        by_length: bool = False,
        slice_axis: SliceAxis = "stored",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.slice_axis = slice_axis
        self.steps: dict[str, Any] = {
            "largest_component": largest_component,
            "fill_holes": fill_holes,
            "slice_gaps": slice_gaps,
            "by_length": by_length,
        }

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with clean labels.

        Args:
            data: item with labels.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            labels: MetaTensor = item[key]
            frames = [self._cleaned(frame, labels.affine.numpy()) for frame in plain_tensor(labels).numpy()]
            item[key] = MetaTensor(torch.from_numpy(_frames_first(frames)), meta=labels.meta)
        return item

    def _cleaned(self, labels: np.ndarray, affine: np.ndarray) -> np.ndarray:
        turned = orient_array(labels, affine, self.slice_axis)  # no copy, unless it is turned
        clean(turned, **self.steps)
        return orient_back(turned, affine, self.slice_axis)


def _likeliest(probabilities: Tensor) -> Tensor:
    """Return the labels (z, X, Y) of probabilities (z, K, X, Y)."""
    return probabilities.max(1).indices.to(torch.uint8)


def _frames_first(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return (F, X, Y, Z) of F volumes, without a copy of a single one."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
