"""The tag classifier of AffinityNet and its activation maps; alone, the CAM baseline of every table.

Ahn and Kwak, CVPR 2018 (PSA). Numbers in brackets are sections of the AffinityNet specification.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unia_med.config.affinitynet import CamConfig, ConfidentConfig, MapConfig
from unia_med.config.schema import RunConfig
from unia_med.localise.cam import multi_scale_maps
from unia_med.localise.confident import (
    LABEL_CRF,
    SCORE_CRF,
    confident_labels,
    crf_refinement,
    pixel_refinement,
    with_background,
    with_constant,
)
from unia_med.localise.normalise import normalise_maps
from unia_med.localise.thresholds import possible_maps, two_valued
from unia_med.losses.classification import tag_classification
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.nn.cam_network import CamNetwork

_UNLIKELY = 0.01  # no class is impossible because its map is 0
_DROPOUT = {"mean": 0.5}  # by pooling, as published; features of which only the peak counts must not be dropped
SURE_FOREGROUND, SURE_BACKGROUND = 0.30, 0.05  # constant background scores of IRN [8]


def cam_network(settings: MapConfig, weights: str, classes: int, channels: int = 1) -> CamNetwork:
    """Return the classifier that the settings describe.

    Args:
        settings: of the method `cam`.
        weights: of the backbone, see `Lite0Stages`.
        classes: T.
        channels: C of the images.
    """
    dropout = _DROPOUT.get(settings.pooling, 0.0)
    return CamNetwork(weights, classes, pooling=settings.pooling, dropout=dropout, channels=channels)


@torch.no_grad()
def activation_maps(network: CamNetwork, images: Tensor, settings: MapConfig) -> Tensor:
    """(B, T, H, W) in [0, 1]: rectified scores summed over views and divided by their peak in the slice [3].

    Every class reaches 1 somewhere in every slice, also one that is not there: keep those that the tags name.

    Args:
        network: in eval mode.
        images: (B, C, H, W) in [0, 1].
        settings: `scales` and `flip`.
    """
    (total,) = multi_scale_maps(images, lambda view: network(view)[1:], settings.scales, settings.flip)
    return normalise_maps(total)


def confident_from_maps(maps: Tensor, tags: Tensor, images: Tensor, settings: ConfidentConfig) -> Tensor:
    """(B, H, W) labels with `IGNORE`: where activation maps are sure of a class or of background [4].

    Args:
        maps: (B, T, H, W) in [0, 1].
        tags: (B, T); a slice whose tags are all absent is sure background.
        images: (B, C, H, W), for the refinement.
        settings: what counts as sure.
    """
    maps = possible_maps(maps, tags)
    if settings.background == "alpha":
        sure_foreground = with_background(maps, settings.foreground_alpha)
        sure_background = with_background(maps, settings.background_alpha)
    else:
        sure_foreground = with_constant(maps, SURE_FOREGROUND)
        sure_background = with_constant(maps, SURE_BACKGROUND)
    refine = None
    if settings.refine == "par":
        refine = pixel_refinement(images)
    elif settings.refine == "crf":
        of_labels = settings.background == "constant"
        refine = crf_refinement(images, LABEL_CRF if of_labels else SCORE_CRF, of_labels)
    return confident_labels(sure_foreground, sure_background, tags, refine)


class Cam(Method[CamConfig]):
    """A classifier of tags; its prediction is the thresholded activation map of the classes that it sees.

    Args:
        config: the whole run; `method`, `network.weights` and the classes are read.
    """

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.network = cam_network(self.settings, config.network.weights, self.classes - 1, config.network.channels)

    def rate_multipliers(self) -> dict[str, float]:
        """All but the pretrained stages learn `head_multiplier` times faster."""
        return {"": self.head_multiplier, "network.stages.": 1.0}

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Binary cross-entropy over the known tags [2]."""
        loss = tag_classification(self.network(batch.images)[0], batch.tags)
        return {"loss": loss, "classification": loss.detach()}

    def predict(self, images: Tensor) -> Prediction:
        """Background at a constant score against the maps of the classes that the classifier finds in the slice."""
        found = self.network(images)[0] > 0
        maps = activation_maps(self.network, images, self.settings) * found[:, :, None, None]
        scores = with_constant(maps, self.settings.background).clamp(min=_UNLIKELY)
        probabilities = scores / scores.sum(1, keepdim=True)
        return Prediction(probabilities, 1 - probabilities.amax(1))

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Columns `CAM`, the thresholded maps of the tagged classes, and `confident`, which abstains where unsure."""
        maps = activation_maps(self.network, batch.images, self.settings)
        return {
            "CAM": two_valued(maps, batch.tags, self.settings.background),
            "confident": confident_from_maps(maps, batch.tags, batch.images, self.settings.confident),
        }
