"""Predicts labels and uncertainty on a volume's own grid with a trained method; built once, called many times."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from unia_med.config.schema import GridConfig, RunConfig
from unia_med.data.grid.transforms import as_tensor, intensity_ranges, place_image, scaled, to_slices
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.frames import FrameSource, open_volume
from unia_med.data.io.orientation import orient, orient_array, orient_back
from unia_med.data.io.suffixes import is_image
from unia_med.data.io.volume import Volume, without_voxels
from unia_med.errors import UserError
from unia_med.inference.likeness import Seen, occupied, watch_features
from unia_med.inference.native import Prepared, Slab, native_labels, slabs_of_parts, sliced
from unia_med.inference.postprocess import clean
from unia_med.inference.reassemble import plane_map
from unia_med.inference.runtime import ConvertedMethod, check_runtime
from unia_med.inference.tta import chosen_views, predict_views
from unia_med.inference.uncertainty import normalised_entropy
from unia_med.inference.walker import decide_unsure
from unia_med.localise.dense_crf import CrfSettings, dense_crf
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.stopwatch import part
from unia_med.tensors import evaluating, with_layout

LOG = logging.getLogger(__name__)


class Segmentation(NamedTuple):
    """What is predicted of a volume, on its own grid and in its own shape, (X, Y, Z) or (X, Y, Z, T).

    Attributes:
        labels: uint8, 0 background, 1..T the config's ``data.target_classes`` (merged groups stay merged).
        uncertainty: float32 in [0, 1], of the kind `inference.uncertainty` names, before post-processing. `entropy`: of
            the class probabilities, averaged over views (and samples), divided by log K.
    """

    labels: np.ndarray
    uncertainty: np.ndarray


class DetailedSegmentation(NamedTuple):
    """Everything that is predicted of a 3D volume, on its own grid (X, Y, Z).

    Attributes:
        labels: uint8, as in `Segmentation`.
        probabilities: float32 (K, X, Y, Z), averaged over views and samples, at the set temperature.
        entropy: float32 in [0, 1], of `probabilities`.
        network: float32 in [0, 1], the network's own uncertainty map U.
        raw: uint8, the labels before post-processing.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    entropy: np.ndarray
    network: np.ndarray
    raw: np.ndarray


class Predictor:
    """Segments volumes slice by slice.

    Preprocessing is that of training. Probabilities, not labels, are resampled to the native grid; voxels outside
    the network's field of view are background with certainty. Slices go through in slabs and frames one by one, so
    memory does not grow with the number of either.

    Args:
        method: with its trained weights; moved to ``device``. It is in eval mode only during a call, so that the
            trainer can validate with the very object it trains.
        config: reads ``data.grid`` and ``inference``.
        device: where to compute.
        tta: average over the views of ``inference.tta``, or, where these are the plain slice alone, over three scales;
            None: where the config does so by default.
        postprocess: clean masks as ``inference.postprocess`` says.
        runtime: what computes the network: `torch`, or `onnx` or `openvino` on the CPU, with the weights of now.

    Raises:
        UserError: ``inference.samples`` asks for draws that the method or the runtime cannot make.
    """

    def __init__(
        self,
        method: Method,
        config: RunConfig,
        device: torch.device | str = "cpu",
        *,
        tta: bool | None = None,
        postprocess: bool = True,
        runtime: str = "torch",
    ) -> None:
        check_runtime(runtime, device, config.inference.samples)
        self.method = with_layout(method.to(device=device), torch.channels_last)
        self.device = torch.device(device)
        self.settings = config.inference
        self.classes = tuple(config.data.target_classes)
        self.batch_slices = config.inference.batch_slices
        self.postprocess = postprocess
        self.cleaning = config.inference.postprocess.steps(config.data)
        self.flips, self.scales = chosen_views(config.inference.tta, tta)
        self.grid = config.data.grid
        self.slice_axis = config.data.grid.slice_axis
        self.slice_smoothing = config.inference.slice_smoothing
        self._slices = _described(config.data.grid)
        self._files = ChannelFiles.of(config.data)
        self._layout = torch.channels_last  # faster convolutions
        self._halved = False
        self._seen: Seen | None = None
        self._temperature = self.settings.temperature or 1.0
        if self.settings.samples and not method.samples_features:
            what = f"the method {config.method.name} has no Gaussian features to draw from"
            raise UserError(what, where="inference.samples", remedy="Set it to 0")
        self._converted = None if runtime == "torch" else ConvertedMethod(self.method, runtime)

    def open(self, path: Path) -> FrameSource:
        """Return an image of the kind that this predictor knows: a volume, one of several channels, or a cine.

        Args:
            path: its file, or that of its first channel. Frames of a 4D NIfTI file are decoded when they are asked for.
        """
        plain = self._files.channels == 1 and not is_image(path)
        return open_volume(path) if plain else self._files.read(path)

    @contextmanager
    def watching(self, modality: str = "") -> Iterator[Seen]:
        """Give what notes the image that is predicted meanwhile: one image, of one frame or more.

        Args:
            modality: of its DICOM header; empty where there is none.
        """
        self._seen = seen = Seen(modality)
        handle = watch_features(self.method, seen) if self._converted is None else None
        try:
            yield seen
        finally:
            self._seen = None
            if handle is not None:
                handle.remove()

    def __repr__(self) -> str:
        """Return the classes, the size of slices and where it computes."""
        return f"Predictor(classes {', '.join(self.classes)}, {self._slices}, on {self.device})"

    def predict_volume(self, volume: Volume) -> Segmentation:
        """Labels and uncertainty of a volume, or of every frame of a cine, in the volume's shape without channels.

        Args:
            volume: as read from its file, any intensities, any spacing, any orientation, one slice or more.

        Raises:
            UserError: the network gives NaN, or memory runs out even with half the batch.
        """
        if self._files.channels > 1:
            return next(self.predict_frames([volume.with_channels()]))
        labels = np.zeros(volume.shape, np.uint8)
        uncertainty = np.zeros(volume.shape, np.float32)
        frames = (volume.frame(index) for index in range(volume.frames))
        for index, found in enumerate(self.predict_frames(frames)):
            place = (..., index) if volume.array.ndim == 4 else ...
            labels[place], uncertainty[place] = found
        return Segmentation(labels, uncertainty)

    def predict_frames(self, frames: Iterable[Volume]) -> Iterator[Segmentation]:
        """Labels and uncertainty of 3D volumes, one after another; memory does not grow with their number.

        Frames of few slices go through the network together, up to ``inference.batch_slices`` slices at once.

        Args:
            frames: read when they are needed, as by ``data.io.frames.iterate_frames``.

        Raises:
            UserError: as ``predict_volume``.
        """
        waiting: list[Prepared] = []
        for image in map(self._prepared, frames):  # no name for what is read, which would keep its voxels
            waiting.append(image)
            if (len(waiting) + 1) * len(image.slices) > self.batch_slices:
                yield from self._predict_together(waiting)
                waiting = []
        yield from self._predict_together(waiting)

    def predict_in_detail(self, stored: Volume) -> DetailedSegmentation:
        """Probabilities and both kinds of uncertainty of a 3D volume; memory grows with its size.

        Args:
            stored: one frame, as read from its file.
        """
        prepared = self._prepared(stored)
        slabs = list(self._native_slabs(prepared, network=True))
        probabilities = torch.cat([slab.probabilities.cpu() for slab in slabs])
        raw = sliced(self._refined(probabilities, self._edges(prepared.frame)))
        doubt = torch.cat([slab.doubt[:, 1].cpu() for slab in slabs])
        entropy = normalised_entropy(probabilities).float()
        arrays = (self._cleaned(raw.copy()), sliced(entropy), sliced(doubt.float()), raw)
        cleaned, spread, own, raw = (self._turned_back(array, stored) for array in arrays)
        return DetailedSegmentation(cleaned, self._classes_first(probabilities, stored), spread, own, raw)

    def probabilities(self, frame: Volume) -> np.ndarray:
        """Class probabilities of a 3D volume, float32 (K, X, Y, Z) on its own grid; memory grows with its size.

        Args:
            frame: as read from its file.
        """
        slabs = [slab.probabilities.cpu() for slab in self._native_slabs(self._prepared(frame), network=False)]
        return self._classes_first(torch.cat(slabs), frame)

    def refined(self, probabilities: np.ndarray, frame: Volume) -> np.ndarray:
        """Labels uint8 (X, Y, Z) of probabilities, after the CRF where one is set.

        Args:
            probabilities: float32 (K, X, Y, Z), as `probabilities` gives them, or a mean of such.
            frame: the volume that they are of.
        """
        turned = orient(frame, self.slice_axis, copy=False)
        last = orient_array(np.moveaxis(probabilities, 0, 3), frame.affine, self.slice_axis)
        planes = torch.from_numpy(np.ascontiguousarray(last)).permute(2, 3, 0, 1)
        return self._turned_back(sliced(self._refined(planes, self._edges(turned))), frame)

    def label_maps(self, stored: Volume, tags: np.ndarray, labels: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Return the method's label columns (CAM, fused, ...) of a 3D volume, uint8 (X, Y, Z), `IGNORE` where unsure.

        They measure pseudo labels, which may use tags; nothing here is a prediction.

        Args:
            stored: one frame, as read from its file.
            tags: (Z, T) int8 tags of its slices.
            labels: uint8 (Z, H, W) weak labels on the network's grid with `IGNORE`, for methods that use them.
        """
        prepared = self._prepared(stored)
        parts: dict[str, list[Tensor]] = {}
        with evaluating(self.method):
            for start in range(0, len(tags), self.batch_slices):
                part = slice(start, start + self.batch_slices)
                weak = None if labels is None else torch.from_numpy(labels[part]).long()
                batch = Batch(prepared.slices[part], torch.from_numpy(tags[part]), labels=weak).to(self.device)
                for name, found in self.method.label_maps(batch).items():
                    parts.setdefault(name, []).append(found.cpu())
        native = {name: native_labels(torch.cat(found), prepared.placement) for name, found in parts.items()}
        return {name: self._turned_back(found, stored) for name, found in native.items()}

    @part("prepare")
    def _prepared(self, stored: Volume) -> Prepared:
        frame = orient(stored, self.slice_axis, copy=False)
        # The turned volume lies as asked for, so that nothing is turned twice.
        slices, placement = place_image(frame, self.grid)
        if self._seen is not None:
            self._seen.image(slices, stored)
        seen = frame if self.settings.crf.iterations else without_voxels(frame)
        return Prepared(without_voxels(stored), seen, slices, placement)

    def _predict_together(self, volumes: list[Prepared]) -> Iterator[Segmentation]:
        own = self.settings.uncertainty == "network"
        if len(volumes) < 2:
            yield from (self._segmentation(one, self._native_slabs(one, own)) for one in volumes)
            return
        maps = self._predict_maps(torch.cat([one.slices for one in volumes]), own)
        probabilities, doubt = (every.split([len(one.slices) for one in volumes]) for every in maps)
        parts = zip(probabilities, doubt, strict=True)
        for one, found in zip(volumes, parts, strict=True):
            yield self._segmentation(one, self._brought_back(one, [found]))

    def _segmentation(self, volume: Prepared, native: Iterable[Slab]) -> Segmentation:
        """Of the slabs of all slices; memory holds the probabilities of one."""
        shape = volume.frame.shape[:3]
        # In the order of files, slices one after another.
        labels, uncertainty = np.empty(shape, np.uint8, order="F"), np.empty(shape, np.float32, order="F")
        edges = self._edges(volume.frame)
        for slab in native:
            some = slice(slab.first, slab.first + len(slab.probabilities))
            place = (..., some)
            labels[place] = sliced(self._refined(slab.probabilities, None if edges is None else edges[some]))
            doubt = slab.doubt[:, 1] if slab.doubt.shape[1] else normalised_entropy(slab.probabilities)
            uncertainty[place] = sliced(doubt.float().cpu())
        stored = volume.stored
        return Segmentation(self._turned_back(self._cleaned(labels), stored), self._turned_back(uncertainty, stored))

    def _edges(self, frame: Volume) -> Tensor | None:
        """Slices (Z, C, X, Y) in [0, 1] on the native grid, whose edges the CRF follows; None without one."""
        if not self.settings.crf.iterations:
            return None
        return to_slices(scaled(as_tensor(frame), intensity_ranges(frame, self.grid.percentiles)))

    @part("back")
    def _refined(self, probabilities: Tensor, edges: Tensor | None) -> Tensor:
        """Labels (z, X, Y) uint8 on the CPU of native probabilities (z, K, X, Y), after the CRF where one is set.

        Args:
            probabilities: of some slices.
            edges: these slices of `_edges`.
        """
        if edges is None:
            # max is argmax, and eight times faster on a CPU.
            return probabilities.max(1).indices.to(torch.uint8).cpu()
        settings = CrfSettings(**self.settings.crf.model_dump())
        pairs = zip(edges.to(self.device), probabilities.to(self.device), strict=True)
        return (
            torch.stack([dense_crf(image, found, settings).argmax(0) for image, found in pairs]).to(torch.uint8).cpu()
        )

    @part("back")
    def _turned_back(self, array: np.ndarray, stored: Volume) -> np.ndarray:
        return orient_back(array, stored.affine, self.slice_axis)

    def _classes_first(self, probabilities: Tensor, stored: Volume) -> np.ndarray:
        """(K, X, Y, Z) as stored, of (z, K, X, Y)."""
        last = self._turned_back(probabilities.permute(2, 3, 0, 1).contiguous().numpy(), stored)
        return np.ascontiguousarray(np.moveaxis(last, 3, 0))

    @part("clean")
    def _cleaned(self, labels: np.ndarray) -> np.ndarray:
        """Return the labels after post-processing, which changes the array itself."""
        before = None if self._seen is None else occupied(labels)
        if self.postprocess:
            clean(labels, **self.cleaning)
        if self._seen is not None and before is not None:
            self._seen.cleaned(before, labels)
        return labels

    def _native_slabs(self, volume: Prepared, network: bool) -> Iterator[Slab]:
        """Probabilities, and U where the network's is asked for, on the native grid."""
        batches = volume.slices.split(self.batch_slices)  # which may be halved on the way
        return self._brought_back(volume, (self._predict_maps(batch, network) for batch in batches))

    def _brought_back(self, volume: Prepared, parts: Iterable[tuple[Tensor, Tensor]]) -> Iterator[Slab]:
        return slabs_of_parts(plane_map(volume.placement), parts, self.slice_smoothing, self._temperature)

    @part("network")
    def _predict_maps(self, slices: Tensor, network: bool) -> tuple[Tensor, Tensor]:
        """(Z, K, H, W) probabilities at temperature 1, and (Z, 2, H, W) 1 - U and U, or (Z, 0, H, W) without U."""
        with evaluating(self.method):
            maps = torch.cat([self._predict_batch(batch, network) for batch in slices.split(self.batch_slices)])
        classes = maps.shape[1] - (2 if network else 0)
        probabilities = maps[:, :classes]
        if self.settings.walker is not None:
            probabilities = decide_unsure(probabilities, slices, **self.settings.walker.model_dump())
        return probabilities, maps[:, classes:]

    def _predict_batch(self, batch: Tensor, network: bool) -> Tensor:
        try:
            return self._predict_views(batch, network)
        except torch.OutOfMemoryError as error:
            if self._halved or len(batch) == 1:
                what = f"out of memory on {self.device} with {len(batch)} slices at a time"
                remedy = "Use --device cpu, or lower inference.batch_slices in the run's config.yaml"
                raise UserError(what, remedy=remedy) from error
        # Outside the handler, whose traceback would keep the failed attempt's tensors alive.
        self._halved, self.batch_slices = True, max(1, self.batch_slices // 2)
        LOG.warning("out of memory on %s: going on with %d slices at a time", self.device, self.batch_slices)
        return torch.cat([self._predict_batch(part, network) for part in batch.split((len(batch) + 1) // 2)])

    def _predict_views(self, batch: Tensor, network: bool) -> Tensor:
        """(B, K, H, W) mean probabilities over views, and after them 1 - U and U where asked for."""
        images = batch.to(self.device).contiguous(memory_format=self._layout)
        views = predict_views(lambda view: self._predict_view(view, network), images, self.flips, self.scales)
        if not torch.isfinite(views).all():
            raise UserError(
                "the network gives NaN or infinite probabilities",
                remedy="While training, lower training.learning_rate; else use another checkpoint, or train again",
            )
        return views

    def _predict_view(self, view: Tensor, network: bool) -> Tensor:
        found = self._predicted(view)
        probabilities = found.probabilities.float()
        if not network:
            return probabilities
        doubt = found.uncertainty.float().unsqueeze(1)
        return torch.cat((probabilities, 1 - doubt, doubt), 1)

    def _predicted(self, view: Tensor) -> Prediction:
        if self._converted is None:
            samples = self.settings.samples
            return self.method.predict_samples(view, samples) if samples else self.method.predict(view)
        found, features = self._converted.predict(view)
        if self._seen is not None and features is not None:
            self._seen.mean_features(features)
        return found


def _described(grid: GridConfig) -> str:
    pixel = f" of {grid.spacing_mm:g} mm" if grid.spacing_mm else ""
    return f"slices of {grid.size[0]} x {grid.size[1]} pixels{pixel}"
