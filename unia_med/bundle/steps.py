"""Classes that a bundle's config names besides MONAI's own; copied into every bundle with the modules they import.

Together with MONAI's loading, scaling, resampling and cropping they do what `unia_med.inference.predictor` does, with
the same functions, so that a bundle gives the same voxels as `unia-med predict`. MONAI reads the fourth axis of a file
as channels: for a network with one image channel these are the frames of a cine, F of them, and F is 1 otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import ImageReader, NibabelWriter
from monai.inferers import Inferer
from monai.transforms import MapTransform
from torch import Tensor, nn

from unia_med.bundle.meta import plain_tensor
from unia_med.data.grid.transforms import from_slices, to_slices
from unia_med.data.io.nifti import read_nifti, write_like
from unia_med.data.io.nifti_file import open_nifti
from unia_med.data.io.suffixes import NIFTI_SUFFIXES, PAIR_SUFFIXES, volume_suffix
from unia_med.data.io.volume import Volume
from unia_med.data.io.walk import find_volumes
from unia_med.errors import UserError
from unia_med.files import zip_damage
from unia_med.inference.inputs import find_images
from unia_med.inference.stack import smooth_stack
from unia_med.inference.uncertainty import apply_temperature
from unia_med.inference.walker import decide_unsure
from unia_med.tensors import with_layout

_SLAB = 16
"""Slices that are looked at at once."""


class VolumeReader(ImageReader):
    """Reads NIfTI files for `LoadImaged` as `unia-med predict` does: any unit of space, repaired headers.

    MONAI's own reader takes metres or micrometres for millimetres.
    """

    def verify_suffix(self, filename: Any) -> bool:
        """Return whether this reader takes a file.

        Args:
            filename: its path, alone or in a sequence.
        """
        return volume_suffix(_one(filename)) in (*NIFTI_SUFFIXES, *PAIR_SUFFIXES)

    def read(self, data: Any, **kwargs: Any) -> Volume:
        """Return the volume.

        Args:
            data: its path, alone or in a sequence.
            kwargs: not used; options of other readers.
        """
        # What LoadImaged makes of it: while it still holds the volume, a copy in another order or type takes memory.
        return read_nifti(_one(data), single=True)

    def get_data(self, img: Volume) -> tuple[np.ndarray, dict[str, Any]]:
        """Return voxels and metadata, as MONAI's readers give them.

        Args:
            img: as `read` gives it.
        """
        four = img.array.ndim == 4
        array = img.array[:, :, None] if img.array.ndim == 2 else img.array
        return array, {
            "affine": img.affine,
            "original_affine": img.affine.copy(),
            "spatial_shape": np.array(array.shape[:3]),
            "space": "RAS",
            "original_channel_dim": -1 if four else float("nan"),
        }


class CheckVolumed(MapTransform):
    """Refuse what cannot be segmented, naming the file.

    Args:
        keys: the image (C, X, Y, Z) or (F, X, Y, Z).
        channels: image channels of the network.
        allow_missing_keys: see MONAI.
    """

    def __init__(self, keys: KeysCollection, channels: int = 1, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.channels = channels

    def __call__(self, data: Mapping[Hashable, Any]) -> Mapping[Hashable, Any]:
        """Return the item as it is.

        Args:
            data: item with the image.
        """
        for key in self.key_iterator(dict(data)):
            image = data[key]
            where = getattr(image, "meta", {}).get("filename_or_obj")
            if image.ndim != 4:
                what = f"an image of shape {tuple(image.shape[1:])}, expected a volume (x, y, slice)"
                raise UserError(what, where=where, remedy="Save a single slice as (x, y, 1)")
            if self.channels > 1 and image.shape[0] != self.channels:
                what = f"{image.shape[0]} channels, the network has {self.channels}"
                raise UserError(what, where=where, remedy="Save the channels as the fourth axis (x, y, slice, channel)")
            if not all(part.isfinite().all() for part in plain_tensor(image).split(_SLAB, dim=-1)):
                raise UserError("voxels that are NaN or infinite", where=where, remedy="Replace them, e.g. by 0")
        return data


class SliceBatchInferer(Inferer):
    """Class probabilities of every slice of a volume, a few slices at a time.

    Args:
        batch_slices: slices per forward pass; fewer need less memory.
        temperature: divides logits before the softmax; above 1 gives softer probabilities.
        channels: image channels of the network.
        walker: thresholds and beta of `decide_unsure`; None leaves the probabilities as they are.
        slice_smoothing: standard deviation in slices of `smooth_stack`; 0 leaves every slice for itself.
    """

    def __init__(
        self,
        batch_slices: int = 16,
        temperature: float = 1.0,
        channels: int = 1,
        walker: dict[str, float] | None = None,
        slice_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.batch_slices = batch_slices
        self.temperature = temperature
        self.walker = walker
        self.slice_smoothing = slice_smoothing
        self.layout = torch.channels_last  # faster convolutions

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
        """Probabilities (B, F * K, H, W, Z) of volumes (B, F * C, H, W, Z), frame by frame.

        Args:
            inputs: preprocessed volumes in [0, 1].
            network: slices (N, C, H, W) to probabilities (N, K, H, W).
            args: not used; part of MONAI's interface.
            kwargs: not used; part of MONAI's interface.
        """
        if isinstance(network, nn.Module):
            with_layout(network, self.layout)
        volumes = [plain_tensor(volume).split(self.channels) for volume in inputs]
        return torch.stack([torch.cat([self._frame(frame, network) for frame in frames]) for frames in volumes])

    def _frame(self, frame: Tensor, network: Callable[..., Any]) -> Tensor:
        """(K, H, W, Z) of (C, H, W, Z)."""
        slices = to_slices(frame)
        probabilities: Tensor | None = None
        for first in range(0, len(slices), self.batch_slices):
            some = slice(first, first + self.batch_slices)
            found = network(slices[some].contiguous(memory_format=self.layout)).float()
            if probabilities is None:
                probabilities = found.new_empty((len(slices), *found.shape[1:]))
            probabilities[some] = found
        assert probabilities is not None
        if not torch.isfinite(probabilities).all():
            raise UserError("the network gives NaN", remedy="Look for voxels that are NaN or infinite in the image")
        if self.walker is not None:
            probabilities = decide_unsure(probabilities, slices, **self.walker)
        smoothed = smooth_stack(probabilities, self.slice_smoothing)
        return from_slices(apply_temperature(smoothed, self.temperature))


class SourceWriter(NibabelWriter):
    """Write results with the header of the image they belong to: affine, both forms, units and frame spacing.

    MONAI's own writer keeps the affine only, adds an axis to the file, and is not atomic.
    """

    def set_data_array(
        self, data_array: Any, channel_dim: int | None = 0, squeeze_end_dims: bool = True, **kwargs: Any
    ) -> None:
        """Take the result (F, X, Y, Z).

        Args:
            data_array: as given by `SaveImaged`.
            channel_dim: not used; frames come first.
            squeeze_end_dims: not used; a single frame loses its axis in `write`.
            kwargs: not used; options of other writers.
        """
        self.frames = np.asarray(plain_tensor(torch.as_tensor(data_array)).cpu())

    def set_metadata(self, meta_dict: Mapping | None = None, resample: bool = True, **options: Any) -> None:
        """Remember the source file.

        Args:
            meta_dict: of the image; its `filename_or_obj` is read.
            resample: not used; results are on the source's grid already.
            options: not used.
        """
        self.source = Path(str((meta_dict or {})["filename_or_obj"]))

    def write(self, filename: Any, verbose: bool = False, **kwargs: Any) -> None:
        """Write the file, whole or not at all.

        Args:
            filename: destination.
            verbose: not used.
            kwargs: not used; options of nibabel.
        """
        file = open_nifti(self.source)
        source = Volume(np.broadcast_to(np.uint8(0), file.shape), file.affine, file.header, self.source)
        array = np.moveaxis(self.frames, 0, -1).astype(self.output_dtype, copy=False)
        several = len(source.shape) == 4 and source.shape[3] == len(self.frames)  # frames, not channels
        write_like(array if several else array[..., 0].reshape(source.shape[:3]), source, filename)


def image_list(dataset_dir: Any, output_dir: Any) -> list[dict[str, str]]:
    """Items of the images in a folder and below it, chosen as by `unia-med predict`; empty where there is none.

    Args:
        dataset_dir: folder, or one file.
        output_dir: where results go; nothing is read from there.
    """
    try:
        found = find_images(Path(str(dataset_dir)), Path(str(output_dir)))
    except UserError:
        return []  # reported when the bundle is run; other uses of a bundle have no images
    return [{"image": str(path)} for path in found.values() if volume_suffix(path) in NIFTI_SUFFIXES]


def require_images(dataset_dir: Any, output_dir: Any) -> None:
    """Refuse a folder without images, or with one of another format than NIfTI; arguments as of `image_list`."""
    found = find_images(Path(str(dataset_dir)), Path(str(output_dir)))
    foreign = [path for path in found.values() if volume_suffix(path) not in NIFTI_SUFFIXES]
    if foreign:
        raise UserError("is no NIfTI file", where=foreign[0], remedy="Convert it to .nii.gz; this bundle reads NIfTI")


def require_whole(path: Any) -> None:
    """Make sure that the weights are as they were written; torch does not look at its checksums.

    Args:
        path: the file of weights.

    Raises:
        UserError: it is damaged.
    """
    file = Path(str(path))
    damage = zip_damage(file) if file.is_file() else None
    if damage is not None:
        raise UserError(f"the weights are damaged ({damage})", where=file, remedy="Copy the bundle again")


def labelled_list(dataset_dir: Any) -> list[dict[str, str]]:
    """Return items of image and mask `NAME_gt` next to it, of a folder and all below it.

    Args:
        dataset_dir: e.g. a data set in ACDC layout.
    """
    masks = [path for path in find_volumes(Path(str(dataset_dir))) if "_gt.nii" in path.name]
    pairs = ((path.with_name(path.name.replace("_gt.nii", ".nii")), path) for path in masks)
    return [{"image": str(image), "label": str(mask)} for image, mask in pairs if image.is_file()]


def require_labelled(dataset_dir: Any) -> None:
    """Refuse a folder without a single pair of image and mask; see `labelled_list`."""
    if not labelled_list(dataset_dir):
        raise UserError("holds no NAME.nii.gz with NAME_gt.nii.gz next to it", where=str(dataset_dir))


def _one(path: Any) -> Path:
    """Return the path that MONAI hands over alone or as the only one of a sequence."""
    (only,) = (path,) if isinstance(path, (str, Path)) else path
    return Path(str(only))
