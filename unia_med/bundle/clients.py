"""What a bundle needs in other programs: in MONAI Label, and in batches in which one file is bad."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import DataLoader, Dataset
from monai.engines import Evaluator
from monai.transforms import Spacingd


class SharedItemSpacingd(Spacingd):
    """`Spacingd` for items that hold more than the image.

    MONAI's own takes every entry `KEY_...` for metadata of KEY and calls `update` on it. MONAI Label puts the path of
    the image under `image_path`, which is a text.
    """

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, torch.Tensor]:
        """Return the item with its image resampled, everything else as it was.

        Args:
            data: item with the image.
            lazy: see MONAI.
        """
        apart = {key: value for key, value in data.items() if key not in self.keys and not isinstance(value, dict)}
        rest = {key: value for key, value in data.items() if key not in apart}
        return {**super().__call__(rest, lazy), **apart}


def run_each(evaluator: Evaluator, dataset: Dataset) -> None:
    """Segment the images one by one; a failing one is reported at the end and does not stop the others.

    Args:
        evaluator: of the bundle; its own data loader is not used.
        dataset: the images, with `data` and `transform`.

    Raises:
        SystemExit: code 1 if some images failed, 2 if all did.
    """
    failures = [reason for item in dataset.data if (reason := _failure(evaluator, item, dataset.transform))]
    if not failures:
        return
    lines = [f"{len(failures)} of {len(dataset.data)} images failed:", *failures]
    print("\n  ".join(lines), file=sys.stderr)
    raise SystemExit(1 if len(failures) < len(dataset.data) else 2)


def _failure(evaluator: Evaluator, item: Mapping[str, Any], transform: Any) -> str | None:
    """Return why an image could not be segmented, or None."""
    evaluator = copy.copy(evaluator)  # an engine that raised once does not start again
    evaluator.data_loader = DataLoader(Dataset([item], transform), batch_size=1)
    evaluator.state.epoch_length = 1
    try:
        evaluator.run()
    except Exception as error:  # whatever one file brings about, the others are segmented
        reason = _reason(error)
        return reason if str(item["image"]) in reason else f"{item['image']}: {reason}"
    return None


def _reason(error: BaseException) -> str:
    """Return the first cause in one line: MONAI wraps it in names of transforms and errors of other readers."""
    own = re.search(r"UserError: (.+)", str(error))
    while error.__cause__ is not None and own is None:
        error = error.__cause__
        own = re.search(r"UserError: (.+)", str(error))
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return own[1] if own else lines[-1]
