"""The label maps of one step of UniA, from class maps and affinity, without a network.

P1 by thresholds [7], P2 refined by pixels [8], P3 by affinity [10], F out of the three [11], P_aux on tokens. Numbers
in brackets are sections of the UniA specification.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unia_med.config.unia import FORMS, SCORE_PULL, UniaConfig, UniaForm
from unia_med.localise.affinity_refine import normalise_affinity, pixel_and_affinity_labels, radius_mask
from unia_med.localise.complement import complement
from unia_med.localise.pixel_refine import DILATIONS, PixelKernel, grid_of, pixel_kernel, refine_labels
from unia_med.localise.thresholds import possible_tags, three_valued, token_labels
from unia_med.localise.token_grid import majority_labels
from unia_med.methods.base import Batch, needed_part
from unia_med.methods.given_labels import SCORE_THRESHOLDS, given_labels, with_drawn, with_given
from unia_med.methods.label_plan import LabelPlan, Source
from unia_med.tensors import Size, size_of


@dataclass(frozen=True)
class _Start:
    """The labels and maps from which refinement starts.

    Attributes:
        first: (B, H, W), P1.
        on_tokens: (B, h, w), P_aux.
        maps: (B, T, H, W) in [0, 1].
        tags: (B, T) to read the maps with.
        thresholds: high and low.
        form: of the refinement.
        pull: of the refinement by pixels.
    """

    first: Tensor
    on_tokens: Tensor
    maps: Tensor
    tags: Tensor
    thresholds: tuple[float, float]
    form: UniaForm
    pull: float


class PseudoLabels:
    """Makes label maps as the settings say.

    Args:
        settings: of the method.
        classes: K, with background.
    """

    def __init__(self, settings: UniaConfig, classes: int) -> None:
        self.settings, self.classes = settings, classes

    @torch.no_grad()
    def make(
        self,
        batch: Batch,
        maps: Callable[[], tuple[Tensor, Tensor]],
        grid: Size,
        affinity: Tensor | None,
        plan: LabelPlan,
        needed: frozenset[Source] | None = None,
    ) -> dict[Source, Tensor]:
        """Return P_aux (B, h, w), P1 (B, H, W) and the further maps (B, H, W) that are needed.

        Args:
            batch: slices; annotated pixels win everywhere, exact slices are what they are, padding says nothing.
            maps: gives the normalised activation maps and auxiliary ones (B, T, H, W); not called where the batch has
                scores of a prior or a round, which take the place of both.
            grid: (h, w) of the tokens.
            affinity: (B, N, N) in (0, 1), for F.
            plan: of the step.
            needed: sources besides P_aux and P1; None for those of the plan.
        """
        wanted = plan.needed if needed is None else needed
        start = self._start(batch, maps, grid)
        labels: dict[Source, Tensor] = {"auxiliary": start.on_tokens, "P1": start.first}
        if not wanted & {"P2", "F"}:
            return labels
        kernel, form, (high, low) = self.kernel(batch.images, start.form), start.form, start.thresholds
        how = (start.pull, form.refine_temperature)
        if "F" not in wanted:
            second = refine_labels(kernel, start.maps, start.tags, high, low, *how)
            return {**labels, "P2": with_given(second, batch)}
        matrix = self.affinity_matrix(needed_part(affinity), grid)
        pair = pixel_and_affinity_labels(
            kernel, start.maps, start.tags, matrix, grid, high, low, *how, form.keep_detail
        )
        second, third = (with_given(one, batch) for one in pair)
        fused = complement(start.first, second, third, plan.trust_cam, plan.agreement)
        return {**labels, "P2": second, "F": fused}

    def on_tokens(self, labels: Tensor, grid: Size) -> Tensor:
        """Labels (B, h, w) of tokens, those on class borders ignored; labels that are on tokens stay as they are."""
        if size_of(labels) == grid:
            return labels
        return majority_labels(labels, grid, self.classes, self.settings.form.token_purity)

    def affinity_matrix(self, affinity: Tensor, grid: Size) -> Tensor:
        """(B, N, N) matrix to propagate with, from the affinity of the network."""
        near = radius_mask(*grid, self.settings.radius, affinity.device)
        return normalise_affinity(affinity, near, self.settings.affinity_norm)

    def kernel(self, images: Tensor, form: UniaForm) -> PixelKernel:
        """Return the refinement kernel of images (B, C, H, W)."""
        if not form.relative_reach:
            return pixel_kernel(images, DILATIONS)
        reduction, dilations = grid_of(size_of(images), DILATIONS)
        return pixel_kernel(images, dilations, reduction)

    def _start(self, batch: Batch, maps: Callable[[], tuple[Tensor, Tensor]], grid: Size) -> _Start:
        if batch.scores is not None:
            first = given_labels(batch, *SCORE_THRESHOLDS)
            # The publication knows no scores, so its form of the refinement has no say here.
            form, tags = FORMS["default"], possible_tags(batch.tags)
            on_tokens, maps_of_scores = self.on_tokens(first, grid), batch.scores[:, 1:]
            return _Start(first, on_tokens, maps_of_scores, tags, SCORE_THRESHOLDS, form, SCORE_PULL)
        high, low = self.settings.thresholds.high, self.settings.thresholds.low
        cam, auxiliary = maps()
        first = with_drawn(three_valued(cam, batch.tags, high, low), batch)
        on_tokens = token_labels(auxiliary, batch.tags, grid, high, low)
        return _Start(first, on_tokens, cam, batch.tags, (high, low), self.settings.form, self.settings.refine_pull)
