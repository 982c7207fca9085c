"""Training slices with their weak labels, in an order that is a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from unia_med.data.checks import DataFault, raise_faults
from unia_med.data.grid.cache import DiskCache, MemoryCache, NoCache, VolumeCache
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.sample import CaseFiles, Sample
from unia_med.data.slices.batches import batch_indices, shared_batches
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.errors import UserError
from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig, GridConfig
    from unia_med.data.dataset import CaseDataset


class SliceOrigin(NamedTuple):
    """Where a slice comes from: its case, its position z, and how many slices the volume has."""

    case: CaseFiles
    z: int
    slices_in_volume: int


class SliceDataset(Dataset[Sample]):
    """All slices of the given cases, flattened; each item is a `Sample` without any dense mask.

    Args:
        cases: Cases whose slices to hand out, in order.
        tags: int8 (Z, T) per case name; the slice counts must be those of the images.
        grid: The network's grid.
        cache: "memory" decodes everything now; "disk" keeps memory-mapped files in `cache_dir`; "none" decodes again
            and again.
        cache_dir: Folder of the disk cache; needed by "disk" only.
        workers: Threads that decode; 0 decodes one by one.
        labels: uint8 (Z, H, W) weak labels on the network's grid per case name, as `load_weak_labels`
            gives them; cases without an entry are IGNORE throughout.
        channels: How an image's channels are stored.

    Attributes:
        cases: One `SliceOrigin` per slice.
        tags: int8 (N, T) tags of all slices.
        scores: uint8 (N, K, H, W) or None, see `set_scores`.
        discordant_weight: How much more often slices with an absent class are drawn, see `batch_indices`.
        labelled_share: Share of slices with weak labels in a batch, see `shared_batches`; None leaves it to chance.
    """

    def __init__(
        self,
        cases: Sequence[CaseFiles],
        tags: Mapping[str, np.ndarray],
        grid: GridConfig,
        *,
        cache: str = "memory",
        cache_dir: Path | str | None = None,
        workers: int = 0,
        labels: Mapping[str, np.ndarray] | None = None,
        channels: ChannelFiles = ChannelFiles(),
    ) -> None:
        if not cases:
            raise UserError("no case to take slices from", where="data", remedy="Check data.root and data.split")
        self._files = list(cases)
        self._positions = {files.name: position for position, files in enumerate(self._files)}
        self._store = _store(self._files, grid, cache, cache_dir, workers, channels)
        counts = [self._store.count(position) for position in range(len(self._files))]
        _check_tags(self._files, counts, tags)
        self._starts = np.concatenate([[0], np.cumsum(counts)])
        self._labels = labels
        self._size = tuple(grid.size)
        self.cases = [SliceOrigin(case, z, n) for case, n in zip(self._files, counts, strict=True) for z in range(n)]
        self.tags = np.concatenate([tags[case.name] for case in self._files]).astype(np.int8)
        self.scores: np.ndarray | None = None
        self.discordant_weight = 1.0
        self.labelled_share: float | None = None

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        origin = self.cases[index]
        position = int(np.searchsorted(self._starts, index, side="right")) - 1
        sample: Sample = {
            "image": self._store.slice(position, origin.z),
            "tags": torch.from_numpy(self.tags[index].copy()),
            "index": index,
        }
        if self._labels is not None:
            sample["labels"] = self._label_slice(origin)
        if self.scores is not None:
            sample["scores"] = torch.from_numpy(self.scores[index].astype(np.float32) / 255)
        return sample

    def set_scores(self, scores: np.ndarray | None) -> None:
        """Set the prior or pseudo scores that samples carry from now on.

        Args:
            scores: uint8 (N, K, H, W), probability times 255, best memory-mapped; None removes them. Loader
                processes that already run keep the old ones: restart them.
        """
        if scores is not None:
            expected = (len(self), scores.shape[1] if scores.ndim == 4 else None, *self._size)
            if scores.dtype != np.uint8 or scores.shape != expected:
                raise ValueError(f"scores are {scores.dtype} {scores.shape}, expected uint8 {expected}")
        self.scores = scores

    def batch_order(self, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
        """Return the slices of each batch of an epoch, see `batch_indices` and `shared_batches`."""
        if self.labelled_share is None:
            return batch_indices(seed, epoch, self.tags, batch_size, self.discordant_weight)
        labelled = np.array([self._is_labelled(origin) for origin in self.cases])
        return shared_batches(seed, epoch, self.tags, batch_size, labelled, self.labelled_share, self.discordant_weight)

    @property
    def labels(self) -> Mapping[str, np.ndarray] | None:
        """The weak labels by case name, as given to the constructor or `set_labels`."""
        return self._labels

    def set_labels(self, labels: Mapping[str, np.ndarray] | None) -> None:
        """Set the weak labels that samples carry from now on; as for `set_scores`, running loaders keep theirs.

        Args:
            labels: As in the constructor.
        """
        self._labels = labels

    def rows(self, case: str) -> slice:
        """Return where the slices of a case lie among all slices."""
        position = self._positions[case]
        return slice(int(self._starts[position]), int(self._starts[position + 1]))

    def volumes(self) -> Iterator[tuple[CaseFiles, Tensor]]:
        """Yield each case with its float32 slices (Z, C, H, W), for labelling whole volumes."""
        for position, case in enumerate(self._files):
            yield case, self._store.slices(position).float()

    @property
    def volume_count(self) -> int:
        """Return how many `volumes` there are."""
        return len(self._files)

    def _is_labelled(self, origin: SliceOrigin) -> bool:
        volume = self._labels.get(origin.case.name) if self._labels else None
        return volume is not None and bool((np.asarray(volume[origin.z]) != IGNORE).any())

    def _label_slice(self, origin: SliceOrigin) -> Tensor:
        volume = self._labels.get(origin.case.name) if self._labels else None
        if volume is None:
            return torch.full(self._size, IGNORE, dtype=torch.uint8)
        return torch.from_numpy(np.array(volume[origin.z], dtype=np.uint8))


def build_slices(
    dataset: CaseDataset,
    cases: Sequence[CaseFiles],
    config: DataConfig,
    *,
    cache_dir: Path | str | None = None,
    labels: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
) -> SliceDataset:
    """Return the slices of some cases with their tags, as the data part of a config says.

    Args:
        dataset: The data set the cases are of.
        cases: For training, the "train" part of `split_cases`.
        config: The data part of a run's config.
        cache_dir: Folder of the disk cache where the config names none.
        labels: As in `SliceDataset`, see `load_weak_labels`.
        seed: Of the run, as in `load_tags`.
    """
    tags = load_tags(dataset, cases, config, seed)
    folder = config.cache_dir or cache_dir
    return SliceDataset(
        cases,
        tags,
        config.grid,
        cache=config.cache,
        cache_dir=folder,
        workers=config.workers,
        labels=labels,
        channels=ChannelFiles.of(config),
    )


def _store(
    cases: list[CaseFiles],
    grid: GridConfig,
    cache: str,
    cache_dir: Path | str | None,
    workers: int,
    channels: ChannelFiles,
) -> VolumeCache:
    if cache == "memory":
        return MemoryCache(cases, grid, workers, channels)
    if cache == "none":
        return NoCache(cases, grid, channels, workers)
    if cache_dir is None:
        raise UserError("the disk cache needs a folder", where="data.cache_dir", remedy="Add --set data.cache_dir=DIR")
    return DiskCache(cases, grid, cache_dir, channels=channels, workers=workers)


def _check_tags(cases: Sequence[CaseFiles], counts: Sequence[int], tags: Mapping[str, np.ndarray]) -> None:
    faults = []
    for case, count in zip(cases, counts, strict=True):
        found = f"tags of {len(tags[case.name])} slices" if case.name in tags else "no tags"
        if case.name not in tags or len(tags[case.name]) != count:
            faults.append(
                DataFault(case.name, found, f"tags of its {count} slices", "Make the tags again from these images")
            )
    raise_faults(faults, "data.tags")
