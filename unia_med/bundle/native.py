"""Steps of a bundle after the network: labels and uncertainty on the image's own grid, and their post-processing."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
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
from unia_med.inference.native import sliced
from unia_med.inference.postprocess import clean
from unia_med.inference.reassemble import plane_map
from unia_med.inference.uncertainty import normalised_entropy

if TYPE_CHECKING:
    from unia_med.config.data import SliceAxis


class NativeLabelsd(MapTransform):
    """Labels and uncertainty on the image's own grid, from probabilities on the network's grid.

    Probabilities, not labels, are resampled; voxels that the network did not see are background with certainty. The
    item gets labels, uint8 (F, X, Y, Z), in place of the probabilities, and `uncertainty`, float32: the entropy of the
    probabilities divided by log K.

    Args:
        keys: the probabilities (F * K, H, W, Z).
        preprocessing: what brought the image to the network's grid.
        classes: K, with background.
        batch_slices: slices resampled at a time.
        slice_axis: `stored`, or the body axis along which the preprocessing turned the slices.
        image_key: the preprocessed image, which remembers what was done to it.
        uncertainty_key: where the uncertainty is put.
        probabilities_key: where the probabilities (F * K, X, Y, Z) on the image's own grid are put; None: nowhere.
        allow_missing_keys: see MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        preprocessing: Compose,
        classes: int,
        batch_slices: int = 16,
        slice_axis: SliceAxis = "stored",
        image_key: str = "image",
        uncertainty_key: str = "uncertainty",
        probabilities_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.preprocessing = preprocessing
        self.classes = classes
        self.batch_slices = batch_slices
        self.slice_axis = slice_axis
        self.image_key = image_key
        self.uncertainty_key = uncertainty_key
        self.probabilities_key = probabilities_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with labels and uncertainty.

        Args:
            data: item with image and probabilities.
        """
        item = dict(data)
        image: MetaTensor = item[self.image_key].cpu()
        for key in self.key_iterator(item):
            frames = plain_tensor(item[key]).split(self.classes)
            if self.probabilities_key is not None:
                native = [self._native_probabilities(frame, image) for frame in frames]
                item[self.probabilities_key] = on_native_grid(torch.from_numpy(np.concatenate(native)), image)
            found = [self._frame(frame, image) for frame in frames]
            for name, arrays in zip((key, self.uncertainty_key), zip(*found, strict=True), strict=True):
                item[name] = on_native_grid(torch.from_numpy(_frames_first(arrays)), image)
        return item

    def _frame(self, probabilities: Tensor, image: MetaTensor) -> tuple[np.ndarray, np.ndarray]:
        """Labels and uncertainty (X, Y, Z) of one frame's probabilities (K, H, W, Z)."""
        affine = native_affine(image).numpy()
        turned = self._turned(image)
        labels, doubt = (np.empty(turned.shape, kind, order="F") for kind in (np.uint8, np.float32))
        first = 0
        for slab in self._native_slabs(probabilities, image):
            part = (..., slice(first, first + len(slab)))
            first += len(slab)
            labels[part] = sliced(slab.max(1).indices.to(torch.uint8).cpu())
            doubt[part] = sliced(normalised_entropy(slab).float().cpu())
        return orient_back(labels, affine, self.slice_axis), orient_back(doubt, affine, self.slice_axis)

    def _native_probabilities(self, probabilities: Tensor, image: MetaTensor) -> np.ndarray:
        """Probabilities (K, X, Y, Z) of one frame's (K, H, W, Z)."""
        slabs = [slab.cpu() for slab in self._native_slabs(probabilities, image)]
        last = torch.cat(slabs).permute(2, 3, 0, 1).contiguous().numpy()
        return np.moveaxis(orient_back(last, native_affine(image).numpy(), self.slice_axis), 3, 0)

    def _native_slabs(self, probabilities: Tensor, image: MetaTensor) -> Iterator[Tensor]:
        """(z, K, X, Y), a few slices at a time, of (K, H, W, Z)."""
        turned = self._turned(image)
        back = plane_map(placement_of(image, turned.affine, turned.shape))
        return (back(slab) for slab in to_slices(probabilities).split(self.batch_slices))

    def _turned(self, image: MetaTensor) -> Volume:
        """Return the image's volume without voxels, turned so that its third axis counts slices."""
        shape = tuple(int(side) for side in image.meta["spatial_shape"])
        return orient(Volume(np.broadcast_to(np.uint8(0), shape), native_affine(image).numpy()), self.slice_axis)


class CleanLabelsd(MapTransform):
    """Labels with slice gaps filled, stray parts removed and holes filled, frame by frame.

    Args:
        keys: labels (F, X, Y, Z).
        largest_component: keep the largest 3D component of each class, of the listed labels, or of the
            ``"foreground"`` as a whole.
        fill_holes: fill background holes enclosed by the mask, slice by slice.
        slice_gaps: fill a class missing in a single slice between two that hold it.
        slice_axis: `stored`, or the body axis along which slices lie.
        allow_missing_keys: see MONAI.
    """

    def __init__(
        self,
        keys: KeysCollection,
        largest_component: bool | Literal["foreground"] | list[int] = False,
        fill_holes: bool = True,
        slice_gaps: bool = True,
        slice_axis: SliceAxis = "stored",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.slice_axis = slice_axis
        self.steps: dict[str, Any] = {
            "largest_component": largest_component,
            "fill_holes": fill_holes,
            "slice_gaps": slice_gaps,
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


def _frames_first(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Return (F, X, Y, Z) of F volumes, without a copy of a single one."""
    return arrays[0][None] if len(arrays) == 1 else np.stack(arrays)
