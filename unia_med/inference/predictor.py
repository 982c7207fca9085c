"""From a trained method to labels and uncertainty on a volume's own grid; built once, called many times."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.data.transforms import KEY, as_tensor, from_slices, preprocess, restore, to_slices
from unia_med.data.volume import Volume
from unia_med.errors import UserError
from unia_med.inference.postprocess import postprocess as clean
from unia_med.inference.reassemble import plane_map
from unia_med.inference.tta import predict_views
from unia_med.inference.uncertainty import apply_temperature, normalised_entropy
from unia_med.methods.base import Method

LOG = logging.getLogger(__name__)

DEFAULT_SCALES = (0.875, 1.0, 1.125)
"""Views of ``tta=True`` where the config names no view but the plain one; 112, 128 and 144 pixels of 128."""


class Segmentation(NamedTuple):
    """What is predicted of a volume, on its own grid and in its own shape, (X, Y, Z) or (X, Y, Z, T).

    Attributes:
        labels: uint8, 0 background, 1..T the config's ``data.target_classes`` (merged groups stay merged).
        uncertainty: float32 in [0, 1], entropy of the class probabilities divided by log K, before post-processing.
    """

    labels: np.ndarray
    uncertainty: np.ndarray


class Predictor:
    """Segments volumes slice by slice.

    Preprocessing is that of training. Probabilities, not labels, are resampled to the native grid; voxels outside
    the network's field of view are background with certainty. Slices go through in slabs and frames one by one, so
    memory does not grow with the number of either.

    Args:
        method: with its trained weights; moved to ``device``. It is in eval mode only during a call, so that the
            trainer can validate with the very object it trains.
        config: reads ``data.grid``, ``inference`` and ``training.channels_last``.
        device: where to compute.
        tta: average over the views of ``inference.tta``, or, where these are the plain slice alone, over three scales.
        postprocess: clean masks as ``inference.postprocess`` says.
    """

    def __init__(
        self,
        method: Method,
        config: RunConfig,
        device: torch.device | str = "cpu",
        *,
        tta: bool = False,
        postprocess: bool = True,
    ) -> None:
        layout = torch.channels_last if config.training.channels_last else torch.contiguous_format
        self.method = method.to(device=device, memory_format=layout)
        self.device = torch.device(device)
        self.settings = config.inference
        self.batch_slices = config.inference.batch_slices
        self.postprocess = postprocess
        self.flips, self.scales = _views(config) if tta else (False, (1.0,))
        self._chain = preprocess(config.data.grid, load=False)
        self._layout = layout
        self._halved = False

    def predict_volume(self, volume: Volume) -> Segmentation:
        """Labels and uncertainty of a volume, or of every frame of a cine, in the volume's shape.

        Args:
            volume: as read from its file, any intensities, any spacing, one slice or more.

        Raises:
            UserError: the network gives NaN, or memory runs out even with half the batch.
        """
        labels = np.zeros(volume.shape, np.uint8)
        uncertainty = np.zeros(volume.shape, np.float32)
        for index in range(volume.frames):
            place = (..., index) if volume.array.ndim == 4 else ...
            labels[place], uncertainty[place] = self._predict_frame(volume.frame(index))
        return Segmentation(labels, uncertainty)

    def predict_slices(self, slices: Tensor) -> Tensor:
        """Class probabilities (Z, K, H, W) of preprocessed slices, averaged over views, at the set temperature.

        Args:
            slices: (Z, 1, H, W) in [0, 1] on the network's grid, on any device. The result is on the predictor's.
        """
        with _evaluating(self.method):
            parts = [self._predict_batch(batch) for batch in slices.split(self.batch_slices)]
        return torch.cat(parts)

    def _predict_frame(self, frame: Volume) -> Segmentation:
        image: MetaTensor = self._chain({KEY: as_tensor(frame)})[KEY]
        slabs = [_decide(native) for native in self._native_slabs(frame, image)]
        labels = torch.cat([slab[0] for slab in slabs]).permute(1, 2, 0).contiguous().numpy()
        uncertainty = torch.cat([slab[1] for slab in slabs]).permute(1, 2, 0).contiguous().numpy()
        if self.postprocess:
            labels = clean(labels, **self.settings.postprocess.model_dump())
        return Segmentation(labels, uncertainty)

    def _native_slabs(self, frame: Volume, image: MetaTensor) -> Iterator[Tensor]:
        """Probabilities (z, K, X, Y) on the native grid, a few slices at a time."""
        slices = to_slices(image)
        back = plane_map(image, torch.from_numpy(np.asarray(frame.affine, np.float64)), frame.shape)
        if back is None:
            whole = self.predict_slices(slices).cpu()
            yield to_slices(restore(from_slices(whole), image, self._chain))
            return
        for slab in slices.split(self.batch_slices):
            yield back(self.predict_slices(slab))

    def _predict_batch(self, batch: Tensor) -> Tensor:
        try:
            return self._predict_views(batch)
        except torch.OutOfMemoryError as error:
            if self._halved or len(batch) == 1:
                what = f"out of memory on {self.device} with {len(batch)} slices at a time"
                remedy = "Use --device cpu, or lower inference.batch_slices in the run's config.yaml"
                raise UserError(what, remedy=remedy) from error
        # Outside the handler, whose traceback would keep the failed attempt's tensors alive.
        self._halved, self.batch_slices = True, max(1, self.batch_slices // 2)
        LOG.warning("out of memory on %s: going on with %d slices at a time", self.device, self.batch_slices)
        return torch.cat([self._predict_batch(part) for part in batch.split((len(batch) + 1) // 2)])

    def _predict_views(self, batch: Tensor) -> Tensor:
        images = batch.to(self.device).contiguous(memory_format=self._layout)
        views = predict_views(
            lambda view: self.method.predict(view).probabilities.float(), images, self.flips, self.scales
        )
        if not torch.isfinite(views).all():
            raise UserError(
                "the network gives NaN or infinite probabilities", remedy="Use another checkpoint, or train again"
            )
        return apply_temperature(views, self.settings.temperature)


def _views(config: RunConfig) -> tuple[bool, tuple[float, ...]]:
    flips, scales = config.inference.tta.flips, tuple(config.inference.tta.scales)
    plain = not flips and scales == (1.0,)
    return flips, DEFAULT_SCALES if plain else scales


def _decide(native: Tensor) -> tuple[Tensor, Tensor]:
    """uint8 labels and float32 uncertainty (z, X, Y) on the CPU; the probabilities are let go."""
    labels = native.max(1).indices  # the same as argmax(1), which is eight times slower on a CPU
    return labels.to(torch.uint8).cpu(), normalised_entropy(native).float().cpu()


@contextmanager
def _evaluating(method: Method) -> Iterator[None]:
    """Eval mode without gradients, and afterwards the mode the method was in."""
    was_training = method.training
    method.eval()
    try:
        # Not inference_mode: what a method caches during a call must stay usable in training.
        with torch.no_grad():
            yield
    finally:
        method.train(was_training)
