"""Classification by tags: which structures a slice shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from unia_med.labels import TAG_UNKNOWN
from unia_med.losses.masked import masked_mean
from unia_med.tensors import full_precision


@full_precision
def tag_classification(logits: torch.Tensor, tags: torch.Tensor) -> torch.Tensor:
    """Mean binary cross-entropy with logits over the known tags (UniA specification, section 5).

    Args:
        logits: (B, T), a positive value says "present".
        tags: (B, T), 1 present, 0 absent, -1 unknown; unknown tags are left out of the mean.
    """
    known = tags != TAG_UNKNOWN
    losses = F.binary_cross_entropy_with_logits(logits, tags.to(logits.dtype), reduction="none")
    return masked_mean(losses, known)
