"""Finds classes that activation maps miss: regions beside the object, of which slice tags choose one per slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy import ndimage

from unia_med.config.prior import ProposalsConfig
from unia_med.labels import TAG_PRESENT, TAG_UNKNOWN
from unia_med.localise.pieces import largest_piece
from unia_med.localise.region_choice import RegionChoice
from unia_med.localise.region_proposals import FEATURES, Regions, propose

_SURE = 0.95  # probability of a class in the region that is chosen for it


class ProposedRegions:
    """Learns from the tags of some volumes which regions show a class, and adds these to probabilities of volumes.

    Args:
        settings: what is proposed.
        labels: of the classes that are looked for, 1..T.
        seed: of what is learned.
    """

    def __init__(self, settings: ProposalsConfig, labels: Sequence[int], seed: int) -> None:
        self._settings, self._labels, self._seed = settings, tuple(labels), seed
        self._choices: dict[int, RegionChoice] = {}

    def fit(self, volumes: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> None:
        """Learn from volumes: probabilities (Z, K, H, W), tags (Z, T) and images (Z, H, W) or (Z, C, H, W) of each."""
        features, slices, known = [np.zeros((0, FEATURES))], [np.zeros(0, np.int64)], []
        count = 0
        for probabilities, tags, images in volumes:
            regions = self._regions(probabilities, images)
            features.append(regions.features)
            slices.append(regions.slices + count)
            known.append(tags)
            count += len(tags)
        tags = np.concatenate(known)
        inputs, bags = np.concatenate(features), np.concatenate(slices)
        for label in self._labels:
            told = tags[bags, label - 1] != TAG_UNKNOWN
            choice = RegionChoice.fit(inputs[told], bags[told], tags[:, label - 1] == TAG_PRESENT, self._seed)
            if choice is not None:
                self._choices[label] = choice

    def added(self, probabilities: np.ndarray, tags: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Return float32 probabilities (Z, K, H, W) in which the chosen regions are sure.

        In a slice where a region is chosen for a class, what the class had elsewhere goes to the object's other
        classes, in their proportions.

        Args:
            probabilities: (Z, K, H, W) in [0, 1], as for `fit`.
            tags: (Z, T); a region is chosen where a class is tagged as present.
            images: as for `fit`.
        """
        regions = self._regions(probabilities, images)
        found = np.array(probabilities, np.float32)
        free = np.ones(len(regions.slices), bool)
        for label, choice in self._choices.items():
            scores = choice.scores(regions.features)
            for index in np.flatnonzero(tags[:, label - 1] == TAG_PRESENT):
                here = np.flatnonzero((regions.slices == index) & free)
                if len(here):
                    best = here[scores[here].argmax()]
                    free[here] &= ~(regions.masks[here] & regions.masks[best]).any((1, 2))  # nor at another level
                    found[index] = _with_region(found[index], regions.masks[best], label)
        return found

    def _regions(self, probabilities: np.ndarray, images: np.ndarray) -> Regions:
        settings = self._settings
        # A class that the maps have found by now is no part of the object: it has to be chosen, too. Its stray pixels
        # inside the other classes are.
        others = (1 - probabilities[:, 0] >= settings.object) & ~np.isin(probabilities.argmax(1), self._labels)
        found = np.stack([ndimage.binary_fill_holes(plane) for plane in largest_piece(others)])
        grey = images if images.ndim == 3 else images.mean(1)
        return propose(grey, found, tuple(settings.levels), settings.reach, settings.contrast)


def _with_region(plane: np.ndarray, region: np.ndarray, label: int) -> np.ndarray:
    """Return probabilities (K, H, W) of one slice in which `label` is sure in its region, and absent elsewhere."""
    inside = plane[1:].sum(0)
    others = plane.copy()
    others[label] = 0
    rest = others[1:].sum(0)
    scale = np.where(rest > 0, inside / np.maximum(rest, 1e-6), 0)
    others[1:] *= scale
    others[0] = 1 - others[1:].sum(0)
    sure = _SURE * region
    found = others * (1 - sure)
    found[label] += sure
    return found
