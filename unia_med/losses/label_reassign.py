"""Label reassign loss of AA&LR: labelled points whose feature lies with another class change their label.

Only the name and the purpose of this loss are published (Zhang et al., ACM MM 2021: labelled point embeddings are
reassigned, which keeps the network from over-fitting to wrong pseudo labels). What is here was designed in section 6 of
the specification; it is not the authors' code and must not be reported as theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from unia_med.labels import BACKGROUND, IGNORE
from unia_med.tensors import full_precision, promoted

_CLUSTER_ROUNDS = 4


@dataclass(frozen=True)
class Centres:
    """Unit vectors that stand for the classes; no gradient.

    Attributes:
        background: (B, M, E), each image's own background centres.
        has_background: (B, M) bool.
        objects: (K - 1, E), shared by the batch.
        has_object: (K - 1,) bool: seen in this batch or before.
    """

    background: Tensor
    has_background: Tensor
    objects: Tensor
    has_object: Tensor


@dataclass(frozen=True)
class Reassignment:
    """New labels of points; no gradient.

    Attributes:
        labels: (B, N), the reassigned label Z; IGNORE stays.
        changed: (B, N) bool.
        certainty: (B, N), membership of the reassigned class; 0 where there is no label.
    """

    labels: Tensor
    changed: Tensor
    certainty: Tensor


@torch.no_grad()
def class_centres(
    points: Tensor,
    labels: Tensor,
    confidence: Tensor,
    bank: Tensor,
    seen: Tensor,
    share: float = 0.9,
    background_centres: int = 2,
) -> Centres:
    """Centres of the labelled points: objects per batch, mixed with the bank, background per image.

    Args:
        points: (B, N, E) embeddings, unit length.
        labels: (B, N), 0..K-1 or IGNORE.
        confidence: (B, N) in [0, 1], weight of each point.
        bank: (K - 1, E), unit length; the objects' centres of earlier batches.
        seen: (K - 1,) bool, objects that have been seen before.
        share: of the bank in the mix; a larger one changes slower.
        background_centres: clusters of an image's background; on MR, some tissues are dark, others bright.
    """
    points, confidence = promoted(points), promoted(confidence)
    classes = torch.arange(1, len(bank) + 1, device=labels.device)
    weights = (labels.unsqueeze(1) == classes.view(1, -1, 1)) * confidence.unsqueeze(1)
    sums = torch.einsum("bkn,bne->ke", weights, points)
    present = weights.sum((0, 2)) > 0
    fresh = F.normalize(sums, dim=1)
    mixed = torch.where(seen.unsqueeze(1), F.normalize(share * bank + (1 - share) * fresh, dim=1), fresh)
    objects = torch.where(present.unsqueeze(1), mixed, bank)
    background, has_background = _spherical_clusters(points, (labels == BACKGROUND) * confidence, background_centres)
    return Centres(background, has_background, objects, present | seen)


@full_precision
def memberships(points: Tensor, centres: Centres, allowed: Tensor, temperature: float = 0.1) -> Tensor:
    """(B, K, N) log membership of each point in the classes allowed in its image; far below for the others.

    The softmax of the cosine to each centre over a temperature; the background counts by its nearest centre.

    Args:
        points: (B, N, E), unit length; the only argument that takes a gradient.
        centres: see `class_centres`.
        allowed: (B, K) bool, background and the classes that tags do not rule out.
        temperature: a larger one blurs memberships.
    """
    objects = points @ centres.objects.to(points.dtype).T  # (B, N, K - 1)
    background = points @ centres.background.to(points.dtype).transpose(1, 2)
    background = background.masked_fill(~centres.has_background.unsqueeze(1), -1e4).amax(2, keepdim=True)
    cosines = torch.cat((background, objects), 2).transpose(1, 2)
    exists = torch.cat((centres.has_background.any(1, keepdim=True), centres.has_object.expand(len(points), -1)), 1)
    return (cosines / temperature).masked_fill(~(exists & allowed).unsqueeze(2), -1e4).log_softmax(1)


@torch.no_grad()
def reassign(
    log_membership: Tensor, labels: Tensor, fixed: Tensor, lead: float = 0.3, cap: float = 0.3
) -> Reassignment:
    """Points change to the class they are nearest to if it leads by far; no class loses or gains more than a share.

    The specification limits losses alone. An image is background for the most part, so that a small share of it, given
    to a thin structure, doubles it.

    Args:
        log_membership: (B, K, N), see `memberships`.
        labels: (B, N), 0..K-1 or IGNORE.
        fixed: (B, N) bool, drawn labels; they never change.
        lead: by how much the new class's membership must exceed the old one's; a larger one changes less.
        cap: share of an image's points of one class that it may lose, and that it may gain; the largest leads go first.
            A class without points gains none.
    """
    membership = log_membership.exp()
    labelled = labels != IGNORE
    own = membership.gather(1, labels.where(labelled, 0).unsqueeze(1)).squeeze(1)
    best, winner = membership.max(1)
    gap = best - own
    candidate = labelled & ~fixed & (gap > lead)
    classes = torch.arange(membership.shape[1], device=labels.device).view(1, -1, 1)
    mine = labels.unsqueeze(1) == classes
    quota = (cap * mine.sum(2, keepdim=True)).floor()
    changed = _foremost(mine & candidate.unsqueeze(1), gap, quota)
    changed = _foremost((winner.unsqueeze(1) == classes) & changed.unsqueeze(1), gap, quota)
    certainty = torch.where(changed, best, own) * labelled
    return Reassignment(torch.where(changed, winner, labels), changed, certainty)


@full_precision
def label_reassign(
    log_membership: Tensor, new_labels: Tensor, changed: Tensor, certainty: Tensor, confidence: Tensor
) -> Tensor:
    """Mean over the classes present of the weighted mean -log membership of their points.

    Args:
        log_membership: (B, K, N), see `memberships`; the only argument that takes a gradient.
        new_labels: (B, N), reassigned labels or IGNORE.
        changed: (B, N) bool.
        certainty: (B, N), weight of changed points.
        confidence: (B, N), weight of the others.
    """
    weight = torch.where(changed, certainty, confidence).detach()
    mine = new_labels.unsqueeze(1) == torch.arange(log_membership.shape[1], device=new_labels.device).view(1, -1, 1)
    chosen = mine.to(log_membership.dtype)
    count = chosen.sum((0, 2))
    means = (chosen * weight.unsqueeze(1) * -log_membership).sum((0, 2)) / count.clamp(min=1)
    return means.sum() / (count > 0).sum().clamp(min=1)


def _foremost(groups: Tensor, gap: Tensor, quota: Tensor) -> Tensor:
    """(B, N) bool: the points of each group (B, K, N) that are among its `quota` (B, K, 1) largest gaps (B, N)."""
    order = gap.unsqueeze(1).where(groups, -1.0).argsort(dim=2, descending=True, stable=True)
    places = torch.arange(gap.shape[1], device=gap.device).expand_as(order)
    rank = torch.empty_like(order).scatter_(2, order, places)
    return (groups & (rank < quota)).any(1)


def grid_labels(labels: Tensor, weights: Tensor, classes: int, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Labels (B, h, w) of cells, the class that covers most of their labelled pixels, and its mean weight there.

    Unlike `localise.token_grid.majority_labels`, unlabelled pixels have no vote: a scribble is one pixel wide.

    Args:
        labels: (B, H, W), 0..K-1 or IGNORE.
        weights: (B, H, W), such as confidence.
        classes: K.
        grid: (h, w).
    """
    masks = (labels.unsqueeze(1) == torch.arange(classes, device=labels.device).view(1, -1, 1, 1)).to(weights.dtype)
    shares = F.adaptive_avg_pool2d(masks, grid)
    share, winner = shares.max(1)
    carried = F.adaptive_avg_pool2d(masks * weights.unsqueeze(1), grid).gather(1, winner.unsqueeze(1)).squeeze(1)
    return torch.where(share > 0, winner, IGNORE), carried / share.clamp(min=1e-6)


def _spherical_clusters(points: Tensor, weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return unit centres (B, M, E) of weighted points on the sphere, and which of them have any point (B, M)."""
    found = [F.normalize((weights.unsqueeze(1) @ points), dim=2)]
    if count > 1:
        nearest = torch.full_like(weights, -torch.inf)
        for _ in range(count):  # start from the points farthest from all before, the mean included
            nearest = torch.maximum(nearest, (points @ found[-1].transpose(1, 2)).squeeze(2))
            farthest = nearest.masked_fill(weights <= 0, torch.inf).argmin(1)
            found.append(points.gather(1, farthest.view(-1, 1, 1).expand(-1, 1, points.shape[2])))
        found = found[1:]
    centres = torch.cat(found, 1)
    for _ in range(_CLUSTER_ROUNDS if count > 1 else 1):
        nearest_centre = (centres @ points.transpose(1, 2)).argmax(1, keepdim=True)
        mine = nearest_centre == torch.arange(count, device=points.device).view(1, -1, 1)
        mass = mine * weights.unsqueeze(1)
        sums = F.normalize(mass @ points, dim=2)
        filled = mass.sum(2) > 0
        centres = torch.where(filled.unsqueeze(2), sums, centres)
    return centres, filled
