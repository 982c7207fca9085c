"""What `configs/train.json` of a bundle names: further training on own masks with MONAI alone."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection
from monai.transforms import MapTransform
from torch import Tensor, nn

from unia_med.bundle.meta import plain_tensor
from unia_med.data.grid.transforms import to_slices


class SliceBatchd(MapTransform):
    """A volume (C, H, W, Z) as its slices (Z, C, H, W).

    Args:
        keys: image and mask.
        allow_missing_keys: see MONAI.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the item with slices in place of volumes.

        Args:
            data: item with volumes.
        """
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = to_slices(plain_tensor(item[key])).contiguous()
        return item


def slices_of_batch(
    batchdata: Mapping[str, Tensor], device: Any = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Return the slices (Z, C, H, W) and masks (Z, H, W) of a batch of one volume, for `SupervisedTrainer`.

    Args:
        batchdata: `image` (1, Z, C, H, W) and `label` (1, Z, 1, H, W).
        device: where training happens.
        non_blocking: see torch.
        kwargs: not used; part of MONAI's interface.
    """
    image, label = batchdata["image"].flatten(0, 1), batchdata["label"].flatten(0, 2)
    return image.to(device, non_blocking=non_blocking), label.to(device, non_blocking=non_blocking).long()


class ProbabilityLoss(nn.Module):
    """Cross-entropy plus soft Dice of probabilities: the bundle's network ends in a softmax.

    Args:
        smooth: keeps the Dice of a class that is nowhere defined; larger weighs small structures less.
    """

    def __init__(self, smooth: float = 1.0) -> None:
        super().__init__()
        self.smooth = smooth

    def forward(self, probabilities: Tensor, labels: Tensor) -> Tensor:
        """Return the loss, a scalar of 0 or more.

        Args:
            probabilities: (Z, K, H, W), summing to 1 over K.
            labels: (Z, H, W) int64, 0 to K - 1.
        """
        cross_entropy = nn.functional.nll_loss(probabilities.clamp_min(1e-7).log(), labels)
        truth = nn.functional.one_hot(labels, probabilities.shape[1]).movedim(-1, 1).float()
        overlap = (probabilities * truth).sum((0, 2, 3))[1:]
        total = (probabilities + truth).sum((0, 2, 3))[1:]
        return cross_entropy + 1 - ((2 * overlap + self.smooth) / (total + self.smooth)).mean()
