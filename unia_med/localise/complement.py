"""Mutual complementing refinement: one label map out of three (UniA specification, section 11)."""

from __future__ import annotations

import torch

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.tensors import detached


@detached
def complement(
    cam_labels: torch.Tensor,
    pixel_labels: torch.Tensor,
    affinity_labels: torch.Tensor,
    trust_cam: bool = False,
    agreement: bool = False,
    ignore_index: int = IGNORE,
) -> torch.Tensor:
    """F out of P1, P2 and P3, all (B, H, W); the first matching row of the table wins.

    Args:
        cam_labels: P1, from thresholds on the CAM.
        pixel_labels: P2, refined by pixels.
        affinity_labels: P3, refined by affinity.
        trust_cam: row 1, where P2 abstains take P1's foreground. Only where the CAMs separate the classes.
        agreement: row 2, where P1 and P2 name one class take it, whatever P3 says.
        ignore_index: the label of undecided pixels.
    """
    pixel_foreground = _is_foreground(pixel_labels, ignore_index)
    fused = torch.where(pixel_foreground, pixel_labels, affinity_labels)  # rows 4, 5 and 6
    fused = torch.where(_is_foreground(affinity_labels, ignore_index), affinity_labels, fused)  # row 3
    if agreement:
        fused = torch.where(pixel_foreground & (cam_labels == pixel_labels), pixel_labels, fused)
    if trust_cam:
        abstained = (pixel_labels == ignore_index) & _is_foreground(cam_labels, ignore_index)
        fused = torch.where(abstained, cam_labels, fused)
    return fused


def _is_foreground(labels: torch.Tensor, ignore_index: int) -> torch.Tensor:
    return (labels != BACKGROUND) & (labels != ignore_index)
