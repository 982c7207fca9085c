"""Notices empty label sources: a loss that is exactly 0 looks like one that is fully minimised."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from unia_med.labels import BACKGROUND, IGNORE

_LOG = logging.getLogger(__name__)


class SilenceWatch:
    """Counts what label maps held; read seldom, since reading waits for the device."""

    def __init__(self) -> None:
        self._counts: dict[str, Tensor] = {}

    @torch.no_grad()
    def record(self, labels: Mapping[str, Tensor]) -> None:
        """Add the label maps of one step.

        Args:
            labels: by source, any shape, with `IGNORE`.
        """
        for source, found in labels.items():
            background, known = (found == BACKGROUND).sum(), (found != IGNORE).sum()
            counts = torch.stack((background, known - background))
            self._counts[source] = self._counts.get(source, torch.zeros_like(counts)) + counts

    def report(self) -> None:
        """Warn about sources that held no background, or no class, since the last report; then reset the counts."""
        for source, counts in self._counts.items():
            background, foreground = counts.tolist()
            missing = [name for name, count in (("background", background), ("class", foreground)) if count == 0]
            if missing:
                _LOG.warning(
                    "labels %s held no pixel of %s since the last validation: losses on them teach nothing about it "
                    "(method.thresholds, method.gates and method.label_source decide what they hold)",
                    source,
                    " and of any ".join(missing),
                )
        self._counts.clear()
