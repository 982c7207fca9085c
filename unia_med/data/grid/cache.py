"""Keeps preprocessed volumes as slices, in memory or as memory-mapped files; each image is decoded once."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor

from unia_med.data.checks import DataFault, as_fault, raise_faults
from unia_med.data.grid.transforms import place_image
from unia_med.data.io.arrays import read_array, write_array
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.image import check_decodes
from unia_med.data.io.orientation import slice_count
from unia_med.data.io.suffixes import is_image
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError
from unia_med.files import content_digest
from unia_med.progress import tracked

if TYPE_CHECKING:
    from unia_med.config.schema import GridConfig

# To be raised when `place_image` changes, since files of the old chain would be taken for new ones.
FORMAT = 4
# Half precision resolves 1/2048 near 1: finer than the 12 bits of a scanner once they are clipped to percentiles.
STORED = np.float16
_ELSEWHERE = "Free some space, or set data.cache_dir to another folder"


class _Decoded(TypedDict):
    slices: Tensor
    fault: DataFault | None


class VolumeCache(ABC):
    """Slices (Z, C, H, W) of every case on the network's grid, stored as float16."""

    @abstractmethod
    def count(self, position: int) -> int:
        """Return the number of slices of a case."""

    @abstractmethod
    def slices(self, position: int) -> Tensor:
        """Return the float16 slices (Z, C, H, W) of a case, not to be changed in place."""

    @abstractmethod
    def slice(self, position: int, z: int) -> Tensor:
        """Return one slice as float32 (C, H, W), free to be changed."""


class MemoryCache(VolumeCache):
    """Decodes all volumes at once and keeps them in memory.

    Args:
        cases: Cases in order.
        grid: The network's grid.
        workers: Threads that decode; 0 decodes one volume after the other.
        channels: How an image's channels are stored.

    Raises:
        UserError: Lists every image that cannot be used.
    """

    def __init__(
        self,
        cases: Sequence[CaseFiles],
        grid: GridConfig,
        workers: int = 0,
        channels: ChannelFiles = ChannelFiles(),
    ) -> None:
        with ThreadPoolExecutor(max(1, workers)) as threads:
            decoded = threads.map(Decode(grid, channels), cases)
            self._volumes = list(tracked(decoded, "reading volumes", len(cases)))
        faults = [volume["fault"] for volume in self._volumes]
        raise_faults([fault for fault in faults if fault], "data")

    def count(self, position: int) -> int:
        """Return the number of slices of a case."""
        return len(self.slices(position))

    def slices(self, position: int) -> Tensor:
        """Return the float16 slices (Z, C, H, W) of a case, not to be changed in place."""
        return self._volumes[position]["slices"]

    def slice(self, position: int, z: int) -> Tensor:
        """Return one slice as float32 (C, H, W), free to be changed."""
        return self.slices(position)[z].float()


class DiskCache(VolumeCache):
    """One memory-mapped `.npy` per volume, made when first needed and made again when its image or the grid changes.

    A file's name holds a hash of the image's bytes and of the settings, so a changed image is another file, and its
    end a checksum, by which a damaged file is noticed when training starts and made again. Files appear whole or not at
    all, so several processes may share a folder.

    Args:
        cases: Cases in order.
        grid: The network's grid.
        folder: Where the files lie; made when missing.
        decode: Replaces the decoding of a case, for tests.
        channels: How an image's channels are stored.
        workers: Threads that decode; 0 decodes one volume after the other.

    Raises:
        UserError: Lists every image that cannot be used.
    """

    def __init__(
        self,
        cases: Sequence[CaseFiles],
        grid: GridConfig,
        folder: Path | str,
        decode: Callable[[CaseFiles], _Decoded] | None = None,
        channels: ChannelFiles = ChannelFiles(),
        workers: int = 0,
    ) -> None:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot be made ({error})", where=folder, remedy="Set data.cache_dir to another folder"
            ) from error
        make = _Making(folder, grid, channels, decode or Decode(grid, channels))
        with ThreadPoolExecutor(max(1, workers)) as threads:
            made = list(tracked(threads.map(make, cases), "reading volumes", len(cases)))
        raise_faults([item for item in made if isinstance(item, DataFault)], "data")
        whole = [item for item in made if not isinstance(item, DataFault)]
        self._files, self._counts = [path for path, _ in whole], [count for _, count in whole]

    def count(self, position: int) -> int:
        """Return the number of slices of a case."""
        return self._counts[position]

    def slices(self, position: int) -> Tensor:
        """Return the float16 slices (Z, C, H, W) of a case, not to be changed in place."""
        return torch.from_numpy(np.array(self._open(position)))

    def slice(self, position: int, z: int) -> Tensor:
        """Return one slice as float32 (C, H, W), free to be changed."""
        return torch.from_numpy(self._open(position)[z].astype(np.float32))

    def _open(self, position: int) -> np.ndarray:
        # Mapped at each call: cheap compared with a training step, and nothing has to be handed to loader processes.
        return np.load(self._files[position], mmap_mode="r", allow_pickle=False)


class NoCache(VolumeCache):
    """Keep nothing: an image is decoded whenever a slice of it is asked for, by the loader's processes.

    For sets of photographs that fit neither memory nor disk once they are decoded (COCO: 100 GB).

    Args:
        cases: Cases in order.
        grid: The network's grid.
        channels: How an image's channels are stored.
        workers: Threads that look through all images at the start; 0 does so one by one.

    Raises:
        UserError: Lists every image that cannot be decoded.
    """

    def __init__(
        self, cases: Sequence[CaseFiles], grid: GridConfig, channels: ChannelFiles = ChannelFiles(), workers: int = 0
    ) -> None:
        self._cases, self._axis, self._channels = list(cases), grid.slice_axis, channels
        self._decode = Decode(grid, channels)
        with ThreadPoolExecutor(max(1, workers)) as threads:
            looked = list(tracked(threads.map(self._look, self._cases), "looking through images", len(cases)))
        raise_faults([item for item in looked if isinstance(item, DataFault)], "data")
        self._counts = [item for item in looked if not isinstance(item, DataFault)]

    def count(self, position: int) -> int:
        """Return the number of slices of a case."""
        return self._counts[position]

    def slices(self, position: int) -> Tensor:
        """Return the float16 slices (Z, C, H, W) of a case."""
        decoded = self._decode(self._cases[position])
        raise_faults([decoded["fault"]] if decoded["fault"] else [], "data")
        return decoded["slices"]

    def slice(self, position: int, z: int) -> Tensor:
        """Return one slice as float32 (C, H, W), free to be changed."""
        return self.slices(position)[z].float()

    def _look(self, case: CaseFiles) -> int | DataFault:
        try:
            if is_image(case.image):
                check_decodes(case.image)
            info = self._channels.header(case.image)
        except UserError as error:
            return as_fault(error, case.image, "a readable image")
        return slice_count(info.shape, info.affine, self._axis)


@dataclass(frozen=True)
class _Making:
    """Make the file of a case unless it is there; return its path and number of slices, or a fault."""

    folder: Path
    grid: GridConfig
    channels: ChannelFiles
    decode: Callable[[CaseFiles], _Decoded]

    def __call__(self, case: CaseFiles) -> tuple[Path, int] | DataFault:
        try:
            name = f"{_file_name(case.name)}_{_fingerprint(case.image, self.grid, self.channels)}.npy"
        except OSError as error:
            return DataFault(case.image, f"no readable file ({error})", "a volume", "Check the path")
        path = self.folder / name
        count = _slices_if_whole(path)
        if count is None:
            decoded = self.decode(case)
            if decoded["fault"] is not None:
                return decoded["fault"]
            count = len(decoded["slices"])
            write_array(path, decoded["slices"].numpy(), _ELSEWHERE)
        return path, count


class Decode:
    """Read and preprocess the image of a case; a fault is returned, so that all can be reported together.

    Args:
        grid: The network's grid.
        channels: How an image's channels are stored.
    """

    def __init__(self, grid: GridConfig, channels: ChannelFiles = ChannelFiles()) -> None:
        self._grid, self._channels = grid, channels

    def __call__(self, case: CaseFiles) -> _Decoded:
        """Decode one case; return a fault of its file in place of raising it."""
        try:
            volume = self._channels.read(case.image)
            slices = place_image(volume, self._grid).slices
        except UserError as error:
            return {"slices": torch.empty(0), "fault": as_fault(error, case.image)}
        return {"slices": slices.to(torch.float16), "fault": None}


def _fingerprint(image: Path, grid: GridConfig, channels: ChannelFiles) -> str:
    """Return a hash of the image's bytes and of the settings; a scan corrected in place is another image."""
    files = [content_digest(path) for path in channels.files(image)]
    percentiles = None if grid.percentiles is None else list(grid.percentiles)
    settings: dict[str, object] = {"spacing_mm": grid.spacing_mm, "size": list(grid.size), "percentiles": percentiles}
    if grid.resize != "none":  # files of the time before this setting stay good
        settings["resize"] = grid.resize
    key = [FORMAT, files, settings, grid.slice_axis, channels.channels]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]


def _file_name(case: str) -> str:
    """Return a case's name as part of a file name; the fingerprint next to it keeps files apart."""
    return re.sub(r"[^\w.-]", "_", case)[-80:]


def _slices_if_whole(path: Path) -> int | None:
    """Return the number of slices in a file of this cache; None where there is no file, or a damaged one."""
    try:
        stored = read_array(path)
    except (OSError, ValueError):
        return None
    return len(stored) if stored.ndim == 4 and stored.dtype == STORED else None
