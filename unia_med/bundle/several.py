"""Image channels that lie in files of their own, as nnU-Net's `case_0000.nii.gz`, `case_0001.nii.gz`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from unia_med.bundle.steps import VolumeReader, image_list
from unia_med.data.io.geometry import grid_difference
from unia_med.data.io.suffixes import volume_stem
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError


class ChannelFilesReader(VolumeReader):
    """Reads all channels of an image, given the file of the first.

    Args:
        endings: of the files of one image, first channel first; empty where one file holds all channels.
    """

    def __init__(self, endings: Sequence[str] = ()) -> None:
        super().__init__()
        self.endings = tuple(endings)

    def read(self, data: Any, **kwargs: Any) -> Volume:
        """Return the volume (X, Y, Z, C); a file that is not called as that of a first channel is read as it is.

        Args:
            data: its path, alone or in a sequence.
            kwargs: not used; options of other readers.
        """
        path = Path(str(data if isinstance(data, (str, Path)) else data[0]))
        if not is_first(path, self.endings) or not self.endings:
            return super().read(data, **kwargs)
        stem = volume_stem(path)
        name, suffix = stem.removesuffix(self.endings[0]), path.name[len(stem) :]
        volumes = [super(ChannelFilesReader, self).read(path.with_name(name + e + suffix)) for e in self.endings]
        first = volumes[0]
        for other in volumes[1:]:
            if difference := grid_difference(first.shape, first.affine, other.shape, other.affine):
                what = f"{difference[0]}, expected {difference[1]} as in the first channel"
                raise UserError(what, where=other.path, remedy="Bring all channels of an image to one grid")
        return replace(first, array=np.stack([volume.array for volume in volumes], axis=3), axes="XYZC")


def first_channels(dataset_dir: Any, output_dir: Any, endings: Sequence[str] = ()) -> list[dict[str, str]]:
    """Items of the images in a folder and below it, each by the file of its first channel.

    Args:
        dataset_dir: see `image_list`.
        output_dir: see `image_list`.
        endings: as in `ChannelFilesReader`.
    """
    return [item for item in image_list(dataset_dir, output_dir) if is_first(Path(item["image"]), endings)]


def is_first(path: Path, endings: Sequence[str]) -> bool:
    """Return whether a file is that of a first channel, or holds all of them.

    Args:
        path: the file.
        endings: as in `ChannelFilesReader`.
    """
    return not endings or volume_stem(path).endswith(endings[0])
