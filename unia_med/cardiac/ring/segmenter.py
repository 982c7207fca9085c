"""The ring prior: short-axis labels from "a bright pool in a darker ring, a second pool on one side".

Steps: a ring detector finds and tracks the LV; its cavity is a bright component's convex hull; the wall's width is
measured along rays, per slice and volume; the RV's direction is voted over the data set and the places its rays cover
are averaged to an atlas in heart-centred coordinates, which then weighs the blood-like pixels of each slice.

What the settings have seen: ACDC masks of training patients 001-012 (24 volumes, all dilated cardiomyopathy), in 50
trials: four structural versions, the rest single settings. Mean 3D Dice on these, with tags and the other phase: first
version .625; RV blood level per slice and a rescaled atlas .688; lower cavity and RV thresholds, wall trim, wider
annulus .771; fat limit following the RV's blood level .793. The width per slice and the preference for larger discs
were then added after looking, without masks, at five training patients of other groups (thick walls in systole came
out too thin); score unchanged at .793. Chosen and final on the 12: RV .729, MYO .745, LV .905, mean .793; without
tags .745; with tags but without the other phase .771. Fitted to these patients' masks, so optimistic for others. A lung
limit of the wall near the muscle's level (-0.25) was tried and dropped: it thinned the wall in diastole.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from unia_med.cardiac.ring import right
from unia_med.cardiac.ring.locate import expected_centre, track
from unia_med.cardiac.ring.regions import Cavity, left_ventricle, shell, smooth_wall, typical_wall
from unia_med.cardiac.ring.settings import RingSettings
from unia_med.errors import UserError
from unia_med.labels import TAG_ABSENT, TAG_PRESENT, TAG_UNKNOWN

RV, MYO, LV = 1, 2, 3


@dataclass
class Heart:
    """The LV of one volume: per slice a cavity, a wall (Z, ANGLES) in pixels and a ring response (Z,)."""

    cavities: list[Cavity]
    walls: np.ndarray
    strengths: np.ndarray

    def levels(self) -> np.ndarray:
        """Level (Z,) of each slice, see `right.levels_of`."""
        radii = [
            np.sqrt(cavity.mask.sum() / np.pi) + wall.mean()
            for cavity, wall in zip(self.cavities, self.walls, strict=True)
        ]
        return right.levels_of(np.array(radii))


def visible_slices(strengths: np.ndarray, settings: RingSettings) -> np.ndarray:
    """Which slices (Z,) show a ring at all, judged against the volume's strongest."""
    return strengths >= max(settings.minimal_response, settings.relative_response * strengths.max())


class RingSegmenter:
    """Anatomical scores for short-axis slices, from images and optional presence tags only.

    Example:
        >>> volume = np.zeros((1, 64, 64), np.float32)
        >>> RingSegmenter().scores(volume).shape
        (1, 4, 64, 64)
    """

    def __init__(self, settings: RingSettings | None = None) -> None:
        self.settings = settings or RingSettings()
        self.atlas = right.Atlas(self.settings.rv_direction or 0.0, right.geometric_prior())
        self.fitted = self.settings.rv_direction is not None

    def fit(self, volumes: Iterable[np.ndarray]) -> RingSegmenter:
        """Votes the RV direction over a data set and averages where its RV lies; reads no mask and no tag.

        Args:
            volumes: Each (Z, H, W) in [0, 1]; read once.

        Returns:
            Itself.
        """
        kept = [self._rays(self._heart(volume)) for volume in volumes]
        direction = self.settings.rv_direction
        if direction is None and kept:
            direction, _ = right.vote(np.concatenate([rays.sum(axis=2) for rays, _ in kept]))
        self.atlas = self._average(kept, direction or 0.0)
        self.fitted = True
        return self

    def scores(
        self,
        volume: np.ndarray,
        tags: np.ndarray | None = None,
        locator: np.ndarray | None = None,
        partner: np.ndarray | None = None,
    ) -> np.ndarray:
        """Class scores of one volume.

        Args:
            volume: (Z, H, W) in [0, 1].
            tags: (Z, 3) for RV, MYO, LV: 1 present, 0 absent, -1 unknown; None is unknown throughout.
            locator: (Z, H, W) heat, larger nearer the heart (such as a class activation map); None trusts `partner`,
                else the image centre.
            partner: The same volume in the other phase (Z, H, W): what moves is the heart.

        Returns:
            (Z, 4, H, W) float32 in [0, 1], background, RV, MYO, LV, summing to 1; borders fade over `border_mm`.
        """
        labels = self.labels(volume, tags, locator, partner)
        onehot = (labels[:, None] == np.arange(4)[None, :, None, None]).astype(np.float32)
        sigma = self.settings.pixels(self.settings.border_mm)
        return ndimage.gaussian_filter(onehot, (0, 0, sigma, sigma), mode="nearest")

    def labels(
        self,
        volume: np.ndarray,
        tags: np.ndarray | None = None,
        locator: np.ndarray | None = None,
        partner: np.ndarray | None = None,
    ) -> np.ndarray:
        """Hard labels (Z, H, W) uint8 of one volume: 0 background, 1 RV, 2 MYO, 3 LV; arguments as for `scores`."""
        if locator is None and partner is not None and partner.shape == volume.shape:
            locator = np.abs(volume - partner)
        heart = self._heart(volume, locator)
        direction = self._direction(heart)
        known = np.full((len(volume), 3), TAG_UNKNOWN) if tags is None else np.asarray(tags)
        if known.shape != (len(volume), 3):
            raise UserError(f"tags of shape {known.shape}, expected {(len(volume), 3)}", where="ring prior")
        visible = visible_slices(heart.strengths, self.settings)
        level = heart.levels()
        labels = np.zeros(volume.shape, np.uint8)
        for index, cavity in enumerate(heart.cavities):
            if (known[index] == TAG_ABSENT).all() or not (visible[index] or (known[index] == TAG_PRESENT).any()):
                continue
            wall = heart.walls[index]
            probability = self.atlas.probability[level[index]]
            rv, _ = right.right_ventricle(cavity, wall, probability, direction, self.settings)
            labels[index] = compose(cavity.mask, shell(cavity, wall), rv, known[index])
        return labels

    def _heart(self, volume: np.ndarray, locator: np.ndarray | None = None) -> Heart:
        """Tracks the ring, then segments the LV and its wall in every slice."""
        settings = self.settings
        volume = np.asarray(volume, np.float32)
        if volume.ndim != 3 or 0 in volume.shape or not np.isfinite(volume).all():
            raise UserError(
                f"volume of shape {volume.shape}, expected finite (slices, rows, columns)", where="ring prior"
            )
        centre = None if locator is None or not np.ptp(locator) else expected_centre(locator, settings)
        rings, strengths = track(volume, settings, centre)
        cavities = [left_ventricle(image, ring, settings) for image, ring in zip(volume, rings, strict=True)]
        typical = typical_wall(cavities, visible_slices(strengths, settings), settings)
        walls = np.stack(
            [smooth_wall(cavity.thickness, width, settings) for cavity, width in zip(cavities, typical, strict=True)]
        )
        return Heart(cavities, walls, strengths)

    def _rays(self, heart: Heart) -> tuple[np.ndarray, np.ndarray]:
        """First blood-like stretches (Z, ANGLES, DEPTHS) bool and levels (Z,)."""
        found = [
            right.profiles(cavity, wall, self.settings)
            for cavity, wall in zip(heart.cavities, heart.walls, strict=True)
        ]
        rays = np.stack([right.runs(profile, self.settings) for profile in found])
        return rays & visible_slices(heart.strengths, self.settings)[:, None, None], heart.levels()

    def _direction(self, heart: Heart) -> float:
        """Return the volume's own RV direction; without `fit` the volume votes alone."""
        rays, _ = self._rays(heart)
        start = self.atlas.direction if self.fitted else right.vote(rays.sum(axis=2))[0]
        return right.volume_direction(rays, start, self.settings.rv_direction_weight)

    def _average(self, kept: list[tuple[np.ndarray, np.ndarray]], direction: float) -> right.Atlas:
        """Return the atlas: mean of turned stretches per level, shrunk towards the geometric prior."""
        geometric = right.geometric_prior()
        total, count = np.zeros_like(geometric), np.zeros(len(geometric))
        for rays, levels in kept:
            own = right.volume_direction(rays, direction, self.settings.rv_direction_weight)
            np.add.at(total, levels, right.turn(rays, own))
            np.add.at(count, levels, 1)
        pseudo = self.settings.atlas_pseudo_slices
        mean = (total + pseudo * geometric) / (count + pseudo)[:, None, None]
        mean = ndimage.gaussian_filter(mean, (0, 2, 1), mode=("nearest", "wrap", "nearest"))
        mean *= self.settings.atlas_peak / mean.max(axis=(1, 2), keepdims=True)
        return right.Atlas(direction, mean)


def compose(cavity: np.ndarray, wall: np.ndarray, rv: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """Join masks (H, W) to labels (H, W) uint8 and takes out the classes that the tags (3,) call absent.

    Without a cavity the wall closes over it (an apical cap); without a wall its pixels are background.
    """
    labels = np.zeros(cavity.shape, np.uint8)
    labels[rv] = RV
    labels[wall] = MYO
    labels[cavity] = MYO if tags[LV - 1] == TAG_ABSENT else LV
    for number, tag in zip((RV, MYO, LV), tags, strict=True):
        labels[(labels == number) & (tag == TAG_ABSENT)] = 0
    return labels
