"""Random changes of a batch of slices, on its own device, driven by one generator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from unia_med.labels import IGNORE

if TYPE_CHECKING:
    from unia_med.config.schema import AugmentConfig

VALID = "valid"
# Cells of the random grid behind the bias field: coil sensitivities change over about a third of the image.
_FIELD_CELLS = 4
# A centre within this share of a pixel of the image's rim counts as inside, against rounding.
_RIM = 1e-4


class BatchAugmentation:
    """Changes geometry and intensity of every slice of a batch by its own random amounts.

    Maps move with the image: floating ones are interpolated linearly, integer ones take the nearest value. Pixels from
    outside the source image are 0 in the image and in "valid", and IGNORE in integer maps; floating maps
    repeat the rim there, so that scores stay normalised, and callers leave those pixels out by "valid".

    Args:
        config: Ranges; see `AugmentConfig`. With all of them at rest, input and output are identical.
    """

    def __init__(self, config: AugmentConfig) -> None:
        self.config = config

    def __call__(
        self, images: Tensor, maps: Mapping[str, Tensor], generator: Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return changed images and maps, the maps with "valid" (B, 1, H, W) float32, 1 inside the source image.

        Args:
            images: (B, C, H, W) float in [0, 1]; never changed in place.
            maps: (B, C, H, W), or (B, H, W) for integer labels, by name.
            generator: Draws everything, on its own device; see `step_generator`.
        """
        matrices = self._matrices(images, generator)
        if matrices is None:
            valid = torch.ones_like(images[:, :1], dtype=torch.float32)
            moved = {**maps, VALID: valid}
        else:
            grid = sampling_grid(matrices, (images.shape[-2], images.shape[-1]))
            valid = inside(grid)
            moved = {name: warp(values, grid, valid) for name, values in maps.items()}
            moved[VALID] = valid
            images = warp(images, grid, valid) * valid.to(images.dtype)
        return self._intensities(images, valid, generator), moved

    def _matrices(self, images: Tensor, generator: Generator) -> Tensor | None:
        """Return pixel matrices (B, 2, 3) from output to source, or None when geometry is at rest."""
        c = self.config
        if not (c.rotate_degrees or c.shear or c.translate or c.mirror) and tuple(c.scale) == (1, 1):
            return None
        count, (height, width) = len(images), images.shape[-2:]
        draw = _Draw(count, generator, images.device)
        angle = draw.between(-math.radians(c.rotate_degrees), math.radians(c.rotate_degrees))
        zoom = draw.between(math.log(c.scale[0]), math.log(c.scale[1])).exp()  # doubling as likely as halving
        shear = draw.between(-c.shear, c.shear)
        shift = torch.stack([draw.between(-c.translate, c.translate) * size for size in (width, height)], 1)
        side = torch.where(draw.between(0, 1) < 0.5, -1.0, 1.0) if c.mirror else torch.ones_like(angle)
        return affine_matrices(angle, zoom, shear, shift, side)

    def _intensities(self, images: Tensor, valid: Tensor, generator: Generator) -> Tensor:
        c, draw = self.config, _Draw(len(images), generator, images.device)
        changed = images
        if c.blur_px:
            changed = blur(changed, draw.between(0, c.blur_px), c.blur_px)
        if tuple(c.gamma) != (1, 1):
            changed = changed.clamp(0, 1) ** draw.between(*c.gamma).view(-1, 1, 1, 1)
        if tuple(c.contrast) != (1, 1):
            changed = _contrast(changed, draw.between(*c.contrast), valid)
        if c.brightness:
            changed = changed + draw.between(-c.brightness, c.brightness).view(-1, 1, 1, 1)
        if c.bias_field:
            changed = changed * draw.smooth_field((images.shape[-2], images.shape[-1])).mul(c.bias_field).exp()
        if c.noise:
            changed = changed + draw.between(0, c.noise).view(-1, 1, 1, 1) * draw.normal(images.shape)
        if changed is images:
            return images
        return (changed.clamp(0, 1) * valid).to(images.dtype)


def step_generator(seed: int, step: int, rank: int = 0, device: torch.device | str = "cpu") -> Generator:
    """Return the generator of one training step, so that a resumed run draws what an uninterrupted one would.

    Args:
        seed: Seed of the run.
        step: Training step.
        rank: Process among those that train together.
        device: Where to draw. Different devices draw different numbers from the same seed.
    """
    state = np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]
    return torch.Generator(device).manual_seed(int(state >> np.uint64(1)))


def affine_matrices(angle: Tensor, zoom: Tensor, shear: Tensor, shift: Tensor, side: Tensor) -> Tensor:
    """Return matrices (B, 2, 3) that take an output pixel (x along W, y along H), from the centre, to its source.

    Args:
        angle: (B,) rotation in radians; positive turns the content from +x towards -y, anticlockwise as displayed.
        zoom: (B,) above 1 enlarges the content.
        shear: (B,) slope by which x moves with y.
        shift: (B, 2) source offset along W and H, in pixels.
        side: (B,) -1 mirrors along W, 1 does not.
    """
    cos, sin = angle.cos() / zoom, angle.sin() / zoom
    first = torch.stack([side * cos, side * (shear * cos - sin), shift[:, 0]], 1)
    second = torch.stack([sin, shear * sin + cos, shift[:, 1]], 1)
    return torch.stack([first, second], 1)


def sampling_grid(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the source of every output pixel (B, H, W, 2) in `grid_sample` coordinates, -1 and 1 being the rims.

    Args:
        matrices: (B, 2, 3) in pixels, see `affine_matrices`.
        size: (H, W); rotations stay rotations on images that are not square.
    """
    half = torch.tensor([size[1] / 2, size[0] / 2], device=matrices.device, dtype=matrices.dtype)
    scales = torch.cat([half, half.new_ones(1)])
    normalised = matrices * scales / half[:, None]
    return F.affine_grid(normalised, [len(matrices), 1, *size], align_corners=False)


def inside(grid: Tensor) -> Tensor:
    """Return float32 (B, 1, H, W): 1 where the source position lies within the source image, else 0."""
    height, width = grid.shape[1:3]
    margin = torch.tensor([2 / width, 2 / height], device=grid.device) * _RIM
    return (grid.abs() <= 1 + margin).all(-1)[:, None].float()


def warp(values: Tensor, grid: Tensor, valid: Tensor) -> Tensor:
    """Return a map sampled at `grid`: linear for floating maps, nearest with IGNORE outside for integer ones.

    Args:
        values: (B, C, H, W) or (B, H, W).
        grid: (B, H, W, 2), see `sampling_grid`.
        valid: (B, 1, H, W), see `inside`.
    """
    planes = values if values.ndim == 4 else values[:, None]
    if values.is_floating_point():
        moved = F.grid_sample(planes, grid.to(planes.dtype), "bilinear", "border", align_corners=False)
    else:
        nearest = F.grid_sample(planes.float(), grid, "nearest", "border", align_corners=False)
        moved = torch.where(valid > 0, nearest, float(IGNORE)).to(values.dtype)
    return moved if values.ndim == 4 else moved[:, 0]


def blur(images: Tensor, sigma_px: Tensor, largest_px: float) -> Tensor:
    """Return images (B, C, H, W) blurred by a Gaussian of its own width each; rims are repeated outwards.

    Args:
        images: (B, C, H, W).
        sigma_px: (B,) standard deviations in pixels; 0 leaves a slice as it is.
        largest_px: Upper bound of these. It sets the kernel's reach without asking the device for their maximum.
    """
    count, channels, height, width = images.shape
    radius = min(math.ceil(3 * largest_px), height - 1, width - 1)
    if radius == 0:
        return images
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = (-0.5 * (offsets / sigma_px.clamp_min(1e-3)[:, None]) ** 2).exp()
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0).to(images.dtype)
    # One group per slice and channel, so that one convolution carries a different kernel for each.
    planes = F.pad(images.reshape(1, count * channels, height, width), [radius] * 4, mode="replicate")
    planes = F.conv2d(planes, kernel[:, None, :, None], groups=count * channels)
    return F.conv2d(planes, kernel[:, None, None, :], groups=count * channels).reshape(images.shape)


def _contrast(images: Tensor, factor: Tensor, valid: Tensor) -> Tensor:
    """Return images whose distance from their own mean, taken inside the source image, is scaled."""
    weight = valid.to(images.dtype)
    mean = (images * weight).sum((1, 2, 3), keepdim=True) / (
        weight.sum((1, 2, 3), keepdim=True) * images.shape[1] + 1e-6
    )
    return mean + (images - mean) * factor.view(-1, 1, 1, 1)


class _Draw:
    """Draw per-slice numbers on the generator's device and hands them over on the images'."""

    def __init__(self, count: int, generator: Generator, device: torch.device) -> None:
        self.count, self.generator, self.device = count, generator, device

    def between(self, low: float, high: float) -> Tensor:
        """Return (B,) uniform numbers."""
        return low + (high - low) * self._rand((self.count,))

    def normal(self, shape: tuple[int, ...]) -> Tensor:
        """Return standard normal numbers."""
        return torch.randn(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def smooth_field(self, size: tuple[int, int]) -> Tensor:
        """Return a smooth random field (B, 1, H, W) in [-1, 1]."""
        coarse = 2 * self._rand((self.count, 1, _FIELD_CELLS, _FIELD_CELLS)) - 1
        return F.interpolate(coarse, size=size, mode="bicubic", align_corners=True).clamp(-1, 1)

    def _rand(self, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.device)
