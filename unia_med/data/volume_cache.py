"""Keeps preprocessed volumes as slices, in memory or as memory-mapped files; each image is decoded once."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Transform
from torch import Tensor

from unia_med.data.checks import DataFault, raise_faults
from unia_med.data.io.nifti import read_volume
from unia_med.data.sample import CaseFiles
from unia_med.data.transforms import KEY, as_tensor, preprocess, to_slices
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.config.schema import GridConfig

# To be raised when the chain of `preprocess` changes, since files of the old chain would be taken for new ones.
FORMAT = 1
# Half precision resolves 1/2048 near 1: finer than the 12 bits of a scanner once they are clipped to percentiles.
STORED = np.float16


class _Decoded(TypedDict):
    slices: Tensor | None
    fault: DataFault | None


class VolumeCache(ABC):
    """Slices (Z, 1, H, W) of every case on the network's grid, stored as float16."""

    @abstractmethod
    def count(self, position: int) -> int:
        """Returns the number of slices of a case."""

    @abstractmethod
    def slices(self, position: int) -> Tensor:
        """Returns the float16 slices (Z, 1, H, W) of a case, not to be changed in place."""

    @abstractmethod
    def slice(self, position: int, z: int) -> Tensor:
        """Returns one slice as float32 (1, H, W), free to be changed."""


class MemoryCache(VolumeCache):
    """Decodes all volumes at once and keeps them in memory, by MONAI's `CacheDataset`.

    Args:
        cases: Cases in order.
        grid: The network's grid.
        workers: Threads that decode; 0 decodes one volume after the other.

    Raises:
        UserError: Lists every image that cannot be used.
    """

    def __init__(self, cases: Sequence[CaseFiles], grid: GridConfig, workers: int = 0) -> None:
        self._volumes = CacheDataset(
            list(cases), Decode(grid), num_workers=max(1, workers), progress=sys.stderr.isatty(), copy_cache=False
        )
        raise_faults([item["fault"] for item in self._volumes if item["fault"]], "data")

    def count(self, position: int) -> int:
        """Returns the number of slices of a case."""
        return len(self.slices(position))

    def slices(self, position: int) -> Tensor:
        """Returns the float16 slices (Z, 1, H, W) of a case, not to be changed in place."""
        return self._volumes[position]["slices"]

    def slice(self, position: int, z: int) -> Tensor:
        """Returns one slice as float32 (1, H, W), free to be changed."""
        return self.slices(position)[z].float()


class DiskCache(VolumeCache):
    """One memory-mapped `.npy` per volume, made when first needed and made again when its image or the grid changes.

    A file's name holds a hash of the image's path, size and modification time and of the settings, so a changed
    image is another file. Files appear whole or not at all, so several processes may share a folder.

    Args:
        cases: Cases in order.
        grid: The network's grid.
        folder: Where the files lie; made when missing.
        decode: Replaces the decoding of a case, for tests.

    Raises:
        UserError: Lists every image that cannot be used.
    """

    def __init__(
        self,
        cases: Sequence[CaseFiles],
        grid: GridConfig,
        folder: Path | str,
        decode: Callable[[CaseFiles], _Decoded] | None = None,
    ) -> None:
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot be made ({error})", where=folder, remedy="Set data.cache_dir to another folder"
            ) from error
        decode = decode or Decode(grid)
        self._files: list[Path] = []
        faults: list[DataFault] = []
        for case in cases:
            self._files.append(self._make(case, grid, folder, decode, faults))
        raise_faults(faults, "data")

    def count(self, position: int) -> int:
        """Returns the number of slices of a case."""
        return len(self._open(position))

    def slices(self, position: int) -> Tensor:
        """Returns the float16 slices (Z, 1, H, W) of a case, not to be changed in place."""
        return torch.from_numpy(np.array(self._open(position)))

    def slice(self, position: int, z: int) -> Tensor:
        """Returns one slice as float32 (1, H, W), free to be changed."""
        return torch.from_numpy(self._open(position)[z].astype(np.float32))

    def _open(self, position: int) -> np.ndarray:
        # Mapped at each call: cheap beside a training step, and nothing has to be handed to loader processes.
        return np.load(self._files[position], mmap_mode="r", allow_pickle=False)

    def _make(
        self,
        case: CaseFiles,
        grid: GridConfig,
        folder: Path,
        decode: Callable[[CaseFiles], _Decoded],
        faults: list[DataFault],
    ) -> Path:
        try:
            path = folder / f"{case.case}_{_fingerprint(case.image, grid)}.npy"
        except OSError as error:
            faults.append(DataFault(case.image, f"no readable file ({error})", "a volume", "Check the path"))
            return folder / case.case
        if not _is_whole(path):
            decoded = decode(case)
            if decoded["fault"] is not None:
                faults.append(decoded["fault"])
            else:
                _save_whole(decoded["slices"].numpy(), path)
        return path


# A MONAI Transform, because CacheDataset takes any other callable for random and runs it again at every access.
class Decode(Transform):
    """Reads and preprocesses the image of a case; a fault is returned, so that all of them can be told together.

    Args:
        grid: The network's grid.
    """

    def __init__(self, grid: GridConfig) -> None:
        self._chain = preprocess(grid, load=False)

    def __call__(self, case: CaseFiles) -> _Decoded:
        try:
            volume = read_volume(case.image)
            if volume.array.ndim != 3:
                raise UserError(
                    f"shape {volume.shape}, expected 3D", where=case.image, remedy="Split the cine into frames"
                )
            slices = to_slices(self._chain({KEY: as_tensor(volume)})[KEY])
        except UserError as error:
            fault = DataFault(case.image, error.what, "a readable volume", error.remedy or "Copy the file again")
            return {"slices": None, "fault": fault}
        return {"slices": slices.to(torch.float16), "fault": None}


def _fingerprint(image: Path, grid: GridConfig) -> str:
    status = image.stat()
    settings = {"spacing_mm": grid.spacing_mm, "size": list(grid.size), "percentiles": list(grid.percentiles)}
    key = [FORMAT, str(image.resolve()), status.st_size, status.st_mtime_ns, settings]
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:20]


def _is_whole(path: Path) -> bool:
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return False
    return stored.ndim == 4 and stored.dtype == STORED


def _save_whole(array: np.ndarray, path: Path) -> None:
    temporary = path.with_name(f".writing_{os.getpid()}_{path.name}")
    try:
        with temporary.open("wb") as file:
            np.save(file, array, allow_pickle=False)
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"cannot be written ({error})", where=path, remedy="Free some space or set data.cache_dir to another folder"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)
