"""Overlap of two binary masks."""

from __future__ import annotations

import numpy as np


def dice(prediction: np.ndarray, label: np.ndarray) -> float | None:
    """Dice coefficient of two binary masks, ``2|P and L| / (|P| + |L|)``, over the whole volume.

    Args:
        prediction: bool mask of any shape.
        label: bool mask of the same shape.

    Returns:
        A number in [0, 1]; 0 when the structure is in one mask only; None when it is in neither, because
        there is then nothing to score.

    >>> dice(np.array([1, 1, 0], bool), np.array([0, 1, 1], bool))
    0.5
    >>> dice(np.zeros(3, bool), np.ones(3, bool)), dice(np.zeros(3, bool), np.zeros(3, bool))
    (0.0, None)
    """
    prediction, label = np.asarray(prediction, dtype=bool), np.asarray(label, dtype=bool)
    if prediction.shape != label.shape:
        raise ValueError(f"masks differ in shape: prediction {prediction.shape}, label {label.shape}")
    total = int(np.count_nonzero(prediction)) + int(np.count_nonzero(label))
    if total == 0:
        return None
    return 2.0 * int(np.count_nonzero(prediction & label)) / total
