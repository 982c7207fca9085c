"""Maps the classes of a prior to those of a run by name, in any order, merged or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unia_med.labels import BACKGROUND, TAG_PRESENT, TAG_UNKNOWN

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig


@dataclass(frozen=True)
class ClassMap:
    """Where each label of a prior goes.

    Attributes:
        table: uint8 (P + 1,), the run's label of each of the prior's; a class that the run leaves out is background.
        merged: bool (P,), classes that share their label with others.
        classes: T, the run's classes without background.
    """

    table: np.ndarray
    merged: np.ndarray
    classes: int

    @classmethod
    def between(cls, known: Sequence[str], data: DataConfig) -> ClassMap:
        """Return the map from a prior's classes to a run's; names are compared without regard to case.

        Args:
            known: the P names that the prior knows, which include those of the run (checked with the config).
            data: names the classes of the run, and how they are merged.
        """
        groups = list(data.groups.values()) if data.groups else [[name] for name in data.classes]
        label = {name.upper(): index for index, group in enumerate(groups, start=1) for name in group}
        shared = {name.upper() for group in groups if len(group) > 1 for name in group}
        table = [BACKGROUND, *(label.get(name.upper(), BACKGROUND) for name in known)]
        return cls(np.array(table, np.uint8), np.array([name.upper() in shared for name in known]), len(groups))

    @property
    def is_identity(self) -> bool:
        """Whether the run has the prior's classes in the prior's order."""
        return len(self.table) == self.classes + 1 and bool((self.table == np.arange(len(self.table))).all())

    def scores(self, scores: np.ndarray) -> np.ndarray:
        """Return scores (Z, T + 1, H, W) for scores (Z, P + 1, H, W) of the prior; those of merged classes add up."""
        if self.is_identity:
            return scores
        found = np.zeros((len(scores), self.classes + 1, *scores.shape[2:]), scores.dtype)
        for label, target in enumerate(self.table):
            found[:, target] += scores[:, label]
        return found

    def tags(self, tags: np.ndarray) -> np.ndarray:
        """Return tags (Z, P) for tags (Z, T) of the run.

        The members of a merged class that is present are unknown, as is a class that the run leaves out.
        """
        known = np.concatenate([np.full((len(tags), 1), TAG_UNKNOWN, tags.dtype), tags], 1)[:, self.table[1:]]
        return np.where(self.merged & (known == TAG_PRESENT), TAG_UNKNOWN, known).astype(tags.dtype)
